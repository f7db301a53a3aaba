/*
 * distribution.h - deals the hash slots to several masters that know nothing of slots.
 * Layer: topology. Thread: any; pure.
 */
#ifndef TOPOLOGY_DISTRIBUTION_H
#define TOPOLOGY_DISTRIBUTION_H

#include "topology/slotmap.h"

/* Equal contiguous ranges in the order of the shards. owner[slot] is a shard's index. */
void distribution_ranges(uint16_t owner[SLOT_COUNT], size_t shards);

/* Each slot goes to the next point of a ring on which every shard has many points, found from its
 * name: one shard more or less moves only the slots that it gets or had. */
void distribution_ketama(uint16_t owner[SLOT_COUNT], const char *const *names, size_t shards);

#endif
