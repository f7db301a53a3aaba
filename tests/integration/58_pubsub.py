"""Publish and subscribe: what clients see equals what one server does, and it lives through slot
moves, failovers and servers that die."""
import resource
import selectors
import socket
import threading
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import NULL, OK, PONG, Closed, Error, Push, Simple, encode, words
from harness.servers import key_slot, wait_until

setup = Setup()


def setUpModule():
    setup.start(node_timeout=2000, workers=3)


def tearDownModule():
    setup.stop()


def plain(value):
    """Pushes and arrays alike."""
    return [plain(v) for v in value] if isinstance(value, list) else value


class PubSubCase(Case):
    def setUp(self):
        if setup.cluster:
            for node in setup.cluster.nodes:
                if not node.alive:
                    node.restart()
            setup.cluster.wait_ok(20)
            setup.proxy.wait_routes()

    def subscribed(self, conn, verb, *channels):
        conn.send(encode(verb, *channels))
        for ch in channels:
            got = conn.read()
            self.assertEqual([verb.lower().encode(), ch.encode() if isinstance(ch, str) else ch],
                             plain(got)[:2], got)

    def message(self, conn, channel, payload):
        self.expect_push(conn, [b"message", channel, payload])

    def all_messages(self, conn):
        """All that have come when PING is answered."""
        conn.send(encode("PING", "end"))
        got = []
        while True:
            m = conn.read()
            if m[0] == b"pong":
                return got
            got.append(m)

    def expect_push(self, conn, expected):
        expected = [e.encode() if isinstance(e, str) else e for e in expected]
        self.assertEqual(expected, plain(conn.read()))


class Dialogue(PubSubCase):
    """One client's dialogue, byte for byte against a plain server."""
    SCRIPTS = [
        ["SUBSCRIBE a", "SUBSCRIBE a b c", "UNSUBSCRIBE b", "UNSUBSCRIBE nosuch", "PSUBSCRIBE p* q",
         "SUBSCRIBE x x", "PUNSUBSCRIBE q q", "UNSUBSCRIBE a c x", "PUNSUBSCRIBE", "PING",
         "UNSUBSCRIBE", "PUNSUBSCRIBE", "GET nothing"],
        ["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE a b", "PUNSUBSCRIBE a",
         "SUNSUBSCRIBE a", "PING"],
        ["SSUBSCRIBE s", "SSUBSCRIBE s", "SSUBSCRIBE {s}1 {s}2", "SUBSCRIBE a", "PSUBSCRIBE p",
         "SUNSUBSCRIBE {s}1", "SUNSUBSCRIBE s {s}2", "SUNSUBSCRIBE", "UNSUBSCRIBE", "PING x",
         "PUNSUBSCRIBE", "PING x"],
        ["SUBSCRIBE a", "PING", "PING hello", ["PING", b""], ["PING", b"\x00\r\n"], "PING a b",
         "UNSUBSCRIBE", "PING", "PING hello"],
        ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "PUBLISH", "PUBLISH a", "PUBLISH a b c",
         "SPUBLISH a", "PUBSUB", "PUBSUB NOSUCH", "PUBSUB CHANNELS a b", "PUBSUB NUMPAT x"],
        ["SUBSCRIBE a", "GET k", "SET k v", "MGET a b", "CLIENT ID", "CLIENT SETNAME n", "ECHO x",
         "SELECT 0", "HELLO", "HELLO 3", "PUBLISH a b", "PUBSUB CHANNELS", "NOSUCHCOMMAND x",
         "GET", "COMMAND COUNT", "AUTH x", "INFO", "PING"],
        ["SUBSCRIBE a", "WAITAOF 0 0 0", "WAITAOF", "CLIENT NO-TOUCH on", "CLIENT NO-TOUCH",
         "CLIENT NOSUCH", "CLIENT CAPA x", "CLIENT CAPA"],
        ["SUBSCRIBE a", "RESET", "GET k", "UNSUBSCRIBE", "PSUBSCRIBE p", "SSUBSCRIBE s", "RESET",
         "PING"],
        [["SUBSCRIBE", b"\x00\r\n", b""], ["PSUBSCRIBE", b"*\x00", b"[a", b"\\"],
         ["UNSUBSCRIBE", b"", b"\x00\r\n"], ["PUNSUBSCRIBE", b"[a", b"\\", b"*\x00"]],
        ["subscribe A", "psubscribe P", "unsubscribe A", "punsubscribe P"],
    ]

    def both(self, lines, protocol, pipelined):
        got = []
        for port in (setup.oracle.port, setup.proxy.port):
            with_hello = self.conn(port, protocol=protocol)
            if pipelined:
                with_hello.send(b"".join(encode(*words(line)) for line in lines))
            raw = b""
            for line in lines:
                if not pipelined:
                    with_hello.send(encode(*words(line)))
                    time.sleep(0.005)
            with_hello.send(encode("PING", "the end"))
            while b"the end\r\n" not in raw:
                raw += with_hello.read_raw()
            got.append(raw)
            with_hello.close()
        return got

    def check(self, protocol):
        for lines in self.SCRIPTS:
            if protocol == 3:  # what HELLO and INFO say is not the same on both
                lines = [x for x in lines if x not in ("HELLO", "HELLO 3", "INFO", "CLIENT ID",
                                                       "COMMAND COUNT", "AUTH x", "RESET",
                                                       # its own message may come after the reply
                                                       "PUBLISH a b")]
            for pipelined in (False, True):
                with self.subTest(lines=lines, pipelined=pipelined):
                    want, got = self.both(lines, protocol, pipelined)
                    self.assertEqual(want, got)

    def test_resp2(self):
        self.check(2)

    def test_resp3(self):
        self.check(3)

    def test_quit_and_the_end_of_input(self):
        for protocol in (2, 3):
            c, d = self.conn(protocol=protocol), self.conn(protocol=protocol)
            self.subscribed(c, "SUBSCRIBE", "bye")
            self.subscribed(d, "SUBSCRIBE", "bye")
            c.send(encode("QUIT"))
            self.assertEqual(OK, c.read())
            d.sock.shutdown(socket.SHUT_WR)
            for conn in (c, d):
                with self.assertRaises((Closed, ConnectionError)):
                    conn.read()
        with setup.proxy.conn() as c:
            wait_until("nobody listens", lambda: c.cmd("PUBLISH", "bye", "x") == 0, grace(5))

    def test_resp2_then_resp3_and_back(self):
        c, p = self.conn(protocol=3), self.conn()
        self.subscribed(c, "SUBSCRIBE", "sw")
        self.assertNotIsInstance(c.cmd("HELLO", 2), Error)
        self.assertIsInstance(c.cmd("GET", "k"), Error)
        self.assertEqual([b"pong", b""], c.cmd("PING"))
        self.assertEqual(1, p.cmd("PUBLISH", "sw", "m"))
        value, raw = c.read_both()
        self.assertEqual(b"*3\r\n$7\r\nmessage\r\n$2\r\nsw\r\n$1\r\nm\r\n", raw)

    def test_resp3_pushes_between_replies(self):
        c, p = self.conn(protocol=3), self.conn()
        self.subscribed(c, "SUBSCRIBE", "between")
        rounds = scaled(300)
        for i in range(rounds):
            c.send(encode("ECHO", "e%d" % i))
            self.assertEqual(1, p.cmd("PUBLISH", "between", "m%d" % i))
        seen = {b"e": [], b"m": []}
        for _ in range(2 * rounds):
            v = c.read()
            if isinstance(v, Push):
                seen[b"m"].append(v[2])
            else:
                seen[b"e"].append(v)
        for kind, values in seen.items():
            self.assertEqual([b"%s%d" % (kind, i) for i in range(rounds)], values)

    def test_subscribe_behind_requests_under_way(self):
        """Its confirmation comes in its place, and no message before it."""
        c, p = self.conn(protocol=3), self.conn()
        stop = threading.Event()

        def publish():
            while not stop.is_set():
                p.cmd("PUBLISH", "inorder", "m")
        t = threading.Thread(target=publish)
        t.start()
        try:
            for i in range(scaled(100)):
                c.send(encode("ECHO", "1") + encode("GET", "nokey") + encode("SUBSCRIBE", "inorder") +
                       encode("GET", "nokey") + encode("UNSUBSCRIBE", "inorder") +
                       encode("ECHO", "2"))
                got = [c.read() for _ in range(2)]
                self.assertEqual([b"1", NULL], got)
                self.assertEqual([b"subscribe", b"inorder", 1], plain(c.read()))
                rest = []
                while rest[-1:] != [b"2"]:
                    rest.append(c.read())
                rest = [plain(r) for r in rest if not (isinstance(r, Push) and r[0] == b"message")]
                self.assertEqual([NULL, [b"unsubscribe", b"inorder", 0], b"2"], rest)
        finally:
            stop.set()
            t.join()

    def test_many_channels_pipelined(self):
        n = scaled(3000)
        c, p = self.conn(), self.conn()
        c.send(b"".join(encode("SUBSCRIBE", "many%d" % i) for i in range(n)))
        for i in range(n):
            self.assertEqual([b"subscribe", b"many%d" % i, i + 1], c.read())
        for i in range(0, n, 97):
            self.assertEqual(1, p.cmd("PUBLISH", "many%d" % i, "x"))
            self.message(c, b"many%d" % i, b"x")
        c.send(encode("UNSUBSCRIBE"))
        left = {bytes(c.read()[1]) for _ in range(n)}
        self.assertEqual(n, len(left))
        self.assertEqual(PONG, c.cmd("PING"))


class Messages(PubSubCase):
    def test_channels_patterns_payloads(self):
        p = self.conn()
        for protocol in (2, 3):
            c = self.conn(protocol=protocol)
            self.subscribed(c, "SUBSCRIBE", "news", b"\x00\xff")
            self.subscribed(c, "PSUBSCRIBE", "n?ws", "n*")
            for payload in (b"", b"x", b"\r\n\x00", b"y" * 511, b"z" * 5000, b"w" * 300000):
                self.assertEqual(3, p.cmd("PUBLISH", "news", payload))
                got = sorted(plain(c.read()) for _ in range(3))
                self.assertEqual(sorted([[b"message", b"news", payload],
                                         [b"pmessage", b"n?ws", b"news", payload],
                                         [b"pmessage", b"n*", b"news", payload]]), got)
            self.assertEqual(1, p.cmd("PUBLISH", b"\x00\xff", "bin"))
            self.message(c, b"\x00\xff", b"bin")
            c.send(encode("RESET"))
            self.assertEqual(Simple(b"RESET"), c.read())
            wait_until("gone", lambda: p.cmd("PUBLISH", "news", "x") == 0, grace(5))

    def test_a_message_of_16_mib(self):
        p, c2, c3 = self.conn(), self.conn(), self.conn(protocol=3)
        for c in (c2, c3):
            self.subscribed(c, "SUBSCRIBE", "big")
        payload = bytes(range(256)) * (scaled(16, 4) * 4096)
        self.assertEqual(2, p.cmd("PUBLISH", "big", payload))
        for c in (c2, c3):
            got = plain(c.read())
            self.assertEqual([b"message", b"big"], got[:2])
            self.assertTrue(got[2] == payload)

    def test_order_of_one_publisher(self):
        c, p = self.conn(), self.conn()
        n = scaled(20000)
        self.subscribed(c, "SUBSCRIBE", "seq1", "seq2")
        for i in range(0, n, 500):
            replies = p.pipeline([("PUBLISH", "seq%d" % (1 + k % 2), "%d" % k)
                                  for k in range(i, min(n, i + 500))])
            self.assertEqual({1}, set(replies))
        last = {b"seq1": -2, b"seq2": -1}
        for _ in range(n):
            _, ch, k = c.read()
            self.assertEqual(last[ch] + 2, int(k))
            last[ch] = int(k)

    def test_what_was_published_before_unsubscribe(self):
        """PUBLISH has counted the client: the message comes, and before the confirmation."""
        kinds = (("SUBSCRIBE", "PUBLISH", "UNSUBSCRIBE"), ("SSUBSCRIBE", "SPUBLISH", "SUNSUBSCRIBE"))
        channels = ["leave:%d" % i for i in range(30)]
        publisher, company = self.conn(), self.conn()
        for sub, pub, unsub in kinds:
            for round_ in range(scaled(20)):
                if round_ == 10:  # from now on the proxy stays subscribed
                    self.subscribed_to_all(company, sub, channels)
                c = self.conn()
                self.subscribed_to_all(c, sub, channels)
                got = publisher.pipeline([(pub, ch, "m") for ch in channels])
                c.send(encode(unsub, *channels[:20]) + encode(unsub))
                self.assertEqual([2 if round_ >= 10 else 1] * len(channels), got)
                heard, left = [], []
                while len(left) < len(channels):
                    kind, name = plain(c.read())[:2]
                    (left if kind == unsub.lower().encode() else heard).append(name)
                    if kind != unsub.lower().encode():
                        self.assertNotIn(name, left)
                self.assertEqual(sorted(heard), sorted(left))
                self.expect(c, "PING", PONG)
                c.close()
            company.close()
            company = self.conn()

    def subscribed_to_all(self, conn, sub, channels):
        conn.send(b"".join(encode(sub, ch) for ch in channels))
        for _ in channels:
            self.assertEqual(sub.lower().encode(), plain(conn.read())[0])

    def test_leaves_and_comes_back(self):
        """In one breath, with messages on their way: each comes once."""
        publisher, company, c = self.conn(), self.conn(), self.conn()
        self.subscribed(c, "SUBSCRIBE", "back")
        for i in range(scaled(20)):
            if i == 10:
                self.subscribed(company, "SUBSCRIBE", "back")
            expected = [[b"message", b"back", b"a%d" % i], [b"unsubscribe", b"back", 0],
                        [b"subscribe", b"back", 1], [b"message", b"back", b"b%d" % i]]
            publisher.cmd("PUBLISH", "back", "a%d" % i)
            c.send(encode("UNSUBSCRIBE", "back") + encode("SUBSCRIBE", "back"))
            got = [plain(c.read()) for _ in range(3)]
            publisher.cmd("PUBLISH", "back", "b%d" % i)
            self.assertEqual(expected, got + [plain(c.read())])

    def test_not_within_a_long_reply(self):
        """A reply longer than backend.large_reply passes in pieces; messages wait for its end."""
        if STANDIN:
            self.skipTest("a plain server has no long replies")
        value = b"v" * (24 << 20)
        p = self.conn()
        self.assertEqual(OK, p.cmd("SET", "longkey", value))
        c = self.conn(protocol=3, rcvbuf=65536)
        self.subscribed(c, "SUBSCRIBE", "interrupt")
        c.send(encode("GET", "longkey") + encode("ECHO", "after"))
        for i in range(50):
            self.assertEqual(1, p.cmd("PUBLISH", "interrupt", "m%d" % i))
            time.sleep(0.002)
        got, messages = [], []
        while len(got) < 2 or len(messages) < 50:
            v = c.read()
            (messages if isinstance(v, Push) else got).append(v)
        self.assertTrue(got[0] == value)
        self.assertEqual(b"after", got[1])
        self.assertEqual([b"m%d" % i for i in range(50)], [m[2] for m in messages])
        p.cmd("DEL", "longkey")

    def test_fan_out_over_all_workers(self):
        clients = [self.conn(protocol=2 + i % 2) for i in range(30)]
        p = self.conn()
        for i, c in enumerate(clients):
            self.subscribed(c, "SUBSCRIBE", "fan")
            self.assertEqual(i + 1, p.cmd("PUBLISH", "fan", "%d" % i))
        for i, c in enumerate(clients):
            for k in range(i, 30):
                self.message(c, "fan", b"%d" % k)
        for i, c in enumerate(clients):
            c.send(encode("UNSUBSCRIBE", "fan"))
            self.assertEqual([b"unsubscribe", b"fan", 0], plain(c.read()))
            self.assertEqual(29 - i, p.cmd("PUBLISH", "fan", "x"))
            for other in clients[i + 1:]:
                self.message(other, "fan", b"x")


class Counts(PubSubCase):
    """PUBLISH and PUBSUB count clients, wherever they are; the proxy's own subscriptions never."""

    def test_publish_and_numsub(self):
        p = self.conn()
        listeners = []
        for i in range(7):
            c = self.conn()
            self.subscribed(c, "SUBSCRIBE", "count1", "count2")
            listeners.append(c)
            d = self.conn(protocol=3)
            self.subscribed(d, "PSUBSCRIBE", "count*", "c*1")
            listeners.append(d)
            self.assertEqual(3 * (i + 1), p.cmd("PUBLISH", "count1", "x"))
            self.assertEqual(2 * (i + 1), p.cmd("PUBLISH", "count2", "x"))
            self.assertEqual([b"count1", i + 1, b"count2", i + 1, b"count3", 0],
                             p.cmd("PUBSUB", "NUMSUB", "count1", "count2", "count3"))
            self.assertEqual(2, p.cmd("PUBSUB", "NUMPAT"))
        self.assertEqual([b"count1", b"count2"], sorted(p.cmd("PUBSUB", "CHANNELS", "count*")))
        self.assertEqual([], p.cmd("PUBSUB", "CHANNELS", "nosuch*"))
        self.assertEqual([], p.cmd("PUBSUB", "NUMSUB"))
        for c in listeners:
            c.close()
        wait_until("all are gone", lambda: p.cmd("PUBLISH", "count1", "x") == 0 and
                   p.cmd("PUBSUB", "NUMPAT") == 0 and
                   p.cmd("PUBSUB", "CHANNELS", "count*") == [], grace(5))

    def test_behind_an_own_subscribe(self):
        """In one pipeline: what comes behind SUBSCRIBE finds the client there, or gone."""
        for i in range(scaled(60)):
            c, name = self.conn(protocol=3), "own%d" % i
            c.send(encode("SUBSCRIBE", name) + encode("PUBLISH", name, "m") +
                   encode("PUBSUB", "NUMSUB", name) + encode("UNSUBSCRIBE", name) +
                   encode("PUBLISH", name, "n") + encode("PUBSUB", "NUMSUB", name))
            got = [plain(c.read()) for _ in range(7)]
            name = name.encode()
            self.assertEqual([b"subscribe", name, 1], got[0])
            self.assertIn([b"message", name, b"m"], got)  # it comes on its own way
            got.remove([b"message", name, b"m"])
            self.assertEqual([1, [name, 1], [b"unsubscribe", name, 0], 0, [name, 0]], got[1:])
            c.close()

    def test_behind_an_own_subscribe_from_inside(self):
        """The same for what is published inside a transaction or a script."""
        ways = [("SUBSCRIBE", ["MULTI", "PUBLISH {n} m", "EXEC"]),
                ("PSUBSCRIBE", ["MULTI", "PING", "PUBLISH {n} m", "EXEC"]),
                ("SSUBSCRIBE", ["MULTI", "SPUBLISH {n} m", "EXEC"]),
                ("SUBSCRIBE", ["WATCH {n}", "MULTI", "PUBLISH {n} m", "EXEC"]),
                ("SUBSCRIBE", ["EVAL return(redis.call('PUBLISH','{n}','m')) 0"]),
                ("PSUBSCRIBE", ["EVAL return(redis.call('PUBLISH','{n}','m')) 1 {n}"])]
        for verb, lines in ways:
            for i in range(scaled(12)):
                c, name = self.conn(protocol=3), "inside%d" % i
                c.send(encode(verb, name) + b"".join(
                    encode(*line.replace("{n}", name).split()) for line in lines) +
                    encode("PING", "the end"))
                message, raw = b"%s\r\n$1\r\nm\r\n" % name.encode(), b""
                c.sock.settimeout(grace(5))
                try:
                    while message not in raw or b"the end" not in raw:
                        raw += c.read_raw()
                except socket.timeout:
                    pass
                self.assertEqual(1, raw.count(message), [verb, lines, raw])
                c.close()

    def test_never_too_many(self):
        """Somebody who is coming counts once, from some moment on: not as a client here and as the
        proxy's subscription there."""
        p, worst = self.conn(), set()
        for i in range(scaled(150)):
            c, name = self.conn(), "coming%d" % i
            c.send(encode("SUBSCRIBE", name) + encode("PSUBSCRIBE", name + "*"))
            for _ in range(4):
                p.send(encode("PUBSUB", "NUMSUB", name) + encode("PUBSUB", "NUMPAT"))
                worst |= {p.read()[1], p.read()}
            self.assertEqual([1, 2], [c.read()[2], c.read()[2]])
            self.assertEqual([[bytes(name, "ascii"), 1], 1], p.pipeline([["PUBSUB", "NUMSUB", name], "PUBSUB NUMPAT"]))
            c.send(encode("UNSUBSCRIBE") + encode("PUNSUBSCRIBE"))
            self.assertEqual([1, 0], [c.read()[2], c.read()[2]])
            self.assertEqual([[bytes(name, "ascii"), 0], 0], p.pipeline([["PUBSUB", "NUMSUB", name], "PUBSUB NUMPAT"]))
            c.close()
        self.assertLessEqual(worst, {0, 1})

    def test_with_direct_clients(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        p, mine = self.conn(), self.conn()
        direct = self.conn(setup.cluster.owner("direct").port)
        self.subscribed(direct, "SUBSCRIBE", "direct")
        self.assertEqual(1, p.cmd("PUBLISH", "direct", "1"))
        self.subscribed(mine, "SUBSCRIBE", "direct")
        self.assertEqual(2, p.cmd("PUBLISH", "direct", "2"))
        self.assertEqual([b"direct", 2], p.cmd("PUBSUB", "NUMSUB", "direct"))
        self.message(mine, "direct", b"2")
        # What others publish at other servers is heard too.
        for node in setup.cluster.masters():
            node.cmd("PUBLISH", "direct", "from %d" % node.port)
        got = {bytes(mine.read()[2]) for _ in setup.cluster.masters()}
        self.assertEqual({b"from %d" % n.port for n in setup.cluster.masters()}, got)

    def test_one_subscription_a_channel_and_worker(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        clients = [self.conn() for _ in range(40)]
        for c in clients:
            self.subscribed(c, "SUBSCRIBE", "once")
            self.subscribed(c, "PSUBSCRIBE", "onc[e]")
        counts = [n.cmd("PUBSUB", "NUMSUB", "once")[1] for n in setup.cluster.masters()]
        self.assertLessEqual(sum(counts), 3)  # workers
        self.assertLessEqual(sum(n.cmd("PUBSUB", "NUMPAT") for n in setup.cluster.masters()), 3)
        for c in clients:
            c.close()
        wait_until("the servers have forgotten", lambda: not any(
            n.cmd("PUBSUB", "NUMSUB", "once")[1] + n.cmd("PUBSUB", "NUMPAT")
            for n in setup.cluster.masters()), grace(5))

    def test_sharded(self):
        p = self.conn()
        clients = []
        for i in range(5):
            c = self.conn(protocol=2 + i % 2)
            self.subscribed(c, "SSUBSCRIBE", "{sh}1")
            clients.append(c)
            self.assertEqual(i + 1, p.cmd("SPUBLISH", "{sh}1", "m%d" % i))
            self.assertEqual(0, p.cmd("PUBLISH", "{sh}1", "not this way"))
        self.assertEqual([b"{sh}1", 5, b"other", 0],
                         p.cmd("PUBSUB", "SHARDNUMSUB", "{sh}1", "other"))
        self.assertEqual([b"{sh}1"], p.cmd("PUBSUB", "SHARDCHANNELS"))
        for i, c in enumerate(clients):
            for k in range(i, 5):
                self.expect_push(c, ["smessage", "{sh}1", b"m%d" % k])

    def test_client_list(self):
        c, p = self.conn(), self.conn()
        ident = c.cmd("CLIENT", "ID")
        self.subscribed(c, "SUBSCRIBE", "a", "b")
        self.subscribed(c, "PSUBSCRIBE", "p")
        line = p.cmd("CLIENT", "LIST", "ID", ident).decode()
        self.assertIn(" flags=P ", line)
        self.assertIn(" sub=2 psub=1 ", line)
        listening = p.cmd("CLIENT", "LIST", "TYPE", "pubsub").decode()
        self.assertIn("id=%d " % ident, listening)
        self.assertNotIn(" flags=N ", listening)
        self.assertNotIn("id=%d " % ident, p.cmd("CLIENT", "LIST", "TYPE", "normal").decode())


class Keyspace(PubSubCase):
    def setUp(self):
        super().setUp()
        self.servers = setup.cluster.nodes if setup.cluster else [setup.proxy.standin]
        for n in self.servers:
            n.ok("CONFIG", "SET", "notify-keyspace-events", "KEA")

    def tearDown(self):
        for n in self.servers:
            n.cmd("CONFIG", "SET", "notify-keyspace-events", "")

    def test_from_all_masters_once(self):
        p = self.conn()
        keys = ["ks%d" % i for i in range(60)]
        for verb, what in (("PSUBSCRIBE", "__keyspace@0__:ks*"), ("PSUBSCRIBE", "__key*__:*"),
                           ("PSUBSCRIBE", "__keyevent@0__:set"), ("SUBSCRIBE",
                                                                  "__keyevent@0__:set")):
            c = self.conn()
            self.subscribed(c, verb, what)
            p.pipeline([("SET", k, "v") for k in keys])
            time.sleep(0.3)
            got = [(m[-2], m[-1]) for m in self.all_messages(c)]
            c.close()
            want = []
            for k in keys:
                if "event" not in what:
                    want.append((b"__keyspace@0__:" + k.encode(), b"set"))
                if "space" not in what:
                    want.append((b"__keyevent@0__:set", k.encode()))
            self.assertEqual(sorted(want), sorted(got), what)

    def test_a_pattern_that_matches_all(self):
        """Keyspace events of all masters, and every other message once."""
        c, p = self.conn(), self.conn()
        self.subscribed(c, "PSUBSCRIBE", "*")
        for i in range(20):
            self.assertEqual(1, p.cmd("PUBLISH", "all%d" % i, "m"))
            p.cmd("SET", "allkey%d" % i, "v")
        time.sleep(0.3)
        # The cluster may still be passing on what was published before.
        got = [(bytes(m[2]), bytes(m[3])) for m in self.all_messages(c)
               if bytes(m[2])[:3] in (b"all", b"__k")]
        self.assertEqual(sorted([(b"all%d" % i, b"m") for i in range(20)] +
                                [(b"__keyspace@0__:allkey%d" % i, b"set") for i in range(20)] +
                                [(b"__keyevent@0__:set", b"allkey%d" % i) for i in range(20)]),
                         sorted(got))


@unittest.skipIf(STANDIN, "needs a cluster")
class Changes(PubSubCase):
    """Subscriptions live on while the cluster changes under them."""

    class Publisher(threading.Thread):
        def __init__(self, channel, verb="PUBLISH"):
            super().__init__(daemon=True)
            self.channel, self.verb = channel, verb
            self.sent, self.errors = 0, []
            self.stopping = threading.Event()

        def run(self):
            with setup.proxy.conn(timeout=40) as p:
                while not self.stopping.is_set():
                    got = p.cmd(self.verb, self.channel, "%d" % self.sent)
                    if isinstance(got, Error):
                        self.errors.append(got)
                    self.sent += 1
                    time.sleep(0.001)

        def stop(self):
            self.stopping.set()
            self.join()

    def received(self, conn, marker="END"):
        out = []
        while True:
            m = conn.read()
            if m[-1] == marker.encode():
                return out
            out.append(int(m[-1]))

    def test_slots_move_without_loss(self):
        cluster = setup.cluster
        source, target = cluster.owner("mover"), next(
            n for n in cluster.masters() if n is not cluster.owner("mover"))
        slot = key_slot("mover")
        c = self.conn(timeout=30)
        self.subscribed(c, "SUBSCRIBE", "mover")
        pub = self.Publisher("mover")
        pub.start()
        for a, b in ((source, target), (target, source)):
            time.sleep(0.3)
            cluster.wait_epochs()
            cluster.move_slot(slot, a, b)
        time.sleep(0.3)
        pub.stop()
        with setup.proxy.conn() as p:
            self.assertEqual(1, p.cmd("PUBLISH", "mover", "END"))
        self.assertEqual([], pub.errors)
        self.assertEqual(list(range(pub.sent)), self.received(c))

    def test_sharded_channel_follows_its_slot(self):
        cluster = setup.cluster
        source = cluster.owner("smover")
        target = next(n for n in cluster.masters() if n is not source)
        clients = [self.conn(timeout=30) for _ in range(6)]
        for c in clients:
            self.subscribed(c, "SSUBSCRIBE", "smover")
        with setup.proxy.conn() as p:
            self.assertEqual(6, p.cmd("SPUBLISH", "smover", "before"))
            for a, b in ((source, target), (target, source)):
                cluster.wait_epochs()
                cluster.move_slot(key_slot("smover"), a, b)
                wait_until("all listen again", lambda: p.cmd("SPUBLISH", "smover", "try") == 6 and
                           b.cmd("PUBSUB", "SHARDNUMSUB", "smover")[1] == 3, grace(10))
                self.assertEqual(6, p.cmd("SPUBLISH", "smover", "after"))
                for c in clients:
                    while True:
                        m = c.read()
                        self.assertEqual([b"smessage", b"smover"], m[:2])
                        if m[2] == b"after":
                            break

    def test_subscribe_to_a_sharded_channel_that_just_moved(self):
        cluster = setup.cluster
        with setup.proxy.conn() as p:
            for i in range(5):
                name = "fresh%d" % i
                source = cluster.owner(name)
                target = next(n for n in cluster.masters() if n is not source)
                cluster.wait_epochs()
                cluster.move_slot(key_slot(name), source, target)
                c = self.conn()
                self.subscribed(c, "SSUBSCRIBE", name)
                self.assertEqual(1, p.cmd("SPUBLISH", name, "m"))
                self.expect_push(c, ["smessage", name, b"m"])
                cluster.wait_epochs()
                cluster.move_slot(key_slot(name), target, source)

    def test_planned_failover_without_loss(self):
        cluster = setup.cluster
        master = cluster.owner("planned")
        c, s = self.conn(timeout=30), self.conn(timeout=30)
        self.subscribed(c, "SUBSCRIBE", "planned")
        self.subscribed(s, "SSUBSCRIBE", "planned")
        pub = self.Publisher("planned")
        pub.start()
        time.sleep(0.2)
        cluster.failover(cluster.replica_of(master))
        time.sleep(1.0)
        pub.stop()
        with setup.proxy.conn() as p:
            p.cmd("PUBLISH", "planned", "END")
            wait_until("the sharded channel is back",
                       lambda: p.cmd("SPUBLISH", "planned", "m") == 1, grace(10))
        self.expect_push(s, ["smessage", "planned", b"m"])
        self.assertEqual([], pub.errors)
        got = self.received(c)
        self.assertEqual(sorted(got), got)
        self.assertEqual(len(set(got)), len(got))
        self.assertEqual(list(range(pub.sent)), got)

    def test_kill_9(self):
        cluster = setup.cluster
        for n in cluster.nodes:
            n.ok("CONFIG", "SET", "notify-keyspace-events", "KEA")
        c, k, s = (self.conn(timeout=60) for _ in range(3))
        self.subscribed(c, "SUBSCRIBE", "killed")
        self.subscribed(k, "PSUBSCRIBE", "__keyspace@0__:*")
        self.subscribed(s, "SSUBSCRIBE", "killed")
        slot = cluster.kill_master(cluster.owner("killed"))
        begin = time.monotonic()
        with setup.proxy.conn(timeout=60) as p:
            # Another server takes the channel over long before the shard is back.
            p2 = self.conn(timeout=60)
            other = next(n for n in cluster.masters() if n.alive)

            def heard():
                other.cmd("PUBLISH", "killed", "x")
                return not c.is_silent(0.05)
            wait_until("the channel is heard again", heard, grace(5))
            first = time.monotonic() - begin
            while not c.is_silent(0.1):
                c.read()
            cluster.wait_promoted(slot)
            wait_until("the shard takes messages", lambda: p.cmd("PUBLISH", "killed", "y") == 1,
                       grace(15))
            self.message(c, "killed", b"y")
            wait_until("the sharded one is back", lambda: p.cmd("SPUBLISH", "killed", "z") == 1,
                       grace(15))
            self.expect_push(s, ["smessage", "killed", b"z"])
            self.assertLess(first, grace(3))
            for n in cluster.live():
                n.cmd("CONFIG", "SET", "notify-keyspace-events", "KEA")
            want = set()
            for i in range(30):
                self.assertEqual(OK, p2.cmd("SET", "kk%d" % i, "v"))
                want.add(b"__keyspace@0__:kk%d" % i)
            seen = []
            while len(seen) < 30:
                m = k.read()
                self.assertEqual(b"pmessage", m[0])
                seen.append(m[2])
            self.assertEqual(want, set(seen))
            self.assertTrue(k.is_silent(0.3), "a keyspace event came twice")
        for n in cluster.live():
            n.cmd("CONFIG", "SET", "notify-keyspace-events", "")

    def test_backend_connections_killed(self):
        clients = [self.conn(protocol=2 + i % 2) for i in range(9)]
        for c in clients:
            self.subscribed(c, "SUBSCRIBE", "cut")
        for n in setup.cluster.masters():
            n.cmd("CLIENT", "KILL", "TYPE", "pubsub")
        with setup.proxy.conn() as p:
            wait_until("all listen again",
                       lambda: p.cmd("PUBSUB", "NUMSUB", "cut")[1] == 9 and
                       setup.cluster.owner("cut").cmd("PUBSUB", "NUMSUB", "cut")[1] == 3, grace(5))
            # A worker that has not heard yet that it is subscribed again does not count.
            wait_until("all are counted", lambda: p.cmd("PUBLISH", "cut", "m") == 9, grace(5))
        for c in clients:
            self.message(c, "cut", b"m")

    def test_frozen_server(self):
        """A connection without a sign of life is given up, not waited on for ever."""
        config = "backend:\n  request_timeout: 500ms\n"
        with Proxy(setup.cluster.seeds(3), config=config, workers=2) as proxy:
            proxy.wait_routes()
            c = self.conn(proxy.port, timeout=60)
            self.subscribed(c, "SUBSCRIBE", "frozen")
            victim = setup.cluster.owner("frozen")
            other = next(n for n in setup.cluster.masters() if n is not victim)
            victim.freeze()
            try:
                def heard():
                    other.cmd("PUBLISH", "frozen", "x")
                    return not c.is_silent(0.05)
                wait_until("another server took over", heard, grace(10))
            finally:
                victim.thaw()
            c.close()


@unittest.skipIf(STANDIN, "needs the proxy's limits")
class Limits(PubSubCase):
    def test_a_slow_subscriber_is_cut(self):
        config = "client:\n  output_max_pubsub: 2mb\n"
        with Proxy(setup.cluster.seeds(3), config=config, workers=1) as proxy:
            proxy.wait_routes()
            slow = self.conn(proxy.port, rcvbuf=16384)
            good = self.conn(proxy.port, protocol=3)
            p = self.conn(proxy.port)
            self.subscribed(slow, "SUBSCRIBE", "flood")
            self.subscribed(good, "SUBSCRIBE", "flood")
            payload = b"f" * 50000
            counts = []
            for i in range(400):
                counts.append(p.cmd("PUBLISH", "flood", payload))
                self.message(good, "flood", payload)
                if counts[-1] == 1:
                    break
            self.assertEqual(2, counts[0])
            self.assertEqual(1, counts[-1], "the slow one is still there")
            self.assertGreater(len(counts), 30, "cut before its limit")
            self.assertIn("client.output_max_pubsub is 2097152", proxy.log_text())
            with self.assertRaises((Closed, OSError)):
                while True:
                    slow.read()

    def test_10000_subscribers_of_a_channel(self):
        count = scaled(10000)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        need = count + 1000
        if hard != resource.RLIM_INFINITY and hard < need:
            self.skipTest("only %d descriptors are allowed" % hard)
        if soft < need:
            resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        config = "client:\n  max_clients: %d\n" % (count + 100)
        with Proxy(setup.cluster.seeds(3), config=config, workers=1) as proxy:
            proxy.wait_routes()
            sel = selectors.DefaultSelector()
            socks = []
            want = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nhuge\r\n:1\r\n"
            for i in range(count):
                s = socket.create_connection(("127.0.0.1", proxy.port))
                s.sendall(encode("SUBSCRIBE", "huge"))
                socks.append(s)
                got = b""
                if i % 500 == 0 or i == count - 1:
                    while len(got) < len(want):
                        got += s.recv(100)
                    self.assertEqual(want, got)
            for i, s in enumerate(socks):
                s.setblocking(False)
                sel.register(s, selectors.EVENT_READ, [i, 0])
            p = self.conn(proxy.port, timeout=60)
            message = b"*3\r\n$7\r\nmessage\r\n$4\r\nhuge\r\n$100\r\n" + b"h" * 100 + b"\r\n"
            rounds = 5
            begin = time.monotonic()
            for _ in range(rounds):
                self.assertEqual(count, p.cmd("PUBLISH", "huge", b"h" * 100))
            answered = time.monotonic() - begin
            expected = sum(len(want) if not (i % 500 == 0 or i == count - 1) else 0
                           for i in range(count)) + rounds * count * len(message)
            got = 0
            while got < expected:
                events = sel.select(grace(10))
                self.assertTrue(events, "%d of %d bytes came" % (got, expected))
                for key, _ in events:
                    got += len(key.fileobj.recv(1 << 16))
            took = time.monotonic() - begin
            self.assertEqual(expected, got)
            print("# %d subscribers: %d messages answered in %.2f s, all received in %.2f s" % (
                count, rounds, answered, took))
            self.assertLess(took, grace(8))
            self.assertEqual([b"huge", count], p.cmd("PUBSUB", "NUMSUB", "huge"))
            begin = time.monotonic()
            for s in socks:
                s.close()
            wait_until("all are gone", lambda: p.cmd("PUBSUB", "NUMSUB", "huge")[1] == 0, grace(20))
            sel.close()

    def test_refused_by_an_acl(self):
        """The servers' error, nothing half subscribed, nobody else disturbed."""
        for n in setup.cluster.nodes:
            n.ok("ACL", "SETUSER", "limited", "on", ">secret", "allcommands", "allkeys",
                 "resetchannels", "&may*")
        try:
            config = ("upstreams:\n  main:\n    cluster: [%s]\n    user: limited\n    password: secret\n" %
                      ", ".join('"%s"' % s for s in setup.cluster.seeds(3)))
            with Proxy([], config=config, workers=2) as proxy:
                proxy.wait_routes()
                text = ("NOPERM this user has no permissions to access one of the channels used as "
                        "arguments")
                c, ok, p = (self.conn(proxy.port) for _ in range(3))
                self.subscribed(ok, "SUBSCRIBE", "may1")
                self.expect_error(c, "SUBSCRIBE other", text)
                self.expect_error(c, "SUBSCRIBE may1 other", text)
                self.expect_error(c, "PSUBSCRIBE *", text)
                self.expect_error(c, "SSUBSCRIBE other", text)
                self.expect_error(p, "PUBLISH other x", text)
                self.assertEqual(PONG, c.cmd("PING"))
                self.assertEqual(1, p.cmd("PUBLISH", "may1", "m"))
                self.message(ok, "may1", b"m")
                self.expect(c, "SUBSCRIBE may1", [b"subscribe", b"may1", 1])
                # The right is taken away: a server closes such clients, and so does the proxy.
                for n in setup.cluster.nodes:
                    n.ok("ACL", "SETUSER", "limited", "resetchannels", "&else*")
                with self.assertRaises((Closed, OSError)):
                    ok.read()
                self.subscribed(p, "SUBSCRIBE", "else")
        finally:
            for n in setup.cluster.nodes:
                n.cmd("ACL", "DELUSER", "limited")


class Uses(PubSubCase):
    def test_as_socket_io_does(self):
        """Several servers, each with one connection that listens and one that publishes; requests
        are answered by all, rooms come and go."""
        servers = []
        for i in range(6):
            sub, pub = self.conn(), self.conn()
            self.subscribed(sub, "PSUBSCRIBE", "socket.io#/#*")
            self.subscribed(sub, "SUBSCRIBE", "socket.io-request#/#", "socket.io-response#/#",
                            "socket.io-response#/#uid%d#" % i)
            servers.append((sub, pub))
        rounds = scaled(100, 10)
        for r in range(rounds):
            who = r % 6
            pub = servers[who][1]
            self.assertEqual([b"socket.io-request#/#", 6],
                             pub.cmd("PUBSUB", "NUMSUB", "socket.io-request#/#"))
            self.assertEqual(6, pub.cmd("PUBLISH", "socket.io-request#/#", '{"r":%d}' % r))
            for sub, _ in servers:
                self.message(sub, "socket.io-request#/#", b'{"r":%d}' % r)
            # Only now: between channels of two servers a cluster promises no order.
            for _, other in servers:
                self.assertEqual(1, other.cmd("PUBLISH", "socket.io-response#/#uid%d#" % who, b"\x82x"))
            for _ in servers:
                self.message(servers[who][0], "socket.io-response#/#uid%d#" % who, b"\x82x")
            room = "socket.io#/#room%d#" % r
            self.assertEqual(6, pub.cmd("PUBLISH", room, b"\x93\x00"))
            for sub, _ in servers:
                self.expect_push(sub, ["pmessage", "socket.io#/#*", room, b"\x93\x00"])

    def test_clients_come_and_go(self):
        """Subscriptions in every state when their clients leave; then nothing is left anywhere."""
        import random
        errors = []

        def churn(seed):
            rng = random.Random(seed)
            try:
                for _ in range(scaled(150, 10)):
                    with setup.proxy.conn(protocol=2 + rng.randrange(2)) as c:
                        data = b""
                        for _ in range(rng.randrange(1, 12)):
                            verb = rng.choice(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
                                               "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"])
                            data += encode(verb, *["churn%d" % rng.randrange(8)
                                                   for _ in range(rng.randrange(1, 4))])
                        c.send(data)
                        if rng.random() < 0.3:
                            c.send(encode("RESET"))
                        if rng.random() < 0.5:
                            c.read()
                        if rng.random() < 0.3:
                            c.reset()
            except Exception as e:  # noqa: B902
                errors.append(repr(e))
        threads = [threading.Thread(target=churn, args=(i,)) for i in range(6)]
        with setup.proxy.conn() as p:
            for t in threads:
                t.start()
            while any(t.is_alive() for t in threads):
                for i in range(8):
                    p.cmd("PUBLISH", "churn%d" % i, "m")
                    p.cmd("SPUBLISH", "churn%d" % i, "m")
            for t in threads:
                t.join()
            self.assertEqual([], errors)
            wait_until("nothing is left", lambda: p.cmd("PUBSUB", "CHANNELS", "churn*") == [] and
                       p.cmd("PUBSUB", "SHARDCHANNELS", "churn*") == [] and
                       p.cmd("PUBSUB", "NUMPAT") == 0, grace(10))
            for i in range(8):
                self.assertEqual(0, p.cmd("PUBLISH", "churn%d" % i, "m"))
            if setup.cluster:
                wait_until("nor at the servers", lambda: not any(
                    n.cmd("PUBSUB", "CHANNELS", "churn*") + n.cmd("PUBSUB", "SHARDCHANNELS", "churn*")
                    for n in setup.cluster.masters()), grace(10))


if __name__ == "__main__":
    unittest.main()
