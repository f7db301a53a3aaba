"""Who a client is: AUTH and HELLO ... AUTH checked by the servers, whose ACLs then rule; guests;
passwords of the proxy's own."""
import contextlib
import hashlib
import os
import random
import re
import signal
import threading
import time
import unittest

from harness.case import Case, Setup
from harness.proxy import BINARY, STANDIN, FromFile, Proxy, grace, scaled
from harness.resp import NULL, OK, PONG, Closed, Conn, Error, Simple, encode
from harness.servers import Cluster, Server, free_port, scratch, wait_until

NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."
NOKEY = "NOPERM this user has no permissions to access one of the keys used as arguments"

setup = Setup()
admins = []  # one connection to each server that may do all


def everywhere(*args):
    for a in admins:
        got = a.cmd(*args)
        if isinstance(got, Error):
            raise AssertionError("%r was answered %r" % (args, got))
    return got


def config(password="master-key", extra="", user="keyway"):
    return "upstreams: {main: {cluster: [%s], user: %s, password: %s}}\n%s" % (
        ", ".join('"%s"' % s for s in setup.cluster.seeds(3)), user, password, extra)


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs the proxy")
    setup.cluster = Cluster(masters=3, replicas=0, node_timeout=15000).start()
    for n in setup.cluster.nodes:
        admin = n.conn()
        assert admin.cmd("ACL", "SETUSER", "keyway", "on", ">master-key", "~*", "&*", "+@all") == OK
        assert admin.cmd("AUTH", "keyway", "master-key") == OK
        admins.append(admin)
    setup.proxy = Proxy([], ["--auth", "servers"], config=config()).start()
    wait_until("the proxy knows the cluster", lambda: routes(setup.proxy), grace(20))


def tearDownModule():
    for a in admins:
        a.close()
    if not STANDIN:
        setup.stop()


def routes(proxy):
    with proxy.conn() as c:
        return c.cmd("AUTH", "keyway", "master-key") == OK and all(
            isinstance(c.cmd("TYPE", k), Simple) for k in "abcdefg")


class IdentityCase(Case):
    def conn(self, *auth, proxy=None, **kw):
        c = super().conn((proxy or setup.proxy).port, **kw)
        if auth:
            self.expect(c, ["AUTH"] + list(auth), OK)
        return c

    def user(self, name, *rules):
        everywhere("ACL", "SETUSER", name, "reset", "on", *rules)
        self.addCleanup(everywhere, "ACL", "DELUSER", name)

    def closed_to_guests(self):
        """The default user needs a password until the end of the test."""
        everywhere("CONFIG", "SET", "requirepass", "open")
        self.addCleanup(self.eventually, "guests are let in again", lambda: self.guests() == {PONG})
        self.addCleanup(everywhere, "CONFIG", "SET", "requirepass", "")
        self.eventually("guests are refused", lambda: self.guests() == {Error(NOAUTH.encode())})

    def guests(self):
        """What guests of all workers are told: each believes for a second what it knows."""
        conns = [setup.proxy.conn(timeout=grace(20)) for _ in range(6)]
        answers = {c.cmd("PING") for c in conns}
        for c in conns:
            c.close()
        return answers


class Auth(IdentityCase):
    def test_answers_are_the_servers(self):
        """Without a password for the default user, and with one."""
        self.user("ann", ">secret", "~*", "&*", "+@all")
        lines = ["AUTH x", "AUTH default anything", "AUTH nosuch x", "AUTH ann wrong", "AUTH ann secret",
                 "ACL WHOAMI", "AUTH a b c", "AUTH ann wrong", "ACL WHOAMI", "HELLO 3 AUTH ann wrong",
                 "HELLO 9 AUTH ann secret", "HELLO 3 AUTH ann", "ACL WHOAMI", ["AUTH", "ann", ""],
                 ["AUTH", "", "secret"], ["HELLO", "2", "AUTH", "ann", "secret", "SETNAME", "a b"],
                 "CLIENT GETNAME", "RESET", "ACL WHOAMI"]
        server = setup.cluster.nodes[0]
        with setup.proxy.conn() as c, server.conn() as o:
            for line in lines:
                self.matches_oracle(c, o, line)
        self.closed_to_guests()
        lines = ["PING", "GET x", "NOPE", "GET", "CLIENT", "CLIENT ID", "HELLO", "HELLO 3", "HELLO 9",
                 "HELLO 3 SETNAME x", "INFO", "KEYS *", "CLUSTER SLOTS", "PUBLISH a b", "MULTI",
                 "RESET", "AUTH wrong", "PING", "AUTH open", "PING", "ACL WHOAMI", "GET " + setup.cluster.key_on(server),
                 "RESET", "PING", "AUTH ann secret", "ACL WHOAMI", "PING"]
        with setup.proxy.conn() as c, server.conn() as o:
            for line in lines:
                self.matches_oracle(c, o, line)
            self.expect(c, "QUIT", OK)

    def test_hello(self):
        self.user("ann", ">secret", "~a:*", "&*", "+@all")
        c = self.conn()
        answer = c.cmd("HELLO", "3", "AUTH", "ann", "secret", "SETNAME", "namer")
        self.assertEqual(3, answer.get(b"proto"))
        self.expect(c, "ACL WHOAMI", b"ann")
        self.expect(c, "CLIENT GETNAME", b"namer")
        self.expect(c, "GET a:none", NULL)
        self.expect_error(c, "GET b:none", NOKEY)
        self.assertIn(b" user=ann ", c.cmd("CLIENT", "INFO"))
        self.assertEqual(2, dict(zip(*[iter(c.cmd("HELLO", "2"))] * 2)).get(b"proto"))
        self.expect(c, "ACL WHOAMI", b"ann")
        self.expect(c, "GET a:none", None)
        self.expect_error(c, "GET b:none", NOKEY)
        self.expect(c, "RESET", Simple(b"RESET"))
        self.expect(c, "ACL WHOAMI", b"default")
        self.expect(c, "GET b:none", None)

    def test_in_one_write_with_what_follows(self):
        self.user("ann", ">secret", "~a:*", "&*", "+@all")
        c = self.conn()
        lines = ["SET b:1 guest", "GET b:1", "AUTH ann secret", "ACL WHOAMI", "GET b:1", "SET a:1 ann",
                 "GET a:1", "AUTH ann wrong", "GET b:1", "MGET a:1 a:2", "RESET", "GET b:1", "ACL WHOAMI",
                 "HELLO 3 AUTH ann secret", "GET b:1", "GET a:none"]
        for _ in range(scaled(20)):
            got = c.pipeline(lines)
            self.assertIn(b"server", [k for k, _ in got[13]])
            del got[13]
            self.assertEqual(repr([OK, b"guest", OK, b"ann", Error(NOKEY.encode()), OK, b"ann",
                                   Error(WRONGPASS.encode()), Error(NOKEY.encode()), [b"ann", None],
                                   Simple(b"RESET"), b"guest", b"default", Error(NOKEY.encode()), NULL]),
                             repr(got))
            self.expect(c, "RESET", Simple(b"RESET"))

    def test_wrong_ones_of_many_clients(self):
        self.user("ann", ">secret", "~*", "&*", "+@all")
        conns = [self.conn() for _ in range(scaled(40, 8))]
        for _ in range(5):
            for i, c in enumerate(conns):
                c.send(encode("AUTH", "ann", "secret" if i % 2 else "wrong") + encode("ACL", "WHOAMI"))
            for i, c in enumerate(conns):
                want = [OK, b"ann"] if i % 2 else [Error(WRONGPASS.encode()), b"default"]
                self.assertEqual(repr(want), repr([c.read(), c.read()]))

    def test_clients_that_leave(self):
        self.user("ann", ">secret", "~*", "&*", "+@all")
        steps = [encode("AUTH", "ann", "secret"), encode("AUTH", "ann", "wrong"), encode("PING"),
                 encode("HELLO", "3", "AUTH", "ann", "secret"), encode("SCAN", "0"), encode("SUBSCRIBE", "x"),
                 encode("RANDOMKEY"), encode("CLIENT", "LIST"), encode("RESET"), encode("GET", "left")]
        rng = random.Random(44)
        for _ in range(scaled(300, 60)):
            with setup.proxy.conn() as c:
                c.send(b"".join(rng.choice(steps) for _ in range(rng.randrange(1, 8))))
                if rng.random() < 0.3:
                    c.read()
                if rng.random() < 0.3:
                    c.reset()
        c = self.conn("ann", "secret")
        self.expect(c, "SET left 1", OK)
        self.eventually("all are gone", lambda: c.cmd("CLIENT", "LIST").count(b"\n") <= 2)

    def test_odd_ones(self):
        c = self.conn()
        for user, password in (("x" * 20000, "y"), ("y", "x" * 20000), ("a\0b", "c"), ("a", "b\0c"),
                               ("a\r\nb", "c"), ("a", "\r\nPING\r\n"), ("x" * 100000, "y")):
            self.expect_error(c, ["AUTH", user, password], WRONGPASS)
        self.expect(c, "PING", PONG)
        odd = "p w'\"%s\\ \xe9\r\n*1"
        self.user("odd", ">" + odd, "~*", "&*", "+@all")
        self.expect(c, ["AUTH", "odd", odd], OK)
        self.expect(c, "SET odd 1", OK)
        self.assertNotIn("p w'", setup.proxy.log_text())

    def test_a_new_password(self):
        """The old one stops at once; who is in stays until a connection has to be opened anew."""
        self.user("ann", ">old", "~*", "&*", "+@all")
        c = self.conn("ann", "old")
        self.expect(c, "SET rotated 1", OK)
        everywhere("ACL", "SETUSER", "ann", "resetpass", ">new")
        self.expect_error(self.conn(), "AUTH ann old", WRONGPASS)
        fresh = self.conn("ann", "new")
        self.expect(fresh, "GET rotated", b"1")
        self.expect(c, "GET rotated", b"1")
        everywhere("CLIENT", "KILL", "USER", "ann")
        for protocol in range(2):
            self.eventually("its connections are closed",
                            lambda: c.cmd("GET", "rotated") == Error(WRONGPASS.encode()))
            got = c.pipeline(["GET rotated", "SET rotated 2", "MGET rotated a b c", "INCR rotated"] * 5)
            self.assertEqual({Error(WRONGPASS.encode())}, set(got))
            self.expect(c, "ACL WHOAMI", b"ann")
            self.expect(fresh, "GET rotated", b"1")
        self.expect(c, "AUTH ann new", OK)
        self.expect(c, "GET rotated", b"1")

    def test_a_user_that_is_deleted(self):
        self.user("ann", ">secret", "~*", "&*", "+@all")
        c, other = self.conn("ann", "secret"), self.conn()
        self.expect(c, "SET gone 1", OK)
        everywhere("ACL", "DELUSER", "ann")
        self.eventually("ann is refused", lambda: c.cmd("GET", "gone") == Error(WRONGPASS.encode()))
        self.expect(other, "GET gone", b"1")
        self.expect_error(c, "AUTH ann secret", WRONGPASS)


class Rights(IdentityCase):
    def test_keys_and_commands(self):
        self.user("ann", ">secret", "~a:*", "&*", "+@all", "-@dangerous", "-incr")
        c = self.conn("ann", "secret")
        self.expect(c, "SET a:1 x", OK)
        self.expect_error(c, "SET b:1 x", NOKEY)
        self.expect_error(c, "MGET a:1 a:2 b:1", NOKEY)
        self.expect_error(c, "INCR a:1", "NOPERM this user has no permissions to run the 'incr' command")
        for line in ("FLUSHALL", "KEYS *"):
            name = line.split()[0].lower()
            self.expect_error(c, line, "NOPERM this user has no permissions to run the '%s' command" % name)
        everywhere("ACL", "SETUSER", "ann", "~b:*", "+incr")
        self.expect(c, "SET b:1 1", OK)
        self.expect(c, "INCR b:1", 2)
        everywhere("ACL", "SETUSER", "ann", "resetkeys", "~b:*")
        self.expect_error(c, "GET a:1", NOKEY)

    def test_one_key_says_nothing_about_another(self):
        self.user("wanda", ">p", "~a:*", "&*", "+@all")
        c = self.conn("wanda", "p")
        self.assertEqual([Error(NOKEY.encode()), OK, OK, Error(NOKEY.encode()), OK],
                         c.pipeline(["WATCH b:1", "WATCH a:1", "UNWATCH", "WATCH b:1", "UNWATCH"]))

    def test_users_never_mix(self):
        """Many at the same time on each worker; each key carries the name of who may have it."""
        names = ["u%d" % i for i in range(8)]
        for n in names:
            self.user(n, ">pw-" + n, "~%s:*" % n, "&*", "+@all")
        rounds = scaled(150, 20)
        wrong = []

        def work(name, other, protocol):
            try:
                with Conn(setup.proxy.port, timeout=grace(20)) as c:
                    c.cmd("HELLO", protocol, "AUTH", name, "pw-" + name)
                    for i in range(rounds):
                        got = c.pipeline([["SET", "%s:%d" % (name, i % 7), name], ["GET", "%s:%d" % (other, i % 7)],
                                          ["ACL", "WHOAMI"], ["MGET"] + ["%s:%d" % (name, k) for k in range(3)]])
                        good = got[0] == OK and got[1] == Error(NOKEY.encode()) and \
                            got[2] == name.encode() and set(got[3]) <= {name.encode(), None, NULL}
                        if not good:
                            wrong.append((name, got))
                            return
            except Exception as e:  # noqa: told below
                wrong.append((name, repr(e)))

        threads = [threading.Thread(target=work, args=(n, names[i - 1], 2 + k))
                   for i, n in enumerate(names) for k in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(grace(40))
        self.assertEqual([], wrong)

    def test_clients_by_user(self):
        self.user("ken", ">p", "~*", "&*", "+@all")
        kens, other = [self.conn("ken", "p") for _ in range(5)], self.conn("keyway", "master-key")
        self.assertEqual(5, other.cmd("CLIENT", "LIST").count(b" user=ken "))
        self.expect_error(other, "CLIENT KILL USER nobody", "ERR No such user 'nobody'")
        self.expect(other, "CLIENT KILL USER ken", 5)
        for c in kens:
            with self.assertRaises((Closed, OSError)):
                c.read()
        self.expect(other, "PING", PONG)

    def test_one_client_many_users(self):
        for n in ("ann", "bob"):
            self.user(n, ">" + n, "~%s:*" % n, "&*", "+@all")
        c = self.conn()
        for i in range(scaled(50, 10)):
            me, other = ("ann", "bob") if i % 2 else ("bob", "ann")
            got = c.pipeline([["AUTH", me, me], ["SET", me + ":k", i], ["GET", other + ":k"], ["GET", me + ":k"]])
            self.assertEqual([OK, OK, Error(NOKEY.encode()), b"%d" % i], got)


class AnsweredByTheProxy(IdentityCase):
    """What no server sees is allowed as the servers' ACL would."""
    count = 0
    LINES = ["PING", "ECHO x", "CLIENT LIST", "CLIENT ID", "CLIENT GETNAME", "CLIENT KILL ID 99999999",
             "CLIENT PAUSE 1", "CLIENT NO-EVICT off", "CONFIG GET port", "INFO", "INFO keyway", "ROLE", "DBSIZE",
             "KEYS x", "SCAN 0", "RANDOMKEY", "CLUSTER NODES", "CLUSTER LINKS", "CLUSTER KEYSLOT x", "READONLY",
             "PUBLISH x y", "PUBSUB CHANNELS", "PUBSUB NUMSUB x", "SUBSCRIBE x", "FLUSHALL", "ACL WHOAMI",
             "LATENCY LATEST", "SLOWLOG LEN", "MEMORY DOCTOR", "SCRIPT KILL", "FUNCTION STATS", "COMMAND COUNT",
             "LASTSAVE", "TIME", "SELECT 0", "ACL CAT"]

    def denied(self, conn, line):
        got = conn.cmd(*line.split())
        return got if isinstance(got, Error) and got.code == "NOPERM" else None

    def compare(self, *rules):
        AnsweredByTheProxy.count += 1
        name = "acl%d" % self.count  # verdicts are kept for a while
        self.user(name, ">p", *rules)
        with setup.cluster.nodes[0].conn() as o:
            self.expect(o, ["AUTH", name, "p"], OK)
            c = self.conn(name, "p")
            allowed = 0
            for line in self.LINES:
                if line.startswith("SUBSCRIBE"):
                    with setup.cluster.nodes[0].conn() as o2:
                        o2.cmd("AUTH", name, "p")
                        want = self.denied(o2, line)
                    got = self.denied(self.conn(name, "p"), line)
                else:
                    want = self.denied(o, line)
                    got = self.denied(c, line)
                self.assertEqual(repr(want), repr(got), line)
                allowed += want is None
        return allowed

    def test_as_the_servers(self):
        everything = len(self.LINES)
        self.assertEqual(everything, self.compare("~*", "&*", "+@all"))
        for rules in (["~*", "&*", "+@all", "-@dangerous"], ["~*", "&*", "+@read", "+@connection"],
                      ["~*", "&*", "-@all", "+get"], ["~*", "&*", "+@all", "-ping", "-client|list", "-cluster"],
                      ["~*", "resetchannels", "+@all", "-echo", "-subscribe"],
                      ["~*", "&*", "-@all", "+client|list", "+config|get", "+info", "+auth"]):
            allowed = self.compare(*rules)
            self.assertLess(allowed, everything, rules)

    def test_inside_multi_as_the_servers(self):
        """Refused when it would be queued, as by a server."""
        self.user("tess", ">p", "~*", "&*", "+@all", "-ping", "-client", "-role", "-acl|whoami")
        with setup.cluster.nodes[0].conn() as o, setup.proxy.conn() as c:
            for conn in (o, c):
                self.expect(conn, "AUTH tess p", OK)
            for line in ("PING", "CLIENT ID", "CLIENT INFO", "ROLE", "ACL WHOAMI", "ECHO x"):
                lines = ["MULTI", line, "EXEC", "ECHO after"]
                self.assertEqual(repr(o.pipeline(lines)), repr(c.pipeline(lines)), line)

    def test_who_may_not_flush_scripts(self):
        body, digest = "return 44", hashlib.sha1(b"return 44").hexdigest()
        self.user("writer", ">p", "~*", "&*", "+@all")
        self.user("reader", ">p", "~*", "&*", "+get")
        c = self.conn("writer", "p", proxy=setup.proxy)
        self.expect(c, ["EVAL", body, "0"], 44)
        noflush = "NOPERM this user has no permissions to run the 'script|flush' command"
        for _ in range(4):  # on all workers
            self.expect_error(self.conn("reader", "p"), "SCRIPT FLUSH", noflush)
        everywhere("SCRIPT", "FLUSH")
        self.expect(c, ["EVALSHA", digest, "0"], 44)
        self.expect(c, "SCRIPT FLUSH", OK)
        self.expect_error(c, ["EVALSHA", digest, "0"], "NOSCRIPT No matching script. Please use EVAL.")

    def test_in_order(self):
        self.user("amy", ">secret", "~*", "&*", "+@all", "-ping", "-@dangerous")
        c = self.conn()
        noping = Error(b"NOPERM this user has no permissions to run the 'ping' command")
        self.assertEqual([PONG, OK, OK, noping, b"1", b"x", noping, b"amy", Simple(b"RESET"), PONG],
                         c.pipeline(["PING", "SET o 1", "AUTH amy secret", "PING", "GET o", "ECHO x", "PING",
                                     "ACL WHOAMI", "RESET", "PING"]))

    def test_inside_multi(self):
        """What stays behind until EXEC is allowed or refused when it is queued."""
        self.user("mia", ">secret", "~*", "&*", "+@all", "-cluster", "-client|setname")
        c = self.conn("mia", "secret")
        for line in ("CLUSTER NODES", "CLIENT SETNAME x"):
            for before in ([], ["SET m 1"]):
                got = c.pipeline(["MULTI", *before, line, "PING", "EXEC", "ECHO x"])
                at = 1 + len(before)
                self.assertIsInstance(got[at], Error, got)
                self.assertEqual("NOPERM", got[at].code, got)
                self.assertEqual(Error(b"EXECABORT Transaction discarded because of previous errors."), got[-2])
                self.assertEqual(b"x", got[-1])
        self.expect(c, "EXISTS m", 0)
        self.assertEqual([b"mia", PONG], c.pipeline(["MULTI", "ACL WHOAMI", "PING", "EXEC"])[-1])

    def test_what_takes_several_steps(self):
        """SCAN and RANDOMKEY ask for more than they are: that is the upstream's user's to do."""
        self.user("few", ">p", "~*", "&*", "-@all", "+scan", "+randomkey", "+set", "+select", "+get")
        c = self.conn("few", "p")
        setup.cluster.flush()
        keys = [b"steps:%d" % i for i in range(300)]
        self.assertEqual([OK] * 300, c.pipeline([["SET", k, "x"] for k in keys]))
        cursor, seen = b"0", []
        while cursor != b"0" or not seen:
            cursor, some = c.cmd("SCAN", cursor, "COUNT", "50")
            seen += some
        self.assertEqual(set(keys), set(seen))
        self.assertIn(c.cmd("RANDOMKEY"), keys)
        noperm = Error(b"NOPERM this user has no permissions to run the 'del' command")
        got = c.pipeline(["RANDOMKEY", "DEL steps:1", "SCAN 0 COUNT 1", "DEL steps:1", "RANDOMKEY", "DEL steps:1"] * 5)
        self.assertEqual({noperm}, set(got[1::2]))

    def test_without_dryrun(self):
        """Only the default user may then do what is for administrators."""
        everywhere("ACL", "SETUSER", "half", "on", ">half", "~*", "&*", "+@all", "-acl")
        self.addCleanup(everywhere, "ACL", "DELUSER", "half")
        self.user("amy", ">secret", "~*", "&*", "+@all")
        with Proxy([], ["--auth", "servers"], config=config("half", user="half"), workers=1) as p:
            wait_until("the proxy knows the cluster", lambda: routes(p), grace(20))
            ann, guest = self.conn("amy", "secret", proxy=p), self.conn(proxy=p)
            for line in ("PING", "ECHO x", "CLIENT ID", "CLUSTER INFO", "SCAN 0", "DBSIZE"):
                self.assertIsNone(self.denied(ann, line), line)
            for name in ("client|list", "client|kill", "config|get", "role", "info"):
                line = name.replace("|", " ") + (" x" if name in ("client|kill", "config|get") else "")
                self.expect_error(ann, line, "NOPERM this user has no permissions to run the '%s' command" % name)
                self.assertIsNone(self.denied(guest, line), line)


class Guests(IdentityCase):
    def test_password_required_at_run_time(self):
        old = self.conn()
        self.expect(old, "SET guest:1 x", OK)
        self.closed_to_guests()
        c = self.conn()
        for line in ("PING", "ECHO x", "GET guest:1", "CLIENT LIST", "INFO keyway", "SUBSCRIBE x", "SELECT 0"):
            self.expect_error(c, line, NOAUTH)
        self.expect_error(c, "HELLO 3", "NOAUTH HELLO must be called...")
        with setup.cluster.owner("guest:1").conn() as o:
            for line in ("MULTI", "GET guest:1", "EXEC", "DISCARD", "WATCH guest:1", "EXEC x", "MULTI x", "exec"):
                self.matches_oracle(c, o, line)
        self.assertEqual([Error(NOAUTH.encode()), Error(NOAUTH.encode()), OK, b"x", PONG],
                         c.pipeline(["GET guest:1", "PING", "AUTH open", "GET guest:1", "PING"]))
        self.expect(c, "ACL WHOAMI", b"default")
        self.expect(c, "RESET", Simple(b"RESET"))
        self.expect_error(c, "GET guest:1", NOAUTH)
        self.assertIsInstance(old.cmd("GET", "guest:1"), (bytes, Error))

    def plain(self):
        s = Server().start()
        self.addCleanup(s.stop)
        p = Proxy([], ["--server", "127.0.0.1:%d" % s.port], workers=1).start()
        self.addCleanup(p.stop)
        c = self.conn(proxy=p)
        self.eventually("it is served", lambda: c.cmd("SET", "k", "v") == OK)
        return s, p, c

    def connections(self, server):
        return int(re.search(rb"total_connections_received:(\d+)", server.cmd("INFO", "stats")).group(1))

    def test_a_plain_setup_asks_nobody(self):
        """No password anywhere, no configuration: servers see no connection for it."""
        s, p, c = self.plain()
        before = self.connections(s)
        for _ in range(50):
            with p.conn() as other:
                self.assertEqual([PONG, b"v", b"default"], other.pipeline(["PING", "GET k", "ACL WHOAMI"]))
        self.assertLess(self.connections(s) - before, 5)

    def test_a_server_that_starts_to_ask(self):
        """No password was configured; then the server wants one."""
        s, p, c = self.plain()
        admin = s.conn()
        self.addCleanup(admin.close)
        self.expect(admin, "CONFIG SET requirepass pw", OK)
        self.expect(admin, "AUTH pw", OK)
        self.assertGreater(admin.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), 0)
        self.eventually("NOAUTH", lambda: c.cmd("GET", "k") == Error(NOAUTH.encode()))
        self.expect(c, "AUTH pw", OK)
        self.expect(c, "GET k", b"v")
        other = self.conn(proxy=p)
        self.expect_error(other, "PING", NOAUTH)
        self.expect_error(other, "GET k", NOAUTH)
        self.expect(other, "AUTH pw", OK)
        self.expect(other, "GET k", b"v")

    REQUIRE = (["CONFIG", "SET", "requirepass", "pw"], ["ACL", "SETUSER", "default", "resetpass", ">pw"],
               ["ACL", "SETUSER", "default", "off"])
    RELEASE = ["ACL", "SETUSER", "default", "on", "nopass"]

    def test_a_password_that_nobody_told_the_proxy_of(self):
        """Set at the server while connections stand, as an operator does it. Newcomers are told to AUTH
        within topology.refresh and a second; nobody gets the rights of those who were in before."""
        s = Server().start()
        self.addCleanup(s.stop)
        with Proxy([], ["--server", s.addr], workers=2,
                   config="topology: {refresh: 200ms}\n").start() as p, s.conn() as admin:
            old = [self.conn(proxy=p) for _ in range(4)]  # of both workers
            for c in old:
                self.expect(c, "SET k v", OK)
            self.expect(admin, self.REQUIRE[1], OK)
            self.eventually("newcomers are refused", lambda: self.newcomers(p) == {NOAUTH.encode()})
            c = self.conn(proxy=p)
            for word in ("GET k", "SUBSCRIBE ch", "CLIENT LIST", "MULTI", "BLPOP l 1"):
                self.expect_error(c, word, NOAUTH)
            self.expect(c, "AUTH pw", OK)
            self.expect(c, "GET k", b"v")
            self.expect(admin, self.RELEASE, OK)
            self.eventually("they are let in", lambda: self.newcomers(p) == {b"v"})
            self.expect(old[0], "GET k", b"v")

    @contextlib.contextmanager
    def open_to_all(self):
        """A server without a password behind two workers; the proxy, and its client who stays root."""
        s = Server().start()
        self.addCleanup(s.stop)
        with Proxy([], ["--server", s.addr], workers=2,
                   config="admin_commands: true\ntopology: {refresh: 1h}\n").start() as p:
            admin = self.conn(proxy=p)
            self.expect(admin, "ACL SETUSER root on >secret allcommands allkeys", OK)
            self.expect(admin, "AUTH root secret", OK)
            self.expect(admin, "SET k v", OK)
            yield p, admin

    def test_a_password_set_through_the_proxy(self):
        """At once, for all workers; who was there before stays, as at a server, or has to AUTH too."""
        with self.open_to_all() as (p, admin):
            for line in self.REQUIRE:
                self.assertEqual({b"v"}, self.newcomers(p))
                self.expect(admin, line, OK)
                self.assertEqual({NOAUTH.encode()}, self.newcomers(p))
                self.expect(admin, self.RELEASE, OK)
                self.assertEqual({b"v"}, self.newcomers(p))

    def test_a_password_set_inside_a_transaction(self):
        with self.open_to_all() as (p, admin):
            for line in self.REQUIRE:
                self.assertEqual({b"v"}, self.newcomers(p))
                self.assertEqual([OK, b"v"], admin.pipeline(["MULTI", line, "GET k", "EXEC"])[-1])
                self.assertEqual({NOAUTH.encode()}, self.newcomers(p))
                self.assertEqual([OK], admin.pipeline(["MULTI", self.RELEASE, "EXEC"])[-1])
                self.assertEqual({b"v"}, self.newcomers(p))

    def newcomers(self, p):
        """What eight of them are told, on all workers."""
        conns = [p.conn() for _ in range(8)]
        try:
            return {bytes(c.cmd("GET", "k")) for c in conns}
        finally:
            for c in conns:
                c.close()

    def test_a_user_deleted_behind_the_proxys_back(self):
        """A server ends its connections: its clients are then nobody, and not somebody else."""
        s = Server().start()
        self.addCleanup(s.stop)
        with Proxy([], ["--server", s.addr]).start() as p, s.conn() as admin:
            self.expect(admin, "ACL SETUSER ann on >pw allcommands ~a:*", OK)
            self.expect(admin, "SET b:1 hidden", OK)
            ann, waits, guest = self.conn(proxy=p), self.conn(proxy=p), self.conn(proxy=p)
            for c in (ann, waits):
                self.expect(c, "AUTH ann pw", OK)
                self.expect(c, "SET a:1 x", OK)
            self.expect(guest, "GET b:1", b"hidden")
            waits.send(encode("BLPOP", "a:list", "0"))
            self.eventually("it waits", lambda: b"blocked_clients:1" in admin.cmd("INFO", "clients"))
            self.expect(admin, "ACL DELUSER ann", 1)
            got = waits.read()
            self.assertTrue(isinstance(got, Error) and got.split()[0] in (b"UNKNOWN", b"WRONGPASS"), got)
            for c in (ann, waits):
                for line in ("GET a:1", "GET b:1", "BLPOP a:list 1", "MGET a:1 b:1"):
                    self.expect_error(c, line, WRONGPASS)
            self.expect(guest, "GET b:1", b"hidden")
            # Another one of the same name and password has its own rights, and so have they.
            self.expect(admin, "ACL SETUSER ann on >pw +get ~b:*", OK)
            self.expect(ann, "GET b:1", b"hidden")
            self.expect_error(ann, "SET a:1 y", "NOPERM ...")


class Channels(IdentityCase):
    NOCHANNEL = "NOPERM this user has no permissions to access one of the channels used as arguments"

    def subscribe(self, c, verb, *names):
        c.send(encode(verb, *names))
        got = [c.read() for _ in names]
        self.assertEqual([[verb.lower().encode(), n.encode()] for n in names], [g[:2] for g in got])

    def test_each_user_has_its_own(self):
        self.user("ann", ">ann", "~*", "&both", "&ann*", "+@all")
        self.user("bob", ">bob", "~*", "&both", "&bob*", "+@all")
        ann, bob = self.conn("ann", "ann"), self.conn("bob", "bob")
        for c, mine, other in ((ann, "ann1", "bob1"), (bob, "bob1", "ann1")):
            self.expect_error(c, "SUBSCRIBE " + other, self.NOCHANNEL)
            self.expect_error(c, "PSUBSCRIBE " + other + "*", self.NOCHANNEL)
            self.expect_error(c, "SSUBSCRIBE " + other, self.NOCHANNEL)
            self.expect_error(c, "PUBLISH %s x" % other, self.NOCHANNEL)
            self.subscribe(c, "SUBSCRIBE", "both", mine)
            self.expect_error(c, "SUBSCRIBE " + other, self.NOCHANNEL)
        more = [self.conn("ann", "ann") for _ in range(6)]
        for c in more:
            self.subscribe(c, "SUBSCRIBE", "ann1")
        pub = self.conn("keyway", "master-key")
        self.expect(pub, "PUBLISH both m", 2)
        self.expect(pub, "PUBLISH ann1 m", 7)
        self.expect(pub, "PUBSUB NUMSUB both ann1 bob1 none", [b"both", 2, b"ann1", 7, b"bob1", 1, b"none", 0])
        self.assertEqual({b"both", b"ann1", b"bob1"}, set(pub.cmd("PUBSUB", "CHANNELS")))
        self.assertEqual([[b"message", b"ann1", b"m"], [b"message", b"both", b"m"]],
                         sorted(ann.read() for _ in range(2)))
        self.assertEqual([b"message", b"both", b"m"], bob.read())
        for c in more:
            self.assertEqual([b"message", b"ann1", b"m"], c.read())
        for c in (ann, bob):
            self.subscribe(c, "PSUBSCRIBE", "both")
        self.expect(pub, "PUBSUB NUMPAT", 1)
        self.expect(pub, "PUBLISH both n", 4)

    def test_another_user_while_listening(self):
        self.user("ann", ">ann", "~*", "&ann*", "+@all")
        self.user("bob", ">bob", "~*", "&bob*", "+@all")
        c = self.conn()
        c.cmd("HELLO", "3", "AUTH", "ann", "ann")
        self.subscribe(c, "SUBSCRIBE", "ann1")
        self.expect_error(c, "AUTH bob bob", "ERR KEYWAY AUTH as another user...")
        self.expect(c, "AUTH ann ann", OK)
        self.subscribe(c, "UNSUBSCRIBE", "ann1")
        self.expect(c, "AUTH bob bob", OK)
        self.expect_error(c, "SUBSCRIBE ann1", self.NOCHANNEL)
        self.subscribe(c, "SUBSCRIBE", "bob1")
        self.assertEqual(1, self.conn("keyway", "master-key").cmd("PUBLISH", "bob1", "m"))
        self.assertEqual([b"message", b"bob1", b"m"], c.read())

    def test_a_user_that_is_deleted(self):
        """A server closes its clients; so does the proxy. Others go on."""
        self.user("ann", ">ann", "~*", "&*", "+@all")
        ann, other = [self.conn("ann", "ann") for _ in range(4)], self.conn()
        for c in ann + [other]:
            self.subscribe(c, "SUBSCRIBE", "gone")
        everywhere("ACL", "DELUSER", "ann")
        for c in ann:
            with self.assertRaises((Closed, OSError)):
                c.read()
        pub = self.conn("keyway", "master-key")
        self.eventually("one is left", lambda: pub.cmd("PUBSUB", "NUMSUB", "gone") == [b"gone", 1])
        self.expect(pub, "PUBLISH gone m", 1)
        self.assertEqual([b"message", b"gone", b"m"], other.read())


class OneServerWithAPassword(IdentityCase):
    """The usual requirepass: the proxy has it for itself, clients have to say it."""

    def setUp(self):
        self.server = Server(args=["--requirepass", "pw", "--appendonly", "no"])
        self.server.start(wait=False)
        self.addCleanup(self.server.stop)
        self.proxy = Proxy([], ["--server", "127.0.0.1:%d" % self.server.port, "--auth", "servers"],
                           env={"KEYWAY_PASSWORD": "pw"}, workers=1).start()
        self.addCleanup(self.proxy.stop)
        self.eventually("it is served", self.served)

    def served(self):
        with self.proxy.conn() as c:
            return c.cmd("AUTH", "pw") == OK and c.cmd("SET", "k", "v") == OK

    def test_as_clients_do(self):
        with self.proxy.conn(timeout=grace(20)) as c:
            self.expect_error(c, "GET k", NOAUTH)
            self.expect_error(c, "AUTH wrong", WRONGPASS)
            self.expect_error(c, "GET k", NOAUTH)
            self.expect(c, "AUTH pw", OK)
            self.expect(c, "GET k", b"v")
            self.expect(c, "SELECT 3", OK)
            self.expect(c, "GET k", None)
            self.expect(c, "SET three 3", OK)
            self.expect(c, "AUTH default pw", OK)
            self.expect(c, "GET three", b"3")
            self.expect_error(c, "SELECT 99", "ERR DB index is out of range")
            self.assertEqual(3, c.cmd("HELLO", "3").get(b"proto"))
            self.expect(c, "GET three", b"3")
            self.assertEqual(1, c.cmd("DBSIZE"))
            self.expect(c, "RESET", Simple(b"RESET"))
            self.expect_error(c, "GET k", NOAUTH)

    def test_a_stranger_sends_much(self):
        """What is not finished is not kept for those who have to AUTH first."""
        for before, refused in (("AUTH wrong", True), ("AUTH pw", False)):
            c = self.conn(proxy=self.proxy)
            c.cmd("GET", "k")
            c.cmd(*before.split())
            c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1000000\r\n" + b"x" * 1000)
            if refused:
                self.assertEqual("ERR Protocol error: unauthenticated bulk length", c.read().decode())
                with self.assertRaises((Closed, OSError)):
                    c.read()
            else:
                c.send(b"x" * 999000 + b"\r\n")
                self.assertEqual(OK, c.read())

    def test_inside_multi(self):
        """The password is checked when the block has run: nothing that is sent can be behind it."""
        with self.proxy.conn(timeout=grace(20)) as c:
            self.expect(c, "AUTH pw", OK)
            for before in ([], ["GET k"]):
                for line in ("AUTH pw", "HELLO 2 AUTH default pw"):
                    got = c.pipeline(["MULTI", *before, line, "PING", "EXEC", "ECHO x"])
                    self.assertEqual((len(before) + 2, PONG, b"x"), (len(got[-2]), got[-2][-1], got[-1]), got)
                    self.assertNotIsInstance(got[-2][-2], Error)
                    got = c.pipeline(["MULTI", *before, line, "GET k", "EXEC", "ECHO x"])
                    self.assertIsInstance(got[2 + len(before)], Error, got)
                    self.assertEqual("EXECABORT", got[-2].code, got)
                    self.assertEqual(b"x", got[-1], got)
                got = c.pipeline(["MULTI", *before, "HELLO 2 SETNAME n", "EXEC", "CLIENT GETNAME"])
                self.assertEqual((1 + len(before), b"n"), (len(got[-2]), got[-1]), got)

    def test_select_is_asked_for_by_itself(self):
        """How many databases there are is the proxy's question."""
        with self.server.conn() as admin, self.proxy.conn(timeout=grace(20)) as c:
            self.expect(admin, "AUTH pw", OK)
            self.expect(admin, "ACL SETUSER few on >p ~* -@all +select +get", OK)
            self.expect(admin, "ACL SETUSER fewer on >p ~* -@all +get", OK)
            self.expect(c, "AUTH few p", OK)
            self.assertEqual([OK, None, Error(b"ERR DB index is out of range"), OK, b"v"],
                             c.pipeline(["SELECT 3", "GET k", "SELECT 16", "SELECT 0", "GET k"]))
            self.expect(c, "AUTH fewer p", OK)
            noselect = Error(b"NOPERM this user has no permissions to run the 'select' command")
            self.assertEqual([noselect, b"v"], c.pipeline(["SELECT 3", "GET k"]))

    def admin(self, *lines):
        a = self.server.conn()
        self.addCleanup(a.close)
        self.expect(a, "AUTH pw", OK)
        for line in lines:
            self.expect(a, line, OK)
        return a

    def test_a_default_user_with_less_rights(self):
        """Neither many arguments nor a server that is busy let it do more."""
        admin = self.admin("ACL SETUSER default -client|kill -client|list -monitor",
                           "ACL SETUSER op on >p ~* &* +@all", "CONFIG SET busy-reply-threshold 20")
        c, op = self.conn(proxy=self.proxy), self.conn(proxy=self.proxy)
        self.expect(c, "AUTH pw", OK)
        self.expect(op, "AUTH op p", OK)
        op.send(encode("EVAL", "while true do end", "0"))
        self.eventually("the server is busy", lambda: isinstance(admin.cmd("GET", "k"), Error))
        self.assertTrue(c.cmd("CLIENT", "LIST").startswith(b"BUSY "))
        self.expect(admin, "SCRIPT KILL", OK)
        op.read()
        self.expect_error(c, ["CLIENT", "KILL"] + ["ID", "999999"] * 40,
                          "NOPERM this user has no permissions to run the 'client|kill' command")
        self.eventually("the answer is the servers' again", lambda: c.cmd("CLIENT", "LIST") == Error(
            b"NOPERM this user has no permissions to run the 'client|list' command"))
        self.expect_error(c, ["CLIENT", "LIST", "ID"] + ["1"] * 40,
                          "NOPERM this user has no permissions to run the 'client|list' command")

    def test_auth_inside_multi(self):
        """Servers are asked when the others have run; from there on the client is somebody else."""
        self.admin("ACL SETUSER ann on >p ~* &* +@all")
        c = self.conn(proxy=self.proxy)
        self.expect(c, "AUTH pw", OK)
        queued = Simple(b"QUEUED")
        self.assertEqual([OK, queued, queued, queued, queued, [OK, OK, b"ann", PONG], b"ann"], c.pipeline(
            ["MULTI", "SET {a}k 1", "AUTH ann p", "ACL WHOAMI", "PING", "EXEC", "ACL WHOAMI"]))
        self.assertEqual([OK, queued, [Error(WRONGPASS.encode())], b"ann"],
                         c.pipeline(["MULTI", "AUTH ann wrong", "EXEC", "ACL WHOAMI"]))
        got = c.pipeline(["MULTI", "HELLO 2 AUTH default pw", "EXEC", "ACL WHOAMI"])
        self.assertEqual((b"server", b"default"), (got[2][0][0], got[3]))
        self.assertEqual(
            [OK, queued, Error(b"ERR KEYWAY GET is not possible behind AUTH inside MULTI"),
             Error(b"EXECABORT Transaction discarded because of previous errors."), b"default"],
            c.pipeline(["MULTI", "AUTH ann p", "GET k", "EXEC", "ACL WHOAMI"]))

    def test_transactions_of_others(self):
        """One user has no EXEC; those of the other work on the same worker."""
        self.admin("ACL SETUSER ann on >p ~* &* +@all", "ACL SETUSER bob on >p ~* &* +@all -exec")
        ann, bob = self.conn(proxy=self.proxy), self.conn(proxy=self.proxy)
        self.expect(ann, "AUTH ann p", OK)
        self.expect(bob, "AUTH bob p", OK)
        block = ["MULTI", "INCR n", "INCR n", "EXEC"]
        for i in range(1, 11):
            for c in (bob, ann):
                c.send(b"".join(encode(*line.split()) for line in block))
            got = [bob.read() for _ in block]
            self.assertTrue(got[3].startswith(b"EXECABORT Transaction discarded because of: NOPERM"), got)
            self.assertEqual([2 * i - 1, 2 * i], [ann.read() for _ in block][3])

    def stopped(self):
        self.server.proc.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.proc.send_signal, signal.SIGCONT)

    def test_whose_a_client_is_while_it_waits(self):
        self.admin("ACL SETUSER ann on >p ~* &* +@all", "ACL SETUSER kim on >p ~* &* +@all")
        scans, auths, other = (self.conn(proxy=self.proxy) for _ in range(3))
        self.expect(scans, "AUTH ann p", OK)
        self.assertEqual(b"0", scans.cmd("SCAN", "0", "COUNT", "100")[0])
        self.expect(auths, "AUTH kim p", OK)
        self.expect(other, "AUTH pw", OK)
        self.expect(other, "CLIENT KILL ID 999999", 0)  # that it may is known for a while
        self.stopped()
        scans.send(encode("SCAN", "0"))
        auths.send(encode("AUTH", "ann", "p"))
        time.sleep(0.05)
        for user in ("ann", "kim"):
            self.expect(other, ["CLIENT", "KILL", "USER", user], 1)
        for c in (scans, auths):
            with self.assertRaises((Closed, OSError)):
                c.read()

    def test_while_the_server_is_away(self):
        """AUTH waits for it, as everything does; who was in stays."""
        inside, new = self.conn(proxy=self.proxy), self.conn(proxy=self.proxy)
        self.expect(inside, "AUTH pw", OK)
        self.expect(inside, "GET k", b"v")
        self.server.kill()
        new.send(encode("AUTH", "pw") + encode("SET", "after", "1") + encode("GET", "after"))
        inside.send(encode("GET", "k"))
        self.assertTrue(new.is_silent(0.1))
        self.server.start(wait=False)
        self.assertEqual([OK, OK, b"1"], [new.read() for _ in range(3)])
        self.assertEqual(None, inside.read())

    def test_nobody_hangs_when_the_proxy_is_locked_out(self):
        """Another password at the server: each is told, in the server's words."""
        c = self.conn(proxy=self.proxy)
        self.expect(c, "AUTH pw", OK)
        self.expect(c, "GET k", b"v")
        with self.server.conn() as admin:
            self.expect(admin, "AUTH pw", OK)
            self.expect(admin, "CONFIG SET requirepass other", OK)
            admin.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.eventually("the client is refused", lambda: c.cmd("GET", "k") == Error(WRONGPASS.encode()))
            self.expect(c, "AUTH other", OK)
            self.expect(c, "GET k", b"v")
            begin = time.monotonic()
            for _ in range(20):
                self.expect(c, "PING", PONG)
                self.expect(c, "GET k", b"v")
                self.assertIn(b" user=default ", c.cmd("CLIENT", "LIST"))
            self.assertLess(time.monotonic() - begin, grace(3))


class OtherDatabase(Case):
    """AUTH leaves a client in its database, also as a user who may not SELECT."""

    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.proxy = Proxy([], ["--server", self.server.addr], workers=1).start().wait_routes()
        self.addCleanup(self.proxy.stop)
        with self.server.conn() as admin:
            for line in ("ACL SETUSER noselect on >p ~* +@all -select", "ACL SETUSER other on >p ~* +@all -select",
                         "SET k zero"):
                self.expect(admin, line, OK)

    def test_stays_where_it_was(self):
        refused = Error(b"NOPERM this user has no permissions to run the 'select' command")
        lines = ["SELECT 3", "SET k three", "AUTH noselect p", "GET k", "SELECT 4", "GET k", "HELLO 2", "GET k",
                 "MULTI", "GET k", "EXEC", "BLPOP none 0.01", "AUTH other p", "GET k", "SELECT 0", "ACL WHOAMI"]
        with self.server.conn() as o, self.proxy.conn(timeout=grace(20)) as c:
            for line in lines:
                if line != "HELLO 2":
                    self.matches_oracle(c, o, line)
                else:
                    self.assertIsInstance(c.cmd("HELLO", "2"), list)
            self.expect(c, "RESET", Simple(b"RESET"))
            self.expect(c, "GET k", b"zero")
        with self.proxy.conn(timeout=grace(20)) as c:  # not by the way that another has gone
            self.expect(c, "AUTH noselect p", OK)
            self.assertEqual([refused, b"zero"], c.pipeline(["SELECT 3", "GET k"]))
        with self.proxy.conn(timeout=grace(20)) as c:
            self.expect(c, "SELECT 3", OK)
            self.assertEqual(3, c.cmd("HELLO", "3", "AUTH", "noselect", "p").get(b"proto"))
            self.expect(c, "GET k", b"three")

    def test_where_nobody_may_select(self):
        """What the servers refuse to all of them is not let through by AUTH."""
        with self.server.conn() as admin, self.proxy.conn(timeout=grace(20)) as c:
            self.expect(c, "SELECT 3", OK)
            self.expect(admin, "ACL SETUSER default -select", OK)
            self.expect(c, "AUTH noselect p", OK)
            self.expect_error(c, "GET k", "NOPERM this user has no permissions to run the 'select' command")

    def test_where_the_default_user_needs_a_password(self):
        """Keyway's own user selects it, and only then the client's comes."""
        with self.server.conn() as admin:
            self.expect(admin, "ACL SETUSER keyway on >master-key ~* &* +@all", OK)
            self.expect(admin, "ACL SETUSER app on >p ~* &* +@all", OK)
            self.expect(admin, "CONFIG SET requirepass secret", OK)
        text = 'upstreams: {main: {server: "%s", user: keyway, password: master-key}}\n'
        with Proxy([], ["--auth", "servers"], config=text % self.server.addr, workers=1).start() as proxy:
            self.eventually("it is served", lambda: self.serves(proxy))
            for protocol in (2, 3):
                with self.server.conn() as o, proxy.conn(timeout=grace(20)) as c:
                    for line in ("SELECT 3", "AUTH app p", "SELECT 3", "SET k three", "AUTH noselect p", "GET k",
                                 "SELECT 4", "GET k"):
                        self.matches_oracle(c, o, line)
                    if protocol == 3:
                        self.assertEqual(3, c.cmd("HELLO", "3", "AUTH", "other", "p").get(b"proto"))
                        self.expect(c, "GET k", b"three")
                    self.expect_error(c, "AUTH noselect wrong", "WRONGPASS ...")
                    self.expect(c, "GET k", b"three")
                with proxy.conn(timeout=grace(20)) as c:  # not by the way that another has gone
                    self.expect(c, "AUTH noselect p", OK)
                    self.expect_error(c, "SELECT 3", "NOPERM ...")
                    self.expect(c, "GET k", b"zero")

    @staticmethod
    def serves(proxy):
        with proxy.conn() as c:
            return c.cmd("AUTH", "app", "p") == OK and c.cmd("GET", "k") == b"zero"


class Handshakes(IdentityCase):
    def one(self, extra="", *args):
        s = Server(args=args).start()
        self.addCleanup(s.stop)
        with s.conn() as admin:
            self.expect(admin, "ACL SETUSER keyway on >master-key ~* &* +@all", OK)
            self.expect(admin, "ACL SETUSER ann on >top-secret ~* &* +@all", OK)
        text = "upstreams: {main: {server: \"%s\", user: keyway, password: master-key}}\n" % s.addr
        p = Proxy([], ["--auth", "servers"], config=text + extra, workers=1).start()
        self.addCleanup(p.stop)
        c = self.conn("keyway", "master-key", proxy=p)
        self.eventually("it is served", lambda: c.cmd("SET", "k", "v") == OK)
        return s, p, c

    def test_a_server_without_hello(self):
        """It repeats what it was sent, and it serves those who speak RESP2 all the same."""
        s, p, c = self.one("", "--rename-command", "HELLO", "")
        ann = self.conn("ann", "top-secret", proxy=p)
        self.assertEqual(3, ann.cmd("HELLO", "3").get(b"proto"))
        for _ in range(5):
            ann.send(encode("GET", "k"))
            self.expect(c, "GET k", b"v")
            self.assertTrue(ann.read().startswith(b"NOPROTO "))
        self.assertNotIn("top-secret", p.log_text())
        self.assertNotIn("refuses the handshake", p.log_text())

    def test_client_list_while_auth_is_under_way(self):
        s, p, c = self.one()
        with p.conn() as other:
            number = c.cmd("CLIENT", "ID")
            self.expect(c, "SELECT 3", OK)

            def seen():
                line = next(x for x in other.cmd("CLIENT", "LIST").splitlines()
                            if x.startswith(b"id=%d " % number))
                return re.search(rb" db=(\d+) .* cmd=(\S+) user=(\S+) ", line).groups()
            user = seen()[2]
            s.proc.send_signal(signal.SIGSTOP)
            try:
                c.send(encode("AUTH", "ann", "top-secret"))
                self.eventually("it is under way", lambda: seen()[1] == b"auth")
                self.assertEqual((b"3", b"auth", user), seen())
            finally:
                s.proc.send_signal(signal.SIGCONT)
            self.expect(c, "CLIENT ID", OK)  # the answer to AUTH
            self.assertEqual(number, c.read())
            self.assertEqual((b"3", b"client|id", b"ann"), seen())

    def test_auth_at_a_server_that_hangs(self):
        """It takes connections: those for AUTH, which have no handshake, do not end its outage."""
        s, p, c = self.one("backend: {request_timeout: 300ms, connect_timeout: 300ms, ride_through: 1s}\n")
        s.proc.send_signal(signal.SIGSTOP)
        try:
            ended, others = threading.Event(), [self.conn(proxy=p) for _ in range(4)]

            def work(conn):
                while not ended.is_set():
                    conn.cmd("AUTH", "ann", "top-secret")

            threads = [threading.Thread(target=work, args=(o,)) for o in others]
            for t in threads:
                t.start()
            try:
                self.expect_error(c, "GET k", "CLUSTERDOWN The cluster is down")
            finally:
                ended.set()
                for t in threads:
                    t.join(grace(20))
        finally:
            s.proc.send_signal(signal.SIGCONT)
        self.eventually("it is served again", lambda: c.cmd("GET", "k") == b"v")


class Bounds(IdentityCase):
    def connections(self, server):
        lines = server.cmd("CLIENT", "LIST").decode().splitlines()
        return [l for l in lines if " user=many" in l]

    def test_a_hundred_users(self):
        count, most = scaled(100, 30), 12
        users = ["many%d" % i for i in range(count)]
        for u in users:
            self.user(u, ">pw-" + u, "~%s:*" % u, "&*", "+@all")
        with Proxy([], ["--auth", "servers"], config=config(extra="backend: {max_profiles: %d}\n" % most),
                   workers=1) as p:
            wait_until("the proxy knows the cluster", lambda: routes(p), grace(20))
            conns = [self.conn(u, "pw-" + u, proxy=p) for u in users]
            for turn in range(3):
                for u, c in zip(users, conns):
                    c.send(b"".join(encode("SET", "%s:%d" % (u, k), turn) for k in range(6)) +
                           encode("ACL", "WHOAMI") + encode("GET", "default:x"))
                for u, c in zip(users, conns):
                    self.assertEqual([OK] * 6 + [u.encode(), Error(NOKEY.encode())], [c.read() for _ in range(8)])
                for a in admins:
                    self.assertLessEqual(len(self.connections(a)), most)
            for u, c in list(zip(users, conns))[:20]:
                self.expect(c, "GET %s:3" % u, b"2")
            for c in conns:
                c.close()


class OwnPassword(IdentityCase):
    """auth: proxy and none."""

    def listen(self, text, upstream=None):
        port = free_port()
        path = os.path.join(scratch("config"), "identity%d.yaml" % port)
        with open(path, "w") as f:
            f.write("listeners:\n  - address: 127.0.0.1:%d\n%s%s" % (port, text, upstream or config()))
        proxy = FromFile(path, port).start()
        self.addCleanup(proxy.stop)
        return proxy

    def test_one_for_clients_another_for_servers(self):
        for user in ("default", "app"):
            text = "    auth: proxy\n    password: front\n" + ("    user: app\n" if user == "app" else "")
            p = self.listen(text)
            c = self.conn(proxy=p)
            for line in ("PING", "GET x", "CLIENT LIST", "INFO"):
                self.expect_error(c, line, NOAUTH)
            self.expect_error(c, "HELLO 3", "NOAUTH HELLO must be called...")
            for wrong in (["x"], ["master-key"], ["keyway", "master-key"], ["nosuch", "front"],
                          [user, "fron"], [user, "front1"], [user, ""]):
                self.expect_error(c, ["AUTH"] + wrong, WRONGPASS)
                self.expect_error(c, "PING", NOAUTH)
            self.expect(c, "AUTH front", OK)
            self.eventually("it is served", lambda: c.cmd("SET", "own", "1") == OK)
            self.expect_error(c, "AUTH %s wrong" % user, WRONGPASS)
            self.expect(c, "GET own", b"1")
            self.expect(c, "ACL WHOAMI", b"keyway")
            self.expect(c, "RESET", Simple(b"RESET"))
            self.expect_error(c, "GET own", NOAUTH)
            self.assertEqual(3, c.cmd("HELLO", "3", "AUTH", user, "front").get(b"proto"))
            self.expect(c, "GET own", b"1")

    def test_the_upstreams(self):
        p = self.listen("    auth: proxy\n")
        c = self.conn(proxy=p)
        self.expect_error(c, "PING", NOAUTH)
        self.expect_error(c, "AUTH default master-key", WRONGPASS)
        self.expect(c, "AUTH keyway master-key", OK)
        self.expect(c, "PING", PONG)

    def test_nobody_has_to(self):
        p = self.listen("")
        c = self.conn(proxy=p)
        self.expect(c, "PING", PONG)
        self.expect_error(c, "AUTH keyway wrong", WRONGPASS)
        self.expect(c, "AUTH keyway master-key", OK)
        p = self.listen("    auth: none\n")
        c = self.conn(proxy=p)
        self.expect(c, "PING", PONG)
        self.expect_error(c, "AUTH master-key", "ERR AUTH <password> called without any password configured "
                          "for the default user. Are you sure your configuration is correct?")
        self.expect_error(c, "AUTH keyway master-key", WRONGPASS)
        self.eventually("it is served", lambda: c.cmd("SET", "own", "1") == OK)

    def check(self, text, *args):
        import subprocess
        path = os.path.join(scratch("config"), "check.yaml")
        with open(path, "w") as f:
            f.write(text)
        done = subprocess.run([BINARY, "--check", "-c", path] + list(args), capture_output=True, text=True,
                              timeout=grace(20))
        return done.returncode, done.stderr

    def test_what_is_refused_at_the_start(self):
        open_to_all = "listeners: [{address: \"0.0.0.0:7600\"%s}]\n" + config()
        for text in ("", ", auth: none"):
            status, err = self.check(open_to_all % text)
            self.assertEqual(1, status)
            self.assertIn("listeners[0].auth: whoever reaches 0.0.0.0", err)
            self.assertEqual((0, ""), self.check(open_to_all % (text + ", protected: no")))
        for text in (", auth: servers", ", auth: proxy", ", password: x", ", auth: proxy, user: u, password: x"):
            self.assertEqual((0, ""), self.check(open_to_all % text))
        self.assertEqual(1, self.check((open_to_all % "").replace("0.0.0.0", "127.0.0.1.example.com"))[0])
        self.assertEqual((0, ""), self.check((open_to_all % "").replace("0.0.0.0", "127.0.0.9")))
        plain = "listeners: [{address: \"0.0.0.0:7600\"%s}]\nupstreams: {a: {cluster: [h:1]}}\n"
        for text in ("", ", auth: servers", ", auth: none", ", auth: proxy, password: x"):
            self.assertEqual((0, ""), self.check(plain % text))
        status, err = self.check(plain % ", auth: proxy")
        self.assertEqual(1, status)
        self.assertIn("listeners[0].auth: proxy needs a password", err)
        status, err = self.check(plain % ", auth: servers, password: x")
        self.assertEqual(1, status)
        self.assertIn("listeners[0].password: goes with auth: proxy", err)


if __name__ == "__main__":
    unittest.main()
