<?php
// phpredis: Redis, RedisCluster, RedisSentinel.
error_reporting(E_ALL & ~E_DEPRECATED);
$mode = getenv('KW_MODE');
$prefix = getenv('KW_PREFIX');
$host = getenv('KW_HOST');
$port = (int)getenv('KW_PORT');
$later = explode(',', getenv('KW_LATER'));

function one_server(): Redis
{
    global $host, $port;
    $c = new Redis();
    $c->connect($host, $port, 20, null, 0, 20);
    return $c;
}

function connect()
{
    global $mode, $host, $port;
    if ($mode === 'cluster') {
        return new RedisCluster(null, ["$host:$port"], 20, 20);
    }
    if ($mode === 'sentinel') {
        $sentinel = new RedisSentinel($host, $port, 20, null, 0, 20);
        [$h, $p] = $sentinel->getMasterAddrByName('mymaster');
        $c = new Redis();
        $c->connect($h, (int)$p, 20, null, 0, 20);
        return $c;
    }
    return one_server();
}

function k($name) { global $prefix; return "$prefix:$name"; }
function t($name) { global $prefix; return "{{$prefix}}:$name"; }

function same($want, $got)
{
    if ($want !== $got) {
        throw new Exception('expected ' . json_encode($want) . ', got ' .
            json_encode($got, JSON_INVALID_UTF8_SUBSTITUTE));
    }
}

function op($name, $function)
{
    global $later;
    if (in_array($name, $later)) {
        echo "later $name\n";
        return;
    }
    try {
        $function();
        echo "ok $name\n";
    } catch (Throwable $e) {
        echo "FAIL $name: ", get_class($e), ': ',
            substr(strtr($e->getMessage(), "\n", ' '), 0, 300), "\n";
    }
}

// A command in a second, later, by another process: PHP has no threads.
function soon(...$argv)
{
    global $host, $port;
    $line = implode(' ', array_map('escapeshellarg', $argv));
    proc_close(proc_open("(sleep 0.3; exec redis-cli -h $host -p $port $line) >/dev/null 2>&1 &",
        [], $pipes));
}

// The error that the last call left, which phpredis does not throw.
function fails($text, $c, $function)
{
    $c->clearLastError();
    $got = $function();
    $error = $c->getLastError();
    if ($error === null || strpos($error, $text) === false) {
        throw new Exception("expected an error with $text, got " . json_encode([$got, $error]));
    }
}

// Those who subscribe block: another process publishes.
function heard($pattern)
{
    global $host, $port;
    $got = [];
    $name = $pattern ? k('p1') : k('ch');
    $c = one_server();
    $note = function ($r, $channel, $text) use (&$got, $pattern) {
        $got[] = [$channel, $text];
        if (count($got) === 2) {
            $pattern ? $r->punsubscribe([k('p?')]) : $r->unsubscribe([$channel]);
            $r->close();
        }
    };
    soon('EVAL', "redis.call('publish', ARGV[1], 'one') return redis.call('publish', ARGV[1], 'a b')",
        '1', $name, $name);
    try {
        $pattern
            ? $c->psubscribe([k('p?')], fn($r, $p, $channel, $text) => $note($r, $channel, $text))
            : $c->subscribe([$name], $note);
    } catch (RedisException $e) {
        if (count($got) < 2) {
            throw $e;
        }
    }
    same([[$name, 'one'], [$name, 'a b']], $got);
}

echo 'version ', phpversion('redis'), "\n";
$r = connect();
$cluster = $mode === 'cluster';
$one = one_server();
op('ping', fn() => same(true, (bool)($cluster ? $r->ping(k('x')) : $r->ping())));
op('echo', fn() => same('a b', $cluster ? $r->echo(k('x'), 'a b') : $r->echo('a b')));
op('set_get', fn() => same([true, 'v'], [$r->set(k('a'), 'v'), $r->get(k('a'))]));
op('set_options', fn() => same([true, false, true, '3'], [
    $r->set(k('o'), '1', ['nx', 'ex' => 100]), $r->set(k('o'), '2', ['nx']),
    $r->set(k('o'), '3', ['xx']), $r->getSet(k('o'), '4')]));
op('empty_value', function () use ($r) {
    $r->set(k('e'), '');
    same(['', 0], [$r->get(k('e')), $r->strlen(k('e'))]);
});
op('binary', function () use ($r) {
    $r->set(k("b\0\r\n"), "\0\r\n$-1\r\n\xff");
    same("\0\r\n$-1\r\n\xff", $r->get(k("b\0\r\n")));
});
op('large_value', function () use ($r) {
    $value = random_bytes(1 << 20);
    $r->set(k('large'), $value);
    same(true, $value === $r->get(k('large')));
});
op('missing_key', fn() => same([false, false, []], [$r->get(k('no')), $r->lPop(k('no')),
    $r->hGetAll(k('no'))]));
op('incr', fn() => same([1, 42, 41, 41.5], [$r->incr(k('n')), $r->incrBy(k('n'), 41),
    $r->decr(k('n')), $r->incrByFloat(k('n'), 0.5)]));
op('append_getrange', fn() => same([5, 10, 'world'], [$r->append(k('ap'), 'hello'),
    $r->append(k('ap'), 'world'), $r->getRange(k('ap'), 5, -1)]));
op('mset_mget', function () use ($r) {
    $pairs = [];
    for ($i = 0; $i < 30; $i++) {
        $pairs[k("m$i")] = (string)$i;
    }
    same(true, $r->mset($pairs));
    same(array_merge(array_values($pairs), [false]), $r->mget([...array_keys($pairs), k('m99')]));
});
op('del_exists', function () use ($r) {
    $keys = array_map(fn($i) => k("m$i"), range(0, 29));
    same([1, 30, 0], [(int)$r->exists($keys[0]), $r->del($keys), (int)$r->exists($keys[0])]);
});
op('expire_ttl', function () use ($r) {
    $r->set(k('ex'), '1');
    same([true, true, true, -1, -2], [$r->expire(k('ex'), 100), $r->ttl(k('ex')) >= 98,
        $r->persist(k('ex')), $r->ttl(k('ex')), $r->ttl(k('no'))]);
});
op('bits', fn() => same([0, 1, 1, 7], [$r->setBit(k('bit'), 7, 1), $r->getBit(k('bit'), 7),
    $r->bitCount(k('bit')), $r->bitpos(k('bit'), 1)]));
op('hash', fn() => same([true, ['a' => '1', 'b' => ''], ['a' => '1', 'z' => false], 1], [
    $r->hMSet(k('h'), ['a' => '1', 'b' => '']), $r->hGetAll(k('h')), $r->hMGet(k('h'), ['a', 'z']),
    $r->hDel(k('h'), 'b')]));
op('hash_incr', fn() => same([11, 11.5], [$r->hIncrBy(k('h'), 'a', 10),
    $r->hIncrByFloat(k('h'), 'a', 0.5)]));
op('hscan', function () use ($r) {
    $want = [];
    for ($i = 0; $i < 1500; $i++) {
        $want["f$i"] = (string)$i;
    }
    $r->hMSet(k('hs'), $want);
    $got = [];
    $cursor = null;
    while (($page = $r->hScan(k('hs'), $cursor, null, 50)) !== false) {
        $got += $page;
        if ($cursor === 0) {
            break;
        }
    }
    ksort($got);
    ksort($want);
    same($want, $got);
});
op('list', fn() => same([4, ['a', 'b', 'c', 'd'], 'a', 'd', 2], [
    $r->rPush(k('l'), 'a', 'b', 'c', 'd'), $r->lRange(k('l'), 0, -1), $r->lPop(k('l')),
    $r->rPop(k('l')), $r->lLen(k('l'))]));
op('list_move', fn() => same([2, '2', ['2']], [$r->rPush(t('l1'), '1', '2'),
    $r->rPopLPush(t('l1'), t('l2')), $r->lRange(t('l2'), 0, -1)]));
op('set', function () use ($r) {
    same([3, true, 3], [$r->sAdd(k('s'), 'a', 'b', 'c'), $r->sIsMember(k('s'), 'a'),
        $r->sCard(k('s'))]);
    $got = $r->sMembers(k('s'));
    sort($got);
    same(['a', 'b', 'c'], $got);
});
op('set_inter', function () use ($r) {
    $r->sAdd(t('s1'), 'a', 'b');
    $r->sAdd(t('s2'), 'b', 'c');
    same([['b'], 3], [$r->sInter(t('s1'), t('s2')), $r->sUnionStore(t('s3'), t('s1'), t('s2'))]);
});
op('sscan', function () use ($r) {
    $r->sAdd(k('ss'), ...array_map('strval', range(0, 1499)));
    $got = [];
    $cursor = null;
    while (($page = $r->sScan(k('ss'), $cursor, null, 50)) !== false) {
        $got = array_merge($got, $page);
        if ($cursor === 0) {
            break;
        }
    }
    same(1500, count(array_unique($got)));
});
op('zset', fn() => same([3, ['a' => 1.0, 'b' => 2.5, 'c' => 3.0], 1], [
    $r->zAdd(k('z'), 1, 'a', 2.5, 'b', 3, 'c'), $r->zRange(k('z'), 0, -1, true),
    $r->zRank(k('z'), 'b')]));
op('zset_byscore', fn() => same(['b', 'c'], $r->zRangeByScore(k('z'), '(1', '+inf')));
op('zset_incr', fn() => same([3.5, 3.5], [$r->zIncrBy(k('z'), 2.5, 'a'), $r->zScore(k('z'), 'a')]));
op('hyperloglog', fn() => same([true, 3], [(bool)$r->pfAdd(k('pf'), ['a', 'b', 'c']),
    $r->pfCount(k('pf'))]));
op('geo', fn() => same([2, 166.2742, ['Catania', 'Palermo']], [
    $r->geoAdd(k('geo'), 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania'),
    (float)$r->geoDist(k('geo'), 'Palermo', 'Catania', 'km'),
    $r->geoRadius(k('geo'), 15, 37, 200, 'km', ['asc'])]));
op('stream', function () use ($r) {
    same(['1-1', '1-2'], [$r->xAdd(k('x'), '1-1', ['a' => '1']), $r->xAdd(k('x'), '1-2', ['a' => '2'])]);
    same(['1-1' => ['a' => '1'], '1-2' => ['a' => '2']], $r->xRange(k('x'), '-', '+'));
    same([k('x') => ['1-2' => ['a' => '2']]], $r->xRead([k('x') => '1-1']));
});
op('stream_group', function () use ($r) {
    $r->xGroup('CREATE', k('xg'), 'g', '0', true);
    $r->xAdd(k('xg'), '1-1', ['f' => 'v']);
    same([k('xg') => ['1-1' => ['f' => 'v']]], $r->xReadGroup('g', 'c', [k('xg') => '>']));
    same(1, $r->xAck(k('xg'), 'g', ['1-1']));
});
op('type_rename', function () use ($r) {
    $r->set(t('r1'), 'x');
    same([Redis::REDIS_STRING, true, 'x'], [$r->type(t('r1')), $r->rename(t('r1'), t('r2')),
        $r->get(t('r2'))]);
});
op('sort', function () use ($r) {
    $r->rPush(k('so'), '3', '1', '2');
    same(['1', '2', '3'], $r->sort(k('so')));
});
// A nil inside an array is false to Redis and null to RedisCluster.
op('eval', fn() => same([k('ev'), 'x', 7, $cluster ? null : false],
    $r->eval('return {KEYS[1], ARGV[1], 7, false}', [k('ev'), 'x'], 1)));
op('evalsha', function () use ($r, $one) {
    $sha = $one->script('load', "return redis.call('incr', KEYS[1])");
    same([1, 2], [$r->evalSha($sha, [k('es')], 1), $r->evalSha($sha, [k('es')], 1)]);
});
op('noscript', function () use ($r, $one) {
    $sha = $one->script('load', 'return {KEYS[1], ARGV[1], 42}');
    for ($i = 0; $i < 20; $i++) {
        same([k("s$i"), 'a', 42], $r->evalSha($sha, [k("s$i"), 'a'], 1));
    }
    fails('NOSCRIPT', $r, fn() => $r->evalSha(str_repeat('f', 40), [k('s')], 1));
});
op('wrong_type', function () use ($r) {
    $r->set(k('wt'), '1');
    fails('WRONGTYPE', $r, fn() => $r->lPush(k('wt'), '1'));
});
op('unknown_command', fn() => fails('unknown command', $one,
    fn() => $one->rawCommand('NOSUCHCOMMAND', 'a')));
op('pipeline', function () use ($one) { // RedisCluster has none
    $p = $one->multi(Redis::PIPELINE);
    $want = [];
    for ($i = 0; $i < 500; $i++) {
        $p->set(k("p$i"), (string)$i);
        $p->get(k("p$i"));
        array_push($want, true, (string)$i);
    }
    same($want, $p->exec());
});
op('pipeline_error', function () use ($one) {
    $one->set(k('pe'), 'x');
    same(['x', false, 'x'], $one->multi(Redis::PIPELINE)->get(k('pe'))->lPush(k('pe'), '1')
        ->get(k('pe'))->exec());
});
op('scan', function () use ($one) {
    for ($i = 0; $i < 300; $i++) {
        $one->set(k("scan:$i"), '');
    }
    $got = [];
    $cursor = null;
    while (($page = $one->scan($cursor, k('scan:*'), 50)) !== false) {
        $got = array_merge($got, $page);
        if ($cursor === 0) {
            break;
        }
    }
    same([300, 300], [count(array_unique($got)), count($one->keys(k('scan:*')))]);
});
op('dbsize', fn() => same(true, ($cluster ? $r->dbSize(k('x')) : $r->dbSize()) >= 300));
op('info', fn() => same(true, ($cluster ? $r->info(k('x')) : $r->info())['redis_version'] > '6'));
op('client_name', fn() => same([true, 'kw-name'], [$one->client('setname', 'kw-name'),
    $one->client('getname')]));
op('publish', fn() => heard(false));
op('psubscribe', fn() => heard(true));
op('multi', function () use ($r) {
    same([true, 8, '8'], $r->multi()->set(t('tx'), '7')->incr(t('tx'))->get(t('tx'))->exec());
    $r->multi()->set(t('tx'), '9');
    $r->discard();
    same('8', $r->get(t('tx')));
});
op('watch', function () use ($r, $one, $cluster) {
    $one->set(t('w'), '1');
    $r->watch(t('w'));
    $one->set(t('w'), '2');
    // RedisCluster makes [false] of the nil, in front of real nodes too.
    same($cluster ? [false] : false, $r->multi()->set(t('w'), '3')->exec());
    same('2', $r->get(t('w')));
    $r->watch(t('w'));
    same([true], $r->multi()->set(t('w'), '4')->exec());
});
op('blpop', function () use ($r) {
    $r->rPush(k('bl'), 'x');
    same([[k('bl'), 'x'], []], [$r->blPop([k('bl')], 5), (array)$r->blPop([k('bl')], 1)]);
});
op('brpop_wait', function () use ($r) {
    soon('LPUSH', k('later'), 'job');
    same([k('later'), 'job'], $r->brPop([k('later')], 10));
});
op('bzpopmin', function () use ($r) {
    $r->zAdd(k('bz'), 2, 'a', 1, 'b');
    same([k('bz'), 'b', '1'], $r->bzPopMin([k('bz')], 5));
});
op('xread_block', function () use ($r) {
    soon('XADD', k('xb'), '7-7', 'a', '1');
    same([k('xb') => ['7-7' => ['a' => '1']]], $r->xRead([k('xb') => '$'], 1, 10000));
});
echo "done\n";
