/*
 * slotmap.h - an immutable picture of one upstream: which node owns which slot.
 *
 * control/discovery builds a new one and publishes it; workers hold a reference and read plain
 * fields. Nothing is changed once it is published.
 * Layer: topology. Thread: any (the reference count is atomic). Owner: whoever holds a reference.
 */
#ifndef TOPOLOGY_SLOTMAP_H
#define TOPOLOGY_SLOTMAP_H

#include <stdatomic.h>

#include "base/addr.h"

#define SLOT_COUNT 16384
#define NODE_NONE UINT16_MAX
#define NODE_ID_LEN 40

struct slotmap_node {
    struct addr addr;           /* as the cluster names it */
    struct sockaddr_any target; /* address_map applied, resolved; len 0 when it could not be */
    char hostname[ADDR_HOST_MAX + 1]; /* the cluster's other name for it; empty: none */
    char id[NODE_ID_LEN + 1];         /* cluster node id; empty where there is none */
    uint64_t epoch;                   /* configuration epoch (of its master, for a replica) */
    uint32_t slots;                   /* slots owned */
    uint16_t master;                  /* for a replica: index of its master; else NODE_NONE */
    bool is_master;
    bool reachable; /* not flagged fail/handshake/noaddr by the cluster */
    bool hold;      /* about to be replaced: nothing new is sent to it */
};

/* What the owner's own view says of a slot that is on its way. */
struct slotmap_move {
    uint16_t slot, from, to; /* node indexes; NODE_NONE where unknown */
};

struct slotmap {
    atomic_uint refs;
    uint64_t version; /* increases with every map of one upstream */
    size_t node_count;
    struct slotmap_node *nodes; /* masters and replicas, in a stable order (by id) */
    size_t move_count;
    struct slotmap_move *moves; /* half-moved slots, by slot */
    uint16_t owner[SLOT_COUNT]; /* node index or NODE_NONE */
    uint8_t moving[SLOT_COUNT / 8];
    bool sharded; /* several masters: keys must be hashed, requests split and checked */
};

/* An empty map with one reference: no nodes, no owners. */
struct slotmap *slotmap_new(void);
struct slotmap *slotmap_ref(struct slotmap *m);
/* Drops the caller's reference and nulls it. */
void slotmap_unref(struct slotmap **m);

static inline bool slotmap_is_moving(const struct slotmap *m, uint16_t slot)
{
    return m->moving[slot >> 3] >> (slot & 7) & 1;
}

/* True for a master that owns slots; a node by its index. These are "all masters" of a command that
 * goes to all. */
static inline bool slotmap_is_owner(const struct slotmap *m, size_t node)
{
    return m->nodes[node].is_master && m->nodes[node].slots > 0;
}

/* How many they are. */
size_t slotmap_count_owners(const struct slotmap *m);

/* The move of a slot, or NULL. */
const struct slotmap_move *slotmap_find_move(const struct slotmap *m, uint16_t slot);

/* Index of the node with this address or announced host name, or NODE_NONE. */
uint16_t slotmap_find_addr(const struct slotmap *m, const struct addr *a);

/* Who is meant by "? PORT", the words of a server that does not tell its clients where others are:
 * the taker of the slot where that is on its way, else the only node that has the port. NODE_NONE
 * when several might be meant. */
uint16_t slotmap_guess(const struct slotmap *m, uint16_t slot, uint16_t port);

/* Last slot of the contiguous range of `slot`'s owner that begins at slot. */
uint16_t slotmap_range_end(const struct slotmap *m, uint16_t slot);

/* True when two maps say the same (version aside). That includes configuration epochs: SCAN has to
 * know of a slot that went away and came back. */
bool slotmap_same(const struct slotmap *a, const struct slotmap *b);

/* A map of one plain server that owns all slots; not sharded. */
struct slotmap *slotmap_single(const struct addr *a);

#endif
