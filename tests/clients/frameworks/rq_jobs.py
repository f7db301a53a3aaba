"""rq: jobs through a real worker, which forks one process a job."""
import os
import sys
import time

import rq
from redis import Redis
from rq import Queue, Worker
from rq.registry import FailedJobRegistry, ScheduledJobRegistry

redis = Redis(os.environ["KW_HOST"], int(os.environ["KW_PORT"]), socket_timeout=60)
queue = Queue("kw", connection=redis)


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


def work():
    Worker([queue], connection=redis).work(burst=True, logging_level="ERROR")


def results():
    jobs = [queue.enqueue("operator.add", i, i) for i in range(5)]
    same(5, queue.count)
    work()
    same([0, 2, 4, 6, 8], [j.result for j in jobs])
    same(["finished"] * 5, [j.get_status(refresh=True) for j in jobs])
    same(0, queue.count)


def depends():
    first = queue.enqueue("operator.add", 1, 2)
    second = queue.enqueue("operator.mul", 3, 4, depends_on=first)
    work()
    same(12, second.result)


def failed():
    job = queue.enqueue("operator.truediv", 1, 0)
    work()
    same("failed", job.get_status(refresh=True))
    same([job.id], FailedJobRegistry(queue=queue).get_job_ids())
    same(True, "ZeroDivisionError" in job.exc_info)


def scheduled():
    from datetime import timedelta
    from rq.scheduler import RQScheduler
    job = queue.enqueue_in(timedelta(seconds=1), "operator.neg", 7)
    same(1, len(ScheduledJobRegistry(queue=queue)))
    time.sleep(1.2)
    scheduler = RQScheduler([queue], connection=redis)
    scheduler.acquire_locks()
    scheduler.enqueue_scheduled_jobs()
    work()
    same(-7, job.result)


def workers():
    worker = Worker([queue], connection=redis)
    worker.register_birth()
    same([worker.name], [w.name for w in Worker.all(connection=redis)])
    worker.register_death()
    same([], Worker.all(connection=redis))


print("version", rq.VERSION)
op("results", results)
op("depends", depends)
op("failed", failed)
op("scheduled", scheduled)
op("workers", workers)
print("done")
