/*
 * wait.h - WAIT: how many replicas have what a client wrote.
 *
 * A client's writes went to several masters, over connections shared with others, so no server
 * knows them as one client's. Each master that took a write of it (client.wrote) is asked for its
 * replication offset, which is behind all of them, because WAIT is a barrier; then, until enough
 * replicas have confirmed that offset or the time is over, WAIT makes the replicas confirm what
 * they have, and INFO tells it. (WAIT's own answer is about the asking connection's last write.
 * What counts as one is not the same in all versions, and for a connection without any it is all
 * replicas.) The answer is the smallest of the masters' numbers. A client that wrote nothing asks
 * all masters. A master that cannot be asked, is none any more or has restarted since counts as 0.
 * Layer: session. Thread: one worker. Owner: the upstream; a client's part: struct client_extra.
 */
#ifndef SESSION_WAIT_H
#define SESSION_WAIT_H

#include "session/client.h"

struct waits;

/* The client closes: the connections it waits on are closed. */
void wait_free(struct client *c);

/* n is another process than before: what clients wrote there may be lost. */
void wait_writes_lost(struct upstream *u, const struct node *n);
/* A connection to n is ready: the same, when the handshake has found that out. */
void wait_node_ready(struct node *n);
/* A new map is in use: the same for masters that are none any more. */
void waits_on_map(struct upstream *u, const struct slotmap *old, struct node **old_nodes);

/* From the worker's tick. */
void waits_tick(struct waits *ws, uint64_t now_ms);
/* Closes its connections and frees it. After all clients are closed. */
void waits_free(struct waits **ws);

#endif
