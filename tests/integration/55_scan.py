"""SCAN: every way a step can take, and everything that can happen between two of them.

(50_cluster_wide.py has the broad tests: counts, failover, restarts, slots moving at random.)
"""
import random
import unittest

from harness.case import Case, Setup
from harness.fake import PASS, FakeCluster
from harness.proxy import STANDIN, Proxy, scaled
from harness.resp import Error
from harness.servers import SLOTS, Cluster, key_slot, tag_of_slot, wait_until

setup = Setup()
second = None

WALK = 2  # a cursor's mark: go on slot by slot


def setUpModule():
    global second
    if STANDIN:
        raise unittest.SkipTest("needs a cluster")
    setup.start(node_timeout=1000)
    second = Proxy(setup.cluster.seeds(2), workers=3).wait_start()


def tearDownModule():
    try:
        if second:
            second.stop()
    finally:
        setup.stop()


def cursor_of(slot, mark, inner=0):
    return b"%d" % (slot << 39 | mark << 30 | inner)


def slot_of(cursor):
    return int(cursor) >> 39


def fill(conn, names):
    names = list(names)
    for i in range(0, len(names), 2000):
        conn.pipeline([("SET", k, "v") for k in names[i:i + 2000]])
    return {k if isinstance(k, bytes) else k.encode() for k in names}


class Scanner:
    """One scan over one or more proxies in turn; checks each cursor."""

    def __init__(self, case, conns, *options, cursor=b"0"):
        self.case, self.conns, self.options = case, conns, options
        self.cursor = cursor
        self.seen, self.steps, self.cursors = [], 0, []

    def step(self):
        conn = self.conns[self.steps % len(self.conns)]
        reply = conn.cmd("SCAN", self.cursor, *self.options)
        self.case.not_error(reply, ("SCAN", self.cursor) + self.options)
        before, (self.cursor, keys) = self.cursor, reply
        self.case.assertLess(int(self.cursor), 1 << 53)
        self.case.assertEqual(self.cursor, b"%d" % int(self.cursor), "cursor is plain decimal")
        if self.cursor != b"0":
            self.case.assertGreaterEqual(slot_of(self.cursor), slot_of(before),
                                         "a scan goes from slot 0 upwards")
        self.seen += keys
        self.steps += 1
        self.cursors.append(self.cursor)
        self.case.assertLess(self.steps, 50000, "SCAN does not end")
        return self.cursor != b"0"

    def run(self):
        while self.step():
            pass
        return self

    def until_slot(self, slot):
        """Up to the first cursor at or after this slot that stands inside a range."""
        while slot_of(self.cursor) < slot or int(self.cursor) & ((1 << 30) - 1) == 0:
            self.case.assertTrue(self.step(), "the scan ended before slot %d" % slot)

    def has(self, keys, what="keys"):
        missing = keys - set(self.seen)
        self.case.assertEqual([], sorted(missing)[:5], "%s: %d of %d were not returned" % (
            what, len(missing), len(keys)))

    def has_exactly(self, keys, what="keys"):
        self.has(keys, what)
        self.case.assertEqual(set(), set(self.seen) - keys, "%s: keys that never were" % what)


class ScanCase(Case):
    cluster = None

    def setUp(self):
        self.cluster = setup.cluster
        self.cluster.flush()
        self.conn = setup.proxy.conn(timeout=40)
        self.other = second.conn(timeout=40)
        self.settle()
        self.cluster.flush()

    def settle(self):
        """Until both proxies have heard of what the test before did: they scan range by range."""
        fill(self.conn, ("settle:%d" % i for i in range(200)))
        for conn in (self.conn, self.other):
            for slot in (0, SLOTS // 3, SLOTS * 2 // 3):
                first = slot + 1 if slot else 0
                self.eventually("slot %d is scanned" % first, lambda c=conn, s=first: int(
                    c.cmd("SCAN", cursor_of(s, 1), "COUNT", "1")[0]) & ((1 << 30) - 1))

    def tearDown(self):
        self.conn.close()
        self.other.close()


class Command(ScanCase):
    def test_errors_word_for_word(self):
        with setup.oracle.conn() as o:
            for command in (
                    ["SCAN"], ["SCAN", "abc"], ["SCAN", "1x"], ["SCAN", " 1"], ["SCAN", "-"],
                    ["SCAN", "18446744073709551616"], ["SCAN", "99999999999999999999999999"],
                    ["SCAN", "0", "COUNT"], ["SCAN", "0", "COUNT", "0"],
                    ["SCAN", "0", "COUNT", "-1"], ["SCAN", "0", "COUNT", "ten"],
                    ["SCAN", "0", "COUNT", "99999999999999999999"], ["SCAN", "0", "COUNT", "1.5"],
                    ["SCAN", "0", "MATCH"], ["SCAN", "0", "TYPE"], ["SCAN", "0", "FOO"],
                    ["SCAN", "0", "FOO", "1"], ["SCAN", "0", "COUNT", "10", "MATCH"],
                    ["SCAN", "0", "COUNT", "0", "COUNT", "x"],
                    ["SCAN", "0", "COUNT", "x", "FOO"], ["SCAN", "x", "COUNT", "x"],
                    ["SCAN", "0", "NOVALUES"]):
                with self.subTest(command=command):
                    reply = self.matches_oracle(self.conn, o, command)
                    self.assertIsInstance(reply, Error)
            for command in (["SCAN", ""], ["SCAN", "000"], ["SCAN", "-0"], ["SCAN", "+0"],
                            ["scan", "0", "count", "5", "Match", "a*", "tYPE", "hash"],
                            ["SCAN", "0", "COUNT", "1", "COUNT", "2", "MATCH", "a", "MATCH", "b"],
                            ["SCAN", "0", "TYPE", "nosuchtype"]):
                with self.subTest(command=command):
                    self.assertEqual([b"0", []], self.matches_oracle(self.conn, o, command))
        for cursor in ("-1", str(1 << 53), str((1 << 64) - 1)):  # numbers, but none of our cursors
            self.expect_error(self.conn, ["SCAN", cursor], "ERR invalid cursor")

    def test_a_small_cluster_is_scanned_in_one_step(self):
        keys = fill(self.conn, ("small:%d" % i for i in range(200)))
        cursor, got = self.conn.cmd("SCAN", "0", "COUNT", "5000")
        self.assertEqual((b"0", keys, len(keys)), (cursor, set(got), len(got)))

    def test_sees_what_was_written_before_in_the_pipeline(self):
        for round_ in range(20):
            names = ["pipe:%d:%d" % (round_, i) for i in range(50)]
            replies = self.conn.pipeline([("SET", k, "v") for k in names] +
                                         [("SCAN", "0", "COUNT", "100000")] +
                                         [("DEL", k) for k in names] + ["PING"])
            self.assertEqual({k.encode() for k in names}, set(replies[50][1]))
            self.assertEqual([1] * 50, replies[51:101])

    def test_a_client_that_leaves_in_the_middle(self):
        fill(self.conn, ("leave:%d" % i for i in range(1000)))
        for i in range(30):
            c = setup.proxy.conn()
            c.send(b"SCAN %s COUNT 3 TYPE string\r\n" % cursor_of(i * 500, WALK) * 3)
            c.reset() if i % 2 else c.close()
        self.expect(self.conn, "DBSIZE", 1000)


class Static(ScanCase):
    def repeats_nothing(self, conns, want, *options):
        """A quiet cluster repeats no key. One whose nodes, or one of the proxies, still hear of what
        the test before did may: so until a scan repeats none, for a bounded time."""
        def scan():
            s = Scanner(self, conns, *options).run()
            s.has_exactly(want, str(options))
            return len(s.seen) == len(want)
        self.eventually("a quiet cluster repeats no key: SCAN %s" % " ".join(options), scan)

    def test_all_options_in_both_dialects_over_two_processes(self):
        strings = fill(self.conn, ("s:%d" % i for i in range(700)))
        self.conn.pipeline([("RPUSH", "l:%d" % i, "x") for i in range(300)])
        lists = {b"l:%d" % i for i in range(300)}
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as a, second.conn(protocol=protocol) as b:
                for count in ("1", "10", "1000"):
                    for options, want in (((), strings | lists), (("MATCH", "l:*"), lists),
                                          (("TYPE", "string"), strings),
                                          (("TYPE", "List", "MATCH", "*1"),
                                           {k for k in lists if k.endswith(b"1")})):
                        self.repeats_nothing([a, b], want, "COUNT", count, *options)

    def test_walked_slot_by_slot(self):
        """The same with a cursor that asks for the slow way."""
        strings = fill(self.conn, ("s:%d" % i for i in range(700)))
        self.conn.pipeline([("RPUSH", "l:%d" % i, "x") for i in range(300)])
        lists = {b"l:%d" % i for i in range(300)}
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as c:
                for options, want in (((), strings | lists), (("COUNT", "300"), strings | lists),
                                      (("MATCH", "l:*", "COUNT", "50"), lists),
                                      (("COUNT", "50", "TYPE", "LIST"), lists),
                                      (("COUNT", "50", "TYPE", "list", "MATCH", "*7"),
                                       {k for k in lists if k.endswith(b"7")})):
                    got = []
                    for first in (0, SLOTS // 3 + 1, SLOTS * 2 // 3 + 1):  # one walk a master
                        s = Scanner(self, [c], *options, cursor=cursor_of(first, WALK))
                        end = first + SLOTS // 3
                        while s.step() and slot_of(s.cursor) <= end:
                            pass
                        got += [k for k in s.seen if first <= key_slot(k) <= end]
                    self.assertEqual(want, set(got), "%s RESP%d" % (options, protocol))

    def test_patterns_match_as_the_server_matches(self):
        """In a walk it is the proxy that matches: random patterns, compared with KEYS."""
        rng = random.Random(20260201)
        tag = "{%s}" % tag_of_slot(SLOTS - 1)  # the last slot: each walk is one step
        alphabet = [b"a", b"b", b"c", b"-", b"]", b"[", b"^", b"*", b"?", b"\\", b"\xff", b"\x00"]
        names = {tag.encode() + b"".join(rng.choices(alphabet, k=rng.randrange(5)))
                 for _ in range(400)}
        with setup.oracle.conn() as o:
            o.cmd("FLUSHALL")
            fill(o, names)
            fill(self.conn, names)
            found = 0
            for _ in range(scaled(3000)):
                pattern = b"".join(rng.choices(alphabet, k=rng.randrange(1, 8)))
                pattern = rng.choice([tag.encode(), b"*", b""]) + pattern
                want = set(o.cmd("KEYS", pattern))
                cursor, got = self.conn.cmd("SCAN", cursor_of(SLOTS - 1, WALK), "MATCH", pattern,
                                            "COUNT", "1000")
                self.assertEqual((b"0", want), (cursor, set(got)), "pattern %r" % pattern)
                found += len(want)
            self.assertGreater(found, 1000, "the patterns match something")

    def test_a_slot_of_very_many_keys(self):
        """More than one answer shall hold: the slot is scanned for itself."""
        slot, count = 12345, 100500
        tag = tag_of_slot(slot)
        self.cluster.owner(slot).ok("DEBUG", "POPULATE", count, "{%s}" % tag, 1)
        near = fill(self.conn, ("{%s}" % tag_of_slot(s) for s in range(slot - 20, slot + 20)))
        s = Scanner(self, [self.conn, self.other], "COUNT", "3000",
                    cursor=cursor_of(slot - 20, WALK))
        largest = 0
        while s.step():
            largest = max(largest, len(s.seen))
            if slot_of(s.cursor) > slot + 20:
                break
        s.has_exactly(near | {b"{%s}:%d" % (tag.encode(), i) for i in range(count)})
        self.assertGreater(s.steps, 20, "not all of the slot in one answer")
        self.assertTrue(any(int(c) & 1 and slot_of(c) == slot for c in s.cursors))

    def test_a_cursor_that_nobody_gave(self):
        """A fingerprint or an inner part that is wrong: everything from its slot on is returned."""
        keys = fill(self.conn, ("g:%d" % i for i in range(2000)))
        rng = random.Random(20260202)
        s = Scanner(self, [self.conn], "COUNT", "30")
        s.until_slot(SLOTS // 3)
        genuine = int(s.cursor)
        for _ in range(scaled(20)):
            mark = rng.randrange(512)
            if mark == genuine >> 30 & 511:
                continue
            for inner in (genuine & ((1 << 30) - 1), rng.randrange(1 << 30), 2):
                slot = genuine >> 39
                rest = Scanner(self, [self.conn], "COUNT", "500",
                               cursor=cursor_of(slot, mark, inner)).run()
                rest.has({k for k in keys if key_slot(k) >= slot}, "mark %d" % mark)
        # The genuine one still works.
        s.run().has_exactly(keys)


class Moving(ScanCase):
    def test_a_slot_that_leaves_and_comes_back(self):
        """Its owner's SCAN goes on as if nothing had been, and has missed what was away."""
        keys = fill(self.conn, ("back:%d" % i for i in range(3000)))
        cluster = self.cluster
        first, last = cluster.owner(0), cluster.owner(SLOTS - 1)
        tags = [tag_of_slot(s) for s in range(100, 110)]
        keys |= fill(self.conn, ("{%s}%d" % (t, i) for t in tags for i in range(40)))
        s = Scanner(self, [self.conn, self.other], "COUNT", "20")
        for _ in range(10):
            s.step()
        self.assertEqual(0, slot_of(s.cursor), "in the middle of the first range")
        cluster.move_slots(range(100, 110), first, last)
        for _ in range(40):
            s.step()
        cluster.wait_epochs()
        cluster.move_slots(range(100, 110), last, first)
        s.run().has_exactly(keys, "10 slots went away and came back")
        cluster.wait_epochs()

    def test_to_a_visited_node_seen_by_two_proxies(self):
        """One of two proxies may not have heard of it yet."""
        keys = fill(self.conn, ("visit:%d" % i for i in range(3000)))
        cluster = self.cluster
        first, last = cluster.owner(0), cluster.owner(SLOTS - 1)
        s = Scanner(self, [self.conn, self.other], "COUNT", "25")
        s.until_slot(SLOTS // 3)
        moved = range(SLOTS - 300, SLOTS - 260)
        half = SLOTS - 320
        for slot in moved:
            cluster.move_slot(slot, last, first)
            s.step()
        cluster.begin_move(half, last, first)
        try:
            s.run().has_exactly(keys, "slots moved between two steps")
        finally:
            cluster.move_keys(half, last, first)
            cluster.end_move(half, last, first)
            cluster.wait_epochs()
            cluster.move_slots(list(moved) + [half], first, last)
            cluster.wait_epochs()

    def test_a_move_that_begins_in_mid_scan_and_does_not_end(self):
        keys = fill(self.conn, ("half:%d" % i for i in range(2000)))
        cluster = self.cluster
        source, target = cluster.owner(SLOTS // 2), cluster.owner(0)
        slots = [6000, 6001, 8000]
        for slot in slots:
            keys |= fill(self.conn, ("{%s}%d" % (tag_of_slot(slot), i) for i in range(60)))
        s = Scanner(self, [self.conn, self.other], "COUNT", "20")
        s.until_slot(SLOTS // 3)
        try:
            for n, slot in enumerate(slots):  # some keys there, some here; none; all
                cluster.begin_move(slot, source, target)
                some = source.ok("CLUSTER", "GETKEYSINSLOT", slot, (30, 0, 1000)[n])
                if some:
                    source.ok("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *some)
                for _ in range(5):
                    s.step()
            s.run().has_exactly(keys, "three slots half moved")
            Scanner(self, [self.conn], "TYPE", "string", "COUNT", "70").run().has_exactly(keys)
            Scanner(self, [self.other], "MATCH", "half:*").run().has_exactly(
                {k for k in keys if k.startswith(b"half:")})
        finally:
            for slot in slots:
                cluster.move_keys(slot, source, target)
                cluster.end_move(slot, source, target)
            cluster.wait_epochs()
            cluster.move_slots(slots, target, source)
            cluster.wait_epochs()

    def test_a_large_half_moved_slot(self):
        slot = 3
        cluster = self.cluster
        source, target = cluster.owner(slot), cluster.owner(SLOTS // 2)
        source.ok("DEBUG", "POPULATE", 20000, "{%s}" % tag_of_slot(slot), 1)
        keys = {b"{%s}:%d" % (tag_of_slot(slot).encode(), i) for i in range(20000)}
        cluster.begin_move(slot, source, target)
        try:
            for share in (0, 1000, 18000):  # more and more of it at the destination
                while source.ok("CLUSTER", "COUNTKEYSINSLOT", slot) > 20000 - share:
                    some = source.ok("CLUSTER", "GETKEYSINSLOT", slot, 1000)
                    source.ok("MIGRATE", "127.0.0.1", target.port, "", 0, 9000, "KEYS", *some)
                s = Scanner(self, [self.conn], "COUNT", "1000").run()
                s.has_exactly(keys, "%d keys at the destination" % share)
        finally:
            source.ok("FLUSHALL")
            target.ok("FLUSHALL")
            cluster.end_move(slot, source, target)
            cluster.wait_epochs()
            cluster.move_slot(slot, target, source)
            cluster.wait_epochs()


class Failover(ScanCase):
    def replicated(self, master):
        replica = self.cluster.replica_of(master)
        wait_until("the replica has everything", lambda: replica.info("replication").get(
            "slave_repl_offset") == master.info("replication").get("master_repl_offset"))
        return replica

    def test_planned_and_back(self):
        keys = fill(self.conn, ("plan:%d" % i for i in range(3000)))
        master = self.cluster.owner(0)
        replica = self.replicated(master)
        s = Scanner(self, [self.conn, self.other], "COUNT", "20")
        for _ in range(15):
            s.step()
        self.cluster.failover(replica)
        for _ in range(15):
            s.step()
        wait_until("the old master follows", lambda: master.info("replication").get(
            "master_link_status") == "up")
        self.cluster.failover(master, "TAKEOVER")  # the others do not vote again so soon
        s.run().has_exactly(keys, "a failover and another one back")
        self.cluster.wait_ok()

    def test_a_master_is_killed(self):
        keys = fill(self.conn, ("kill:%d" % i for i in range(2000)))
        master = self.cluster.owner(SLOTS // 2)
        self.replicated(master)
        s = Scanner(self, [self.conn], "COUNT", "20")
        s.until_slot(SLOTS // 3)
        slot = self.cluster.kill_master(master)
        s.run().has_exactly(keys, "kill -9 of a master in mid-scan")
        self.cluster.wait_promoted(slot)
        master.start()
        self.cluster.wait_ok()


class Fragmented(Case):
    """16,384 ranges of one slot, dealt to three masters in turn: the worst map there can be."""

    @classmethod
    def setUpClass(cls):
        ranges = [[(s, s) for s in range(i, SLOTS, 3)] for i in range(3)]
        cls.cluster = Cluster(3, 0, ranges=ranges).start()
        cls.proxy = Proxy(cls.cluster.seeds()).wait_start()

    @classmethod
    def tearDownClass(cls):
        cls.proxy.stop()
        cls.cluster.stop()

    def test_everything_in_a_reasonable_number_of_steps(self):
        self.cluster.flush()
        with self.proxy.conn() as c:
            s = Scanner(self, [c]).run()
            self.assertEqual([], s.seen)
            self.assertLess(s.steps, 100, "an empty cluster")
            keys = fill(c, ("frag:%d" % i for i in range(1500)))
            for options, most in (((), 300), (("COUNT", "1000"), 15), (("COUNT", "100"), 50)):
                s = Scanner(self, [c], *options).run()
                s.has_exactly(keys)
                self.assertEqual(len(keys), len(s.seen), "a quiet cluster repeats no key")
                self.assertLess(s.steps, most, options)

    def test_a_slot_moves_in_mid_scan(self):
        self.cluster.flush()
        nodes = self.cluster.nodes
        with self.proxy.conn() as c:
            keys = fill(c, ("%d{%s}" % (i, tag_of_slot(s)) for s in range(0, SLOTS, 16)
                            for i in range(2)))
            s = Scanner(self, [c], "COUNT", "50")
            for slot in range(3008, 16000, 480):
                s.step()
                self.cluster.move_slot(slot, nodes[slot % 3], nodes[(slot + 1) % 3])
            s.run().has_exactly(keys)


class ForeignCursors(Case):
    """Servers whose own cursors are too large to be carried (those that keep a table a slot)."""

    def test_fall_back_to_whole_slots(self):
        with FakeCluster(2) as cluster:
            names = {b"{%s}%d" % (tag_of_slot(s).encode(), i) for s in range(0, SLOTS, 128)
                     for i in range(3)}
            by_slot = {}
            for k in names:
                cluster.node_of(k.decode()).store[k] = b"v"
                by_slot.setdefault(key_slot(k), []).append(k)
            for node in cluster.nodes:
                def on_cluster(conn, argv, node=node):
                    found = [] if argv[1] == b"NODES" else [
                        k for k in by_slot.get(int(argv[2]), ()) if k in node.store]
                    if argv[1] == b"COUNTKEYSINSLOT":
                        return b":%d\r\n" % len(found)
                    if argv[1] == b"GETKEYSINSLOT":
                        found = found[:int(argv[3])]
                        return b"*%d\r\n" % len(found) + b"".join(
                            b"$%d\r\n%s\r\n" % (len(k), k) for k in found)
                    return PASS
                node.rule("CLUSTER", on_cluster)
                node.rule("SCAN", lambda conn, argv: b"*2\r\n$%d\r\n%d\r\n*0\r\n" % (
                    len(b"%d" % (1 << 45)), 1 << 45))
            with Proxy(cluster.seeds()).wait_start() as proxy, proxy.conn() as c:
                s = Scanner(self, [c], "COUNT", "40").run()
                s.has_exactly(names)
                asked = sum(n.calls("SCAN") for n in cluster.nodes)
                self.assertLessEqual(asked, 4, "the servers' SCAN is tried once a range")
                self.assertGreater(asked, 0)


if __name__ == "__main__":
    unittest.main()
