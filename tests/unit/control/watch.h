/*
 * watch.h - collects the maps that a running discovery publishes, and prints a line for each.
 *
 * Thread: on_map runs in the discovery thread, the rest in the test's.
 */
#ifndef TEST_CONTROL_WATCH_H
#define TEST_CONTROL_WATCH_H

#include <pthread.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "config/config.h"
#include "control/discovery.h"

struct watch {
    pthread_mutex_t lock;
    struct slotmap *map; /* the newest */
    unsigned published;
    uint64_t at_us; /* when */
    uint64_t began_us;
    bool went_back;         /* a version that is not higher than the one before */
    uint16_t owner_port;    /* of slot 0; 0: none */
    unsigned owner_changes; /* of slot 0, however short */
    struct config *config;
    struct discovery *discovery;
};

typedef bool watch_test(const struct slotmap *m, const void *arg);

static inline void print_map(const struct watch *w, const struct slotmap *m)
{
    size_t moves = m->move_count;

    printf("\n    %8.1f ms: map %llu:", (double)(clock_us() - w->began_us) / 1000,
           (unsigned long long)m->version);
    for (size_t i = 0; i < m->node_count; i++) {
        const struct slotmap_node *n = &m->nodes[i];

        printf(" %u%s%s", n->addr.port, n->is_master ? "M" : "r", n->reachable ? "" : "!");
        if (n->slots > 0)
            printf("(%u)", n->slots);
    }
    if (moves > 0)
        printf(" moving %zu", moves);
}

static inline void note_owner(struct watch *w, const struct slotmap *m)
{
    uint16_t port = m->owner[0] != NODE_NONE ? m->nodes[m->owner[0]].addr.port : 0;

    w->owner_changes += port != w->owner_port;
    w->owner_port = port;
}

static inline void on_map(void *arg, size_t upstream, struct slotmap *m)
{
    struct watch *w = arg;

    (void)upstream;
    pthread_mutex_lock(&w->lock);
    w->at_us = clock_us();
    w->went_back = w->went_back || (w->map != NULL && m->version <= w->map->version);
    slotmap_unref(&w->map);
    w->map = m;
    w->published++;
    note_owner(w, m);
    print_map(w, m);
    pthread_mutex_unlock(&w->lock);
}

/* Waits until the newest map passes the test; when is told in *at_us, which may be NULL. */
static inline bool watch_wait(struct watch *w, uint32_t timeout_ms, watch_test *test,
                              const void *arg, uint64_t *at_us)
{
    uint64_t end = clock_ms() + timeout_ms;

    for (;;) {
        bool ok;

        pthread_mutex_lock(&w->lock);
        ok = w->map != NULL && test(w->map, arg);
        if (ok && at_us != NULL)
            *at_us = w->at_us;
        pthread_mutex_unlock(&w->lock);
        if (ok || clock_ms() > end)
            return ok;
        usleep(1000);
    }
}

static inline unsigned watch_count(struct watch *w)
{
    unsigned n;

    pthread_mutex_lock(&w->lock);
    n = w->published;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static inline unsigned watch_owner_changes(struct watch *w)
{
    unsigned n;

    pthread_mutex_lock(&w->lock);
    n = w->owner_changes;
    pthread_mutex_unlock(&w->lock);
    return n;
}

/* True when `test` holds for the newest map at all looks during the time. */
static inline bool watch_holds(struct watch *w, uint32_t for_ms, watch_test *test, const void *arg)
{
    uint64_t end = clock_ms() + for_ms;

    while (clock_ms() < end) {
        if (!watch_wait(w, 0, test, arg, NULL))
            return false;
        usleep(2000);
    }
    return true;
}

/* Tests of maps. */

struct slot_owner {
    uint16_t slot, port;
};

static inline bool map_owner_is(const struct slotmap *m, const void *arg)
{
    const struct slot_owner *so = arg;
    uint16_t i = m->owner[so->slot];

    return i != NODE_NONE && m->nodes[i].addr.port == so->port && m->nodes[i].is_master &&
           m->nodes[i].target.len != 0;
}

static inline bool map_has_node(const struct slotmap *m, const void *arg)
{
    for (size_t i = 0; i < m->node_count; i++)
        if (m->nodes[i].addr.port == *(const uint16_t *)arg)
            return true;
    return false;
}

static inline bool map_has_nodes(const struct slotmap *m, const void *arg)
{
    return m->node_count == *(const size_t *)arg;
}

static inline bool map_covers_all(const struct slotmap *m, const void *arg)
{
    (void)arg;
    for (size_t slot = 0; slot < SLOT_COUNT; slot++)
        if (m->owner[slot] == NODE_NONE)
            return false;
    return true;
}

static inline bool map_is_moving(const struct slotmap *m, const void *arg)
{
    return slotmap_is_moving(m, *(const uint16_t *)arg);
}

/* Starting and stopping. `seeds` is a list of addresses ended by NULL. */

static inline void watch_prepare(struct watch *w, const char *const *seeds)
{
    struct config_upstream *u;

    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    w->began_us = clock_us();
    w->config = config_new();
    w->config->upstreams = u = xcalloc(1, sizeof(*u));
    w->config->upstream_count = 1;
    u->name = xstrdup("test");
    u->kind = UPSTREAM_CLUSTER;
    while (seeds[u->seed_count] != NULL)
        u->seed_count++;
    u->seeds = xcalloc(u->seed_count, sizeof(*u->seeds));
    for (size_t i = 0; i < u->seed_count; i++)
        CHECK(addr_parse(seeds[i], strlen(seeds[i]), &u->seeds[i]));
}

static inline void watch_start(struct watch *w)
{
    w->discovery = discovery_new(w->config, on_map, NULL, w);
    discovery_start(w->discovery);
}

/* True when a map had a version that was not higher than the one before. */
static inline bool watch_stop(struct watch *w)
{
    discovery_stop(&w->discovery);
    slotmap_unref(&w->map);
    config_free(&w->config);
    pthread_mutex_destroy(&w->lock);
    return w->went_back;
}

#endif
