"""A reply that is longer than all buffers and read slowly: who shares its connection moves away."""
import os
import selectors
import subprocess
import sys
import threading
import time
import unittest

from harness.case import Case
from harness.fake import FakeCluster
from harness.proxy import STANDIN, Proxy, grace, scaled
from harness.resp import OK, Conn, encode
from harness.servers import Cluster, wait_until

ALONE = True  # it looks at the clock or at memory
MIB = 1 << 20
LONG = bool(os.environ.get("KEYWAY_TEST_LONG"))


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("a plain server has no connections to share")


def keyway_info(port):
    with Conn(port) as c:
        lines = c.cmd("INFO", "keyway").decode().split("\r\n")
    return {k: v for k, _, v in (line.partition(":") for line in lines)}


class Unsent(Case):
    """A fake server that, between the begin of a long reply and its end, reads nothing."""

    SIZE = 24 * MIB

    def test_requests_not_sent_move_and_keep_their_order(self):
        with FakeCluster(1) as cluster, Proxy(cluster.seeds(), workers=1).wait_start() as p:
            node = cluster.nodes[0]
            begin, finish = threading.Event(), threading.Event()

            def long_reply(conn, argv):
                """Half of it when told to; the rest, and what came behind, when told again."""
                begin.wait(grace(20))
                conn.send(b"$%d\r\n" % self.SIZE + b"x" * (self.SIZE // 2))
                finish.wait(grace(20))
                conn.send(b"x" * (self.SIZE - self.SIZE // 2) + b"\r\n")
            node.rule("GET", long_reply, times=1, key="long")
            slow = Conn(p.port, timeout=grace(20), rcvbuf=65536)
            slow.send(encode("GET", "long"))
            wait_until("the server has it", lambda: node.calls("GET", "long"))
            # More than the sockets between proxy and server hold: the last ones cannot be sent.
            value = "v" * 60000
            many = [Conn(p.port, timeout=grace(20)) for _ in range(4)]
            threads = []
            n = 100
            for i, c in enumerate(many):
                t = threading.Thread(target=c.send, daemon=True, args=(b"".join(
                    encode("SET", "order%d" % i, "%d:%s" % (k, value)) for k in range(n)),))
                t.start()
                threads.append(t)
            for t in threads:
                t.join(grace(20))
            with Conn(p.port, timeout=grace(20)) as mark:
                mark.cmd("PING")
                late = [Conn(p.port, timeout=grace(20)) for _ in range(10)]
                for i, c in enumerate(late):
                    c.send(encode("SET", "late%d" % i, "1") + encode("INCR", "late%d" % i))
                mark.cmd("PING")
            time.sleep(grace(0.2))
            self.assertEqual(0, node.calls("SET", "late0"), "the connection is full")
            begin.set()
            # These had sent nothing: they are answered though the reply is not at its end.
            at = time.monotonic()
            for c in late:
                self.assertEqual([OK, 2], [c.read(), c.read()])
            self.assertLess(time.monotonic() - at, grace(2), "before backend.request_timeout")
            self.assertFalse(finish.is_set())
            self.assertEqual("1", keyway_info(p.port)["keyway_detached"])
            finish.set()
            for i, c in enumerate(many):
                self.assertEqual([OK] * n, [c.read() for _ in range(n)])
            got = slow.read()
            self.assertTrue(got == b"x" * self.SIZE)
            # Each ran once, and those of one client in the order in which it sent them.
            with node.lock:
                log = [argv for _, argv in node.log if argv[0] == b"SET"]
            for i in range(len(many)):
                key = b"order%d" % i
                self.assertEqual(list(range(n)), [int(argv[2].split(b":")[0]) for argv in log
                                                  if argv[1] == key])
            for c in many + late + [slow]:
                c.close()


# A process of its own, so that its work is not measured as delay of the others.
READER = """
import socket, sys, time
port, size, rate = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
s = socket.create_connection(("127.0.0.1", port))
s.sendall(b"*2\\r\\n$3\\r\\nGET\\r\\n$3\\r\\nbig\\r\\n")
want, got, begun = size + len(str(size)) + 5, 0, time.monotonic()
while got < want:
    part = s.recv(1 << 18)
    if not part:
        sys.exit("closed after %d bytes" % got)
    got += len(part)
    ahead = got / rate - (time.monotonic() - begun)
    if ahead > 0:
        time.sleep(ahead)
print("%.1f" % (size / (time.monotonic() - begun) / 1e6))
"""


class Neighbours(Case):
    CLIENTS = 20

    def measure(self, until):
        """Latencies, and how many clients: GETs of 3 bytes: CLIENTS clients, each one GET at a time and 100 a second.
        In the place of one that waits for long comes a new one."""
        sel = selectors.DefaultSelector()
        request, reply = encode("GET", "small"), b"$3\r\nabc\r\n"
        due, begun, took, conns, replaced = {}, {}, [], [], set()

        def come():
            conns.append(Conn(self.port))
            sel.register(conns[-1].sock, selectors.EVENT_READ, len(conns) - 1)
            due[len(conns) - 1] = time.monotonic() + len(conns) % 20 * 0.0005
        for _ in range(self.CLIENTS):
            come()
        while begun or not until():
            now = time.monotonic()
            for i in [i for i, at in due.items() if at <= now and not until()]:
                del due[i]
                begun[i] = time.monotonic()
                conns[i].sock.sendall(request)
            for key, _ in sel.select(0.001):
                i = key.data
                self.assertEqual(reply, key.fileobj.recv(100))
                took.append(time.monotonic() - begun.pop(i))
                if i not in replaced:
                    due[i] = time.monotonic() + 0.01
            for i in [i for i, at in begun.items() if now - at > 0.3 and i not in replaced]:
                replaced.add(i)
                come()
            if now > self.end:
                self.fail("%d GETs are not answered" % len(begun))
        for c in conns:
            c.close()
        return sorted(took), len(conns)

    def test_latency_while_one_client_moves_a_large_value(self):
        """Those that had been sent behind the large reply are counted by the proxy and left out. A
        busy machine may spoil a turn, and the far end of a distribution: p99 is judged by --long."""
        size = (512 if LONG else scaled(128)) * MIB
        config = "backend: {lane_stall: 300ms}\n"
        with Cluster(1, 0, node_timeout=15000) as cluster, \
                Proxy(cluster.seeds(), workers=1, config=config).wait_start() as p:
            with p.conn(timeout=grace(60)) as c:
                self.expect(c, "SET small abc", OK)
                self.assertEqual(OK, c.cmd("SET", "big", b"x" * size))
            self.port, self.end = p.port, time.monotonic() + grace(90)
            turns = []
            for _ in range(3):
                turns.append(self.turn(size))
                if self.good(turns, size):
                    break
            self.assertGreaterEqual(int(keyway_info(p.port)["keyway_detached"]), 1)
            self.assertTrue(self.good(turns, size), "seconds (median or p99 of the others' GETs, "
                            "what they are without the large reply, the slowest of all): %r" % turns)

    def good(self, turns, size):
        best = min(took - quiet for took, quiet, _ in turns)
        slowest = min(slowest for _, _, slowest in turns)
        # lane_stall, the copying in the server, the rest of the reply as fast as it comes
        return best < grace(0.02) and slowest < grace(1.2 + size / 5e8)

    def turn(self, size):
        def rank(values):
            return values[len(values) * (99 if LONG else 50) // 100]
        quiet_until = time.monotonic() + 0.5
        quiet = rank(self.measure(lambda: time.monotonic() > quiet_until)[0])
        before = int(keyway_info(self.port)["keyway_behind_large"])
        reader = subprocess.Popen([sys.executable, "-c", READER, str(self.port), str(size),
                                   str(50 * 10 ** 6)], stdout=subprocess.PIPE)
        took, clients = self.measure(lambda: reader.poll() is not None)
        rate = reader.communicate()[0].decode().strip()
        self.assertEqual(0, reader.returncode)
        behind = int(keyway_info(self.port)["keyway_behind_large"]) - before
        self.assertLessEqual(behind, clients, "one of each client at most")
        others = took[:len(took) - behind]
        print("    %d MiB at %s MB/s: %d GETs of others, median %.1f ms, p99 %.1f ms, max %.1f ms; %d "
              "were behind it already, max %.0f ms" % (
                  size // MIB, rate, len(others), others[len(others) // 2] * 1e3,
                  others[len(others) * 99 // 100] * 1e3, others[-1] * 1e3, behind, took[-1] * 1e3),
              file=sys.stderr)
        return rank(others), quiet, took[-1]


if __name__ == "__main__":
    unittest.main()
