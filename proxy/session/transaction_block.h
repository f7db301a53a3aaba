/*
 * transaction_block.h - what a transaction keeps, for the two files that build and answer it.
 * Layer: session (session/transaction*.c only). Thread: one worker.
 */
#ifndef SESSION_TRANSACTION_BLOCK_H
#define SESSION_TRANSACTION_BLOCK_H

#include "session/transaction.h"

/* Bytes one after the other in one block that grows. */
struct buffer {
    struct block *block; /* NULL: empty */
};

/* A command that the proxy answers. */
struct own_command {
    const struct command *cmd;
    uint32_t position; /* in EXEC's array */
};

struct transaction {
    struct buffer sent; /* MULTI and the servers' commands; moves to EXEC's request */
    struct buffer own;  /* the proxy's, one after the other */
    struct own_command *own_list;
    uint32_t own_count, own_cap;
    uint32_t sent_count; /* commands in `sent`, MULTI and EXEC aside */
    uint32_t commands;   /* all that were queued */
    uint16_t slot;       /* of the keys so far; SLOT_NONE: none yet */
    bool failed;         /* EXEC will be refused */
    char *early_error;   /* the first error before EXEC's reply, as the server sent it */
    size_t early_len;
};

void buffer_append(struct buffer *b, const void *p, size_t n);
void buffer_drop(struct buffer *b);

static inline uint32_t buffer_bytes(const struct buffer *b)
{
    return b->block != NULL ? b->block->len : 0;
}

/* NULL is allowed. */
void transaction_free(struct transaction **t);

/* Composes EXEC's array: the elements of `servers`, which is a complete array (NULL: none), with
 * the proxy's answers, which are made now, at their positions. */
void transaction_compose(struct client *c, struct transaction *t, const struct bereply *servers,
                         struct chain *out);

#endif
