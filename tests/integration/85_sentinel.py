"""Masters that Redis Sentinel watches: real Sentinels, set up as an operator writes it."""
import threading
import time
import unittest

from harness.case import Case, Load
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, Conn, Error, Simple, encode
from harness.servers import Server, Watched, key_slot, wait_until

# After a failover Sentinel leaves the old master alone for ten seconds, and another failover had
# to wait for that: so each test has servers of its own. All are started together, because they need
# a few seconds to learn of each other.
waiting = []
watched = proxy = None


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs Sentinels")
    tests = sum(n.startswith("test_") for c in SentinelCase.__subclasses__() for n in dir(c))
    for _ in range(tests):
        waiting.append(Watched().start(wait=False))


def tearDownModule():
    for w in waiting:
        w.stop()


class Steady(threading.Thread):
    """A client that adds to a set, notes what was acknowledged, and how long it waited at most."""

    def __init__(self, port, name):
        super().__init__(daemon=True)
        self.port, self.key = port, "steady:" + name
        self.acked, self.errors, self.worst = [], [], 0.0
        self.halt = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.join(60)

    def run(self):
        n = 0
        try:
            with Conn(self.port, timeout=40.0) as c:
                while not self.halt.is_set():
                    n += 1
                    begun = time.monotonic()
                    got = c.cmd("SADD", self.key, n)
                    self.worst = max(self.worst, time.monotonic() - begun)
                    if isinstance(got, Error):
                        self.errors.append(got)
                    else:
                        self.acked.append(n)
                    time.sleep(0.001)
        except Exception as e:  # a closed connection is an error like any other
            self.errors.append(repr(e))

    def lost(self, server):
        there = set(server.cmd("SMEMBERS", self.key))
        return [n for n in self.acked if b"%d" % n not in there]


class SentinelCase(Case):
    def setUp(self):
        global watched, proxy
        watched = waiting.pop()
        self.addCleanup(watched.stop)
        watched.wait_up()
        # One Sentinel is named: the others are learnt from it.
        # An election that ends undecided, as happens, is repeated ten to twenty seconds later.
        proxy = Proxy([], ["--sentinel", "mymaster@" + watched.seeds(1)],
                      config="backend: {ride_through: 35s}\n").start().wait_routes()
        self.addCleanup(proxy.stop)
        wait_until("the proxy listens to every Sentinel", self.listens, grace(10))

    def listens(self):
        return all(b"psub=1" in s.cmd("CLIENT", "LIST") for s in watched.live_sentinels())

    def fail_over(self, by=0):
        """SENTINEL FAILOVER by one of them; returns the old and the new master."""
        old = watched.master()
        self.assertEqual(OK, watched.sentinels[by].cmd("SENTINEL", "FAILOVER", "mymaster"))
        # Sentinels that found the clock stand still for two seconds do nothing for thirty (TILT).
        wait_until("another master", lambda: watched.master() not in (None, old), 60, 0.02)
        return old, watched.master()

    def served_by(self, port):
        """Until writes through the proxy reach this server."""
        def there():
            with proxy.conn() as c:
                got = c.cmd("SET", "who", str(port))
            with Conn(port) as d:
                return got == OK and d.cmd("GET", "who") == b"%d" % port
        wait_until("requests reach %d" % port, there, grace(10))


class Basics(SentinelCase):
    def test_one_server_in_front(self):
        with proxy.conn() as c:
            self.expect(c, "MSET a 1 b 2 c 3", OK)
            self.expect(c, "MGET a b c", [b"1", b"2", b"3"])
            self.expect(c, "SELECT 4", OK)
            self.expect(c, "DBSIZE", 0)
            self.expect(c, "SELECT 0", OK)


class Planned(SentinelCase):
    def test_failover_under_load(self):
        """Not one client error, no acknowledged write lost."""
        with proxy.conn() as c, Load(proxy.port, clients=3, tag="plan") as load, \
                Steady(proxy.port, "plan") as steady:
            time.sleep(0.5)
            _, new = self.fail_over()
            self.served_by(new.port)
            time.sleep(0.5)
            load.stop()
            steady.__exit__()
            load.assert_no_error(self)
            load.check_counters(self, c)
            self.assertEqual([], steady.errors)
            self.assertEqual([], steady.lost(new))

    def test_old_master_gets_nothing_after(self):
        """It goes on taking writes for seconds; none of them is ours."""
        with Steady(proxy.port, "old") as steady:
            time.sleep(0.3)
            old, new = self.fail_over()
            self.served_by(new.port)
            begun = len(steady.acked)
            calls = old.command_calls("sadd")
            wait_until("more writes", lambda: len(steady.acked) > begun + 200, grace(10))
            with old.conn() as c:
                if c.cmd("ROLE")[0] == b"master":
                    self.assertEqual(calls, old.command_calls("sadd"))
        self.assertEqual([], steady.errors)
        self.assertEqual([], steady.lost(new))


    def test_who_waits_at_the_old_master(self):
        """A blocked client waits at the new one in the end; what was watched there is a conflict. Who
        takes the proxy for a Sentinel hears of nothing, because its address has not changed."""
        with proxy.conn(timeout=grace(30)) as c, proxy.conn() as w, proxy.conn() as other, \
                proxy.conn() as client:
            old = watched.master()
            self.expect(client, "SUBSCRIBE +switch-master", [b"subscribe", b"+switch-master", 1])
            c.send(encode("BLPOP", "queue", "0"))
            wait_until("it waits", lambda: old.info("clients")["blocked_clients"] == "1", grace(5))
            self.expect(w, "WATCH k", OK)
            _, new = self.fail_over()
            self.served_by(new.port)
            self.assertEqual([OK, Simple(b"QUEUED"), None], w.pipeline(["MULTI", "SET k lost", "EXEC"]))
            self.expect(other, "EXISTS k", 0)
            self.expect(other, "RPUSH queue x", 1)
            self.assertEqual([b"queue", b"x"], c.read())
            wait_until("it still listens", lambda: other.cmd("PUBLISH", "+switch-master", "mine") == 1,
                       grace(10))
            self.assertEqual([b"message", b"+switch-master", b"mine"], client.read())

    def test_aborted_failover(self):
        """The replica that is named never becomes master: requests wait, and then go where they
        always went."""
        for s in watched.sentinels:
            s.ok("SENTINEL", "SET", "mymaster", "failover-timeout", 2000)
        master, replicas = watched.master(), watched.replicas()
        with proxy.conn(timeout=grace(30)) as c:
            self.expect(c, "SET abort 0", OK)
            for r in replicas:
                r.freeze()
            try:
                named = proxy.log_text().count("is to become master")
                self.assertEqual(OK, watched.sentinels[0].cmd("SENTINEL", "FAILOVER", "mymaster"))
                wait_until("a replica is named", lambda: named < proxy.log_text().count(
                    "is to become master"), grace(5), 0.01)
                time.sleep(0.1)  # the workers know it too
                begun = time.monotonic()
                self.expect(c, "SET abort 1", OK)
                self.assertGreater(time.monotonic() - begun, 0.5)
                self.assertEqual(b"1", master.cmd("GET", "abort"))
            finally:
                for r in replicas:
                    r.thaw()


class Unplanned(SentinelCase):
    def test_kill_9(self):
        """Requests wait; what was under way may be of unknown outcome, nothing else fails."""
        with Load(proxy.port, clients=3, tag="kill") as load:
            time.sleep(0.3)
            old = watched.master()
            old.kill()
            wait_until("another master", lambda: watched.master() not in (None, old), 40, 0.05)
            self.served_by(watched.master().port)
            done = load.done
            wait_until("requests go on", lambda: load.done > done + 100, grace(10))
        for _, sent, reply in load.errors:
            self.assertTrue(reply.startswith("UNKNOWN"), (sent, reply))

    def test_old_master_returns_as_master(self):
        """It claims to be what it was until Sentinel demotes it; it gets no write."""
        old = watched.master()
        old.kill()
        wait_until("another master", lambda: watched.master() not in (None, old), 40, 0.02)
        new = watched.master()
        self.served_by(new.port)
        old.start()
        self.assertEqual(b"master", old.cmd("ROLE")[0])
        end = time.monotonic() + grace(20)
        n = claims = 0
        with proxy.conn(timeout=grace(30)) as c:
            while time.monotonic() < end:
                n += 1
                self.expect(c, ["SET", "return", str(n)], OK)
                got, role = old.cmd("GET", "return"), old.cmd("ROLE")
                if role[0] != b"master":
                    break
                claims += 1
                self.assertIsNone(got, "the old master has write %d" % n)
            self.assertGreater(claims, 0)
            self.assertEqual(b"slave", role[0])
            self.expect(c, "GET return", b"%d" % n)

    def test_restart_without_failover(self):
        """The master is back before anybody has called it down: it is served again."""
        with proxy.conn(timeout=grace(20)) as c:
            master = watched.master()
            master.restart()
            self.expect(c, "SET again 1", OK)
            self.expect(watched.master().conn(), "GET again", b"1")

    def test_frozen_master(self):
        old = watched.master()
        with proxy.conn(timeout=grace(30)) as c:
            self.expect(c, "SET frozen 0", OK)
            old.freeze()
            try:
                wait_until("another master", lambda: {s.master_addr("mymaster") for s in
                                                      watched.sentinels} !=
                           {("127.0.0.1", old.port)}, 30, 0.05)
                self.expect(c, "SET frozen 1", OK)
            finally:
                old.thaw()
        new = wait_until("Sentinels agree", watched.master, 20)
        self.assertEqual(b"1", new.cmd("GET", "frozen"))


class Sentinels(SentinelCase):
    def test_one_dies(self):
        watched.sentinels[0].kill()
        with proxy.conn() as c:
            self.expect(c, "SET s 1", OK)
            self.served_by(self.fail_over(by=1)[1].port)
            self.expect(c, "GET s", b"1")

    def test_all_restart(self):
        with Steady(proxy.port, "restart") as steady:
            for s in watched.sentinels:
                s.kill()
            time.sleep(0.5)
            for s in watched.sentinels:
                s.start()
            watched.wait_up()
            wait_until("the proxy listens again", self.listens, grace(10))
            _, new = self.fail_over(by=2)
            self.served_by(new.port)
        self.assertEqual([], steady.errors)
        self.assertEqual([], steady.lost(new))

    def test_no_sentinel_is_needed_to_go_on(self):
        for s in watched.sentinels:
            s.kill()
        with proxy.conn() as c:
            for i in range(20):
                self.expect(c, ["SET", "alone", str(i)], OK)
                time.sleep(0.02)

    def test_removed_and_monitored_elsewhere(self):
        """Epochs begin at 0 again; what most Sentinels say counts all the same."""
        other = Server().start()
        old = watched.master()
        try:
            def monitor(port):
                for s in watched.sentinels:
                    s.ok("SENTINEL", "REMOVE", "mymaster")
                    s.ok("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", port, watched.quorum)
                    s.ok("SENTINEL", "SET", "mymaster", "down-after-milliseconds",
                         watched.down_after, "failover-timeout", watched.failover_timeout)
            monitor(other.port)
            self.served_by(other.port)
            monitor(old.port)
            self.served_by(old.port)
        finally:
            other.stop()


class Passwords(Case):
    def test_of_servers_and_sentinels(self):
        w = Watched(replicas=1, args=["--requirepass", "srv", "--masterauth", "srv"],
                    sentinel_extra="requirepass sen\n")
        text = ("upstreams:\n  main:\n    sentinel:\n      master: mymaster\n"
                "      sentinels: [%s]\n      sentinel_password: sen\n    password: srv\n")
        master, replica = w.servers["mymaster"]
        try:
            for s in (master, replica):
                s.start(wait=False)
            wait_until("a server with a password", lambda: self.auth(master, "srv"), 10)
            wait_until("a server with a password", lambda: self.auth(replica, "srv"), 10)
            for s in w.sentinels:
                with open(s.conf_path, "a") as f:
                    f.write("sentinel auth-pass mymaster srv\n")
                s.start(wait=False)
            for s in w.sentinels:
                wait_until("a Sentinel with a password", lambda: self.auth(s, "sen"), 10)
            with Proxy([], config=text % w.seeds(2)).wait_start() as p, p.conn() as c:
                self.expect(c, "SET k v", OK)
        finally:
            w.stop()

    def auth(self, server, password):
        try:
            with server.conn() as c:
                return c.cmd("AUTH", password) == OK
        except OSError:
            return False


class Shards(Case):
    def test_several_masters(self):
        with Watched(names=("one", "two", "three"), replicas=1, sentinels=3) as w:
            text = ("upstreams: {main: {sentinel: {masters: [one, two, three], "
                    "sentinels: [%s], distribution: %s}}}\n")
            for distribution, fails in (("ranges", "two"), ("ketama", "three")):
                with Proxy([], config=text % (w.seeds(), distribution)).wait_start() as p:
                    self.one_distribution(w, p, distribution, fails)

    def copies(self, c):
        """To another database as a cluster's servers have it: nobody could SELECT it."""
        for line in ("COPY {t}a {t}c DB 1", "COPY {t}a {t}c REPLACE DB 1", "copy {t}a {t}c db 15 replace",
                     "COPY {t}a {t}a DB 1", "COPY {t}nosuch {t}c DB 0 DB 1"):
            self.expect_error(c, line, "ERR Copying to another database is not allowed in cluster mode")
        self.expect(c, "EXISTS {t}c", 0)
        self.expect(c, "COPY {t}a {t}c", 1)
        self.expect(c, "COPY {t}a {t}c DB 0", 0)
        self.expect(c, "COPY {t}a {t}c DB 1 DB 0 REPLACE", 1)
        self.expect_error(c, "COPY {t}a {t}c DB x", "ERR value is not an integer or out of range")
        self.expect_error(c, "COPY {t}a {t}c DB 1 NOSUCH", "ERR syntax error")
        self.expect_error(c, "COPY {t}a {t}c DB", "ERR syntax error")
        self.expect(c, "MULTI", OK)
        self.expect(c, "COPY {t}a {t}c DB 0 REPLACE", Simple(b"QUEUED"))
        self.expect_error(c, "COPY {t}a {t}c DB 1", "ERR KEYWAY COPY is not possible inside MULTI")
        self.expect_error(c, "EXEC", "EXECABORT...")

    def one_distribution(self, w, p, distribution, fails):
        for name in w.names:
            w.master(name).ok("FLUSHALL")
        keys = ["key:%d" % i for i in range(600)]
        with p.conn() as c:
            self.assertEqual([OK] * 600, c.pipeline([("SET", k, k) for k in keys]))
            self.expect(c, ["MGET"] + keys, [k.encode() for k in keys])
            self.expect(c, "DBSIZE", 600)
            sizes = [w.master(n).cmd("DBSIZE") for n in w.names]
            self.assertEqual(600, sum(sizes))
            self.assertGreater(min(sizes), 60, sizes)
            self.expect_error(c, "RENAME key:1 key:2", "CROSSSLOT...")
            self.expect(c, "MSETNX {t}a 1 {t}b 2", 1)
            self.expect_error(c, "SELECT 1", "ERR SELECT is not allowed in cluster mode")
            self.copies(c)
            self.assertEqual([], [n for n in w.names if "db1" in w.master(n).info("keyspace")])
            if distribution == "ranges":
                for k in keys[:50]:
                    owner = w.names[min(2, key_slot(k) * 3 // 16384)]
                    self.assertEqual(1, w.master(owner).cmd("EXISTS", k), k)
            # One shard fails over, the others are not disturbed.
            with Load(p.port, clients=2, tag=distribution) as load:
                old = w.master(fails)
                self.assertEqual(OK, w.sentinels[0].cmd("SENTINEL", "FAILOVER", fails))
                wait_until("another master", lambda: w.master(fails) not in (None, old), 30, 0.05)
                time.sleep(0.5)
            load.assert_no_error(self)
            load.check_counters(self, c)
            self.expect(c, ["MGET"] + keys, [k.encode() for k in keys])
