"""A network that swallows packets: nothing is refused, nothing is reset, nothing comes back."""
import os
import random
import shutil
import subprocess
import threading
import time
import unittest

from harness.case import Case
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, Error
from harness.servers import Cluster

ALONE = True  # it looks at the clock or at memory


def ip(*words):
    return subprocess.run(["ip"] + [str(w) for w in words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


class Namespace:
    """A network namespace that one pair of veth joins to ours. swallow(): what its servers send
    is dropped without a word, so that neither answers nor acknowledgements come back."""

    def __init__(self):
        tag = "%d%02d" % (os.getpid() % 100000, random.randrange(100))
        self.name, self.here, self.there = "kw" + tag, "kwa" + tag, "kwb" + tag
        net = "10.%d.%d." % (random.randrange(64, 128), random.randrange(256))
        self.near, self.far = net + "1", net + "2"
        steps = (
            ("netns", "add", self.name),
            ("link", "add", self.here, "type", "veth", "peer", "name", self.there),
            ("link", "set", self.there, "netns", self.name),
            ("addr", "add", self.near + "/30", "dev", self.here),
            ("link", "set", self.here, "up"),
            ("-n", self.name, "addr", "add", self.far + "/30", "dev", self.there),
            ("-n", self.name, "link", "set", self.there, "up"),
            ("-n", self.name, "link", "set", "lo", "up"))
        for step in steps:
            done = ip(*step)
            if done.returncode != 0:
                self.remove()
                raise OSError("ip %s: %s" % (" ".join(step), done.stdout.decode().strip()))

    def remove(self):
        ip("link", "del", self.here)
        ip("netns", "del", self.name)

    def swallow(self):
        assert ip("-n", self.name, "route", "add", "blackhole", self.near).returncode == 0
        assert ip("-n", self.name, "route", "flush", "cache").returncode == 0

    def restore(self):
        ip("-n", self.name, "route", "del", "blackhole", self.near)


class BlackHole(Case):
    """Three masters; the first is behind the hole."""

    @classmethod
    def setUpClass(cls):
        if STANDIN:
            raise unittest.SkipTest("needs a cluster")
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise unittest.SkipTest("network namespaces: needs root and iproute2")
        try:
            cls.net = Namespace()
        except OSError as e:
            raise unittest.SkipTest("network namespaces: %s" % e)
        try:
            cluster = cls.cluster = Cluster(3, 0, node_timeout=60000)
            far = cls.far = cluster.nodes[0]
            far.host, far.prefix = cls.net.far, ("ip", "netns", "exec", cls.net.name)
            far.args += ["--protected-mode", "no"]
            for node in cluster.nodes:  # they know where it is; it need not reach them
                path = os.path.join(node.dir, "nodes.conf")
                with open(path) as f:
                    text = f.read()
                with open(path, "w") as f:
                    f.write(text.replace("127.0.0.1:%d@" % far.port, "%s:%d@" % (
                        cls.net.far, far.port)))
            cluster.start()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        if getattr(cls, "cluster", None):
            cls.cluster.stop()
        cls.net.remove()

    def proxy(self, backend):
        p = Proxy(self.cluster.seeds(), config="backend: {%s}\n" % backend).wait_start()
        self.addCleanup(p.stop)
        self.addCleanup(self.net.restore)
        return p

    def key(self, i, name):
        return self.cluster.key_on(self.cluster.nodes[i], name)

    def test_request_timeout(self):
        """The read waits and runs when the network is back; the write that was sent is UNKNOWN
        within the time limit; the other shards notice nothing."""
        p = self.proxy("request_timeout: 1s, connect_timeout: 500ms, ride_through: 15s")
        key, fine = self.key(0, "hole"), [self.key(1, "hole"), self.key(2, "hole")]
        with p.conn(timeout=grace(30)) as reader, p.conn(timeout=grace(30)) as writer, \
                p.conn(timeout=grace(30)) as c:
            for conn in (reader, writer):  # the connections of both workers stand
                self.expect(conn, ["SET", key, "1"], OK)
            self.net.swallow()
            begun = time.monotonic()
            reader.send(b"GET %s\r\n" % key.encode())
            writer.send(b"INCR %s\r\n" % key.encode())
            wrong, worst, stop = [], [0.0], threading.Event()

            def neighbour():
                with p.conn(timeout=grace(30)) as n:
                    while not stop.is_set():
                        at = time.monotonic()
                        got = n.pipeline([("SET", k, "v") for k in fine])
                        worst[0] = max(worst[0], time.monotonic() - at)
                        if got != [OK, OK]:
                            wrong.append(got)
                        time.sleep(0.005)
            thread = threading.Thread(target=neighbour, daemon=True)
            thread.start()
            got = writer.read()
            took = time.monotonic() - begun
            self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
            self.assertGreater(took, 0.9)
            self.assertLess(took, grace(2.5))
            time.sleep(0.5)
            self.net.restore()
            value = reader.read()
            self.assertIn(value, (b"1", b"2"))
            self.assertLess(time.monotonic() - begun, grace(10))
            self.expect(c, ["SET", key, "5"], OK)
            stop.set()
            thread.join(grace(30))
            self.assertEqual([], wrong[:3])
            self.assertLess(worst[0], grace(0.5), "the slowest pair of SETs on healthy shards")

    def test_it_lasts(self):
        """Beyond ride_through requests fail, later ones at once, and nobody is connected in vain."""
        p = self.proxy("request_timeout: 500ms, connect_timeout: 300ms, ride_through: 1500ms")
        key = self.key(0, "lasts")
        with p.conn(timeout=grace(30)) as c:
            self.expect(c, ["SET", key, "1"], OK)
            self.net.swallow()
            begun = time.monotonic()
            self.expect_error(c, ["GET", key], "CLUSTERDOWN ...")
            self.assertLess(time.monotonic() - begun, grace(4))
            begun = time.monotonic()
            for _ in range(20):
                self.expect_error(c, ["GET", key], "CLUSTERDOWN ...")
            self.assertLess(time.monotonic() - begun, grace(1), "20 more")
            self.net.restore()
            self.eventually("it is served again", lambda: c.cmd("GET", key) == b"1", 10)

    def test_tcp_user_timeout(self):
        """Without a time limit of its own for requests, the kernel's ends the connection."""
        p = self.proxy("request_timeout: 0, tcp_user_timeout: 1s, connect_timeout: 300ms, "
                       "ride_through: 1s")
        key = self.key(0, "user")
        with p.conn(timeout=grace(20)) as c:
            self.expect(c, ["SET", key, "1"], OK)
            self.net.swallow()
            begun = time.monotonic()
            self.expect_error(c, ["INCR", key], "UNKNOWN ...")
            took = time.monotonic() - begun
            self.assertGreater(took, 0.9)
            self.assertLess(took, grace(5))


if __name__ == "__main__":
    unittest.main()
