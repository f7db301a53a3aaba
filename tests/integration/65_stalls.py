"""Nothing waits for ever, nothing is repeated without end, no client harms another: each test is
one way in which that could go wrong, on cue from a fake cluster of its own."""
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import fake
from harness.case import Case
from harness.fake import PASS, FakeCluster
from harness.proxy import BINARY, SANITIZER, STANDIN, TROUBLE, FromFile, Proxy, grace
from harness.resp import OK, PONG, Closed, Error, encode, show
from harness.servers import Server, free_port, scratch

ALONE = True  # it looks at the clock or at memory
KIB = 1 << 10
MIB = 1 << 20
RIDE_THROUGH = 1.5
CONFIG = "backend:\n  ride_through: 1500ms\n  request_timeout: 500ms\n"
PATIENT = "backend:\n  request_timeout: 60s\n"
ATTEMPTS = 20  # backend.max_redirects is 16
UNSERVED = b"-CLUSTERDOWN Hash slot not served\r\n"


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs the proxy")


class StallCase(Case):
    cluster = proxy = None

    def serve(self, config=CONFIG, workers=1):
        """A fake cluster and a proxy before it, both for this test only."""
        self.cluster = FakeCluster(3).start()
        self.addCleanup(self.cluster.stop)
        self.proxy = Proxy(self.cluster.seeds(), config=config, workers=workers).start()
        self.addCleanup(self.proxy.stop)
        self.proxy.wait_routes(grace(20))
        self.first, self.second, self.third = self.cluster.nodes
        return self.proxy

    def client(self, **kw):
        conn = self.proxy.conn(**dict({"timeout": grace(15)}, **kw))
        self.addCleanup(conn.close)
        return conn

    def reply(self, conn, sent):
        """The next reply, or a failure that tells what it was for."""
        try:
            return conn.read()
        except socket.timeout:
            self.fail("sent     %s\nexpected a reply\ngot      none within %.0f s" % (
                show(sent), conn.sock.gettimeout()))
        except (Closed, OSError) as e:
            self.fail("sent     %s\nexpected a reply\ngot      %r" % (show(sent), e))

    def ends(self, conn, sent, within):
        """Sends it; it is answered with an error, and in time."""
        begin = time.monotonic()
        conn.send(sent)
        got = self.reply(conn, sent)
        took = time.monotonic() - begin
        self.assertIsInstance(got, Error, "the reply to %s" % show(sent))
        self.assertLess(took, grace(within), "seconds until %s was answered %r" % (show(sent), got))
        return got

    def serves_others(self):
        """A new client reaches every node."""
        with self.proxy.conn(timeout=grace(10)) as c:
            for i in range(3):
                self.expect(c, ["SET", self.cluster.key_on(i, "others"), i], OK)


class Neighbour:
    """A client that sends one command again and again; notes the slowest answer and each error."""

    def __init__(self, port_of, *command):
        self.port_of = port_of
        self.command = command
        self.slowest = 0.0
        self.done = 0
        self.bad = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            with self.port_of.conn(timeout=grace(15)) as c:
                while not self.stopping.is_set():
                    begin = time.monotonic()
                    got = c.cmd(*self.command)
                    self.slowest = max(self.slowest, time.monotonic() - begin)
                    self.done += 1
                    if isinstance(got, Error):
                        self.bad.append(got)
                    time.sleep(0.002)
        except Exception as e:  # handed to the test
            self.bad.append(e)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(grace(20))

    def undisturbed(self, case, slowest):
        case.assertEqual([], self.bad[:3], "%d of %d times a neighbour's %s was not answered" % (
            len(self.bad), self.done, show(self.command)))
        case.assertGreater(self.done, 20, "how often the neighbour was served")
        case.assertLess(self.slowest, grace(slowest),
                        "seconds, the slowest of a neighbour's %d %s" % (
                            self.done, self.command[0]))


class Endings(StallCase):
    """Every request ends, after a bounded number of attempts."""

    def test_stream_paused_behind_a_refused_request(self):
        """The large reply waits for the first one, which is refused and sent again."""
        self.serve("backend:\n  ride_through: 3000ms\n  request_timeout: 1500ms\n")
        a, b = self.cluster.key_on(0), self.cluster.key_on(1)
        big = b"x" * (8 * MIB)
        self.second.store[b.encode()] = big

        def refuse(conn, argv):
            time.sleep(0.5)
            return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
        self.first.rule("GET", refuse, times=1, key=a)
        c = self.client()
        sent = encode("GET", a) + encode("GET", b)
        begin = time.monotonic()
        c.send(sent)
        got = self.reply(c, sent)
        self.assertIsNone(got, "first reply to %s" % show(sent))
        got = self.reply(c, sent)
        took = time.monotonic() - begin
        self.assertTrue(got == big, "second reply to %s: expected 8 MiB of x, got %s" % (
            show(sent), show(got)))
        self.assertLess(took, grace(5), "seconds until both were answered")
        self.assertEqual(2, self.first.calls("GET", a), "how often the refused one was sent")

    def test_long_reply_cut_off_for_the_only_monitor(self):
        """Its end closes another connection to the same node."""
        self.serve(CONFIG + "  large_reply: 16KiB\n")

        def half(conn, argv):
            for head in (b"$1000000\r\n", b""):
                conn.send(head + b"x" * 30000)
                time.sleep(0.1)
            fake.silence(conn, argv)
        for node in self.cluster.nodes:
            node.rule("MONITOR", lambda conn, argv: conn.send(b"+OK\r\n"))
            node.rule("COMMAND", half)
        for _ in range(2):
            c = self.client()
            self.expect(c, "MONITOR", OK)
            c.send(encode("COMMAND"))
            with self.assertRaises((Closed, ConnectionError)):
                c.read()
            self.serves_others()

    def test_read_whose_connection_always_breaks(self):
        self.serve()
        key = self.cluster.key_on(0)
        self.first.rule("GET", fake.reset, key=key)
        self.ends(self.client(), encode("GET", key), 2 * RIDE_THROUGH + 1)
        time.sleep(0.3)
        calls = self.first.calls("GET", key)
        self.assertTrue(2 <= calls <= ATTEMPTS, "GET was sent %d times, expected 2 to %d" % (
            calls, ATTEMPTS))
        self.serves_others()

    def test_read_that_is_never_answered(self):
        self.serve()
        key = self.cluster.key_on(0)
        self.first.rule("GET", fake.silence, key=key)
        # One more attempt may have begun just before the end; timeouts are looked at each second.
        self.ends(self.client(), encode("GET", key), RIDE_THROUGH + 0.5 + 1 + 2)
        calls = self.first.calls("GET", key)
        self.assertTrue(2 <= calls <= ATTEMPTS, "GET was sent %d times, expected 2 to %d" % (
            calls, ATTEMPTS))
        self.serves_others()

    def test_write_that_is_never_answered_while_others_go_on_writing(self):
        """The server takes what comes behind it, as one that hangs does: that is no progress."""
        self.serve("backend:\n  silence: 0\n  request_timeout: 500ms\n")
        key, other = self.cluster.key_on(0), self.cluster.key_on(0, "busy")
        self.first.rule("INCR", fake.silence, times=1, key=key)
        stop = threading.Event()

        def busy():
            with self.proxy.conn(timeout=grace(15)) as c:
                while not stop.wait(0.01):
                    c.send(encode("GET", other))
        thread = threading.Thread(target=busy, daemon=True)
        c = self.client()
        c.send(encode("INCR", key))
        time.sleep(0.05)
        thread.start()
        try:
            begin = time.monotonic()
            got = self.reply(c, encode("INCR", key))
            took = time.monotonic() - begin
        finally:
            stop.set()
            thread.join(grace(20))
        self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
        self.assertLess(took, grace(2), "seconds until INCR was answered; the bound is 0.5")

    def test_a_silent_server_gets_nothing_more(self):
        """So nothing can have run there, and a write, too, goes again."""
        self.serve("backend:\n  request_timeout: 2000ms\n")
        key, other = self.cluster.key_on(0), self.cluster.key_on(0, "held")
        self.first.rule("INCR", fake.silence, times=1, key=key)
        c, d = self.client(), self.client()
        c.send(encode("INCR", key))
        time.sleep(0.6)
        d.send(encode("SET", other, "1"))
        time.sleep(0.6)
        self.assertEqual(0, self.first.calls("SET", other))
        got = self.reply(c, encode("INCR", key))
        self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
        self.assertEqual(OK, self.reply(d, encode("SET", other, "1")))
        self.assertEqual(1, self.first.calls("SET", other))

    def test_a_slow_server_gets_the_rest_when_it_answers(self):
        self.serve("backend:\n  request_timeout: 20s\n")
        key, other = self.cluster.key_on(0), self.cluster.key_on(0, "held")
        slow = self.first.rule("INCR", fake.delayed(1.0), times=1, key=key)
        c, d = self.client(), self.client()
        c.send(encode("INCR", key))
        self.eventually("the server is at work", lambda: slow.hits)
        time.sleep(0.6)
        d.send(b"".join(encode("APPEND", other, "x") for _ in range(100)))
        self.assertEqual(1, self.reply(c, encode("INCR", key)))
        self.assertEqual(list(range(1, 101)), [d.read() for _ in range(100)])

    def test_a_proxy_that_was_stopped_reads_before_it_judges(self):
        """Longer than request_timeout (a machine that sleeps, or moves): the replies have come."""
        self.serve("backend:\n  request_timeout: 1000ms\n")
        keys = [self.cluster.key_on(i, "asleep") for i in range(3)]
        conns = [self.client() for _ in keys]
        for c, key in zip(conns, keys):
            self.expect(c, ["SET", key, 0], OK)
        rules = [n.rule("INCR", fake.delayed(0.5), times=1) for n in self.cluster.nodes]
        for c, key in zip(conns, keys):
            c.send(encode("INCR", key))
        self.eventually("the servers are at work", lambda: all(r.hits for r in rules))
        time.sleep(0.2)  # a tick has seen that they wait
        self.proxy.proc.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        self.proxy.proc.send_signal(signal.SIGCONT)
        for c, key in zip(conns, keys):
            self.assertEqual(1, self.reply(c, encode("INCR", key)))
        self.assertNotIn("backend.request_timeout", self.proxy.log_text())

    def test_upload_that_is_always_cut_off(self):
        self.serve()
        key, cuts = self.cluster.key_on(0), []

        def cut(conn, size):
            if size < MIB:
                return False
            cuts.append(conn.number)
            begin = conn.received
            while conn.received - begin < 2 * MIB:
                conn._fill()
                del conn.buf[:]
            conn.reset()
            return True
        self.first.on_bulk = cut
        self.ends(self.client(), encode("SET", key, "x" * (16 * MIB)), 2 * RIDE_THROUGH + 2)
        time.sleep(0.3)
        self.assertTrue(1 <= len(cuts) <= ATTEMPTS, "the SET was begun %d times, expected 1 to %d" %
                        (len(cuts), ATTEMPTS))
        self.assertNotIn(key.encode(), self.first.store)
        self.first.on_bulk = None
        self.serves_others()

    def test_client_list_while_the_process_ends(self):
        """One worker still has a request to answer, the other one has none and ends: it is asked
        all the same."""
        p = self.serve(PATIENT, workers=2)
        key = self.cluster.key_on(0)
        self.first.rule("GET", fake.delayed(1.5), key=key)
        conns = [self.client() for _ in range(4)]
        for c in conns:
            self.expect(c, "PING", PONG)
        c = conns[1]
        sent = encode("GET", key) + encode("CLIENT", "LIST")
        c.send(sent)
        time.sleep(0.3)
        begin = time.monotonic()
        p.terminate()
        self.assertIsNone(self.reply(c, sent))
        got = self.reply(c, sent)
        self.assertIsInstance(got, bytes, "the reply to CLIENT LIST")
        self.assertIn(b"addr=%s " % c.local_addr.encode(), got, "the client itself")
        status = p.wait_exit(grace(20))
        took = time.monotonic() - begin
        p.check = False  # it has ended: what stop() would look at is looked at here
        self.assertEqual(0, status, p.log_text()[-3000:])
        self.assertIsNone(TROUBLE.search(p.log_text()), p.log_text()[-6000:])
        self.assertLess(took, grace(5), "seconds from SIGTERM to the end")


class Neighbours(StallCase):
    def test_unserved_slot_does_not_slow_its_node(self):
        self.serve()
        bad, good = self.cluster.key_on(0), self.cluster.key_on(0, "z")
        self.first.rule("GET", UNSERVED, key=bad)
        with Neighbour(self.proxy, "GET", good) as n:
            got = self.ends(self.client(), encode("GET", bad), RIDE_THROUGH + 2)
            self.assertTrue(got.startswith(b"CLUSTERDOWN"), "GET of an unserved slot got %r" % got)
            time.sleep(0.2)
        n.undisturbed(self, 0.4)

    def test_too_large_part_of_a_merged_answer_fails_alone(self):
        self.serve(CONFIG + "client:\n  output_pause: 64KiB\n  output_max: 1MiB\n")
        a, b, counter = self.cluster.key_on(0), self.cluster.key_on(1), self.cluster.key_on(0, "w")
        self.first.store[a.encode()] = b"x" * (3 * MIB)
        with Neighbour(self.proxy, "INCR", counter) as n:
            time.sleep(0.2)
            c = self.client()
            for _ in range(3):
                self.expect_error(c, ["MGET", a, b], "ERR KEYWAY a part of a merged answer is "
                                  "larger than client.output_max")
            self.expect(c, ["MGET", b, counter + ":none"], [None, None])
            time.sleep(0.3)
        n.undisturbed(self, 2)
        self.assertEqual(b"%d" % n.done, self.first.store[counter.encode()], "the value after that "
                         "many INCRs")
        self.assertEqual(3, self.first.calls("MGET", a), "how often 3 MGETs of it were sent")

    def test_memory_max_closes_the_one_that_holds_most(self):
        if SANITIZER:
            self.skipTest("only the release build's allocator tells how much is in use")
        self.serve("memory_max: 48MiB\n"
                   "client:\n  output_pause: 1GiB\n  max_inflight_bytes: 64MiB\n")
        key = self.cluster.key_on(0)
        self.first.store[key.encode()] = b"x" * 12000
        others = []
        for i in range(30):
            c = self.client()
            sent = encode("SET", "n%d" % i, "y" * 30000)
            c.send(sent[:20000])
            others.append((c, sent))
        greedy = self.client()
        closed = False
        try:  # 96 MB of replies, of which nothing is read
            for _ in range(40):
                greedy.send(encode("GET", key) * 200)
                time.sleep(0.02)
        except OSError:
            closed = True
        if not closed:
            self.eventually("the client that holds most is closed",
                            lambda: "memory_max is reached" in self.proxy.log_text(), 10)
        time.sleep(1.2)  # it is looked at each second: nobody else is closed after it
        for c, sent in others:
            c.send(sent[20000:])
            self.assertEqual(OK, self.reply(c, sent), "a neighbour's SET")
        lines = re.findall(r".*memory_max is reached.*", self.proxy.log_text())
        self.assertEqual(1, len(lines), "clients closed: %s" % lines)


    def memory_max(self, fill, alone=True):
        """`fill` makes a client hold some 50 MB. When another one, which holds less, needs more than
        is left, the first is closed. `alone`: and nobody else."""
        if SANITIZER:
            self.skipTest("only the release build's allocator tells how much is in use")
        if self.proxy is None:
            self.serve(self.MEMORY)
        key = self.cluster.key_on(0) if self.cluster else "k"
        value = b"x" * 100000
        other, greedy = self.client(rcvbuf=4096), self.client()
        self.expect(other, ["SET", key, value], OK)
        number = greedy.cmd("CLIENT", "ID")
        fill(greedy)
        self.assertEqual([], re.findall("memory_max is reached", self.proxy.log_text()))
        other.send(encode("GET", key) * 300)
        self.eventually("a client is closed",
                        lambda: "memory_max is reached" in self.proxy.log_text(), 10)
        if alone:
            self.assertEqual([value] * 300, [other.read() for _ in range(300)])
        lines = re.findall(r"client (\d+) closed.*memory_max is reached.*", self.proxy.log_text())
        self.assertEqual([str(number)], lines if alone else lines[:1])

    MEMORY = "memory_max: 64MiB\nclient:\n  output_pause: 1GiB\n"

    def test_memory_max_counts_requests_behind_one_without_answer(self):
        def fill(c):
            slow, other = self.cluster.key_on(2, "slow"), self.cluster.key_on(1)
            self.third.rule("GET", fake.silence, key=slow)
            c.send(encode("GET", slow) + encode("SET", other, "v" * 65000) * 770)
            self.eventually("all have run", lambda: self.second.ran("SET") == 770)
        self.memory_max(fill)

    def test_memory_max_counts_what_is_held(self):
        def fill(c):
            self.second.stop()
            c.send(encode("SET", self.cluster.key_on(1), "v" * 50_000_000))
            self.eventually("it is held", lambda: b" qbuf=0 " in [
                x for x in self.client().cmd("CLIENT", "LIST").splitlines()
                if c.local_addr.encode() in x][0])
        self.memory_max(fill)

    def test_memory_max_counts_channels(self):
        server = Server().start()
        self.addCleanup(server.stop)
        self.proxy = Proxy([], ["--server", server.addr], workers=1, config=self.MEMORY).start()
        self.addCleanup(self.proxy.stop)
        self.proxy.wait_routes()

        def fill(c):
            for i in range(1700):
                self.assertEqual(i + 1, c.cmd("SUBSCRIBE", b"%09d" % i + b"c" * 30000)[2])
        self.memory_max(fill, alone=False)  # to UNSUBSCRIBE from them all takes time, and room


class ComingUp(StallCase):
    def test_bytes_that_wait_for_a_connection_are_bounded(self):
        """Those beyond backend.max_inflight_bytes are held, and not sent to it all the same."""
        self.serve("backend:\n  max_inflight_bytes: 1MiB\n  connect_timeout: 60s\n"
                   "  ride_through: 1s\n")
        keys = ["{%s}%d" % (self.cluster.key_on(1), i) for i in range(40)]
        conns = [self.client(protocol=3) for _ in keys]
        # Their connection, in RESP3, does not get through its handshake.
        self.second.rule("INFO", fake.silence)
        for k, client in zip(keys, conns):
            client.send(encode("SET", k, b"v" * 60000))
        # 1 MiB waits for the connection, the others for backend.ride_through.
        first = [not client.is_silent(grace(2) if i == 0 else 0.05) for i, client in enumerate(conns)]
        self.assertTrue(15 <= first.count(False) <= 20, first)
        for client, came in zip(conns, first):
            if came:
                self.assertTrue(client.read().startswith(b"CLUSTERDOWN "))
        self.second.clear()
        self.second.reset_all()
        for client, came in zip(conns, first):
            if not came:
                self.assertEqual(OK, client.read())


class Order(StallCase):
    def test_large_script_load_and_evalsha(self):
        """A large request takes another connection; what follows must not overtake it."""
        self.serve()
        key, sha, seen = self.cluster.key_on(0), "a" * 40, []

        def load(conn, argv):
            time.sleep(0.2)
            seen.append("SCRIPT")
            return b"$40\r\n%s\r\n" % sha.encode()

        def run(conn, argv):
            seen.append("EVALSHA")
            return b"+ran\r\n"
        self.first.rule("SCRIPT", load)
        self.first.rule("EVALSHA", run)
        for node in self.cluster.nodes[1:]:
            node.rule("SCRIPT", b"$40\r\n%s\r\n" % sha.encode())
        c = self.client()
        for size in (1000, 100000, 1000, 300000):
            with self.subTest(size):
                del seen[:]
                sent = (encode("SCRIPT", "LOAD", "--" + "x" * size) +
                        encode("EVALSHA", sha, 1, key) * 2)
                c.send(sent)
                got = [self.reply(c, sent) for _ in range(3)]
                self.assertEqual([sha.encode(), b"ran", b"ran"], [bytes(g) for g in got])
                self.assertEqual(["SCRIPT", "EVALSHA", "EVALSHA"], seen, "the order at the node")


class Idle(StallCase):
    def test_idle_timeout_spares_who_waits_or_reads(self):
        """The time counts from the last answer that was waited for, or the last byte taken."""
        self.serve("client:\n  idle_timeout: 2000ms\n" + PATIENT)
        slow, big = self.cluster.key_on(0), self.cluster.key_on(1)
        value, count = random.Random(65).randbytes(900000), 20
        self.second.store[big.encode()] = value
        self.first.rule("GET", fake.delayed(4), key=slow)
        waiting, reading = self.client(), self.client(rcvbuf=65536)
        waiting.send(encode("GET", slow))
        reading.send(encode("GET", big) * count)
        want = (b"$%d\r\n%s\r\n" % (len(value), value)) * count
        got = bytearray()

        def take(size):
            try:
                piece = reading.sock.recv(size)
            except OSError as e:
                self.fail("%r after %d of %d bytes" % (e, len(got), len(want)))
            if not piece:
                self.fail("closed after %d of %d bytes and %.1f s of reading" % (
                    len(got), len(want), time.monotonic() - begin))
            got.extend(piece)
        begin = time.monotonic()
        while time.monotonic() - begin < 3.9:
            take(16 * KIB)
            time.sleep(0.05)
        self.assertLess(len(got), len(want) // 4, "bytes read slowly, or this shows nothing")
        self.assertIsNone(self.reply(waiting, encode("GET", slow)), "a reply after 4 s")
        if not SANITIZER:  # a busy machine may let the second pass
            time.sleep(1.2)
            waiting.send(encode("PING"))
            self.assertEqual(PONG, self.reply(waiting, encode("PING")),
                             "1.2 s after that reply, idle_timeout being 2 s")
        while len(got) < len(want):
            take(MIB)
        self.assertTrue(got == want, "the replies read slowly differ")
        for c in (waiting, reading):  # and now they are idle
            self.assertEqual(b"", c.read_until_closed(grace(8)))


class Stored(StallCase):
    """Replies that cannot go out yet, because an earlier request is not answered."""

    def setUp(self):
        if SANITIZER:
            self.skipTest("sizes of the release build only")

    def open_gate(self, key):
        """GET key is answered from when the event is set."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def wait(conn, argv):
            gate.wait(30)
            return PASS
        self.first.rule("GET", wait, key=key)
        return gate

    def bounded(self, before, what):
        end, peak = time.monotonic() + 2, 0
        while time.monotonic() < end:
            peak = max(peak, self.proxy.rss_mib())
            time.sleep(0.05)
        self.assertLess(peak - before, 24, "MiB kept with output_max 2 MiB, for %s" % what)

    def test_own_replies(self):
        p = self.serve("client:\n  max_inflight_bytes: 1MiB\n  output_pause: 1MiB\n"
                       "  output_max: 2MiB\n" + PATIENT)
        key, count = self.cluster.key_on(0), 100
        gate = self.open_gate(key)
        before = p.rss_mib()
        c = self.client()
        text = b"x" * MIB
        c.send(encode("GET", key))
        request = encode("ECHO", text)
        sender = threading.Thread(target=lambda: [c.send(request) for _ in range(count)],
                                  daemon=True)
        sender.start()
        self.bounded(before, "%d ECHOs of 1 MiB behind a slow GET" % count)
        self.assertTrue(sender.is_alive(), "100 MiB of requests were taken, none answered")
        gate.set()
        self.assertIsNone(self.reply(c, encode("GET", key)))
        for i in range(count):
            got = self.reply(c, request)
            self.assertTrue(got == text, "reply %d to ECHO: %s" % (i, show(got)))
        sender.join(grace(10))

    def test_servers_replies(self):
        p = self.serve("client:\n  output_pause: 1MiB\n  output_max: 2MiB\n" + PATIENT)
        key, big, count = self.cluster.key_on(0), self.cluster.key_on(1), 200
        gate = self.open_gate(key)
        self.second.store[big.encode()] = b"x" * 1000000
        before = p.rss_mib()
        c = self.client()
        c.send(encode("GET", key) + encode("GET", big) * count)
        self.bounded(before, "%d GETs of 1 MB behind a slow GET" % count)
        gate.set()
        # Either way is documented: what was asked for in full and in order, or a closed connection.
        replies = 0
        try:
            self.assertIsNone(c.read())
            for replies in range(1, count + 1):
                got = c.read()
                self.assertTrue(got == b"x" * 1000000, "reply %d: %s" % (replies, show(got)))
        except (Closed, ConnectionResetError):
            pass
        except socket.timeout:
            self.fail("%d of %d replies came, and neither more nor the end" % (replies, count))
        self.serves_others()


class Bounds(StallCase):
    def test_max_leased_with_two_dialects(self):
        """The one exclusive connection speaks RESP2; then a RESP3 client needs one."""
        self.serve(CONFIG + "  max_leased: 1\n")
        value = "x" * 100000
        for protocol in (2, 3, 2, 3):
            with self.subTest(protocol), self.proxy.conn(protocol=protocol,
                                                         timeout=grace(10)) as c:
                key = self.cluster.key_on(0, "p%d" % protocol)
                self.expect(c, ["SET", key, value], OK)
                self.expect(c, ["STRLEN", key], len(value))

    def test_unblocked_when_it_cannot_be_held(self):
        """CLIENT UNBLOCK closes a connection that is still being opened; there is no room to wait."""
        self.serve("backend:\n  ride_through_bytes: 0\n  connect_timeout: 10s\n")
        key = self.cluster.key_on(0)
        waiting, other = self.client(), self.client()
        number = waiting.cmd("CLIENT", "ID")
        self.expect(waiting, ["GET", key], None)
        self.first.rule("CLIENT", fake.silence)
        waiting.send(encode("BLPOP", key, "0"))
        self.eventually("it is unblocked", lambda: 1 == other.cmd("CLIENT", "UNBLOCK", str(number)))
        self.assertIsInstance(self.reply(waiting, b"BLPOP"), Error)
        self.serves_others()

    def test_ride_through_bytes_0_and_the_first_pipeline(self):
        """A connection still being opened is no outage. RESP3 needs one of its own."""
        self.serve("backend:\n  ride_through_bytes: 0\n")
        for node in self.cluster.nodes:
            node.rule("HELLO", fake.delayed(0.2))  # it takes its time to open
        key = self.cluster.key_on(0)
        with self.proxy.conn(protocol=3, timeout=grace(10)) as c:
            commands = [("SET", key, i) for i in range(50)] + [("GET", key)]
            got = c.pipeline(commands)
            self.same_reply(b"".join(encode(*x) for x in commands), repr([OK] * 50 + [b"49"]),
                            repr(got))

    def test_counts_without_end_cost_nothing(self):
        p = self.serve()
        before = p.rss_mib()
        conns = []
        for _ in range(100):
            c = self.client()
            c.send(b"*2000000000\r\n$3\r\n")
            conns.append(c)
        with p.conn(timeout=grace(10)) as c:
            self.expect(c, "PING", PONG)
        time.sleep(0.3)
        self.assertTrue(p.alive, p.log_text()[-3000:])
        self.assertLess(p.rss_mib() - before, 16 if not SANITIZER else 150,
                        "MiB for 100 times *2000000000 $3")
        for c in conns:
            c.close()
        self.serves_others()


class Upstreams(Case):
    def test_forty_with_a_user_each(self):
        count = 40
        clusters = [FakeCluster(1, user="user%d" % i, password="secret%d" % i).start()
                    for i in range(count)]
        for cluster in clusters:
            self.addCleanup(cluster.stop)
        ports = [free_port() for _ in range(count)]
        path = os.path.join(scratch("config"), "forty.yaml")
        with open(path, "w") as f:
            f.write("workers: 2\nlisteners:\n")
            for i, port in enumerate(ports):
                f.write("  - address: 127.0.0.1:%d\n    upstream: up%d\n" % (port, i))
            f.write("upstreams:\n")
            for i, cluster in enumerate(clusters):
                f.write("  up%d:\n    cluster: [%s]\n    user: user%d\n    password: secret%d\n" % (
                    i, cluster.seeds()[0], i, i))
        done = subprocess.run([BINARY, "--check", "-c", path], capture_output=True, text=True,
                              timeout=grace(20))
        self.assertEqual(0, done.returncode, "--check of 40 upstreams: %s%s" % (
            done.stdout, done.stderr))
        proxy = FromFile(path, ports[0]).start()
        self.addCleanup(proxy.stop)
        for i, port in enumerate(ports):
            for protocol in (2, 3):
                proxy.port = port
                proxy.wait_routes(grace(20))
                with proxy.conn(protocol=protocol, timeout=grace(10)) as c:
                    self.expect(c, ["SET", "of", "%d.%d" % (i, protocol)], OK)
                self.assertEqual(b"%d.%d" % (i, protocol), clusters[i].nodes[0].store[b"of"],
                                 "SET through listener %d arrived at its servers" % i)


class Whole(StallCase):
    """Long lines and long arrays, passed on byte for byte."""

    def test_long_status_line_inside_a_long_array(self):
        self.serve(PATIENT)
        key, count, line = self.cluster.key_on(0), 360000, b"+" + b"s" * 400000 + b"\r\n"
        c = self.client(timeout=grace(20))
        for at in (0, 1000, count // 2, count):
            with self.subTest("the status line after %d integers" % at):
                want = b"".join([b"*%d\r\n" % (count + 1)] +
                                [b":%d\r\n" % i for i in range(at)] + [line] +
                                [b":%d\r\n" % i for i in range(at, count)])
                self.first.rule("EVAL", want, times=1)
                sent = encode("EVAL", "return ...", 1, key)
                c.send(sent + encode("PING"))
                try:
                    got = c.read_exact(len(want))
                except (Closed, OSError) as e:
                    self.fail("sent     %s\nexpected %d bytes\ngot      %d, then %r" % (
                        show(sent), len(want), len(c.buf) - c.pos, e))
                differs = next((i for i in range(0, len(want), 4096)
                                if got[i:i + 4096] != want[i:i + 4096]), None)
                if differs is not None:
                    self.same_reply(sent, want[differs:differs + 4096], got[differs:differs + 4096])
                self.assertEqual(PONG, self.reply(c, encode("PING")))

    def test_long_inline_command_in_two_segments(self):
        """The same bytes to the proxy and to a plain server."""
        self.serve()
        oracle = Server().start()
        self.addCleanup(oracle.stop)
        rng = random.Random(60)
        value = bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(60000))
        keys = b" ".join(b"key%d" % i for i in range(6500))
        lines = [b"SET inline " + value, b"SET inline \"" + value[:-8] + b"\\x00 \\n\"",
                 b"EXISTS " + keys, b"ECHO " + value,
                 b"MSET " + b" ".join(b"m%d %d" % (i, i) for i in range(5000)),
                 b"   SET  inline  '" + value + b"'  "]
        for line in lines:
            for end in (b"\n", b"\r\n"):
                whole = line + end
                for cut in sorted({1, 5, 16384, 16385, 30000, rng.randrange(2, len(line)),
                                   len(line) - 1, len(line), len(whole) - 1}):
                    after = b"GET inline\r\n" if b"inline" in line else b"PING\r\n"
                    got = [self.two_segments(port, whole[:cut], whole[cut:], after)
                           for port in (oracle.port, self.proxy.port)]
                    self.same_reply(show(whole, 60) + " cut at %d, then %s" % (cut, show(after)),
                                    show(got[0], 500), show(got[1], 500))
                    self.assertEqual(got[0], got[1])

    def two_segments(self, port, one, two, after):
        """All that is answered until PONG."""
        with socket.create_connection(("127.0.0.1", port), timeout=grace(10)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(one)
            time.sleep(0.003)
            s.sendall(two)
            s.sendall(after + b"PING over\r\n")
            got = b""
            try:
                while not got.endswith(b"over\r\n"):
                    piece = s.recv(MIB)
                    if not piece:
                        return got + b" closed"
                    got += piece
            except socket.timeout:
                return got + b" and then nothing"
            return got


if __name__ == "__main__":
    unittest.main()
