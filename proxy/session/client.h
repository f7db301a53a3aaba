/*
 * client.h - one client connection: reading, its queue of requests, its ordered output.
 *
 * While a hold is set its bytes are not parsed, and when it wants to send more it is not read from.
 * An idle client owns nothing but this struct and its names.
 * Layer: session. Thread: one worker. Owner: the worker's list of clients; freed at the end of the
 * turn in which it closed.
 */
#ifndef SESSION_CLIENT_H
#define SESSION_CLIENT_H

#include "session/request.h"
#include "session/upstream.h"

/* Why a client's next request is not parsed. */
enum client_hold {
    HOLD_REFUSED = 1 << 0,  /* requests of it are to be sent again first */
    HOLD_BARRIER = 1 << 1,  /* its queue must be empty first */
    HOLD_PIPELINE = 1 << 2, /* client.max_pipeline or client.max_inflight_bytes */
    HOLD_OUTPUT = 1 << 3,   /* client.output_pause */
    HOLD_PAUSE = 1 << 4,    /* CLIENT PAUSE */
    HOLD_LEARNING = 1 << 5, /* the servers have not told their commands yet */
    HOLD_EXEC = 1 << 6,     /* EXEC's array is being written (session/transaction_run.c) */
};

/* CLIENT REPLY. The lowest bit: the command at hand gets no reply. */
enum reply_mode {
    REPLY_ON = 0,
    REPLY_OFF = 1,
    REPLY_SKIP_NEXT = 2, /* CLIENT REPLY SKIP was the last command */
    REPLY_SKIP = 3,      /* the command at hand is the one behind it */
};

/* Bytes of an unfinished request, or of requests that wait for a hold to end. */
struct partial {
    struct resp_parser *parser; /* state of the unfinished request that begins at `start` */
    struct block *block;        /* bytes start..block->len */
    uint32_t start;
    bool unfinished; /* they are the begin of a request; false: whole ones wait to be parsed */
};

/* A master's AOF (0 or 1), and replicas: those that have something. */
struct wait_count {
    int64_t local, replicas;
};

/* What WAIT, or WAITAOF, has told a client (session/wait_known.h). */
struct wait_known {
    uint16_t wrote;                  /* node.mark of masters: it has not confirmed all they took */
    uint16_t last_wrote, ever_wrote; /* those of the last time it did, of all such times */
    bool lost;                       /* what was written is lost with its master: it answers 0 */
    bool has_acked;                  /* it has got what was wanted: */
    struct wait_count acked;         /* what was written before, save where `wrote` says */
};

/* What most clients never need; allocated by client_extra when one does. */
struct client_extra {
    struct client *client;
    char *name, *lib_name, *lib_ver; /* what it told us about itself */
    bool no_evict;                   /* not to be closed for memory_max */
    struct subscriber *subscriber;   /* NULL: it never listened to a channel */
    struct watch *watch;             /* between WATCH and EXEC */
    struct transaction *transaction; /* between MULTI and EXEC */
    struct transaction_run *run;     /* HOLD_EXEC */
    struct monitor *monitor;         /* c->monitors */
    struct wait *wait;               /* WAIT or WAITAOF is under way */
    struct wait_known waited[2];     /* enum wait_kind */
    uint16_t unmarked;             /* node.mark of masters with writes behind WAITAOF's last mark */
    struct long_reply *long_reply; /* the one at the head, whose connection waits for our output */
    struct chain stash;            /* what came within a long reply, or EXEC's array */
    /* HOLD_REFUSED: */
    struct list_node wait_link; /* env->waiting */
    uint64_t retry_at_ms;       /* not before */
    uint64_t held_since_ms;
    uint64_t unsure_until_ms; /* so long a map may come that names what a script's refusal names */
    uint64_t wait_version;    /* of the map that decides about a slot without owner; 0: none */
};

struct client {
    MAGIC_FIELD;
    uint8_t hold;           /* enum client_hold, or-ed */
    uint8_t proto;          /* 2 or 3 */
    bool closing : 1;       /* nothing more is read; closes when all is answered and written */
    bool ended : 1;         /* the client sends no more, but what it sent is answered */
    bool doomed : 1;        /* over client.output_max: closes in the next turn */
    bool in_multi : 1;      /* between MULTI and EXEC */
    bool pause_writes : 1;  /* env->pause: commands that write have to wait */
    bool subscribed : 1;    /* RESP2, and it listens to channels: few commands are allowed */
    bool monitors : 1;      /* MONITOR: it gets the servers' lines, and may not use keys */
    bool anonymous : 1;     /* it has to AUTH, or the servers must be asked whether it has to */
    bool reads_ahead : 1;   /* held or not, it is read from, up to client.read_ahead */
    uint8_t reply_mode : 2; /* enum reply_mode */
    uint16_t last_command;  /* its row's number */
    uint16_t wrote;      /* node.mark of masters that took a write since the last WAIT or WAITAOF */
    uint32_t stored_kib; /* replies that wait for their turn, each rounded up */
    struct stream stream;
    struct session_env *env;
    struct upstream *up;
    struct request *head, **tail;
    uint32_t queued;   /* requests in the queue */
    uint32_t inflight; /* of them and of their parts: with a backend connection */
    uint32_t refused;  /* of them and of their parts: REQUEST_REFUSED */
    uint16_t profile;
    uint16_t listener;
    uint64_t inflight_bytes;
    struct partial *partial;
    struct list_node link; /* env->clients */
    union {
        struct loop_task task; /* parses what is left */
        struct loop_reap reap; /* instead, once the stream is closed */
    };
    uint64_t id;
    uint32_t taken_mark;          /* low bits of stream.written when output was last seen moving */
    uint32_t stalled_s;           /* seconds with unread output and no byte taken */
    uint32_t created_s, active_s; /* wall clock / monotonic seconds */
    struct client_extra *extra;   /* NULL until needed */
};

/* c->extra, created when there is none. */
struct client_extra *client_extra(struct client *c);

/* Takes over an accepted socket. */
struct client *client_new(struct session_env *env, int fd, uint64_t id, uint16_t listener);

/* A walk over all clients of a worker, of which any may close meanwhile. To be gone on with up to
 * NULL. */
static inline void clients_walk(struct session_env *env, struct list_walk *w)
{
    list_walk_begin(&env->client_walks, w, &env->clients);
}

static inline struct client *clients_walk_next(struct session_env *env, struct list_walk *w)
{
    struct list_node *at = list_walk_next(&env->client_walks, w, &env->clients);

    return at != NULL ? CONTAINER_OF(at, struct client, link) : NULL;
}

/* Closes now: requests under way are orphaned. */
void client_close(struct client *c);

/* Reads nothing more; closes when every request is answered and written. */
void client_close_when_answered(struct client *c);

/* Reads nothing more; what has arrived is still parsed and answered, then it closes. */
void client_drain_and_close(struct client *c);

/* Closes in the next turn, for callers in the midst of work on the client. Nothing more is parsed.
 */
void client_doom(struct client *c);

/* Sets and clears holds; when the last one is cleared parsing goes on in the next turn. */
static inline void client_hold(struct client *c, enum client_hold why)
{
    c->hold |= (uint8_t)why;
}
void client_unhold(struct client *c, enum client_hold why);

/* Puts a request at the end of the queue. */
static inline void client_enqueue(struct client *c, struct request *r)
{
    r->silent = c->reply_mode & 1;
    *c->tail = r;
    c->tail = &r->next;
    c->queued++;
}

/* Answers with what a handler composed, in turn: at once when nothing is before it. */
void client_reply(struct client *c, const struct command *cmd, struct chain *reply);

/* The reply of r, which is in c's queue and not a part, is there. */
void client_request_done(struct client *c, struct request *r, const char *data, size_t len,
                         struct block *owner);
/* The same, with the reply already stored in r. */
void client_request_stored(struct client *c, struct request *r);

/* The same, with the reply in a chain, which is emptied. */
void client_request_composed(struct client *c, struct request *r, struct chain *reply);

/* Bytes were added to the output: they leave at the end of the turn, and count. */
void client_output_added(struct client *c);

/* A reply was stored behind requests without one: it counts as unread output. */
void client_reply_stored(struct client *c);

/* Moves finished requests at the head of the queue to the output. */
void client_drain(struct client *c);

/* Once a second: idle and stalled clients. */
void client_tick(struct client *c, uint64_t now_ms);

#endif
