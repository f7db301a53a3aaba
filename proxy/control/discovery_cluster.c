#include "control/discovery_cluster.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

/* A map is made of what has come in by then, if anything has. */
#define PATIENCE_MS 50
/* Answers after the first map are taken together. */
#define GATHER_MS 10
/* Nobody answers: the next try. */
#define SILENT_MS 250
/* The next round while slots have no owner or an owner is out of reach. */
#define UNEASY_MS 1000
/* How often it is said that nobody answers. */
#define SILENT_LOG_MS 10000

uint64_t discovery_jitter(struct discovery_cluster *c, uint64_t ms)
{
    return ms - ms / 5 + random_next(&c->random) % (ms * 2 / 5 + 1);
}

static void on_timer(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    discovery_cluster_step(CONTAINER_OF(w, struct discovery_cluster, timer));
}

static const struct discovery_watch_ops cluster_ops;

struct discovery_watch *discovery_cluster_watch(const struct discovery_site *site)
{
    struct discovery_cluster *c = xcalloc(1, sizeof(*c));
    struct loop *loop = site->loop;

    c->watch.ops = &cluster_ops;
    atomic_init(&c->watch.wish, 0);
    c->conf = &site->config->upstreams[site->index];
    c->times = &site->config->topology;
    c->ride_through_ms = site->config->backend.ride_through_ms;
    c->index = site->index;
    c->loop = loop;
    c->publish = site->publish;
    c->arg = site->arg;
    c->random = (clock_us() + c->index) * 2 + 1;
    c->resolver = resolver_new(c->conf, site->lookups, c->times->resolve_ms);
    c->env = (struct node_query_env){loop,          &discovery_node_ops,
                                     c->conf->user, c->conf->password,
                                     site->scratch, NODE_QUERY_TOPOLOGY};
    list_init(&c->nodes);
    c->use_seeds = true;
    c->judge_ms = UINT64_MAX;
    ev_timer_init(&c->timer, on_timer, 0, 0);
    ev_timer_start(loop->ev, &c->timer);
    ev_timer_init(&c->probe_timer, discovery_failover_tick, 0, c->times->probe_ms / 1000.0);
    return &c->watch;
}

static void free_watch(struct discovery_watch *w)
{
    struct discovery_cluster *c = CONTAINER_OF(w, struct discovery_cluster, watch);
    struct list_node *pos, *tmp;

    ev_timer_stop(c->loop->ev, &c->timer);
    ev_timer_stop(c->loop->ev, &c->probe_timer);
    LIST_FOREACH (pos, tmp, &c->nodes) {
        struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);

        discovery_node_remove(&n);
    }
    cluster_builder_free(&c->builder);
    slotmap_unref(&c->map);
    free(c->map_nodes);
    resolver_free(&c->resolver);
    free(c);
}

static void step_watch(struct discovery_watch *w)
{
    struct discovery_cluster *c = CONTAINER_OF(w, struct discovery_cluster, watch);

    if (resolver_settle(c->resolver))
        c->wished = true;
    discovery_cluster_step(c);
}

static void tick_watch(struct discovery_watch *w, uint64_t now_ms)
{
    discovery_nodes_expire(CONTAINER_OF(w, struct discovery_cluster, watch), now_ms);
}

static const struct discovery_watch_ops cluster_ops = {
    .step = step_watch, .tick = tick_watch, .free = free_watch};

/* --- the nodes to ask --- */

static struct discovery_node *know(struct discovery_cluster *c, const struct addr *a)
{
    struct discovery_node *n = discovery_node_find(c, a);

    return n != NULL ? n : discovery_node_add(c, a);
}

/* Adds the seeds where they are asked; what is neither of them nor in the map goes. */
static void sweep_nodes(struct discovery_cluster *c)
{
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &c->nodes)
        CONTAINER_OF(pos, struct discovery_node, link)->keep = false;
    for (size_t i = 0; c->map != NULL && i < c->map->node_count; i++)
        c->map_nodes[i]->keep = true;
    for (size_t i = 0; c->use_seeds && i < c->conf->seed_count; i++)
        know(c, &c->conf->seeds[i])->keep = true;
    LIST_FOREACH (pos, tmp, &c->nodes) {
        struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);

        if (!n->keep)
            discovery_node_remove(&n);
    }
}

static void ask_nodes(struct discovery_cluster *c)
{
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &c->nodes) {
        struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);

        if (n->asked_round != c->round)
            discovery_node_ask(n);
        /* One that failed at once, or still owes an older answer, has had its turn. */
        n->asked_round = n->pending ? n->asked_round : c->round;
    }
}

static bool anyone_pending(struct discovery_cluster *c)
{
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &c->nodes)
        if (CONTAINER_OF(pos, struct discovery_node, link)->pending)
            return true;
    return false;
}

/* --- publishing --- */

/* Makes m the cluster's map; its nodes are known from now on. */
static void adopt(struct discovery_cluster *c, struct slotmap *m)
{
    slotmap_unref(&c->map);
    c->map = m;
    c->map_nodes = xrealloc(c->map_nodes, (m->node_count + 1) * sizeof(struct discovery_node *));
    for (size_t i = 0; i < m->node_count; i++)
        c->map_nodes[i] = know(c, &m->nodes[i].addr);
}

static size_t count_unowned(const struct slotmap *m)
{
    size_t n = 0;

    for (size_t slot = 0; slot < SLOT_COUNT; slot++)
        n += m->owner[slot] == NODE_NONE;
    return n;
}

static void log_map(const struct discovery_cluster *c, const struct slotmap *m, const char *why)
{
    size_t masters = 0, failed = 0;

    for (size_t i = 0; i < m->node_count; i++) {
        masters += m->nodes[i].slots > 0;
        failed += !m->nodes[i].reachable;
    }
    log_info("upstream %s: map %llu (%s): %zu nodes, %zu masters with slots, %zu failed, %zu slots "
             "without an owner, %zu moving",
             c->conf->name, (unsigned long long)m->version, why, m->node_count, masters, failed,
             count_unowned(m), m->move_count);
}

void discovery_cluster_publish(struct discovery_cluster *c, struct slotmap **map, const char *why)
{
    struct slotmap *m = *map;
    bool changed = c->map == NULL || !slotmap_same(c->map, m);

    *map = NULL;
    m->version = ++c->version;
    c->forced = false;
    if (changed)
        log_map(c, m, why);
    adopt(c, m);
    c->publish(c->arg, c->index, slotmap_ref(m));
}

static void resolve_targets(struct discovery_cluster *c, struct slotmap *m)
{
    for (size_t i = 0; i < m->node_count; i++)
        if (!resolver_get(c->resolver, &m->nodes[i].addr, &m->nodes[i].target))
            memset(&m->nodes[i].target, 0, sizeof(m->nodes[i].target));
}

/* Makes a map of the answers so far. */
static void judge(struct discovery_cluster *c, bool complete)
{
    struct slotmap *m;

    c->judge_ms = UINT64_MAX;
    if (c->told == 0)
        return;
    m = cluster_builder_finish(c->builder, 0);
    if (c->map == NULL && !complete && count_unowned(m) == SLOT_COUNT) {
        /* A lone node that waits to be joined; another seed may know more. */
        slotmap_unref(&m);
        return;
    }
    discovery_guard_apply(c, &m, complete);
    resolve_targets(c, m);
    c->judged = true;
    if (c->map == NULL || c->forced || !slotmap_same(c->map, m))
        discovery_cluster_publish(c, &m, complete ? "all asked" : "most asked");
    else
        slotmap_unref(&m);
    /* The news of the nodes just learnt belong to this round, but a cluster that names new nodes
     * without end does not prolong it without end. */
    if (clock_ms() - c->started_ms < c->times->query_timeout_ms)
        ask_nodes(c);
}

/* --- rounds --- */

static void start_round(struct discovery_cluster *c, uint64_t now)
{
    if (c->running)
        cluster_builder_free(&c->builder);
    c->round++;
    c->running = true;
    c->forced = c->forced || c->wished;
    c->wished = c->urgent = c->judged = false;
    c->builder = cluster_builder_new();
    c->told = 0;
    c->started_ms = now;
    c->judge_ms = now + PATIENCE_MS;
    sweep_nodes(c);
    ask_nodes(c);
}

static void log_silence(struct discovery_cluster *c, uint64_t now)
{
    if (c->complained_ms != 0 && now - c->complained_ms < SILENT_LOG_MS)
        return;
    c->complained_ms = now;
    log_error("upstream %s: none of the %s gives an answer to use; trying on", c->conf->name,
              c->map != NULL ? "known nodes and seeds" : "seeds");
}

static void end_round(struct discovery_cluster *c, uint64_t now)
{
    size_t told = c->told;
    bool uneasy;

    judge(c, true);
    if (anyone_pending(c))
        return; /* nodes just learnt: their answers belong to the round */
    c->running = false;
    cluster_builder_free(&c->builder);
    if (told > 0) {
        if (c->complained_ms != 0)
            log_info("upstream %s: answers again", c->conf->name);
        c->complained_ms = 0;
        /* Whoever has lost sight of part of the cluster may be told of it by a seed. */
        c->use_seeds = count_unowned(c->map) > 0;
        sweep_nodes(c);
        uneasy = discovery_failover_check(c) || c->use_seeds;
        c->due_ms = now + discovery_jitter(c, uneasy ? MIN(UNEASY_MS, c->times->refresh_ms)
                                                     : c->times->refresh_ms);
        return;
    }
    if (c->use_seeds)
        log_silence(c, now);
    c->due_ms = now + (c->use_seeds ? discovery_jitter(c, SILENT_MS) : 0);
    /* A connection lost is no reason for haste while nobody answers; a wish is, and the rate of
     * rounds bounds it. */
    c->urgent = false;
    c->use_seeds = true;
}

static uint64_t round_at(const struct discovery_cluster *c)
{
    uint64_t gap = 1000 / c->times->refresh_per_s + (1000 % c->times->refresh_per_s != 0);
    uint64_t earliest = c->round == 0 ? 0 : c->started_ms + gap;
    bool hurry = c->wished || c->urgent || c->forced;

    /* A node that owes its answer holds up neither the map nor, once that is out, the next round.
     */
    if (c->running)
        return hurry && c->judged ? earliest : UINT64_MAX;
    return hurry ? earliest : MAX(earliest, c->due_ms);
}

void discovery_cluster_step(struct discovery_cluster *c)
{
    uint64_t now = clock_ms(), next;

    if (atomic_exchange(&c->watch.wish, 0) != 0)
        c->wished = true;
    if (c->running && !anyone_pending(c))
        end_round(c, now);
    else if (c->running && now >= c->judge_ms)
        judge(c, false);
    if (now >= round_at(c))
        start_round(c, now);
    discovery_failover_check(c);
    next = MIN(round_at(c), c->running ? c->judge_ms : UINT64_MAX);
    if (c->running && !anyone_pending(c))
        next = now; /* all failed at once */
    ev_timer_stop(c->loop->ev, &c->timer);
    if (next == UINT64_MAX)
        return;
    /* The loop's clock stands still during a turn, ours does not; a millisecond more, because a
     * timer that fires a little early would only spin. */
    ev_now_update(c->loop->ev);
    ev_timer_set(&c->timer, next > now ? (double)(next - now + 1) / 1000.0 : 0.0, 0);
    ev_timer_start(c->loop->ev, &c->timer);
}

/* --- answers --- */

/* The id on the line whose flags have the word myself. */
static void learn_id(struct discovery_node *n, const char *text, size_t len)
{
    const char *p = text, *end = text + len;

    while (p < end) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *stop = eol != NULL ? eol : end;
        const char *f = memmem(p, (size_t)(stop - p), " myself,", 8);
        const char *id_end = memchr(p, ' ', (size_t)(stop - p));

        if (f != NULL && id_end != NULL && id_end - p <= NODE_ID_LEN) {
            memset(n->id, 0, sizeof(n->id));
            memcpy(n->id, p, (size_t)(id_end - p));
            return;
        }
        p = stop + 1;
    }
}

static bool take_answer(struct discovery_cluster *c, struct discovery_node *n, const redisReply *r)
{
    char err[200];

    if (r->type == REDIS_REPLY_ERROR) {
        discovery_node_complain(n, r->str);
        /* One that loads its data is no owner yet: its replica may be promoted meanwhile. */
        n->loading = strncmp(r->str, "LOADING", 7) == 0;
        return false;
    }
    n->loading = false;
    if (r->type != REDIS_REPLY_STRING) {
        discovery_node_complain(n, "CLUSTER NODES: an answer of another type");
        return false;
    }
    if (!cluster_builder_add(c->builder, &n->addr, r->str, (size_t)r->len, err, sizeof(err))) {
        discovery_node_complain(n, err);
        return false;
    }
    discovery_node_complain(n, NULL);
    learn_id(n, r->str, (size_t)r->len);
    return true;
}

void discovery_cluster_hear(struct discovery_cluster *c, struct discovery_node *n,
                            const redisReply *r)
{
    uint64_t now = clock_ms();

    /* Without a round nothing is pending: a round ends when nobody is. */
    CHECK(c->running);
    n->down = false;
    if (!take_answer(c, n, r))
        return;
    c->told++;
    if (n->asked_round == c->round)
        n->answered_round = c->round;
    if (c->map == NULL || (!c->judged && discovery_guard_majority(c)))
        c->judge_ms = now;
    else if (c->judge_ms == UINT64_MAX)
        c->judge_ms = now + GATHER_MS;
}
