"""A server in trouble is not hammered: reconnecting backs off, what is sent again has a budget."""
import array
import fcntl
import termios
import time
import unittest

from harness.case import Case
from harness.fake import FakeCluster, delayed, reset, silence
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, Conn, Error, encode
from harness.servers import key_slot

ALONE = True  # it looks at the clock or at memory
WORKERS = 2
CONFIG = ("backend:\n  retry_budget: %d\n  ride_through: 20s\n  max_redirects: 254\n"
          "topology:\n  refresh: 1h\n")


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs a cluster")


class Trouble(Case):
    def setUp(self):
        self.cluster = FakeCluster(2).start()
        self.addCleanup(self.cluster.stop)
        self.node = self.cluster.nodes[0]
        self.key = self.cluster.key_on(0, "trouble")
        self.node.store[self.key.encode()] = b"v"

    def proxy(self, budget):
        p = Proxy(self.cluster.seeds(), workers=WORKERS, config=CONFIG % budget).wait_start()
        self.addCleanup(p.stop)
        return p

    def clients(self, p, count):
        conns = [Conn(p.port, timeout=grace(30)) for _ in range(count)]
        for c in conns:
            self.addCleanup(c.close)
            self.assertEqual(b"v", c.cmd("GET", self.key))
        return conns

    def healthy_shard(self, p):
        """The slowest of some SETs on the other shard, in seconds."""
        key, worst = self.cluster.key_on(1, "fine"), 0.0
        with p.conn(timeout=grace(20)) as c:
            for i in range(50):
                at = time.monotonic()
                self.expect(c, ["SET", key, i], OK)
                worst = max(worst, time.monotonic() - at)
        return worst

    def unread(self):
        """GETs that have arrived and are not looked at yet."""
        total = 0
        for conn in list(self.node.conns):
            size = array.array("i", [0])
            fcntl.ioctl(conn.sock.fileno(), termios.FIONREAD, size)
            total += (len(conn.buf) + size[0]) // len(encode("GET", self.key))
        return total

    def test_refusals_without_end(self):
        """100 clients whose requests are refused: together they stay within the budget, and all are
        served when the server has recovered."""
        budget, n, seconds = 50, 100, 2.0
        p = self.proxy(budget)
        conns = self.clients(p, n)
        self.node.rule("GET", b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
                       key=self.key)
        before, begun = self.node.calls("GET", self.key), time.monotonic()
        for c in conns:
            c.send(encode("GET", self.key))
        time.sleep(seconds)
        self.assertLess(self.healthy_shard(p), grace(0.5))
        sent = self.node.calls("GET", self.key) - before
        took = time.monotonic() - begun
        self.assertLessEqual(sent, n + WORKERS * budget * (took + 1.5),
                             "GETs sent in %.1f s for %d of clients" % (took, n))
        self.assertGreater(sent, n + WORKERS * budget * 0.5, "and it is tried all the time")
        self.node.clear()
        begun = time.monotonic()
        for c in conns:
            self.assertEqual(b"v", c.read())
        self.assertLess(time.monotonic() - begun, grace(4), "answers once it has recovered")

    def test_answers_give_the_budget_back(self):
        """A budget of 5 does not mean 5 a second: what is answered costs nothing."""
        p = self.proxy(5)
        conns = self.clients(p, 50)
        self.cluster.nodes[1].store[self.key.encode()] = b"w"
        self.cluster.give(key_slot(self.key), 1)
        begun = time.monotonic()
        for c in conns:
            c.send(encode("GET", self.key))
        for c in conns:
            self.assertEqual(b"w", c.read())
        self.assertLess(time.monotonic() - begun, grace(2))

    def test_connections_that_break_under_requests(self):
        """It accepts, says hello, and hangs up at every request; new requests come all the time."""
        seconds = 2.0
        p = self.proxy(1000)
        conns = self.clients(p, 10)
        self.node.rule("GET", reset, key=self.key)
        seen, end = self.node.connections, time.monotonic() + seconds
        while time.monotonic() < end:
            conns.append(Conn(p.port, timeout=grace(30)))
            self.addCleanup(conns[-1].close)
            conns[-1].send(encode("GET", self.key))
            time.sleep(0.005)
        for c in conns[:10]:
            c.send(encode("GET", self.key))
        self.assertLess(self.healthy_shard(p), grace(0.5))
        # 5 to 10 ms, doubled up to half a second or one: some 10 in the first two seconds.
        opened = self.node.connections - seen
        self.assertLessEqual(opened, WORKERS * 20, "connections opened in %.0f s" % seconds)
        self.assertGreaterEqual(opened, WORKERS * 3)
        self.node.clear()
        for c in conns:
            got = c.read()
            self.assertTrue(got == b"v" or isinstance(got, Error), got)

    def test_many_come_back_after_an_outage_that_nobody_saw_the_end_of(self):
        """The first request connects; those that come right behind it must not fail for an outage
        which began longer ago than ride_through."""
        p = Proxy(self.cluster.seeds(), workers=1, config="backend: {request_timeout: 300ms, "
                  "ride_through: 400ms}\n").wait_start()
        self.addCleanup(p.stop)
        conns = self.clients(p, 20)
        self.node.rule("INCR", silence, times=1)
        self.expect_error(conns[0], ["INCR", "{%s}n" % self.key], "UNKNOWN ...")
        time.sleep(0.6)
        for c in conns:
            c.send(encode("GET", self.key))
        self.assertEqual([b"v"] * len(conns), [c.read() for c in conns])

    def test_an_old_outage_is_forgotten_when_nobody_asks(self):
        """The next outage has a clock of its own: who meets its begin waits, however long ago the
        one before it began."""
        p = Proxy(self.cluster.seeds(), workers=1, config="backend: {request_timeout: 300ms, "
                  "ride_through: 1s, retry_max: 100ms}\n").wait_start()
        self.addCleanup(p.stop)
        conns = self.clients(p, 5)
        self.node.rule("INCR", silence, times=1)
        self.expect_error(conns[0], ["INCR", "{%s}n" % self.key], "UNKNOWN ...")
        time.sleep(1.6)
        self.node.stop()
        for c in conns:
            c.send(encode("GET", self.key))
        time.sleep(0.2)
        self.node.start()
        self.assertEqual([b"v"] * len(conns), [c.read() for c in conns])

    def test_a_server_that_hangs_up_at_once_and_returns(self):
        """Nothing but hang-ups for two seconds, with 100 clients waiting; then all are served by one
        connection a worker, and no more than the budget stand at its door at once."""
        budget, n = 10, 100
        p = self.proxy(budget)
        conns = self.clients(p, n)
        self.node.rule("*", reset)
        self.node.reset_all()
        seen = self.node.connections
        for c in conns:
            c.send(encode("GET", self.key))
        time.sleep(2.0)
        opened = self.node.connections - seen
        self.assertLessEqual(opened, WORKERS * 20 + 60, "attempts in 2 s, those of discovery too")
        # The first answer takes its time: meanwhile the others must not all be sent.
        self.node.clear()
        gate = self.node.rule("GET", delayed(0.3), times=WORKERS, key=self.key)
        seen = self.node.connections
        self.eventually("the first request is there", lambda: gate.hits > 0, 10)
        time.sleep(0.15)
        self.assertLessEqual(self.unread(), WORKERS * budget, "GETs at its door")
        for c in conns:
            self.assertEqual(b"v", c.read())
        self.assertLessEqual(self.node.connections - seen, WORKERS + 4)


if __name__ == "__main__":
    unittest.main()
