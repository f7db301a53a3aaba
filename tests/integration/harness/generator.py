"""Random commands of every type, for comparison between the proxy and a plain server.

A form is a command in a small language, one a line:
    <s> <l> ...   a key (KEYS below: mostly of the type that the command wants) or an argument (ARGS)
    a|b|c         one of these words
    ( ... )?      sometimes left out        ( ... )+   once to three times
    ~ in front    the reply has no order: compared sorted    % in front    by type and length only
    # in front    integers may differ by a few (times)       ? in front    by type only

What is not in here, and why, is written in 22_oracle.py.
"""
import random
import re

FORMS = """
GET <s>
SET <s> <v> (NX|XX)? (GET)? (EX|PX 1000000|KEEPTTL)?
SET <s> <v> EX <ttl>
SET <s> <i>
SETNX <s> <v>
SETEX <s> <ttl> <v>
PSETEX <s> 5000000 <v>
GETSET <s> <v>
GETDEL <s>
GETEX <s> (PERSIST|<w>)?
APPEND <s> <v>
STRLEN <s>
GETRANGE <s> <i> <i>
SUBSTR <s> <i> <i>
SETRANGE <s> <off> <v>
INCR|DECR <s>
INCRBY|DECRBY <s> <i>
INCRBYFLOAT <s> <f>
MGET (<s>)+ (<any>)?
MSET (<s> <v>)+
MSETNX (<s> <v>)+
LCS <s> <s> (LEN|IDX)?
LCS <s> <s> IDX MINMATCHLEN <n> WITHMATCHLEN
SETBIT <b> <off> 0|1
GETBIT <b> <off>
BITCOUNT <b> (<i> <i> (BYTE|BIT)?)?
BITPOS <b> 0|1 (<i> (<i> (BYTE|BIT)?)?)?
BITOP AND|OR|XOR|NOT <b> <b> (<b>)?
BITFIELD <b> (GET u8 <off>)? (SET i5 <off> <i>)? (OVERFLOW WRAP|SAT|FAIL INCRBY u3 <off> <i>)?
BITFIELD_RO <b> GET u8 <off>
PFADD <p> (<v>)+
PFCOUNT (<p>)+
PFMERGE <p> (<p>)+
LPUSH <l> (<v>)+
RPUSH <l> (<v>)+
RPUSH <l> (<i>)+
LPUSHX|RPUSHX <l> (<v>)+
LPOP|RPOP <l> (<n>)?
LLEN <l>
LRANGE <l> <i> <i>
LINDEX <l> <i>
LSET <l> <i> <v>
LINSERT <l> BEFORE|AFTER <v> <v>
LREM <l> <i> <v>
LTRIM <l> <i> <i>
LPOS <l> <v> (RANK <i>)? (COUNT <n>)? (MAXLEN <n>)?
LMOVE <l> <l> LEFT|RIGHT LEFT|RIGHT
RPOPLPUSH <l> <l>
LMPOP <nk1> <l> LEFT|RIGHT (COUNT <n>)?
LMPOP 2 <l> <l> LEFT|RIGHT (COUNT <n>)?
SORT <l> (LIMIT <i> <n>)? (ALPHA)? (ASC|DESC)?
SORT <l> ALPHA STORE <l>
SORT_RO <l> ALPHA
HSET <h> (<m> <v>)+
HMSET <h> (<m> <v>)+
HSETNX <h> <m> <v>
HGET <h> <m>
HMGET <h> (<m>)+
~HGETALL <h>
~HKEYS <h>
~HVALS <h>
HLEN <h>
HEXISTS <h> <m>
HSTRLEN <h> <m>
HDEL <h> (<m>)+
HINCRBY <h> <m> <i>
HINCRBYFLOAT <h> <m> <f>
%HRANDFIELD <h> (<n> (WITHVALUES)?)?
~HSCAN <h> 0 COUNT 10000 (MATCH a*)?
SADD <t> (<m>)+
SADD <t> (<i>)+
SREM <t> (<m>)+
SCARD <t>
SISMEMBER <t> <m>
SMISMEMBER <t> (<m>)+
~SMEMBERS <t>
SMOVE <t> <t> <m>
~SINTER (<t>)+
~SUNION (<t>)+
~SDIFF (<t>)+
SINTERSTORE <t> (<t>)+
SUNIONSTORE <t> (<t>)+
SDIFFSTORE <t> (<t>)+
SINTERCARD <nk1> <t> (LIMIT <n>)?
SINTERCARD 2 <t> <t> (LIMIT <n>)?
%SRANDMEMBER <t> (<n>)?
~SSCAN <t> 0 COUNT 10000
ZADD <z> (NX|XX)? (GT|LT)? (CH)? (<f> <m>)+
ZADD <z> INCR <f> <m>
ZADD <z> (<i> <m>)+
ZREM <z> (<m>)+
ZCARD <z>
ZSCORE <z> <m>
ZMSCORE <z> (<m>)+
ZINCRBY <z> <f> <m>
ZRANK <z> <m>
ZREVRANK <z> <m>
ZCOUNT <z> <zmin> <zmax>
?ZLEXCOUNT <z> <lmin> <lmax>
ZRANGE <z> <i> <i> (REV)? (WITHSCORES)?
ZRANGE <z> <zmin> <zmax> BYSCORE (LIMIT <off> <i>)? (WITHSCORES)?
?ZRANGE <z> <lmin> <lmax> BYLEX (REV)? (LIMIT <off> <i>)?
ZREVRANGE <z> <i> <i> (WITHSCORES)?
ZRANGEBYSCORE <z> <zmin> <zmax> (WITHSCORES)? (LIMIT <off> <i>)?
ZREVRANGEBYSCORE <z> <zmax> <zmin> (WITHSCORES)?
?ZRANGEBYLEX <z> <lmin> <lmax>
?ZREVRANGEBYLEX <z> <lmax> <lmin>
ZRANGESTORE <z> <z> <i> <i>
ZREMRANGEBYRANK <z> <i> <i>
ZREMRANGEBYSCORE <z> <f> <f>
ZPOPMIN|ZPOPMAX <z> (<n>)?
ZMPOP <nk1> <z> MIN|MAX (COUNT <n>)?
ZMPOP 2 <z> <z> MIN|MAX (COUNT <n>)?
ZUNION 2 <z> <zt> (WEIGHTS <n> <f>)? (AGGREGATE SUM|MIN|MAX)? (WITHSCORES)?
ZINTER 2 <z> <zt> (WITHSCORES)?
ZDIFF 2 <z> <zt> (WITHSCORES)?
ZUNIONSTORE <z> 2 <z> <zt> (AGGREGATE MIN)?
ZINTERSTORE <z> 2 <z> <zt>
ZDIFFSTORE <z> 2 <z> <zt>
ZINTERCARD 2 <z> <zt> (LIMIT <n>)?
%ZRANDMEMBER <z> (<n> (WITHSCORES)?)?
~ZSCAN <z> 0 COUNT 10000
GEOADD <g> (NX|XX)? (CH)? (<lon> <lat> <m>)+
GEOPOS <g> (<m>)+
GEODIST <g> <m> <m> (m|km|ft|mi|x)?
GEOHASH <g> (<m>)+
GEOSEARCH <g> FROMLONLAT <lon> <lat> BYRADIUS <dist> km ASC (COUNT <n>)? (WITHCOORD)? (WITHDIST)?
GEOSEARCH <g> FROMMEMBER <m> BYBOX <dist> <dist> km DESC (WITHHASH)?
GEOSEARCHSTORE <z> <g> FROMLONLAT <lon> <lat> BYRADIUS <dist> km ASC (STOREDIST)?
GEORADIUS <g> <lon> <lat> <dist> km ASC (WITHDIST)? (COUNT <n>)?
GEORADIUS_RO <g> <lon> <lat> <dist> km DESC
GEORADIUSBYMEMBER <g> <m> <dist> km ASC
GEORADIUS <g> <lon> <lat> <dist> km STORE <z>
XADD <x> (NOMKSTREAM)? (MAXLEN|MINID (~)? <n>)? <id> (<m> <v>)+
XADD <x> <id> (<m> <v>)+
XLEN <x>
XRANGE <x> -|<id> +|<id> (COUNT <n>)?
XREVRANGE <x> +|<id> -|<id> (COUNT <n>)?
XDEL <x> (<id>)+
XTRIM <x> MAXLEN|MINID <n>
XREAD (COUNT <n>)? STREAMS <x> <id>
XREAD STREAMS <x> <x> 0 0
XSETID <x> <id>
XGROUP CREATE <x> <grp> 0|$|<id> (MKSTREAM)?
XGROUP CREATECONSUMER <x> <grp> <m>
XGROUP DELCONSUMER <x> <grp> <m>
XGROUP SETID <x> <grp> 0|$|<id>
XGROUP DESTROY <x> <grp>
XREADGROUP GROUP <grp> <m> (COUNT <n>)? (NOACK)? STREAMS <x> >|0
XACK <x> <grp> (<id>)+
XPENDING <x> <grp>
?XPENDING <x> <grp> - + 10
XCLAIM <x> <grp> <m> 0 <id> (JUSTID)?
XAUTOCLAIM <x> <grp> <m> 0 0 (COUNT <n>)? (JUSTID)?
XINFO STREAM <x>
XINFO GROUPS <x>
?XINFO CONSUMERS <x> <grp>
?XINFO STREAM <x> FULL
DEL (<any>)+
UNLINK (<any>)+
EXISTS (<any>)+
TOUCH (<any>)+
TYPE <any>
EXPIRE <any> <ttl> (NX|XX|GT|LT)?
PEXPIRE <any> 5000000
EXPIREAT <any> 33177117420
PEXPIREAT <any> 33177117420000 (NX|GT)?
EXPIRE <any> -1
PERSIST <any>
#TTL <any>
?PTTL <any>
#EXPIRETIME <any>
?PEXPIRETIME <any>
RENAME <any> <any>
RENAMENX <any> <any>
COPY <any> <any> (REPLACE)?
OBJECT ENCODING <any>
OBJECT REFCOUNT <s>
?OBJECT IDLETIME <any>
OBJECT FREQ <any>
?MEMORY USAGE <any>
?DUMP <any>
RESTORE <any> 0 <v>
DBSIZE
~KEYS *
~KEYS <v>
EVAL <lua> 1 <any> <v>
EVAL <lua> 1 <s> <i>
EVAL <lua> 2 <s> <s> <v>
EVAL <lua> <i> <s> <v>
EVAL <lua> 0 <v>
EVAL_RO <lua> 1 <any> <v>
EVALSHA <sha> 1 <any> <v>
EVALSHA_RO <sha> 1 <s>
FCALL <fun> 1 <any> <v>
FCALL_RO <fun> 1 <any> <v>
SCRIPT EXISTS <sha> <sha>
PING (<v>)?
ECHO <v>
SELECT 0|<w>
?TIME
OBJECT HELP
OBJECT <w> <any>
XGROUP <w> <x>
<w> <any> <v>
CLIENT GETNAME
"""
# Supported by the proxy or not: asked first (Sequence's `extra`).
BLOCKING = """
BLPOP (<l>)+ 0.01
BRPOP <l> 0.01|-1|x
BLMOVE <l> <l> LEFT|RIGHT LEFT|RIGHT 0.01
BRPOPLPUSH <l> <l> 0.01
BLMPOP 0.01 1 <l> LEFT|RIGHT (COUNT <n>)?
BZPOPMIN <z> 0.01
BZPOPMAX <z> 0.01|-1
BZMPOP 0.01 1 <z> MIN|MAX
XREAD BLOCK 5 STREAMS <x> <id>|$
XREADGROUP GROUP <grp> <m> BLOCK 5 STREAMS <x> >
"""

LUA = [
    "return 1", "return ARGV[1]", "return KEYS[1]", "return {1, {2, 'x', false}, 3.7}",
    "return redis.call('get', KEYS[1])", "return redis.call('incr', KEYS[1])",
    "return redis.pcall('lpush', KEYS[1], ARGV[1])", "return redis.call('type', KEYS[1])",
    "return {err = 'MY error text'}", "return {ok = 'FINE'}", "return redis.call('nosuch')",
    "return redis.call('set', KEYS[1])", "redis.call('set', KEYS[1], ARGV[1]) return 7",
    "return #ARGV", "return redis.sha1hex(ARGV[1] or '')", "syntax error (",
    "redis.setresp(3) return {double = 3.5}", "redis.setresp(3) return {map = {a = 1}}",
    "return cjson.encode({KEYS[1], 1})", "error('thrown')", "return nil", "return true",
    "return redis.call('exists', KEYS[1], KEYS[2])", "return redis.error_reply('MOVED 1 h:1')",
]
FUNCTIONS = ("#!lua name=oracle\n"
             "redis.register_function('ora_set', function(k, a) "
             "return redis.call('set', k[1], a[1]) end)\n"
             "redis.register_function{function_name='ora_type', callback=function(k, a) "
             "return redis.call('type', k[1]) end, flags={'no-writes'}}")

TYPES = "slhtzxbpg"  # of keys; <zt> is a sorted set or a set, <any> any of them
VALUES = [b"", b"a", b"b", b"c", b"abc", b"hello world", b"10", b"-1", b"3.25", b"0", b"n\0", b"\r\n",
          b"$3\r\nabc\r\n", b"\xff\xfe", b"x" * 70, b"+OK", b"a{b}c", b"*", b" ", "\u00e9".encode()]
GARBAGE = [b"", b"abc", b"g\0\r\n", b"9223372036854775808", b"-9223372036854775809", b"1e300", b"nan",
           b"-0", b"0x10", b" 1", b"1 ", b"+1", b"'", b"\"", b"(", b"[", b"\xff" * 3, b"99999999999",
           b"-1", b"00", b"1.5", b"*1", b"x" * 5000]


def _parse(words):
    """A form as a list of ("word", text) and ("group", mark, list)."""
    out, stack = [], []
    for word in re.findall(r"\)[?+]|\(|[^\s()]+", words):
        if word == "(":
            stack.append(out)
            out = []
        elif word[0] == ")":
            group, out = out, stack.pop()
            out.append(("group", word[1], group))
        else:
            out.append(("word", word))
    return out


def parse_forms(text):
    """[(mark, parsed form)]"""
    out = []
    for line in filter(None, text.splitlines()):
        mark = line[0] if line[0] in "~%#?" else ""
        out.append((mark, _parse(line[len(mark):])))
    return out


class Generator:
    """`tag`: keys all carry one hash tag (True) or none. Equal seeds give equal commands."""

    def __init__(self, seed, tag, extra=""):
        self.rng = random.Random(seed)
        self.prefix = b"{o}" if tag else b""
        self.forms = parse_forms(FORMS + extra)
        self.spared = {b"SELECT"} | {line.split()[0].encode() for line in BLOCKING.split("\n") if "BLOCK " not in line
                                     and line}
        self.shas = [b"f" * 40]

    def keys(self):
        return [self.prefix + b"%c%d" % (t.encode(), i) for t in TYPES for i in range(4)] + [
            self.prefix + k for k in (b"", b"\0\r\n", b"none")]

    def key(self, kinds):
        roll = self.rng.random()
        if roll < 0.05:
            kinds = TYPES
        elif roll < 0.08:
            return self.prefix + self.rng.choice([b"", b"\0\r\n", b"none"])
        return self.prefix + b"%c%d" % (self.rng.choice(kinds).encode(), self.rng.randrange(4))

    def word(self, text):
        rng = self.rng
        text = rng.choice(text.split("|"))
        if text[0] != "<":
            return text.encode()
        kind = text[1:-1]
        if kind in TYPES:
            return self.key(kind)
        if kind == "any":
            return self.key(TYPES)
        if kind == "zt":
            return self.key("zzt")
        if kind == "sha":
            return rng.choice(self.shas)
        pick = {
            "v": lambda: rng.choice(VALUES), "m": lambda: rng.choice(VALUES[:8]),
            "i": lambda: b"%d" % rng.choice([-100, -2, -1, 0, 1, 2, 3, 7, 100, 1 << 40]),
            "n": lambda: b"%d" % rng.choice([0, 1, 2, 3, 10]),
            "nk1": lambda: rng.choice([b"1", b"1", b"1", b"0", b"-1", b"x"]),
            "off": lambda: b"%d" % rng.choice([0, 1, 5, 7, 31, 64, 200, -1]),
            "f": lambda: rng.choice([b"0", b"1", b"-1.5", b"2.25", b"3", b"1e3", b"inf", b"-inf",
                                     b"100"]),
            "ttl": lambda: b"%d" % rng.choice([5000, 9000, 100000, 0, -5]),
            "zmin": lambda: rng.choice([b"-inf", b"0", b"(1", b"1", b"x"]),
            "zmax": lambda: rng.choice([b"+inf", b"3", b"(100", b"-5"]),
            "lmin": lambda: rng.choice([b"-", b"[a", b"(b", b"x"]),
            "lmax": lambda: rng.choice([b"+", b"[c", b"(abc"]),
            "lon": lambda: rng.choice([b"13.361389", b"15.087269", b"0", b"-120.5", b"181"]),
            "lat": lambda: rng.choice([b"38.115556", b"37.502669", b"0", b"60.25"]),
            "dist": lambda: rng.choice([b"100", b"5000", b"0.5", b"-1"]),
            "id": lambda: b"%d-%d" % (rng.randrange(1, 400), rng.randrange(3)),
            "grp": lambda: rng.choice([b"g1", b"g2", b"g\0"]),
            "lua": lambda: rng.choice(LUA).encode(),
            "fun": lambda: rng.choice([b"ora_set", b"ora_type", b"nosuch"]),
            "w": lambda: rng.choice([b"NOSUCH", b"", b"x\r\ny", b"get\0", b"-"]),
        }
        return pick[kind]()

    def expand(self, form):
        out = []
        for part in form:
            if part[0] == "word":
                out.append(self.word(part[1]))
            elif part[1] == "?":
                out += self.expand(part[2]) if self.rng.random() < 0.5 else []
            else:
                for _ in range(self.rng.choice([1, 1, 2, 3])):
                    out += self.expand(part[2])
        return out

    def mutate(self, argv):
        """An argument too many or too few, nonsense in the place of one, another case."""
        rng, argv = self.rng, list(argv)
        what = rng.randrange(6)
        at = rng.randrange(1, len(argv)) if len(argv) > 1 else 0
        if what == 0 and len(argv) > 1:
            del argv[at]
        elif what == 1:
            argv.insert(at or 1, rng.choice(GARBAGE))
        elif what == 2 and at:
            argv[at] = rng.choice(GARBAGE)
        elif what == 3:
            argv = argv[:max(1, at)]
        elif what == 4:
            argv[0] = argv[0].swapcase()
        else:
            argv.append(rng.choice(VALUES))
        return argv

    def any_args(self, count):
        """So many arguments that fit nothing in particular. No small numbers: they would be times
        to live."""
        rng = self.rng
        return [rng.choice([self.key(TYPES), self.key(TYPES), b"0", b"-1", b"1099511627776",
                            rng.choice(GARBAGE), rng.choice(VALUES[:6] + VALUES[7:17])])
                for _ in range(count)]

    def mark_of(self, name):
        """How replies of a command are compared, whatever its arguments are."""
        marks = {mark for mark, form in self.forms
                 if form[0][1].encode() == name[0].upper() and mark}
        return "?" if name[0].endswith(b"scan") else marks.pop() if len(marks) == 1 else ""

    def next(self):
        """(mark, argv)"""
        mark, form = self.rng.choice(self.forms)
        argv = self.expand(form)
        # 0 is for ever, and so are "00" and "-0"
        spared = argv[0] in self.spared or b"BLOCK" in argv
        if not spared and self.rng.random() < 0.12:
            argv = self.mutate(argv)
            if mark == "~" and argv[0].upper().endswith(b"SCAN"):
                mark = "?"  # not from its begin: what a hash table still has behind a cursor
        return mark, argv
