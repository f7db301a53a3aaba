"""WAIT: what it says is what replicas have."""
import time
import unittest

from harness.case import Case, Setup
from harness.fake import FakeCluster, bulk
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, Conn, Error, encode, words
from harness.servers import Server, Watched, wait_until

setup = Setup()


def setUpModule():
    setup.start(workers=1)


def tearDownModule():
    setup.stop()


@unittest.skipIf(STANDIN, "needs replicas")
class WaitCase(Case):
    def setUp(self):
        self.eventually("each master has its replica", lambda: [
            len(setup.cluster.replicas_of(n)) for n in setup.cluster.masters()] == [1, 1, 1])
        self.masters = setup.cluster.masters()
        self.keys = [setup.cluster.key_on(n, "wait") for n in self.masters]
        self.replicas = [setup.cluster.replica_of(n) for n in self.masters]
        # A test before may have left one that copies everything anew.
        self.eventually("each replica keeps up", lambda: all(
            n.info("replication").get("master_link_status") == "up" for n in self.replicas), 60)
        for node in setup.cluster.nodes:
            self.addCleanup(self.thaw, node)

    @staticmethod
    def thaw(node):
        if node.alive:
            node.thaw()

    def timed(self, conn, command):
        begin = time.monotonic()
        return conn.cmd(*words(command)), time.monotonic() - begin

    def blocked(self, node):
        return int(node.info("clients")["blocked_clients"])


class Wait(WaitCase):
    def test_arguments(self):
        c, oracle = self.conn(), self.conn(setup.oracle.port)
        for line in ("WAIT", "WAIT 1", "WAIT 1 2 3", "WAIT x 1", "WAIT 1 x", "WAIT x x", "WAIT 1 -1",
                     "WAIT 1 1.5", "WAIT 1 9223372036854775808",
                     ["WAIT", b"", b"1"], ["WAIT", b"1", b"1\x00"]):
            self.assertIsInstance(self.matches_oracle(c, oracle, line), Error, line)
        self.expect_error(c, "WAIT 1 9223372036854775807", "ERR timeout is out of range")
        for line in ("WAIT 0 0", "WAIT -1 0", "WAIT 1 %d" % (2 ** 40)):
            self.expect(c, line, 1)

    def test_the_replica_has_it(self):
        c = self.conn()
        for key, replica in zip(self.keys, self.replicas):
            r = self.conn(replica.port)
            self.expect(r, "READONLY", OK)
            for i in range(scaled(60)):
                self.expect(c, ["SET", key, str(i)], OK)
                self.expect(c, "WAIT 1 10000", 1)
                self.expect(r, ["GET", key], str(i).encode())

    def test_in_a_pipeline(self):
        c = self.conn()
        self.assertEqual([OK, 1, b"1", 1, 2], c.pipeline(
            [["SET", self.keys[0], "1"], "WAIT 1 10000", ["GET", self.keys[0]], "WAIT 1 0",
             ["INCR", self.keys[0]]]))
        for protocol in (2, 3):
            c = self.conn(protocol=protocol)
            c.send(b"CLIENT REPLY SKIP\r\nWAIT 1 1000\r\nPING\r\n")
            self.assertEqual(b"+PONG\r\n", c.read_raw())

    def test_a_stopped_replica_has_nothing(self):
        a, b, _ = self.keys
        only_a, only_b, both, many = (self.conn() for _ in range(4))
        nothing = self.conn()
        for c in (only_a, only_b, both):
            self.expect(c, ["SET", a, "0"], OK)
            self.expect(c, ["SET", b, "0"], OK)
            self.expect(c, "WAIT 1 10000", 1)
        self.replicas[0].freeze()
        self.expect(only_a, ["SET", a, "1"], OK)
        self.expect(both, ["SET", a, "2"], OK)
        self.expect(both, ["SET", b, "2"], OK)
        self.expect(many, ["MSET", a, "3", b, "3"], OK)
        self.expect(only_b, ["SET", b, "1"], OK)
        for c in (only_a, both, many):
            got, took = self.timed(c, "WAIT 1 200")
            self.assertEqual(0, got)
            self.assertGreaterEqual(took, 0.19)
        self.expect(only_b, "WAIT 1 10000", 1)
        self.expect(nothing, "WAIT 1 0", 1)  # what it wrote, all have
        self.expect(both, ["SET", b, "4"], OK)
        self.expect(both, "WAIT 1 100", 0)  # what it wrote to the other one is as it was
        for c in (only_a, both, many, only_b):
            c.send(encode("WAIT", 1, 0))
        self.assertEqual(1, only_b.read())
        self.assertTrue(only_a.is_silent(0.1))
        self.replicas[0].thaw()
        for c in (only_a, both, many):
            self.assertEqual(1, c.read())
        r = self.conn(self.replicas[0].port)
        self.expect(r, "READONLY", OK)
        self.expect(r, ["GET", a], b"3")

    def test_reads_are_no_writes(self):
        a, b, _ = self.keys
        c = self.conn()
        self.expect(c, ["SET", b, "1"], OK)
        self.replicas[0].freeze()
        self.expect(c, ["GET", a], c.cmd("GET", a))
        self.conn().cmd("SET", a, "x")
        self.expect(c, "WAIT 1 10000", 1)

    def test_every_way_of_writing(self):
        a = self.keys[0]
        self.conn().cmd("DEL", a)
        self.replicas[0].freeze()
        for line in (["SET", a, "1"], ["DEL", a], ["UNLINK", a, self.keys[1]], ["MSET", a, "1"],
                     ["EVAL", "return redis.call('SET',KEYS[1],'2')", "1", a], ["GETSET", a, "1"],
                     ["SET", a, b"x" * 100000], ["DEL", a]):
            c = self.conn()
            self.not_error(c.cmd(*line), line)
            self.expect(c, "WAIT 1 50", 0)

    def test_more_than_there_are(self):
        c = self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        got, took = self.timed(c, "WAIT 2 150")
        self.assertEqual(1, got)
        self.assertGreaterEqual(took, 0.14)

    def test_later_for_more_replicas(self):
        """What one replica had is not forgotten when two are asked for."""
        a, b, _ = self.keys
        c = self.conn()
        self.expect(c, ["SET", a, "1"], OK)
        self.expect(c, "WAIT 1 10000", 1)
        self.replicas[0].freeze()
        self.conn().cmd("SET", a, "2")
        self.expect(c, ["SET", b, "1"], OK)
        self.expect(c, "WAIT 1 10000", 1)
        self.expect(c, ["SET", b, "2"], OK)
        self.expect(c, "WAIT 2 100", 0)

    def test_connections_are_used_again(self):
        c = self.conn()
        for key in self.keys:
            c.cmd("SET", key, "1")
        self.expect(c, "WAIT 1 10000", 1)
        before = [n.info("stats")["total_connections_received"] for n in self.masters]
        for i in range(scaled(200)):
            self.expect(c, ["SET", self.keys[i % 3], str(i)], OK)
            self.expect(c, "WAIT 1 10000", 1)
        self.assertEqual(before,
                         [n.info("stats")["total_connections_received"] for n in self.masters])

    def test_a_client_that_leaves_frees_its_connections(self):
        for leave in (Conn.close, Conn.reset):
            c = self.conn()
            self.expect(c, ["SET", self.keys[0], "1"], OK)
            self.expect(c, ["SET", self.keys[1], "1"], OK)
            c.send(encode("WAIT", 5, 0))
            for n in self.masters[:2]:
                wait_until("it waits", lambda: self.blocked(n) == 1, grace(10))
            self.assertEqual(0, self.blocked(self.masters[2]))
            leave(c)
            for n in self.masters[:2]:
                wait_until("it waits no more", lambda: self.blocked(n) == 0, grace(10))

    def test_who_waits_is_seen(self):
        c, other = self.conn(), self.conn()
        ident = c.cmd("CLIENT", "ID")
        self.replicas[0].freeze()
        for key in self.keys[:2]:
            self.expect(c, ["SET", key, "1"], OK)

        def wait():
            c.send(encode("WAIT", 1, 0))
            wait_until("it waits", lambda: self.blocked(self.masters[0]) == 1, grace(10))

        wait()
        self.eventually("it alone", lambda: b"\r\nblocked_clients:1\r\n" in other.cmd("INFO", "clients"))
        self.assertIn(b" flags=b ", other.cmd("CLIENT", "LIST", "ID", ident))
        self.expect(other, ["CLIENT", "UNBLOCK", ident, "ERROR"], 1)
        self.assertEqual(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", c.read_raw())
        self.expect(other, ["CLIENT", "UNBLOCK", ident], 0)
        wait()
        self.expect(other, ["CLIENT", "UNBLOCK", ident], 1)
        self.assertEqual(0, c.read())
        wait_until("it waits no more", lambda: self.blocked(self.masters[0]) == 0, grace(10))
        self.assertIn(b"\r\nblocked_clients:0\r\n", other.cmd("INFO", "clients"))
        self.replicas[0].thaw()
        self.expect(c, "WAIT 1 10000", 1)

    def test_asking_for_none(self):
        """It wants nothing, so the answer confirms nothing: later there may be more."""
        c = self.conn()
        self.replicas[0].freeze()
        for key in self.keys[:2]:
            self.expect(c, ["SET", key, "1"], OK)
            self.expect(c, "WAIT 0 0", 0)
        self.replicas[0].thaw()
        self.eventually("they have it", lambda: c.cmd("WAIT", 0, 0) == 1)

    def test_others_are_not_held(self):
        c, other = self.conn(), self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        c.send(encode("WAIT", 5, 0) + encode("INCR", self.keys[0]))
        wait_until("it waits", lambda: self.blocked(self.masters[0]) == 1, grace(10))
        for i in range(100):
            self.expect(other, ["SET", self.keys[0], str(i)], OK)
        self.assertTrue(c.is_silent(0.05))
        self.expect(other, ["GET", self.keys[0]], b"99")

    def test_connections_are_bounded(self):
        config = "backend:\n  max_leased: 2\n"
        with Proxy(setup.cluster.seeds(3), config=config, workers=1) as proxy:
            proxy.wait_routes()
            crowd = [self.conn(proxy.port) for _ in range(3)]
            for c in crowd:
                self.expect(c, ["SET", self.keys[0], "1"], OK)
            for c in crowd[:2]:
                c.send(encode("WAIT", 5, 0))
            wait_until("they wait", lambda: self.blocked(self.masters[0]) == 2, grace(10))
            self.expect_error(crowd[2], "WAIT 1 100",
                              "ERR KEYWAY backend.max_leased connections are in use")
            self.expect(crowd[2], ["GET", self.keys[0]], b"1")
            crowd[0].close()
            self.eventually("one is free", lambda: crowd[2].cmd("WAIT", 1, 1000) == 1)

    def test_a_frozen_master(self):
        c = self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.expect(c, "WAIT 1 10000", 1)
        self.expect(c, ["SET", self.keys[0], "2"], OK)
        self.masters[0].freeze()
        self.expect(c, "WAIT 1 100", 0)
        self.masters[0].thaw()
        self.expect(c, "WAIT 1 10000", 1)


class Lost(WaitCase):
    """Masters that are none any more."""
    def tearDown(self):
        self.doCleanups()
        for node in setup.cluster.nodes:
            if not node.alive:
                node.restart()
        setup.cluster.wait_ok(20)
        setup.proxy.wait_routes()

    def test_a_master_that_dies_meanwhile(self):
        c = self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        c.send(encode("WAIT", 5, 0))
        wait_until("it waits", lambda: self.blocked(self.masters[0]) == 1, grace(10))
        self.masters[0].kill()
        self.assertEqual(0, c.read())

    def test_another_process(self):
        """What was written went with the one before; replicas agree with the new one."""
        c, other = self.conn(), self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.expect(c, ["SET", self.keys[1], "1"], OK)
        self.expect(other, ["SET", self.keys[1], "1"], OK)
        self.masters[0].restart()
        setup.cluster.wait_ok(20)
        self.expect(c, ["GET", self.keys[0]], None)
        self.expect(c, "WAIT 1 5000", 0)
        self.expect(other, "WAIT 1 5000", 1)
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.eventually("its replica follows", lambda: c.cmd("WAIT", 1, 1000) == 1)

    def test_a_failover(self):
        c, other, waiting = self.conn(), self.conn(), self.conn()
        for x in (c, waiting):
            self.expect(x, ["SET", self.keys[0], "1"], OK)
        self.expect(other, ["SET", self.keys[1], "1"], OK)
        waiting.send(encode("WAIT", 5, 0))
        wait_until("it waits", lambda: self.blocked(self.masters[0]) == 1, grace(10))
        new = self.replicas[0]
        setup.cluster.failover(new)
        self.assertEqual(0, waiting.read())
        setup.cluster.wait_ok(20)
        self.expect(c, ["GET", self.keys[0]], b"1")
        self.eventually("the proxy knows", lambda: b"%d@" % new.port in setup.cluster.nodes[1].cmd(
            "CLUSTER", "NODES") and c.cmd("APPEND", self.keys[0], "x") > 1)
        self.expect(other, "WAIT 1 5000", 1)
        self.eventually("the new master's replica has it",
                        lambda: c.cmd("APPEND", self.keys[0], "x") > 1 and
                        c.cmd("WAIT", 1, 1000) == 1)
        self.assertEqual(1, new.info("replication").get("connected_slaves") == "1")


@unittest.skipIf(STANDIN, "needs the proxy")
class Plain(Case):
    def test_one_server(self):
        master = Server().start()
        self.addCleanup(master.stop)
        master.ok("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info")
        text = "upstreams: {main: {server: '%s'%s}}\n"
        with Proxy([], config=text % (master.addr, "")).wait_start() as proxy, \
                proxy.conn() as c:
            self.expect(c, "SET k 1", OK)
            self.expect(c, "WAIT 1 50", 0)
            self.expect(c, "WAIT 0 50", 0)
            replica = Server(args=["--replicaof", "127.0.0.1", master.port]).start()
            self.addCleanup(replica.stop)
            self.expect(c, "SET k 2", OK)
            self.expect(c, "WAIT 1 0", 1)
            with proxy.conn() as fresh:
                self.expect(fresh, "WAIT 0 0", 1)
            with replica.conn() as r:
                self.expect(r, "GET k", b"2")
            replica.freeze()
            self.expect(c, "SET k 3", OK)
            self.expect(c, "WAIT 1 100", 0)
            replica.thaw()
            self.expect(c, "WAIT 1 0", 1)
        with Proxy([], config=text % (master.addr, ", user: app, password: pw")).wait_start() as \
                proxy, proxy.conn() as c:
            self.expect_error(c, "WAIT 1 50", "NOPERM this user has no permissions to run the "
                                              "'info' command")
            self.expect(c, "GET k", b"3")


    def test_masters_of_sentinel(self):
        watched = Watched(replicas=1, sentinels=1).start()
        self.addCleanup(watched.stop)
        watched.wait_ok()
        proxy = Proxy([], ["--sentinel", "mymaster@" + watched.seeds(1)])
        with proxy.start().wait_routes(), proxy.conn() as c, proxy.conn() as m:
            self.expect(m, "MONITOR", OK)
            self.expect(c, "SET k 1", OK)
            self.expect(c, "WAIT 1 10000", 1)
            watched.replicas()[0].freeze()
            self.expect(c, "SET k 2", OK)
            self.expect(c, "WAIT 1 100", 0)
            watched.replicas()[0].thaw()
            self.expect(c, "WAIT 1 10000", 1)
            while not m.read().endswith(b'] "SET" "k" "2"'):
                pass


@unittest.skipIf(STANDIN, "needs a fake")
class OtherServers(Case):
    """Servers whose WAIT knows only of the asking connection's own writes: it answers at once."""
    def play(self, offsets, command):
        """`offsets`: the replica's in each INFO; the master's is 100 and grows."""
        asked = []

        def info(conn, argv):
            if argv[1:] != [b"replication"]:
                return bulk(b"# Server\r\nrun_id:%040d\r\n" % 1)
            at = offsets[min(len(asked), len(offsets) - 1)]
            asked.append(at)
            return bulk(b"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n"
                        b"slave0:ip=127.0.0.1,port=1,state=online,offset=%d,lag=0\r\n"
                        b"slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=999,lag=0\r\n"
                        b"master_repl_offset:%d\r\n" % (at, 100 + len(asked)))
        with FakeCluster(1) as fake:
            node = fake.nodes[0]
            node.rule("INFO", info)
            node.rule("WAIT", lambda conn, argv: b":2\r\n")
            with Proxy(fake.seeds(), workers=1) as proxy, proxy.wait_routes().conn() as c:
                self.expect(c, "SET k v", OK)
                return c.cmd(*words(command)), len(asked)

    def test_it_is_believed_when_info_tells_it(self):
        self.assertEqual((1, 2), self.play([100, 101], "WAIT 1 10000"))
        self.assertEqual((1, 6), self.play([90, 95, 96, 99, 100, 101], "WAIT 1 0"))

    def test_it_is_not_believed_when_info_does_not(self):
        got, asked = self.play([100], "WAIT 1 100")
        self.assertEqual(0, got)
        self.assertGreater(asked, 2)


if __name__ == "__main__":
    unittest.main()
