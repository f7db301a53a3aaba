/*
 * forward_reply.c - what comes back from a connection: a reply, a refusal, a loss, or a piece of a
 * long reply, each taken to the request and the client it belongs to. A request here is popped from
 * its connection: it goes on to its client, to redirect.c, or is freed when its client has gone.
 */
#include "session/forward.h"

#include "base/log.h"
#include "session/blocking.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/long_reply.h"
#include "session/redirect.h"
#include "session/scatter.h"
#include "session/scripts.h"
#include "session/transaction.h"
#include "session/wait.h"
#include "session/watch.h"

static inline void account_back(struct client *c, struct request *r)
{
    c->inflight--;
    c->inflight_bytes -= r->be.len;
}

/* A server that became a replica: it closes the connection behind this answer. */
static bool is_goodbye(const struct bereply *reply)
{
    static const char text[] = "-UNBLOCKED force unblock";

    return reply->len > sizeof(text) && memcmp(reply->data, text, sizeof(text) - 1) == 0;
}

/* reply: NULL: it was no error. */
static inline void give_back(struct beconn *conn, struct request *r, const struct bereply *reply)
{
    if (LIKELY(!conn->leased) || conn->user != NULL) /* WATCH goes on using it */
        return;
    if (r->is_blocking) {
        blocking_back(r);
        if (reply != NULL && is_goodbye(reply))
            conn->retired = true;
    }
    if (r->is_pinned && reply != NULL && reply->type == '-')
        conn->retired = true; /* an UNWATCH that failed: not clean */
    if (learnt_leaves_traces(r->cmd))
        conn->retired = true;
    node_return(&conn);
}

static void node_answers(struct session_env *env, struct node *n)
{
    node_recovered(n);
    redirect_wake(env);
}

void forward_answered(struct client *c, struct request *r, const struct bereply *reply)
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
    else if (r->is_pinned && r->cmd->local != LOCAL_WATCH)
        conn->retired = true; /* it is not as the profile has it */
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
        conn->ready_ms != 0)
        node_answers(u->env, n);
    if (UNLIKELY(r->is_news) && why == REFUSAL_NONE)
        scripts_answered(u->env, r, reply);
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
        forward_answered(c, r, reply);
    held_client_moved(c);
}

static void on_reply(struct beconn *conn, struct bereq *be, const struct bereply *reply)
{
    struct request *r = CONTAINER_OF(be, struct request, be);
    const char *spoilt = UNLIKELY(r->is_tx) ? transaction_spoils(r, reply) : NULL;

    give_back(conn, r, reply);
    take_reply(conn, r, reply);
    if (UNLIKELY(spoilt != NULL) && conn->state != BECONN_CLOSED) {
        if (reply->type == '-')
            beconn_multi_refused(conn);
        beconn_close(conn, spoilt);
    }
}

void forward_unknown(struct client *c, struct request *r)
{
    struct bereply reply = {.type = '-'};
    char text[256];

    METRIC_ADD(&c->env->metrics, unknown, 1);
    reply.len = (size_t)snprintf(text, sizeof(text), "-%s\r\n", error_text(ERROR_UNKNOWN));
    reply.data = text;
    forward_answered(c, r, &reply);
}

static void answer_too_large(struct client *c, struct request *r)
{
    enum error_id id = r->is_tx ? ERROR_EXEC_SIZE : ERROR_MERGED_SIZE;
    struct bereply reply = {.type = '-'};
    char text[256];

    reply.len = (size_t)snprintf(text, sizeof(text), "-%s\r\n", error_text(id));
    reply.data = text;
    if (r->is_pinned)
        watch_replied(c, r, &reply, REFUSAL_NONE);
    else
        forward_answered(c, r, &reply);
}

/* It was not sent, and its connection is taken by a long reply: one for this server alone goes to
 * the connection in its place at once; the others by way of redirect.c, which keeps their order. */
static bool moved_to_replacement(struct client *c, struct request *r, const struct beconn *old)
{
    struct beconn *conn;

    if (old->state == BECONN_CLOSED || r->slot != SLOT_NONE)
        return false;
    conn = node_shared(old->node, old->profile); /* its own user's, whoever asked */
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
        forward_unknown(c, r);
    else
        redirect_hold(c, r, REFUSAL_LOST);
    held_client_moved(c);
}

/* The end of a reply that was dropped, for its client has left, or wants none, or because it is
 * larger than one that must be whole may be. The proxy's own commands of a block, which has run, do
 * not run then: the client may not go on as if they had. */
static void piece_dropped(struct beconn *conn, struct request *r)
{
    bool own = r->is_tx && transaction_has_own(r);
    struct upstream *u = conn->node->user;
    struct client *c = r->client;

    give_back(conn, r, NULL);
    if (own)
        node_retire(conn); /* nobody has seen whether the block has left it as it was */
    if (c == NULL) {
        request_free(u->env, r);
        return;
    }
    account_back(c, r);
    answer_too_large(c, r); /* a silent request: dropped as well */
    held_client_moved(c);
    if (!own)
        return;
    log_warn("client %llu closed: the answer to its EXEC is larger than client.output_max",
             (unsigned long long)c->id);
    METRIC_ADD(&u->env->metrics, clients_closed_output, 1);
    client_close_when_answered(c);
}

static void on_piece(struct beconn *conn, struct bereq *be, struct block *b, uint32_t off,
                     uint32_t len, bool last)
{
    struct request *r = CONTAINER_OF(be, struct request, be);
    struct client *c = r->client;
    struct upstream *u = conn->node->user;

    retry_over(conn->node, r, false);
    if (UNLIKELY(c == NULL || r->be.whole || r->silent)) {
        if (last)
            piece_dropped(conn, r);
        return;
    }
    /* It has run and is not refused any more: others of its client need not wait for its end. */
    if (r->state != REQUEST_STREAMING) {
        account_back(c, r);
        if (r->is_news)
            scripts_answered(u->env, r, &(struct bereply){.data = b->data + off, .len = len});
        if (r->is_tx)
            transaction_drop(r);
        else if (r->is_blocking)
            blocking_drop(r);
    }
    if (last)
        give_back(conn, r, NULL);
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
    .refused = redirect_user_refused,
    .reply = on_reply,
    .lost = on_lost,
    .early_error = on_early_error,
    .piece = on_piece,
    .push = on_push,
    .ready = on_ready,
    .closed = on_closed,
};
