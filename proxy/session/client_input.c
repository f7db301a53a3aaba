#include "session/client_input.h"

#include "base/alloc.h"
#include "session/blocking.h"
#include "session/dispatch_error.h"
#include "session/identity.h"
#include "session/reply_mode.h"

/* Requests of one client handled in one go; the rest wait until others have had their turn. */
#define FAIR_REQUESTS 256
/* With this much room left in a partial block reading goes on in it, else it grows first. */
#define READ_MIN 2048
/* An announced length is believed up to here, and beyond it up to four times what has arrived. */
#define BELIEVED_MIN ((size_t)1024 * 1024)

void client_input_drop(struct client *c)
{
    struct partial *p = c->partial;

    if (p == NULL)
        return;
    c->partial = NULL;
    resp_parser_free(&p->parser);
    block_unref(&p->block);
    free(p);
}

/* Parses and dispatches from buf. Returns the bytes used up; a request that has to wait is not.
 * `block` is where buf is, when a large request may be handed over by reference. *unfinished: what
 * is left is the begin of a request; else it stopped before whole ones. */
static size_t parse_requests(struct client *c, struct resp_parser *parser, const char *buf,
                             size_t len, struct block *block, bool *unfinished)
{
    size_t pos = 0, used;
    struct resp_request req;

    *unfinished = false;
    for (int n = 0; n < FAIR_REQUESTS && pos < len && c->hold == 0;) {
        switch (resp_parse(parser, buf + pos, len - pos, &req, &used)) {
        case RESP_PARSE_OK:
            if (UNLIKELY(dispatch_request(c, &req, req.base == buf + pos ? block : NULL) ==
                         DISPATCH_WAIT))
                return pos;
            pos += used;
            n++;
            if (UNLIKELY(c->closing || !stream_is_open(&c->stream)))
                return len;
            break;
        case RESP_PARSE_EMPTY:
            if (UNLIKELY(c->reply_mode != REPLY_ON)) {
                reply_mode_begin(c);
                reply_mode_end(c);
            }
            pos += used;
            break;
        case RESP_PARSE_MORE:
            if (UNLIKELY(c->anonymous) &&
                identity_too_long(c, MAX(len - pos, resp_parser_need(parser)))) {
                dispatch_protocol_error(c, "ERR Protocol error: unauthenticated bulk length");
                return len;
            }
            *unfinished = true;
            return pos;
        case RESP_PARSE_BAD:
            dispatch_protocol_error(c, resp_parser_error(parser));
            return len;
        }
    }
    return pos;
}

/* Room for an unfinished request of which `have` bytes are there. What a client announces is
 * believed by what it has sent: a few bytes must not make the proxy ask the system for gigabytes.
 */
static size_t wanted_room(const struct client *c, const struct resp_parser *parser, size_t have)
{
    size_t believed = MIN(MAX(BELIEVED_MIN, have * 4), c->env->config->client.max_request);

    return MIN(resp_parser_need(parser), believed);
}

/* Keeps the unparsed end of the scratch buffer. */
static void keep_rest(struct client *c, const char *p, size_t len, bool unfinished)
{
    struct partial *q = xcalloc(1, sizeof(*q));
    size_t need = wanted_room(c, c->env->parser, len);

    q->parser = resp_parser_new(&c->env->limits);
    resp_parser_move(q->parser, c->env->parser);
    q->block = block_new(MAX(len + READ_MIN, need));
    memcpy(q->block->data, p, len);
    q->block->len = (uint32_t)len;
    q->unfinished = unfinished;
    c->partial = q;
}

static uint32_t unparsed(const struct partial *p)
{
    return p->block->len - p->start;
}

/* What is left moves to a block of its own. */
static void move_rest(struct client *c, struct partial *p)
{
    uint32_t left = unparsed(p);
    struct block *fresh = block_new(MAX(left + READ_MIN, wanted_room(c, p->parser, left)));

    memcpy(fresh->data, p->block->data + p->start, left);
    fresh->len = left;
    block_unref(&p->block);
    p->block = fresh;
    p->start = 0;
}

/* Handles the bytes of a partial block; frees it when nothing is left. */
static void parse_partial(struct client *c)
{
    struct partial *p = c->partial;
    struct block *b = p->block;
    size_t used;

    used = parse_requests(c, p->parser, b->data + p->start, b->len - p->start, b, &p->unfinished);
    if (c->partial != p)
        return; /* the client is closing: dropped meanwhile */
    p->start += (uint32_t)used;
    if (unparsed(p) == 0)
        client_input_drop(c);
    else if (p->start > 0 && p->unfinished)
        move_rest(c, p);
}

static void after_parse(struct client *c)
{
    struct partial *p = c->partial;

    if (!stream_is_open(&c->stream) || c->closing)
        return;
    /* Stopped by the fairness limit with whole requests left: go on in the next turn. */
    if (p != NULL && c->hold == 0 && !p->unfinished)
        loop_add_task(c->env->loop, &c->task);
}

static bool reads_in_hold(const struct client *c)
{
    if (blocking_is_on(c))
        return !blocking_reads_no_more(c);
    return c->reads_ahead &&
           (c->partial == NULL || unparsed(c->partial) < c->env->config->client.read_ahead);
}

static struct span read_span(struct stream *s)
{
    struct client *c = CONTAINER_OF(s, struct client, stream);
    struct partial *p = c->partial;
    size_t need, room;

    if (UNLIKELY(c->hold != 0) && !reads_in_hold(c))
        return (struct span){0};
    if (LIKELY(p == NULL))
        return (struct span){c->env->scratch, CLIENT_SCRATCH};
    if (list_linked(&c->task.link)) /* it has whole requests to parse first */
        return (struct span){0};
    /* Requests that refer to the block keep it as it is. And who always sends ahead of what is
     * parsed must not make it grow for ever. */
    if (p->block->refs > 1 || (p->block->len == p->block->cap && p->start > unparsed(p)))
        move_rest(c, p);
    need = wanted_room(c, p->parser, unparsed(p));
    room = p->block->cap - p->block->len;
    if (p->start + need > p->block->cap)
        block_grow(&p->block, p->start + need);
    else if (room == 0)
        block_grow(&p->block, MIN((size_t)p->block->cap * 2, (size_t)UINT32_MAX / 2));
    room = p->block->cap - p->block->len;
    /* A long argument is read to its end and no further: its block is then passed on as it is. */
    if (p->start + need > p->block->len + CLIENT_SCRATCH)
        room = p->start + need - p->block->len;
    return (struct span){p->block->data + p->block->len, room};
}

static void on_data(struct stream *s, size_t n)
{
    struct client *c = CONTAINER_OF(s, struct client, stream);
    bool unfinished;
    size_t used;

    c->active_s = (uint32_t)(c->env->loop->now_ms / 1000);
    if (UNLIKELY(c->partial != NULL)) {
        c->partial->block->len += (uint32_t)n;
        parse_partial(c);
        after_parse(c);
        return;
    }
    used = parse_requests(c, c->env->parser, c->env->scratch, n, NULL, &unfinished);
    if (UNLIKELY(used < n)) {
        if (stream_is_open(&c->stream) && !c->closing)
            keep_rest(c, c->env->scratch + used, n - used, unfinished);
        after_parse(c);
    }
    resp_parser_reset(c->env->parser);
}

void client_input_read_ahead(struct client *c, bool stalled)
{
    c->reads_ahead = stalled && !c->closing && !c->ended && !c->anonymous;
    if (c->reads_ahead && c->hold != 0)
        stream_resume(&c->stream);
}

void client_input_continue(struct client *c)
{
    if (c->partial != NULL && c->hold == 0) {
        parse_partial(c);
        after_parse(c);
    }
    if (c->hold != 0 || c->closing || !stream_is_open(&c->stream) || list_linked(&c->task.link))
        return;
    if (c->ended)
        client_input_ended(c);
    else
        stream_resume(&c->stream);
}

void client_input_ended(struct client *c)
{
    if (c->partial != NULL && !c->partial->unfinished)
        return; /* whole requests wait to be parsed: it comes back here when they are */
    if (c->hold == 0 && !list_linked(&c->task.link))
        client_close_when_answered(c);
}

/* The client sends no more. What it asked is still answered: "printf ... | nc" is a client too. */
static void on_ended(struct stream *s)
{
    struct client *c = CONTAINER_OF(s, struct client, stream);

    c->ended = true;
    if (blocking_is_on(c))
        blocking_client_ended(c);
    else
        client_input_ended(c);
}

const struct stream_ops client_stream_ops = {
    .buffer = read_span,
    .data = on_data,
    .ended = on_ended,
    .failed = client_on_failed,
    .drained = client_on_drained,
};
