"""Commands that the proxy has no row for, learnt from the servers' own COMMAND: a real module's, and
those that scripted servers describe."""
import time
import unittest

from harness.case import Case, Setup
from harness.fake import PASS, FakeCluster
from harness.module import module
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, PONG, Error, Simple, connect_when_up, encode
from harness.servers import Server, free_port, key_slot, tag_of_slot, wait_until

LOAD = ["--loadmodule"]
setup = Setup()
fakes = fake_proxy = None


def setUpModule():
    global fakes, fake_proxy
    if STANDIN:
        raise unittest.SkipTest("is about what the proxy learns")
    load = LOAD + [module()]
    setup.oracle = Server(args=load).start()
    setup.start(oracle=False, cluster_args=load, replicas=0)
    fakes = FakeCluster(3)
    for node in fakes.nodes:
        describe(node, PLAIN)
    fakes.start()
    fake_proxy = Proxy(fakes.seeds(), config="topology: {refresh: 300ms}\n").start().wait_routes()


def tearDownModule():
    problems = []
    for part in (fake_proxy, fakes, setup, setup.oracle):
        try:
            if part:
                part.stop()
        except AssertionError as e:
            problems.append(e)
    if problems:
        raise problems[0]


UNKNOWN = "ERR unknown command '%s', with args beginning with: ..."


def knows(proxy, *command):
    """Waits until the command is no unknown one any more, and returns its answer."""
    def answer():
        with proxy.conn() as c:
            got = c.cmd(*command)
        return None if isinstance(got, Error) and got.startswith(b"ERR unknown") else [got]
    return wait_until("%s is known" % command[0], answer, grace(10))[0]


class Keys(Case):
    """The keys of the module's commands, wherever they stand, lead to their owner."""

    def each_slot(self, count=12):
        """Hash tags all over the slots, so that all masters are meant."""
        return [tag_of_slot(16384 // count * i + 7) for i in range(count)]

    def test_every_place(self):
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as c:
                for tag in self.each_slot():
                    a, b = "{%s}a" % tag, "{%s}b" % tag
                    for key in (a, b):
                        self.expect(c, "kw.put %s v" % key, OK)
                    a, b = a.encode(), b.encode()
                    for line, want in (
                            ("kw.range %s %s", [a, b]), ("KW.RANGE %s {x}nothing", None),
                            ("kw.pairs %s {y}1 %s {z}2 option", [a, b]),
                            ("kw.from FROM %s %s", [a, b]), ("kw.from by x from %s", [a]),
                            ("kw.from x Into y From %s %s", [a, b]),
                            ("kw.into a b INTO %s", [a]), ("kw.into x into {y} into %s", [a]),
                            ("kw.count %s 1 %s", [b]), ("kw.count %s 1 %s {y}option", [b]),
                            ("kw.count %s 2 %s %s", [b, a]), ("kw.group get %s %s", [a, b]),
                            ("KW.Group GET %s", [a])):
                        words = line % tuple([a.decode(), b.decode(), a.decode()]
                                             [:line.count("%s")])
                        if want is None:
                            self.expect_error(c, words, "CROSSSLOT Keys in request don't hash to "
                                                        "the same slot")
                        else:
                            self.expect(c, words, want)

    def test_as_one_server_answers(self):
        """Arity, containers, no keys, bad numbers of keys: word for word."""
        lines = ["kw.any", "kw.any 1 2 3", "KW.ANY x", "kw.group hello", "kw.group hello a b",
                 "kw.group nothing", "kw.group nothing key", "kw.count", "kw.count d",
                 "kw.count d 1", "kw.count d x {d}k", "kw.count d -1 {d}k", "kw.count d 99 {d}k",
                 "kw.count d 0 {d}k", "kw.put", "kw.put k", "kw.range", "kw.group get", "kw.from",
                 "kw.from from", "kw.from x", "kw.into", "kw.into into", "kw.half {k}1 {k}2",
                 "kw.half {k}1 {k}2 {k}3", "kw.group", "kw.nothing", "kw.nothing 1 2", "kw.group|get",
                 "kw.group|get k", "kw.put k v", "kw.pairs k v", "TYPE k", "DEL k"]
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as p, \
                    setup.oracle.conn(protocol=protocol) as o:
                for line in lines:
                    self.matches_oracle(p, o, line)

    def test_binary_arguments(self):
        key = b"k\r\n\0\xff"
        with setup.proxy.conn() as c:
            self.assertEqual(OK, c.cmd("kw.put", key, b"v\r\n\0"))
            self.assertEqual([key], c.cmd("kw.from", b"\0", "FROM", key))
            self.assertEqual(b"v\r\n\0", c.cmd("GET", key))
            got = c.cmd(b"kw\r\n.any")
            self.assertTrue(got.startswith(b"ERR unknown command 'kw  .any'"), got)

    def test_pipelined_with_others(self):
        with setup.proxy.conn() as c:
            lines, want = [], []
            for i in range(300):
                key = "p%d" % i
                lines += [("kw.put", key, i), ("GET", key), ("kw.from", "from", key), ("DEL", key),
                          ("kw.range", key)]
                want += [OK, b"%d" % i, [key.encode()], 1, [None]]
            self.assertEqual(want, c.pipeline(lines))

    def test_client_list_names_it(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            self.expect(other, "kw.group hello", 2)
            self.assertIn(b" cmd=kw.group|hello ", c.cmd("CLIENT", "LIST"))


class Told(Case):
    """COMMAND through the proxy has the learnt ones."""

    def test_command(self):
        names = [b"kw.put", b"kw.count", b"kw.group|get"]
        with setup.proxy.conn() as p, setup.oracle.conn() as o:
            for name in names:
                self.matches_oracle(p, o, "COMMAND INFO %s" % name.decode())
            self.matches_oracle(p, o, "COMMAND COUNT")
            self.matches_oracle(p, o, "COMMAND GETKEYS kw.range a b c")
            self.matches_oracle(p, o, "COMMAND GETKEYS kw.hidden x key")
            self.assertLessEqual(set(names), set(p.cmd("COMMAND", "LIST")))
            self.assertIn(b"kw.from", p.cmd("COMMAND", "DOCS", "kw.from"))
            self.assertIn(b"kw.put", [row[0] for row in p.cmd("COMMAND")])


class Refused(Case):
    """What cannot ride a connection that clients share, or cannot be routed."""
    SAYS = {"kw.channel": "it is about channels", "kw.login": "it is about its connection",
            "kw.hidden": "the servers do not tell where its keys are",
            "kw.part": "the servers do not tell where its keys are"}

    def test_in_front_of_a_cluster(self):
        before = [n.command_calls(name) for n in setup.cluster.nodes for name in self.SAYS]
        with setup.proxy.conn() as c:
            for name, why in self.SAYS.items():
                self.expect_error(c, name + " a b", "ERR KEYWAY '%s' cannot be used: %s" % (
                    name, why))
            self.expect_error(c, "kw.admin", "ERR KEYWAY admin_commands is false: the command was "
                                             "not sent to the servers")
        self.assertEqual(before, [n.command_calls(name) for n in setup.cluster.nodes
                                  for name in self.SAYS])

    def test_admin_commands_true(self):
        with Proxy(setup.cluster.seeds(), config="admin_commands: true\n").start() as p:
            self.assertEqual(2, knows(p, "kw.admin", "x"))

    def test_in_front_of_one_server(self):
        """All keys are there: none has to be found."""
        with Proxy([], ["--server", setup.oracle.addr]).wait_start() as p, p.conn() as c, \
                setup.oracle.conn() as o:
            self.expect(c, "kw.put a 1", OK)
            for line in ("kw.hidden x a", "kw.part a b", "kw.range a b c", "kw.from x from a b",
                         "kw.any", "kw.group get a b"):
                self.matches_oracle(c, o, line)
            for name in ("kw.channel", "kw.login"):
                self.expect_error(c, name, "ERR KEYWAY '%s' cannot be used: %s" % (
                    name, self.SAYS[name]))

    def test_learn_commands_false(self):
        """The name of the connection that asks shows that nobody does."""
        own = Server(args=LOAD + [module()]).start()
        self.addCleanup(own.stop)
        for on in (True, False):
            with Proxy([], ["--server", own.addr],
                       config="learn_commands: %s\n" % str(on).lower()).wait_start() as p:
                with p.conn() as c:
                    if on:
                        self.expect(c, "kw.any x", 2)
                    else:
                        self.expect_error(c, "kw.any x", "ERR unknown command 'kw.any', with args "
                                                         "beginning with: 'x' ")
                    self.assertEqual(on, b"name=keyway-commands" in own.cmd("CLIENT", "LIST"))


class Waiting(Case):
    """Commands marked blocking, on connections of their own."""

    def blocked(self, servers=None):
        return sum(int(n.info("clients")["blocked_clients"])
                   for n in servers or setup.cluster.nodes)

    def waits(self, conn, *command, servers=None):
        before = self.blocked(servers)
        conn.send(encode(*command))
        wait_until("it waits", lambda: self.blocked(servers) == before + 1, grace(10))
        return conn

    def test_served_and_out_of_time(self):
        for protocol in (2, 3):
            with setup.proxy.conn(protocol=protocol) as c, setup.proxy.conn() as other, \
                    setup.oracle.conn(protocol=protocol) as o:
                for slot in (1, 8000, 16000):
                    key = "{%s}take" % tag_of_slot(slot)
                    self.waits(c, "kw.take", key, 0)
                    self.expect(other, "kw.any", 1)  # nobody is held up
                    self.expect(other, "RPUSH %s v" % key, 1)
                    self.assertEqual(key.encode(), c.read())
                    self.expect(other, "EXISTS %s" % key, 0)
                    self.expect(other, "RPUSH %s v" % key, 1)
                    self.expect(c, "kw.take %s 0" % key, key.encode())  # at once
                for line in ("kw.take no 1", "kw.sleep 1", "kw.take", "kw.take k x", "kw.sleep x",
                             "kw.sleep"):
                    self.matches_oracle(c, o, line)
                self.expect(c, "PING", PONG)

    def test_pipelined(self):
        with setup.proxy.conn() as c:
            self.assertEqual([1, b"{p}l", None, 0, OK, 1, b"{p}l", PONG], c.pipeline(
                ["RPUSH {p}l v", "kw.take {p}l 0", "kw.sleep 1", "EXISTS {p}l", "SET {p}k v",
                 "RPUSH {p}l v", "kw.take {p}l 0", "PING"]))

    def test_inside_multi_it_does_not_wait(self):
        """A module is told so and refuses; what needs a connection of its own cannot be there."""
        block = ["MULTI", "SET {k}a 1", "kw.take {k}no 0", "kw.range {k}a", "EXEC"]
        with setup.proxy.conn() as c, setup.oracle.conn() as o:
            self.assertEqual(o.pipeline(block), c.pipeline(block))
            got = c.pipeline(["MULTI", "kw.alone", "EXEC"])
            self.assertEqual(b"ERR KEYWAY KW.ALONE is not possible inside MULTI", bytes(got[1]))
            self.assertTrue(got[2].startswith(b"EXECABORT"), got)

    def test_its_client_leaves(self):
        with setup.proxy.conn() as other:
            for end in ("close", "reset"):
                c = self.waits(setup.proxy.conn(), "kw.take", "left", 0)
                getattr(c, end)()
                wait_until("nobody waits", lambda: self.blocked() == 0, grace(10))
                self.expect(other, "RPUSH left v", 1)
                self.expect(other, "DEL left", 1)

    def test_client_unblock(self):
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            me = c.cmd("CLIENT", "ID")
            for command in (["kw.take", "unblocked", 0], ["kw.sleep", 1000000]):
                for how, want in (([], None), (["TIMEOUT"], None),
                                  (["ERROR"], Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"))):
                    self.waits(c, *command)
                    self.expect(other, ["CLIENT", "UNBLOCK", str(me)] + how, 1)
                    self.assertEqual(want, c.read())
            self.expect(other, "CLIENT UNBLOCK %d" % me, 0)
            self.expect(c, "PING", PONG)

    def test_connections_are_used_again(self):
        """But not those of commands that may leave something behind."""
        def opened():
            return sum(int(n.info("stats")["total_connections_received"])
                       for n in setup.cluster.nodes)
        with setup.proxy.conn() as c:
            def used(times):
                for _ in range(times):
                    self.assertEqual([1, b"{u}l"], c.pipeline(["RPUSH {u}l v", "kw.take {u}l 0"]))
                return opened()
            before = used(1)
            after = used(50)
            # The observers open one a node and question.
            self.assertLessEqual(after - before, len(setup.cluster.nodes) + 4)
            numbers = {c.cmd("kw.alone", i) for i in range(5)}
            self.assertEqual(5, len(numbers))
            gone = lambda: not any(b" cmd=kw.alone" in n.cmd("CLIENT", "LIST")
                                   for n in setup.cluster.nodes)
            wait_until("they are closed", gone, grace(5))

    def test_its_connection_is_lost(self):
        """A write may have run; a read waits anew."""
        own = Server(args=LOAD + [module()]).start()
        self.addCleanup(own.stop)

        def kill():
            rows = own.cmd("CLIENT", "LIST").decode().splitlines()
            ids = [r.split()[0][3:] for r in rows if " flags=b" in r]
            self.assertEqual(1, len(ids), rows)
            own.ok("CLIENT", "KILL", "ID", ids[0])

        with Proxy([], ["--server", own.addr]).wait_start() as p, p.conn() as c:
            knows(p, "kw.any")
            self.waits(c, "kw.take", "lost", 0, servers=[own])
            kill()
            got = c.read()
            self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
            calls = own.command_calls("kw.sleep")
            self.waits(c, "kw.sleep", grace(1) * 1000, servers=[own])
            kill()
            self.assertIsNone(c.read())
            self.assertEqual(calls + 2, own.command_calls("kw.sleep"))
            # Without a server: what it says at the end of its time nobody knows but the module.
            me = c.cmd("CLIENT", "ID")
            own.kill()
            c.send(encode("kw.take", "lost", 0))
            with p.conn() as other:
                wait_until("it is held", lambda: b"keyway_held:1\r" in other.cmd("INFO", "keyway"),
                           grace(5))
                self.expect(other, "CLIENT UNBLOCK %d" % me, 0)
                self.expect(other, "CLIENT UNBLOCK %d ERROR" % me, 1)
            self.assertEqual(b"UNBLOCKED client unblocked via CLIENT UNBLOCK", bytes(c.read()))

    def test_its_server_is_demoted(self):
        """The server's word reaches the client: what the module did until then is not known."""
        first, own = (Server(args=LOAD + [module()]).start() for _ in range(2))
        self.addCleanup(first.stop)
        self.addCleanup(own.stop)
        with Proxy([], ["--server", own.addr]).wait_start() as p, p.conn() as c:
            knows(p, "kw.any")
            self.waits(c, "kw.take", "demoted", 0, servers=[own])
            own.ok("REPLICAOF", "127.0.0.1", first.port)
            got = c.read()
            self.assertTrue(isinstance(got, Error) and got.startswith(b"UNBLOCKED force"), got)

    def test_its_slot_moves(self):
        slot = key_slot("{moves}")
        source = setup.cluster.owner(slot)
        target = next(m for m in setup.cluster.masters() if m is not source)
        with setup.proxy.conn() as c, setup.proxy.conn() as other:
            self.waits(c, "kw.take", "{moves}l", 0)
            setup.cluster.move_slot(slot, source, target)
            wait_until("it waits at the new owner", lambda: self.blocked([target]) == 1, grace(10))
            self.expect(other, "RPUSH {moves}l v", 1)
            self.assertEqual(b"{moves}l", c.read())


class Changes(Case):
    """Servers that learn and forget while the proxy runs."""

    def test_module_loaded_and_unloaded(self):
        own = Server(args=["--enable-module-command", "yes"]).start()
        self.addCleanup(own.stop)
        with Proxy([], ["--server", own.addr]).wait_start() as p, p.conn() as c:
            self.expect_error(c, "kw.any", "ERR unknown command 'kw.any', with args beginning with: ")
            own.ok("MODULE", "LOAD", module())
            begun = time.monotonic()
            self.assertEqual(1, knows(p, "kw.any"))
            # Not by the period, which is 5 s: the unknown command itself makes it be asked.
            self.assertLess(time.monotonic() - begun, grace(4))
            self.expect(c, "kw.put k v", OK)
            own.ok("MODULE", "UNLOAD", "keywaytest")
            # The server says so itself, and then the proxy.
            self.expect_error(c, "kw.any", UNKNOWN % "kw.any")
            self.expect(c, "GET k", b"v")

    def test_restarted_with_a_module(self):
        own = Server().start()
        self.addCleanup(own.stop)
        with Proxy([], ["--server", own.addr]).wait_start() as p, p.conn() as c:
            self.expect_error(c, "kw.any", UNKNOWN % "kw.any")
            own.args = LOAD + [module()]
            own.restart()
            self.assertEqual(1, knows(p, "kw.any"))

    def test_the_first_request_of_all(self):
        """A proxy that has just started waits for what the servers know, instead of denying it."""
        for _ in range(3):
            p = Proxy(setup.cluster.seeds()).start(wait=False)
            with connect_when_up(("127.0.0.1", p.port)) as c:
                self.assertEqual([b"first"], c.cmd("kw.from", "FROM", "first")
                                 if c.cmd("kw.put", "first", "v") == OK else None)
            p.stop()

    def test_nobody_to_ask(self):
        """Without a server an unknown command is answered all the same."""
        with Proxy(["127.0.0.1:%d" % free_port()]).start() as p, p.conn() as c:
            self.expect_error(c, "kw.any", UNKNOWN % "kw.any")
            self.expect_error(c, "kw.any", UNKNOWN % "kw.any")

    def test_while_a_slot_moves(self):
        """MOVED and ASK are believed from a module when they are the server's own."""
        slot = key_slot("mv")
        source = setup.cluster.owner(slot)
        target = next(m for m in setup.cluster.masters() if m is not source)
        with setup.proxy.conn() as c:
            keys = ["{mv}%d" % i for i in range(20)]
            for key in keys:
                self.expect(c, "kw.put %s v" % key, OK)
            setup.cluster.begin_move(slot, source, target)
            for key in keys[:10]:
                source.ok("MIGRATE", "127.0.0.1", target.port, key, 0, 10000)
            for key in keys:
                self.expect(c, "kw.range %s" % key, [key.encode()])
                self.expect(c, "kw.put %s w" % key, OK)
            setup.cluster.move_keys(slot, source, target)
            setup.cluster.end_move(slot, source, target)
            for key in keys:
                self.expect(c, "kw.range %s" % key, [key.encode()])
                self.expect(c, "GET %s" % key, b"w")
            # What a module says of its own is an answer.
            for text in ("MOVED 1 127.0.0.1:1", "ASK %d 127.0.0.1:1" % slot, "MOVED x", "LOADING x",
                         "CLUSTERDOWN of another kind"):
                got = c.cmd("kw.says", text, "{mv}1")
                self.assertEqual((text.encode(), Error), (bytes(got), type(got)))


# -- scripted servers --------------------------------------------------------------------------

def wire(value):
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, (list, tuple)):
        return b"*%d\r\n" % len(value) + b"".join(map(wire, value))
    if isinstance(value, Simple):
        return b"+%s\r\n" % bytes(value)
    value = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%s\r\n" % (len(value), value)


def index(pos, last=0, step=1, limit=0, flags=()):
    return ["flags", list(flags), "begin_search", ["type", "index", "spec", ["index", pos]],
            "find_keys", ["type", "range", "spec", ["lastkey", last, "keystep", step, "limit",
                                                   limit]]]


def row(name, arity, flags, specs=(), subs=(), categories=()):
    first = 1 if specs else 0
    return [name, arity, [Simple(f.encode()) for f in flags], first, first, first,
            [Simple(c.encode()) for c in categories], [], list(specs), list(subs)]


PLAIN = [
    row("newread", 2, ["readonly"], [index(1)]),
    row("newwrite", 2, ["write"], [index(1)]),
    row("newneither", 2, ["fast"], [index(1)]),
    row("get", -2, ["readonly", "fast"], [index(1)]),
    row("echo", -2, ["fast"]),
    row("object", -2, [], subs=[row("object|newsub", 3, ["readonly"], [index(2)]),
                                row("object|newkeyless", 2, ["readonly"])]),
    row("newselect", 2, ["loading", "stale", "fast"], categories=["@connection"]),
    row("newdanger", 1, ["readonly"], categories=["@slow", "@dangerous"]),
    row("neweverywhere", 1, ["write", "touches_arbitrary_keys"]),
]


def describe(node, rows):
    """The node answers COMMAND with these rows, and COMMAND LIST with their names."""
    def answer(conn, argv):
        if len(argv) == 1:
            return wire(rows)
        return wire([r[0] for r in rows]) if argv[1].upper() == b"LIST" else PASS
    node.rule("COMMAND", answer)


def ran(conn, argv):
    conn.node.executed[argv[0]] = conn.node.executed.get(argv[0], 0) + 1
    return b"+ran\r\n"


def ran_then_reset(conn, argv):
    ran(conn, argv)
    conn.reset()


class Scripted(Case):
    def tearDown(self):
        for node in fakes.nodes:
            node.clear()
            describe(node, PLAIN)
        with fake_proxy.conn() as c:
            self.eventually("what was told before is known again", lambda: (
                c.cmd("newselect", "1").startswith(b"ERR KEYWAY") and all(
                    c.cmd(name, "k").startswith(b"ERR unknown")
                    for name in ("goodone", "newpart", "newloose", "newkeys"))))

    def count(self, name):
        return sum(n.executed.get(name.encode(), 0) for n in fakes.nodes)

    def test_a_write_is_never_run_twice(self):
        """Its connection breaks when it has run: only what is marked readonly is sent again."""
        for i, name in enumerate(("newwrite", "newneither", "newread")):
            node = fakes.nodes[i]
            key = fakes.key_on(i, "once")
            node.rule(name, ran)
            node.rule(name, ran_then_reset, times=1)
            with fake_proxy.conn() as c:
                got = c.cmd(name, key)
                if name == "newread":
                    self.assertEqual((Simple(b"ran"), 2), (got, self.count(name)))
                else:
                    self.assertTrue(isinstance(got, Error) and got.startswith(b"UNKNOWN "), got)
                    self.assertEqual(1, self.count(name))
                self.expect(c, "%s %s" % (name, key), Simple(b"ran"))

    def test_more_arguments_than_the_table_has(self):
        for node in fakes.nodes:
            node.rule("GET", ran)
        with fake_proxy.conn() as c:
            self.expect(c, "GET key option", Simple(b"ran"))
            self.expect(c, "GET key", Simple(b"ran"))
            self.expect_error(c, "GET", "ERR wrong number of arguments for 'get' command")
            # What the proxy answers itself has the arguments that it knows.
            self.expect_error(c, "ECHO a b", "ERR wrong number of arguments for 'echo' command")

    def test_new_subcommands(self):
        """Of a container that the table has: those with keys, the others mean nothing here."""
        for node in fakes.nodes:
            node.rule("OBJECT", ran)
        with fake_proxy.conn() as c:
            for i in range(3):
                key = fakes.key_on(i, "sub")
                before = fakes.nodes[i].calls("OBJECT")
                self.expect(c, "object NewSub %s" % key, Simple(b"ran"))
                self.assertEqual(before + 1, fakes.nodes[i].calls("OBJECT"))
            self.expect_error(c, "OBJECT newkeyless",
                              "ERR unknown subcommand 'newkeyless'. Try OBJECT HELP.")

    def test_refused(self):
        with fake_proxy.conn() as c:
            for line, why in (("newselect 1", "it is about its connection"),
                              ("neweverywhere", "it works on keys that it does not name")):
                self.expect_error(c, line, "ERR KEYWAY '%s' cannot be used: %s" % (
                    line.split()[0], why))
            self.expect_error(c, "newdanger", "ERR KEYWAY admin_commands is false: ...")

    def change(self, rows, *nodes):
        for node in nodes or fakes.nodes:
            describe(node, rows)

    def test_servers_that_differ(self):
        """Of a row that only some have, and of facts that all can live with, the union; when they
        disagree about keys nobody is right."""
        mine = PLAIN + [row("newpart", 2, ["readonly"], [index(1)]),
                        row("newloose", 2, ["readonly"], [index(1)]),
                        row("newkeys", -2, ["readonly"], [index(1)])]
        other = PLAIN + [row("newloose", -3, ["write"], [index(1)]),
                         row("newkeys", -2, ["readonly"], [index(2)])]
        self.change(mine, fakes.nodes[0])
        self.change(other, fakes.nodes[1], fakes.nodes[2])
        for node in fakes.nodes:
            for name in ("newpart", "newkeys"):
                node.rule(name, ran)
            node.rule("newloose", ran)
            node.rule("newloose", ran_then_reset, times=1)
        self.eventually("they disagree", lambda: knows(fake_proxy, "newkeys", "k").startswith(
            b"ERR KEYWAY 'newkeys' cannot be used: the servers disagree about its keys"))
        with fake_proxy.conn() as c:
            self.expect(c, "newpart %s" % fakes.key_on(0), Simple(b"ran"))
            self.expect_error(c, "newloose", "ERR wrong number of arguments for 'newloose' command")
            got = c.cmd("newloose", fakes.key_on(1))  # a write for one of them, so for all
            self.assertTrue(got.startswith(b"UNKNOWN "), got)
            self.expect(c, "newloose %s a b" % fakes.key_on(1), Simple(b"ran"))

    def test_nonsense(self):
        """Answers that no server gives: the good rows among them count."""
        deep = b"*1\r\n" * 30 + b":1\r\n"
        spec = index(1)
        odd = [[], ["x"], 7, "text", [row("a", 2, [])], row("bad\r\nname", 2, ["readonly"]),
               row("bad name", 2, ["readonly"]), row("", 2, []), row("x" * 300, 2, []),
               row("top|sub", 2, ["readonly"]), ["noflags", 2, "flags", 0, 0, 0],
               row("farkey", -1, ["readonly"], [index(1 << 40)]),
               row("zerokey", -1, ["readonly"], [index(0)]),
               row("zerostep", -1, ["readonly"], [index(1, -1, 0)]),
               row("manyspecs", -1, ["readonly"], [spec] * 40),
               row("cutspec", -1, ["readonly"], [spec[:3]]),
               row("textspec", -1, ["readonly"], ["index"]),
               row("unknownspec", -1, ["readonly"],
                   [["flags", [], "begin_search", ["type", "unknown", "spec", []], "find_keys",
                     ["type", "unknown", "spec", []]]]),
               ["old", -2, [Simple(b"readonly")], 1, -1, 1],
               ["oldmoving", -2, [Simple(b"readonly"), Simple(b"movablekeys")], 1, -1, 1],
               row("eval", -1, ["noscript"]), row("evalsha", -1, ["noscript"]),
               row("goodone", 2, ["readonly"], [index(1)])]
        cut = b"*1\r\n$3\r\nab"
        for answers in ([wire(odd)] * 3, [deep, b"-ERR no\r\n", cut], [b":1\r\n", b"@\r\n", b""]):
            self.change(PLAIN)
            before = [n.calls("COMMAND") for n in fakes.nodes]
            for node, text in zip(fakes.nodes, answers):
                node.rule("COMMAND", lambda conn, argv, text=text: text if len(argv) == 1 else
                          wire(["another"]))
            self.eventually("all were asked", lambda: all(
                n.calls("COMMAND") > b + 1 for n, b in zip(fakes.nodes, before)))
            with fake_proxy.conn() as c:
                self.expect(c, "SET still here", OK)
                self.expect(c, "GET still", b"here")
            if answers[0] == wire(odd):
                self.odd_rows()

    def odd_rows(self):
        for node in fakes.nodes:
            for name in ("goodone", "old"):
                node.rule(name, ran)
        self.assertEqual(Simple(b"ran"), knows(fake_proxy, "goodone", "k"))
        with fake_proxy.conn() as c:  # it has an argument that the proxy reads
            for name in ("eval", "evalsha"):
                self.expect_error(c, name, "ERR wrong number of arguments for '%s' command" % name)
        with fake_proxy.conn() as c:
            self.expect(c, "old {k}1 {k}2", Simple(b"ran"))
            self.expect_error(c, "old a b", "CROSSSLOT Keys in request don't hash to the same slot")
            for name in ("farkey", "zerokey", "zerostep", "manyspecs", "cutspec", "textspec",
                         "unknownspec", "oldmoving"):
                self.expect_error(c, name + " k", "ERR KEYWAY '%s' cannot be used: the servers do "
                                                  "not tell where its keys are" % name)
            for name in ("a", "bad", "x" * 300, "top|sub", "noflags", "top"):
                self.assertTrue(c.cmd(name, "k").startswith(b"ERR unknown command"), name)


if __name__ == "__main__":
    unittest.main()
