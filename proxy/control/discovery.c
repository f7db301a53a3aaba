#include "control/discovery.h"

#include <pthread.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "command/learnt.h"
#include "control/discovery_watch.h"
#include "control/learner.h"
#include "control/lookup.h"

#define DISCOVERY_MAGIC 0x64697363u

struct discovery {
    MAGIC_FIELD;
    pthread_t thread;
    struct loop loop;
    atomic_bool stop;
    size_t count;
    struct discovery_watch **watches; /* one an upstream */
    struct learner **learners;        /* one an upstream; NULL: not to be learnt */
    struct learnt_pool *pool;
    struct lookups *lookups;
    discovery_publish_fn *publish;
    void *arg;
    char scratch[64 * 1024];
};

static void step_learners(struct discovery *d)
{
    for (size_t i = 0; i < d->count && d->learners != NULL; i++)
        learner_step(d->learners[i], clock_ms());
}

static void on_wake(struct loop *l)
{
    struct discovery *d = l->owner;

    if (atomic_load(&d->stop)) {
        loop_stop(l);
        return;
    }
    for (size_t i = 0; i < d->count; i++)
        d->watches[i]->ops->step(d->watches[i]);
    step_learners(d);
}

static void on_tick(struct loop *l)
{
    struct discovery *d = l->owner;

    for (size_t i = 0; i < d->count; i++)
        d->watches[i]->ops->tick(d->watches[i], clock_ms());
    step_learners(d);
}

static void on_map(void *arg, size_t upstream, struct slotmap *m)
{
    struct discovery *d = arg;

    if (d->learners != NULL)
        learner_on_map(d->learners[upstream], m);
    d->publish(d->arg, upstream, m);
}

static void *run(void *arg)
{
    struct discovery *d = arg;

    log_set_thread("discovery");
    loop_run(&d->loop);
    /* What is left of chains and blocks belongs to the thread that made it. */
    for (size_t i = 0; i < d->count; i++)
        d->watches[i]->ops->free(d->watches[i]);
    for (size_t i = 0; i < d->count && d->learners != NULL; i++)
        learner_free(&d->learners[i]);
    chain_thread_end();
    block_thread_end();
    return NULL;
}

static struct discovery_watch *new_watch(const struct discovery_site *site)
{
    switch (site->config->upstreams[site->index].kind) {
    case UPSTREAM_SERVER:
        return discovery_server_watch(site);
    case UPSTREAM_SENTINEL:
        return discovery_sentinel_watch(site);
    default:
        return discovery_cluster_watch(site);
    }
}

static void start_learners(struct discovery *d, const struct discovery_site *site,
                           discovery_commands_fn *commands)
{
    d->pool = learnt_pool_new();
    d->learners = xcalloc(d->count, sizeof(*d->learners));
    for (size_t i = 0; i < d->count; i++) {
        struct discovery_site own = *site;

        own.index = i;
        d->learners[i] = learner_new(&own, d->pool, commands);
    }
}

struct discovery *discovery_new(const struct config *config, discovery_publish_fn *publish,
                                discovery_commands_fn *commands, void *arg)
{
    struct discovery *d = xcalloc(1, sizeof(*d));

    d->magic = DISCOVERY_MAGIC;
    loop_init(&d->loop, ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOSIGMASK), d);
    d->loop.on_wake = on_wake;
    d->loop.on_tick = on_tick;
    atomic_init(&d->stop, false);
    d->lookups = lookups_new(&d->loop);
    d->count = config->upstream_count;
    d->watches = xcalloc(d->count, sizeof(*d->watches));
    d->publish = publish;
    d->arg = arg;
    for (size_t i = 0; i < d->count; i++) {
        struct discovery_site site = {
            config, i, &d->loop, {d->scratch, sizeof(d->scratch)}, d->lookups, on_map, d};

        d->watches[i] = new_watch(&site);
        site.arg = arg;
        if (i == 0 && commands != NULL)
            start_learners(d, &site, commands);
    }
    return d;
}

void discovery_start(struct discovery *d)
{
    sigset_t all, before;

    CHECK_MAGIC(d, DISCOVERY_MAGIC);
    /* Signals are the main thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&d->thread, NULL, run, d) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    loop_wake(&d->loop); /* the first steps need not wait for a tick */
}

void discovery_want_refresh(struct discovery *d, size_t upstream)
{
    CHECK_MAGIC(d, DISCOVERY_MAGIC);
    CHECK(upstream < d->count);
    /* Whoever finds the flag set knows that the wake-up is on its way. */
    if (atomic_exchange(&d->watches[upstream]->wish, 1) == 0)
        loop_wake(&d->loop);
}

void discovery_want_commands(struct discovery *d, size_t upstream)
{
    CHECK_MAGIC(d, DISCOVERY_MAGIC);
    CHECK(upstream < d->count);
    if (d->learners != NULL && learner_wish(d->learners[upstream]))
        loop_wake(&d->loop);
}

void discovery_stop(struct discovery **discovery)
{
    struct discovery *d = *discovery;

    *discovery = NULL;
    if (d == NULL)
        return;
    CHECK_MAGIC(d, DISCOVERY_MAGIC);
    atomic_store(&d->stop, true);
    loop_wake(&d->loop);
    CHECK(pthread_join(d->thread, NULL) == 0);
    lookups_close(&d->lookups);
    /* Not in its own thread: the wake-up above uses the loop until it returns. */
    loop_deinit(&d->loop);
    free(d->watches);
    free(d->learners);
    learnt_pool_free(&d->pool);
    d->magic = 0;
    free(d);
}
