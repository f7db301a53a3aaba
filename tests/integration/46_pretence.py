"""What cluster-aware and Sentinel-aware clients find when the proxy is all they know."""
import os
import re
import socket
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, BINARY, Proxy
from harness.resp import OK, Conn, Error, Map
from harness.servers import free_port, key_slot, scratch, tag_of_slot

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
