/*
 * forward.h - between requests and backend connections: sending (forward.c), and what comes back
 * (forward_reply.c).
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_FORWARD_H
#define SESSION_FORWARD_H

#include "session/client.h"

/* Sends a new request (already in its client's queue or its scatter) to the node that serves its
 * slot; when there is none to send to, the request is held (session/redirect.h). `bytes` is copied,
 * unless `block` holds it and it is large. */
void forward_new(struct client *c, struct request *r, const char *bytes, uint32_t len,
                 struct block *block);

/* Sends a new request on this connection, and nowhere else; the last of `replies` is its answer. */
void forward_to(struct client *c, struct request *r, struct beconn *conn, const char *bytes,
                uint32_t len, uint16_t replies);

/* Sends a new request whose bytes r->be holds already. */
void forward_stored(struct client *c, struct request *r);

/* Sends a refused request again, from its own bytes; `asking`: preceded by ASKING. */
void forward_again(struct client *c, struct request *r, struct beconn *conn, bool asking);

/* True when a new request to this slot has to wait: earlier requests of the client to it are still
 * under way on another route. */
bool forward_must_wait(const struct client *c, uint16_t slot);

/* A connection of this kind is the one that r has to take: shared, or leased when r is large. NULL
 * while the node cannot be reached. */
struct beconn *forward_connection(struct client *c, struct node *n, uint32_t len);

/* The same for a request that has its bytes. */
struct beconn *forward_connection_of(struct client *c, const struct request *r, struct node *n);

/* The reply of r, which is no refusal, for a client that is still there. */
void forward_answered(struct client *c, struct request *r, const struct bereply *reply);

/* Answers that r may or may not have run. */
void forward_unknown(struct client *c, struct request *r);

/* The shared connection to a node for what is not worth waiting for: NULL during an outage, unless
 * the node still answers. An attempt to reach it again is started when it is due. */
struct beconn *forward_connection_now(struct client *c, struct node *n);

extern const struct beconn_ops forward_ops;

/* Bytes that wait for a connection to come up are as much held as those of refused requests. */
static inline bool forward_is_full(const struct client *c, const struct beconn *conn)
{
    return conn->state != BECONN_READY &&
           conn->inflight_bytes > c->env->config->backend.max_inflight_bytes;
}

#endif
