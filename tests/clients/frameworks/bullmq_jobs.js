// BullMQ: queue, worker, events and flows. In front of a cluster with the prefix in braces that its
// manual asks for.
'use strict';
const assert = require('assert');
const { Queue, Worker, QueueEvents, FlowProducer } = require('bullmq');
const connection = { host: process.env.KW_HOST, port: Number(process.env.KW_PORT), maxRetriesPerRequest: null };
const prefix = process.env.KW_BEHIND === 'cluster' ? '{bull}' : 'bull';
const options = { connection, prefix };
const WAIT = 40000;

async function op(name, f) {
    try {
        await f();
        console.log(`ok ${name}`);
    } catch (e) {
        console.log(`FAIL ${name}: ${String(e.message).replace(/\s+/g, ' ').slice(0, 300)}`);
    }
}

async function until(f) {
    for (const end = Date.now() + WAIT; !(await f());) {
        if (Date.now() > end)
            throw new Error(`not in time: ${f}`);
        await new Promise((done) => setTimeout(done, 50));
    }
}

async function main() {
    console.log(`version ${require('bullmq/package.json').version}`);
    const queue = new Queue('kw', options);
    const events = new QueueEvents('kw', options);
    await events.waitUntilReady();
    const worker = new Worker('kw', async (job) => {
        if (job.name === 'fail' || (job.name === 'flaky' && job.attemptsMade < 2))
            throw new Error('on purpose');
        if (job.name === 'parent')
            return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
        await job.updateProgress(50);
        return job.data.n * 2;
    }, { ...options, concurrency: 3 });
    worker.on('error', (e) => console.log('worker:', e.message));

    await op('add', async () => {
        const job = await queue.add('double', { n: 21 });
        assert.strictEqual(await job.waitUntilFinished(events, WAIT), 42);
    });
    await op('add_bulk', async () => {
        const jobs = await queue.addBulk([...Array(30).keys()].map((n) => ({ name: 'double', data: { n } })));
        assert.deepStrictEqual(await Promise.all(jobs.map((j) => j.waitUntilFinished(events, WAIT))),
            [...Array(30).keys()].map((n) => n * 2));
    });
    await op('delayed', async () => {
        const job = await queue.add('double', { n: 4 }, { delay: 500 });
        assert.strictEqual(await job.getState(), 'delayed');
        assert.strictEqual(await job.waitUntilFinished(events, WAIT), 8);
    });
    await op('priority', async () => {
        const job = await queue.add('double', { n: 5 }, { priority: 3 });
        assert.strictEqual(await job.waitUntilFinished(events, WAIT), 10);
    });
    await op('retry', async () => {
        const job = await queue.add('flaky', { n: 6 }, { attempts: 3, backoff: 50 });
        assert.strictEqual(await job.waitUntilFinished(events, WAIT), 12);
    });
    await op('failed', async () => {
        const job = await queue.add('fail', {});
        await assert.rejects(job.waitUntilFinished(events, WAIT), /on purpose/);
        assert.strictEqual(await queue.getFailedCount(), 1);
    });
    await op('progress_events', async () => {
        const seen = new Promise((done) => events.once('progress', ({ data }) => done(data)));
        await queue.add('double', { n: 1 });
        assert.strictEqual(await seen, 50);
    });
    await op('flow', async () => {
        const flow = new FlowProducer(options);
        const { job } = await flow.add({ name: 'parent', queueName: 'kw',
            children: [1, 2, 3].map((n) => ({ name: 'double', data: { n }, queueName: 'kw' })) });
        assert.strictEqual(await job.waitUntilFinished(events, WAIT), 12);
        await flow.close();
    });
    await op('counts', () => until(async () => {
        const counts = await queue.getJobCounts('completed', 'failed', 'active', 'waiting');
        return counts.active === 0 && counts.waiting === 0 && counts.failed === 1 && counts.completed >= 38;
    }));
    console.log('done');
    process.exit(0);
}
main().catch((e) => {
    console.log(e);
    process.exit(1);
});
