#!/bin/bash
# redis-cli, with -c as a cluster's client.
set -u
cli=(redis-cli -h "$KW_HOST" -p "$KW_PORT" --no-auth-warning)
[ "$KW_MODE" = cluster ] && cli+=(-c)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

k() { echo "$KW_PREFIX:$1"; }
t() { echo "{$KW_PREFIX}:$1"; }

told() { # NAME WANT GOT
    if [ "$2" = "$3" ]; then
        echo "ok $1"
    else
        echo "FAIL $1: expected $2, got ${3:0:200}" | tr '\n' ' '
        echo
    fi
}

later() {
    case ",$KW_LATER," in
        *",$1,"*) echo "later $1" ;;
        *) return 1 ;;
    esac
}

# talk NAME WANT < commands: one call of redis-cli, its lines joined by spaces.
talk() {
    later "$1" || told "$1" "$2" "$(sed "s/@/$KW_PREFIX:/g; s/%/{$KW_PREFIX}:/g" | "${cli[@]}" 2>&1 |
        tr '\n' ' ' | sed 's/ *$//; s/  */ /g')"
}

none() { echo "none $1: $2"; }

heard() { # NAME VERB WHAT CHANNEL WANT
    "${cli[@]}" "$2" "$3" >"$out/heard" 2>&1 &
    local pid=$! i
    for i in $(seq 100); do
        grep -q "^$2" "$out/heard" 2>/dev/null && break
        sleep 0.05
    done
    "${cli[@]}" PUBLISH "$4" hello >/dev/null
    for i in $(seq 100); do
        grep -q '^hello' "$out/heard" && break
        sleep 0.05
    done
    kill $pid
    wait $pid 2>/dev/null
    told "$1" "$5" "$(tail -n +4 "$out/heard" | tr '\n' ' ' | sed 's/ *$//')"
}

# woken NAME WANT WAITING... -- PUSHING...
woken() {
    local name=$1 want=$2 wait=()
    shift 2
    while [ "$1" != -- ]; do
        wait+=("$1")
        shift
    done
    shift
    later "$name" && return
    { sleep 0.3; "${cli[@]}" "$@" >/dev/null; } &
    told "$name" "$want" "$("${cli[@]}" "${wait[@]}" 2>&1 | tr '\n' ' ' | sed 's/ *$//')"
    wait
}

echo "version $(redis-cli --version | cut -d' ' -f2)"
talk ping 'PONG x' <<<$'PING\nPING x'
talk echo 'a b' <<<'ECHO "a b"'
talk set_get 'OK v' <<<$'SET @a v\nGET @a'
talk set_options 'OK OK 1' <<<$'SET @o 1 NX EX 100\nSET @o 2 NX\nSET @o 1 XX\nGET @o'
talk empty_value 'OK 0' <<<$'SET @e ""\nSTRLEN @e'
told binary "$(printf '\0\r\n$-1\r\n\377' | od -An -tx1)" "$(
    printf '\0\r\n$-1\r\n\377' | "${cli[@]}" -x SET "$(k bin)" >/dev/null
    "${cli[@]}" GET "$(k bin)" | head -c 9 | od -An -tx1)"
head -c 1048576 /dev/urandom >"$out/large"
"${cli[@]}" -x SET "$(k large)" <"$out/large" >/dev/null
told large_value "$(cksum <"$out/large")" "$("${cli[@]}" GET "$(k large)" | head -c 1048576 | cksum)"
talk missing_key '-2 0' <<<$'TTL @no\nLLEN @no'
talk incr '1 42 41 41.5' <<<$'INCR @n\nINCRBY @n 41\nDECR @n\nINCRBYFLOAT @n 0.5'
talk append_getrange '5 10 world' <<<$'APPEND @ap hello\nAPPEND @ap world\nGETRANGE @ap 5 -1'
if [ "$KW_MODE" = cluster ]; then m=%; else m=@; fi
talk mset_mget 'OK 1 2 3' <<<"MSET ${m}m1 1 ${m}m2 2 ${m}m3 3
MGET ${m}m1 ${m}m2 ${m}m3"
talk del_exists '3 3 0' <<<"EXISTS ${m}m1 ${m}m2 ${m}m3
DEL ${m}m1 ${m}m2 ${m}m3
EXISTS ${m}m1 ${m}m2"
talk expire_ttl 'OK 1 1 -1' <<<$'SET @ex 1\nEXPIRE @ex 100\nPERSIST @ex\nTTL @ex'
talk bits '0 1 1 7' <<<$'SETBIT @b 7 1\nGETBIT @b 7\nBITCOUNT @b\nBITPOS @b 1'
talk hash '2 a 1 b 2 1' <<<$'HSET @h a 1 b 2\nHGETALL @h\nHDEL @h b'
talk hash_incr '11 11.5' <<<$'HINCRBY @h a 10\nHINCRBYFLOAT @h a 0.5'
talk hscan '1 0 f v' <<<$'HSET @hs f v\nHSCAN @hs 0'
talk list '4 a b c d a d 2' <<<$'RPUSH @l a b c d\nLRANGE @l 0 -1\nLPOP @l\nRPOP @l\nLLEN @l'
talk list_move '2 2 2' <<<$'RPUSH %l1 1 2\nRPOPLPUSH %l1 %l2\nLRANGE %l2 0 -1'
talk set '3 1 2 3 1 3' <<<$'SADD @s 3 1 2\nSMEMBERS @s\nSISMEMBER @s 1\nSCARD @s'
talk set_inter '2 2 2 3' <<<$'SADD %s1 1 2\nSADD %s2 2 3\nSINTER %s1 %s2\nSUNIONSTORE %s3 %s1 %s2'
talk sscan '2 0 1 2' <<<$'SADD @ss 1 2\nSSCAN @ss 0'
talk zset '3 a 1 b 2.5 c 3 1' <<<$'ZADD @z 1 a 2.5 b 3 c\nZRANGE @z 0 -1 WITHSCORES\nZRANK @z b'
talk zset_byscore 'b c' <<<'ZRANGEBYSCORE @z (1 +inf'
talk zset_incr '3.5 3.5' <<<$'ZINCRBY @z 2.5 a\nZSCORE @z a'
talk hyperloglog '1 3' <<<$'PFADD @pf a b c\nPFCOUNT @pf'
talk geo '2 166.2742 C P' <<<$'GEOADD @g 13.361389 38.115556 P 15.087269 37.502669 C
GEODIST @g P C km\nGEOSEARCH @g FROMLONLAT 15 37 BYRADIUS 200 km ASC'
talk stream '1-1 1-2 1-1 a 1 1-2 a 2 2' <<<$'XADD @x 1-1 a 1\nXADD @x 1-2 a 2\nXRANGE @x - +\nXLEN @x'
talk stream_group "OK 1-1 $(k xg) 1-1 a 1 1" <<<$'XGROUP CREATE @xg g 0 MKSTREAM\nXADD @xg 1-1 a 1
XREADGROUP GROUP g c STREAMS @xg >\nXACK @xg g 1-1'
talk type_rename 'OK string OK x' <<<$'SET %r1 x\nTYPE %r1\nRENAME %r1 %r2\nGET %r2'
talk sort '3 1 2 3' <<<$'RPUSH @so 3 1 2\nSORT @so'
echo 'return {KEYS[1], ARGV[1], 7}' >"$out/script.lua"
told eval "$(k ev) x 7" "$("${cli[@]}" --eval "$out/script.lua" "$(k ev)" , x | tr '\n' ' ' |
    sed 's/ *$//')"
sha=$("${cli[@]}" SCRIPT LOAD "return redis.call('incr', KEYS[1])")
told evalsha "1 2" "$("${cli[@]}" EVALSHA "$sha" 1 "$(k es)") $("${cli[@]}" EVALSHA "$sha" 1 "$(k es)")"
sha=$("${cli[@]}" SCRIPT LOAD "return ARGV[1]")
told noscript "aaaaaaaaaa NOSCRIPT" "$(for i in 0 1 2 3 4 5 6 7 8 9; do
    "${cli[@]}" EVALSHA "$sha" 1 "$(k "s$i")" a
done | tr -d '\n') $("${cli[@]}" EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 "$(k s)" | cut -d' ' -f1)"
talk wrong_type 'OK WRONGTYPE Operation against a key holding the wrong kind of value' \
    <<<$'SET @wt 1\nLPUSH @wt 1'
told unknown_command "ERR unknown command 'NOSUCH'" "$("${cli[@]}" NOSUCH a | cut -d, -f1)"
# --pipe sends bytes and waits for its own ECHO to come back.
told pipeline 'errors: 0, replies: 1000' "$(for i in $(seq 1000); do
    key=$(t "p$i")
    printf '*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n' ${#key} "$key" ${#i} "$i"
done | "${cli[@]}" --pipe | tail -1)"
told pipeline_error 'errors: 1, replies: 2' "$(printf 'SET %s x\r\nLPUSH %s 1\r\n' "$(t pe)" "$(t pe)" |
    "${cli[@]}" --pipe 2>/dev/null | tail -1)"
for i in $(seq 300); do echo "SET $(k "scan:$i") x"; done | "${cli[@]}" >/dev/null
told scan "300 300" "$("${cli[@]}" --scan --pattern "$(k 'scan:*')" | sort -u | wc -l) $(
    "${cli[@]}" KEYS "$(k 'scan:*')" | wc -l)"
told dbsize yes "$([ "$("${cli[@]}" DBSIZE)" -ge 300 ] && echo yes)"
told info yes "$("${cli[@]}" INFO server | grep -q '^redis_version:[67]' && echo yes)"
talk client_name 'OK kw-name' <<<$'CLIENT SETNAME kw-name\nCLIENT GETNAME'
heard publish subscribe "$(k ch)" "$(k ch)" "message $(k ch) hello"
heard psubscribe psubscribe "$(k 'p?')" "$(k p1)" "pmessage $(k 'p?') $(k p1) hello"
talk multi 'OK QUEUED QUEUED OK 8' <<<$'MULTI\nSET %tx 7\nINCR %tx\nEXEC'
later watch || told watch "2" "$({ echo "SET $(t w) 1
WATCH $(t w)"; sleep 0.3; echo "MULTI
SET $(t w) 3
EXEC"; } | "${cli[@]}" >/dev/null & sleep 0.15; "${cli[@]}" SET "$(t w)" 2 >/dev/null; wait
    "${cli[@]}" GET "$(t w)")"
talk blpop "1 $(k bl) x" <<<$'RPUSH @bl x\nBLPOP @bl 5'
woken brpop_wait "$(k later) job" BRPOP "$(k later)" 10 -- LPUSH "$(k later)" job
talk bzpopmin "2 $(k bz) b 1" <<<$'ZADD @bz 2 a 1 b\nBZPOPMIN @bz 5'
woken xread_block "$(k xb) 7-7 a 1" XREAD BLOCK 10000 STREAMS "$(k xb)" '$' -- XADD "$(k xb)" 7-7 a 1
echo "done"
