"""Everything a node can answer or fail to answer, on cue, from a scripted fake cluster."""
import os
import random
import threading
import time
import unittest

from harness import fake
from harness.case import Case, in_threads
from harness.fake import FakeCluster, PASS
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Closed, Error, encode
from harness.servers import SLOTS, free_port, key_slot, wait_until

CONFIG = "backend:\n  ride_through: 3000ms\n  request_timeout: 1500ms\n"
cluster = proxy = None


def setUpModule():
    global cluster, proxy
    if STANDIN:
        raise unittest.SkipTest("needs the proxy")
    cluster = FakeCluster(3, spare=1).start()
    proxy = Proxy(cluster.seeds(), config=CONFIG, workers=2).start().wait_routes()


def tearDownModule():
    problem = None
    try:
        if proxy:
            proxy.stop()
    except AssertionError as e:
        problem = e
    if cluster:
        cluster.stop()
    if problem:
        raise problem


def moved(slot, addr):
    return b"-MOVED %d %s\r\n" % (slot, addr.encode())


def unknown(reply):
    return isinstance(reply, Error) and reply.startswith(
        b"UNKNOWN write may or may not have been executed: ")


class FakeCase(Case):
    def setUp(self):
        cluster.clear()
        self.home = list(cluster.owner)
        self.shown = cluster.shown

    def tearDown(self):
        for node in cluster.nodes:
            node.clear()
            if node.listener is None:
                node.start()
        cluster.moving.clear()
        if cluster.owner != self.home or cluster.shown != self.shown:
            cluster.owner[:] = self.home
            cluster.shown = self.shown
            top = max(cluster.epoch)
            for i in range(len(cluster.epoch)):
                cluster.epoch[i] = top + 1 + i
        proxy.wait_routes(grace(20))
        self.settle()

    def settle(self):
        """Until the proxy's map is the cluster's again, and no worker takes a node for dead: a key of
        each needs no redirect."""
        def settled():
            with proxy.conn() as c, proxy.conn() as d:  # one goes to each worker
                return all(served(conn) for conn in (c, d))

        def served(c):
            for i in range(cluster.shown):
                key = cluster.key_on(i, "settle")
                before = cluster.nodes[i].calls("TYPE", key)
                others = sum(n.calls("TYPE", key) for n in cluster.nodes)
                c.cmd("TYPE", key)
                if (cluster.nodes[i].calls("TYPE", key) != before + 1 or
                        sum(n.calls("TYPE", key) for n in cluster.nodes) != others + 1):
                    return False
            return True
        wait_until("the proxy's map is the cluster's", settled, grace(15), 0.1)


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


class AtMostOnce(FakeCase):
    def test_executed_and_the_connection_dies(self):
        """The write ran and its reply is lost: never again, and the client is told."""
        for i, action in enumerate([fake.run_then_reset, fake.run_then_close, fake.half(1),
                                    fake.half(2, "close")]):
            key = cluster.key_on(0, "amo%d" % i)
            node = cluster.nodes[0]
            rule = node.rule("INCR", action, times=1, key=key)
            with self.subTest(i), proxy.conn(timeout=grace(10)) as c:
                got = c.cmd("INCR", key)
                self.assertTrue(unknown(got), "INCR whose reply was lost got %r" % (got,))
                self.assertEqual(1, rule.hits)
                self.assertEqual(b"1", node.store[key.encode()], "executions")
                self.expect(c, ["INCR", key], 2)

    def test_read_requests_are_sent_again(self):
        for i, action in enumerate([fake.reset, fake.run_then_reset, fake.half(3), fake.half(0)]):
            key = cluster.key_on(0, "reread%d" % i)
            cluster.nodes[0].store[key.encode()] = b"value"
            cluster.nodes[0].rule("GET", action, times=1, key=key)
            with self.subTest(i), proxy.conn(timeout=grace(10)) as c:
                self.expect(c, ["GET", key], b"value")

    def test_split_commands_obey_it_part_by_part(self):
        keys = [cluster.key_on(i, "sp") for i in range(3)]
        cluster.nodes[1].rule("MSET", fake.run_then_reset, times=1)
        cluster.nodes[1].rule("DEL", fake.run_then_reset, times=1)
        cluster.nodes[1].rule("MGET", fake.half(4), times=1)
        with proxy.conn(timeout=grace(10)) as c:
            pairs = [x for k in keys for x in (k, "v")]
            got = c.cmd("MSET", *pairs)
            self.assertTrue(unknown(got), got)
            self.assertEqual(1, cluster.nodes[1].calls("MSET"))
            self.expect(c, ["MGET"] + keys, [b"v"] * 3)
            got = c.cmd("DEL", *keys)
            self.assertTrue(unknown(got), got)
            self.expect(c, ["EXISTS"] + keys, 0)

    def test_pipeline_on_a_dying_connection(self):
        """n INCRs in flight, the node executes m of them and dies: m at most ran, each told right."""
        for m in (0, 1, 7, 50, 99):
            key = cluster.key_on(0, "pipe%d" % m)
            node = cluster.nodes[0]
            seen = []

            def action(conn, argv, seen=seen, m=m):
                seen.append(1)
                if len(seen) == m + 1:
                    conn.reset()
                    return None
                return PASS
            rule = node.rule("INCR", action, key=key)
            with self.subTest(executed=m), proxy.conn(timeout=grace(10)) as c:
                replies = c.pipeline([("INCR", key)] * 100)
                rule.left = 0
                ran = int(node.store.get(key.encode(), b"0"))
                fine = [r for r in replies if not isinstance(r, Error)]
                lost = [r for r in replies if isinstance(r, Error)]
                self.assertTrue(all(unknown(r) for r in lost), lost[:2])
                self.assertLessEqual(ran, len(fine) + len(lost))
                self.assertGreaterEqual(ran, len(fine))
                self.assertEqual(sorted(fine), fine, "answers in order")
                self.assertEqual(len(set(fine)), len(fine), "one answer twice")

    def test_a_reply_from_before_the_death_counts(self):
        key = cluster.key_on(0, "counts")

        def answer_then_die(conn, argv):
            conn.send(conn.node.execute(argv))
            time.sleep(0.05)
            conn.reset()
        cluster.nodes[0].rule("INCR", answer_then_die, times=1, key=key)
        with proxy.conn(timeout=grace(10)) as c:
            self.expect(c, ["INCR", key], 1)
            time.sleep(0.15)  # after the reset: before it, the outcome would be unknown
            self.expect(c, ["INCR", key], 2)

    def test_idle_connections_closed_by_the_server(self):
        """A server's `timeout`: the next request goes out on a new connection, with no error."""
        key = cluster.key_on(0, "idle")
        with proxy.conn(timeout=grace(10)) as c:
            for i in range(1, scaled(30) + 1):
                cluster.nodes[0].reset_all()
                time.sleep(0.02)
                self.expect(c, ["INCR", key], i)

    def test_connections_killed_under_load_from_all_workers(self):
        node = cluster.nodes[0]
        key = cluster.key_on(0, "killed")
        node.store[key.encode()] = b"v"
        stop = threading.Event()

        def killer():
            while not stop.is_set():
                time.sleep(0.1)
                node.reset_all()
        t = threading.Thread(target=killer, daemon=True)
        t.start()

        def client(i):
            with proxy.conn(timeout=grace(10)) as c:
                for _ in range(scaled(100)):
                    replies = c.pipeline([("GET", key)] * 5)
                    if replies != [b"v"] * 5:
                        raise AssertionError("GETs were answered %r" % (replies,))
        try:
            in_threads(8, client)
        finally:
            stop.set()
            t.join()


class Broken(FakeCase):
    def test_silence_ends_by_the_time_limit_and_harms_no_neighbour(self):
        silent, fine = cluster.key_on(0, "mute"), cluster.key_on(1, "loud")
        cluster.nodes[0].rule("INCR", fake.silence, times=1, key=silent)
        with proxy.conn(timeout=grace(12)) as a, proxy.conn(timeout=grace(12)) as b:
            start = time.monotonic()
            a.send(encode("INCR", silent))
            for i in range(1, 50):
                self.expect(b, ["INCR", fine], i)
            self.assertLess(time.monotonic() - start, grace(1.0), "the other node's clients waited")
            got = a.read()
            took = time.monotonic() - start
            self.assertTrue(unknown(got), "INCR into silence got %r" % (got,))
            self.assertTrue(1.0 < took < grace(5), "it took %.1f s" % took)
            self.eventually("the node is used again", lambda: a.cmd("INCR", silent) == 1)

    def test_a_late_reply_reaches_nobody(self):
        late = cluster.key_on(0, "late")
        node = cluster.nodes[0]
        node.store[late.encode()] = b"late"
        other = cluster.key_on(0, "other")
        node.store[other.encode()] = b"other"
        node.rule("GET", fake.delayed(2.5), times=1, key=late)
        with proxy.conn(timeout=grace(12)) as a, proxy.conn(timeout=grace(12)) as b:
            a.send(encode("GET", late))
            end = time.monotonic() + 4
            while time.monotonic() < end:
                got = b.cmd("GET", other)
                if not isinstance(got, Error):
                    self.assertEqual(b"other", got)
                time.sleep(0.01)
            got = a.read()
            self.assertTrue(got == b"late" or isinstance(got, Error), got)
            self.expect(a, ["GET", other], b"other")

    def test_a_reply_that_nobody_asked_for_closes_the_connection(self):
        key = cluster.key_on(0, "stray")
        node = cluster.nodes[0]
        node.store[key.encode()] = b"right"
        node.rule("GET", b"$5\r\nright\r\n$5\r\nstray\r\n", times=1, key=key)
        with proxy.conn(timeout=grace(10)) as c:
            self.expect(c, ["GET", key], b"right")
            for _ in range(20):
                self.expect(c, ["GET", key], b"right")

    def test_nonsense_instead_of_a_reply(self):
        for i, junk in enumerate([b"hello\r\n", b"\x00\x01\x02", b"$abc\r\n", b"*-7\r\n", b"$-7\r\n",
                                  b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*99999999999\r\n",
                                  b"$99999999999\r\n", b"$3\r\nabcde\r\n"]):
            key = cluster.key_on(0, "junk%d" % i)
            cluster.nodes[0].store[key.encode()] = b"v"
            cluster.nodes[0].rule("GET", junk, times=1, key=key)
            with self.subTest(junk), proxy.conn(timeout=grace(10)) as c:
                got = c.cmd("GET", key)
                self.assertTrue(got == b"v" or isinstance(got, Error), got)
                self.expect(c, "PING", PONG)
                self.expect(c, ["GET", key], b"v")

    def test_half_a_large_reply(self):
        """More than a large_reply was promised and the node dies half-way: no complete answer can be
        given any more, so the client is closed, and only this client."""
        key, other = cluster.key_on(0, "large"), cluster.key_on(0, "small")
        reply = b"$4000000\r\n" + b"x" * 4000000 + b"\r\n"
        cluster.nodes[0].rule("GET", fake.half(3000000, data=reply), key=key)
        with proxy.conn(timeout=grace(20)) as a, proxy.conn(timeout=grace(20)) as b:
            self.expect(b, ["SET", other, "v"], OK)
            a.send(encode("GET", key))
            try:
                got = a.read()
                self.assertIsInstance(got, Error, "a whole reply was made up")
            except (Closed, ConnectionResetError):
                pass
            self.expect(b, ["GET", other], b"v")

    def test_an_error_before_the_request_was_all_read(self):
        """A node refuses a large value early and closes: the error is that request's answer (or
        the outcome is unknown), and nobody else's."""
        key, other = cluster.key_on(0, "early"), cluster.key_on(0, "calm")
        node = cluster.nodes[0]

        def refuse(conn, size):
            if size < 1 << 20:
                return False
            conn.send(b"-ERR Protocol error: invalid bulk length\r\n")
            time.sleep(0.1)
            conn.reset()
            return True
        node.on_bulk = refuse
        with proxy.conn(timeout=grace(20)) as a, proxy.conn(timeout=grace(20)) as b:
            self.expect(b, ["SET", other, "v"], OK)
            got = a.cmd("SET", key, b"x" * (8 << 20))
            self.assertIsInstance(got, Error)
            for i in range(20):
                self.expect(b, ["GET", other], b"v")
            self.expect(a, ["GET", other], b"v")
        node.on_bulk = None

    def test_one_dead_node_stalls_nobody_else(self):
        """The latency of other shards does not follow the dead one."""
        fine = cluster.key_on(1, "swift")
        cluster.nodes[0].stop()
        dead = cluster.key_on(0, "gone")
        with proxy.conn(timeout=grace(12)) as c:
            c.send(encode("GET", dead))
            with proxy.conn() as d:
                worst = 0.0
                for i in range(200):
                    start = time.monotonic()
                    self.expect(d, ["SET", fine, i], OK)
                    worst = max(worst, time.monotonic() - start)
            self.assertLess(worst, grace(0.5), "the slowest SET on a healthy node")
            cluster.nodes[0].start()
            got = c.read()
            self.assertTrue(got is None or isinstance(got, Error), got)

    def test_ride_through_a_restart(self):
        """Requests that meet a dead node wait and then run, when it comes back in time."""
        key = cluster.key_on(0, "ride")
        node = cluster.nodes[0]
        node.store[key.encode()] = b"5"
        node.stop()
        with proxy.conn(timeout=grace(12)) as c:
            c.send(encode("INCR", key) + encode("GET", key))
            self.assertTrue(c.is_silent(0.8), "it did not wait")
            node.start()
            self.assertEqual(6, c.read())
            self.assertEqual(b"6", c.read())

    def test_an_outage_longer_than_the_bound(self):
        """The clock belongs to the outage: those waiting fail together, later ones at once; PING is
        not concerned; the first answer after the node's return follows quickly."""
        key = cluster.key_on(0, "long")
        node = cluster.nodes[0]
        node.stop()
        with proxy.conn(timeout=grace(12)) as c, proxy.conn(timeout=grace(12)) as d:
            start = time.monotonic()
            c.send(encode("INCR", key))
            time.sleep(1.0)
            d.send(encode("INCR", key))
            first, second = c.read(), d.read()
            took = time.monotonic() - start
            self.assertIsInstance(first, Error)
            self.assertIsInstance(second, Error)
            self.assertTrue(2.0 < took < grace(6.5), "both failed after %.1f s" % took)
            start = time.monotonic()
            self.assertIsInstance(c.cmd("INCR", key), Error)
            self.assertLess(time.monotonic() - start, grace(0.5), "later ones fail at once")
            self.expect(d, "PING", PONG)
            self.assertEqual(0, node.ran("INCR"))
            node.start()
            start = time.monotonic()
            self.eventually("the node is used again", lambda: not isinstance(
                c.cmd("GET", key), Error))
            self.assertLess(time.monotonic() - start, grace(2.5))


class Topology(FakeCase):
    def test_the_highest_epoch_wins(self):
        """A node with an old view cannot turn the map back."""
        key = cluster.key_on(0, "epoch")
        old = cluster.nodes_text(cluster.nodes[2])
        slot = key_slot(key)
        cluster.nodes[2].nodes_text = old
        cluster.give(slot, 1)
        cluster.nodes[1].store[key.encode()] = b"v"
        with proxy.conn(timeout=grace(10)) as c:
            for _ in range(30):
                self.expect(c, ["GET", key], b"v")
                time.sleep(0.02)
            asked = cluster.nodes[0].calls("GET", key)
            self.assertLessEqual(asked, 3, "requests to the old owner: the map went back")

    def test_node_lines_of_all_kinds(self):
        """Host names, extra fields, noaddr, handshake, failed replicas, IPv6, no bus port: what is not
        usable is left out, the rest routes."""
        extra = (
            "%040x 127.0.0.1:1@10001,host.example,shard-id=abc slave,fail %s 0 0 9 disconnected\n"
            "%040x :0@0 slave,noaddr %s 0 0 9 disconnected\n"
            "%040x 127.0.0.1:2@10002 handshake - 0 0 0 connected\n"
            "%040x fd01::85:14:243:18:6379@16379,h6 slave %s 0 0 9 connected\n"
            "%040x 127.0.0.1:3 slave %s 0 0 9 connected\n") % (
                1, cluster.nodes[0].id, 2, cluster.nodes[0].id, 3, 4, cluster.nodes[1].id, 5,
                cluster.nodes[1].id)
        for node in cluster.nodes[:3]:
            node.nodes_text = cluster.nodes_text(node).replace("\n", "\n" + extra, 1)
        cluster.nodes[0].reset_all()
        time.sleep(0.5)
        with proxy.conn() as c:
            for i in range(3):
                self.expect(c, ["SET", cluster.key_on(i, "lines"), "v"], OK)

    def test_answers_that_are_no_map(self):
        """Garbage, an error, nothing, an empty map: the old map serves on."""
        for text in ("", "garbage", "a b c\n" * 50, "\x00" * 100, "%040x x y z\n" % 1):
            for node in cluster.nodes[:3]:
                node.nodes_text = text
            cluster.nodes[1].reset_all()
            time.sleep(0.3)
            with self.subTest(text[:20]), proxy.conn() as c:
                for i in range(3):
                    self.expect(c, ["SET", cluster.key_on(i, "nomap"), "v"], OK)
        for node in cluster.nodes[:3]:
            node.nodes_text = None
            node.rule("CLUSTER", b"-ERR unknown command 'CLUSTER'\r\n")
        cluster.nodes[1].reset_all()
        time.sleep(0.3)
        with proxy.conn() as c:
            for i in range(3):
                self.expect(c, ["SET", cluster.key_on(i, "nomap"), "v"], OK)

    def test_1000_forced_refreshes_under_traffic(self):
        stop = threading.Event()

        def traffic(i):
            with proxy.conn(timeout=grace(20)) as c:
                while not stop.is_set():
                    replies = c.pipeline([("SET", "fr:%d" % k, "v") for k in range(30)])
                    bad = [r for r in replies if r != OK]
                    if bad:
                        raise AssertionError("SET under refreshes: %r" % (bad[:2],))
        errors = []

        def run():
            try:
                in_threads(3, traffic)
            except BaseException as e:  # noqa: B902
                errors.append(e)
        t = threading.Thread(target=run, daemon=True)
        t.start()
        for i in range(scaled(200)):
            cluster.give(i * 50 % SLOTS, i % 3)
            time.sleep(0.01)
        stop.set()
        t.join()
        if errors:
            raise errors[0]

    def test_a_slot_that_no_node_claims(self):
        """It fails after a refresh or two, not after the whole bound."""
        key = cluster.key_on(0, "unclaimed")
        slot = key_slot(key)
        top = max(cluster.epoch) + 1
        cluster.epoch[0] = top
        cluster.owner[slot] = -1
        refuse = b"-CLUSTERDOWN Hash slot not served\r\n"
        for node in cluster.nodes[:3]:
            node.rule("GET", refuse, key=key)
        with proxy.conn(timeout=grace(10)) as c:
            self.eventually("an error", lambda: isinstance(c.cmd("GET", key), Error))
            start = time.monotonic()
            self.expect_error(c, ["GET", key], "CLUSTERDOWN ...")
            self.assertLess(time.monotonic() - start, grace(1.5))
            self.expect(c, ["SET", cluster.key_on(1, "claimed"), "v"], OK)


    def test_a_slot_that_is_nobodys_for_a_moment(self):
        """A map of answers from before and after a move lacks it: the next ones are waited for."""
        config = "topology:\n  refresh_per_s: 1\n  refresh: 1s\n"
        with FakeCluster(3) as torn, Proxy(torn.seeds(), config=config).wait_start() as p, \
                p.conn(timeout=grace(20)) as c:
            key = torn.key_on(0, "torn")
            slot = key_slot(key)
            rule = torn.nodes[0].rule("SET", b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
                                      key=key)
            c.send(encode("SET", key, "1"))
            self.eventually("it was refused", lambda: rule.hits)
            torn.epoch[0] = max(torn.epoch) + 1
            torn.owner[slot] = -1
            self.eventually("the map has no owner for it",
                            lambda: " 1 slots without an owner" in p.log_text(), 10)
            torn.epoch[0] += 1
            torn.owner[slot] = 0
            torn.nodes[0].clear()
            self.assertEqual(OK, c.read())


class Start(Case):
    def test_some_seeds_are_dead(self):
        dead = ["127.0.0.1:%d" % free_port() for _ in range(2)]
        with FakeCluster(3) as c3:
            with Proxy(dead + [c3.nodes[1].addr]).wait_start() as p, p.conn() as c:
                for i in range(20):
                    self.expect(c, ["SET", "seed:%d" % i, i], OK)

    def test_all_seeds_are_dead_and_come_up_later(self):
        late = FakeCluster(3)
        with Proxy(late.seeds(), config="backend:\n  ride_through: 1000ms\n") as p:
            with p.conn(timeout=grace(10)) as c:
                self.expect(c, "PING", PONG)
                self.assertIsInstance(c.cmd("GET", "x"), Error)
                late.start()
                try:
                    self.eventually("keys are served", lambda: not isinstance(
                        c.cmd("GET", "x"), Error), 5)
                finally:
                    late.stop()

    def test_a_seed_that_accepts_and_never_answers(self):
        import socket
        mute = socket.socket()
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        with FakeCluster(3) as c3:
            with Proxy(["127.0.0.1:%d" % mute.getsockname()[1], c3.nodes[0].addr]) as p:
                with p.conn(timeout=grace(15)) as c:
                    self.expect(c, "SET x 1", OK)
        mute.close()

    def test_a_name_that_does_not_resolve(self):
        with FakeCluster(3) as c3:
            with Proxy(["no-such-host.invalid:7000", c3.nodes[0].addr]) as p:
                with p.conn(timeout=grace(30)) as c:
                    self.expect(c, "SET x 1", OK)

    def test_name_as_a_seed(self):
        with FakeCluster(3) as c3:
            with Proxy(["localhost:%d" % c3.nodes[0].port]).wait_start() as p, p.conn() as c:
                self.expect(c, "SET x 1", OK)

    def test_the_entry_node_dies_and_another_shard_moves(self):
        """The map is refreshed from all known nodes, not only from the seed."""
        with FakeCluster(3) as c3:
            with Proxy([c3.nodes[0].addr]).wait_start() as p, p.conn(timeout=grace(10)) as c:
                key = c3.key_on(1, "moves")
                self.expect(c, ["SET", key, "v"], OK)
                c3.nodes[0].stop()
                c3.nodes[2].store[key.encode()] = b"w"
                c3.give(key_slot(key), 2)
                self.expect(c, ["GET", key], b"w")
                time.sleep(grace(1))
                before = c3.nodes[1].calls("GET", key)
                self.expect(c, ["GET", key], b"w")
                self.assertEqual(before, c3.nodes[1].calls("GET", key), "the new map is known")

    def test_restarted_everywhere_with_new_addresses(self):
        """All known addresses are dead, only the seed leads to the new ones."""
        old, new = FakeCluster(2), FakeCluster(2)
        new.nodes[0].port = old.nodes[0].port
        old.start()
        with Proxy([old.nodes[0].addr]).wait_start() as p, p.conn(timeout=grace(15)) as c:
            self.expect(c, ["SET", old.key_on(1), "v"], OK)
            old.stop()
            new.epoch = [50, 51]
            new.start()
            try:
                self.eventually("all keys are served", lambda: all(
                    c.cmd("SET", "na:%d" % i, i) == OK for i in range(10)), 20)
            finally:
                new.stop()


class Many(Case):
    def test_many_nodes_many_threads_many_files(self):
        """30 nodes, 8 workers, file descriptors above 1024."""
        with FakeCluster(30) as c30:
            with Proxy(c30.seeds()[:3], workers=8).wait_start() as p:
                conns = [p.conn(timeout=grace(20)) for _ in range(scaled(1200))]
                for i, c in enumerate(conns):
                    c.send(encode("SET", "many:%d" % i, i) + encode("GET", "many:%d" % i))
                for i, c in enumerate(conns):
                    self.assertEqual([OK, b"%d" % i], [c.read(), c.read()])
                for c in conns:
                    c.close()
                self.eventually("files are closed", lambda: p.fd_count() < 1000)


if __name__ == "__main__":
    unittest.main()
