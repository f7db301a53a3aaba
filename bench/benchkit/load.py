"""Drives load through one target with redis-benchmark and weighs what the target spent on it."""
import re
import resource
import shutil
import subprocess
import tempfile
import time

from . import machine, resp
from .servers import Trouble, program

KEYS = 100000
BIG_KEYS = 500  # of values above BIG_VALUE, so that the servers stay small
BIG_VALUE = 4096
RUN_LIMIT = 60  # seconds after which a run is stopped and counts as failed


class Cell:
    """One kind of work."""

    def __init__(self, op, pipe, size=3, clients=50):
        self.op, self.pipe, self.size, self.clients = op, pipe, size, clients
        text = "%d KiB" % (size // 1024) if size >= 1024 else "%d B" % size
        many = op in ("mget", "mset")
        self.name = "%s%s %s P%d" % (op.upper(), " of 10" if many else "", text, pipe)
        if clients != 50:
            self.name += " c%d" % clients

    @property
    def keys(self):
        return KEYS if self.size <= BIG_VALUE else BIG_KEYS

    def first_guess(self):
        """Requests per second, until a run has told."""
        if self.size > BIG_VALUE:
            return 4000
        if self.op in ("mget", "mset"):
            return 12000
        return 30000 if self.pipe == 1 else 200000


def command(target, cell, requests):
    cmd = [program("redis-benchmark"), "-h", target.host, "-p", str(target.port),
           "-c", str(cell.clients), "-n", str(requests), "-P", str(cell.pipe),
           "-d", str(cell.size), "-r", str(cell.keys), "--precision", "3"]
    if cell.op == "mget":
        return cmd + ["MGET"] + ["key:__rand_int__"] * 10
    return cmd + ["-t", cell.op]


def parse(out):
    """Figures of redis-benchmark's report, or None."""
    done = re.search(r"(\d+) requests completed in", out)
    rate = re.search(r"throughput summary: ([\d.]+)", out)
    last = re.search(r"avg\s+min\s+p50\s+p95\s+p99\s+max\s+" + r"([\d.]+)\s+" * 5 + r"([\d.]+)", out)
    if not done or not rate or not last:
        return None
    r = {"requests": int(done.group(1)), "rps": float(rate.group(1)), "p50": float(last.group(3)),
         "p99": float(last.group(5)), "p999": float(last.group(6))}
    for percent, ms in re.findall(r"^([\d.]+)% <= ([\d.]+) milliseconds \(cumulative", out, re.M):
        if float(percent) >= 99.9:
            r["p999"] = float(ms)
            break
    return r


def drive(cmd):
    """(report, error)"""
    try:
        p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=RUN_LIMIT, text=True, errors="replace")
    except subprocess.TimeoutExpired:
        return None, "not finished after %d s" % RUN_LIMIT
    error = re.search(r"Error from server: (.*)|Error: (.*)", p.stdout)
    r = parse(p.stdout)
    if error or p.returncode != 0 or r is None or not r["requests"]:
        return None, (error.group(0) if error else p.stdout[-200:].replace("\n", " | "))
    return r, None


def measured(target, cell, requests, quiet_wait=2.0):
    """One run: redis-benchmark's figures and the CPU time of everybody involved."""
    machine.wait_quiet(quiet_wait)
    busy0, steal0 = machine.busy_and_steal()
    self0, kids0 = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    proxy0, back0 = machine.cpu_times(target.pids), machine.cpu_times(target.backend_pids)
    wall0 = time.monotonic()
    r, error = drive(command(target, cell, requests))
    wall = time.monotonic() - wall0
    proxy1, back1 = machine.cpu_times(target.pids), machine.cpu_times(target.backend_pids)
    self1, kids1 = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    busy1, steal1 = machine.busy_and_steal()
    if error:
        return {"error": error}
    n = r["requests"]
    load = (kids1.ru_utime - kids0.ru_utime) + (kids1.ru_stime - kids0.ru_stime)
    proxy, back = proxy1[2] - proxy0[2], back1[2] - back0[2]
    ours = proxy + back + load + (self1 - self0)
    r.update(wall=wall, total_us=proxy / n * 1e6, user_s=proxy1[0] - proxy0[0],
             sys_s=proxy1[1] - proxy0[1], backend_us=back / n * 1e6, load_us=load / n * 1e6,
             cores=proxy / wall, foreign=max(0.0, busy1 - busy0 - ours) / wall,
             steal=(steal1 - steal0) / wall)
    return r


def is_quiet(run, limit):
    return "error" not in run and run["foreign"] + run["steal"] <= limit


# ---- data ----

def fill(targets, size):
    """Gives every key that a cell of this size touches a value of this size, and nothing else."""
    keys = [resp.key_name(i) for i in range(KEYS if size <= BIG_VALUE else BIG_KEYS)]
    value, done = b"x" * size, []
    for t in targets:
        where = t.cluster or t.plain or t
        if any(where is d for d in done):
            continue
        done.append(where)
        if t.cluster:
            for node in t.cluster:
                with node.client() as c:
                    c("FLUSHALL")
                    c.fill([k for k in keys if node.first_slot <= resp.slot(k) <= node.last_slot],
                           value)
        elif t.plain:
            with t.plain.client() as c:
                c("FLUSHALL")
                c.fill(keys, value)
        else:
            with resp.Client(t.host, t.port) as c:
                c.fill(keys, value)


def check(target, size, ops):
    """A wrong answer must not be measured: values are there, through the target, in full."""
    keys = [resp.key_name(i) for i in range(10)]
    value = b"x" * size
    try:
        with resp.Client(target.host, target.port) as c:
            got = [c("GET", k) for k in keys]
            if "mget" in ops and "mget" not in target.skip:
                got += c("MGET", *keys)
    except (OSError, resp.RespError) as e:
        raise Trouble("%s does not answer rightly: %s" % (target.name, e))
    for x in got:
        if x != value:
            raise Trouble("%s answers with a wrong value: %r" % (target.name, (x or b"nil")[:40]))


# ---- system calls ----

def _perf_calls(target, cmd):
    with tempfile.NamedTemporaryFile("r") as f:
        r, error = drive([shutil.which("perf"), "stat", "-x,", "-o", f.name, "-e",
                          "raw_syscalls:sys_enter", "-p", ",".join(map(str, target.pids)), "--"]
                         + cmd)
        m = re.search(r"^(\d+),", f.read(), re.M)
    return (int(m.group(1)) / r["requests"], None) if r and m else (None, error or "perf counts nothing")


def _strace_calls(target, cmd):
    with tempfile.NamedTemporaryFile("r") as f:
        pids = [x for p in target.pids for x in ("-p", str(p))]
        tracer = subprocess.Popen([program("strace"), "-c", "-f", "-o", f.name] + pids,
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.7)
        r, error = drive(cmd)
        tracer.send_signal(2)
        tracer.wait(10)
        m = re.search(r"^100\.00\s+\S+\s+(?:\S+\s+)?(\d+)(?:\s+\d+)?\s+total", f.read(), re.M)
    return (int(m.group(1)) / r["requests"], None) if r and m else (None, error or "no total")


def call_counters():
    """name -> function(target, command) -> (system calls per request, error).

    perf counts without slowing the target: what happens in a run like the others, batching and
    luck included. strace slows it until it is what everybody waits for, so that it always finds
    work in batches: what its structure needs, and the steadier figure of the two.
    """
    out, perf = {}, shutil.which("perf")
    if perf and subprocess.run([perf, "stat", "-e", "raw_syscalls:sys_enter", "true"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        out["perf stat"] = _perf_calls
    if shutil.which("strace"):
        out["strace -c"] = _strace_calls
    return out


def raise_file_limit(want):
    """Files this process and its children may open; returns what it got."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((max(want, soft), max(want, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
