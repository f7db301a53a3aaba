#include "topology/slotmap.h"

#include <strings.h>

#include "base/alloc.h"

struct slotmap *slotmap_new(void)
{
    struct slotmap *m = xcalloc(1, sizeof(*m));

    atomic_init(&m->refs, 1);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        m->owner[i] = NODE_NONE;
    return m;
}

struct slotmap *slotmap_ref(struct slotmap *m)
{
    unsigned before = atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);

    CHECK(before > 0);
    return m;
}

void slotmap_unref(struct slotmap **map)
{
    struct slotmap *m = *map;

    *map = NULL;
    if (m == NULL)
        return;
    /* Release: what this thread read of the map is done before another one frees it. */
    if (atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(m->nodes);
    free(m->moves);
    free(m);
}

size_t slotmap_count_owners(const struct slotmap *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->node_count; i++)
        n += slotmap_is_owner(m, i);
    return n;
}

const struct slotmap_move *slotmap_find_move(const struct slotmap *m, uint16_t slot)
{
    size_t lo = 0, hi = m->move_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (m->moves[mid].slot < slot)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->move_count && m->moves[lo].slot == slot ? &m->moves[lo] : NULL;
}

static bool is_called(const struct slotmap_node *n, const struct addr *a)
{
    return addr_equal(&n->addr, a) || (n->hostname[0] != '\0' && n->addr.port == a->port &&
                                       strcasecmp(n->hostname, a->host) == 0);
}

uint16_t slotmap_find_addr(const struct slotmap *m, const struct addr *a)
{
    uint16_t found = NODE_NONE;

    for (size_t i = 0; i < m->node_count; i++) {
        const struct slotmap_node *n = &m->nodes[i];

        if (!is_called(n, a))
            continue;
        /* A node that was set up anew has another id; its old one lingers, marked as failed. */
        if (n->reachable)
            return (uint16_t)i;
        if (found == NODE_NONE)
            found = (uint16_t)i;
    }
    return found;
}

uint16_t slotmap_guess(const struct slotmap *m, uint16_t slot, uint16_t port)
{
    const struct slotmap_move *move = slotmap_find_move(m, slot);
    uint16_t found = NODE_NONE;

    if (move != NULL && move->to != NODE_NONE && m->nodes[move->to].addr.port == port)
        return move->to;
    for (size_t i = 0; i < m->node_count; i++) {
        if (m->nodes[i].addr.port != port || !m->nodes[i].reachable)
            continue;
        if (found != NODE_NONE)
            return NODE_NONE;
        found = (uint16_t)i;
    }
    return found;
}

uint16_t slotmap_range_end(const struct slotmap *m, uint16_t slot)
{
    uint16_t end = slot;

    CHECK(slot < SLOT_COUNT);
    while (end + 1 < SLOT_COUNT && m->owner[end + 1] == m->owner[slot])
        end++;
    return end;
}

static bool same_node(const struct slotmap_node *a, const struct slotmap_node *b)
{
    return a->master == b->master && a->is_master == b->is_master && a->reachable == b->reachable &&
           a->hold == b->hold && a->epoch == b->epoch && addr_equal(&a->addr, &b->addr) &&
           strcasecmp(a->hostname, b->hostname) == 0 && strcmp(a->id, b->id) == 0 &&
           a->target.len == b->target.len &&
           memcmp(&a->target.sa, &b->target.sa, a->target.len) == 0;
}

bool slotmap_same(const struct slotmap *a, const struct slotmap *b)
{
    if (a->sharded != b->sharded || a->node_count != b->node_count ||
        a->move_count != b->move_count || memcmp(a->owner, b->owner, sizeof(a->owner)) != 0)
        return false;
    for (size_t i = 0; i < a->node_count; i++)
        if (!same_node(&a->nodes[i], &b->nodes[i]))
            return false;
    for (size_t i = 0; i < a->move_count; i++)
        if (a->moves[i].slot != b->moves[i].slot || a->moves[i].from != b->moves[i].from ||
            a->moves[i].to != b->moves[i].to)
            return false;
    return true;
}

struct slotmap *slotmap_single(const struct addr *a)
{
    struct slotmap *m = slotmap_new();

    m->node_count = 1;
    m->nodes = xcalloc(1, sizeof(*m->nodes));
    m->nodes[0] = (struct slotmap_node){
        .addr = *a, .slots = SLOT_COUNT, .master = NODE_NONE, .is_master = true, .reachable = true};
    memset(m->owner, 0, sizeof(m->owner));
    return m;
}
