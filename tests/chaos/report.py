"""What a run found, as a table with a row a kind of fault, and whether it may be so."""
import collections

# Kinds that Stats.note is told of, in the table's order. "late": a read that servers refused saw a
# write of its own connection that stood behind it in the pipeline; the order of writes is kept.
VIOLATIONS = ("mixed", "reordered", "late", "twice", "refused-ran", "hang", "lost-proxy",
              "lost-replication")
COLUMNS = ("fault", "times", "requests", "errors", "allowed", "apart", "closes", "mixed",
           "reordered", "late", "twice", "ran", "hangs", "gone:proxy", "gone:redis", "worst ms")
# While a cluster's state flips, a write can be refused and the next one to its key executed: then the
# first is not sent again but refused for good.
OVERTAKEN = "TRYAGAIN Multiple keys request during rehashing of slot"


class Row:
    def __init__(self):
        self.times = self.requests = self.forbidden = self.allowed = self.apart = self.closes = 0
        self.violations = collections.Counter()
        self.worst = 0.0

    def cells(self, name):
        return [name, self.times, self.requests, self.forbidden, self.allowed, self.apart,
                self.closes] + [self.violations[k] for k in VIOLATIONS] + ["%.0f" % (
                    self.worst * 1000)]


def layout(rows):
    widths = [max(len(str(r[i])) for r in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                               for i, (c, w) in enumerate(zip(r, widths))) for r in rows)


class Report:
    def __init__(self):
        self.rows = {}
        self.texts = collections.Counter()  # (verdict, fault, text, request, where) -> times
        self.bad = []                       # lines
        self.disturbed = 0

    def add(self, fault, stats, title):
        """A round's Stats; returns the lines that tell what may not be."""
        row = self.rows.setdefault(fault.name, Row())
        row.times += 1
        row.requests += sum(stats.requests.values())
        row.worst = max(row.worst, stats.worst)
        bad = []
        for (text, request, what, where), n in sorted(stats.errors.items()):
            verdict = judge(fault, text, what, where)
            setattr(row, verdict, getattr(row, verdict) + n)
            self.texts[verdict, fault.name, text, "%s (%s)" % (request, where)] += n
            if verdict == "forbidden":
                bad.append("%d x -%s to %s, %s shard" % (n, text, request, where))
        for reason, n in stats.closes.items():
            row.closes += n
            self.texts["close", fault.name, reason, ""] += n
            if fault.strict or not reason.startswith("closed amid a large reply"):
                bad.append("%d connections: %s" % (n, reason))
        for kind in VIOLATIONS:
            row.violations[kind] += stats.violations[kind]
            if kind == "lost-replication" or kind == "late" and not fault.strict:
                continue
            if stats.violations[kind]:
                bad.append("%d x %s" % (stats.violations[kind], kind))
                bad += ["    " + e for e in stats.examples[kind]]
        if not stats.requests:
            bad.append("no request was sent")
        self.bad += ["%s: %s" % (title, b) for b in bad]
        return bad

    def table(self):
        rows = [COLUMNS] + [r.cells(name) for name, r in self.rows.items()]
        total = ["total"] + [sum(r[i] for r in rows[1:]) for i in range(1, len(COLUMNS) - 1)]
        total.append(max([r.worst for r in self.rows.values()] or [0]) * 1000)
        total[-1] = "%.0f" % total[-1]
        out = layout(rows + [total])
        if self.texts:
            out += "\n\nerrors and closes by their text\n" + layout([
                (v, f, n, t, r) for (v, f, t, r), n in sorted(self.texts.items())])
        return out


def judge(fault, text, what, where):
    """A client error's verdict: "forbidden", "allowed" after an unplanned death, or "apart": a request
    whose keys lie on both sides of a slot's move, which may wait no longer than the bound."""
    if fault.moves and what == "excepted write" and text.startswith("TRYAGAIN"):
        return "apart"
    if fault.strict:
        return "forbidden"
    if what != "read" and text.startswith(OVERTAKEN):
        return "allowed"
    if where != "hit" or not text.startswith(fault.allowed):
        return "forbidden"
    if text.startswith("UNKNOWN") and what == "read":
        return "forbidden"  # reads are sent again
    return "allowed"
