"""What the test files share: one cluster, one proxy and one plain server a file, and comparisons
that say what was sent, what was expected and what came."""
import selectors
import socket
import sys
import threading
import time
import unittest

from .proxy import STANDIN, Proxy, grace
from .resp import Closed, Conn, Error, encode, show, words
from .servers import Cluster, Server

__all__ = ["NOAUTH", "WRONGPASS", "Setup", "Case", "raw_exchange", "in_threads", "Load"]

# Servers' words, for expect_error.
NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."


class Setup:
    """The servers of one test file. setUpModule: setup.start(...); tearDownModule: setup.stop()."""

    def __init__(self):
        self.cluster = self.proxy = self.oracle = None

    def start(self, oracle=True, cluster=True, proxy_args=(), workers=2, cluster_args=(),
              node_timeout=15000, **kw):
        """node_timeout: long unless the file is about failing nodes, so that a busy machine does
        not make the cluster fail by itself."""
        if oracle:
            self.oracle = Server().start()
        try:
            if cluster and not STANDIN:
                self.cluster = Cluster(args=cluster_args, node_timeout=node_timeout,
                                       **kw).start()
            if cluster:
                seeds = self.cluster.seeds(3) if self.cluster else []
                self.proxy = Proxy(seeds, proxy_args, workers).start().wait_routes()
        except BaseException:
            try:
                self.stop()
            except AssertionError:
                pass
            raise
        return self

    def flush(self):
        """No key is left, neither behind the proxy nor in the plain server."""
        if self.oracle:
            self.oracle.ok("FLUSHALL")
        if self.cluster:
            self.cluster.flush()
        else:
            self.proxy.standin.ok("FLUSHALL")

    def stop(self):
        problem = None
        try:
            if self.proxy:
                self.proxy.stop()
        except AssertionError as e:
            problem = e
        for part in (self.cluster, self.oracle):
            if part:
                part.stop()
        if problem:
            raise problem


class Case(unittest.TestCase):
    longMessage = True
    maxDiff = 2000

    def conn(self, port=None, **kw):
        """A connection to the proxy of the file's `setup`, or to what listens on `port`; it is
        closed behind the test."""
        port = port or sys.modules[type(self).__module__].setup.proxy.port
        c = Conn(port, **{"timeout": grace(20), **kw})
        self.addCleanup(c.close)
        return c

    def same_reply(self, sent, expected, got):
        if expected != got:
            self.fail("sent     %s\nexpected %s\ngot      %s" % (
                show(sent, 400), show(expected, 600), show(got, 600)))

    def expect(self, conn, command, expected):
        """One command, its parsed reply compared with type."""
        argv = words(command)
        got = conn.cmd(*argv)
        self.same_reply(encode(*argv), repr(expected), repr(got))

    def expect_error(self, conn, command, text):
        """The reply is the error `text`, or begins with it when text ends with "..."."""
        argv = words(command)
        got = conn.cmd(*argv)
        text = text.encode()
        good = isinstance(got, Error) and (
            bytes(got).startswith(text[:-3]) if text.endswith(b"...") else bytes(got) == text)
        if not good:
            self.fail("sent     %s\nexpected an error %s\ngot      %s" % (
                show(encode(*argv), 400), show(text), show(got, 600)))

    def expect_raw(self, conn, command, expected):
        argv = words(command)
        self.same_reply(encode(*argv), expected, conn.cmd_raw(*argv))

    def matches_oracle(self, proxy_conn, oracle_conn, command, fold=None):
        """The proxy's raw reply equals the plain server's. `fold` makes both comparable first,
        where Redis itself promises no order."""
        argv = words(command)
        want_value, want = oracle_conn.cmd(*argv), None
        got_value = proxy_conn.cmd(*argv)
        if fold is not None:
            want, got = fold(want_value), fold(got_value)
        else:
            want, got = want_value, got_value
        self.same_reply(encode(*argv), repr(want), repr(got))
        return got_value

    def eventually(self, what, predicate, timeout=10.0, step=0.05):
        end = time.monotonic() + grace(timeout)
        while not predicate():
            if time.monotonic() > end:
                self.fail("not within %.0f s: %s" % (grace(timeout), what))
            time.sleep(step)

    def not_error(self, got, sent):
        if isinstance(got, Error):
            self.fail("sent     %s\nexpected no error\ngot      %r" % (
                show(encode(*words(sent))), got))
        return got


def raw_exchange(port, cases, quiet=0.4, limit=15.0):
    """Sends each of `cases` (bytes, or a list of pieces) on a connection of its own, all at the
    same time; returns [(bytes received, closed?)]. A connection counts as open when nothing came on
    any for `quiet` seconds."""
    sel = selectors.DefaultSelector()
    results = []
    for i, case in enumerate(cases):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        pieces = [case] if isinstance(case, (bytes, bytearray)) else list(case)
        results.append([bytearray(), False])
        sel.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE,
                     [i, memoryview(b"".join(pieces))])
    begin = last = time.monotonic()
    while sel.get_map() and time.monotonic() - last < quiet and time.monotonic() - begin < limit:
        for key, events in sel.select(0.05):
            i, rest = key.data
            if events & selectors.EVENT_WRITE:
                try:
                    sent = key.fileobj.send(rest[:1 << 18])
                    last = time.monotonic()
                except BlockingIOError:
                    sent = 0
                except OSError:  # it was closed on us: what it said before is still to be read
                    sent = len(rest)
                key.data[1] = rest = rest[sent:]
                if not rest:
                    sel.modify(key.fileobj, selectors.EVENT_READ, key.data)
            if events & selectors.EVENT_READ:
                try:
                    data = key.fileobj.recv(1 << 18)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                last = time.monotonic()
                if data:
                    results[i][0] += data
                else:
                    results[i][1] = True
                    sel.unregister(key.fileobj)
                    key.fileobj.close()
    for key in list(sel.get_map().values()):
        key.fileobj.close()
    sel.close()
    return [(bytes(got), closed) for got, closed in results]


def in_threads(count, function, *args):
    """function(i, *args) in `count` threads; re-raises the first exception."""
    errors = []

    def call(i):
        try:
            function(i, *args)
        except BaseException as e:  # noqa: B902 (handed to the caller)
            errors.append(e)
    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


class Load:
    """Clients that write and read back, in threads, and note everything that is not right.

    Each client owns keys of its own all over the slots: it knows what every GET must answer. INCR
    counters tell of requests run twice or lost. `errors` holds (seconds, what was sent, reply)."""

    def __init__(self, port, clients=4, keys=40, batch=12, tag="load"):
        self.port = port
        self.clients = clients
        self.keys = keys
        self.batch = batch
        self.tag = tag
        self.errors = []
        self.wrong = []
        self.done = 0
        self.times = []  # (start, end) of the slowest round trips
        self.stopping = threading.Event()
        self.threads = []
        self.acked = {}
        self.unknown = {}

    def __enter__(self):
        self.begun = time.monotonic()
        for i in range(self.clients):
            t = threading.Thread(target=self._client, args=(i,), daemon=True)
            t.start()
            self.threads.append(t)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(60)

    def now(self):
        return time.monotonic() - self.begun

    def _client(self, me):
        import random
        rng = random.Random(me)
        conn, state, serial = None, {}, 0
        while not self.stopping.is_set():
            try:
                if conn is None:
                    conn = Conn(self.port, timeout=40.0)
                serial += 1
                commands = []
                for _ in range(self.batch):
                    key = "%s:%d:%d" % (self.tag, me, rng.randrange(self.keys))
                    serial += 1
                    kind = rng.randrange(4)
                    if kind == 0:
                        commands.append(("SET", key, "%d" % serial))
                    elif kind == 1:
                        commands.append(("GET", key))
                    elif kind == 2:
                        commands.append(("INCR", key + ":n"))
                    else:
                        other = "%s:%d:%d" % (self.tag, me, rng.randrange(self.keys))
                        commands.append(("MGET", key, other))
                start = self.now()
                replies = conn.pipeline(commands)
                took = self.now() - start
                if took > 0.5:
                    self.times.append((start, took))
                for command, reply in zip(commands, replies):
                    self._judge(command, reply, state)
                self.done += len(commands)
            except (OSError, Closed, EOFError) as e:
                self.errors.append((self.now(), "connection", repr(e)))
                if conn is not None:
                    conn.close()
                conn = None
                state.clear()  # writes in flight: unknown
                time.sleep(0.05)
        if conn is not None:
            conn.close()

    def _judge(self, command, reply, state):
        name, key = command[0], command[1]
        if isinstance(reply, Error):
            self.errors.append((self.now(), " ".join(command), reply.decode("latin-1")))
            if name == "SET":
                state[key] = Ellipsis  # either value
            elif name == "INCR":
                self.unknown[key] = self.unknown.get(key, 0) + 1
            return
        if name == "SET":
            state[key] = command[2].encode()
        elif name == "GET":
            self._compare(command, state.get(key), reply)
        elif name == "INCR":
            self.acked[key] = self.acked.get(key, 0) + 1
        elif name == "MGET":
            if not isinstance(reply, list) or len(reply) != 2:
                self.wrong.append((self.now(), command, "a list of two", reply))
                return
            for k, got in zip(command[1:], reply):
                self._compare((name, k), state.get(k), got)

    def _compare(self, command, want, got):
        if want is not Ellipsis and want != got:
            self.wrong.append((self.now(), " ".join(command), want, got))

    def check_counters(self, case, conn, lost_allowed=False):
        """Every acknowledged INCR ran once, every failed one at most once."""
        for key in set(self.acked) | set(self.unknown):
            value = int(conn.cmd("GET", key) or 0)
            acked, unknown = self.acked.get(key, 0), self.unknown.get(key, 0)
            if value > acked + unknown or (value < acked and not lost_allowed):
                case.fail("INCR %s: %d acknowledged, %d of unknown outcome, the value is %d" % (
                    key, acked, unknown, value))

    def assert_no_error(self, case):
        case.assertEqual([], self.errors[:10], "%d errors in %d requests; first ones" % (
            len(self.errors), self.done))
        case.assertEqual([], self.wrong[:10], "wrong answers (when, sent, expected, got)")
        case.assertGreater(self.done, 0)
