"""The proxy under test as a process.

Which binary: $KEYWAY_BINARY, else build/release/keyway. A stop checks what every run must hold:
SIGTERM ends it with status 0, and its log has no sanitizer report and no broken invariant.

With KEYWAY_STANDIN=1 a single redis-server takes the proxy's place. What a client sees through the
proxy shall equal what one server answers, so many tests can be tried out against the original:
a failing test is then the test's own fault.
"""
import atexit
import os
import re
import signal
import socket
import subprocess
import time

from .resp import Conn
from .servers import Server, die_with_parent, free_port, scratch

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BINARY = os.environ.get("KEYWAY_BINARY") or os.path.join(ROOT, "build", "release", "keyway")
STANDIN = bool(os.environ.get("KEYWAY_STANDIN"))
SANITIZER = os.environ.get("KEYWAY_SANITIZER", "")  # "", "asan" or "tsan": set by tests/run
TROUBLE = re.compile(r"(ERROR: (Address|Leak|Thread|UndefinedBehavior)Sanitizer|WARNING: Thread"
                     r"Sanitizer|SUMMARY: |runtime error:|invariant broken|check failed|"
                     r"CHECK failed|Assertion)", re.I)


def scaled(n, least=1):
    """A size or a count for this build: sanitizer builds are slower and get a part of the load."""
    return max(least, n // {"": 1, "asan": 4, "tsan": 8}[SANITIZER])


def grace(seconds):
    """A time bound for this build."""
    return seconds * {"": 1, "asan": 2, "tsan": 3}[SANITIZER]


class Proxy:
    def __init__(self, seeds, args=(), workers=2, config=None, port=None, check=True, env=None):
        """`config` is the text of a YAML file given with -c. `check=False`: the test itself looks
        at how the process ended."""
        self.seeds = list(seeds)
        self.args = [str(a) for a in args]
        self.workers = workers
        self.config = config
        self.port = port or free_port()
        self.check = check
        self.env = env or {}
        self.proc = None
        self.log_path = os.path.join(scratch("proxy"), "%d.log" % self.port)
        self.standin = None

    def argv(self):
        argv = [BINARY, "--listen", "127.0.0.1:%d" % self.port, "--workers", str(self.workers)]
        if self.config is not None:
            path = os.path.join(scratch("proxy"), "%d.yaml" % self.port)
            with open(path, "w") as f:
                f.write(self.config)
            argv += ["-c", path]
        return argv + self.args + self.seeds

    def start(self, wait=True):
        if STANDIN:
            self.standin = Server(self.port).start()
            self.proc = self.standin.proc
            return self
        if not os.path.exists(BINARY):
            raise AssertionError("no proxy to test: %s is missing" % BINARY)
        env = dict(os.environ, **self.env)
        env["ASAN_OPTIONS"] = ("halt_on_error=1:exitcode=66:detect_leaks=1:abort_on_error=0"
                               + (":verify_asan_link_order=0" if "LD_PRELOAD" in env else ""))
        env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1:exitcode=66"
        env["TSAN_OPTIONS"] = "halt_on_error=1:exitcode=66:second_deadlock_stack=1"
        self.log = open(self.log_path, "ab")
        self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=self.log,
                                     stderr=subprocess.STDOUT, env=env, cwd=scratch("proxy"),
                                     preexec_fn=die_with_parent)
        atexit.register(self._kill)
        if wait:
            self.wait_up()
        return self

    def wait_up(self, timeout=20.0):
        """Until it accepts and answers PING."""
        end = time.monotonic() + timeout
        while True:
            if self.proc.poll() is not None:
                raise AssertionError("%s ended with status %s:\n%s" % (
                    " ".join(self.argv()), self.proc.returncode, self.log_text()[-3000:]))
            try:
                with Conn(self.port, timeout=2.0) as c:
                    c.cmd("PING")
                    return
            except (OSError, EOFError, socket.timeout):
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def wait_routes(self, timeout=20.0):
        """Until keys of all thirds of the slot space are answered without an error."""
        from .servers import wait_until
        keys = ("a", "b", "c", "d", "e", "f", "g")

        def routed():
            with self.conn() as c:
                return all(not isinstance(c.cmd("TYPE", k), Exception) and
                           c.cmd_raw("TYPE", k)[:1] == b"+" for k in keys)
        wait_until("the proxy routes every key", routed, timeout)
        return self

    def conn(self, **kw):
        return Conn(self.port, **kw)

    def log_text(self):
        if self.standin:
            return ""
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def status_kb(self, field):
        with open("/proc/%d/status" % self.proc.pid) as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0

    def rss_mib(self):
        return self.status_kb("VmRSS") / 1024

    def fd_count(self):
        return len(os.listdir("/proc/%d/fd" % self.proc.pid))

    @property
    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def terminate(self):
        self.proc.send_signal(signal.SIGTERM)

    def wait_exit(self, timeout=20.0):
        return self.proc.wait(timeout)

    def stop(self):
        """SIGTERM, status 0, clean log; raises AssertionError otherwise."""
        if self.standin:
            self.standin.stop()
            return
        if self.proc is None:
            return
        early = self.proc.poll()
        if early is None:
            self.terminate()
            try:
                self.proc.wait(grace(20))
            except subprocess.TimeoutExpired:
                self._kill()
                raise AssertionError("the proxy did not end within %d s of SIGTERM:\n%s" % (
                    grace(20), self.log_text()[-3000:]))
        self.log.close()
        if not self.check:
            return
        text = self.log_text()
        found = TROUBLE.search(text)
        if early is not None:
            raise AssertionError("the proxy had ended by itself with status %s:\n%s" % (
                early, text[-6000:]))
        if found:
            raise AssertionError("the proxy's log holds %r:\n%s" % (
                found.group(0), text[max(0, found.start() - 500):found.start() + 6000]))
        if self.proc.returncode != 0:
            raise AssertionError("the proxy ended with status %s after SIGTERM:\n%s" % (
                self.proc.returncode, text[-3000:]))

    def _kill(self):
        if self.alive:
            self.proc.kill()
            self.proc.wait()

    def wait_start(self):
        """start() and wait_routes(), for use in a `with`."""
        return self.start().wait_routes()

    def __enter__(self):
        return self if self.proc is not None else self.start()

    def __exit__(self, *_):
        self.stop()


class FromFile(Proxy):
    """Everything is in the file at `path`, the listeners too; `port` is one of theirs."""

    def __init__(self, path, port):
        super().__init__([], port=port)
        self.path = path

    def argv(self):
        return [BINARY, "-c", self.path]
