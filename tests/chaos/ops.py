"""The requests of the load: what is sent, and what each reply says about the keys.

An Op has `data` (bytes), `replies` (how many come), `slots`, `writes` (it changes something), `name`
(for the table) and `judge(replies, note)`, which returns the Error when it was refused, else None.
`excepted`: it needs its keys in one place, so that TRYAGAIN may last as long as a slot's move does.
"""
import random

from harness.resp import OK, Error, Simple, encode
from harness.servers import key_slot, tag_of_slot

from model import ABSENT, Counter, List, String, make_value

MIB = 1 << 20
LIST_MOST = 60
INCR_TAGGED = "return {ARGV[1], redis.call('INCR', KEYS[1])}"
SET_BOTH = ("redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[2]) "
            "return ARGV[3]")
QUEUED = Simple(b"QUEUED")


def is_unknown(error):
    return error.startswith(b"UNKNOWN ")


class Group:
    """Keys of one connection in one slot."""

    def __init__(self, conn, slot, number):
        tag = b"{%s}c%d.%d." % (tag_of_slot(slot).encode(), conn, number)
        self.slot = slot
        self.strings = [String(tag + b"s%d" % i, slot) for i in range(3)]
        self.counter = Counter(tag + b"n", slot)
        self.tag = tag
        self.generation = 0
        self.new_list()

    def new_list(self):
        self.generation += 1
        self.list = List(self.tag + b"l%d" % self.generation, self.slot)

    def keys(self):
        return self.strings + [self.counter, self.list]


class Op:
    replies = 1
    writes = True
    excepted = False
    sent = 0.0

    def judge(self, replies, note):
        reply = replies[0]
        if isinstance(reply, Error):
            self.failed(is_unknown(reply))
            return reply
        self.good(reply, note)
        return None

    def lost(self):
        """The connection broke before the reply."""
        self.failed(True)

    def failed(self, unknown):
        pass

    def wrong(self, reply, note):
        note("mixed", "%s of %s answered %r" % (self.name, self.slots, str(reply)[:100]))
        self.failed(True)


class Get(Op):
    writes = False

    def __init__(self, key):
        self.key, self.name, self.slots = key, "GET", (key.slot,)
        self.data = encode("GET", key.name)

    def good(self, reply, note):
        self.key.saw(reply, self.sent, note)


class Write(Op):
    """SET of one or MSET of several strings, or a script that sets them: all or, if `split`, each."""

    def __init__(self, name, pairs, data, answer=OK, split=False):
        self.pairs, self.name, self.data, self.answer, self.split = pairs, name, data, answer, split
        self.slots = tuple({k.slot for k, _ in pairs})
        self.excepted = len(pairs) > 1

    def good(self, reply, note):
        if reply != self.answer:
            self.wrong(reply, note)
            return
        for key, serial in self.pairs:
            key.wrote(serial, self.sent)

    def failed(self, unknown):
        for key, serial in self.pairs:
            if unknown or self.split:
                key.maybe_wrote(serial, unknown)
            else:
                key.not_written(serial)


class Del(Op):
    def __init__(self, keys):
        self.keys, self.name, self.slots = keys, "DEL", tuple({k.slot for k in keys})
        self.data = encode("DEL", *(k.name for k in keys))

    def good(self, reply, note):
        bounds = [k.present() for k in self.keys]
        least, most = sum(b[0] for b in bounds), sum(b[1] for b in bounds)
        if not isinstance(reply, int):
            self.wrong(reply, note)
            return
        if not least <= reply <= most:
            note("mixed", "DEL %s answered %d, possible were %d to %d" % (
                [k.name for k in self.keys], reply, least, most))
        for k in self.keys:
            k.wrote(ABSENT, self.sent)

    def failed(self, unknown):
        for k in self.keys:
            if unknown or len(self.slots) > 1:
                k.maybe_wrote(ABSENT, unknown)


class Mget(Op):
    writes = False

    def __init__(self, keys):
        self.keys, self.name, self.slots = keys, "MGET", tuple({k.slot for k in keys})
        self.data = encode("MGET", *(k.name for k in keys))

    def good(self, reply, note):
        if not isinstance(reply, list) or len(reply) != len(self.keys):
            self.wrong(reply, note)
            return
        for key, value in zip(self.keys, reply):
            key.saw(value, self.sent, note)


class Incr(Op):
    def __init__(self, key):
        self.key, self.name, self.slots = key, "INCR", (key.slot,)
        self.data = encode("INCR", key.name)

    def good(self, reply, note):
        self.key.counted(reply, self.sent, note)

    def failed(self, unknown):
        self.key.unknown += unknown


class EvalIncr(Incr):
    def __init__(self, key, serial):
        super().__init__(key)
        self.name = "EVAL"
        self.tag = b"tag-%s-%d" % (key.name, serial)
        self.data = encode("EVAL", INCR_TAGGED, 1, key.name, self.tag)

    def good(self, reply, note):
        if not isinstance(reply, list) or len(reply) != 2 or reply[0] != self.tag:
            self.wrong(reply, note)
            return
        self.key.counted(reply[1], self.sent, note)


class Lpush(Op):
    def __init__(self, key, serial):
        self.key, self.serial, self.name, self.slots = key, serial, "LPUSH", (key.slot,)
        self.data = encode("LPUSH", key.name, make_value(key.name, serial))

    def good(self, reply, note):
        self.key.pushed(self.serial, reply, self.sent, note)

    def failed(self, unknown):
        if unknown:
            self.key.maybe_pushed(self.serial)
        else:
            self.key.not_pushed(self.serial)


class Lrange(Op):
    writes = False

    def __init__(self, key):
        self.key, self.name, self.slots = key, "LRANGE", (key.slot,)
        self.data = encode("LRANGE", key.name, 0, -1)

    def good(self, reply, note):
        self.key.saw(reply, self.sent, note)


class Multi(Op):
    """MULTI, SET, INCR, LPUSH, EXEC: all or nothing."""
    replies = 5
    name = "MULTI"
    excepted = True

    def __init__(self, group, serial):
        self.string, self.counter, self.list = group.strings[0], group.counter, group.list
        self.serial, self.slots = serial, (group.slot,)
        self.data = b"".join((
            encode("MULTI"), encode("SET", self.string.name, make_value(self.string.name, serial)),
            encode("INCR", self.counter.name),
            encode("LPUSH", self.list.name, make_value(self.list.name, serial)), encode("EXEC")))

    def judge(self, replies, note):
        last = replies[4]
        if isinstance(last, Error):
            self.failed(is_unknown(last))
            return last
        if replies[:4] != [OK, QUEUED, QUEUED, QUEUED] or not isinstance(last, list) or \
                len(last) != 3 or last[0] != OK:
            self.wrong(replies, note)
            return None
        self.string.wrote(self.serial, self.sent)
        self.counter.counted(last[1], self.sent, note)
        self.list.pushed(self.serial, last[2], self.sent, note)
        return None

    def failed(self, unknown):
        if unknown:
            self.string.maybe_wrote(self.serial, True)
            self.counter.unknown += 1
            self.list.maybe_pushed(self.serial)
        else:
            self.string.not_written(self.serial)
            self.list.not_pushed(self.serial)


class Mix:
    """Makes the requests of one connection, by a random number generator of its own."""
    KINDS = (("get", 22), ("set", 20), ("incr", 12), ("mget", 10), ("mset", 8), ("delete", 4),
             ("lpush", 8), ("lrange", 4), ("eval", 6), ("multi", 6))

    def __init__(self, number, seed, hot_slots, groups, multi, big_every):
        self.rng = random.Random("%s/%d" % (seed, number))
        self.groups = [Group(number, s, i) for i, s in enumerate(
            self.rng.sample(hot_slots, min(groups, len(hot_slots))))]
        big = b"big.c%d" % number
        self.big = [String(big + b".%d" % i, key_slot(big + b".%d" % i)) for i in range(2)]
        self.big_every = big_every
        self.made = self.rng.randrange(big_every)
        self.serial = 0
        kinds = [(k, w) for k, w in self.KINDS if multi or k != "multi"]
        self.kinds, self.weights = zip(*kinds)
        self.asleep = set()  # lists that are full; replaced at the round's end

    def keys(self):
        return [k for g in self.groups for k in g.keys()] + self.big

    def next(self):
        self.made += 1
        self.serial += 1
        if self.made % self.big_every == 0:
            key = self.rng.choice(self.big)
            return Write("SET 1 MiB", [(key, self.serial)], encode(
                "SET", key.name, make_value(key.name, self.serial, MIB)))
        if self.made % self.big_every == self.big_every // 2:
            op = Get(self.rng.choice(self.big))
            op.name = "GET 1 MiB"
            return op
        kind = self.rng.choices(self.kinds, self.weights)[0]
        return getattr(self, "_" + kind)(self.rng.choice(self.groups))

    def _some(self, group, most):
        """Distinct strings: of one slot, or of several."""
        if self.rng.random() < 0.4:
            return self.rng.sample(group.strings, self.rng.randint(2, 3))
        groups = self.rng.sample(self.groups, self.rng.randint(2, most))
        return [self.rng.choice(g.strings) for g in groups]

    def _get(self, g):
        return Get(self.rng.choice(g.strings))

    def _set(self, g):
        key = self.rng.choice(g.strings)
        return Write("SET", [(key, self.serial)], encode(
            "SET", key.name, make_value(key.name, self.serial)))

    def _incr(self, g):
        return Incr(g.counter)

    def _mget(self, g):
        return Mget(self._some(g, 6))

    def _mset(self, g):
        pairs = [(k, self.serial) for k in self._some(g, 5)]
        args = [x for k, s in pairs for x in (k.name, make_value(k.name, s))]
        return Write("MSET", pairs, encode("MSET", *args), split=len({k.slot for k, _ in pairs}) > 1)

    def _delete(self, g):
        return Del([self.rng.choice(g.strings)] if self.rng.random() < 0.5 else self._some(g, 4))

    def _lpush(self, g):
        if len(g.list.items) + len(g.list.maybe) >= LIST_MOST:
            return Lrange(g.list)
        return Lpush(g.list, self.serial)

    def _lrange(self, g):
        return Lrange(g.list)

    def _eval(self, g):
        if self.rng.random() < 0.6:
            return EvalIncr(g.counter, self.serial)
        a, b = self.rng.sample(g.strings, 2)
        tag = b"both-%s-%d" % (a.name, self.serial)
        return Write("EVAL", [(a, self.serial), (b, self.serial)], encode(
            "EVAL", SET_BOTH, 2, a.name, b.name, make_value(a.name, self.serial),
            make_value(b.name, self.serial), tag), answer=tag)

    def _multi(self, g):
        return Multi(g, self.serial)
