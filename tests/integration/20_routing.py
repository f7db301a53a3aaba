"""Every command goes to the node that owns its key and its answer comes back untouched."""
import unittest

from harness import key_commands
from harness.case import Case, Setup
from harness.proxy import STANDIN
from harness.resp import OK, Double, Error, Map, Null, Set, Simple, encode
from harness.servers import SLOTS, key_slot, tag_of_slot

setup = Setup()
FUNCTION = ("#!lua name=kw\nredis.register_function{function_name='kw_get', callback="
            "function(keys, args) return redis.call('get', keys[1]) end, flags={'no-writes'}}")


def setUpModule():
    setup.start()
    for node in (setup.cluster.masters() if setup.cluster else [setup.proxy.standin]):
        node.ok("FUNCTION", "LOAD", FUNCTION)
    setup.oracle.ok("FUNCTION", "LOAD", FUNCTION)


def tearDownModule():
    setup.stop()


def kind(value):
    return type(value).__name__


def folded(mark, value):
    if mark == "~" and isinstance(value, list):
        return (kind(value), sorted(repr(folded(mark, v)) for v in value))
    if mark == "?":
        return kind(value)
    return repr(value)


class Commands(Case):
    """The same script on the proxy and on a plain server, in both dialects."""

    def run_script(self, wanted, protocol):
        with setup.proxy.conn(protocol=protocol) as p, setup.oracle.conn(protocol=protocol) as o:
            for name, mark, argv in key_commands.lines():
                if name != wanted:
                    continue
                want, got = o.cmd(*argv), p.cmd(*argv)
                sent = encode(*argv)
                if mark == "#" and isinstance(want, int) and isinstance(got, int):
                    if abs(want - got) > 2:
                        self.same_reply(sent, want, got)
                    continue
                if mark == "?" and isinstance(want, Error):
                    mark = ""
                self.same_reply(sent, folded(mark, want), folded(mark, got))

    def test_every_key_command_has_a_script(self):
        known = {argv[0].lower() for _, _, argv in key_commands.lines()}
        missing = set()
        for row in setup.oracle.cmd("COMMAND"):
            name, flags, first = row[0].decode(), row[2], row[3]
            if first > 0 or Simple(b"movablekeys") in flags:
                if name not in known and name not in key_commands.ELSEWHERE:
                    missing.add(name)
            for sub in row[9]:
                if sub[3] > 0:
                    full = sub[0].decode().split("|")
                    if not any([a.lower() for a in argv[:2]] == full
                               for _, _, argv in key_commands.lines()):
                        missing.add("|".join(full))
        self.assertEqual(set(), missing, "key commands that no script runs")

    def test_dump_and_restore(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for conn in (c, o):
                conn.cmd("DEL", "dr", "dr2")
                conn.cmd("RPUSH", "dr", "a", b"\x00\r\n", "c")
            want, got = o.cmd("DUMP", "dr"), c.cmd("DUMP", "dr")
            self.same_reply(b"DUMP dr", want, got)
            self.expect(c, ["RESTORE", "dr2", "0", got], OK)
            self.expect(c, "LRANGE dr2 0 -1", [b"a", b"\x00\r\n", b"c"])

    def test_resp3_types_are_what_they_should_be(self):
        """The comparison above would also hold if both sides spoke RESP2."""
        with setup.proxy.conn(protocol=3) as c:
            c.pipeline(["DEL t3h t3s t3z", "HSET t3h f v", "SADD t3s a", "ZADD t3z 1.5 m"])
            self.expect(c, "HGETALL t3h", Map([(b"f", b"v")]))
            self.expect(c, "SMEMBERS t3s", Set([b"a"]))
            self.expect(c, "ZSCORE t3z m", Double(1.5))
            self.expect(c, "ZRANGE t3z 0 -1 WITHSCORES", [[b"m", Double(1.5)]])
            self.expect(c, "GET t3none", Null())
            self.expect(c, "MGET t3none t3none2", [Null(), Null()])
            self.expect(c, "LPOP t3none 2", Null())


def _add_scripts():
    for name in key_commands.SCRIPTS:
        for protocol in (2, 3):
            def test(self, name=name, protocol=protocol):
                setup.flush()
                self.run_script(name, protocol)
            title = "test_%s_resp%d" % (name.replace(" ", "_").lower(), protocol)
            setattr(Commands, title, test)


_add_scripts()


class Slots(Case):
    TAGS = ["a", "user1000", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}",
            "{}", "{", "}", "{}x", "a{b", "a}b{c}", "{a", "123456789", "", "\x00{x}", "x{\r\n}y"]

    def test_keys_land_on_the_owner_of_their_slot(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            for key in self.TAGS + ["plain:%d" % i for i in range(200)]:
                self.expect(c, ["SET", key, "here"], OK)
                got = setup.cluster.owner(key_slot(key)).cmd("GET", key)
                self.same_reply("GET %r on the owner of slot %d" % (key, key_slot(key)), b"here",
                                got)
                self.expect(c, ["DEL", key], 1)

    def test_every_256th_slot(self):
        with setup.proxy.conn() as c:
            slots = list(range(0, SLOTS, 256)) + [5460, 5461, 10921, 10922, 16383]
            keys = ["{%s}" % tag_of_slot(s) for s in slots]
            self.assertEqual([OK] * len(keys), c.pipeline([("SET", k, k) for k in keys]))
            self.assertEqual([k.encode() for k in keys], c.pipeline([("GET", k) for k in keys]))
            self.assertEqual(len(keys), c.cmd("DEL", *keys))

    def test_crossslot(self):
        if STANDIN:
            self.skipTest("a plain server has no slots")
        text = "CROSSSLOT Keys in request don't hash to the same slot"
        with setup.proxy.conn() as c:
            for line in ["MSETNX a 1 b 2", "RENAME a b", "RENAMENX a b", "SMOVE a b x",
                         "SUNION a b", "SINTERSTORE a b c", "ZUNIONSTORE d 2 a b", "BITOP AND d a b",
                         "PFMERGE a b", "PFCOUNT a b", "LMOVE a b LEFT LEFT", "RPOPLPUSH a b",
                         "EVAL x 2 a b", "EVALSHA x 2 a b", "FCALL f 2 a b", "SORT a STORE b",
                         "GEORADIUS a 1 1 1 km STORE b", "GEOSEARCHSTORE a b FROMLONLAT 1 1 BYRADIUS 1 km",
                         "XREAD STREAMS a b 0 0", "XREADGROUP GROUP g c STREAMS a b > >",
                         "COPY a b", "ZRANGESTORE a b 0 1", "LMPOP 2 a b LEFT", "ZMPOP 2 a b MIN",
                         "SINTERCARD 2 a b", "ZDIFF 2 a b", "ZINTERCARD 2 a b", "LCS a b",
                         "SDIFF a b c", "ZINTERSTORE d 1 a"]:
                with self.subTest(line):
                    self.expect_error(c, line, text)
            self.expect(c, "PING x", b"x")

    def test_crossslot_text_is_the_servers(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        node = setup.cluster.masters()[0]
        with setup.proxy.conn() as c:
            self.same_reply("MSETNX a 1 b 2", node.cmd("MSETNX", "a", "1", "b", "2"),
                            c.cmd("MSETNX", "a", "1", "b", "2"))

    def test_same_slot_multi_key_commands_run(self):
        with setup.proxy.conn() as c:
            self.expect(c, "MSETNX {mk}a 1 {mk}b 2", 1)
            self.expect(c, "MSETNX {mk}a 1 {mk}c 2", 0)
            self.expect(c, "RENAME {mk}a {mk}z", OK)
            self.expect(c, "DEL {mk}z {mk}b", 2)

    def test_no_moved_ever_reaches_a_client(self):
        with setup.proxy.conn() as c:
            replies = c.pipeline([("SET", "nm:%d" % i, "x" * (i % 50)) for i in range(3000)])
            bad = [r for r in replies if r != OK]
            self.assertEqual([], bad[:5], "replies to SETs all over the slots")

    def test_keyless_eval(self):
        with setup.proxy.conn() as c:
            self.expect(c, ["EVAL", "return 7", "0"], 7)
            self.expect(c, ["EVAL", "return ARGV[1]", "0", "x"], b"x")
            self.assertEqual([7] * 50, c.pipeline([["EVAL", "return 7", "0"]] * 50))


if __name__ == "__main__":
    unittest.main()
