"""What cluster-aware and Sentinel-aware clients find when the proxy is all they know."""
import os
import re
import socket
import subprocess
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, BINARY, Proxy
from harness.resp import OK, PONG, Conn, Error, Map, encode
from harness.servers import (PROGRAM, Server, die_with_parent, free_port, key_slot, scratch,
                             tag_of_slot, wait_until)

setup = Setup()


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("a plain server pretends nothing")
    setup.start(oracle=False)


def tearDownModule():
    setup.stop()


class Listening(Proxy):
    """A proxy whose listener comes from the file alone: --listen would replace it."""

    def __init__(self, *keys, address=None, **kw):
        port = free_port()
        text = "listeners:\n  - address: %s\n%s" % (
            address or "127.0.0.1:%d" % port, "".join("    %s\n" % k for k in keys))
        super().__init__(setup.cluster.seeds(3), config=text, port=port, **kw)

    def argv(self):
        path = os.path.join(scratch("proxy"), "%d.yaml" % self.port)
        with open(path, "w") as f:
            f.write(self.config)
        return [BINARY, "-c", path, "--workers", str(self.workers)] + self.seeds


class OneNodeCluster(Case):
    ID = r"^[0-9a-f]{40}$"

    def test_slots(self):
        port = setup.proxy.port
        with setup.proxy.conn() as c:
            me = c.cmd("CLUSTER", "MYID")
            self.assertRegex(me.decode(), self.ID)
            self.expect(c, "CLUSTER SLOTS", [[0, 16383, [b"127.0.0.1", port, me, []]]])
        with setup.proxy.conn(protocol=3) as c:
            self.expect(c, "CLUSTER SLOTS", [[0, 16383, [b"127.0.0.1", port, me, Map([])]]])

    def test_shards(self):
        """The same fields in the same order as a real node shows, in both dialects."""
        with setup.cluster.masters()[0].conn() as node:
            want = node.cmd("CLUSTER", "SHARDS")[0]
        with setup.proxy.conn() as c:
            got = c.cmd("CLUSTER", "SHARDS")
            self.assertEqual(1, len(got))
            got = got[0]
            self.assertEqual([b"slots", [0, 16383], b"nodes"], got[:3])
            self.assertEqual(want[3][0][::2], got[3][0][::2])
            fields = dict(zip(got[3][0][::2], got[3][0][1::2]))
            self.assertEqual((b"127.0.0.1", b"127.0.0.1", setup.proxy.port, b"master", b"online"),
                             (fields[b"ip"], fields[b"endpoint"], fields[b"port"],
                              fields[b"role"], fields[b"health"]))
        with setup.proxy.conn(protocol=3) as c:
            shard = c.cmd("CLUSTER", "SHARDS")[0]
            self.assertIsInstance(shard, Map)
            self.assertIsInstance(dict(shard)[b"nodes"][0], Map)

    def test_nodes(self):
        with setup.proxy.conn() as c:
            me, port = c.cmd("CLUSTER", "MYID").decode(), setup.proxy.port
            self.expect(c, "CLUSTER NODES", (
                "%s 127.0.0.1:%d@%d myself,master - 0 0 1 connected 0-16383\n" % (
                    me, port, port + 10000)).encode())

    def test_info_has_a_nodes_fields(self):
        def fields(text):
            return [line.split(":")[0] for line in text.decode().splitlines()]
        with setup.proxy.conn() as c, setup.cluster.masters()[0].conn() as node:
            text = c.cmd("CLUSTER", "INFO")
            self.assertEqual([f for f in fields(node.cmd("CLUSTER", "INFO"))
                              if not re.match("cluster_stats_messages_.+_", f)], fields(text))
            for line in (b"cluster_state:ok", b"cluster_slots_ok:16384", b"cluster_known_nodes:1"):
                self.assertIn(line + b"\r\n", text)

    def test_keyslot_links_replicas(self):
        with setup.proxy.conn() as c, setup.cluster.masters()[0].conn() as node:
            for key in ["a", "", "{a}b", "a{}b", "x{y", b"\0\r\n", "k" * 1000]:
                self.matches_oracle(c, node, ["CLUSTER", "KEYSLOT", key])
            self.expect(c, "CLUSTER LINKS", [])
            me = c.cmd("CLUSTER", "MYID").decode()
            self.expect(c, "CLUSTER REPLICAS " + me, [])
            self.expect(c, "CLUSTER SLAVES " + me, [])
            self.matches_oracle(c, node, "CLUSTER REPLICAS nosuch")
            self.assertRegex(c.cmd("CLUSTER", "MYSHARDID").decode(), self.ID)
            self.assertNotEqual(me.encode(), c.cmd("CLUSTER", "MYSHARDID"))

    def test_errors_are_a_nodes(self):
        with setup.proxy.conn() as c, setup.cluster.masters()[0].conn() as node:
            for line in ["CLUSTER", "CLUSTER NOSUCH", "CLUSTER KEYSLOT", "CLUSTER KEYSLOT a b",
                         "CLUSTER SLOTS x", "CLUSTER COUNTKEYSINSLOT 16384",
                         "CLUSTER COUNTKEYSINSLOT -1", "CLUSTER COUNTKEYSINSLOT x",
                         "CLUSTER GETKEYSINSLOT 1 -1", "CLUSTER GETKEYSINSLOT 16384 1",
                         "CLUSTER GETKEYSINSLOT 1 x", "CLUSTER GETKEYSINSLOT 1"]:
                self.matches_oracle(c, node, line)

    def test_keys_of_a_slot_come_from_its_owner(self):
        with setup.proxy.conn() as c:
            for slot in (0, 5460, 5461, 10922, 10923, 16383):
                tag = tag_of_slot(slot)
                tag = tag.decode() if isinstance(tag, bytes) else tag
                keys = sorted(("{%s}:%d" % (tag, i)).encode() for i in range(5))
                replies = c.pipeline([("SET", k, "v") for k in keys] +
                                     [("CLUSTER", "COUNTKEYSINSLOT", slot),
                                      ("CLUSTER", "GETKEYSINSLOT", slot, 100), ("DEL", keys[0]),
                                      ("CLUSTER", "COUNTKEYSINSLOT", slot)])
                self.assertEqual([5, keys, 1, 4],
                                 [replies[5], sorted(replies[6]), replies[7], replies[8]])
                self.assertEqual(2, len(c.cmd("CLUSTER", "GETKEYSINSLOT", slot, 2)))
                self.expect(c, "CLUSTER GETKEYSINSLOT %d 0" % slot, [])

    def test_role_and_help(self):
        with setup.proxy.conn() as c:
            self.expect(c, "ROLE", [b"master", 0, []])
            self.expect_error(c, "ROLE x", "ERR wrong number of arguments for 'role' command")
            self.assertIn(b"CLUSTER <subcommand>", c.cmd("CLUSTER", "HELP")[0])

    def test_what_changes_a_cluster_is_refused(self):
        with setup.proxy.conn() as c:
            for line in ["CLUSTER MEET 127.0.0.1 1", "CLUSTER RESET", "CLUSTER ADDSLOTS 1",
                         "CLUSTER SETSLOT 1 STABLE", "CLUSTER FAILOVER", "CLUSTER FLUSHSLOTS"]:
                self.assertIsInstance(c.cmd(*line.split()), Error, line)


class ClusterClient(Case):
    """The steps of a cluster client with the proxy as its only seed."""

    def test_never_leaves_the_proxy(self):
        with setup.proxy.conn() as seed:
            (start, end, node), = seed.cmd("CLUSTER", "SLOTS")
            host, port = node[0].decode(), node[1]
        with socket.create_connection((host, port)):
            pass
        with Conn(port) as c:
            self.expect(c, "READONLY", OK)
            for i in range(300):
                key = "cc:%d" % i
                self.assertTrue(start <= key_slot(key) <= end)
                self.expect(c, ["SET", key, str(i)], OK)
            for i in range(300):
                self.expect(c, ["GET", "cc:%d" % i], b"%d" % i)


class Announced(Case):
    def ask(self, *keys, **kw):
        with Listening(*keys, **kw).wait_start() as p, p.conn() as c:
            return (p.port, c.cmd("CLUSTER", "MYID"), c.cmd("CLUSTER", "SLOTS"),
                    c.cmd("CLUSTER", "NODES"), c.cmd("CLUSTER", "SHARDS"),
                    c.cmd("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "any"))

    def test_an_address(self):
        _, me, slots, nodes, shards, _ = self.ask("announce: 192.0.2.7:7777")
        self.assertEqual([[0, 16383, [b"192.0.2.7", 7777, me, []]]], slots)
        self.assertEqual(me + b" 192.0.2.7:7777@17777 myself,master - 0 0 1 connected 0-16383\n",
                         nodes)
        _, again, *_ = self.ask("announce: 192.0.2.7:7777")
        _, other, *_ = self.ask("announce: 192.0.2.8:7777")
        self.assertEqual(me, again, "the id outlives a restart, on another port too")
        self.assertNotEqual(me, other, "two proxies are two nodes")

    def test_ipv6(self):
        _, me, slots, nodes, _, _ = self.ask('announce: "[2001:db8::1]:7777"')
        self.assertEqual(b"2001:db8::1", slots[0][2][0])
        self.assertTrue(nodes.startswith(me + b" 2001:db8::1:7777@17777 "), nodes)

    def test_a_name(self):
        _, me, slots, nodes, shards, _ = self.ask("announce: cache.example.net:7777")
        self.assertEqual([b"cache.example.net", 7777, me, [b"ip", b"127.0.0.1"]], slots[0][2])
        self.assertTrue(nodes.startswith(me + b" 127.0.0.1:7777@17777,cache.example.net "), nodes)
        node = shards[0][3][0]
        node = dict(zip(node[::2], node[1::2]))
        self.assertEqual((b"cache.example.net", b"cache.example.net", b"127.0.0.1"),
                         (node[b"endpoint"], node[b"hostname"], node[b"ip"]))

    def test_nonsense_is_refused_at_the_start(self):
        for value in ("nowhere", "/run/x.sock", "h:0", "h:99999"):
            p = Listening("announce: " + value, check=False)
            p.start(wait=False)
            self.assertEqual(1, p.wait_exit())
            self.assertIn("announce: '%s' is not an address; expected HOST:PORT" % value,
                          p.log_text())


class SentinelProcess:
    """A real Sentinel that watches one real master: what the proxy's answers are compared with."""

    def __init__(self):
        self.master = Server().start()
        self.port = free_port()
        folder = scratch("sentinel-%d" % self.port)
        path = os.path.join(folder, "sentinel.conf")
        with open(path, "w") as f:
            f.write("port %d\ndir %s\nsentinel monitor mymaster 127.0.0.1 %d 1\n" % (
                self.port, folder, self.master.port))
        self.process = subprocess.Popen([PROGRAM, path, "--sentinel"],
                                        stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_until("the Sentinel answers", self.up, 20)

    def up(self):
        try:
            with Conn(self.port) as c:
                return c.cmd("PING") == PONG
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.master.stop()


class Sentinel(Case):
    @classmethod
    def setUpClass(cls):
        cls.real = SentinelProcess()

    @classmethod
    def tearDownClass(cls):
        cls.real.stop()

    def test_the_master_is_the_proxy(self):
        port = setup.proxy.port
        with setup.proxy.conn() as c:
            for name in ("mymaster", "anything", "a b"):
                self.expect(c, ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name],
                            [b"127.0.0.1", b"%d" % port])
            self.expect(c, "sentinel get-master-addr-by-name x", [b"127.0.0.1", b"%d" % port])
            self.expect(c, "SENTINEL REPLICAS x", [])
            self.expect(c, "SENTINEL SLAVES x", [])
            self.expect(c, "SENTINEL SENTINELS x", [])
            self.assertRegex(c.cmd("SENTINEL", "MYID").decode(), "^[0-9a-f]{40}$")
            self.assertTrue(c.cmd("SENTINEL", "CKQUORUM", "x").startswith(b"OK 1 usable Sentinels"))

    def test_masters_have_a_sentinels_fields(self):
        for dialect in (2, 3):
            with setup.proxy.conn(protocol=dialect) as c, \
                    Conn(self.real.port, protocol=dialect) as s:
                for line in (["MASTERS"], ["MASTER", "mymaster"]):
                    got, want = c.cmd("SENTINEL", *line), s.cmd("SENTINEL", *line)
                    if line == ["MASTERS"]:
                        self.assertEqual((1, 1), (len(got), len(want)))
                        got, want = got[0], want[0]
                    self.assertEqual(type(want), type(got))
                    if dialect == 2:
                        got, want = (list(zip(x[::2], x[1::2])) for x in (got, want))
                    else:
                        got, want = list(dict(got).items()), list(dict(want).items())
                    self.assertEqual([k for k, _ in want], [k for k, _ in got])
                    got, want = dict(got), dict(want)
                    for k in (b"name", b"ip", b"flags", b"role-reported", b"parallel-syncs",
                              b"down-after-milliseconds", b"failover-timeout", b"num-slaves"):
                        self.assertEqual(want[k], got[k], k)
                    self.assertEqual(b"%d" % setup.proxy.port, got[b"port"])

    def test_errors_are_a_sentinels(self):
        with setup.proxy.conn() as c, Conn(self.real.port) as s:
            for line in ["SENTINEL", "SENTINEL NOSUCH", "SENTINEL PING", "SENTINEL MASTERS x",
                         "SENTINEL MASTER", "SENTINEL MASTER a b", "SENTINEL REPLICAS",
                         "SENTINEL SLAVES", "SENTINEL SENTINELS", "SENTINEL CKQUORUM",
                         "SENTINEL GET-MASTER-ADDR-BY-NAME", "SENTINEL MYID x", "SENTINEL RESET",
                         "SENTINEL FAILOVER", "SENTINEL SET a", "SENTINEL MONITOR a",
                         "SENTINEL REMOVE", "SENTINEL CONFIG", "SENTINEL IS-MASTER-DOWN-BY-ADDR"]:
                self.matches_oracle(c, s, line)
            for line in ["SENTINEL FAILOVER x", "SENTINEL RESET *", "SENTINEL REMOVE x",
                         "SENTINEL MONITOR x 127.0.0.1 1 1", "SENTINEL SET x quorum 1"]:
                self.expect_error(c, line, "ERR KEYWAY SENTINEL %s is not supported yet" %
                                  line.split()[1])

    def test_one_configured_name(self):
        with Listening("sentinel_master: mymaster", "announce: 192.0.2.7:7777").wait_start() as p, \
                p.conn() as c, Conn(self.real.port) as s:
            self.expect(c, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster", [b"192.0.2.7", b"7777"])
            for line in ["GET-MASTER-ADDR-BY-NAME no", "MASTER no", "REPLICAS no", "SLAVES no",
                         "SENTINELS no", "CKQUORUM no", "REPLICAS mymaster"]:
                self.matches_oracle(c, s, "SENTINEL " + line)
            with p.conn(protocol=3) as c3, Conn(self.real.port, protocol=3) as s3:
                self.matches_oracle(c3, s3, "SENTINEL GET-MASTER-ADDR-BY-NAME no")
            row = c.cmd("SENTINEL", "MASTERS")[0]
            self.assertEqual(b"mymaster", dict(zip(row[::2], row[1::2]))[b"name"])

    def test_the_steps_of_a_client(self):
        """Asks, connects where it is told, checks the role, works."""
        with setup.proxy.conn() as c:
            host, port = c.cmd("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        with Conn(int(port)) as m:
            self.assertEqual(b"master", m.cmd("ROLE")[0])
            self.expect(m, "SET sentinel:k v", OK)
            self.expect(m, "GET sentinel:k", b"v")


class SentinelEvents(Case):
    """What Sentinel clients listen to beside asking. The proxy's address never changes, so nothing is
    ever told; but the dialogue is a Sentinel's, and the connection stays good."""
    # Jedis, ioredis and go-redis; node-redis; Redisson; Lettuce.
    CHANNELS = (["SUBSCRIBE", "+switch-master"], ["SUBSCRIBE", "+switch-master", "+replica-reconf-done"],
                ["PSUBSCRIBE", "switch-master", "[-+]sdown", "+slave", "+sentinel", "[-+]odown",
                 "+slave-reconf-done"],
                ["SUBSCRIBE", "+slave", "+sdown", "-sdown", "+switch-master"], ["PSUBSCRIBE", "*"])

    @classmethod
    def setUpClass(cls):
        cls.real = SentinelProcess()
        cls.proxies = [setup.proxy]
        for args in (["--server", cls.real.master.addr],
                     ["--sentinel", "mymaster@127.0.0.1:%d" % cls.real.port]):
            cls.proxies.append(Proxy([], args).start().wait_routes())

    @classmethod
    def tearDownClass(cls):
        for p in cls.proxies[1:]:
            p.stop()
        cls.real.stop()

    def dialogue(self, port, protocol, line):
        leave = [line[0].replace("SUB", "UNSUB")]
        got = []
        with Conn(port, protocol=protocol) as c:
            for argv in (line, ["PING"], leave + line[1:2], ["PING", "x"], leave + line[1:],
                         ["PING", "the end"]):
                c.send(encode(*argv))
            while not got or b"the end" not in got[-1]:
                got.append(c.read_raw())
        return got

    def test_the_dialogue_is_a_sentinels(self):
        for protocol in (2, 3):
            for line in self.CHANNELS:
                # A real one may have something to tell just now.
                want = [raw for raw in self.dialogue(self.real.port, protocol, line)
                        if b"message\r\n" not in raw]
                for proxy in self.proxies:
                    with self.subTest(line=line, protocol=protocol, upstream=proxy.args):
                        self.assertEqual(want, self.dialogue(proxy.port, protocol, line))
