/*
 * hub_conn.h - a hub's connection to one server: RESP3, so that messages and confirmations are push
 * frames and nothing else ever has to be told from them.
 *
 * Each (P|S)SUBSCRIBE and (P|S)UNSUBSCRIBE names one channel and is answered by one push or by one
 * error, in order; a PING now and then shows that the server is still there.
 * Layer: session. Thread: one worker. Owner: the hub; freed when the connection has closed.
 */
#ifndef SESSION_HUB_CONN_H
#define SESSION_HUB_CONN_H

#include "session/hub.h"

struct hub_cmd;
struct sub_wait;

struct hub_conn {
    struct list_node link; /* hub->conns */
    struct hub *hub;
    struct beconn *conn;
    struct node *node;
    struct list_node places;      /* struct place.of_conn */
    struct hub_cmd *head, **tail; /* commands that are not answered yet */
    uint64_t used_ms;             /* when it last had a place */
    uint64_t pinged_ms;
};

extern const struct beconn_ops hub_conn_ops;

/* The hub's connection to n, opened when there is none; NULL while n cannot be connected to. */
struct hub_conn *hub_conn_to(struct hub *h, struct node *n);

/* Asks for p's channel, and for no more of it; place_confirmed, place_refused, place_left follow.
 */
void hub_conn_subscribe(struct place *p);
void hub_conn_unsubscribe(struct place *p);

/* w is over when the server has answered what was sent up to now: messages from before have come.
 */
void hub_conn_fence(struct hub_conn *hc, struct sub_wait *w);

/* Timeouts. */
void hub_conn_tick(struct hub_conn *hc, uint64_t now_ms);

#endif
