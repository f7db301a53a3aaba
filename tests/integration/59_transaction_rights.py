"""MULTI in front of one server; users without the right to it; scripts, PUBLISH and operators' commands inside."""
import hashlib
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import NULL, OK, PONG, Error, Simple, encode
from harness.servers import Server

QUEUED = Simple(b"QUEUED")
ABORTED = "EXECABORT Transaction discarded because of previous errors."
NO_MULTI = b"EXECABORT Transaction discarded because of: NOPERM"

setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("about how the proxy sends a block")
    setup.start(oracle=False)


def tearDownModule():
    setup.stop()


def one_server(*args, rights=None, config=None):
    """`rights` of a user joe, as whom the proxy comes."""
    server = Server(args=args).start()
    user, env = [], {}
    try:
        if rights is not None:
            server.ok("ACL", "SETUSER", "joe", "on", ">secret", "~*", "&*", *rights.split())
            user, env = ["--user", "joe"], {"KEYWAY_PASSWORD": "secret"}
        proxy = Proxy([], ["--server", server.addr, *user], config=config, env=env).start()
    except BaseException:
        server.stop()
        raise
    return server, proxy


class OneServer(Case):
    @classmethod
    def setUpClass(cls):
        cls.oracle = Server().start()
        cls.server, cls.proxy = one_server()
        cls.proxy.wait_routes()

    @classmethod
    def tearDownClass(cls):
        for part in (cls.proxy, cls.server, cls.oracle):
            part.stop()

    SCRIPTS = [
        "MULTI | SET a 1 | SET b 2 | MGET a b | MSETNX a 1 z 2 | DEL a b | EXEC",
        "MULTI | SET k zero | SELECT 3 | SET k three | GET k | EXEC | GET k | SELECT 0 | GET k",
        "SELECT 2 | SET k two | MULTI | GET k | SELECT 5 | SET k five | SELECT 7 | EXEC | SET k seven"
        " | DBSIZE | SELECT 2 | GET k | SELECT 5 | GET k | SELECT 7 | GET k",
        "MULTI | SELECT 99 | SELECT x | SET k a | EXEC | GET k",
        "MULTI | SELECT 4 | SELECT 99 | SET k a | PING | EXEC | GET k | SELECT 0 | GET k",
        "MULTI | SELECT 6 | DISCARD | SET k here | SELECT 6 | EXISTS k",
        "MULTI | SELECT 6 | nosuch | EXEC | SET k here | SELECT 6 | EXISTS k",
        "MULTI | SELECT 8 | EXEC | CLIENT GETNAME | SET k eight | RESET | EXISTS k",
        "SET a 1 | MULTI | DBSIZE | FLUSHALL | DBSIZE | KEYS * | EXEC",
        "SET a 1 | MULTI | RANDOMKEY | SCAN 0 | MOVE a 3 | SWAPDB 0 3 | GET a | EXEC",
        "MULTI | FUNCTION LIST | SCRIPT EXISTS x | LATENCY RESET | OBJECT HELP | EXEC",
        "WATCH a | SET a 1 | MULTI | SET a 2 | EXEC | GET a",
        "WATCH a b c | MULTI | SELECT 1 | SET a 2 | EXEC | GET a | SELECT 0 | GET a",
        "WATCH k | SELECT 3 | SET k three | MULTI | GET k | SET k 3 | EXEC | GET k | SELECT 0 | GET k",
        "WATCH k | SELECT 3 | SELECT 0 | SET k mine | SELECT 3 | MULTI | SET k 3 | EXEC | GET k",
        "WATCH k | SELECT 3 | WATCH k | SELECT 0 | SELECT 3 | SET k mine | SELECT 0 | MULTI | PING | EXEC",
        "WATCH k | SELECT 3 | WATCH k | SELECT 5 | MULTI | SET k five | SELECT 0 | GET k | EXEC | GET k"
        " | WATCH k | MULTI | GET k | EXEC | SELECT 5 | GET k",
        "SELECT 4 | WATCH k | HELLO 2 | SELECT 0 | HELLO 2 | MULTI | GET k | EXEC",
        "WATCH k | SELECT 3 | WATCH k | UNWATCH | MULTI | SET k x | EXEC | SELECT 0 | EXISTS k",
        "WATCH k | SELECT 3 | MULTI | SET k x | DISCARD | SET k y | MULTI | GET k | EXEC",
        "WATCH k | SELECT 3 | SET k str | MULTI | LPUSH k x | GET k | EXEC | SELECT 0 | EXISTS k",
        "WATCH k | SELECT 3 | RESET | MULTI | SET k x | EXEC | GET k",
        "MULTI | BLPOP x y 0 | XREAD BLOCK 0 STREAMS s t $ $ | EXEC",
        "MULTI | PUBLISH c m | SPUBLISH c m | PUBSUB NUMPAT | EXEC",
        "MULTI | SAVE | EXEC", "MULTI | SYNC | EXEC",
    ]

    def test_like_the_server_itself(self):
        for protocol in (2, 3):
            for script in self.SCRIPTS:
                for s in (self.server, self.oracle):
                    s.ok("FLUSHALL")
                lines = [x.strip().split() for x in script.split("|")]
                with self.subTest(script), self.proxy.conn(protocol=protocol) as c, \
                        self.oracle.conn(protocol=protocol) as o:
                    for line in lines:
                        self.matches_oracle(c, o, line)
                for s in (self.server, self.oracle):
                    s.ok("FLUSHALL")
                with self.subTest("pipelined " + script), self.proxy.conn() as c, \
                        self.oracle.conn() as o:
                    self.assertEqual(o.pipeline(lines), c.pipeline(lines))

    def test_watch_goes_along(self):
        """HELLO and SELECT behind WATCH: the connection that watches is told, and told again."""
        before = int(self.server.info("stats")["total_connections_received"])
        for proto in (3, 2):
            for n in range(40):
                with self.subTest(proto=proto, n=n), self.proxy.conn() as c, self.proxy.conn() as d:
                    c.cmd("HELLO", 5 - proto)
                    self.expect(c, "WATCH wk", OK)
                    c.cmd("HELLO", proto)
                    self.expect(c, ["SELECT", n % 7], OK)
                    got = c.pipeline(["MULTI", "HSET wh f v", "HGETALL wh", "EXEC"])[-1]
                    self.assertEqual([(b"f", b"v")] if proto == 3 else [b"f", b"v"], got[1])
                    self.expect(c, "WATCH wh", OK)
                    c.cmd("HELLO", 5 - proto)
                    self.expect(c, ["SELECT", 8], OK)
                    self.expect(d, ["SELECT", n % 7], OK)
                    self.expect(d, "DEL wh", 1)
                    self.expect(c, "MULTI", OK)
                    self.expect(c, "SET wk gone", QUEUED)
                    self.expect(c, "EXEC", NULL if proto == 2 else None)
                    self.expect(c, "EXISTS wk", 0)
                    self.assertEqual([OK] * 6 + [QUEUED, [PONG]], c.pipeline(
                        ["SELECT 0", "WATCH wk", "SELECT 3", "WATCH wk", "SELECT 0", "MULTI",
                         "PING", "EXEC"]))
        grown = int(self.server.info("stats")["total_connections_received"]) - before
        self.assertLess(grown, 60)  # one for each database and dialect, not for each transaction

    def test_where_watch_cannot_go_along(self):
        """The block must not run in the database of the WATCH."""
        with self.proxy.conn() as c:
            self.expect(c, "WATCH wk", OK)
            self.expect(c, "SELECT 3", OK)
            self.expect(c, "GET wk", None)
            self.server.ok("ACL", "SETUSER", "default", "-select")
            try:
                self.assertEqual([OK, QUEUED, None], c.pipeline(["MULTI", "SET wk x", "EXEC"]))
            finally:
                self.server.ok("ACL", "SETUSER", "default", "+select")
            for db in (3, 0):
                self.expect(c, ["SELECT", db], OK)
                self.expect(c, "EXISTS wk", 0)
            self.assertEqual([OK, OK, QUEUED, [OK]],
                             c.pipeline(["WATCH wk", "MULTI", "SET wk x", "EXEC"]))
            self.expect(c, "DEL wk", 1)

    def test_a_select_inside_concerns_nobody_else(self):
        """The connection is shared: it is back in its database when the block has run."""
        with self.proxy.conn() as c, self.proxy.conn() as other:
            self.server.ok("FLUSHALL")
            for n in range(50):
                c.send(b"".join(encode(*x.split()) for x in [
                    "MULTI", "SELECT %d" % (n % 10 + 1), "SET in x", "EXEC", "SELECT 0"]))
                self.expect(other, "SET out:%d x" % n, OK)
                self.assertEqual([OK, QUEUED, QUEUED, [OK, OK], OK], [c.read() for _ in range(5)])
            self.expect(other, "DBSIZE", 50)
            self.expect(other, "EXISTS in", 0)


class Operators(Case):
    def test_admin_commands(self):
        """The switch holds inside MULTI as well."""
        for allowed in (False, True):
            server, proxy = one_server(config="admin_commands: %s\n" % str(allowed).lower())
            try:
                proxy.wait_routes()
                with self.subTest(allowed), proxy.conn() as c:
                    for line in (["CONFIG", "SET", "maxmemory-samples", "7"], ["ACL", "LIST"],
                                 ["ACL", "SETUSER", "eve", "on"]):
                        self.expect(c, "MULTI", OK)
                        self.expect(c, "SET k v", QUEUED)
                        if allowed:
                            self.expect(c, line, QUEUED)
                            got = c.cmd("EXEC")
                            self.assertEqual(2, len(self.not_error(got, "EXEC") or got))
                        else:
                            self.expect_error(c, line, "ERR KEYWAY admin_commands is false: the "
                                              "command was not sent to the servers")
                            self.expect_error(c, "EXEC", ABORTED)
                    want = b"7" if allowed else b"5"
                    self.assertEqual(want, server.cmd("CONFIG", "GET", "maxmemory-samples")[1])
                    self.assertEqual(allowed, b"eve" in server.cmd("ACL", "USERS"))
            finally:
                proxy.stop()
                server.stop()


class Rights(Case):
    """A server that refuses MULTI would run the commands behind it one by one."""
    BLOCK = ["MULTI", "SET {r}a 1", "INCR {r}n", "EXEC", "PING"]

    def refused(self, c):
        got = c.pipeline(self.BLOCK)
        self.assertEqual([OK, QUEUED, QUEUED], got[:3])
        self.assertIsInstance(got[3], Error)
        self.assertTrue(got[3].startswith(NO_MULTI), got)
        self.assertEqual(Simple(b"PONG"), got[4])

    def test_a_user_without_it(self):
        for rights, allowed in (("-multi", False), ("-exec", False), ("-discard", True),
                                ("+@all", True)):
            server, proxy = one_server(rights="+@all " + rights)
            try:
                proxy.wait_routes()
                with self.subTest(rights), proxy.conn() as c, proxy.conn(protocol=3) as d:
                    for n, conn in enumerate((c, d)):
                        if allowed:
                            got = conn.pipeline(self.BLOCK)
                            self.assertEqual([OK, n + 1], got[3])
                        else:
                            self.refused(conn)
                            self.assertEqual(0, server.cmd("EXISTS", "{r}a", "{r}n"))
                            self.expect(conn, "WATCH {r}a", OK)
                            self.refused(conn)
                        self.expect(conn, "SET {r}plain x", OK)
            finally:
                proxy.stop()
                server.stop()

    def test_taken_away_while_connected(self):
        """Nobody can know before; but then it is told, and the next block does not leave."""
        server, proxy = one_server(rights="+@all")
        try:
            proxy.wait_routes()
            with proxy.conn() as c:
                self.assertEqual([OK, 1], c.pipeline(self.BLOCK)[3])
                server.ok("ACL", "SETUSER", "joe", "-multi")
                got = c.pipeline(self.BLOCK)
                self.assertTrue(got[3].startswith(b"UNKNOWN "), got)
                n = server.cmd("GET", "{r}n")
                self.refused(c)
                self.assertEqual(n, server.cmd("GET", "{r}n"))
        finally:
            proxy.stop()
            server.stop()

    def test_what_is_given_while_connected(self):
        """A refusal is believed for ten seconds, though its connection is in use all the time."""
        server, proxy = one_server(rights="+@all -multi")
        try:
            proxy.wait_routes()
            with proxy.conn() as c:
                def runs():
                    self.expect(c, "WATCH {r}a", OK)
                    return not isinstance(c.pipeline(self.BLOCK)[3], Error)
                self.assertFalse(runs())
                server.ok("ACL", "SETUSER", "joe", "+multi")
                self.eventually("a watched block runs", runs, 15, 0.5)
        finally:
            proxy.stop()
            server.stop()

    def test_a_command_inside(self):
        server, proxy = one_server(rights="+@all -incr")
        try:
            proxy.wait_routes()
            with proxy.conn() as c:
                self.refused(c)
                self.assertEqual(0, server.cmd("EXISTS", "{r}a"))
        finally:
            proxy.stop()
            server.stop()

    def test_commands_of_other_names(self):
        """rename-command: no user, so nothing was tried at the handshake."""
        for name in ("MULTI", "EXEC"):
            server, proxy = one_server("--rename-command", name, "")
            try:
                proxy.wait_routes()
                with self.subTest(name), proxy.conn() as c, proxy.conn() as other:
                    got = c.pipeline(self.BLOCK)
                    self.assertIsInstance(got[3], Error)
                    self.refused(c)
                    for n in range(3):
                        self.expect(other, "SET {r}other %d" % n, OK)
                        self.expect(other, "GET {r}other", b"%d" % n)
            finally:
                proxy.stop()
                server.stop()


class Inside(Case):
    INCR = "return redis.call('incr', KEYS[1])"

    def setUp(self):
        setup.cluster.flush()

    def test_remembered_scripts(self):
        digest = hashlib.sha1(self.INCR.encode()).hexdigest()
        with setup.proxy.conn() as c:
            self.expect(c, "SCRIPT FLUSH", OK)
            got = c.pipeline(["MULTI", ["EVALSHA", digest, "1", "s"], "EXEC"])
            self.assertTrue(got[2][0].startswith(b"NOSCRIPT"), got)
            self.expect(c, ["EVAL", self.INCR, "1", "other"], 1)
            for n, spelt in enumerate((digest, digest.upper())):
                for m in setup.cluster.masters():
                    m.ok("SCRIPT", "FLUSH")
                got = c.pipeline(["MULTI", ["EVALSHA", spelt, "1", "s"], "PING",
                                  ["EVALSHA", digest, "1", "s"], "GET s", "EXEC"])
                self.assertEqual([2 * n + 1, Simple(b"PONG"), 2 * n + 2, b"%d" % (2 * n + 2)],
                                 got[-1])

    def test_a_script_seen_inside(self):
        body = "return {KEYS[1], 'inside'}"
        digest = hashlib.sha1(body.encode()).hexdigest()
        with setup.proxy.conn() as c:
            self.expect(c, "SCRIPT FLUSH", OK)
            self.assertEqual([[b"a", b"inside"]],
                             c.pipeline(["MULTI", ["EVAL", body, "1", "a"], "EXEC"])[-1])
            self.expect(c, ["EVALSHA", digest, "1", "b"], [b"b", b"inside"])
            self.expect(c, ["EVALSHA", digest, "1", "c"], [b"c", b"inside"])

    def test_rights_are_those_at_exec(self):
        """AUTH inside the block: what the proxy runs behind it is allowed or not as to the new user."""
        server = Server().start()
        self.addCleanup(server.stop)
        server.ok("ACL", "SETUSER", "low", "on", ">pw", "+auth", "+get", "+echo", "~*")
        block = ["MULTI", "GET k", "CLIENT GETNAME", "AUTH low pw", "CLIENT GETNAME", "CLIENT LIST", "ECHO x", "PING",
                 "AUTH low wrong", "CLIENT LIST", "ROLE", "EXEC", "PING", "ECHO y"]
        with Proxy([], ["--server", server.addr, "--auth", "servers"]).start() as proxy:
            for protocol in (2, 3):
                with server.conn(protocol=protocol) as direct, proxy.conn(protocol=protocol) as c:
                    want, got = direct.pipeline(block), c.pipeline(block)
                    self.assertEqual(want, got)
                    self.assertTrue(got[11][4].startswith(b"NOPERM ACLs rules changed"), got)
                    self.assertEqual(b"x", got[11][5])

    def test_forgotten_before_a_long_answer(self):
        """Scripts that a block flushes are forgotten by all workers, however large the block's array is."""
        server, proxy = one_server()
        try:
            proxy.wait_routes()
            with proxy.conn() as c:
                digest = c.cmd("SCRIPT", "LOAD", "return 7")
                c.cmd("SETRANGE", "big", str(3 << 20), "x")
                self.assertEqual({7}, self.everywhere(proxy, digest))
                self.assertEqual(OK, c.pipeline(["MULTI", "SCRIPT FLUSH", "GET big", "EXEC"])[-1][0])
                missing = {Error(b"NOSCRIPT No matching script. Please use EVAL.")}
                # An EVALSHA at a worker that has not heard of it yet would bring the script back.
                time.sleep(grace(0.3))
                self.assertEqual(missing, self.everywhere(proxy, digest))
                got = c.pipeline(["MULTI", ["SCRIPT", "LOAD", "return 7"], "GET big", "EXEC"])[-1]
                self.assertEqual(digest, got[0])
                server.ok("SCRIPT", "FLUSH")
                self.eventually("all workers know it",
                                lambda: self.everywhere(proxy, digest) == {7})
        finally:
            proxy.stop()
            server.stop()

    @staticmethod
    def everywhere(proxy, digest):
        conns = [proxy.conn() for _ in range(4)]
        try:
            return {c.cmd("EVALSHA", digest, "0") for c in conns}
        finally:
            for c in conns:
                c.close()

    def test_long_scripts_wait_unsent(self):
        """Each block names a body of 512 KiB by 40 bytes: they must not be held a hundred times."""
        server, proxy = one_server()
        try:
            proxy.wait_routes()
            with proxy.conn() as c:
                digest = c.cmd("SCRIPT", "LOAD", "return 1 --" + "x" * (512 << 10))
                block = [["MULTI"], ["EVALSHA", digest, "0"], ["EXEC"]]
                self.assertEqual([1], c.pipeline(block)[-1])
                before = proxy.rss_mib()
                server.freeze()
                c.send(b"".join(encode(*x) for x in block) * 100)
                with proxy.conn() as other:  # what came before has been looked at
                    for _ in range(20):
                        self.expect(other, "PING", PONG)
                        time.sleep(0.01)
                held = proxy.rss_mib() - before
                server.thaw()
                self.assertEqual([[1]] * 100, [c.read() for _ in range(300)][2::3])
                self.assertLess(held, 40)
        finally:
            proxy.stop()
            server.stop()

    def test_publish(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as listener:
            listener.send(encode("SUBSCRIBE", "far", "near"))
            for n in (1, 2):
                listener.read()
            got = c.pipeline(["MULTI", "SET {p}k 1", "PUBLISH far one", "PUBLISH near two",
                              "GET {p}k", "EXEC"])
            self.assertEqual([OK, b"1"], [got[-1][0], got[-1][3]])
            self.assertTrue(all(isinstance(n, int) for n in got[-1][1:3]), got)
            self.assertEqual({b"one", b"two"}, {listener.read()[2] for _ in range(2)})
            got = c.pipeline(["MULTI", "PUBLISH far alone", "EXEC"])
            self.assertIsInstance(got[-1][0], int)
            self.assertEqual(b"alone", listener.read()[2])

    def test_spublish_has_a_slot(self):
        with setup.proxy.conn() as c:
            got = c.pipeline(["MULTI", "SET {p}k 1", "SPUBLISH {p}c x", "EXEC"])
            self.assertEqual([OK, 0], got[-1])
            self.expect(c, "MULTI", OK)
            self.expect(c, "SET {p}k 1", QUEUED)
            self.expect_error(c, "SPUBLISH {q}c x",
                              "CROSSSLOT Keys in request don't hash to the same slot")
            self.expect_error(c, "EXEC", ABORTED)

    def test_what_the_proxy_says_of_itself(self):
        with setup.proxy.conn() as c:
            for line in ["ROLE", "CLUSTER KEYSLOT a", "CLUSTER MYID", "CLIENT ID", "ACL WHOAMI",
                         "CLIENT TRACKINGINFO", "SENTINEL CKQUORUM mymaster", "CLUSTER INFO", "READONLY"]:
                with self.subTest(line):
                    alone = c.cmd(*line.split())
                    self.assertEqual([alone, OK], c.pipeline(["MULTI", line, "SET k 1", "EXEC"])[-1])
                    self.assertEqual([alone], c.pipeline(["MULTI", line, "EXEC"])[-1])


if __name__ == "__main__":
    unittest.main()
