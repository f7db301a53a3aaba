"""Everything a node can refuse a request with, on cue, from a scripted fake cluster."""
import os
import random
import threading
import time
import unittest

from harness.case import Case, in_threads
from harness.fake import FakeCluster, PASS
from harness.fake_case import FakeCase
from harness.proxy import Proxy, grace, scaled
from harness.resp import OK, PONG, Error, encode
from harness.servers import SLOTS, free_port, key_slot

cluster = proxy = None


def setUpModule():
    global cluster, proxy
    cluster, proxy = FakeCase.start()


def tearDownModule():
    FakeCase.stop()


def moved(slot, addr):
    return b"-MOVED %d %s\r\n" % (slot, addr.encode())


class Moved(FakeCase):
    def test_followed_and_remembered(self):
        key = cluster.key_on(0)
        slot = key_slot(key)
        with proxy.conn() as c:
            self.expect(c, ["SET", key, "old"], OK)
            cluster.nodes[1].store[key.encode()] = b"new"
            cluster.give(slot, 1)
            self.expect(c, ["GET", key], b"new")
            before = cluster.nodes[0].calls("GET", key)
            for _ in range(20):
                self.expect(c, ["GET", key], b"new")
            self.assertLessEqual(cluster.nodes[0].calls("GET", key) - before, 1,
                                 "requests that still went to the old owner")

    def test_every_kind_of_request(self):
        """Writes, reads, empty and binary values, several keys: resent byte for byte."""
        tag = next("t%d" % i for i in range(10000) if cluster.owner[key_slot("t%d" % i)] == 0)
        key = "{%s}" % tag
        with proxy.conn() as c:
            c.cmd("PING")
            cluster.give(key_slot(key), 2)
            blob = bytes(range(256))
            self.expect(c, ["SET", key + "a", blob], OK)
            self.expect(c, ["SET", key + "b", ""], OK)
            self.expect(c, ["MGET", key + "a", key + "b"], [blob, b""])
            self.expect(c, ["EXISTS", key + "a", key + "a"], 2)
            self.expect(c, ["DEL", key + "a", key + "b"], 2)

    def test_pipelined_order_through_a_move(self):
        """SET k 1..n, the first ones refused by a node that lost the slot: k ends at n."""
        for round_ in range(scaled(15)):
            key = cluster.key_on(0, "order", round_)
            slot, home, n = key_slot(key), cluster.owner[key_slot(key)], 400
            with proxy.conn() as c:
                self.expect(c, ["SET", key, "0"], OK)
                data = b"".join(encode("SET", key, i) for i in range(1, n + 1))
                cut = len(data) * (round_ + 1) // 20
                c.send(data[:cut])
                cluster.give(slot, 1 if home != 1 else 2)
                c.send(data[cut:] + encode("GET", key))
                replies = [c.read() for _ in range(n + 1)]
            bad = [(i, r) for i, r in enumerate(replies[:-1]) if r != OK]
            self.assertEqual([], bad[:3], "round %d: replies to SET" % round_)
            self.assertEqual(b"%d" % n, replies[-1], "round %d: the last write did not win" % round_)

    def test_incr_through_moves_back_and_forth(self):
        """(The slot stays longer than a pipeline takes: where it comes back in the midst of one, those
        that were refused before must not be executed behind those that were not.)"""
        key = cluster.key_on(0, "incr")
        slot = key_slot(key)
        stop = threading.Event()

        def mover():
            at = 0
            while not stop.wait(grace(0.2)):
                to = 1 - at
                a, b = cluster.nodes[at], cluster.nodes[to]
                with a.lock, b.lock:
                    if key.encode() in a.store:
                        b.store[key.encode()] = a.store.pop(key.encode())
                    cluster.give(slot, to)
                at = to
        t = threading.Thread(target=mover, daemon=True)
        t.start()
        try:
            with proxy.conn() as c:
                want = 0
                end = time.monotonic() + grace(2.5)
                while time.monotonic() < end:
                    replies = c.pipeline([("INCR", key)] * 50)
                    self.assertEqual(list(range(want + 1, want + 51)), replies)
                    want += 50
        finally:
            stop.set()
            t.join()
            stores = cluster.nodes[0].store, cluster.nodes[1].store
            for s in stores:
                s.pop(key.encode(), None)

    def test_literals(self):
        """Every way a MOVED can be written; all of them are followed, none reaches the client."""
        target = cluster.nodes[1]
        for form in ("127.0.0.1:%d", "::ffff:127.0.0.1:%d", "localhost:%d"):
            key = cluster.key_on(0, "lit" + form[:3])
            slot = key_slot(key)
            target.store[key.encode()] = b"there"
            with self.subTest(form):
                cluster.owner[slot] = 1  # no new epoch: the map does not tell, only the MOVED
                cluster.nodes[0].rule("GET", moved(slot, form % target.port), times=3, key=key)
                with proxy.conn() as c:
                    got = c.cmd("GET", key)
                    if form.startswith("127"):
                        self.assertEqual(b"there", got)
                    else:
                        self.assertNotIn(b"MOVED", bytes(got), "MOVED reached the client")

    def test_empty_host_means_the_node_asked(self):
        """"MOVED 3999 :6380" names the host that answered."""
        key = cluster.key_on(0, "eh")
        slot = key_slot(key)
        cluster.nodes[2].store[key.encode()] = b"there"
        cluster.owner[slot] = 2
        cluster.nodes[0].rule("GET", moved(slot, ":%d" % cluster.nodes[2].port), times=2, key=key)
        with proxy.conn() as c:
            self.expect(c, ["GET", key], b"there")

    def test_unusable_targets(self):
        """"?", nobody's port, the same endpoint, nonsense: the next map cures it, no MOVED shows."""
        for target in ("?:6379", "127.0.0.1:%d" % free_port(), cluster.nodes[0].addr, ":", "x",
                       "127.0.0.1:0", "127.0.0.1:99999"):
            with self.subTest(target):
                key = cluster.key_on(0, "ut" + target[:5])
                slot = key_slot(key)
                cluster.nodes[1].store[key.encode()] = b"there"
                cluster.give(slot, 1)
                cluster.nodes[0].rule("GET", moved(slot, target), key=key)
                with proxy.conn(timeout=grace(10)) as c:
                    self.expect(c, ["GET", key], b"there")

    def test_a_loop_ends(self):
        """Two nodes naming each other: an error within max_redirects, not for ever."""
        key = cluster.key_on(0, "loop")
        slot = key_slot(key)
        a, b = cluster.nodes[0], cluster.nodes[1]
        a.rule("GET", moved(slot, b.addr), key=key)
        b.rule("GET", moved(slot, a.addr), key=key)
        with proxy.conn(timeout=grace(10)) as c:
            got = c.cmd("GET", key)
            self.assertIsInstance(got, Error)
            self.assertNotIn(b"MOVED", got)
            self.expect(c, "PING", PONG)
        tries = a.calls("GET", key) + b.calls("GET", key)
        self.assertLessEqual(tries, 2 * (16 + 1), "GETs sent for one request")

    def test_refresh_is_limited_however_many_clients(self):
        """A storm of MOVED costs at most 5 refreshes a second, of all nodes."""
        seconds = 2.0
        node = cluster.nodes[0]
        keys = [cluster.key_on(0, "storm", i) for i in range(20)]
        other = cluster.nodes[1]
        for key in keys:
            other.store[key.encode()] = b"v"
        # The old owner is right by its own map and wrong by what it answers.
        for key in keys:
            node.rule("GET", moved(key_slot(key), other.addr), key=key)
            other.rule("GET", b"$1\r\nv\r\n", key=key)
        before = [n.calls("CLUSTER") for n in cluster.nodes]
        end = time.monotonic() + seconds
        sent = [0]

        def client(i):
            with proxy.conn(timeout=grace(20)) as c:
                while time.monotonic() < end:
                    replies = c.pipeline([("GET", k) for k in keys])
                    sent[0] += len(replies)
                    for r in replies:
                        if r != b"v":
                            raise AssertionError("a GET was answered %r" % (r,))
        in_threads(20, client)
        for n, b in zip(cluster.nodes[:3], before):
            self.assertLessEqual(n.calls("CLUSTER") - b, 5 * seconds + 5,
                                 "CLUSTER commands to one node while %d GETs ran" % sent[0])


class Ask(FakeCase):
    def half_moved(self, to=1, tag="ask"):
        i = next(i for i in range(100000) if cluster.owner[key_slot("%s%d" % (tag, i))] == 0)
        tag = "%s%d" % (tag, i)
        slot = key_slot(tag)
        cluster.moving[slot] = (0, to)
        return "{%s}" % tag, slot

    def test_asking_stands_right_before_on_the_same_connection(self):
        key, slot = self.half_moved()
        cluster.nodes[1].store[(key + "gone").encode()] = b"there"
        cluster.nodes[0].store[(key + "here").encode()] = b"still"
        with proxy.conn() as c:
            # Other traffic on the same connections at the same time.
            busy = [cluster.key_on(1, "busy", i) for i in range(5)]
            for _ in range(scaled(50)):
                replies = c.pipeline([("SET", k, "x") for k in busy] + [
                    ("GET", key + "gone"), ("GET", key + "here")] + [("GET", k) for k in busy])
                self.assertEqual([OK] * 5 + [b"there", b"still"] + [b"x"] * 5, replies)
        log = cluster.nodes[1].log
        by_conn = {}
        for number, argv in log:
            by_conn.setdefault(number, []).append(argv)
        for number, commands in by_conn.items():
            for i, argv in enumerate(commands):
                if argv[0].upper() == b"GET" and argv[1] == (key + "gone").encode():
                    self.assertEqual(b"ASKING", commands[i - 1][0].upper(),
                                     "before GET on connection %d came %r" % (number, commands[i - 1]))
                if argv[0].upper() == b"ASKING":
                    self.assertEqual(slot, key_slot(commands[i + 1][1]),
                                     "after ASKING on connection %d came %r" % (number, commands[i + 1]))

    def test_ask_does_not_change_the_map(self):
        key, _ = self.half_moved()
        with proxy.conn() as c:
            for i in range(10):
                self.expect(c, ["GET", key + "none%d" % i], None)
            self.assertEqual(10, cluster.nodes[0].calls("GET"), "each new request asks the owner")
            self.expect(c, ["SET", key + "new", "1"], OK)
            self.assertIn((key + "new").encode(), cluster.nodes[1].store)
            self.expect(c, ["GET", key + "new"], b"1")

    def test_ask_to_a_node_that_nobody_has_heard_of(self):
        """A new, empty node owns nothing and may be missing from the proxy's map."""
        key, _ = self.half_moved(to=3)
        with proxy.conn(timeout=grace(10)) as c:
            self.expect(c, ["SET", key + "n", "v"], OK)
            self.expect(c, ["GET", key + "n"], b"v")
        self.assertEqual(b"v", cluster.nodes[3].store[(key + "n").encode()])

    def test_pipelined_order_through_ask(self):
        for _ in range(scaled(10)):
            key, slot = self.half_moved(tag="ao%d-" % _)
            k = key + "k"
            with proxy.conn() as c:
                replies = c.pipeline([("INCR", k)] * 100 + [("GET", k)])
                self.assertEqual(list(range(1, 101)) + [b"100"], replies)
            cluster.moving.pop(slot)

    def test_order_while_keys_leave_one_by_one(self):
        """SET k 1..n while k itself moves from the owner to the importing node."""
        for round_ in range(scaled(10)):
            key, slot = self.half_moved(tag="lv%d-" % round_)
            k = (key + "k").encode()
            a, b = cluster.nodes[0], cluster.nodes[1]
            a.store[k] = b"0"
            n = 300
            with proxy.conn() as c:
                data = b"".join(encode("SET", k, i) for i in range(1, n + 1))
                cut = len(data) * (round_ + 1) // 12
                c.send(data[:cut])
                time.sleep(0.001)
                with a.lock, b.lock:
                    b.store[k] = a.store.pop(k)
                c.send(data[cut:] + encode("GET", k))
                replies = [c.read() for _ in range(n + 1)]
            self.assertEqual([], [r for r in replies[:-1] if r != OK][:3])
            self.assertEqual(b"%d" % n, replies[-1], "round %d: the last write did not win" % round_)
            cluster.moving.pop(slot)
            a.store.pop(k, None)
            b.store.pop(k, None)


class TryAgain(FakeCase):
    TRYAGAIN = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"

    def half_moved(self):
        key, slot = Ask.half_moved(self)
        cluster.nodes[0].store[(key + "a").encode()] = b"1"
        cluster.nodes[1].store[(key + "b").encode()] = b"2"
        return key, slot

    def test_reads_and_deletes_are_split_per_key(self):
        key, _ = self.half_moved()
        a, b, x = key + "a", key + "b", key + "none"
        with proxy.conn(timeout=grace(10)) as c:
            self.expect(c, ["MGET", a, b, x, a], [b"1", b"2", None, b"1"])
            self.expect(c, ["EXISTS", a, b, x, b], 3)
            self.expect(c, ["TOUCH", a, b, x], 2)
            self.expect(c, ["MGET", "elsewhere", a, b], [None, b"1", b"2"])
            self.expect(c, ["DEL", a, b, x, a], 2)
            cluster.nodes[0].store[a.encode()] = cluster.nodes[1].store[b.encode()] = b"x"
            self.expect(c, ["UNLINK", a, b, x], 2)

    def test_mset_waits_until_the_slot_has_moved(self):
        key, slot = self.half_moved()
        with proxy.conn(timeout=grace(10)) as c:
            c.send(encode("MSET", key + "a", "3", key + "b", "4"))
            self.assertTrue(c.is_silent(0.5), "MSET was answered though the slot is half-moved")
            a, b = cluster.nodes[0], cluster.nodes[1]
            with a.lock, b.lock:
                b.store[(key + "a").encode()] = a.store.pop((key + "a").encode())
                cluster.give(slot, 1)
            self.assertEqual(OK, c.read())
            self.expect(c, ["MGET", key + "a", key + "b"], [b"3", b"4"])

    def test_mset_waits_no_longer_than_the_bound(self):
        key, _ = self.half_moved()
        with proxy.conn(timeout=grace(12)) as c:
            start = time.monotonic()
            self.expect_error(c, ["MSET", key + "a", "3", key + "b", "4"], "TRYAGAIN ...")
            self.assertLess(time.monotonic() - start, grace(6))
            self.expect(c, ["GET", key + "a"], b"1")

    def test_a_later_write_to_the_same_key_is_not_overtaken(self):
        """MSET a b is refused, the pipelined SET a is not: the MSET must not run after it."""
        key, _ = self.half_moved()
        a, b = key + "a", key + "b"
        with proxy.conn(timeout=grace(12)) as c:
            first, second, got = c.pipeline([("MSET", a, "old", b, "old"), ("SET", a, "new"),
                                             ("GET", a)])
            self.assertEqual(OK, second)
            if first == OK:  # it waited for the MSET: fine as well, then it ran before
                self.assertEqual(b"new", got)
            else:
                self.assertIsInstance(first, Error)
                self.assertTrue(first.startswith(b"TRYAGAIN"), first)
            self.expect(c, ["GET", a], b"new")


    def test_a_later_split_write_to_the_same_key_is_not_overtaken(self):
        """SET a is refused, the MSET of several slots behind it is not: as above, whichever of the
        MSET's parts are answered first, and when the whole of it already is."""
        down = b"-CLUSTERDOWN The cluster is down\r\n"
        for round_, others in enumerate(((0,), (1,), (1, 2), (0, 1, 2))):
            a = cluster.key_on(0, "sw-a", round_)
            keys = [cluster.key_on(i, "sw-b", round_) for i in others]
            cluster.nodes[0].rule("SET", down, times=1, key=a)
            with self.subTest(others), proxy.conn(timeout=grace(12)) as c:
                mset = ["MSET", a, "new"] + [x for k in keys for x in (k, "new")]
                first, second = c.pipeline([("SET", a, "old"), mset])
                self.assertEqual(OK, second)
                if first != OK:
                    self.assertIsInstance(first, Error)
                    self.assertTrue(first.startswith((b"TRYAGAIN ", b"CLUSTERDOWN ")), first)
                self.expect(c, ["GET", a], b"new")
                self.expect(c, ["MGET"] + keys, [b"new"] * len(keys))


class ProgramOrder(Case):
    """Pipelines of one client over a slot that moves, or is half moved, at any place in them."""

    def test_random_pipelines(self):
        rounds = 10000 if os.environ.get("KEYWAY_TEST_LONG") else scaled(150)
        with FakeCluster(3) as self.cluster:
            with Proxy(self.cluster.seeds()).wait_start() as p, p.conn(timeout=grace(30)) as c:
                for number in range(rounds):
                    self.one_pipeline(c, number, random.Random(number))

    def one_pipeline(self, c, number, rng):
        a, b = ("{po%d}%s" % (number % 700, name) for name in "ab")
        slot = key_slot(a)
        home, to = self.cluster.owner[slot], (self.cluster.owner[slot] + rng.randint(1, 2)) % 3
        self.expect(c, ["MSET", a, "0", b, "0"], OK)
        commands = []
        for i in range(1, rng.randint(4, 30)):
            kind = rng.random()
            commands.append(("SET", a, i) if kind < 0.5 else ("GET", a) if kind < 0.65 else
                            ("MSET", a, i, b, i) if kind < 0.85 else ("MGET", a, b))
        commands.append(("SET", a, len(commands) + 1))
        begun, half = threading.Event(), rng.random() < 0.6
        hits = rng.randrange(sum(x[0] == "SET" for x in commands))
        self.on_hit(home, "SET", a, hits, lambda: (self.move(slot, home, to, [a], half) if half else
                                                   self.move(slot, home, to, [a, b], False),
                                                   begun.set()))
        c.send(b"".join(encode(*x) for x in commands))
        self.assertTrue(begun.wait(grace(10)), "the slot never began to move")
        if half:
            time.sleep(rng.choice((0, 0, 0.001, 0.01)))
            self.move(slot, home, to, [b], False)
        self.judge(c, a, b, commands, [c.read() for _ in commands], number)
        for node in self.cluster.nodes:
            node.clear()

    def on_hit(self, index, name, key, hits, do):
        left = [hits]

        def action(conn, argv):
            left[0] -= 1
            if left[0] == -1:
                do()
            return PASS
        self.cluster.nodes[index].rule(name, action, key=key)

    def move(self, slot, home, to, keys, half):
        source, target = self.cluster.nodes[home], self.cluster.nodes[to]
        with source.lock, target.lock:
            for key in keys:
                if key.encode() in source.store:
                    target.store[key.encode()] = source.store.pop(key.encode())
            if half:
                self.cluster.moving[slot] = (home, to)
            else:
                self.cluster.give(slot, to)

    def judge(self, c, a, b, commands, replies, number):
        """Each read sees the write before it (MGET that or a later one: it may be sent again, alone,
        when its keys are on two nodes); at the end the last write that was acknowledged is there."""
        what = "round %d: %s\n%s" % (number, commands, replies)
        at_a = at_b = 0
        for command, reply in zip(commands, replies):
            if command[0] == "SET":
                self.assertEqual(OK, reply, what)
                at_a = command[2]
            elif command[0] == "MSET" and reply == OK:
                at_a = at_b = command[2]
            elif command[0] == "MSET":
                self.assertIsInstance(reply, Error, what)
                self.assertTrue(reply.startswith(b"TRYAGAIN "), what)
            elif command[0] == "GET":
                self.assertEqual(b"%d" % at_a, reply, what)
            else:
                self.assertGreaterEqual(int(reply[0]), at_a, what)
                self.assertGreaterEqual(int(reply[1]), at_b, what)
        self.same_reply(what, [b"%d" % at_a, b"%d" % at_b], c.cmd("MGET", a, b))


class Refusals(FakeCase):
    """Refused without having run: resent, the client waits and sees nothing of it."""
    TEXTS = [b"-CLUSTERDOWN The cluster is down\r\n", b"-CLUSTERDOWN Hash slot not served\r\n",
             b"-LOADING Redis is loading the dataset in memory\r\n",
             b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
             TryAgain.TRYAGAIN]

    def test_passing_ones_are_ridden_through(self):
        for i, text in enumerate(self.TEXTS):
            with self.subTest(text), proxy.conn(timeout=grace(10)) as c:
                key = cluster.key_on(0, "pass%d" % i)
                rule = cluster.nodes[0].rule("INCR", text, times=3, key=key)
                self.expect(c, ["INCR", key], 1)
                self.assertEqual(3, rule.hits)
                self.assertEqual(0, rule.left)

    def test_lasting_ones_end_with_the_servers_own_words(self):
        for i, text in enumerate(self.TEXTS[:3]):
            with self.subTest(text), proxy.conn(timeout=grace(12)) as c:
                key = cluster.key_on(0, "last%d" % i)
                cluster.nodes[0].rule("INCR", text, key=key)
                got = c.cmd("INCR", key)
                self.assertEqual(text[1:-2].split()[0], bytes(got).split()[0] if got else got)
                self.expect(c, "PING", PONG)
                cluster.nodes[0].clear()
                self.eventually("the shard works again", lambda: not isinstance(
                    c.cmd("GET", key), Error))

    def test_readonly_from_a_demoted_master(self):
        """READONLY: another node is the master now."""
        key = cluster.key_on(0, "demoted")
        slot = key_slot(key)
        for s in range(SLOTS):
            if cluster.owner[s] == 0:
                cluster.owner[s] = 1
        cluster.epoch[1] = max(cluster.epoch) + 1
        text = b"-READONLY You can't write against a read only replica.\r\n"
        cluster.nodes[0].rule("SET", text)
        with proxy.conn(timeout=grace(10)) as c:
            self.expect(c, ["SET", key, "v"], OK)
        self.assertEqual(b"v", cluster.nodes[1].store[key.encode()])
        self.assertEqual(1, cluster.owner[slot])

    def test_errors_that_mean_something_else_pass_through(self):
        for i, text in enumerate([
                b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
                b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
                b"NOSAVE.\r\n", b"-NOREPLICAS Not enough good replicas to write.\r\n",
                b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to "
                b"persist to disk.\r\n", b"-WRONGTYPE Operation against a key holding the wrong kind of "
                b"value\r\n", b"-ERR MOVED is a word\r\n", b"-MOVEDX 1 2\r\n", b"-ASKING\r\n",
                b"-NOPERM this user has no permissions\r\n"]):
            key = cluster.key_on(0, "through%d" % i)
            rule = cluster.nodes[0].rule("INCR", text, key=key)
            with self.subTest(text), proxy.conn() as c:
                self.expect_raw(c, ["INCR", key], text)
                self.assertEqual(1, rule.hits, "how often it was sent")

    def test_to_a_request_without_a_slot(self):
        """SCRIPT KILL goes to each master: whatever slot an answer names, none is rerouted."""
        addr = cluster.nodes[0].addr.encode()
        for text in (b"-MOVED 65535 %s\r\n" % addr, b"-ASK 65535 %s\r\n" % addr,
                     b"-ASK 1 %s\r\n" % addr, b"-TRYAGAIN later\r\n"):
            for node in cluster.nodes:
                node.rule("SCRIPT", text)
            with self.subTest(text), proxy.conn(timeout=grace(10)) as c:
                self.expect_raw(c, "SCRIPT KILL", text)
            cluster.clear()

    def test_a_script_can_say_anything(self):
        """An error text made by a script is not a refusal, unless it could be one."""
        for i, text in enumerate([b"-MOVED 1 127.0.0.1:1\r\n", b"-MOVED 99999 x\r\n", b"-ASK 1 1\r\n",
                                  b"-MOVED\r\n", b"-TRYAGAIN later\r\n", b"-READONLY sorry\r\n",
                                  b"-CLUSTERDOWN no\r\n", b"-LOADING a script\r\n"]):
            key = cluster.key_on(0, "script%d" % i)
            rule = cluster.nodes[0].rule("EVAL", text, key=key)
            with self.subTest(text), proxy.conn() as c:
                self.expect_raw(c, ["EVAL", "x", 1, key], text)
                self.assertEqual(1, rule.hits, "how often the script was sent")

    def test_a_script_sent_to_a_node_that_no_map_names_yet(self):
        """It is believed when the next map names the node, and passed on when it does not."""
        key = cluster.key_on(0, "unsure")
        slot = key_slot(key)
        for node in cluster.nodes[1:]:
            node.rule("EVAL", b"+ran\r\n", key=key)
        text = moved(slot, "127.0.0.1:%d" % free_port())
        cluster.nodes[0].rule("EVAL", text, times=1, key=key)
        with proxy.conn(timeout=grace(10)) as c:
            first, second = c.pipeline([("EVAL", "x", 1, key), ("SET", key, "v")])
            self.assertEqual((text[1:-2], OK), (bytes(first), second))
            cluster.shown = 4  # a new node has come, and has the slot
            cluster.give(slot, 3)
            cluster.nodes[3].store[key.encode()] = b"v"
            first, second = c.pipeline([("EVAL", "x", 1, key), ("GET", key)])
            self.assertEqual((b"ran", b"v"), (bytes(first), second))

    def test_odd_replies_pass_untouched(self):
        """Whatever type a reply has, nested, empty, large; attributes and all."""
        for i, reply in enumerate([b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*-1\r\n$-1\r\n", b"*0\r\n", b"+\r\n",
                                   b":-9223372036854775808\r\n", b"$0\r\n\r\n",
                                   b"*2\r\n*0\r\n*1\r\n*1\r\n*1\r\n:5\r\n", b"-\r\n", b"-ERR  two  \r\n"]):
            key = cluster.key_on(0, "odd%d" % i)
            cluster.nodes[0].rule("GET", reply, key=key)
            with self.subTest(reply), proxy.conn() as c:
                self.expect_raw(c, ["GET", key], reply)

    def test_resp3_replies_pass_untouched(self):
        for i, reply in enumerate([b"%1\r\n+a\r\n:1\r\n", b"~2\r\n:1\r\n:2\r\n", b",1.5\r\n", b",inf\r\n",
                                   b",nan\r\n", b"#t\r\n", b"#f\r\n", b"_\r\n", b"(123456789012345678901\r\n",
                                   b"=6\r\ntxt:hi\r\n", b"!5\r\nERR x\r\n", b"%0\r\n", b"~0\r\n",
                                   b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n",
                                   b"|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n*1\r\n%1\r\n:1\r\n~1\r\n_\r\n",
                                   b"*2\r\n%1\r\n$1\r\nk\r\n*1\r\n,2\r\n#t\r\n"]):
            key = cluster.key_on(0, "odd3%d" % i)
            cluster.nodes[0].rule("GET", reply, key=key)
            with self.subTest(reply), proxy.conn(protocol=3) as c:
                c.send(encode("GET", key) + encode("PING"))
                got = c.read_exact(len(reply) + 7)
                self.same_reply("GET in RESP3", reply + b"+PONG\r\n", got)

    def test_a_push_on_a_shared_connection_is_nobodys_reply(self):
        key = cluster.key_on(0, "push")
        cluster.nodes[0].rule("GET", b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n$1\r\nv\r\n", key=key)
        with proxy.conn(protocol=3) as c:
            for _ in range(3):
                self.expect_raw(c, ["GET", key], b"$1\r\nv\r\n")


if __name__ == "__main__":
    unittest.main()
