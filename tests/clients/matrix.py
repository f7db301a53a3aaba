"""Client libraries, unmodified, against the proxy: who can do what, as a table.

A library's program (libraries/, frameworks/) is started once a mode with what it needs in its
environment and prints one line an operation:

    version 4.3.4            the library's own version
    ok NAME                  worked, the answer was right
    FAIL NAME: what came     did not
    none NAME: reason        the library has no such thing
    later NAME               left out because $KW_LATER names it
    done                     the program came to its end

    KW_MODE     plain | cluster | sentinel: which kind of client it shall be
    KW_HOST, KW_PORT    the proxy, the only address it is given
    KW_PREFIX   its keys begin with that (and no other program's do)
    KW_BEHIND   server | cluster: what is behind the proxy; server also for a watched master
    KW_LATER    operations that this proxy does not support yet, separated by commas

Every operation of a library must be told of exactly once: what is not told of has failed.
"""
import os
import re
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(ROOT, "build", "clients")
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
from harness.proxy import Proxy  # noqa: E402
from harness.resp import Error  # noqa: E402
from harness.servers import Cluster, Server, Watched, die_with_parent  # noqa: E402

LIMIT_S = 90

OPERATIONS = """
    ping echo set_get set_options empty_value binary large_value missing_key incr append_getrange
    mset_mget del_exists expire_ttl bits hash hash_incr hscan list list_move set set_inter sscan
    zset zset_byscore zset_incr hyperloglog geo stream stream_group type_rename sort eval evalsha
    noscript wrong_type unknown_command pipeline pipeline_error scan dbsize info client_name
    publish psubscribe multi watch blpop brpop_wait bzpopmin xread_block""".split()

# What the proxy may not support yet: commands that show it, and the operations that need them.
FEATURES = {
    "MULTI": ([("MULTI",), ("DISCARD",)], ["multi"]),
    "WATCH": ([("WATCH", "kw:probe"), ("UNWATCH",)], ["watch"]),
    "blocking commands": ([("BLPOP", "kw:probe", "0.01"),
                           ("XREAD", "BLOCK", "1", "STREAMS", "kw:probe", "$")],
                          ["blpop", "brpop_wait", "bzpopmin", "xread_block"]),
}

# A column of the table: how the proxy is started, and the kind of client.
MODES = {
    "plain": ("cluster", "plain", "one server's client, a cluster behind the proxy"),
    "server": ("server", "plain", "one server's client, one server behind the proxy"),
    "cluster": ("pretender", "cluster", "a cluster client, a cluster behind the proxy"),
    "cluster2": ("cluster", "cluster", "the same, and the proxy does not pretend to be a cluster"),
    "sentinel": ("cluster", "sentinel", "a Sentinel client, a cluster behind the proxy"),
    "watched": ("watched", "plain", "one server's client, a Sentinel set behind the proxy"),
    "tagged": ("cluster", "plain", "a framework whose keys share a hash tag, a cluster behind"),
}


def run_text(argv, **kw):
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=300, **kw)
    except (OSError, subprocess.TimeoutExpired) as e:
        return subprocess.CompletedProcess(argv, 127, str(e))


class Unavailable(Exception):
    """A library is not on this machine; the text says what is missing."""


class Library:
    """One program. `modes` are those of MODES that the library has; prepare() returns the command
    line, or raises Unavailable."""

    def __init__(self, name, program, modes, start, operations=None, needs=()):
        self.name, self.modes = name, modes.split()
        self.program = os.path.join(HERE, program)
        self._start = start
        self.operations = operations or OPERATIONS
        self.needs = needs  # features without which there is nothing to run
        self._argv = None

    def prepare(self):
        if self._argv is None:
            self._argv = self._start(self.program)
        return self._argv


# -- how programs of each language are started -----------------------------------------------------

def have(command, package):
    if run_text(["sh", "-c", "command -v " + command]).returncode != 0:
        raise Unavailable("%s is not installed (%s)" % (command, package))


def loads(argv, package, why="cannot be loaded"):
    done = run_text(argv)
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["?"])[-1]
        raise Unavailable("%s %s: %s" % (package, why, last[:200]))


def python(module, package):
    def start(program):
        # Debian's packages belong to Debian's Python, which need not be the one that runs this.
        own = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        loads([own, "-c", "import " + module], package)
        return [own, "-B", program]
    return start


def ruby(module, package):
    def start(program):
        have("ruby", "ruby")
        loads(["ruby", "-e", "require '%s'" % module], package)
        return ["ruby", program]
    return start


def php(check, package):
    def start(program):
        have("php", "php-cli")
        loads(["php", "-r", check], package)
        return ["php", program]
    return start


def perl(module, package):
    def start(program):
        loads(["perl", "-M" + module, "-e", "1"], package)
        return ["perl", program]
    return start


def lua(module, package):
    def start(program):
        have("lua5.1", "lua5.1")
        loads(["lua5.1", "-e", "require '%s'" % module], package)
        return ["lua5.1", program]
    return start


def shell(command, package):
    def start(program):
        have(command, package)
        return ["bash", program]
    return start


def hiredis(program):
    os.makedirs(CACHE, exist_ok=True)
    out = os.path.join(CACHE, "hiredis-%d" % os.getpid())
    done = run_text(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
                     out, program, "-lhiredis"])
    if not done.returncode == 0:
        raise Unavailable("libhiredis-dev or gcc is missing, or does not fit: " +
                          done.stdout[-400:])
    import atexit
    atexit.register(os.unlink, out)
    return [out]


def golang(*folders):
    """Debian's Go packages are sources under /usr/share/gocode, found without modules."""
    def start(program):
        have("go", "golang-go")
        for folder in folders:
            if not os.path.isdir("/usr/share/gocode/src/" + folder):
                raise Unavailable("no /usr/share/gocode/src/" + folder)
        os.makedirs(CACHE, exist_ok=True)
        out = os.path.join(CACHE, os.path.basename(program)[:-3])
        env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
                   GOCACHE=os.path.join(CACHE, "go-build"))
        done = run_text(["go", "build", "-o", out, program], env=env)
        if done.returncode != 0:
            raise AssertionError("go build %s:\n%s" % (program, done.stdout[-3000:]))
        return [out]
    return start


def node(module):
    def start(program):
        have("node", "nodejs")
        major = int(run_text(["node", "-p", "process.versions.node"]).stdout.split(".")[0])
        if major < 20:
            raise Unavailable("needs Node 20, this is %d" % major)
        os.environ["NODE_PATH"] = os.path.join(CACHE, "npm", "node_modules")
        loads(["node", "-e", "require('%s')" % module], "npm's " + module)
        return ["node", program]
    return start


GO = "github.com/gomodule/redigo", "github.com/mna/redisc", "github.com/FZambia/sentinel"

LIBRARIES = [
    Library("redis-cli", "libraries/redis_cli.sh", "plain server cluster cluster2",
            shell("redis-cli", "redis-tools")),
    Library("hiredis (C)", "libraries/hiredis.c", "plain server", hiredis),
    # Its RedisCluster looks into INFO whether it is a cluster that it talks to.
    Library("redis-py", "libraries/redis_py.py", "plain server cluster sentinel",
            python("redis", "python3-redis")),
    Library("redis-rb", "libraries/redis_rb.rb", "plain server cluster cluster2 sentinel",
            ruby("redis", "ruby-redis")),
    Library("phpredis", "libraries/phpredis.php", "plain server cluster cluster2 sentinel",
            php("exit(class_exists('Redis') ? 0 : 1);", "php-redis")),
    Library("Redis.pm (Perl)", "libraries/redis_pm.pl", "plain server sentinel",
            perl("Redis", "libredis-perl")),
    Library("Redis::Fast (Perl)", "libraries/redis_fast.pl", "plain server sentinel",
            perl("Redis::Fast", "libredis-fast-perl")),
    Library("redigo (Go)", "libraries/redigo.go", "plain server cluster cluster2 sentinel", golang(*GO)),
    Library("lua-redis", "libraries/lua_redis.lua", "plain server", lua("redis", "lua-redis")),
    Library("ioredis", "libraries/ioredis.js", "plain server cluster cluster2 sentinel", node("ioredis")),
    Library("node-redis", "libraries/node_redis.js", "plain server cluster cluster2 sentinel",
            node("redis")),
    Library("Valkey GLIDE (Node)", "libraries/glide.js", "plain server cluster cluster2",
            node("@valkey/valkey-glide")),
]
QUICK = ("hiredis (C)", "redis-py", "redis-rb", "phpredis", "Redis.pm (Perl)")

# What they need before there is anything to run.
BLOCKS = ("MULTI", "WATCH", "blocking commands")
FRAMEWORKS = [
    Library("Celery", "frameworks/celery_tasks.py", "server watched tagged",
            python("celery", "python3-celery"), "task group chain chord failure retry requeue "
            "countdown inspect".split(), BLOCKS),
    Library("rq", "frameworks/rq_jobs.py", "server watched", python("rq", "python3-rq"),
            "results depends failed scheduled workers".split(), BLOCKS),
    Library("Sidekiq", "frameworks/sidekiq_jobs.rb", "server watched", ruby("sidekiq", "ruby-sidekiq"),
            "perform_async push_bulk perform_in retry_set stats process_set".split(), BLOCKS),
    Library("BullMQ", "frameworks/bullmq_jobs.js", "server watched tagged", node("bullmq"),
            "add add_bulk delayed priority retry failed progress_events flow counts".split(),
            BLOCKS),
]


# -- the servers -----------------------------------------------------------------------------------

class Servers:
    """What stands behind the proxies that the modes need, and these: in front of a cluster as one
    server and as a cluster, of a plain server, and of a master that Sentinels watch."""

    def __init__(self, modes):
        self.parts = []
        self.proxies = {}
        wanted = {MODES[m][0] for m in modes}
        try:
            if wanted & {"cluster", "pretender"}:
                seeds = self._add(Cluster(replicas=0, node_timeout=15000).start()).seeds(3)
                self._proxy("cluster", seeds)
                self._proxy("pretender", seeds, "--pretend", "cluster")
            if "server" in wanted:
                self._proxy("server", [], "--server", self._add(Server().start()).addr)
            if "watched" in wanted:
                sentinels = self._add(Watched(replicas=1).start()).seeds()
                self._proxy("watched", [], "--sentinel", "mymaster@" + sentinels)
        except BaseException:
            try:
                self.stop()
            except AssertionError:
                pass
            raise

    def _proxy(self, name, seeds, *args):
        self.proxies[name] = self._add(Proxy(seeds, args).start().wait_routes())

    def _add(self, part):
        self.parts.append(part)
        return part

    def stop(self):
        problem = None
        for part in reversed(self.parts):
            try:
                part.stop()
            except AssertionError as e:
                problem = e
        if problem:
            raise problem

    def missing(self, proxy):
        """The names of FEATURES that a proxy does not support yet, by asking it. Any other answer
        than its own word for that is left to the programs to judge."""
        out = set()
        for name, (commands, _) in FEATURES.items():
            with self.proxies[proxy].conn() as c:
                replies = [c.cmd(*argv) for argv in commands]
            if any(isinstance(r, Error) and b"is not supported yet" in r for r in replies):
                out.add(name)
        return out


# -- one program, one mode -------------------------------------------------------------------------

class Outcome:
    """What a program did: ok, failed [(name, why)], none [(name, why)], later [name], or
    skipped: the reason why there was nothing to run."""

    def __init__(self, skipped=None):
        self.ok, self.failed, self.none, self.later = [], [], [], []
        self.version, self.skipped, self.output = "", skipped, ""

    def cell(self):
        if self.skipped:
            return "skipped"
        words = ["%d ok" % len(self.ok)]
        for what, items in (("FAILED", self.failed), ("later", self.later), ("n/a", self.none)):
            if items:
                words.append("%d %s" % (len(items), what))
        return ", ".join(words)

    def read(self, text, operations, ended):
        told, done = {}, False
        for line in text.splitlines():
            match = re.match(r"(ok|FAIL|none|later) (\w+)(?:: (.*))?$", line)
            if line.startswith("version "):
                self.version = line[8:].strip()
            elif line == "done":
                done = True
            elif match:
                word, name, why = match.groups()
                told[name] = told.get(name, 0) + 1
                {"ok": self.ok, "later": self.later}.get(word, []).append(name)
                {"FAIL": self.failed, "none": self.none}.get(word, []).append((name, why or "?"))
        silent = [name for name in operations if name not in told]
        if silent:
            self.failed.append(("%d operations" % len(silent), "nothing told of " + " ".join(silent)))
        self.failed += [(name, "told of %d times" % n) for name, n in told.items() if n > 1]
        for name in set(told) - set(operations):
            self.failed.append((name, "no operation of the list"))
        if not done or ended != 0:
            self.failed.append(("program", "ended with status %s%s; its last words: %s" % (
                ended, "" if done else ", not at its end", " / ".join(text.splitlines()[-6:]))))
        self.output = text
        return self


class Started:
    """A program under way; finish() waits for it. Start them from the main thread."""

    def __init__(self, library, mode, servers):
        proxy_name, kind, _ = MODES[mode]
        self.library, self.outcome, self.proc = library, None, None
        try:
            argv = library.prepare()
        except Unavailable as e:
            self.outcome = Outcome(str(e))
            return
        missing = servers.missing(proxy_name)
        if missing & set(library.needs):
            self.outcome = Outcome("needs " + ", ".join(sorted(missing & set(library.needs))))
            return
        later = [op for name in missing for op in FEATURES[name][1]]
        env = dict(os.environ, KW_MODE=kind, KW_HOST="127.0.0.1",
                   KW_PREFIX="%s-%s" % (re.sub(r"\W+", "", library.name.lower()), mode),
                   KW_PORT=str(servers.proxies[proxy_name].port), KW_LATER=",".join(later),
                   KW_BEHIND="server" if proxy_name in ("server", "watched") else "cluster")
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, errors="replace", env=env,
                                     start_new_session=True, preexec_fn=die_with_parent)

    def kill(self):
        """With all that it started itself."""
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def finish(self):
        if self.outcome is None:
            try:
                text, status = self.proc.communicate(timeout=LIMIT_S)[0], self.proc.returncode
            except subprocess.TimeoutExpired:
                self.kill()
                text, status = self.proc.communicate()[0], "none within %d s" % LIMIT_S
            except BaseException:
                self.kill()
                raise
            self.kill()
            self.outcome = Outcome().read(text, self.library.operations, status)
        return self.outcome


def run_program(library, mode, servers):
    return Started(library, mode, servers).finish()
