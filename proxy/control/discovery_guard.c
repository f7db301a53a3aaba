/*
 * discovery_guard.c - keeps an older view of the cluster from undoing a newer one.
 *
 * A map is made of the answers that came; the node that knows best may not be among them: it has
 * not answered yet, or is cut off, or was promoted a moment ago and its neighbours have not heard.
 * A claim to a slot has the configuration epoch of the claimer, and epochs only grow. So a claim
 * weaker than the published owner's is not believed while that owner, still a member of the
 * cluster, has not spoken for itself in this round. If most masters go on contradicting for
 * HOLD_MS, they are right.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_cluster.h"

#define HOLD_MS 30000

struct compare {
    struct discovery_cluster *c;
    const struct slotmap *old;
    struct slotmap *new;
    uint16_t *new_of; /* old node index to new one, by id; NODE_NONE: gone */
    bool *spoke;      /* old node index: it answered this round */
    bool *pending;    /* old node index: its answer may still come */
    size_t held;      /* slots left to their published owners */
    size_t lost;      /* slots that had an owner, and neither it nor another is left */
};

struct slotmap *discovery_guard_copy(const struct slotmap *m)
{
    struct slotmap *copy = slotmap_new();

    copy->version = m->version;
    copy->node_count = m->node_count;
    copy->nodes = xcalloc(m->node_count, sizeof(*m->nodes));
    if (m->node_count > 0)
        memcpy(copy->nodes, m->nodes, m->node_count * sizeof(*m->nodes));
    copy->move_count = m->move_count;
    copy->moves = xcalloc(m->move_count, sizeof(*m->moves));
    if (m->move_count > 0)
        memcpy(copy->moves, m->moves, m->move_count * sizeof(*m->moves));
    memcpy(copy->owner, m->owner, sizeof(m->owner));
    memcpy(copy->moving, m->moving, sizeof(m->moving));
    copy->sharded = m->sharded;
    return copy;
}

bool discovery_guard_majority(struct discovery_cluster *c)
{
    size_t owners = 0, spoke = 0;

    if (c->map == NULL)
        return true;
    for (size_t i = 0; i < c->map->node_count; i++) {
        if (c->map->nodes[i].slots == 0)
            continue;
        owners++;
        spoke += c->map_nodes[i]->answered_round == c->round;
    }
    return spoke * 2 > owners || owners == 0;
}

/* Both lists are sorted by id. */
static void match_nodes(struct compare *k)
{
    size_t i = 0, j = 0;

    for (size_t n = 0; n < k->old->node_count; n++)
        k->new_of[n] = NODE_NONE;
    while (i < k->old->node_count && j < k->new->node_count) {
        int order = strcmp(k->old->nodes[i].id, k->new->nodes[j].id);

        if (order == 0)
            k->new_of[i] = (uint16_t)j;
        i += order <= 0;
        j += order >= 0;
    }
}

static int by_id(const void *id, const void *node)
{
    return strcmp(id, ((const struct slotmap_node *)node)->id);
}

/* Who has spoken is told by ids: a node may have come back at another address. */
static void match_answers(struct compare *k)
{
    struct list_node *pos, *tmp;

    for (size_t n = 0; n < k->old->node_count; n++)
        k->pending[n] = k->c->map_nodes[n]->pending;
    LIST_FOREACH (pos, tmp, &k->c->nodes) {
        const struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);
        const struct slotmap_node *found;

        if (n->answered_round != k->c->round || k->old->node_count == 0)
            continue;
        found = bsearch(n->id, k->old->nodes, k->old->node_count, sizeof(*found), by_id);
        if (found != NULL)
            k->spoke[found - k->old->nodes] = true;
    }
}

static void hold_slot(struct compare *k, size_t slot, uint16_t was)
{
    struct slotmap_node *keeper = &k->new->nodes[k->new_of[was]];
    uint16_t claimer = k->new->owner[slot];

    if (claimer != NODE_NONE)
        k->new->nodes[claimer].slots--;
    k->new->owner[slot] = k->new_of[was];
    keeper->slots++;
    keeper->is_master = true;
    keeper->master = NODE_NONE;
    keeper->epoch = MAX(keeper->epoch, k->old->nodes[was].epoch);
    k->held++;
}

static void hold_slots(struct compare *k)
{
    /* Holding raises a keeper's epoch: claims are weighed with those that were told. */
    uint64_t *told = xcalloc(k->new->node_count, sizeof(*told));

    for (size_t i = 0; i < k->new->node_count; i++)
        told[i] = k->new->nodes[i].epoch;
    for (size_t slot = 0; slot < SLOT_COUNT; slot++) {
        uint16_t was = k->old->owner[slot], is = k->new->owner[slot];

        if (was == NODE_NONE || (is != NODE_NONE && is == k->new_of[was]))
            continue;
        if (k->new_of[was] == NODE_NONE)
            k->lost += is == NODE_NONE;
        else if (!k->spoke[was] && (is == NODE_NONE || told[is] < k->old->nodes[was].epoch))
            hold_slot(k, slot, was);
    }
    free(told);
}

/* Which slots are on their way only their giver and taker tell. While the giver's answer is awaited
 * its last word stands. */
static void hold_moves(struct compare *k)
{
    size_t count = 0, i = 0, room = k->old->move_count + k->new->move_count;
    struct slotmap_move *all = xcalloc(room, sizeof(*all));

    for (size_t j = 0; j < k->old->move_count; j++) {
        struct slotmap_move mv = k->old->moves[j];
        bool stands = mv.from != NODE_NONE && k->pending[mv.from] && !k->spoke[mv.from] &&
                      k->new_of[mv.from] != NODE_NONE &&
                      k->new->owner[mv.slot] == k->new_of[mv.from];

        while (i < k->new->move_count && k->new->moves[i].slot < mv.slot)
            all[count++] = k->new->moves[i++];
        if (!stands || (i < k->new->move_count && k->new->moves[i].slot == mv.slot))
            continue;
        mv.from = k->new_of[mv.from];
        mv.to = mv.to != NODE_NONE ? k->new_of[mv.to] : NODE_NONE;
        all[count++] = mv;
        k->new->moving[mv.slot >> 3] |= (uint8_t)(1u << (mv.slot & 7));
    }
    while (i < k->new->move_count)
        all[count++] = k->new->moves[i++];
    free(k->new->moves);
    k->new->moves = all;
    k->new->move_count = count;
}

static bool held_too_long(const struct discovery_cluster *c, bool majority)
{
    return majority && c->contradicted_ms != 0 && clock_ms() - c->contradicted_ms > HOLD_MS;
}

static void note_contradiction(struct discovery_cluster *c, bool contradicted, bool complete)
{
    if (!contradicted) {
        if (complete)
            c->contradicted_ms = 0;
        return;
    }
    if (c->contradicted_ms == 0)
        c->contradicted_ms = clock_ms();
    log_debug("upstream %s: an older view of the cluster was not believed", c->conf->name);
}

void discovery_guard_apply(struct discovery_cluster *c, struct slotmap **m, bool complete)
{
    struct compare k = {.c = c, .old = c->map, .new = *m};
    bool majority = discovery_guard_majority(c);

    if (c->map == NULL)
        return;
    if (held_too_long(c, majority)) {
        log_warn("upstream %s: most masters contradict the map for too long: they are believed",
                 c->conf->name);
        c->contradicted_ms = 0;
        return;
    }
    k.new_of = xcalloc(k.old->node_count, sizeof(*k.new_of));
    k.spoke = xcalloc(k.old->node_count, sizeof(*k.spoke));
    k.pending = xcalloc(k.old->node_count, sizeof(*k.pending));
    match_nodes(&k);
    match_answers(&k);
    hold_slots(&k);
    hold_moves(&k);
    free(k.new_of);
    free(k.spoke);
    free(k.pending);
    note_contradiction(c, k.held > 0 || (k.lost > 0 && !majority), complete);
    /* A minority that has lost sight of owners and knows no others is cut off, not informed. */
    if (k.lost > 0 && !majority) {
        slotmap_unref(m);
        *m = discovery_guard_copy(c->map);
    }
}
