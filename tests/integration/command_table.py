#!/usr/bin/env python3
"""Compares the proxy's command table with live servers.

    command_table.py --dump PROGRAM [--server redis-server] [unittest's own arguments]

PROGRAM is dump_command_table, which prints the table and, with --keys, finds the keys of requests.
Facts are compared with COMMAND; key positions with COMMAND GETKEYS, and with the positions that
a cluster node uses itself, which is what routing depends on.
"""
import argparse
import os
import random
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness.resp import Conn, Error, encode, show  # noqa: E402
from harness.servers import (BUS, PROGRAM, die_with_parent, free_port, key_slot,  # noqa: E402
                             scratch, wait_until)

# Rows that older servers do not have, and the first version that does.
NEWER = {
    "client|no-touch": "7.2", "client|setinfo": "7.2", "cluster|myshardid": "7.2",
    "waitaof": "7.2", "client|capa": "Valkey 8.0", "cluster|slot-stats": "Valkey 8.0",
    "script|show": "Valkey 8.0",
}
# Rows that COMMAND of a plain server never shows, and why we have them.
NOT_TOLD = {
    "debug|object": "the server has no rows for the subcommands of DEBUG",
    "sentinel": "only known to a server in sentinel mode",
}
# Arities that were widened: (the old one, the first version with ours).
WIDENED = {
    "zrank": (3, "7.2"), "zrevrank": (3, "7.2"),
    "command|getkeys": (-4, "7.2"), "command|getkeysandflags": (-4, "7.2"),
}
# Flags of ours that the server has no word for, or does not tell.
OUR_FLAGS = {
    "script": {"eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"},
    "tx": {"multi", "exec", "discard", "watch", "unwatch"},
    "guarded": {"config|set", "config|rewrite", "config|resetstat", "debug", "acl|setuser",
                "acl|deluser", "acl|load", "acl|save", "acl|list", "acl|users", "acl|getuser",
                "acl|dryrun", "acl|log", "pfselftest"},
    "may_replicate": {"eval", "evalsha", "fcall", "pfcount", "publish", "spublish"},
}
# Flags that Valkey 8.0 changed, with no effect on where a command goes: (added, taken away).
VALKEY_FLAGS = {
    "multi": ({"no_multi"}, set()), "watch": ({"no_multi"}, set()),
    "wait": ({"blocking"}, {"noscript"}),
}
VALKEY_FLAGS.update((n, (set(), {"noscript"})) for n in (
    "blmove", "blpop", "brpop", "brpoplpush", "bzpopmax", "bzpopmin"))
VALKEY_FLAGS.update((n, ({"loading"}, set())) for n in (
    "cluster|info", "cluster|myid", "cluster|nodes", "cluster|shards", "cluster|slots"))
TOLD_FLAGS = {"write", "readonly", "blocking", "pubsub", "admin", "no_multi", "noscript", "denyoom",
              "fast", "loading", "stale", "no_auth", "asking"}

options = argparse.Namespace(server=PROGRAM, dump=None)


# -- what is compared --------------------------------------------------------------------------

class Row:
    def __init__(self, line):
        words = line.split()
        self.name, self.arity = words[0], int(words[1])
        self.flags = set() if words[2] == "-" else set(words[2].split(","))
        self.first, self.last, self.step = (int(w) for w in words[3:6])
        self.keys, self.route, self.merge, self.local = words[6:10]

    def fits(self, argc):
        return argc == self.arity if self.arity >= 0 else argc >= -self.arity


def run_dump(*args, text=""):
    if options.dump is None:
        raise AssertionError("--dump PROGRAM is missing")
    done = subprocess.run([options.dump, *args], input=text, stdout=subprocess.PIPE,
                          universal_newlines=True, timeout=120)
    if done.returncode != 0:
        raise AssertionError("%s ended with %d" % (options.dump, done.returncode))
    return done.stdout.splitlines()


def our_table():
    rows = [Row(line) for line in run_dump()]
    assert len(rows) > 300, "only %d rows" % len(rows)
    return {row.name: row for row in rows}


def our_keys(requests):
    """For each request (a list of str) its key positions, or "bad" or "unknown"."""
    text = "".join(" ".join(a.encode("latin-1").hex() or "-" for a in r) + "\n" for r in requests)
    answers = run_dump("--keys", text=text)
    assert len(answers) == len(requests), (len(answers), len(requests))
    return [a if a in ("bad", "unknown") else
            [] if a == "none" else [int(w) for w in a.split()] for a in answers]


def text_of(reply):
    """A reply with all its bytes as str."""
    if isinstance(reply, bytes):
        return reply.decode("latin-1")
    return [text_of(x) for x in reply] if isinstance(reply, list) else reply


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


class ServerRow:
    def __init__(self, reply):
        self.name, self.arity, flags, self.first, self.last, self.step = reply[:6]
        self.flags = set(flags)
        self.specs = [pairs(spec) for spec in reply[8]]

    def found_by(self, find_type):
        """Where the key specs of one type begin, with what they say of the keys."""
        out = []
        for spec in self.specs:
            begin, find = pairs(spec["begin_search"]), pairs(spec["find_keys"])
            if find["type"] == find_type:
                out.append((begin["type"], pairs(begin["spec"]), pairs(find["spec"])))
        return out


def server_table(conn):
    rows = {}

    def add(reply):
        row = ServerRow(reply)
        rows[row.name] = row
        for sub in reply[9]:
            add(sub)

    for reply in text_of(conn.cmd("COMMAND")):
        add(reply)
    assert len(rows) > 300, "COMMAND told only %d rows" % len(rows)
    return rows


# -- servers -----------------------------------------------------------------------------------

class Process:
    """One process of --server on a free port, stopped by its pid."""

    def __init__(self, *args, cluster=False, sentinel=False):
        self.port = free_port()
        folder = scratch("table-%d" % self.port)
        argv = [options.server]
        if sentinel:
            path = os.path.join(folder, "sentinel.conf")
            with open(path, "w") as f:
                f.write("port %d\nbind 127.0.0.1\ndir %s\n" % (self.port, folder))
            argv += [path, "--sentinel"]
        else:
            argv += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                     "--appendonly", "no"]
        if cluster:
            argv += ["--cluster-enabled", "yes", "--cluster-port", str(self.port + BUS),
                     "--cluster-require-full-coverage", "no"]
        self.proc = subprocess.Popen(argv + list(args), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                     preexec_fn=die_with_parent)
        try:
            wait_until("%s listens" % options.server, self.listens)
        except BaseException:
            self.stop()
            raise

    def listens(self):
        if self.proc.poll() is not None:
            raise AssertionError("%s ended with %d" % (options.server, self.proc.returncode))
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.proc.kill()
        self.proc.wait()


# -- requests ----------------------------------------------------------------------------------

COUNTS = ["1", "2", "3", "4", "0", "-1", "-3", "x", "", "+2", " 2", "2x", "02", "1.5", "-", "99",
          "2147483647", "2147483648", "4294967295", "4294967296", "4294967298", "-4294967294",
          "9223372036854775807", "9223372036854775808", "-9223372036854775808",
          "99999999999999999999999"]
# The words that the odd kinds look for; random requests are made of these and of plain names.
WORDS = {
    "streams": ["streams", "STREAMS", "count", "Block", "group", "noack", "5"],
    "sort": ["store", "STORE", "by", "get", "limit", "Limit", "asc", "0"],
    "georadius": ["store", "StoreDist", "storedist", "count", "m", "1"],
    "migrate": ["keys", "KEYS", "auth", "auth2", "copy", "replace", ""],
}
# Options in the order a client would give them, for GETKEYS.
WELL_FORMED = {
    "xread": ["streams {} 0", "count 1 streams {} {} 0 0",
              "block 0 count 2 STREAMS {} {} {} 0 0 0"],
    "xreadgroup": ["group g c streams {} >", "group g c count 1 noack STREAMS {} {} > >",
                   "noack group streams c streams {} >"],
    "sort": ["{}", "{} store {}", "{} by w get x limit 0 1 asc store {}", "{} store {} STORE {}",
             "{} by store get store", "{} limit store store store {}", "{} store"],
    "georadius": ["{} 1 2 3 m", "{} 1 2 3 m count 1 store {}", "{} 1 2 3 m StoreDist {} asc"],
    "georadiusbymember": ["{} m 3 km", "{} m 3 km store {}", "{} store 3 km STOREDIST {}"],
    "migrate": ["h 1 {} 0 5", "h 1 {} 0 5 copy replace auth keys", "h 1 '' 0 5 keys {} {}",
                "h 1 '' 0 5 copy auth keys KEYS {}", "h 1 '' 0 5 auth2 keys keys keys {} {}"],
}


def names():
    """Plain names of one slot, each another."""
    n = 0
    while True:
        n += 1
        yield "{k}%d" % n


def fill(template, name):
    return ["" if w == "''" else next(name) if w == "{}" else w for w in template.split()]


def well_formed(row):
    """Requests whose keys COMMAND GETKEYS finds as a cluster node does."""
    head = row.name.split("|")
    least = abs(row.arity)
    if row.name in WELL_FORMED:
        return [head + fill(t, names()) for t in WELL_FORMED[row.name]]
    lengths = [least] if row.arity > 0 else range(least, least + 4)
    if row.keys != "numkeys":
        return [head + [a for a, _ in zip(names(), range(n - len(head)))] for n in lengths]
    out = []
    for count in COUNTS:
        for n in range(1, 5):
            name = names()
            before = [next(name) for _ in range(row.first - 1)]
            out.append(head + before + [count] + [next(name) for _ in range(n)])
    return out


def random_requests(row, rng, count):
    """Requests full of misplaced option words."""
    head, out = row.name.split("|"), []
    while len(out) < count:
        name = names()
        body = [rng.choice(WORDS[row.keys]) if rng.random() < 0.6 else next(name)
                for _ in range(rng.randrange(1, 12))]
        if row.keys == "migrate" and len(body) > 2 and rng.random() < 0.5:
            body[2] = ""
        if row.fits(len(head) + len(body)):
            out.append(head + body)
    return out


def keyed_rows(ours):
    return [r for r in ours.values() if r.keys != "none" and r.name not in NOT_TOLD]


def fitting(requests, ours):
    """Those with an arity that both the table and old servers accept."""
    for r in requests:
        name = "|".join(r[:2]) if "|".join(r[:2]) in ours else r[0]
        old = WIDENED.get(name, (None,))[0]
        if ours[name].fits(len(r)) and (old is None or len(r) == old):
            yield r


# -- the tests ---------------------------------------------------------------------------------

class Facts(unittest.TestCase):
    """The table against COMMAND."""

    @classmethod
    def setUpClass(cls):
        cls.server = Process()
        cls.addClassCleanup(cls.server.stop)
        with Conn(cls.server.port) as conn:
            cls.theirs = server_table(conn)
            cls.is_valkey = b"valkey_version:" in conn.cmd("INFO", "server")
        cls.ours = our_table()
        cls.both = sorted(set(cls.ours) & set(cls.theirs))

    def test_1_no_row_is_missing(self):
        self.assertEqual(sorted(set(self.theirs) - set(self.ours)), [])

    def test_2_no_row_is_invented(self):
        extra = set(self.ours) - set(self.theirs)
        self.assertEqual(sorted(extra - set(NEWER) - set(NOT_TOLD)), [])
        self.assertEqual(sorted((set(NEWER) | set(NOT_TOLD)) - set(self.ours)), [],
                         "listed as known, but the table has no such row")

    def test_3_arity(self):
        for name in self.both:
            with self.subTest(name):
                ours, theirs = self.ours[name].arity, self.theirs[name].arity
                if theirs != ours:
                    self.assertEqual(theirs, WIDENED.get(name, (ours,))[0])

    def test_4_flags(self):
        for name in self.both:
            with self.subTest(name):
                added, gone = VALKEY_FLAGS.get(name, ((), ())) if self.is_valkey else ((), ())
                self.assertEqual(sorted((self.ours[name].flags - set(OUR_FLAGS) - set(gone)) |
                                        set(added)),
                                 sorted(self.theirs[name].flags & TOLD_FLAGS))

    def test_5_our_own_flags(self):
        for flag, names_ in OUR_FLAGS.items():
            with self.subTest(flag):
                self.assertEqual({n for n, row in self.ours.items() if flag in row.flags}, names_)
        # A script is what may be called without keys although it can have some.
        self.assertEqual({n for n, row in self.theirs.items() if "no_mandatory_keys" in row.flags},
                         OUR_FLAGS["script"])

    def test_6_key_positions(self):
        for name in self.both:
            ours, theirs = self.ours[name], self.theirs[name]
            with self.subTest(name):
                told = (theirs.first, theirs.last, theirs.step)
                if ours.keys == "numkeys":
                    begin = [(i["index"] + k["keynumidx"], k["firstkey"] - k["keynumidx"],
                              k["keystep"])
                             for t, i, k in theirs.found_by("keynum") if t == "index"]
                    self.assertEqual(begin, [(ours.first, 1, ours.step)])
                    # What the old-style range tells beside them is the destination.
                    self.assertEqual(told, (ours.last,) * 2 + (min(ours.last, 1),))
                else:
                    self.assertEqual((ours.first, ours.last, ours.step), told)
                    self.assertEqual(ours.keys == "none", not theirs.specs)

    def test_7_kinds_of_keys(self):
        odd = {n for n, row in self.theirs.items() if "movablekeys" in row.flags}
        # SORT_RO is told to be odd for its BY and GET patterns, which are no keys here.
        self.assertEqual(odd, {"sort_ro"} | {n for n, row in self.ours.items()
                                             if row.keys not in ("none", "range")})
        streams = {n for n, row in self.theirs.items()
                   if any(t == "keyword" and b["keyword"] == "STREAMS"
                          for t, b, _ in row.found_by("range"))}
        self.assertEqual(streams, {n for n, row in self.ours.items() if row.keys == "streams"})

    def test_8_split_commands_take_a_whole_range(self):
        split = {n: row for n, row in self.ours.items() if row.route == "split"}
        self.assertEqual(set(split), {"mget", "mset", "del", "unlink", "exists", "touch"})
        for row in split.values():
            self.assertEqual((row.keys, row.last), ("range", -1), row.name)

    def test_9_sentinel_knows_the_row_that_others_do_not(self):
        process = Process(sentinel=True)
        self.addCleanup(process.stop)
        with Conn(process.port) as conn:
            row = ServerRow(text_of(conn.cmd("COMMAND", "INFO", "sentinel"))[0])
        self.assertEqual(self.ours["sentinel"].arity, row.arity)
        self.assertEqual(self.ours["sentinel"].flags, row.flags & TOLD_FLAGS)


class Keys(unittest.TestCase):
    """Key positions against COMMAND GETKEYS."""

    def test_as_getkeys_tells(self):
        server = Process()
        self.addCleanup(server.stop)
        ours = our_table()
        # Channels are no keys to GETKEYS. It refuses a PFMERGE without sources, which is a good
        # request; the test of routing has both.
        requests = [r for row in keyed_rows(ours) if "pubsub" not in row.flags
                    for r in fitting(well_formed(row), ours) if r != ["pfmerge", "{k}1"]]
        self.assertGreater(len(requests), 500)
        with Conn(server.port) as conn:
            conn.send(b"".join(encode("COMMAND", "GETKEYS", *r) for r in requests))
            answers = [conn.read() for _ in requests]
        with_keys = 0
        for request, mine, answer in zip(requests, our_keys(requests), answers):
            with self.subTest(show(" ".join(request).encode("latin-1"))):
                if isinstance(answer, Error):
                    self.assertEqual(text_of(answer), "ERR Invalid arguments specified for command")
                    self.assertEqual(mine, "bad")
                elif not answer:
                    self.assertIn(mine, ("bad", []))
                else:
                    self.assertNotIn(mine, ("bad", "unknown"))
                    self.assertEqual(sorted(request[i] for i in mine), sorted(text_of(answer)))
                    with_keys += 1
        self.assertGreater(with_keys, 250)

    def test_newer_and_keyless_rows_find_no_keys(self):
        ours = our_table()
        rows = [r for r in ours.values() if r.keys == "none"]
        requests = [r.name.split("|") + ["{k}1", "{k}2"] for r in rows]
        self.assertEqual(our_keys(requests), [[]] * len(requests))


class Routing(unittest.TestCase):
    """Key positions against those that a cluster node uses to check a request's slots.

    The node serves one slot, that of the plain names. A request in MULTI is checked but not run:
    a first key of another slot is answered CLUSTERDOWN, a later one CROSSSLOT, and what has no key
    or only keys of the node's slot is let in. Each argument in turn is replaced by a name of a
    foreign slot, so that a key nobody looked at, or one too many, shows in the answer.
    """

    def expected(self, request, mine):
        if mine in ("bad", "unknown"):
            mine = []
        if request[0] in ("zunionstore", "zinterstore", "zdiffstore"):
            mine = mine[1:] + mine[:1]  # a node looks at the destination last
        slots = [key_slot(request[i].encode("latin-1")) for i in mine]
        if slots and slots[0] != self.slot:
            return "CLUSTERDOWN"
        return "CROSSSLOT" if len(set(slots)) > 1 else "let in"

    def start_node(self):
        server = Process(cluster=True)
        self.addCleanup(server.stop)
        self.slot = key_slot(b"{k}")
        conn = Conn(server.port)
        self.addCleanup(conn.close)
        self.assertEqual(text_of(conn.cmd("CLUSTER", "ADDSLOTS", self.slot)), "OK")
        # Not let into a MULTI at all, whatever their slots.
        self.outside = {n for n, row in server_table(conn).items() if "no_multi" in row.flags}
        wait_until("cluster_state:ok",
                   lambda: b"cluster_state:ok" in conn.cmd("CLUSTER", "INFO"))
        return conn

    def told(self, conn, requests):
        out = []
        for at in range(0, len(requests), 200):
            part = requests[at:at + 200]
            conn.send(b"".join(encode("MULTI") + encode(*r) + encode("DISCARD") for r in part))
            for _ in part:
                self.assertEqual(text_of(conn.read()), "OK")
                answer = text_of(conn.read())
                self.assertEqual(text_of(conn.read()), "OK")
                code = answer.split()[0]
                if code in ("CLUSTERDOWN", "CROSSSLOT"):
                    self.assertIn("slot", answer.lower())
                    out.append(code)
                else:
                    # WATCH is refused for being inside MULTI, after the check of its slots; Valkey
                    # refuses SUNSUBSCRIBE without a subscription, then too.
                    self.assertIn(answer, (
                        "QUEUED", "ERR WATCH inside MULTI is not allowed",
                        "NOSUB 'sunsubscribe' command executed not in subscribed mode"))
                    out.append("let in")
        return out

    def requests(self, ours):
        rng = random.Random(7)
        for row in keyed_rows(ours):
            if row.name in self.outside:
                continue
            requests = well_formed(row)
            if row.keys in WORDS:
                requests += random_requests(row, rng, 400)
            for request in fitting(requests, ours):
                yield request
                for i in range(len(row.name.split("|")), len(request)):
                    yield request[:i] + ["{foreign}%d" % i] + request[i + 1:]

    def test_as_a_cluster_node_routes(self):
        conn = self.start_node()
        self.assertNotEqual(self.slot, key_slot(b"{foreign}"))
        ours = our_table()
        requests = list(self.requests(ours))
        mine = our_keys(requests)
        expected = [self.expected(r, m) for r, m in zip(requests, mine)]
        for kind in ("let in", "CLUSTERDOWN", "CROSSSLOT"):
            self.assertGreater(expected.count(kind), 500, kind)
        wrong = ["%s: the node says %s, our keys %s mean %s" % (
                     show(" ".join(r).encode("latin-1")), t, m, e)
                 for r, m, e, t in zip(requests, mine, expected, self.told(conn, requests))
                 if e != t]
        self.assertEqual(wrong[:20], [], "%d of %d differ" % (len(wrong), len(requests)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default=PROGRAM)
    parser.add_argument("--dump", required=True)
    _, rest = parser.parse_known_args(namespace=options)
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)


if __name__ == "__main__":
    main()
