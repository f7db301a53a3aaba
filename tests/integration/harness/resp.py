"""A small RESP2/RESP3 client that shows bytes as well as values.

A reply can be read parsed (`read`), raw (`read_raw`), or both. Parsed types are Python's where they
are the same thing (int, bytes, None, bool, list) and small subclasses where the protocol tells more
apart than Python does, so that two replies compare equal only when their types are equal too.
"""
import socket
import struct
import time


class ProtocolError(Exception):
    """The other side sent something that is not RESP."""


class Closed(Exception):
    """The other side closed the connection; `got` is what came before and was not a whole reply."""

    def __init__(self, got=b""):
        super().__init__("connection closed, unread bytes: %r" % show(got))
        self.got = bytes(got)


class _Typed(bytes):
    """Bytes that equal only bytes of the same reply type."""

    def __eq__(self, other):
        return type(self) is type(other) and bytes.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return bytes.__hash__(self)

    def __repr__(self):
        return "%s(%s)" % (type(self).__name__, bytes.__repr__(self))


class Error(_Typed):
    """An error reply. Not raised: tests compare it like any other reply."""

    @property
    def code(self):
        return self.split(b" ", 1)[0].decode("latin-1")


class Simple(_Typed):
    pass


class Verbatim(_Typed):
    pass


class Big(int):
    pass


class Double(float):
    def __eq__(self, other):
        return isinstance(other, Double) and (float(self) == float(other) or
                                              (self != self and other != other))

    def __hash__(self):
        return float.__hash__(self)

    def __ne__(self, other):
        return not self.__eq__(other)


class Map(list):
    """A list of (key, value) pairs in the order they came."""

    def get(self, key, default=None):
        for k, v in self:
            if k == key:
                return v
        return default


class Set(list):
    pass


class Push(list):
    pass


class Null:
    """RESP3's null, told apart from RESP2's nil (None)."""

    def __eq__(self, other):
        return isinstance(other, Null)

    def __hash__(self):
        return 0

    def __repr__(self):
        return "Null"


NULL = Null()
OK = Simple(b"OK")
PONG = Simple(b"PONG")


def to_bytes(arg):
    if isinstance(arg, bytes):
        return arg
    if isinstance(arg, (bytearray, memoryview)):
        return bytes(arg)
    if isinstance(arg, str):
        return arg.encode()
    if isinstance(arg, (int, float)):
        return str(arg).encode()
    raise TypeError("cannot send %r" % (arg,))


def encode(*args):
    """One command as a RESP array of bulk strings."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = to_bytes(arg)
        out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(out)


def words(line):
    """"SET k 1" or ["SET", "k", 1] as a list of arguments."""
    return line.split() if isinstance(line, (str, bytes)) else list(line)


def show(data, limit=200):
    """Bytes, or anything, for a failure message: long ones cut in the middle."""
    text = data if isinstance(data, str) else repr(bytes(data) if isinstance(
        data, (bytes, bytearray)) and type(data) in (bytes, bytearray) else data)
    if len(text) <= limit:
        return text
    return "%s...(%d more)...%s" % (text[:limit // 2], len(text) - limit, text[-limit // 2:])


class Conn:
    """One connection. `timeout` bounds each wait for bytes, in seconds."""

    def __init__(self, addr, timeout=20.0, protocol=2, rcvbuf=None):
        if isinstance(addr, int):
            addr = ("127.0.0.1", addr)
        self.addr = addr
        family = socket.AF_INET6 if ":" in addr[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(timeout)
        self.sock.connect(addr)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = bytearray()
        self.pos = 0
        if protocol == 3:
            answer = self.cmd("HELLO", 3)
            if isinstance(answer, Error):
                raise ProtocolError("HELLO 3 was answered %r" % (answer,))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with a TCP RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def local_addr(self):
        return "%s:%d" % self.sock.getsockname()[:2]

    # -- sending ---------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def send_split(self, data, step=1, pause=0.0):
        """Sends `data` in pieces of `step` bytes, each a segment of its own as far as the
        sender can tell (no Nagle)."""
        for i in range(0, len(data), step):
            self.sock.sendall(data[i:i + step])
            if pause:
                time.sleep(pause)

    # -- receiving -------------------------------------------------------------------------

    def _fill(self):
        if self.pos and self.pos == len(self.buf):
            del self.buf[:]
            self.pos = 0
        data = self.sock.recv(1 << 20)
        if not data:
            raise Closed(self.buf[self.pos:])
        self.buf += data

    def _line(self, pos):
        while True:
            end = self.buf.find(b"\r\n", pos)
            if end >= 0:
                return bytes(self.buf[pos:end]), end + 2
            off = pos - self.pos
            self._fill()
            pos = self.pos + off

    def _need(self, pos, count):
        while len(self.buf) - pos < count:
            off = pos - self.pos
            self._fill()
            pos = self.pos + off
        return pos

    def _parse(self, pos):
        """Parses the reply at `pos`; positions are kept relative to self.pos while filling."""
        base = pos - self.pos
        line, nxt = self._line(pos)
        pos = self.pos + base
        kind, rest = line[:1], line[1:]
        nxt = pos + len(line) + 2
        if kind == b"+":
            return Simple(rest), nxt
        if kind == b"-":
            return Error(rest), nxt
        if kind == b":":
            return int(rest), nxt
        if kind in b"$=!" and kind:
            n = int(rest)
            if n < 0:
                return None, nxt
            off = nxt - self.pos
            self._need(nxt, n + 2)
            nxt = self.pos + off
            if self.buf[nxt + n:nxt + n + 2] != b"\r\n":
                raise ProtocolError("bulk of %d bytes not ended by CRLF but %r" % (
                    n, bytes(self.buf[nxt + n:nxt + n + 2])))
            body = bytes(self.buf[nxt:nxt + n])
            return ({b"$": bytes, b"=": Verbatim, b"!": Error}[kind](body)), nxt + n + 2
        if kind in b"*~>" and kind:
            n = int(rest)
            if n < 0:
                return None, nxt
            items = {b"*": list, b"~": Set, b">": Push}[kind]()
            for _ in range(n):
                item, nxt = self._parse(nxt)
                items.append(item)
            return items, nxt
        if kind in b"%|" and kind:
            pairs = Map()
            for _ in range(int(rest)):
                k, nxt = self._parse(nxt)
                v, nxt = self._parse(nxt)
                pairs.append((k, v))
            if kind == b"|":  # an attribute belongs to the reply after it
                value, nxt = self._parse(nxt)
                return [("attribute", pairs), value], nxt
            return pairs, nxt
        if kind == b"_":
            return NULL, nxt
        if kind == b"#":
            return rest == b"t", nxt
        if kind == b",":
            return Double(rest), nxt
        if kind == b"(":
            return Big(rest), nxt
        raise ProtocolError("reply begins with %r" % show(line))

    def read_both(self):
        """(value, raw bytes) of the next reply. A timeout leaves the stream usable."""
        # _parse hands positions through self.pos, which moves only here and in _fill when empty.
        value, end = self._parse(self.pos)
        raw = bytes(self.buf[self.pos:end])
        self.pos = end
        return value, raw

    def read(self):
        value, end = self._parse(self.pos)
        self.pos = end
        if self.pos > 1 << 22:
            del self.buf[:self.pos]
            self.pos = 0
        return value

    def read_raw(self):
        return self.read_both()[1]

    def read_exact(self, count):
        """The next `count` bytes, whatever they are."""
        self._need(self.pos, count)
        data = bytes(self.buf[self.pos:self.pos + count])
        self.pos += count
        return data

    def read_until_closed(self, timeout=5.0):
        """All bytes up to the close, or Closed is never seen: socket.timeout."""
        self.sock.settimeout(timeout)
        out = bytearray(self.buf[self.pos:])
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return bytes(out)
            out += data

    def is_silent(self, seconds=0.2):
        """True when no byte and no close arrives for so long."""
        if self.pos < len(self.buf):
            return False
        old = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
            return False  # bytes, or the end
        except (socket.timeout, BlockingIOError):
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(old)

    # -- commands --------------------------------------------------------------------------

    def cmd(self, *args):
        self.send(encode(*args))
        return self.read()

    def cmd_raw(self, *args):
        self.send(encode(*args))
        return self.read_raw()

    def pipeline(self, commands):
        """Sends all commands in one write, then reads as many replies."""
        commands = list(commands)
        self.send(b"".join(encode(*words(c)) for c in commands))
        return [self.read() for _ in commands]


def connect_when_up(addr, deadline_s=20.0, timeout=20.0):
    """A Conn to an address that may not listen yet."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            return Conn(addr, timeout=timeout)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
