"""WAITAOF, with Valkey 8 as the servers: what it says is what is in AOFs."""
import shutil
import time
import unittest

from harness import servers
from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, Conn, Error, encode, words
from harness.servers import Server, wait_until

PROGRAM = "valkey-server"
setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs replicas")
    if shutil.which(PROGRAM) is None:
        raise unittest.SkipTest("%s is not installed (Debian 12 has it in bookworm-backports)" %
                                PROGRAM)
    servers.PROGRAM = PROGRAM
    setup.start(workers=1, cluster_args=["--appendonly", "yes"])


def tearDownModule():
    setup.stop()


class Fsynced(Case):
    def setUp(self):
        self.masters = setup.cluster.masters()
        self.eventually("each master has its replica", lambda: [
            setup.cluster.replica_of(n).info("replication").get("master_link_status")
            for n in self.masters] == ["up"] * 3)
        self.keys = [setup.cluster.key_on(n, "waitaof") for n in self.masters]
        for node in setup.cluster.nodes:
            node.ok("CONFIG", "SET", "appendfsync", "always")

    def hold_back(self, node):
        """Nothing is fsynced any more."""
        node.ok("CONFIG", "SET", "appendfsync", "no")

    def blocked(self, node):
        return int(node.info("clients")["blocked_clients"])

    def marks(self):
        return sum(n.command_calls("function|restore") for n in self.masters)

    def waits(self, c, command="WAITAOF 1 0 0"):
        c.send(encode(*words(command)))
        wait_until("it waits", lambda: self.blocked(self.masters[0]) == 1, grace(10))

    def test_all_have_it(self):
        for protocol in (2, 3):
            c = self.conn(protocol=protocol)
            for i in range(scaled(9)):
                self.expect(c, ["SET", self.keys[i % 3], str(i)], OK)
                self.expect(c, "WAITAOF 1 1 10000", [1, 1])

    def test_in_a_pipeline(self):
        c = self.conn()
        self.assertEqual([OK, [1, 1], b"1", [1, 1], 2], c.pipeline(
            [["SET", self.keys[0], "1"], "WAITAOF 1 1 10000", ["GET", self.keys[0]],
             "WAITAOF 1 1 0", ["INCR", self.keys[0]]]))
        c.send(b"CLIENT REPLY SKIP\r\nWAITAOF 1 0 1000\r\nPING\r\n")
        self.assertEqual(b"+PONG\r\n", c.read_raw())

    def test_inside_multi(self):
        """There it does not wait: what the server says of the connection is the answer."""
        c = self.conn()
        self.hold_back(self.masters[0])
        got = c.pipeline(["MULTI", ["SET", self.keys[0], "1"], "WAITAOF 0 5 0", "EXEC"])
        self.assertEqual([OK, b"QUEUED"], [got[0], bytes(got[2])])
        self.assertEqual(OK, got[3][0])
        self.assertEqual([int, int], [type(n) for n in got[3][1]])

    def test_only_masters_that_it_wrote_to(self):
        a, b, _ = self.keys
        only_a, only_b, both, many, nothing = (self.conn() for _ in range(5))
        for c in (only_a, only_b, both):
            self.expect(c, ["SET", a, "0"], OK)
            self.expect(c, ["SET", b, "0"], OK)
            self.expect(c, "WAITAOF 1 1 10000", [1, 1])
        self.hold_back(self.masters[0])
        self.expect(only_a, ["SET", a, "1"], OK)
        self.expect(both, ["SET", a, "2"], OK)
        self.expect(both, ["SET", b, "2"], OK)
        self.expect(many, ["MSET", a, "3", b, "3"], OK)
        self.expect(only_b, ["SET", b, "1"], OK)
        for c in (only_a, both, many):
            begin = time.monotonic()
            self.assertEqual(0, c.cmd("WAITAOF", 1, 0, 200)[0])
            self.assertGreaterEqual(time.monotonic() - begin, 0.19)
            self.expect(c, "WAITAOF 0 1 10000", [0, 1])
        self.expect(only_b, "WAITAOF 1 1 10000", [1, 1])
        self.expect(nothing, "WAITAOF 1 1 0", [1, 1])  # what it wrote, all have
        for c in (only_a, both, many):
            c.send(encode("WAITAOF", 1, 1, 0))
        self.assertTrue(both.is_silent(0.1))
        self.masters[0].ok("CONFIG", "SET", "appendfsync", "always")
        for c in (only_a, both, many):
            self.assertEqual([1, 1], c.read())

    def test_replicas_count_for_themselves(self):
        replica = setup.cluster.replica_of(self.masters[0])
        self.hold_back(replica)
        c = self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.expect(c, "WAITAOF 1 1 100", [1, 0])
        self.expect(c, "WAIT 1 10000", 1)
        self.expect(c, "WAITAOF 1 1 100", [1, 0])  # WAIT has confirmed another thing
        c.send(encode("WAITAOF", 0, 1, 0))
        self.assertTrue(c.is_silent(0.1))
        replica.ok("CONFIG", "SET", "appendfsync", "always")
        self.assertEqual([1, 1], c.read())

    def test_asking_again_and_again(self):
        """It is about what was written before the first time, not about a moment that moves on."""
        c = self.conn()
        self.hold_back(self.masters[0])
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        before = self.marks()
        for _ in range(10):
            self.assertEqual(0, c.cmd("WAITAOF", 0, 0, 0)[0])
            self.assertEqual(0, c.cmd("WAITAOF", 1, 0, 5)[0])
        self.assertEqual(before + 1, self.marks())
        self.masters[0].ok("CONFIG", "SET", "appendfsync", "everysec")
        self.eventually("it is fsynced", lambda: c.cmd("WAITAOF", 0, 0, 0)[0] == 1)
        self.assertEqual(before + 1, self.marks())
        self.hold_back(self.masters[0])
        self.conn().cmd("SET", self.keys[0], "2")  # another's
        self.expect(c, "WAITAOF 1 0 0", [1, c.cmd("WAITAOF", 0, 0, 0)[1]])
        self.expect(c, ["SET", self.keys[0], "3"], OK)
        self.assertEqual(0, c.cmd("WAITAOF", 1, 0, 50)[0])
        self.assertEqual(before + 2, self.marks())

    def test_nothing_is_changed(self):
        """The mark behind a client's writes."""
        with setup.proxy.conn() as c:
            self.not_error(c.cmd("FUNCTION", "LOAD", "#!lua name=kept\nredis.register_function('f',"
                                 "function() return 1 end)"), "FUNCTION LOAD")
            listed, size = c.cmd("FUNCTION", "LIST"), c.cmd("DBSIZE")
            self.expect(c, ["WATCH", self.keys[0]], OK)
            other = self.conn()
            other.cmd("SET", self.keys[0] + "other", "1")
            other.cmd("DEL", self.keys[0] + "other")
            self.expect(other, "WAITAOF 1 1 10000", [1, 1])
            self.assertEqual((listed, size), (c.cmd("FUNCTION", "LIST"), c.cmd("DBSIZE")))
            self.assertEqual([[b"x"]], c.pipeline(["MULTI", "ECHO x", "EXEC"])[2:])
            self.expect(c, "FUNCTION DELETE kept", OK)

    def test_connections_are_used_again(self):
        c = self.conn()
        for key in self.keys:
            c.cmd("SET", key, "1")
        self.expect(c, "WAITAOF 1 1 10000", [1, 1])
        before = [n.info("stats")["total_connections_received"] for n in self.masters]
        for i in range(scaled(24)):
            for client in (c, self.conn()) if i % 8 == 0 else (c,):
                self.expect(client, ["SET", self.keys[i % 3], str(i)], OK)
                self.expect(client, "WAITAOF 1 1 10000", [1, 1])
        self.assertEqual(before,
                         [n.info("stats")["total_connections_received"] for n in self.masters])

    def test_who_waits_is_seen(self):
        self.hold_back(self.masters[0])
        c, other = self.conn(), self.conn()
        ident = c.cmd("CLIENT", "ID")
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.waits(c)
        self.eventually("it alone", lambda: b"\r\nblocked_clients:1\r\n" in other.cmd("INFO", "clients"))
        self.assertIn(b" flags=b ", other.cmd("CLIENT", "LIST", "ID", ident))
        self.expect(other, ["CLIENT", "UNBLOCK", ident, "ERROR"], 1)
        self.assertEqual(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", c.read_raw())
        wait_until("it waits no more", lambda: self.blocked(self.masters[0]) == 0, grace(10))
        self.expect(other, ["CLIENT", "UNBLOCK", ident], 0)
        self.waits(c)
        self.expect(other, ["CLIENT", "UNBLOCK", ident, "TIMEOUT"], 1)
        self.assertEqual(0, c.read()[0])
        wait_until("it waits no more", lambda: self.blocked(self.masters[0]) == 0, grace(10))
        self.assertIn(b"\r\nblocked_clients:0\r\n", other.cmd("INFO", "clients"))
        self.expect(c, ["GET", self.keys[0]], b"1")

    def test_where_no_write_is_taken(self):
        """What the proxy asks with is a write: its refusal is the answer, until writes are taken."""
        master, c = self.masters[0], self.conn()
        for option, bad, good, error in (
                ("maxmemory", "1", "0", "OOM command not allowed when used memory > 'maxmemory'."),
                ("min-replicas-to-write", "9", "0", "NOREPLICAS Not enough good replicas to write.")):
            with master.conn() as direct:
                for conn in (c, direct):
                    self.expect(conn, ["SET", self.keys[0], option], OK)
                self.addCleanup(master.cmd, "CONFIG", "SET", option, good)
                master.ok("CONFIG", "SET", option, bad)
                self.expect_error(c, "WAITAOF 1 1 10000", error)
                self.expect(direct, "WAITAOF 1 1 10000", [1, 1])
                master.ok("CONFIG", "SET", option, good)
                self.expect(c, "WAITAOF 1 1 10000", [1, 1])

    def test_a_refused_one_leaves_no_write_out(self):
        """Not even of masters that it had not come to when another had no connection left."""
        config = "backend:\n  max_leased: 1\n"
        for full, other in ((0, 1), (1, 0)):
            with Proxy(setup.cluster.seeds(3), config=config, workers=1) as proxy:
                proxy.wait_routes()
                c, blocker, pusher = (self.conn(proxy.port) for _ in range(3))
                node = self.masters[other]
                self.masters[full].ok("CONFIG", "SET", "appendfsync", "always")
                self.expect(c, ["SET", self.keys[other], "1"], OK)
                self.assertEqual(1, c.cmd("WAITAOF", 1, 5, 50)[0])
                self.hold_back(node)
                for key in self.keys[:2]:
                    self.expect(c, ["SET", key, "2"], OK)
                queue = setup.cluster.key_on(self.masters[full], "waitaof-queue")
                blocker.send(encode("BLPOP", queue, "0"))
                wait_until("it blocks", lambda: self.blocked(self.masters[full]) == 1, grace(10))
                self.expect_error(c, "WAITAOF 1 0 50",
                                  "ERR KEYWAY backend.max_leased connections are in use")
                self.expect(pusher, ["RPUSH", queue, "x"], 1)
                self.assertEqual(b"x", blocker.read()[1])
                self.assertEqual(0, c.cmd("WAITAOF", 1, 0, 50)[0])

    def test_a_client_that_leaves_frees_its_connections(self):
        self.hold_back(self.masters[0])
        for leave in (Conn.close, Conn.reset):
            c = self.conn()
            self.expect(c, ["SET", self.keys[0], "1"], OK)
            self.waits(c)
            leave(c)
            wait_until("it waits no more", lambda: self.blocked(self.masters[0]) == 0, grace(10))

    def test_zz_another_process(self):
        """What was written may have gone with the one before."""
        c, other = self.conn(), self.conn()
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.expect(other, ["SET", self.keys[1], "1"], OK)
        self.masters[0].restart()
        setup.cluster.wait_ok(20)
        self.not_error(c.cmd("GET", self.keys[0]), "GET")
        self.expect(c, "WAITAOF 1 0 5000", [0, 0])
        self.expect(c, "WAIT 0 0", 0)
        self.expect(other, "WAITAOF 1 1 5000", [1, 1])
        self.expect(c, ["SET", self.keys[0], "1"], OK)
        self.assertEqual(1, c.cmd("WAITAOF", 1, 0, 5000)[0])


class Plain(Case):
    def test_as_one_server_answers(self):
        lines = ["WAITAOF", "WAITAOF 1", "WAITAOF 1 1", "WAITAOF 1 1 1 1", "WAITAOF x 0 0",
                 "WAITAOF 2 0 0", "WAITAOF -1 0 0", "WAITAOF 0 x 0", "WAITAOF 0 -1 0",
                 "WAITAOF 0 0 x", "WAITAOF 0 0 -1", "WAITAOF 0 0 1.5", "WAITAOF 1 -1 -1",
                 "WAITAOF 0 0 9223372036854775807", "WAITAOF 0 0 9223372036854775808",
                 "WAITAOF 0 9223372036854775807 1", "WAITAOF 0 9223372036854775808 1",
                 ["WAITAOF", b"", b"0", b"0"], ["WAITAOF", b"0", b"0", b"0\x00"], "waitaof 1 0 0",
                 "WAITAOF 1 0 0", "WAITAOF 0 0 0", "SET k v", "WAITAOF 1 0 10", "WAITAOF 0 0 10",
                 "WAITAOF 0 1 10", "MULTI", "WAITAOF 0 0 0", "WAITAOF 1 0 0", "EXEC", "MULTI",
                 "WAITAOF 0", "EXEC"]
        with Proxy([], ["--server", setup.oracle.addr]).wait_start() as proxy:
            for protocol in (2, 3):
                with proxy.conn(protocol=protocol) as c, \
                        setup.oracle.conn(protocol=protocol) as o:
                    for line in lines:
                        self.matches_oracle(c, o, line)

    def test_an_aof_of_its_own(self):
        server = Server(args=["--appendonly", "yes", "--appendfsync", "always"]).start()
        self.addCleanup(server.stop)
        server.ok("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-function")
        text = "upstreams: {main: {server: '%s'%s}}\n"
        with Proxy([], config=text % (server.addr, "")).wait_start() as proxy, proxy.conn() as c:
            self.expect(c, "WAITAOF 1 0 0", [1, 0])
            self.expect(c, "SET k 1", OK)
            self.expect(c, "WAITAOF 1 0 0", [1, 0])
            self.expect(c, "WAITAOF 0 1 50", [1, 0])
            server.ok("CONFIG", "SET", "appendfsync", "no")
            self.expect(c, "SET k 1", OK)
            self.expect(c, "WAITAOF 1 0 50", [0, 0])
            self.expect(c, "SELECT 3", OK)
            server.ok("CONFIG", "SET", "appendfsync", "always")
            self.expect(c, "WAITAOF 1 0 0", [1, 0])
        with Proxy([], config=text % (server.addr, ", user: app, password: pw")).wait_start() as \
                proxy, proxy.conn() as c:
            self.expect(c, "WAITAOF 0 0 0", [1, 0])
            self.expect(c, "SET k 1", OK)
            self.assertIsInstance(c.cmd("WAITAOF", 1, 0, 50), Error)
            self.expect(c, "GET k", b"1")


if __name__ == "__main__":
    unittest.main()
