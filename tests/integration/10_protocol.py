"""How bytes become commands: everything here must look exactly as from a plain redis-server."""
import random
import unittest

from harness.case import Case, Setup, raw_exchange
from harness.proxy import scaled
from harness.resp import OK, PONG, Error, encode, show

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


PING = b"*1\r\n$4\r\nPING\r\n"
PONG_RAW = b"+PONG\r\n"

# Each is sent alone on a fresh connection to a plain server and to the proxy; the bytes that come
# back and whether the connection is closed must be the same.
WELL_FORMED = [
    PING, PING * 3, b"PING\r\n", b"PING\n", b"ping\r\n", b"  PING  \r\n", b"\tPING\r\n",
    b"PING hello\r\n", b'PING "a b"\r\n', b"PING 'a b'\r\n", b'PING "\\x41\\n\\t\\"q\\""\r\n',
    b"PING 'it\\'s'\r\n", b'PING ""\r\n', b"\r\n" + PING, b"\n\n\r\n" + PING, b" \r\n" + PING,
    b"*0\r\n" + PING, b"*-1\r\n" + PING, b"*-5\r\n" + PING, b"*0\r\n*0\r\n*-1\r\n" + PING,
    b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n", b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$4\r\n\x00\xff\r\n\r\n", b"*1\r\n$4\r\nPINGxx" + PING,
    b"*01\r\n$04\r\nPING\r\n", b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    b"SET inl 1\r\nGET inl\r\nDEL inl\r\n", b"set 'q k' \"v\\x00v\"\r\nget 'q k'\r\ndel 'q k'\r\n",
    b"+OK\r\n", b":1\r\n", b"$4\r\nPING\r\n", b"-ERR\r\n", b"PING\r\n\r\n\r\nPING\r\n",
    b"EXISTS a b c\r\n", b"QUIT\r\n", b"*1\r\n$4\r\nQUIT\r\n" + PING, PING + b"QUIT\r\n" + PING,
    b"*1\r\n$4\r\nquit\r\n", b"*2\r\n$4\r\nQUIT\r\n$1\r\nx\r\n" + PING,
]
MALFORMED = [
    b"*1\r\n$-5\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$-0\r\n\r\n", b"*99999999\r\n", b"*1048577\r\n",
    b"*2147483648\r\n", b"*9223372036854775808\r\n", b"*99999999999999999999999\r\n", b"*abc\r\n",
    b"*\r\n", b"* 1\r\n", b"*+1\r\n", b"*1 \r\n$4\r\nPING\r\n", b"*1x\r\n", b"*1\r\n$9999999999\r\n",
    b"*1\r\n$536870913\r\n", b"*1\r\n$abc\r\n", b"*1\r\n$\r\n", b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$4x\r\nPING\r\n", b"*1\r\n:4\r\n", b"*1\r\nPING\r\n",
    b"*1\r\n\r\n", b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nPING\r\n*1\r\n$1\r\na\r\n",
    b"*2\r\n$4\r\nPING\r\n+a\r\n", b"*1\r\n\x00\r\n", b"*1\r\n\xff\r\n", b"*1\r\n\x07\r\n",
    b"*1\r\n'\r\n", b'*1\r\n"\r\n', b"*1\r\n\\\r\n", b"*1\r\n$99999999999999999999\r\n",
    b"*1\r\n$-9223372036854775809\r\n", b'PING "unbalanced\r\n', b"PING 'unbalanced\r\n",
    b'PING "a"b\r\n', b"PING 'a'b\r\n", b'"\r\n', b"'\r\n",
    PING + b"*1\r\n$-5\r\n" + PING, PING * 2 + b'SET "x\r\n' + PING,
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n",
    b"A" * (70 * 1024), b"*" + b"1" * (70 * 1024), b"*1\r\n$" + b"1" * (70 * 1024),
    b"A" * (1 << 20), b"SET k " + b"v" * (1 << 20), b"A" * (1 << 20) + b"\r\n" + PING,
    b"*1\r\n" + b"x" * (70 * 1024),
]
UNFINISHED = [
    b"*", b"*1", b"*1\r", b"*1\r\n", b"*1\r\n$", b"*1\r\n$4", b"*1\r\n$4\r\n", b"*1\r\n$4\r\nPI",
    b"*1\r\n$4\r\nPING", b"*1\r\n$4\r\nPING\r", b"PING", b"PING\r", b"*1048576\r\n",
    b"*2\r\n$4\r\nECHO\r\n$536870912\r\n", PING + b"*1\r\n$4\r\nPI", b"A" * 60000,
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab",
]
ODD_COMMANDS = [encode(*argv) for argv in [
    ("",), ("", "a"), ("nosuch",), ("nosuch", "a", "b c", "d"), ("NoSuch", "x" * 200),
    ("nosuch", "x" * 100, "y" * 100, "z"), ("n" * 300, "a"), (b"\x00\x01", "a"),
    (b"bad\r\nname", b"arg\r\nwith"), (b"bad\nname",), (b"q'uote", "a'b"), ("get",), ("get", "a", "b"),
    ("set", "a"), ("set",), ("mget",), ("del",), ("mset", "a"), ("mset", "a", "1", "b"),
    ("msetnx", "{a}", "1", "{a}b"), ("exists",), ("unlink",), ("touch",), ("ping", "a", "b"), ("echo",),
    ("echo", "a", "b"), ("select",), ("select", "x"), ("select", "0", "1"),
    ("eval", "return 1"), ("eval", "return 1", "x"), ("eval", "return 1", "-1"),
    ("eval", "return 1", "2", "a"), ("eval", "return 1", "99999999999999999999", "a"),
    ("evalsha", "abc"), ("fcall", "f"), ("fcall", "f", "5", "a"), ("xread", "streams"),
    ("xread", "count", "1", "a"), ("xread", "streams", "a", "b", "0"), ("xadd", "k"),
    ("zunionstore", "d", "0", "a"), ("zunionstore", "d", "x", "a"), ("zunion", "3", "a"),
    ("zinterstore", "d", "-1", "a"), ("sintercard", "0", "a"), ("sintercard", "3", "a"),
    ("lmpop", "0", "a", "left"), ("zmpop", "x", "a", "min"), ("zdiff", "2", "a"),
    ("object",), ("object", "nosuch", "a"), ("object", "encoding"), ("object", "encoding", "nokey"),
    ("memory", "usage"), ("memory", "nosuch"), ("xinfo",), ("xinfo", "stream"),
    ("xinfo", "nosuch", "a"), ("xgroup",), ("xgroup", "nosuch"), ("xgroup", "create", "k"),
    ("client",), ("client", "nosuch"), ("client", "setname"), ("client", "setname", "a b"),
    ("config",), ("config", "get"),
    ("command", "nosuch"), ("command", "getkeys"), ("command", "getkeys", "nosuch", "a"),
    ("command", "getkeys", "get"), ("script",), ("script", "nosuch"), ("script", "load"),
    ("script", "exists"), ("hello", "x"), ("hello", "1"), ("hello", "4"), ("hello", "2", "auth"),
    ("hello", "2", "nosuch"), ("hello", "2", "setname", "a b"), ("auth",), ("auth", "a", "b", "c"),
    ("scan",), ("scan", "x"), ("scan", "1x"), ("scan", "0", "count"), ("scan", "0", "count", "x"),
    ("scan", "0", "count", "0"), ("scan", "0", "match"), ("scan", "0", "nosuch", "1"),
    ("keys",), ("dbsize", "a"), ("flushall", "nosuch"), ("randomkey", "a"), ("bitop", "and", "d"),
    ("sort",), ("geosearch", "a"), ("georadius", "k", "1", "2"), ("exec",), ("discard",),
    ("quit", "a"), ("reset", "a"), ("time", "a"), ("multi", "a"), ("lcs", "a"), ("copy", "a"),
    ("rename", "a"), ("incrby", "a"), ("setex", "a", "1"), ("hset", "a", "b"), ("hset", "a", "b", "c", "d"),
]]


class Bytes(Case):
    """Raw bytes to the proxy and to a plain server: the same answer, the same end."""

    def compare(self, cases, follow=b""):
        cases = [c + follow for c in cases]
        want = raw_exchange(setup.oracle.port, cases)
        got = raw_exchange(setup.proxy.port, cases, quiet=0.8)
        for case, w, g in zip(cases, want, got):
            with self.subTest(sent=show(case, 80)):
                # A close with bytes unread is a reset, which may overtake the last reply: when
                # the plain server's own answer is cut so, only the close is comparable.
                if w[1] and not w[0] and len(case) > 1 << 16:
                    self.assertTrue(g[1], "sent %s: the server closes, the proxy does not" % (
                        show(case)))
                    continue
                self.same_reply(case, "%r, closed: %s" % w, "%r, closed: %s" % g)

    def test_well_formed(self):
        self.compare(WELL_FORMED)

    def test_malformed(self):
        self.compare(MALFORMED)

    def test_unfinished_waits(self):
        self.compare(UNFINISHED)

    def test_odd_commands_are_answered_and_the_connection_lives(self):
        self.compare(ODD_COMMANDS, follow=PING)

    def test_random_bytes(self):
        rng = random.Random(20260101)
        alphabet = [b"*", b"$", b"\r\n", b"1", b"3", b"-", b"PING", b"GET", b"a", b" ", b"\x00",
                    b'"', b"'", b"\n", b"0", b"\xff", b"4", b"\r"]
        cases = [b"".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))
                 for _ in range(scaled(300))]
        self.compare(cases)

    def test_mutated_requests(self):
        rng = random.Random(20260102)
        cases = []
        for _ in range(scaled(300)):  # all run at the same time: a key for each
            key = "m%012x" % rng.getrandbits(48)
            data = bytearray(encode("SET", key, "value") + encode("GET", key) +
                             encode("ECHO", "x" * 20))
            for _ in range(rng.randrange(1, 3)):
                at = rng.randrange(len(data))
                what = rng.randrange(3)
                if what == 0:
                    data[at] = rng.choice(b"*$\r\n0123456789-+:a\x00")
                elif what == 1:
                    del data[at]
                else:
                    data.insert(at, rng.choice(b"*$\r\n0123456789-"))
            cases.append(bytes(data))
        self.compare(cases)

    def test_inline_of_64k_minus_one(self):
        line = b"PING " + b"x" * (65536 - 5 - 1)
        self.compare([line[:n] + b"\r\n" + PING for n in (65533, 65534, 65535, 65536)])


class Splitting(Case):
    """Where the network cuts a request must not matter."""
    STREAM = (encode("SET", "split:a", b"\x00\r\n$5\r\n") + encode("GET", "split:a") + b"PING\r\n" +
              encode("MSET", "split:b", "1", "split:c", "2") + b"*0\r\n" +
              encode("MGET", "split:a", "split:b", "split:c", "split:none") + b"\r\n" +
              b"ECHO 'in line'\r\n" + encode("ECHO", "") + encode("nosuch", "x") +
              encode("DEL", "split:a", "split:b", "split:c"))

    def whole(self):
        with setup.oracle.conn() as c:
            c.send(self.STREAM)
            return b"".join(c.read_raw() for _ in range(9))

    def test_two_parts_at_every_byte(self):
        want = self.whole()
        with setup.proxy.conn() as c:
            for cut in range(1, len(self.STREAM)):
                c.send(self.STREAM[:cut])
                c.sock.settimeout(20)
                # A moment, so that the parts are two reads for the proxy.
                if cut % 4 == 0:
                    c.is_silent(0.0005)
                c.send(self.STREAM[cut:])
                got = c.read_exact(len(want))
                self.same_reply("cut at byte %d: %r" % (cut, self.STREAM), want, got)

    def test_small_pieces(self):
        want = self.whole()
        for step in (1, 2, 3, 7, 13):
            with self.subTest(step=step), setup.proxy.conn() as c:
                c.send_split(self.STREAM, step, 0.0002)
                self.same_reply("pieces of %d bytes: %r" % (step, self.STREAM), want,
                                c.read_exact(len(want)))

    def test_large_value_in_small_pieces(self):
        value = bytes(range(256)) * 800
        with setup.proxy.conn() as c:
            c.send_split(encode("SET", "split:large", value), 1447)
            self.assertEqual(OK, c.read())
            self.assertEqual(value, c.cmd("GET", "split:large"))

    def test_two_clients_interleaved(self):
        with setup.proxy.conn() as a, setup.proxy.conn() as b:
            one, two = encode("ECHO", "of a"), encode("ECHO", "of b")
            for i in range(len(one)):
                a.send(one[i:i + 1])
                b.send(two[i:i + 1])
            self.assertEqual(b"of a", a.read())
            self.assertEqual(b"of b", b.read())


class Pipelines(Case):
    def test_100k_commands_in_one_go(self):
        count = scaled(100000)
        keys = 1000
        data = bytearray()
        for i in range(count // 2):
            key = "pipe:%d" % (i % keys)
            data += encode("SET", key, "%08d" % i) + encode("GET", key)
        want = b"".join(b"+OK\r\n$8\r\n%08d\r\n" % i for i in range(count // 2))
        with setup.proxy.conn() as c:
            import threading
            sender = threading.Thread(target=c.send, args=(data,), daemon=True)
            sender.start()
            got = c.read_exact(len(want))
            sender.join(10)
        if got != want:
            at = next(i for i in range(len(want)) if got[i] != want[i])
            self.fail("reply bytes differ at %d: expected %s, got %s" % (
                at, show(want[at - 20:at + 60]), show(got[at - 20:at + 60])))

    def test_replies_come_in_request_order_over_all_masters(self):
        with setup.proxy.conn() as c:
            n = 5000
            c.pipeline([("SET", "order:%d" % i, i) for i in range(n)])
            commands = []
            for i in range(n):
                commands.append(("GET", "order:%d" % i) if i % 3 else ("ECHO", i))
            self.assertEqual([b"%d" % i for i in range(n)], c.pipeline(commands))

    def test_local_and_split_commands_keep_their_place(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            commands = ["SET pl:1 a", "PING", "MSET pl:2 b pl:3 c pl:4 d", "ECHO hi", "GET pl:3",
                        "MGET pl:1 pl:2 pl:3 pl:4 pl:5", "PING x", "EXISTS pl:1 pl:2 pl:9", "nosuch",
                        "DEL pl:1 pl:2 pl:3 pl:4", "GET", "PING", "GET pl:1"] * 50
            self.assertEqual(repr(o.pipeline(commands)), repr(c.pipeline(commands)))

    def test_program_order_on_one_key(self):
        with setup.proxy.conn() as c:
            n = 2000
            replies = c.pipeline([("SET", "po", i) for i in range(n)] + [("GET", "po")])
            self.assertEqual(b"%d" % (n - 1), replies[-1])
            c.cmd("DEL", "po:n")
            self.assertEqual(list(range(1, n + 1)), c.pipeline([("INCR", "po:n")] * n))

    def test_quit_in_a_pipeline(self):
        with setup.proxy.conn() as c:
            c.send(encode("SET", "quit:k", "1") + encode("GET", "quit:k") + encode("QUIT") +
                   encode("SET", "quit:k", "2") + encode("PING"))
            self.assertEqual(b"+OK\r\n$1\r\n1\r\n+OK\r\n", c.read_until_closed())
        with setup.proxy.conn() as c:
            self.expect(c, "GET quit:k", b"1")

    def test_close_right_after_sending(self):
        """Half a request and a close, or a whole one and a close, disturbs nobody."""
        with setup.proxy.conn() as other:
            for i in range(200):
                c = setup.proxy.conn()
                c.send(encode("SET", "closer:%d" % i, "x" * (i * 10))[:(i * 7) % 60 + 5])
                c.close() if i % 2 else c.reset()
            self.assertEqual(PONG, other.cmd("PING"))
            self.expect(other, "SET closer 1", OK)

    def test_reply_after_our_end_is_closed_for_writing(self):
        """A client that shuts down its sending side (printf | nc) still gets its answers."""
        import socket
        with setup.proxy.conn() as c:
            c.send(b"PING\r\n")
            self.assertEqual(PONG, c.read())
            c.sock.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", c.read_until_closed())


class Binary(Case):
    def test_empty_arguments(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for argv in [("SET", "", "v"), ("GET", ""), ("SET", "e", ""), ("GET", "e"),
                         ("APPEND", "e", ""), ("HSET", "eh", "", ""), ("HGETALL", "eh"),
                         ("RPUSH", "el", "", ""), ("LRANGE", "el", "0", "-1"), ("SADD", "es", ""),
                         ("SISMEMBER", "es", ""), ("MSET", "", "x", "e2", ""), ("MGET", "", "e2"),
                         ("EXISTS", "", "", "e"), ("EVAL", "return {KEYS[1],ARGV[1]}", 1, "", ""),
                         ("DEL", "", "e", "e2", "eh", "el", "es"), ("ECHO", ""), ("PING", "")]:
                self.matches_oracle(c, o, argv)

    def test_all_byte_values(self):
        blob = bytes(range(256))
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for argv in [("SET", blob, blob), ("GET", blob), ("HSET", b"\r\n", blob, b"\r\n"),
                         ("HGET", b"\r\n", blob), ("MSET", b"\x00", b"\r", b"\xff", b"\n"),
                         ("MGET", b"\x00", b"\xff", b"\r\n$1"), ("ECHO", blob),
                         ("DEL", blob, b"\r\n", b"\x00", b"\xff")]:
                self.matches_oracle(c, o, argv)

    def test_error_texts_hold_no_raw_line_ends(self):
        """A name or argument with CR LF cannot fake a second reply."""
        with setup.proxy.conn() as c:
            for argv in [(b"x\r\n+OK\r\ny",), (b"x", b"\r\n:1\r\n"), (b"CLIENT", b"a\r\n+OK"),
                         (b"CONFIG", b"\r\n-x"), (b"GET\r\n", b"a"), (b"SCRIPT", b"\n")]:
                reply = c.cmd(*argv)
                self.assertIsInstance(reply, Error, "sent %r" % (argv,))
                self.expect(c, ["ECHO", "in step"], b"in step")


if __name__ == "__main__":
    unittest.main()
