"""What is done to the servers while the load runs. A fault takes the World and its round's own random
number generator, and returns a line that says what it did to whom.

`strict` faults are those through which no client may see an error or a close. The others may break
requests to the shards that they cut off (World.load.cut), and only by the texts in `allowed`.
"""
import threading
import time

from harness.resp import OK
from harness.servers import wait_until

UNKNOWN = ("UNKNOWN",)
# What a request of a shard that stays away longer than ride_through may be answered.
AWAY = UNKNOWN + ("CLUSTERDOWN", "MASTERDOWN", "LOADING", "ERR KEYWAY", "TRYAGAIN")


class Fault:
    def __init__(self, name, function, topologies, strict=True, allowed=(), moves=False,
                 chance=1.0):
        self.name, self.function, self.topologies = name, function, topologies
        self.strict, self.allowed = strict, allowed
        self.moves = moves          # slots move: requests that need several keys may get TRYAGAIN
        self.chance = chance        # of being drawn, beside the others


class World:
    """What a fault acts upon."""

    def __init__(self, topology, proxy, load, hot_slots, quick):
        self.topology, self.proxy, self.load = topology, proxy, load
        self.hot_slots = hot_slots
        self.quick = quick          # no waiting for what the next round waits for anyway
        self.demoted = set()        # masters that are to stop being masters this round

    def shard(self, rng):
        return rng.choice(self.topology.shards())


def pause(rng, least, most):
    time.sleep(rng.uniform(least, most))


# -- unplanned deaths --------------------------------------------------------------------------

def die(world, master):
    """kill -9, and the promotion that follows."""
    t = world.topology
    ranges = t.ranges_of(master)
    world.demoted.add(t.name_of(master))
    world.load.loose(ranges)
    master.kill()
    world.load.limit(ranges, time.monotonic() + 0.05)
    return t.wait_for_promotion(ranges, master)


def kill_master(world, rng):
    master = world.shard(rng)
    new = die(world, master)
    pause(rng, 0.3, 1.5)
    world.topology.start_master_again(master)
    pause(rng, 0.5, 2.0)
    return "%s dies, %s takes over" % (world.topology.name_of(master), world.topology.name_of(new))


def hang_master(world, rng):
    """SIGSTOP until a replica has taken over, then SIGCONT."""
    t = world.topology
    master = world.shard(rng)
    ranges = t.ranges_of(master)
    world.demoted.add(t.name_of(master))
    world.load.loose(ranges)
    t.frozen.add(master)
    master.freeze()
    try:
        new = t.wait_for_promotion(ranges, master)
        world.load.limit(ranges, time.monotonic())
        pause(rng, 0.2, 2.5)
    finally:
        master.thaw()
        t.frozen.discard(master)
    pause(rng, 0.5, 2.0)
    return "%s hangs, %s takes over" % (t.name_of(master), t.name_of(new))


def pause_master(world, rng):
    """SIGSTOP and SIGCONT, too short for anybody to call it down."""
    master = world.shard(rng)
    seconds = rng.uniform(0.2, 0.9)
    world.topology.frozen.add(master)
    master.freeze()
    time.sleep(seconds)
    master.thaw()
    world.topology.frozen.discard(master)
    pause(rng, 0.3, 0.8)
    return "%s stands still for %.1f s" % (world.topology.name_of(master), seconds)


def kill_shard(world, rng, seconds=None):
    """All of its servers die; they come back with what they had acknowledged."""
    t = world.topology
    master = world.shard(rng)
    replicas = t.replicas(master)
    if getattr(t, "extra", None) is not None and t.name == "sentinel" and t.extra.alive:
        replicas.append(t.extra)
    world.load.cut(t.ranges_of(master))
    # Replicas that the others no longer hold for candidates: nobody is promoted.
    for r in replicas:
        r.kill()
    master.kill()
    seconds = seconds or rng.uniform(0.5, 4.0)
    time.sleep(seconds)
    t.start_master_again(master)
    pause(rng, 0.0, 0.5)
    for r in replicas:
        t.start_replica(r, master)
    pause(rng, 1.0, 2.5)
    return "%s and its replicas are away for %.1f s" % (t.name_of(master), seconds)


def kill_shard_long(world, rng):
    return kill_shard(world, rng, world.proxy.ride_through + 3.0)


# -- planned failover, replicas ----------------------------------------------------------------

def cluster_failover(world, rng):
    t = world.topology
    master = world.shard(rng)
    replica = rng.choice(t.replicas(master))
    world.demoted.add(t.name_of(master))
    t.failover(replica)
    pause(rng, 0.5, 1.0)
    return "%s hands over to %s" % (t.name_of(master), t.name_of(replica))


def sentinel_failover(world, rng):
    """Sentinel does not stop the old master before it promotes another: what is under way to it when
    that one is named may be answered, and lost. What is sent later may not."""
    t = world.topology
    master = t.shards()[0]
    world.demoted.add(t.name_of(master))
    world.load.loose(t.EVERYTHING)
    told = len(world.proxy.log_text())
    answer = rng.choice(t.sentinels).cmd("SENTINEL", "FAILOVER", "mymaster")
    if answer != OK:
        raise RuntimeError("SENTINEL FAILOVER answered %r" % (answer,))
    wait_until("the proxy hears who is to be master", lambda: "is to become master" in
               world.proxy.log_text()[told:], 60, 0.005)
    world.load.limit(t.EVERYTHING, time.monotonic())
    new = wait_until("another master", lambda: t.master() not in (None, master) and t.master(), 60)
    time.sleep(1.0)
    if not world.quick:  # until then it goes on being a master that nobody may write to
        wait_until("the old master is a replica", lambda: master.cmd("ROLE")[0] == b"slave", 60, 0.1)
    return "%s hands over to %s" % (t.name_of(master), t.name_of(new))


def kill_replica(world, rng):
    t = world.topology
    master = world.shard(rng)
    replica = rng.choice(t.replicas(master))
    replica.kill()
    pause(rng, 0.2, 1.0)
    t.start_replica(replica, master)
    pause(rng, 0.3, 0.8)
    return "%s dies and returns" % t.name_of(replica)


# -- slots and nodes ---------------------------------------------------------------------------

def slots_of(world, master, count, rng):
    """Neighbouring slots of a master, as many with keys among them as may be."""
    mine = [s for a, b in world.topology.ranges_of(master) for s in range(a, b + 1)]
    at = rng.randrange(max(1, len(mine) - count + 1))
    part = mine[at:at + count]
    if count == 1:
        hot = sorted(set(mine) & set(world.hot_slots))
        part = [rng.choice(hot or mine)]
    return part


def migrate(world, rng, count):
    """From the master that owns most to the one that owns least."""
    t = world.topology
    shards = sorted(t.shards(), key=lambda m: sum(b - a + 1 for a, b in t.ranges_of(m)))
    source, target = shards[-1], shards[0]
    slots = slots_of(world, source, count, rng)
    t.move(slots, source, target)
    pause(rng, 0.1, 0.4)
    return "%d slots from %d go from %s to %s" % (
        len(slots), slots[0], t.name_of(source), t.name_of(target))


def migrate_1(world, rng):
    """One slot, a few times."""
    return "; ".join(migrate(world, rng, 1) for _ in range(5))


def migrate_1000(world, rng):
    return migrate(world, rng, 1000)


def add_node(world, rng):
    t = world.topology
    if t.extra is not None and t.extra.alive:
        remove_node(world, rng)
    node = t.add()
    if t.name == "cluster":
        source = world.shard(rng)
        slots = slots_of(world, source, 150, rng)
        t.move(slots, source, node)
        pause(rng, 0.3, 0.8)
        return "an empty node takes %d slots from %d" % (len(slots), slots[0])
    wait_until("the new replica follows", lambda: t.extra.cmd("ROLE")[3] == b"connected", 20)
    pause(rng, 0.3, 0.8)
    return "a replica is added"


def remove_node(world, rng):
    t = world.topology
    if t.extra is None or not t.extra.alive:
        add_node(world, rng)
    if t.name == "cluster":
        world.demoted.add(t.name_of(t.extra))
        slots = [s for a, b in t.ranges_of(t.extra) for s in range(a, b + 1)]
        t.move(slots, t.extra, world.shard(rng))
        t.wait_epochs(30)
    t.remove_extra()
    pause(rng, 0.3, 0.8)
    return "the added node goes"


def replica_port(world, rng):
    t = world.topology
    replica = rng.choice(t.replicas(world.shard(rng)))
    t.change_port(replica)
    pause(rng, 0.5, 1.0)
    return "%s comes back on another port" % t.name_of(replica)


def master_port(world, rng):
    t = world.topology
    master = world.shard(rng)
    name = t.name_of(master)
    world.load.cut(t.ranges_of(master))
    t.change_port(master)
    time.sleep(2.5)  # a master that returns takes no writes for two seconds
    return "%s comes back on another port" % name


# -- the proxy's own connections ---------------------------------------------------------------

def client_kill_idle(world, rng):
    """Ten times, nothing in flight."""
    killed = 0
    for _ in range(10):
        world.load.stop()
        killed += world.topology.kill_proxy_connections()
        world.load.run()
        pause(rng, 0.05, 0.2)
    return "%d connections" % killed


def client_kill_busy(world, rng):
    world.load.cut([(0, 16383)])
    killed = 0
    for _ in range(10):
        killed += world.topology.kill_proxy_connections()
        pause(rng, 0.05, 0.2)
    return "%d connections" % killed


# -- two at once -------------------------------------------------------------------------------

def together(in_thread, here):
    """One in a thread, which may start no process, and one in the main thread."""
    failed = []

    def other():
        try:
            in_thread()
        except BaseException as e:  # noqa: B902 (handed on below)
            failed.append(e)
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    try:
        here()
    finally:
        thread.join(120)
    if failed:
        raise failed[0]


def two_move_and_death(world, rng):
    """Slots move between two masters while the third dies or hangs."""
    t = world.topology
    shards = t.shards()
    victim = rng.choice(shards)
    source, target = rng.sample([m for m in shards if m is not victim], 2)
    slots = slots_of(world, source, 300, rng)

    def death():
        pause(rng, 0.1, 0.3)
        die(world, victim)
        t.start_master_again(victim)
    together(lambda: t.move(slots, source, target), death)
    return "%d slots from %s to %s, %s dies" % (len(slots), t.name_of(source), t.name_of(target),
                                                t.name_of(victim))


def two_failover_and_death(world, rng):
    """One shard hands over while another one's master dies."""
    t = world.topology
    planned, victim = rng.sample(t.shards(), 2)
    replica = rng.choice(t.replicas(planned))
    world.demoted.add(t.name_of(planned))

    def death():
        die(world, victim)
        t.start_master_again(victim)
    together(lambda: t.failover(replica), death)
    pause(rng, 0.5, 1.0)
    return "%s hands over, %s dies" % (t.name_of(planned), t.name_of(victim))


def two_failover_and_replica(world, rng):
    """One shard hands over while another loses its replica: no error at all."""
    t = world.topology
    planned, other = rng.sample(t.shards(), 2)
    replica, victim = rng.choice(t.replicas(planned)), rng.choice(t.replicas(other))
    world.demoted.add(t.name_of(planned))

    def death():
        victim.kill()
        time.sleep(0.5)
        t.start_replica(victim, other)
    together(lambda: t.failover(replica), death)
    pause(rng, 0.5, 1.0)
    return "%s hands over, replica %s dies" % (t.name_of(planned), t.name_of(victim))


def two_failover_and_move(world, rng):
    """Slots move between two masters while the third hands over: no error at all."""
    t = world.topology
    planned, source, target = rng.sample(t.shards(), 3)
    slots = slots_of(world, source, 300, rng)
    replica = rng.choice(t.replicas(planned))
    world.demoted.add(t.name_of(planned))

    def move():
        # The epochs are not waited for: a hand-over changes them under way.
        t.move(slots, source, target)

    together(move, lambda: (pause(rng, 0.2, 0.5), t.failover(replica)))
    pause(rng, 0.5, 1.0)
    return "%d slots from %s to %s, %s hands over" % (
        len(slots), t.name_of(source), t.name_of(target), t.name_of(planned))


def two_death_and_kills(world, rng):
    """A master dies while the proxy's connections to all others are closed."""
    t = world.topology
    victim = world.shard(rng)
    world.load.cut([(0, 16383)])

    def death():
        die(world, victim)
        t.start_master_again(victim)

    def kills():
        for _ in range(8):
            try:
                t.kill_proxy_connections()
            except (OSError, EOFError, KeyError):
                pass  # the victim
            time.sleep(0.3)
    together(kills, death)
    pause(rng, 0.5, 1.5)
    return "%s dies, connections are closed 8 times" % t.name_of(victim)


def two_death_and_sentinel(world, rng):
    """The master and one Sentinel die."""
    t = world.topology
    sentinel = rng.choice(t.sentinels)
    sentinel.kill()
    try:
        return kill_master(world, rng) + ", a Sentinel dies too"
    finally:
        sentinel.start()


BOTH, CLUSTER, SENTINEL = ("cluster", "sentinel"), ("cluster",), ("sentinel",)
FAULTS = [
    Fault("kill-master", kill_master, BOTH, False, UNKNOWN),
    Fault("hang-master", hang_master, BOTH, False, UNKNOWN),
    Fault("pause-master", pause_master, BOTH),
    Fault("cluster-failover", cluster_failover, CLUSTER),
    Fault("sentinel-failover", sentinel_failover, SENTINEL),
    Fault("kill-replica", kill_replica, BOTH),
    Fault("migrate-1", migrate_1, CLUSTER, moves=True),
    Fault("migrate-1000", migrate_1000, CLUSTER, moves=True),
    Fault("add-node", add_node, BOTH, moves=True),
    Fault("remove-node", remove_node, BOTH, moves=True),
    Fault("replica-port", replica_port, BOTH),
    Fault("master-port", master_port, CLUSTER, False, UNKNOWN),
    Fault("kill-shard", kill_shard, BOTH, False, UNKNOWN),
    Fault("kill-shard-long", kill_shard_long, BOTH, False, AWAY, chance=0.3),
    Fault("client-kill-idle", client_kill_idle, BOTH),
    Fault("client-kill-busy", client_kill_busy, BOTH, False, UNKNOWN),
    Fault("two: move, death", two_move_and_death, CLUSTER, False, UNKNOWN, moves=True, chance=0.4),
    Fault("two: failover, death", two_failover_and_death, CLUSTER, False, UNKNOWN, chance=0.4),
    Fault("two: failover, replica", two_failover_and_replica, CLUSTER, chance=0.4),
    Fault("two: failover, move", two_failover_and_move, CLUSTER, moves=True, chance=0.4),
    Fault("two: death, client-kill", two_death_and_kills, BOTH, False, UNKNOWN, chance=0.4),
    Fault("two: death, sentinel", two_death_and_sentinel, SENTINEL, False, UNKNOWN, chance=0.4),
]
BY_NAME = {f.name: f for f in FAULTS}


def schedule(rng, topology, rounds, only=None):
    """The faults of a run, in their order: each kind once before any comes a second time, save
    the rare ones."""
    kinds = [f for f in FAULTS if topology in f.topologies and (only is None or f.name in only)]
    out = []
    while len(out) < rounds:
        turn = [f for f in kinds if only is not None or rng.random() < f.chance]
        rng.shuffle(turn)
        out += turn
    return out[:rounds]
