/*
 * beconn_read.h - the reading half of a connection: bytes become replies, or pieces of long ones.
 * Layer: backend (beconn.c and beconn_read.c only). Thread: one worker. Owner: the connection.
 */
#ifndef BACKEND_BECONN_READ_H
#define BACKEND_BECONN_READ_H

#include "backend/beconn.h"

/* Takes the head of the FIFO out, which is not empty. It belongs to its sender again. */
static inline struct bereq *beconn_pop(struct beconn *c)
{
    struct bereq *r = c->head;

    c->head = r->next;
    if (c->head == NULL)
        c->tail = &c->head;
    c->inflight--;
    c->inflight_bytes -= r->len;
    return r;
}

/* stream_ops.buffer: where the next bytes go; an empty span while the connection is paused. */
struct span beconn_read_span(struct stream *s);

/* stream_ops.data: n bytes have arrived there. The connection may be closed after. */
void beconn_on_data(struct stream *s, size_t n);

#endif
