/*
 * long_reply.h - a reply longer than backend.large_reply passes to its client in pieces.
 *
 * The connection it comes on is taken out of the shared set, and is read at the client's pace.
 * While requests of others wait behind it, that goes on for at most backend.lane_stall; after that
 * the reply is read as fast as it comes and buffered within the client's output marks.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_LONG_REPLY_H
#define SESSION_LONG_REPLY_H

#include "session/client.h"

/* A reply that has begun; r->data of its request (REQUEST_STREAMING). */
struct long_reply {
    struct list_node link; /* env->long_replies */
    struct client *client;
    struct beconn *conn; /* NULL once all of it has arrived */
    struct chain stash;  /* what arrived before it was the client's next answer */
    bool paused;         /* the connection is not read */
    uint64_t slow_ms;    /* when it was paused first; 0: never */
    bool buffered;       /* lane_stall has passed while others waited: no more pauses */
};

/* A piece of r's reply. `last`: r is no longer with the connection. */
void long_reply_piece(struct client *c, struct request *r, struct beconn *conn, struct block *b,
                      uint32_t off, uint32_t len, bool last);

/* r, whose pieces were waiting, has become the client's next answer. True: it is complete, and all
 * of it is in the output. */
MUST_CHECK bool long_reply_at_head(struct client *c, struct request *r);

/* The client has taken what it was sent: read on. */
void long_reply_go_on(struct client *c);

/* The client leaves; its reply is read to its end and dropped. True: the connection still has r. */
MUST_CHECK bool long_reply_drop(struct request *r);

/* Replies whose connection others wait on: from the worker's tick. */
void long_reply_tick(struct session_env *env, uint64_t now_ms);

#endif
