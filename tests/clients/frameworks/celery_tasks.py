"""Celery: broker and result backend through the proxy, with a real worker. In front of a cluster
with global_keyprefix, as kombu's and Celery's manuals have it, and with unacked_key: this kombu
WATCHes that key without the prefix.

The same file is the application that the worker imports and the program that uses it."""
import os
import subprocess
import sys
import tempfile
import time

import celery
from celery import Celery, chain, chord, group
from celery.exceptions import Reject

PREFIX = "{kw}:" if os.environ["KW_BEHIND"] == "cluster" else ""
URL = "redis://%s:%s/0" % (os.environ["KW_HOST"], os.environ["KW_PORT"])
app = Celery("celery_tasks", broker=URL, backend=URL)
app.conf.update(
    broker_transport_options={"global_keyprefix": PREFIX, "unacked_key": PREFIX + "unacked",
                              "visibility_timeout": 60},
    result_backend_transport_options={"global_keyprefix": PREFIX},
    worker_prefetch_multiplier=1, broker_connection_retry=True, result_expires=600)
WAIT = 40
seen = set()  # of a worker: ids of tasks it has put back


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail():
    raise ValueError("on purpose")


@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True, acks_late=True)
def second_time(self):
    if self.request.id not in seen:
        seen.add(self.request.id)
        raise Reject("on purpose", requeue=True)
    return "again"


def op(name, function):
    try:
        function()
        print("ok", name)
    except Exception as e:
        print("FAIL %s: %s: %s" % (name, type(e).__name__, str(e).replace("\n", " ")[:300]))
    sys.stdout.flush()


def same(want, got):
    if want != got:
        raise AssertionError("expected %r, got %r" % (want, got))


def failure():
    try:
        fail.delay().get(WAIT)
    except ValueError as e:
        same("on purpose", str(e))
    else:
        raise AssertionError("no error came")


def ping():  # broadcast to all workers, by publish and subscribe
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        answers = app.control.inspect(timeout=2).ping()
        if answers:
            return same(["pong"], [a["ok"] for a in answers.values()])
    raise AssertionError("no worker answered")


def main():
    print("version", celery.__version__.split()[0])
    words = tempfile.TemporaryFile("w+", errors="replace")  # not in the midst of our own lines
    worker = subprocess.Popen(
        [sys.executable, "-B", "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "threads",
         "--concurrency", "2", "--loglevel", "ERROR"],
        cwd=os.path.dirname(os.path.abspath(__file__)), stdout=words, stderr=subprocess.STDOUT)
    try:
        op("task", lambda: same(5, add.delay(2, 3).get(WAIT)))
        op("group", lambda: same([2 * i for i in range(20)], group(
            add.s(i, i) for i in range(20))().get(WAIT)))
        op("chain", lambda: same(10, chain(add.s(1, 2), add.s(3), add.s(4))().get(WAIT)))
        if PREFIX and not hasattr(app.backend, "global_keyprefix"):
            print("none chord: this Celery's prefix is the broker's alone, and its results put a "
                  "chord's two keys into two slots")
        else:
            op("chord", lambda: same(20, chord((add.s(i, i) for i in range(5)), total.s())().get(
                WAIT)))
        op("failure", failure)
        op("retry", lambda: same(2, third_time.delay().get(WAIT)))
        op("requeue", lambda: same("again", second_time.delay().get(WAIT)))
        op("countdown", lambda: same(3, add.apply_async((1, 2), countdown=1).get(WAIT)))
        op("inspect", ping)
    finally:
        worker.terminate()
        worker.wait(20)
        words.seek(0)
        for line in words:
            print("worker:", line.rstrip())
    print("done")


if __name__ == "__main__":
    main()
