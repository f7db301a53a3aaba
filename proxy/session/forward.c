#include "session/forward.h"

#include "base/alloc.h"
#include "base/log.h"
#include "session/blocking.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/long_reply.h"
#include "session/redirect.h"
#include "session/scatter.h"
#include "session/transaction.h"
#include "session/watch.h"
#include "session/wait.h"

static const char asking_command[] = "*1\r\n$6\r\nASKING\r\n";
#define ASKING_LEN (sizeof(asking_command) - 1)

static inline bool is_large(const struct client *c, uint32_t len)
{
    return len > c->env->config->backend.large_request;
}

struct beconn *forward_connection(struct client *c, struct node *n, uint32_t len)
{
    return UNLIKELY(is_large(c, len)) ? node_lease(n, c->profile) : node_shared(n, c->profile);
}

/* Where MULTI could be refused, the rest of a block must not be sent. */
static bool multi_is_known(const struct client *c, struct node *n)
{
    const struct beconn *conn = node_shared(n, c->profile);

    return conn != NULL && conn->state == BECONN_READY;
}

struct beconn *forward_connection_of(struct client *c, const struct request *r, struct node *n)
{
    if (r->is_pinned)
        return watch_lease(c, r, n);
    if (r->is_blocking)
        return node_lease(n, c->profile);
    return r->is_tx && !multi_is_known(c, n) ? NULL : forward_connection(c, n, r->be.len);
}

/* n takes r. */
static inline void account_sent(struct client *c, struct request *r, const struct node *n)
{
    /* All but reads may have written: without a branch, since both are common. */
    c->wrote |= n->mark & (uint16_t)((r->cmd->flags & CMD_READONLY) / CMD_READONLY - 1u);
    r->state = REQUEST_SENT;
    r->epoch = c->up->epoch;
    c->inflight++;
    c->inflight_bytes += r->be.len;
}

/* Bytes that wait for a connection to come up are as much held as those of refused requests. */
static bool connection_full(const struct client *c, const struct beconn *conn)
{
    return conn->state != BECONN_READY &&
           conn->inflight_bytes > c->env->config->backend.max_inflight_bytes;
}

static void hold_new(struct client *c, struct request *r, const char *bytes, uint32_t len,
                     struct block *block, enum refusal why)
{
    if (block != NULL && is_large(c, len)) {
        r->be.block = block_ref(block);
        r->be.off = (uint32_t)(bytes - block->data);
    } else {
        r->be.block = block_new_exact(len);
        memcpy(r->be.block->data, bytes, len);
        r->be.block->len = len;
        r->be.off = 0;
    }
    r->be.len = len;
    redirect_hold(c, r, why);
}

void forward_new(struct client *c, struct request *r, const char *bytes, uint32_t len,
                 struct block *block)
{
    struct node *n = upstream_route(c->up, r->slot);
    struct beconn *conn;

    if (UNLIKELY(n == NULL)) {
        hold_new(c, r, bytes, len, block, REFUSAL_NO_OWNER);
        return;
    }
    conn = UNLIKELY(n->outage_ms != 0 || c->refused > 0) ? NULL : forward_connection(c, n, len);
    if (UNLIKELY(conn == NULL || connection_full(c, conn))) {
        if (is_large(c, len) && n->outage_ms == 0 && node_lease_full(n)) {
            redirect_fail(c, r, ERROR_LEASED);
            return;
        }
        hold_new(c, r, bytes, len, block, REFUSAL_NO_CONNECTION);
        return;
    }
    if (UNLIKELY(is_large(c, len) && block != NULL)) {
        r->be.block = block_ref(block);
        r->be.off = (uint32_t)(bytes - block->data);
        r->be.len = len;
        beconn_send_ref(conn, &r->be, NULL, 0, 1);
    } else {
        memcpy(beconn_reserve(conn, len), bytes, len);
        beconn_commit(conn, &r->be, len, 0, 1);
    }
    account_sent(c, r, conn->node);
    if (UNLIKELY(conn->inflight_bytes > c->env->config->backend.max_inflight_bytes))
        client_hold(c, HOLD_BARRIER);
}

void forward_to(struct client *c, struct request *r, struct beconn *conn, const char *bytes,
                uint32_t len)
{
    memcpy(beconn_reserve(conn, len), bytes, len);
    beconn_commit(conn, &r->be, len, 0, 1);
    account_sent(c, r, conn->node);
}

struct beconn *forward_connection_now(struct client *c, struct node *n)
{
    struct beconn *conn = node_shared(n, c->profile);

    if (conn == NULL || conn->state == BECONN_READY || n->outage_ms == 0)
        return conn;
    return NULL;
}

/* ASKING is for the command right behind it, the MULTI. */
static void send_behind(struct beconn *conn, struct request *r, const struct block *loads,
                        bool asking, uint16_t replies)
{
    size_t prefix = loads->len + (asking ? ASKING_LEN : 0);
    char *text = xmalloc(loads->len + ASKING_LEN);

    memcpy(text, loads->data, loads->len);
    memcpy(text + loads->len, asking_command, ASKING_LEN);
    beconn_send_ref(conn, &r->be, text, prefix, replies);
    free(text);
}

void forward_again(struct client *c, struct request *r, struct beconn *conn, bool asking)
{
    const struct block *loads = NULL;
    size_t prefix = asking ? ASKING_LEN : 0;
    uint16_t replies = asking ? 2 : 1;

    if (r->is_tx) {
        replies = (uint16_t)(replies - 1 + transaction_replies(r));
        transaction_sent(r);
        loads = transaction_loads(r);
    }
    if (r->is_blocking) {
        blocking_prepare(c, r);
        blocking_sent(r, conn, asking);
    } else if (r->is_pinned && !r->is_tx) {
        watch_sent(c, asking);
    }
    if (UNLIKELY(loads != NULL)) {
        send_behind(conn, r, loads, asking, replies);
    } else if (is_large(c, r->be.len)) {
        beconn_send_ref(conn, &r->be, asking_command, prefix, replies);
    } else {
        struct block *old = r->be.block;
        uint32_t len = r->be.len;
        char *to = beconn_reserve(conn, prefix + len);

        memcpy(to, asking_command, prefix);
        memcpy(to + prefix, old->data + r->be.off, len);
        beconn_commit(conn, &r->be, prefix + len, prefix, replies);
        block_unref(&old);
    }
    account_sent(c, r, conn->node);
}

void forward_stored(struct client *c, struct request *r)
{
    struct node *n = upstream_route(c->up, r->slot);
    struct beconn *conn;

    if (n == NULL) {
        redirect_hold(c, r, REFUSAL_NO_OWNER);
        return;
    }
    if (r->is_tx && transaction_is_forbidden(c, n)) {
        redirect_fail(c, r, ERROR_NO_MULTI);
        return;
    }
    conn = n->outage_ms != 0 || c->refused > 0 ? NULL : forward_connection_of(c, r, n);
    if (conn == NULL || connection_full(c, conn)) {
        bool leases = r->is_blocking || r->is_pinned || is_large(c, r->be.len);

        if (leases && conn == NULL && n->outage_ms == 0 && node_lease_full(n))
            redirect_fail(c, r, ERROR_LEASED);
        else
            redirect_hold(c, r, REFUSAL_NO_CONNECTION);
        return;
    }
    forward_again(c, r, conn, false);
    if (conn->inflight_bytes > c->env->config->backend.max_inflight_bytes)
        client_hold(c, HOLD_BARRIER);
}

static bool under_way_elsewhere(const struct upstream *u, const struct request *r, uint16_t slot)
{
    /* On one server a keyless command follows one with a key, whatever slots they have. */
    return r->state == REQUEST_SENT && (r->slot == slot || u->single) &&
           r->epoch < u->slot_epoch[slot];
}

bool forward_must_wait(const struct client *c, uint16_t slot)
{
    for (const struct request *r = c->head; r != NULL; r = r->next) {
        if (under_way_elsewhere(c->up, r, slot))
            return true;
        if (r->state == REQUEST_PARTS)
            for (const struct request *p = r->scatter->parts; p != NULL; p = p->next)
                if (under_way_elsewhere(c->up, p, slot))
                    return true;
    }
    return false;
}

/* --- what comes back --- */

static inline void account_back(struct client *c, struct request *r)
{
    c->inflight--;
    c->inflight_bytes -= r->be.len;
}

static inline void give_back(struct beconn *conn, struct request *r, char reply_type)
{
    if (LIKELY(!conn->leased) || conn->user != NULL) /* WATCH goes on using it */
        return;
    if (r->is_blocking)
        blocking_back(r);
    if (r->is_pinned && reply_type == '-')
        conn->retired = true; /* an UNWATCH that failed: not clean */
    node_return(&conn);
}

static void node_answers(struct session_env *env, struct node *n)
{
    node_recovered(n);
    redirect_wake(env);
}

/* A reply that is no refusal, for a client that is still there. */
static void answered(struct client *c, struct request *r, const struct bereply *reply)
{
    if (UNLIKELY(r->is_part)) {
        request_store(r, reply->data, reply->len, reply->block);
        client_reply_stored(c);
        scatter_part_done(c, r);
    } else if (UNLIKELY(r->is_tx) && transaction_answer(c, r, reply)) {
        return;
    } else if (UNLIKELY(c->refused > 0)) {
        /* The bytes stay: redirect.c may have to compare their keys. */
        request_store(r, reply->data, reply->len, reply->block);
        client_request_stored(c, r);
    } else {
        client_request_done(c, r, reply->data, reply->len, reply->block);
    }
}

/* A held client goes on when everything it had under way is answered. */
static inline void held_client_moved(struct client *c)
{
    if (UNLIKELY((c->hold & HOLD_REFUSED) != 0 && c->inflight == 0))
        redirect_wake(c->env);
}

static enum refusal classify(struct upstream *u, struct node *n, struct request *r,
                             const struct bereply *reply)
{
    struct bereply inner;

    if (r->is_tx)
        reply = transaction_cause(r, reply, &inner);
    return redirect_classify(u, n, r, reply);
}

/* A request that was sent again came back. */
static inline void retry_over(struct node *n, struct request *r, bool in_vain)
{
    if (LIKELY(!r->again))
        return;
    r->again = 0;
    node_retry_end(n, in_vain);
}

static void on_early_error(struct beconn *conn, struct bereq *be, const struct bereply *reply)
{
    struct request *r = CONTAINER_OF(be, struct request, be);

    if (r->is_tx)
        transaction_early_error(r, conn, reply);
}

/* What the connection has to do with r is done. */
static void take_reply(struct beconn *conn, struct request *r, const struct bereply *reply)
{
    struct client *c = r->client;
    struct node *n = conn->node;
    struct upstream *u = n->user;
    enum refusal why = REFUSAL_NONE;

    if (UNLIKELY(reply->type == '-'))
        why = classify(u, n, r, reply);
    retry_over(n, r, why != REFUSAL_NONE);
    /* A server that loads its data answers INFO and refuses users all the same: that ends no
     * outage. */
    if (UNLIKELY(n->outage_ms != 0) && why == REFUSAL_NONE && r->slot != SLOT_NONE && !n->held &&
        conn->state != BECONN_HANDSHAKE)
        node_answers(u->env, n);
    if (UNLIKELY(c == NULL)) {
        redirect_drop_target(r);
        request_free(u->env, r);
        return;
    }
    account_back(c, r);
    if (UNLIKELY(r->is_part) && r->parent->scatter->answered_by != NULL)
        r->parent->scatter->answered_by(r, n);
    if (UNLIKELY(r->is_pinned))
        watch_replied(c, r, reply, why);
    else if (UNLIKELY(why != REFUSAL_NONE))
        redirect_hold(c, r, why);
    else
        answered(c, r, reply);
    held_client_moved(c);
}

static void on_reply(struct beconn *conn, struct bereq *be, const struct bereply *reply)
{
    struct request *r = CONTAINER_OF(be, struct request, be);
    bool broken = UNLIKELY(reply->type == '-') && transaction_leaves_multi(r, reply);

    give_back(conn, r, reply->type);
    take_reply(conn, r, reply);
    if (UNLIKELY(broken) && conn->state != BECONN_CLOSED) {
        beconn_multi_refused(conn);
        beconn_close(conn, "it has no EXEC, and is inside MULTI");
    }
}

static void answer_unknown(struct client *c, struct request *r)
{
    struct bereply reply = {.type = '-'};
    char text[256];

    METRIC_ADD(&c->env->metrics, unknown, 1);
    reply.len = (size_t)snprintf(text, sizeof(text), "-%s\r\n", error_text(ERROR_UNKNOWN));
    reply.data = text;
    answered(c, r, &reply);
}

static void answer_too_large(struct client *c, struct request *r)
{
    struct bereply reply = {.type = '-'};
    char text[256];

    reply.len = (size_t)snprintf(text, sizeof(text), "-%s\r\n", error_text(ERROR_MERGED_SIZE));
    reply.data = text;
    if (r->is_pinned)
        watch_replied(c, r, &reply, REFUSAL_NONE);
    else
        answered(c, r, &reply);
}

void forward_answered(struct client *c, struct request *r, const struct bereply *reply)
{
    answered(c, r, reply);
}

void forward_unknown(struct client *c, struct request *r)
{
    answer_unknown(c, r);
}

/* It was not sent, and its connection is taken by a long reply: one for this server alone goes to
 * the connection in its place at once; the others by way of redirect.c, which keeps their order. */
static bool moved_to_replacement(struct client *c, struct request *r, const struct beconn *old)
{
    struct beconn *conn;

    if (old->state == BECONN_CLOSED || r->slot != SLOT_NONE)
        return false;
    conn = node_shared(old->node, c->profile);
    if (conn != NULL)
        forward_again(c, r, conn, false);
    return conn != NULL;
}

static void on_lost(struct beconn *conn, struct bereq *be, enum bereq_loss loss)
{
    struct request *r = CONTAINER_OF(be, struct request, be);
    struct client *c = r->client;
    struct upstream *u = conn->node->user;

    retry_over(conn->node, r, loss == BEREQ_UNKNOWN);
    if (c == NULL) {
        request_free(u->env, r);
        return;
    }
    if (UNLIKELY(r->is_blocking))
        blocking_back(r);
    if (r->state == REQUEST_STREAMING) {
        /* Half of the reply has gone out: nothing truthful can follow it. */
        client_close(c);
        request_free(u->env, r);
        return;
    }
    account_back(c, r);
    if (UNLIKELY(r->is_pinned))
        watch_request_lost(c, r, loss);
    else if (moved_to_replacement(c, r, conn))
        return;
    else if (loss == BEREQ_UNSENT &&
             conn->stream.written <= conn->handshake_bytes + be->end - be->len)
        redirect_hold(c, r, REFUSAL_NO_CONNECTION);
    else if (loss == BEREQ_UNKNOWN && request_is_write(r) &&
             !(r->is_tx && transaction_is_refused(r)))
        answer_unknown(c, r);
    else
        redirect_hold(c, r, REFUSAL_LOST);
    held_client_moved(c);
}

static void on_piece(struct beconn *conn, struct bereq *be, struct block *b, uint32_t off,
                     uint32_t len, bool last)
{
    struct request *r = CONTAINER_OF(be, struct request, be);
    struct client *c = r->client;
    struct upstream *u = conn->node->user;

    retry_over(conn->node, r, false);
    if (c == NULL) {
        if (last) {
            give_back(conn, r, '*');
            request_free(u->env, r);
        }
        return;
    }
    if (UNLIKELY(r->be.whole || r->silent)) { /* larger than a merged reply may be: dropped */
        if (last) {
            account_back(c, r);
            give_back(conn, r, '*');
            answer_too_large(c, r); /* a silent request: dropped as well */
            held_client_moved(c);
        }
        return;
    }
    /* It has run and is not refused any more: others of its client need not wait for its end. */
    if (r->state != REQUEST_STREAMING) {
        account_back(c, r);
        if (r->is_tx)
            transaction_drop(r);
        else if (r->is_blocking)
            blocking_drop(r);
    }
    if (last)
        give_back(conn, r, '*');
    long_reply_piece(c, r, conn, b, off, len, last);
    held_client_moved(c);
}

static void on_push(struct beconn *conn, const char *data, size_t len)
{
    (void)conn;
    (void)data;
    (void)len; /* nothing that asks for pushes is sent on these connections */
}

/* What a server would not take must not get as far as to it: an over-long argument makes it close
 * the connection that others share. */
static void lower_limits(struct session_env *env, const struct node *n)
{
    if (n->max_bulk == 0 || n->max_bulk >= env->limits.max_bulk)
        return;
    env->limits.max_bulk = (uint32_t)n->max_bulk;
    resp_parser_set_limits(env->parser, &env->limits);
}

static void on_ready(struct beconn *conn)
{
    struct upstream *u = conn->node->user;

    u->known = u->known || conn->node->version[0] != '\0';
    lower_limits(u->env, conn->node);
    wait_node_ready(conn->node);
    if (UNLIKELY(conn->noauth) && u->env->profiles.profiles[conn->profile].guest)
        identity_guest_refused(u);
    redirect_wake(u->env);
}

static void on_closed(struct beconn *conn)
{
    struct upstream *u = conn->node->user;

    if (conn->user != NULL)
        watch_conn_closed(conn);
    if (conn->retired)
        return;
    METRIC_ADD(&u->env->metrics, backend_lost, 1);
    u->env->hooks->want_refresh(u->env, u->index);
    redirect_wake(u->env);
}

const struct beconn_ops forward_ops = {
    .reply = on_reply,
    .lost = on_lost,
    .early_error = on_early_error,
    .piece = on_piece,
    .push = on_push,
    .ready = on_ready,
    .closed = on_closed,
};
