#include "backend/beconn_read.h"

/* An unfinished reply of up to this size is kept in a pooled block and framed anew with the next
 * bytes; a longer one gets memory of its own and is framed where it stopped. */
#define SHORT_REST_MAX (BLOCK_LARGE / 2)
#define PIECE_BYTES (64 * 1024)

/* Closes a connection that was waiting only for its last replies. True when it is gone. */
static bool finished(struct beconn *c)
{
    if (c->state == BECONN_CLOSED)
        return true;
    if (UNLIKELY(c->retired && c->head == NULL)) {
        beconn_close(c, NULL);
        return true;
    }
    return false;
}

/* One whole reply. False: the connection is closed. */
static bool deliver(struct beconn *c, const struct bereply *reply)
{
    struct bereq *r = c->head;

    if (UNLIKELY(reply->type == '>')) {
        c->env->ops->push(c, reply->data, reply->len);
        return c->state != BECONN_CLOSED;
    }
    if (UNLIKELY(c->state == BECONN_HANDSHAKE))
        return handshake_reply(c, reply);
    if (UNLIKELY(r == NULL)) {
        if (c->env->ops->stray != NULL) {
            c->env->ops->stray(c, reply);
            return c->state != BECONN_CLOSED;
        }
        beconn_close(c, "a reply that nothing asked for");
        return false;
    }
    if (UNLIKELY(--r->replies > 0)) {
        if (reply->type == '-')
            c->env->ops->early_error(c, r, reply);
        return c->state != BECONN_CLOSED;
    }
    beconn_pop(c);
    bereq_prefetch(c->head); /* its reply is most often the next in the buffer */
    c->env->ops->reply(c, r, reply);
    return c->state != BECONN_CLOSED;
}

/* True when the reply that the framer is in must not be passed on in pieces. */
static bool must_be_whole(const struct beconn *c)
{
    return c->state == BECONN_HANDSHAKE || c->framer.type == '>' || c->head == NULL ||
           c->head->whole || c->head->replies > 1;
}

/* Keeps `len` bytes, the begin of an unfinished reply of which the framer has consumed `framed`,
 * and decides how the rest of it is read. */
static void keep_rest(struct beconn *c, const char *p, size_t len, size_t framed)
{
    uint64_t total = framed + resp_framer_need(&c->framer);

    CHECK(c->rest == NULL);
    if (total > c->env->large_reply && !must_be_whole(c)) {
        c->read_mode = READ_PIECES;
        c->rest = block_new(len + PIECE_BYTES);
    } else if (len <= SHORT_REST_MAX && total <= SHORT_REST_MAX) {
        c->read_mode = READ_SHORT;
        c->rest = block_new(len);
    } else {
        c->read_mode = READ_WHOLE;
        c->rest = block_new(MAX(len, MIN(total, c->env->large_reply)) + 64);
    }
    memcpy(c->rest->data, p, len);
    c->rest->len = (uint32_t)len;
    c->framed = (uint32_t)framed;
}

/* Frames and delivers all complete replies of buf. `owner` is the block buf is in, when a reply may
 * be kept by reference. False: the connection is closed. */
static bool consume(struct beconn *c, const char *buf, size_t len, struct block *owner)
{
    const char *p = buf, *end = buf + len;

    while (p < end) {
        size_t used;
        enum resp_frame_status st = resp_frame(&c->framer, p, (size_t)(end - p), &used);

        if (LIKELY(st == RESP_FRAME_DONE)) {
            struct bereply reply = {.data = p, .len = used, .block = owner, .type = c->framer.type};

            p += used;
            if (!deliver(c, &reply))
                return false;
            continue;
        }
        if (st == RESP_FRAME_BAD) {
            beconn_close(c, "its reply is not RESP");
            return false;
        }
        keep_rest(c, p, (size_t)(end - p), used);
        return !finished(c);
    }
    c->read_mode = READ_SHORT;
    resp_framer_init(&c->framer);
    return !finished(c);
}

struct span beconn_read_span(struct stream *s)
{
    struct beconn *c = CONTAINER_OF(s, struct beconn, stream);
    struct block *b = c->rest;
    size_t used = 0;

    if (UNLIKELY(c->paused))
        return (struct span){0};
    if (LIKELY(b == NULL))
        return (struct span){c->env->scratch, BECONN_SCRATCH};
    switch (c->read_mode) {
    case READ_SHORT:
        used = b->len;
        memcpy(c->env->scratch, b->data, used);
        return (struct span){c->env->scratch + used, BECONN_SCRATCH - used};
    case READ_WHOLE:
        if (b->len == b->cap)
            block_grow(&c->rest, MIN((size_t)b->cap * 2, UINT32_MAX / 2));
        break;
    case READ_PIECES:
        break;
    }
    return (struct span){c->rest->data + c->rest->len, c->rest->cap - c->rest->len};
}

/* Reads on in pieces: what of b is not framed yet begins the next. */
static void next_piece(struct beconn *c, const struct block *b, uint32_t used)
{
    /* What is left may be the begin of a line of any length. */
    c->rest = block_new(b->len - used + PIECE_BYTES);
    c->rest->len = b->len - used;
    memcpy(c->rest->data, b->data + used, c->rest->len);
    c->framed = 0;
}

/* A reply that is read whole is not complete yet: it may have become too large for that. */
static void check_size(struct beconn *c)
{
    struct block *b = c->rest;

    if (c->framed + resp_framer_need(&c->framer) > c->env->large_reply && !must_be_whole(c)) {
        c->rest = NULL;
        keep_rest(c, b->data, b->len, c->framed);
        block_unref(&b);
    } else if (b->len > c->env->max_whole_reply) {
        if (c->state != BECONN_READY || c->framer.type == '>' || c->head == NULL ||
            c->head->replies != 1) {
            beconn_close(c, "a reply that must be whole is larger than client.output_max");
            return;
        }
        /* Its receiver gets the rest in pieces and drops it: others wait behind it. */
        c->read_mode = READ_PIECES;
        next_piece(c, b, c->framed);
        block_unref(&b);
    }
}

/* More bytes of a long reply that is delivered in one piece. */
static void data_whole(struct beconn *c, size_t n)
{
    struct block *b = c->rest;
    struct bereply reply;
    size_t used, done;
    enum resp_frame_status st;

    b->len += (uint32_t)n;
    st = resp_frame(&c->framer, b->data + c->framed, b->len - c->framed, &used);
    if (st == RESP_FRAME_BAD) {
        beconn_close(c, "its reply is not RESP");
        return;
    }
    c->framed += (uint32_t)used;
    if (st == RESP_FRAME_MORE) {
        check_size(c);
        return;
    }
    c->rest = NULL;
    c->read_mode = READ_SHORT;
    reply = (struct bereply){.data = b->data, .len = c->framed, .block = b, .type = c->framer.type};
    done = c->framed;
    if (deliver(c, &reply))
        (void)consume(c, b->data + done, b->len - done, b);
    block_unref(&b);
}

/* More bytes of a long reply that passes in pieces. */
static void data_pieces(struct beconn *c, size_t n)
{
    struct block *b = c->rest;
    struct bereq *r = c->head;
    uint32_t begin = 0, used;
    size_t framed;
    enum resp_frame_status st;

    b->len += (uint32_t)n;
    st = resp_frame(&c->framer, b->data + c->framed, b->len - c->framed, &framed);
    if (st == RESP_FRAME_BAD) {
        beconn_close(c, "its reply is not RESP");
        return;
    }
    used = c->framed + (uint32_t)framed;
    c->rest = NULL;
    r->replies = 0; /* it has begun: from here on it can only be finished or cut off */
    r->sent_ms = (uint32_t)c->env->loop->now_ms;
    if (st == RESP_FRAME_DONE) {
        c->read_mode = READ_SHORT;
        beconn_pop(c);
        c->env->ops->piece(c, r, b, begin, used, true);
        if (c->state != BECONN_CLOSED)
            (void)consume(c, b->data + used, b->len - used, b);
    } else {
        next_piece(c, b, used);
        c->env->ops->piece(c, r, b, begin, used, false);
    }
    block_unref(&b);
}

void beconn_on_data(struct stream *s, size_t n)
{
    struct beconn *c = CONTAINER_OF(s, struct beconn, stream);
    size_t old = 0;

    c->progress_ms = c->env->loop->now_ms;
    if (UNLIKELY(beconn_is_held(c)))
        stream_release(s);
    if (UNLIKELY(c->read_mode == READ_WHOLE)) {
        data_whole(c, n);
        return;
    }
    if (UNLIKELY(c->read_mode == READ_PIECES)) {
        data_pieces(c, n);
        return;
    }
    if (c->rest != NULL) {
        old = c->rest->len;
        block_unref(&c->rest);
        /* What was kept is framed from its begin again. */
        resp_framer_init(&c->framer);
    }
    (void)consume(c, c->env->scratch, old + n, NULL);
}
