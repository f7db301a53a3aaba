/*
 * wait.h - WAIT: how many replicas have what a client wrote; WAITAOF: in how many AOFs it is.
 *
 * A client's writes went to several masters, over connections shared with others, so no server
 * knows them as one client's. Each master that took a write of it (client.wrote) is asked for its
 * replication offset, which is behind all of them, because WAIT is a barrier; then, until enough
 * replicas have confirmed that offset or the time is over, WAIT makes the replicas confirm what
 * they have, and INFO tells it. (WAIT's own answer is about the asking connection's last write.
 * What counts as one is not the same in all versions, and for a connection without any it is all
 * replicas.) The answer is the smallest of the masters' numbers. A client that wrote nothing asks
 * all masters. A master that cannot be asked, is none any more or has restarted since counts as 0.
 *
 * What AOFs have no INFO tells: only WAITAOF does, of the asking connection's last write. So the
 * connection that asks makes one that changes nothing (a mark, see wait_conn.c), behind all of the
 * client's, and keeps it for the client while that goes on asking: a new mark would have to be
 * waited for anew.
 * Layer: session. Thread: one worker. Owner: the upstream; a client's part: struct client_extra.
 */
#ifndef SESSION_WAIT_H
#define SESSION_WAIT_H

#include "session/client.h"

struct waits;

/* True while a client waits in one of them. */
static inline bool wait_is_on(const struct client *c)
{
    return c->extra != NULL && c->extra->wait != NULL;
}

/* CLIENT UNBLOCK: its time is over, or (`error`) it gets an error. */
void wait_unblock(struct client *c, bool error);

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
