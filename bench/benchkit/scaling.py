"""Does a request cost more when there are more masters or more clients?"""
import socket
import statistics
import time

from . import load, resp
from .load import Cell

MASTERS = (3, 30)
# label, active clients, further connections that are open and silent
CROWDS = (("50 clients", 50, 0), ("50 clients + 4,950 idle", 50, 4950), ("5,000 clients", 5000, 0))
PIPES = (1, 16)
LONG = 8  # how much longer than the others the long run with many clients is


def open_idle(target, count):
    socks = []
    for _ in range(count):
        c = resp.Client(target.host, target.port)
        c("GET", resp.key_name(1))
        socks.append(c)
    return socks


def measure(clusters, start_all, stop, a, say):
    """clusters: masters -> cluster; start_all(cluster) -> targets. Returns a list of rows."""
    load.raise_file_limit(14000)
    rows = []
    for masters in MASTERS:
        targets = start_all(clusters[masters])
        load.fill(targets, 3)
        for t in targets:
            load.check(t, 3, {"get"})
        for label, clients, idle in CROWDS:
            if masters != MASTERS[0] and label != CROWDS[0][0]:
                continue  # one thing at a time
            crowd = {t.name: open_idle(t, idle) for t in targets}
            for pipe in PIPES:
                runs = {t.name: [] for t in targets}
                cell = Cell("get", pipe, clients=clients)
                for i in range(a.rounds):
                    for t in targets[i % len(targets):] + targets[:i % len(targets)]:
                        runs[t.name].append(run(t, cell, a))
                rows.append(row(masters, label, pipe, runs, a))
                if clients <= 500:
                    count_calls(targets, cell, rows[-1])
                say("scaling %s" % rows[-1])
            for socks in crowd.values():
                for c in socks:
                    c.__exit__()
            time.sleep(0.5)
        for t in targets:
            stop(t.pids)
    return rows


def run(target, cell, a):
    """One measured run. Many clients spend much of a run on connecting, which is no part of the
    question: then the cost is that of a long run less that of one which hardly does more."""
    n = int(cell.first_guess() * a.secs)
    if cell.clients <= 500:
        return load.measured(target, cell, n)
    first = cell.clients * cell.pipe
    short = load.measured(target, cell, first)
    long = load.measured(target, cell, first + n * LONG)
    if "error" in short or "error" in long:
        return short if "error" in short else long
    spent = long["total_us"] * long["requests"] - short["total_us"] * short["requests"]
    long.update(total_us=spent / (long["requests"] - short["requests"]),
                foreign=max(short["foreign"], long["foreign"]))
    return long


def count_calls(targets, cell, into):
    """System calls per request, in runs of their own: what more masters cost everybody, since the
    requests of a turn are spread over more connections."""
    count = load.call_counters().get("perf stat")
    for t in targets if count else ():
        seen = [count(t, load.command(t, cell, 50000 * cell.pipe))[0] for _ in range(3)]
        seen = [x for x in seen if x]
        into["cpu"][t.name]["calls"] = statistics.median(seen) if seen else None


def row(masters, label, pipe, runs, a):
    out = {"masters": masters, "clients": label, "pipe": pipe, "cpu": {}}
    for name, rs in runs.items():
        good = [r for r in rs if "error" not in r]
        quiet = [r for r in good if load.is_quiet(r, a.max_foreign)]
        used = quiet or good
        out["cpu"][name] = {
            "total_us": statistics.median(r["total_us"] for r in used) if used else None,
            "calls": None,
            "quiet": len(quiet), "rounds": len(rs),
            "error": next((r["error"] for r in rs if "error" in r), None)}
    return out
