#include "session/upstream.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/hub.h"
#include "session/monitor.h"
#include "session/wait.h"

/* A node that no map names keeps its connections so long, for answers under way and late ASKs. */
#define SWEEP_MS 1000

static uint16_t base_profile(struct upstream *u, uint8_t proto)
{
    struct profile p = {.proto = proto,
                        .guest = u->config->password == NULL,
                        .user = u->config->user,
                        .password = u->config->password};
    int i = profile_find(&u->env->profiles, &p);

    CHECK(i >= 0);
    return (uint16_t)i;
}

struct upstream *upstream_new(struct session_env *env, size_t index)
{
    struct upstream *u = xcalloc(1, sizeof(*u));

    u->env = env;
    u->index = index;
    u->config = &env->config->upstreams[index];
    u->single = config_is_single(u->config);
    u->map = slotmap_new();
    u->map->sharded = !u->single;
    list_init(&u->nodes);
    list_init(&u->hubs);
    u->numbered = xcalloc(1, sizeof(struct node *));
    u->number_count = 1;
    u->base_profile[0] = base_profile(u, 2);
    u->base_profile[1] = base_profile(u, 3);
    u->guests_vary = u->guests_refused = u->config->password != NULL;
    return u;
}

void upstream_free(struct upstream **p)
{
    struct upstream *u = *p;
    struct list_node *at, *tmp;

    *p = NULL;
    hubs_free(u);
    monitor_hub_free(&u->monitors);
    waits_free(&u->waits);
    LIST_FOREACH (at, tmp, &u->nodes) {
        struct node *n = CONTAINER_OF(at, struct node, link);

        node_free(&n);
    }
    slotmap_unref(&u->map);
    learnt_unref(&u->learnt);
    free(u->map_nodes);
    free(u->numbered);
    free(u);
}

static struct node *find_node(const struct upstream *u, const struct addr *a)
{
    for (struct list_node *at = u->nodes.next; at != &u->nodes; at = at->next) {
        struct node *n = CONTAINER_OF(at, struct node, link);

        if (addr_equal(&n->addr, a))
            return n;
    }
    return NULL;
}

static uint16_t free_number(struct upstream *u)
{
    uint32_t i = 1;

    while (i < u->number_count && u->numbered[i] != NULL)
        i++;
    CHECK(i <= UINT16_MAX);
    if (i == u->number_count)
        u->numbered = xrealloc(u->numbered, ++u->number_count * sizeof(struct node *));
    return (uint16_t)i;
}

static struct node *add_node(struct upstream *u, const struct addr *a,
                             const struct sockaddr_any *target)
{
    struct node *n = node_new(&u->env->backend, a, target);

    n->user = u;
    n->opener = u->base_profile[0];
    n->number = free_number(u);
    u->numbered[n->number] = n;
    n->mark = (uint16_t)(1u << (n->number & 15));
    list_push(&u->nodes, &n->link);
    return n;
}

struct node *upstream_node(struct upstream *u, const struct addr *a)
{
    uint16_t known = slotmap_find_addr(u->map, a);
    struct node *n = known != NODE_NONE ? u->map_nodes[known] : find_node(u, a);
    struct sockaddr_any target;

    if (n == NULL) {
        struct addr dialled = config_dialled(u->config, a);

        if (addr_numeric(&dialled, &target))
            n = add_node(u, a, &target);
    }
    return n;
}

static void reroute(struct upstream *u, uint16_t slot, struct node *n)
{
    if (upstream_route(u, slot) == n)
        return;
    u->route[slot] = n != NULL ? n->number : 0;
    u->slot_epoch[slot] = u->epoch;
    if (n == NULL)
        return;
    n->outage_ms = 0; /* one from before it owned the slot says nothing about now */
    n->displaced = false;
}

void upstream_override(struct upstream *u, uint16_t slot, struct node *n)
{
    u->epoch++;
    reroute(u, slot, n);
}

void upstream_route_changed(struct upstream *u, const struct node *n)
{
    u->epoch++;
    for (uint32_t s = 0; s < SLOT_COUNT; s++)
        if (upstream_route(u, s) == n)
            u->slot_epoch[s] = u->epoch;
}

/* The worker's node for each node of the map; nodes that moved to another address get new ones. */
static void adopt_nodes(struct upstream *u, const struct slotmap *m)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &u->nodes)
        CONTAINER_OF(at, struct node, link)->in_map = false;
    u->map_nodes = xrealloc(u->map_nodes, m->node_count * sizeof(*u->map_nodes));
    u->map_node_count = m->node_count;
    for (size_t i = 0; i < m->node_count; i++) {
        const struct slotmap_node *mn = &m->nodes[i];
        struct node *n = find_node(u, &mn->addr);

        if (n == NULL)
            n = add_node(u, &mn->addr, &mn->target);
        n->in_map = true;
        u->map_nodes[i] = n;
    }
}

/* Nodes that are about to be replaced are in outage until a map says otherwise. */
static void adopt_holds(struct upstream *u, const struct slotmap *m)
{
    for (struct list_node *at = u->nodes.next; at != &u->nodes; at = at->next) {
        struct node *n = CONTAINER_OF(at, struct node, link);
        bool hold = false;

        for (size_t i = 0; i < m->node_count; i++)
            hold = hold || (u->map_nodes[i] == n && m->nodes[i].hold);
        if (hold && n->outage_ms == 0)
            n->outage_ms = clock_ms();
        if (n->held && !hold)
            n->outage_ms = n->retry_at_ms = 0;
        n->held = hold;
    }
}

/* True when what n had is another's, and n shall be asked no more. In front of Sentinel's masters a
 * node without slots is no master any more, whatever it says. A cluster's node refuses by itself
 * what is not its own, and in a planned failover nothing is to be cut short; but of one that its
 * neighbours call failed no answer is to be expected. */
static bool has_lost_place(const struct upstream *u, const struct node *n)
{
    bool failed = false;

    for (size_t i = 0; i < u->map_node_count; i++) {
        const struct slotmap_node *mn = &u->map->nodes[i];

        if (u->map_nodes[i] != n)
            continue;
        if (mn->slots > 0 || (mn->reachable && u->config->kind == UPSTREAM_CLUSTER))
            return false;
        failed = true;
    }
    return failed || u->config->kind == UPSTREAM_SENTINEL;
}

static bool has_slots(const struct upstream *u, const struct node *n)
{
    for (size_t i = 0; i < u->map_node_count; i++)
        if (u->map_nodes[i] == n && u->map->nodes[i].slots > 0)
            return true;
    return false;
}

/* Requests of before may not be sent to it, nor wait for it as long as for a node that has slots.
 * Of one that may live only those may not be kept that it has not been sent. */
static void retire_replaced(struct upstream *u, const struct slotmap *old, struct node **old_nodes)
{
    for (size_t i = 0; i < old->node_count; i++) {
        const struct slotmap_node *was = &old->nodes[i];
        bool had_place = was->slots > 0 || (was->reachable && u->config->kind == UPSTREAM_CLUSTER);

        if (had_place && has_lost_place(u, old_nodes[i]))
            node_replaced(old_nodes[i]);
        else if (was->slots > 0 && !has_slots(u, old_nodes[i]))
            old_nodes[i]->displaced = true;
    }
}

struct node *upstream_any_master(const struct upstream *u, uint64_t seed)
{
    const struct slotmap *m = u->map;
    size_t owners = slotmap_count_owners(m), wanted;

    if (owners == 0)
        return NULL;
    wanted = seed % owners;
    for (size_t i = 0; i < m->node_count; i++)
        if (slotmap_is_owner(m, i) && wanted-- == 0)
            return u->map_nodes[i];
    return NULL;
}

/* Clients ask for the servers' version in their first request, HELLO: a connection tells it. */
static void get_known(struct upstream *u)
{
    struct node *n = u->known ? NULL : upstream_any_master(u, u->env->worker);

    if (n != NULL)
        (void)node_shared(n, u->base_profile[0]);
}

/* Names that have another address now: what was sent to the old one is awaited for a while, and
 * what comes goes to the new one, in order. */
static void retarget_nodes(struct upstream *u)
{
    for (size_t i = 0; i < u->map_node_count; i++) {
        const struct sockaddr_any *target = &u->map->nodes[i].target;
        struct node *n = u->map_nodes[i];

        if (target->len == 0 || sockaddr_equal(&n->target, target))
            continue;
        n->target = *target;
        n->retry_at_ms = 0;
        node_replaced(n);
        upstream_route_changed(u, n);
    }
}

void upstream_adopt(struct upstream *u, struct slotmap *m)
{
    struct slotmap *old;
    struct node **old_nodes;

    if (m->version <= u->map->version) {
        slotmap_unref(&m);
        return;
    }
    old = u->map;
    old_nodes = u->map_nodes;
    u->map_nodes = NULL;
    adopt_nodes(u, m);
    u->epoch++;
    for (uint32_t s = 0; s < SLOT_COUNT; s++) {
        uint16_t owner = m->owner[s];

        reroute(u, (uint16_t)s, owner == NODE_NONE ? NULL : u->map_nodes[owner]);
    }
    memcpy(u->unstable, m->moving, sizeof(u->unstable));
    u->map = m;
    retarget_nodes(u);
    if (u->config->kind == UPSTREAM_SENTINEL)
        adopt_holds(u, m);
    retire_replaced(u, old, old_nodes);
    waits_on_map(u, old, old_nodes);
    free(old_nodes);
    slotmap_unref(&old);
    u->sweep_ms = u->env->loop->now_ms + SWEEP_MS;
    hubs_on_map(u);
    get_known(u);
    if (u->monitors != NULL)
        monitor_hub_on_map(u->monitors);
}

/* Nodes that the map does not name and no slot is overridden to. */
static void sweep(struct upstream *u)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &u->nodes) {
        struct node *n = CONTAINER_OF(at, struct node, link);
        bool used = n->in_map;
        struct list_walk walk;
        struct beconn *c;

        for (uint32_t s = 0; !used && s < SLOT_COUNT; s++)
            used = upstream_route(u, s) == n;
        if (used)
            continue;
        node_walk(n, &walk);
        while ((c = node_walk_next(n, &walk)) != NULL)
            node_retire(c);
        if (list_empty(&n->conns) && !node_is_named(n)) {
            u->numbered[n->number] = NULL;
            node_free(&n);
        }
    }
}

/* A server that hangs breaks no connection, and its successor may be chosen before its requests
 * time out: discovery has a look at one that owes a reply for half of what it would wait itself. */
static void tick_node(struct upstream *u, struct node *n, uint64_t now_ms)
{
    node_tick(n, now_ms);
    node_forget_outage(n, now_ms, u->env->config->backend.ride_through_ms);
    if (node_fell_silent(n, now_ms, u->env->config->topology.query_timeout_ms / 2))
        u->env->hooks->want_refresh(u->env, u->index);
}

void upstream_tick(struct upstream *u, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &u->nodes)
        tick_node(u, CONTAINER_OF(at, struct node, link), now_ms);
    get_known(u);
    hubs_tick(u, now_ms);
    if (u->monitors != NULL)
        monitor_hub_tick(u->monitors, now_ms);
    if (u->waits != NULL)
        waits_tick(u->waits, now_ms);
    if (u->sweep_ms != 0 && now_ms >= u->sweep_ms) {
        u->sweep_ms = now_ms + SWEEP_MS;
        sweep(u);
    }
}

static unsigned version_number(const char *text)
{
    unsigned major = 0, minor = 0, patch = 0;

    if (sscanf(text, "%u.%u.%u", &major, &minor, &patch) < 1)
        return UINT32_MAX;
    return major << 20 | (minor & 1023) << 10 | (patch & 1023);
}

const char *upstream_version(const struct upstream *u)
{
    const char *lowest = "0.0.0";
    unsigned least = UINT32_MAX;

    for (const struct list_node *at = u->nodes.next; at != &u->nodes; at = at->next) {
        const struct node *n = CONTAINER_OF(at, const struct node, link);
        unsigned v = version_number(n->version);

        if (n->version[0] != '\0' && v < least) {
            least = v;
            lowest = n->version;
        }
    }
    return lowest;
}

const char *upstream_valkey(const struct upstream *u)
{
    const char *lowest = NULL;

    for (const struct list_node *at = u->nodes.next; at != &u->nodes; at = at->next) {
        const struct node *n = CONTAINER_OF(at, const struct node, link);

        if (n->version[0] == '\0')
            continue;
        if (n->valkey[0] == '\0')
            return NULL;
        if (lowest == NULL || version_number(n->valkey) < version_number(lowest))
            lowest = n->valkey;
    }
    return lowest;
}

bool upstream_is_from(const struct upstream *u, const char *version)
{
    return version_number(upstream_version(u)) >= version_number(version);
}

bool upstream_is_valkey_from(const struct upstream *u, const char *version)
{
    const char *lowest = upstream_valkey(u);

    return lowest != NULL && version_number(lowest) >= version_number(version);
}
