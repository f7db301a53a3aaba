"""Real servers behind the proxy, as the faults see them: a cluster, or masters that Sentinels watch.

Both keep what is acknowledged through a kill -9 (the append-only file is written before the answer; only
a loss of power could take it), so that what a shard loses was lost by a promotion and by nothing else.
"""
from harness.resp import Closed
from harness.servers import SLOTS, Cluster, Server, Watched, free_port, wait_until

DURABLE = ["--appendonly", "yes", "--appendfsync", "no"]


class Shards:
    """What both topologies have in common."""

    def __init__(self):
        self.frozen = set()

    def kill_proxy_connections(self):
        """CLIENT KILL of every connection that the proxy has to any server; returns how many."""
        killed = 0
        for server in self.all_servers():
            try:
                with server.conn() as c:
                    for line in c.cmd("CLIENT", "LIST").decode("latin-1").splitlines():
                        fields = dict(f.split("=", 1) for f in line.split(" ") if "=" in f)
                        if fields["name"] == "keyway":
                            killed += c.cmd("CLIENT", "KILL", "ID", fields["id"])
            except (OSError, Closed):
                pass  # another fault of the same round took the server away
        return killed


class ChaosCluster(Shards, Cluster):
    name = "cluster"

    def __init__(self, node_timeout):
        Shards.__init__(self)
        Cluster.__init__(self, 3, 3, node_timeout, DURABLE)
        self.extra = None  # the node that add_node added
        self.ever = list(self.nodes)

    def live(self):
        return [n for n in self.nodes if n.alive and n not in self.frozen]

    all_servers = live

    def proxy_args(self):
        return {"seeds": self.seeds(3)}

    def shards(self):
        """The masters that own slots, by their first slot; without the one that was added."""
        first = {v["port"]: v["slots"][0][0] for v in self.view(self.live()[0]) if v["slots"]}
        return sorted((m for m in self.masters() if m is not self.extra),
                      key=lambda m: first[m.port])

    def ranges_of(self, master):
        return next(v["slots"] for v in self.view(master) if "myself" in v["flags"])

    def owners(self):
        return [(a, b, v["port"]) for v in self.view(self.live()[0]) for a, b in v["slots"]]

    def master_names(self):
        return {self.name_of(self.node_of_port(v["port"]))
                for v in self.view(self.live()[0]) if v["slots"]}

    def name_of(self, server):
        if server not in self.ever:
            self.ever.append(server)
        return "node %d" % (self.ever.index(server) + 1)

    def replicas(self, master):
        return self.replicas_of(master)

    def wait_for_promotion(self, ranges, dead):
        return self.wait_promoted(ranges[0][0], 60)

    def settle(self):
        """A master that died is a replica only when it has heard who follows it."""
        self.wait_ok(60)
        self.wait_epochs(30)
        wait_until("each master has a replica", lambda: all(map(self.replicas_of, self.shards())), 30)

    def move(self, slots, source, target):
        """A live migration, as redis-cli does it; nodes that do not answer are not told."""
        self.wait_epochs(30)
        new_owner = self.ids[target.port]
        for slot in slots:
            self.begin_move(slot, source, target)
            self.move_keys(slot, source, target)
            for node in [target, source]:
                node.ok("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
            for node in self.live():
                try:
                    if node not in (source, target) and node.cmd("ROLE")[0] == b"master":
                        node.cmd("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
                except (OSError, Closed):
                    pass  # it is dying, or being born

    def add(self):
        self.extra = self.add_node()
        return self.extra

    def remove_extra(self):
        """The added node, which owns nothing any more, is forgotten by all and ends."""
        for node in self.live():
            if node is not self.extra:
                node.ok("CLUSTER", "FORGET", self.ids[self.extra.port])
        self.extra.kill()
        self.nodes.remove(self.extra)
        self.extra = None

    def start_master_again(self, server):
        server.start()

    def start_replica(self, server, master):
        server.start()

    def change_port(self, node):
        """The node dies and comes back somewhere else."""
        node.kill()
        name = self.ids.pop(node.port)
        node.port = free_port()
        self.ids[node.port] = name
        node.start()


class ChaosWatched(Shards, Watched):
    name = "sentinel"
    EVERYTHING = [(0, SLOTS - 1)]

    def __init__(self, down_after):
        Shards.__init__(self)
        Watched.__init__(self, replicas=2, sentinels=3, down_after=down_after,
                         failover_timeout=10000, args=DURABLE)
        self.extra = None  # the replica that `add` added, also while it is away

    def data(self):
        return self.servers["mymaster"]

    def all_servers(self):
        return [s for s in self.data() if s.alive and s not in self.frozen] + self.live_sentinels()

    def proxy_args(self):
        return {"seeds": [], "args": ["--sentinel", "mymaster@" + self.seeds(1)]}

    def master(self, name=None):
        said = {s.master_addr(self.names[0]) for s in self.live_sentinels()}
        if len(said) != 1 or None in said or any(s.port == list(said)[0][1] for s in self.frozen):
            return None
        return Watched.master(self, name)

    def replicas(self, master):
        return [s for s in self.data() if s.alive and s is not master and s is not self.extra]

    def shards(self):
        return [wait_until("a master that Sentinels agree on", self.master, 30)]

    def ranges_of(self, master):
        return self.EVERYTHING

    def owners(self):
        return [(0, SLOTS - 1, self.shards()[0].port)]

    def master_names(self):
        return {self.name_of(self.shards()[0])}

    def name_of(self, server):
        return "server %d" % (self.data().index(server) + 1)

    def wait_for_promotion(self, ranges, dead):
        def promoted():
            return next((s for s in self.data() if s.alive and s is not dead and s is not self.extra
                         and s not in self.frozen and s.cmd("ROLE")[0] == b"master"), None)
        return wait_until("a replica was promoted", promoted, 90, 0.005)

    def settle(self):
        self.wait_ok(timeout=60)

    def start_master_again(self, server):
        """As its configuration says: a master, until a Sentinel tells it otherwise."""
        server.args = list(DURABLE)
        server.start()

    def start_replica(self, server, master):
        server.args = DURABLE + ["--replicaof", "127.0.0.1", str(master.port)]
        if server is self.extra:
            server.args += ["--replica-priority", "0"]  # so that it can always go again
        server.start()

    def add(self):
        if self.extra is None:
            self.extra = Server()
            self.data().append(self.extra)
        self.start_replica(self.extra, self.shards()[0])

    def remove_extra(self):
        self.extra.kill()

    def change_port(self, node):
        node.kill()
        node.port = free_port()
        self.start_replica(node, self.shards()[0])
