"""Scripts of commands on keys, for comparison between the proxy and a plain server.

A line is a command; all lines of a script run in order, on keys of that script only. A mark in
front says how replies are compared where Redis itself promises less than equality:
    ~  elements in any order      #  integers within 2      ?  the same type only
Keys that one command uses together share the hash tag.
"""

SCRIPTS = {
    "strings": """
        SET s hello | GET s | STRLEN s | GETRANGE s 1 3 | SUBSTR s 0 -2 | SETRANGE s 6 world | GET s
        APPEND s ! | GET s | GETSET s new | GETDEL s | GET s | GETDEL s | SETNX s 1 | SETNX s 2
        SET s 1 NX | SET s 2 XX GET | SET s2 5 EX 1000 GET | #TTL s2 | SET s2 6 KEEPTTL | #TTL s2
        INCR n | INCRBY n 41 | DECR n | DECRBY n 10 | INCRBYFLOAT n 0.5 | INCR n | SET n x | INCR n
        SETEX x 1000 v | #TTL x | PSETEX px 1000000 v | #TTL px | GETEX x PERSIST | TTL x
        GETEX x EX 500 | #TTL x | SET s v PX | SET s v EX 0 | SET s v EX abc | SET s a b c
        SETRANGE s -1 x | GETRANGE nokey 0 -1 | MGET one | MSET one 1 | MSETNX one 2 | GET one
        LCS {l}a {l}b | MSET {l}a ohmytext {l}b mynewtext | LCS {l}a {l}b | LCS {l}a {l}b LEN
        LCS {l}a {l}b IDX WITHMATCHLEN""",
    "bits": """
        SETBIT b 7 1 | GETBIT b 7 | GETBIT b 100 | SETBIT b 100 1 | BITCOUNT b | BITCOUNT b 0 0
        BITCOUNT b 0 50 BIT | BITPOS b 1 | BITPOS b 0 1 | BITFIELD b SET u8 0 200 GET u4 0
        BITFIELD b OVERFLOW FAIL INCRBY u2 0 3 INCRBY u2 0 3 | BITFIELD_RO b GET i5 3
        SETBIT {o}a 1 1 | SETBIT {o}b 2 1 | BITOP OR {o}d {o}a {o}b | BITOP NOT {o}n {o}a
        BITOP AND {o}d {o}a {o}b | BITOP XOR {o}d {o}a {o}b | GET {o}d | SETBIT b -1 1
        BITFIELD b GET u99 0""",
    "hyperloglogs": """
        PFADD {h}a a b c d | PFADD {h}a a | PFADD {h}b d e f | PFCOUNT {h}a | PFCOUNT {h}a {h}b
        PFMERGE {h}m {h}a {h}b | PFCOUNT {h}m | PFDEBUG ENCODING {h}a | SET {h}s x | PFADD {h}s a""",
    "lists": """
        RPUSH l a b c d | LPUSH l z | LPUSHX l y | RPUSHX l e | LPUSHX none x | RPUSHX none x
        LRANGE l 0 -1 | LLEN l | LINDEX l 0 | LINDEX l 99 | LINSERT l BEFORE c bb
        LINSERT l AFTER nosuch x | LSET l 0 Y | LSET l 99 x | LREM l 1 bb | LPOS l c
        LPOS l c RANK 1 COUNT 0 | LTRIM l 1 -2 | LRANGE l 0 -1 | LPOP l | RPOP l | LPOP l 2 | RPOP l 9
        LPOP l | LPOP l 2 | RPUSH {m}a 1 2 3 4 | LMOVE {m}a {m}b LEFT RIGHT | RPOPLPUSH {m}a {m}b
        LRANGE {m}b 0 -1 | LMPOP 2 {m}x {m}a LEFT COUNT 2 | LMPOP 1 {m}x RIGHT | SORT {m}b DESC
        SORT {m}b ALPHA LIMIT 0 1 | SORT {m}b STORE {m}s | LRANGE {m}s 0 -1 | SORT_RO {m}b
        SET {m}str x | LPUSH {m}str y | LLEN {m}str""",
    "hashes": """
        HSET h f1 v1 f2 v2 f3 v3 | HGET h f1 | HGET h none | HMGET h f1 none f3 | HGETALL h | HKEYS h
        HVALS h | HLEN h | HEXISTS h f1 | HEXISTS h none | HDEL h f1 none | HSETNX h f2 x
        HSETNX h f4 4 | HINCRBY h f4 3 | HINCRBYFLOAT h f4 0.5 | HINCRBY h f2 1 | HSTRLEN h f2
        HMSET h a 1 b 2 | HRANDFIELD one | HSET one f v | HRANDFIELD one | HRANDFIELD one 2 WITHVALUES
        HRANDFIELD one -2 | HSCAN h 0 | HSCAN h 0 MATCH f* COUNT 10 | HGETALL none | HMSET h a""",
    "sets": """
        SADD {s}a a b c | SADD {s}a a | SADD {s}b b c d | SCARD {s}a | SISMEMBER {s}a a
        SISMEMBER {s}a x | SMISMEMBER {s}a a x b | ~SMEMBERS {s}a | ~SDIFF {s}a {s}b
        ~SINTER {s}a {s}b | ~SUNION {s}a {s}b {s}none | SDIFFSTORE {s}d {s}a {s}b
        SINTERSTORE {s}i {s}a {s}b | SUNIONSTORE {s}u {s}a {s}b | ~SMEMBERS {s}u
        SINTERCARD 2 {s}a {s}b | SINTERCARD 2 {s}a {s}b LIMIT 1 | SMOVE {s}a {s}b a | SREM {s}b a zz
        SADD {s}one x | SRANDMEMBER {s}one | SRANDMEMBER {s}one 5 | SRANDMEMBER {s}one -2
        SPOP {s}one | SPOP {s}one | SADD {s}one x | SPOP {s}one 3 | SADD {s}int 3 1 2 | SMEMBERS {s}int
        SSCAN {s}int 0 | ~SSCAN {s}b 0 | SMEMBERS {s}none""",
    "sorted sets": """
        ZADD {z}a 1 a 2 b 3 c | ZADD {z}a NX 9 a | ZADD {z}a XX CH 5 a | ZADD {z}a GT CH 1 a
        ZADD {z}a INCR 1.5 a | ZADD {z}a NX INCR 1 a | ZCARD {z}a | ZSCORE {z}a a | ZSCORE {z}a none
        ZMSCORE {z}a a none b | ZRANK {z}a b | ZREVRANK {z}a b | ZRANK {z}a none | ZINCRBY {z}a 2 b
        ZRANGE {z}a 0 -1 | ZRANGE {z}a 0 -1 WITHSCORES | ZRANGE {z}a 2 5 BYSCORE LIMIT 0 2
        ZRANGE {z}a 5 2 BYSCORE REV | ZREVRANGE {z}a 0 -1 WITHSCORES
        ZRANGEBYSCORE {z}a -inf +inf WITHSCORES | ZRANGEBYSCORE {z}a (3 5 | ZREVRANGEBYSCORE {z}a 5 0
        ZCOUNT {z}a 2 4 | ZADD {z}l 0 a 0 b 0 c | ZRANGEBYLEX {z}l [a (c | ZREVRANGEBYLEX {z}l + -
        ZLEXCOUNT {z}l - + | ZRANGESTORE {z}r {z}a 0 1 | ZADD {z}b 10 b 20 x
        ZUNION 2 {z}a {z}b WITHSCORES | ZINTER 2 {z}a {z}b WITHSCORES | ZDIFF 2 {z}a {z}b WITHSCORES
        ZUNIONSTORE {z}u 2 {z}a {z}b WEIGHTS 2 1 AGGREGATE MAX | ZRANGE {z}u 0 -1 WITHSCORES
        ZINTERSTORE {z}i 2 {z}a {z}b | ZDIFFSTORE {z}d 2 {z}a {z}b | ZINTERCARD 2 {z}a {z}b
        ZREM {z}a c none | ZREMRANGEBYRANK {z}u 0 0 | ZREMRANGEBYSCORE {z}u 0 10
        ZREMRANGEBYLEX {z}l [a [b | ZADD {z}p 1 a 2 b 3 c 4 d | ZPOPMIN {z}p | ZPOPMAX {z}p 2
        ZPOPMIN {z}none | ZMPOP 2 {z}none {z}p MAX COUNT 5 | ZMPOP 1 {z}none MIN | ZADD {z}o 1.25 x
        ZRANDMEMBER {z}o | ZRANDMEMBER {z}o 2 WITHSCORES | ZSCAN {z}o 0 | ZADD {z}o nan x
        ZADD {z}o inf y | ZSCORE {z}o y | ZRANGE {z}a 0 -1 LIMIT 0 1""",
    "geo": """
        GEOADD {g} 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | GEODIST {g} Palermo Catania
        GEODIST {g} Palermo none | GEOPOS {g} Palermo none | GEOHASH {g} Palermo Catania
        GEORADIUS {g} 15 37 200 km WITHDIST WITHCOORD ASC | GEORADIUS_RO {g} 15 37 100 km
        GEORADIUSBYMEMBER {g} Palermo 200 km ASC | GEORADIUSBYMEMBER_RO {g} Palermo 10 km
        GEOSEARCH {g} FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST
        GEOSEARCHSTORE {g}d {g} FROMMEMBER Palermo BYRADIUS 200 km | ZCARD {g}d
        GEORADIUS {g} 15 37 200 km STORE {g}s | ZCARD {g}s
        GEORADIUSBYMEMBER {g} Palermo 200 km STOREDIST {g}t | GEOADD {g} 999 0 x""",
    "streams": """
        XADD {x} 1-1 a 1 | XADD {x} 1-2 b 2 | XADD {x} 1-1 c 3 | XADD {x} 2-* d 4 | XADD {x} MAXLEN ~ 100 3-1 e 5
        XADD none NOMKSTREAM * a 1 | XLEN {x} | XRANGE {x} - + | XREVRANGE {x} + - COUNT 2
        XREAD COUNT 2 STREAMS {x} 0 | XREAD STREAMS {x} {x}y 0 0 | XREAD STREAMS {x} $
        XGROUP CREATE {x} g 0 | XGROUP CREATE {x} g 0 | XGROUP CREATE {x}m g $ MKSTREAM
        XGROUP CREATECONSUMER {x} g c0 | XREADGROUP GROUP g c1 COUNT 2 STREAMS {x} >
        XREADGROUP GROUP g c1 STREAMS {x} 0 | XREADGROUP GROUP nog c1 STREAMS {x} > | XPENDING {x} g
        ?XPENDING {x} g - + 10 | XACK {x} g 1-1 | XCLAIM {x} g c2 0 1-2 | XAUTOCLAIM {x} g c3 0 0
        XCLAIM {x} g c2 0 1-2 JUSTID | XINFO STREAM {x} | ?XINFO STREAM {x} FULL | XINFO GROUPS {x}
        ?XINFO CONSUMERS {x} g | XINFO STREAM none | XGROUP SETID {x} g 0 | XGROUP DELCONSUMER {x} g c2
        XGROUP DESTROY {x} g | XDEL {x} 1-1 | XTRIM {x} MAXLEN 1 | XSETID {x} 9-9 | XLEN {x}
        XRANGE {x} - + | XADD {x} 0-0 a 1 | XGROUP SETID none g 0""",
    "generic": """
        SET {k} v | TYPE {k} | TYPE none | EXISTS {k} | EXISTS {k} {k} {k}none | EXPIRE {k} 1000 | #TTL {k}
        EXPIRE {k} 2000 NX | EXPIRE {k} 500 LT | PEXPIRE {k} 2000000 | #PTTL none | PERSIST {k}
        PERSIST {k} | TTL {k} | PTTL {k} | EXPIREAT {k} 33177117420 | EXPIRETIME {k} | PEXPIRETIME {k}
        PEXPIREAT {k} 33177117420000 | PEXPIRETIME {k} | RENAME {k} {k}2 | RENAME {k} {k}3
        RENAMENX {k}2 {k}4 | SET {k} w | RENAMENX {k} {k}4 | COPY {k} {k}5 | COPY {k} {k}5
        COPY {k} {k}5 REPLACE | TOUCH {k} {k}5 {k}none | OBJECT ENCODING {k} | OBJECT REFCOUNT {k}
        #OBJECT IDLETIME {k} | OBJECT FREQ {k} | OBJECT ENCODING none | ?MEMORY USAGE {k}
        MEMORY USAGE none | DUMP none | DUMP {k} | UNLINK {k} {k}none | DEL {k}4 {k}5 {k}none | DEL {k}
        SET {k} 12345 | OBJECT ENCODING {k} | EXPIRE {k} -1 | GET {k}
        EXPIRE {k} abc | RESTORE {k} 0 bad""",
    "scripts": """
        EVAL 'return_1' 0 | SET {e} 5 | EVAL return(redis.call('incr',KEYS[1])) 1 {e}
        EVAL return{KEYS[1],ARGV[1],1,2.9,false} 1 {e} a | EVAL return(redis.call('get',KEYS[1])) 1 {e}none
        EVAL return(redis.call('lpush',KEYS[1],'x')) 1 {e} | EVAL return{err='MY_oops'} 1 {e}
        EVAL return{ok='FINE'} 1 {e} | EVAL_RO return(redis.call('get',KEYS[1])) 1 {e}
        EVAL_RO return(redis.call('set',KEYS[1],'1')) 1 {e} | EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 {e}
        EVAL return(redis.sha1hex('x')) 1 {e} | EVAL return{{1,{2}},'x'} 2 {e} {e}b
        EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 1 {e} | FCALL kw_get 1 {e} | FCALL_RO kw_get 1 {e}
        FCALL nosuch 1 {e} | EVAL syntax_error( 1 {e}
        EVAL return(redis.error_reply('MOVED_1_127.0.0.1:1')) 1 {e}
        EVAL return(cjson.encode({1,2})) 1 {e} | FCALL kw_get 1 {e}none""",
    "RESP3 types from scripts": """
        EVAL redis.setresp(3);return({double=3.25}) 1 {r} | EVAL redis.setresp(3);return({map={a=1}}) 1 {r}
        EVAL redis.setresp(3);return({set={x=true}}) 1 {r} | EVAL redis.setresp(3);return(true) 1 {r}
        EVAL redis.setresp(3);return(nil) 1 {r} | EVAL redis.setresp(3);return(false) 1 {r}
        EVAL redis.setresp(3);return({big_number='12345678901234567890123'}) 1 {r}
        EVAL redis.setresp(3);return({verbatim_string={format='txt',string='hi'}}) 1 {r}""",
}

# Commands with a key that are not in the scripts, and why.
ELSEWHERE = {
    # they block: a later stage, refused now (40_local.py)
    "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop",
    # transactions and channels: likewise
    "watch", "spublish", "ssubscribe", "sunsubscribe",
    # for the servers among themselves, or their operators
    "restore-asking", "migrate",
    # a cluster has one database: MOVE means something else on a plain server
    "move",
}


def lines():
    """(script name, mark, argv) of every line."""
    for name, text in SCRIPTS.items():
        for line in text.replace("\n", "|").split("|"):
            line = line.strip()
            if not line:
                continue
            mark = ""
            if line[0] in "~#?":
                mark, line = line[0], line[1:]
            yield name, mark, line.split()
