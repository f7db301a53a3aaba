#include "control/discovery_sentinel.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "topology/distribution.h"

/* The first map waits so long for shards that no Sentinel has told of yet. */
#define PATIENCE_MS 2000
/* A Sentinel that nobody names any more is forgotten when it does not answer for so long. */
#define FORGET_MS 60000

struct sentinel_shard *discovery_sentinel_shard(struct discovery_sentinel *s, const char *name)
{
    for (size_t i = 0; i < s->shard_count; i++)
        if (strcmp(s->shards[i].name, name) == 0)
            return &s->shards[i];
    return NULL;
}

/* --- the map --- */

/* Who tells most of a shard's replicas: one that agrees on the owner. */
static const struct sentinel_word *word_of(const struct discovery_sentinel *s,
                                           const struct sentinel_shard *d)
{
    const struct sentinel_word *best = NULL;

    for (struct list_node *at = s->peers.next; at != &s->peers; at = at->next) {
        const struct sentinel_peer *p = CONTAINER_OF(at, const struct sentinel_peer, link);
        const struct sentinel_word *w = &p->words[d->index];

        if (w->valid && addr_equal(&w->addr, &d->owner) &&
            (best == NULL || w->epoch > best->epoch ||
             (w->epoch == best->epoch && w->replica_count > best->replica_count)))
            best = w;
    }
    return best;
}

static int by_addr(const void *a, const void *b)
{
    const struct sentinel_instance *x = a, *y = b;
    int order = strcmp(x->addr.host, y->addr.host);

    return order != 0 ? order : (x->addr.port > y->addr.port) - (x->addr.port < y->addr.port);
}

static struct slotmap_node *add_node(struct discovery_sentinel *s, struct slotmap *m,
                                     const struct addr *a)
{
    struct slotmap_node *n = &m->nodes[m->node_count++];

    memset(n, 0, sizeof(*n));
    n->addr = *a;
    n->master = NODE_NONE;
    n->reachable = true;
    if (!resolver_get(s->resolver, a, &n->target))
        memset(&n->target, 0, sizeof(n->target));
    return n;
}

static void add_replicas(struct discovery_sentinel *s, struct slotmap *m, struct sentinel_shard *d,
                         uint16_t master)
{
    const struct sentinel_word *w = word_of(s, d);

    if (w == NULL || w->replica_count == 0)
        return;
    qsort(w->replicas, w->replica_count, sizeof(*w->replicas), by_addr);
    for (size_t i = 0; i < w->replica_count; i++) {
        struct slotmap_node *n;

        if (slotmap_find_addr(m, &w->replicas[i].addr) != NODE_NONE ||
            m->node_count == NODE_NONE - 1)
            continue;
        n = add_node(s, m, &w->replicas[i].addr);
        n->master = master;
        n->epoch = d->epoch;
        n->reachable = !w->replicas[i].down;
    }
}

static size_t count_nodes(const struct discovery_sentinel *s)
{
    size_t n = s->shard_count;

    for (size_t i = 0; i < s->shard_count; i++) {
        const struct sentinel_word *w = word_of(s, &s->shards[i]);

        n += w != NULL ? w->replica_count : 0;
    }
    return n;
}

static struct slotmap *build_map(struct discovery_sentinel *s)
{
    struct slotmap *m = slotmap_new();
    uint16_t *node_of = xcalloc(s->shard_count, sizeof(*node_of));

    m->sharded = s->shard_count > 1;
    m->nodes = xcalloc(count_nodes(s), sizeof(*m->nodes));
    for (size_t i = 0; i < s->shard_count; i++) {
        struct sentinel_shard *d = &s->shards[i];
        struct slotmap_node *n;

        node_of[i] = NODE_NONE;
        if (!d->owned)
            continue;
        node_of[i] = (uint16_t)m->node_count;
        n = add_node(s, m, &d->owner);
        n->is_master = true;
        n->epoch = d->epoch;
        n->hold = d->hold;
    }
    for (size_t slot = 0; slot < SLOT_COUNT; slot++) {
        m->owner[slot] = node_of[s->deal[slot]];
        if (m->owner[slot] != NODE_NONE)
            m->nodes[m->owner[slot]].slots++;
    }
    for (size_t i = 0; i < s->shard_count; i++)
        if (node_of[i] != NODE_NONE)
            add_replicas(s, m, &s->shards[i], node_of[i]);
    free(node_of);
    return m;
}

static size_t count_owned(const struct discovery_sentinel *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->shard_count; i++)
        n += s->shards[i].owned;
    return n;
}

static void publish(struct discovery_sentinel *s, bool anyway)
{
    size_t owned = count_owned(s);
    struct slotmap *m;

    if (owned == 0 ||
        (s->map == NULL && owned < s->shard_count && clock_ms() - s->started_ms < PATIENCE_MS))
        return;
    m = build_map(s);
    if (!anyway && s->map != NULL && slotmap_same(s->map, m)) {
        slotmap_unref(&m);
        return;
    }
    m->version = ++s->version;
    log_debug("upstream %s: map %llu: %zu nodes, %zu of %zu masters", s->conf->name,
              (unsigned long long)m->version, m->node_count, owned, s->shard_count);
    slotmap_unref(&s->map);
    s->map = m;
    s->site.publish(s->site.arg, s->site.index, slotmap_ref(m));
}

void discovery_sentinel_publish(struct discovery_sentinel *s)
{
    publish(s, false);
}

/* --- time --- */

void discovery_sentinel_arm(struct discovery_sentinel *s)
{
    bool any = false;

    for (size_t i = 0; i < s->shard_count; i++)
        any = any || s->shards[i].kind != CANDIDATE_NONE;
    if (!any) {
        ev_timer_stop(s->site.loop->ev, &s->probe_timer);
    } else if (!ev_is_active(&s->probe_timer)) {
        ev_timer_set(&s->probe_timer, 0, s->times->probe_ms / 1000.0);
        ev_timer_start(s->site.loop->ev, &s->probe_timer);
    }
}

static void on_probe(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct discovery_sentinel *s = CONTAINER_OF(w, struct discovery_sentinel, probe_timer);

    (void)ev;
    (void)revents;
    for (size_t i = 0; i < s->shard_count; i++)
        sentinel_shard_probe(&s->shards[i]);
}

static bool anyone_asked(const struct discovery_sentinel *s)
{
    for (struct list_node *at = s->peers.next; at != &s->peers; at = at->next)
        if (CONTAINER_OF(at, struct sentinel_peer, link)->asking != SIZE_MAX)
            return true;
    return false;
}

static void start_round(struct discovery_sentinel *s, uint64_t now)
{
    struct list_node *pos, *tmp;

    s->wished = false;
    s->round_ms = now;
    s->due_ms = now + s->times->refresh_ms;
    LIST_FOREACH (pos, tmp, &s->peers)
        sentinel_peer_ask(CONTAINER_OF(pos, struct sentinel_peer, link));
}

static void on_step(struct discovery_watch *w)
{
    struct discovery_sentinel *s = CONTAINER_OF(w, struct discovery_sentinel, watch);
    uint64_t now = clock_ms(), gap = 1000 / s->times->refresh_per_s;

    if (atomic_exchange(&w->wish, 0) != 0 || resolver_settle(s->resolver))
        s->wished = s->forced = true;
    if (now >= s->due_ms || (s->wished && now - s->round_ms >= gap))
        start_round(s, now);
    else if (s->forced && !s->wished && !anyone_asked(s)) {
        s->forced = false;
        publish(s, true);
    }
}

/* Those that neither the configuration nor another Sentinel names. */
static void forget_peers(struct discovery_sentinel *s, uint64_t now)
{
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &s->peers) {
        struct sentinel_peer *p = CONTAINER_OF(pos, struct sentinel_peer, link);

        if (!p->seed && p->ask == NULL && now - MIN(now, p->named_ms) > FORGET_MS)
            sentinel_peer_remove(&p);
    }
}

static void on_tick(struct discovery_watch *w, uint64_t now_ms)
{
    struct discovery_sentinel *s = CONTAINER_OF(w, struct discovery_sentinel, watch);
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &s->peers)
        sentinel_peer_tick(CONTAINER_OF(pos, struct sentinel_peer, link), now_ms);
    for (size_t i = 0; i < s->shard_count; i++)
        sentinel_shard_tick(&s->shards[i], now_ms);
    forget_peers(s, now_ms);
    if (s->map == NULL)
        discovery_sentinel_publish(s);
    on_step(w);
}

static void on_free(struct discovery_watch *w)
{
    struct discovery_sentinel *s = CONTAINER_OF(w, struct discovery_sentinel, watch);
    struct list_node *pos, *tmp;

    for (size_t i = 0; i < s->shard_count; i++)
        node_query_close(&s->shards[i].probe);
    LIST_FOREACH (pos, tmp, &s->peers) {
        struct sentinel_peer *p = CONTAINER_OF(pos, struct sentinel_peer, link);

        sentinel_peer_remove(&p);
    }
    ev_timer_stop(s->site.loop->ev, &s->probe_timer);
    resolver_free(&s->resolver);
    slotmap_unref(&s->map);
    free(s->shards);
    free(s);
}

static const struct discovery_watch_ops sentinel_ops = {
    .step = on_step, .tick = on_tick, .free = on_free};

static void set_up_shards(struct discovery_sentinel *s)
{
    s->shard_count = s->conf->master_count;
    s->shards = xcalloc(s->shard_count, sizeof(*s->shards));
    for (size_t i = 0; i < s->shard_count; i++) {
        s->shards[i].s = s;
        s->shards[i].index = i;
        s->shards[i].name = s->conf->masters[i];
    }
    if (s->conf->distribution == DISTRIBUTION_KETAMA)
        distribution_ketama(s->deal, (const char *const *)s->conf->masters, s->shard_count);
    else
        distribution_ranges(s->deal, s->shard_count);
}

struct discovery_watch *discovery_sentinel_watch(const struct discovery_site *site)
{
    struct discovery_sentinel *s = xcalloc(1, sizeof(*s));
    const struct config_upstream *conf = &site->config->upstreams[site->index];

    s->watch.ops = &sentinel_ops;
    atomic_init(&s->watch.wish, 0);
    s->site = *site;
    s->conf = conf;
    s->times = &site->config->topology;
    s->resolver = resolver_new(s->conf, site->lookups, s->times->resolve_ms);
    s->peer_env = (struct node_query_env){site->loop,          &sentinel_peer_ops,
                                          conf->sentinel_user, conf->sentinel_password,
                                          site->scratch,       NODE_QUERY_TOPOLOGY};
    s->server_env =
        (struct node_query_env){site->loop,     &sentinel_server_ops, conf->user,
                                conf->password, site->scratch,        NODE_QUERY_TOPOLOGY};
    s->started_ms = clock_ms();
    list_init(&s->peers);
    ev_timer_init(&s->probe_timer, on_probe, 0, s->times->probe_ms / 1000.0);
    set_up_shards(s);
    for (size_t i = 0; i < conf->seed_count; i++)
        sentinel_peer_know(s, &conf->seeds[i])->seed = true;
    return &s->watch;
}
