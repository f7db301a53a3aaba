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

/* What the proxy has to do at a place of EXEC's array. */
enum own_kind {
    OWN_RUN,    /* it runs the command, whose bytes are the next in transaction.own */
    OWN_SELECT, /* when the server's answer is good, the client goes to the other database */
    OWN_CONFIG, /* the server's answer to CONFIG GET is shown as the proxy shows it */
    OWN_HELLO,  /* no command of the client: the server's answer, before this place, is dropped */
};

struct own_command {
    const struct command *cmd; /* OWN_RUN */
    enum own_kind kind;
    uint32_t position; /* in EXEC's array */
    int32_t value; /* OWN_SELECT: the database, -1: no such. OWN_RUN of a HELLO: the dialect that
                      the servers' answers have from here on; 0: none follows it */
};

/* What becomes of a command inside MULTI. */
enum transaction_fate {
    TX_SENT,       /* goes to the server in its place */
    TX_OWN,        /* run by the proxy when the others have run */
    TX_SELECT,     /* in front of one server: sent, and the client changes its database */
    TX_CONFIG,     /* in front of one server: sent, and its answer is changed */
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
    bool scripts;          /* among them is what runs a script by its body */
    bool news;             /* SCRIPT LOAD or FLUSH: all workers have to hear what became of it */
    bool lets_in;          /* among them is what can change whom the servers let in */
    bool selects;          /* a SELECT was sent: a last command of the block takes it back */
    bool listens;          /* it subscribes: PUBLISH behind it has to find the client there */
    bool asks;             /* servers are asked for a password: nothing can be sent behind that */
    uint8_t proto;         /* the client's dialect behind what is queued */
    uint8_t sent_proto;    /* the connection's, behind what is in `sent` */
    bool redials;          /* a HELLO was sent: a last command of the block takes it back */
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
    return t->sent_count + t->selects + t->redials;
}

enum transaction_fate transaction_fate(const struct client *c, const struct command *cmd,
                                       const struct resp_request *r);

/* A command that the proxy will run is queued: what that means for those behind it. The dialect
 * that a HELLO sets, when it is sure to; else 0. */
uint8_t transaction_see_own(struct client *c, struct transaction *t, const struct command *cmd,
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

#define TX_EXEC_LEN 14 /* bytes of EXEC, as it is sent */

/* Keeps a command; where it goes is decided. */
void transaction_keep(struct client *c, struct transaction *t, enum transaction_fate fate,
                      const struct command *cmd, const struct resp_request *r);
/* EXEC has come: t->sent is completed. */
void transaction_seal(const struct client *c, struct transaction *t);

/* While HOLD_EXEC is set: the transaction whose array is being written. */
const struct transaction *transaction_running(const struct client *c);
/* Bytes that it holds; 0: there is none. */
uint64_t transaction_run_bytes(const struct client *c);

/* NULL is allowed. */
void transaction_free(struct transaction **t);

/* Writes EXEC's array: the elements of `servers`, which is a complete array (NULL: none), with what
 * the proxy does itself, which it does now, at their places. `exec` is EXEC's request, the only one
 * of c, which it answers (NULL: none, and nothing of c is under way). Takes over t. */
void transaction_run(struct client *c, struct transaction **t, struct request *exec,
                     const struct bereply *servers);

#endif
