"""A short schedule of tests/chaos/run: real servers are broken under a load that checks every reply.

With KEYWAY_TEST_LONG each kind of fault comes once or more, on both topologies, by a seed that is
another one each time and is printed; without, two fixed seeds and the kinds that take little time, and
only against the release build.
"""
import os
import subprocess
import sys
import unittest

from harness.proxy import SANITIZER, STANDIN
from harness.servers import die_with_parent

ALONE = True  # it looks at the clock or at memory
RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chaos", "run")
LONG = bool(os.environ.get("KEYWAY_TEST_LONG"))
SHORT = {
    "cluster": ["--seed", "1", "--quick", "--faults",
                "client-kill-idle,cluster-failover,kill-replica,migrate-1,kill-master"],
    "sentinel": ["--seed", "1", "--quick", "--faults",
                 "client-kill-idle,kill-replica,sentinel-failover"],
}
running = {}


def setUpModule():
    """Both topologies at the same time: they mostly wait."""
    if STANDIN:
        raise unittest.SkipTest("needs the proxy")
    if SANITIZER and not LONG:
        raise unittest.SkipTest("in the release build; in the others with tests/run --long")
    for topology, short in SHORT.items():
        argv = [sys.executable, "-B", RUN, "--topology", topology]
        argv += ["--rounds", "40"] if LONG else short
        running[topology] = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, errors="replace", preexec_fn=die_with_parent)


def tearDownModule():
    for proc in running.values():
        if proc.poll() is None:
            proc.terminate()
            proc.communicate()


class Chaos(unittest.TestCase):
    def ends_well(self, topology):
        proc = running[topology]
        out = proc.communicate()[0]
        self.assertEqual(0, proc.returncode, out)

    def test_cluster(self):
        self.ends_well("cluster")

    def test_sentinel(self):
        self.ends_well("sentinel")


if __name__ == "__main__":
    unittest.main()
