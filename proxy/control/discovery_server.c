/*
 * discovery_server.c - the watch over one plain server: nothing but its name is looked after.
 *
 * Whether it answers is the workers' own experience; here its address is resolved again, from time
 * to time and when a worker has lost a connection. When the name has several addresses ("localhost"
 * has two), the one in use is then tried, and the next one takes its turn when it does not answer.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_resolve.h"
#include "control/discovery_watch.h"
#include "control/node_query.h"

struct discovery_server {
    struct discovery_watch watch;
    struct discovery_site site;
    const struct config_upstream *conf;
    struct resolver *resolver;
    struct slotmap *map;
    uint64_t version;
    struct node_query_env env;
    struct node_query *probe; /* NULL: none */
    uint64_t next_ms, last_ms;
    bool wished;
};

static void publish(struct discovery_server *s, struct slotmap *m)
{
    char text[ADDR_TEXT_MAX];

    if (s->map == NULL || s->map->nodes[0].target.len != m->nodes[0].target.len ||
        !slotmap_same(s->map, m))
        log_info("upstream %s: server %s%s", s->conf->name, addr_format(&m->nodes[0].addr, text),
                 m->nodes[0].target.len == 0 ? ", whose name does not resolve" : "");
    m->version = ++s->version;
    slotmap_unref(&s->map);
    s->map = m;
    s->site.publish(s->site.arg, s->site.index, slotmap_ref(m));
}

static void look_up(struct discovery_server *s, uint64_t now)
{
    struct slotmap *m = slotmap_single(&s->conf->seeds[0]);

    if (!resolver_get(s->resolver, &m->nodes[0].addr, &m->nodes[0].target))
        memset(&m->nodes[0].target, 0, sizeof(m->nodes[0].target));
    if (s->wished || s->map == NULL || !slotmap_same(s->map, m))
        publish(s, m);
    else
        slotmap_unref(&m);
    s->wished = false;
    s->last_ms = now;
    /* What a failed look-up cost is the resolver's affair: it waits by itself. */
    s->next_ms = now + 1000;
}

static void on_answered(struct node_query *q, enum node_question what, const redisReply *r)
{
    struct discovery_server *s = node_query_owner(q);

    (void)what;
    (void)r;
    node_query_close(&s->probe);
}

static void unreachable(struct discovery_server *s)
{
    node_query_close(&s->probe);
    resolver_doubt(s->resolver, &s->conf->seeds[0], true);
    s->wished = true;
}

static void on_lost(struct node_query *q, const char *why)
{
    struct discovery_server *s = node_query_owner(q);

    (void)why;
    if (node_query_heard(q)) /* refused, as by one with its maximum of clients: but it is there */
        node_query_close(&s->probe);
    else
        unreachable(s);
}

static const struct node_query_ops probe_ops = {.answered = on_answered, .lost = on_lost};

static void try_address(struct discovery_server *s)
{
    if (s->probe != NULL || s->map == NULL || !resolver_has_choice(s->resolver, &s->conf->seeds[0]))
        return;
    s->probe = node_query_open(&s->env, &s->map->nodes[0].target, s);
    if (s->probe == NULL || !node_query_ask(s->probe, QUESTION_PING))
        unreachable(s);
}

static void on_step(struct discovery_watch *w)
{
    struct discovery_server *s = CONTAINER_OF(w, struct discovery_server, watch);
    uint64_t now = clock_ms(), gap = 1000 / s->site.config->topology.refresh_per_s;

    if (atomic_exchange(&w->wish, 0) != 0) {
        s->wished = true;
        resolver_doubt(s->resolver, &s->conf->seeds[0], false);
        try_address(s);
    }
    if (resolver_settle(s->resolver))
        s->next_ms = now;
    if (s->map == NULL || (s->wished && now - s->last_ms >= gap) || now >= s->next_ms)
        look_up(s, now);
}

static void on_tick(struct discovery_watch *w, uint64_t now_ms)
{
    struct discovery_server *s = CONTAINER_OF(w, struct discovery_server, watch);
    uint64_t patience = s->site.config->topology.query_timeout_ms;

    if (s->probe != NULL && node_query_waiting_since(s->probe) < now_ms - MIN(now_ms, patience))
        unreachable(s);
    on_step(w);
}

static void on_free(struct discovery_watch *w)
{
    struct discovery_server *s = CONTAINER_OF(w, struct discovery_server, watch);

    node_query_close(&s->probe);
    resolver_free(&s->resolver);
    slotmap_unref(&s->map);
    free(s);
}

static const struct discovery_watch_ops server_ops = {
    .step = on_step, .tick = on_tick, .free = on_free};

struct discovery_watch *discovery_server_watch(const struct discovery_site *site)
{
    struct discovery_server *s = xcalloc(1, sizeof(*s));

    s->watch.ops = &server_ops;
    atomic_init(&s->watch.wish, 0);
    s->site = *site;
    s->conf = &site->config->upstreams[site->index];
    s->resolver = resolver_new(s->conf, site->lookups, site->config->topology.resolve_ms);
    s->env = (struct node_query_env){site->loop,        &probe_ops,    s->conf->user,
                                     s->conf->password, site->scratch, NODE_QUERY_TOPOLOGY};
    return &s->watch;
}
