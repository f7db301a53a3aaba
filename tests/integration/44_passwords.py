"""AUTH in front of one server: passwords that it gets while clients are there, databases over AUTH,
handshakes."""
import contextlib
import re
import signal
import threading
import time
import unittest

from harness.case import NOAUTH, WRONGPASS, Case
from harness.proxy import STANDIN, Proxy, grace
from harness.resp import OK, PONG, Closed, Error, Simple, encode
from harness.servers import Server


def setUpModule():
    if STANDIN:
        raise unittest.SkipTest("needs the proxy")


class Guests(Case):
    def plain(self):
        s = Server().start()
        self.addCleanup(s.stop)
        p = Proxy([], ["--server", "127.0.0.1:%d" % s.port], workers=1).start()
        self.addCleanup(p.stop)
        c = self.conn(p.port)
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
        admin = self.conn(s.port)
        self.expect(admin, "CONFIG SET requirepass pw", OK)
        self.expect(admin, "AUTH pw", OK)
        self.assertGreater(admin.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), 0)
        self.eventually("NOAUTH", lambda: c.cmd("GET", "k") == Error(NOAUTH.encode()))
        self.expect(c, "AUTH pw", OK)
        self.expect(c, "GET k", b"v")
        other = self.conn(p.port)
        self.expect_error(other, "PING", NOAUTH)
        self.expect_error(other, "GET k", NOAUTH)
        self.expect(other, "AUTH pw", OK)
        self.expect(other, "GET k", b"v")

    def test_a_block_of_a_user_who_is_off(self):
        """It is refused at once, as other commands are, and not tried again and again."""
        s, p, c = self.plain()
        self.assertEqual(OK, s.cmd("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all"))
        self.expect(c, "AUTH u p", OK)
        self.expect(c, "GET k", b"v")
        s.cmd("ACL", "SETUSER", "u", "off")
        s.cmd("CLIENT", "KILL", "USER", "u")
        self.expect_error(c, "GET k", WRONGPASS)
        before = self.connections(s)
        for _ in range(3):
            got = c.pipeline(["MULTI", "GET k", "EXEC", "GET k"])
            self.assertEqual([Error(WRONGPASS.encode())] * 2, got[2:])
        self.assertLess(self.connections(s) - before, 30)

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
            old = [self.conn(p.port) for _ in range(4)]  # of both workers
            for c in old:
                self.expect(c, "SET k v", OK)
            self.expect(admin, self.REQUIRE[1], OK)
            self.eventually("newcomers are refused", lambda: self.newcomers(p) == {NOAUTH.encode()})
            c = self.conn(p.port)
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
            admin = self.conn(p.port)
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
            ann, waits, guest = self.conn(p.port), self.conn(p.port), self.conn(p.port)
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


class OneServerWithAPassword(Case):
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
            c = self.conn(self.proxy.port)
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
        a = self.conn(self.server.port)
        self.expect(a, "AUTH pw", OK)
        for line in lines:
            self.expect(a, line, OK)
        return a

    def test_a_default_user_with_less_rights(self):
        """Neither many arguments nor a server that is busy let it do more."""
        admin = self.admin("ACL SETUSER default -client|kill -client|list -monitor",
                           "ACL SETUSER op on >p ~* &* +@all", "CONFIG SET busy-reply-threshold 20")
        c, op = self.conn(self.proxy.port), self.conn(self.proxy.port)
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
        c = self.conn(self.proxy.port)
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
        ann, bob = self.conn(self.proxy.port), self.conn(self.proxy.port)
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
        scans, auths, other = (self.conn(self.proxy.port) for _ in range(3))
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
        inside, new = self.conn(self.proxy.port), self.conn(self.proxy.port)
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
        c = self.conn(self.proxy.port)
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


class Handshakes(Case):
    def one(self, extra="", *args):
        s = Server(args=args).start()
        self.addCleanup(s.stop)
        with s.conn() as admin:
            self.expect(admin, "ACL SETUSER keyway on >master-key ~* &* +@all", OK)
            self.expect(admin, "ACL SETUSER ann on >top-secret ~* &* +@all", OK)
        text = "upstreams: {main: {server: \"%s\", user: keyway, password: master-key}}\n" % s.addr
        p = Proxy([], ["--auth", "servers"], config=text + extra, workers=1).start()
        self.addCleanup(p.stop)
        c = self.conn(p.port)
        self.expect(c, "AUTH keyway master-key", OK)
        self.eventually("it is served", lambda: c.cmd("SET", "k", "v") == OK)
        return s, p, c

    def test_a_server_without_hello(self):
        """It repeats what it was sent, and it serves those who speak RESP2 all the same."""
        s, p, c = self.one("", "--rename-command", "HELLO", "")
        ann = self.conn(p.port)
        self.expect(ann, "AUTH ann top-secret", OK)
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
            ended, others = threading.Event(), [self.conn(p.port) for _ in range(4)]

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


if __name__ == "__main__":
    unittest.main()
