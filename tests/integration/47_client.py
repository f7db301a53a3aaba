"""CLIENT commands that act on other clients, of all workers: KILL, PAUSE; and what is not offered."""
import time

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, PONG, Simple, encode

QUEUED = Simple(b"QUEUED")
setup = Setup()


def setUpModule():
    setup.start(workers=3)


def tearDownModule():
    setup.stop()


def closed(conn):
    """True when the other side has closed it."""
    try:
        conn.send(encode("PING"))
        return conn.read_until_closed() == b""
    except OSError:
        return True


class Kill(Case):
    def crowd(self, count=9):
        conns = [self.conn() for _ in range(count)]
        return conns, [c.cmd("CLIENT", "ID") for c in conns]

    def test_by_id_on_every_worker(self):
        conns, ids = self.crowd()
        with setup.proxy.conn() as c:
            for conn, id_ in zip(conns[:6], ids):
                self.expect(c, "CLIENT KILL ID %d" % id_, 1)
                self.assertTrue(closed(conn))
                self.expect(c, "CLIENT KILL ID %d" % id_, 0)
            for conn in conns[6:]:
                self.expect(conn, "PING", PONG)

    def test_by_address(self):
        conns, _ = self.crowd(4)
        with setup.proxy.conn() as c:
            self.expect(c, ["CLIENT", "KILL", conns[0].local_addr], OK)
            self.assertTrue(closed(conns[0]))
            self.expect_error(c, ["CLIENT", "KILL", conns[0].local_addr], "ERR No such client")
            self.expect(c, ["CLIENT", "KILL", "ADDR", conns[1].local_addr], 1)
            self.assertTrue(closed(conns[1]))
            self.expect(c, ["CLIENT", "KILL", "ADDR", conns[1].local_addr], 0)
            self.expect(c, ["CLIENT", "KILL", "LADDR", "127.0.0.1:1"], 0)
            self.expect(conns[2], "PING", PONG)
            n = c.cmd("CLIENT", "KILL", "LADDR", "127.0.0.1:%d" % setup.proxy.port)
            self.assertGreaterEqual(n, 2)
            self.assertTrue(closed(conns[2]) and closed(conns[3]))
            self.expect(c, "PING", PONG)

    def test_filters_together(self):
        conns, ids = self.crowd(3)
        with setup.proxy.conn() as c:
            self.expect(c, ["CLIENT", "KILL", "ID", str(ids[0]), "ADDR", conns[1].local_addr], 0)
            self.expect(c, ["CLIENT", "KILL", "TYPE", "pubsub", "ID", str(ids[0])], 0)
            self.expect(c, ["CLIENT", "KILL", "TYPE", "replica"], 0)
            self.expect(c, ["CLIENT", "KILL", "id", str(ids[0]), "type", "normal", "user", "default",
                            "addr", conns[0].local_addr], 1)
            self.assertTrue(closed(conns[0]))
            self.expect(conns[1], "PING", PONG)

    def test_by_type(self):
        conns, ids = self.crowd(6)
        for conn in conns[:3]:
            self.expect(conn, "SUBSCRIBE kill:type", [b"subscribe", b"kill:type", 1])
        with setup.proxy.conn() as c:
            self.expect(c, ["CLIENT", "KILL", "TYPE", "normal", "ID", str(ids[0])], 0)
            self.expect(c, ["CLIENT", "KILL", "TYPE", "pubsub", "ID", str(ids[3])], 0)
            self.expect(c, "CLIENT KILL TYPE master", 0)
            self.expect(c, "CLIENT KILL TYPE pubsub", 3)
            for conn in conns[:3]:
                self.assertEqual(b"", conn.read_until_closed())
            for conn in conns[3:]:
                self.expect(conn, "PING", PONG)
            self.expect(c, ["CLIENT", "KILL", "TYPE", "normal", "ID", str(ids[3])], 1)
            self.assertTrue(closed(conns[3]))

    def test_maxage(self):
        if STANDIN:
            self.skipTest("Redis 7.0 has no MAXAGE")
        with setup.proxy.conn() as old:
            self.expect(old, "PING", PONG)
            time.sleep(2.1)
            conns, _ = self.crowd(3)
            with setup.proxy.conn() as c:
                self.assertGreaterEqual(c.cmd("CLIENT", "KILL", "MAXAGE", "2"), 1)
                self.assertTrue(closed(old))
                self.expect(conns[0], "PING", PONG)
                self.expect_error(c, "CLIENT KILL MAXAGE 0", "ERR maxage should be greater than 0")
                self.expect_error(c, "CLIENT KILL MAXAGE x",
                                  "ERR maxage is not an integer or out of range")

    def test_skipme(self):
        with setup.proxy.conn() as c:
            id_ = str(c.cmd("CLIENT", "ID"))
            self.expect(c, ["CLIENT", "KILL", "ID", id_], 0)
            self.expect(c, ["CLIENT", "KILL", "ID", id_, "SKIPME", "yes"], 0)
            c.send(encode("CLIENT", "KILL", "ID", id_, "SKIPME", "no") + encode("PING"))
            self.assertEqual(b":1\r\n", c.read_until_closed(), "the answer, then the end")
        with setup.proxy.conn() as c:
            c.send(encode("CLIENT", "KILL", c.local_addr))
            self.assertEqual(b"+OK\r\n", c.read_until_closed())

    def test_a_client_with_requests_under_way(self):
        with setup.proxy.conn() as victim, setup.proxy.conn() as c:
            id_ = victim.cmd("CLIENT", "ID")
            victim.send(b"".join(encode("INCR", "kill:n:%d" % (i % 50)) for i in range(5000)))
            self.expect(c, "CLIENT KILL ID %d" % id_, 1)
            victim.close()
        with setup.proxy.conn() as c:
            for i in range(50):
                self.not_error(c.cmd("GET", "kill:n:%d" % i), "GET")

    def test_errors_are_a_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["CLIENT KILL", "CLIENT KILL id", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL id x",
                         "CLIENT KILL id 0", "CLIENT KILL id -1", "CLIENT KILL id 999999",
                         "CLIENT KILL type x", "CLIENT KILL type normal bar", "CLIENT KILL foo bar",
                         "CLIENT KILL skipme maybe", "CLIENT KILL user nobody",
                         "CLIENT KILL addr 1.2.3.4:5 id", "CLIENT KILL laddr x skipme no"]:
                self.matches_oracle(c, o, line)


class Pause(Case):
    def test_all(self):
        conns = [setup.proxy.conn() for _ in range(8)]
        with setup.proxy.conn() as c:
            self.expect(c, "CLIENT PAUSE 600", OK)
            begin = time.monotonic()
            for conn in conns:
                conn.send(encode("PING") + encode("GET", "pause:k"))
            with setup.proxy.conn() as late:
                late.send(encode("PING"))
                for conn in conns + [late]:
                    self.assertEqual(PONG, conn.read())
                    self.assertGreater(time.monotonic() - begin, 0.5)
            for conn in conns:
                conn.read()
                conn.close()
            self.assertLess(time.monotonic() - begin, grace(2))
            self.expect(c, "PING", PONG)

    def test_writes_only(self):
        conns = [setup.proxy.conn() for _ in range(6)]
        with setup.proxy.conn() as c:
            c.cmd("SET", "pause:w", "before")
            self.expect(c, "CLIENT PAUSE 60000 WRITE", OK)
            for conn in conns:
                self.expect(conn, "GET pause:w", b"before")
                self.expect(conn, "PING", PONG)
            for conn, line in zip(conns, ["SET pause:w after", "DEL pause:x pause:y",
                                          "EVAL return(1) 0", "PUBLISH a b", "MSET pause:1 1 pause:2 2",
                                          "LPUSH pause:l x"]):
                conn.send(encode("PING") + encode(*line.split()))
                self.assertEqual(PONG, conn.read(), "what comes before a write is answered")
            time.sleep(0.3)
            self.expect(c, "GET pause:w", b"before")
            self.expect(c, "EXISTS pause:l", 0)
            self.expect(c, "CLIENT UNPAUSE", OK)
            for conn in conns:
                self.not_error(conn.read(), "a write after the pause")
                conn.close()
            self.expect(c, "GET pause:w", b"after")
            c.cmd("DEL", "pause:l")

    def blocked(self, conn):
        text = conn.cmd("INFO", "clients").decode("latin-1")
        return int(text.split("blocked_clients:")[1].split()[0])

    def test_what_a_pause_of_writes_lets_through(self):
        reads = "#!lua flags=allow-stale,no-writes\nreturn 1"
        with setup.proxy.conn() as c, setup.proxy.conn() as held, setup.proxy.conn() as also:
            sha = c.cmd("SCRIPT", "LOAD", "#!lua flags=no-writes\nreturn 2")
            self.expect(c, "CLIENT PAUSE 60000 WRITE", OK)
            self.expect_error(c, "SET pause:k", "ERR wrong number of arguments for 'set' command")
            self.expect_error(c, "NOSUCH", "ERR unknown command 'NOSUCH', with args beginning with: ")
            self.expect(c, ["EVAL", reads, "0"], 1)
            self.expect(c, ["EVALSHA", sha, "0"], 2)
            self.expect(c, ["EVAL_RO", "return 3", "0"], 3)
            self.assertEqual(0, self.blocked(c))
            held.send(encode("EVAL", "#!lua flags=allow-stale\nreturn 4", "0"))
            self.eventually("one waits", lambda: self.blocked(c) == 1)
            also.send(encode("EVAL", "return 'flags=no-writes'", "0"))
            self.eventually("two wait", lambda: self.blocked(c) == 2)
            self.expect(c, "CLIENT UNPAUSE", OK)
            self.assertEqual([4, b"flags=no-writes"], [held.read(), also.read()])
            self.assertEqual(0, self.blocked(c))

    def test_a_pause_of_writes_and_transactions(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as reads, setup.proxy.conn() as writes:
            c.cmd("SET", "pause:t", "1")
            for conn, line in ((reads, "GET pause:t"), (writes, "INCR pause:t")):
                self.expect(conn, "MULTI", OK)
                self.expect(conn, line, QUEUED)
            self.expect(reads, ["EVAL", "#!lua flags=no-writes\nreturn 2", "1", "pause:t"], QUEUED)
            self.expect(c, "CLIENT PAUSE 60000 WRITE", OK)
            self.expect(reads, "EXEC", [b"1", 2])
            writes.send(encode("EXEC"))
            self.eventually("one waits", lambda: self.blocked(c) == 1)
            self.expect(c, "GET pause:t", b"1")
            self.expect(c, "CLIENT UNPAUSE", OK)
            self.assertEqual([2], writes.read())

    def test_a_shorter_pause_changes_nothing(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            begin = time.monotonic()
            self.expect(c, "CLIENT PAUSE 700 WRITE", OK)
            self.expect(c, "CLIENT PAUSE 1 WRITE", OK)
            other.cmd("SET", "pause:s", "1")
            self.assertGreater(time.monotonic() - begin, 0.6)

    def test_unpause_without_a_pause_and_order(self):
        with setup.proxy.conn() as c:
            self.expect(c, "CLIENT UNPAUSE", OK)
            replies = c.pipeline(["SET pause:o 1", "CLIENT PAUSE 200 WRITE", "GET pause:o",
                                  "INCR pause:o", "GET pause:o"])
            self.assertEqual([OK, OK, b"1", 2, b"2"], replies)

    def test_a_client_that_leaves_while_paused(self):
        for _ in range(3):
            with setup.proxy.conn() as c:
                self.expect(c, "CLIENT PAUSE 150 ALL", OK)
                for _ in range(20):
                    conn = setup.proxy.conn()
                    conn.send(encode("SET", "pause:gone", "1"))
                    conn.close()
                self.expect(c, "PING", PONG)

    def test_the_end_of_the_process(self):
        if STANDIN:
            self.skipTest("about the proxy's process")
        p = Proxy(setup.cluster.seeds(3), workers=2).wait_start()
        with p.conn() as c:
            self.expect(c, "CLIENT PAUSE 600000", OK)
            begin = time.monotonic()
            p.stop()
            self.assertLess(time.monotonic() - begin, grace(5))

    def test_errors_are_a_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["CLIENT PAUSE", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 10 foo",
                         "CLIENT PAUSE 1 all x", "CLIENT UNPAUSE x",
                         "CLIENT PAUSE 0", "client pause 1 Write"]:
                self.matches_oracle(c, o, line)


class NotOffered(Case):
    def test_tracking_is_never_ok(self):
        if STANDIN:
            self.skipTest("a plain server has it")
        with setup.proxy.conn(protocol=3) as c:
            for line in ["CLIENT TRACKING on", "CLIENT TRACKING off", "CLIENT TRACKING ON BCAST",
                         "CLIENT MAINT_NOTIFICATIONS ON", "CLIENT CAPA redirect", "client No-Touch on"]:
                self.expect_error(c, line, "ERR unknown subcommand '%s'. Try CLIENT HELP." %
                                  line.split()[1])

    def test_the_state_that_is_never_entered(self):
        for dialect in (2, 3):
            with setup.proxy.conn(protocol=dialect) as c, setup.oracle.conn(protocol=dialect) as o:
                for line in ["CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT CACHING yes",
                             "CLIENT TRACKINGINFO x", "CLIENT CACHING"]:
                    self.matches_oracle(c, o, line)

    def test_no_evict(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["CLIENT NO-EVICT", "CLIENT NO-EVICT x", "CLIENT NO-EVICT on",
                         "CLIENT NO-EVICT OFF", "CLIENT NO-EVICT on on"]:
                self.matches_oracle(c, o, line)
            c.cmd("CLIENT", "NO-EVICT", "ON")
            self.assertIn(b" flags=e ", c.cmd("CLIENT", "INFO"))
            c.cmd("CLIENT", "NO-EVICT", "OFF")
            self.assertIn(b" flags=N ", c.cmd("CLIENT", "INFO"))


class Small(Case):
    """What has no place of its own."""
    def test_like_a_server(self):
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as c, \
                    setup.oracle.conn(protocol=protocol) as o:
                for line in ("LOLWUT", "CLIENT NO-TOUCH ON", "CLIENT NO-EVICT x",
                             "CLIENT NO-EVICT ON", "CLIENT NO-EVICT", "COMMAND DOCS get mset",
                             "COMMAND LIST FILTERBY PATTERN xre*", "COMMAND GETKEYS", "ECHO", "TIME x"):
                    self.matches_oracle(c, o, line, repr if "LIST" not in line else sorted)


