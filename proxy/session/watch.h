/*
 * watch.h - WATCH: the connection that is kept until EXEC, because the server remembers the keys by
 * it.
 *
 * WATCH leases an exclusive connection to its slot's node and is answered before anything behind it
 * is parsed; EXEC goes over that connection when everything before it is answered. What the client
 * asks in between takes the usual ways: it runs behind WATCH and before EXEC, which is all that
 * counts. HELLO and SELECT in between are repeated on it. When the connection is lost or the slot
 * has moved, EXEC answers nil, as for a key that was changed: clients try again. The connection is
 * given back when the server watches nothing any more.
 * Layer: session. Thread: one worker. Owner: the client (client_extra.watch).
 */
#ifndef SESSION_WATCH_H
#define SESSION_WATCH_H

#include "session/client.h"

struct watch;

/* True between WATCH and EXEC, UNWATCH or DISCARD. */
static inline bool watch_is_on(const struct client *c)
{
    return c->extra != NULL && c->extra->watch != NULL;
}

/* The slot of the watched keys; SLOT_NONE: nothing is watched. */
uint16_t watch_slot(const struct client *c);

/* Ends it: the connection is given back as soon as the server has confirmed UNWATCH. */
void watch_release(struct client *c);

/* Before EXEC: true when the client is in another database or dialect than the connection, which is
 * being told so; a hold was set, EXEC has to come again. */
bool watch_follows(struct client *c);

/* The connection for EXEC; NULL when EXEC has to answer nil. *asking: to be preceded by ASKING. */
struct beconn *watch_connection(struct client *c, bool *asking);

/* The connection for a request WATCH to node n, leased when there is none; NULL: not now. */
struct beconn *watch_lease(struct client *c, const struct request *r, struct node *n);
/* WATCH was sent. */
void watch_sent(struct client *c, bool asking);

/* WATCH or EXEC (request.is_pinned) came back. */
void watch_replied(struct client *c, struct request *r, const struct bereply *reply,
                   enum refusal why);
void watch_request_lost(struct client *c, struct request *r, enum bereq_loss loss);

/* The exclusive connection, whose user is a watch, is closed. */
void watch_conn_closed(struct beconn *conn);

/* Composes EXEC's answer for a conflict. */
void watch_conflict(const struct client *c, struct chain *out);

#endif
