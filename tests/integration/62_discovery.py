"""What nodes say of their cluster, of all kinds, and where the proxy begins to ask: fake clusters."""
import threading
import time
import unittest

from harness.case import Case, in_threads
from harness.fake import FakeCluster
from harness.fake_case import FakeCase
from harness.proxy import Proxy, grace, scaled
from harness.resp import OK, PONG, Error, encode
from harness.servers import SLOTS, free_port, key_slot

cluster = proxy = None


def setUpModule():
    global cluster, proxy
    cluster, proxy = FakeCase.start()


def tearDownModule():
    FakeCase.stop()


class Topology(FakeCase):
    def test_the_highest_epoch_wins(self):
        """A node with an old view cannot turn the map back."""
        key = cluster.key_on(0, "epoch")
        old = cluster.nodes_text(cluster.nodes[2])
        slot = key_slot(key)
        cluster.nodes[2].nodes_text = old
        cluster.give(slot, 1)
        cluster.nodes[1].store[key.encode()] = b"v"
        with proxy.conn(timeout=grace(10)) as c:
            for _ in range(30):
                self.expect(c, ["GET", key], b"v")
                time.sleep(0.02)
            asked = cluster.nodes[0].calls("GET", key)
            self.assertLessEqual(asked, 3, "requests to the old owner: the map went back")

    def test_node_lines_of_all_kinds(self):
        """Host names, extra fields, noaddr, handshake, failed replicas, IPv6, no bus port: what is not
        usable is left out, the rest routes."""
        extra = (
            "%040x 127.0.0.1:1@10001,host.example,shard-id=abc slave,fail %s 0 0 9 disconnected\n"
            "%040x :0@0 slave,noaddr %s 0 0 9 disconnected\n"
            "%040x 127.0.0.1:2@10002 handshake - 0 0 0 connected\n"
            "%040x fd01::85:14:243:18:6379@16379,h6 slave %s 0 0 9 connected\n"
            "%040x 127.0.0.1:3 slave %s 0 0 9 connected\n") % (
                1, cluster.nodes[0].id, 2, cluster.nodes[0].id, 3, 4, cluster.nodes[1].id, 5,
                cluster.nodes[1].id)
        for node in cluster.nodes[:3]:
            node.nodes_text = cluster.nodes_text(node).replace("\n", "\n" + extra, 1)
        cluster.nodes[0].reset_all()
        time.sleep(0.5)
        with proxy.conn() as c:
            for i in range(3):
                self.expect(c, ["SET", cluster.key_on(i, "lines"), "v"], OK)

    def test_answers_that_are_no_map(self):
        """Garbage, an error, nothing, an empty map: the old map serves on."""
        for text in ("", "garbage", "a b c\n" * 50, "\x00" * 100, "%040x x y z\n" % 1):
            for node in cluster.nodes[:3]:
                node.nodes_text = text
            cluster.nodes[1].reset_all()
            time.sleep(0.3)
            with self.subTest(text[:20]), proxy.conn() as c:
                for i in range(3):
                    self.expect(c, ["SET", cluster.key_on(i, "nomap"), "v"], OK)
        for node in cluster.nodes[:3]:
            node.nodes_text = None
            node.rule("CLUSTER", b"-ERR unknown command 'CLUSTER'\r\n")
        cluster.nodes[1].reset_all()
        time.sleep(0.3)
        with proxy.conn() as c:
            for i in range(3):
                self.expect(c, ["SET", cluster.key_on(i, "nomap"), "v"], OK)

    def test_1000_forced_refreshes_under_traffic(self):
        stop = threading.Event()

        def traffic(i):
            with proxy.conn(timeout=grace(20)) as c:
                while not stop.is_set():
                    replies = c.pipeline([("SET", "fr:%d" % k, "v") for k in range(30)])
                    bad = [r for r in replies if r != OK]
                    if bad:
                        raise AssertionError("SET under refreshes: %r" % (bad[:2],))
        errors = []

        def run():
            try:
                in_threads(3, traffic)
            except BaseException as e:  # noqa: B902
                errors.append(e)
        t = threading.Thread(target=run, daemon=True)
        t.start()
        for i in range(scaled(200)):
            cluster.give(i * 50 % SLOTS, i % 3)
            time.sleep(0.01)
        stop.set()
        t.join()
        if errors:
            raise errors[0]

    def test_a_slot_that_no_node_claims(self):
        """It fails after a refresh or two, not after the whole bound."""
        key = cluster.key_on(0, "unclaimed")
        slot = key_slot(key)
        top = max(cluster.epoch) + 1
        cluster.epoch[0] = top
        cluster.owner[slot] = -1
        refuse = b"-CLUSTERDOWN Hash slot not served\r\n"
        for node in cluster.nodes[:3]:
            node.rule("GET", refuse, key=key)
        with proxy.conn(timeout=grace(10)) as c:
            self.eventually("an error", lambda: isinstance(c.cmd("GET", key), Error))
            start = time.monotonic()
            self.expect_error(c, ["GET", key], "CLUSTERDOWN ...")
            self.assertLess(time.monotonic() - start, grace(1.5))
            self.expect(c, ["SET", cluster.key_on(1, "claimed"), "v"], OK)


    def test_a_slot_that_is_nobodys_for_a_moment(self):
        """A map of answers from before and after a move lacks it: the next ones are waited for."""
        config = "topology:\n  refresh_per_s: 1\n  refresh: 1s\n"
        with FakeCluster(3) as torn, Proxy(torn.seeds(), config=config).wait_start() as p, \
                p.conn(timeout=grace(20)) as c:
            key = torn.key_on(0, "torn")
            slot = key_slot(key)
            rule = torn.nodes[0].rule("SET", b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
                                      key=key)
            c.send(encode("SET", key, "1"))
            self.eventually("it was refused", lambda: rule.hits)
            torn.epoch[0] = max(torn.epoch) + 1
            torn.owner[slot] = -1
            self.eventually("the map has no owner for it",
                            lambda: " 1 slots without an owner" in p.log_text(), 10)
            torn.epoch[0] += 1
            torn.owner[slot] = 0
            torn.nodes[0].clear()
            self.assertEqual(OK, c.read())


class Start(Case):
    def test_some_seeds_are_dead(self):
        dead = ["127.0.0.1:%d" % free_port() for _ in range(2)]
        with FakeCluster(3) as c3:
            with Proxy(dead + [c3.nodes[1].addr]).wait_start() as p, p.conn() as c:
                for i in range(20):
                    self.expect(c, ["SET", "seed:%d" % i, i], OK)

    def test_all_seeds_are_dead_and_come_up_later(self):
        late = FakeCluster(3)
        with Proxy(late.seeds(), config="backend:\n  ride_through: 1000ms\n") as p:
            with p.conn(timeout=grace(10)) as c:
                self.expect(c, "PING", PONG)
                self.assertIsInstance(c.cmd("GET", "x"), Error)
                late.start()
                try:
                    self.eventually("keys are served", lambda: not isinstance(
                        c.cmd("GET", "x"), Error), 5)
                finally:
                    late.stop()

    def test_a_seed_that_accepts_and_never_answers(self):
        import socket
        mute = socket.socket()
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        with FakeCluster(3) as c3:
            with Proxy(["127.0.0.1:%d" % mute.getsockname()[1], c3.nodes[0].addr]) as p:
                with p.conn(timeout=grace(15)) as c:
                    self.expect(c, "SET x 1", OK)
        mute.close()

    def test_a_name_that_does_not_resolve(self):
        with FakeCluster(3) as c3:
            with Proxy(["no-such-host.invalid:7000", c3.nodes[0].addr]) as p:
                with p.conn(timeout=grace(30)) as c:
                    self.expect(c, "SET x 1", OK)

    def test_name_as_a_seed(self):
        with FakeCluster(3) as c3:
            with Proxy(["localhost:%d" % c3.nodes[0].port]).wait_start() as p, p.conn() as c:
                self.expect(c, "SET x 1", OK)

    def test_the_entry_node_dies_and_another_shard_moves(self):
        """The map is refreshed from all known nodes, not only from the seed."""
        with FakeCluster(3) as c3:
            with Proxy([c3.nodes[0].addr]).wait_start() as p, p.conn(timeout=grace(10)) as c:
                key = c3.key_on(1, "moves")
                self.expect(c, ["SET", key, "v"], OK)
                c3.nodes[0].stop()
                c3.nodes[2].store[key.encode()] = b"w"
                c3.give(key_slot(key), 2)
                self.expect(c, ["GET", key], b"w")
                time.sleep(grace(1))
                before = c3.nodes[1].calls("GET", key)
                self.expect(c, ["GET", key], b"w")
                self.assertEqual(before, c3.nodes[1].calls("GET", key), "the new map is known")

    def test_restarted_everywhere_with_new_addresses(self):
        """All known addresses are dead, only the seed leads to the new ones."""
        old, new = FakeCluster(2), FakeCluster(2)
        new.nodes[0].port = old.nodes[0].port
        old.start()
        with Proxy([old.nodes[0].addr]).wait_start() as p, p.conn(timeout=grace(15)) as c:
            self.expect(c, ["SET", old.key_on(1), "v"], OK)
            old.stop()
            new.epoch = [50, 51]
            new.start()
            try:
                self.eventually("all keys are served", lambda: all(
                    c.cmd("SET", "na:%d" % i, i) == OK for i in range(10)), 20)
            finally:
                new.stop()


class Many(Case):
    def test_many_nodes_many_threads_many_files(self):
        """30 nodes, 8 workers, file descriptors above 1024."""
        with FakeCluster(30) as c30:
            with Proxy(c30.seeds()[:3], workers=8).wait_start() as p:
                conns = [p.conn(timeout=grace(20)) for _ in range(scaled(1200))]
                for i, c in enumerate(conns):
                    c.send(encode("SET", "many:%d" % i, i) + encode("GET", "many:%d" % i))
                for i, c in enumerate(conns):
                    self.assertEqual([OK, b"%d" % i], [c.read(), c.read()])
                for c in conns:
                    c.close()
                self.eventually("files are closed", lambda: p.fd_count() < 1000)


if __name__ == "__main__":
    unittest.main()
