"""Clients that mean no good, or know no better: they harm themselves only."""
import os
import random
import socket
import threading
import time
import unittest

from harness.case import Case, Setup, in_threads, raw_exchange
from harness.proxy import SANITIZER, STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Closed, Conn, encode

ALONE = True  # it looks at the clock or at memory
setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


class Neighbour:
    """A well-behaved client that checks every answer while something else goes on."""

    def __init__(self, case, port=None):
        self.case = case
        self.port = port or setup.proxy.port
        self.problem = None
        self.done = 0
        self.served = threading.Event()
        self.stop = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.served.wait(grace(20))
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(30)
        self.case.assertIsNone(self.problem, "a well-behaved client was disturbed")
        self.case.assertGreater(self.done, 1, "served before and at the end")

    def _run(self):
        try:
            with Conn(self.port, timeout=grace(20)) as c:
                last = False
                while not last:
                    last = self.stop.is_set()
                    self.done += 1
                    n = b"%d" % self.done
                    want = [OK, n, PONG, [n, n]]
                    got = c.pipeline([("MSET", "nb:a", n, "nb:b", n), ("GET", "nb:a"), "PING",
                                      ("MGET", "nb:a", "nb:b")])
                    if got != want:
                        self.problem = "expected %r, got %r" % (want, got)
                        return
                    self.served.set()
                    time.sleep(0.001)
        except Exception as e:
            self.problem = repr(e)


class Garbage(Case):
    def test_random_bytes(self):
        rng = random.Random(20260106)
        with Neighbour(self):
            cases = [rng.randbytes(rng.randrange(1, 3000)) for _ in range(scaled(300))]
            raw_exchange(setup.proxy.port, cases, quiet=0.5)

    def test_random_bytes_like_a_plain_server(self):
        """Up to the first line break redis-server decides what it is; so do we, byte for byte. What
        follows an error is cut, as is a reply the size of the garbage."""
        rng = random.Random(20260107)
        cases = [b"*" + rng.randbytes(rng.randrange(1, 60)) + b"\r\n" for _ in range(scaled(200))]
        cases += [b"*2\r\n$" + rng.randbytes(rng.randrange(1, 20)) + b"\r\n" for _ in range(scaled(200))]
        want = raw_exchange(setup.oracle.port, cases)
        got = raw_exchange(setup.proxy.port, cases, quiet=0.8)
        for case, w, g in zip(cases, want, got):
            with self.subTest(case):
                self.same_reply(case, "%r, closed: %s" % w, "%r, closed: %s" % g)

    def test_other_protocols(self):
        """TLS, HTTP and SSH clients at the wrong port; POST and Host: are attacks for Redis."""
        cases = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
                 b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b",
                 b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 1000, b"\xff" * 1000,
                 b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nPING\r\n"]
        with Neighbour(self):
            got = raw_exchange(setup.proxy.port, cases)
        want = raw_exchange(setup.oracle.port, cases)
        for case, w, g in zip(cases[1:4], want[1:4], got[1:4]):
            # The server drops what it had to say before; whether that was sent is a matter of luck.
            self.assertEqual(w[1], g[1], "closed? sent %r, expected %r, got %r" % (case, w, g))

    def test_arguments_without_end(self):
        """Counts and lengths that promise more than anybody can hold cost nothing until they come."""
        if STANDIN:
            self.skipTest("needs the proxy")
        before = setup.proxy.rss_mib()
        conns = []
        with Neighbour(self):
            for i in range(200):
                c = setup.proxy.conn()
                c.send((b"*1048576\r\n$3\r\nDEL\r\n", b"*2\r\n$4\r\nECHO\r\n$536870912\r\nx",
                        b"*1000000\r\n$4\r\nMGET\r\n" + b"$1\r\na\r\n" * 1000, b"A" * 60000)[i % 4])
                conns.append(c)
            time.sleep(0.5)
        self.assertLess(setup.proxy.rss_mib() - before, 60 * (3 if SANITIZER else 1), "MiB")
        for c in conns:
            c.close()

    def test_a_million_arguments(self):
        n = scaled(1000000)
        with setup.proxy.conn(timeout=grace(60)) as c:
            self.assertEqual(0, c.cmd("DEL", *["ma"] * n))
            self.expect(c, "PING", PONG)

    def test_a_million_arguments_over_all_slots(self):
        n = scaled(200000)
        with setup.proxy.conn(timeout=grace(60)) as c:
            self.assertEqual(0, c.cmd("EXISTS", *["ma:%d" % i for i in range(n)]))


class Comings(Case):
    def test_clients_killed_at_every_stage(self):
        """A client process that dies after each byte of a mixed pipeline."""
        stream = (encode("SET", "ks:a", "x" * 100) + encode("MGET", "ks:a", "ks:b", "ks:c") +
                  encode("HELLO", "3") + encode("DEL", "ks:a", "ks:b") + b"PING\r\n" +
                  encode("SCAN", "0") + encode("CLIENT", "LIST") + encode("INFO") + encode("DBSIZE") +
                  encode("KEYS", "*") + encode("EVAL", "return 1", "1", "ks:a"))
        with Neighbour(self):
            for cut in range(1, len(stream) + 1, 1 if not SANITIZER else 5):
                c = setup.proxy.conn()
                c.send(stream[:cut])
                if cut % 7 == 0:
                    time.sleep(0.002)
                c.reset() if cut % 2 else c.close()

    def test_connection_storm(self):
        files = 0 if STANDIN else setup.proxy.fd_count()

        def storm(i):
            for k in range(scaled(150)):
                c = setup.proxy.conn()
                if k % 3 == 0:
                    c.cmd("PING")
                elif k % 3 == 1:
                    c.send(encode("GET", "storm:%d" % k))
                c.reset() if k % 2 else c.close()
        with Neighbour(self):
            in_threads(8, storm)
        if not STANDIN:
            self.eventually("files are closed", lambda: setup.proxy.fd_count() <= files + 10)

    def test_max_clients(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        with Proxy(setup.cluster.seeds(), config="client:\n  max_clients: 20\n").wait_start() as p:
            time.sleep(0.3)  # the connections that waited for the start are gone
            conns = [p.conn() for _ in range(20)]
            for c in conns:
                self.assertEqual(PONG, c.cmd("PING"))
            with p.conn() as extra:
                self.assertEqual(b"-ERR max number of clients reached\r\n", extra.read_until_closed())
            for c in conns:
                self.assertEqual(PONG, c.cmd("PING"))
                c.close()

            def free():
                with p.conn() as c:
                    try:
                        return c.cmd("PING") == PONG
                    except (Closed, OSError):
                        return False
            self.eventually("places are free again", free)

    def test_half_closed_and_forgotten(self):
        """Requests, then no more sending and no reading: nothing is kept for ever."""
        if STANDIN:
            self.skipTest("needs the proxy")
        files = setup.proxy.fd_count()
        conns = []
        for i in range(100):
            c = setup.proxy.conn()
            c.send(encode("GET", "half:%d" % i) * 10)
            c.sock.shutdown(socket.SHUT_WR)
            conns.append(c)
        self.eventually("files are closed", lambda: setup.proxy.fd_count() <= files + 10)
        for c in conns:
            c.close()


class Pressure(Case):
    def test_many_that_never_read(self):
        """A hundred clients that ask for much and read nothing; their neighbour is served."""
        with setup.proxy.conn() as c:
            c.cmd("SET", "np", b"x" * 100000)
        lazy = []
        with Neighbour(self) as n:
            for _ in range(scaled(100)):
                c = Conn(setup.proxy.port, timeout=0.2, rcvbuf=4096)
                try:
                    c.send(encode("GET", "np") * 60)
                except OSError:
                    pass
                lazy.append(c)
            time.sleep(1.0)
            before = n.done
            time.sleep(1.0)
            self.assertGreater(n.done - before, 50 if not SANITIZER else 5, "requests a second")
        for c in lazy:
            c.close()

    def test_output_max_closes_the_client_that_holds_most(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        config = "client:\n  output_pause: 1mb\n  output_max: 8mb\n"
        with Proxy(setup.cluster.seeds(), config=config).wait_start() as p:
            with p.conn() as c:
                c.cmd("SET", "om", b"x" * 900000)
            before = p.rss_mib()
            with Neighbour(self, p.port):
                lazy = []
                for _ in range(10):
                    c = Conn(p.port, timeout=0.2, rcvbuf=4096)
                    try:
                        c.send(encode("GET", "om") * 100)
                    except OSError:
                        pass
                    lazy.append(c)
                time.sleep(1.5)
            if not SANITIZER:  # their shadow memory is never given back
                self.assertLess(p.rss_mib() - before, 10 * 16, "MiB")
            for c in lazy:
                c.close()

    def test_output_stall_closes_and_logs(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        config = "client:\n  output_stall: 1s\n"
        with Proxy(setup.cluster.seeds(), config=config).wait_start() as p:
            with p.conn() as c:
                c.cmd("SET", "os", b"x" * 500000)
            lazy = Conn(p.port, timeout=0.2, rcvbuf=4096)
            try:
                lazy.send(encode("GET", "os") * 50)
            except OSError:
                pass
            addr = lazy.local_addr.encode()
            with p.conn() as c:
                self.eventually("the stalled client is closed", lambda: addr not in c.cmd(
                    "CLIENT", "LIST"), 8)
            self.assertIn("output_stall", p.log_text())
            lazy.close()

    def test_slow_lorris(self):
        """Many clients that send a byte now and then."""
        conns = [setup.proxy.conn() for _ in range(scaled(200))]
        data = encode("SET", "lorris", "value")
        with Neighbour(self):
            for i in range(len(data)):
                for c in conns:
                    c.send(data[i:i + 1])
        for c in conns:
            self.assertEqual(OK, c.read())
            c.close()

    def test_one_greedy_pipeline_leaves_room_for_others(self):
        """Fairness: a client with an endless pipeline does not take the worker for itself."""
        stop = threading.Event()
        request = encode("SET", "greedy", "x") * 5000

        def greedy(i):
            with setup.proxy.conn(timeout=grace(30)) as c:
                while not stop.is_set():
                    c.send(request)
                    c.read_exact(5 * 5000)
        threads = [threading.Thread(target=greedy, args=(i,), daemon=True) for i in range(4)]
        for t in threads:
            t.start()
        try:
            with setup.proxy.conn(timeout=grace(10)) as c:
                worst = 0.0
                for _ in range(100):
                    start = time.monotonic()
                    self.assertEqual(PONG, c.cmd("PING"))
                    worst = max(worst, time.monotonic() - start)
            self.assertLess(worst, grace(1.0), "the slowest PING")
        finally:
            stop.set()
            for t in threads:
                t.join(30)


class Long(Case):
    """Only with --long."""

    def setUp(self):
        if STANDIN or not os.environ.get("KEYWAY_TEST_LONG"):
            self.skipTest("a long run: tests/run --long")

    def test_faults_at_random_for_three_minutes(self):
        """Kills, freezes, failovers and moving slots in random order under load: errors may show
        while a shard is down, wrong answers and doubled writes never."""
        from harness.case import Load
        from harness.servers import SLOTS
        rng = random.Random(20260108)
        cluster = setup.cluster
        with setup.proxy.conn(timeout=60) as c:
            with Load(setup.proxy.port, clients=4, tag="long") as load:
                end = time.monotonic() + 180
                while time.monotonic() < end:
                    what = rng.randrange(4)
                    node = rng.choice(cluster.masters())
                    if what == 0 and cluster.replicas_of(node):
                        slot = cluster.kill_master(node)
                        cluster.wait_promoted(slot)
                        node.restart()
                    elif what == 1 and cluster.replicas_of(node):
                        cluster.failover(cluster.replica_of(node))
                    elif what == 2:
                        node.freeze()
                        time.sleep(rng.random() * 1.5)
                        node.thaw()
                    else:
                        target = rng.choice([m for m in cluster.masters() if m is not node])
                        ranges = next(v["slots"] for v in cluster.view(node) if "myself" in v["flags"])
                        first = ranges[0][0]
                        cluster.move_slots(range(first, min(first + 50, ranges[0][1], SLOTS)), node, target)
                    cluster.wait_ok(60)
            for _, sent, text in load.errors:
                self.assertTrue(text.split()[0] in ("UNKNOWN", "CLUSTERDOWN", "TRYAGAIN", "LOADING"),
                                (sent, text))
            load.check_counters(self, c, lost_allowed=True)


if __name__ == "__main__":
    unittest.main()
