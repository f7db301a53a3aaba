"""Where servers are, and how they say it: host names, IPv6, other ports, NAT, names that change."""
import os
import re
import shutil
import subprocess
import time
import unittest

from harness.case import Case, Load
from harness.module import slow_names
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, Conn, Error
from harness.servers import SLOTS, Cluster, Server, free_port, key_slot, scratch, wait_until

# Nothing is learnt from the timer: what a test sees was learnt from redirections and failures.
SLOW = "topology:\n  refresh: 1h\n"


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs a cluster")


class Endpoints(Case):
    """What a redirection calls its target: cluster-preferred-endpoint-type and its three values."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3, 0, node_timeout=15000)
        for i, node in enumerate(cls.cluster.nodes):
            node.args += ["--cluster-announce-hostname", "node-%d.keyway.test" % i]
        cls.cluster.start()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def redirections(self, kind, hostname, says):
        """A half-moved slot (ASK), then a moved one (MOVED), under the words of `kind`."""
        cluster = self.cluster
        a, b = cluster.nodes[:2]
        for node in cluster.nodes:
            node.ok("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
            node.ok("CONFIG", "SET", "cluster-announce-hostname",
                    "node-%d.keyway.test" % cluster.nodes.index(node) if hostname else "")
        wait_until("the names have spread", lambda: all(
            (b"keyway.test" in line) == hostname for n in cluster.nodes
            for line in n.cmd("CLUSTER", "NODES").splitlines()))
        cluster.wait_epochs()
        key = cluster.key_on(a, "end")
        slot = key_slot(key)
        keys = ["{%s}%d" % (key, i) for i in range(6)]
        with Proxy(cluster.seeds(), config=SLOW).wait_start() as p, p.conn(timeout=grace(20)) as c:
            for k in keys:
                self.expect(c, ["SET", k, k], OK)
            cluster.begin_move(slot, a, b)
            cluster.move_keys(slot, a, b)
            self.assertEqual(b"ASK %d %s" % (slot, says(1)), bytes(a.cmd("GET", keys[0])))
            for k in keys:
                self.expect(c, ["GET", k], k.encode())
            self.expect(c, ["EVAL", "return redis.call('GET', KEYS[1])", "1", key], None)
            self.expect(c, ["SET", keys[0], "new"], OK)
            cluster.end_move(slot, a, b)
            self.assertEqual(b"MOVED %d %s" % (slot, says(1)), bytes(a.cmd("GET", keys[0])))
            self.expect(c, ["GET", keys[0]], b"new")
            self.expect(c, ["EVAL", "return redis.call('GET', KEYS[1])", "1", keys[1]],
                        keys[1].encode())
            # And back, under load: not one error.
            with Load(p.port, clients=2, tag="end-%s-%d" % (kind, hostname)) as load:
                for s in range(slot, slot + 3):
                    if cluster.owner(s) is b:
                        cluster.move_slot(s, b, a)
                time.sleep(0.1)
            load.assert_no_error(self)
            self.expect(c, ["DEL"] + keys, len(keys))

    def test_ip(self):
        self.redirections("ip", True, lambda i: b"127.0.0.1:%d" % self.cluster.nodes[i].port)

    def test_hostname(self):
        self.redirections("hostname", True, lambda i: b"node-%d.keyway.test:%d" % (
            i, self.cluster.nodes[i].port))

    def test_hostname_that_is_not_set(self):
        self.redirections("hostname", False, lambda i: b"?:%d" % self.cluster.nodes[i].port)

    def test_unknown_endpoint(self):
        self.redirections("unknown-endpoint", True, lambda i: b":%d" % self.cluster.nodes[i].port)


class IPv6(Case):
    def setUp(self):
        try:
            with open("/proc/net/if_inet6") as f:
                if " lo" not in f.read():
                    raise OSError
        except OSError:
            self.skipTest("no IPv6 on this machine")

    def test_cluster_and_listener(self):
        cluster = Cluster(3, 0, node_timeout=15000, args=["--bind", "127.0.0.1", "::1"], host="::1")
        with cluster:
            port = free_port()
            seeds = ["[::1]:%d" % cluster.nodes[0].port]
            with Proxy(seeds, ["--listen", "[::1]:%d" % port], config=SLOW).wait_start() as p, \
                    Conn(("::1", port), timeout=grace(20)) as c:
                a, b = cluster.nodes[:2]
                key = cluster.key_on(a, "six")
                slot = key_slot(key)
                self.expect(c, ["MSET", key, "1", cluster.key_on(b, "six"), "2",
                                cluster.key_on(cluster.nodes[2], "six"), "3"], OK)
                cluster.begin_move(slot, a, b)
                cluster.move_keys(slot, a, b)
                self.assertEqual(b"ASK %d ::1:%d" % (slot, b.port), bytes(a.cmd("GET", key)))
                self.expect(c, ["GET", key], b"1")
                cluster.end_move(slot, a, b)
                self.expect(c, ["INCR", key], 2)
                for node in cluster.nodes:
                    ours = [line for line in node.cmd("CLIENT", "LIST").splitlines()
                            if b"name=keyway" in line]
                    self.assertTrue(ours)
                    self.assertEqual([], [line for line in ours if b"addr=[::1]:" not in line])
                # A cluster client that connected to ::1 is told ::1.
                self.assertEqual(b"::1", c.cmd("CLUSTER", "SLOTS")[0][2][0])
                with p.conn() as four:
                    self.expect(four, ["GET", key], b"2")


class OtherPort(Case):
    def test_a_node_comes_back_on_another_port(self):
        """First a replica, then a master, before the cluster has missed them."""
        with Cluster(2, 2, node_timeout=10000) as cluster, \
                Proxy(cluster.seeds(2)).wait_start() as p, p.conn(timeout=grace(30)) as c:
            for node in (cluster.replica_of(cluster.nodes[0]), cluster.nodes[0]):
                is_master = node is cluster.nodes[0]
                key = cluster.key_on(cluster.nodes[0], "port")
                self.expect(c, ["SET", key, "1"], OK)
                node.kill()
                old = node.port
                node.port = free_port()
                cluster.ids[node.port] = cluster.ids[old]
                node.args = [x for x in node.args if x != "--cluster-port"]
                node.start()
                # The keys of a master that kept nothing are gone, as they are without a proxy.
                self.expect(c, ["SET", key, "2"], OK)
                self.expect(c, ["GET", key], b"2")
                wait_until("all know the new port", lambda: all(
                    node.port in [v["port"] for v in cluster.view(n)] for n in cluster.live()))
                if is_master:
                    self.assertEqual(b"2", node.cmd("GET", key))
            cluster.wait_ok()
            # What was learnt is used: the new replica of the moved master takes over when asked to.
            with Load(p.port, clients=2, tag="port") as load:
                cluster.failover(cluster.replica_of(cluster.nodes[0]))
                time.sleep(0.3)
            load.assert_no_error(self)


class PartlyCovered(Case):
    def test_serves_the_slots_it_has(self):
        with Cluster(3, 0, node_timeout=1000,
                     args=["--cluster-require-full-coverage", "no"]) as cluster:
            config = SLOW + "backend:\n  ride_through: 1500ms\n"
            with Proxy(cluster.seeds(), config=config).wait_start() as p, \
                    p.conn(timeout=grace(20)) as c:
                dead, left = cluster.nodes[2], cluster.nodes[:2]
                lost = cluster.key_on(dead, "part")
                good = [cluster.key_on(n, "part") for n in left]
                dead.kill()
                begun = time.monotonic()
                self.expect_error(c, ["GET", lost], "CLUSTERDOWN ...")
                self.assertLess(time.monotonic() - begun, grace(1.5) + 2)
                begun = time.monotonic()
                for i in range(50):
                    for k in good:
                        self.expect(c, ["SET", k, i], OK)
                    self.expect_error(c, ["GET", lost], "CLUSTERDOWN ...")
                self.assertLess(time.monotonic() - begun, grace(2), "later ones fail at once")
                self.expect_error(c, ["MGET", good[0], lost], "CLUSTERDOWN ...")
                # A slot that nobody has: one refresh, then the server's words.
                slot = key_slot(good[0])
                for n in left:
                    n.ok("CLUSTER", "DELSLOTS", slot)
                self.expect_error(c, ["GET", good[0]], "CLUSTERDOWN Hash slot not served")
                self.expect(c, ["SET", good[1], "on"], OK)
                cluster.nodes[0].ok("CLUSTER", "ADDSLOTS", slot)
                self.eventually("it is served again", lambda: c.cmd("SET", good[0], "x") == OK)
                dead.restart()
                self.eventually("all is served again", lambda: c.cmd("SET", lost, "x") == OK, 20)


class AddressMap(Case):
    def test_unreachable_announced_host(self):
        """Every node calls itself 10.255.255.1: all ports of that host are dialled elsewhere."""
        with Cluster(3, 0, node_timeout=60000, host="10.255.255.1",
                     args=["--cluster-announce-ip", "10.255.255.1"]) as cluster:
            # (They cannot reach one another either, which they notice after node_timeout.)
            seeds = ", ".join("'%s'" % s for s in cluster.seeds(1))
            for n in cluster.nodes:
                self.assertEqual(3, n.cmd("CLUSTER", "NODES").count(b"10.255.255.1:"))
            text = SLOW + ("upstreams: {main: {cluster: [%s], address_map: "
                           "{'10.255.255.1:*': '127.0.0.1:*'}}}\n" % seeds)
            with Proxy([], config=text).wait_start() as p, p.conn(timeout=grace(20)) as c:
                a, b = cluster.nodes[:2]
                key = cluster.key_on(a, "nat")
                slot = key_slot(key)
                self.expect(c, ["SET", key, "1"], OK)
                cluster.begin_move(slot, a, b)
                cluster.move_keys(slot, a, b)
                self.assertEqual(b"ASK %d 10.255.255.1:%d" % (slot, b.port), bytes(a.cmd("GET", key)))
                self.expect(c, ["GET", key], b"1")
                for n in (b, a):
                    n.ok("CLUSTER", "SETSLOT", slot, "NODE", cluster.ids[b.port])
                self.expect(c, ["INCR", key], 2)
                self.assertEqual([OK] * 50, c.pipeline([("SET", "nat:%d" % i, i)
                                                        for i in range(50)]))

    def test_announced_ports(self):
        """cluster-announce-port and cluster-announce-bus-port: a port that nobody listens on."""
        cluster = Cluster(3, 0, node_timeout=15000)
        ports = [free_port() for _ in cluster.nodes]
        for node, port in zip(cluster.nodes, ports):
            node.args += ["--cluster-announce-port", port, "--cluster-announce-bus-port",
                          node.port + 10000]
            node.args = [str(x) for x in node.args]
        with cluster:
            wait_until("the nodes announce them", lambda: all(
                b"127.0.0.1:%d@" % port in n.cmd("CLUSTER", "NODES")
                for n in cluster.nodes for port in ports))
            pairs = ", ".join("'127.0.0.1:%d': 'localhost:%d'" % (port, n.port)
                              for n, port in zip(cluster.nodes, ports))
            text = SLOW + "upstreams: {main: {cluster: ['%s'], address_map: {%s}}}\n" % (
                cluster.nodes[0].addr, pairs)
            with Proxy([], config=text).wait_start() as p, p.conn(timeout=grace(20)) as c:
                self.assertEqual([OK] * 50, c.pipeline([("SET", "ann:%d" % i, i)
                                                        for i in range(50)]))
                for n in cluster.nodes:
                    self.assertGreater(n.cmd("DBSIZE"), 0)

    def test_sentinel_master(self):
        """The Sentinels name a master by an address of another network."""
        from harness.servers import Watched
        watched = Watched(replicas=0, sentinels=1).start()
        try:
            master = watched.servers["mymaster"][0]
            dead = free_port()
            sentinel = watched.sentinels[0]
            sentinel.ok("SENTINEL", "REMOVE", "mymaster")
            sentinel.ok("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", dead, 1)
            text = ("upstreams: {main: {sentinel: {master: mymaster, sentinels: ['%s']}, "
                    "address_map: {'127.0.0.1:%d': '%s'}}}\n" % (sentinel.addr, dead, master.addr))
            with Proxy([], config=text).wait_start() as p, p.conn(timeout=grace(20)) as c:
                self.expect(c, "SET mapped 1", OK)
                self.assertEqual(b"1", master.cmd("GET", "mapped"))
        finally:
            watched.stop()

    def test_what_is_no_map(self):
        for value in ("5", "[a, b]", "{'h:1': 'h'}", "{'h:*': 'h:1'}", "{'h:1': 'h:*'}",
                      "{'/a/b': 'h:1'}", "{'h:1': {}}"):
            text = "upstreams: {main: {cluster: ['127.0.0.1:1'], address_map: %s}}\n" % value
            p = Proxy([], config=text, check=False).start(wait=False)
            self.assertEqual(1, p.wait_exit(), value)
            self.assertIn("address_map: ", p.log_text())


def may_unshare():
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class HostsProxy(Proxy):
    """A proxy with an /etc/hosts of its own, in a private mount namespace."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.hosts_path = os.path.join(scratch("proxy"), "%d.hosts" % self.port)

    def hosts(self, *lines):
        with open(self.hosts_path, "a+") as f:  # in place: the file is what is mounted
            f.truncate(0)
            f.write("".join(line + "\n" for line in ("127.0.0.1 localhost",) + lines))
        return self

    def argv(self):
        return ["unshare", "-m", "--propagation", "private", "sh", "-c",
                'mount --bind "$0" /etc/hosts && exec "$@"', self.hosts_path] + super().argv()


class Names(Case):
    NAME = "db.keyway.test"

    @classmethod
    def setUpClass(cls):
        if not may_unshare():
            raise unittest.SkipTest("names that change: needs root and mount namespaces")

    def server_at(self, host, port):
        s = Server(port, args=["--bind", host])
        s.dir = scratch("redis-%s-%d" % (host, port))
        s.log_path = os.path.join(s.dir, "log")
        s.start(wait=False)
        self.addCleanup(s.stop)

        def up():
            try:
                with Conn((host, port)) as c:
                    return c.cmd("SET", "who", host) == OK
            except OSError:
                return False
        wait_until("%s:%d answers" % (host, port), up)
        return s

    def plain(self, port, resolve):
        return HostsProxy([], ["--server", "%s:%d" % (self.NAME, port)], config="topology:\n  "
                          "resolve: %s\n" % resolve)

    def test_server_moves_while_the_old_one_lives(self):
        """Looked up again every topology.resolve; the change itself is no error."""
        port = free_port()
        self.server_at("127.0.0.2", port)
        self.server_at("127.0.0.3", port)
        p = self.plain(port, "1s").hosts("127.0.0.2 " + self.NAME)
        with p.wait_start(), p.conn(timeout=grace(20)) as c:
            self.expect(c, "GET who", b"127.0.0.2")
            errors, order = [], []
            p.hosts("127.0.0.3 " + self.NAME)
            end = time.monotonic() + grace(10)
            while time.monotonic() < end:
                got = c.pipeline([("GET", "who")] * 20)
                errors += [g for g in got if isinstance(g, Error)]
                order += got
                if got[-1] == b"127.0.0.3":
                    break
            self.assertEqual([], errors)
            self.assertEqual(b"127.0.0.3", order[-1])
            self.assertEqual(sorted(order), order, "never back to the old one")

    def test_server_moves_because_the_old_one_died(self):
        port = free_port()
        old = self.server_at("127.0.0.2", port)
        self.server_at("127.0.0.3", port)
        p = self.plain(port, "1h").hosts("127.0.0.2 " + self.NAME)
        with p.wait_start(), p.conn(timeout=grace(20)) as c:
            self.expect(c, "GET who", b"127.0.0.2")
            p.hosts("127.0.0.3 " + self.NAME)
            old.kill()
            begun = time.monotonic()
            self.expect(c, "GET who", b"127.0.0.3")
            self.assertLess(time.monotonic() - begun, grace(5))

    def test_several_addresses_of_which_one_answers(self):
        port = free_port()
        self.server_at("127.0.0.4", port)
        p = self.plain(port, "1h").hosts(*["127.0.0.%d %s" % (i, self.NAME) for i in (2, 3, 4, 5)])
        with p.start(), p.conn(timeout=grace(20)) as c:
            begun = time.monotonic()
            self.expect(c, "GET who", b"127.0.0.4")
            self.assertLess(time.monotonic() - begun, grace(8))

    def test_only_discovery_is_refused(self):
        """"max number of clients" at the address in use: those who are connected stay there."""
        port = free_port()
        servers = {h: self.server_at(h, port) for h in ("127.0.0.2", "127.0.0.3")}
        p = self.plain(port, "1h").hosts(*["%s %s" % (h, self.NAME) for h in servers])
        p.workers = 1
        with p.wait_start(), p.conn() as c, p.conn(protocol=3) as other:
            used = c.cmd("GET", "who")
            self.expect(other, "GET who", used)
            with Conn((used.decode(), port)) as admin:
                admin.cmd("CONFIG", "SET", "maxclients", "1")
                idle = [line.split()[0][3:] for line in admin.cmd("CLIENT", "LIST").splitlines()
                        if re.search(rb" resp=3( |$)", line)]
                self.assertTrue(idle)
                for number in idle:  # a lost connection makes discovery look
                    admin.cmd("CLIENT", "KILL", "ID", number)

                def refused():
                    stats = admin.cmd("INFO", "stats").decode()
                    return int(re.search(r"rejected_connections:(\d+)", stats).group(1)) > 0
                self.eventually("discovery is refused", refused)
                for _ in range(10):
                    self.expect(c, "GET who", used)
                    time.sleep(0.05)
                admin.cmd("CONFIG", "SET", "maxclients", "100")

    def test_a_name_that_does_not_exist_yet(self):
        port = free_port()
        self.server_at("127.0.0.2", port)
        p = self.plain(port, "1h").hosts()
        with p.start(), p.conn(timeout=grace(20)) as c:
            c.send(b"GET who\r\n")
            time.sleep(0.3)
            p.hosts("127.0.0.2 " + self.NAME)
            self.assertEqual(b"127.0.0.2", c.read())

    def test_seed_of_a_cluster(self):
        """One name for all nodes, the first of them dead; later the whole cluster lives elsewhere,
        and the name is all that leads to it."""
        with Cluster(2, 0, node_timeout=15000) as one, Cluster(2, 0, node_timeout=15000) as two:
            port = one.nodes[0].port
            p = HostsProxy(["%s:%d" % (self.NAME, port)], config=SLOW)
            p.hosts("127.0.0.2 " + self.NAME, "127.0.0.1 " + self.NAME)
            with p.wait_start(), p.conn(timeout=grace(30)) as c:
                self.expect(c, "SET seed one", OK)
                one.stop()
                # The second cluster is on other ports: a redirector of ports stands in for its host.
                two.nodes[0].kill()
                two.nodes[0].port, old = port, two.nodes[0].port
                two.ids[port] = two.ids[old]
                two.nodes[0].args += ["--bind", "127.0.0.1", "127.0.0.3"]
                two.nodes[0].start()
                p.hosts("127.0.0.3 " + self.NAME)
                self.eventually("the new cluster serves", lambda: all(
                    c.cmd("SET", "seed:%d" % i, i) == OK for i in range(20)), 20)


class SlowNames(Case):
    """A name service that does not answer holds up nobody but who needs its answer."""
    NAME = "db.slow.keyway.test"

    def setUp(self):
        self.delay = os.path.join(scratch("proxy"), "%s.delay" % self._testMethodName)
        self.names_take(0)

    def names_take(self, ms):
        with open(self.delay + ".new", "w") as f:
            f.write("%d\n" % ms)
        os.rename(self.delay + ".new", self.delay)

    def proxy(self, seeds, args=(), config="topology:\n  resolve: 1s\n"):
        return Proxy(seeds, args, config=config, env={"LD_PRELOAD": slow_names(),
                                                      "SLOW_NAMES": self.delay})

    def test_a_seed_that_hangs(self):
        self.names_take(120000)
        with Cluster(2, 0, node_timeout=15000) as cluster:
            begun = time.monotonic()
            p = self.proxy(["%s:%d" % (self.NAME, cluster.nodes[0].port)] + cluster.seeds())
            with p.wait_start(), p.conn(timeout=grace(10)) as c:
                self.expect(c, "SET a b", OK)
                self.assertLess(time.monotonic() - begun, grace(8))
                begun = time.monotonic()
            self.assertLess(time.monotonic() - begun, grace(8), "it stopped after")

    def test_an_answer_that_comes_late(self):
        server = Server().start()
        self.addCleanup(server.stop)
        self.names_take(1500)
        with self.proxy([], ["--server", "%s:%d" % (self.NAME, server.port)]).start() as p, \
                p.conn(timeout=grace(15)) as c:
            self.expect(c, "SET a b", OK)

    def test_a_failover_while_names_hang(self):
        """All servers are dialled by names, which are known, and looked up again in vain."""
        with Cluster(3, 3, node_timeout=15000) as cluster:
            ports = [n.port for n in cluster.nodes]
            p = self.proxy(cluster.seeds(), config="topology:\n  resolve: 1s\nupstreams: {main: {"
                           "cluster: [%s], address_map: {%s}}}\n" % (
                               ", ".join("'127.0.0.1:%d'" % n for n in ports), ", ".join(
                                   "'127.0.0.1:%d': 'n%d.slow.keyway.test:%d'" % (n, n, n)
                                   for n in ports)))
            p.seeds = []
            with p.wait_start(), p.conn(timeout=grace(10)) as c:
                master = cluster.owner(0)
                key = cluster.key_on(master)
                self.expect(c, ["SET", key, 1], OK)
                replica = cluster.replica_of(master)
                self.names_take(120000)
                time.sleep(1.1)  # what is known is out of date
                master.kill()
                cluster.failover(replica, "TAKEOVER")
                begun = time.monotonic()
                self.expect(c, ["SET", key, 2], OK)
                self.assertLess(time.monotonic() - begun, grace(3))


if __name__ == "__main__":
    unittest.main()
