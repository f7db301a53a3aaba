"""Sizes: every buffer's edge, values up to 512 MiB, replies streamed, clients that read slowly or
not at all, pipelines without end; and what all of it may cost in memory."""
import threading
import time
import unittest

from harness.case import Case, Setup, in_threads
from harness.proxy import SANITIZER, STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Conn, Error, encode

ALONE = True  # it looks at the clock or at memory
setup = Setup()
MIB = 1 << 20


def setUpModule():
    setup.start(oracle=False)


def tearDownModule():
    setup.stop()


def pattern(size, seed=0):
    """Bytes that show when a piece is missing, doubled or out of place."""
    block = b"".join(b"%08x" % ((i + seed) * 2654435761 & 0xffffffff) for i in range(512))
    return (block * (size // len(block) + 1))[:size]


class Edges(Case):
    """Lengths around every buffer size: a byte more or less may fall into another branch."""
    SIZES = sorted({base * k + d for base, ks in ((512, (1,)), (1024, (1, 2, 4)), (4096, (1, 2)),
                                                  (16384, (1, 2, 3, 4)), (65536, (1, 2)), (MIB, (1, 2)))
                    for k in ks for d in range(-3, 4)})

    def test_value_sizes(self):
        with setup.proxy.conn() as c:
            for size in self.SIZES:
                value = pattern(size, size)
                c.send(encode("SET", "edge", value) + encode("GET", "edge") + encode("STRLEN", "edge"))
                got = [c.read(), c.read(), c.read()]
                self.assertTrue(got == [OK, value, size], "a value of %d bytes came back as %s" % (
                    size, [g if not isinstance(g, bytes) else len(g) for g in got]))

    def test_request_sizes(self):
        """The whole request, not the value, at the edge; another request right behind it."""
        with setup.proxy.conn() as c:
            for total in self.SIZES:
                if total > 70000 and total % 2:
                    continue
                size = total - len(encode("SET", "edge", b"")) - len(str(total)) + 1
                if size < 1:
                    continue
                data = encode("SET", "edge", pattern(size))
                c.send(data + encode("STRLEN", "edge") + encode("ECHO", "behind"))
                self.assertEqual([OK, size, b"behind"], [c.read(), c.read(), c.read()],
                                 "a request of %d bytes" % len(data))

    def test_key_sizes(self):
        with setup.proxy.conn() as c:
            for size in self.SIZES:
                if size > 70000:
                    continue
                key = pattern(size, 7)
                self.assertEqual([OK, b"v", 1], c.pipeline([("SET", key, "v"), ("GET", key),
                                                            ("DEL", key)]), "a key of %d bytes" % size)

    def test_reply_sizes_in_arrays(self):
        with setup.proxy.conn() as c:
            for size in (1021, 1024, 16381, 16384, 65533, 65536, MIB - 3, MIB, MIB + 3):
                value = pattern(size)
                c.cmd("DEL", "edgel")
                c.cmd("RPUSH", "edgel", value, "", value)
                got = c.cmd("LRANGE", "edgel", 0, -1)
                self.assertTrue(got == [value, b"", value], "elements of %d bytes" % size)

    def test_many_small_elements(self):
        with setup.proxy.conn() as c:
            n = scaled(200000)
            c.cmd("DEL", "manyl")
            for i in range(0, n, 10000):
                c.cmd("RPUSH", "manyl", *["e%d" % k for k in range(i, i + 10000)])
            got = c.cmd("LRANGE", "manyl", 0, -1)
            self.assertEqual(len(got) // 10000 * 10000, len(got))
            self.assertTrue(got == [b"e%d" % i for i in range(len(got))])

    def test_every_length_up_to_600(self):
        """Whole requests and replies of each small length, pipelined."""
        with setup.proxy.conn() as c:
            commands = [("ECHO", "x" * n) for n in range(600)] + [
                x for n in range(600) for x in (("SET", "len", "y" * n), ("GET", "len"))]
            want = [b"x" * n for n in range(600)] + [x for n in range(600) for x in (OK, b"y" * n)]
            self.assertTrue(want == c.pipeline(commands))


class Huge(Case):
    def test_512_mib_value(self):
        """The largest value there is (a part of it in sanitizer builds) goes in and comes out."""
        size = 512 * MIB if not SANITIZER else 96 * MIB
        block = pattern(MIB)
        with setup.proxy.conn(timeout=grace(60)) as c, setup.proxy.conn(timeout=grace(20)) as other:
            c.send(b"*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$%d\r\n" % size)
            for i in range(size // MIB):
                c.send(block)
                if i % 100 == 0:
                    self.assertEqual(PONG, other.cmd("PING"))
            c.send(b"\r\n")
            self.assertEqual(OK, c.read())
            self.expect(c, "STRLEN huge", size)
            c.send(encode("GET", "huge"))
            self.assertEqual(b"$%d\r\n" % size, c.read_exact(len(b"$%d\r\n" % size)))
            for i in range(size // MIB):
                got = c.read_exact(MIB)
                self.assertTrue(got == block, "MiB number %d differs" % i)
                if c.pos > 8 * MIB:
                    del c.buf[:c.pos]
                    c.pos = 0
            self.assertEqual(b"\r\n", c.read_exact(2))
            self.expect(c, "DEL huge", 1)
        if not STANDIN:
            self.eventually("memory comes back", lambda: setup.proxy.rss_mib() < 250 or SANITIZER, 40)

    def test_several_at_once(self):
        def client(i):
            value = pattern(scaled(24) * MIB + i, i)
            with setup.proxy.conn(timeout=grace(60)) as c:
                for _ in range(2):
                    replies = [c.cmd("SET", "sev:%d" % i, value), c.cmd("GET", "sev:%d" % i)]
                    if replies[0] != OK or replies[1] != value:
                        raise AssertionError("client %d got something else back" % i)
                c.cmd("DEL", "sev:%d" % i)
        in_threads(4, client)

    def test_small_requests_between_large_ones(self):
        with setup.proxy.conn(timeout=grace(60)) as c:
            big = pattern(3 * MIB)
            for _ in range(3):
                replies = c.pipeline([("SET", "sm:a", "1"), ("SET", "sm:b", big), ("GET", "sm:a"),
                                      ("GET", "sm:b"), ("INCR", "sm:a"), ("SET", "sm:b", "small"),
                                      ("GET", "sm:b"), "PING", ("MGET", "sm:a", "sm:b")])
                self.assertTrue(replies == [OK, OK, b"1", big, 2, OK, b"small", PONG, [b"2", b"small"]],
                                [r if not isinstance(r, bytes) else len(r) for r in replies])

    def test_a_stalled_sender_holds_nobody(self):
        """Half of a large request, then a pause: others on the same node go on."""
        with setup.proxy.conn() as slow, setup.proxy.conn() as c:
            value = pattern(8 * MIB)
            data = encode("SET", "stalled", value)
            slow.send(data[:len(data) // 2])
            start = time.monotonic()
            for i in range(300):
                self.assertEqual(OK, c.cmd("SET", "stalled:%d" % (i % 10), i))
                self.assertEqual(OK, c.cmd("SET", "{stalled}x", i))
            self.assertLess(time.monotonic() - start, grace(3))
            slow.send(data[len(data) // 2:])
            self.assertEqual(OK, slow.read())
            self.assertTrue(value == slow.cmd("GET", "stalled"))

    def test_no_more_than_max_leased(self):
        """Large requests beyond backend.max_leased on their way to one node: refused at once."""
        if STANDIN:
            self.skipTest("a plain server has no such bound")
        node = setup.cluster.masters()[0]
        config = "backend:\n  max_leased: 2\n  request_timeout: 30s\n"
        key = setup.cluster.key_on(node, "leased")
        with Proxy(setup.cluster.seeds(), workers=1, config=config).wait_start() as p:
            conns = [p.conn(timeout=grace(20)) for _ in range(4)]
            self.assertEqual(OK, conns[0].cmd("SET", key, "small"))
            node.freeze()
            try:
                for c in conns[:2]:
                    c.send(encode("SET", key, pattern(200000)))
                time.sleep(0.3)
                for c in conns[2:]:
                    got = c.cmd("SET", key, pattern(200000))
                    self.assertIsInstance(got, Error)
                    self.assertIn(b"backend.max_leased", got)
            finally:
                node.thaw()
            self.assertEqual([OK, OK], [c.read() for c in conns[:2]])
            self.assertEqual(OK, conns[2].cmd("SET", key, pattern(200000)))
            for c in conns:
                c.close()

    def test_too_large(self):
        """What no server takes is refused at the header."""
        with setup.proxy.conn() as c:
            c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n")
            self.assertEqual(b"-ERR Protocol error: invalid bulk length\r\n", c.read_until_closed())


class SlowReaders(Case):
    VALUE = 64 * 1024

    def fill(self, count=20):
        with setup.proxy.conn() as c:
            c.pipeline([("SET", "slow:%d" % i, pattern(self.VALUE, i)) for i in range(count)])

    def test_a_client_that_never_reads(self):
        """Many times more than the bound is asked for and nothing read: the proxy keeps a bounded
        part, and its other clients do not notice."""
        if STANDIN:
            self.skipTest("a plain server's bounds differ")
        self.fill()
        with Proxy(setup.cluster.seeds(), workers=1).wait_start() as p:
            before = p.rss_mib()
            lazy = Conn(p.port, timeout=2, rcvbuf=4096)
            lazy.sock.settimeout(0.3)
            sent = 0
            request = b"".join(encode("GET", "slow:%d" % i) for i in range(20))
            try:
                for _ in range(1000):  # 1.2 GiB of replies
                    lazy.send(request)
                    sent += 20
            except OSError:
                pass  # the proxy stopped reading: that is back-pressure
            with p.conn() as c:
                worst = 0.0
                for i in range(500):
                    start = time.monotonic()
                    self.assertEqual(OK, c.cmd("SET", "slow:%d" % (100 + i % 20), i))
                    worst = max(worst, time.monotonic() - start)
            self.assertLess(worst, grace(0.5), "the slowest SET of a neighbour")
            peak = p.rss_mib()
            # output_pause 32 MiB, and what max_pipeline requests on their way can still add.
            # (A sanitizer's own memory comes on top: TSan's shadow is four bytes for one and more.)
            factor = {"": 1, "asan": 3, "tsan": 8}[SANITIZER or ""]
            self.assertLess(peak - before, (32 + 96) * factor,
                            "MiB kept for a client that asked for %d MiB" % (
                                sent * self.VALUE // MIB))
            lazy.close()
            if not SANITIZER:
                self.eventually("memory comes back", lambda: p.rss_mib() < before * 1.25 + 8, 30)

    def test_a_slow_reader_gets_everything(self):
        self.fill()
        n = scaled(1500)
        with Conn(setup.proxy.port, timeout=grace(30), rcvbuf=65536) as c:
            sender = threading.Thread(target=lambda: [c.send(encode("GET", "slow:%d" % (i % 20)))
                                                      for i in range(n)], daemon=True)
            sender.start()
            time.sleep(0.5)
            for i in range(n):
                got = c.read()
                self.assertTrue(got == pattern(self.VALUE, i % 20), "reply %d of %d" % (i, n))
            sender.join(10)

    def test_a_slow_reader_of_a_streamed_reply(self):
        """A reply that is longer than all buffers, taken in sips, while others use the same node."""
        size = scaled(160) * MIB
        with setup.proxy.conn(timeout=grace(60)) as c:
            value = pattern(size)
            self.assertEqual(OK, c.cmd("SET", "sips", value))
            c2 = Conn(setup.proxy.port, timeout=grace(30), rcvbuf=65536)
            c2.send(encode("GET", "sips") + encode("ECHO", "after"))
            time.sleep(0.3)
            worst = 0.0
            for i in range(300):
                start = time.monotonic()
                self.assertEqual(OK, c.cmd("SET", "{sips}x", i))
                worst = max(worst, time.monotonic() - start)
            self.assertLess(worst, grace(2.5), "the slowest SET to the node that streams")
            got = c2.read()
            self.assertTrue(got == value)
            self.assertEqual(b"after", c2.read())
            c2.close()
            self.expect(c, "DEL sips", 1)

    def test_a_reader_of_a_streamed_reply_that_leaves(self):
        size = scaled(64) * MIB
        with setup.proxy.conn(timeout=grace(60)) as c:
            self.assertEqual(OK, c.cmd("SET", "leaver", pattern(size)))
            for i in range(5):
                c2 = Conn(setup.proxy.port, timeout=grace(30), rcvbuf=65536)
                c2.send(encode("GET", "leaver"))
                c2.read_exact(1000)
                c2.reset() if i % 2 else c2.close()
                self.assertEqual(i + 1, c.cmd("APPEND", "{leaver}n", "x"))
            self.expect(c, "DEL leaver {leaver}n", 2)

    def test_a_million_gets_written_before_reading(self):
        """Redis answers them all, and so must we: slowed, never cut."""
        n = scaled(1000000)
        with setup.proxy.conn(timeout=grace(120)) as c, setup.proxy.conn() as other:
            self.assertEqual(OK, c.cmd("SET", "million", "v"))
            request = encode("GET", "million") * 10000
            problem = []

            def send():
                try:
                    for _ in range(n // 10000):
                        c.send(request)
                except OSError as e:
                    problem.append(e)
            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            sender.join(2)  # most of it is on its way, or stuck, before a byte is read
            self.assertEqual(PONG, other.cmd("PING"))
            count = n // 10000 * 10000
            got = 0
            want = b"$1\r\nv\r\n" * 10000
            while got < count:
                part = c.read_exact(len(want))
                self.assertTrue(part == want, "replies %d to %d" % (got, got + 10000))
                got += 10000
                if c.pos > 4 * MIB:
                    del c.buf[:c.pos]
                    c.pos = 0
            sender.join(20)
            self.assertEqual([], problem)
            self.expect(c, "PING", PONG)

    def test_all_requests_written_before_reading(self):
        """More answers than output_pause, and more requests than fit on the way: a client that reads
        nothing before it has written everything would wait for ever, unless it is read from."""
        config = "client:\n  output_pause: 1MiB\n  read_ahead: %s\n  output_stall: 1m\n"
        request = encode("GET", "unread") + encode("SET", "{unread}k", "x" * 900)
        count, value = 20000, b"v" * 3000  # 20 MB of requests, 60 MB of answers
        with Proxy(setup.cluster.seeds(), workers=1, config=config % "64MiB").wait_start() as p:
            with p.conn(timeout=grace(60)) as c, p.conn() as other:
                self.assertEqual(OK, c.cmd("SET", "unread", value))
                c.send(request * count)
                self.assertEqual(PONG, other.cmd("PING"))
                want = (b"$3000\r\n" + value + b"\r\n+OK\r\n") * 100
                for i in range(count // 100):
                    self.assertTrue(c.read_exact(len(want)) == want, "replies from %d" % (200 * i))
                self.expect(c, "PING", PONG)
        with Proxy(setup.cluster.seeds(), workers=1, config=config % "2MiB").wait_start() as p:
            with p.conn(timeout=grace(4)) as c:
                before = p.rss_mib()
                with self.assertRaises(TimeoutError, msg="20 MB were taken"):
                    c.send(request * count)
                if not SANITIZER:
                    self.assertLess(p.rss_mib() - before, 16)


class Memory(Case):
    def setUp(self):
        if STANDIN or SANITIZER:
            self.skipTest("sizes of the release build only")

    def test_idle_clients_cost_little_and_return(self):
        with Proxy(setup.cluster.seeds(), workers=2).wait_start() as p:
            with p.conn() as c:
                c.cmd("SET", "idle", "v")
            before = p.rss_mib()
            conns = []
            for _ in range(4000):
                c = p.conn()
                c.send(encode("GET", "idle"))
                conns.append(c)
            for c in conns:
                self.assertEqual(b"v", c.read())
            time.sleep(1.5)
            each = (p.rss_mib() - before) * MIB / len(conns)
            self.assertLess(each, 1024, "bytes an idle connection")
            for c in conns:
                c.close()
            self.eventually("memory comes back", lambda: p.rss_mib() < before * 1.25 + 2, 30)

    def test_burst_returns(self):
        with Proxy(setup.cluster.seeds(), workers=2).wait_start() as p:
            with p.conn(timeout=60) as c:
                c.pipeline([("SET", "burst:%d" % i, pattern(100000)) for i in range(50)])
                before = p.rss_mib()
                for _ in range(20):
                    for r in c.pipeline([["MGET"] + ["burst:%d" % i for i in range(50)]] * 4):
                        self.assertEqual(50, len(r))
            self.eventually("memory comes back", lambda: p.rss_mib() < before * 1.25 + 8, 30)

    def test_connections_come_and_go(self):
        p = setup.proxy
        before, files = None, None
        for turn in range(6):
            for _ in range(500):
                with p.conn() as c:
                    c.cmd("GET", "comego")
            if turn == 1:
                before, files = p.rss_mib(), p.fd_count()
        self.assertLess(p.rss_mib(), before + 3)
        self.assertLessEqual(p.fd_count(), files + 5)


if __name__ == "__main__":
    unittest.main()
