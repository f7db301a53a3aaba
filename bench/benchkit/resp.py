"""A small RESP2 client: fills servers with keys, asks cluster commands, checks answers."""
import binascii
import socket


def encode(*args):
    out = [b"*%d\r\n" % len(args)]
    for x in args:
        x = x if isinstance(x, bytes) else str(x).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(x), x))
    return b"".join(out)


class RespError(Exception):
    pass


class Client:
    def __init__(self, host, port, timeout=20):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RespError(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        n = int(rest)
        if kind == b"$":
            return None if n < 0 else self.file.read(n + 2)[:-2]
        if kind == b"*":
            return None if n < 0 else [self.reply() for _ in range(n)]
        return n

    def __call__(self, *args):
        self.sock.sendall(encode(*args))
        return self.reply()

    def fill(self, keys, value):
        """SETs every key to value, pipelined so that neither side's buffers grow large."""
        step = max(1, min(500, (1 << 20) // len(value)))
        for i in range(0, len(keys), step):
            part = keys[i:i + step]
            self.sock.sendall(b"".join(encode("SET", k, value) for k in part))
            for _ in part:
                self.reply()


def slot(key):
    """CRC16 of the XMODEM kind is what binascii calls crc_hqx. Keys here have no hash tags."""
    return binascii.crc_hqx(key.encode(), 0) % 16384


def key_name(i):
    """The names that redis-benchmark -r makes."""
    return "key:%012d" % i
