"""INFO of all masters as one server's, and CONFIG GET: fields, sums, what is the proxy's own, answers
that clients share, and both while masters are away."""
import re
import threading
import time

from harness.case import Case, Setup, in_threads
from harness.proxy import SANITIZER, STANDIN, Proxy, grace
from harness.resp import Conn, Map, Verbatim, encode
from harness.servers import Cluster, free_port

setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


def parse(text):
    """{section: {field: value}}, in order."""
    out, section = {}, None
    for line in text.decode("latin-1").split("\r\n"):
        if line.startswith("# "):
            section = out.setdefault(line[2:], {})
        elif line:
            name, value = line.split(":", 1)
            section[name] = value
    return out


def settle():
    """Beyond the time between two rounds of asking the servers."""
    time.sleep(0.03)


class InfoCase(Case):
    def setUp(self):
        if STANDIN:
            self.skipTest("about what the proxy makes of several servers' answers")
        settle()

    def info(self, *sections, conn=None):
        with setup.proxy.conn() as c:
            got = (conn or c).cmd("INFO", *sections)
        self.not_error(got, "INFO " + " ".join(sections))
        return parse(got)

    def masters(self, section):
        return [parse(m.cmd("INFO", section)) for m in setup.cluster.masters()]


class Fields(InfoCase):
    def test_every_field_of_a_server_in_its_order(self):
        """All that a plain server shows, under the same heads and in the same order."""
        with setup.oracle.conn() as o, setup.proxy.conn() as c:
            for conn in (o, c):
                conn.cmd("SET", "a", "1")
                conn.cmd("GET", "a")
                conn.cmd("NOSUCHCOMMAND")
                conn.cmd("SET", "a")
            for asked in ("everything", "all", "default"):
                settle()
                want, got = parse(o.cmd("INFO", asked)), parse(c.cmd("INFO", asked))
                self.assertEqual(list(want) + ["Keyway"], list(got), "sections of INFO " + asked)
                for section, fields in want.items():
                    if section in ("Commandstats", "Errorstats", "Latencystats"):
                        shown = {f for f in fields if f.endswith(("_get", "_set"))}
                    else:
                        shown = [f for f in fields]
                        self.assertEqual(shown, [f for f in got[section] if f in fields],
                                         "the fields of %s and their order" % section)
                    self.assertEqual(set(), set(shown) - set(got[section]), section)

    def test_each_section_alone(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for section in ("server", "CLIENTS", "Memory", "persistence", "stats", "replication",
                            "cpu", "modules", "cluster", "keyspace", "errorstats"):
                want, got = o.cmd("INFO", section), c.cmd("INFO", section)
                self.assertEqual(list(parse(want)), list(parse(got)), "INFO " + section)
            self.assertEqual(["Server", "Stats"], list(self.info("stats", "server")))
            self.assertEqual(["Server", "Keyway"], list(self.info("keyway", "server")))
            self.assertEqual({}, self.info("nosuch"))
            self.assertEqual({}, self.info("x" * 5000))
            self.assertEqual(["Keyway"], list(self.info("keyway", "x" * 5000)))
            self.expect_error(c, "INFO " + "a " * 129, "ERR syntax error")

    def test_shape(self):
        """Byte for byte the shape of a server's: heads, CRLF, one empty line between sections."""
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            fold = [re.sub(rb"(?m)^([^#\r:]+):[^\r\n]*\r$", rb"\1:\r", conn.cmd("INFO", "cpu"))
                    for conn in (o, c)]
            self.assertEqual(fold[0], fold[1])
            fold = [re.sub(rb"(?m)^[^#\r:]+:[^\r\n]*\r\n", b"", conn.cmd("INFO", "all"))
                    for conn in (o, c)]
            self.assertEqual(fold[0] + b"\r\n# Keyway\r\n", fold[1])

    def test_verbatim_in_resp3(self):
        with setup.proxy.conn(protocol=3) as c:
            for args in ([], ["server"], ["keyway"], ["nosuch"]):
                for _ in range(2):  # the second one is shared
                    raw = c.cmd_raw("INFO", *args)
                    self.assertRegex(raw, rb"^=\d+\r\ntxt:")
            text = c.cmd("INFO", "server")
            self.assertIsInstance(text, Verbatim)
            self.assertNotIn(b"txt:", text[4:])

    def test_identity(self):
        info = self.info()
        server = info["Server"]
        self.assertEqual(str(setup.proxy.port), server["tcp_port"])
        self.assertEqual(str(setup.proxy.proc.pid), server["process_id"])
        self.assertEqual("standalone", server["redis_mode"])
        self.assertNotIn(server["run_id"], [m["Server"]["run_id"] for m in self.masters("server")])
        self.assertEqual(server["run_id"], self.info("server")["Server"]["run_id"])
        self.assertLess(int(server["uptime_in_seconds"]), 3600)
        self.assertLess(abs(int(server["server_time_usec"]) / 1e6 - time.time()), 5)
        self.assertEqual(("master", "0"), (info["Replication"]["role"],
                                          info["Replication"]["connected_slaves"]))
        self.assertFalse([f for f in info["Replication"] if f.startswith("slave")],
                         "replicas of the masters")
        self.assertEqual("0", info["Cluster"]["cluster_enabled"])
        self.assertEqual("0", info["Persistence"]["loading"])
        self.assertEqual(info["Keyway"]["keyway_run_id"], server["run_id"])


class Sums(InfoCase):
    def test_keyspace(self):
        with setup.proxy.conn() as c:
            setup.cluster.flush()
            c.pipeline([("SET", "sum:%d" % i, "1") for i in range(300)])
            c.pipeline([("EXPIRE", "sum:%d" % i, "1000") for i in range(0, 300, 3)])
            db = self.info("keyspace")["Keyspace"]["db0"]
            self.assertRegex(db, r"^keys=300,expires=100,avg_ttl=\d+$")
            # A server knows the mean only after its expiry cycle has looked; then all three agree.
            self.eventually("avg_ttl is the mean of the masters'", lambda: 990000 < int(
                self.info("keyspace")["Keyspace"]["db0"].split("avg_ttl=")[1]) <= 1000000)
            setup.cluster.flush()
            settle()
            self.assertEqual({"Keyspace": {}}, self.info("keyspace"))

    def test_counters(self):
        """A field of the merged answer lies between the sums taken before and after it."""
        fields = [("Stats", f) for f in ("total_commands_processed", "keyspace_hits",
                                         "keyspace_misses", "total_error_replies",
                                         "total_net_input_bytes", "total_reads_processed")]
        fields += [("Memory", "total_system_memory"), ("Persistence", "rdb_changes_since_last_save"),
                   ("Memory", "used_memory_startup"), ("CPU", "used_cpu_user")]
        with setup.proxy.conn() as c:
            for i in range(50):
                c.pipeline([("SET", "cnt:%d" % i, "1"), ("GET", "cnt:%d" % i), ("GET", "none:%d" % i),
                            ("INCRBY", "cnt:%d" % i, "x")])
            before = self.masters("everything")
            got = self.info("everything")
            after = self.masters("everything")
        for section, field in fields:
            with self.subTest(field):
                low, high = (sum(float(m[section][field]) for m in ms) for ms in (before, after))
                self.assertGreater(high, 0)
                self.assertTrue(low - 1e-5 <= float(got[section][field]) <= high + 1e-5,
                                "%s is %s, the masters' sums are %s before and %s after" % (
                                    field, got[section][field], low, high))

    def test_commandstats(self):
        def calls(info):
            return int(re.search(r"calls=(\d+)", info["Commandstats"].get("cmdstat_append",
                                                                          "calls=0")).group(1))
        before = calls(self.info("commandstats"))
        with setup.proxy.conn() as c:
            for i in range(90):
                c.cmd("APPEND", "cs:%d" % i, "x")
        settle()
        got = self.info("commandstats")
        self.assertEqual(before + 90, calls(got))
        per = [parse(m.cmd("INFO", "commandstats"))["Commandstats"]["cmdstat_append"]
               for m in setup.cluster.masters()]
        usec = sum(int(re.search(r"usec=(\d+)", p).group(1)) for p in per)
        self.assertEqual("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=0,failed_calls=0" % (
            calls(got), usec, usec / calls(got)), got["Commandstats"]["cmdstat_append"])

    def test_memory_is_consistent(self):
        m = self.info("memory")["Memory"]
        used = int(m["used_memory"])
        self.assertGreater(used, 2 * int(self.masters("memory")[0]["Memory"]["used_memory_startup"]))
        self.assertEqual("%.2fM" % (used / 2**20), m["used_memory_human"])
        self.assertEqual("%.2f%%" % (100 * used / int(m["used_memory_peak"])),
                         m["used_memory_peak_perc"])
        self.assertEqual("%.2f" % (int(m["used_memory_rss"]) / used), m["mem_fragmentation_ratio"])
        self.assertEqual(("0", "0B"), (m["maxmemory"], m["maxmemory_human"]))

    def test_clients_are_the_proxys(self):
        conns = [setup.proxy.conn() for _ in range(30)]
        for c in conns:
            c.cmd("PING")
        settle()
        clients = self.info("clients")["Clients"]
        self.assertTrue(30 <= int(clients["connected_clients"]) <= 34, clients)
        self.assertEqual("10000", clients["maxclients"])
        for c in conns:
            c.close()
        self.eventually("closed clients are not counted", lambda: int(
            self.info("clients")["Clients"]["connected_clients"]) < 10)


class Keyway(InfoCase):
    def test_section(self):
        with setup.proxy.conn() as c:
            first = self.info("keyway", conn=c)["Keyway"]
            c.pipeline([("GET", "kw"), ("HELLO", "2")] * 50)  # a HELLO waits for the GET
            second = self.info("keyway", conn=c)["Keyway"]
        self.assertEqual(101, int(second["keyway_requests"]) - int(first["keyway_requests"]),
                         "each once, and the second INFO")
        self.assertEqual("2", second["keyway_workers"])
        if SANITIZER:  # its allocator cannot tell
            self.assertEqual("0", second["keyway_used_memory"])
        else:
            self.assertGreater(int(second["keyway_used_memory"]), 0)
        self.assertRegex(second["keyway_version"], r"^\d+\.\d+\.\d+")
        self.assertRegex(second["keyway_upstream0"],
                         r"^name=[^,]+,nodes=6,masters=3,masters_reachable=3,slots_covered=16384,")
        whole = self.info()["Keyway"]
        self.assertEqual(("3", "3"), (whole["keyway_info_masters"],
                                      whole["keyway_info_masters_answered"]))

    def test_asks_no_server(self):
        before = [m.command_calls("info") for m in setup.cluster.masters()]
        with setup.proxy.conn() as c:
            for _ in range(20):
                self.info("keyway", conn=c)
        after = [m.command_calls("info") for m in setup.cluster.masters()]
        self.assertLessEqual(sum(after) - sum(before), 6, "INFO calls: the counting's own at most")


class Sharing(InfoCase):
    def calls(self):
        return sum(m.command_calls("info") for m in setup.cluster.masters())

    def test_answers_are_shared(self):
        """300 clients at once: each worker asks once each 10 ms, not once a client."""
        conns = [setup.proxy.conn() for _ in range(300)]
        for c in conns:
            c.cmd("PING")
        settle()
        before, start = self.calls(), time.monotonic()
        for c in conns:
            c.send(encode("INFO", "server") + encode("PING") + encode("INFO", "Server"))
        for c in conns:
            self.assertIn(b"redis_version", c.read())
            self.assertEqual(b"PONG", bytes(c.read()))
            self.assertIn(b"redis_version", c.read())
        took = time.monotonic() - start
        asked = self.calls() - before
        for c in conns:
            c.close()
        # 3 masters x 2 workers, once each 10 ms begun; the counting itself asks too.
        self.assertLessEqual(asked, min(6 * (int(took / 0.01) + 2), 600) + 6)

    def test_what_a_client_did_is_in_its_next_answer(self):
        """Whoever else asks at the same time: an answer is never older than the question."""
        stop = threading.Event()

        def others():
            with setup.proxy.conn() as c:
                while not stop.is_set():
                    self.info("stats", "keyspace", conn=c)

        def mine():
            try:
                with setup.proxy.conn() as c:
                    self.not_error(c.cmd("FLUSHALL"), "FLUSHALL")
                    for i in range(1, 41):
                        self.not_error(c.cmd("SET", "own:%d" % i, "x"), "SET")
                        db0 = self.info("stats", "keyspace", conn=c)["Keyspace"]["db0"]
                        self.assertEqual("keys=%d" % i, db0.split(",")[0])
            finally:
                stop.set()
        in_threads(5, lambda i: mine() if i == 0 else others())

    def test_sections_are_not_mixed_up(self):
        wanted = ["server", "clients", "memory", "stats", "cpu", "keyspace", "replication", "cluster"]

        def ask(i):
            with setup.proxy.conn(protocol=2 + i % 2) as c:
                for k in range(30):
                    section = wanted[(i + k) % len(wanted)]
                    got = c.cmd("INFO", section)
                    got = got[4:] if i % 2 else got  # txt:
                    if list(parse(got)) != [section.capitalize() if section != "cpu" else "CPU"]:
                        raise AssertionError("INFO %s: %r" % (section, got[:200]))
        in_threads(8, ask)

    def test_the_one_who_asked_leaves(self):
        """Its reset must not take the answer from those who wait with it."""
        frozen = setup.cluster.masters()[0]
        for _ in range(5):
            settle()
            conns = [setup.proxy.conn() for _ in range(12)]
            for c in conns:
                c.cmd("PING")
            frozen.freeze()
            try:
                for c in conns:
                    c.send(encode("INFO", "replication") + encode("ECHO", "next"))
                time.sleep(0.1)
                for c in conns[:6]:  # among them the first of both workers
                    c.reset()
                time.sleep(0.1)
            finally:
                frozen.thaw()
            for c in conns[6:]:
                self.assertIn(b"role:master", c.read())
                self.assertEqual(b"next", c.read())
                c.close()

    def test_long_pipelines(self):
        with setup.proxy.conn() as c:
            n = 3000
            got = c.pipeline([("INFO", "section%d" % (i % 150)) if i % 3 else ("PING",)
                              for i in range(n)])
            for i, reply in enumerate(got):
                self.assertEqual(b"" if i % 3 else b"PONG", bytes(reply))


class Config(InfoCase):
    def get(self, c, *patterns):
        got = c.cmd("CONFIG", "GET", *patterns)
        self.not_error(got, "CONFIG GET " + " ".join(patterns))
        return dict(zip(got[::2], got[1::2]))

    def test_the_proxys_own_values(self):
        with setup.proxy.conn() as c:
            self.assertEqual({
                b"maxclients": b"10000", b"timeout": b"0", b"tcp-keepalive": b"300",
                b"proto-max-bulk-len": b"536870912", b"PORT": b"%d" % setup.proxy.port,
                b"bind": b"127.0.0.1", b"cluster-enabled": b"no", b"databases": b"1",
            }, self.get(c, "maxclients", "timeout", "tcp-keepalive", "proto-max-bulk-len", "PORT",
                        "bind", "cluster-enabled", "databases"))

    def test_the_rest_is_a_servers(self):
        with setup.proxy.conn() as c:
            got, want = (self.get(x, "*") for x in (c, setup.cluster.masters()[0].conn()))
            hidden = {b"requirepass", b"masterauth", b"tls-key-file-pass",
                      b"tls-client-key-file-pass"}
            self.assertEqual(set(want) - hidden, set(got))
            for name in (b"save", b"appendonly", b"maxmemory-policy", b"hz",
                         b"slave-read-only", b"client-output-buffer-limit"):
                self.assertEqual(want[name], got[name], name)
            self.assertEqual({}, self.get(c, "requirepass", "masterauth"))
            self.assertEqual({}, self.get(c, "RequirePass", "MASTERAUTH"))
            self.assertEqual({}, self.get(c, "nosuch*"))
            self.assertEqual({b"appendonly", b"save"}, set(self.get(c, "save", "appendonly")))
            self.expect_error(c, "CONFIG GET",
                              "ERR wrong number of arguments for 'config|get' command")

    def test_in_resp3_and_in_a_pipeline(self):
        with setup.proxy.conn(protocol=3) as c:
            got = c.pipeline(["CONFIG GET port", "PING", "CONFIG GET requirepass", "PING"])
            self.assertIsInstance(got[0], Map)
            self.assertEqual([b"port", b"%d" % setup.proxy.port], [x for p in got[0] for x in p])
            self.assertIsInstance(got[2], Map)
            self.assertEqual(0, len(got[2]))
            self.assertEqual(b"PONG", bytes(got[3]))

    def test_servers_with_lower_limits(self):
        for m in setup.cluster.masters():
            m.ok("CONFIG", "SET", "proto-max-bulk-len", "2000000")
        try:
            with Proxy(setup.cluster.seeds(3)).start().wait_routes() as p, p.conn() as c:
                for i in range(50):  # every worker has met every master
                    with p.conn() as d:
                        d.pipeline([("GET", "lim:%d" % k) for k in range(30)])
                self.assertEqual({b"proto-max-bulk-len": b"2000000"},
                                 self.get(c, "proto-max-bulk-len"))
        finally:
            for m in setup.cluster.masters():
                m.ok("CONFIG", "SET", "proto-max-bulk-len", "536870912")


class Away(InfoCase):
    """What is known is shown, and soon, while servers are not there."""

    def soon(self, c, *args, within=2.0):
        start = time.monotonic()
        got = c.cmd(*args)
        took = time.monotonic() - start
        self.not_error(got, " ".join(args))
        self.assertLess(took, grace(within), "seconds that %s took" % " ".join(args))
        return got

    def test_one_master_is_away(self):
        """It is left out, though requests to it wait, and is back when it is back. (Its failover
        is put off by a node timeout of a minute.)"""
        own = Setup()
        own.start(oracle=False, masters=3, replicas=0, node_timeout=60000)
        try:
            victim = own.cluster.masters()[1]
            key = own.cluster.key_on(victim)
            with own.proxy.conn() as c, own.proxy.conn() as waiting:
                c.cmd("SET", key, "1")
                self.assertEqual("3", parse(c.cmd("INFO"))["Keyway"]["keyway_info_masters_answered"])
                victim.kill()
                waiting.send(encode("GET", key))
                for _ in range(3):
                    settle()
                    info = parse(self.soon(c, "INFO"))
                    self.assertEqual(("3", "2"), (info["Keyway"]["keyway_info_masters"],
                                                  info["Keyway"]["keyway_info_masters_answered"]))
                    self.assertIn("masters_reachable=2", info["Keyway"]["keyway_upstream0"])
                    self.assertEqual(own.cluster.live()[0].info()["redis_version"],
                                     info["Server"]["redis_version"])
                    self.assertEqual("1", info["Keyway"]["keyway_held"])
                    self.soon(c, "CONFIG", "GET", "*")
                for i in range(6):  # whichever master a client's number leads to
                    with own.proxy.conn() as d:
                        self.assertEqual(b"save", self.soon(d, "CONFIG", "GET", "save")[0])
                victim.restart()
                self.assertIn(waiting.read(), (None, b"1"))
                # No keyed request leads to it: INFO alone finds that it is back.
                with Proxy(own.cluster.seeds(3)).start().wait_routes() as p, p.conn() as d:
                    self.assertEqual("3", parse(d.cmd("INFO"))["Keyway"][
                        "keyway_info_masters_answered"])
                    victim.kill()
                    settle()
                    self.soon(d, "INFO")
                    settle()
                    self.assertEqual("2", parse(self.soon(d, "INFO"))["Keyway"][
                        "keyway_info_masters_answered"])
                    victim.restart()

                    def all_answer():
                        settle()
                        return parse(d.cmd("INFO"))["Keyway"]["keyway_info_masters_answered"] == "3"
                    self.eventually("INFO has all three masters again", all_answer)
        finally:
            own.stop()

    def test_no_server_at_all(self):
        """From the start, and after all of them went away."""
        with Proxy(["127.0.0.1:%d" % free_port()]).start() as p, p.conn() as c:
            info = parse(self.soon(c, "INFO"))
            self.assertEqual(["Server", "Clients", "Persistence", "Stats", "Replication", "Cluster",
                              "Keyway"], list(info))
            self.assertEqual("0.0.0", info["Server"]["redis_version"])
            self.assertEqual(("master", "0", "0"), (
                info["Replication"]["role"], info["Persistence"]["loading"],
                info["Keyway"]["keyway_info_masters_answered"]))
            self.assertEqual(["Server"], list(parse(self.soon(c, "INFO", "server"))))
            self.assertEqual({}, parse(self.soon(c, "INFO", "memory")))
            self.assertEqual([b"port", b"%d" % p.port], self.soon(c, "CONFIG", "GET", "PO?T"))
            self.assertEqual(16, len(self.soon(c, "CONFIG", "GET", "*", "port")))
            self.assertEqual([], self.soon(c, "CONFIG", "GET", "save", ""))
            c.cmd("HELLO", "3")
            self.assertIsInstance(self.soon(c, "CONFIG", "GET", "timeout"), Map)

    def test_a_loading_server_shows(self):
        """loading:1 as soon as one server says so."""
        own = Setup()
        own.start(oracle=False, masters=3, replicas=0, node_timeout=60000,
                  cluster_args=("--key-load-delay", "2000",
                                "--loading-process-events-interval-bytes", "1024"))
        try:
            victim = own.cluster.masters()[0]
            with own.proxy.conn() as c:
                self.assertEqual("0", parse(c.cmd("INFO"))["Persistence"]["loading"])
                for line in (("DEBUG", "POPULATE", "1500"), ("SAVE",)):
                    self.not_error(victim.cmd(*line), " ".join(line))
                victim.kill()
                victim.start(wait=False)
                seen = []

                def loading():
                    settle()
                    seen.append(parse(self.soon(c, "INFO"))["Persistence"]["loading"])
                    return "1" in seen
                self.eventually("INFO shows loading:1", loading, timeout=8)
                self.eventually("and 0 again", lambda: settle() or parse(
                    c.cmd("INFO"))["Persistence"]["loading"] == "0", timeout=20)
        finally:
            own.stop()

    def test_a_hanging_server(self):
        """Bounded by backend.request_timeout, not by ride_through."""
        with Cluster(3, 0, 60000) as cluster, Proxy(
                cluster.seeds(3), config="backend:\n  request_timeout: 1s\n") as proxy:
            proxy.wait_routes()
            victim = cluster.masters()[2]
            with proxy.conn() as c:
                self.assertEqual("3", parse(c.cmd("INFO"))["Keyway"]["keyway_info_masters_answered"])
                settle()
                victim.freeze()
                try:
                    for _ in range(3):
                        info = parse(self.soon(c, "INFO", within=4.0))
                        self.assertEqual("2", info["Keyway"]["keyway_info_masters_answered"])
                        settle()
                finally:
                    victim.thaw()


class Pretending(InfoCase):
    def test_as_a_cluster_on_two_ports(self):
        """Each listener shows its own port, also when the answers are shared."""
        other = free_port()
        with Proxy(setup.cluster.seeds(2), ("--pretend", "cluster", "--listen",
                                            "127.0.0.1:%d" % other), workers=1) as p:
            p.wait_routes()
            with p.conn() as a, Conn(other) as b:
                for _ in range(3):
                    for conn, port in ((a, p.port), (b, other)):
                        info = parse(conn.cmd("INFO"))
                        self.assertEqual(
                            ("cluster", "1", str(port), b"yes"),
                            (info["Server"]["redis_mode"], info["Cluster"]["cluster_enabled"],
                             info["Server"]["tcp_port"],
                             conn.cmd("CONFIG", "GET", "cluster-enabled")[1]))
