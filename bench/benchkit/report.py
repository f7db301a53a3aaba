"""Markdown tables of what was measured."""


def number(x, digits=2):
    return "-" if x is None else "%.*f" % (digits, x)


def table(title, note, head, rows):
    out = ["", "### " + title, ""] + ([note, ""] if note else [])
    out += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return out + ["| " + " | ".join(r) + " |" for r in rows]


def mib(x):
    return "-" if x is None else "%.1f" % (x / (1 << 20))


def head(info, a):
    return ["## keyway bench", "",
            "%s; %s; %d CPUs (%s); load at start %s." % (
                info["date"], info["kernel"], info["cpus"], info["model"], " ".join(info["load"])),
            "Rounds asked for: %d (pipeline 1, 3 B: %d) of %.2f s; a round counts while strangers "
            "use at most %.2f CPUs. Baseline: %s. `~`: no round was quiet. `-`: not measured." % (
                a.rounds, a.p1_rounds, a.secs, a.max_foreign, a.baseline),
            "direct, haproxy and nutcracker have one plain server behind them, the others a "
            "cluster of 3 masters."]


class MatrixReport:
    def __init__(self, m, baseline):
        self.m, self.baseline = m, baseline
        self.names = [t.name for t in m.targets]
        self.proxies = [n for n in self.names if n != "direct"]
        self.sums = {(c.name, n): m.summary(c.name, n) for c in m.cells for n in self.names}

    def value(self, cell, name, key, digits=2, ratio=False):
        s = self.sums[cell, name]
        if s is None:
            return "error" if self.m.runs[cell][name] else "-"
        text = number(s[key], digits) + ("" if s["quiet"] else "~")
        base = self.sums.get((cell, self.baseline)) if ratio else None
        return text + (" (%.2f)" % (s[key] / base[key]) if base and base[key] else "")

    def rows(self, names, f):
        return [[c.name] + [f(c.name, n) for n in names] for c in self.m.cells]

    def lines(self, workers):
        w = "%d worker%s" % (workers, "" if workers == 1 else "s")
        rel = "In brackets: divided by %s's." % self.baseline
        px = ["cell"] + self.proxies
        out = table("CPU microseconds per request of the proxy, %s" % w,
                    "User and system together, medians. " + rel, px,
                    self.rows(self.proxies, lambda c, n: self.value(c, n, "total_us", ratio=True)))
        out += table("User-mode CPU microseconds per request of the proxy, %s" % w, rel, px,
                     self.rows(self.proxies, lambda c, n: self.value(c, n, "user_us", ratio=True)))
        out += table("System CPU microseconds per request of the proxy, %s" % w, rel, px,
                     self.rows(self.proxies, lambda c, n: self.value(c, n, "sys_us", ratio=True)))
        out += table("Requests per second, %s" % w, "", ["cell"] + self.names,
                     self.rows(self.names, lambda c, n: self.value(c, n, "rps", 0)))
        out += table("Latency in milliseconds, p50 / p99 / p99.9, %s" % w, "",
                     ["cell"] + self.names, self.rows(self.names, lambda c, n: " / ".join(
                         self.value(c, n, k) for k in ("p50", "p99", "p999"))))
        out += table("CPU microseconds per request of the servers behind, %s" % w, "", px,
                     self.rows(self.proxies, lambda c, n: self.value(c, n, "backend_us")))
        out += self.calls() + self.intervals(w) + self.noise(w)
        return out

    def calls(self):
        if not self.m.calls:
            return []
        rows = []
        for n in self.names:
            row = [n]
            for by in self.m.calls.values():
                x, base = by.get(n), by.get("bareloop")
                row.append(number(x, 3) + (" (%.2f)" % (x / base) if x and base else ""))
            rows.append(row)
        return table("System calls per request, GET 3 B P1",
                     "In brackets: divided by the bare loop's.",
                     ["target"] + list(self.m.calls), rows)

    def intervals(self, w):
        rows = []
        for c in self.m.cells:
            if c.pipe != 1 or c.size != 3 or c.op not in ("get", "set") or \
                    self.baseline not in self.proxies:
                continue
            for n in self.proxies:
                x = self.m.interval(c.name, n, self.baseline) if n != self.baseline else None
                if x:
                    rows.append([c.name, n, "%.3f" % x[0], "%.3f to %.3f" % x[1:3], str(x[3])])
        return table("Pipeline 1, total CPU divided by %s's, 95 %% interval, %s" % (self.baseline, w),
                     "", ["cell", "target", "ratio", "interval", "quiet rounds"],
                     rows) if rows else []

    def noise(self, w):
        return table("Quiet rounds of all rounds, %s" % w, "", ["cell"] + self.names, self.rows(
            self.names, lambda c, n: "-" if self.sums[c, n] is None else "%d/%d" % (
                self.sums[c, n]["quiet"], self.sums[c, n]["rounds"])))


def two_workers(one, two):
    """What a second worker costs: CPU per request with two, divided by that with one."""
    names = [n for n in two.proxies if n in one.proxies]
    rows = []
    for c in two.m.cells:
        row = [c.name]
        for n in names:
            x, y = one.sums.get((c.name, n)), two.sums[c.name, n]
            row.append("%.2f" % (y["total_us"] / x["total_us"]) if x and y and x["total_us"] else "-")
        rows.append(row)
    return table("CPU per request with two workers divided by that with one", "",
                 ["cell"] + names, rows)


def memory(res):
    rows = []
    for name, r in res.items():
        c, l, b = r["connections"], r["load"], r["burst"]
        errors = "; ".join(x["error"] for x in (c, l, b) if "error" in x)
        back = "%.0f s" % c["back_after"] if "back_after" in c else "no"
        rows.append([name, str(r["workers"]), mib(c["start"]), str(c["opened"]),
                     number(c.get("bytes_per_connection"), 0), mib(c["closed"]), back,
                     mib(l["peak"]), mib(b["before"]), mib(b["peak"]), mib(b["after"]),
                     errors or "none"])
    return table("Resident memory in MiB", "Idle: one GET answered on each connection. Closed: 30 s "
                 "after the last close; back: when within 15 % of the start. Load: peak with 500 "
                 "clients at pipeline 64. Burst: 1 GiB of replies asked for at once, before, peak "
                 "and 30 s after.",
                 ["target", "workers", "start", "connections", "bytes each", "closed", "back",
                  "load", "burst: before", "peak", "after", "errors"], rows)


def scaling(rows):
    names = list(rows[0]["cpu"])
    out = []
    for r in rows:
        line = ["%d masters, %s, P%d" % (r["masters"], r["clients"], r["pipe"])]
        for n in names:
            x = r["cpu"][n]
            line.append("error" if x["total_us"] is None else
                        number(x["total_us"]) + ("" if x["quiet"] else "~"))
        out.append(line + [number(r["cpu"][n]["calls"], 3) for n in names])
    return table("CPU microseconds and system calls per request as masters and clients grow (GET 3 B)",
                 "", ["case"] + names + ["calls: " + n for n in names], out)
