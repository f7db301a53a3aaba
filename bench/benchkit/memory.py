"""Resident memory: at the start, with idle connections, after they went, under load, after a burst.

Each target is a fresh process with two workers (one, where it knows no more)."""
import selectors
import socket
import threading
import time

from . import load, machine, resp

SETTLE = 30  # seconds within which memory has to be given back
BURST_CLIENTS, BURST_DEPTH, BURST_VALUE, BURST_KEYS = 32, 32, 1 << 20, 16


def idle_connections(target, count):
    """Opens count connections, one GET answered on each; closes them; watches the memory."""
    res = {"start": machine.rss_bytes(target.pids)}
    request, size = resp.encode("GET", resp.key_name(1)), len(b"$3\r\nxxx\r\n")
    socks, answered = [], 0
    try:
        while len(socks) < count:
            batch = []
            for _ in range(min(100, count - len(socks))):
                s = socket.create_connection((target.host, target.port), 10)
                socks.append(s)
                batch.append(s)
                s.sendall(request)
            for s in batch:
                got = b""
                while len(got) < size:
                    part = s.recv(64)
                    if not part:
                        raise OSError("closed by the target")
                    got += part
                answered += 1
    except OSError as e:
        res["error"] = "after %d connections: %s" % (answered, e)
    time.sleep(1)
    res["idle"], res["opened"] = machine.rss_bytes(target.pids), answered
    for s in socks:
        s.close()
    end = time.monotonic() + SETTLE
    while time.monotonic() < end:
        time.sleep(1)
        res["closed"] = machine.rss_bytes(target.pids)
        if "back_after" not in res and res["closed"] <= res["start"] * 1.15:
            res["back_after"] = SETTLE - (end - time.monotonic())
    if res["opened"]:
        res["bytes_per_connection"] = (res["idle"] - res["start"]) / res["opened"]
    return res


def under_load(target):
    """The highest of some samples while 500 clients keep 64 requests each in flight."""
    res, stop = {"peak": 0}, threading.Event()

    def watch():
        while not stop.wait(0.05):
            res["peak"] = max(res["peak"], machine.rss_bytes(target.pids))
    t = threading.Thread(target=watch)
    t.start()
    _, error = load.drive(load.command(target, load.Cell("get", 64, clients=500), 2000000))
    stop.set()
    t.join()
    if error:
        res["error"] = error
    return res


def burst(target):
    """1 GiB of replies asked for at once by clients that read only a second later."""
    load.drive(load.command(target, load.Cell("get", 1), 20000))
    time.sleep(2)
    res = {"before": machine.rss_bytes(target.pids), "peak": 0}
    want = BURST_DEPTH * (BURST_VALUE + len("$%d\r\n\r\n" % BURST_VALUE))
    sel, left = selectors.DefaultSelector(), {}
    for _ in range(BURST_CLIENTS):
        s = socket.create_connection((target.host, target.port), 10)
        s.sendall(b"".join(resp.encode("GET", "burst:%d" % (i % BURST_KEYS))
                           for i in range(BURST_DEPTH)))
        s.setblocking(False)
        sel.register(s, selectors.EVENT_READ)
        left[s] = want
    time.sleep(1)
    res["peak"] = machine.rss_bytes(target.pids)
    end, scratch, turn = time.monotonic() + 60, bytearray(1 << 20), 0
    while sel.get_map() and time.monotonic() < end:
        for key, _ in sel.select(1):
            n = key.fileobj.recv_into(scratch)
            left[key.fileobj] -= n
            if n == 0 or left[key.fileobj] <= 0:
                sel.unregister(key.fileobj)
        turn += 1
        if turn % 64 == 0:
            res["peak"] = max(res["peak"], machine.rss_bytes(target.pids))
    missing = sum(left.values())
    if missing:
        res["error"] = "%d bytes of replies are missing" % missing
    for s in left:
        s.close()
    time.sleep(SETTLE)
    res["after"] = machine.rss_bytes(target.pids)
    return res


def measure(servers, starters, fill_from, idle_count, say):
    """starters: name -> function that starts a fresh target. Returns name -> figures."""
    got_files = load.raise_file_limit(2 * idle_count + 2000)
    if got_files < 2 * idle_count + 2000:
        say("memory: only %d files may be open; fewer connections may fit" % got_files)
    out = {}
    load.fill(fill_from, 3)
    for name, start in starters.items():
        t = start()
        time.sleep(2)
        out[name] = {"workers": t.workers, "connections": idle_connections(t, idle_count)}
        servers.stop(t.pids)
        t = start()
        out[name]["load"] = under_load(t)
        servers.stop(t.pids)
        say("memory %s %s" % (name, out[name]))
    for t in fill_from:
        for where in (t.cluster or [t.plain]):
            with where.client() as c:
                for i in range(BURST_KEYS):
                    key = "burst:%d" % i
                    if not t.cluster or where.first_slot <= resp.slot(key) <= where.last_slot:
                        c("SET", key, b"x" * BURST_VALUE)
    for name, start in starters.items():
        t = start()
        out[name]["burst"] = burst(t)
        servers.stop(t.pids)
        say("burst %s %s" % (name, out[name]["burst"]))
    return out
