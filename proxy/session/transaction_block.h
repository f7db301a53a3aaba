/*
 * transaction_block.h - what a transaction keeps, for the files that build and answer it.
 * Layer: session (session/transaction*.c only). Thread: one worker.
 */
#ifndef SESSION_TRANSACTION_BLOCK_H
#define SESSION_TRANSACTION_BLOCK_H

#include "base/sha1.h"
#include "session/transaction.h"

/* Bytes one after the other in one block that grows. */
struct buffer {
    struct block *block; /* NULL: empty */
};

/* A command that the proxy answers, or a SELECT, whose answer it acts upon. */
struct own_command {
    const struct command *cmd; /* NULL: SELECT, which the server answers */
    uint32_t position;         /* in EXEC's array */
    int32_t db;                /* of SELECT */
};

/* What becomes of a command inside MULTI. */
enum transaction_fate {
    TX_SENT,       /* goes to the server in its place */
    TX_OWN,        /* answered by the proxy when the others have run */
    TX_SELECT,     /* in front of one server: sent, and the client changes its database */
    TX_IMPOSSIBLE, /* refused, though outside of MULTI it is possible */
    TX_UNSUPPORTED,
};

struct transaction {
    struct buffer sent;  /* MULTI and the servers' commands; moves to EXEC's request */
    struct buffer own;   /* the proxy's, one after the other */
    struct buffer loads; /* SCRIPT LOADs that precede MULTI */
    char (*loaded)[SHA1_HEX_LEN];
    uint32_t load_count;
    struct own_command *own_list;
    uint32_t own_count, own_cap;
    uint32_t sent_count;   /* commands in `sent`, MULTI and EXEC aside */
    uint32_t commands;     /* all that were queued */
    uint16_t slot;         /* of the keys so far; SLOT_NONE: none yet */
    uint16_t publish_slot; /* of the first channel of PUBLISH; it counts where there is no key */
    bool failed;           /* EXEC will be refused */
    bool writes;           /* transaction_writes */
    bool scripts;          /* among them is what brings a server a script, or makes it forget all */
    bool selects;          /* a SELECT was sent: the last command of the block takes it back */
    bool ran_singly;       /* MULTI itself was refused, so the others were no transaction */
    char *early_error;     /* the first error before EXEC's reply, as the server sent it */
    size_t early_len;
};

void buffer_append(struct buffer *b, const void *p, size_t n);
void buffer_drop(struct buffer *b);

static inline uint32_t buffer_bytes(const struct buffer *b)
{
    return b->block != NULL ? b->block->len : 0;
}

/* Bytes that count for client.tx_max_bytes. */
static inline uint64_t transaction_held(const struct transaction *t)
{
    return (uint64_t)buffer_bytes(&t->sent) + buffer_bytes(&t->own) + buffer_bytes(&t->loads);
}

/* Bytes that it holds. */
uint64_t transaction_memory(const struct transaction *t);

/* Commands between MULTI and EXEC as the server gets them. */
static inline uint32_t transaction_inner(const struct transaction *t)
{
    return t->sent_count + t->selects;
}

enum transaction_fate transaction_fate(const struct client *c, const struct command *cmd,
                                       const struct resp_request *r);

/* A command that is to be sent: NULL, or why it cannot join the others. */
const char *transaction_join(struct client *c, struct transaction *t, const struct command *cmd,
                             const struct resp_request *r);

/* A command with CMD_SCRIPT is queued. */
void transaction_see_script(struct client *c, struct transaction *t, const struct command *cmd,
                            const struct resp_request *r);

/* EXEC's array, complete, is there: bodies that its server has taken are remembered. */
void transaction_learn_scripts(struct client *c, const struct request *r,
                               const struct bereply *reply);

/* NULL is allowed. */
void transaction_free(struct transaction **t);

/* Composes EXEC's array: the elements of `servers`, which is a complete array (NULL: none), with
 * the proxy's answers, which are made now, at their positions. */
void transaction_compose(struct client *c, struct transaction *t, const struct bereply *servers,
                         struct chain *out);

#endif
