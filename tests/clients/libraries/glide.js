// Valkey GLIDE for Node: GlideClient, GlideClusterClient.
'use strict';
const glide = require('@valkey/valkey-glide');
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const { KW_MODE: mode, KW_PREFIX: prefix, KW_HOST: host } = process.env;
const port = Number(process.env.KW_PORT);
const later = process.env.KW_LATER.split(',');
const ofCluster = mode === 'cluster';
const Client = ofCluster ? glide.GlideClusterClient : glide.GlideClient;
const Batch = ofCluster ? glide.ClusterBatch : glide.Batch;
const manifest = path.join(path.dirname(require.resolve('@valkey/valkey-glide')), '..', 'package.json');
glide.Logger.init('off');

const connect = (more = {}) => Client.createClient({
    addresses: [{ host, port }], requestTimeout: 10000, protocol: glide.ProtocolVersion.RESP3, ...more });
const k = (name) => `${prefix}:${name}`;
const t = (name) => `{${prefix}}:${name}`;
const plain = (v) => JSON.parse(JSON.stringify(v, (_, x) => (x instanceof Set ? [...x].sort() : x)));
const same = (want, got) => assert.deepStrictEqual(plain(got), plain(want));
const range = (n) => [...Array(n).keys()];
const pairs = (record) => Object.fromEntries(record.map(({ key, value }) => [key, value]));
const fields = (record) => Object.fromEntries(record.map(({ field, value }) => [field, value]));
const soon = (f) => setTimeout(async () => f(await connect()), 300);

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
    const name = pattern ? k('p1') : k('ch'), pub = await connect();
    const sub = await connect({ pubsubSubscriptions: {
        channelsAndPatterns: pattern ? { 1: new Set([k('p?')]) } : { 0: new Set([name]) } } });
    let first = null;
    while (first === null) { // it subscribes behind createClient
        await pub.publish('probe', name);
        await new Promise((again) => setTimeout(again, 10));
        first = sub.tryGetPubSubMessage();
    }
    await pub.publish('one', name);
    await pub.publish('\0\r\n', name);
    while (first.message === 'probe')
        first = await sub.getPubSubMessage();
    same([[name, 'one'], [name, '\0\r\n']], [first, await sub.getPubSubMessage()].map(
        (x) => [x.channel, x.message]));
    sub.close();
}

async function main() {
    console.log(`version ${JSON.parse(fs.readFileSync(manifest)).version}`);
    const r = await connect();
    await op('ping', async () => same('PONG', await r.ping()));
    await op('echo', async () => same('a b', await r.echo('a b')));
    await op('set_get', async () => same(['OK', 'v'], [await r.set(k('a'), 'v'), await r.get(k('a'))]));
    await op('set_options', async () => same(['OK', null, '1'], [
        await r.set(k('o'), '1', { conditionalSet: 'onlyIfDoesNotExist', expiry: { type: 'EX', count: 100 } }),
        await r.set(k('o'), '2', { conditionalSet: 'onlyIfDoesNotExist' }),
        await r.set(k('o'), '3', { returnOldValue: true, expiry: 'keepExisting' })]));
    await op('empty_value', async () => {
        await r.set(k('e'), '');
        same(['', 0], [await r.get(k('e')), await r.strlen(k('e'))]);
    });
    await op('binary', async () => {
        const value = Buffer.from([0, 13, 10, 36, 45, 49, 13, 10, 255]);
        await r.set(k('b\0\r\n'), value);
        assert(value.equals(await r.get(k('b\0\r\n'), { decoder: glide.Decoder.Bytes })));
    });
    await op('large_value', async () => {
        const value = require('crypto').randomBytes(1 << 20);
        await r.set(k('large'), value);
        assert(value.equals(await r.get(k('large'), { decoder: glide.Decoder.Bytes })));
    });
    await op('missing_key', async () => same([null, null, []], [
        await r.get(k('no')), await r.lpop(k('no')), await r.hgetall(k('no'))]));
    await op('incr', async () => same([1, 42, 41, 41.5], [await r.incr(k('n')),
        await r.incrBy(k('n'), 41), await r.decr(k('n')), await r.incrByFloat(k('n'), 0.5)]));
    await op('append_getrange', async () => same([5, 10, 'world'], [
        await r.append(k('ap'), 'hello'), await r.append(k('ap'), 'world'),
        await r.getrange(k('ap'), 5, -1)]));
    const many = range(30).map((i) => k(`m${i}`));
    await op('mset_mget', async () => {
        same('OK', await r.mset(Object.fromEntries(many.map((key, i) => [key, String(i)]))));
        same([...range(30).map(String), null], await r.mget([...many, k('m99')]));
    });
    await op('del_exists', async () => same([30, 30, 0], [
        await r.exists(many), await r.del(many), await r.exists(many)]));
    await op('expire_ttl', async () => {
        await r.set(k('ex'), '1');
        same([true, true, true, -1, -2], [await r.expire(k('ex'), 100), await r.ttl(k('ex')) >= 98,
            await r.persist(k('ex')), await r.ttl(k('ex')), await r.ttl(k('no'))]);
    });
    await op('bits', async () => same([0, 1, 1, 7], [await r.setbit(k('bit'), 7, 1),
        await r.getbit(k('bit'), 7), await r.bitcount(k('bit')), await r.bitpos(k('bit'), 1)]));
    await op('hash', async () => same([2, { a: '1', b: '' }, ['1', null], 1], [
        await r.hset(k('h'), { a: '1', b: '' }), fields(await r.hgetall(k('h'))),
        await r.hmget(k('h'), ['a', 'z']), await r.hdel(k('h'), ['b'])]));
    await op('hash_incr', async () => same([11, 11.5], [await r.hincrBy(k('h'), 'a', 10),
        await r.hincrByFloat(k('h'), 'a', 0.5)]));
    await op('hscan', async () => {
        await r.hset(k('hs'), Object.fromEntries(range(1500).map((i) => [`f${i}`, String(i)])));
        const got = new Set();
        let cursor = '0', page;
        do {
            [cursor, page] = await r.hscan(k('hs'), cursor, { count: 50 });
            page.forEach((x, i) => i % 2 === 0 && got.add(x));
        } while (cursor !== '0');
        same(1500, got.size);
    });
    await op('list', async () => same([4, ['a', 'b', 'c', 'd'], 'a', 'd', 2], [
        await r.rpush(k('l'), ['a', 'b', 'c', 'd']), await r.lrange(k('l'), 0, -1),
        await r.lpop(k('l')), await r.rpop(k('l')), await r.llen(k('l'))]));
    await op('list_move', async () => same([2, '2', ['2']], [await r.rpush(t('l1'), ['1', '2']),
        await r.lmove(t('l1'), t('l2'), glide.ListDirection.RIGHT, glide.ListDirection.LEFT),
        await r.lrange(t('l2'), 0, -1)]));
    await op('set', async () => same([3, ['a', 'b', 'c'], true, 3], [
        await r.sadd(k('s'), ['a', 'b', 'c']), await r.smembers(k('s')),
        await r.sismember(k('s'), 'a'), await r.scard(k('s'))]));
    await op('set_inter', async () => {
        await r.sadd(t('s1'), ['a', 'b']);
        await r.sadd(t('s2'), ['b', 'c']);
        same([['b'], 3], [await r.sinter([t('s1'), t('s2')]),
            await r.sunionstore(t('s3'), [t('s1'), t('s2')])]);
    });
    await op('sscan', async () => {
        await r.sadd(k('ss'), range(1500).map(String));
        const got = new Set();
        let cursor = '0', page;
        do {
            [cursor, page] = await r.sscan(k('ss'), cursor, { count: 50 });
            page.forEach((x) => got.add(x));
        } while (cursor !== '0');
        same(1500, got.size);
    });
    await op('zset', async () => same([3, [['a', 1], ['b', 2.5], ['c', 3]], 1], [
        await r.zadd(k('z'), { a: 1, b: 2.5, c: 3 }),
        (await r.zrangeWithScores(k('z'), { start: 0, end: -1 })).map((x) => [x.element, x.score]),
        await r.zrank(k('z'), 'b')]));
    await op('zset_byscore', async () => same(['b', 'c'], await r.zrange(k('z'), {
        type: 'byScore', start: { value: 1, isInclusive: false }, end: glide.InfBoundary.PositiveInfinity })));
    await op('zset_incr', async () => same([3.5, 3.5], [await r.zincrby(k('z'), 2.5, 'a'),
        await r.zscore(k('z'), 'a')]));
    await op('hyperloglog', async () => same([true, 3], [
        await r.pfadd(k('pf'), ['a', 'b', 'c']), await r.pfcount([k('pf')])]));
    await op('geo', async () => same([2, 166.2742, ['C', 'P']], [
        await r.geoadd(k('g'), new Map([['P', { longitude: 13.361389, latitude: 38.115556 }],
            ['C', { longitude: 15.087269, latitude: 37.502669 }]])),
        await r.geodist(k('g'), 'P', 'C', { unit: glide.GeoUnit.KILOMETERS }),
        (await r.geosearch(k('g'), { position: { longitude: 15, latitude: 37 } },
            { radius: 200, unit: glide.GeoUnit.KILOMETERS }, { sortOrder: glide.SortOrder.ASC })).flat()]));
    await op('stream', async () => {
        same(['1-1', '1-2'], [await r.xadd(k('x'), [['a', '1']], { id: '1-1' }),
            await r.xadd(k('x'), [['a', '2']], { id: '1-2' })]);
        same({ '1-1': [['a', '1']], '1-2': [['a', '2']] }, await r.xrange(k('x'),
            glide.InfBoundary.NegativeInfinity, glide.InfBoundary.PositiveInfinity));
        same({ [k('x')]: { '1-2': [['a', '2']] } }, pairs(await r.xread({ [k('x')]: '1-1' })));
    });
    await op('stream_group', async () => {
        await r.xgroupCreate(k('xg'), 'g', '0', { mkStream: true });
        await r.xadd(k('xg'), [['f', 'v']], { id: '1-1' });
        same({ [k('xg')]: { '1-1': [['f', 'v']] } }, pairs(await r.xreadgroup('g', 'c', { [k('xg')]: '>' })));
        same(1, await r.xack(k('xg'), 'g', ['1-1']));
    });
    await op('type_rename', async () => {
        await r.set(t('r1'), 'x');
        same(['string', 'OK', 'x'], [await r.type(t('r1')), await r.rename(t('r1'), t('r2')),
            await r.get(t('r2'))]);
    });
    await op('sort', async () => {
        await r.rpush(k('so'), ['3', '1', '2']);
        same(['1', '2', '3'], await r.sort(k('so')));
    });
    await op('eval', async () => same([k('ev'), 'x', 7, null], await r.customCommand(
        ['EVAL', 'return {KEYS[1], ARGV[1], 7, false}', '1', k('ev'), 'x'])));
    await op('evalsha', async () => {
        const script = new glide.Script("return redis.call('incr', KEYS[1])");
        same([1, 2], [await r.invokeScript(script, { keys: [k('es')] }),
            await r.invokeScript(script, { keys: [k('es')] })]);
        same([true, false], await r.scriptExists([script.getHash(), 'f'.repeat(40)]));
        script.release();
    });
    await op('noscript', async () => {
        const sha = await r.customCommand(['SCRIPT', 'LOAD', 'return {KEYS[1], ARGV[1], 42}']);
        for (const i of range(20))
            same([k(`s${i}`), 'a', 42], await r.customCommand(['EVALSHA', sha, '1', k(`s${i}`), 'a']));
        await fails('NoScriptError', r.customCommand(['EVALSHA', 'f'.repeat(40), '1', k('s')]));
    });
    await op('wrong_type', async () => {
        await r.set(k('wt'), '1');
        await fails('WRONGTYPE', r.lpush(k('wt'), ['1']));
    });
    await op('unknown_command', () => fails('unknown command', r.customCommand(['NOSUCHCOMMAND', 'a'])));
    await op('pipeline', async () => {
        const batch = new Batch(false);
        range(500).forEach((i) => batch.set(k(`p${i}`), String(i)).get(k(`p${i}`)));
        same(range(500).flatMap((i) => ['OK', String(i)]), await r.exec(batch, true));
    });
    await op('pipeline_error', async () => {
        await r.set(k('pe'), 'x');
        const got = await r.exec(new Batch(false).get(k('pe')).lpush(k('pe'), ['1']).get(k('pe')), false);
        same(['x', true, 'x'], [got[0], /WRONGTYPE/.test(got[1].message), got[2]]);
    });
    await op('scan', async () => {
        await Promise.all(range(300).map((i) => r.set(k(`scan:${i}`), '')));
        const got = new Set();
        let cursor = ofCluster ? new glide.ClusterScanCursor() : '0', page;
        do {
            [cursor, page] = await r.scan(cursor, { match: k('scan:*'), count: 50 });
            page.forEach((key) => got.add(key));
        } while (ofCluster ? !cursor.isFinished() : cursor !== '0');
        same([300, 300], [got.size, (await r.customCommand(['KEYS', k('scan:*')])).length]);
    });
    await op('dbsize', async () => assert(await r.dbsize() >= 300));
    await op('info', async () => assert(/redis_version:[67]/.test(JSON.stringify(await r.info()))));
    await op('client_name', async () => same('kw-name', await (await connect({ clientName: 'kw-name' })).clientGetName()));
    await op('publish', () => heard(false));
    await op('psubscribe', () => heard(true));
    await op('multi', async () => {
        same(['OK', 8, '8'], await r.exec(new Batch(true).set(t('tx'), '7').incr(t('tx')).get(t('tx')), true));
        await fails('not an integer', r.exec(new Batch(true).set(t('tx'), 'x').incr(t('tx')), true));
    });
    await op('watch', async () => {
        const other = await connect();
        await r.set(t('w'), '1');
        await r.watch([t('w')]);
        await other.set(t('w'), '2');
        same(null, await r.exec(new Batch(true).set(t('w'), '3'), true));
        await r.watch([t('w')]);
        same(['2', 'OK'], await r.exec(new Batch(true).get(t('w')).set(t('w'), '4'), true));
    });
    await op('blpop', async () => {
        await r.rpush(k('bl'), ['x']);
        same([[k('bl'), 'x'], null], [await r.blpop([k('bl')], 5), await r.blpop([k('bl')], 1)]);
    });
    await op('brpop_wait', async () => {
        soon((c) => c.lpush(k('later'), ['job']));
        same([k('later'), 'job'], await r.brpop([k('later')], 10));
    });
    await op('bzpopmin', async () => {
        await r.zadd(k('bz'), { a: 2, b: 1 });
        same([k('bz'), 'b', 1], await r.bzpopmin([k('bz')], 5));
    });
    await op('xread_block', async () => {
        soon((c) => c.xadd(k('xb'), [['a', '1']], { id: '7-7' }));
        same({ [k('xb')]: { '7-7': [['a', '1']] } }, pairs(await r.xread({ [k('xb')]: '$' }, { block: 10000 })));
    });
    console.log('done');
    process.exit(0); // connections and all
}
main().catch((e) => {
    console.log(e);
    process.exit(1);
});
