"""MULTI, EXEC, DISCARD: equal to one plain server, on shared connections, while slots move."""
import threading
import time
import unittest

from harness.case import Case, Setup, in_threads
from harness.fake import FakeCluster, reset
from harness.proxy import STANDIN, Proxy, scaled
from harness.resp import OK, PONG, Error, Simple, encode
from harness.servers import key_slot

QUEUED = Simple(b"QUEUED")

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


def connections(cluster):
    return sum(int(n.info("stats")["total_connections_received"]) for n in cluster.nodes)


class LikeOneServer(Case):
    """The same lines to the proxy and to a plain server; all keys of a script are in one slot."""
    SCRIPTS = [
        "MULTI | EXEC",
        "MULTI | DISCARD | EXEC | DISCARD",
        "EXEC | DISCARD | EXEC x",
        "MULTI | SET {t}a 1 | GET {t}a | INCR {t}a | EXEC | GET {t}a",
        "MULTI | SET {t}a 1 | DISCARD | GET {t}a",
        "MULTI | PING | EXEC",
        "MULTI | PING | SET {t}p 1 | ECHO x | GET {t}p | PING x | EXEC",
        "MULTI | SET {t}a x | INCR {t}a | GET {t}a | EXEC | GET {t}a",
        "MULTI | SET {t}a 2 | nosuch x y | GET {t}a | EXEC | GET {t}a",
        "MULTI | SET {t}a | EXEC | GET {t}a",
        "MULTI | CLIENT NOSUCH | EXEC",
        "MULTI | CLIENT | EXEC",
        "MULTI | GET {t}a | MULTI | GET {t}a | EXEC",
        "MULTI | MULTI x | EXEC",
        "MULTI | WATCH {t}a | GET {t}a | EXEC",
        "MULTI | EXEC x | EXEC",
        "MULTI | DISCARD x | DISCARD | EXEC",
        "MULTI x | EXEC",
        "MULTI | SELECT 0 | SELECT x | GET {t}a | EXEC",
        "MULTI | CLIENT SETNAME me | CLIENT GETNAME | EXEC | CLIENT GETNAME",
        "MULTI | CLIENT SETNAME you | DISCARD | CLIENT GETNAME",
        "MULTI | PING a b | SET {t}a 5 | EXEC",
        "MULTI | MSET {t}a 1 {t}b 2 | MGET {t}a {t}b {t}none | DEL {t}a {t}b | EXISTS {t}a {t}a | EXEC",
        "MULTI | MSET {t}a 1 {t}b | EXEC",
        "MULTI | LPUSH {t}l a b c | LRANGE {t}l 0 -1 | MGET {t}l {t}a | DEL {t}l | EXEC",
        "MULTI | EVAL return{1,{2,'x'}} 0 | EXEC",
        "MULTI | EVAL return{err='MOVED'} 0 | EVAL return{err='oh'} 1 {t}a | EXEC",
        "MULTI | EVAL return 1 x | ZUNIONSTORE {t}d x {t}a | EXEC",
        "MULTI | PUBLISH ch x | SET {t}a 1 | EXEC",
        "MULTI | SHUTDOWN | EXEC",
        "MULTI | HGETALL {t}h | HSET {t}h a 1 b 2 | HGETALL {t}h | ZADD {t}z 1.5 m | ZSCORE {t}z m | EXEC",
        "MULTI | SET {t}a 1 | RESET | EXEC | GET {t}a",
        "multi | set {t}a low | get {t}a | exec",
        "MULTI | XADD {t}x 1-1 f v | XREAD COUNT 1 STREAMS {t}x 0 | XREAD BLOCK 100 STREAMS {t}x $ | EXEC",
        "MULTI | SET {t}a 1 | EXEC | MULTI | GET {t}a | EXEC | PING",
    ]

    def run_all(self, protocol, pipelined):
        for n, script in enumerate(self.SCRIPTS):
            lines = [x.strip().split() for x in script.replace("return{", "return{").split("|")]
            lines = [[w.replace("{t}", "{t%d:%d}" % (protocol, n)) for w in line] for line in lines]
            with self.subTest(script), setup.proxy.conn(protocol=protocol) as c, \
                    setup.oracle.conn(protocol=protocol) as o:
                o.cmd("FLUSHALL")
                setup.proxy.conn().cmd("FLUSHALL")
                if pipelined:
                    want, got = o.pipeline(lines), c.pipeline(lines)
                    self.same_reply(b"".join(encode(*x) for x in lines), repr(want), repr(got))
                else:
                    for line in lines:
                        self.matches_oracle(c, o, line)

    def test_resp2(self):
        self.run_all(2, False)

    def test_resp3(self):
        self.run_all(3, False)

    def test_pipelined(self):
        self.run_all(2, True)
        self.run_all(3, True)

    def test_quit_acts_at_once(self):
        with setup.proxy.conn() as c:
            c.send(encode("MULTI") + encode("SET", "q", "1") + encode("QUIT"))
            self.assertEqual(b"+OK\r\n+QUEUED\r\n+OK\r\n", c.read_until_closed())
        with setup.proxy.conn() as c:
            self.expect(c, "EXISTS q", 0)

    def test_binary_and_empty_arguments(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["MULTI", ["SET", "b\x00\r\n", "\r\n\x00"], ["GET", "b\x00\r\n"],
                         ["ECHO", ""], ["APPEND", "b\x00\r\n", ""], ["ECHO", "\r\n"], "EXEC"]:
                self.matches_oracle(c, o, line)

    def test_an_inline_client(self):
        with setup.proxy.conn() as c:
            c.send(b"MULTI\r\nSET in 1\r\nPING\r\nGET in\r\nEXEC\r\n")
            want = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+PONG\r\n$1\r\n1\r\n"
            self.assertEqual(want, c.read_exact(len(want)))


class Refused(Case):
    def setUp(self):
        if STANDIN:
            self.skipTest("needs the proxy")

    def test_two_slots(self):
        with setup.proxy.conn() as c:
            for lines in (["SET a 1", "SET b 1"], ["MGET a b", "PING"], ["SET {x}a 1", "MSET {x}a 1 b 2"]):
                self.expect(c, "MULTI", OK)
                got = [c.cmd(*x.split()) for x in lines]
                self.assertIn(Error(b"CROSSSLOT Keys in request don't hash to the same slot"), got)
                self.expect_error(c, "EXEC",
                                  "EXECABORT Transaction discarded because of previous errors.")
            self.expect(c, "EXISTS a b {x}a", 0)

    def test_what_moves_the_client_or_asks_everybody(self):
        with setup.proxy.conn() as c:
            for line in ["HELLO 3", "AUTH x", "SELECT 1", "DBSIZE", "FLUSHALL", "KEYS *", "INFO",
                         "SCAN 0", "SUBSCRIBE x", "MONITOR", "CLIENT REPLY OFF"]:
                with self.subTest(line):
                    c.cmd("SET", "k", "kept")
                    self.expect(c, "MULTI", OK)
                    self.expect_error(c, line, "ERR KEYWAY ...")
                    self.expect(c, "SET k lost", QUEUED)
                    self.expect_error(c, "EXEC",
                                      "EXECABORT Transaction discarded because of previous errors.")
                    self.expect(c, "GET k", b"kept")

    def test_caps(self):
        config = "client:\n  tx_max_commands: 5\n  tx_max_bytes: 4KiB\n"
        with Proxy(setup.cluster.seeds(), config=config).start().wait_routes() as p, p.conn() as c:
            for line in (["SET", "k", "x" * 5000], None):
                self.expect(c, "MULTI", OK)
                if line:
                    self.expect_error(c, line, "ERR KEYWAY client.tx_max_bytes are queued already")
                else:
                    for _ in range(5):
                        self.expect(c, "INCR k", QUEUED)
                    self.expect_error(c, "PING", "ERR KEYWAY client.tx_max_commands are queued already")
                self.expect_error(c, "EXEC",
                                  "EXECABORT Transaction discarded because of previous errors.")
                self.expect(c, "EXISTS k", 0)
            self.expect(c, "MULTI", OK)
            for _ in range(5):
                self.expect(c, "INCR k", QUEUED)
            self.expect(c, "EXEC", [1, 2, 3, 4, 5])


class Large(Case):
    def test_many_commands_and_many_bytes(self):
        with setup.proxy.conn() as c:
            n = 9990
            got = c.pipeline(["MULTI"] + ["INCR many"] * n + ["EXEC"])
            self.assertEqual([QUEUED] * n, got[1:-1])
            self.assertEqual(list(range(1, n + 1)), got[-1])
            big = "x" * scaled(3000000)
            got = c.pipeline(["MULTI", ["SET", "{many}b", big], ["GET", "{many}b"], "PING",
                              ["GET", "{many}b"], "EXEC", "GET many"])
            self.assertEqual([OK, big.encode(), PONG, big.encode()], got[5])
            self.assertEqual(b"%d" % n, got[6])

    def test_a_long_answer_is_streamed(self):
        with setup.proxy.conn() as c:
            big = "x" * 2000000
            c.cmd("SET", "long", big)
            got = c.pipeline(["MULTI", "GET long", "GET long", "EXEC", "PING"])
            self.assertEqual([[big.encode()] * 2, PONG], got[3:])
            c.cmd("DEL", "long", "{many}b")


class Shared(Case):
    def test_no_connections_of_its_own(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        with setup.proxy.conn() as c:
            c.pipeline(["MULTI", "SET warm 1", "EXEC"])
        before = connections(setup.cluster)

        def client(i):
            with setup.proxy.conn() as c:
                for n in range(scaled(100)):
                    key = "sh:%d:%d" % (i, n)
                    got = c.pipeline(["MULTI", "SET %s 1" % key, "INCR " + key, "GET " + key, "EXEC"])
                    self.assertEqual([OK, 2, b"2"], got[-1])
        in_threads(50, client)
        self.assertLess(connections(setup.cluster) - before, 60)

    def test_transactions_of_many_clients_do_not_mix(self):
        def client(i):
            with setup.proxy.conn() as c:
                for n in range(scaled(200)):
                    got = c.pipeline(["INCR {mix}other", "MULTI", "INCR {mix}n", "PING", "GET {mix}n",
                                      "EXEC", "GET {mix}mine%d" % i])
                    self.assertEqual(b"%d" % got[5][0], got[5][2])
                    self.assertEqual(PONG, got[5][1])
        in_threads(8, client)

    def test_a_client_gone_in_the_middle(self):
        for tail in ([], ["EXEC"]):
            c = setup.proxy.conn()
            c.send(b"".join(encode(*x.split()) for x in ["MULTI", "INCR gone", "PING"] + tail))
            c.reset()
        with setup.proxy.conn() as c:
            self.expect(c, "PING", PONG)


class MovingSlot(Case):
    def setUp(self):
        if STANDIN:
            self.skipTest("needs the proxy")

    def test_a_slot_goes_to_and_fro(self):
        slot = key_slot("{mv}")
        stop, wrong, done = threading.Event(), [], [0]

        def client(i):
            n = 0
            with setup.proxy.conn() as c:
                while not stop.is_set():
                    n += 1
                    got = c.pipeline(["MULTI", "INCR {mv}%d" % i, "PING", "GET {mv}%d" % i, "EXEC"])
                    if got[-1] != [n, PONG, b"%d" % n]:
                        wrong.append((i, n, got))
                        return
                    done[0] += 1

        def move(_):
            try:
                for _ in range(6):
                    source = setup.cluster.owner(slot)
                    target = next(m for m in setup.cluster.masters() if m is not source)
                    setup.cluster.begin_move(slot, source, target)
                    time.sleep(0.02)
                    setup.cluster.move_keys(slot, source, target)
                    setup.cluster.end_move(slot, source, target)
                    setup.cluster.wait_epochs()
            finally:
                stop.set()
        in_threads(5, lambda i: move(i) if i == 4 else client(i))
        self.assertEqual([], wrong)
        self.assertGreater(done[0], 50)

    def test_a_half_moved_slot_is_waited_for(self):
        """One key has left, the other not: neither node can run both."""
        slot = key_slot("{half}")
        source = setup.cluster.owner(slot)
        target = next(m for m in setup.cluster.masters() if m is not source)
        with setup.proxy.conn() as c:
            c.cmd("MSET", "{half}a", "1", "{half}b", "1")
            setup.cluster.begin_move(slot, source, target)
            source.ok("MIGRATE", "127.0.0.1", target.port, "{half}b", 0, 5000)
            c.send(b"".join(encode(*x.split()) for x in [
                "MULTI", "INCR {half}a", "INCR {half}b", "EXEC", "PING"]))
            for want in (OK, QUEUED, QUEUED):
                self.assertEqual(want, c.read())
            if not c.is_silent(0.6):
                self.fail("answered while the slot was half moved: %r" % (c.read(),))
            setup.cluster.move_keys(slot, source, target)
            setup.cluster.end_move(slot, source, target)
            self.assertEqual([[2, 2], PONG], [c.read(), c.read()])

    def test_planned_failover(self):
        slot = key_slot("{fo}")
        stop, wrong = threading.Event(), []

        def client(_):
            n = 0
            with setup.proxy.conn() as c:
                while not stop.is_set():
                    n += 1
                    got = c.pipeline(["MULTI", "INCR {fo}", "GET {fo}", "EXEC"])
                    if got[-1] != [n, b"%d" % n]:
                        wrong.append((n, got))
                        return

        def fail_over(_):
            try:
                old = setup.cluster.owner(slot)
                time.sleep(0.2)
                setup.cluster.failover(setup.cluster.replica_of(old))
                time.sleep(0.5)
            finally:
                stop.set()
        in_threads(2, lambda i: fail_over(i) if i else client(i))
        self.assertEqual([], wrong)


class Watch(Case):
    SCRIPTS = [  # "2:" is another client's
        "WATCH {t}a | GET {t}a | MULTI | INCR {t}a | EXEC | GET {t}a",
        "WATCH {t}a {t}b | 2:SET {t}b x | MULTI | INCR {t}a | EXEC | GET {t}a",
        "WATCH {t}a | 2:SET {t}b x | MULTI | INCR {t}a | PING | EXEC | GET {t}a",
        "WATCH {t}a | SET {t}a own | MULTI | GET {t}a | EXEC | GET {t}a",
        "WATCH {t}a | WATCH {t}b | 2:DEL {t}a | 2:INCR {t}b | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | UNWATCH | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | DISCARD | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | EXEC | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | PING | EXEC",
        "WATCH {t}a | MULTI | PING | EXEC | MULTI | EXEC",
        "WATCH {t}a | MULTI | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | nosuch | EXEC | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | EXEC x | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | EXEC x | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | RESET | MULTI | GET {t}a | EXEC",
        "WATCH {t}a | 2:SET {t}a x | MULTI | UNWATCH | GET {t}a | EXEC",
        "WATCH {t}a | MULTI | UNWATCH | GET {t}a | EXEC",
        "UNWATCH | UNWATCH x | WATCH | MULTI | UNWATCH | EXEC",
        "WATCH {t}a | BLPOP {t}l 0.01 | 2:SET {t}a x | MULTI | GET {t}a | EXEC",
        "WATCH {t}none | 2:EXPIRE {t}none 10 | MULTI | GET {t}none | EXEC",
    ]

    def test_like_one_server(self):
        for protocol in (2, 3):
            for n, script in enumerate(self.SCRIPTS):
                lines = [x.strip().replace("{t}", "{w%d:%d}" % (protocol, n)) for x in script.split("|")]
                with self.subTest(script), setup.proxy.conn(protocol=protocol) as c, \
                        setup.oracle.conn(protocol=protocol) as o, setup.proxy.conn() as c2, \
                        setup.oracle.conn() as o2:
                    o2.cmd("FLUSHALL")
                    c2.cmd("FLUSHALL")
                    for line in lines:
                        if line.startswith("2:"):
                            self.matches_oracle(c2, o2, line[2:])
                        else:
                            self.matches_oracle(c, o, line)

    def test_pipelined(self):
        with setup.proxy.conn() as c:
            got = c.pipeline(["SET {wp} 1", "WATCH {wp}", "GET {wp}", "SET {wp}x y", "MULTI", "INCR {wp}",
                              "GET {wp}x", "EXEC", "GET {wp}"])
            self.assertEqual([OK, OK, b"1", OK, OK, QUEUED, QUEUED, [2, b"y"], b"2"], got)

    def test_two_slots(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            self.expect_error(c, "WATCH a b", "CROSSSLOT Keys in request don't hash to the same slot")
            self.expect(c, "WATCH a", OK)
            self.expect_error(c, "WATCH b", "CROSSSLOT Keys in request don't hash to the same slot")
            self.expect(c, "MULTI", OK)
            self.expect_error(c, "SET b other", "CROSSSLOT Keys in request don't hash to the same slot")
            self.expect_error(c, "EXEC", "EXECABORT Transaction discarded because of previous errors.")
            self.expect(c, "SET b other", OK)

    def test_counting_with_conflicts(self):
        """Optimistic increments of many clients: none is lost."""
        each, clients = scaled(30), 6
        with setup.proxy.conn() as c:
            c.cmd("DEL", "{wc}")

        def client(_):
            with setup.proxy.conn() as c:
                for _ in range(each):
                    while True:
                        self.assertEqual(OK, c.cmd("WATCH", "{wc}"))
                        value = int(c.cmd("GET", "{wc}") or 0)
                        got = c.pipeline(["MULTI", "SET {wc} %d" % (value + 1), "EXEC"])
                        if got[-1] is not None:
                            self.assertEqual([OK], got[-1])
                            break
        in_threads(clients, client)
        with setup.proxy.conn() as c:
            self.expect(c, "GET {wc}", b"%d" % (each * clients))

    def test_connections_are_given_back_clean(self):
        if STANDIN:
            self.skipTest("needs the proxy")

        def client(i):
            with setup.proxy.conn() as c:
                for n in range(scaled(60)):
                    key = "wl:%d:%d" % (i, n % 7)
                    end = [["MULTI", "INCR " + key, "EXEC"], ["UNWATCH"], ["MULTI", "DISCARD"],
                           ["MULTI", "nosuch", "EXEC"]][n % 4]
                    c.pipeline(["WATCH " + key] + end)
        in_threads(20, client)
        before = connections(setup.cluster)
        in_threads(20, client)
        self.assertLess(connections(setup.cluster) - before, 40)
        with setup.proxy.conn() as c:
            c.cmd("DEL", "{wl:fresh}n")
            for n in range(50):  # nothing of an earlier WATCH is left on what is leased now
                self.expect(c, "WATCH wl:fresh", OK)
                with setup.proxy.conn() as other:
                    other.pipeline(["SET wl:%d:%d x" % (i, k) for i in range(20) for k in range(7)])
                self.assertEqual([1 + n], c.pipeline(["MULTI", "INCR {wl:fresh}n", "EXEC"])[-1])

    def test_a_client_gone_while_it_watches(self):
        for tail in ([], ["MULTI"], ["MULTI", "INCR x{wg}", "EXEC"]):
            for _ in range(10):
                c = setup.proxy.conn()
                c.send(b"".join(encode(*x.split()) for x in ["WATCH {wg}"] + tail))
                c.reset()
        with setup.proxy.conn() as c:
            self.assertEqual([OK, OK, QUEUED, [OK]], c.pipeline(
                ["WATCH {wg}", "MULTI", "SET {wg} 1", "EXEC"]))

    def test_lost_and_moved_is_a_conflict(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        slot = key_slot("{wm}")
        setup.cluster.wait_ok()
        with setup.proxy.conn() as c, setup.proxy.conn() as d:
            owner = setup.cluster.owner(slot)
            self.expect(c, "WATCH {wm}", OK)
            owner.ok("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.1)
            self.assertEqual([OK, QUEUED, None], c.pipeline(["MULTI", "SET {wm} 1", "EXEC"]))
            self.assertEqual([OK, QUEUED, [OK]], c.pipeline(["MULTI", "SET {wm} 1", "EXEC"]))
            self.expect(c, "WATCH {wm}", OK)
            self.expect(d, "WATCH {wm}none", OK)
            source = owner
            target = next(m for m in setup.cluster.masters() if m is not source)
            setup.cluster.begin_move(slot, source, target)
            setup.cluster.move_keys(slot, source, target)
            setup.cluster.end_move(slot, source, target)
            for x in (c, d):
                self.assertEqual([OK, QUEUED, None], x.pipeline(["MULTI", "SET {wm} 2", "EXEC"]))
                self.assertEqual([OK, OK, QUEUED, [OK]], x.pipeline(
                    ["WATCH {wm}", "MULTI", "SET {wm} 2", "EXEC"]))

    def test_while_a_slot_moves(self):
        """WATCH of a key that is on its way, by ASK."""
        if STANDIN:
            self.skipTest("needs the proxy")
        slot = key_slot("{wa}")
        setup.cluster.wait_ok()
        source = setup.cluster.owner(slot)
        target = next(m for m in setup.cluster.masters() if m is not source)
        with setup.proxy.conn() as c:
            setup.cluster.begin_move(slot, source, target)
            self.assertEqual([OK, OK, QUEUED, [1]], c.pipeline(
                ["WATCH {wa}", "MULTI", "INCR {wa}", "EXEC"]))
            self.assertEqual(b"1", target.conn().pipeline(["ASKING", "GET {wa}"])[1])
            setup.cluster.move_keys(slot, source, target)
            setup.cluster.end_move(slot, source, target)
            self.assertEqual([OK, OK, QUEUED, [2]], c.pipeline(
                ["WATCH {wa}", "MULTI", "INCR {wa}", "EXEC"]))


class OnCue(Case):
    """A fake cluster whose nodes queue commands and fail where a test says."""

    @classmethod
    def setUpClass(cls):
        if STANDIN:
            raise unittest.SkipTest("needs the proxy")
        cls.cluster = FakeCluster(3).start()
        cls.proxy = Proxy(cls.cluster.seeds(), config="backend:\n  ride_through: 2s\n  "
                          "request_timeout: 1s\n").start().wait_routes()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.proxy.stop()
        finally:
            cls.cluster.stop()

    def setUp(self):
        for node in self.cluster.nodes:
            node.clear()

    def node_of(self, key):
        return self.cluster.nodes[self.cluster.owner[key_slot(key)]]

    def behave(self, node, queue=None, execute=None, times=None):
        """Queues until EXEC. queue(argv), execute(): what to answer instead, or None."""
        def on_multi(conn, argv):
            conn.tx, conn.aborted = [], False
            return b"+OK\r\n"

        def on_command(conn, argv):
            answer = queue(argv) if queue else None
            if answer is not None:
                conn.aborted = True
                return answer
            conn.tx.append(argv)
            return b"+QUEUED\r\n"

        def on_exec(conn, argv):
            answer = execute(conn) if execute else None
            if answer is not None:
                return answer
            if conn.aborted:
                return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            return b"*%d\r\n" % len(conn.tx) + b"".join(node.execute(a) for a in conn.tx)
        node.rule("MULTI", on_multi)
        node.rule("INCR", on_command)
        node.rule("EXEC", on_exec)

    LINES = ["MULTI", "INCR {c}a", "INCR {c}b", "EXEC"]

    def test_multi_refused_and_the_connection_lost(self):
        """Nobody knew that this server has no MULTI: what followed it has run, one by one."""
        home = self.node_of("{single}")
        home.rule("EXEC", reset)
        with self.proxy.conn() as c:
            for line, want in (("MULTI", OK), ("INCR {single}a", QUEUED)):
                self.expect(c, line, want)
            got = c.cmd("EXEC")
        self.assertEqual(1, home.ran("INCR"))
        self.assertTrue(got.startswith(b"UNKNOWN "), got)

    def once(self, answer):
        left = [1]

        def give(*_):
            left[0] -= 1
            return answer if left[0] == 0 else None
        return give

    def test_refusals_before_and_as_execs_reply(self):
        home = self.node_of("{c}")
        for words in (b"TRYAGAIN Multiple keys request during rehashing of slot",
                      b"CLUSTERDOWN The cluster is down", b"LOADING Redis is loading the dataset in memory"):
            for how in ("queue", "execute", "because"):
                with self.subTest(words=words, how=how):
                    home.clear()
                    home.store.clear()
                    text = b"-" + words + b"\r\n"
                    if how == "because":
                        text = b"-EXECABORT Transaction discarded because of: " + words + b"\r\n"
                    once = self.once(text)
                    self.behave(home, **{"queue" if how == "queue" else "execute": once})
                    with self.proxy.conn() as c:
                        self.assertEqual([1, 1], c.pipeline(self.LINES)[-1])
                    self.assertEqual(2, home.calls("EXEC"))

    def test_other_errors_abort(self):
        home = self.node_of("{c}")
        error = b"NOPERM this user has no permissions to run the 'incr' command"
        self.behave(home, queue=lambda argv: b"-" + error + b"\r\n")
        with self.proxy.conn() as c:
            got = c.pipeline(self.LINES + ["PING"])
            self.assertEqual([OK, QUEUED, QUEUED, Error(
                b"EXECABORT Transaction discarded because of: " + error), PONG], got)
        self.assertEqual(1, home.calls("EXEC"))

    def test_errors_inside_the_array_are_answers(self):
        home = self.node_of("{c}")
        slot = key_slot("{c}")
        inside = b"*2\r\n-MOVED %d 127.0.0.1:1\r\n-LOADING Redis is loading the dataset in memory\r\n" % slot
        self.behave(home, execute=lambda conn: inside)
        with self.proxy.conn() as c:
            c.send(b"".join(encode(*x.split()) for x in self.LINES))
            want = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n" + inside
            self.assertEqual(want, c.read_exact(len(want)))
        self.assertEqual(1, home.calls("EXEC"))

    def test_the_connection_dies_behind_exec(self):
        home = self.node_of("{c}")
        home.store.clear()

        def run_then_reset(conn):
            for a in conn.tx:
                home.execute(a)
            conn.reset()
        self.behave(home, execute=lambda conn: run_then_reset(conn) or b"")
        with self.proxy.conn() as c:
            got = c.pipeline(self.LINES)
            self.assertTrue(got[-1].startswith(b"UNKNOWN "), got)
        self.assertEqual(2, home.ran("INCR"))

    def test_a_moved_block_is_sent_whole(self):
        home = self.node_of("{c}")
        other = next(n for n in self.cluster.nodes if n is not home)
        for how in ("queue", "execute"):
            with self.subTest(how):
                for node in (home, other):
                    node.clear()
                    node.store.clear()
                text = b"-ASK %d %s\r\n" % (key_slot("{c}"), other.addr.encode())
                self.behave(home, **{how: lambda *_: text})
                self.behave(other)
                with self.proxy.conn() as c:
                    self.assertEqual([1, 1], c.pipeline(self.LINES)[-1])
                names = [argv[0] for _, argv in other.log if argv[0] in (
                    b"ASKING", b"MULTI", b"INCR", b"EXEC")]
                self.assertEqual([b"ASKING", b"MULTI", b"INCR", b"INCR", b"EXEC"], names)


if __name__ == "__main__":
    unittest.main()
