/*
 * block.h - reference-counted memory for bytes on their way.
 *
 * Two sizes come from per-thread free lists; anything larger is allocated for itself. The count is
 * not atomic: a block belongs to one thread for life.
 * Layer: base. Thread: the one that created the block.
 */
#ifndef BASE_BLOCK_H
#define BASE_BLOCK_H

#include "base/check.h"

struct block {
    uint32_t refs;
    uint32_t cap; /* bytes at data */
    uint32_t len; /* bytes in use; appending happens at data + len */
    uint32_t kind;
    union {
        char data[1];
        struct block *next_free;
    };
};

#define BLOCK_HEADER offsetof(struct block, data)
#define BLOCK_SMALL (1024 - BLOCK_HEADER)
#define BLOCK_LARGE (16384 - BLOCK_HEADER)

/* A block with room for at least `cap` bytes and one reference. */
struct block *block_new(size_t cap);

/* A block of just `cap` bytes, outside the free lists: for bytes that stay a while. */
struct block *block_new_exact(size_t cap);

/* Returns the block to its free list. Called by block_unref. */
void block_release(struct block *b);

static inline struct block *block_ref(struct block *b)
{
    b->refs++;
    return b;
}

/* Drops the caller's reference and nulls it; NULL is allowed. */
static inline void block_unref(struct block **p)
{
    struct block *b = *p;

    *p = NULL;
    if (b != NULL && --b->refs == 0)
        block_release(b);
}

/* Makes room for `cap` bytes in a block nobody else refers to; the block may move. */
void block_grow(struct block **p, size_t cap);

/* Gives back what the free lists of this thread did not need since the last call. */
void block_trim(void);

/* Frees this thread's free lists, when the thread ends. */
void block_thread_end(void);

#endif
