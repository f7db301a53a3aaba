"""What a client is sent and what not: CLIENT REPLY, MONITOR."""
import re
import time
import unittest

from harness.case import Case, Setup, raw_exchange
from harness.proxy import SANITIZER, STANDIN, Proxy, grace
from harness.resp import OK, PONG, Closed, Push, Simple, encode, words
from harness.servers import Server, wait_until

setup = Setup()
LINE = re.compile(rb'^\d{10}\.\d{6} \[\d+ (127\.0\.0\.1:\d+|lua)\]( ".*")+$')


def setUpModule():
    setup.start(workers=2)


def tearDownModule():
    setup.stop()


# -- CLIENT REPLY ------------------------------------------------------------------------------

class Reply(Case):
    ON, OFF, SKIP = "CLIENT REPLY ON", "CLIENT REPLY OFF", "CLIENT REPLY SKIP"
    SCRIPTS = [
        [ON, "PING", "client reply on", "CLIENT REPLY On"],
        [OFF, "PING", "SET k v", ON, "GET k"],
        [OFF, OFF, "PING", ON, ON],
        [SKIP, "PING", "PING"],
        [SKIP, SKIP, "PING", "ECHO a"],
        [SKIP, SKIP, SKIP, "SET k v1", "GET k", SKIP, "GET k", "GET k"],
        [SKIP, ON, "PING"],
        [SKIP, OFF, "PING", ON],
        [OFF, SKIP, "PING", "PING", ON, "PING"],
        ["CLIENT REPLY", "CLIENT REPLY x", "CLIENT REPLY ON x", "CLIENT REPLY ON"],
        [SKIP, "CLIENT REPLY x", "ECHO a"],
        [SKIP, "NOSUCHCOMMAND x", "ECHO a"],
        [SKIP, "GET", "ECHO a"],
        [SKIP, "CLIENT NOSUCH", "ECHO a"],
        [OFF, "NOSUCHCOMMAND x", "GET", "CLIENT NOSUCH", ON, "ECHO a"],
        [OFF, "RESET", "PING"],
        [SKIP, "RESET", "PING"],
        [OFF, SKIP, "RESET", "PING", "PING"],
        ["GET nothing", SKIP, "GET nothing", "GET nothing", SKIP, "GET nothing", "STRLEN nothing"],
        # over the slots: split, merged, of all masters
        ["MSET a 1 b 2 c 3 d 4 e 5", OFF, "MSET a 6 b 7 c 8", "DEL d", "MGET a b c d e", ON,
         "MGET a b c d e", "DEL a b c d e"],
        [SKIP, "MSET a 1 b 2 c 3", SKIP, "MGET a b c", "MGET a b c", SKIP, "DEL a b c",
         "EXISTS a b c"],
        [OFF, "KEYS nosuchkey*", "DBSIZE", "SCRIPT LOAD x", "RANDOMKEY", "SCAN 0", ON, "PING"],
        [SKIP, "SCAN 0", SKIP, "DBSIZE", SKIP, "CLIENT LIST", SKIP, "INFO", "PING"],
        [OFF, "LPUSH l x", "GET l", "INCR l", ON, "LRANGE l 0 -1", SKIP, "INCR l", "DEL l"],
        [SKIP, "EVAL 'return 1' 0", "EVAL 'return 2' 0", OFF, "EVAL 'return 3' 0", ON],
        [SKIP, "HELLO 3", "GET nothing", SKIP, "HELLO 2", "GET nothing"],
        [SKIP, "PUBLISH ch x", "PUBLISH ch x"],
        [SKIP, "MULTI", "PING", "EXEC", "PING"],
        # what is pushed is no reply
        [OFF, "SUBSCRIBE ch", "PSUBSCRIBE p*", "UNSUBSCRIBE ch", "UNSUBSCRIBE", "SSUBSCRIBE x",
         "SUNSUBSCRIBE", "SUBSCRIBE", "PUNSUBSCRIBE", ON],
        [SKIP, "SUBSCRIBE ch", "PING", "UNSUBSCRIBE", "PING"],
        [SKIP, "UNSUBSCRIBE", "PING"],
        ["SUBSCRIBE ch", OFF, "PING", "UNSUBSCRIBE", "PING"],
    ]

    def dialogue(self, port, lines, protocol, pipelined):
        c = self.conn(port, protocol=protocol)
        lines = lines + ["CLIENT REPLY ON", ["ECHO", "the end"]]
        if pipelined:
            c.send(b"".join(encode(*words(line)) for line in lines))
        else:
            for line in lines:
                c.send(encode(*words(line)))
                time.sleep(0.002)
        raw = b""
        while b"the end\r\n" not in raw:
            raw += c.read_raw()
        c.close()
        return raw

    def check(self, protocol):
        for lines in self.SCRIPTS:
            if protocol == 3 and "RESET" in lines:
                lines = lines + ["HELLO 2"]  # only what comes before it is compared
            if "MULTI" in lines and not STANDIN:
                with setup.proxy.conn() as c:
                    if c.cmd("MULTI") != OK:
                        continue
            for pipelined in (True, False):
                want, got = (self.dialogue(port, lines, protocol, pipelined)
                             for port in (setup.oracle.port, setup.proxy.port))
                strip = [re.sub(rb"\$\d+\r\nserver\r\n.*?modules\r\n\*0\r\n", b"", x, flags=re.S)
                         for x in (want, got)]
                self.same_reply(repr(lines).encode(), *strip)

    def test_dialogues(self):
        self.check(2)

    def test_dialogues_in_resp3(self):
        self.check(3)

    def test_an_empty_command_is_a_command(self):
        for empty in (b"\r\n", b"*0\r\n", b"*-1\r\n"):
            data = [b"CLIENT REPLY SKIP\r\n" + empty + b"PING\r\nECHO a\r\n"]
            self.same_reply(data[0], raw_exchange(setup.oracle.port, data, 0.2)[0],
                            raw_exchange(setup.proxy.port, data, 0.2)[0])

    def test_a_protocol_error(self):
        bad = b"*1\r\n$x\r\nPING\r\n"
        cases = [b"CLIENT REPLY SKIP\r\nPING\r\n" + bad,
                 b"CLIENT REPLY OFF\r\n" + bad, b"CLIENT REPLY SKIP\r\n" + bad]
        want = raw_exchange(setup.oracle.port, cases, 0.3)
        got = raw_exchange(setup.proxy.port, cases, 0.3)
        self.assertEqual([w for w, _ in want], [g for g, _ in got])
        if not STANDIN:  # Redis forgets to close one that it does not tell why
            self.assertEqual([True] * 3, [closed for _, closed in got])

    @unittest.skipIf(STANDIN, "Redis forgets to close such a client")
    def test_quit(self):
        for how in ("OFF", "SKIP"):
            c = self.conn()
            c.send(b"CLIENT REPLY %s\r\nGET k\r\nQUIT\r\n" % how.encode())
            answer = c.read_until_closed(grace(5))
            self.assertEqual(b"" if how == "OFF" else b"+OK\r\n", answer)

    def test_messages_are_no_replies(self):
        for protocol in (2, 3):
            kind = list if protocol == 2 else Push
            c, p = self.conn(protocol=protocol), self.conn()
            c.send(b"CLIENT REPLY OFF\r\nSUBSCRIBE quiet\r\n")
            self.assertEqual(kind([b"subscribe", b"quiet", 1]), c.read())
            self.expect(p, "PUBLISH quiet hello", 1)
            self.assertEqual(kind([b"message", b"quiet", b"hello"]), c.read())
            c.send(b"PING\r\nRESET\r\nPING\r\n")
            self.assertEqual([Simple(b"RESET"), PONG], [c.read(), c.read()])

    def test_long_replies_are_dropped(self):
        """Longer than backend.large_reply: they come in pieces."""
        c = self.conn()
        value = b"x" * (3 << 20)
        keys = ["long%d" % i for i in range(6)]
        for k in keys:
            self.expect(c, ["SET", k, value], OK)
        for repeat in range(3):
            asked = b"CLIENT REPLY OFF\r\n" + b"".join(encode("GET", k) for k in keys * 2)
            c.send(asked + b"CLIENT REPLY ON\r\n" + encode("STRLEN", keys[0]))
            self.assertEqual([OK, len(value)], [c.read(), c.read()])
            c.send(b"".join(encode("GET", k) + b"CLIENT REPLY SKIP\r\n" + encode("GET", k)
                            for k in keys[:2]) + encode("STRLEN", keys[0]))
            self.assertEqual([value, value, len(value)], [c.read() for _ in range(3)])
            c.send(b"CLIENT REPLY SKIP\r\n" + encode("MGET", *keys) + b"PING\r\n")
            self.assertEqual(PONG, c.read())
        c.cmd("DEL", *keys)

    @unittest.skipIf(STANDIN or SANITIZER, "needs a frozen node, and memory that is given back")
    def test_nothing_is_kept(self):
        """Replies that are dropped need not wait for their turn."""
        frozen, other = setup.cluster.masters()[:2]
        first, big = (setup.cluster.key_on(n, "kept") for n in (frozen, other))
        c = self.conn()
        self.expect(c, ["SET", first, "1"], OK)
        self.expect(c, ["SET", big, b"x" * 600000], OK)
        self.expect(c, ["STRLEN", big], 600000)
        before = setup.proxy.rss_mib()
        asked = other.command_calls("get")
        frozen.freeze()
        try:
            c.send(encode("GET", first) + b"CLIENT REPLY OFF\r\n" + encode("GET", big) * 200)
            wait_until("the other node has answered", lambda:
                       other.command_calls("get") == asked + 200, grace(20))
            self.assertTrue(c.is_silent(0.3))
            self.assertLess(setup.proxy.rss_mib() - before, 40)
        finally:
            frozen.thaw()
        c.send(b"CLIENT REPLY ON\r\n")
        self.assertEqual([b"1", OK], [c.read(), c.read()])
        c.cmd("DEL", first, big)


# -- MONITOR -----------------------------------------------------------------------------------

def own(line):
    """The words of a line that a test's own command has caused, or None."""
    got = re.search(rb'\] "([^"]*)" "(mon[^"]*)"(.*)$', line)
    return got.groups() if got else None


@unittest.skipIf(STANDIN, "one server shows the client's own commands")
class Monitor(Case):
    def monitor(self, port=None, **kw):
        c = self.conn(port, **kw)
        self.assertEqual(OK, c.cmd("MONITOR"))
        return c

    def seen(self, conn, *want, timeout=10):
        """Reads until all of `want` (command and key) have been seen; everything is a line."""
        left = {tuple(w.encode() for w in words(x)) for x in want}
        conn.sock.settimeout(grace(timeout))
        while left:
            line = conn.read()
            self.assertIsInstance(line, Simple)
            self.assertRegex(bytes(line), LINE)
            if own(line):
                left.discard(own(line)[:2])

    def upstream(self, node):
        """How many connections of `node` have MONITOR."""
        return len(re.findall(rb" flags=\w*O", node.cmd("CLIENT", "LIST")))

    def expect_upstream(self, count, nodes=None):
        for node in nodes or setup.cluster.masters():
            self.eventually("%d connections with MONITOR" % count,
                            lambda: self.upstream(node) == count)

    def keys(self, prefix="mon"):
        return [setup.cluster.key_on(n, prefix) for n in setup.cluster.masters()]

    def test_lines_of_all_masters(self):
        for protocol in (2, 3):
            m, c = self.monitor(protocol=protocol), self.conn()
            for k in self.keys():
                self.expect(c, ["SET", k, "v"], OK)
                self.expect(c, ["GET", k], b"v")
            self.seen(m, *["%s %s" % (v, k) for k in self.keys() for v in ("SET", "GET")])
            c.cmd("SET", "mon", b'"\r\n\x00\xff\\ x')
            while own(m_line := m.read()) is None or own(m_line)[1] != b"mon":
                pass
            self.assertTrue(bytes(m_line).endswith(
                b'] "SET" "mon" "\\"\\r\\n\\x00\\xff\\\\ x"'), m_line)

    def test_one_connection_a_master_and_worker(self):
        self.expect_upstream(0)
        with Proxy(setup.cluster.seeds(3), workers=1) as proxy:
            proxy.wait_routes()
            crowd = [self.monitor(proxy.port) for _ in range(10)]
            self.expect_upstream(1)
            c = self.conn()
            for k in self.keys():
                self.expect(c, ["APPEND", k, "v"], len(c.cmd("GET", k) or b"") + 1)
            for m in crowd:
                self.seen(m, *["APPEND %s" % k for k in self.keys()])
            for m in crowd[:8]:
                m.close()
            m = crowd[8]
            m.send(b"RESET\r\n")
            while m.read() != Simple(b"RESET"):
                pass
            self.expect(m, "PING", PONG)
            self.expect_upstream(1)
            m = crowd[9]
            m.send(b"QUIT\r\n")
            self.assertTrue(m.read_until_closed(grace(5)).endswith(b"+OK\r\n"))
            self.expect_upstream(0)
            self.monitor(proxy.port)
            self.expect_upstream(1)

    def test_on_every_worker(self):
        with Proxy(setup.cluster.seeds(3), workers=3) as proxy:
            proxy.wait_routes()
            crowd = [self.monitor(proxy.port) for _ in range(6)]
            self.expect_upstream(3)
            c = self.conn()
            for k in self.keys():
                c.cmd("STRLEN", k)
            for m in crowd:
                self.seen(m, *["STRLEN %s" % k for k in self.keys()])

    def test_dialogues(self):
        """Replies but not lines equal those of a plain server."""
        for lines in (["MONITOR", "MONITOR", "PING", "GET k", "SET a b", "DBSIZE", "MGET a b", "KEYS *",
                       "PUBLISH ch x", "EVAL 'return 1' 0", "CLIENT REPLY ON", "CLIENT GETNAME",
                       "NOSUCHCOMMAND", "GET"],
                      ["MONITOR", "RESET", "GET nothing", "PING"],
                      ["MONITOR", "MULTI", "PING", "EXEC", "MULTI", "GET k", "PING", "EXEC", "PING"],
                      ["MONITOR x", "GET nothing"],
                      ["CLIENT REPLY SKIP", "MONITOR", "PING"],
                      ["MONITOR", "CLIENT REPLY OFF", "PING", "CLIENT REPLY ON"],
                      ["MONITOR", "CLIENT REPLY OFF", "RESET", "GET nothing"],
                      ["SUBSCRIBE ch", "MONITOR", "UNSUBSCRIBE", "MONITOR", "GET k", "SUBSCRIBE ch",
                       "PING", "GET k", "UNSUBSCRIBE", "PING"],
                      ["GET nothing", "GET nothing", "MONITOR", "PING"]):
            for protocol in (2, 3):
                answers = []
                for port in (setup.oracle.port, setup.proxy.port):
                    c = self.conn(port, protocol=protocol)
                    c.send(b"".join(encode(*words(x)) for x in lines + [["ECHO", "the end"]]))
                    got = []
                    while not got or got[-1] != b"the end":
                        value = c.read()
                        if not (isinstance(value, Simple) and LINE.match(value)):
                            got.append(value)
                    answers.append(repr(got))
                    c.close()
                self.same_reply(repr(lines).encode(), *answers)

    def test_reply_off_holds_for_lines(self):
        m, c = self.monitor(), self.conn()
        m.send(b"CLIENT REPLY OFF\r\n")
        self.eventually("it is off", lambda: c.cmd("CLIENT", "LIST").count(b"cmd=client|reply") == 1)
        c.cmd("SET", "mon1", "x")
        self.assertTrue(m.is_silent(0.2))
        m.send(b"CLIENT REPLY ON\r\n")
        self.assertEqual(OK, m.read())
        c.cmd("SET", "mon2", "x")
        self.seen(m, "SET mon2")

    def test_client_list_shows_it(self):
        m, c = self.monitor(), self.conn()
        line = [x for x in c.cmd("CLIENT", "LIST").splitlines()
                if m.local_addr.encode() in x][0]
        self.assertIn(b" flags=O ", line)
        self.assertIn(b" cmd=monitor ", line)

    def test_a_slow_one_is_cut(self):
        config = "client:\n  output_max_pubsub: 2mb\n"
        with Proxy(setup.cluster.seeds(3), config=config, workers=1) as proxy:
            proxy.wait_routes()
            slow, good = self.monitor(proxy.port, rcvbuf=16384), self.monitor(proxy.port)
            c = self.conn(proxy.port)
            for i in range(400):
                c.cmd("SET", "mon%d" % i, b"f" * 50000)
                self.seen(good, "SET mon%d" % i)
                if "client.output_max_pubsub is 2097152" in proxy.log_text():
                    break
            self.assertGreater(i, 30, "cut before its limit")
            self.assertLess(i, 399, "the slow one is still there")
            with self.assertRaises((Closed, OSError)):
                while True:
                    slow.read()
            self.expect(c, "CLIENT LIST TYPE pubsub", b"")
            c.cmd("DEL", *["mon%d" % j for j in range(i + 1)])

    def test_lines_come_behind_a_long_reply(self):
        """One that passes in pieces, to a client that does not read it: no line goes between."""
        code = "#!lua name=monlong\nredis.register_function('f', function() end)\n--" + "x" * (8 << 20)
        server = Server().start()
        self.addCleanup(server.stop)
        with Proxy([], ["--server", server.addr], workers=1).start().wait_routes() as proxy:
            c = self.conn(proxy.port)
            self.expect(c, ["FUNCTION", "LOAD", code], b"monlong")
            m = self.monitor(proxy.port)
            m.send(encode("FUNCTION", "LIST", "WITHCODE"))
            self.eventually("it is asked", lambda: server.command_calls("function|list") == 1)
            for i in range(20):
                self.expect(c, "SET mon:%d v" % i, OK)
            got = m.read()
            while isinstance(got, Simple):
                got = m.read()
            self.assertEqual(code.encode(), got[0][7])
            self.seen(m, *["SET mon:%d" % i for i in range(20)])

    def test_a_server_that_refuses(self):
        server = Server().start()
        self.addCleanup(server.stop)
        server.ok("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-monitor")
        text = "upstreams: {main: {server: '%s', user: app, password: pw}}\n" % server.addr
        with Proxy([], config=text).wait_start() as proxy, proxy.conn() as c:
            self.expect_error(c, "MONITOR", "NOPERM this user has no permissions to run the "
                                            "'monitor' command")
            self.expect(c, "SET k v", OK)
            self.assertEqual(0, self.upstream(server))
            server.ok("ACL", "SETUSER", "app", "+monitor")
            self.expect(c, "MONITOR", OK)
            with proxy.conn() as other:
                other.cmd("SET", "mon", "x")
            self.seen(c, "SET mon")
            # taken away: it is closed when the server is asked again
            server.ok("ACL", "SETUSER", "app", "-monitor")
            server.ok("CLIENT", "KILL", "USER", "app")
            self.assertNotIn(b"+OK", c.read_until_closed(grace(10)))


@unittest.skipIf(STANDIN, "needs a cluster")
class MonitorFollows(Monitor):
    """Servers come and go."""
    def setUp(self):
        for node in setup.cluster.nodes:
            if not node.alive:
                node.restart()
        setup.cluster.wait_ok(20)

    def test_a_planned_failover(self):
        m, c = self.monitor(), self.conn()
        old = setup.cluster.masters()[0]
        key = setup.cluster.key_on(old, "mon")
        new = setup.cluster.replica_of(old)
        setup.cluster.failover(new)
        setup.cluster.wait_ok()
        self.expect_upstream(0, [old])
        self.expect_upstream(1)
        c.cmd("APPEND", key, "x")
        self.seen(m, "APPEND %s" % key)

    def test_a_master_that_is_away(self):
        """Its lines are missing; it is asked again when it is back."""
        victim, other = setup.cluster.masters()[:2]
        keys = [setup.cluster.key_on(n, "mon") for n in (victim, other)]
        m, c = self.monitor(), self.conn()
        victim.kill()
        n = self.monitor()
        c.cmd("TYPE", keys[1])
        for x in (m, n):
            self.seen(x, "TYPE %s" % keys[1])
        victim.restart()
        self.expect_upstream(1, [victim])
        self.eventually("it serves", lambda: c.cmd("STRLEN", keys[0]) == 0)
        for x in (m, n):
            self.seen(x, "STRLEN %s" % keys[0])


# The cases of the class above are not to run twice.
for _name in [n for n in dir(Monitor) if n.startswith("test_")]:
    setattr(MonitorFollows, _name, None)


if __name__ == "__main__":
    unittest.main()
