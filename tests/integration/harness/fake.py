"""A scripted fake Redis Cluster: real sockets, a toy store, and any misbehaviour on cue.

FakeCluster keeps the truth (who owns which slot, what is stored); each FakeNode listens on a port
and answers as a cluster node would: MOVED for slots it does not own, ASK and TRYAGAIN for moving
ones. A test then adds rules:

    node.rule("GET", lambda conn, argv: b"-TRYAGAIN ...\\r\\n", times=2)

A rule's function returns bytes to send, or None when it dealt with the connection itself, or
PASS to let the request be answered as usual. The helpers at the end (reset, half, silence, ...)
make the common ones. Everything received is kept in node.log as (connection number, argv).
"""
import socket
import struct
import threading
import time

from .servers import BUS, SLOTS, even_ranges, free_port, key_slot

PASS = object()


class Rule:
    def __init__(self, name, action, times=None, key=None):
        self.name = name.upper().encode()
        self.action = action
        self.left = times  # None: for ever
        self.key = key.encode() if isinstance(key, str) else key
        self.hits = 0

    def matches(self, argv):
        if self.left == 0:
            return False
        if self.name not in (b"*", argv[0].upper()):
            return False
        return self.key is None or self.key in argv[1:]


class FakeConn:
    """One accepted connection, served by a thread of its own."""

    def __init__(self, node, sock, number):
        self.node = node
        self.sock = sock
        self.number = number
        self.authed = node.cluster.password is None
        self.asking = False
        self.protocol = 2
        self.buf = bytearray()
        self.received = 0
        self.dead = False

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            self.dead = True

    def close(self):
        self.dead = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def reset(self):
        """A TCP RST: what was unread is thrown away, as when a host dies."""
        self.dead = True
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The socket lives on, and no RST leaves, while its own thread waits in recv: this
            # ends the wait and sends nothing by itself.
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self.sock.close()

    def _fill(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.received += len(data)
        self.buf += data

    def _line(self):
        while True:
            end = self.buf.find(b"\r\n")
            if end >= 0:
                line = bytes(self.buf[:end])
                del self.buf[:end + 2]
                return line
            self._fill()

    def next_request(self):
        while not self.buf:
            self._fill()
        line = self._line()
        if line[:1] != b"*":
            return line.split()
        argv = []
        for _ in range(int(line[1:])):
            size = int(self._line()[1:])
            hook = self.node.on_bulk
            if hook is not None and hook(self, size):
                raise EOFError
            while len(self.buf) < size + 2:
                self._fill()
            argv.append(bytes(self.buf[:size]))
            del self.buf[:size + 2]
        return argv

    def serve(self):
        try:
            while not self.dead:
                argv = self.next_request()
                if not argv:
                    continue
                answer = self.node.answer(self, argv)
                if answer is not None:
                    self.send(answer)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            if not self.dead:
                self.dead = True
                self.sock.close()
            self.node.forget(self)


class FakeNode:
    def __init__(self, cluster, index):
        self.cluster = cluster
        self.index = index
        self.port = free_port()
        self.id = "%040x" % (0xfa4e0000 + index)
        self.lock = threading.RLock()
        self.rules = []
        self.log = []
        self.executed = {}
        self.conns = []
        self.connections = 0
        self.listener = None
        self.nodes_text = None  # a scripted CLUSTER NODES answer instead of the true one
        self.on_bulk = None  # called with (conn, size) when a bulk header came; True: conn is done
        self.flags = "master"
        self.store = {}
        self.run_id = "%040x" % (0x12340000 + index)

    # -- life --------------------------------------------------------------------------------

    def start(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(1024)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                if self.listener is not listener:
                    sock.close()
                    return
                self.connections += 1
                conn = FakeConn(self, sock, self.connections)
                self.conns.append(conn)
            threading.Thread(target=conn.serve, daemon=True).start()

    def stop(self):
        """Stops listening and resets all connections: connecting is refused afterwards."""
        with self.lock:
            listener, self.listener = self.listener, None
        if listener is not None:
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()
        self.reset_all()

    def reset_all(self):
        with self.lock:
            conns = list(self.conns)
        for conn in conns:
            conn.reset()

    def forget(self, conn):
        with self.lock:
            if conn in self.conns:
                self.conns.remove(conn)

    @property
    def addr(self):
        return "127.0.0.1:%d" % self.port

    # -- scripting ---------------------------------------------------------------------------

    def rule(self, name, action, times=None, key=None):
        """The newest matching rule wins; bytes are a shorthand for always sending them."""
        if isinstance(action, bytes):
            data = action
            action = lambda conn, argv: data  # noqa: E731
        rule = Rule(name, action, times, key)
        with self.lock:
            self.rules.insert(0, rule)
        return rule

    def clear(self):
        with self.lock:
            self.rules = []
            self.log = []
            self.executed = {}
        self.on_bulk = None
        self.nodes_text = None

    def calls(self, name, key=None):
        """How often a command arrived (executed or refused)."""
        name = name.upper().encode()
        key = key.encode() if isinstance(key, str) else key
        with self.lock:
            return sum(1 for _, argv in self.log if argv[0].upper() == name and
                       (key is None or key in argv[1:]))

    def ran(self, name):
        """How often a command was executed against the store."""
        return self.executed.get(name.upper(), 0)

    # -- answering ---------------------------------------------------------------------------

    def answer(self, conn, argv):
        with self.lock:
            self.log.append((conn.number, argv))
            asking, conn.asking = conn.asking, False
            chosen = None
            for rule in self.rules:
                if rule.matches(argv):
                    rule.hits += 1
                    if rule.left is not None:
                        rule.left -= 1
                    chosen = rule.action
                    break
        if chosen is not None:
            conn.was_asking = asking
            result = chosen(conn, argv)
            if result is not PASS:
                return result
        return self.plain(conn, argv, asking)

    def plain(self, conn, argv, asking=False):
        """The answer of a well-behaved node."""
        name = argv[0].upper().decode("latin-1")
        own = getattr(self, "_do_" + name.lower(), None)
        if own is not None:
            if not conn.authed and name not in ("AUTH", "HELLO", "QUIT"):
                return b"-NOAUTH Authentication required.\r\n"
            return own(conn, argv)
        if not conn.authed:
            return b"-NOAUTH Authentication required.\r\n"
        return self._data(conn, argv, name, asking)

    def execute(self, argv):
        """Runs a data command whoever owns its slot; the helpers use it to do and then fail."""
        name = argv[0].upper().decode("latin-1")
        with self.lock:
            self.executed[name] = self.executed.get(name, 0) + 1
            return run_data(self.store, name, argv)

    def _data(self, conn, argv, name, asking):
        keys = data_keys(name, argv)
        if keys is None:
            return b"-ERR unknown command '%s', with args beginning with: \r\n" % argv[0]
        if keys:
            slots = {key_slot(k) for k in keys}
            if len(slots) > 1:
                return b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
            with self.lock:  # no slot moves between the look and the deed
                return (self.cluster.refusal(self, slots.pop(), keys, asking) or
                        self.execute(argv))
        return self.execute(argv)

    def _do_ping(self, conn, argv):
        return b"+PONG\r\n" if len(argv) == 1 else bulk(argv[1])

    def _do_auth(self, conn, argv):
        good = self.cluster.credentials()
        if good is None:
            return b"-ERR AUTH <password> called without any password configured\r\n"
        if argv[1:] == good or (len(argv) == 2 and good[:1] == [b"default"] and
                                argv[1:] == good[1:]):
            conn.authed = True
            return b"+OK\r\n"
        return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"

    def _do_hello(self, conn, argv):
        rest = argv[2:]
        if rest and rest[0].upper() == b"AUTH":
            if rest[1:3] != (self.cluster.credentials() or []):
                return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
            conn.authed = True
        if not conn.authed:
            return (b"-NOAUTH HELLO must be called with the client already authenticated, "
                    b"otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "
                    b"authenticate the client and select the RESP protocol version at the same "
                    b"time\r\n")
        if len(argv) > 1:
            if argv[1] not in (b"2", b"3"):
                return b"-NOPROTO unsupported protocol version\r\n"
            conn.protocol = int(argv[1])
        fields = [bulk(b"server"), bulk(b"redis"), bulk(b"version"), bulk(b"7.0.15"),
                  bulk(b"proto"), b":%d\r\n" % conn.protocol, bulk(b"id"),
                  b":%d\r\n" % conn.number, bulk(b"mode"), bulk(b"cluster"), bulk(b"role"),
                  bulk(b"master"), bulk(b"modules"), b"*0\r\n"]
        head = b"%7\r\n" if conn.protocol == 3 else b"*14\r\n"
        return head + b"".join(fields)

    def _do_client(self, conn, argv):
        sub = argv[1].upper() if len(argv) > 1 else b""
        if sub == b"ID":
            return b":%d\r\n" % conn.number
        if sub in (b"SETNAME", b"NO-EVICT"):
            return b"+OK\r\n"
        return b"-ERR unknown subcommand '%s'. Try CLIENT HELP.\r\n" % argv[1]

    def _do_config(self, conn, argv):
        if len(argv) == 3 and argv[1].upper() == b"GET":
            values = {b"proto-max-bulk-len": b"536870912", b"maxmemory-policy": b"noeviction"}
            value = values.get(argv[2].lower())
            pairs = [] if value is None else [argv[2], value]
            if conn.protocol == 3:
                return b"%%%d\r\n" % (len(pairs) // 2) + b"".join(map(bulk, pairs))
            return array(pairs)
        return b"+OK\r\n"

    def _do_info(self, conn, argv):
        return bulk(b"# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nos:Linux\r\n"
                    b"run_id:%s\r\ntcp_port:%d\r\n# Persistence\r\nloading:0\r\n# Replication\r\n"
                    b"role:master\r\n# Cluster\r\ncluster_enabled:1\r\n"
                    % (self.run_id.encode(), self.port))

    def _do_role(self, conn, argv):
        if self.flags == "master":
            return b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
        return b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"

    def _do_asking(self, conn, argv):
        conn.asking = True
        return b"+OK\r\n"

    def _do_readonly(self, conn, argv):
        return b"+OK\r\n"

    def _do_quit(self, conn, argv):
        conn.send(b"+OK\r\n")
        conn.close()

    def _do_cluster(self, conn, argv):
        sub = argv[1].upper() if len(argv) > 1 else b""
        if sub == b"NODES":
            text = self.nodes_text
            if callable(text):
                text = text()
            if text is None:
                text = self.cluster.nodes_text(self)
            if isinstance(text, str):
                text = text.encode()
            if conn.protocol == 3:
                return b"=%d\r\ntxt:%s\r\n" % (len(text) + 4, text)
            return bulk(text)
        if sub == b"MYID":
            return bulk(self.id.encode())
        if sub == b"INFO":
            return bulk(b"cluster_state:ok\r\ncluster_current_epoch:1\r\n")
        return b"-ERR unknown subcommand '%s'. Try CLUSTER HELP.\r\n" % argv[1]


class FakeCluster:
    """`masters` FakeNodes over evenly dealt slots. `spare` more own nothing and are not in CLUSTER
    NODES until a test shows them."""

    def __init__(self, masters=3, spare=0, user=None, password=None):
        self.user = user
        self.password = password
        self.nodes = [FakeNode(self, i) for i in range(masters + spare)]
        self.shown = masters
        self.owner = [0] * SLOTS
        for i, ranges in enumerate(even_ranges(masters)):
            for first, last in ranges:
                self.owner[first:last + 1] = [i] * (last + 1 - first)
        self.epoch = [i + 1 for i in range(masters + spare)]
        self.moving = {}  # slot -> (from, to)
        self._ranges = self._ranges_of = None

    def start(self):
        for node in self.nodes:
            node.start()
        return self

    def stop(self):
        for node in self.nodes:
            node.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def clear(self):
        for node in self.nodes:
            node.clear()
            node.store.clear()
        self.moving.clear()

    def seeds(self):
        return [n.addr for n in self.nodes[:self.shown]]

    def credentials(self):
        if self.password is None:
            return None
        return [(self.user or "default").encode(), self.password.encode()]

    def node_of(self, key):
        return self.nodes[self.owner[key_slot(key)]]

    def key_on(self, index, prefix="k", n=0):
        found = i = 0
        while True:
            key = "%s%d" % (prefix, i)
            if self.owner[key_slot(key)] == index:
                if found == n:
                    return key
                found += 1
            i += 1

    def give(self, slot, index):
        """The slot belongs to another node from now on (its epoch is raised, as in a cluster)."""
        self.owner[slot] = index
        self.epoch[index] = max(self.epoch) + 1
        self.moving.pop(slot, None)

    def refusal(self, node, slot, keys, asking):
        """What a node answers instead of running a command on these keys; None when it runs."""
        move = self.moving.get(slot)
        if self.owner[slot] == node.index:
            if move is None:
                return None
            missing = sum(k not in node.store for k in keys)
            if missing == 0:
                return None
            if missing < len(keys):
                return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
            return b"-ASK %d %s\r\n" % (slot, self.nodes[move[1]].addr.encode())
        if move is not None and move[1] == node.index and asking:
            if len(keys) > 1 and any(k not in node.store for k in keys):
                return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
            return None
        return b"-MOVED %d %s\r\n" % (slot, self.nodes[self.owner[slot]].addr.encode())

    def ranges(self):
        """For each node index, its slots as "first-last" words; made anew when a slot moved."""
        owner = list(self.owner)
        if self._ranges_of != owner:
            ranges = [[] for _ in self.nodes]
            first = 0
            for slot in range(1, SLOTS + 1):
                if slot == SLOTS or owner[slot] != owner[first]:
                    if owner[first] >= 0:
                        ranges[owner[first]].append("%d-%d" % (first, slot - 1)
                                                    if slot - 1 > first else "%d" % first)
                    first = slot
            self._ranges, self._ranges_of = ranges, owner
        return self._ranges

    def nodes_text(self, me):
        lines = []
        all_ranges = self.ranges()
        for node in self.nodes[:self.shown]:
            ranges = list(all_ranges[node.index])
            if node is me:
                for slot, (a, b) in list(self.moving.items()):
                    if a == node.index:
                        ranges.append("[%d->-%s]" % (slot, self.nodes[b].id))
                    if b == node.index:
                        ranges.append("[%d-<-%s]" % (slot, self.nodes[a].id))
            lines.append("%s %s@%d %s%s - 0 0 %d connected %s" % (
                node.id, node.addr, node.port + BUS, "myself," if node is me else "", node.flags,
                self.epoch[node.index], " ".join(ranges)))
        return "\n".join(line.rstrip() for line in lines) + "\n"


# -- the toy store -------------------------------------------------------------------------------

def bulk(data):
    return b"$-1\r\n" if data is None else b"$%d\r\n%s\r\n" % (len(data), data)


def array(items):
    return b"*%d\r\n" % len(items) + b"".join(map(bulk, items))


_ONE_KEY = {"GET", "SET", "INCR", "INCRBY", "APPEND", "TYPE", "GETSET", "STRLEN", "EXPIRE", "TTL",
            "RPUSH", "LRANGE", "GETRANGE", "SETEX", "DUMP", "LPUSH"}
_ALL_KEYS = {"MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"}


def data_keys(name, argv):
    """The keys of a command the toy store knows, or None."""
    if name in _ONE_KEY:
        return argv[1:2]
    if name in _ALL_KEYS:
        return argv[1:]
    if name in ("MSET", "MSETNX"):
        return argv[1::2]
    if name in ("EVAL", "EVALSHA"):
        return argv[3:3 + int(argv[2])]
    if name in ("DBSIZE", "FLUSHALL", "FLUSHDB", "TIME", "KEYS"):
        return []
    return None


def run_data(store, name, argv):
    key = argv[1] if len(argv) > 1 else None
    if name == "GET":
        return bulk(store.get(key))
    if name in ("SET", "SETEX"):
        store[key] = argv[-1] if name == "SETEX" else argv[2]
        return b"+OK\r\n"
    if name in ("INCR", "INCRBY"):
        store[key] = b"%d" % (int(store.get(key, b"0")) +
                              (int(argv[2]) if name == "INCRBY" else 1))
        return b":%s\r\n" % store[key]
    if name in ("APPEND", "RPUSH", "LPUSH"):
        store[key] = store.get(key, b"") + argv[2]
        return b":%d\r\n" % len(store[key])
    if name == "STRLEN":
        return b":%d\r\n" % len(store.get(key, b""))
    if name == "TYPE":
        return b"+string\r\n" if key in store else b"+none\r\n"
    if name == "MGET":
        return array([store.get(k) for k in argv[1:]])
    if name == "MSET":
        for i in range(1, len(argv) - 1, 2):
            store[argv[i]] = argv[i + 1]
        return b"+OK\r\n"
    if name in ("DEL", "UNLINK"):
        return b":%d\r\n" % sum(store.pop(k, None) is not None for k in argv[1:])
    if name in ("EXISTS", "TOUCH"):
        return b":%d\r\n" % sum(k in store for k in argv[1:])
    if name == "DBSIZE":
        return b":%d\r\n" % len(store)
    if name in ("FLUSHALL", "FLUSHDB"):
        store.clear()
        return b"+OK\r\n"
    if name == "TTL":
        return b":-1\r\n"
    return b"-ERR the fake store does not run %s\r\n" % name.encode()


# -- actions for rules ---------------------------------------------------------------------------

def reset(conn, argv):
    """The request is not executed; the connection is reset."""
    conn.reset()


def run_then_reset(conn, argv):
    """The request is executed; the connection is reset before a byte of the reply."""
    conn.node.execute(argv)
    conn.reset()


def run_then_close(conn, argv):
    conn.node.execute(argv)
    conn.close()


def silence(conn, argv):
    """The request is taken and never answered; later ones on the connection are not read."""
    while not conn.dead:
        time.sleep(0.05)


def half(count, then="reset", data=None):
    """`count` bytes of the true reply (or of `data`), then the end of the connection."""
    def action(conn, argv):
        reply = data if data is not None else conn.node.execute(argv)
        conn.send(reply[:count])
        time.sleep(0.05)  # let the bytes arrive: a reset would overtake them
        getattr(conn, then)()
    return action


def delayed(seconds):
    """The true answer, late."""
    def action(conn, argv):
        time.sleep(seconds)
        return PASS
    return action
