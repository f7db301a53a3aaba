"""What may be in a key, by what its one owner asked for and was answered.

Every key belongs to one connection, whose requests to a slot run in program order; so at each reply it
is known what may be there. A write answered UNKNOWN may have run, or may run until the round's end.
What a shard took before it died unplanned may be lost by Redis's asynchronous replication, and nothing
else: a key of such a shard is `loose` until a request that was sent after the death (`limit`, a time)
is answered.

A judge is given the violations to add to: `note(kind, text)` with the kinds of report.VIOLATIONS.
"""

import collections
import time

FILLER = bytes(97 + i * 7 % 26 for i in range(1 << 20))
ABSENT = 0  # as a serial: no value


def make_value(key, serial, size=0):
    head = b"%s=%d;%d;" % (key, serial, size)
    return head + FILLER[:max(0, size - len(head))]


def serial_of(key, value):
    """The serial of a value that `make_value` made for this key; None for anything else."""
    if value is None:
        return ABSENT
    if not isinstance(value, bytes):
        return None
    name, _, rest = value[:200].partition(b"=")
    try:
        serial, size, _ = rest.split(b";", 2)
        serial, size = int(serial), int(size)
    except ValueError:
        return None
    return serial if name == key and value == make_value(key, serial, size) else None


class Key:
    def __init__(self, name, slot):
        self.name = name
        self.slot = slot
        self.limit = None  # not None: loose for requests sent before this time
        self.trace = collections.deque(maxlen=12)  # the last replies about it

    def happened(self, what, sent):
        self.trace.append((what, sent, time.monotonic()))

    def told(self):
        """The trace, its times in seconds before now: "what (sent, answered)"."""
        now = time.monotonic()
        return "; ".join("%s (%.3f, %.3f)" % (w, s - now, a - now) for w, s, a in self.trace)

    def die(self, limit):
        self.limit = limit

    def is_loose(self, sent):
        """Also ends the looseness when the request was sent after the death."""
        loose = self.limit is not None
        if loose and sent > self.limit:
            self.limit = None
        return loose


class String(Key):
    def __init__(self, name, slot):
        super().__init__(name, slot)
        self.rebase(ABSENT)

    def rebase(self, serial):
        self.may = {serial}      # one of these is there
        self.late = set()        # written by requests of unknown outcome, which may still run
        self.history = [serial]  # what was there this round, the newest last
        self.refused = set()     # writes that were answered "not run"
        self.limit = None

    def wrote(self, serial, sent):
        self.happened("wrote %d" % serial, sent)
        self.is_loose(sent)
        self.may = {serial} | self.late
        self.history.append(serial)

    def maybe_wrote(self, serial, late):
        self.happened("%s %d" % ("unknown" if late else "in part", serial), 0)
        self.may.add(serial)
        self.history.append(serial)
        if late:
            self.late.add(serial)

    def not_written(self, serial):
        if serial != ABSENT:
            self.refused.add(serial)

    def saw(self, value, sent, note):
        """A read answered `value`, a request sent at `sent`."""
        serial = serial_of(self.name, value)
        newest = self.history[-1]
        self.happened("saw %s" % serial, sent)
        if serial is None:
            note("mixed", "%s: this is no value of it: %r" % (self.name.decode(), value[:80] if
                 isinstance(value, bytes) else value))
            return
        loose = self.is_loose(sent)
        if serial in self.may:
            self.may = {serial} | self.late
            return
        if serial in self.refused:
            note("refused-ran", "%s: write %d was answered not run, and is there" % (
                self.name.decode(), serial))
        elif serial > newest and serial not in self.history:
            # A write behind it in the pipeline: this read was refused, and sent again after that.
            note("late", "%s: a read saw write %d, which came behind it (newest %d); %s" % (
                self.name.decode(), serial, newest, self.told()))
            return
        elif serial not in self.history:
            note("mixed", "%s: value %d was never written here (newest %d)" % (
                self.name.decode(), serial, newest))
        else:
            note("lost-replication" if loose else "lost-proxy",
                 "%s: write %s is gone, %s is there; %s" % (
                     self.name.decode(), sorted(self.may), serial, self.told()))
        self.may = {serial} | self.late
        self.history.append(serial)

    def present(self):
        """(least, most) that EXISTS or DEL of it can count."""
        may = set(self.history) if self.limit is not None else self.may
        return int(ABSENT not in may), int(may != {ABSENT})


class Counter(Key):
    def __init__(self, name, slot):
        super().__init__(name, slot)
        self.rebase(0)

    def rebase(self, value):
        self.value = self.base = value  # the least that is there
        self.unknown = 0                # increments of unknown outcome above it
        self.limit = None

    def counted(self, reply, sent, note):
        if not isinstance(reply, int) or isinstance(reply, bool):
            note("mixed", "INCR %s answered %r" % (self.name.decode(), reply))
            return
        self._is(reply, self.value + 1, sent, note)

    def saw(self, value, sent, note):
        try:
            number = int(value or 0)
        except (TypeError, ValueError):
            note("mixed", "%s: no number: %r" % (self.name.decode(), value))
            return
        self._is(number, self.value, sent, note)

    def _is(self, number, least, sent, note):
        self.happened("%d" % number, sent)
        loose = self.is_loose(sent)
        if number > least + self.unknown:
            note("twice", "%s is %d, at most %d + %d unknown were asked for; %s" % (
                self.name.decode(), number, least, self.unknown, self.told()))
            self.unknown = 0
        elif number < least:
            # What was of unknown outcome may have been lost as well as the rest.
            note("lost-replication" if loose and number >= self.base else "lost-proxy",
                 "%s is %d, %d were acknowledged; %s" % (
                     self.name.decode(), number, least, self.told()))
        else:
            self.unknown -= number - least
        self.value = number


class List(Key):
    def __init__(self, name, slot):
        super().__init__(name, slot)
        self.rebase([])

    def rebase(self, items):
        self.items = list(items)  # acknowledged, the oldest first
        self.maybe = set()
        self.refused = set()
        self.short = 0            # how many of the items are known to be lost
        self.limit = None

    def pushed(self, serial, reply, sent, note):
        if not isinstance(reply, int):
            note("mixed", "LPUSH %s answered %r" % (self.name.decode(), reply))
            self.maybe.add(serial)
            return
        self.happened("pushed %d: %d" % (serial, reply), sent)
        loose = self.is_loose(sent)
        self.items.append(serial)
        least = len(self.items) - self.short
        if reply > least + len(self.maybe) + self.short:
            note("twice", "%s has %d elements, at most %d + %d unknown were pushed; %s" % (
                self.name.decode(), reply, least, len(self.maybe), self.told()))
        elif reply < least:
            self.short += least - reply
            if not loose:
                note("lost-proxy", "%s has %d elements, %d were acknowledged; %s" % (
                    self.name.decode(), reply, least, self.told()))

    def maybe_pushed(self, serial):
        self.maybe.add(serial)

    def not_pushed(self, serial):
        self.refused.add(serial)

    def saw(self, reply, sent, note):
        """LRANGE 0 -1: the newest first."""
        name = self.name.decode()
        self.happened("read", sent)
        loose = self.is_loose(sent)
        got = [serial_of(self.name, v) for v in reversed(reply)] if isinstance(reply, list) else None
        if got is None or None in got:
            note("mixed", "LRANGE %s answered %r" % (name, str(reply)[:100]))
            return
        there = set(got)
        if len(there) != len(got):
            note("twice", "%s holds an element twice: %s" % (
                name, sorted(s for s in there if got.count(s) > 1)))
        ran = there & self.refused
        if ran:
            note("refused-ran", "%s holds %s, answered not run" % (name, sorted(ran)))
        foreign = there - set(self.items) - self.maybe - self.refused
        if foreign:
            note("mixed", "%s holds %s, never pushed" % (name, sorted(foreign)))
        missing = [s for s in self.items if s not in there]
        if missing:
            note("lost-replication" if loose or self.short >= len(missing) else "lost-proxy",
                 "%s: elements %s are gone; %s" % (name, missing[:10], self.told()))
        sure = [s for s in got if s not in self.maybe]
        if sure != sorted(sure):
            note("reordered", "%s: elements in the order %s; %s" % (
                name, sure[:80], self.told()))
        self.items = got
        self.maybe -= there
        self.short = 0
