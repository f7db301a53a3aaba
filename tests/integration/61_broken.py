"""Replies that are lost, late, halved or nonsense, and nodes that go, on cue, from a scripted fake
cluster: writes run at most once, and nobody else is harmed."""
import threading
import time
import unittest

from harness import fake
from harness.case import in_threads
from harness.fake import PASS
from harness.fake_case import FakeCase
from harness.proxy import grace, scaled
from harness.resp import OK, PONG, Closed, Error, encode

cluster = proxy = None


def setUpModule():
    global cluster, proxy
    cluster, proxy = FakeCase.start()


def tearDownModule():
    FakeCase.stop()


def unknown(reply):
    return isinstance(reply, Error) and reply.startswith(
        b"UNKNOWN write may or may not have been executed: ")


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
                before = self.lost(c)
                cluster.nodes[0].reset_all()
                if i > 1:  # only this client's connection is there
                    self.eventually("it is seen", lambda: self.lost(c) > before, step=0.002)
                time.sleep(0.02)
                self.expect(c, ["INCR", key], i)

    def lost(self, conn):
        text = conn.cmd("INFO", "keyway")
        return int(text.split(b"keyway_backend_lost:")[1].split(b"\r")[0])

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


if __name__ == "__main__":
    unittest.main()
