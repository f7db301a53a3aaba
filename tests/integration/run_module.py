"""Runs one test file and tells its results as JSON lines; tests/run.py reads them. By hand:

    python3 run_module.py 10_protocol.py [--only PATTERN]

(KEYWAY_BINARY says which program is tested.)
"""
import argparse
import importlib.util
import json
import os
import re
import sys
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


class Result(unittest.TestResult):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.begun = {}
        self.subtests_failed = {}
        self.bad = 0
        self.good = 0

    def tell(self, **item):
        if self.out is not None:
            self.out.write(json.dumps(item) + "\n")
            self.out.flush()
        elif item["event"] == "result":
            took = " (%.2f s)" % item["seconds"] if "seconds" in item else ""
            print("%-7s %s%s" % (item["outcome"], item["name"], took), flush=True)
            if item.get("detail"):
                print("".join("        | %s\n" % s for s in item["detail"].splitlines()), end="",
                      flush=True)

    @staticmethod
    def name(test):
        if isinstance(test, unittest.TestCase):
            return "%s.%s" % (type(test).__name__, test._testMethodName)
        return str(test).replace("__main__", "").strip()

    def startTest(self, test):
        super().startTest(test)
        self.begun[test] = time.monotonic()
        self.tell(event="start", name=self.name(test))

    def outcome(self, test, outcome, detail=""):
        self.bad += outcome == "FAILED"
        self.good += outcome == "ok"
        item = {"event": "result", "name": self.name(test), "outcome": outcome}
        if test in self.begun:
            item["seconds"] = time.monotonic() - self.begun[test]
        if detail:
            item["detail"] = detail
        self.tell(**item)

    @staticmethod
    def text(err):
        """The message first, then where: frames of unittest itself left out."""
        frames = [f for f in traceback.extract_tb(err[2]) if "unittest" not in f.filename]
        where = "".join("  at %s:%d in %s\n" % (os.path.basename(f.filename), f.lineno, f.name)
                        for f in frames)
        return "%s: %s\n%s" % (err[0].__name__, err[1], where)

    def addSuccess(self, test):
        if test in self.subtests_failed:
            self.outcome(test, "FAILED", "\n".join(self.subtests_failed.pop(test)))
        else:
            self.outcome(test, "ok")

    def addFailure(self, test, err):
        self.outcome(test, "FAILED", self.text(err))

    def addError(self, test, err):
        self.outcome(test, "FAILED", self.text(err))

    def addSkip(self, test, reason):
        self.outcome(test, "skipped", reason)

    def addSubTest(self, test, subtest, err):
        """Failures inside subTest are gathered: the test is one line, its details are many."""
        if err is not None:
            told = self.subtests_failed.setdefault(test, [])
            if len(told) < 20:
                told.append("%s\n%s" % (subtest._subDescription(), self.text(err)))

    def stopTest(self, test):
        if test in self.subtests_failed:
            self.outcome(test, "FAILED", "\n".join(self.subtests_failed.pop(test)))
        super().stopTest(test)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--only")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--results-fd", type=int)
    args = parser.parse_args()
    # Threads that only wait for sockets shall not wait 5 ms for each other as well.
    sys.setswitchinterval(0.0005)
    name = os.path.basename(args.module)[:-3]
    spec = importlib.util.spec_from_file_location(
        "test_" + name, os.path.join(HERE, os.path.basename(args.module)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    tests = list(flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))
    if args.only:
        tests = [t for t in tests if re.search(args.only, "%s %s.%s" % (
            args.prefix, name, Result.name(t)))]
    out = os.fdopen(args.results_fd, "w") if args.results_fd is not None else None
    result = Result(out)
    if tests:
        unittest.TestSuite([unittest.TestSuite(tests)]).run(result)
    result.tell(event="done")
    if out is None:
        print("%d ok, %d failed" % (result.good, result.bad))
    return 1 if result.bad else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.exit(status)
