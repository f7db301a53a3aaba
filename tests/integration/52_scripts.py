"""Scripts that a server has lost: NOSCRIPT is repaired where the body is known, once, in order."""
import hashlib
import unittest

from harness.case import Case, Setup
from harness.proxy import SANITIZER, STANDIN, Proxy
from harness.resp import OK, Error, encode
from harness.servers import Server, tag_of_slot

setup = Setup()
NOSCRIPT = "NOSCRIPT No matching script. Please use EVAL."


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("about several servers")
    setup.start(oracle=False)


def tearDownModule():
    setup.stop()


def sha(body):
    return hashlib.sha1(body.encode() if isinstance(body, str) else body).hexdigest()


def servers_forget():
    for m in setup.cluster.masters():
        m.ok("SCRIPT", "FLUSH")


def repaired(conn):
    for line in conn.cmd("INFO", "keyway").decode().splitlines():
        if line.startswith("keyway_scripts_repaired:"):
            return int(line.split(":")[1])
    raise AssertionError("no keyway_scripts_repaired")


class Repair(Case):
    INCR = "return redis.call('incr', KEYS[1])"

    def setUp(self):
        setup.cluster.flush()
        with setup.proxy.conn() as c:
            self.expect(c, "SCRIPT FLUSH", OK)

    def test_a_body_seen_in_script_load(self):
        """Loaded by one client, run by clients of all workers on servers that have lost it."""
        with setup.proxy.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", self.INCR], sha(self.INCR).encode())
            conns = [setup.proxy.conn() for _ in range(6)]
            before = repaired(c)
            for i, conn in enumerate(conns):
                servers_forget()
                for key in ("a", "b", "c"):
                    self.expect(conn, ["EVALSHA", sha(self.INCR), "1", key], i + 1)
                conn.close()
            self.assertEqual(18, repaired(c) - before)

    def test_a_body_seen_in_eval(self):
        with setup.proxy.conn() as c:
            self.expect(c, ["EVAL", self.INCR, "1", "a"], 1)
            for digest in (sha(self.INCR), sha(self.INCR).upper()):
                servers_forget()
                self.expect(c, ["EVALSHA", digest, "1", "a"], 2 if digest.islower() else 3)
            before = repaired(c)
            self.expect(c, ["EVALSHA", sha(self.INCR), "1", "a"], 4)
            self.assertEqual(before, repaired(c), "the server has learnt it from the repair")

    def test_read_only_and_without_keys(self):
        with setup.proxy.conn() as c:
            body = "return {KEYS[1] or 'none', ARGV[1], #ARGV}"
            self.expect(c, ["SCRIPT", "LOAD", body], sha(body).encode())
            for argv, want in [(["EVALSHA_RO", sha(body), "1", "k", "x\r\n\0y"],
                                [b"k", b"x\r\n\0y", 1]),
                               (["EVALSHA", sha(body), "0", "v"], [b"none", b"v", 1]),
                               (["evalsha_ro", sha(body), "0", "", "w"], [b"none", b"", 2])]:
                servers_forget()
                self.expect(c, argv, want)

    def test_inline_and_large(self):
        with setup.proxy.conn() as c:
            self.expect(c, ["EVAL", self.INCR, "1", "a"], 1)
            servers_forget()
            c.send(b"evalsha  %s 1   a\r\n" % sha(self.INCR).encode())
            self.assertEqual(2, c.read())
            body = "-- %s\nreturn #ARGV[1]" % ("x" * 100000)
            self.expect(c, ["SCRIPT", "LOAD", body], sha(body).encode())
            for size in (10, 70000, 300000):
                servers_forget()
                self.expect(c, ["EVALSHA", sha(body), "1", "a", "y" * size], size)

    def test_unknown_ones_stay_unknown(self):
        with setup.proxy.conn() as c:
            for argv in (["EVALSHA", "f" * 40, "1", "a"], ["EVALSHA", "x", "0"],
                         ["EVALSHA_RO", "0" * 40, "0"]):
                self.expect_error(c, argv, NOSCRIPT)
            self.expect(c, ["EVAL", self.INCR, "1", "a"], 1)
            self.expect(c, "SCRIPT FLUSH", OK)
            for _ in range(6):  # whatever worker
                with setup.proxy.conn() as other:
                    self.expect_error(other, ["EVALSHA", sha(self.INCR), "1", "a"], NOSCRIPT)

    def test_a_scripts_own_error_is_the_answer(self):
        """EVAL whose script returns the server's words has run: it must not run again."""
        body = "redis.call('incr', KEYS[1]) return redis.error_reply('%s')" % NOSCRIPT
        with setup.proxy.conn() as c:
            self.expect_error(c, ["EVAL", body, "1", "own"], NOSCRIPT)
            self.expect(c, "GET own", b"1")

    def test_order_in_a_pipeline(self):
        """All of a pipeline meets NOSCRIPT: it runs in order, each once."""
        push = "return redis.call('rpush', KEYS[1], ARGV[1])"
        with setup.proxy.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", push], sha(push).encode())
            for round_ in range(10):
                servers_forget()
                key = "list:%d" % round_
                replies = c.pipeline([("EVALSHA", sha(push), "1", key, str(i))
                                      for i in range(50)])
                self.assertEqual(list(range(1, 51)), replies)
                self.expect(c, ["LRANGE", key, "0", "-1"], [b"%d" % i for i in range(50)])

    def test_a_later_command_on_the_key_is_not_overtaken(self):
        """SET behind an EVALSHA that met NOSCRIPT has run: then the client gets the NOSCRIPT."""
        with setup.proxy.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", self.INCR], sha(self.INCR).encode())
            servers_forget()
            replies = c.pipeline([("EVALSHA", sha(self.INCR), "1", "k"), ("SET", "k", "10"),
                                  ("GET", "k")])
            self.assertEqual([OK, b"10"], replies[1:])
            self.assertIsInstance(replies[0], Error)
            self.assertEqual(NOSCRIPT.encode(), bytes(replies[0]))
            servers_forget()
            replies = c.pipeline([("EVALSHA", sha(self.INCR), "1", "k"), ("SET", "other", "1"),
                                  ("EVALSHA", sha(self.INCR), "1", "k")])
            self.assertEqual([11, OK, 12], replies)

    def test_a_client_that_leaves(self):
        with setup.proxy.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", self.INCR], sha(self.INCR).encode())
            for _ in range(20):
                servers_forget()
                with setup.proxy.conn() as other:
                    other.send(b"".join(encode("EVALSHA", sha(self.INCR), "1", "gone")
                                        for _ in range(20)))
            self.not_error(c.cmd("EVALSHA", sha(self.INCR), "1", "gone"), "EVALSHA")


class NotTaken(Case):
    """Bodies that no server has taken are as unknown as to a server."""
    BAD = "this does not compile"
    GOOD = "return {KEYS[1], 'new'}"

    def setUp(self):
        with setup.proxy.conn() as c:
            self.expect(c, "SCRIPT FLUSH", OK)

    def expect_unknown(self, body, first=None):
        """For its sender, and for clients of all workers."""
        conns = [setup.proxy.conn() for _ in range(4)]
        for c in [first or conns[0]] + conns:
            for key in ("a", "b", "c"):
                self.expect_error(c, ["EVALSHA", sha(body), "1", key], NOSCRIPT)
        for c in conns:
            c.close()

    def test_what_does_not_compile(self):
        with setup.proxy.conn() as c:
            for line in (["EVAL", self.BAD, "1", "a"], ["EVAL", self.BAD, "0"],
                         ["EVAL_RO", self.BAD, "1", "a"], ["SCRIPT", "LOAD", self.BAD]):
                self.expect_error(c, line, "ERR Error compiling script...")
                self.expect_unknown(self.BAD, c)
            got = c.pipeline(["MULTI", ["EVAL", self.BAD, "1", "a"], "EXEC"])
            self.assertIsInstance(got[-1][0], Error)
            self.expect_unknown(self.BAD, c)

    def test_what_did_not_get_as_far(self):
        with setup.proxy.conn() as c:
            self.expect_error(c, ["EVAL", self.GOOD, "5", "a"], "ERR Number of keys...")
            self.expect_error(c, ["EVAL", self.GOOD, "x", "a"], "ERR value is not an integer...")
            self.expect_error(c, ["EVAL", self.GOOD, "2", "a", "b"], "CROSSSLOT ...")
            self.expect_unknown(self.GOOD, c)
            self.expect(c, "MULTI", OK)
            c.cmd("EVAL", self.GOOD, "1", "a")
            self.expect(c, "DISCARD", OK)
            self.expect_unknown(self.GOOD, c)

    def test_what_the_user_may_not_run(self):
        for m in setup.cluster.masters():
            m.ok("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-eval", "-eval_ro")
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            self.expect(c, "AUTH weak pw", OK)
            self.expect_error(c, ["EVAL", self.GOOD, "1", "a"], "NOPERM ...")
            self.expect_unknown(self.GOOD, c)
            self.expect(other, ["EVAL", self.GOOD, "1", "a"], [b"a", b"new"])
        for m in setup.cluster.masters():
            m.cmd("ACL", "DELUSER", "weak")

    def test_one_that_fails_is_known(self):
        body = "return redis.call('nosuch', KEYS[1])"
        with setup.proxy.conn() as c:
            self.assertIsInstance(c.cmd("EVAL", body, "1", "a"), Error)
            for key in ("a", "b", "c"):
                got = c.cmd("EVALSHA", sha(body), "1", key)
                self.assertIsInstance(got, Error)
                self.assertNotIn(b"NOSCRIPT", got)

    def test_in_a_transaction_that_runs(self):
        with setup.proxy.conn() as c:
            got = c.pipeline(["MULTI", ["EVAL", self.GOOD, "1", "{x}a"], "PING", "INCR {x}n", "EXEC"])
            self.assertEqual([b"{x}a", b"new"], got[-1][0])
            for key in ("a", "b", "c"):
                self.expect(c, ["EVALSHA", sha(self.GOOD), "1", key], [key.encode(), b"new"])

    def test_in_a_pipeline(self):
        """Before its EVAL is answered a body is there for its own client."""
        evals = [["EVALSHA", sha(self.GOOD), "1", k] for k in ("a", "b", "c", "d")]
        with setup.proxy.conn() as c:
            got = c.pipeline([["EVAL", self.GOOD, "1", "b"]] + evals)
            self.assertEqual([[k, b"new"] for k in (b"b", b"a", b"b", b"c", b"d")], got)
            got = c.pipeline([["SCRIPT", "FLUSH"]] + evals)
            self.assertEqual([OK] + [Error(NOSCRIPT.encode())] * 4, got)
            for brings in (["EVAL", self.GOOD, "1", "b"], ["SCRIPT", "LOAD", self.GOOD]):
                got = c.pipeline([brings, ["SCRIPT", "FLUSH"]] + evals)
                self.assertEqual([OK] + [Error(NOSCRIPT.encode())] * 4, got[1:])

    def test_brought_behind_it(self):
        """An EVALSHA before the EVAL that brings its body is not put off until it is there."""
        incr = "return redis.call('INCR', KEYS[1])"
        oracle = Server().start()
        self.addCleanup(oracle.stop)
        with setup.proxy.conn() as c, oracle.conn() as o:
            for i in range(20):
                body = incr + " --%d" % i
                for conn in (c, o):
                    conn.cmd("DEL", "{x}a", "{x}b", "{x}c")
                lines = [["EVALSHA", sha(body), "1", "{x}a"], ["EVALSHA", sha(body), "1", "{x}c"],
                         ["EVAL", incr, "1", "{x}a"], ["EVAL", body, "1", "{x}b"],
                         ["EVALSHA", sha(body), "1", "{x}a"], ["EVAL", body, "1", "{x}a"]]
                self.assertEqual(o.pipeline(lines), c.pipeline(lines))

    def test_a_long_answer(self):
        body = "return string.rep('x', 3000000)"
        with setup.proxy.conn() as c:
            for line in (["EVAL", body, "1", "a"], ["EVALSHA", sha(body), "1", "b"],
                         ["EVALSHA", sha(body), "1", "c"]):
                self.assertEqual(3000000, len(c.cmd(*line)))


class Moving(Case):
    def test_through_a_migration(self):
        """ASK and NOSCRIPT on the way: the importing node has never seen the script."""
        body = Repair.INCR
        slot = 7
        tag = tag_of_slot(slot)
        tag = tag.decode() if isinstance(tag, bytes) else tag
        key = "{%s}:moving" % tag
        with setup.proxy.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", body], sha(body).encode())
            source, target = [m for m in setup.cluster.masters()][:2]
            for m in setup.cluster.masters():
                for line in m.cmd("CLUSTER", "NODES").decode().splitlines():
                    if "myself" in line and any(
                            p.split("-")[0].isdigit() and int(p.split("-")[0]) <= slot <=
                            int(p.split("-")[-1]) for p in line.split()[8:]):
                        source = m
            target = [m for m in setup.cluster.masters() if m.port != source.port][0]
            ids = {m.port: m.cmd("CLUSTER", "MYID").decode() for m in (source, target)}
            target.ok("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
            source.ok("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
            try:
                for i in range(1, 6):
                    servers_forget()
                    self.expect(c, ["EVALSHA", sha(body), "1", key], i)
            finally:
                target.cmd("DEL", key)
                with setup.proxy.conn() as other:
                    other.cmd("DEL", key)
                source.ok("CLUSTER", "SETSLOT", slot, "STABLE")
                target.ok("CLUSTER", "SETSLOT", slot, "STABLE")


class Bound(Case):
    def test_off(self):
        with Proxy(setup.cluster.seeds(3), config="scripts_max_bytes: 0\n").wait_start() as p, \
                p.conn() as c:
            self.expect(c, ["SCRIPT", "LOAD", Repair.INCR], sha(Repair.INCR).encode())
            servers_forget()
            self.expect_error(c, ["EVALSHA", sha(Repair.INCR), "1", "a"], NOSCRIPT)

    def test_memory_of_many_scripts(self):
        with Proxy(setup.cluster.seeds(3), config="scripts_max_bytes: 1MiB\n",
                   workers=1).wait_start() as p, p.conn() as c:
            pad = "-" * 10000
            c.pipeline([("EVAL", "--%s\nreturn %d" % (pad, i), "0") for i in range(200)])
            before = p.rss_mib()
            for start in range(200, 3000, 200):
                c.pipeline([("EVAL", "--%s\nreturn %d" % (pad, i), "0")
                            for i in range(start, start + 200)])
            # A sanitizer keeps what is freed for a while.
            self.assertLess(p.rss_mib() - before, 300 if SANITIZER else 15)
            servers_forget()
            self.expect(c, ["EVALSHA", sha("--%s\nreturn 2999" % pad), "0"], 2999)
            self.expect_error(c, ["EVALSHA", sha("--%s\nreturn 1" % pad), "0"], NOSCRIPT)
