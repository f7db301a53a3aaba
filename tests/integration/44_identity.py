"""Who a client is: AUTH and HELLO ... AUTH checked by the servers of a cluster, whose ACLs then rule;
guests; passwords of the proxy's own."""
import hashlib
import os
import random
import threading
import unittest

from harness.case import NOAUTH, WRONGPASS, Case, Setup
from harness.proxy import BINARY, STANDIN, FromFile, Proxy, grace, scaled
from harness.resp import NULL, OK, PONG, Closed, Conn, Error, Simple, encode
from harness.servers import Cluster, free_port, key_slot, scratch, wait_until

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

    def sent_to_a_server_without_its_user(self, whole):
        """A block in a slot that has moved, or is moving and has no more keys where it was: ACLs do
        not move with it."""
        cluster, slot = setup.cluster, key_slot("elsewhere")
        source = cluster.owner(slot)
        target = next(n for n in cluster.nodes if n is not source)
        self.user("ann", ">secret", "~*", "&*", "+@all")
        with Proxy([], ["--auth", "servers"], config=config(extra="topology: {refresh: 1h}\n")) as p:
            c = self.conn("ann", "secret", proxy=p)
            self.expect(c, "SET elsewhere 1", OK)
            self.assertEqual([b"1"], c.pipeline(["MULTI", "GET elsewhere", "EXEC"])[2])
            admins[cluster.nodes.index(target)].cmd("ACL", "DELUSER", "ann")
            cluster.begin_move(slot, source, target)
            cluster.move_keys(slot, source, target)
            if whole:
                cluster.end_move(slot, source, target)
            try:
                got = c.pipeline(["MULTI", "INCR elsewhere", "EXEC"])
                self.assertEqual(Error(WRONGPASS.encode()), got[2])
            finally:
                if not whole:
                    cluster.end_move(slot, source, target)
                cluster.move_slot(slot, target, source)

    def test_a_block_that_is_sent_to_a_server_without_its_user(self):
        self.sent_to_a_server_without_its_user(whole=True)

    def test_a_block_that_asks_a_server_without_its_user(self):
        self.sent_to_a_server_without_its_user(whole=False)


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
