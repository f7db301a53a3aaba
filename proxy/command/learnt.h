/*
 * learnt.h - commands that the table lacks (modules, newer servers), as the servers describe them.
 *
 * A row is made once and lives as long as its pool, so that a request may point to one whatever is
 * learnt later. What is known of one upstream is an immutable snapshot that points to rows of the
 * pool; control/learner makes it and publishes it like a slot map.
 * Layer: command. Thread: a pool belongs to its maker's thread, which adds to it; rows and
 * snapshots are immutable once published (reference counts are atomic). Owner: of a pool, its
 * maker, who frees it when no worker is left; of a snapshot, whoever holds a reference.
 */
#ifndef COMMAND_LEARNT_H
#define COMMAND_LEARNT_H

#include <stdatomic.h>

#include "command/command.h"

/* Longest name, subcommand included; longer ones are not learnt. */
#define LEARNT_NAME_MAX 63
/* Rows of a pool. What comes beyond is not learnt. */
#define LEARNT_MAX 4096
/* Key specifications of one command; one with more has keys that cannot be found. */
#define KEY_SPECS_MAX 8
#define KEY_WORD_MAX 31

enum key_begin {
    KEY_BEGIN_INDEX, /* argument `at` */
    KEY_BEGIN_WORD,  /* the argument behind `word`, which is looked for from argument `at` on; from
                        the end backwards when that is negative */
};

enum key_find {
    KEY_FIND_RANGE, /* to `last` behind the begin; negative: from the last argument, or, with a
                       limit of n, of the n-th part of what is left */
    KEY_FIND_COUNT, /* a number of keys stands `count_at` behind the begin, the first of them
                       `first` behind it */
};

/* Where some of a command's keys stand, in the terms of COMMAND's key specifications. Positions are
 * those of arguments, the command's name being 0. */
struct key_spec {
    uint8_t begin, find;
    int16_t at;
    int16_t last, limit;
    int16_t count_at, first;
    int16_t step;
    char word[KEY_WORD_MAX + 1];
};

struct learnt_command {
    struct command row; /* row.name points to `name`; route ROUTE_UNSUPPORTED: see `refused` */
    char name[LEARNT_NAME_MAX + 1];
    const char *refused; /* why clients may not use it, static text; NULL: they may */
    bool guarded;        /* refused because admin_commands is false */
    uint8_t spec_count;  /* of KEYS_SPECS */
    struct key_spec spec[KEY_SPECS_MAX];
};

struct learnt_pool;

struct learnt_pool *learnt_pool_new(void);
void learnt_pool_free(struct learnt_pool **p);

/* The pool's row with the facts of *c, added when there is none. *c is zeroed before it is filled,
 * its row.name and row.number are left alone. NULL: the pool is full. */
const struct learnt_command *learnt_intern(struct learnt_pool *p, const struct learnt_command *c);

/* One row for a command that two servers describe differently: what both allow, or a refusal. */
const struct learnt_command *learnt_merge(struct learnt_pool *p, const struct learnt_command *a,
                                          const struct learnt_command *b);

/* What is known of one upstream. */
struct learnt {
    atomic_uint refs;
    const struct learnt_pool *pool;
    size_t count;
    size_t size; /* of slots: a power of two, more than twice the count */
    const struct learnt_command **slots;
    int16_t *arity; /* of each row of command_table, where servers take more; 0: as the table */
    bool asks_auth; /* some server lets nobody in without AUTH, and the upstream has no password */
};

/* An empty snapshot with one reference and room for so many rows. */
struct learnt *learnt_new(const struct learnt_pool *p, size_t rows);
struct learnt *learnt_ref(struct learnt *l);
/* Drops the caller's reference and nulls it. */
void learnt_unref(struct learnt **l);

/* The place of a name: *place is NULL when it is not there. While a snapshot is made, only. */
const struct learnt_command **learnt_place(struct learnt *l, const char *name, size_t len);

bool learnt_same(const struct learnt *a, const struct learnt *b);

/* The row of a request that command_find has no row for, or only that of a container (which is
 * given). What is not known either: NULL, or the container. `l` may be NULL. */
const struct command *learnt_find(const struct learnt *l, const struct resp_request *r,
                                  const struct command *container);

static inline bool command_is_learnt(const struct command *c)
{
    return c->number >= command_table_len;
}

/* Marked as nothing for scripts, though it does not wait, which alone would explain that: it may
 * leave something behind on its connection. */
static inline bool learnt_leaves_traces(const struct command *c)
{
    return command_is_learnt(c) && (c->flags & (CMD_NOSCRIPT | CMD_BLOCKING)) == CMD_NOSCRIPT;
}

static inline const struct learnt_command *learnt_of(const struct command *c)
{
    CHECK(command_is_learnt(c));
    return CONTAINER_OF(c, struct learnt_command, row);
}

/* True when the table's arity is not a server's, which takes that many arguments. */
bool learnt_arity_ok(const struct learnt *l, const struct command *c, uint32_t argc);

/* The name of a row, of command_table or learnt, by its number. */
const char *learnt_name(const struct learnt *l, uint16_t number);

/* The key positions of a request for KEYS_SPECS: at most max are written, the total is returned. */
size_t learnt_keys(const struct command *c, const struct resp_request *r, uint32_t *positions,
                   size_t max);

#endif
