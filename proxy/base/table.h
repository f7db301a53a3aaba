/*
 * table.h - intrusive hash table with chains.
 *
 * A member embeds a struct table_node; the user compares members and passes their hash. It grows by
 * doubling and never shrinks.
 * Layer: base. Thread: the owner of the table. Owner of the members: the user.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include "base/check.h"

struct table_node {
    struct table_node *next;
    uint64_t hash;
};

struct table {
    struct table_node **buckets; /* a power of two of them; NULL while it was never used */
    size_t size, count;
};

/* Frees the buckets, not the members. */
void table_deinit(struct table *t);

/* Adds n under this hash; an equal member is not looked for. */
void table_add(struct table *t, struct table_node *n, uint64_t hash);
/* Removes a member. */
void table_remove(struct table *t, struct table_node *n);

/* The first member with this hash, and the next one after n with n's; NULL when there is none. */
struct table_node *table_first(const struct table *t, uint64_t hash);
struct table_node *table_next(const struct table_node *n);

/* Hash of n bytes that goes on from `seed`. */
uint64_t table_hash(uint64_t seed, const void *p, size_t n);

#endif
