"""Client libraries as their users have them: a quick part of tests/clients/run, which has more of
them, tells more and is described in tests/README.md."""
import os
import sys
import unittest

from harness.proxy import SANITIZER, STANDIN

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients"))
import matrix  # noqa: E402

servers = None
started = {}  # (library, mode): most of their time they wait, so they run side by side


def setUpModule():
    global servers
    if STANDIN:
        raise unittest.SkipTest("is about the proxy")
    if SANITIZER:
        raise unittest.SkipTest("client libraries are tried with the release build")
    servers = matrix.Servers(mode for library in matrix.LIBRARIES if library.name in matrix.QUICK
                             for mode in library.modes)
    for library in matrix.LIBRARIES:
        for mode in library.modes if library.name in matrix.QUICK else []:
            started[library.name, mode] = matrix.Started(library, mode, servers)


def tearDownModule():
    if servers:
        servers.stop()


class Libraries(unittest.TestCase):
    def check(self, library, mode):
        outcome = started[library.name, mode].finish()
        if outcome.skipped:
            self.skipTest(outcome.skipped)
        self.assertEqual([], outcome.failed, outcome.output[-3000:])
        self.assertGreater(len(outcome.ok), 40)


def _add_libraries():
    for library in matrix.LIBRARIES:
        if library.name not in matrix.QUICK:
            continue
        for mode in library.modes:
            def test(self, library=library, mode=mode):
                self.check(library, mode)
            name = "".join(ch if ch.isalnum() else "_" for ch in library.name.lower()).strip("_")
            setattr(Libraries, "test_%s_%s" % (name, mode), test)


_add_libraries()

if __name__ == "__main__":
    unittest.main()
