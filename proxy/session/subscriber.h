/*
 * subscriber.h - what one client listens to, and how messages and confirmations reach it.
 *
 * A (P|S)(UN)SUBSCRIBE takes effect in program order, when it is read; its confirmation waits until
 * the servers have confirmed and all workers know of it, and only with it messages begin, or
 * cease, to be passed on: what was published before UNSUBSCRIBE still arrives. Messages go straight
 * to the client's output, between its replies.
 * Layer: session. Thread: one worker. Owner: struct client_extra.
 */
#ifndef SESSION_SUBSCRIBER_H
#define SESSION_SUBSCRIBER_H

#include "session/client.h"
#include "session/hub.h"

/* One client listens to one channel. */
struct subscription {
    struct table_node link; /* hub->subscriptions */
    struct list_node of_channel;
    struct list_node of_client; /* sub->subscriptions; of one that is leaving: op->leaving */
    bool leaving;               /* not in the set any more, and it pins ch */
    struct list_node of_op;     /* op->fresh: not confirmed yet; unlinked: messages are passed on */
    struct channel *ch;
    struct subscriber *sub;
};

/* An op waits for servers about one channel. */
struct sub_wait {
    struct list_node of_channel, of_op;
    struct sub_op *op;
    struct channel *ch;
    bool fenced; /* by hub_conn_fence, which has pinned ch */
    bool leaves; /* for what was published before an UNSUBSCRIBE */
};

/* One command of the family whose confirmation is not out yet. */
struct sub_op {
    struct list_node of_client; /* sub->ops, in program order */
    struct list_node of_hub;    /* hub->settling */
    struct list_node waits;     /* struct sub_wait.of_op */
    struct list_node fresh;     /* struct subscription.of_op */
    struct list_node leaving;   /* struct subscription.of_client: gone with the confirmation */
    struct subscriber *sub;
    uint64_t batch;      /* other workers know when this one went round */
    bool open, settled;  /* still being composed; may be answered */
    struct block *error; /* the answer instead of reply: a server's refusal */
    struct chain reply;
};

struct subscriber {
    struct client *client;
    struct hub *hub;
    struct list_node subscriptions[CHANNEL_KINDS]; /* struct subscription.of_client */
    uint32_t count[CHANNEL_KINDS];
    uint64_t bytes; /* what its set makes the proxy hold, about */
    struct list_node ops;
    uint32_t op_count;
};

/* The client's set, created when it has none. NULL: there are too many profiles. */
struct subscriber *subscriber_of(struct client *c);
/* The client closes, or RESET: it listens to nothing any more. */
void subscriber_free(struct client *c);

/* Begins and ends the composing of an answer to `cmd`; the op may be gone after the end. NULL:
 * there are too many profiles. */
struct sub_op *sub_op_begin(struct client *c, const struct command *cmd);
void sub_op_end(struct sub_op *op);

/* Adds one channel to the set, or takes it out; nothing when it is (not) there already. */
void subscriber_join(struct sub_op *op, enum channel_kind kind, const char *name, size_t len);
void subscriber_leave(struct sub_op *op, enum channel_kind kind, const char *name, size_t len);

/* What is told as the number of subscriptions in a confirmation of this kind. */
uint32_t subscriber_count(const struct subscriber *s, enum channel_kind kind);
/* True while it listens to anything. */
static inline bool subscriber_listens(const struct subscriber *s)
{
    return s->count[CHANNEL_PLAIN] + s->count[CHANNEL_PATTERN] + s->count[CHANNEL_SHARD] > 0;
}

static inline bool subscriber_is(const struct client *c)
{
    return c->extra != NULL && c->extra->subscriber != NULL &&
           subscriber_listens(c->extra->subscriber);
}

/* Sets c->subscribed by its dialect and its set. */
void subscriber_update_mode(struct client *c);

/* The long reply at the client's head, or EXEC's array, is complete: what came meanwhile follows
 * it.
 */
void subscriber_after_long_reply(struct client *c);

/* Where bytes go that are no reply: the client's output, or behind the long reply that it is in the
 * midst of. NULL: it is leaving. */
struct chain *subscriber_output(struct client *c);
/* They were put there: they leave at the end of the turn, and client.output_max_pubsub bounds them.
 */
void subscriber_output_added(struct client *c, const struct chain *out);

/* --- from the hub --- */

/* A push frame for all clients of ch. */
void subscriber_deliver(struct channel *ch, const char *data, size_t len);
/* Clients that wait for ch to be confirmed are answered with this error line. */
void subscriber_refused(struct channel *ch, const char *line, size_t len);
/* The same, and those that had it are closed, as a server does when it takes the right away. */
void subscriber_revoked(struct channel *ch, const char *line, size_t len);
/* The wait is unlinked from its channel: it ends. */
void sub_wait_over(struct sub_wait *w);
/* All workers know what op has changed. */
void sub_op_settled(struct sub_op *op);

#endif
