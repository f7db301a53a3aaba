"""A cluster that grows and shrinks as its operators do it, with redis-cli; and a very large one."""
import resource
import shutil
import subprocess
import time
import unittest

from harness.case import Case, Load
from harness.proxy import SANITIZER, STANDIN, Proxy, grace, scaled
from harness.resp import OK
from harness.servers import Cluster, Server, key_slot, tag_of_slot, wait_until

ALONE = True  # it looks at the clock or at memory


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs a cluster")


def redis_cli(*args, expect=0):
    done = subprocess.run(["redis-cli"] + [str(a) for a in args], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120)
    if done.returncode != expect:
        raise AssertionError("redis-cli %s: status %d\n%s" % (
            " ".join(map(str, args)), done.returncode, done.stdout.decode()[-2000:]))
    return done.stdout.decode()


class Growing(Case):
    def setUp(self):
        if not shutil.which("redis-cli"):
            self.skipTest("redis-cli is not installed")

    def test_add_reshard_and_remove_a_node(self):
        """cluster meet, reshard, rebalance, empty, forget: the clients notice nothing."""
        with Cluster(3, 0, node_timeout=15000) as cluster, \
                Proxy(cluster.seeds()).wait_start() as p, p.conn(timeout=grace(30)) as c:
            entry = cluster.nodes[1].addr
            keys = ["grow:%d" % i for i in range(scaled(2000))]
            keys += ["{%s}grow" % tag_of_slot(slot) for slot in range(20)]  # the first to move
            self.assertEqual([OK] * len(keys), c.pipeline([("SET", k, k) for k in keys]))
            with Load(p.port, clients=4, tag="grow") as load:
                node = Server(None, [], True, 15000).start()
                self.addCleanup(node.stop)
                redis_cli("--cluster", "add-node", node.addr, entry)
                new_id = node.cmd("CLUSTER", "MYID").decode()
                cluster.nodes.append(node)
                cluster.ids[node.port] = new_id
                cluster.wait_ok()
                wait_until("every node knows the others", lambda: all(
                    len(cluster.view(n)) == len(cluster.nodes) for n in cluster.nodes))
                old_id = cluster.ids[cluster.nodes[0].port]
                redis_cli("--cluster", "reshard", entry, "--cluster-from", old_id, "--cluster-to",
                          new_id, "--cluster-slots", scaled(400), "--cluster-yes")
                moved = [k for k in keys if cluster.owner(key_slot(k)) is node][:50]
                self.assertTrue(moved)
                before = node.command_calls("get")
                self.assertEqual([k.encode() for k in moved], c.pipeline(
                    [("GET", k) for k in moved]))
                self.assertGreaterEqual(node.command_calls("get") - before, len(moved))
                cluster.wait_epochs()
                # And out again: emptied, forgotten by all, switched off.
                redis_cli("--cluster", "reshard", entry, "--cluster-from", new_id, "--cluster-to",
                          old_id, "--cluster-slots", scaled(400), "--cluster-yes")
                cluster.wait_epochs()
                redis_cli("--cluster", "del-node", entry, new_id)
                cluster.nodes.remove(node)
                node.kill()
                wait_until("nobody names it", lambda: all(
                    node.port not in [v["port"] for v in cluster.view(n)] for n in cluster.nodes))
                done = load.done
                wait_until("it goes on", lambda: load.done > done + 500, grace(20))
            load.assert_no_error(self)
            load.check_counters(self, c)
            got = c.pipeline([("GET", k) for k in keys])
            self.assertEqual([], [(k, g) for k, g in zip(keys, got) if g != k.encode()][:5])
            # The proxy forgets it too.
            self.eventually("three nodes are known", lambda: b"nodes=3,masters=3" in c.cmd(
                "INFO", "keyway"), 15)

    def test_a_replica_is_added_and_takes_over(self):
        with Cluster(3, 0, node_timeout=15000) as cluster, \
                Proxy(cluster.seeds()).wait_start() as p:
            master = cluster.nodes[0]
            node = Server(None, [], True, 15000).start()
            self.addCleanup(node.stop)
            with Load(p.port, clients=3, tag="replica") as load:
                redis_cli("--cluster", "add-node", node.addr, master.addr, "--cluster-slave",
                          "--cluster-master-id", cluster.ids[master.port])
                cluster.nodes.append(node)
                cluster.ids[node.port] = node.cmd("CLUSTER", "MYID").decode()
                wait_until("all know the replica", lambda: all(
                    node in cluster.replicas_of(n) if n is master else
                    any(v["port"] == node.port and v["master"] == cluster.ids[master.port]
                        for v in cluster.view(n)) for n in cluster.live()))
                cluster.wait_ok()
                cluster.failover(node)
                time.sleep(0.3)
                cluster.wait_ok()
                redis_cli("--cluster", "del-node", node.addr, cluster.ids[master.port])
                time.sleep(0.3)
            load.assert_no_error(self)


class Hundred(Case):
    """100 masters, real ones (a sanitizer build's time goes into starting them: it gets 20)."""

    MASTERS = 20 if SANITIZER else 100

    def setUp(self):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if files != resource.RLIM_INFINITY and files < 4096:
            self.skipTest("100 masters need 4096 open files, the limit is %d" % files)

    def test_100_masters(self):
        """Every key is where it belongs; a failover is followed; connections and memory are few."""
        with Cluster(self.MASTERS, 1, node_timeout=15000) as cluster, \
                Proxy(cluster.seeds(2), workers=2).wait_start() as p, \
                p.conn(timeout=grace(60)) as c:
            # One key for each master, two for its first and last slot, found by its own ranges.
            where = {}
            for node, ranges in zip(cluster.nodes, cluster.ranges):
                for slot in (ranges[0][0], ranges[0][1], sum(ranges[0]) // 2):
                    where["{%s}" % tag_of_slot(slot)] = node
            self.assertEqual([OK] * len(where), c.pipeline([("SET", k, k) for k in where]))
            for node in cluster.nodes[:self.MASTERS]:
                mine = sorted(k.encode() for k, n in where.items() if n is node)
                self.assertEqual(mine, sorted(node.cmd("KEYS", "*")))
            self.assertEqual([k.encode() for k in where], c.cmd("MGET", *where))
            self.assertEqual(len(where), c.cmd("DBSIZE"))
            with Load(p.port, clients=4, tag="hundred") as load:
                replica = cluster.nodes[-1]
                master = cluster.nodes[0]
                self.assertEqual([replica], cluster.replicas_of(master))
                cluster.failover(replica)
                time.sleep(0.3)
            load.assert_no_error(self)
            key = next(k for k, n in where.items() if n is master)
            self.expect(c, ["SET", key, "after"], OK)
            self.assertEqual(b"after", replica.cmd("GET", key))
            # Two workers, the topology, perhaps the one that learns commands; and no leftovers.
            for node in cluster.nodes[1:self.MASTERS:20]:
                names = [f for line in node.cmd("CLIENT", "LIST").split(b"\n")
                         for f in line.split() if f.startswith(b"name=keyway")]
                self.assertLessEqual(len(names), 4, names)
            self.assertLess(p.fd_count(), 4 * (self.MASTERS + 1) + 60)
            if not SANITIZER:
                self.assertLess(p.rss_mib(), 64)


if __name__ == "__main__":
    unittest.main()
