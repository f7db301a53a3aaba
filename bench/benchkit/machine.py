"""What the kernel knows: CPU time and memory of processes, how busy the machine is."""
import os
import re
import time

HZ = float(os.sysconf("SC_CLK_TCK"))


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def alive(pids):
    return all(os.path.exists("/proc/%d" % p) for p in pids)


def cpu_times(pids):
    """(user, system, total) seconds used so far by all threads of these processes.

    The total comes in nanoseconds from schedstat. User and system come from stat, where the kernel
    splits the same total by sampling at its tick: only sums over several rounds are exact enough.
    """
    user = system = ns = 0
    for p in pids:
        stat = read("/proc/%d/stat" % p)
        if not stat:
            continue
        f = stat.rsplit(")", 1)[1].split()
        user += int(f[11])
        system += int(f[12])
        for tid in os.listdir("/proc/%d/task" % p):
            x = read("/proc/%d/task/%s/schedstat" % (p, tid)).split()
            ns += int(x[0]) if x else 0
    user, system = user / HZ, system / HZ
    return user, system, ns / 1e9 if ns else user + system


def rss_bytes(pids):
    """Exact resident memory (status is kept in per-CPU counters and lags behind)."""
    total = 0
    for p in pids:
        m = re.search(r"^Rss:\s+(\d+) kB", read("/proc/%d/smaps_rollup" % p), re.M) or re.search(
            r"^VmRSS:\s+(\d+) kB", read("/proc/%d/status" % p), re.M)
        total += int(m.group(1)) * 1024 if m else 0
    return total


def busy_and_steal():
    """Seconds of all CPUs since boot that were used, and that the hypervisor took away."""
    f = [int(x) for x in read("/proc/stat").split("\n", 1)[0].split()[1:]]
    return (f[0] + f[1] + f[2] + f[5] + f[6]) / HZ, f[7] / HZ


def wait_quiet(limit):
    """Returns when the machine is nearly idle for a moment, at the latest after limit seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before, start = busy_and_steal()[0], time.monotonic()
        time.sleep(0.1)
        if (busy_and_steal()[0] - before) / (time.monotonic() - start) < 0.25:
            return


def describe():
    model = re.search(r"^model name\s*:\s*(.*)", read("/proc/cpuinfo"), re.M)
    u = os.uname()
    return {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "kernel": "%s %s %s" % (u[0], u[2], u[4]),
            "cpus": len(os.sched_getaffinity(0)), "model": model.group(1) if model else "unknown",
            "load": read("/proc/loadavg").split()[:3]}
