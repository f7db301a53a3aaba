// node-redis: createClient, createCluster, createSentinel.
'use strict';
const redis = require('redis');
const assert = require('assert');
const { KW_MODE: mode, KW_PREFIX: prefix, KW_HOST: host } = process.env;
const port = Number(process.env.KW_PORT);
const later = process.env.KW_LATER.split(',');

async function kept(c) {
    c.on('error', () => {});
    await c.connect();
    return c;
}
const url = `redis://${host}:${port}`;
const oneServer = (more = {}) => kept(redis.createClient({ url, ...more }));
function connect() {
    if (mode === 'cluster')
        return kept(redis.createCluster({ rootNodes: [{ url }] }));
    if (mode === 'sentinel')
        return kept(redis.createSentinel({ name: 'mymaster', sentinelRootNodes: [{ host, port }] }));
    return oneServer();
}
const k = (name) => `${prefix}:${name}`;
const t = (name) => `{${prefix}}:${name}`;
const m = (name) => (mode === 'cluster' ? t(name) : k(name));
const plain = (v) => JSON.parse(JSON.stringify(v));
const same = (want, got) => assert.deepStrictEqual(plain(got), plain(want));
const range = (n) => [...Array(n).keys()];
const soon = (f) => setTimeout(async () => f(await oneServer()), 300);

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
    const sub = await oneServer();
    const got = [];
    const two = new Promise((done, lost) => {
        const note = (text, channel) => {
            got.push([channel, text]);
            if (got.length === 2)
                done();
        };
        (pattern ? sub.pSubscribe(k('p?'), note) : sub.subscribe(name, note)).then(async () => {
            const pub = await oneServer();
            await pub.publish(name, 'one');
            await pub.publish(name, '\0\r\n');
        }, lost);
        setTimeout(() => lost(new Error(`only ${got.length} messages`)), 20000).unref();
    });
    await two;
    same([[name, 'one'], [name, '\0\r\n']], got);
    await (pattern ? sub.pUnsubscribe() : sub.unsubscribe());
}

async function main() {
    console.log(`version ${require('redis/package.json').version}`);
    const r = await connect(), one = await oneServer();
    await op('ping', async () => same('PONG', await (r.ping ? r : one).ping()));
    await op('echo', async () => same('a b', await one.echo('a b')));
    await op('set_get', async () => same(['OK', 'v'], [await r.set(k('a'), 'v'), await r.get(k('a'))]));
    await op('set_options', async () => same(['OK', null, '1'], [
        await r.set(k('o'), '1', { NX: true, EX: 100 }), await r.set(k('o'), '2', { NX: true }),
        await r.set(k('o'), '3', { GET: true, KEEPTTL: true })]));
    await op('empty_value', async () => {
        await r.set(k('e'), '');
        same(['', 0], [await r.get(k('e')), await r.strLen(k('e'))]);
    });
    await op('binary', async () => {
        const value = Buffer.from([0, 13, 10, 36, 45, 49, 13, 10, 255]);
        await r.set(k('b\0\r\n'), value);
        const buffers = one.withTypeMapping({ [redis.RESP_TYPES.BLOB_STRING]: Buffer });
        assert(value.equals(await buffers.get(k('b\0\r\n'))));
    });
    await op('large_value', async () => {
        const value = require('crypto').randomBytes(1 << 19).toString('hex');
        await r.set(k('large'), value);
        assert(value === await r.get(k('large')));
    });
    await op('missing_key', async () => same([null, null, {}], [
        await r.get(k('no')), await r.lPop(k('no')), await r.hGetAll(k('no'))]));
    await op('incr', async () => same([1, 42, 41, '41.5'], [await r.incr(k('n')),
        await r.incrBy(k('n'), 41), await r.decr(k('n')), await r.incrByFloat(k('n'), 0.5)]));
    await op('append_getrange', async () => same([5, 10, 'world'], [
        await r.append(k('ap'), 'hello'), await r.append(k('ap'), 'world'),
        await r.getRange(k('ap'), 5, -1)]));
    const many = range(30).map((i) => m(`m${i}`));
    await op('mset_mget', async () => {
        same('OK', await r.mSet(many.map((key, i) => [key, String(i)])));
        same([...range(30).map(String), null], await r.mGet([...many, m('m99')]));
    });
    await op('del_exists', async () => same([30, 30, 0], [
        await r.exists(many), await r.del(many), await r.exists(many)]));
    await op('expire_ttl', async () => {
        await r.set(k('ex'), '1');
        same([1, true, 1, -1, -2], [await r.expire(k('ex'), 100), await r.ttl(k('ex')) >= 98,
            await r.persist(k('ex')), await r.ttl(k('ex')), await r.ttl(k('no'))]);
    });
    await op('bits', async () => same([0, 1, 1, 7], [await r.setBit(k('bit'), 7, 1),
        await r.getBit(k('bit'), 7), await r.bitCount(k('bit')), await r.bitPos(k('bit'), 1)]));
    await op('hash', async () => same([2, { a: '1', b: '' }, ['1', null], 1], [
        await r.hSet(k('h'), { a: 1, b: '' }), { ...await r.hGetAll(k('h')) },
        await r.hmGet(k('h'), ['a', 'z']), await r.hDel(k('h'), 'b')]));
    await op('hash_incr', async () => same([11, '11.5'], [await r.hIncrBy(k('h'), 'a', 10),
        await r.hIncrByFloat(k('h'), 'a', 0.5)]));
    await op('hscan', async () => {
        await r.hSet(k('hs'), Object.fromEntries(range(1500).map((i) => [`f${i}`, i])));
        const got = new Set();
        for await (const page of r.hScanIterator ? r.hScanIterator(k('hs'), { COUNT: 50 })
            : one.hScanIterator(k('hs'), { COUNT: 50 }))
            page.forEach(({ field }) => got.add(field));
        same(1500, got.size);
    });
    await op('list', async () => same([4, ['a', 'b', 'c', 'd'], 'a', 'd', 2], [
        await r.rPush(k('l'), ['a', 'b', 'c', 'd']), await r.lRange(k('l'), 0, -1),
        await r.lPop(k('l')), await r.rPop(k('l')), await r.lLen(k('l'))]));
    await op('list_move', async () => same([2, '2', ['2']], [await r.rPush(t('l1'), ['1', '2']),
        await r.rPopLPush(t('l1'), t('l2')), await r.lRange(t('l2'), 0, -1)]));
    await op('set', async () => same([3, ['a', 'b', 'c'], 1, 3], [
        await r.sAdd(k('s'), ['a', 'b', 'c']), [...await r.sMembers(k('s'))].sort(),
        Number(await r.sIsMember(k('s'), 'a')), await r.sCard(k('s'))]));
    await op('set_inter', async () => {
        await r.sAdd(t('s1'), ['a', 'b']);
        await r.sAdd(t('s2'), ['b', 'c']);
        same([['b'], 3], [[...await r.sInter([t('s1'), t('s2')])],
            await r.sUnionStore(t('s3'), [t('s1'), t('s2')])]);
    });
    await op('sscan', async () => {
        await r.sAdd(k('ss'), range(1500).map(String));
        const got = new Set();
        let cursor = '0';
        do {
            const page = await r.sScan(k('ss'), cursor, { COUNT: 50 });
            page.members.forEach((x) => got.add(x));
            cursor = String(page.cursor);
        } while (cursor !== '0');
        same(1500, got.size);
    });
    await op('zset', async () => same([3, [['a', 1], ['b', 2.5], ['c', 3]], 1], [
        await r.zAdd(k('z'), [{ score: 1, value: 'a' }, { score: 2.5, value: 'b' },
            { score: 3, value: 'c' }]),
        (await r.zRangeWithScores(k('z'), 0, -1)).map((x) => [x.value, x.score]),
        await r.zRank(k('z'), 'b')]));
    await op('zset_byscore', async () => same(['b', 'c'], await r.zRangeByScore(k('z'), '(1', '+inf')));
    await op('zset_incr', async () => same([3.5, 3.5], [await r.zIncrBy(k('z'), 2.5, 'a'),
        await r.zScore(k('z'), 'a')]));
    await op('hyperloglog', async () => same([1, 3], [
        Number(await r.pfAdd(k('pf'), ['a', 'b', 'c'])), await r.pfCount(k('pf'))]));
    await op('geo', async () => same([2, 166.2742, ['C', 'P']], [
        await r.geoAdd(k('g'), [{ longitude: 13.361389, latitude: 38.115556, member: 'P' },
            { longitude: 15.087269, latitude: 37.502669, member: 'C' }]),
        Number(await r.geoDist(k('g'), 'P', 'C', 'km')),
        await r.geoSearch(k('g'), { longitude: 15, latitude: 37 }, { radius: 200, unit: 'km' },
            { SORT: 'ASC' })]));
    await op('stream', async () => {
        same(['1-1', '1-2'], [await r.xAdd(k('x'), '1-1', { a: '1' }), await r.xAdd(k('x'), '1-2', { a: '2' })]);
        same([['1-1', { a: '1' }], ['1-2', { a: '2' }]],
            (await r.xRange(k('x'), '-', '+')).map((e) => [e.id, e.message]));
        const read = await r.xRead({ key: k('x'), id: '1-1' });
        same([[k('x'), '1-2', { a: '2' }]],
            read.map((s) => [s.name, s.messages[0].id, s.messages[0].message]));
    });
    await op('stream_group', async () => {
        await r.xGroupCreate(k('xg'), 'g', '0', { MKSTREAM: true });
        await r.xAdd(k('xg'), '1-1', { f: 'v' });
        const read = await r.xReadGroup('g', 'c', { key: k('xg'), id: '>' });
        same([[k('xg'), '1-1', { f: 'v' }]],
            read.map((s) => [s.name, s.messages[0].id, s.messages[0].message]));
        same(1, await r.xAck(k('xg'), 'g', '1-1'));
    });
    await op('type_rename', async () => {
        await r.set(t('r1'), 'x');
        same(['string', 'OK', 'x'], [await r.type(t('r1')), await r.rename(t('r1'), t('r2')),
            await r.get(t('r2'))]);
    });
    await op('sort', async () => {
        await r.rPush(k('so'), ['3', '1', '2']);
        same(['1', '2', '3'], await r.sort(k('so')));
    });
    await op('eval', async () => same([k('ev'), 'x', 7, null], await r.eval(
        'return {KEYS[1], ARGV[1], 7, false}', { keys: [k('ev')], arguments: ['x'] })));
    await op('evalsha', async () => {
        const sha = await one.scriptLoad("return redis.call('incr', KEYS[1])");
        same([1, 2], [await r.evalSha(sha, { keys: [k('es')] }), await r.evalSha(sha, { keys: [k('es')] })]);
    });
    await op('noscript', async () => {
        const sha = await one.scriptLoad('return {KEYS[1], ARGV[1], 42}');
        for (const i of range(20))
            same([k(`s${i}`), 'a', 42], await r.evalSha(sha, { keys: [k(`s${i}`)], arguments: ['a'] }));
        await fails('NOSCRIPT', r.evalSha('f'.repeat(40), { keys: [k('s')] }));
    });
    await op('wrong_type', async () => {
        await r.set(k('wt'), '1');
        await fails('WRONGTYPE', r.lPush(k('wt'), '1'));
    });
    await op('unknown_command', () => fails('unknown command', one.sendCommand(['NOSUCHCOMMAND', 'a'])));
    // This library pipelines whatever is asked in one turn; execAsPipeline is the explicit form.
    await op('pipeline', async () => {
        same(range(500).flatMap((i) => ['OK', String(i)]), await Promise.all(range(500).flatMap(
            (i) => [r.set(k(`p${i}`), String(i)), r.get(k(`p${i}`))])));
        same(['OK', '1'], await r.multi().set(m('p'), '1').get(m('p')).execAsPipeline());
    });
    await op('pipeline_error', async () => {
        await r.set(k('pe'), 'x');
        const got = await Promise.allSettled([r.get(k('pe')), r.lPush(k('pe'), '1'), r.get(k('pe'))]);
        same(['x', true, 'x'], [got[0].value, /WRONGTYPE/.test(got[1].reason.message), got[2].value]);
    });
    await op('scan', async () => {
        await Promise.all(range(300).map((i) => r.set(k(`scan:${i}`), '')));
        const got = new Set();
        for await (const page of one.scanIterator({ MATCH: k('scan:*'), COUNT: 50 }))
            page.forEach((key) => got.add(key));
        same([300, 300], [got.size, (await one.keys(k('scan:*'))).length]);
    });
    await op('dbsize', async () => assert(await one.dbSize() >= 300));
    await op('info', async () => assert(/redis_version:[67]/.test(await one.info())));
    await op('client_name', async () => same('kw-name', await (await oneServer({ name: 'kw-name' })).clientGetName()));
    await op('publish', () => heard(false));
    await op('psubscribe', () => heard(true));
    await op('multi', async () => {
        same(['OK', 8, '8'], await r.multi().set(t('tx'), '7').incr(t('tx')).get(t('tx')).exec());
        await assert.rejects(r.multi().set(t('tx'), 'x').incr(t('tx')).exec());
    });
    await op('watch', async () => {
        const other = await oneServer();
        await one.set(t('w'), '1');
        await one.watch(t('w'));
        await other.set(t('w'), '2');
        await assert.rejects(one.multi().set(t('w'), '3').exec(), redis.WatchError);
        await one.watch(t('w'));
        same(['2', 'OK'], await one.multi().get(t('w')).set(t('w'), '4').exec());
    });
    await op('blpop', async () => {
        await r.rPush(k('bl'), 'x');
        same([{ key: k('bl'), element: 'x' }, null], [await r.blPop(k('bl'), 5), await r.blPop(k('bl'), 1)]);
    });
    await op('brpop_wait', async () => {
        soon((c) => c.lPush(k('later'), 'job'));
        same({ key: k('later'), element: 'job' }, await r.brPop(k('later'), 10));
    });
    await op('bzpopmin', async () => {
        await r.zAdd(k('bz'), [{ score: 2, value: 'a' }, { score: 1, value: 'b' }]);
        same({ key: k('bz'), value: 'b', score: 1 }, await r.bzPopMin(k('bz'), 5));
    });
    await op('xread_block', async () => {
        soon((c) => c.xAdd(k('xb'), '7-7', { a: '1' }));
        const read = await r.xRead({ key: k('xb'), id: '$' }, { BLOCK: 10000 });
        same([['7-7', { a: '1' }]], read[0].messages.map((e) => [e.id, e.message]));
    });
    console.log('done');
    process.exit(0); // connections and all
}
main().catch((e) => {
    console.log(e);
    process.exit(1);
});
