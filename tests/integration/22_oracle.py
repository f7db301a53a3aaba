"""Thousands of random commands, the same to a plain server and through the proxy to a cluster: the
replies are equal byte for byte, in RESP2 and RESP3.

KEYWAY_ORACLE_SEED=n repeats a run, KEYWAY_TEST_LONG=1 makes them long. What may differ:

- Commands whose keys are in several slots and that the proxy does not split get CROSSSLOT; the
  plain server then is not sent the command. A server of the cluster must say the same.
- Sets and hashes are hash tables with a seed of their own in each server: what comes in their
  order is compared sorted ("~" in harness/generator.py).
- Random replies (HRANDFIELD, SRANDMEMBER, ZRANDMEMBER) by type and length ("%"); SPOP is left out:
  the two would go apart (20_routing has it).
- Times: rest times within a few seconds ("#"), idle times, DUMP of what is not a string and MEMORY
  USAGE by type ("?"). XADD with an id by the clock is left out.
- Which members lie between two words (BYLEX) is left to chance when scores differ: by type, and
  ZREMRANGEBYLEX is left out (20_routing has them with equal scores).
- Numbers that overflow a double (1e400) are left out: a SORT that meets text afterwards fails in a
  7.0 that once read one (it looks at an old errno), and which server read it differs.
- For the same reason SORT of nothing but numbers fails now and then, asked directly too: what else
  leaves that errno behind is not known. Where one of the two says so, both are asked again, alone.
- SORT ALPHA takes a text to end at its first NUL: values that are equal so far are left out.
- What a cluster's servers refuse or do not have, so left out: SELECT of other databases, MOVE,
  SWAPDB, COPY with DB, SORT with BY or GET patterns, scripts with keys they were not told of.
- Inside MULTI: what only a later server's arity allows (ZRANK key member WITHSCORE) is refused by
  EXEC, and what concerns the whole cluster (DBSIZE, KEYS ...) at once.
- SCAN: its cursors are the proxy's own (50_cluster_wide, 55_scan).
- Wrong arguments of a command over several slots: CROSSSLOT comes first, as from a cluster's server.
"""
import os
import random
import unittest

from harness.case import Case, Setup
from harness.generator import BLOCKING, FUNCTIONS, Generator, LUA
from harness.proxy import STANDIN, scaled
from harness.resp import Error, encode, show

setup = Setup()
SERVERS = []  # the cluster's masters and the plain server
LONG = bool(os.environ.get("KEYWAY_TEST_LONG"))
SEED = int(os.environ.get("KEYWAY_ORACLE_SEED") or (random.randrange(1 << 30) if LONG else 1))
COUNT = 300000 if LONG else scaled(12000)
# Refused inside MULTI in front of a cluster, or one database of a cluster's.
WHOLE_CLUSTER = {b"DBSIZE", b"KEYS", b"SCRIPT", b"SELECT"}
# Later servers take more arguments: the proxy queues what a 7.0 refuses at once, and EXEC tells.
WIDENED = {b"ZRANK", b"ZREVRANK"}
SPLIT = {b"mget", b"mset", b"del", b"unlink", b"exists", b"touch"}
NO_NUMBERS = Error(b"ERR One or more scores can't be converted into double")
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"


def setUpModule():
    setup.start(replicas=0)
    SERVERS[:] = setup.cluster.masters() if setup.cluster else [setup.proxy.standin]
    SERVERS.append(setup.oracle)
    for server in SERVERS:
        server.ok("FUNCTION", "LOAD", FUNCTIONS)


def tearDownModule():
    setup.stop()


def flat(value):
    """Leaves of a reply, whatever the nesting."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flat(item)]
    return [repr(value)]


def folded(mark, value):
    kind = type(value).__name__
    if isinstance(value, Error) or mark == "":
        return repr(value)
    if mark == "~":
        return kind, sorted(flat(value))
    if mark == "%":
        return kind, len(value) if isinstance(value, list) else value in (None,)
    return kind


def alike(mark, want, got):
    if folded(mark, want) == folded(mark, got):
        return True
    return mark == "#" and isinstance(want, int) and isinstance(got, int) and abs(want - got) <= 5 \
        and (want < 0) == (got < 0)


class Run:
    """One sequence of commands over one pair of connections."""

    def __init__(self, case, seed, tag, protocol, extra=""):
        self.case, self.seed = case, "seed %d, tag %s, RESP%d" % (seed, tag, protocol)
        self.gen = Generator(seed, tag, extra)
        self.tag = tag
        self.proxy = setup.proxy.conn(protocol=protocol)
        self.oracle = setup.oracle.conn(protocol=protocol)
        self.history, self.crossed, self.errors, self.compared = [], 0, 0, 0
        self.committed = 0
        for body in LUA[:6]:
            sha = self.oracle.cmd("SCRIPT", "LOAD", body)
            self.case.assertEqual(sha, self.proxy.cmd("SCRIPT", "LOAD", body))
            self.gen.shas.append(sha)

    def close(self):
        self.proxy.close()
        self.oracle.close()

    def spans_slots(self, argv):
        """What a server of the cluster says itself. (One that runs the command spoils nothing: the
        test has failed then.)"""
        return setup.cluster.nodes[0].cmd(*argv) == Error(CROSSSLOT[1:-2])

    def fail(self, argv, want, got):
        name = argv[1] if len(argv) > 1 else b""
        before = [show(repr(a), 160) for a in self.history[:-1] if name and name in a][-12:]
        self.case.fail("%s, command %d\nsent     %s\nexpected %s\ngot      %s\nbefore it, with the "
                       "same argument:\n  %s" % (self.seed, len(self.history), show(encode(*argv), 500),
                                                 show(want, 700), show(got, 700),
                                                 "\n  ".join(before)))

    def is_old_errno(self, argv, want, got):
        """One of the two failed for what another command had left behind: now they agree."""
        if argv[0].lower() not in (b"sort", b"sort_ro") or (want == NO_NUMBERS) == (got == NO_NUMBERS):
            return False
        if any(a.lower() == b"store" for a in argv):
            return False  # there it may have left something else
        for server in SERVERS:  # accepting a connection leaves another errno
            with server.conn() as c:
                c.cmd("PING")
        raw = [c.cmd_raw(*argv) for c in (self.oracle, self.proxy)]
        return raw[0] == raw[1]

    def batch(self, count):
        """A pipeline to the proxy, then what was not refused for its slots to the plain server."""
        commands = [self.gen.next() for _ in range(count)]
        self.exchange(commands)

    def exchange(self, commands):
        self.proxy.send(b"".join(encode(*argv) for _, argv in commands))
        replies = [self.proxy.read_both() for _ in commands]
        ran = [(c, r) for c, r in zip(commands, replies) if r[1] != CROSSSLOT]
        self.oracle.send(b"".join(encode(*argv) for (_, argv), _ in ran))
        wanted = iter([self.oracle.read_both() for _ in ran])
        for (mark, argv), (got, raw) in zip(commands, replies):
            self.history.append(argv)
            if raw == CROSSSLOT:
                self.crossed += 1
                if argv[0].lower() in SPLIT or not self.spans_slots(argv):
                    self.fail(argv, "no CROSSSLOT", raw)
                continue
            want, want_raw = next(wanted)
            self.compared += 1
            self.errors += isinstance(want, Error)
            if raw != want_raw and (mark == "" or not alike(mark, want, got)) and \
                    not self.is_old_errno(argv, want, got):
                self.fail(argv, want_raw, raw)

    def transaction(self):
        """MULTI, some commands, EXEC or DISCARD. One with a key in another slot, which only an
        argument that stands for nothing can be, must be refused as a whole."""
        words = [("", [b"MULTI"])]
        while len(words) < self.gen.rng.randrange(1, 9):
            mark, argv = self.gen.next()
            widened = argv[0].upper() in WIDENED and len(argv) > 3
            if argv[0].upper() not in WHOLE_CLUSTER and not widened:
                words.append((mark, argv))
        words.append(("", [self.gen.rng.choice([b"EXEC"] * 4 + [b"DISCARD"])]))
        sent = [encode(*argv) for _, argv in words]
        self.history += [argv for _, argv in words]
        self.proxy.send(b"".join(sent))
        got = [self.proxy.read_both() for _ in words]
        if any(raw == CROSSSLOT for _, raw in got):
            self.crossed += 1
            if words[-1][1] == [b"EXEC"] and not got[-1][1].startswith(b"-EXECABORT "):
                self.fail(words[-1][1], "-EXECABORT", got[-1][1])
            return
        self.oracle.send(b"".join(sent))
        want = [self.oracle.read_both() for _ in words]
        self.committed += isinstance(want[-1][0], list)
        for (_, argv), w, g in list(zip(words, want, got))[:-1]:
            if w[1] != g[1]:
                self.fail(argv, w[1], g[1])
        if want[-1][1] == got[-1][1]:
            return
        want, got = want[-1], got[-1]
        if not isinstance(want[0], list) or not isinstance(got[0], list) or \
                len(want[0]) != len(got[0]):
            self.fail(words[-1][1], want[1], got[1])
        queued = words[1:-1]
        for (mark, argv), w, g in zip(queued, want[0], got[0]):
            if not (alike(mark, w, g) if mark else repr(w) == repr(g)) and \
                    not self.is_old_errno(argv, w, g):
                self.fail(argv, "in EXEC's answer " + repr(w), repr(g))

    def contents(self, conn):
        """Every key's type, value and whether it expires."""
        out = {}
        read = {b"string": ["GET"], b"list": ["LRANGE", "0", "-1"], b"set": ["SMEMBERS"],
                b"hash": ["HGETALL"], b"zset": ["ZRANGE", "0", "-1", "WITHSCORES"],
                b"stream": ["XRANGE", "-", "+"]}
        for key in sorted(conn.cmd("KEYS", "*")):
            kind = bytes(conn.cmd("TYPE", key))
            value = conn.cmd(read[kind][0], key, *read[kind][1:])
            if kind in (b"set", b"hash"):
                value = sorted(flat(value))
            out[bytes(key)] = (kind, repr(value), conn.cmd("TTL", key) >= 0)
        return out


class Oracle(Case):
    def setUp(self):
        setup.oracle.ok("FLUSHALL")
        with setup.proxy.conn() as c:
            c.cmd("FLUSHALL")

    def sequence(self, number, tag, protocol, extra="", count=COUNT):
        run = Run(self, SEED + number, tag, protocol, extra)
        try:
            left, sizes = count, random.Random(SEED)
            while left > 0:
                size = min(left, sizes.choice([1, 1, 2, 10, 40, 100]))
                run.batch(size)
                left -= size
            self.assertEqual(run.contents(run.oracle), run.contents(run.proxy), run.seed)
            # It is no proof when all but errors is left out.
            self.assertGreater(run.compared - run.errors, count // 3)
            self.assertGreater(run.errors, count // 50)
            if not STANDIN:  # with a tag only where nonsense stands in the place of a key
                self.assertEqual(run.crossed > count // 50, not tag)
        finally:
            run.close()

    def test_one_hash_tag_resp2(self):
        self.sequence(0, True, 2)

    def test_one_hash_tag_resp3(self):
        self.sequence(1, True, 3)

    def test_no_hash_tag_resp2(self):
        self.sequence(2, False, 2)

    def test_no_hash_tag_resp3(self):
        self.sequence(3, False, 3)

    def test_any_arguments_for_every_command(self):
        """Every command with keys that the server knows, with none to six arguments."""
        for number, (tag, protocol) in enumerate(((True, 3), (False, 2))):
            run = Run(self, SEED + 10 + number, tag, protocol)
            names = [n for n in sorted(key_commands()) if n[0] not in SWEPT_ELSEWHERE]
            self.assertGreater(len(names), 150)
            try:
                for _ in range(max(4, COUNT // 500)):
                    run.exchange([(run.gen.mark_of(n), n + run.gen.any_args(run.gen.rng.randrange(7)))
                                  for n in names])
                self.assertEqual(run.contents(run.oracle), run.contents(run.proxy), run.seed)
            finally:
                run.close()

    def test_blocking(self):
        """Commands that may block, among all others, each for a few milliseconds at most."""
        self.must_support("BLPOP oracle:none 0.01", "XREAD BLOCK 1 STREAMS oracle:none $")
        for server in SERVERS:
            server.ok("CONFIG", "SET", "hz", 500)  # how exactly it keeps times
        try:
            for number, (tag, protocol) in enumerate(((True, 2), (False, 3))):
                self.sequence(20 + number, tag, protocol, BLOCKING * 3, COUNT // 15)
        finally:
            for server in SERVERS:
                server.ok("CONFIG", "SET", "hz", 10)

    def must_support(self, *lines):
        with setup.proxy.conn() as c:
            for line in lines:
                if b"is not supported yet" in c.cmd_raw(*line.split()):
                    self.skipTest("the proxy does not support %s yet" % line.split()[0])

    def test_transactions(self):
        self.must_support("MULTI", "DISCARD")
        for number, protocol in enumerate((2, 3)):
            run = Run(self, SEED + 30 + number, True, protocol)
            try:
                for _ in range(COUNT // 15):
                    run.transaction()
                self.assertEqual(run.contents(run.oracle), run.contents(run.proxy), run.seed)
                self.assertGreater(run.committed, COUNT // 100)
            finally:
                run.close()


# Commands that the sweep leaves out, and why.
SWEPT_ELSEWHERE = {
    # blocking ones, transactions and channels: supported or not, tests of their own
    b"blpop", b"brpop", b"brpoplpush", b"blmove", b"blmpop", b"bzpopmin", b"bzpopmax", b"bzmpop",
    b"watch", b"spublish", b"ssubscribe", b"sunsubscribe",
    # random: what it takes differs; by the clock: XADD with *; a server among servers
    b"spop", b"xadd", b"zremrangebylex", b"migrate", b"move", b"restore-asking", b"pfdebug",
}


def key_commands():
    """[name] or [name, subcommand] of the commands with keys, by the plain server's COMMAND."""
    for row in setup.oracle.cmd("COMMAND"):
        if row[3] > 0 or b"movablekeys" in [bytes(f) for f in row[2]]:
            yield [bytes(row[0])]
        for sub in row[9]:
            if sub[3] > 0:
                yield bytes(sub[0]).split(b"|")


if __name__ == "__main__":
    unittest.main()
