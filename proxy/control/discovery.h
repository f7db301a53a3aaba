/*
 * discovery.h - learns the topology of every upstream and publishes it as immutable slot maps.
 *
 * A thread and a loop of its own. For a cluster it asks CLUSTER NODES of all known nodes (and of
 * the seeds while no node answers), merges the answers slot by slot, resolves names, and publishes
 * a new map. Woken by a timer with jitter and by discovery_want_refresh; at most
 * topology.refresh_per_s full refreshes a second. While a shard's master is not reachable, each of
 * its replicas is asked ROLE every topology.probe_ms whatever that limit, and the one that says
 * master owns the shard's slots at once.
 * Layer: control. Thread: its own; only the functions below are called from others.
 */
#ifndef CONTROL_DISCOVERY_H
#define CONTROL_DISCOVERY_H

#include "config/config.h"
#include "topology/slotmap.h"

struct discovery;
struct learnt;

/* Called in the discovery thread with a new map; takes over one reference. */
typedef void discovery_publish_fn(void *arg, size_t upstream, struct slotmap *m);

/* The same with new knowledge of the servers' commands. */
typedef void discovery_commands_fn(void *arg, size_t upstream, struct learnt *l);

/* Its thread is not started yet, but wishes are already taken. The configuration must outlive it.
 * Without `commands`, servers are not asked for theirs. */
struct discovery *discovery_new(const struct config *config, discovery_publish_fn *publish,
                                discovery_commands_fn *commands, void *arg);

/* Starts the thread; from now on publish and commands are called. */
void discovery_start(struct discovery *d);

/* An upstream's picture looks out of date. Any thread; many calls make one refresh. The refresh
 * that follows publishes a map with a new version even when nothing has changed: waiting requests
 * are decided by it. */
void discovery_want_refresh(struct discovery *d, size_t upstream);

/* A client sent a command that nobody knows: perhaps a server has just learnt it. Any thread. */
void discovery_want_commands(struct discovery *d, size_t upstream);

/* Stops and joins the thread, which has been started, frees everything, learnt commands included:
 * no worker may be left. */
void discovery_stop(struct discovery **d);

#endif
