"""A plain server behind the proxy: what a client sees is what it would see without it."""
import os
import time
import unittest

from harness.case import Case, Load
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK
from harness.servers import Server, free_port, scratch, wait_until

server = oracle = proxy = None


def setUpModule():
    global server, oracle, proxy
    if STANDIN:
        raise unittest.SkipTest("is about how the proxy reaches a server")
    oracle = Server().start()
    server = Server().start()
    proxy = Proxy([], ["--server", server.addr]).start().wait_routes()


def tearDownModule():
    for part in (proxy, server, oracle):
        if part:
            part.stop()


class Plain(Case):
    def setUp(self):
        for s in (server, oracle):
            s.ok("FLUSHALL")

    def same(self, lines, **kw):
        with proxy.conn(**kw) as p, oracle.conn(**kw) as o:
            for line in lines:
                self.matches_oracle(p, o, line)

    def test_nothing_is_split_or_checked_for_slots(self):
        lines = ["MSET a 1 b 2 c 3", "MGET a b c nil", "MSETNX a 1 z 2", "MSETNX y 1 z 2",
                 "DEL a z", "EXISTS a b c", "SADD s1 a b", "SADD s2 b c", "SUNIONSTORE s3 s1 s2",
                 "SINTERCARD 2 s1 s2", "RENAME b bb", "COPY bb cc", "LMOVE s1 no LEFT LEFT",
                 "DBSIZE", "RANDOMKEY extra", "EVAL return{KEYS[1],KEYS[2]} 2 one two",
                 "SORT s3 ALPHA STORE sorted", "LRANGE sorted 0 -1", "PFCOUNT x y",
                 "BITOP OR d bb cc", "ZUNIONSTORE zz 2 s1 s2", "FLUSHDB", "DBSIZE", "KEYS *"]
        self.same(lines)

    def test_a_split_command_leaves_whole(self):
        before = server.command_calls("mget")
        with proxy.conn() as c:
            c.cmd("MGET", *["k%d" % i for i in range(100)])
        self.assertEqual(before + 1, server.command_calls("mget"))

    def test_commands_that_a_cluster_has_no_meaning_for(self):
        self.same(["SET k v", "MOVE k 3", "EXISTS k", "SWAPDB 0 3", "GET k", "MOVE k 99",
                   "SWAPDB 0 99", "COPY k k DB 2", "ROLE extra", "FUNCTION LIST", "SLOWLOG HELP",
                   "FUNCTION FLUSH", "MEMORY USAGE nothing", "LATENCY RESET"])

    def test_debug_populate(self):
        """Only here: several servers would have the same keys."""
        local = Server(args=("--enable-debug-command", "local")).start()
        self.addCleanup(local.stop)
        with Proxy([], ["--server", local.addr], config="admin_commands: true\n").start().wait_routes() as p, \
                p.conn() as c:
            self.expect(c, "SELECT 3", OK)
            self.expect(c, "DEBUG POPULATE 100 some 10", OK)
            self.assertEqual([100, 1], c.pipeline(["DBSIZE", "EXISTS some:99"]))

    def test_scripts_are_remembered_and_forgotten(self):
        """By all workers: what SCRIPT FLUSH took from the server is not repaired."""
        sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"  # of "return 1"
        for line in (["SCRIPT", "LOAD", "return 1"], ["EVAL", "return 1", "0"]):
            conns = [proxy.conn() for _ in range(4)]
            self.same([line, "EVALSHA %s 0" % sha])
            if line[0] == "SCRIPT":
                server.ok("SCRIPT", "FLUSH")
                for c in conns:
                    self.expect(c, ["EVALSHA", sha, "0"], 1)
            self.same(["SCRIPT FLUSH", "EVALSHA %s 0" % sha, "SCRIPT EXISTS " + sha])
            for c in conns:
                self.expect_error(c, ["EVALSHA", sha, "0"],
                                  "NOSCRIPT No matching script. Please use EVAL.")
                c.close()

    def test_scan_is_the_servers_own(self):
        keys = {b"key:%d" % i for i in range(500)}
        with proxy.conn() as c:
            c.pipeline([("SET", k, "v") for k in keys])
            cursor, got = b"0", set()
            while True:
                cursor, part = c.cmd("SCAN", cursor, "COUNT", "50")
                got.update(part)
                if cursor == b"0":
                    break
            self.assertEqual(keys, got)


class Databases(Case):
    def setUp(self):
        for s in (server, oracle):
            s.ok("FLUSHALL")

    def test_select(self):
        lines = ["SET k zero", "SELECT 3", "GET k", "SET k three", "SELECT 0", "GET k", "SELECT 3",
                 "GET k", "DBSIZE", "KEYS *", "FLUSHDB", "SELECT 0", "GET k", "SELECT 15",
                 "SELECT 16", "SELECT 99999999", "SELECT -1", "SELECT x", "SELECT 99999999999",
                 "SELECT", "SELECT 1 2", "SET still 15", "SELECT 0", "EXISTS still", "SELECT 15",
                 "GET still", "MGET still a b", "RESET", "GET k"]
        with proxy.conn() as p, oracle.conn() as o:
            for line in lines:
                self.matches_oracle(p, o, line)

    def test_hello_keeps_the_database(self):
        with proxy.conn() as c:
            self.expect(c, "SELECT 5", OK)
            self.expect(c, "SET here 5", OK)
            c.cmd("HELLO", "3")
            self.expect(c, "GET here", b"5")
            self.assertIn(b" db=5 ", c.cmd("CLIENT", "INFO"))
            c.cmd("HELLO", "2")
            self.expect(c, "GET here", b"5")
            self.expect(c, "RESET", c.cmd("RESET"))
            self.expect(c, "GET here", None)

    def test_in_one_pipeline(self):
        """What comes behind SELECT goes to the other database, what is before it does not."""
        with proxy.conn() as c:
            lines, want = [], []
            for db in range(1, 9):
                lines += [("SET", "before", db), ("SELECT", db), ("SET", "k", db), ("GET", "k")]
                want += [OK, OK, OK, b"%d" % db]
            self.assertEqual(want, c.pipeline(lines))
        for db in range(1, 9):
            with server.conn() as c:
                c.cmd("SELECT", db)
                self.expect(c, "GET k", b"%d" % db)
                self.expect(c, "GET before", b"%d" % (db + 1) if db < 8 else None)

    def test_others_are_not_moved(self):
        with proxy.conn() as a, proxy.conn() as b:
            self.expect(a, "SET k 0", OK)
            self.expect(b, "SELECT 7", OK)
            self.expect(b, "GET k", None)
            self.expect(a, "GET k", b"0")

    def test_config_forbidden(self):
        """The number of databases cannot be read: a server is still asked."""
        user = Server(args=["--rename-command", "CONFIG", ""]).start()
        try:
            with Proxy([], ["--server", user.addr]).wait_start() as p, p.conn() as c:
                self.expect(c, "SELECT 2", OK)
                self.expect(c, "SET k 2", OK)
                self.expect_error(c, "SELECT 16", "ERR DB index is out of range")
                self.expect(c, "GET k", b"2")
            with user.conn() as c:
                c.cmd("SELECT", "2")
                self.expect(c, "GET k", b"2")
        finally:
            user.stop()


class Reach(Case):
    def test_unix_sockets_on_both_sides(self):
        path = os.path.join(scratch("sock"), "redis.sock")
        own = Server(args=["--unixsocket", path]).start()
        try:
            with Proxy([], ["--server", path]).wait_start() as p, p.conn() as c:
                self.expect(c, "SET k v", OK)
                self.expect(own.conn(), "GET k", b"v")
        finally:
            own.stop()

    def test_from_a_file(self):
        text = "upstreams: {main: {server: 'localhost:%d'}}\n" % server.port
        with Proxy([], config=text).wait_start() as p, p.conn() as c:
            self.expect(c, "PING", c.cmd("PING"))
            self.expect(c, "MSET a 1 b 2", OK)
            self.expect(c, "MGET a b", [b"1", b"2"])

    def test_server_starts_late(self):
        late = Server(free_port())
        with Proxy([], ["--server", late.addr]).start() as p, p.conn(timeout=grace(20)) as c:
            c.send(b"SET k v\r\n")
            time.sleep(0.3)
            late.start()
            try:
                self.assertEqual(OK, c.read())
            finally:
                late.stop()

    def test_restart_under_load(self):
        """Requests wait for the server; only what was on its way when it died may fail."""
        own = Server(args=["--appendonly", "yes", "--appendfsync", "always"]).start()
        try:
            with Proxy([], ["--server", own.addr]).wait_start() as p:
                with Load(p.port, clients=3, tag="plain") as load:
                    time.sleep(0.3)
                    own.restart()
                    done = load.done
                    wait_until("requests go on", lambda: load.done > done + 200, grace(10))
                for _, sent, reply in load.errors:
                    self.assertTrue(reply.startswith("UNKNOWN"), (sent, reply))
                # A read sent again sees what an unanswered write behind it has done: only what was
                # under way at the kill may look so.
                self.assertLessEqual(len(load.wrong), 3 * 12, load.wrong[:5])
                with p.conn() as c:
                    load.check_counters(self, c)
        finally:
            own.stop()

    def test_refused_combinations(self):
        for args in (["--server", "h:1", "--sentinel", "m@h:1"], ["--server", "h"],
                     ["--server", "h:1", "h:2"]):
            p = Proxy([], args, check=False).start(wait=False)
            self.assertEqual(2, p.wait_exit(), args)
