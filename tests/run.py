"""Builds the presets and runs the unit and the integration tests; called by tests/run.

Prints one line a test and ends with "N passed, M failed, K skipped". The exit status is 0 only when
something ran and nothing failed.
"""
import argparse
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INTEGRATION = os.path.join(ROOT, "tests", "integration")
MODULE_LIMIT_S = {"release": 150, "asan": 240, "tsan": 300}
FUZZ_SECONDS = 120


class Results:
    """What came of each test; used by several threads at once."""

    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.lock = threading.Lock()

    def add(self, name, outcome, seconds=None, detail=""):
        """outcome: "ok", "FAILED" or "skipped" (detail is then the reason)."""
        with self.lock:
            self._add(name, outcome, seconds, detail)

    def _add(self, name, outcome, seconds, detail):
        if outcome == "ok":
            self.passed += 1
        elif outcome == "skipped":
            self.skipped.append((name, detail))
        else:
            self.failed.append(name)
        took = "" if seconds is None else " (%.2f s)" % seconds
        print("%-7s %s%s%s" % (outcome, name, took,
                               ": " + detail if outcome == "skipped" else ""), flush=True)
        if outcome == "FAILED" and detail:
            print("".join("        | %s\n" % line for line in detail.rstrip().splitlines()),
                  end="", flush=True)

    def finish(self):
        print()
        if self.failed:
            print("Failed:")
            for name in self.failed:
                print("    " + name)
        if self.skipped:
            print("Skipped:")
            for name, reason in self.skipped:
                print("    %s: %s" % (name, reason))
        print("%d passed, %d failed%s" % (
            self.passed, len(self.failed),
            ", %d skipped" % len(self.skipped) if self.skipped else ""))
        return 0 if self.passed and not self.failed else 1


def run(argv, timeout=None, **kw):
    """Runs a command in a process group of its own, which is killed when the time is up.
    Returns (status or None on timeout, output)."""
    proc = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace", start_new_session=True, **kw)
    try:
        out, _ = proc.communicate(timeout=timeout)
        return proc.returncode, out
    except subprocess.TimeoutExpired:
        os.killpg(proc.pid, signal.SIGKILL)
        return None, proc.communicate()[0]
    except BaseException:
        os.killpg(proc.pid, signal.SIGKILL)
        raise


def build(preset, results):
    """Configures and builds one preset; another run in the same folder is waited for."""
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("building %s ..." % preset, flush=True)
        start = time.monotonic()
        steps = [["cmake", "--preset", preset, "-DKEYWAY_TESTS=ON"],
                 ["cmake", "--build", "--preset", preset, "--parallel", str(os.cpu_count() or 2)]]
        if preset == "fuzz":
            steps[0].append("-DCMAKE_C_COMPILER=%s" % "clang-14")
        for argv in steps:
            status, out = run(argv, 1800, cwd=ROOT)
            if status != 0:
                results.add("%s build" % preset, "FAILED", None, "%s: status %s\n%s" % (
                    " ".join(argv), status, "\n".join(out.splitlines()[-60:])))
                return False
    results.add("%s build, warnings are errors" % preset, "ok", time.monotonic() - start)
    return True


# -- units ---------------------------------------------------------------------------------------

CUNIT_CASE = re.compile(r"^  Test: (.+?) ?\.\.\.(.*?)(passed|FAILED)", re.M | re.S)
CUNIT_SUMMARY = re.compile(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", re.M)


def units(preset, results, only):
    """ctest; the cases that a CUnit program tells of are counted one by one."""
    folder = os.path.join(ROOT, "build", preset)
    report = os.path.join(folder, "ctest-%d.xml" % os.getpid())
    argv = ["ctest", "--test-dir", folder, "--output-junit", report, "--parallel",
            str(os.cpu_count() or 2), "--test-output-size-passed", "4000000",
            "--test-output-size-failed", "4000000", "--timeout", "300"]
    status, out = run(argv, 900, cwd=ROOT)
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
        os.unlink(report)
    except (OSError, ElementTree.ParseError):
        results.add("%s ctest" % preset, "FAILED", None, "status %s\n%s" % (status, out[-3000:]))
        return
    if not cases:
        results.add("%s ctest" % preset, "FAILED", None, "there are no unit tests")
    for case in cases:
        unit_case("%s %s" % (preset, case.get("name")), case, case.findtext("system-out") or "",
                  results)


def unit_case(name, case, text, results):
    seconds = float(case.get("time") or 0)
    good = case.get("status") == "run" and case.find("failure") is None
    skipped = case.find("skipped")
    if skipped is not None or case.get("status") in ("disabled", "notrun"):
        # "notrun" is also what a program that is missing gets: only a skip on purpose is one.
        why = (skipped.get("message") if skipped is not None else "") or "not run"
        wanted = case.get("status") == "disabled" or why.startswith("SKIP_")
        results.add(name, "skipped" if wanted else "FAILED", seconds, why)
        return
    cunit = list(CUNIT_CASE.finditer(text))
    if not cunit:
        results.add(name, "ok" if good else "FAILED", seconds, "" if good else text[-4000:])
        return
    bad = 0
    ends = [m.start() for m in cunit[1:]] + [len(text)]
    for match, end in zip(cunit, ends):
        word = match.group(3)
        bad += word == "FAILED"
        results.add("%s: %s" % (name, match.group(1)), "ok" if word == "passed" else "FAILED", None,
                    text[match.start():end][-4000:] if word == "FAILED" else "")
    summary = CUNIT_SUMMARY.findall(text)
    finished = bool(summary) and sum(int(s[1]) for s in summary) == len(cunit)
    if (not good and not bad) or (good and not finished):
        results.add("%s: the whole program" % name, "FAILED", seconds, text[-4000:])


# -- integration ---------------------------------------------------------------------------------

RUNNING = set()  # test files' processes, each the leader of a group


def modules():
    return sorted(f for f in os.listdir(INTEGRATION) if re.match(r"\d\d_\w+\.py$", f))


def is_alone(module):
    """True for a file that looks at the clock or at memory: it says ALONE = True."""
    with open(os.path.join(INTEGRATION, module)) as f:
        return any(line.startswith("ALONE = True") for line in f)


def integration(presets, results, only, long_runs):
    """The test files of these builds, two at a time: they mostly wait for servers. In the release
    build those that say so have the machine to themselves."""
    together, alone = [], []
    for preset in presets:
        binary = os.path.join(ROOT, "build", preset, "keyway")
        if not os.path.exists(binary):
            results.add("%s integration" % preset, "FAILED", None, "%s is missing" % binary)
            continue
        env = dict(os.environ, KEYWAY_BINARY=binary,
                   KEYWAY_SANITIZER=preset if preset in ("asan", "tsan") else "")
        if long_runs:
            env["KEYWAY_TEST_LONG"] = "1"
        for module in modules():
            quiet = preset == "release" and is_alone(module)
            (alone if quiet else together).append((module, preset, env))
    together.sort(key=lambda job: job[:2])
    for jobs, at_once in ((together, 2), (alone, 1)):
        run_modules(jobs, at_once, results, only, long_runs)


def run_modules(jobs, at_once, results, only, long_runs):
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for done in [pool.submit(one_module, preset, module, results, only, env, long_runs)
                         for module, preset, env in jobs]:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for proc in RUNNING:
                os.killpg(proc.pid, signal.SIGKILL)
            raise


def one_module(preset, module, results, only, env, long_runs):
    """A test file in a process of its own, its results read line by line as they come."""
    prefix = "%s %s" % (preset, module[:-3])
    argv = [sys.executable, "-B", os.path.join(INTEGRATION, "run_module.py"), module]
    if only:
        argv += ["--only", only.pattern, "--prefix", preset]
    read_fd, write_fd = os.pipe()
    proc = subprocess.Popen(argv + ["--results-fd", str(write_fd)], pass_fds=(write_fd,), env=env,
                            cwd=INTEGRATION, start_new_session=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace")
    RUNNING.add(proc)
    os.close(write_fd)
    limit = MODULE_LIMIT_S.get(preset, 240) * (10 if long_runs else 1)
    started, last, done = time.monotonic(), "its start", False
    watchdog = Watchdog(proc, limit)
    try:
        with os.fdopen(read_fd) as lines:
            for line in lines:
                item = json.loads(line)
                if item["event"] == "done":
                    done = True
                elif item["event"] == "start":
                    last = item["name"]
                else:
                    results.add("%s.%s" % (prefix, item["name"]), item["outcome"],
                                item.get("seconds"), item.get("detail", ""))
        out = proc.communicate()[0]
    finally:
        RUNNING.discard(proc)
        watchdog.stop()
    if not done:
        why = "stopped after %d s" % limit if watchdog.fired else "ended with status %s" % (
            proc.returncode)
        results.add("%s (whole file)" % prefix, "FAILED", time.monotonic() - started,
                    "%s during %s\n%s" % (why, last, out[-4000:]))


class Watchdog:
    def __init__(self, proc, seconds):
        self.proc = proc
        self.fired = False
        self.timer = threading.Timer(seconds, self._fire)
        self.timer.daemon = True
        self.timer.start()

    def _fire(self):
        self.fired = True
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self):
        self.timer.cancel()


# -- fuzzing ---------------------------------------------------------------------------------------

def fuzz(results, only):
    """Every libFuzzer target for FUZZ_SECONDS, new inputs kept in the build folder."""
    if not build("fuzz", results):
        return
    folder = os.path.join(ROOT, "build", "fuzz", "tests")
    targets = sorted(f for f in os.listdir(folder) if f.startswith("fuzz_") and
                     os.access(os.path.join(folder, f), os.X_OK) and
                     os.path.isfile(os.path.join(folder, f)))
    if not targets:
        results.add("fuzz", "FAILED", None, "there are no fuzz targets")
    for target in targets:
        if only and not only.search("fuzz " + target):
            continue
        found = os.path.join(folder, "found", target)
        os.makedirs(found, exist_ok=True)
        argv = [os.path.join(folder, target), "-max_total_time=%d" % FUZZ_SECONDS,
                "-rss_limit_mb=2048", "-artifact_prefix=%s/" % found, found,
                os.path.join(ROOT, "tests", "fuzz", "corpus", target[len("fuzz_"):])]
        start = time.monotonic()
        status, out = run(argv, FUZZ_SECONDS + 120, cwd=folder)
        results.add("fuzz %s" % target, "ok" if status == 0 else "FAILED",
                    time.monotonic() - start, "" if status == 0 else out[-4000:])


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=["release", "asan", "tsan", "all"], default="all",
                        help="default: all; units in release and asan, integration in all three")
    parser.add_argument("--only", metavar="PATTERN", type=re.compile,
                        help="only tests whose line matches this regular expression")
    parser.add_argument("--units", action="store_true", help="no integration tests")
    parser.add_argument("--integration", action="store_true", help="no unit tests")
    parser.add_argument("--long", action="store_true",
                        help="fuzzing and long fault schedules as well")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = Results()
    try:
        for group in [["release"], ["asan", "tsan"]] if args.preset == "all" else [[args.preset]]:
            built = [preset for preset in group if build(preset, results)]
            if not args.integration:
                for preset in built:
                    if preset != "tsan" or args.preset == "tsan":
                        units(preset, results, args.only)
            if not args.units and built:
                integration(built, results, args.only, args.long)
        if args.long:
            fuzz(results, args.only)
    except KeyboardInterrupt:
        results.add("interrupted", "FAILED")
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
