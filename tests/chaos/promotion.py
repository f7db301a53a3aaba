"""How soon requests go on after a promotion: for kill -9 and SIGSTOP of a master, cluster and Sentinel.

Two pollers in a process of their own write to the dying shard every 5 ms. One asks each server that
may be promoted directly: its first +OK is the promotion. The other goes through the proxy: its first +OK
after that is what a client sees. A request that is still unanswered 5 ms later does not stop its poller,
which then takes another connection. How far apart the polls really were (a busy machine) stands beside
the result.
"""
import multiprocessing
import selectors
import signal
import socket
import statistics
import time

from harness.resp import encode
from harness.servers import die_with_parent

from campaign import make_topology, start_proxy
from report import layout

EVERY = 0.005
LIMIT = 60.0        # for a promotion to happen
MEDIAN_MS, WORST_MS = 50, 150
GIVE_UP = 1.0       # a poll that is not answered by then is given up, and its connection closed
AFTER = 0.3         # polled on for so long, for the gaps


class Poller:
    """Sends `data` every 5 ms on a connection that owes nothing; keeps when it was first answered OK."""

    def __init__(self, sel, port, data):
        self.sel, self.port, self.data = sel, port, data
        self.idle, self.busy = [], {}  # connections; those that owe an answer, the oldest first
        self.first = None            # when a request sent after `since` was answered +OK
        self.since = None
        self.last = None
        self.gap = 0.0               # longest time between two polls since `since`

    def poll(self, now):
        if self.last is not None and self.since is not None:
            self.gap = max(self.gap, now - self.last)
        self.last = now
        while self.busy and now - next(iter(self.busy.values())) > GIVE_UP:
            self._drop(next(iter(self.busy)))
        sock = self.idle.pop() if self.idle else self._open()
        if sock is None:
            return
        self.busy[sock] = now
        try:
            sock.send(self.data)
        except OSError:
            self._drop(sock)

    def _open(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.connect_ex(("127.0.0.1", self.port)) not in (0, 115):
            sock.close()
            return None
        # Loopback: the connection is there at once or refused.
        self.sel.register(sock, selectors.EVENT_READ, self)
        return sock

    def _drop(self, sock):
        self.sel.unregister(sock)
        self.busy.pop(sock, None)
        if sock in self.idle:
            self.idle.remove(sock)
        sock.close()

    def readable(self, sock, now):
        try:
            data = sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(sock)
            return
        if data.endswith(b"\r\n") and sock in self.busy:
            sent = self.busy.pop(sock)
            self.idle.append(sock)
            if data.startswith(b"+OK") and self.first is None and self.since is not None and \
                    sent > self.since:
                self.first = now

    def close(self):
        for sock in list(self.busy) + self.idle:
            self.sel.unregister(sock)
            sock.close()


def polls(pipe, parents_end, key, proxy_port, candidates):
    """The process: polls until the proxy has answered; then tells what it measured."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parents_end.close()
    sel = selectors.DefaultSelector()
    sel.register(pipe, selectors.EVENT_READ)
    data = encode("SET", key, "polled")
    direct = [Poller(sel, p, data) for p in candidates]
    through = Poller(sel, proxy_port, data)
    due = time.monotonic()
    end = None
    while end is None or time.monotonic() < end:
        now = time.monotonic()
        if now >= due:
            for poller in direct + [through]:
                poller.poll(now)
            due += EVERY * (1 + int((now - due) / EVERY))
        for item, _ in sel.select(max(0.0, due - time.monotonic())):
            if item.fileobj is pipe:
                try:
                    since = pipe.recv()
                except EOFError:
                    return
                for poller in direct + [through]:
                    poller.since = since
                continue
            if item.fileobj.fileno() >= 0:
                item.data.readable(item.fileobj, time.monotonic())
        if end is None and through.first is not None and any(p.first for p in direct):
            end = time.monotonic() + AFTER
    pipe.send((min(p.first for p in direct if p.first), through.first,
               max(p.gap for p in direct), through.gap))
    for poller in direct + [through]:
        poller.close()


class Trials:
    def __init__(self, topology, proxy, how):
        self.topology, self.proxy, self.how = topology, proxy, how
        self.lag, self.direct_gap, self.proxy_gap = [], [], []

    def one(self, rng_number):
        t = self.topology
        shards = t.shards()
        master = shards[rng_number % len(shards)]
        ranges = t.ranges_of(master)
        key = "promotion" if t.name == "sentinel" else t.key_on(master, "promotion")
        others = [s.port for s in t.replicas(master)]
        pipe, other = multiprocessing.Pipe()
        proc = multiprocessing.get_context("fork").Process(
            target=polls, args=(other, pipe, key, self.proxy.port, others), daemon=True)
        proc.start()
        other.close()
        time.sleep(0.3)
        try:
            if self.how == "kill -9":
                master.kill()
            else:
                t.frozen.add(master)
                master.freeze()
            pipe.send(time.monotonic() + 0.05)  # what was under way does not count
            if not pipe.poll(LIMIT):
                raise RuntimeError("no promotion, or no answer through the proxy, within %d s" % LIMIT)
            promoted, answered, direct_gap, proxy_gap = pipe.recv()
        finally:
            proc.kill()
            proc.join()
            if master in t.frozen:
                master.thaw()
                t.frozen.discard(master)
        self.lag.append(answered - promoted)
        self.direct_gap.append(direct_gap)
        self.proxy_gap.append(proxy_gap)
        if self.how == "kill -9":
            t.start_master_again(master)
        t.wait_for_promotion(ranges, master)
        t.settle()
        print("%s %s %d: %.1f ms; longest time between polls: direct %.1f ms, proxy %.1f ms" % (
            t.name, self.how, len(self.lag), self.lag[-1] * 1000, direct_gap * 1000,
            proxy_gap * 1000), flush=True)

    def row(self):
        ms = [x * 1000 for x in self.lag]
        good = statistics.median(ms) <= MEDIAN_MS and max(ms) <= WORST_MS
        cell = "%.1f".__mod__
        return good, [self.topology.name, self.how, len(ms), cell(statistics.median(ms)),
                      cell(max(ms)), cell(statistics.median(self.direct_gap) * 1000),
                      cell(max(self.direct_gap) * 1000),
                      cell(statistics.median(self.proxy_gap) * 1000),
                      cell(max(self.proxy_gap) * 1000), "good" if good else "TOO SLOW"]


def run(args):
    rows, good = [], True
    for name in args.topologies:
        topology = make_topology(name)
        topology.start()
        try:
            proxy = start_proxy(topology, args.workers)
            for how in ("kill -9", "SIGSTOP"):
                trials = Trials(topology, proxy, how)
                for i in range(args.rounds or 20):
                    trials.one(i)
                ok, row = trials.row()
                rows.append(row)
                good = good and ok
            proxy.stop()
        finally:
            topology.stop()
    print("\nFrom the first +OK of the promoted server to the first +OK through the proxy, ms (at most %d "
          "in the median,\n%d at worst); beside it the longest times between two polls of 5 ms\n" % (
              MEDIAN_MS, WORST_MS))
    print(layout([["topology", "death", "trials", "median", "worst", "direct: median", "worst",
                   "proxy: median", "worst", ""]] + rows) + "\n")
    return good
