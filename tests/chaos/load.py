"""The load: 24 pipelining connections in a process of its own, which checks every reply.

The process is told what to do through a pipe (`Load` is the other end): run, stop and wait for all
answers, whose shard is about to die, compare with what the servers themselves say. One selector loop and
no threads, so that the times it sees are those of the proxy.
"""
import collections
import multiprocessing
import re
import selectors
import signal
import socket
import time

from harness.resp import Error, Simple, encode
from harness.servers import die_with_parent

from ops import LIST_MOST, Mix
from model import ABSENT, Counter, List, String, serial_of

EXAMPLES = 12  # kept of each kind of violation


def parse(buf, pos):
    """(value, end) of the RESP2 reply at `pos`, or None when it is not whole yet."""
    end = buf.find(b"\r\n", pos)
    if end < 0:
        return None
    kind, rest, nxt = buf[pos], bytes(buf[pos + 1:end]), end + 2
    if kind == 36:  # $
        size = int(rest)
        if size < 0:
            return None, nxt
        if len(buf) < nxt + size + 2:
            return None
        if buf[nxt + size:nxt + size + 2] != b"\r\n":
            raise ValueError("a bulk string does not end where it should")
        return bytes(buf[nxt:nxt + size]), nxt + size + 2
    if kind == 43:  # +
        return Simple(rest), nxt
    if kind == 58:  # :
        return int(rest), nxt
    if kind == 45:  # -
        return Error(rest), nxt
    if kind == 42:  # *
        items = []
        for _ in range(int(rest)):
            item = parse(buf, nxt)
            if item is None:
                return None
            items.append(item[0])
            nxt = item[1]
        return (items if int(rest) >= 0 else None), nxt
    raise ValueError("no reply begins with %r" % bytes(buf[pos:pos + 40]))


class Stats:
    """What happened since the last time it was asked for; travels to the other process."""

    def __init__(self):
        self.requests = collections.Counter()
        self.errors = collections.Counter()      # (text, request, "hit" | "healthy") -> times
        self.violations = collections.Counter()  # kind -> times
        self.examples = {}
        self.closes = collections.Counter()      # "hit" or "healthy" is not known: reason -> times
        self.worst = self.lag = 0.0              # slowest reply, longest turn of the loop

    def note(self, kind, text):
        self.violations[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(text)


class Client:
    def __init__(self, loop, number, mix):
        self.loop, self.number, self.mix = loop, number, mix
        self.sock = None
        self.queue = collections.deque()  # Ops in flight
        self.next_at = 0.0

    def connect(self):
        self.buf, self.pos, self.out, self.got = bytearray(), 0, b"", []
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.loop.port), 5)
        except OSError as e:
            self.sock = None
            self.loop.stats.closes["connect: %s" % e.strerror] += 1
            self.next_at = time.monotonic() + 0.1
            return False
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.loop.sel.register(self.sock, selectors.EVENT_READ, self)
        return True

    def drop(self, reason, hung=False):
        if not hung:
            self.loop.stats.closes["%s, %s in flight" % (
                reason, "some" if self.queue else "nothing")] += 1
        self.loop.sel.unregister(self.sock)
        self.sock.close()
        self.sock = None
        while self.queue:
            self.queue.popleft().lost()

    def send_batch(self, now):
        if self.sock is None and not self.connect():
            return
        rng = self.mix.rng
        batch = [self.mix.next() for _ in range(rng.randint(1, self.loop.batch * 2))]
        for op in batch:
            op.sent = now
        self.queue.extend(batch)
        self.loop.stats.requests.update(op.name for op in batch)
        self.out += b"".join(op.data for op in batch)
        for op in batch:
            op.data = b""
        self.next_at = now + rng.expovariate(1 / self.loop.pause)
        self.flush()

    def flush(self):
        before = bool(self.out)
        try:
            if self.out:
                self.out = self.out[self.sock.send(self.out):]
        except BlockingIOError:
            pass
        except OSError as e:
            self.drop("write: %s" % e.strerror)
            return
        if before:
            self.loop.sel.modify(self.sock, selectors.EVENT_READ | (
                selectors.EVENT_WRITE if self.out else 0), self)

    def readable(self, now):
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError as e:
            self.drop("read: %s" % e.strerror)
            return
        if not data:
            self.drop("closed")
            return
        self.buf += data
        try:
            self.take(now)
        except ValueError as e:
            self.loop.stats.note("mixed", "connection %d: %s" % (self.number, e))
            self.drop("not RESP")

    def take(self, now):
        stats = self.loop.stats
        while True:
            found = parse(self.buf, self.pos) if self.pos < len(self.buf) else None
            if found is None:
                break
            value, self.pos = found
            if not self.queue:
                stats.note("mixed", "connection %d: a reply to nothing: %r" % (
                    self.number, str(value)[:100]))
                continue
            op = self.queue[0]
            self.got.append(value)
            if len(self.got) < op.replies:
                continue
            self.queue.popleft()
            got, self.got = self.got, []
            stats.worst = max(stats.worst, now - op.sent)
            error = op.judge(got, stats.note)
            if error is not None:
                self.loop.refused(op, error)
        if self.pos > 1 << 16 or self.pos == len(self.buf):
            del self.buf[:self.pos]
            self.pos = 0


class Loop:
    def __init__(self, pipe, port, seed, options):
        self.pipe, self.port = pipe, port
        self.batch, self.hang = options["batch"], options["hang"]
        self.sel = selectors.DefaultSelector()
        self.sel.register(pipe, selectors.EVENT_READ, None)
        self.stats = Stats()
        self.hit = set()  # slots whose shard died, or was cut off, this round
        self.running = self.draining = False
        self.clients = [Client(self, i, Mix(i, seed, options["slots"], options["groups"],
                                            options["multi"], options["big_every"]))
                        for i in range(options["clients"])]
        # Each client sends 1 to 2 * batch requests, then pauses.
        self.pause = options["clients"] * (self.batch + 0.5) / options["rate"]
        self.tag = 0

    def refused(self, op, error):
        text = re.sub(r"\d+", "N", error.decode("latin-1"))[:110]
        where = "hit" if self.hit.intersection(op.slots) else "healthy"
        kind = op.name + (" of several slots" if len(op.slots) > 1 else "")
        what = "read" if not op.writes else "excepted write" if op.excepted else "write"
        self.stats.errors[text, kind, what, where] += 1

    def run(self):
        now = time.monotonic()
        while True:
            wait = 0.2
            if self.running:
                wait = max(0.0, min(min(c.next_at for c in self.clients) - now, 0.05))
            events = self.sel.select(wait)
            begun = time.monotonic()
            for key, mask in events:
                client = key.data
                if client is None:
                    if not self.told():
                        return
                    continue
                if client.sock is key.fileobj and mask & selectors.EVENT_READ:
                    client.readable(begun)
                if client.sock is key.fileobj and mask & selectors.EVENT_WRITE:
                    client.flush()
            now = time.monotonic()
            self.stats.lag = max(self.stats.lag, now - begun)
            self.tick(now)

    def tick(self, now):
        for c in self.clients:
            if c.queue and now - c.queue[0].sent > self.hang:
                self.stats.note("hang", "connection %d: no reply to %s of slots %s for %.0f s" % (
                    c.number, c.queue[0].name, c.queue[0].slots, now - c.queue[0].sent))
                c.drop("hang", hung=True)
            elif self.running and now >= c.next_at and len(c.queue) <= 4 * self.batch:
                c.send_batch(now)
        if self.draining and not any(c.queue for c in self.clients):
            self.draining = False
            self.pipe.send("drained")

    # -- what it is told -----------------------------------------------------------------------

    def told(self):
        try:
            word, *args = self.pipe.recv()
        except EOFError:
            return False
        if word == "quit":
            return False
        getattr(self, "_" + word)(*args)
        return True

    def _run(self):
        self.running = True

    def _stop(self):
        self.running, self.draining = False, True

    def _cut(self, ranges):
        """Requests to these slots may be answered UNKNOWN from now on."""
        self.hit.update(s for a, b in ranges for s in range(a, b + 1))
        self.pipe.send("cut")

    def _loose(self, ranges, limit):
        """What was sent to these slots before `limit` may be lost by replication."""
        slots = {s for a, b in ranges for s in range(a, b + 1)}
        for key in self.keys():
            if key.slot in slots:
                key.die(limit)

    def _limit(self, ranges, limit):
        slots = {s for a, b in ranges for s in range(a, b + 1)}
        for key in self.keys():
            if key.slot in slots and key.limit is not None:
                key.limit = limit

    def _stats(self):
        self.pipe.send(self.stats)
        self.stats = Stats()
        self.hit.clear()

    def _verify(self, owners):
        try:
            verify(self, owners)
            self.pipe.send("verified")
        except (OSError, ValueError) as e:
            self.pipe.send("verify: %r" % (e,))

    def keys(self):
        for c in self.clients:
            yield from c.mix.keys()


def ask(port, commands):
    """The replies of one server, asked by a direct client."""
    out, buf, pos = [], bytearray(), 0
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        for at in range(0, len(commands), 200):
            part = commands[at:at + 200]
            sock.sendall(b"".join(encode(*c) for c in part))
            wanted = len(out) + len(part)
            while len(out) < wanted:
                found = parse(buf, pos) if pos < len(buf) else None
                if found is None:
                    data = sock.recv(1 << 20)
                    if not data:
                        raise OSError("server %d closed" % port)
                    buf += data
                    continue
                out.append(found[0])
                pos = found[1]
            del buf[:pos]
            pos = 0
    return out


def verify(loop, owners):
    """Compares every key with what its owner has (owners: [(first slot, last, port)]), and takes
    that for what is there when the next round begins. Full lists make room for new ones."""
    port_of = {}
    for a, b, port in owners:
        for slot in range(a, b + 1):
            port_of[slot] = port
    by_port = collections.defaultdict(list)
    for key in loop.keys():
        if key.slot in port_of:
            by_port[port_of[key.slot]].append(key)
        else:
            loop.stats.note("lost-proxy", "%s: slot %d has no owner" % (key.name, key.slot))
    for port, keys in by_port.items():
        replies = ask(port, [("LRANGE", k.name, 0, -1) if isinstance(k, List) else ("GET", k.name)
                             for k in keys])
        now = time.monotonic()
        for key, reply in zip(keys, replies):
            key.happened("the servers say", now)
            if isinstance(reply, Error):
                raise ValueError("server %d answered %r for %r" % (port, reply, key.name))
            # The looseness was for what was sent before the death: this read judges all of it.
            key.saw(reply, min(now, key.limit) if key.limit is not None else now, loop.stats.note)
            if isinstance(key, String):
                key.rebase(serial_of(key.name, reply) or ABSENT)
            elif isinstance(key, Counter):
                key.rebase(int(reply or 0))
            else:
                key.rebase([serial_of(key.name, v) for v in reversed(reply)])
    for c in loop.clients:
        for g in c.mix.groups:
            if len(g.list.items) >= LIST_MOST // 2:
                ask(port_of[g.slot], [("UNLINK", g.list.name)])
                g.new_list()


def process(pipe, parents_end, *args):
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parents_end.close()
    Loop(pipe, *args).run()


class Load:
    """The other end, in the process that breaks things."""

    def __init__(self, port, seed, options):
        self.hang = options["hang"]
        self.pipe, other = multiprocessing.Pipe()
        self.proc = multiprocessing.get_context("fork").Process(
            target=process, args=(other, self.pipe, port, seed, options), daemon=True)
        self.proc.start()
        other.close()

    def tell(self, *message):
        self.pipe.send(message)

    def ask(self, *message, timeout):
        self.tell(*message)
        if not self.pipe.poll(timeout):
            raise RuntimeError("the load did not answer %r within %.0f s" % (message[0], timeout))
        return self.pipe.recv()

    def run(self):
        self.tell("run")

    def stop(self):
        """Until every request has been answered, or counted as hanging."""
        self.ask("stop", timeout=self.hang * 2 + 20)

    def cut(self, ranges):
        """Before a fault that may break requests to these slots."""
        self.ask("cut", ranges, timeout=30)

    def loose(self, ranges):
        """Before a death: these slots may lose what is acknowledged, until `limit`."""
        self.tell("loose", ranges, float("inf"))
        self.cut(ranges)

    def limit(self, ranges, when):
        self.tell("limit", ranges, when)

    def verify(self, owners):
        answer = self.ask("verify", owners, timeout=60)
        if answer != "verified":
            raise RuntimeError(answer)

    def stats(self):
        return self.ask("stats", timeout=20)

    def quit(self):
        try:
            self.tell("quit")
        except OSError:
            pass
        self.proc.join(5)
        if self.proc.is_alive():
            self.proc.kill()
