"""The main table: every cell on every target, in interleaved rounds."""
import math
import statistics
import time

from . import load, machine
from .load import Cell

# Student's t for a two-sided 95 % interval, by degrees of freedom; the last one serves beyond.
T95 = [0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13,
       2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04]


def all_cells(quick):
    cells = [Cell(op, pipe) for pipe in (1, 16, 64) for op in ("get", "set")]
    cells += [Cell("mget", 1), Cell("mset", 1)]
    if not quick:
        cells += [Cell(op, pipe, 1024) for pipe in (1, 16, 64) for op in ("get", "set")]
        cells += [Cell("get", 1, 100 * 1024), Cell("set", 1, 100 * 1024)]
    return cells


class Matrix:
    """The runs of one number of workers. runs[cell][target] is a list with one entry a round."""

    def __init__(self, targets, cells, a, say):
        self.targets, self.cells, self.a, self.say = targets, cells, a, say
        self.runs = {c.name: {t.name: [] for t in targets} for c in cells}
        self.rate, self.calls = {}, {}

    def wanted(self, cell):
        """Quiet rounds asked for: pipeline 1 is where small differences have to be told apart."""
        return self.a.p1_rounds if cell.pipe == 1 and cell.size == 3 and cell.op in (
            "get", "set") else self.a.rounds

    def able(self, cell):
        return [t for t in self.targets if cell.op not in t.skip]

    def quiet_rounds(self, cell):
        lists = [self.runs[cell.name][t.name] for t in self.able(cell)]
        return sum(all(load.is_quiet(r, self.a.max_foreign) for r in rnd) for rnd in zip(*lists))

    def measure(self, deadline):
        for size in sorted({c.size for c in self.cells}):
            mine = [c for c in self.cells if c.size == size and self.able(c)]
            load.fill(self.targets, size)
            for t in self.targets:
                load.check(t, size, {c.op for c in mine})
            rounds = 0
            while mine and time.monotonic() < deadline:
                for c in mine:
                    self.round(c, rounds)
                rounds += 1
                mine = [c for c in mine if self.quiet_rounds(c) < self.wanted(c)
                        and rounds < self.wanted(c) * self.a.patience]

    def round(self, cell, number):
        for t in self.able(cell):
            rate = self.rate.get((t.name, cell.name)) or cell.first_guess()
            n = int(max(rate * self.a.secs, 3 * cell.pipe * cell.clients))
            r = load.measured(t, cell, n)
            self.runs[cell.name][t.name].append(r)
            if "error" in r:
                self.say("%d %-16s %-11s %s" % (number, cell.name, t.name, r["error"]))
                continue
            self.rate[t.name, cell.name] = r["rps"]
            self.say("%d %-16s %-11s %8.0f/s %6.2f us/request, p99 %.3f ms, foreign %.2f" % (
                number, cell.name, t.name, r["rps"], r["total_us"], r["p99"],
                r["foreign"] + r["steal"]))

    def count_calls(self, rounds):
        """System calls per request at pipeline 1: medians of short runs of their own."""
        cell, counters, seen = Cell("get", 1), load.call_counters(), {}
        if not counters:
            self.say("calls: neither perf nor strace can be used here; not measured")
        for _ in range(rounds):
            for how, count in counters.items():
                for t in self.targets:
                    machine.wait_quiet(2)
                    calls, error = count(t, load.command(t, cell, 30000))
                    self.say("calls %s %-11s %s" % (how, t.name, error or "%.3f" % calls))
                    if calls:
                        seen.setdefault(how, {}).setdefault(t.name, []).append(calls)
        self.calls = {how: {n: statistics.median(x) for n, x in by.items()}
                      for how, by in seen.items()}

    # ---- figures ----

    def summary(self, cell, name):
        """Medians over the quiet rounds; over all rounds, and marked so, when none was quiet."""
        runs = [r for r in self.runs[cell][name] if "error" not in r]
        quiet = [r for r in runs if load.is_quiet(r, self.a.max_foreign)]
        used = quiet or runs
        if not used:
            return None
        s = {k: statistics.median(r[k] for r in used) for k in (
            "rps", "p50", "p99", "p999", "total_us", "backend_us", "load_us", "cores", "foreign")}
        user, system = sum(r["user_s"] for r in used), sum(r["sys_s"] for r in used)
        share = user / (user + system) if user + system else 0.5
        s.update(user_us=s["total_us"] * share, sys_us=s["total_us"] * (1 - share),
                 quiet=len(quiet), rounds=len(self.runs[cell][name]))
        return s

    def interval(self, cell, name, baseline):
        """(ratio, low, high, n): the mean ratio of total CPU per request to the baseline's and its
        95 % interval, from rounds in which both ran while the machine was quiet. The mean is
        geometric: t on logarithms, so that a/b and b/a tell the same story."""
        logs = [math.log(x["total_us"] / b["total_us"])
                for x, b in zip(self.runs[cell][name], self.runs[cell][baseline])
                if load.is_quiet(x, self.a.max_foreign) and load.is_quiet(b, self.a.max_foreign)]
        if len(logs) < 3:
            return None
        n, mean = len(logs), statistics.mean(logs)
        half = T95[min(n - 1, len(T95) - 1)] * statistics.stdev(logs) / math.sqrt(n)
        return math.exp(mean), math.exp(mean - half), math.exp(mean + half), n
