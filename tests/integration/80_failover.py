"""A real cluster that changes under load: slots move, masters step down, masters die."""
import socket
import threading
import time
import unittest

from harness.case import Case, Load, Setup
from harness.proxy import SANITIZER, STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Error, Simple, encode
from harness.servers import SLOTS, Cluster, key_slot, tag_of_slot, wait_until

setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs a cluster")
    setup.start(oracle=False, node_timeout=2000)


def tearDownModule():
    setup.stop()


class ClusterCase(Case):
    def setUp(self):
        try:
            for node in setup.cluster.nodes:
                if not node.alive:
                    node.restart()
            setup.cluster.wait_ok(15)
            if setup.cluster.half_moved():
                raise AssertionError("slots were left half-moved")
        except AssertionError:  # a test that failed left a ruin behind: the others get a new one
            setup.stop()
            setup.start(oracle=False, node_timeout=2000)
        setup.proxy.wait_routes()


class Migration(ClusterCase):
    def keys_in(self, slots, each):
        return ["{%s}%d" % (tag_of_slot(s), i) for s in slots for i in range(each)]

    def test_1000_slots_under_load(self):
        """Not one client error, not one wrong answer, no write lost or doubled."""
        cluster = setup.cluster
        source, target = cluster.owner(0), cluster.owner(SLOTS - 1)
        ranges = next(v["slots"] for v in cluster.view(source) if "myself" in v["flags"])
        slots = [s for a, b in ranges for s in range(a, b + 1)][:scaled(1000)]
        keys = self.keys_in(slots[::3], 2)
        with setup.proxy.conn() as c:
            c.pipeline([("SET", k, k) for k in keys])
            with Load(setup.proxy.port, clients=4, keys=60, tag="mig") as load:
                time.sleep(0.3)
                done = cluster.move_slots(slots, source, target)
                time.sleep(0.3)
            self.assertEqual(len(slots), done)
            load.assert_no_error(self)
            load.check_counters(self, c)
            got = c.pipeline([("GET", k) for k in keys])
            self.assertEqual([], [(k, g) for k, g in zip(keys, got) if g != k.encode()][:5])
        # And back, with every key of the moving slots read all the time.
        wrong, stop = [], threading.Event()

        def checker():
            with setup.proxy.conn() as c:
                while not stop.is_set():
                    for k, g in zip(keys, c.pipeline([("GET", k) for k in keys])):
                        if g != k.encode():
                            wrong.append((k, g))
                    time.sleep(0.02)  # leave the interpreter to the one who moves
        threads = [threading.Thread(target=checker, daemon=True) for _ in range(2)]
        for t in threads:
            t.start()
        cluster.move_slots(slots, target, source)
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual([], wrong[:5], "GETs of keys that were there all the time")

    def test_order_through_a_moving_slot(self):
        """SET k 1..n pipelined while its slot goes to and fro: k ends at n, INCR skips nothing."""
        cluster = setup.cluster
        source, target = cluster.owner(0), cluster.owner(SLOTS - 1)
        slot = next(v["slots"] for v in cluster.view(source) if "myself" in v["flags"])[0][0]
        tag = "{%s}" % tag_of_slot(slot)
        stop, moves = threading.Event(), [0]
        problems = []

        def client(i):
            try:
                with setup.proxy.conn(timeout=grace(30)) as c:
                    total, n = 0, 0
                    k, counter = "%sk%d" % (tag, i), "%sc%d" % (tag, i)
                    c.cmd("DEL", k, counter)
                    while not stop.is_set():
                        commands = []
                        for _ in range(100):
                            n += 1
                            commands += [("SET", k, n), ("INCR", counter)]
                        replies = c.pipeline(commands + [("GET", k)])
                        want = []
                        for _ in range(100):
                            total += 1
                            want += [OK, total]
                        if replies != want + [b"%d" % n]:
                            at = next(j for j in range(201) if replies[j] != (want + [b"%d" % n])[j])
                            problems.append((i, commands[at] if at < 200 else "GET",
                                             (want + [b"%d" % n])[at], replies[at]))
                            return
            except Exception as e:
                problems.append((i, repr(e)))
        threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(3)]
        for t in threads:
            t.start()
        a, b = source, target
        end = time.monotonic() + 3
        while time.monotonic() < end and not problems:
            cluster.move_slots([slot], a, b)
            a, b = b, a
            moves[0] += 1
            # An ASK that is followed only after the slot has gone and come again would create the
            # key a second time, whoever follows it: give each answer time to be acted upon.
            time.sleep(grace(0.05))
        stop.set()
        for t in threads:
            t.join(40)
        if a is not source:
            cluster.move_slots([slot], a, source)
        self.assertEqual([], problems, "after %d moves (client, sent, expected, got)" % moves[0])
        self.assertGreater(moves[0], 5)

    def test_multi_key_commands_in_half_moved_slots(self):
        cluster = setup.cluster
        source, target = cluster.owner(0), cluster.owner(SLOTS - 1)
        first = next(v["slots"] for v in cluster.view(source) if "myself" in v["flags"])[0][0]
        slots = list(range(first, first + scaled(60)))
        groups = [["{%s}m%d" % (tag_of_slot(s), i) for i in range(8)] for s in slots]
        errors, stop = [], threading.Event()
        with setup.proxy.conn() as c:
            for g in groups:
                self.expect(c, ["MSET"] + [x for k in g for x in (k, k)], OK)

            def client(i):
                with setup.proxy.conn(timeout=grace(30)) as conn:
                    while not stop.is_set():
                        for g in groups[i::2]:
                            for line, want in ((["MGET"] + g, [k.encode() for k in g]),
                                               (["EXISTS"] + g, 8), (["TOUCH"] + g, 8),
                                               (["MSET"] + [x for k in g for x in (k, k)], OK)):
                                got = conn.cmd(*line)
                                if got != want:
                                    errors.append((line[:3], got))
                                    return
            threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(2)]
            for t in threads:
                t.start()
            for s in slots:
                cluster.begin_move(s, source, target)
                cluster.move_keys(s, source, target, batch=3)
                cluster.end_move(s, source, target)
            stop.set()
            for t in threads:
                t.join(40)
        cluster.move_slots(slots, target, source)
        self.assertEqual([], errors)

    def test_to_a_brand_new_node(self):
        """It owns nothing at first and was unknown when the proxy started."""
        cluster = setup.cluster
        source = cluster.owner(0)
        node = cluster.add_node()
        first = next(v["slots"] for v in cluster.view(source) if "myself" in v["flags"])[0][0]
        slots = list(range(first, first + 50))
        keys = self.keys_in(slots, 3)
        with setup.proxy.conn() as c, Load(setup.proxy.port, clients=2, tag="new") as load:
            c.pipeline([("SET", k, k) for k in keys])
            cluster.move_slots(slots, source, node)
            self.assertEqual([k.encode() for k in keys], c.pipeline([("GET", k) for k in keys]))
            cluster.move_slots(slots, node, source)
            self.assertEqual([k.encode() for k in keys], c.pipeline([("GET", k) for k in keys]))
            load.stop()
            load.assert_no_error(self)
        for other in cluster.live():
            if other is not node:
                other.cmd("CLUSTER", "FORGET", cluster.ids[node.port])
        node.kill()
        cluster.nodes.remove(node)
        cluster.wait_ok()


class Planned(ClusterCase):
    def test_cluster_failover_under_load(self):
        """CLUSTER FAILOVER on every shard: not one client error."""
        cluster = setup.cluster
        with setup.proxy.conn() as c:
            with Load(setup.proxy.port, clients=4, tag="fo") as load:
                time.sleep(0.3)
                for slot in (0, SLOTS // 2, SLOTS - 1):
                    master = cluster.owner(slot)
                    cluster.failover(cluster.replica_of(master))
                    time.sleep(0.6)
                    cluster.wait_ok(90)
            load.assert_no_error(self)
            load.check_counters(self, c)

    def test_takeover_and_back(self):
        """FAILOVER TAKEOVER asks nobody: the old master steps down a moment later by itself. Writes
        it took meanwhile are lost by the cluster, but no client may see an error."""
        cluster = setup.cluster
        master = cluster.owner(0)
        key = cluster.key_on(master, "take")
        with setup.proxy.conn(timeout=grace(30)) as c:
            errors = []
            for turn in range(2):
                replica = cluster.replica_of(cluster.owner(0))
                cluster.failover(replica, "TAKEOVER")
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    got = c.cmd("SET", key, turn)
                    if got != OK:
                        errors.append(got)
                cluster.wait_ok()
            self.assertEqual([], errors[:5])


class Death(ClusterCase):
    def test_kill_9_of_a_master(self):
        """The replica takes over after the cluster's own time-out. Other shards go on; this one's
        requests wait and then run; nothing runs twice; the first success follows the promotion
        within a second, on old and new connections."""
        cluster = setup.cluster
        master = cluster.owner(0)
        key = cluster.key_on(master, "dead")
        others = [cluster.key_on(m, "alive") for m in cluster.masters() if m is not master]
        with setup.proxy.conn(timeout=grace(30)) as old, setup.proxy.conn() as c:
            self.expect(old, ["SET", key, "0"], OK)
            time.sleep(0.2)
            first_ok, worst = [None], [0.0]
            incr = {"acked": 0, "unknown": 0, "other": []}
            stop = threading.Event()

            def victim():
                with setup.proxy.conn(timeout=grace(30)) as v:
                    while not stop.is_set():
                        got = v.cmd("INCR", key)
                        if isinstance(got, int):
                            incr["acked"] += 1
                            if killed[0] is not None and first_ok[0] is None:
                                first_ok[0] = time.monotonic()
                        elif got.startswith(b"UNKNOWN "):
                            incr["unknown"] += 1
                        else:
                            incr["other"].append(got)
                            time.sleep(0.01)

            def neighbour():
                with setup.proxy.conn(timeout=grace(30)) as n:
                    while not stop.is_set():
                        for k in others:
                            start = time.monotonic()
                            got = n.cmd("SET", k, "v")
                            took = time.monotonic() - start
                            if got != OK:
                                incr["other"].append((k, got))
                            worst[0] = max(worst[0], took)
            killed = [None]
            threads = [threading.Thread(target=f, daemon=True) for f in (victim, neighbour)]
            for t in threads:
                t.start()
            time.sleep(0.5)
            slot = cluster.kill_master(master)
            killed[0] = time.monotonic()
            promoted = cluster.wait_promoted(slot)
            at = time.monotonic()
            got = old.cmd("GET", key)
            old_took = time.monotonic() - at
            with setup.proxy.conn(timeout=grace(30)) as new:
                self.assertNotIsInstance(new.cmd("GET", key), Error)
                new_took = time.monotonic() - at
            time.sleep(0.5)
            stop.set()
            for t in threads:
                t.join(40)
            self.assertNotIsInstance(got, Error)
            self.assertEqual([], incr["other"][:5], "errors that clients saw (besides UNKNOWN)")
            self.assertLessEqual(incr["unknown"], 1, "requests of one client in flight at the kill")
            self.assertIsNotNone(first_ok[0], "no INCR succeeded after the kill")
            self.assertLess(first_ok[0] - at, grace(1.0), "first success after the promotion")
            self.assertLess(max(old_took, new_took), grace(1.5))
            self.assertLess(worst[0], grace(3.5), "slowest SET on a healthy shard")
            value = int(c.cmd("GET", key))
            self.assertLessEqual(value, incr["acked"] + incr["unknown"], "an INCR ran twice: %s" % incr)
            self.assertEqual(promoted.cmd("GET", key), b"%d" % value)
        master.restart()
        cluster.wait_ok()

    def wait_replaced(self, frozen):
        """Until a replica says that it has a slot which the frozen master had."""
        live = [n for n in setup.cluster.live() if n is not frozen]
        slots = next(v["slots"] for v in setup.cluster.view(live[0]) if v["port"] == frozen.port)

        def promoted():
            return any("myself" in v["flags"] and set(slots) & set(v["slots"])
                       for n in live for v in setup.cluster.view(n))
        if slots:  # else they know it already
            wait_until("a replica was promoted", promoted, 30)

    def test_frozen_master(self):
        """SIGSTOP: no reset, no refusal, nothing answers: as when a host loses its power."""
        cluster = setup.cluster
        with Proxy(cluster.seeds(), config="backend:\n  request_timeout: 1000ms\n"
                   "  connect_timeout: 500ms\n").wait_start() as p:
            master = cluster.owner(SLOTS // 2)
            key = cluster.key_on(master, "frozen")
            with p.conn(timeout=grace(40)) as c:
                self.expect(c, ["SET", key, "1"], OK)
                time.sleep(0.3)
                master.freeze()
                try:
                    self.wait_replaced(master)
                    at = time.monotonic()
                    got = c.cmd("GET", key)
                    self.assertEqual(b"1", got)
                    self.assertLess(time.monotonic() - at, grace(3.0))
                    self.expect(c, ["SET", key, "2"], OK)
                finally:
                    master.thaw()
                self.expect(c, ["GET", key], b"2")
        cluster.wait_ok()

    def test_servers_of_a_slow_master_are_not_pestered(self):
        """While nobody is promoted ROLE is asked every 10 ms for a while only."""
        config = ("topology:\n  query_timeout: 300ms\n  refresh: 1s\nbackend:\n  ride_through: 500ms\n"
                  "  request_timeout: 60s\n")
        with Cluster(3, 1, node_timeout=60000) as cluster, \
                Proxy(cluster.seeds(), config=config).wait_start() as p:
            master = cluster.owner(0)
            replica = cluster.replica_of(master)
            key = cluster.key_on(master)
            asked = replica.command_calls("role")
            master.freeze()
            try:
                self.eventually("the replica is asked", lambda: replica.command_calls("role") > asked + 5)
                time.sleep(1.3)
                asked, begun = replica.command_calls("role"), time.monotonic()
                time.sleep(1)
                per_s = (replica.command_calls("role") - asked) / (time.monotonic() - begun)
                self.assertTrue(0 < per_s < 12, "%.1f ROLE a second" % per_s)
                cluster.failover(replica, "TAKEOVER")

                def found():
                    with p.conn(timeout=0.3) as c:  # one that was sent too early waits there
                        try:
                            return c.cmd("SET", key, "1") == OK
                        except socket.timeout:
                            return False
                self.eventually("it is found", found, 3)
            finally:
                master.thaw()

    def test_what_a_frozen_master_was_not_sent_when_its_neighbours_trust_it(self):
        """Its slots are another's, and no node calls it failed: what is kept from it goes to the new owner
        all the same, in order, and not before what its client sent earlier is answered."""
        with Cluster(3, 1, node_timeout=60000) as cluster, Proxy(
                cluster.seeds(), workers=1, config="backend:\n  request_timeout: 60s\n").wait_start() as p:
            master = cluster.owner(0)
            key = "{%s}" % cluster.key_on(master, "kept")
            replica = cluster.replica_of(master)
            first, *others = conns = [p.conn(timeout=grace(20)) for _ in range(12)]
            for n, c in enumerate(conns):
                self.addCleanup(c.close)
                self.expect(c, ["SET", key + str(n), "0"], OK)
            with master.conn() as c:
                self.expect(c, ["SET", key, "0"], OK)
                self.expect(c, "WAIT 1 5000", 1)
            master.freeze()
            try:
                first.send(encode("INCR", key + "0"))
                time.sleep(0.6)  # longer than backend.silence: from now on it gets nothing more
                first.send(encode("INCR", key + "0"))
                for n, c in enumerate(others, 1):
                    k = key + str(n)
                    c.send(encode("INCR", k) * 3 + encode("MULTI") + encode("INCR", k) + encode("EXEC") +
                           encode("INCR", k) + encode("APPEND", k, "x" * 30000) + encode("STRLEN", k))
                conns.pop().close()  # one that leaves
                time.sleep(0.2)
                cluster.failover(replica, "TAKEOVER")
                at = time.monotonic()
                for n, c in enumerate(conns[1:], 1):
                    self.assertEqual([1, 2, 3, OK, Simple(b"QUEUED"), [4], 5, 30001, 30001],
                                     [c.read() for _ in range(9)])
                self.assertLess(time.monotonic() - at, grace(5), "seconds after the takeover")
                self.expect(c, ["GET", key + "0"], b"0")
            finally:
                master.thaw()
            self.assertEqual(1, first.read())
            self.assertIn(first.read(), (1, 2))  # 1: the old master ran the first, and lost it

    def test_requests_in_flight_at_a_master_that_freezes(self):
        """They end when another has taken its place, and not with request_timeout: a read runs
        again there, of a write is said that it may have run, save one that came late. So do
        commands that block."""
        cluster = setup.cluster
        with Proxy(cluster.seeds(), workers=1,
                   config="backend:\n  request_timeout: 40s\n").wait_start() as p:
            master = cluster.owner(0)
            key = "{%s}" % cluster.key_on(master, "stuck")
            conns = [p.conn(timeout=grace(35)) for _ in range(6)]
            reader, writer, pipelined, waits, pops, late = conns
            self.expect(reader, ["SET", key, "0"], OK)
            for c in conns:
                self.expect(c, ["GET", key], b"0")
            with master.conn() as c:  # a WAIT is about the writes of its own connection
                self.expect(c, ["SET", key, "0"], OK)
                self.expect(c, "WAIT 1 5000", 1)
            waits.send(encode("XREAD", "BLOCK", "0", "STREAMS", key + "x", "0"))
            pops.send(encode("BLPOP", key + "l", "0"))
            self.eventually("two wait", lambda: 2 == int(master.info("clients")["blocked_clients"]))
            master.freeze()
            try:
                reader.send(encode("GET", key))
                writer.send(encode("INCR", key))
                pipelined.send(encode("GET", key) + encode("APPEND", key, "") + encode("GET", key))
                time.sleep(0.6)
                late.send(encode("INCR", key + "late"))  # is not sent to a silent server
                self.wait_replaced(master)
                at = time.monotonic()
                self.assertEqual(1, late.read())
                self.assertIn(reader.read(), (b"0", b"1"))
                self.expect_error_reply(writer.read())
                self.assertIn(pipelined.read(), (b"0", b"1"))
                self.expect_error_reply(pipelined.read())
                self.assertIn(pipelined.read(), (b"0", b"1"))
                self.expect_error_reply(pops.read())
                self.eventually("the reader waits at the new master", lambda: "1" in [
                    n.info("clients")["blocked_clients"] for n in cluster.live() if n is not master])
                self.assertLess(time.monotonic() - at, 1 + grace(2.0),
                                "seconds after the promotion")
                self.not_error(writer.cmd("XADD", key + "x", "1-1", "f", "v"), "XADD")
                self.assertEqual([[(key + "x").encode(), [[b"1-1", [b"f", b"v"]]]]], waits.read())
                self.assertIn(writer.cmd("INCR", key), (1, 2), "an INCR ran twice")
            finally:
                master.thaw()
                for c in conns:
                    c.close()
        cluster.wait_ok()

    def expect_error_reply(self, got):
        self.assertIsInstance(got, Error)
        self.assertTrue(got.startswith(b"UNKNOWN "), got)

    def test_clients_come_and_go_while_a_shard_is_down(self):
        cluster = setup.cluster
        master = cluster.owner(SLOTS - 1)
        key = cluster.key_on(master, "comego")
        files = setup.proxy.fd_count()
        slot = cluster.kill_master(master)
        for i in range(scaled(2000)):
            c = setup.proxy.conn()
            if i % 4 == 0:
                c.send(encode("SET", key, "x"))
            elif i % 4 == 1:
                c.send(encode("GET", key)[:9])
            elif i % 4 == 2:
                c.send(encode("MGET", key, "a", "b", "c"))
            c.reset() if i % 3 else c.close()
        cluster.wait_promoted(slot)
        with setup.proxy.conn(timeout=grace(30)) as c:
            self.expect(c, ["SET", key, "up"], OK)
            self.expect(c, "PING", PONG)
        self.eventually("files are closed", lambda: setup.proxy.fd_count() <= files + 20)
        master.restart()
        cluster.wait_ok()

    def test_both_seed_and_shard(self):
        """The only seed dies; later another shard fails over; the proxy finds both."""
        cluster = setup.cluster
        seed = cluster.owner(0)
        with Proxy([seed.addr]).wait_start() as p, p.conn(timeout=grace(40)) as c:
            slot = cluster.kill_master(seed)
            cluster.wait_promoted(slot)
            other = cluster.owner(SLOTS - 1)
            key = cluster.key_on(other, "second")
            self.expect(c, ["SET", key, "1"], OK)
            cluster.failover(cluster.replica_of(other))
            self.expect(c, ["SET", key, "2"], OK)
            self.expect(c, ["GET", key], b"2")
        seed.restart()
        cluster.wait_ok()


class Whole(ClusterCase):
    def test_all_nodes_restart(self):
        """Everything is gone and comes back on the same addresses: errors meanwhile, then service."""
        cluster = setup.cluster
        with setup.proxy.conn(timeout=grace(40)) as c:
            self.expect(c, "SET restart:a 1", OK)
            for node in cluster.nodes:
                node.kill()
            c.send(encode("GET", "restart:a"))
            for node in cluster.nodes:
                node.start(wait=False)
            for node in cluster.nodes:
                node.wait_up()
            cluster.wait_ok()
            c.read()
            self.eventually("all keys are served", lambda: all(
                c.cmd("SET", "restart:%d" % i, i) == OK for i in range(20)), 10)


if __name__ == "__main__":
    unittest.main()
