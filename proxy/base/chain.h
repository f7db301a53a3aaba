/*
 * chain.h - a queue of bytes in blocks: append, hand to writev, consume.
 *
 * Small pieces are copied into the chain's own open block, large ones are taken by reference. A
 * reader may keep bytes alive beyond their consumption by a reference of its own to their block.
 * Layer: base. Thread: the owner of its blocks.
 */
#ifndef BASE_CHAIN_H
#define BASE_CHAIN_H

#include <sys/uio.h>

#include "base/block.h"

/* A view of consecutive bytes of one block; holds a reference. */
struct chain_seg {
    struct chain_seg *next;
    struct block *block;
    uint32_t off, len;
};

struct chain {
    struct chain_seg *head, *tail;
    struct block *open; /* where copies are appended; NULL when none is kept */
    size_t bytes;       /* not consumed */
};

static inline void chain_init(struct chain *c)
{
    *c = (struct chain){0};
}

/* Drops all bytes and the open block. */
void chain_clear(struct chain *c);

/* Appends n bytes by copying; they may be spread over several blocks. */
void chain_append(struct chain *c, const void *data, size_t n);

/* Room for n consecutive bytes at the end; the caller writes all of them, then calls chain_commit
 * with the same n. */
char *chain_reserve(struct chain *c, size_t n);

/* Appends the n bytes of the last chain_reserve. Returns their block, in which they end at
 * block->len; the reference is borrowed. */
struct block *chain_commit(struct chain *c, size_t n);

/* Appends bytes of a block by reference (a new one is taken). */
void chain_append_ref(struct chain *c, struct block *b, uint32_t off, uint32_t len);

/* Fills at most max vectors from the front; returns how many. */
int chain_iov(const struct chain *c, struct iovec *iov, int max);

/* Removes n bytes from the front. */
void chain_consume(struct chain *c, size_t n);

/* Removes bytes from the end, until n are left. */
void chain_truncate(struct chain *c, size_t n);

/* Moves all bytes of `from` to the end of `to`. */
void chain_splice(struct chain *to, struct chain *from);

/* Gives the open block back when the chain is empty. */
static inline void chain_idle(struct chain *c)
{
    if (c->bytes == 0)
        block_unref(&c->open);
}

/* Gives back the spare segments that this thread did not need since the last call. */
void chain_trim(void);

/* Frees this thread's spare segments, when the thread ends. */
void chain_thread_end(void);

#endif
