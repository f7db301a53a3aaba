"""redis-server (or valkey-server) processes on free loopback ports: single servers and clusters.

Every process is started by this module, in a scratch folder, is stopped by its pid, and dies with
the test process (PR_SET_PDEATHSIG), so that nothing outlives a run. Start processes from the main
thread only: that signal follows the thread that started the process.
"""
import atexit
import bisect
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from .resp import Closed, Conn, Error, OK, encode, show

# The servers behind the proxy, and those it is compared with.
PROGRAM = os.environ.get("KEYWAY_TEST_SERVER") or "redis-server"

SLOTS = 16384
BUS = 10000  # a node's cluster bus listens this far above its port
# Below the kernel's ephemeral ports (32768 up), so no outgoing connection can sit on one of ours,
# and such that ports and bus ports never overlap.
PORT_MIN, PORT_MAX = 11000, 20999

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# -- scratch folder ----------------------------------------------------------------------------

_scratch = None


def scratch(name=""):
    """A folder inside this process's scratch folder, which is removed at exit. With
    KEYWAY_TEST_KEEP set it stays and its name is printed."""
    global _scratch
    if _scratch is None:
        _scratch = tempfile.mkdtemp(prefix="keyway-test-")
        if os.environ.get("KEYWAY_TEST_KEEP"):
            atexit.register(print, "kept:", _scratch)
        else:
            atexit.register(shutil.rmtree, _scratch, True)
    path = os.path.join(_scratch, name)
    os.makedirs(path, exist_ok=True)
    return path


# -- ports -------------------------------------------------------------------------------------

_port_locks = {}


def _bindable(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port():
    """A port that nobody listens on, nor on its bus port, kept for this process: each port has a
    lock file that is held until the process ends, so that runs side by side never collide."""
    folder = os.path.join(tempfile.gettempdir(), "keyway-ports-%d" % os.getuid())
    os.makedirs(folder, exist_ok=True)
    start = random.randrange(PORT_MIN, PORT_MAX + 1)
    span = PORT_MAX + 1 - PORT_MIN
    for i in range(span):
        port = PORT_MIN + (start - PORT_MIN + i) % span
        if port in _port_locks:
            continue
        fd = os.open(os.path.join(folder, str(port)), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        if _bindable(port) and _bindable(port + BUS):
            _port_locks[port] = fd
            return port
        os.close(fd)
    raise RuntimeError("no free port between %d and %d" % (PORT_MIN, PORT_MAX))


# -- hashing -----------------------------------------------------------------------------------

def _crc_table():
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return table


_CRC = _crc_table()


def key_slot(key):
    """The hash slot of a key, hash tags respected (CRC16-XMODEM mod 16384)."""
    if isinstance(key, str):
        key = key.encode()
    open_ = key.find(b"{")
    if open_ >= 0:
        close = key.find(b"}", open_ + 1)
        if close > open_ + 1:
            key = key[open_ + 1:close]
    crc = 0
    for byte in key:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[(crc >> 8) ^ byte]
    return crc % SLOTS


_slot_tags = {}


def tag_of_slot(slot):
    """A short hash tag whose slot is `slot`."""
    if not _slot_tags:
        i = 0
        while len(_slot_tags) < SLOTS:
            tag = "%x" % i
            _slot_tags.setdefault(key_slot(tag), tag)
            i += 1
    return _slot_tags[slot]


def wait_until(what, predicate, timeout=20.0, step=0.02):
    """Polls until predicate() is true and returns what it returned; fails naming `what`."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("not within %.0f s: %s" % (timeout, what))
        time.sleep(step)


# -- one server --------------------------------------------------------------------------------

class Server:
    """One process of PROGRAM. `args` are extra "--option value" words."""

    host = "127.0.0.1"
    prefix = ()  # of the command line, for a server in a network namespace

    def __init__(self, port=None, args=(), cluster=False, node_timeout=2000, conf_text=None):
        self.port = port or free_port()
        self.cluster = cluster
        self.node_timeout = node_timeout
        self.args = [str(a) for a in args]
        self.dir = scratch("redis-%d" % self.port)
        self.log_path = os.path.join(self.dir, "log")
        self.proc = None
        self._conn = None
        self._conn_lock = threading.Lock()
        if conf_text is not None:
            with open(os.path.join(self.dir, "nodes.conf"), "w") as f:
                f.write(conf_text)

    def start(self, wait=True):
        argv = [PROGRAM, "--port", str(self.port), "--bind", self.host, "--dir", self.dir,
                "--save", "", "--appendonly", "no", "--logfile", self.log_path,
                "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0",
                "--repl-ping-replica-period", "1", "--databases", "16", "--proto-max-bulk-len",
                "512mb"]
        if self.cluster:
            argv += ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                     "--cluster-node-timeout", str(self.node_timeout),
                     "--cluster-port", str(self.port + BUS),
                     "--cluster-replica-validity-factor", "0",
                     "--cluster-allow-replica-migration", "no"]
        argv += self.args
        self.proc = subprocess.Popen(list(self.prefix) + argv, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                     preexec_fn=die_with_parent)
        atexit.register(self.stop)
        if wait:
            self.wait_up()
        return self

    def wait_up(self, timeout=20.0):
        def answers():
            if self.proc.poll() is not None:
                raise AssertionError("%s on %d ended with %s: %s" % (
                    PROGRAM, self.port, self.proc.returncode, self.log_tail()))
            try:
                with self.conn(timeout=1.0) as c:
                    return not (isinstance(c.cmd("PING"), Error) and
                                c.cmd("PING").code == "LOADING")
            except (OSError, EOFError):
                return False
            except Exception:
                return False
        wait_until("%s on %d answers PING" % (PROGRAM, self.port), answers, timeout)

    def log_tail(self, size=2000):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()[-size:]
        except OSError as e:
            return str(e)

    @property
    def addr(self):
        return "%s:%d" % (self.host, self.port)

    @property
    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def conn(self, **kw):
        return Conn((self.host, self.port), **kw)

    def cmd(self, *args):
        """A command on a connection of the harness's own, reopened when it broke. Any thread."""
        for attempt in (0, 1):
            with self._conn_lock:
                try:
                    if self._conn is None:
                        self._conn = self.conn()
                    return self._conn.cmd(*args)
                except Exception:
                    if self._conn is not None:
                        self._conn.close()
                    self._conn = None
                    if attempt or not self.alive:
                        raise
        return None

    def ok(self, *args):
        answer = self.cmd(*args)
        if isinstance(answer, Error):
            raise AssertionError("%s answered %r to %s" % (self.addr, answer, show(encode(*args))))
        return answer

    def info(self, section="everything"):
        out = {}
        for line in self.cmd("INFO", section).decode("latin-1").splitlines():
            if ":" in line:
                k, v = line.split(":", 1)
                out[k] = v
        return out

    def command_calls(self, name):
        """How often the server executed a command, from its own statistics."""
        stat = self.info("commandstats").get("cmdstat_" + name.lower(), "calls=0")
        return int(stat.split("calls=")[1].split(",")[0])

    # Ends.

    def kill(self):
        """kill -9."""
        if self.alive:
            self.proc.send_signal(signal.SIGCONT)
            self.proc.kill()
            self.proc.wait()
        self._drop()

    def stop(self):
        self.kill()

    def restart(self, wait=True):
        """Starts again on the same port and folder (nodes.conf stays, data do not)."""
        self.kill()
        return self.start(wait)

    def freeze(self):
        """SIGSTOP: connections stay open, nothing answers."""
        self.proc.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.proc.send_signal(signal.SIGCONT)

    def _drop(self):
        if self._conn is not None:
            self._conn.close()
            self._conn = None


# -- a cluster ---------------------------------------------------------------------------------

def even_ranges(masters):
    """[[(first, last)], ...]: the slots dealt out evenly, one range a master."""
    bounds = [SLOTS * i // masters for i in range(masters + 1)]
    return [[(bounds[i], bounds[i + 1] - 1)] for i in range(masters)]


class Cluster:
    """n masters and r replicas (dealt round robin). The nodes are born knowing each other: their
    nodes.conf is written before they start, which spares the handshakes and gives every test
    the same layout. self.nodes holds all Servers, masters first."""

    def __init__(self, masters=3, replicas=3, node_timeout=2000, args=(), ranges=None,
                 host="127.0.0.1"):
        self.node_timeout = node_timeout
        self.host = host  # by which the nodes know each other
        self.args = list(args)
        self.ranges = ranges or even_ranges(masters)
        ports = [free_port() for _ in range(masters + replicas)]
        self.ids = {p: "%040x" % random.getrandbits(160) for p in ports}
        self.nodes = []
        for port in ports:
            self.nodes.append(Server(port, self.args, True, node_timeout,
                                     self._nodes_conf(ports, masters, port)))
        self.masters_at_start = self.nodes[:masters]

    def _nodes_conf(self, ports, masters, me):
        lines = []
        for i, port in enumerate(ports):
            role = "master" if i < masters else "slave"
            master = "-" if i < masters else self.ids[ports[i % masters]]
            epoch = i % masters + 1 if i < masters else ports.index(
                ports[i % masters]) + 1
            line = "%s %s:%d@%d %s%s %s 0 0 %d connected" % (
                self.ids[port], self.host, port, port + BUS, "myself," if port == me else "", role, master,
                epoch)
            if i < masters:
                for a, b in self.ranges[i]:
                    line += " %d-%d" % (a, b) if a != b else " %d" % a
            lines.append(line)
        lines.append("vars currentEpoch %d lastVoteEpoch 0" % masters)
        return "\n".join(lines) + "\n"

    def start(self):
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_up()
        self.wait_ok()
        return self

    def stop(self):
        for node in self.nodes:
            node.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # What the cluster thinks.

    def live(self):
        return [n for n in self.nodes if n.alive]

    def wait_ok(self, timeout=30.0, replicas=True):
        """Until every live node says cluster_state:ok, knows the same owners, and every replica's
        link to its master is up."""
        def good():
            owners = set()
            for node in self.live():
                if b"cluster_state:ok" not in node.cmd("CLUSTER", "INFO"):
                    return False
                mine = self.view(node)
                owners.add(tuple(sorted((n["id"], tuple(n["slots"])) for n in mine
                                        if n["slots"])))
                if replicas:
                    role = node.cmd("ROLE")
                    if role[0] == b"slave" and role[3] != b"connected":
                        return False
            return len(owners) == 1
        wait_until("all live nodes say cluster_state:ok and agree", good, timeout, 0.05)

    def view(self, node):
        """CLUSTER NODES of one node as dictionaries."""
        out = []
        for line in node.cmd("CLUSTER", "NODES").decode().splitlines():
            f = line.split()
            slots = [tuple(map(int, (s.split("-") * 2)[:2])) for s in f[8:] if s[0] != "["]
            out.append({"id": f[0], "port": int(f[1].split("@")[0].rsplit(":", 1)[1]),
                        "flags": f[2].split(","), "master": f[3], "epoch": int(f[6]),
                        "link": f[7], "slots": slots})
        return out

    def half_moved(self):
        """True when some live node has a slot marked as migrating or importing."""
        return any("[" in n.cmd("CLUSTER", "NODES").decode() for n in self.live())

    def node_of_port(self, port):
        return next(n for n in self.nodes if n.port == port)

    def masters(self):
        """The Servers that own slots, by the view of the first live node."""
        view = self.view(self.live()[0])
        return [self.node_of_port(n["port"]) for n in view
                if "master" in n["flags"] and "fail" not in n["flags"] and n["slots"]]

    def owner(self, key_or_slot):
        slot = key_or_slot if isinstance(key_or_slot, int) else key_slot(key_or_slot)
        for n in self.view(self.live()[0]):
            if any(a <= slot <= b for a, b in n["slots"]):
                return self.node_of_port(n["port"])
        raise AssertionError("slot %d has no owner" % slot)

    def replicas_of(self, master):
        return [self.node_of_port(n["port"]) for n in self.view(master)
                if n["master"] == self.ids[master.port] and "fail" not in n["flags"]]

    def replica_of(self, master):
        """One that lives; waited for, since it may be on its way back."""
        wait_until("%s has a replica" % master.addr, lambda: self.replicas_of(master), 20)
        return self.replicas_of(master)[0]

    def seeds(self, count=None):
        return [n.addr for n in self.nodes[:count]]

    def key_on(self, node, prefix="k", n=0):
        """A key that `node` owns now; another one for each n."""
        ranges = next(v["slots"] for v in self.view(node) if "myself" in v["flags"])
        first = [a for a, _ in ranges]
        i = found = 0
        while True:
            key = "%s%d" % (prefix, i)
            slot = key_slot(key)
            at = bisect.bisect_right(first, slot) - 1
            if at >= 0 and slot <= ranges[at][1]:
                if found == n:
                    return key
                found += 1
            i += 1

    # What a test does to it.

    def flush(self):
        for node in self.masters():
            node.ok("FLUSHALL")

    def add_node(self):
        """An empty master that owns nothing, known to all."""
        node = Server(None, self.args, True, self.node_timeout).start()
        self.ids[node.port] = node.cmd("CLUSTER", "MYID").decode()
        seed = self.live()[0]
        node.ok("CLUSTER", "MEET", "127.0.0.1", seed.port)
        self.nodes.append(node)
        want = len(self.live())
        wait_until("all nodes know the new one", lambda: all(
            sum("handshake" not in v["flags"] and "noaddr" not in v["flags"] and
                v["link"] == "connected" for v in self.view(n)) >= want
            for n in self.live()), 20)
        wait_until("the new node serves", lambda: b"cluster_state:ok" in node.cmd(
            "CLUSTER", "INFO"), 20)
        return node

    def begin_move(self, slot, source, target):
        target.ok("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source.port])
        source.ok("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target.port])

    def move_keys(self, slot, source, target, batch=100):
        while True:
            keys = source.ok("CLUSTER", "GETKEYSINSLOT", slot, batch)
            if not keys:
                return
            source.ok("MIGRATE", "127.0.0.1", target.port, "", 0, 10000, "KEYS", *keys)

    def end_move(self, slot, source, target):
        new_owner = self.ids[target.port]
        target.ok("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
        source.ok("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
        for node in self.masters():
            if node is not source and node is not target:
                node.ok("CLUSTER", "SETSLOT", slot, "NODE", new_owner)

    def wait_epochs(self, timeout=10.0):
        """Until all live nodes tell the same epochs and slots. A slot that goes back and forth
        faster than that can end with the wrong owner: a message that was under way claims it back.
        Replicas too: owner() asks the first node, which a failover may have made one."""
        def agree():
            try:
                return len({tuple(sorted((v["id"], v["epoch"], tuple(v["slots"]))
                                         for v in self.view(n) if v["slots"]))
                            for n in self.live()}) == 1
            except (OSError, Closed):
                return False  # one is dying, or being born
        wait_until("all live nodes agree on epochs and slots", agree, timeout, 0.005)

    def move_slot(self, slot, source, target):
        """A live migration of one slot, as redis-cli's reshard does it."""
        self.begin_move(slot, source, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, source, target)

    def move_slots(self, slots, source, target, stop=None):
        """Many slots, one after the other; returns how many were moved (stop() ends it early)."""
        self.wait_epochs()
        new_owner = self.ids[target.port]
        others = [n for n in self.masters() if n is not source and n is not target]
        moved = 0
        for slot in slots:
            if stop is not None and stop():
                break
            self.begin_move(slot, source, target)
            self.move_keys(slot, source, target)
            for node in [target, source] + others:
                node.ok("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
            moved += 1
        return moved

    def failover(self, replica, *how):
        """CLUSTER FAILOVER [FORCE|TAKEOVER] on a replica; returns when it calls itself master."""
        answer = replica.cmd("CLUSTER", "FAILOVER", *how)
        if answer != OK:
            raise AssertionError("CLUSTER FAILOVER answered %r" % (answer,))
        wait_until("the replica became master", lambda: replica.cmd("ROLE")[0] == b"master", 15,
                   0.005)

    def kill_master(self, node):
        """kill -9 of a master; returns one of its slots, for wait_promoted."""
        slot = next(v["slots"] for v in self.view(node) if "myself" in v["flags"])[0][0]
        node.kill()
        return slot

    def wait_promoted(self, slot, timeout=30.0):
        """The live node that calls itself the owner of `slot`, as soon as there is one."""
        def promoted():
            for node in self.live():
                for v in self.view(node):
                    if "myself" in v["flags"] and any(a <= slot <= b for a, b in v["slots"]):
                        return node
            return None
        return wait_until("a node was promoted for slot %d" % slot, promoted, timeout, 0.005)


# -- Sentinel ----------------------------------------------------------------------------------

class Sentinel(Server):
    """One redis-sentinel process, with the configuration file an operator writes; the process
    itself rewrites that file, so a restart goes on where it was."""

    def __init__(self, conf, port=None, args=()):
        super().__init__(port, args)
        self.conf_path = os.path.join(self.dir, "sentinel.conf")
        with open(self.conf_path, "w") as f:
            f.write("port %d\ndir %s\nlogfile %s\n%s" % (self.port, self.dir, self.log_path, conf))

    def start(self, wait=True):
        argv = [PROGRAM, self.conf_path, "--sentinel"] + self.args
        self.proc = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                     stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        atexit.register(self.stop)
        if wait:
            self.wait_up()
        return self

    def master_addr(self, name):
        """(host, port) by this Sentinel, or None."""
        answer = self.cmd("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    def master(self, name):
        flat = self.ok("SENTINEL", "MASTER", name)
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


class Watched:
    """Masters, each with replicas, watched by Sentinels."""

    def __init__(self, names=("mymaster",), replicas=2, sentinels=3, down_after=1000,
                 failover_timeout=10000, args=(), sentinel_extra=""):
        self.names = list(names)
        self.quorum = sentinels // 2 + 1
        self.down_after, self.failover_timeout = down_after, failover_timeout
        self.servers = {n: [Server(args=args) for _ in range(1 + replicas)] for n in names}
        conf = "".join(self.monitor_lines(n, self.servers[n][0].port) for n in names)
        self.sentinels = [Sentinel(conf + sentinel_extra) for _ in range(sentinels)]

    def monitor_lines(self, name, port):
        return ("sentinel monitor %s 127.0.0.1 %d %d\n"
                "sentinel down-after-milliseconds %s %d\n"
                "sentinel parallel-syncs %s 1\n"
                "sentinel failover-timeout %s %d\n" % (
                    name, port, self.quorum, name, self.down_after, name, name,
                    self.failover_timeout))

    def start(self, wait=True):
        for group in self.servers.values():
            for s in group:
                s.start(wait=False)
            for s in group:
                s.wait_up()
            for s in group[1:]:
                s.ok("REPLICAOF", "127.0.0.1", group[0].port)
        for s in self.sentinels:
            s.start(wait=False)
        return self.wait_up() if wait else self

    def wait_up(self):
        for s in self.sentinels:
            s.wait_up()
        for name in self.names:
            self.wait_ok(name)
        return self

    def stop(self):
        for s in self.sentinels:
            s.stop()
        for group in self.servers.values():
            for s in group:
                s.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def live_sentinels(self):
        return [s for s in self.sentinels if s.alive]

    def master(self, name=None):
        """The Server that calls itself master and that the live Sentinels agree on, or None."""
        name = name or self.names[0]
        said = {s.master_addr(name) for s in self.live_sentinels()}
        if len(said) != 1 or None in said:
            return None
        port = said.pop()[1]
        server = next((s for s in self.servers[name] if s.port == port), None)
        return server if server and server.alive and server.cmd("ROLE")[0] == b"master" else None

    def replicas(self, name=None):
        name = name or self.names[0]
        master = self.master(name)
        return [s for s in self.servers[name] if s.alive and s is not master]

    def wait_ok(self, name=None, timeout=40.0):
        """Until all live Sentinels see the same master, each other and every replica, no failover
        is under way, and the replicas' links are up."""
        name = name or self.names[0]

        def good():
            master = self.master(name)
            if master is None:
                return False
            live = [s for s in self.servers[name] if s.alive]
            for s in self.live_sentinels():
                m = s.master(name)
                if m["flags"] != "master" or int(m["num-slaves"]) < len(live) - 1 or \
                        int(m["num-other-sentinels"]) < len(self.live_sentinels()) - 1:
                    return False
                flags = [r[r.index(b"flags") + 1] for r in s.ok("SENTINEL", "REPLICAS", name)]
                if flags.count(b"slave") < len(live) - 1:
                    return False
            roles = [s.cmd("ROLE") for s in live if s is not master]
            return all(r[0] == b"slave" and r[2] == master.port and r[3] == b"connected"
                       for r in roles)
        wait_until("Sentinels and servers of %s agree" % name, good, timeout, 0.1)

    def seeds(self, count=None):
        return ",".join(s.addr for s in self.sentinels[:count])
