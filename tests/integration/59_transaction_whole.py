"""Every command inside MULTI in front of one server: what redis-server says when it is queued, and what EXEC's
array has in its place. What the proxy runs itself; dialects, replies, channels and users that change inside."""
import re
import threading
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import NULL, OK, Closed, Conn, Error, Map, Push, Simple, Verbatim, encode, words
from harness.servers import Server, wait_until

QUEUED = Simple(b"QUEUED")
ABORTED = "EXECABORT Transaction discarded because of previous errors."
ARGS = ("--enable-debug-command", "yes", "--slowlog-log-slower-than", "-1",
        "--busy-reply-threshold", "100")
setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("compares two servers, of which one stands behind the proxy")
    setup.oracle = Server(args=ARGS).start()
    setup.server = Server(args=ARGS).start()
    setup.proxy = Proxy([], ["--server", setup.server.addr], config="admin_commands: true\n").start()
    setup.proxy.wait_routes()


def tearDownModule():
    if not STANDIN:
        setup.stop()
        setup.server.stop()


def block(lines):
    """On the wire: the end is heard whatever became of the client."""
    return b"".join(encode(*words(x)) for x in list(lines) + ["RESET", ["ECHO", "the end"]])


def talk(port, lines, protocol):
    """The bytes that come back; what was closed ends earlier."""
    with Conn(port, protocol=protocol, timeout=grace(20)) as c:
        c.send(block(lines))
        raw = b""
        try:
            while not raw.endswith(b"the end\r\n"):
                raw += c.read_raw()
        except Closed as e:
            raw += b"closed " + bytes(e.args[0], "utf-8") if e.args else b"closed"
        return raw


class OneServer(Case):
    def fresh(self):
        for s in (setup.server, setup.oracle):
            s.ok("FLUSHALL")
            s.ok("SET", "k", "v")
            s.ok("CONFIG", "SET", "maxmemory-samples", "5")

    def same(self, lines, protocols=(2, 3), fold=lambda raw: raw):
        for protocol in protocols:
            with self.subTest("%r in RESP%d" % (lines, protocol)):
                self.fresh()
                want = talk(setup.oracle.port, lines, protocol)
                self.fresh()
                self.same_reply(repr(lines).encode(), fold(want),
                                fold(talk(setup.proxy.port, lines, protocol)))


# -- one by one ------------------------------------------------------------------------------

class Table(OneServer):
    SAME = """
        CONFIG GET maxmemory; CONFIG GET nosuch; CONFIG GET maxmemory-sampl?s; CONFIG SET maxmemory-samples 7
        CONFIG SET nosuch 1; CONFIG SET maxmemory-samples 7 maxmemory-samples; CONFIG RESETSTAT; CONFIG REWRITE
        CONFIG HELP; CLIENT GETNAME; CLIENT SETNAME x; CLIENT LIST ID 1; CLIENT LIST TYPE x; CLIENT KILL x:1
        CLIENT KILL ID 0; CLIENT KILL ID 999999; CLIENT KILL TYPE x; CLIENT NO-EVICT ON; CLIENT NO-EVICT x
        CLIENT NO-TOUCH ON; CLIENT PAUSE 1; CLIENT PAUSE x; CLIENT UNPAUSE; CLIENT UNBLOCK 999999
        CLIENT UNBLOCK x; CLIENT REPLY x; CLIENT REPLY ON; CLIENT REPLY OFF; CLIENT REPLY SKIP
        CLIENT CACHING YES; CLIENT TRACKINGINFO; CLIENT GETREDIR; CLIENT NOSUCH; CLIENT; DEBUG SLEEP 0
        DEBUG DIGEST; DEBUG HELP; DEBUG SET-ACTIVE-EXPIRE 1; DEBUG SDSLEN k; DEBUG SDSLEN; DEBUG; SLOWLOG GET
        SLOWLOG LEN; SLOWLOG RESET; SLOWLOG HELP; LATENCY DOCTOR; LATENCY GRAPH x; LATENCY HISTORY x
        LATENCY LATEST; LATENCY RESET; LATENCY HISTOGRAM nosuch; LATENCY HELP; MEMORY DOCTOR; MEMORY PURGE
        MEMORY USAGE k; MEMORY HELP; MODULE LIST; MODULE HELP; ACL WHOAMI; ACL LIST; ACL GETUSER nosuch
        ACL USERS; ACL LOG; ACL LOG RESET; ACL DRYRUN default get k; ACL SETUSER x1 on; ACL DELUSER x1; ACL LOAD
        ACL SAVE; ACL HELP; SCRIPT KILL; SCRIPT EXISTS x; SCRIPT FLUSH; SCRIPT HELP; FUNCTION KILL
        FUNCTION LIST; FUNCTION STATS; FUNCTION DUMP; FUNCTION FLUSH; FUNCTION DELETE x; FUNCTION LOAD x
        FUNCTION RESTORE x; FUNCTION HELP; EVALSHA x 0; FCALL x 0; MONITOR; SUBSCRIBE ch; SUBSCRIBE ch d
        PSUBSCRIBE p*; SSUBSCRIBE s; UNSUBSCRIBE; UNSUBSCRIBE x y; PUNSUBSCRIBE; SUNSUBSCRIBE; PUBLISH c m
        SPUBLISH c m; PUBSUB CHANNELS; PUBSUB NUMSUB a; PUBSUB NUMPAT; PUBSUB SHARDCHANNELS; PUBSUB SHARDNUMSUB
        PUBSUB HELP; HELLO 4; HELLO x; HELLO 3 SETNAME; HELLO 3 NOSUCH x; HELLO 3 SETNAME a\x7fb
        HELLO 3 AUTH nobody x; AUTH x; AUTH default x; AUTH nobody x; AUTH a b c; SELECT 1; SELECT 99; SELECT x
        SELECT -1; SELECT 99999999999; ECHO x; PING; PING a; PING a b; MULTI; WATCH x; UNWATCH; ROLE
        COMMAND COUNT; COMMAND INFO get; COMMAND DOCS get; COMMAND LIST FILTERBY pattern get
        COMMAND GETKEYS get x; COMMAND HELP; DBSIZE; KEYS *; FLUSHALL; FLUSHDB; SCAN 0; RANDOMKEY; SWAPDB 0 1
        MOVE k 2; WAIT 0 0; WAITAOF 0 0 0; WAITAOF; SAVE; SYNC; PSYNC a 1; SHUTDOWN NOSAVE; MIGRATE 127.0.0.1 1 nosuch 0 10
        PFDEBUG ENCODING k; OBJECT HELP; OBJECT ENCODING k; XINFO HELP; XGROUP HELP; BLPOP k2 0
        BLMOVE k2 k3 LEFT LEFT 0; XREAD BLOCK 0 STREAMS s $; INFO nosuch; NOSUCH x; GET; COPY k k2; SORT k
        LCS k k; GEORADIUS g 1 1 1 m; LOLWUT; DISCARD; EXEC; EXEC x; RESET; QUIT
    """
    # numbers, identifiers and texts are each server's own: the same types in the same places
    ALIKE = """
        CLIENT ID; CLIENT INFO; CLIENT LIST; DEBUG OBJECT k; OBJECT IDLETIME k; HELLO; HELLO 2; HELLO 3; HELLO 3 SETNAME x
        MEMORY STATS; MEMORY MALLOC-STATS; ACL CAT string; ACL GENPASS 5; TIME; INFO; LASTSAVE
    """
    # the proxy's own answers: what they are outside MULTI
    ITS_OWN = """
        CONFIG GET port requirepass; CLIENT HELP; CLIENT SETINFO LIB-NAME x; DEBUG NOSUCH; ASKING; READONLY
        READWRITE; CLUSTER INFO; CLUSTER MYID; CLUSTER SLOTS; CLUSTER SHARDS; CLUSTER NODES; CLUSTER LINKS
        CLUSTER COUNTKEYSINSLOT 1; CLUSTER GETKEYSINSLOT 1 1; CLUSTER KEYSLOT x; CLUSTER HELP
        CLUSTER REPLICAS x; SENTINEL CKQUORUM mymaster
    """
    # refused when queued, as they are refused outside
    REFUSED = """
        CONFIG SET maxclients 100; CLIENT TRACKING ON; CLIENT TRACKING OFF; MODULE LOAD /x; MODULE LOADEX /x
        MODULE UNLOAD x; SCRIPT DEBUG NO; REPLCONF ack 1; REPLICAOF NO ONE; SLAVEOF NO ONE
        FAILOVER; RESTORE-ASKING k2 0 x; CLUSTER FAILOVER; CLUSTER MEET x 1
    """

    @staticmethod
    def lines(text):
        return [words(x) for line in text.strip().splitlines() for x in line.strip().split("; ")]

    def test_same(self):
        for argv in self.lines(self.SAME):
            self.same(["MULTI", argv, "ECHO mid", "EXEC", "ECHO behind"])

    def test_that_take_time(self):
        for line in ("BGSAVE", "BGREWRITEAOF", "PFSELFTEST"):
            self.same(["MULTI", line, "ECHO mid", "EXEC"], (2,))
            for s in (setup.server, setup.oracle):
                wait_until("no child is at work", lambda s=s: not any(
                    s.info()[x] == "1" for x in ("rdb_bgsave_in_progress", "aof_rewrite_in_progress")), grace(20))

    def test_alike(self):
        def shape(v):
            if isinstance(v, (list, tuple)):
                return type(v).__name__, [shape(x) for x in v]
            return type(v).__name__
        for protocol in (2, 3):
            for argv in self.lines(self.ALIKE):
                with self.subTest(argv), setup.oracle.conn(protocol=protocol) as o, \
                        self.conn(protocol=protocol) as c:
                    want, got = (x.pipeline(["MULTI", argv, "HGETALL nosuch", "EXEC", "HGETALL nosuch"])
                                 for x in (o, c))
                    if argv[:2] in (["ACL", "CAT"], ["MEMORY", "STATS"]):
                        self.assertEqual(type(want[3][0]), type(got[3][0]))
                        self.assertEqual(len(want[3][0]), len(got[3][0]))
                        want[3], got[3] = want[3][1:], got[3][1:]
                    self.same_reply(repr(argv).encode(), repr(shape(want)), repr(shape(got)))

    def test_its_own(self):
        for protocol in (2, 3):
            for argv in self.lines(self.ITS_OWN):
                with self.subTest(argv), self.conn(protocol=protocol) as c:
                    want = c.cmd(*argv)
                    got = c.pipeline(["MULTI", "GET k", argv, "ECHO mid", "EXEC"])
                    self.assertEqual([OK, QUEUED, QUEUED, QUEUED], got[:4])
                    self.assertEqual([want, b"mid"], got[4][1:])

    def test_refused(self):
        for argv in self.lines(self.REFUSED):
            with self.subTest(argv), self.conn() as c:
                self.fresh()
                want = c.cmd(*argv)
                self.assertIsInstance(want, Error)
                self.assertEqual([OK, want, QUEUED, Error(ABORTED.encode()), None],
                                 c.pipeline(["MULTI", argv, "SET k2 lost", "EXEC", "GET k2"]))

    def test_all_others(self):
        """What is not named above, with arguments that are mostly wrong."""
        named = {b"command", b"bgsave", b"bgrewriteaof", b"pfselftest", b"script|load", b"eval", b"eval_ro",
                 b"restore-asking"}
        for text in (self.SAME, self.ALIKE, self.ITS_OWN, self.REFUSED):
            for argv in self.lines(text):
                named.add(argv[0].lower().encode())
                named.add("|".join(argv[:2]).lower().encode())
        rows = []
        with setup.oracle.conn() as o:
            for row in o.cmd("COMMAND"):
                rows.extend(row[9] if len(row) > 9 and row[9] else [row])
        left = [(r[0], r[1]) for r in rows if r[0] not in named and not r[0].startswith(b"cluster|")]
        self.assertGreater(len(left), 150)
        for name, arity in left:
            parts = name.split(b"|")
            argv = parts + [b"k"] * (abs(arity) - len(parts))
            with self.subTest(argv):
                self.same(["MULTI", argv, argv, "ECHO mid", "EXEC"], (2,))


# -- what changes inside -----------------------------------------------------------------------

HELLO = re.compile(rb"([%*](?:7|14))\r\n\$6\r\nserver\r\n.*?modules\r\n\*0\r\n", re.S)


def without_hello(raw):
    return HELLO.sub(rb"\1 hello\r\n", raw)


class Dialect(OneServer):
    SCRIPTS = [
        "HSET h a 1 | MULTI | HGETALL h | HELLO 3 | HGETALL h | CLIENT TRACKINGINFO | HELLO 2 | HGETALL h | EXEC |"
        " HGETALL h",
        "HSET h a 1 | MULTI | HELLO 3 | CONFIG GET maxmemory | CLIENT GETNAME | ZADD z 1 a | ZSCORE z a | EXEC |"
        " HGETALL h",
        "MULTI | HELLO 3 | EXEC | GET nosuch | MULTI | GET nosuch | HELLO 2 | GET nosuch | EXEC | GET nosuch",
        "MULTI | HELLO 3 | HELLO 2 | HELLO 3 | GET nosuch | EXEC | GET nosuch",
        "MULTI | HELLO 3 | GET nosuch | DISCARD | GET nosuch",
        "MULTI | HELLO 3 | GET nosuch | NOSUCH | EXEC | GET nosuch",
        "MULTI | HELLO 3 SETNAME x | GET nosuch | CLIENT GETNAME | EXEC",
        "MULTI | HELLO 3 SETNAME | GET nosuch | HELLO 9 | HELLO x | GET nosuch | EXEC | GET nosuch",
        "MULTI | HELLO 3 | SELECT 2 | GET nosuch | SET k two | SELECT 0 | GET k | EXEC | GET k | HELLO 2 | GET nosuch",
        "WATCH k | MULTI | HELLO 3 | GET nosuch | EXEC | GET nosuch | SET k 1 | WATCH k | SET k 2 | MULTI | HELLO 2 |"
        " GET k | EXEC | GET nosuch",
        "WATCH k | MULTI | UNWATCH | CLIENT SETNAME a | EXEC | CLIENT GETNAME",
        "CLIENT REPLY SKIP | MULTI | HELLO 3 | GET nosuch | EXEC | CLIENT REPLY SKIP | MULTI |"
        " CLIENT REPLY SKIP | EXEC | PING",
    ]

    def test_hello(self):
        for script in self.SCRIPTS:
            self.same([x.strip() for x in script.split("|")], fold=without_hello)

    def test_nobody_else_is_touched(self):
        """The block was sent on a connection that others share: it speaks their dialect again."""
        with self.conn() as a, self.conn() as b, self.conn(protocol=3) as three:
            self.fresh()
            for _ in range(30):
                a.send(b"".join(encode(*x.split()) for x in ["MULTI", "HELLO 3", "GET none", "EXEC", "HELLO 2"]))
                self.expect(b, "GET none", None)
                self.expect(three, "GET none", NULL)
                got = [a.read() for _ in range(5)]
                self.assertEqual([OK, QUEUED, QUEUED], got[:3])
                self.assertIsInstance(got[3][0], Map)
                self.expect(b, "GET none", None)


class Replies(OneServer):
    ON, OFF, SKIP = ("CLIENT REPLY " + x for x in ("ON", "OFF", "SKIP"))
    SCRIPTS = [
        ["MULTI", "GET k", OFF, "GET k", "PING", "EXEC", "PING", ON, "PING"],
        ["MULTI", "GET k", SKIP, "GET k", "PING", "EXEC", "PING", "PING"],
        ["MULTI", OFF, "GET k", ON, "GET k", "PING", "EXEC", "PING"],
        ["MULTI", SKIP, ON, "GET k", SKIP, "EXEC", "PING", "ECHO a"],
        ["MULTI", OFF, SKIP, "EXEC", "PING", "PING", ON, "ECHO a"],
        [OFF, "MULTI", "GET k", ON, "GET k", "EXEC", "PING"],
        [OFF, "MULTI", "GET k", "CLIENT LIST ID 1", "EXEC", "PING", ON],
        [OFF, "MULTI", ON, SKIP, "CLIENT LIST ID 1", "GET k", "EXEC", "PING", "ECHO a"],
        ["MULTI", OFF, "CLIENT LIST ID 1", "SUBSCRIBE x", "UNSUBSCRIBE x", "EXEC", "PING", ON],
        ["MULTI", "GET k", SKIP, "CLIENT LIST ID 1", "PING", "EXEC", "PING", "ECHO a"],
        ["MULTI", "GET k", "PING", SKIP, "EXEC", "ECHO a", "ECHO b"],
        ["MULTI", "GET k", "PING", SKIP, "EXEC", "MULTI", "ECHO b", "EXEC"],
        ["MULTI", "GET k", "PING", "EXEC", SKIP, "EXEC", "ECHO a"],
    ]

    def test_client_reply(self):
        """As in Redis the array then has fewer elements than its head says."""
        for lines in self.SCRIPTS:
            self.same(lines)

    def test_exec_itself_is_skipped(self):
        """Step by step, because MULTI and EXEC are commands as well."""
        for inner in (["GET k", "CLIENT REPLY ON", "GET k"], ["GET k", "CLIENT REPLY SKIP", "CLIENT LIST ID 1", "PING"],
                      ["CLIENT LIST ID 1", "CLIENT REPLY OFF", "CLIENT REPLY ON", "PING"], ["PING", "SUBSCRIBE x"]):
            self.same(["MULTI"] + inner + ["EXEC", "PING"])
            self.same(["CLIENT REPLY OFF", "MULTI"] + inner + ["CLIENT REPLY ON", "EXEC", "PING", "PING"])


class Kills(OneServer):
    def test_oneself(self):
        """What is behind it in the block gets no answer, but has run."""
        def dialogue(addr, protocol):
            with Conn(addr, protocol=protocol, timeout=grace(20)) as c:
                n = c.cmd("CLIENT", "ID")
                c.send(b"".join(encode(*words(x)) for x in [
                    "MULTI", "SET k 1", "CLIENT KILL ID %d SKIPME no" % n, "SET k 2", "PING", "EXEC", "SET k 3"]))
                return c.read_until_closed(grace(10))
        for protocol in (2, 3):
            self.fresh()
            self.assertEqual(dialogue(setup.oracle.port, protocol), dialogue(setup.proxy.port, protocol))
            self.assertEqual(b"2", setup.server.cmd("GET", "k"))

    def test_others(self):
        """Of all workers; CLIENT LIST tells of them, and of oneself as Redis does."""
        others = [self.conn() for _ in range(6)]
        c = self.conn()
        for o in others:
            self.expect(o, "CLIENT SETNAME other", OK)
        ids = [o.cmd("CLIENT", "ID") for o in others]
        me = c.cmd("CLIENT", "ID")
        block = ["MULTI", "SET k 1", "CLIENT LIST"]
        block += ["CLIENT KILL ID %d" % i for i in ids[1:]] + ["CLIENT LIST TYPE normal", "GET k", "EXEC"]
        got = c.pipeline(block)[-1]
        self.assertEqual([OK] + [1] * 5 + [b"1"], [got[0]] + got[2:-2] + [got[-1]])
        before, after = ({int(re.search(rb"^id=(\d+)", line)[1]): line for line in got[n].splitlines()}
                         for n in (1, -2))
        self.assertLessEqual({me, *ids}, set(before))
        self.assertEqual({me, ids[0]}, set(after) & {me, *ids})
        self.assertIn(b" flags=x ", before[me])
        self.assertIn(b" multi=%d " % (len(block) - 2), before[me])
        for o in others[1:]:
            with self.assertRaises((Closed, OSError)):
                o.cmd("PING")
        self.assertIn(b" flags=N ", c.cmd("CLIENT", "INFO"))

    def test_pause_and_unblock(self):
        blocked, c = self.conn(), self.conn()
        self.addCleanup(c.cmd, "CLIENT", "UNPAUSE")
        n = blocked.cmd("CLIENT", "ID")
        blocked.send(encode("BLPOP", "nosuch", "0"))
        self.eventually("it is blocked", lambda: b" flags=b " in c.cmd("CLIENT", "LIST", "ID", str(n)))
        got = c.pipeline(["MULTI", "SET k 1", "CLIENT UNBLOCK %d ERROR" % n, "CLIENT PAUSE 60000 WRITE", "GET k",
                          "EXEC"])
        self.assertEqual([OK, 1, OK, b"1"], got[-1])
        self.assertEqual(Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"), blocked.read())
        blocked.send(encode("SET", "k", "2"))
        self.assertEqual([OK, QUEUED, QUEUED, [b"1", OK]],
                         c.pipeline(["MULTI", "GET k", "CLIENT UNPAUSE", "EXEC"]))
        self.assertEqual(OK, blocked.read())

    def test_unblock_after_a_running_script(self):
        """A connection that was made while the server was busy has not been told its number."""
        script, other = self.conn(), self.conn()
        blocked = [self.conn() for _ in range(6)]
        script.send(encode("EVAL", "while true do end", "0"))
        with setup.server.conn(timeout=grace(20)) as direct:
            self.eventually("the script runs", lambda: bytes(direct.cmd("PING"))[:4] == b"BUSY")
            for c in blocked:
                c.send(encode("BLPOP", "nosuch", "0"))
            for c in blocked:
                self.assertEqual(b"BUSY", bytes(c.read())[:4])
            self.assertEqual(OK, direct.cmd("SCRIPT", "KILL"))
        self.assertIn(b"Script killed by user", script.read())
        numbers = [c.cmd("CLIENT", "ID") for c in blocked]
        for c in blocked:
            c.send(encode("BLPOP", "nosuch", "0"))
        self.eventually("they are blocked", lambda: other.cmd("CLIENT", "LIST").count(b" flags=b ") == 6)
        self.assertEqual([1] * 6, other.pipeline(["CLIENT UNBLOCK %d ERROR" % n for n in numbers]))
        for c in blocked:
            self.assertEqual(Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"), c.read())

    def test_a_running_script(self):
        """From one client the block, from another the script: SCRIPT KILL goes its own way."""
        a, b = self.conn(), self.conn()
        self.addCleanup(setup.server.cmd, "SCRIPT", "KILL")
        a.send(encode("EVAL", "while true do end", "0"))
        with setup.server.conn(timeout=grace(20)) as direct:
            self.eventually("the script runs", lambda: bytes(direct.cmd("PING"))[:4] == b"BUSY")
        self.assertEqual([OK], b.pipeline(["MULTI", "SCRIPT KILL", "EXEC"])[-1])
        self.assertIn(b"Script killed by user", a.read())


# -- publish and subscribe -----------------------------------------------------------------------

class Channels(OneServer):
    SCRIPTS = [
        "MULTI | SET k 1 | SUBSCRIBE a b | GET k | PSUBSCRIBE p* | UNSUBSCRIBE a | EXEC | PING | UNSUBSCRIBE |"
        " PUNSUBSCRIBE | GET k",
        "MULTI | SUBSCRIBE a | PING | PING x | UNSUBSCRIBE | PING | EXEC | PING",
        "MULTI | SUBSCRIBE a | CLIENT SETNAME x | GET k | HELLO 3 | SUBSCRIBE b | GET nosuch | EXEC | PING | GET nosuch",
        "MULTI | UNSUBSCRIBE | PUNSUBSCRIBE | SUNSUBSCRIBE | SSUBSCRIBE x | EXEC | GET k",
        "MULTI | SUBSCRIBE a | DISCARD | GET k",
        "SUBSCRIBE a | EXEC | MULTI | EXEC | UNSUBSCRIBE a | EXEC",
        "MULTI | SUBSCRIBE a | NOSUCH | EXEC | GET k",
        "MULTI | SUBSCRIBE a b | PUBSUB NUMSUB a b | PUBSUB NUMPAT | PUBSUB CHANNELS b* | UNSUBSCRIBE a b |"
        " PUBSUB NUMSUB a | EXEC",
        "MULTI | SUBSCRIBE a | UNSUBSCRIBE a | PUBLISH a x | GET k | EXEC",
    ]

    def test_like_the_server_itself(self):
        for script in self.SCRIPTS:
            self.same([x.strip() for x in script.split("|")], fold=without_hello)

    def test_several_listeners_are_counted(self):
        listeners = [self.conn() for _ in range(3)]
        for x in listeners:
            self.assertEqual([b"subscribe", b"news", 1], x.cmd("SUBSCRIBE", "news"))
        c = self.conn()
        got = c.pipeline(["MULTI", "GET k", "PUBSUB NUMSUB news", "PUBSUB CHANNELS ne*", "EXEC"])[-1]
        self.assertEqual([[b"news", 3], [b"news"]], got[1:])

    def test_publishing_to_oneself(self):
        """The message comes, behind the array: in Redis it is in the midst of it."""
        for protocol in (2, 3):
            c = self.conn(protocol=protocol)
            c.send(b"".join(encode(*x.split()) for x in [
                "MULTI", "SUBSCRIBE self", "PUBLISH self m", "SET k 1", "EXEC"]))
            self.assertEqual([OK] + [QUEUED] * 3, [c.read() for _ in range(4)])
            self.assertEqual(b"*3\r\n", c.read_exact(4))
            self.assertEqual([[b"subscribe", b"self", 1], 1, OK, [b"message", b"self", b"m"]],
                             [c.read() for _ in range(4)])
            self.expect(c, "UNSUBSCRIBE self", [b"unsubscribe", b"self", 0] if protocol == 2 else
                        Push([b"unsubscribe", b"self", 0]))

    def test_messages_wait_for_the_end_of_the_array(self):
        """While all workers are asked messages keep coming: none is inside the array, and none is lost."""
        c, stop = self.conn(protocol=3), threading.Event()
        self.assertEqual([b"subscribe", b"flood", 1], c.cmd("SUBSCRIBE", "flood"))
        sent = []

        def publish():
            with setup.proxy.conn(timeout=grace(20)) as p:
                while not stop.is_set():
                    p.pipeline(["PUBLISH flood %d" % n for n in range(len(sent), len(sent) + 5)])
                    sent.extend(range(5))
        thread = threading.Thread(target=publish)
        thread.start()
        seen = []

        def reply():
            while True:
                got = c.read()
                if not isinstance(got, Push):
                    return got
                seen.append(int(got[2]))
        try:
            for n in range(scaled(60, 20)):
                c.send(b"".join(encode(*x.split()) for x in [
                    "MULTI", "SET k %d" % n, "CLIENT LIST ID 999999", "GET k", "CLIENT UNPAUSE", "EXEC"]))
                self.assertEqual([OK] + [QUEUED] * 4, [reply() for _ in range(5)])
                self.assertEqual([OK, Verbatim(b"txt:"), b"%d" % n, OK], reply())
        finally:
            stop.set()
            thread.join()
        c.send(encode("ECHO", "last"))
        self.assertEqual(b"last", reply())
        while len(seen) < len(sent):
            got = c.read()
            self.assertIsInstance(got, Push)
            seen.append(int(got[2]))
        self.assertEqual(list(range(len(sent))), seen)


# -- the rest --------------------------------------------------------------------------------------

class InPlace(OneServer):
    def test_configuration(self):
        """Asked in its place, not before or behind the block; passwords are not shown."""
        with self.conn() as c:
            got = c.pipeline(["MULTI", "CONFIG SET maxmemory-samples 6", "CONFIG GET maxmemory-samples",
                              "CONFIG SET maxmemory-samples 7", "CONFIG GET maxmemory-samples", "CONFIG GET *pass*",
                              "CONFIG SET maxmemory-samples 5", "CONFIG GET PORT", "EXEC"])[-1]
            self.assertEqual([OK, [b"maxmemory-samples", b"6"], OK, [b"maxmemory-samples", b"7"]], got[:4])
            self.assertFalse({b"requirepass", b"masterauth", b"tls-key-file-pass"} & set(got[4]))
            self.assertEqual(b"%d" % setup.proxy.port, got[-1][1])

    def test_sizes(self):
        """Elements of every size, small and by reference, round a command that asks all workers."""
        with self.conn() as c, setup.oracle.conn() as o:
            self.fresh()
            for n in (0, 1, 1000, 16000, 17000, 70000, 1 << 20, 5 << 20):
                value = b"x" * n
                lines = ["MULTI", ["SET", "big", value], "CLIENT LIST ID 999999", "GET big", "GET k", "PING", "GET big",
                         "CLIENT LIST ID 999999", "GET big", "CLIENT KILL ID 999999", "EXEC"]
                want, got = o.pipeline(lines), c.pipeline(lines)
                self.assertTrue(want == got, n)

    def test_an_answer_that_is_too_large(self):
        """The block has run, which the error says; and the client cannot take what the proxy would have done for
        done: it is closed. What else needs the whole answer is only told."""
        config = "client:\n  output_pause: 64KiB\n  output_max: 1MiB\nbackend:\n  large_reply: 64KiB\n"
        cut = Error(b"UNKNOWN the transaction was executed: its answer is larger than client.output_max")
        self.fresh()
        setup.server.ok("SETRANGE", "big", str(3 << 20), "x")
        with Proxy([], ["--server", setup.server.addr], workers=1, config=config).start().wait_routes() as p, \
                p.conn(timeout=grace(20)) as other, p.conn(timeout=grace(20)) as c:
            for n, own in enumerate(("SELECT 1", "CLIENT SETNAME me", "SUBSCRIBE x", "HELLO 3"), 1):
                with self.subTest(own), p.conn(timeout=grace(20)) as d:
                    d.send(b"".join(encode(*x.split()) for x in ["MULTI", "INCR n", "GET big", own, "EXEC", "INCR n"]))
                    self.assertEqual([OK, QUEUED, QUEUED, QUEUED, cut], [d.read() for _ in range(5)])
                    with self.assertRaises((Closed, OSError)):
                        d.read()
                    self.expect(other, "GET n", b"%d" % n)
            self.expect(c, "WATCH n", OK)
            self.assertEqual([OK, QUEUED, QUEUED, cut, b"5"],
                             c.pipeline(["MULTI", "INCR n", "GET big", "EXEC", "GET n"]))
            got = c.pipeline(["MULTI", "GET big", "INCR n", "EXEC"])[-1]  # passes in pieces
            self.assertEqual([(3 << 20) + 1, 6], [len(got[0]), got[1]])

    def test_a_client_that_sends_no_more(self):
        """printf ... | nc: it gets the whole array."""
        lines = ["MULTI", "SET k 1", "CLIENT LIST ID 999999", "SUBSCRIBE x", "UNSUBSCRIBE x", "GET k", "EXEC"]

        def dialogue(port):
            with Conn(port, timeout=grace(20)) as c:
                c.send(b"".join(encode(*x.split()) for x in lines))
                c.sock.shutdown(1)
                return c.read_until_closed(grace(10))
        self.assertEqual(dialogue(setup.oracle.port), dialogue(setup.proxy.port))

    def test_clients_that_leave(self):
        """In the midst of the array: nothing remains of them."""
        lines = ["MULTI", "SET k 1", "CLIENT LIST", "SUBSCRIBE gone", "CLIENT LIST", "CLIENT UNPAUSE", "EXEC"]
        for n in range(scaled(200, 50)):
            c = setup.proxy.conn()
            c.send(b"".join(encode(*x.split()) for x in lines))
            if n % 2:
                c.read()
            c.reset() if n % 3 else c.close()
        with self.conn() as c:
            self.eventually("nobody listens", lambda: c.cmd("PUBSUB", "NUMSUB", "gone") == [b"gone", 0])
            self.eventually("they are gone", lambda: c.cmd("CLIENT", "LIST").count(b"\n") <= 2)

    def test_pipelined_blocks(self):
        """Behind and before others, with requests under way: everything in order."""
        lines = []
        for n in range(60):
            lines += ["INCR n", "MULTI", "INCR n", "CLIENT LIST ID 999999", "INCR n", "EXEC", "GET n", "MULTI",
                      "CLIENT SETNAME c%d" % n, "CLIENT GETNAME", "EXEC", "MULTI", "EXEC", "MGET n k"]
        with self.conn() as c, setup.oracle.conn() as o:
            self.fresh()
            self.assertEqual(o.pipeline(lines), c.pipeline(lines))


class Gone(Case):
    def test_while_a_server_hangs(self):
        """Whatever a client waits for there: one whose connection was reset is not kept."""
        waits = {"exec": ["MULTI", "SUBSCRIBE x", "EXEC"], "barrier": ["GET k", "CLIENT LIST", "PING"],
                 "subscribe": ["SUBSCRIBE x", "GET k"], "wait": ["SET k 1", "WAIT 1 0"], "unheld": ["GET k"],
                 "exec behind": ["GET k", "MULTI", "CLIENT SETNAME z", "EXEC"]}
        server = Server().start()
        self.addCleanup(server.stop)
        with Proxy([], ["--server", server.addr, "--auth", "none"], config="backend:\n  request_timeout: 60s\n"
                   "  ride_through: 60s\n").start().wait_routes() as p, p.conn(timeout=grace(20)) as watcher:
            conns = [p.conn(timeout=grace(20)) for _ in waits]
            for c, name in zip(conns, waits):
                self.expect(c, ["CLIENT", "SETNAME", name.replace(" ", "-")], OK)
            server.freeze()
            try:
                for c, lines in zip(conns, waits.values()):
                    c.send(b"".join(encode(*x.split()) for x in lines))
                time.sleep(0.5)
                self.assertEqual(1 + len(conns), watcher.cmd("CLIENT", "LIST").count(b" cmd="))
                for c in conns:
                    c.reset()
                self.eventually("they are gone", lambda: watcher.cmd("CLIENT", "LIST").count(b" cmd=") == 1)
            finally:
                server.thaw()


class Users(Case):
    """AUTH inside MULTI, where servers check passwords."""

    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.oracle = Server().start()
        self.addCleanup(self.oracle.stop)
        for s in (self.server, self.oracle):
            s.ok("ACL", "SETUSER", "joe", "on", ">secret", "~*", "&*", "+@all", "-incr")
            s.ok("SET", "k", "v")
        self.proxy = Proxy([], ["--server", self.server.addr, "--auth", "servers"]).start()
        self.addCleanup(self.proxy.stop)
        self.proxy.wait_routes()

    def test_as_the_last(self):
        for script in (
                "MULTI | GET k | INCR n | AUTH joe secret | ACL WHOAMI | CLIENT GETNAME | EXEC | ACL WHOAMI |"
                " INCR n | GET k",
                "MULTI | GET k | AUTH joe wrong | ACL WHOAMI | EXEC | ACL WHOAMI | INCR n",
                "MULTI | HELLO 3 | GET nosuch | AUTH joe secret | EXEC | ACL WHOAMI | GET nosuch",
                "MULTI | GET nosuch | HELLO 3 AUTH joe secret SETNAME j | CLIENT GETNAME | EXEC |"
                " GET nosuch | ACL WHOAMI",
                "MULTI | AUTH joe secret | DISCARD | ACL WHOAMI",
                "AUTH joe secret | MULTI | ACL WHOAMI | AUTH default any | EXEC | INCR n"):
            lines = [x.strip() for x in script.split("|")]
            for protocol in (2, 3):
                with self.subTest(script):
                    self.assertEqual(*(without_hello(talk(x.port, lines, protocol))
                                       for x in (self.oracle, self.proxy)))

    def test_nothing_is_sent_behind_it(self):
        """The block leaves before the password is asked about: the wrong user would run it."""
        with self.proxy.conn() as c:
            for auth in ("AUTH joe secret", "HELLO 3 AUTH joe secret"):
                for line, name in (("GET k", "GET"), ("SELECT 1", "SELECT"), ("CONFIG GET port", "CONFIG GET")):
                    self.expect(c, "MULTI", OK)
                    self.expect(c, auth, QUEUED)
                    self.expect_error(c, line, "ERR KEYWAY %s is not possible behind AUTH inside MULTI" % name)
                    self.expect_error(c, "EXEC", ABORTED)
            self.expect(c, "ACL WHOAMI", b"default")


    def test_what_cannot_be_taken_back(self):
        """A block takes away the right to leave the database that it is in: its connection is not used again."""
        with Proxy([], ["--server", self.server.addr, "--auth", "servers"], workers=1,
                   config="admin_commands: true\n") as p:
            p.wait_routes()
            with p.conn() as a, p.conn() as b:
                for c in (a, b):
                    self.expect(c, "AUTH joe secret", OK)
                    self.expect(c, "GET k", b"v")
                got = a.pipeline(["MULTI", "SELECT 1", "SET k one", "ACL SETUSER joe -select", "EXEC"])
                self.assertEqual([OK, OK, OK], got[-1])
                self.expect(b, "GET k", b"v")
                self.assertIn("a block has not left it as it was", p.log_text())


class ManyServers(Case):
    """In front of a cluster the proxy's own clients are no matter of the servers; the rest stays refused."""

    def test_in_a_cluster(self):
        s = Setup().start(oracle=False, replicas=0)
        try:
            with s.proxy.conn() as c:
                got = c.pipeline(["MULTI", "SET k 1", "CLIENT LIST ID 999999", "CLIENT KILL ID 999999", "CLIENT PAUSE 1",
                                  "GET k", "CLIENT UNPAUSE", "CLIENT UNBLOCK 999999", "EXEC"])
                self.assertEqual([OK, b"", 0, OK, b"1", OK, 0], got[-1])
                for line in ("HELLO 3", "SUBSCRIBE x", "MONITOR", "CLIENT REPLY OFF", "CONFIG GET port", "AUTH x",
                             "SELECT 1", "INFO", "KEYS *", "SCAN 0", "PUBSUB NUMPAT"):
                    self.expect(c, "MULTI", OK)
                    self.expect_error(c, line, "ERR KEYWAY %s is not possible inside MULTI" %
                                      " ".join(line.split()[:2 if line[:2] in ("CL", "CO") or "NUMPAT" in line else 1]))
                    self.expect(c, "SET k lost", QUEUED)
                    self.expect_error(c, "EXEC", ABORTED)
                self.expect(c, "GET k", b"1")
        finally:
            s.stop()
