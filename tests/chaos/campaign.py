"""One topology, one schedule: rounds of load, fault, quiet, comparison with the servers."""
import random
import time
import traceback

from harness.proxy import SANITIZER, Proxy
from harness.resp import Closed, Error
from harness.servers import SLOTS

from faults import World, schedule
from load import Load
from report import Report
from topologies import ChaosCluster, ChaosWatched

RIDE_THROUGH = {"cluster": 15, "sentinel": 35}  # an undecided election takes Sentinels 20 s more
REQUEST_TIMEOUT = 5
DISTURBED_MOST = 3  # rounds repeated because Redis itself replaced a master that nobody had touched


def make_topology(name):
    slow = bool(SANITIZER)
    return ChaosCluster(3000 if slow else 2000) if name == "cluster" else ChaosWatched(
        3000 if slow else 1500)


def start_proxy(topology, workers):
    proxy = Proxy(workers=workers, config="backend: {ride_through: %ds, request_timeout: %ds}\n" % (
        RIDE_THROUGH[topology.name], REQUEST_TIMEOUT), **topology.proxy_args())
    proxy.ride_through = RIDE_THROUGH[topology.name]
    return proxy.start().wait_routes()


def has_transactions(proxy):
    with proxy.conn() as c:
        got = c.pipeline([("MULTI",), ("GET", "{probe}a"), ("EXEC",)])
    return not isinstance(got[0], Error)


class Campaign:
    def __init__(self, args, name):
        self.args, self.name = args, name
        self.report = Report()

    def say(self, text):
        print("%s %s: %s" % (time.strftime("%H:%M:%S"), self.name, text), flush=True)

    def run(self):
        self.topology = make_topology(self.name)
        self.topology.start()
        self.proxy = self.load = None
        try:
            self.proxy = start_proxy(self.topology, self.args.workers)
            self.rounds()
        except (AssertionError, RuntimeError, OSError, EOFError, Closed):
            self.fail("the run broke off: %s" % traceback.format_exc())
        finally:
            if self.load:
                self.load.quit()
            try:
                if self.proxy:
                    self.proxy.stop()
            except AssertionError as e:
                self.fail(str(e))
            self.topology.stop()
        return self.tell()

    def fail(self, text):
        self.report.bad.append(text)
        self.say("VIOLATION " + text)

    def make_load(self):
        multi = has_transactions(self.proxy)
        if not multi:
            self.say("the proxy has no transactions: the load goes without MULTI")
        rng = random.Random("%s/slots" % self.args.seed)
        self.hot = rng.sample(range(SLOTS), 240)
        rate = self.args.rate or (1200 if SANITIZER else 3000)
        self.load = Load(self.proxy.port, self.args.seed, {
            "clients": self.args.clients, "slots": self.hot, "groups": 30, "multi": multi,
            "batch": 8, "rate": rate, "big_every": 500,
            "hang": RIDE_THROUGH[self.name] + REQUEST_TIMEOUT + 10})

    def rounds(self):
        only, count = self.args.only, self.args.rounds
        plan = schedule(random.Random("%s/%s" % (self.args.seed, self.name)), self.name,
                        count or len(schedule_kinds(self.name, only)), only)
        if not plan:
            self.say("none of these faults is one of this topology")
            return
        self.make_load()
        self.say("seed %s, %d rounds" % (self.args.seed, len(plan)))
        for number, fault in enumerate(plan, 1):
            if self.args.round in (None, number):
                while not self.round(number, fault, len(plan)):
                    self.report.disturbed += 1
                    if self.report.disturbed > DISTURBED_MOST:
                        self.fail("the machine is too slow: masters are called down all the time")
                        return

    def round(self, number, fault, last):
        """False when it has to be repeated: a master was replaced that nobody had touched."""
        rng = random.Random("%s/%s/%d" % (self.args.seed, self.name, number))
        world = World(self.topology, self.proxy, self.load, self.hot,
                      self.args.quick and number == last)
        before = self.topology.master_names()
        begun = time.monotonic()
        self.load.run()
        time.sleep(rng.uniform(0.2, 0.6))
        try:
            what = fault.function(world, rng)
        finally:
            self.load.stop()
        if world.quick and self.name == "sentinel":
            self.topology.shards()
        else:
            self.topology.settle()
        after = self.topology.master_names()
        self.load.verify(self.topology.owners())
        stats = self.load.stats()
        by_itself = before - after - world.demoted
        title = "round %d, %s (%s)" % (number, fault.name, what)
        if by_itself:
            self.say("%s: disturbed, Redis replaced %s by itself; once more" % (title, by_itself))
            return False
        bad = self.report.add(fault, stats, title)
        self.say("%s: %d requests, worst %.0f ms, load's own %.0f ms, %.1f s%s" % (
            title, sum(stats.requests.values()), stats.worst * 1000, stats.lag * 1000,
            time.monotonic() - begun, "" if not bad else "".join("\n    VIOLATION " + b for b in bad)))
        if stats.violations["lost-replication"]:
            for e in stats.examples["lost-replication"][:3]:
                self.say("    lost by Redis's replication: " + e)
        return True

    def tell(self):
        print("\n%s, seed %s%s\n\n%s\n" % (
            self.name, self.args.seed, ", %d rounds repeated" % self.report.disturbed if
            self.report.disturbed else "", self.report.table()))
        if self.report.bad:
            print("VIOLATIONS\n" + "\n".join(self.report.bad) + "\n")
            if self.proxy:
                print("The proxy's log ends:\n" + self.proxy.log_text()[-3000:])
        return not self.report.bad


def schedule_kinds(name, only):
    from faults import FAULTS
    return [f for f in FAULTS if name in f.topologies and (only is None or f.name in only)]


def run(args, name):
    return Campaign(args, name).run()
