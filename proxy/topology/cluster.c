#include "topology/cluster.h"

#include "base/alloc.h"
#include "topology/nodes_text.h"

/*
 * A node is described by every answer; what is believed of it is the statement with the highest
 * configuration epoch, and of those with the same epoch its own. So a master on the small side of
 * a partition, which still calls itself the owner at its old epoch, loses its slots to the replica
 * that was elected; and a slot that a master gave away is not brought back to it by a neighbour
 * that has not heard of it, because that master's own list does not have it.
 */
struct member {
    char id[NODE_ID_LEN + 1];
    char master[NODE_ID_LEN + 1];
    struct addr addr; /* host empty: unknown */
    char hostname[ADDR_HOST_MAX + 1];
    bool addr_own; /* its own line told the address */
    uint64_t addr_epoch;
    bool stated; /* a line was seen; else only the space for one */
    bool own;    /* the statement believed is its own */
    uint64_t epoch;
    bool is_master;
    uint32_t tellers, against; /* others that spoke of it; those that call it failed */
    uint64_t slots[SLOT_COUNT / 64];
};

struct move_told {
    uint32_t teller, peer; /* members; peer MEMBER_NONE: unknown */
    uint16_t slot;
    bool importing;
};

#define MEMBER_NONE UINT32_MAX

struct cluster_builder {
    struct member **members; /* in the order they were first heard of */
    size_t member_count, member_cap;
    uint16_t *index; /* hash table of members by id: position + 1, 0 = free */
    size_t index_size;
    struct move_told *moves;
    size_t move_count, move_cap;
};

struct cluster_builder *cluster_builder_new(void)
{
    return xcalloc(1, sizeof(struct cluster_builder));
}

void cluster_builder_free(struct cluster_builder **builder)
{
    struct cluster_builder *b = *builder;

    *builder = NULL;
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->member_count; i++)
        free(b->members[i]);
    free(b->members);
    free(b->index);
    free(b->moves);
    free(b);
}

static size_t hash_id(const char *id)
{
    uint64_t h = 14695981039346656037u;

    for (; *id != '\0'; id++)
        h = (h ^ (unsigned char)*id) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static uint32_t find_member(const struct cluster_builder *b, const char *id)
{
    if (b->index_size == 0)
        return MEMBER_NONE;
    for (size_t i = hash_id(id);; i++) {
        uint16_t at = b->index[i & (b->index_size - 1)];

        if (at == 0)
            return MEMBER_NONE;
        if (strcmp(b->members[at - 1]->id, id) == 0)
            return at - 1u;
    }
}

static void index_member(struct cluster_builder *b, size_t member)
{
    size_t i = hash_id(b->members[member]->id);

    while (b->index[i & (b->index_size - 1)] != 0)
        i++;
    b->index[i & (b->index_size - 1)] = (uint16_t)(member + 1);
}

static void add_member(struct cluster_builder *b, const char *id)
{
    if (b->member_count == b->member_cap) {
        b->member_cap = b->member_cap ? b->member_cap * 2 : 16;
        b->members = xrealloc(b->members, b->member_cap * sizeof(struct member *));
        free(b->index);
        b->index_size = b->member_cap * 2;
        b->index = xcalloc(b->index_size, sizeof(uint16_t));
        for (size_t i = 0; i < b->member_count; i++)
            index_member(b, i);
    }
    b->members[b->member_count] = xcalloc(1, sizeof(struct member));
    memcpy(b->members[b->member_count]->id, id, strlen(id) + 1);
    index_member(b, b->member_count++);
}

/* A node in handshake bears an id that is not yet its own: nothing that is said of it counts. */
static bool counts(const struct nodes_line *line)
{
    return !(line->flags & NODES_HANDSHAKE) && (line->flags & (NODES_MASTER | NODES_REPLICA));
}

static void set_slots(struct member *m, const struct nodes_text *t, const struct nodes_line *line)
{
    for (uint32_t i = 0; i < line->range_count; i++) {
        const struct nodes_range *r = &t->ranges[line->first_range + i];

        for (unsigned slot = r->first; slot <= r->last; slot++)
            m->slots[slot / 64] |= (uint64_t)1 << slot % 64;
    }
}

/* Believes the line, or not. */
static void take_statement(struct member *m, const struct nodes_text *t,
                           const struct nodes_line *line, bool own)
{
    bool same_rank = m->stated && line->epoch == m->epoch && own == m->own;

    if (m->stated && (line->epoch < m->epoch || (line->epoch == m->epoch && m->own && !own)))
        return;
    if (same_rank && !own) {
        /* Two neighbours, equally good: the first one's word, and what only the second has. */
        if (m->is_master && (line->flags & NODES_MASTER))
            set_slots(m, t, line);
        return;
    }
    m->stated = true;
    m->own = own;
    m->epoch = line->epoch;
    m->is_master = (line->flags & NODES_MASTER) != 0;
    memcpy(m->master, line->master, sizeof(m->master));
    memset(m->slots, 0, sizeof(m->slots));
    if (m->is_master)
        set_slots(m, t, line);
}

static void take_address(struct member *m, const struct nodes_line *line, const struct addr *asked,
                         bool own)
{
    struct addr a = line->addr;

    if (own && a.host[0] == '\0') {
        a = *asked;
        if (line->port != 0 && a.port != 0)
            a.port = line->port;
    }
    if (a.host[0] == '\0' || (line->flags & NODES_NOADDR))
        return;
    if (!own && (m->addr_own || (m->addr.host[0] != '\0' && line->epoch <= m->addr_epoch)))
        return;
    m->addr = a;
    memcpy(m->hostname, line->hostname, sizeof(m->hostname));
    m->addr_own = own;
    m->addr_epoch = line->epoch;
}

static void take_line(struct cluster_builder *b, const struct addr *asked,
                      const struct nodes_text *t, const struct nodes_line *line)
{
    bool own = (line->flags & NODES_MYSELF) != 0;
    struct member *m;

    if (!counts(line))
        return;
    m = b->members[find_member(b, line->id)];
    take_address(m, line, asked, own);
    take_statement(m, t, line, own);
    if (!own) {
        m->tellers++;
        m->against += (line->flags & (NODES_FAIL | NODES_NOADDR)) != 0;
    }
}

static void take_moves(struct cluster_builder *b, const struct nodes_text *t)
{
    uint32_t teller = find_member(b, t->lines[t->myself].id);
    size_t kept = 0;

    /* Asked twice, a node's later answer stands. */
    for (size_t i = 0; i < b->move_count; i++)
        if (b->moves[i].teller != teller)
            b->moves[kept++] = b->moves[i];
    b->move_count = kept;
    if (b->move_cap < b->move_count + t->move_count) {
        b->move_cap = (b->move_count + t->move_count) * 2;
        b->moves = xrealloc(b->moves, b->move_cap * sizeof(struct move_told));
    }
    for (size_t i = 0; i < t->move_count; i++)
        b->moves[b->move_count++] = (struct move_told){.teller = teller,
                                                       .peer = find_member(b, t->moves[i].peer),
                                                       .slot = t->moves[i].slot,
                                                       .importing = t->moves[i].importing};
}

/* Makes room for the nodes of the text; false when there would be more than a cluster can have. */
static bool add_members(struct cluster_builder *b, const struct nodes_text *t)
{
    size_t fresh = 0;

    for (size_t i = 0; i < t->line_count; i++)
        fresh += counts(&t->lines[i]) && find_member(b, t->lines[i].id) == MEMBER_NONE;
    if (b->member_count + fresh > NODES_MAX)
        return false;
    for (size_t i = 0; i < t->line_count; i++)
        if (counts(&t->lines[i]) && find_member(b, t->lines[i].id) == MEMBER_NONE)
            add_member(b, t->lines[i].id);
    return true;
}

bool cluster_builder_add(struct cluster_builder *b, const struct addr *asked, const char *text,
                         size_t len, char *err, size_t errlen)
{
    struct nodes_text t;
    bool ok;

    if (!nodes_text_parse(&t, text, len, err, errlen))
        return false;
    ok = counts(&t.lines[t.myself]) && add_members(b, &t);
    if (ok) {
        for (size_t i = 0; i < t.line_count; i++)
            take_line(b, asked, &t, &t.lines[i]);
        take_moves(b, &t);
    } else {
        snprintf(err, errlen, "CLUSTER NODES: more than %d nodes, or myself in handshake",
                 NODES_MAX);
    }
    nodes_text_free(&t);
    return ok;
}

/* --- from members to a map --- */

struct finish {
    const struct cluster_builder *b;
    struct slotmap *map;
    struct member **sorted; /* those in the map, by id: the map's nodes */
    uint16_t *node_of;      /* member position to node index, or NODE_NONE */
};

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct member *const *)a)->id, (*(struct member *const *)b)->id);
}

static void place_nodes(struct finish *f)
{
    const struct cluster_builder *b = f->b;
    size_t count = 0;

    for (size_t i = 0; i < b->member_count; i++)
        if (b->members[i]->addr.host[0] != '\0')
            f->sorted[count++] = b->members[i];
    if (count > 0)
        qsort(f->sorted, count, sizeof(*f->sorted), by_id);
    for (size_t i = 0; i < b->member_count; i++)
        f->node_of[i] = NODE_NONE;
    for (size_t i = 0; i < count; i++)
        f->node_of[find_member(b, f->sorted[i]->id)] = (uint16_t)i;
    f->map->node_count = count;
    f->map->nodes = xcalloc(count, sizeof(*f->map->nodes));
}

static void fill_node(struct finish *f, uint16_t i)
{
    const struct member *m = f->sorted[i];
    struct slotmap_node *n = &f->map->nodes[i];

    n->addr = m->addr;
    memcpy(n->hostname, m->hostname, sizeof(n->hostname));
    memcpy(n->id, m->id, sizeof(n->id));
    n->epoch = m->epoch;
    n->is_master = m->is_master;
    n->master = NODE_NONE;
    /* A failure is agreed on by most masters, but a node that is cut off may hold on to an old one:
     * the others are outvoted, its own view of itself is no vote. */
    n->reachable = m->against * 2 <= m->tellers;
    if (!m->is_master && m->master[0] != '\0') {
        uint32_t master = find_member(f->b, m->master);

        if (master != MEMBER_NONE) {
            n->master = f->node_of[master];
            n->epoch = f->b->members[master]->epoch;
        }
    }
}

/* True when a's claim to a slot beats b's; a was heard of later. */
static bool beats(const struct member *a, const struct member *b)
{
    return b == NULL || a->epoch > b->epoch || (a->epoch == b->epoch && a->own && !b->own);
}

/* A winner that is not in the map (its address is unknown) leaves the slot without an owner: the
 * claim that lost is still the wrong one. */
static void fill_slots(struct finish *f)
{
    const struct cluster_builder *b = f->b;
    const struct member **best = xcalloc(SLOT_COUNT, sizeof(struct member *));

    for (size_t i = 0; i < b->member_count; i++) {
        const struct member *m = b->members[i];

        for (size_t word = 0; word < ARRAY_LEN(m->slots); word++) {
            for (uint64_t bits = m->slots[word]; bits != 0; bits &= bits - 1) {
                size_t slot = word * 64 + (size_t)__builtin_ctzll(bits);

                if (!beats(m, best[slot]))
                    continue;
                best[slot] = m;
                f->map->owner[slot] = f->node_of[i];
            }
        }
    }
    free(best);
    for (size_t slot = 0; slot < SLOT_COUNT; slot++)
        if (f->map->owner[slot] != NODE_NONE)
            f->map->nodes[f->map->owner[slot]].slots++;
}

/* Turns what one node said into a move as the whole map shows it; false when it is out of date.
 * The giver's word holds only while it owns the slot. The taker names a giver that may have failed
 * over since: then its successor, the owner, is the one that gives. */
static bool resolve_move(const struct finish *f, const struct move_told *told,
                         struct slotmap_move *out)
{
    uint16_t owner = f->map->owner[told->slot];
    uint16_t teller = f->node_of[told->teller];
    uint16_t peer = told->peer != MEMBER_NONE ? f->node_of[told->peer] : NODE_NONE;

    out->slot = told->slot;
    out->from = told->importing ? peer : teller;
    out->to = told->importing ? teller : peer;
    if (teller == NODE_NONE || !f->b->members[told->teller]->is_master)
        return false;
    if (told->importing && owner != NODE_NONE)
        out->from = owner;
    if (owner != NODE_NONE && owner != out->from)
        return false;
    return out->from != out->to;
}

/* One move a slot: the giver's word before a taker's, then the first. */
static void fill_moves(struct finish *f)
{
    struct move {
        struct slotmap_move move;
        uint8_t rank; /* 0: none */
    } * best;
    size_t count = 0;

    if (f->b->move_count == 0)
        return;
    best = xcalloc(SLOT_COUNT, sizeof(*best));
    for (size_t i = 0; i < f->b->move_count; i++) {
        const struct move_told *told = &f->b->moves[i];
        uint8_t rank = told->importing ? 1 : 2;
        struct slotmap_move mv;

        if (rank <= best[told->slot].rank || !resolve_move(f, told, &mv))
            continue;
        count += best[told->slot].rank == 0;
        best[told->slot] = (struct move){mv, rank};
    }
    f->map->moves = xcalloc(count, sizeof(*f->map->moves));
    for (size_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (best[slot].rank == 0)
            continue;
        f->map->moves[f->map->move_count++] = best[slot].move;
        f->map->moving[slot >> 3] |= (uint8_t)(1u << (slot & 7));
    }
    free(best);
}

struct slotmap *cluster_builder_finish(struct cluster_builder *b, uint64_t version)
{
    struct finish f = {.b = b, .map = slotmap_new()};

    f.map->version = version;
    f.map->sharded = true;
    f.sorted = xcalloc(b->member_count, sizeof(struct member *));
    f.node_of = xcalloc(b->member_count, sizeof(uint16_t));
    place_nodes(&f);
    for (size_t i = 0; i < f.map->node_count; i++)
        fill_node(&f, (uint16_t)i);
    fill_slots(&f);
    fill_moves(&f);
    free(f.sorted);
    free(f.node_of);
    return f.map;
}
