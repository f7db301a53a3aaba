/*
 * wait_conn.h - the connection on which one master is asked for a client's WAIT (session/wait.h).
 *
 * INFO, WAIT and INFO go out together; then WAIT and INFO again until it is enough. The connection
 * counts among the node's leased ones, and is kept for a while when it is idle.
 * Layer: session. Thread: one worker. Owner: struct waits; freed when the connection has closed.
 */
#ifndef SESSION_WAIT_CONN_H
#define SESSION_WAIT_CONN_H

#include "session/client.h"

struct waits {
    struct upstream *up;
    struct backend_env backend; /* the worker's, with ops of our own */
    struct list_node ops;       /* struct wait.link */
    struct list_node conns;     /* struct wait_conn.link */
};

/* A client's WAIT under way; its request is PENDING. */
struct wait {
    struct list_node link;
    struct client *client;
    struct waits *ws;
    int64_t wanted;
    uint64_t started_ms, deadline_ms; /* deadline 0: none */
    uint32_t pending;                 /* masters that have still to answer */
    int64_t least;                    /* replicas, of those that have */
    uint16_t masters;                 /* node.mark of those asked */
    bool every;                       /* they are all that have slots */
    bool all;                         /* they took all that the client ever wrote */
    bool fresh;                       /* the client never wrote: every replica has that */
};

/* An exclusive connection: of one WAIT, or idle. */
struct wait_conn {
    struct list_node link;
    struct waits *ws;
    struct beconn *conn;
    struct wait *op;  /* NULL: idle */
    uint64_t idle_ms; /* since when */
    int64_t offset;   /* the master's when it was asked first */
    uint32_t slice_ms;
    enum {
        NEXT_OFFSET, /* what is answered next: the first INFO */
        NEXT_WAIT,
        NEXT_COUNT, /* INFO behind WAIT */
    } next;
};

extern const struct beconn_ops wait_conn_ops;

/* Asks n for op. False: backend.max_leased connections exist. A node that cannot be reached counts
 * as 0 at once. */
MUST_CHECK bool wait_conn_ask(struct wait *op, struct node *n);

/* Closes it: what op waits for there is over. */
void wait_conn_end(struct wait_conn *wc);

/* --- session/wait.c: what a connection tells --- */

/* One master's number is known. */
void wait_part_done(struct wait *op, int64_t replicas);
/* A server refuses: that is the answer. */
void wait_fail(struct wait *op, const struct bereply *reply);

#endif
