/*
 * discovery_watch.h - what the thread of discovery.c sees of the watch over one upstream.
 *
 * Each kind of upstream has its own: discovery_cluster*.c, discovery_server.c,
 * discovery_sentinel*.c embed this struct.
 * Layer: control. Thread: discovery; only `wish` is set by others. Owner: struct discovery.
 */
#ifndef CONTROL_DISCOVERY_WATCH_H
#define CONTROL_DISCOVERY_WATCH_H

#include <stdatomic.h>

#include "control/discovery.h"
#include "net/stream.h"

struct discovery_watch;
struct lookups;

struct discovery_watch_ops {
    /* Somebody may have set the wish, or a look-up is through. */
    void (*step)(struct discovery_watch *w);
    /* Every LOOP_TICK_MS. */
    void (*tick)(struct discovery_watch *w, uint64_t now_ms);
    void (*free)(struct discovery_watch *w);
};

struct discovery_watch {
    const struct discovery_watch_ops *ops;
    atomic_uint wish; /* set to 1 by any thread; a word of its own, so that no other is touched */
};

/* What a watch is made of; borrowed but for the call of new itself. */
struct discovery_site {
    const struct config *config;
    size_t index; /* of the upstream */
    struct loop *loop;
    struct span scratch;
    struct lookups *lookups;
    discovery_publish_fn *publish;
    void *arg;
};

struct discovery_watch *discovery_cluster_watch(const struct discovery_site *site);
struct discovery_watch *discovery_server_watch(const struct discovery_site *site);
struct discovery_watch *discovery_sentinel_watch(const struct discovery_site *site);

#endif
