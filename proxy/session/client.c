#include "session/client.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/client_input.h"
#include "session/error.h"
#include "session/client_pause.h"
#include "session/identity.h"
#include "session/long_reply.h"
#include "session/monitor.h"
#include "session/redirect.h"
#include "session/scatter.h"
#include "session/subscriber.h"
#include "session/transaction.h"
#include "session/watch.h"
#include "session/wait.h"

#define CLIENT_MAGIC 0xc11e4700u
/* A merged reply that has to wait for its turn is one block, whose size is a 32-bit number. */
#define STORED_REPLY_MAX ((size_t)2 * 1024 * 1024 * 1024)

static void run_task(struct loop_task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);

    if (UNLIKELY(c->doomed))
        client_close(c);
    else if (UNLIKELY((c->hold & HOLD_EXEC) != 0))
        transaction_go_on(c);
    else
        client_input_continue(c);
}

_Static_assert(sizeof(struct client) <= 320, "an idle client costs one such object");

struct client *client_new(struct session_env *env, int fd, uint64_t id, uint16_t listener)
{
    struct client *c = xcalloc(1, sizeof(*c));
    const char *name = env->config->listeners[listener].upstream;

    c->magic = CLIENT_MAGIC;
    c->env = env;
    c->up = env->upstreams[0];
    for (size_t i = 0; name != NULL && i < env->upstream_count; i++)
        if (strcmp(env->config->upstreams[i].name, name) == 0)
            c->up = env->upstreams[i];
    c->id = id;
    c->listener = listener;
    identity_begin(c);
    c->tail = &c->head;
    c->created_s = (uint32_t)(clock_wall_ms() / 1000);
    c->active_s = (uint32_t)(env->loop->now_ms / 1000);
    list_init(&c->task.link);
    c->task.run = run_task;
    list_push(&env->clients, &c->link);
    METRIC_ADD(&env->metrics, clients, 1);
    METRIC_ADD(&env->metrics, clients_total, 1);
    if (UNLIKELY(env->pause != NULL))
        client_pause_join(c);
    stream_open(&c->stream, env->loop, fd, &client_stream_ops, false);
    return c;
}

struct client_extra *client_extra(struct client *c)
{
    if (c->extra == NULL) {
        c->extra = xcalloc(1, sizeof(*c->extra));
        c->extra->client = c;
        chain_init(&c->extra->stash);
        list_init(&c->extra->wait_link);
    }
    return c->extra;
}

static void extra_free(struct client_extra **p)
{
    struct client_extra *x = *p;

    *p = NULL;
    if (x == NULL)
        return;
    chain_clear(&x->stash);
    free(x->name);
    free(x->lib_name);
    free(x->lib_ver);
    free(x);
}

static void reap(struct loop_reap *r)
{
    struct client *c = CONTAINER_OF(r, struct client, reap);

    CHECK_MAGIC(c, CLIENT_MAGIC);
    c->magic = 0;
    transaction_end(c);
    transaction_run_drop(c);
    extra_free(&c->extra);
    free(c);
}

void client_close(struct client *c)
{
    CHECK_MAGIC(c, CLIENT_MAGIC);
    if (!list_linked(&c->link))
        return;
    stream_close(&c->stream);
    watch_release(c);
    while (c->head != NULL) {
        struct request *r = c->head;

        c->head = r->next;
        redirect_forget(c, r);
        scatter_orphan(c->env, r);
    }
    c->tail = &c->head;
    c->queued = c->inflight = 0;
    if (c->extra != NULL)
        c->extra->long_reply = NULL;
    subscriber_free(c);
    monitor_leave(c);
    wait_free(c);
    client_input_drop(c);
    redirect_stop_waiting(c);
    list_unlink(&c->task.link);
    list_unlink_walked(c->env->client_walks, &c->link);
    identity_end(c);
    METRIC_ADD(&c->env->metrics, clients, -1);
    METRIC_ADD(&c->env->metrics, clients_closed, 1);
    c->reap.free = reap;
    loop_add_reap(c->env->loop, &c->reap);
}

/* Everything is answered: closes as soon as the kernel has taken the last byte. */
static void close_if_answered(struct client *c)
{
    if (!c->closing || c->head != NULL || !stream_is_open(&c->stream) || (c->hold & HOLD_EXEC) != 0)
        return;
    if (c->stream.out.bytes == 0) {
        client_close(c);
        return;
    }
    c->stream.notify_drained = true;
    stream_mark_dirty(&c->stream);
}

void client_close_when_answered(struct client *c)
{
    c->closing = true;
    stream_pause(&c->stream);
    client_input_drop(c);
    close_if_answered(c);
}

void client_drain_and_close(struct client *c)
{
    stream_pause(&c->stream);
    c->ended = true;
    client_input_ended(c);
}

void client_doom(struct client *c)
{
    if (!stream_is_open(&c->stream))
        return;
    c->doomed = c->closing = true;
    loop_add_task(c->env->loop, &c->task);
}

void client_unhold(struct client *c, enum client_hold why)
{
    if ((c->hold & why) == 0)
        return;
    c->hold &= (uint8_t)~why;
    if (c->hold == 0 && !c->closing && stream_is_open(&c->stream))
        loop_add_task(c->env->loop, &c->task);
}

/* --- output --- */

static void output_limit(struct client *c)
{
    const struct config_client *limits = &c->env->config->client;
    uint64_t unread = c->stream.out.bytes + (uint64_t)c->stored_kib * 1024;

    if (LIKELY(unread <= limits->output_pause) || c->doomed || !stream_is_open(&c->stream))
        return;
    client_hold(c, HOLD_OUTPUT);
    c->stream.notify_drained = true;
    if (unread <= limits->output_max)
        return;
    log_warn("client %llu closed: %llu bytes of answers unread, client.output_max is %llu",
             (unsigned long long)c->id, (unsigned long long)unread,
             (unsigned long long)limits->output_max);
    METRIC_ADD(&c->env->metrics, clients_closed_output, 1);
    client_doom(c); /* whoever added the output is still at work on it */
}

static void pop_head(struct client *c)
{
    struct request *r = c->head;

    c->head = r->next;
    if (c->head == NULL)
        c->tail = &c->head;
    c->queued--;
    request_free(c->env, r);
}

/* After replies left the queue: what was held because it was full may go on. */
static inline void after_output(struct client *c)
{
    stream_mark_dirty(&c->stream);
    if (UNLIKELY(c->hold != 0)) {
        if (c->queued <= c->env->config->client.max_pipeline / 2 &&
            c->inflight_bytes <= c->env->config->client.max_inflight_bytes / 2)
            client_unhold(c, HOLD_PIPELINE);
        if (c->head == NULL) {
            client_unhold(c, HOLD_BARRIER);
            if ((c->hold & HOLD_EXEC) != 0 && stream_is_open(&c->stream))
                loop_add_task(c->env->loop, &c->task);
        }
    }
    output_limit(c);
}

void client_output_added(struct client *c)
{
    after_output(c);
}

void client_reply_stored(struct client *c)
{
    output_limit(c);
}

/* True when the head's reply is complete and has been moved to the output. */
static bool move_head(struct client *c)
{
    struct request *r = c->head;

    if (r->state == REQUEST_DONE) {
        if (r->next != NULL)
            bereq_prefetch(&r->next->be);
        request_move_reply(r, &c->stream.out);
        return true;
    }
    return r->state == REQUEST_STREAMING && long_reply_at_head(c, r);
}

void client_drain(struct client *c)
{
    while (c->head != NULL && move_head(c))
        pop_head(c);
    after_output(c);
    if (UNLIKELY(c->closing))
        close_if_answered(c);
    else if (UNLIKELY(c->ended) && c->head == NULL)
        client_input_ended(c);
}

void client_request_stored(struct client *c, struct request *r)
{
    if (c->head == r)
        client_drain(c);
}

void client_request_done(struct client *c, struct request *r, const char *data, size_t len,
                         struct block *owner)
{
    struct request *next;

    if (c->head != r || UNLIKELY(r->silent)) {
        request_store(r, data, len, owner);
        client_request_stored(c, r);
        output_limit(c);
        return;
    }
    if (owner != NULL && len > BLOCK_LARGE)
        chain_append_ref(&c->stream.out, owner, (uint32_t)(data - owner->data), (uint32_t)len);
    else
        chain_append(&c->stream.out, data, len);
    next = r->next;
    pop_head(c);
    if (next != NULL && next->state != REQUEST_SENT)
        client_drain(c);
    else if (UNLIKELY(c->closing || c->ended))
        client_drain(c);
    else
        after_output(c);
}

/* Moves a composed reply to the output. Small pieces are copied, so that nothing keeps the block
 * they were composed in. */
static void move_chain(struct chain *to, struct chain *from)
{
    for (struct chain_seg *s = from->head; s != NULL; s = s->next)
        if (s->len > BLOCK_SMALL)
            chain_append_ref(to, s->block, s->off, s->len);
        else
            chain_append(to, s->block->data + s->off, s->len);
    chain_consume(from, from->bytes);
}

static void store_chain(struct client *c, struct request *r, struct chain *reply)
{
    struct block *b;

    if (reply->bytes > STORED_REPLY_MAX) {
        chain_clear(reply);
        error_write(reply, ERROR_MERGED_SIZE);
    }
    b = block_new_exact(reply->bytes);
    for (struct chain_seg *s = reply->head; s != NULL; s = s->next) {
        memcpy(b->data + b->len, s->block->data + s->off, s->len);
        b->len += s->len;
    }
    chain_consume(reply, reply->bytes);
    request_store(r, b->data, b->len, b);
    block_unref(&b);
    output_limit(c);
}

void client_request_composed(struct client *c, struct request *r, struct chain *reply)
{
    if (UNLIKELY(r->silent))
        chain_clear(reply);
    if (c->head != r) {
        store_chain(c, r, reply);
        return;
    }
    move_chain(&c->stream.out, reply);
    r->state = REQUEST_PENDING; /* nothing of it is stored */
    r->data = NULL;
    pop_head(c);
    client_drain(c);
}

void client_reply(struct client *c, const struct command *cmd, struct chain *reply)
{
    struct request *r;

    if (UNLIKELY((c->reply_mode & 1) != 0)) {
        chain_clear(reply);
        return;
    }
    if (c->head == NULL) {
        move_chain(&c->stream.out, reply);
        after_output(c);
        return;
    }
    r = request_new(c->env, c, cmd);
    r->epoch = c->up->epoch;
    store_chain(c, r, reply);
    client_enqueue(c, r);
}

/* --- stream events that concern output --- */

void client_on_failed(struct stream *s, int error)
{
    (void)error;
    client_close(CONTAINER_OF(s, struct client, stream));
}

void client_on_drained(struct stream *s)
{
    struct client *c = CONTAINER_OF(s, struct client, stream);

    if (c->extra != NULL && c->extra->long_reply != NULL)
        long_reply_go_on(c);
    client_unhold(c, HOLD_OUTPUT);
    close_if_answered(c);
}

void client_tick(struct client *c, uint64_t now_ms)
{
    const struct config_client *limits = &c->env->config->client;
    uint32_t now_s = (uint32_t)(now_ms / 1000);

    if (c->hold != 0 && stream_is_broken(&c->stream)) { /* it is not read from */
        client_close(c);
        return;
    }
    if (c->stream.out.bytes > 0) {
        c->stalled_s = (uint32_t)c->stream.written == c->taken_mark ? c->stalled_s + 1 : 0;
        c->taken_mark = (uint32_t)c->stream.written;
        if ((uint64_t)c->stalled_s * 1000 >= limits->output_stall_ms) {
            log_warn("client %llu closed: %zu bytes unread and none taken for "
                     "client.output_stall",
                     (unsigned long long)c->id, c->stream.out.bytes);
            METRIC_ADD(&c->env->metrics, clients_closed_output, 1);
            client_close(c);
            return;
        }
    } else {
        c->stalled_s = 0;
    }
    client_input_read_ahead(c, c->stalled_s > 0);
    if (c->queued > 0 || c->stream.out.bytes > 0)
        c->active_s = now_s;
    if (c->env->idle_timeout_ms != 0 && c->queued == 0 && !subscriber_is(c) && !c->monitors &&
        (uint64_t)(now_s - c->active_s) * 1000 > c->env->idle_timeout_ms)
        client_close(c);
}
