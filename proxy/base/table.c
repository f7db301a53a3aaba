#include "base/table.h"

#include "base/alloc.h"

#define FIRST_SIZE 64

void table_deinit(struct table *t)
{
    free(t->buckets);
    *t = (struct table){0};
}

static struct table_node **bucket(const struct table *t, uint64_t hash)
{
    return &t->buckets[(hash ^ hash >> 32) & (t->size - 1)];
}

static void grow(struct table *t)
{
    struct table old = *t;

    t->size = old.size > 0 ? old.size * 2 : FIRST_SIZE;
    t->buckets = xcalloc(t->size, sizeof(struct table_node *));
    for (size_t i = 0; i < old.size; i++)
        for (struct table_node *n = old.buckets[i], *next; n != NULL; n = next) {
            struct table_node **b = bucket(t, n->hash);

            next = n->next;
            n->next = *b;
            *b = n;
        }
    free(old.buckets);
}

void table_add(struct table *t, struct table_node *n, uint64_t hash)
{
    struct table_node **b;

    if (t->count >= t->size)
        grow(t);
    b = bucket(t, hash);
    n->hash = hash;
    n->next = *b;
    *b = n;
    t->count++;
}

void table_remove(struct table *t, struct table_node *n)
{
    struct table_node **at = bucket(t, n->hash);

    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    t->count--;
}

struct table_node *table_first(const struct table *t, uint64_t hash)
{
    struct table_node *n = t->size > 0 ? *bucket(t, hash) : NULL;

    while (n != NULL && n->hash != hash)
        n = n->next;
    return n;
}

struct table_node *table_next(const struct table_node *n)
{
    uint64_t hash = n->hash;

    do
        n = n->next;
    while (n != NULL && n->hash != hash);
    return (struct table_node *)n;
}

/* FNV-1a with a last mix: channel names are short, and are chosen by clients, who may at worst slow
 * down their own hub. */
uint64_t table_hash(uint64_t seed, const void *p, size_t n)
{
    const unsigned char *b = p;
    uint64_t h = seed ^ 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}
