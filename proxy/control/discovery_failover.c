/*
 * discovery_failover.c - the watch over masters.
 *
 * A master whose connection broke, or which the cluster calls failed, is out of reach. Its replicas
 * are then asked ROLE every topology.probe_ms, and the first that says master owns the slots at
 * once, before any neighbour has heard of it. The guard keeps it so until a claim with a higher
 * epoch than the dead master's is told, or the promoted node itself says otherwise.
 */
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_cluster.h"

/* So long at least ROLE is asked every topology.probe, then every LEISURE_MS. */
#define HASTE_MIN_MS 1000u
#define LEISURE_MS 200
/* Who answers for so long is well. */
#define WELL_MS 5000

static struct discovery_node *node_of(struct discovery_cluster *c, size_t i)
{
    struct discovery_node *n = c->map_nodes[i];

    /* Another server may have taken the address of one that is gone. */
    return n->id[0] == '\0' || strcmp(n->id, c->map->nodes[i].id) == 0 ? n : NULL;
}

static bool out_of_reach(struct discovery_cluster *c, size_t i)
{
    const struct slotmap_node *mn = &c->map->nodes[i];
    const struct discovery_node *n;

    if (mn->slots == 0)
        return false;
    n = node_of(c, i);
    return !mn->reachable || (n != NULL && (n->down || n->loading));
}

/* Since when it is out of reach: one that only comes and goes, as it is slow, is not new to it each
 * time; one that the cluster calls failed is about to be replaced. */
static void note_reach(struct discovery_node *n, bool out, bool failed, uint64_t now)
{
    if (out) {
        if (n->out_ms == 0 || (failed && !n->out_failed))
            n->out_ms = now;
        n->well_ms = 0;
        n->out_failed = failed;
    } else if (n->well_ms == 0) {
        n->well_ms = now;
    } else if (now - n->well_ms > WELL_MS) {
        n->out_ms = 0;
        n->out_failed = false;
    }
}

bool discovery_failover_check(struct discovery_cluster *c)
{
    uint64_t now = clock_ms();
    bool any = false;

    for (size_t i = 0; c->map != NULL && i < c->map->node_count; i++) {
        bool out = out_of_reach(c, i);

        note_reach(c->map_nodes[i], out, !c->map->nodes[i].reachable, now);
        any = any || out;
    }
    if (!any) {
        ev_timer_stop(c->loop->ev, &c->probe_timer);
    } else if (!ev_is_active(&c->probe_timer)) {
        ev_timer_set(&c->probe_timer, 0, c->times->probe_ms / 1000.0);
        ev_timer_start(c->loop->ev, &c->probe_timer);
    }
    return any;
}

/* When all who waited have their error, nor is anybody promoted, haste helps nobody: the servers of
 * a master that is merely slow are not asked a hundred times a second for ever. */
static uint64_t probe_gap(const struct discovery_cluster *c, const struct discovery_node *master,
                          uint64_t now)
{
    return now - master->out_ms > MAX(c->ride_through_ms, HASTE_MIN_MS) ? LEISURE_MS : 0;
}

void discovery_failover_tick(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct discovery_cluster *c = CONTAINER_OF(w, struct discovery_cluster, probe_timer);

    uint64_t now = clock_ms();

    (void)ev;
    (void)revents;
    for (size_t i = 0; i < c->map->node_count; i++) {
        uint16_t master = c->map->nodes[i].is_master ? (uint16_t)i : c->map->nodes[i].master;
        struct discovery_node *n;

        if (master == NODE_NONE || !out_of_reach(c, master))
            continue;
        n = node_of(c, i);
        if (n == NULL || now - n->probed_ms < probe_gap(c, c->map_nodes[master], now))
            continue;
        n->probed_ms = now;
        discovery_node_probe(n);
    }
}

/* The published map with all slots of `from` given to its replica `to`. */
static struct slotmap *handed_over(const struct slotmap *old, uint16_t from, uint16_t to)
{
    struct slotmap *m = discovery_guard_copy(old);

    for (size_t slot = 0; slot < SLOT_COUNT; slot++)
        if (m->owner[slot] == from)
            m->owner[slot] = to;
    for (size_t i = 0; i < m->move_count; i++) {
        if (m->moves[i].from == from)
            m->moves[i].from = to;
        if (m->moves[i].to == from)
            m->moves[i].to = to;
    }
    for (size_t i = 0; i < m->node_count; i++)
        if (m->nodes[i].master == from)
            m->nodes[i].master = to;
    m->nodes[to].is_master = true;
    m->nodes[to].master = NODE_NONE;
    m->nodes[to].reachable = true;
    m->nodes[to].slots += m->nodes[from].slots;
    /* Elected, it has a higher epoch than its master had; which one, its own answer will tell. */
    m->nodes[to].epoch = m->nodes[from].epoch + 1;
    m->nodes[from].slots = 0;
    m->nodes[from].reachable = false;
    return m;
}

static void promote(struct discovery_cluster *c, struct discovery_node *n, uint16_t to)
{
    uint16_t from = c->map->nodes[to].master;
    struct slotmap *m = handed_over(c->map, from, to);
    char a[ADDR_TEXT_MAX], b[ADDR_TEXT_MAX];
    bool forced = c->forced;

    log_info("upstream %s: %s is master in place of %s", c->conf->name,
             addr_format(&m->nodes[to].addr, a), addr_format(&m->nodes[from].addr, b));
    /* What it answered before it was promoted says nothing of now. */
    n->answered_round = 0;
    discovery_cluster_publish(c, &m, "promoted");
    /* Of other slots this map has no news: a refresh that was wished for is still owed. */
    c->forced = forced;
    c->urgent = true;
}

void discovery_failover_role(struct discovery_cluster *c, struct discovery_node *n,
                             const redisReply *r)
{
    bool master;

    if (r->type == REDIS_REPLY_ERROR) {
        discovery_node_complain(n, r->str);
        return;
    }
    if (c->map == NULL || r->type != REDIS_REPLY_ARRAY || r->elements == 0 ||
        r->element[0]->type != REDIS_REPLY_STRING)
        return;
    master = strcasecmp(r->element[0]->str, "master") == 0;
    for (size_t i = 0; i < c->map->node_count; i++) {
        uint16_t from = c->map->nodes[i].master;

        if (node_of(c, i) != n)
            continue;
        if (n->down) {
            /* It is back. If another was promoted meanwhile, the round will tell. */
            n->down = false;
            c->urgent = true;
        }
        if (master && from != NODE_NONE && !c->map->nodes[i].is_master && out_of_reach(c, from)) {
            promote(c, n, (uint16_t)i);
            return;
        }
    }
}
