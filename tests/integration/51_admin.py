"""What operators ask: slow logs, latencies, memory, functions, saving, ACLs, CONFIG SET; of all
servers, as one would answer."""
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, PONG, Error, Map, encode
from harness.servers import Server

setup = Setup()
admin = None  # a second proxy in front of the same cluster, with admin_commands: true


def setUpModule():
    global admin
    if STANDIN:
        raise unittest.SkipTest("about several servers")
    setup.start(cluster_args=("--enable-debug-command", "yes", "--latency-monitor-threshold", "1"))
    admin = Proxy(setup.cluster.seeds(3), config="admin_commands: true\n").start().wait_routes()


def tearDownModule():
    try:
        if admin:
            admin.stop()
    finally:
        setup.stop()


def each_master(*argv):
    return [m.cmd(*argv) for m in setup.cluster.masters()]


def pairs(flat):
    return dict(flat) if isinstance(flat, Map) else dict(zip(flat[::2], flat[1::2]))


class Slowlog(Case):
    def setUp(self):
        each_master("CONFIG", "SET", "slowlog-log-slower-than", "0")
        each_master("SLOWLOG", "RESET")

    def tearDown(self):
        each_master("CONFIG", "SET", "slowlog-log-slower-than", "10000")

    def test_all_masters_newest_first(self):
        with setup.proxy.conn() as c:
            for round_ in range(2):
                for i in range(12):
                    c.cmd("SET", "slow:%d:%d" % (round_, i), "x")
                time.sleep(1.1)
            each_master("CONFIG", "SET", "slowlog-log-slower-than", "1000000")
            total = sum(each_master("SLOWLOG", "LEN"))
            self.expect(c, "SLOWLOG LEN", total)
            entries = c.cmd("SLOWLOG", "GET", "-1")
            self.assertEqual(total, len(entries))
            times = [e[1] for e in entries]
            self.assertEqual(sorted(times, reverse=True), times)
            keys = {e[3][1] for e in entries if e[3][0] == b"SET"}
            self.assertTrue({b"slow:%d:%d" % (r, i) for r in range(2) for i in range(12)} <= keys)
            self.assertEqual(10, len(c.cmd("SLOWLOG", "GET")))
            self.assertEqual(times[:3], [e[1] for e in c.cmd("SLOWLOG", "GET", "3")])
            self.expect(c, "SLOWLOG GET 0", [])
            self.expect(c, "SLOWLOG RESET", OK)
            self.expect(c, "SLOWLOG LEN", 0)

    def test_errors_are_a_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["SLOWLOG", "SLOWLOG NOSUCH", "SLOWLOG GET -2", "SLOWLOG GET x",
                         "SLOWLOG LEN x", "SLOWLOG RESET x"]:
                self.matches_oracle(c, o, line)
            self.assertEqual(o.cmd("SLOWLOG", "HELP"), c.cmd("SLOWLOG", "HELP"))


class Latency(Case):
    def test_spikes_of_all_masters(self):
        each_master("LATENCY", "RESET")
        masters = setup.cluster.masters()
        for m, seconds in zip(masters, ("0.01", "0.03", "0.02")):
            m.cmd("DEBUG", "SLEEP", seconds)
        with setup.proxy.conn() as c:
            latest = {e[0]: e for e in c.cmd("LATENCY", "LATEST")}
            self.assertIn(b"command", latest)
            self.assertEqual(max(e[3] for rows in each_master("LATENCY", "LATEST") for e in rows
                                 if e[0] == b"command"), latest[b"command"][3])
            history = c.cmd("LATENCY", "HISTORY", "command")
            self.assertEqual(sorted(history), history)
            self.assertEqual(max(ms for rows in each_master("LATENCY", "HISTORY", "command")
                                 for _, ms in rows), max(ms for _, ms in history))
            graph = c.cmd("LATENCY", "GRAPH", "command")
            doctor = c.cmd("LATENCY", "DOCTOR")
            for m in masters:
                self.assertIn(b"# 127.0.0.1:%d\n" % m.port, graph)
                self.assertIn(b"# 127.0.0.1:%d\n" % m.port, doctor)
            self.assertGreaterEqual(c.cmd("LATENCY", "RESET", "command"), 3)
            self.expect(c, "LATENCY HISTORY command", [])
            self.expect_error(c, "LATENCY GRAPH nosuch",
                              "ERR No samples available for event 'nosuch'")
            self.expect(c, "LATENCY HISTORY nosuch", [])

    def test_histogram(self):
        each_master("CONFIG", "RESETSTAT")
        for dialect in (2, 3):
            with setup.proxy.conn(protocol=dialect) as c:
                for i in range(60):
                    c.cmd("SET", "hist:%d" % i, "x")
                got = pairs(pairs(c.cmd("LATENCY", "HISTOGRAM", "set"))[b"set"])
                want = [pairs(pairs(r)[b"set"])[b"calls"] for r in
                        each_master("LATENCY", "HISTOGRAM", "set")]
                self.assertEqual(sum(want), got[b"calls"])
                counts = list(pairs(got[b"histogram_usec"]).values())
                self.assertEqual(sorted(counts), counts, "it is cumulative")
                self.assertEqual(sum(want), counts[-1])
                self.assertFalse(pairs(c.cmd("LATENCY", "HISTOGRAM", "nosuch")))


class Memory(Case):
    def test_stats_are_sums(self):
        for dialect in (2, 3):
            with setup.proxy.conn(protocol=dialect) as c, setup.oracle.conn(protocol=dialect) as o:
                for i in range(30):
                    c.cmd("SET", "mem:%d" % i, "x")
                got, one = pairs(c.cmd("MEMORY", "STATS")), pairs(o.cmd("MEMORY", "STATS"))
                self.assertEqual(set(), set(one) - set(got))
                for name, value in one.items():
                    self.assertEqual(type(value), type(got[name]), name)
                self.assertEqual(c.cmd("DBSIZE"), got[b"keys.count"])
                total = sum(pairs(r)[b"startup.allocated"] for r in each_master("MEMORY", "STATS"))
                self.assertEqual(total, got[b"startup.allocated"])

    def test_texts_and_purge(self):
        with setup.proxy.conn() as c:
            self.expect(c, "MEMORY PURGE", OK)
            for line in ("MEMORY DOCTOR", "MEMORY MALLOC-STATS"):
                text = c.cmd(*line.split())
                for m in setup.cluster.masters():
                    self.assertIn(b"# 127.0.0.1:%d\n" % m.port, text)


class Functions(Case):
    CODE = "#!lua name=%s\nredis.register_function('%s', function(keys, args) return args[1] end)"

    def test_everywhere(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            self.expect(c, "FUNCTION FLUSH", OK)
            self.expect(c, ["FUNCTION", "LOAD", self.CODE % ("lib", "f")], b"lib")
            for i in range(20):
                self.expect(c, "FCALL f 1 fk:%d hello" % i, b"hello")
            self.expect_error(c, ["FUNCTION", "LOAD", self.CODE % ("lib", "f")],
                              "ERR Library 'lib' already exists")
            self.expect(c, ["FUNCTION", "LOAD", "REPLACE", self.CODE % ("lib", "f")], b"lib")
            o.cmd("FUNCTION", "FLUSH")
            o.cmd("FUNCTION", "LOAD", self.CODE % ("lib", "f"))
            for line in ["FUNCTION LIST", "FUNCTION LIST WITHCODE", "FUNCTION STATS", "FUNCTION DUMP",
                         "FUNCTION KILL", "FUNCTION NOSUCH", "FUNCTION LOAD", "FUNCTION FLUSH foo",
                         "FUNCTION DELETE nosuch", "SCRIPT KILL", ["FUNCTION", "RESTORE", "x"]]:
                self.matches_oracle(c, o, line)
            dump = c.cmd("FUNCTION", "DUMP")
            self.expect(c, "FUNCTION DELETE lib", OK)
            for rows in each_master("FUNCTION", "LIST"):
                self.assertEqual([], rows)
            self.expect(c, ["FUNCTION", "RESTORE", dump], OK)
            for rows in each_master("FUNCTION", "LIST"):
                self.assertEqual(1, len(rows))
            self.expect(c, "FUNCTION FLUSH", OK)

    def test_an_error_of_one_is_the_answer(self):
        with setup.proxy.conn() as c:
            self.expect(c, "FUNCTION FLUSH", OK)
            setup.cluster.masters()[1].cmd("FUNCTION", "LOAD", self.CODE % ("lib", "f"))
            self.expect_error(c, ["FUNCTION", "LOAD", self.CODE % ("lib", "f")],
                              "ERR Library 'lib' already exists")
            self.expect(c, "FUNCTION FLUSH", OK)


class Kill(Case):
    def run_one(self, key, body, kill):
        """A script that does not end, and one that ends it."""
        each_master("CONFIG", "SET", "busy-reply-threshold", "50")
        with setup.proxy.conn() as runner, setup.proxy.conn() as c:
            runner.send(encode("EVAL", body, 1, key))
            begin, got = time.monotonic(), Error(b"NOTBUSY")
            while isinstance(got, Error) and got.startswith(b"NOTBUSY"):
                self.assertLess(time.monotonic() - begin, grace(4))
                got = c.cmd(*kill.split())
                time.sleep(0.02)
            ended = runner.read()
            self.expect(c, ["SET", key, "1"], OK)
            return got, ended

    def test_the_one_that_runs(self):
        for key in ("a", "b", "c"):
            got, ended = self.run_one(key, "while true do end", "SCRIPT KILL")
            self.assertEqual(OK, got)
            self.assertIsInstance(ended, Error)
            self.assertIn(b"Script killed by user", ended)


class Randomkey(Case):
    def test_weighted_by_size(self):
        setup.cluster.flush()
        with setup.proxy.conn() as c:
            self.expect(c, "RANDOMKEY", None)
            # 90 keys with the slot of one master, 10 elsewhere: by master 1/3 of the draws were theirs.
            for i in range(90):
                c.cmd("SET", "{a}:%d" % i, "x")
            for tag in ("b", "c"):
                for i in range(5):
                    c.cmd("SET", "{%s}:%d" % (tag, i), "x")
            drawn = [c.cmd("RANDOMKEY") for _ in range(300)]
            most = sum(k.startswith(b"{a}") for k in drawn)
            self.assertTrue(230 <= most <= 299, "%d of 300 draws, 270 expected" % most)
            self.assertGreater(len(set(drawn)), 50)
            replies = c.pipeline(["RANDOMKEY", "PING", "RANDOMKEY"])
            self.assertEqual(PONG, replies[1])
        with setup.proxy.conn(protocol=3) as c:
            setup.cluster.flush()
            self.assertEqual(b"_\r\n", c.cmd_raw("RANDOMKEY"))


class Saving(Case):
    def test_all_save(self):
        with setup.proxy.conn() as c:
            before = each_master("LASTSAVE")
            time.sleep(1.1)
            self.expect(c, "SAVE", OK)
            self.assertTrue(all(b > a for a, b in zip(before, each_master("LASTSAVE"))))
            self.not_error(c.cmd("BGSAVE"), "BGSAVE")
            self.eventually("all have saved", lambda: all(
                b"rdb_bgsave_in_progress:0" in t for t in each_master("INFO", "persistence")))
            self.not_error(c.cmd("BGREWRITEAOF"), "BGREWRITEAOF")


class Guarded(Case):
    REFUSED = ("ERR KEYWAY admin_commands is false: the command was not sent to the servers")
    LINES = ["CONFIG SET maxmemory-samples 6", "CONFIG REWRITE", "CONFIG RESETSTAT", "DEBUG SLEEP 0",
             "DEBUG SEGFAULT", "ACL SETUSER x", "ACL DELUSER x", "ACL LOAD", "ACL SAVE", "ACL LIST",
             "ACL USERS", "ACL GETUSER default", "ACL LOG", "ACL DRYRUN default ping", "PFSELFTEST"]

    def test_refused_unless_allowed(self):
        with setup.proxy.conn() as c:
            for line in self.LINES:
                self.expect_error(c, line, self.REFUSED)
            self.expect(c, "PING", PONG)

    def test_config_set_reaches_all(self):
        with admin.conn() as c:
            for value in (b"7", b"5"):
                self.expect(c, ["CONFIG", "SET", "maxmemory-samples", value], OK)
                for reply in each_master("CONFIG", "GET", "maxmemory-samples"):
                    self.assertEqual([b"maxmemory-samples", value], reply)
            self.expect(c, "CONFIG RESETSTAT", OK)
            for line in ["CONFIG SET nosuch 1", "CONFIG SET maxmemory-samples x", "CONFIG SET a"]:
                with setup.oracle.conn() as o:
                    self.matches_oracle(c, o, line)
            with setup.oracle.conn() as o:
                self.matches_oracle(c, o, "CONFIG HELP")

    def test_config_set_of_the_proxys_own(self):
        """What CONFIG GET tells of the proxy cannot be set: it would look set, and is not."""
        names = ("bind", "PORT", "maxclients", "tcp-keepalive", "proto-max-bulk-len")
        before = each_master("CONFIG", "GET", *names)
        with admin.conn() as c:
            for name in names:
                self.expect_error(
                    c, ["CONFIG", "SET", "maxmemory-samples", "9", name, "70"],
                    "ERR KEYWAY CONFIG SET failed (possibly related to argument '%s') - it is the "
                    "proxy's own, set in its configuration" % name)
            self.expect(c, "CONFIG SET maxmemory-samples 5", OK)
        self.assertEqual(before, each_master("CONFIG", "GET", *names))

    def test_config_set_timeout(self):
        """For the proxy's clients, of all workers; the servers' own stays, it is about the proxy."""
        before = each_master("CONFIG", "GET", "timeout")
        idle = [admin.conn() for _ in range(6)]
        for conn in idle:
            self.addCleanup(conn.close)
            self.expect(conn, "PING", PONG)
        with admin.conn() as c, setup.oracle.conn() as o:
            for line in ["CONFIG SET timeout x", "CONFIG SET timeout -1", "CONFIG SET timeout 99999999999"]:
                self.matches_oracle(c, o, line)
            self.expect(c, "CONFIG GET timeout", [b"timeout", b"0"])
            c.send(b"".join(encode(*line.split()) for line in (
                "SET t 1", "CONFIG SET timeout 1", "GET t", "CONFIG GET Timeout")))
            self.assertEqual([OK, OK, b"1", [b"Timeout", b"1"]], [c.read() for _ in range(4)])
            begun = time.monotonic()
            while time.monotonic() - begun < 3:  # who asks is not idle
                self.expect(c, "PING", PONG)
                time.sleep(0.1)
            for conn in idle:
                self.assertEqual(b"", conn.read_until_closed())
            self.expect(c, "CONFIG SET timeout 0", OK)
        self.assertEqual(before, each_master("CONFIG", "GET", "timeout"))

    def timeout_with_others(self, proxy, masters):
        names = ("timeout", "maxmemory", "maxmemory-samples")
        shown = lambda conn: pairs(conn.cmd("CONFIG", "GET", *names))
        theirs = lambda: [m.cmd("CONFIG", "GET", "timeout") for m in masters]
        before = theirs()
        with proxy.conn() as c, proxy.conn() as d, setup.oracle.conn() as o:
            was = shown(c)
            self.assertEqual(was, shown(o))
            restore = ["CONFIG", "SET"] + [word for pair in was.items() for word in pair]
            self.addCleanup(setup.oracle.cmd, *restore)
            for line in [
                    "CONFIG SET timeout 1000 maxmemory 100mb", "CONFIG SET maxmemory 90mb TIMEOUT 900",
                    "CONFIG SET maxmemory 80mb timeout 800 maxmemory-samples 8",
                    # Nothing is set by these.
                    "CONFIG SET timeout 5 nosuch 1", "CONFIG SET nosuch 1 timeout 5",
                    "CONFIG SET maxmemory-samples x timeout 5", "CONFIG SET timeout x maxmemory 1gb",
                    "CONFIG SET maxmemory 1gb timeout -1", "CONFIG SET maxmemory 1gb timeout 99999999999",
                    "CONFIG SET timeout 5 timeout 6", "CONFIG SET timeout 5 maxmemory 1gb Timeout 6",
                    "CONFIG SET maxmemory 1gb maxmemory 2gb timeout 5", "CONFIG SET timeout 5 maxmemory",
                    "CONFIG SET maxmemory 1gb timeout"]:
                self.matches_oracle(c, o, line)
                for conn in (c, d):
                    self.assertEqual(shown(o), shown(conn), line)
            c.send(b"".join(encode(*line.split()) for line in (
                "SET t 1", "CONFIG SET timeout 70 maxmemory-samples 7", "GET t", "CONFIG GET timeout")))
            self.assertEqual([OK, OK, b"1", [b"timeout", b"70"]], [c.read() for _ in range(4)])
            for m in masters:
                self.assertEqual([b"maxmemory-samples", b"7"],
                                 m.cmd("CONFIG", "GET", "maxmemory-samples"))
            self.expect_error(c, "CONFIG SET timeout 5 maxmemory-samples 9 port 1",
                              "ERR KEYWAY CONFIG SET failed (possibly related to argument 'port') - "
                              "it is the proxy's own, set in its configuration")
            self.expect(d, "CONFIG GET timeout", [b"timeout", b"70"])
            self.expect(c, restore, OK)
            self.assertEqual(was, shown(d))
        self.assertEqual(before, theirs())

    def test_config_set_timeout_with_others(self):
        """The servers get the others; where they refuse, the timeout stays as well."""
        self.timeout_with_others(admin, setup.cluster.masters())

    def test_config_set_timeout_with_others_of_one(self):
        server = Server().start()
        self.addCleanup(server.stop)
        with Proxy([], ["--server", server.addr], config="admin_commands: true\n").start() as one:
            self.timeout_with_others(one, [server])

    def test_acl(self):
        with admin.conn() as c, setup.oracle.conn() as o:
            self.expect(c, "ACL WHOAMI", b"default")
            self.expect(c, "ACL SETUSER bob on >pw ~* +@all", OK)
            o.cmd("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all")
            for users in each_master("ACL", "USERS"):
                self.assertEqual([b"bob", b"default"], users)
            for line in ["ACL LIST", "ACL USERS", "ACL GETUSER bob", "ACL GETUSER nosuch", "ACL DRYRUN bob get x", "ACL LOG", "ACL SETUSER bob foo",
                         "ACL NOSUCH", "ACL SAVE"]:
                self.matches_oracle(c, o, line)
            for line in ["ACL CAT", "ACL CAT string"]:
                self.matches_oracle(c, o, line, fold=sorted)
            self.expect(c, "ACL DELUSER bob", 1)
            self.expect(c, "ACL DELUSER bob", 0)
            for users in each_master("ACL", "USERS"):
                self.assertEqual([b"default"], users)
            self.assertEqual(64, len(c.cmd("ACL", "GENPASS")))

    def test_acl_log(self):
        """Each master notes what it refused; the youngest come first, in either dialect."""
        def seen(entry):
            entry = pairs(entry)
            return entry[b"username"], entry[b"object"], float(entry[b"age-seconds"])

        with admin.conn() as c, admin.conn() as bob:
            self.expect(c, "ACL SETUSER bob on >pw +@all ~acl:*", OK)
            self.expect(bob, "AUTH bob pw", OK)
            self.expect(c, "ACL LOG RESET", OK)
            for i in range(12):  # on all masters
                self.assertIn(b"NOPERM", bob.cmd("GET", "no:%d" % i))
            owners = {len(m.cmd("ACL", "LOG", "100")) for m in setup.cluster.masters()}
            self.assertNotIn(0, owners)
            for hello in ("2", "3"):
                c.cmd("HELLO", hello)
                entries = [seen(e) for e in c.cmd("ACL", "LOG", "100")]
                self.assertEqual({b"no:%d" % i for i in range(12)}, {e[1] for e in entries})
                self.assertEqual({b"bob"}, {e[0] for e in entries})
                ages = [e[2] for e in entries]
                self.assertEqual(sorted(ages), ages)
                self.assertEqual([10, 3, 0, 0], [len(c.cmd("ACL", "LOG", *n))
                                                 for n in ((), ("3",), ("0",), ("-1",))])
            self.expect_error(c, "ACL LOG x", "ERR value is not an integer or out of range")
            self.expect(c, "ACL LOG RESET", OK)
            self.assertEqual([[]] * 3, each_master("ACL", "LOG"))
            self.expect(c, "ACL LOG", [])
            self.expect(c, "ACL DELUSER bob", 1)

    def test_debug(self):
        with admin.conn() as c:
            begin = time.monotonic()
            self.expect(c, "DEBUG SLEEP 0.3", OK)
            self.assertGreater(time.monotonic() - begin, 0.25)
            for i in range(10):
                c.cmd("HSET", "dbg:%d" % i, "f", "v")
                self.not_error(c.cmd("DEBUG", "LISTPACK", "dbg:%d" % i), "DEBUG LISTPACK")
                self.not_error(c.cmd("DEBUG", "OBJECT", "dbg:%d" % i), "DEBUG OBJECT")
            self.expect(c, "DEBUG SET-ACTIVE-EXPIRE 1", OK)
            for line in ["DEBUG SEGFAULT", "DEBUG PANIC", "DEBUG RESTART", "DEBUG CRASH-AND-RECOVER",
                         "DEBUG OOM", "DEBUG POPULATE 10", "DEBUG nosuch"]:
                self.assertIn(b"is not supported", c.cmd(*line.split()))
        for m in setup.cluster.masters():
            self.assertTrue(m.alive)

    def test_debug_error(self):
        """Any error can be ordered: it is given, in its place, and not acted on by the proxy."""
        errors = ["ERR x", "LOADING fake message", "MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "READONLY",
                  "TRYAGAIN", "CLUSTERDOWN x", "NOSCRIPT x", "", "a\r\nb", "a\0b", "x" * 5000]
        lines = [line for e in errors for line in (("DEBUG", "ERROR", e), ("INCR", "dbg:err"))]
        with admin.conn() as c, setup.oracle.conn() as o:
            for conn in (c, o):
                conn.cmd("DEL", "dbg:err")
            self.assertEqual(o.pipeline(lines), c.pipeline(lines))
            for line in ["DEBUG ERROR", "DEBUG ERROR a b"]:
                self.matches_oracle(c, o, line)
        with setup.proxy.conn() as c:
            self.expect_error(c, "DEBUG ERROR x", "ERR KEYWAY admin_commands is false: the command was "
                                                  "not sent to the servers")

    def test_debug_error_is_a_right(self):
        with admin.conn() as c:
            self.expect(c, "ACL SETUSER bob on >pw ~* +@all -debug", OK)
            with admin.conn() as bob:
                self.expect(bob, "AUTH bob pw", OK)
                self.assertIn(b"NOPERM", bob.cmd("DEBUG", "ERROR", "x"))
            self.expect(c, "ACL DELUSER bob", 1)

    def test_debug_digest(self):
        """The whole dataset's is that of one server with the same keys, however they are spread."""
        with admin.conn() as c, setup.oracle.conn() as o:
            for conn in (c, o):
                self.not_error(conn.cmd("FLUSHALL"), "FLUSHALL")
            self.matches_oracle(c, o, "DEBUG DIGEST")
            for i in range(12):  # with keys on one master, on two, on three
                for line in ["SET dig:%d v%d" % (i, i), "RPUSH dig:l%d a b" % i,
                             "SADD {dig:l%d}s x y z" % i]:
                    self.matches_oracle(c, o, line)
                    self.matches_oracle(c, o, "DEBUG DIGEST")
                self.matches_oracle(c, o, "DEBUG DIGEST-VALUE dig:l%d {dig:l%d}s {dig:l%d}none" %
                                    (i, i, i))
            for line in ["DEBUG DIGEST x", "DEBUG DIGEST-VALUE"]:
                self.matches_oracle(c, o, line)
            self.expect_error(c, "DEBUG DIGEST-VALUE dig:1 dig:2",
                              "CROSSSLOT Keys in request don't hash to the same slot")
            for conn in (c, o):
                self.not_error(conn.cmd("FLUSHALL"), "FLUSHALL")

    def test_pfselftest(self):
        with admin.conn() as c:
            self.expect(c, "PFSELFTEST", OK)

    def test_whoami_and_module_list(self):
        with setup.proxy.conn() as c:
            self.expect(c, "ACL WHOAMI", b"default")
            self.expect(c, "MODULE LIST", [])
            self.assertIn(b"string", c.cmd("ACL", "CAT"))
