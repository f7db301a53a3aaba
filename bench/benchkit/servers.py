"""Starts and stops what is measured: redis-servers, clusters of them, proxies. All on loopback, on
ports the kernel says are free, in one scratch folder; everything is stopped by its own pid."""
import ctypes
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import resp
from .machine import alive

HOST = "127.0.0.1"
PACKAGES = {"redis-server": "redis-server", "redis-benchmark": "redis-tools",
            "haproxy": "haproxy", "nutcracker": "nutcracker"}


class Trouble(Exception):
    """Something that the operator has to mend; printed without a traceback."""


def program(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not path:
        raise Trouble("%s not found: install the package %s, or leave it out with --without %s"
                      % (name, PACKAGES.get(name, name), name))
    return path


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: nothing outlives bench/run


class Target:
    """Something that answers Redis commands and can be measured."""

    def __init__(self, name, port, pids, workers=1, host=HOST, cluster=None, plain=None, skip=()):
        self.name, self.host, self.port, self.pids, self.workers = name, host, port, pids, workers
        self.cluster, self.plain = cluster, plain  # what it stands before; neither: a foreign one
        self.skip = set(skip)                      # operations it cannot do

    @property
    def backend_pids(self):
        servers = self.cluster or ([self.plain] if self.plain else [])
        return [s.pid for s in servers if s.pid not in self.pids]


class Redis:
    def __init__(self, port, pid):
        self.port, self.pid = port, pid

    def client(self):
        return resp.Client(HOST, self.port)


class Servers:
    """Owner of every process and of the scratch folder."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="keyway-bench.")
        self.procs, self.foreign_pids, self.given_ports = {}, [], set()

    def free_port(self):
        while True:
            with socket.socket() as s:
                s.bind((HOST, 0))
                port = s.getsockname()[1]
            if port not in self.given_ports:
                self.given_ports.add(port)
                return port

    def spawn(self, name, cmd):
        log = os.path.join(self.dir, "%s.log" % name)
        with open(log, "wb") as out:
            p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, cwd=self.dir,
                                 preexec_fn=_die_with_parent)
        self.procs[p.pid] = p
        return p, log

    def stop(self, pids):
        """SIGTERM, then SIGKILL for what has not gone after five seconds."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for pid in [p for p in pids if alive([p])]:
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + 5
            for pid in pids:
                p = self.procs.get(pid)
                while time.monotonic() < end and (p.poll() is None if p else alive([pid])):
                    time.sleep(0.02)
        for pid in pids:
            self.procs.pop(pid, None)

    def close(self):
        self.stop(list(self.procs) + self.foreign_pids)
        shutil.rmtree(self.dir, ignore_errors=True)

    def wait_ready(self, name, port, log, p, limit=30):
        """Until a GET is answered without an error: a proxy has its cluster by then."""
        end, why = time.monotonic() + limit, ""
        while time.monotonic() < end:
            if p is not None and p.poll() is not None:
                break
            try:
                with resp.Client(HOST, port, 2) as c:
                    c("GET", "ready")
                    return
            except (OSError, resp.RespError, ValueError) as e:
                why = str(e)
                time.sleep(0.05)
        with open(log, errors="replace") as f:
            raise Trouble("%s does not answer on port %d: %s\n%s" % (name, port, why, f.read()[-800:]))

    # ---- redis-server ----

    def redis(self, cluster=False):
        port = self.free_port()
        home = os.path.join(self.dir, "redis-%d" % port)
        os.mkdir(home)
        cmd = [program("redis-server"), "--port", str(port), "--bind", HOST, "--dir", home,
               "--save", "", "--appendonly", "no", "--maxclients", "30000",
               "--tcp-backlog", "4096"]
        if cluster:
            cmd += ["--cluster-enabled", "yes", "--cluster-port", str(self.free_port()),
                    "--cluster-config-file", "nodes.conf"]
        p, log = self.spawn("redis-%d" % port, cmd)
        if not cluster:  # a node without a cluster answers GET with an error: see cluster()
            self.wait_ready("redis-server", port, log, p)
        return Redis(port, p.pid)

    def cluster(self, masters):
        """A list of masters without replicas, the slots dealt out evenly."""
        nodes = [self.redis(cluster=True) for _ in range(masters)]
        bounds = [16384 * i // masters for i in range(masters + 1)]
        for i, node in enumerate(nodes):
            node.first_slot, node.last_slot = bounds[i], bounds[i + 1] - 1
            c = self._connect_patiently(node)
            with c:
                c("CLUSTER", "ADDSLOTSRANGE", node.first_slot, node.last_slot)
                c("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        with nodes[0].client() as c:
            bus = c("CONFIG", "GET", "cluster-port")[1].decode()
        for node in nodes[1:]:
            with node.client() as c:
                c("CLUSTER", "MEET", HOST, nodes[0].port, bus)
        end = time.monotonic() + 60
        for node in nodes:
            while not self._complete(node, masters):
                if time.monotonic() > end:
                    raise Trouble("the cluster of %d masters did not form" % masters)
                time.sleep(0.1)
        return nodes

    @staticmethod
    def _connect_patiently(node):
        end = time.monotonic() + 10
        while True:
            try:
                return node.client()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    @staticmethod
    def _complete(node, masters):
        with node.client() as c:
            info = c("CLUSTER", "INFO").decode()
            lines = c("CLUSTER", "NODES").decode().splitlines()
        return ("cluster_state:ok" in info and len(lines) == masters
                and all("handshake" not in x and len(x.split()) > 8 for x in lines))

    # ---- proxies ----

    def start(self, name, cmd, port, **kw):
        p, log = self.spawn("%s-%d" % (name, port), cmd)
        self.wait_ready(name, port, log, p)
        return Target(name, port, [p.pid], **kw)

    def cluster_proxy(self, name, path, cluster, workers, skip=()):
        if not os.access(path, os.X_OK):
            raise Trouble("%s is not built: cmake --preset release && cmake --build --preset "
                          "release (or leave it out with --without %s)" % (path, name))
        port = self.free_port()
        cmd = [os.path.abspath(path), "--listen", "%s:%d" % (HOST, port), "--workers", str(workers)]
        return self.start(name, cmd + ["%s:%d" % (HOST, n.port) for n in cluster], port,
                          workers=workers, cluster=cluster, skip=skip)

    def haproxy(self, plain, workers):
        port = self.free_port()
        conf = os.path.join(self.dir, "haproxy-%d.cfg" % port)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # two a client, and some of its own
        with open(conf, "w") as f:
            f.write("global\n  nbthread %d\n  maxconn %d\n  stats timeout 1s\n"
                    "defaults\n  mode tcp\n  timeout connect 5s\n"
                    "  timeout client 10m\n  timeout server 10m\n"
                    "listen redis\n  bind %s:%d backlog 4096\n  server one %s:%d\n"
                    % (workers, min(25000, (files - 200) // 2), HOST, port, HOST, plain.port))
        return self.start("haproxy", [program("haproxy"), "-db", "-f", conf], port,
                          workers=workers, plain=plain)

    def nutcracker(self, plain):
        port, stats = self.free_port(), self.free_port()
        conf = os.path.join(self.dir, "nutcracker-%d.yml" % port)
        with open(conf, "w") as f:
            f.write("redis:\n  listen: %s:%d\n  redis: true\n  hash: fnv1a_64\n"
                    "  distribution: ketama\n  backlog: 4096\n  preconnect: true\n"
                    "  servers:\n   - %s:%d:1\n" % (HOST, port, HOST, plain.port))
        return self.start("nutcracker", [program("nutcracker"), "-c", conf, "-a", HOST,
                                         "-s", str(stats)], port, plain=plain)

    def peer_command(self, name, text, cluster, workers):
        """text with {seeds}, {port} and {workers} filled in. The command either stays (its pid is
        measured) or prints a pid as its last word and exits."""
        port = self.free_port()
        seeds = " ".join("%s:%d" % (HOST, n.port) for n in cluster)
        p, log = self.spawn("%s-%d" % (name, port), shlex.split(
            text.format(seeds=seeds, port=port, workers=workers)))
        try:
            p.wait(1.0)
        except subprocess.TimeoutExpired:
            pid = p.pid
        else:
            with open(log, errors="replace") as f:
                out = f.read()
            last = (out.split() or [""])[-1]
            if p.returncode != 0 or not last.isdigit() or not alive([int(last)]):
                raise Trouble("--peer-cmd %s ended without a pid: %s" % (name, out[-400:]))
            pid, p = int(last), None
            self.foreign_pids.append(pid)
        self.wait_ready(name, port, log, p)
        return Target(name, port, [pid], workers=workers, cluster=cluster)


def running_peer(spec):
    """name=host:port:pid, pid being one number or several joined with '+'."""
    name, where = spec.split("=", 1)
    host, port, pids = where.rsplit(":", 2)
    if not (host.startswith("127.") or host in ("localhost", "::1")):
        raise Trouble("%s: only loopback addresses are measured" % name)
    pids = [int(p) for p in pids.split("+")]
    if not alive(pids):
        raise Trouble("%s: no process %s" % (name, pids))
    return Target(name, int(port), pids, host=host)
