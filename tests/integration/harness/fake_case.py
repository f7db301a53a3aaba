"""What the files share that have a fake cluster behind the proxy."""
import unittest

from .case import Case
from .fake import FakeCluster
from .proxy import STANDIN, Proxy, grace
from .servers import wait_until

__all__ = ["FakeCase"]

CONFIG = "backend:\n  ride_through: 3000ms\n  request_timeout: 1500ms\n"


class FakeCase(Case):
    """Three fake nodes, and one to spare, and a proxy in front of them, for all tests of a file;
    behind each test they are made as they were."""
    cluster = proxy = None

    @classmethod
    def start(cls):
        """For setUpModule: (cluster, proxy)."""
        if STANDIN:
            raise unittest.SkipTest("needs the proxy")
        cls.cluster = FakeCluster(3, spare=1).start()
        cls.proxy = Proxy(cls.cluster.seeds(), config=CONFIG, workers=2).start().wait_routes()
        return cls.cluster, cls.proxy

    @classmethod
    def stop(cls):
        try:
            if cls.proxy:
                cls.proxy.stop()
        finally:
            if cls.cluster:
                cls.cluster.stop()

    def setUp(self):
        self.cluster.clear()
        self.home = list(self.cluster.owner)
        self.shown = self.cluster.shown

    def tearDown(self):
        for node in self.cluster.nodes:
            node.clear()
            if node.listener is None:
                node.start()
        self.cluster.moving.clear()
        if self.cluster.owner != self.home or self.cluster.shown != self.shown:
            self.cluster.owner[:] = self.home
            self.cluster.shown = self.shown
            top = max(self.cluster.epoch)
            for i in range(len(self.cluster.epoch)):
                self.cluster.epoch[i] = top + 1 + i
        self.proxy.wait_routes(grace(20))
        self.settle()

    def settle(self):
        """Until the proxy's map is the cluster's again, and no worker takes a node for dead: a key of
        each needs no redirect."""
        def settled():
            with self.proxy.conn() as c, self.proxy.conn() as d:  # one goes to each worker
                return all(served(conn) for conn in (c, d))

        def served(c):
            for i in range(self.cluster.shown):
                key = self.cluster.key_on(i, "settle")
                before = self.cluster.nodes[i].calls("TYPE", key)
                others = sum(n.calls("TYPE", key) for n in self.cluster.nodes)
                c.cmd("TYPE", key)
                if (self.cluster.nodes[i].calls("TYPE", key) != before + 1 or
                        sum(n.calls("TYPE", key) for n in self.cluster.nodes) != others + 1):
                    return False
            return True
        wait_until("the proxy's map is the cluster's", settled, grace(15), 0.1)
