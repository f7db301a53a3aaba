"""Commands about the whole keyspace, and SCAN with everything that can happen under it."""
import random
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, scaled
from harness.resp import OK, Conn, Error
from harness.servers import SLOTS, Cluster, key_slot, tag_of_slot, wait_until

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


def fill(conn, count, prefix="key"):
    keys = ["%s:%d" % (prefix, i) for i in range(count)]
    for i in range(0, count, 2000):
        conn.pipeline([("SET", k, "v") for k in keys[i:i + 2000]])
    return {k.encode() for k in keys}


class Scanner:
    """One scan, step by step; keeps what came and the bounds that must hold."""

    def __init__(self, case, port, *options, limit=200000):
        self.case = case
        self.port = port
        self.options = options
        self.cursor = b"0"
        self.seen = []
        self.steps = 0
        self.limit = limit
        self.conn = None

    def step(self):
        """True while there is more."""
        if self.conn is None:
            self.conn = Conn(self.port, timeout=40)
        reply = self.conn.cmd("SCAN", self.cursor, *self.options)
        self.case.assertNotIsInstance(reply, Error, "SCAN %s %s: %r" % (
            self.cursor, self.options, reply))
        self.cursor, keys = reply
        self.case.assertLess(int(self.cursor), 1 << 53, "cursor fits a double")
        self.case.assertEqual(self.cursor, b"%d" % int(self.cursor), "cursor is plain decimal")
        self.seen += keys
        self.steps += 1
        self.case.assertLess(self.steps, self.limit, "SCAN does not end")
        return self.cursor != b"0"

    def run(self):
        while self.step():
            pass
        self.conn.close()
        return set(self.seen)


class Whole(Case):
    def setUp(self):
        setup.flush()

    def test_dbsize_keys_randomkey_flushall(self):
        with setup.proxy.conn() as c:
            self.expect(c, "DBSIZE", 0)
            self.expect(c, "KEYS *", [])
            self.expect(c, "RANDOMKEY", None)
            keys = fill(c, 300)
            self.expect(c, "DBSIZE", 300)
            self.assertEqual(sorted(keys), sorted(c.cmd("KEYS", "*")))
            want = sorted(k for k in keys if k.startswith(b"key:1"))
            self.assertEqual(want, sorted(c.cmd("KEYS", "key:1*")))
            self.expect(c, "KEYS nothing*", [])
            random_keys = {c.cmd("RANDOMKEY") for _ in range(200)}
            self.assertTrue(random_keys <= keys)
            self.assertGreater(len(random_keys), 20, "RANDOMKEY repeats itself")
            self.expect(c, "FLUSHALL", OK)
            self.expect(c, "DBSIZE", 0)
            fill(c, 50)
            self.expect(c, "FLUSHDB ASYNC", OK)
            self.expect(c, "DBSIZE", 0)
            fill(c, 50)
            self.expect(c, "FLUSHALL SYNC", OK)
            self.expect(c, "RANDOMKEY", None)

    def test_randomkey_finds_the_only_key_and_all_masters(self):
        with setup.proxy.conn() as c:
            c.cmd("SET", "lonely", "1")
            self.assertEqual({b"lonely"}, {c.cmd("RANDOMKEY") for _ in range(30)})
            fill(c, 300)
            owners = {key_slot(c.cmd("RANDOMKEY")) * 3 // SLOTS for _ in range(100)}
            self.assertEqual({0, 1, 2}, owners, "thirds of the slots that RANDOMKEY has named")

    def test_their_place_in_a_pipeline(self):
        with setup.proxy.conn() as c:
            replies = c.pipeline(["SET wp:a 1", "SET wp:b 1", "DBSIZE", "SET wp:c 1", "DBSIZE", "KEYS wp:*",
                                  "FLUSHALL", "DBSIZE", "GET wp:a"])
            self.assertEqual([OK, OK, 2, OK, 3], replies[:5])
            self.assertEqual(3, len(replies[5]))
            self.assertEqual([OK, 0, None], replies[6:])

    def test_resp3_shapes(self):
        with setup.proxy.conn(protocol=3) as c:
            self.assertEqual(b"_\r\n", c.cmd_raw("RANDOMKEY"))
            self.assertEqual(b"*0\r\n", c.cmd_raw("KEYS", "*"))
            self.assertEqual(b"*2\r\n$1\r\n0\r\n*0\r\n", c.cmd_raw("SCAN", "0"))

    def test_script_load_exists_flush(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            body = "return redis.call('get', KEYS[1])"
            sha = self.matches_oracle(c, o, ["SCRIPT", "LOAD", body])
            self.matches_oracle(c, o, ["SCRIPT", "EXISTS", sha, "0" * 40, sha])
            # On every master: a key of each third.
            for i in range(30):
                self.expect(c, ["SET", "sc:%d" % i, i], OK)
                self.expect(c, ["EVALSHA", sha, 1, "sc:%d" % i], b"%d" % i)
            self.expect(c, "SCRIPT FLUSH", OK)
            self.expect(c, ["SCRIPT", "EXISTS", sha], [0])
            self.matches_oracle(c, o, ["SCRIPT", "LOAD", "syntax error("])
            o.cmd("SCRIPT", "FLUSH")
            self.matches_oracle(c, o, ["EVALSHA", sha, 1, "sc:1"])

    def test_script_exists_needs_all_masters(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            sha = c.cmd("SCRIPT", "LOAD", "return 1")
            self.expect(c, ["SCRIPT", "EXISTS", sha], [1])
            setup.cluster.masters()[1].ok("SCRIPT", "FLUSH")
            self.expect(c, ["SCRIPT", "EXISTS", sha], [0])

    def test_large_keys_reply(self):
        with setup.proxy.conn(timeout=60) as c:
            keys = fill(c, scaled(50000), "a-rather-long-key-name-for-a-large-reply")
            self.assertEqual(keys, set(c.cmd("KEYS", "*")))
            self.expect(c, "DBSIZE", len(keys))


class Scan(Case):
    def setUp(self):
        setup.flush()

    def check(self, keys, seen, what):
        missing = keys - seen
        self.assertEqual(set(), set(list(missing)[:5]), "%s: %d of %d keys were not returned" % (
            (what,) + (len(missing), len(keys))))
        self.assertEqual(set(), set(list(seen - keys)[:5]), "%s: keys that never were" % (what,))

    def test_complete(self):
        with setup.proxy.conn() as c:
            for count in (0, 1, 10, 3000):
                setup.flush()
                keys = fill(c, count)
                for options in ((), ("COUNT", "1"), ("COUNT", "100"), ("COUNT", "5000")):
                    if count == 3000 and options == ("COUNT", "1"):
                        options = ("COUNT", "7")
                    s = Scanner(self, setup.proxy.port, *options)
                    self.check(keys, s.run(), "%d keys, %s" % (count, options))
                    self.assertEqual(len(keys), len(s.seen), "a quiet cluster repeats no key")

    def test_steps_are_in_proportion_to_count(self):
        with setup.proxy.conn() as c:
            fill(c, 3000)
        s = Scanner(self, setup.proxy.port, "COUNT", "100")
        s.run()
        self.assertLess(s.steps, 200, "3000 keys by COUNT 100")
        s = Scanner(self, setup.proxy.port)
        s.run()
        self.assertLess(s.steps, 2000, "3000 keys by the default COUNT")

    def test_match_and_type(self):
        with setup.proxy.conn() as c:
            fill(c, 500)
            c.pipeline([("RPUSH", "list:%d" % i, "x") for i in range(100)])
            want = {b"list:%d" % i for i in range(100)}
            for options in (("MATCH", "list:*"), ("TYPE", "list"), ("MATCH", "list:*", "COUNT", "50"),
                            ("COUNT", "1000", "TYPE", "LIST", "MATCH", "*")):
                self.check(want, Scanner(self, setup.proxy.port, *options).run(), options)
            self.check(set(), Scanner(self, setup.proxy.port, "MATCH", "none*").run(), "none")
            self.check(set(), Scanner(self, setup.proxy.port, "TYPE", "zset").run(), "no zset")

    def test_cursor_moves_between_connections_and_processes(self):
        """A cursor has no state behind it: any worker and any proxy can go on with it."""
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            keys = fill(c, 1500)
        with Proxy(setup.cluster.seeds(2), workers=3).wait_start() as second:
            s = Scanner(self, setup.proxy.port, "COUNT", "20")
            more = True
            while more:
                s.port = (setup.proxy.port, second.port)[s.steps % 2]
                if s.conn:
                    s.conn.close()
                    s.conn = None
                more = s.step()
            self.check(keys, set(s.seen), "two proxies in turn")

    def test_odd_cursors_never_hang_or_crash(self):
        with setup.proxy.conn() as c:
            fill(c, 200)
            rng = random.Random(20260104)
            odd = ["1", "16383", "16384", str((1 << 53) - 1), str(1 << 53), str((1 << 63) - 1),
                   str((1 << 64) - 1)] + [str(rng.randrange(1 << 53)) for _ in range(200)]
            for cursor in odd:
                reply = c.cmd("SCAN", cursor)
                if isinstance(reply, Error):
                    continue
                self.assertEqual(2, len(reply))
            for cursor in ["x", "1x", " 1", "99999999999999999999999"]:
                self.expect_error(c, ["SCAN", cursor], "ERR invalid cursor")

    def test_two_scans_interleaved_with_writes(self):
        with setup.proxy.conn() as c:
            keys = fill(c, 1000)
            a = Scanner(self, setup.proxy.port, "COUNT", "15")
            b = Scanner(self, setup.proxy.port, "COUNT", "40")
            more_a = more_b = True
            n = 0
            while more_a or more_b:
                more_a = more_a and a.step()
                more_b = more_b and b.step()
                c.pipeline([("SET", "extra:%d" % n, "1"), ("DEL", "extra:%d" % (n - 20))])
                n += 1
            for s in (a, b):
                self.assertEqual(set(), keys - set(s.seen))

    def test_slots_move_to_a_visited_node_in_mid_scan(self):
        """Going node by node would lose what moves from a node still to come to one already done."""
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            keys = fill(c, 3000)
        cluster = setup.cluster
        first, last = cluster.owner(0), cluster.owner(SLOTS - 1)
        moved = list(range(SLOTS - 400, SLOTS - 200))
        s = Scanner(self, setup.proxy.port, "COUNT", "30")
        more, at = True, 0
        try:
            while more:
                more = s.step()
                if s.steps > 20 and at < len(moved):  # a few slots between any two steps
                    at += cluster.move_slots(moved[at:at + 8], last, first)
        finally:
            cluster.move_slots(moved[at:], last, first)
            cluster.move_slots(moved, first, last)
        self.check(keys, set(s.seen), "200 slots moved in mid-scan")

    def test_slots_move_everywhere_in_mid_scan(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            keys = fill(c, 3000)
        cluster = setup.cluster
        nodes = cluster.masters()
        owner = {s: i for i, n in enumerate(nodes) for s in range(SLOTS)
                 if any(a <= s <= b for v in cluster.view(n) if "myself" in v["flags"]
                        for a, b in v["slots"])}
        rng = random.Random(20260105)
        s = Scanner(self, setup.proxy.port, "COUNT", "25")
        touched = {}
        try:
            while s.step():
                for _ in range(2):
                    slot = rng.randrange(SLOTS)
                    source, target = owner[slot], rng.randrange(len(nodes))
                    if source != target:
                        touched.setdefault(slot, source)
                        cluster.move_slots([slot], nodes[source], nodes[target])
                        owner[slot] = target
        finally:
            for slot, home in touched.items():
                if owner[slot] != home:
                    cluster.move_slots([slot], nodes[owner[slot]], nodes[home])
        self.check(keys, set(s.seen), "%d slots moved in mid-scan" % len(touched))

    def test_half_moved_slots_are_seen_on_both_sides(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        cluster = setup.cluster
        slot = 7
        source, target = cluster.owner(slot), cluster.owner(SLOTS - 1)
        tag = tag_of_slot(slot)
        with setup.proxy.conn() as c:
            keys = fill(c, 500)
            half = {b"{%s}%d" % (tag.encode(), i) for i in range(100)}
            c.pipeline([("SET", k, "v") for k in half])
        cluster.begin_move(slot, source, target)
        try:
            some = source.ok("CLUSTER", "GETKEYSINSLOT", slot, 50)
            source.ok("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *some)
            for options in ((), ("COUNT", "1000"), ("MATCH", "{%s}*" % tag), ("TYPE", "string")):
                want = half if "MATCH" in options else keys | half
                self.check(want, Scanner(self, setup.proxy.port, *options).run(),
                           "a half-moved slot, %s" % (options,))
        finally:
            cluster.move_keys(slot, source, target)
            cluster.end_move(slot, source, target)
            cluster.move_slot(slot, target, source)

    def test_failover_in_mid_scan(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        cluster = setup.cluster
        with setup.proxy.conn() as c:
            keys = fill(c, 2000)
        s = Scanner(self, setup.proxy.port, "COUNT", "20")
        for _ in range(15):
            s.step()
        master = cluster.owner(0)
        replica = cluster.replica_of(master)
        wait_until("the replica has all keys", lambda: replica.cmd("DBSIZE") == master.cmd("DBSIZE"))
        cluster.failover(replica)
        while s.step():
            pass
        self.check(keys, set(s.seen), "CLUSTER FAILOVER in mid-scan")
        cluster.wait_ok()

    def test_restart_of_a_master_in_mid_scan(self):
        """The restarted master loads its file: another process, another order of its keys."""
        if STANDIN:
            self.skipTest("needs a cluster")
        cluster = Cluster(3, 0, args=("--dbfilename", "dump.rdb")).start()
        try:
            with Proxy(cluster.seeds()).wait_start() as proxy:
                with proxy.conn() as c:
                    keys = fill(c, 2000)
                for node in cluster.nodes:
                    node.ok("SAVE")
                s = Scanner(self, proxy.port, "COUNT", "20")
                for turn in range(3):
                    for _ in range(10 + 12 * turn):
                        if not s.step():
                            break
                    cluster.nodes[turn].restart()
                    cluster.wait_ok()
                    if s.cursor == b"0":
                        break
                while s.cursor != b"0":
                    s.step()
                self.check(keys, set(s.seen), "masters restarted in mid-scan")
        finally:
            cluster.stop()


class Fragmented(Case):
    """16,384 ranges of one slot: the worst map there can be."""

    @classmethod
    def setUpClass(cls):
        if STANDIN:
            raise unittest.SkipTest("needs a cluster")
        ranges = [[(s, s) for s in range(i, SLOTS, 2)] for i in range(2)]
        cls.cluster = Cluster(2, 0, ranges=ranges).start()
        cls.proxy = Proxy(cls.cluster.seeds()).wait_start()

    @classmethod
    def tearDownClass(cls):
        cls.proxy.stop()
        cls.cluster.stop()

    def test_scan_finishes(self):
        for count in (0, 2000):
            with self.proxy.conn() as c:
                keys = fill(c, count)
            s = Scanner(self, self.proxy.port, "COUNT", "1000", limit=20000)
            self.assertEqual(keys, s.run())
            self.assertLess(s.steps, 2000, "%d keys" % count)

    def test_everything_else_works_there(self):
        with self.proxy.conn() as c:
            fill(c, 1000, "frag")
            self.assertEqual([b"v"] * 1000, c.cmd("MGET", *["frag:%d" % i for i in range(1000)]))
            self.expect(c, "FLUSHALL", OK)
            self.expect(c, "DBSIZE", 0)


if __name__ == "__main__":
    unittest.main()
