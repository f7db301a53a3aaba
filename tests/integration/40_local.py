"""What the proxy answers by itself: connection commands, HELLO, CLIENT, INFO, COMMAND, CONFIG GET,
and the commands that it refuses for now."""
import re
import subprocess
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, PONG, Error, Map, Simple, encode


setup = Setup()


def setUpModule():
    setup.start()


def tearDownModule():
    setup.stop()


class Connection(Case):
    def test_ping_echo_time_select(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["PING", "PING x", "ECHO x", "SELECT 0", "SELECT 00", "SELECT x",
                         "CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT SETNAME",
                         ["CLIENT", "SETNAME", ""], "CLIENT GETNAME", ["CLIENT", "SETNAME", "a b"],
                         ["CLIENT", "SETNAME", "a\nb"], "CLIENT GETNAME", "RESET", "PING",
                         "CLIENT NOSUCH", "CLIENT ID x", "client getname x"]:
                self.matches_oracle(c, o, line)
            seconds, micros = c.cmd("TIME")
            self.assertLess(abs(int(seconds) - time.time()), 5)
            self.assertTrue(micros.isdigit())

    def test_select_of_another_database(self):
        """A cluster has database 0 only; the server's words."""
        if STANDIN:
            self.skipTest("needs a cluster")
        with setup.proxy.conn() as c:
            for n in ("1", "15", "16", "99999", "-1", "x", "1x", ""):
                want = setup.cluster.masters()[0].cmd("SELECT", n)
                self.same_reply("SELECT " + n, want, c.cmd("SELECT", n))

    def test_reset(self):
        with setup.proxy.conn(protocol=3) as c:
            self.expect(c, "CLIENT SETNAME before", OK)
            self.expect(c, "RESET", Simple(b"RESET"))
            self.assertIsNone(c.cmd("GET", "reset:none"), "RESET goes back to RESP2")
            self.expect(c, "CLIENT GETNAME", None)

    def test_quit_closes_after_the_reply(self):
        with setup.proxy.conn() as c:
            c.send(encode("QUIT"))
            self.assertEqual(b"+OK\r\n", c.read_until_closed())

    def test_readonly_readwrite_asking(self):
        """A cluster client may send them; they change nothing."""
        if STANDIN:
            self.skipTest("a plain server refuses them")
        with setup.proxy.conn() as c:
            for line in ["READONLY", "READWRITE", "ASKING"]:
                self.expect(c, line, OK)
            self.expect(c, "SET after:readonly 1", OK)


class Hello(Case):
    def hello(self, c, *args):
        reply = c.cmd("HELLO", *args)
        self.assertNotIsInstance(reply, Error, "HELLO %s: %r" % (args, reply))
        if isinstance(reply, Map):
            return "3", dict(reply)
        return "2", dict(zip(reply[::2], reply[1::2]))

    def test_fields(self):
        for version in ("2", "3"):
            with setup.proxy.conn() as c, setup.oracle.conn() as o:
                dialect, got = self.hello(c, version)
                _, want = self.hello(o, version)
                self.assertEqual(version, dialect)
                self.assertEqual(list(want), list(got), "the fields and their order")
                for field in (b"server", b"version", b"proto", b"mode", b"role", b"modules"):
                    self.assertEqual(want[field], got[field], field)
                self.assertIsInstance(got[b"id"], int)

    def test_version_in_the_first_request_after_the_start(self):
        """Every worker knows it then, also those that had nothing to send to a server yet."""
        if STANDIN:
            self.skipTest("a second proxy")
        with setup.oracle.conn() as o:
            _, want = self.hello(o, "3")
        with Proxy(setup.cluster.seeds(), workers=4) as fresh:
            clients = [fresh.conn() for _ in range(8)]
            for c in clients:
                c.send(encode("HELLO", "3"))
            for c in clients:
                self.assertEqual(want[b"version"], dict(c.read())[b"version"])
                c.close()

    def test_dialect_changes_in_mid_connection(self):
        with setup.proxy.conn() as c:
            self.assertIsNone(c.cmd("GET", "hello:none"))
            for _ in range(3):
                self.hello(c, "3")
                self.assertEqual(b"_\r\n", c.cmd_raw("GET", "hello:none"))
                self.hello(c, "2")
                self.assertEqual(b"$-1\r\n", c.cmd_raw("GET", "hello:none"))

    def test_dialect_changes_inside_a_pipeline(self):
        """Each request is answered in the dialect that held where it stands."""
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            lines = ["GET hp:none", "HELLO 3", "GET hp:none", "MGET hp:a hp:b", "HELLO 2", "GET hp:none",
                     "HELLO 3", "PING", "HGETALL hp:h", "RESET", "HGETALL hp:h", "GET hp:none"] * 20
            want = [repr(r) for r, line in zip(o.pipeline(lines), lines) if "HELLO" not in line]
            got = [repr(r) for r, line in zip(c.pipeline(lines), lines) if "HELLO" not in line]
            self.assertEqual(want, got)

    def test_without_version_keeps_the_dialect(self):
        with setup.proxy.conn(protocol=3) as c:
            self.assertEqual("3", self.hello(c)[0])
        with setup.proxy.conn() as c:
            self.assertEqual("2", self.hello(c)[0])

    def test_setname(self):
        with setup.proxy.conn() as c:
            self.hello(c, "3", "SETNAME", "namer")
            self.expect(c, "CLIENT GETNAME", b"namer")

    def test_refusals_like_the_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["HELLO 1", "HELLO 4", "HELLO x", "HELLO 3 SETNAME", "HELLO 3 NOSUCH",
                         "HELLO 3 AUTH a", "HELLO 99999999999999999999", ["HELLO", "2", "SETNAME", "a b"]]:
                self.matches_oracle(c, o, line)
            self.expect(c, "PING", PONG)
            self.assertEqual(b"$-1\r\n", c.cmd_raw("GET", "hello:none"), "still RESP2")

    def test_auth_default_without_a_password(self):
        """`HELLO 3 AUTH default x` and AUTH on a server that asks for none."""
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["AUTH x", "AUTH default anything", "AUTH nosuch x"]:
                self.matches_oracle(c, o, line)


class ClientCommands(Case):
    def fields(self, line):
        return dict(f.split("=", 1) for f in line.decode("latin-1").strip().split(" ") if "=" in f)

    def test_ids_grow_and_are_unique(self):
        conns = [setup.proxy.conn() for _ in range(20)]
        ids = [c.cmd("CLIENT", "ID") for c in conns]
        self.assertTrue(all(isinstance(i, int) and i > 0 for i in ids), ids)
        self.assertEqual(len(set(ids)), 20, ids)
        self.assertEqual(ids, sorted(ids), "ids increase in order of connection")
        self.assertEqual(ids[3], conns[3].cmd("CLIENT", "ID"), "an id is for life")
        for c in conns:
            c.close()

    def test_setinfo(self):
        """Current libraries send it first; Redis 7.2 answers OK."""
        if STANDIN:
            self.skipTest("Redis 7.0 has no CLIENT SETINFO")
        with setup.proxy.conn() as c:
            self.expect(c, "CLIENT SETINFO LIB-NAME redis-py", OK)
            self.expect(c, "CLIENT SETINFO lib-ver 5.0.1", OK)
            info = self.fields(c.cmd("CLIENT", "INFO"))
            self.assertEqual(("redis-py", "5.0.1"), (info.get("lib-name"), info.get("lib-ver")))
            self.expect_error(c, "CLIENT SETINFO nosuch x", "ERR Unrecognized option 'nosuch'")
            self.assertIsInstance(c.cmd("CLIENT", "SETINFO", "lib-name", "a b"), Error)
            self.assertIsInstance(c.cmd("CLIENT", "SETINFO", "lib-name"), Error)

    def test_info_of_this_client(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            c.cmd("CLIENT", "SETNAME", "infoed")
            mine = self.fields(c.cmd("CLIENT", "INFO"))
            self.assertEqual("infoed", mine["name"])
            self.assertEqual(c.local_addr, mine["addr"])
            self.assertEqual(str(c.cmd("CLIENT", "ID")), mine["id"])
            self.assertEqual("0", mine["db"])
            theirs = self.fields(o.cmd("CLIENT", "INFO"))
            self.assertEqual(set(), set(theirs) - set(mine), "fields that a server shows")

    def test_list_shows_clients_of_all_workers(self):
        conns = [setup.proxy.conn() for _ in range(12)]
        ids = set()
        for i, c in enumerate(conns):
            c.cmd("CLIENT", "SETNAME", "listed-%d" % i)
            ids.add(str(c.cmd("CLIENT", "ID")))
        text = conns[5].cmd("CLIENT", "LIST")
        self.assertTrue(text.endswith(b"\n"))
        rows = [self.fields(line) for line in text.splitlines()]
        listed = {r["id"]: r for r in rows}
        self.assertEqual(set(), ids - set(listed), "clients missing from CLIENT LIST")
        self.assertEqual({"listed-%d" % i for i in range(12)},
                         {listed[i]["name"] for i in ids})
        for c in conns[:6]:
            c.close()
        self.eventually("closed clients leave the list", lambda: sum(
            b"name=listed-" in line for line in conns[7].cmd("CLIENT", "LIST").splitlines()) == 6)
        for c in conns[6:]:
            c.close()

    def test_list_in_a_pipeline(self):
        with setup.proxy.conn() as c:
            replies = c.pipeline(["PING", "CLIENT LIST", "SET cl 1", "CLIENT LIST", "GET cl"])
            self.assertEqual([PONG, OK, b"1"], [replies[0], replies[2], replies[4]])
            self.assertIn(b"id=", replies[1])

    def test_list_type_normal(self):
        with setup.proxy.conn() as c:
            self.assertIn(b"id=", c.cmd("CLIENT", "LIST", "TYPE", "normal"))


class Info(Case):
    WANTED = {"redis_version": r"^\d+\.\d+\.\d+$", "redis_mode": "^standalone$",
              "role": "^master$", "loading": "^0$", "run_id": "^[0-9a-f]{40}$",
              "maxmemory_policy": "^[a-z-]+$", "cluster_enabled": "^0$", "tcp_port": r"^\d+$",
              "process_id": r"^\d+$", "uptime_in_seconds": r"^\d+$", "connected_clients": r"^\d+$",
              "used_memory": r"^\d+$", "os": ".", "connected_slaves": r"^\d+$",
              "master_replid": "^[0-9a-f]{40}$", "total_commands_processed": r"^\d+$"}

    def parse(self, text):
        out = {}
        for line in text.decode("latin-1").split("\r\n"):
            if line and line[0] != "#":
                self.assertIn(":", line, "INFO line")
                k, v = line.split(":", 1)
                out[k] = v
        return out

    def test_fields_that_libraries_read(self):
        with setup.proxy.conn() as c:
            info = self.parse(c.cmd("INFO"))
            for name, pattern in self.WANTED.items():
                with self.subTest(name):
                    self.assertRegex(info.get(name, "(missing)"), pattern)

    def test_version_is_the_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            self.assertEqual(self.parse(o.cmd("INFO", "server"))["redis_version"],
                             self.parse(c.cmd("INFO", "server"))["redis_version"])

    def test_sections(self):
        with setup.proxy.conn() as c:
            text = c.cmd("INFO", "server")
            self.assertIn(b"# Server", text)
            self.assertNotIn(b"# Clients", text)
            self.assertIn(b"# Replication", c.cmd("INFO", "REPLICATION"))
            two = c.cmd("INFO", "server", "clients")
            self.assertIn(b"# Server", two)
            self.assertIn(b"# Clients", two)
            self.assertEqual(b"", c.cmd("INFO", "nosuchsection"))
            for section in ("default", "all", "everything"):
                self.assertIn(b"# Server", c.cmd("INFO", section))

    def test_keyspace_counts_all_masters(self):
        with setup.proxy.conn() as c:
            c.pipeline([("SET", "ik:%d" % i, "1") for i in range(60)])
            size = c.cmd("DBSIZE")
            info = self.parse(c.cmd("INFO", "keyspace"))
            if "db0" in info:
                self.assertEqual(str(size), re.search(r"keys=(\d+)", info["db0"]).group(1))
            else:
                self.fail("INFO keyspace has no db0 though %d keys are there" % size)

    def test_keyway_section(self):
        if STANDIN:
            self.skipTest("a section of the proxy")
        with setup.proxy.conn() as c:
            text = c.cmd("INFO", "keyway")
            self.assertIn(b"# Keyway", text)
            self.assertIn(b"# Keyway", c.cmd("INFO"))

    def test_many_at_once(self):
        conns = [setup.proxy.conn() for _ in range(50)]
        for c in conns:
            c.send(encode("INFO") + encode("PING") + encode("INFO", "server") + encode("PING"))
        for c in conns:
            self.assertIn(b"redis_version", c.read())
            self.assertEqual(PONG, c.read())
            self.assertIn(b"redis_version", c.read())
            self.assertEqual(PONG, c.read())
            c.close()


class CommandCommand(Case):
    def test_getkeys_like_the_servers(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            for line in ["get a", "mset a 1 b 2", "eval x 2 a b c", "xread count 1 streams a b 0 0",
                         "zunionstore d 2 a b", "sort a by x store b", "georadius a 1 1 1 m store d",
                         "object encoding k", "migrate h 1 k 0 1", "ping", "get", "nosuch x"]:
                self.matches_oracle(c, o, "COMMAND GETKEYS " + line)

    def test_info_count_list_docs(self):
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            self.assertGreater(c.cmd("COMMAND", "COUNT"), 200)
            for line in ["COMMAND INFO get", "COMMAND INFO get nosuch mget"]:
                want, got = o.cmd(*line.split()), c.cmd(*line.split())
                self.assertEqual([w and w[:6] for w in want], [g and g[:6] for g in got], line)
            listed = c.cmd("COMMAND", "LIST")
            self.assertTrue({b"get", b"mget", b"set"} <= set(listed))
            docs = c.cmd("COMMAND", "DOCS", "get")
            self.assertEqual(b"get", docs[0])
            everything = c.cmd("COMMAND")
            self.assertGreater(len(everything), 200)
            self.assertTrue(any(row[0] == b"get" and row[1] == 2 for row in everything))

    def test_in_resp3(self):
        with setup.proxy.conn(protocol=3) as c:
            docs = c.cmd("COMMAND", "DOCS", "get")
            self.assertIsInstance(docs, Map)


class Config(Case):
    def test_what_tools_ask_for(self):
        with setup.proxy.conn() as c:
            for name in ["save", "appendonly", "maxmemory", "maxmemory-policy", "databases",
                         "timeout", "proto-max-bulk-len"]:
                got = c.cmd("CONFIG", "GET", name)
                with self.subTest(name):
                    self.assertNotIsInstance(got, Error, "CONFIG GET %s: %r" % (name, got))
                    self.assertEqual(name.encode(), got[0], got)
                    self.assertEqual(2, len(got))
            self.expect(c, "CONFIG GET nosuchthing", [])

    def test_in_resp3(self):
        with setup.proxy.conn(protocol=3) as c:
            self.assertIsInstance(c.cmd("CONFIG", "GET", "save"), Map)


class Refused(Case):
    """What needs a later stage says so in one way, and never half does it."""
    LINES = ["SHUTDOWN NOSAVE", "SYNC"]

    def setUp(self):
        if STANDIN:
            self.skipTest("a plain server supports them")

    def test_text(self):
        with setup.proxy.conn() as c:
            for line in self.LINES:
                name = line.split()[0]
                with self.subTest(line):
                    self.expect_error(c, line, "ERR KEYWAY %s is not supported yet" % name)
                    self.expect_error(c, line.lower(), "ERR KEYWAY %s is not supported yet" % name)
            self.expect(c, "PING", PONG)

    def test_as_a_server_of_a_cluster_refuses(self):
        lines = ["SWAPDB 0 1", "SWAPDB", "MOVE k 1", "MOVE k", "MOVE k x", "SELECT 1", "SELECT x", "SELECT -1",
                 "COPY k {k}2 DB 1", "REPLICAOF h 1", "REPLICAOF NO ONE", "SLAVEOF h 1", "REPLICAOF", "FAILOVER",
                 "FAILOVER ABORT"]
        with setup.proxy.conn() as c, setup.cluster.owner("k").conn() as direct:
            for line in lines:
                self.assertIsInstance(self.matches_oracle(c, direct, line), Error, line)
            for line in ("MOVE k 1", "SWAPDB 0 1"):
                for argv in ("MULTI", line, "EXEC"):
                    self.matches_oracle(c, direct, argv)

    def test_admin_commands_harm_nobody(self):
        """SHUTDOWN, DEBUG, REPLICAOF and the like must not pass to some node by accident."""
        with setup.proxy.conn() as c:
            for line in ["SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "REPLICAOF NO ONE", "SLAVEOF NO ONE",
                         "FAILOVER", "SYNC", "PSYNC ? -1", "CLUSTER RESET HARD", "CLUSTER FLUSHSLOTS",
                         "REPLCONF ack 1", "CONFIG SET maxmemory 1", "CONFIG REWRITE",
                         "CLUSTER FAILOVER", "CLUSTER FORGET x", "SWAPDB 0 1",
                         "ACL SETUSER x", "MODULE LOAD x"]:
                with self.subTest(line):
                    got = c.cmd(*line.split())
                    self.assertIsInstance(got, Error, "sent %s, got %r" % (line, got))
            self.expect(c, "PING", PONG)
        for node in setup.cluster.nodes:
            self.assertTrue(node.alive)
        setup.cluster.wait_ok(5)


class Tools(Case):
    """Programs that come with Redis."""

    def run_tool(self, *argv, feed=None, timeout=60):
        argv = [str(a) for a in argv]
        done = subprocess.run(argv, input=feed, capture_output=True, timeout=timeout)
        self.assertEqual(0, done.returncode, "%s\n%s\n%s" % (" ".join(argv), done.stdout, done.stderr))
        return done.stdout.decode("latin-1") + done.stderr.decode("latin-1")

    def test_redis_cli(self):
        out = self.run_tool("redis-cli", "-p", setup.proxy.port, "-3", "set", "cli:k", "v")
        self.assertEqual("OK\n", out)
        self.assertEqual("v\n", self.run_tool("redis-cli", "-p", setup.proxy.port, "get", "cli:k"))

    def test_redis_cli_pipe(self):
        feed = b"".join(encode("SET", "piped:%d" % i, i) for i in range(5000))
        out = self.run_tool("redis-cli", "-p", setup.proxy.port, "--pipe", feed=feed)
        self.assertIn("errors: 0, replies: 5000", out)

    def test_redis_cli_scan_and_bigkeys(self):
        with setup.proxy.conn() as c:
            c.pipeline([("SET", "scanned:%d" % i, "x") for i in range(500)])
        out = self.run_tool("redis-cli", "-p", setup.proxy.port, "--scan", "--pattern", "scanned:*")
        self.assertEqual({"scanned:%d" % i for i in range(500)}, set(out.split()))
        self.assertIn("Biggest string", self.run_tool("redis-cli", "-p", setup.proxy.port, "--bigkeys"))

    def test_redis_benchmark(self):
        out = self.run_tool("redis-benchmark", "-p", setup.proxy.port, "-n", "2000", "-c", "20", "-P",
                            "8", "-r", "1000", "-q", "-t", "ping,set,get,incr,lpush,rpush,lpop,rpop,"
                            "sadd,hset,spop,zadd,zpopmin,lrange_100,mset")
        self.assertIn("MSET (10 keys)", out)
        self.assertNotIn("rror", out)


class CommandLine(Case):
    def setUp(self):
        if STANDIN:
            self.skipTest("the program's own options")

    def run_proxy(self, *argv):
        from harness.proxy import BINARY
        done = subprocess.run([BINARY] + list(argv), capture_output=True, timeout=20, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_help_and_version(self):
        status, out, _ = self.run_proxy("--help")
        self.assertEqual(0, status)
        for option in ("--listen", "--workers", "--version", "--check"):
            self.assertIn(option, out)
        status, out, _ = self.run_proxy("--version")
        self.assertEqual(0, status)
        self.assertRegex(out, r"\d+\.\d+\.\d+")

    def test_mistakes_are_named(self):
        for argv, word in [(["--nosuch"], "nosuch"), (["--listen"], "listen"),
                           (["--listen", "x", "127.0.0.1:1"], "listen"),
                           (["--workers", "abc", "127.0.0.1:1"], "workers"), ([], ""),
                           (["noport"], "noport"), (["-c", "/nonexistent.yaml"], "/nonexistent.yaml"),
                           (["127.0.0.1:99999"], "99999")]:
            with self.subTest(argv):
                status, out, err = self.run_proxy(*argv)
                self.assertNotEqual(0, status, (argv, out, err))
                self.assertIn(word, err, argv)
                self.assertEqual("", out)

    def test_check_names_line_and_key(self):
        import os
        from harness.servers import scratch
        path = os.path.join(scratch("config"), "bad.yaml")
        with open(path, "w") as f:
            f.write("workers: 2\nclient:\n  max_pipelines: 5\n")
        status, _, err = self.run_proxy("--check", "-c", path)
        self.assertNotEqual(0, status)
        self.assertIn("bad.yaml:3", err)
        self.assertIn("max_pipelines", err)

    def test_port_in_use(self):
        status, _, err = self.run_proxy("--listen", "127.0.0.1:%d" % setup.proxy.port, "127.0.0.1:1")
        self.assertNotEqual(0, status)
        self.assertIn(str(setup.proxy.port), err)

    def test_sigint_and_sigterm_end_with_status_0(self):
        import signal
        for number in (signal.SIGINT, signal.SIGTERM):
            p = Proxy(setup.cluster.seeds(1), check=False).start()
            with p.conn() as c:
                c.cmd("PING")
                p.proc.send_signal(number)
                self.assertEqual(0, p.wait_exit(grace(15)), number)
            p.stop()

    def test_sigterm_finishes_replies(self):
        """Requests that a node is still working on are answered before the end."""
        p = Proxy(setup.cluster.seeds(3)).start().wait_routes()
        node = setup.cluster.masters()[0]
        key = setup.cluster.key_on(node, "term")
        with p.conn() as c:
            self.expect(c, ["SET", key, "kept"], OK)
            node.freeze()
            try:
                c.send(encode("GET", key) * 3)
                time.sleep(0.2)
                p.terminate()
                time.sleep(0.3)
                self.assertTrue(p.alive, "it ended though replies were pending")
                refused = False
                try:
                    p.conn(timeout=1).close()
                except OSError:
                    refused = True
            finally:
                node.thaw()
            self.assertEqual(b"$4\r\nkept\r\n" * 3, c.read_until_closed(grace(10)))
            self.assertTrue(refused, "it accepted a connection after SIGTERM")
        self.assertEqual(0, p.wait_exit(grace(10)))
        p.check = False
        p.stop()

    def test_bare_connects_of_a_health_check(self):
        """Connect and close: no leak, no line in the log for each."""
        before = setup.proxy.fd_count()
        lines = setup.proxy.log_text().count("\n")
        import socket
        for _ in range(1000):
            socket.create_connection(("127.0.0.1", setup.proxy.port)).close()
        self.eventually("file descriptors return", lambda: setup.proxy.fd_count() <= before + 4)
        self.assertLess(setup.proxy.log_text().count("\n") - lines, 100)


class BackendAuth(Case):
    def test_user_and_password_from_the_configuration(self):
        """The servers ask for a password; the proxy has it, its clients need none."""
        if STANDIN:
            self.skipTest("needs the proxy")
        import os
        from harness.servers import scratch
        from harness.fake import FakeCluster
        path = os.path.join(scratch("config"), "password")
        with open(path, "w") as f:
            f.write("s3cret with spaces\n")
        for user in (None, "worker"):
            with FakeCluster(3, user=user, password="s3cret with spaces") as fake:
                args = ["--password-file", path] + (["--user", user] if user else [])
                with Proxy(fake.seeds(), args).wait_start() as p, p.conn() as c:
                    for i in range(10):
                        self.expect(c, ["SET", "auth:%d" % i, i], OK)
                        self.expect(c, ["GET", "auth:%d" % i], b"%d" % i)
                for node in fake.nodes:
                    early = [argv for _, argv in node.log if argv[0].upper() in (b"GET", b"SET")]
                    self.assertTrue(early, "the node saw requests")

    def test_wrong_password_is_told_in_the_log_and_to_clients(self):
        if STANDIN:
            self.skipTest("needs the proxy")
        import os
        from harness.servers import scratch
        from harness.fake import FakeCluster
        path = os.path.join(scratch("config"), "wrong")
        with open(path, "w") as f:
            f.write("n0tTh3Secret")
        with FakeCluster(1, password="right") as fake:
            with Proxy(fake.seeds(), ["--password-file", path],
                       config="backend:\n  ride_through: 500ms\n") as p:
                with p.conn() as c:
                    self.assertIsInstance(c.cmd("GET", "x"), Error)
                    self.expect(c, "PING", PONG)
                self.assertIn("WRONGPASS", p.log_text())
                self.assertNotIn("n0tTh3Secret", p.log_text())


if __name__ == "__main__":
    unittest.main()
