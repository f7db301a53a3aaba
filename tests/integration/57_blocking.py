"""Commands that wait at a server: on connections of their own, which go when their client goes."""
import threading
import time
import unittest

from harness.case import Case, Setup, in_threads
from harness.fake import PASS, FakeCluster, delayed
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Error, encode
from harness.servers import SLOTS, Server, key_slot

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


def connections():
    return sum(int(n.info("stats")["total_connections_received"]) for n in setup.cluster.live())


def blocked():
    return sum(int(n.info("clients")["blocked_clients"]) for n in setup.cluster.live())


class LikeOneServer(Case):
    """Answers that are there at once, errors, and times that end."""
    LINES = [
        "RPUSH {k}l a b c d e f", "BLPOP {k}l 1", "BRPOP {k}none {k}l 1", "BLMOVE {k}l {k}m LEFT RIGHT 1",
        "BRPOPLPUSH {k}l {k}m 1", "BLMPOP 1 2 {k}none {k}l LEFT COUNT 2", "LRANGE {k}m 0 -1",
        "ZADD {k}z 1 a 2 b 3 c 4.5 d", "BZPOPMIN {k}z 1", "BZPOPMAX {k}z 0.5",
        "BZMPOP 1 1 {k}z MIN COUNT 2", "XADD {k}x 1-1 f v", "XREAD BLOCK 10 STREAMS {k}x 0",
        "XREAD COUNT 1 bLoCk 0 STREAMS {k}x 0", "XGROUP CREATE {k}x g 0",
        "XREADGROUP GROUP g me COUNT 1 BLOCK 10 STREAMS {k}x >",
        "XGROUP CREATE {k}x streams 0", "XREADGROUP GROUP streams block NOACK COUNT 1 BLOCK 10 STREAMS {k}x >",
        "XREADGROUP BLOCK 10 GROUP streams count STREAMS {k}x >", "XREAD STREAMS {k}block 0",
        "XREADGROUP NOACK bLOCK 10 COUNT 2 GROUP g block STREAMS {k}x >",
        "XREAD BLOCK 500000 BLOCK 10 STREAMS {k}x $", "XREAD BLOCK 10 NOSUCH STREAMS {k}x $",
        "XREAD NOSUCH BLOCK 10 STREAMS {k}x $", "XREAD COUNT BLOCK 10 STREAMS {k}x $",
        # times that end
        "BLPOP {k}none 0.01", "BRPOP {k}none {k}none2 .02", "BLMOVE {k}none {k}m LEFT LEFT 0.01",
        "BRPOPLPUSH {k}none {k}m 0.01", "BLMPOP 0.01 1 {k}none RIGHT", "BZPOPMIN {k}none 0.01",
        "BZPOPMAX {k}none 0.01", "BZMPOP 0.01 1 {k}none MAX", "XREAD BLOCK 10 STREAMS {k}x $",
        "XREADGROUP GROUP g me BLOCK 10 STREAMS {k}x >",
        # errors
        "BLPOP {k}none x", "BLPOP {k}none -1", "BLPOP {k}none 1e30", "BLPOP {k}none nan",
        "BLPOP {k}none", "BLPOP", "BLPOP {k}none inf", "BLPOP {k}none 0x10000000000000000",
        "BLMPOP 1 0 {k}none LEFT", "BLMPOP 1 x {k}none LEFT", "BLMPOP 1 5 {k}none LEFT",
        "BLMPOP x 1 {k}none LEFT", "BLMPOP 1 1 {k}none UP", "BLMOVE {k}none {k}m UP LEFT 1",
        "SET {k}s x", "BLPOP {k}s 1", "BZPOPMIN {k}s 1", "XREAD BLOCK -1 STREAMS {k}x $",
        "XREAD BLOCK x STREAMS {k}x $", "XREAD BLOCK 1 STREAMS {k}x", "XREAD BLOCK",
        "XREADGROUP GROUP nogroup me BLOCK 10 STREAMS {k}x >",
        # in a transaction nothing waits
        "MULTI", "BLPOP {k}none 0", "RPUSH {k}l 1", "BLPOP {k}l 0", "BRPOPLPUSH {k}none {k}m 0",
        "BZPOPMIN {k}none 0", "XREAD BLOCK 0 STREAMS {k}x $", "BLMPOP 0 1 {k}none LEFT", "EXEC", "PING",
    ]

    def test_both_dialects(self):
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as c, setup.oracle.conn(protocol=protocol) as o:
                o.cmd("FLUSHALL")
                c.cmd("FLUSHALL")
                for line in self.LINES:
                    self.matches_oracle(c, o, line)

    def test_pipelined(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            lines = [x.replace("{k}", "{p}") for x in self.LINES]
            self.assertEqual(o.pipeline(lines), c.pipeline(lines))

    def test_two_slots(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            for line in ["BLPOP a b 1", "BLMOVE a b LEFT LEFT 1", "BLMPOP 1 2 a b LEFT",
                         "XREAD BLOCK 1 STREAMS a b $ $"]:
                self.expect_error(c, line, "CROSSSLOT Keys in request don't hash to the same slot")


class WaitCase(Case):
    def wait_blocked(self, n):
        if STANDIN:
            time.sleep(0.2)
        else:
            self.eventually("%d clients are blocked at the servers" % n, lambda: blocked() == n)


class Waiting(WaitCase):
    def test_served_by_another_client(self):
        for lines in (["BLPOP w:1 0", "RPUSH w:1 x"], ["BZPOPMIN w:2 0", "ZADD w:2 1 x"],
                      ["XREAD BLOCK 0 STREAMS w:3 $", "XADD w:3 1-1 f v"],
                      ["BRPOPLPUSH {w}4 {w}5 5", "LPUSH {w}4 x"]):
            with self.subTest(lines[0]), setup.proxy.conn() as c, setup.proxy.conn() as other:
                c.send(encode(*lines[0].split()) + encode("PING"))
                self.wait_blocked(1)
                self.assertTrue(c.is_silent(0.1))
                self.not_error(other.cmd(*lines[1].split()), lines[1])
                self.assertNotIsInstance(c.read(), Error)
                self.assertEqual(PONG, c.read())

    def test_order_with_what_came_before_and_behind(self):
        with setup.proxy.conn() as c:
            got = c.pipeline(["SET o:a 1", "RPUSH o:l x", "INCR o:a", "BLPOP o:l 5", "INCR o:a", "GET o:a",
                              "BLPOP o:l 0.05", "PING"])
            self.assertEqual([OK, 1, 2, [b"o:l", b"x"], 3, b"3", got[6], PONG], got)

    def test_nobody_else_waits(self):
        waiters = [setup.proxy.conn() for _ in range(20)]
        for i, w in enumerate(waiters):
            w.send(encode("BLPOP", "n:%d" % i, "0"))
        self.wait_blocked(20)
        with setup.proxy.conn() as c:
            start = time.monotonic()
            for i in range(200):
                self.expect(c, "SET n:x:%d 1" % i, OK)
            self.assertLess(time.monotonic() - start, grace(2))
            for i, w in enumerate(waiters):
                c.cmd("RPUSH", "n:%d" % i, "v%d" % i)
                self.assertEqual([b"n:%d" % i, b"v%d" % i], w.read())
        for w in waiters:
            w.close()
        self.wait_blocked(0)

    def test_nobody_waits_behind_options_in_another_order(self):
        """Such a command must never take a connection that others share."""
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            self.expect(other, "XGROUP CREATE ord g $ MKSTREAM", OK)
            c.send(encode("XREADGROUP", "BLOCK", "0", "GROUP", "g", "me", "STREAMS", "ord", ">"))
            self.wait_blocked(1)
            for _ in range(6):  # of all workers
                with setup.proxy.conn(timeout=grace(5)) as another:
                    self.expect(another, "SET {ord}k v", OK)
            self.not_error(other.cmd("XADD", "ord", "1-1", "f", "v"), "XADD")
            self.assertEqual([[b"ord", [[b"1-1", [b"f", b"v"]]]]], c.read())

    def test_longer_than_the_request_timeout(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        config = "backend:\n  request_timeout: 300ms\n"
        with Proxy(setup.cluster.seeds(), config=config).start().wait_routes() as p, p.conn() as c:
            start = time.monotonic()
            c.cmd("BLPOP", "long", "1.2")
            self.assertGreater(time.monotonic() - start, 1.1)
            self.expect(c, "PING", PONG)


class Leaving(WaitCase):
    def leave_and_look(self, leave, *behind):
        conns = [setup.proxy.conn() for _ in range(5)]
        for c in conns:
            c.send(encode("BLPOP", "leave", "0") + b"".join(behind))
        self.wait_blocked(5)
        start = time.monotonic()
        for c in conns:
            leave(c)
        self.wait_blocked(0)
        self.assertLess(time.monotonic() - start, grace(1))
        with setup.proxy.conn() as c:
            c.cmd("RPUSH", "leave", "kept")
            time.sleep(0.05)
            self.expect(c, "LPOP leave", b"kept")

    def test_a_closed_client_frees_its_connection(self):
        self.leave_and_look(lambda c: c.close())
        self.leave_and_look(lambda c: c.reset())
        self.leave_and_look(lambda c: c.close(), encode("PING"))
        self.leave_and_look(lambda c: c.close(), encode("SET", "leave:x", "y")[:-3])

    def test_with_much_behind(self):
        self.leave_and_look(lambda c: c.close(), encode("SET", "leave:x", "y" * 30000) * 4)

    def test_half_closed(self):
        import socket
        with setup.proxy.conn() as c:
            c.cmd("RPUSH", "half", "x")
        c = setup.proxy.conn()
        c.send(encode("BLPOP", "half", "0"))
        c.sock.shutdown(socket.SHUT_WR)
        self.assertEqual([b"half", b"x"], c.read())
        c.close()
        c = setup.proxy.conn()
        c.send(encode("BLPOP", "half", "0"))
        c.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(b"", c.read_until_closed())
        self.wait_blocked(0)


    def test_at_a_frozen_server(self):
        """Nothing is asked of the server: the connection is closed."""
        if STANDIN:
            self.skipTest("needs the proxy")
        node = setup.cluster.owner(key_slot("leave"))
        conns = [setup.proxy.conn() for _ in range(5)]
        for c in conns:
            c.send(encode("BLPOP", "leave", "0"))
        self.wait_blocked(5)
        node.freeze()
        try:
            before = setup.proxy.fd_count()
            for c in conns:
                c.close()
            self.eventually("both ends are closed",
                            lambda: setup.proxy.fd_count() <= before - 10, grace(2))
        finally:
            node.thaw()
        self.wait_blocked(0)

    def test_killed_by_another_client(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            number = c.cmd("CLIENT", "ID")
            c.send(encode("BLPOP", "leave", "0"))
            self.wait_blocked(1)
            self.expect(other, "CLIENT KILL ID %d" % number, 1)
            self.assertEqual(b"", c.read_until_closed())
            self.wait_blocked(0)


class Unblock(WaitCase):
    """CLIENT UNBLOCK from clients of all workers, equal to a plain server."""
    LINES = ["BLPOP {u}l 0", "BRPOPLPUSH {u}l {u}m 0", "BLMOVE {u}l {u}m LEFT LEFT 0",
             "BLMPOP 0 1 {u}l LEFT", "BZPOPMIN {u}z 0", "XREAD BLOCK 0 STREAMS {u}x $"]

    def unblocked(self, side, protocol, line, how):
        with side.conn(protocol=protocol) as c, side.conn() as other:
            number = c.cmd("CLIENT", "ID")
            before = [other.cmd("CLIENT", "UNBLOCK", str(number))]
            c.send(encode(*line.split()) + encode("PING"))
            self.eventually("it is blocked", lambda: b" flags=b " in [
                x for x in other.cmd("CLIENT", "LIST").splitlines() if x.startswith(b"id=%d " % number)][0])
            # The flag is set when the command is on its way: until it has arrived nobody waits.
            got = 0
            while got == 0:
                got = other.cmd("CLIENT", "UNBLOCK", str(number), *how)
            return before + [got, c.read(), c.read(), other.cmd("CLIENT", "UNBLOCK", str(number)),
                             c.cmd("PING")]

    def test_like_one_server(self):
        for protocol in (2, 3):
            for line in self.LINES:
                for how in ([], ["TIMEOUT"], ["error"]):
                    with self.subTest(line, how=how, protocol=protocol):
                        self.assertEqual(self.unblocked(setup.oracle, protocol, line, how),
                                         self.unblocked(setup.proxy, protocol, line, how))

    def test_arguments(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["CLIENT UNBLOCK", "CLIENT UNBLOCK x", "CLIENT UNBLOCK 999999",
                         "CLIENT UNBLOCK 999999 TIMEOUT", "CLIENT UNBLOCK 1 NOW",
                         "CLIENT UNBLOCK 999999 ERROR x", "CLIENT UNBLOCK -1"]:
                self.matches_oracle(c, o, line)

    def test_nobody_else_is_unblocked(self):
        """The connection of one who was unblocked serves nobody else."""
        with setup.proxy.conn() as other:
            conns = [setup.proxy.conn() for _ in range(8)]
            numbers = [c.cmd("CLIENT", "ID") for c in conns]
            for _ in range(scaled(20)):
                for c in conns:
                    c.send(encode("BLPOP", "{u}none", "0"))
                self.wait_blocked(len(conns))
                replies = other.pipeline([["CLIENT", "UNBLOCK", str(n), "ERROR"] for n in numbers[::2]])
                self.assertEqual([1] * 4, replies)
                for c in conns[::2]:
                    self.assertEqual(Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"), c.read())
                self.assertTrue(conns[1].is_silent(0.01))
                self.assertEqual([1] * 4, other.pipeline(
                    [["CLIENT", "UNBLOCK", str(n)] for n in numbers[1::2]]))
                for c in conns[1::2]:
                    self.assertNotIsInstance(c.read(), Error)
            for c in conns:
                c.close()

    def test_what_others_see(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            def shown():
                for line in other.cmd("INFO", "clients").splitlines():
                    if line.startswith(b"blocked_clients:"):
                        return int(line.split(b":")[1])
            self.eventually("nobody waits", lambda: shown() == 0)
            number = c.cmd("CLIENT", "ID")
            c.send(encode("BLPOP", "{u}none", "0"))
            self.wait_blocked(1)
            self.eventually("one waits", lambda: shown() == 1)
            self.expect(other, "CLIENT UNBLOCK %d" % number, 1)
            c.read()
            self.eventually("nobody waits any more", lambda: shown() == 0)
            c.pipeline(["MULTI", "SET {u}a 1", "PING"])
            line = [x for x in other.cmd("CLIENT", "LIST").splitlines()
                    if x.startswith(b"id=%d " % number)][0]
            self.assertIn(b" flags=x ", line)
            self.assertIn(b" multi=2 ", line)

    def test_while_its_shard_is_away(self):
        """It waits for a server, not at one: the proxy answers."""
        if STANDIN:
            self.skipTest("needs the proxy")
        server = Server().start()
        proxy = Proxy([], ["--server", server.addr]).start().wait_routes()
        try:
            server.kill()
            for line, how, want in (
                    ("BLPOP a 0", "TIMEOUT", b"*-1\r\n"), ("BLMOVE a b LEFT LEFT 0", "TIMEOUT", b"$-1\r\n"),
                    ("BZPOPMIN a 0", "ERROR", b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")):
                with self.subTest(line), proxy.conn() as c, proxy.conn() as other:
                    number = c.cmd("CLIENT", "ID")
                    c.send(encode(*line.split()) + encode("PING"))
                    self.eventually("it is held", lambda: 1 == other.cmd(
                        "CLIENT", "UNBLOCK", str(number), how))
                    self.assertEqual(want + b"+PONG\r\n", c.read_exact(len(want) + 7))
        finally:
            proxy.stop()
            server.stop()


class Connections(WaitCase):
    def setUp(self):
        if STANDIN:
            self.skipTest("needs the proxy")

    def test_flat(self):
        def client(i):
            with setup.proxy.conn() as c:
                for n in range(scaled(100)):
                    key = "flat:%d:%d" % (i, n)
                    got = c.pipeline([("RPUSH", key, "x"), ("BLPOP", key, "1")])
                    self.assertEqual([1, [key.encode(), b"x"]], got)
        in_threads(50, client)
        before = connections()
        in_threads(50, client)
        # Looking costs one for each server; how many wait at the same time varies with what else
        # the machine does.
        self.assertLess(connections() - before, 60 + scaled(5000) // 40)

    def test_max_leased(self):
        config = "workers: 1\nbackend:\n  max_leased: 3\n"
        with Proxy(setup.cluster.seeds(), config=config, workers=1).start().wait_routes() as p:
            conns = [p.conn() for _ in range(3)]
            for i, c in enumerate(conns):
                c.send(encode("BLPOP", "{ml}%d" % i, "0"))
            self.wait_blocked(3)
            with p.conn() as c:
                self.expect_error(c, "BLPOP {ml} 1", "ERR KEYWAY backend.max_leased connections are in use")
                self.expect(c, "SET {ml}x 1", OK)
                c.cmd("RPUSH", "{ml}0", "a")
                self.assertEqual([b"{ml}0", b"a"], conns[0].read())
                c.cmd("RPUSH", "{ml}y", "b")
                self.expect(c, "BLPOP {ml}y 1", [b"{ml}y", b"b"])
            for c in conns:
                c.close()
            self.wait_blocked(0)

    def test_an_idle_one_makes_room_for_wait(self):
        config = "workers: 1\nbackend:\n  max_leased: 1\n"
        with Proxy(setup.cluster.seeds(), config=config, workers=1).start().wait_routes() as p, \
                p.conn() as c:
            self.expect(c, "RPUSH {room}l x", 1)
            self.expect(c, "BLPOP {room}l 1", [b"{room}l", b"x"])
            self.not_error(c.cmd("WAIT", "0", "100"), "WAIT")
            # and that of WAIT for others: its own user's connection is not kept from them
            self.expect(c, "RPUSH {room}l x", 1)
            self.expect(c, "BLPOP {room}l 1", [b"{room}l", b"x"])
            self.not_error(c.cmd("WAIT", "0", "100"), "WAIT")
            with p.conn() as other:
                other.send(encode("BLPOP", "{room}m", "0"))
                self.wait_blocked(1)
                self.expect_error(c, "BLPOP {room}l 1",
                                  "ERR KEYWAY backend.max_leased connections are in use")
                self.expect_error(c, "WAIT 0 100",
                                  "ERR KEYWAY backend.max_leased connections are in use")


class ServersChange(WaitCase):
    def setUp(self):
        if STANDIN:
            self.skipTest("needs the proxy")

    def test_a_moved_slot_blocks_anew(self):
        slot = key_slot("{bm}")
        cluster = setup.cluster
        cluster.wait_ok()
        cluster.wait_epochs()
        source = cluster.owner(slot)
        target = next(m for m in cluster.masters() if m is not source)
        with setup.proxy.conn() as c, setup.proxy.conn() as timed, setup.proxy.conn() as other:
            start = time.monotonic()
            c.send(encode("BLPOP", "{bm}a", "0"))
            timed.send(encode("BLPOP", "{bm}b", "3"))
            self.wait_blocked(2)
            cluster.begin_move(slot, source, target)
            cluster.move_keys(slot, source, target)
            cluster.end_move(slot, source, target)
            self.eventually("both wait at the new owner",
                            lambda: int(target.info("clients")["blocked_clients"]) == 2)
            other.cmd("RPUSH", "{bm}a", "x")
            self.assertEqual([b"{bm}a", b"x"], c.read())
            self.assertFalse(isinstance(timed.read(), Error))
            self.assertTrue(2.8 < time.monotonic() - start < 3 + grace(1), time.monotonic() - start)

    def test_queues_while_slots_move(self):
        """What was pushed is popped once, and nobody sees an error."""
        slot = key_slot("{q}")
        count, popped, wrong = scaled(1500), [], []
        done = threading.Event()

        def consumer():
            with setup.proxy.conn() as c:
                while True:
                    got = c.cmd("BLPOP", "{q}", "0")
                    if not isinstance(got, list) or len(got) != 2:
                        wrong.append(got)
                        return
                    if got[1] == b"end":
                        return
                    popped.append(int(got[1]))

        def producer():
            with setup.proxy.conn() as c:
                n = 0
                while n < count or not done.is_set():
                    got = c.cmd("RPUSH", "{q}", str(n))
                    if not isinstance(got, int):
                        wrong.append(got)
                    n += 1
                    time.sleep(0.0005)
                for _ in range(4):
                    c.cmd("RPUSH", "{q}", "end")
                pushed.append(n)

        def mover():
            try:
                for _ in range(4):
                    source = setup.cluster.owner(slot)
                    target = next(m for m in setup.cluster.masters() if m is not source)
                    setup.cluster.move_slot(slot, source, target)
                    setup.cluster.wait_epochs()
            finally:
                done.set()
        pushed = []
        setup.cluster.wait_ok()
        setup.cluster.wait_epochs()
        in_threads(6, lambda i: [mover, producer, consumer, consumer, consumer, consumer][i]())
        self.assertEqual([], wrong)
        self.assertEqual(list(range(pushed[0])), sorted(popped))

    def test_a_demoted_master(self):
        slot = key_slot("{bd}")
        old = setup.cluster.owner(slot)
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            c.send(encode("BLPOP", "{bd}", "0"))
            self.wait_blocked(1)
            new = setup.cluster.replica_of(old)
            setup.cluster.failover(new)
            self.eventually("it waits at the new master",
                            lambda: int(new.info("clients")["blocked_clients"]) == 1)
            other.cmd("RPUSH", "{bd}", "x")
            self.assertEqual([b"{bd}", b"x"], c.read())


class CalledBack(Case):
    """A replaced master lives: it is asked to end a block, which begins anew at the successor without an error."""

    def setUp(self):
        if STANDIN:
            self.skipTest("needs the proxy")

    def test_over_a_slow_connection(self):
        """It takes its time to come up, while others wait for what the master owes them."""
        self.replaced(trusted=False)

    def test_when_it_has_lost_its_slots_before(self):
        self.replaced(trusted=True)

    def test_a_connection_that_its_server_ends(self):
        """A master that steps down closes the connections of those whose block it ends, a moment later: nobody
        else may wait there."""
        cluster = FakeCluster(3).start()
        self.addCleanup(cluster.stop)
        first, key = cluster.nodes[0], cluster.key_on(0)

        def demoted(conn, argv):
            conn.send(b"-UNBLOCKED force unblock from blocking operation, instance state changed "
                      b"(master -> replica?)\r\n")
            time.sleep(0.3)
            conn.close()
        first.rule("BLPOP", b"*2\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(key), key.encode()))
        first.rule("BLPOP", demoted, times=1)
        with Proxy(cluster.seeds(), workers=1).start() as p:
            p.wait_routes(grace(20))
            with p.conn(timeout=grace(15)) as c:
                self.expect(c, ["BLPOP", key, "0"], [key.encode(), b"x"])
        self.assertEqual(2, first.calls("BLPOP"))

    def replaced(self, trusted):
        cluster = FakeCluster(3).start()
        self.addCleanup(cluster.stop)
        first, second, third = cluster.nodes
        key, other = cluster.key_on(0), cluster.key_on(0, "slow")
        called, slow = threading.Event(), threading.Event()

        def blocked_at_first(conn, argv):
            called.wait(grace(10))
            return b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"

        def client(conn, argv):
            if argv[1].upper() == b"UNBLOCK":
                called.set()
                return b":1\r\n"
            if argv[1].upper() == b"ID" and slow.is_set():
                time.sleep(0.3)
            return PASS
        with Proxy(cluster.seeds(), workers=1).start() as p:
            p.wait_routes(grace(20))
            pops = first.rule("BLPOP", blocked_at_first)
            second.rule("BLPOP", b"*2\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(key), key.encode()))
            first.rule("CLIENT", client)
            owes = first.rule("GET", delayed(0.8), key=other)
            with p.conn(timeout=grace(15)) as c, p.conn(timeout=grace(15)) as d, \
                    p.conn(protocol=3, timeout=grace(15)) as e:
                self.not_error(e.cmd("GET", key), "GET")
                c.send(encode("BLPOP", key, "0"))
                self.eventually("it waits at the first", lambda: pops.hits)
                d.send(encode("GET", other))
                self.eventually("the first is at work", lambda: owes.hits)
                slow.set()
                for slot in [s for s in range(SLOTS) if cluster.owner[s] == 0]:
                    cluster.owner[slot] = 1
                cluster.epoch[1] = 9
                if not trusted:
                    first.flags = "master,fail"
                self.not_error(e.cmd("GET", key), "GET")  # MOVED: the topology is asked for
                if trusted:
                    time.sleep(0.4)  # known to own nothing; then its neighbours call it failed
                    self.assertFalse(called.is_set())
                    first.flags = "master,fail"
                    third.rule("GET", b"-MOVED 0 %s\r\n" % second.addr.encode(), times=1)
                    self.not_error(e.cmd("GET", cluster.key_on(2)), "GET")
                self.assertEqual([key.encode(), b"x"], c.read())
                self.assertTrue(called.is_set(), "the first was asked to end the block")


class TheServerHangs(Case):
    def test_a_block_outlives_its_time_by_request_timeout(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        server = Server().start()
        config = "backend:\n  request_timeout: 500ms\n"
        with Proxy(["--server", server.addr], workers=1, config=config) as p:
            with p.conn(timeout=grace(10)) as pop, p.conn(timeout=grace(10)) as read, \
                    p.conn() as ever:
                pop.send(encode("BLPOP", "list", "0.3"))
                read.send(encode("XREAD", "BLOCK", "300", "STREAMS", "stream", "$"))
                ever.send(encode("BLPOP", "list", "0"))
                self.eventually("three wait", lambda: int(
                    server.info("clients")["blocked_clients"]) == 3)
                server.freeze()
                start = time.monotonic()
                got = pop.read()
                self.assertIsInstance(got, Error)
                self.assertIn(b"may or may not have been executed", got)
                self.assertLess(time.monotonic() - start, 0.8 + grace(1))
                self.assertTrue(ever.is_silent(0.2), "its time is not over")
                server.thaw()
                self.assertFalse(isinstance(read.read(), Error), "it only reads: sent again")
                with p.conn() as c:
                    self.expect(c, "RPUSH list x", 1)
                self.assertEqual([b"list", b"x"], ever.read())
        server.stop()


class TheServerDies(WaitCase):
    def test_a_pop_and_a_read(self):
        """What it was doing is not known: a command that pops is not run a second time."""
        if STANDIN:
            self.skipTest("needs the proxy")
        slot = key_slot("{bk}")
        with setup.proxy.conn() as pops, setup.proxy.conn() as reads:
            setup.cluster.wait_ok()
            pops.send(encode("BLPOP", "{bk}", "0"))
            reads.send(encode("XREAD", "BLOCK", "0", "STREAMS", "{bk}x", "0"))
            self.wait_blocked(2)
            old = setup.cluster.owner(slot)
            replica = setup.cluster.replica_of(old)
            setup.cluster.kill_master(old)
            got = pops.read()
            self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
            setup.cluster.failover(replica, "TAKEOVER")
            with setup.proxy.conn() as other:
                self.not_error(other.cmd("XADD", "{bk}x", "1-1", "f", "v"), "XADD")
            self.assertEqual([[b"{bk}x", [[b"1-1", [b"f", b"v"]]]]], reads.read())


if __name__ == "__main__":
    unittest.main()
