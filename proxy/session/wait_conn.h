/*
 * wait_conn.h - the connection on which one master is asked for a client's WAIT or WAITAOF
 * (session/wait.h).
 *
 * WAIT: INFO, WAIT and INFO go out together; then WAIT and INFO again until it is enough. WAITAOF:
 * a mark, if the connection has none behind the client's writes, then WAITAOF. The connection
 * counts among the node's leased ones, and is kept for a while when it is idle.
 *
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

enum wait_kind {
    WAIT_RECEIVED, /* WAIT; nothing is asked of the master itself: `local` is 0 */
    WAIT_FSYNCED,  /* WAITAOF */
};

/* A client's WAIT or WAITAOF under way; its request is PENDING. */
struct wait {
    struct list_node link;
    struct client *client;
    struct waits *ws;
    enum wait_kind kind;
    struct wait_count wanted;
    uint64_t started_ms, deadline_ms; /* deadline 0: none */
    uint32_t pending;                 /* masters that have still to answer */
    struct wait_count least;          /* of those that have */
    uint16_t masters;                 /* node.mark of those asked */
    bool every;                       /* they are all that have slots */
    bool all;                         /* they took all that the client ever wrote */
    bool fresh;                       /* the client never wrote: everybody has that */
    bool nothing_new;                 /* it wrote nothing since it got what it wanted */
    bool marked_anew;                 /* a connection took a mark */
    bool counted;                     /* in metrics.blocked */
};

/* An exclusive connection: of one WAIT, or idle. */
struct wait_conn {
    struct list_node link;
    struct waits *ws;
    struct beconn *conn;
    struct wait *op;  /* NULL: idle */
    uint64_t idle_ms; /* since when */
    int64_t offset;   /* the master's when it was asked first */
    uint64_t owner;   /* id of the client behind whose writes its mark is, until they are confirmed;
                         0: it is anybody's */
    bool marked;      /* it has made a mark */
    bool spent;       /* its server was asked to unblock it: it closes when it has answered */
    uint32_t slice_ms;
    enum {
        NEXT_OFFSET, /* what is answered next: the first INFO */
        NEXT_WAIT,
        NEXT_COUNT, /* INFO behind WAIT */
        NEXT_MARK,
        NEXT_FSYNCED, /* WAITAOF */
    } next;
};

extern const struct beconn_ops wait_conn_ops;

/* Asks n for op. False: backend.max_leased connections exist. A node that cannot be reached counts
 * as 0 at once. */
MUST_CHECK bool wait_conn_ask(struct wait *op, struct node *n);

/* Closes it: what op waits for there is over. */
void wait_conn_end(struct wait_conn *wc);

/* What op's client wrote is confirmed: the connections with its marks are anybody's. */
void wait_conns_release(struct wait *op);

/* op's time is over, before its server knows it. */
void wait_conn_hurry(struct wait_conn *wc);

/* --- session/wait.c: what a connection tells --- */

/* What one master says is known. */
void wait_part_done(struct wait *op, struct wait_count count);
/* A server refuses: that is the answer. */
void wait_fail(struct wait *op, const struct bereply *reply);

#endif
