/*
 * cluster.h - the text of CLUSTER NODES, parsed and merged into a slot map. No I/O.
 *
 * Format: https://redis.io/commands/cluster-nodes/ (Redis 3 to 8, Valkey): id,
 * ip:port[@cport][,hostname[,aux=value...]], flags, master, ping-sent, pong-recv, config-epoch,
 * link-state, slots. Slots are "n", "a-b", "[n->-nodeid]" (migrating) and "[n-<-nodeid]"
 * (importing); the bracketed ones appear on the line of "myself" only.
 * Layer: topology. Thread: any; a builder belongs to one.
 */
#ifndef TOPOLOGY_CLUSTER_H
#define TOPOLOGY_CLUSTER_H

#include "topology/slotmap.h"

/* Collects the answers of several nodes; slot by slot the claim with the highest configuration
 * epoch wins, whichever node told it. */
struct cluster_builder;

struct cluster_builder *cluster_builder_new(void);
void cluster_builder_free(struct cluster_builder **b);

/* Adds one node's CLUSTER NODES text. `asked` is the address it was asked at: it stands in where
 * the node's own line has an empty host (a node that does not know its address yet). Returns
 * false, with a reason in err, when the text is not CLUSTER NODES output; nothing is added then. */
MUST_CHECK bool cluster_builder_add(struct cluster_builder *b, const struct addr *asked,
                                    const char *text, size_t len, char *err, size_t errlen);

/* A new map (one reference) from what was added: sharded, nodes sorted by id, nodes not resolved.
 * Nodes flagged noaddr or handshake, and those without an address, are left out; "fail" sets
 * reachable to false. */
struct slotmap *cluster_builder_finish(struct cluster_builder *b, uint64_t version);

#endif
