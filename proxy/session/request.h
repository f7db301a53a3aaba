/*
 * request.h - one command of one client, from parsing to its reply.
 *
 * A request is in its client's queue, in order, until its reply has been moved to the client's
 * output. It either goes to one server, or is the parent of parts that do (session/scatter.h), or
 * is answered by the proxy and only waits for its turn.
 * Layer: session. Thread: one worker. Owner: its client's queue (parts: their scatter); while a
 * server has it and the client is gone, the backend connection, which frees it through its reply.
 */
#ifndef SESSION_REQUEST_H
#define SESSION_REQUEST_H

#include "backend/bereq.h"
#include "backend/beconn.h"
#include "command/command.h"
#include "session/env.h"

struct client;
struct node;
struct scatter;

enum request_state {
    REQUEST_SENT,      /* a backend connection has it */
    REQUEST_REFUSED,   /* came back without having run; to be sent again (session/redirect.h) */
    REQUEST_PARTS,     /* its parts are under way */
    REQUEST_PENDING,   /* the proxy is working on it (SCAN, CLIENT LIST) */
    REQUEST_STREAMING, /* part of a long reply has been passed on */
    REQUEST_DONE,      /* the reply is stored */
};

/* Why a request is REFUSED. */
enum refusal {
    REFUSAL_NONE,
    REFUSAL_NO_CONNECTION, /* not sent: its node cannot be reached */
    REFUSAL_NO_OWNER,      /* no node claims the slot */
    REFUSAL_LOST,          /* a read whose connection broke */
    REFUSAL_MOVED,
    REFUSAL_ASK, /* ask_node tells where */
    /* The same from a script, naming a node (ask_node) that no map has named yet: */
    REFUSAL_MOVED_UNSURE,
    REFUSAL_ASK_UNSURE,
    REFUSAL_TRYAGAIN,
    REFUSAL_NOT_SERVED, /* CLUSTERDOWN, but only for this slot or for writes */
    REFUSAL_CLUSTERDOWN,
    REFUSAL_LOADING,
    REFUSAL_MASTERDOWN,
    REFUSAL_READONLY,
    REFUSAL_NO_MULTI, /* its node lets the user have no transactions */
    REFUSAL_NOSCRIPT, /* an EVALSHA whose body is remembered (session/scripts.h) */
};

/* Chosen to make a request two cache lines. */
#define REQUEST_INLINE_REPLY 20
#define SLOT_NONE UINT16_MAX

struct request {
    struct bereq be;
    struct client *client; /* NULL: it has left; the reply is dropped */
    struct request *next;  /* in the client's queue, or of the same parent */
    const struct command *cmd;
    union {
        struct request *parent;  /* is_part */
        struct scatter *scatter; /* REQUEST_PARTS, and keeps_parts */
        void *data;              /* REQUEST_PENDING; is_tx, is_blocking: what it needs for that */
    };
    union {
        struct block *reply_block; /* REQUEST_DONE: holds the reply; NULL: it is inline */
        struct node *ask_node;     /* REFUSAL_ASK and the unsure ones */
    };
    uint32_t epoch; /* of the routes when it was sent */
    uint32_t reply_off, reply_len;
    uint16_t slot;   /* SLOT_NONE: none */
    uint8_t state;   /* enum request_state */
    uint8_t refusal; /* enum refusal */
    uint8_t redirects;
    uint8_t is_part : 1;
    uint8_t silent : 1;      /* CLIENT REPLY: its reply is dropped */
    uint8_t failed : 1;      /* answered by the proxy's own error: it has not run */
    uint8_t again : 1;       /* sent again, and counted so in its node */
    uint8_t is_pinned : 1;   /* on the connection that watches keys (session/watch.h) */
    uint8_t is_blocking : 1; /* on a leased connection (session/blocking.h) */
    uint8_t is_tx : 1;       /* EXEC with its whole block (session/transaction.h) */
    uint8_t keeps_parts : 1; /* REQUEST_DONE, but its parts are there to be compared */
    uint8_t is_news : 1;     /* its answer tells whether a server takes its script */
    uint32_t first, count;   /* of a part: its keys in scatter->order */
    char reply_inline[REQUEST_INLINE_REPLY];
};

/* A request of c, not yet in its queue. */
struct request *request_new(struct session_env *env, struct client *c, const struct command *cmd);

/* Frees it with its bytes and reply. */
void request_free(struct session_env *env, struct request *r);

/* Stores a reply: small ones inline, larger ones copied, the largest by reference to `owner`; of a
 * silent request nothing. */
void request_store(struct request *r, const char *data, size_t len, struct block *owner);

/* The stored reply. */
static inline const char *request_reply(const struct request *r)
{
    return r->reply_block != NULL ? r->reply_block->data + r->reply_off : r->reply_inline;
}

/* Appends a stored reply to a chain. */
void request_move_reply(struct request *r, struct chain *out);

/* True when running it twice could do harm: it is not sent again after an unknown outcome. */
static inline bool request_is_write(const struct request *r)
{
    uint32_t f = r->cmd->flags;

    if ((f & CMD_ADMIN) != 0 && r->cmd->route == ROUTE_ALL)
        return r->cmd->merge == MERGE_OK || r->cmd->merge == MERGE_FIRST; /* CONFIG SET, SAVE */
    if ((f & CMD_GUARDED) != 0)
        return r->cmd->route == ROUTE_LOCAL; /* DEBUG */
    return (f & CMD_READONLY) == 0 &&
           (f & (CMD_WRITE | CMD_MAY_REPLICATE | CMD_SCRIPT | CMD_PUBSUB | CMD_TX)) != 0;
}

/* Parses r's own bytes again. The result is valid until the next call. */
void request_parse(struct session_env *env, const struct request *r, struct resp_request *out);

/* Frees spare requests that were not needed since the last call. */
void requests_trim(struct session_env *env);

#endif
