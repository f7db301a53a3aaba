"""Valkey in the servers' place: the command table against it, and a selection of what must hold in
front of any server. With KEYWAY_TEST_SERVER=valkey-server other files run against it by hand."""
import hashlib
import os
import shutil
import unittest

import command_table
from harness import servers
from harness.case import Case, Load, Setup
from harness.module import module
from harness.proxy import BINARY, STANDIN, Proxy, grace
from harness.resp import OK, Map, encode
from harness.servers import SLOTS, key_slot, tag_of_slot, wait_until

PROGRAM = "valkey-server"
setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("is about the servers behind the proxy")
    if shutil.which(PROGRAM) is None:
        raise unittest.SkipTest("%s is not installed (Debian 12 has it in bookworm-backports)" %
                                PROGRAM)
    command_table.options.dump = os.path.join(os.path.dirname(BINARY), "tests",
                                              "dump_command_table")
    command_table.options.server = servers.PROGRAM = PROGRAM
    setup.start(cluster_args=["--loadmodule", module()])


def tearDownModule():
    setup.stop()


class Facts(command_table.Facts):
    pass


class Keys(command_table.Keys):
    pass


class Routing(command_table.Routing):
    pass


class Behind(Case):
    """A cluster of Valkey behind the proxy, compared with one Valkey."""

    def setUp(self):
        for server in setup.cluster.masters() + [setup.oracle]:
            server.ok("FLUSHALL")

    def test_it_is_valkey(self):
        with setup.proxy.conn() as c:
            self.assertIn(b"\r\nvalkey_version:", c.cmd("INFO", "server"))

    def test_as_one_server_answers(self):
        lines = ["SET {k}a 1", "SET b 2 EX 100", "GET {k}a", "APPEND {k}a x", "INCR n",
                 "MSET a 1 b 2 c 3", "MGET a b c nothing", "EXISTS a b c a nothing",
                 "DEL a nothing b", "TOUCH c", "UNLINK c", "LPUSH l 1 2 3", "LRANGE l 0 -1",
                 "LMPOP 1 l LEFT", "GET l", "INCR l", "HSET h f v g w", "HGETALL h",
                 "HRANDFIELD h 0", "ZADD z 1 a 2.5 b", "ZRANGE z 0 -1 WITHSCORES",
                 "ZRANK z b WITHSCORE", "ZMPOP 1 z MIN", "XADD x 1-1 f v",
                 "XREAD COUNT 1 STREAMS x 0", "XINFO STREAM x", "SINTERCARD 1 l", "SET only",
                 "GET", "NOSUCH a b", "OBJECT ENCODING n", "EVAL return{KEYS[1],ARGV[1]} 1 k a",
                 "SORT nothing", "GEOADD g 1 2 m", "TYPE g", "BITCOUNT n", "EXPIRE n 100 NX",
                 "EXPIRE n 100 NX", "SETRANGE n 1 x", "PING", "ECHO x", "SELECT 0",
                 "COMMAND GETKEYS MSET a 1 b 2"]
        for protocol in (2, 3):
            self.setUp()
            with setup.proxy.conn(protocol=protocol) as p, \
                    setup.oracle.conn(protocol=protocol) as o:
                for line in lines:
                    self.matches_oracle(p, o, line)

    def test_whole_cluster(self):
        keys = {b"key:%d" % i for i in range(500)}
        with setup.proxy.conn() as c:
            c.pipeline([("SET", k, "v") for k in keys])
            self.expect(c, "DBSIZE", 500)
            self.assertEqual(keys, set(c.cmd("KEYS", "*")))
            cursor, got = b"0", set()
            while True:
                cursor, part = c.cmd("SCAN", cursor, "COUNT", "100")
                got.update(part)
                if cursor == b"0":
                    break
            self.assertEqual(keys, got)
            self.expect(c, "FLUSHALL", OK)
            self.expect(c, "DBSIZE", 0)

    def test_a_script_that_servers_have_lost(self):
        """Valkey words NOSCRIPT in another way."""
        body = "return redis.call('INCR', KEYS[1])"
        digest = hashlib.sha1(body.encode()).hexdigest()
        tags = [tag_of_slot(s) for s in (0, SLOTS // 2, SLOTS - 1)]
        with setup.proxy.conn() as c:
            self.expect(c, ["EVAL", body, "1", "first"], 1)
            for m in setup.cluster.masters():
                m.ok("SCRIPT", "FLUSH")
            for tag in tags:
                self.expect(c, ["EVALSHA", digest, "1", "{%s}n" % tag], 1)
            self.expect_error(c, "EVALSHA %s 0" % ("f" * 40), "NOSCRIPT No matching script.")

    def test_script_show(self):
        """An EVAL leaves its body at one master only: whichever has it tells."""
        body = "return redis.call('GET', KEYS[1])"
        digest = hashlib.sha1(body.encode()).hexdigest()
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for slot in (0, SLOTS // 2, SLOTS - 1):
                self.expect(c, "SCRIPT FLUSH", OK)
                self.expect_error(c, "SCRIPT SHOW " + digest, "NOSCRIPT No matching script.")
                self.expect(c, ["EVAL", body, "1", "{%s}none" % tag_of_slot(slot)], None)
                self.expect(c, "SCRIPT SHOW " + digest, body.encode())
            for line in ("SCRIPT SHOW", "SCRIPT SHOW short", "SCRIPT SHOW %s x" % digest):
                self.matches_oracle(c, o, line)

    def test_hello_says_so(self):
        """A library that looks who it talks to finds what it would find without the proxy."""
        fields = [b"server", b"version", b"proto", b"mode", b"role"]
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as p, \
                    setup.oracle.conn(protocol=protocol) as o:
                said = [c.cmd("HELLO") for c in (p, o)]
                if protocol == 2:
                    said = [list(zip(x[::2], x[1::2])) for x in said]
                got, want = map(dict, said)
                self.assertEqual([want[f] for f in fields], [got[f] for f in fields])

    def test_client_no_touch_and_capa(self):
        lines = ["CLIENT NO-TOUCH", "CLIENT NO-TOUCH x", "CLIENT NO-TOUCH ON", "CLIENT NO-TOUCH off",
                 "CLIENT NO-TOUCH off x", "CLIENT CAPA", "CLIENT CAPA redirect", "CLIENT CAPA x y"]
        with setup.proxy.conn() as p, setup.oracle.conn() as o, setup.proxy.conn() as other:
            for line in lines:
                self.matches_oracle(p, o, line)
            self.expect(p, "SET {idle}k v", OK)
            idle = lambda: other.cmd("OBJECT", "IDLETIME", "{idle}k")
            wait_until("the key is idle", lambda: idle() >= 2, grace(5))
            got = p.pipeline(["CLIENT NO-TOUCH ON", "GET {idle}k", "HELLO 3", "GET {idle}k", "MULTI",
                              "GET {idle}k", "EXEC"])
            self.assertEqual([b"v", b"v", [b"v"]], [got[1], got[3], got[6]])
            self.assertIn(b" flags=T ", p.cmd("CLIENT", "INFO"))
            self.assertGreaterEqual(idle(), 2)
            for line in ("CLIENT NO-TOUCH OFF", "RESET"):
                p.pipeline(["CLIENT NO-TOUCH ON", line])
                self.assertIn(b" flags=N ", p.cmd("CLIENT", "INFO"))
            self.expect(p, "GET {idle}k", b"v")
            self.assertLess(idle(), 2)

    def test_in_front_of_one(self):
        digest = hashlib.sha1(b"return 7").hexdigest()
        with Proxy([], ["--server", setup.oracle.addr]).start() as proxy, proxy.conn() as p, \
                setup.oracle.conn() as o:
            self.expect(p, ["SCRIPT", "LOAD", "return 7"], digest.encode())
            self.matches_oracle(p, o, "SCRIPT SHOW %s" % digest)
            self.matches_oracle(p, o, "SCRIPT SHOW %s" % ("f" * 40))

    def test_not_inside_multi(self):
        """Where Redis goes on with the transaction, Valkey ends it."""
        dialogues = [
            ["MULTI", "MULTI", "SET {k}a 1", "EXEC", "GET {k}a"],
            ["MULTI", "SET {k}a 2", "WATCH {k}a", "EXEC", "GET {k}a"],
            ["WATCH {k}a", "MULTI", "WATCH {k}b", "SET {k}a 3", "EXEC", "MULTI", "GET {k}a", "EXEC"],
            ["MULTI", "MULTI", "DISCARD", "EXEC"], ["MULTI", "MULTI x", "EXEC"],
            ["MULTI", "WATCH", "EXEC"], ["MULTI", "WATCH {k}a", "MULTI", "RESET", "EXEC"],
            ["MULTI", "SAVE", "EXEC"]]
        with Proxy([], ["--server", setup.oracle.addr], workers=1).start().wait_routes() as one:
            for proxy in (setup.proxy, one):
                for lines in dialogues:
                    self.setUp()
                    with proxy.conn() as p, setup.oracle.conn() as o:
                        for line in lines:
                            self.matches_oracle(p, o, line)

    def test_learnt_commands(self):
        with setup.proxy.conn() as c:
            for slot in (1, SLOTS // 2, SLOTS - 2):
                key = "{%s}m" % tag_of_slot(slot)
                self.expect(c, "kw.put %s v" % key, OK)
                self.expect(c, "kw.from by FROM %s" % key, [key.encode()])
                self.expect(c, "kw.count %s 1 %s" % (key, key), [key.encode()])
            self.expect_error(c, "kw.channel", "ERR KEYWAY 'kw.channel' cannot be used: ...")
            self.expect(c, "kw.take {x}nothing 20", None)
            with setup.proxy.conn() as other:
                c.send(encode("kw.take", "{x}waited", 0))
                wait_until("it waits", lambda: any(
                    m.info("clients")["blocked_clients"] == "1" for m in setup.cluster.masters()),
                    grace(10))
                self.expect(other, "RPUSH {x}waited v", 1)
                self.assertEqual(b"{x}waited", c.read())

    def test_publish_and_subscribe(self):
        with setup.proxy.conn() as a, setup.proxy.conn(protocol=3) as b, setup.proxy.conn() as p:
            for c in (a, b):
                c.send(b"SUBSCRIBE ch\r\n")
                self.assertEqual([b"subscribe", b"ch", 1], list(c.read()))
            self.expect(p, "PUBLISH ch hello", 2)
            for c in (a, b):
                self.assertEqual([b"message", b"ch", b"hello"], list(c.read()))

    def test_hello_and_names(self):
        with setup.proxy.conn() as c:
            self.assertIsInstance(c.cmd("HELLO", "3", "SETNAME", "me"), Map)
            self.expect(c, "CLIENT GETNAME", b"me")
            self.expect(c, "CLIENT SETINFO LIB-NAME lib", OK)
            self.assertIn(b"lib-name=lib", c.cmd("CLIENT", "LIST"))


class Moves(Case):
    """Under load no client sees an error."""

    def quiet(self, tag, what):
        with Load(setup.proxy.port, clients=3, tag=tag) as load:
            wait_until("load runs", lambda: load.done > 100, grace(10))
            what()
            done = load.done
            wait_until("load goes on", lambda: load.done > done + 200, grace(10))
        self.assertEqual([], load.errors[:5])
        self.assertEqual([], load.wrong[:5])
        with setup.proxy.conn() as c:
            load.check_counters(self, c)

    def test_1_slots_move(self):
        source = setup.cluster.owner(key_slot("x"))
        target = next(m for m in setup.cluster.masters() if m is not source)
        begin = next(v["slots"] for v in setup.cluster.view(source) if "myself" in v["flags"])[0][0]
        slots = range(begin, begin + 50)
        self.quiet("moves", lambda: setup.cluster.move_slots(slots, source, target))

    def test_2_planned_failover(self):
        master = setup.cluster.masters()[0]
        replica = setup.cluster.replica_of(master)
        self.quiet("fails", lambda: setup.cluster.failover(replica))


if __name__ == "__main__":
    unittest.main()
