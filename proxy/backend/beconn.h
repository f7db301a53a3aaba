/*
 * beconn.h - one connection to a server: handshake, queue of requests in flight, framing of
 * replies.
 *
 * It knows nothing of clients: requests are struct bereq, and what happens to them is told through
 * struct beconn_ops. Replies are matched by order alone; a connection whose bytes make no sense has
 * lost step and is closed.
 * Layer: backend. Thread: one worker. Owner: its node (backend/node.h); freed at the end of the
 * turn in which it closed.
 */
#ifndef BACKEND_BECONN_H
#define BACKEND_BECONN_H

#include "backend/bereq.h"
#include "backend/profile.h"
#include "net/stream.h"
#include "resp/reply.h"

#define RUN_ID_LEN 40
#define BECONN_SCRATCH (128 * 1024)
#define HANDSHAKE_CHANGE_MAX 128

struct beconn;
struct node;

/* One complete reply. The bytes are borrowed for the call; where block is not NULL they are in it
 * and the receiver may keep them by a reference. */
struct bereply {
    const char *data;
    size_t len;
    struct block *block;
    char type; /* first byte, attributes aside */
};

/* Why a request comes back without a reply. */
enum bereq_loss {
    BEREQ_UNSENT,  /* its last byte was not written: it cannot have run */
    BEREQ_UNKNOWN, /* it was written: it may or may not have run */
};

struct beconn_ops {
    /* r is popped and belongs to its sender again. */
    void (*reply)(struct beconn *c, struct bereq *r, const struct bereply *reply);
    void (*lost)(struct beconn *c, struct bereq *r, enum bereq_loss loss);
    /* A reply before the last one of r is an error. r stays with the connection. */
    void (*early_error)(struct beconn *c, struct bereq *r, const struct bereply *reply);
    /* A reply longer than env.large_reply passes in pieces: bytes of b that the receiver may refer
     * to. `last`: r is popped. The receiver may call beconn_pause. If the connection breaks in
     * between, lost() is called with r->replies == 0. */
    void (*piece)(struct beconn *c, struct bereq *r, struct block *b, uint32_t off, uint32_t len,
                  bool last);
    /* A RESP3 push frame; never an answer. */
    void (*push)(struct beconn *c, const char *data, size_t len);
    /* A reply that no bereq waits for, to one who sends without them; NULL: such a one is an error.
     */
    void (*stray)(struct beconn *c, const struct bereply *reply);
    /* The server refuses the profile's user, and gives this reason: then it is the reply to every
     * request that waits here, and closed() follows. May be NULL. */
    void (*refused)(struct beconn *c, const struct bereply *reply);
    /* The handshake succeeded; queued requests leave in this turn. */
    void (*ready)(struct beconn *c);
    /* It is gone, after lost() for each of its requests; c is freed at the end of the turn. */
    void (*closed)(struct beconn *c);
};

/* What all connections of a worker share. */
struct backend_env {
    struct loop *loop;
    const struct beconn_ops *ops;
    char *scratch; /* BECONN_SCRATCH bytes; valid within one callback */
    struct profile_table *profiles;
    uint32_t connect_timeout_ms, request_timeout_ms, silence_ms, tcp_keepalive_s;
    uint32_t tcp_user_timeout_ms;
    uint32_t retry_min_ms, retry_max_ms;
    uint32_t max_leased;
    uint32_t retry_budget;
    uint32_t max_profiles; /* shared connections to one node */
    uint64_t large_reply;
    uint64_t max_whole_reply; /* a reply that must be whole may have so many bytes */
    uint64_t random;          /* state of the jitter */
};

enum beconn_state {
    BECONN_CONNECTING,
    BECONN_HANDSHAKE,
    BECONN_READY,
    BECONN_CLOSED,
};

struct beconn {
    MAGIC_FIELD;
    enum beconn_state state;
    struct stream stream;
    struct backend_env *env;
    struct node *node;
    uint16_t profile;
    bool leased;  /* exclusive to one user, never in node->shared */
    bool retired; /* nothing new is sent; closes when its FIFO is empty */
    bool paused;
    bool brief;  /* of a user: nothing but what must be said is sent at the beginning */
    bool noauth; /* the server wants an AUTH first */
    struct bereq *head, **tail;
    uint32_t inflight; /* requests in the FIFO */
    uint64_t inflight_bytes;
    uint64_t queued;          /* bytes of requests appended so far */
    uint64_t handshake_bytes; /* bytes that preceded them */
    struct chain waiting;     /* requests queued before the handshake is done */
    struct resp_framer framer;
    struct block *rest; /* begin of an unfinished reply */
    uint32_t framed;    /* bytes of `rest` the framer has consumed (long replies only) */
    enum {
        READ_SHORT,
        READ_WHOLE,
        READ_PIECES
    } read_mode;
    uint64_t written_mark;      /* stream.written at the last tick */
    uint64_t progress_ms;       /* when bytes arrived last, or the connection was idle last */
    uint64_t ready_ms;          /* when the handshake ended */
    uint8_t step;               /* handshake */
    bool db_selected;           /* handshake: by the guest that it began as */
    int64_t server_id;          /* handshake: its number at the server; 0: not known ... */
    bool found_busy;            /* ... as a script ran: of no use to a block, which may be ended */
    bool probes_multi;          /* handshake: MULTI, EXEC and DISCARD are tried */
    bool multi_ok, exec_ok;     /* and what they were answered */
    bool multi_refused;         /* its user may not have transactions */
    uint64_t multi_ms;          /* since when this is known */
    struct list_node link;      /* node->conns */
    struct list_node idle_link; /* node->idle, or spare */
    bool lent;                  /* it is in spare */
    struct loop_reap reap;
    void *user; /* of the one who leased it */
};

/* The server refused MULTI or EXEC on c. */
void beconn_multi_refused(struct beconn *c);

/* Starts connecting. NULL with errno when it failed at once. */
MUST_CHECK struct beconn *beconn_new(struct backend_env *env, struct node *n, uint16_t profile);

/* Room for n consecutive request bytes (including what precedes the request itself). */
static inline char *beconn_reserve(struct beconn *c, size_t n)
{
    return chain_reserve(c->state == BECONN_READY ? &c->stream.out : &c->waiting, n);
}

/* Sends the n bytes just written to beconn_reserve. The last n - prefix of them are the request
 * itself; it will get `replies` replies. */
void beconn_commit(struct beconn *c, struct bereq *r, size_t n, size_t prefix, uint16_t replies);

/* Sends r's own bytes (r->block, off, len) by reference, after `prefix` bytes copied. */
void beconn_send_ref(struct beconn *c, struct bereq *r, const char *prefix, size_t prefix_len,
                     uint16_t replies);

/* Stops and goes on reading: back-pressure of a client that takes a long reply. */
void beconn_pause(struct beconn *c);
void beconn_resume(struct beconn *c);

/* A long reply holds the connection up: the requests behind it of which no byte was written come
 * back, as lost() and BEREQ_UNSENT, in order. */
void beconn_return_unsent(struct beconn *c);

/* True when its server owes a reply for so long that nothing more is sent to it. */
static inline bool beconn_is_held(const struct beconn *c)
{
    return c->stream.held;
}

/* Closes at once: every request gets lost(), then closed() is called. `why` is for the log; NULL:
 * not worth a line. */
void beconn_close(struct beconn *c, const char *why);

/* Closes at once, as the server refuses the user: refused() is called, or every request gets this
 * error as its reply. */
void beconn_refuse(struct beconn *c, const struct bereply *reply);

/* Timeouts; from the worker's tick. */
void beconn_tick(struct beconn *c, uint64_t now_ms);

/* --- backend/handshake.c --- */

/* Queues what the profile needs: AUTH or HELLO, name, no-evict, facts about the server. */
void handshake_start(struct beconn *c);
/* Makes c, which is exclusive, ready and asked nothing, one of another profile of the same user:
 * the commands for that are written to `text`, to be sent by the caller before anything else, and
 * counted in *commands. Returns their bytes. Where the server refuses one c is to be retired. */
size_t handshake_change(struct beconn *c, uint16_t profile, char text[HANDSHAKE_CHANGE_MAX],
                        uint16_t *commands);
/* Takes one of its replies. False: the connection was closed. */
MUST_CHECK bool handshake_reply(struct beconn *c, const struct bereply *reply);

#endif
