"""MGET, MSET, DEL, UNLINK, EXISTS, TOUCH over slots: one answer, with Redis's own semantics."""
import random
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, PONG, Error, Null, encode

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


class Split(Case):
    def setUp(self):
        setup.flush()

    def test_like_a_plain_server(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["MSET a 1 b 2 c 3 d 4 e 5", "MGET a b c d e", "MGET e d c b a",
                         "MGET a none b none2", "MGET a a a", "MGET a b a b", "EXISTS a b c none",
                         "EXISTS a a a", "EXISTS a a none b a", "TOUCH a b none a", "DEL a a",
                         "DEL a none b b", "UNLINK c none d d", "MGET a b c d e", "EXISTS a b c d e",
                         "MSET x 1 x 2 y 3 x 4", "MGET x y x", "DEL x y e", "RPUSH l 1", "HSET h f v",
                         "MGET l h x", "EXISTS l h", "MSET l s h s", "MGET l h", "DEL l h",
                         "MGET one", "DEL one", "EXISTS one", "MSET one 1", "TOUCH one", "UNLINK one"]:
                self.matches_oracle(c, o, line)

    def test_random_against_a_plain_server(self):
        rng = random.Random(20260103)
        keys = ["k%d" % i for i in range(30)]
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            batch = []
            for _ in range(scaled(1500)):
                picked = [rng.choice(keys) for _ in range(rng.randrange(1, 12))]
                name = rng.choice(["MGET", "MGET", "DEL", "UNLINK", "EXISTS", "TOUCH", "MSET", "MSET"])
                if name == "MSET":
                    picked = [x for k in picked for x in (k, rng.randrange(1000))]
                batch.append([name] + picked)
            for start in range(0, len(batch), 50):
                part = batch[start:start + 50]
                want, got = o.pipeline(part), c.pipeline(part)
                for sent, w, g in zip(part, want, got):
                    self.same_reply(encode(*sent), repr(w), repr(g))

    def test_resp3_nulls(self):
        with setup.proxy.conn(protocol=3) as c:
            c.cmd("SET", "n1", "v")
            self.expect(c, "MGET n1 n2 n3", [b"v", Null(), Null()])

    def test_1000_keys_binary_and_empty(self):
        with setup.proxy.conn() as c:
            keys = [b"m\x00%d\r\n" % i for i in range(1000)]
            values = [b"\xff%d" % i if i % 7 else b"" for i in range(1000)]
            pairs = [x for pair in zip(keys, values) for x in pair]
            self.expect(c, ["MSET"] + pairs, OK)
            self.expect(c, ["MGET"] + keys, values)
            self.expect(c, ["EXISTS"] + keys + keys[:10], 1010)
            self.expect(c, ["TOUCH"] + keys, 1000)
            self.expect(c, ["UNLINK"] + keys[:500], 500)
            self.expect(c, ["DEL"] + keys, 500)

    def test_20000_keys(self):
        n = scaled(20000)
        with setup.proxy.conn(timeout=60) as c:
            keys = ["big:%d" % i for i in range(n)]
            self.expect(c, ["MSET"] + [x for k in keys for x in (k, k)], OK)
            self.assertEqual([k.encode() for k in keys], c.cmd("MGET", *keys))
            self.expect(c, ["DEL"] + keys, n)

    def test_large_values(self):
        with setup.proxy.conn() as c:
            values = [bytes([65 + i]) * (100000 + i) for i in range(10)]
            pairs = [x for i, v in enumerate(values) for x in ("lv:%d" % i, v)]
            self.expect(c, ["MSET"] + pairs, OK)
            got = c.cmd("MGET", *["lv:%d" % i for i in range(10)])
            self.assertEqual([len(v) for v in values], [len(v or b"") for v in got])
            self.assertTrue(values == got, "values were mixed up")

    def test_order_with_neighbours(self):
        """A split command sees what its client wrote just before, on every slot."""
        with setup.proxy.conn() as c:
            for i in range(scaled(100)):
                replies = c.pipeline([
                    ("SET", "on:a", i), ("SET", "on:b", i), ("MGET", "on:a", "on:b"),
                    ("MSET", "on:a", "x%d" % i, "on:b", "y%d" % i), ("GET", "on:b"),
                    ("DEL", "on:a", "on:b"), ("EXISTS", "on:a", "on:b")])
                n = b"%d" % i
                self.assertEqual([OK, OK, [n, n], OK, b"y" + n, 2, 0], replies, "round %d" % i)

    def test_part_sent_per_node_in_one_write(self):
        """The parts reach the servers as commands of one slot each."""
        if STANDIN:
            self.skipTest("needs a cluster")
        for node in setup.cluster.masters():
            node.ok("CONFIG", "RESETSTAT")
        with setup.proxy.conn() as c:
            c.cmd("MSET", *[x for i in range(50) for x in ("pn:%d" % i, i)])
        calls = [n.command_calls("mset") for n in setup.cluster.masters()]
        self.assertTrue(all(calls), "MSET parts per master: %s" % calls)

    def test_wrong_number_of_arguments_reaches_no_server(self):
        with setup.proxy.conn() as c:
            for line in ["MSET a", "MSET a 1 b", "MSET"]:
                self.expect_error(c, line, "ERR wrong number of arguments for 'mset' command")
            self.expect(c, "EXISTS a b", 0)
            self.expect(c, "PING", PONG)


class Errors(Case):
    """If one part fails, the answer is that part's error."""

    def setUp(self):
        if STANDIN:
            self.skipTest("needs a cluster")
        setup.flush()

    def test_error_of_one_part_is_the_answer(self):
        master = setup.cluster.masters()[1]
        bad = setup.cluster.key_on(master)
        good = [setup.cluster.key_on(m) for m in setup.cluster.masters() if m is not master]
        master.ok("CONFIG", "SET", "maxmemory", "1")
        try:
            with setup.proxy.conn() as c:
                self.expect_error(c, ["MSET", good[0], "1", bad, "2", good[1], "3"], "OOM ...")
                self.expect(c, ["MGET", bad], [None])
                self.expect(c, "PING", PONG)
                want = master.cmd("SET", bad, "1")
                self.same_reply("MSET with one part refused", want,
                                c.cmd("MSET", good[1], "1", bad, "2"))
        finally:
            master.ok("CONFIG", "SET", "maxmemory", "0")

    def test_acl_error_of_one_part(self):
        """The first error in key order, word for word."""
        masters = setup.cluster.masters()
        keys = [setup.cluster.key_on(m, "acl") for m in masters]
        for m in masters[1:]:
            m.ok("ACL", "SETUSER", "default", "-mget")
        try:
            with setup.proxy.conn() as c:
                want = masters[1].cmd("MGET", keys[1])
                self.assertIsInstance(want, Error)
                self.same_reply("MGET %s" % keys, want, c.cmd("MGET", *keys))
                self.same_reply("MGET reversed", want, c.cmd("MGET", *reversed(keys)))
                self.expect(c, ["MGET", keys[0]], [None])
                self.expect(c, "PING", PONG)
        finally:
            for m in masters[1:]:
                m.ok("ACL", "SETUSER", "default", "+mget")

    def test_clients_that_leave_at_every_stage(self):
        """Kill the client before, while and after the parts of a split command are answered."""
        masters = setup.cluster.masters()
        keys = [setup.cluster.key_on(m, "leave") for m in masters]
        stream = encode("MGET", *keys * 20) + encode("MSET", *[x for k in keys for x in (k, "v")])
        with setup.proxy.conn() as other:
            for cut in list(range(1, len(stream), 37)) + [len(stream)] * 10:
                c = setup.proxy.conn()
                c.send(stream[:cut])
                if cut % 3 == 0:
                    time.sleep(0.001)
                c.reset() if cut % 2 else c.close()
            self.expect(other, "PING", PONG)
            keys = [k + ":2" for k in keys]  # what the dead left under way may still be written
            self.expect(other, ["MSET"] + [x for k in keys for x in (k, "after")], OK)
            self.expect(other, ["MGET"] + keys, [b"after"] * 3)

    def test_clients_that_leave_while_a_node_is_stuck(self):
        """One part answered, the other pending, the client gone, then the node gone: with the
        replies of nobody still to come."""
        stuck = setup.cluster.masters()[2]
        keys = [setup.cluster.key_on(m, "stuck") for m in setup.cluster.masters()]
        stuck.freeze()
        try:
            clients = []
            for i in range(30):
                c = setup.proxy.conn()
                c.send(encode("MGET", *keys) + encode("GET", keys[2]) + encode("DEL", *keys))
                clients.append(c)
            time.sleep(0.3)
            for i, c in enumerate(clients):
                c.reset() if i % 2 else c.close()
            with setup.proxy.conn() as c:
                self.expect(c, ["SET", keys[0], "others live"], OK)
                self.expect(c, "PING", PONG)
        finally:
            stuck.thaw()
        keys = [setup.cluster.key_on(m, "after") for m in setup.cluster.masters()]
        with setup.proxy.conn() as c:
            self.expect(c, ["MSET"] + [x for k in keys for x in (k, "z")], OK)
            self.expect(c, ["MGET"] + keys, [b"z"] * 3)

    def test_backend_connections_killed_with_replies_pending(self):
        """Kill the client, then the backend connection it was waiting on."""
        node = setup.cluster.masters()[0]
        key = setup.cluster.key_on(node, "pend")
        for i in range(5):
            node.freeze()
            c = setup.proxy.conn()
            c.send(encode("GET", key) * 50 + encode("MGET", key, "x", "y", "z"))
            time.sleep(0.05)
            c.reset()
            node.thaw()
            node.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with setup.proxy.conn() as c:
            self.expect(c, ["SET", key, "alive"], OK)
            self.expect(c, ["GET", key], b"alive")


class NothingThere(Case):
    def test_every_multi_key_command_with_no_node_at_all(self):
        """All nodes gone: errors or a wait, never a crash, and PING still answers."""
        if STANDIN:
            self.skipTest("needs the proxy")
        from harness.servers import free_port
        config = "backend:\n  ride_through: 500ms\n"
        with Proxy(["127.0.0.1:%d" % free_port()], config=config) as proxy:
            with proxy.conn(timeout=grace(10)) as c:
                for line in ["MGET a b c", "MSET a 1 b 2", "DEL a b", "UNLINK a b", "EXISTS a b",
                             "TOUCH a b", "MGET a", "MSET a", "MSETNX a 1 b 2", "EVAL x 2 a b",
                             "DBSIZE", "KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "SCRIPT EXISTS a"]:
                    got = c.cmd(*line.split())
                    self.assertIsInstance(got, Error, "sent %s, got %r" % (line, got))
                self.expect(c, "PING", PONG)


if __name__ == "__main__":
    unittest.main()
