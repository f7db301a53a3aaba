/*
 * bereq.h - what a backend connection sends: bytes, and how many replies they will get.
 *
 * Embedded in the sender's own request. It cannot be cancelled once sent: its replies will come and
 * must be popped. Until they are framed its bytes stay in their block, so that it can be sent
 * again.
 * Layer: backend. Thread: one worker. Owner: the sender; lent to the connection from beconn_commit
 * until the reply or the loss is reported.
 */
#ifndef BACKEND_BEREQ_H
#define BACKEND_BEREQ_H

#include "base/block.h"

struct bereq {
    struct bereq *next;  /* in the connection's FIFO */
    struct block *block; /* holds the bytes; one reference */
    uint32_t off, len;   /* the request, without a preceding ASKING */
    uint64_t end;        /* position in the connection's byte stream after its last byte */
    uint32_t sent_ms;    /* low bits of the loop's clock when it was queued */
    uint16_t replies;    /* still to come; only the last is the answer */
    bool patient;        /* its reply may take any time: backend.request_timeout is not for it */
    bool whole;          /* its reply must be delivered in one piece (it will be merged) */
};

/* Fetches what a reply will need of it and of the request it is embedded in (two cache lines). NULL
 * is allowed. */
static inline void bereq_prefetch(const struct bereq *r)
{
    __builtin_prefetch(r, 1);
    __builtin_prefetch((const char *)r + 64, 1);
}

/* Drops the bytes. */
static inline void bereq_release(struct bereq *r)
{
    block_unref(&r->block);
}

#endif
