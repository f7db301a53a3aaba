"""redis-py: Redis, RedisCluster, Sentinel."""
import os
import threading
import time

import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

MODE, PREFIX = os.environ["KW_MODE"], os.environ["KW_PREFIX"]
HOST, PORT = os.environ["KW_HOST"], int(os.environ["KW_PORT"])
LATER = os.environ["KW_LATER"].split(",")


def connect(**kw):
    kw.setdefault("socket_timeout", 20)
    if MODE == "cluster":
        return RedisCluster(host=HOST, port=PORT, **kw)
    if MODE == "sentinel":
        return Sentinel([(HOST, PORT)], socket_timeout=20).master_for("mymaster", **kw)
    return redis.Redis(HOST, PORT, **kw)


def one_server():
    """A plain client, for what RedisCluster leaves to the caller."""
    return redis.Redis(HOST, PORT, socket_timeout=20) if MODE == "cluster" else connect()


def k(name):
    return "%s:%s" % (PREFIX, name)


def t(name):  # keys of one slot
    return "{%s}:%s" % (PREFIX, name)


def m(name):  # keys of several slots, where the library itself allows it
    return t(name) if MODE == "cluster" else k(name)


def same(want, got):
    if want != got:
        raise AssertionError("expected %r, got %r" % (want, got))


def op(name, function):
    if name in LATER:
        print("later", name)
        return
    try:
        function()
        print("ok", name)
    except Exception as e:
        print("FAIL %s: %s: %s" % (name, type(e).__name__, str(e).replace("\n", " ")[:300]))


def fails(kind, text, function, *args):
    try:
        got = function(*args)
    except kind as e:
        if text not in str(e):
            raise
        return
    raise AssertionError("expected an error, got %r" % (got,))


r = connect()


def set_options():
    same(True, r.set(k("opt"), "1", nx=True, ex=100))
    same(None, r.set(k("opt"), "2", nx=True))
    same(True, r.set(k("opt"), "3", xx=True, keepttl=True))
    same(b"3", r.getset(k("opt"), "4"))


def large():
    value = os.urandom(1 << 20)
    r.set(k("large"), value)
    same(value, r.get(k("large")))


def hscan():
    r.hset(k("hs"), mapping={"f%d" % i: i for i in range(1500)})
    same({b"f%d" % i: b"%d" % i for i in range(1500)}, dict(r.hscan_iter(k("hs"), count=50)))


def stream():
    ids = [r.xadd(k("x"), {"a": i}) for i in range(3)]
    same([(i, {b"a": b"%d" % n}) for n, i in enumerate(ids)], r.xrange(k("x")))
    same([[k("x").encode(), [(ids[2], {b"a": b"2"})]]], r.xread({k("x"): ids[1]}))


def stream_group():
    r.xgroup_create(k("xg"), "g", "0", mkstream=True)
    entry = r.xadd(k("xg"), {"f": "v"})
    same([[k("xg").encode(), [(entry, {b"f": b"v"})]]], r.xreadgroup("g", "c", {k("xg"): ">"}))
    same(1, r.xpending(k("xg"), "g")["pending"])
    same(1, r.xack(k("xg"), "g", entry))


def noscript():
    sha = r.script_load("return {KEYS[1], ARGV[1], 42}")
    for i in range(20):  # every server runs it
        same([k("s%d" % i).encode(), b"a", 42], r.evalsha(sha, 1, k("s%d" % i), "a"))
    fails(redis.exceptions.NoScriptError, "", r.evalsha, "f" * 40, 1, k("s"))


def pipeline():
    with r.pipeline(transaction=False) as p:
        for i in range(500):
            p.set(k("p%d" % i), i).get(k("p%d" % i))
        replies = p.execute()
    same([x for i in range(500) for x in (True, b"%d" % i)], replies)


def pipeline_error():
    r.set(k("str"), "x")
    with r.pipeline(transaction=False) as p:
        p.get(k("str")).lpush(k("str"), 1).get(k("str"))
        replies = p.execute(raise_on_error=False)
    same([b"x", redis.ResponseError, b"x"], [replies[0], type(replies[1]), replies[2]])


def scan():
    r2 = one_server()
    for i in range(300):
        r2.set(k("scan:%d" % i), "")
    want = {k("scan:%d" % i).encode() for i in range(300)}
    same(want, set(r.scan_iter(match=k("scan:*"), count=50)))
    same(want, set(r.keys(k("scan:*"))))


def channel(pattern):
    p = (one_server() if MODE == "cluster" else r).pubsub()
    # Channels of their own: a cluster may hand on late what was published before a PSUBSCRIBE.
    name = k("p1") if pattern else k("ch")
    (p.psubscribe if pattern else p.subscribe)(k("p?") if pattern else name)
    end = time.time() + 20
    got = []
    while time.time() < end and len(got) < 2:
        message = p.get_message(timeout=1)
        if message and "subscribe" in message["type"]:
            r.publish(name, "one")
            r.publish(name, b"\0\r\n")
        elif message:
            got.append((message["type"], message["channel"], message["data"]))
    kind = "pmessage" if pattern else "message"
    same([(kind, name.encode(), b"one"), (kind, name.encode(), b"\0\r\n")], got)
    p.close()


def multi():
    with one_server().pipeline(transaction=True) as p:
        same([True, 8, b"8"], p.set(t("tx"), 7).incr(t("tx")).get(t("tx")).execute())
        p.set(t("tx"), "x").incr(t("tx"))
        fails(redis.ResponseError, "not an integer", p.execute)


def watch():
    c = one_server()
    c.set(t("w"), 1)
    with c.pipeline() as p:
        p.watch(t("w"))
        same(b"1", p.get(t("w")))
        c.set(t("w"), 2)
        p.multi()
        p.set(t("w"), 3)
        fails(redis.WatchError, "", p.execute)
    same([True], c.transaction(lambda p: (p.get(t("w")), p.multi(), p.set(t("w"), 4)), t("w")))


def brpop_wait():
    threading.Timer(0.3, lambda: one_server().lpush(k("later"), "job")).start()
    same((k("later").encode(), b"job"), r.brpop(k("later"), timeout=10))


def xread_block():
    threading.Timer(0.3, lambda: one_server().xadd(k("xb"), {"a": 1})).start()
    got = r.xread({k("xb"): "$"}, block=10000)
    same([(k("xb").encode(), {b"a": b"1"})], [(name, rows[0][1]) for name, rows in got])


def client_name():
    c = redis.Redis(HOST, PORT, client_name="kw-name") if MODE == "cluster" else connect(
        client_name="kw-name")
    same("kw-name", c.client_getname())
    c.close()


def geo():
    r.geoadd(k("geo"), (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
    same(166.2742, r.geodist(k("geo"), "Palermo", "Catania", "km"))
    same([b"Catania", b"Palermo"], r.geosearch(k("geo"), longitude=15, latitude=37, radius=200,
                                               unit="km", sort="ASC"))


print("version", redis.__version__)
op("ping", lambda: same(True, r.ping()))
op("echo", lambda: same(b"a b", one_server().echo("a b")))
op("set_get", lambda: (same(True, r.set(k("a"), "v")), same(b"v", r.get(k("a")))))
op("set_options", set_options)
op("empty_value", lambda: (r.set(k("e"), ""), same(b"", r.get(k("e"))), same(0, r.strlen(k("e")))))
op("binary", lambda: (r.set(k("b\0\r\n\xff"), b"\0\r\n$-1\r\n\xff"),
                      same(b"\0\r\n$-1\r\n\xff", r.get(k("b\0\r\n\xff")))))
op("large_value", large)
op("missing_key", lambda: same([None, None, {}], [r.get(k("no")), r.lpop(k("no")),
                                                  r.hgetall(k("no"))]))
op("incr", lambda: same([1, 42, 41, 41.5], [r.incr(k("n")), r.incrby(k("n"), 41), r.decr(k("n")),
                                            r.incrbyfloat(k("n"), 0.5)]))
op("append_getrange", lambda: same([5, 10, b"world"], [
    r.append(k("ap"), "hello"), r.append(k("ap"), "world"), r.getrange(k("ap"), 5, -1)]))
op("mset_mget", lambda: (same(True, r.mset({m("m%d" % i): i for i in range(30)})),
                         same([b"%d" % i for i in range(30)] + [None],
                              r.mget([m("m%d" % i) for i in range(31)]))))
op("del_exists", lambda: same([30, 30, 0], [f(*[m("m%d" % i) for i in range(30)])
                                            for f in (r.exists, r.delete, r.exists)]))
op("expire_ttl", lambda: (r.set(k("ex"), 1), same(True, r.expire(k("ex"), 100)),
                          same(True, 98 <= r.ttl(k("ex")) <= 100), same(True, r.persist(k("ex"))),
                          same(-1, r.ttl(k("ex"))), same(-2, r.ttl(k("no")))))
op("bits", lambda: same([0, 1, 1, 7], [r.setbit(k("bit"), 7, 1), r.getbit(k("bit"), 7),
                                       r.bitcount(k("bit")), r.bitpos(k("bit"), 1)]))
op("hash", lambda: same([2, {b"a": b"1", b"b": b""}, [b"1", None], 1], [
    r.hset(k("h"), mapping={"a": 1, "b": ""}), r.hgetall(k("h")), r.hmget(k("h"), "a", "z"),
    r.hdel(k("h"), "b")]))
op("hash_incr", lambda: same([11, 11.5], [r.hincrby(k("h"), "a", 10),
                                          r.hincrbyfloat(k("h"), "a", 0.5)]))
op("hscan", hscan)
op("list", lambda: same([4, [b"a", b"b", b"c", b"d"], b"a", b"d", 2], [
    r.rpush(k("l"), "a", "b", "c", "d"), r.lrange(k("l"), 0, -1), r.lpop(k("l")), r.rpop(k("l")),
    r.llen(k("l"))]))
op("list_move", lambda: same([2, b"2", [b"1"], [b"2"]], [
    r.rpush(t("lm"), "1", "2"), r.rpoplpush(t("lm"), t("lm2")), r.lrange(t("lm"), 0, -1),
    r.lrange(t("lm2"), 0, -1)]))
op("set", lambda: same([3, {b"a", b"b", b"c"}, True, 3], [
    r.sadd(k("s"), "a", "b", "c"), r.smembers(k("s")), bool(r.sismember(k("s"), "a")),
    r.scard(k("s"))]))
op("set_inter", lambda: (r.sadd(t("s1"), "a", "b"), r.sadd(t("s2"), "b", "c"),
                         same({b"b"}, r.sinter(t("s1"), t("s2"))),
                         same(3, r.sunionstore(t("s3"), t("s1"), t("s2")))))
op("sscan", lambda: (r.sadd(k("ss"), *range(1500)),
                     same({b"%d" % i for i in range(1500)}, set(r.sscan_iter(k("ss"))))))
op("zset", lambda: (r.zadd(k("z"), {"a": 1, "b": 2.5, "c": 3}),
                    same([(b"a", 1.0), (b"b", 2.5), (b"c", 3.0)],
                         r.zrange(k("z"), 0, -1, withscores=True)), same(1, r.zrank(k("z"), "b"))))
op("zset_byscore", lambda: same([b"b", b"c"], r.zrangebyscore(k("z"), "(1", "+inf")))
op("zset_incr", lambda: same([3.5, 3.5], [r.zincrby(k("z"), 2.5, "a"), r.zscore(k("z"), "a")]))
op("hyperloglog", lambda: same([1, 3], [r.pfadd(k("pf"), "a", "b", "c"), r.pfcount(k("pf"))]))
op("geo", geo)
op("stream", stream)
op("stream_group", stream_group)
op("type_rename", lambda: (r.set(t("r1"), "x"), same(b"string", r.type(t("r1"))),
                           one_server().rename(t("r1"), t("r2")), same(b"x", r.get(t("r2")))))
op("sort", lambda: (r.rpush(k("so"), 3, 1, 2), same([b"1", b"2", b"3"], r.sort(k("so")))))
op("eval", lambda: same([k("ev").encode(), b"x", 7, None], r.eval(
    "return {KEYS[1], ARGV[1], 7, false}", 1, k("ev"), "x")))
op("evalsha", lambda: same(b"9", one_server().register_script(
    "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])")([k("es")], [9])))
op("noscript", noscript)
op("wrong_type", lambda: (r.set(k("wt"), 1), fails(redis.ResponseError, "WRONGTYPE", r.lpush,
                                                   k("wt"), 1)))
op("unknown_command", lambda: fails(redis.ResponseError, "unknown command", one_server(
    ).execute_command, "NOSUCHCOMMAND", "a"))
op("pipeline", pipeline)
op("pipeline_error", pipeline_error)
op("scan", scan)
op("dbsize", lambda: same(True, r.dbsize() >= 300))
op("info", lambda: same(True, one_server().info()["redis_version"] > "6"))
op("client_name", client_name)
op("publish", lambda: channel(False))
op("psubscribe", lambda: channel(True))
op("multi", multi)
op("watch", watch)
op("blpop", lambda: (r.rpush(k("bl"), "x"), same((k("bl").encode(), b"x"), r.blpop(k("bl"), 5)),
                     same(None, r.blpop(k("bl"), 1))))
op("brpop_wait", brpop_wait)
op("bzpopmin", lambda: (r.zadd(k("bz"), {"a": 2, "b": 1}),
                        same((k("bz").encode(), b"b", 1.0), r.bzpopmin(k("bz"), 5))))
op("xread_block", xread_block)
print("done")
