// ioredis: Redis, Cluster, and Redis with sentinels.
'use strict';
const Redis = require('ioredis');
const assert = require('assert');
const { KW_MODE: mode, KW_PREFIX: prefix, KW_HOST: host } = process.env;
const port = Number(process.env.KW_PORT);
const later = process.env.KW_LATER.split(',');
const open = [];

function kept(c) {
    c.on('error', () => {});
    open.push(c);
    return c;
}
const oneServer = (more = {}) => kept(new Redis({ host, port, connectTimeout: 20000, ...more }));
function connect() {
    if (mode === 'cluster')
        return kept(new Redis.Cluster([{ host, port }]));
    if (mode === 'sentinel')
        return kept(new Redis({ sentinels: [{ host, port }], name: 'mymaster', failoverDetector: true }));
    return oneServer();
}
const k = (name) => `${prefix}:${name}`;
const t = (name) => `{${prefix}}:${name}`;
const m = (name) => (mode === 'cluster' ? t(name) : k(name));
const same = (want, got) => assert.deepStrictEqual(got, want);
const range = (n) => [...Array(n).keys()];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function op(name, f) {
    if (later.includes(name))
        return console.log(`later ${name}`);
    try {
        await f();
        console.log(`ok ${name}`);
    } catch (e) {
        console.log(`FAIL ${name}: ${String(e.message).replace(/\s+/g, ' ').slice(0, 300)}`);
    }
}

async function fails(text, promise) {
    await assert.rejects(promise, (e) => String(e.message).includes(text));
}

async function heard(pattern) {
    const name = pattern ? k('p1') : k('ch');
    const sub = mode === 'cluster' ? oneServer() : connect();
    const got = [];
    const two = new Promise((done, lost) => {
        const note = (channel, text) => {
            got.push([channel, text]);
            if (got.length === 2)
                done();
        };
        sub.on('message', note);
        sub.on('pmessage', (_, channel, text) => note(channel, text));
        setTimeout(() => lost(new Error(`only ${got.length} messages`)), 20000).unref();
    });
    await (pattern ? sub.psubscribe(k('p?')) : sub.subscribe(name));
    const pub = oneServer();
    await pub.publish(name, 'one');
    await pub.publish(name, '\0\r\n');
    await two;
    same([[name, 'one'], [name, '\0\r\n']], got);
    await (pattern ? sub.punsubscribe() : sub.unsubscribe());
}

async function follow(start, step) {
    const all = [];
    let cursor = start;
    do {
        const [next, page] = await step(cursor);
        all.push(...page);
        cursor = next;
    } while (cursor !== '0');
    return all;
}

async function main() {
    console.log(`version ${require('ioredis/package.json').version}`);
    const r = connect(), one = oneServer();
    await op('ping', async () => same('PONG', await r.ping()));
    await op('echo', async () => same('a b', await one.echo('a b')));
    await op('set_get', async () => same(['OK', 'v'], [await r.set(k('a'), 'v'), await r.get(k('a'))]));
    await op('set_options', async () => same(['OK', null, 'OK', '3'], [
        await r.set(k('o'), 1, 'EX', 100, 'NX'), await r.set(k('o'), 2, 'NX'),
        await r.set(k('o'), 3, 'KEEPTTL'), await r.getset(k('o'), 4)]));
    await op('empty_value', async () => {
        await r.set(k('e'), '');
        same(['', 0], [await r.get(k('e')), await r.strlen(k('e'))]);
    });
    await op('binary', async () => {
        const value = Buffer.from([0, 13, 10, 36, 45, 49, 13, 10, 255]);
        await r.set(k('b\0\r\n'), value);
        same(value, await r.getBuffer(k('b\0\r\n')));
    });
    await op('large_value', async () => {
        const value = require('crypto').randomBytes(1 << 20);
        await r.set(k('large'), value);
        assert(value.equals(await r.getBuffer(k('large'))));
    });
    await op('missing_key', async () => same([null, null, {}], [
        await r.get(k('no')), await r.lpop(k('no')), await r.hgetall(k('no'))]));
    await op('incr', async () => same([1, 42, 41, '41.5'], [await r.incr(k('n')),
        await r.incrby(k('n'), 41), await r.decr(k('n')), await r.incrbyfloat(k('n'), 0.5)]));
    await op('append_getrange', async () => same([5, 10, 'world'], [
        await r.append(k('ap'), 'hello'), await r.append(k('ap'), 'world'),
        await r.getrange(k('ap'), 5, -1)]));
    const many = range(30).map((i) => m(`m${i}`));
    await op('mset_mget', async () => {
        same('OK', await r.mset(many.flatMap((key, i) => [key, i])));
        same([...range(30).map(String), null], await r.mget(...many, m('m99')));
    });
    await op('del_exists', async () => same([30, 30, 0], [
        await r.exists(...many), await r.del(...many), await r.exists(...many)]));
    await op('expire_ttl', async () => {
        await r.set(k('ex'), 1);
        same([1, true, 1, -1, -2], [await r.expire(k('ex'), 100), await r.ttl(k('ex')) >= 98,
            await r.persist(k('ex')), await r.ttl(k('ex')), await r.ttl(k('no'))]);
    });
    await op('bits', async () => same([0, 1, 1, 7], [await r.setbit(k('bit'), 7, 1),
        await r.getbit(k('bit'), 7), await r.bitcount(k('bit')), await r.bitpos(k('bit'), 1)]));
    await op('hash', async () => same([2, { a: '1', b: '' }, ['1', null], 1], [
        await r.hset(k('h'), { a: 1, b: '' }), { ...await r.hgetall(k('h')) },
        await r.hmget(k('h'), 'a', 'z'), await r.hdel(k('h'), 'b')]));
    await op('hash_incr', async () => same([11, '11.5'], [await r.hincrby(k('h'), 'a', 10),
        await r.hincrbyfloat(k('h'), 'a', 0.5)]));
    await op('hscan', async () => {
        await r.hset(k('hs'), Object.fromEntries(range(1500).map((i) => [`f${i}`, i])));
        const all = await follow('0', (c) => r.hscan(k('hs'), c, 'COUNT', 50));
        same(1500, new Set(all.filter((_, i) => i % 2 === 0)).size);
    });
    await op('list', async () => same([4, ['a', 'b', 'c', 'd'], 'a', 'd', 2], [
        await r.rpush(k('l'), 'a', 'b', 'c', 'd'), await r.lrange(k('l'), 0, -1),
        await r.lpop(k('l')), await r.rpop(k('l')), await r.llen(k('l'))]));
    await op('list_move', async () => same([2, '2', ['2']], [await r.rpush(t('l1'), 1, 2),
        await r.rpoplpush(t('l1'), t('l2')), await r.lrange(t('l2'), 0, -1)]));
    await op('set', async () => same([3, ['a', 'b', 'c'], 1, 3], [
        await r.sadd(k('s'), 'a', 'b', 'c'), (await r.smembers(k('s'))).sort(),
        await r.sismember(k('s'), 'a'), await r.scard(k('s'))]));
    await op('set_inter', async () => {
        await r.sadd(t('s1'), 'a', 'b');
        await r.sadd(t('s2'), 'b', 'c');
        same([['b'], 3], [await r.sinter(t('s1'), t('s2')),
            await r.sunionstore(t('s3'), t('s1'), t('s2'))]);
    });
    await op('sscan', async () => {
        await r.sadd(k('ss'), ...range(1500));
        same(1500, new Set(await follow('0', (c) => r.sscan(k('ss'), c, 'COUNT', 50))).size);
    });
    await op('zset', async () => same([3, 'a 1 b 2.5 c 3', 1], [
        await r.zadd(k('z'), 1, 'a', 2.5, 'b', 3, 'c'),
        (await r.zrange(k('z'), 0, -1, 'WITHSCORES')).flat().join(' '), await r.zrank(k('z'), 'b')]));
    await op('zset_byscore', async () => same(['b', 'c'], await r.zrangebyscore(k('z'), '(1', '+inf')));
    await op('zset_incr', async () => same([3.5, 3.5], [
        Number(await r.zincrby(k('z'), 2.5, 'a')), Number(await r.zscore(k('z'), 'a'))]));
    await op('hyperloglog', async () => same([1, 3], [await r.pfadd(k('pf'), 'a', 'b', 'c'),
        await r.pfcount(k('pf'))]));
    await op('geo', async () => same([2, 166.2742, ['C', 'P']], [
        await r.geoadd(k('g'), 13.361389, 38.115556, 'P', 15.087269, 37.502669, 'C'),
        Number(await r.geodist(k('g'), 'P', 'C', 'km')),
        await r.geosearch(k('g'), 'FROMLONLAT', 15, 37, 'BYRADIUS', 200, 'km', 'ASC')]));
    await op('stream', async () => {
        same(['1-1', '1-2'], [await r.xadd(k('x'), '1-1', 'a', 1), await r.xadd(k('x'), '1-2', 'a', 2)]);
        same([['1-1', ['a', '1']], ['1-2', ['a', '2']]], await r.xrange(k('x'), '-', '+'));
        const read = await r.xread('STREAMS', k('x'), '1-1');
        same([[k('x'), [['1-2', ['a', '2']]]]], Array.isArray(read) ? read : Object.entries(read));
    });
    await op('stream_group', async () => {
        await r.xgroup('CREATE', k('xg'), 'g', 0, 'MKSTREAM');
        await r.xadd(k('xg'), '1-1', 'f', 'v');
        const read = await r.xreadgroup('GROUP', 'g', 'c', 'STREAMS', k('xg'), '>');
        same([[k('xg'), [['1-1', ['f', 'v']]]]], Array.isArray(read) ? read : Object.entries(read));
        same(1, await r.xack(k('xg'), 'g', '1-1'));
    });
    await op('type_rename', async () => {
        await r.set(t('r1'), 'x');
        same(['string', 'OK', 'x'], [await r.type(t('r1')), await r.rename(t('r1'), t('r2')),
            await r.get(t('r2'))]);
    });
    await op('sort', async () => {
        await r.rpush(k('so'), 3, 1, 2);
        same(['1', '2', '3'], await r.sort(k('so')));
    });
    await op('eval', async () => same([k('ev'), 'x', 7, null],
        await r.eval('return {KEYS[1], ARGV[1], 7, false}', 1, k('ev'), 'x')));
    await op('evalsha', async () => { // a command of ioredis's own: EVALSHA, then EVAL
        r.defineCommand('bump', { numberOfKeys: 1, lua: "return redis.call('incr', KEYS[1])" });
        same([1, 2], [await r.bump(k('es')), await r.bump(k('es'))]);
    });
    await op('noscript', async () => {
        const sha = await one.script('LOAD', 'return {KEYS[1], ARGV[1], 42}');
        for (const i of range(20))
            same([k(`s${i}`), 'a', 42], await r.evalsha(sha, 1, k(`s${i}`), 'a'));
        await fails('NOSCRIPT', r.evalsha('f'.repeat(40), 1, k('s')));
    });
    await op('wrong_type', async () => {
        await r.set(k('wt'), 1);
        await fails('WRONGTYPE', r.lpush(k('wt'), 1));
    });
    await op('unknown_command', () => fails('unknown command', one.call('NOSUCHCOMMAND', 'a')));
    await op('pipeline', async () => {
        const p = r.pipeline();
        for (const i of range(500))
            p.set(m(`p${i}`), i).get(m(`p${i}`));
        same(range(500).flatMap((i) => [[null, 'OK'], [null, String(i)]]), await p.exec());
    });
    await op('pipeline_error', async () => {
        await r.set(m('pe'), 'x');
        const got = await r.pipeline().get(m('pe')).lpush(m('pe'), 1).get(m('pe')).exec();
        same(['x', true, 'x'], [got[0][1], /WRONGTYPE/.test(got[1][0].message), got[2][1]]);
    });
    await op('scan', async () => {
        await Promise.all(range(300).map((i) => r.set(k(`scan:${i}`), '')));
        const all = await follow('0', (c) => one.scan(c, 'MATCH', k('scan:*'), 'COUNT', 50));
        same([300, 300], [new Set(all).size, (await one.keys(k('scan:*'))).length]);
    });
    await op('dbsize', async () => assert(await r.dbsize() >= 300));
    await op('info', async () => assert(/redis_version:[67]/.test(await one.info())));
    await op('client_name', async () => same('kw-name',
        await oneServer({ connectionName: 'kw-name' }).client('GETNAME')));
    await op('publish', () => heard(false));
    await op('psubscribe', () => heard(true));
    await op('multi', async () => {
        same([[null, 'OK'], [null, 8], [null, '8']],
            await r.multi().set(t('tx'), 7).incr(t('tx')).get(t('tx')).exec());
        const got = await r.multi().set(t('tx'), 'x').incr(t('tx')).exec();
        assert(/not an integer/.test(got[1][0].message));
    });
    await op('watch', async () => {
        await one.set(t('w'), 1);
        await one.watch(t('w'));
        await oneServer().set(t('w'), 2);
        same(null, await one.multi().set(t('w'), 3).exec());
        await one.watch(t('w'));
        same([[null, '2'], [null, 'OK']], await one.multi().get(t('w')).set(t('w'), 4).exec());
    });
    await op('blpop', async () => {
        await r.rpush(k('bl'), 'x');
        same([[k('bl'), 'x'], null], [await r.blpop(k('bl'), 5), await r.blpop(k('bl'), 1)]);
    });
    await op('brpop_wait', async () => {
        wait(300).then(() => oneServer().lpush(k('later'), 'job'));
        same([k('later'), 'job'], await r.brpop(k('later'), 10));
    });
    await op('bzpopmin', async () => {
        await r.zadd(k('bz'), 2, 'a', 1, 'b');
        same(`${k('bz')} b 1`, (await r.bzpopmin(k('bz'), 5)).join(' '));
    });
    await op('xread_block', async () => {
        wait(300).then(() => oneServer().xadd(k('xb'), '7-7', 'a', 1));
        const read = await r.xread('BLOCK', 10000, 'STREAMS', k('xb'), '$');
        same([[k('xb'), [['7-7', ['a', '1']]]]], Array.isArray(read) ? read : Object.entries(read));
    });
    console.log('done');
    for (const c of open)
        c.disconnect();
}
main();
