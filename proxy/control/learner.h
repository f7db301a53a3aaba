/*
 * learner.h - asks the servers of one upstream for their commands, and publishes what the table
 * lacks.
 *
 * It keeps a connection of its own to each master of the newest map: a server that was restarted or
 * replaced shows by its loss. COMMAND is asked on connecting, and again when COMMAND LIST, asked
 * every topology.refresh and soon after a client sent an unknown command, tells other names. Where
 * no password is configured, each time RESET goes before: so it shows when a server wants one.
 * Layer: control. Thread: discovery; only learner_wish is called from others. Owner: struct
 * discovery.
 */
#ifndef CONTROL_LEARNER_H
#define CONTROL_LEARNER_H

#include "control/discovery_watch.h"

struct learner;
struct learnt_pool;

/* The pool is shared by all learners of the thread and outlives them. */
struct learner *learner_new(const struct discovery_site *site, struct learnt_pool *pool,
                            discovery_commands_fn *publish);
void learner_free(struct learner **l);

/* A map is about to be published: its masters are the servers to ask. */
void learner_on_map(struct learner *l, const struct slotmap *m);

/* Somebody may have wished; LOOP_TICK_MS have passed. */
void learner_step(struct learner *l, uint64_t now_ms);

/* An unknown command was sent. Any thread. True: the learner's thread has to be woken. */
bool learner_wish(struct learner *l);

#endif
