/*
 * node_query.h - a connection on which control code asks one server questions.
 *
 * Opening it sends AUTH (where a password is configured) and CLIENT SETNAME; questions may be put
 * at once and leave with them. Answers come in the order of the questions, decoded by hiredis. When
 * the connection fails or breaks, all questions not answered are dropped.
 * Layer: control. Thread: its loop's. Owner: who opened it; the memory goes at the end of the turn.
 */
#ifndef CONTROL_NODE_QUERY_H
#define CONTROL_NODE_QUERY_H

#include <hiredis/hiredis.h>

#include "net/stream.h"

/* What a server may answer to one question; the longest there is, CLUSTER NODES, is shorter. */
#define NODE_QUERY_MAX ((size_t)16 << 20)

enum node_question {
    QUESTION_AUTH, /* asked by node_query_open itself, as is the next */
    QUESTION_SETNAME,
    QUESTION_RESET, /* by node_query_reset */
    QUESTION_NODES, /* CLUSTER NODES */
    QUESTION_ROLE,
    QUESTION_PING,
    QUESTION_SUBSCRIBE,     /* PSUBSCRIBE *: from its answer on, events come to ops->pushed */
    QUESTION_SENTINEL_ADDR, /* these four: SENTINEL ... of one master */
    QUESTION_SENTINEL_MASTER,
    QUESTION_SENTINEL_REPLICAS,
    QUESTION_SENTINEL_SENTINELS,
    QUESTION_COMMANDS,      /* COMMAND */
    QUESTION_COMMAND_NAMES, /* COMMAND LIST */
};

/* The name of connections that ask who owns what. */
#define NODE_QUERY_TOPOLOGY "keyway-topology"

struct node_query;

struct node_query_ops {
    /* A reply, an error reply too; borrowed. */
    void (*answered)(struct node_query *q, enum node_question what, const redisReply *r);
    /* The connection is of no use any more; the callee calls node_query_close. */
    void (*lost)(struct node_query *q, const char *why);
    /* A published message: "pmessage", pattern, channel, text. NULL: none is expected. */
    void (*pushed)(struct node_query *q, const redisReply *r);
};

/* What the connections of one upstream share; outlives them. */
struct node_query_env {
    struct loop *loop;
    const struct node_query_ops *ops;
    const char *user, *password; /* NULL: none */
    struct span scratch;         /* where bytes are read to; used within one callback only */
    const char *name;            /* of the connections, in CLIENT LIST */
};

/* Starts connecting. NULL with errno when that fails at once. */
struct node_query *node_query_open(const struct node_query_env *env, const struct sockaddr_any *to,
                                   void *owner);
/* Closes, without a callback. */
void node_query_close(struct node_query **q);

void *node_query_owner(const struct node_query *q);

/* True when the server has said anything: it can be reached, though it may not let us in. */
bool node_query_heard(const struct node_query *q);

/* Queues a question. False when too many have no answer yet. */
MUST_CHECK bool node_query_ask(struct node_query *q, enum node_question what);
/* The same about a Sentinel's master. */
MUST_CHECK bool node_query_ask_of(struct node_query *q, enum node_question what,
                                  const char *master);

/* Makes the server take what follows as a new connection's, which it may let in no more. Of no use
 * where a password is configured. False as above. */
MUST_CHECK bool node_query_reset(struct node_query *q);

/* When the oldest question without an answer was put (clock_ms); UINT64_MAX when there is none. */
uint64_t node_query_waiting_since(const struct node_query *q);

#endif
