#include "backend/beconn_read.h"

#include <errno.h>

#include "backend/node.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/sock.h"

#define BECONN_MAGIC 0xbec0bec0u

static const struct stream_ops conn_stream_ops;

struct beconn *beconn_new(struct backend_env *env, struct node *n, uint16_t profile)
{
    struct beconn *c = xcalloc(1, sizeof(*c));

    c->magic = BECONN_MAGIC;
    c->env = env;
    c->node = n;
    c->profile = profile;
    profile_ref(env->profiles, profile);
    c->tail = &c->head;
    c->progress_ms = env->loop->now_ms;
    list_init(&c->link);
    list_init(&c->idle_link);
    if (!stream_connect(&c->stream, env->loop, &n->target, env->tcp_keepalive_s, &conn_stream_ops,
                        true)) {
        int saved = errno;

        profile_unref(env->profiles, profile);
        free(c);
        errno = saved;
        return NULL;
    }
    sock_set_user_timeout(stream_fd(&c->stream), env->tcp_user_timeout_ms);
    return c;
}

static void reap(struct loop_reap *r)
{
    struct beconn *c = CONTAINER_OF(r, struct beconn, reap);

    CHECK_MAGIC(c, BECONN_MAGIC);
    c->magic = 0;
    chain_clear(&c->waiting);
    block_unref(&c->rest);
    free(c);
}

void beconn_multi_refused(struct beconn *c)
{
    c->multi_refused = true;
    c->multi_ms = clock_ms();
    c->node->probe_multi = true; /* from now on where no user is configured too */
}

void beconn_close(struct beconn *c, const char *why)
{
    uint64_t written = c->stream.written;
    bool ready = c->state == BECONN_READY;
    char name[ADDR_TEXT_MAX];

    CHECK_MAGIC(c, BECONN_MAGIC);
    if (c->state == BECONN_CLOSED)
        return;
    if (why != NULL)
        log_warn("connection to %s closed: %s (%u requests in flight)",
                 addr_format(&c->node->addr, name), why, c->inflight);
    stream_close(&c->stream);
    c->state = BECONN_CLOSED;
    node_forget(c->node, c);
    while (c->head != NULL) {
        struct bereq *r = beconn_pop(c);
        bool sent = ready && r->end + c->handshake_bytes <= written;

        c->env->ops->lost(c, r, sent ? BEREQ_UNKNOWN : BEREQ_UNSENT);
    }
    c->env->ops->closed(c);
    profile_unref(c->env->profiles, c->profile);
    c->reap.free = reap;
    loop_add_reap(c->env->loop, &c->reap);
}

void beconn_refuse(struct beconn *c, const struct bereply *reply)
{
    c->retired = true;    /* not a lost connection */
    node_leave_shared(c); /* what follows an answer tries anew */
    if (c->env->ops->refused != NULL)
        c->env->ops->refused(c, reply);
    while (c->state != BECONN_CLOSED && c->head != NULL)
        c->env->ops->reply(c, beconn_pop(c), reply);
    beconn_close(c, NULL);
}

static void on_failed(struct stream *s, int error)
{
    struct beconn *c = CONTAINER_OF(s, struct beconn, stream);
    bool idle = c->state == BECONN_READY && c->head == NULL;

    if (c->state != BECONN_READY)
        node_failed(c->node);
    else if (!idle && !c->retired)
        node_broke(c->node, c);
    beconn_close(c, idle ? NULL : error == 0 ? "closed by the server" : strerror(error));
}

static void on_connected(struct stream *s)
{
    struct beconn *c = CONTAINER_OF(s, struct beconn, stream);

    c->state = BECONN_HANDSHAKE;
    handshake_start(c);
    if (c->state == BECONN_HANDSHAKE)
        stream_mark_dirty(s);
}

/* --- sending --- */

static inline void enqueue(struct beconn *c, struct bereq *r, uint16_t replies)
{
    r->next = NULL;
    r->end = c->queued;
    r->replies = replies;
    r->sent_ms = (uint32_t)c->env->loop->now_ms;
    *c->tail = r;
    c->tail = &r->next;
    c->inflight++;
    c->inflight_bytes += r->len;
    if (LIKELY(c->state == BECONN_READY))
        stream_mark_dirty(&c->stream);
}

void beconn_commit(struct beconn *c, struct bereq *r, size_t n, size_t prefix, uint16_t replies)
{
    struct chain *out = c->state == BECONN_READY ? &c->stream.out : &c->waiting;
    struct block *b = chain_commit(out, n);

    r->block = block_ref(b);
    r->len = (uint32_t)(n - prefix);
    r->off = b->len - r->len;
    c->queued += n;
    enqueue(c, r, replies);
}

void beconn_send_ref(struct beconn *c, struct bereq *r, const char *prefix, size_t prefix_len,
                     uint16_t replies)
{
    struct chain *out = c->state == BECONN_READY ? &c->stream.out : &c->waiting;

    chain_append(out, prefix, prefix_len);
    chain_append_ref(out, r->block, r->off, r->len);
    c->queued += prefix_len + r->len;
    enqueue(c, r, replies);
}

/* --- standing still, and timeouts --- */

void beconn_pause(struct beconn *c)
{
    c->paused = true;
    stream_pause(&c->stream);
}

void beconn_resume(struct beconn *c)
{
    if (!c->paused)
        return;
    c->paused = false;
    c->progress_ms = c->env->loop->now_ms;
    stream_resume(&c->stream);
}

void beconn_return_unsent(struct beconn *c)
{
    uint64_t written = c->stream.written - c->handshake_bytes;
    struct bereq *last = c->head, *r;

    CHECK(c->state == BECONN_READY && last != NULL);
    while (last->next != NULL && last->end < written)
        last = last->next;
    r = last->next;
    if (r == NULL)
        return;
    last->next = NULL;
    c->tail = &last->next;
    c->queued = last->end;
    chain_truncate(&c->stream.out, (size_t)(last->end - written));
    while (r != NULL) {
        struct bereq *next = r->next;

        c->inflight--;
        c->inflight_bytes -= r->len;
        c->env->ops->lost(c, r, BEREQ_UNSENT);
        r = next;
    }
}

/* A server that owes a reply for long may hang, or be dead to us. What is not sent to it cannot run
 * there, and so may go to its successor, be it a write. A server that is merely busy loses nothing:
 * it would not look at more before it has answered. Where it has a successor, what waits goes there
 * now, and is not kept until it answers or its time is over. */
static void hold_if_silent(struct beconn *c, uint64_t now_ms)
{
    /* The times below are up to a tick too early. */
    uint32_t ms = c->env->silence_ms + LOOP_TICK_MS;

    if (c->env->silence_ms == 0 || c->leased || (uint32_t)now_ms - c->head->sent_ms < ms ||
        now_ms - c->progress_ms < ms || c->head->end + c->handshake_bytes > c->stream.written)
        return;
    stream_hold(&c->stream);
    if (UNLIKELY(c->node->displaced)) {
        node_retire(c);
        beconn_return_unsent(c);
    }
}

void beconn_tick(struct beconn *c, uint64_t now_ms)
{
    const struct backend_env *env = c->env;

    if (c->state < BECONN_READY) {
        if (now_ms - c->progress_ms > env->connect_timeout_ms) {
            node_failed(c->node);
            beconn_close(c, "connecting took longer than backend.connect_timeout");
        }
        return;
    }
    if (c->stream.written != c->written_mark) {
        /* A long request on its way: the server cannot answer yet. That it takes others, behind one
         * that it owes a reply to, says nothing: a server that hangs does so, too. */
        if (c->head != NULL && c->written_mark < c->handshake_bytes + c->head->end)
            c->progress_ms = now_ms;
        c->written_mark = c->stream.written;
    }
    if (c->head == NULL || c->head->patient || c->paused)
        return;
    hold_if_silent(c, now_ms);
    if (env->request_timeout_ms != 0 &&
        (uint32_t)now_ms - c->head->sent_ms > env->request_timeout_ms &&
        now_ms - c->progress_ms > env->request_timeout_ms) {
        node_failed(c->node);
        beconn_close(c, "no reply within backend.request_timeout");
    }
}

static const struct stream_ops conn_stream_ops = {
    .buffer = beconn_read_span,
    .data = beconn_on_data,
    .failed = on_failed,
    .connected = on_connected,
};
