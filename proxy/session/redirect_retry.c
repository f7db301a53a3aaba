/*
 * redirect_retry.c - when a refused request is sent again or given up, and the clients that wait.
 */
#include "base/clock.h"
#include "session/forward.h"
#include "session/redirect_held.h"
#include "session/refusal.h"
#include "session/scatter.h"
#include "session/transaction.h"

/* A server that is there says hello so soon after an attempt, whose time is known by its tick. */
#define FRESH_MS (100 + LOOP_TICK_MS)

enum verdict {
    NOTHING, /* it was not refused */
    SENT,
    WAIT,   /* and so must those behind it */
    FAILED, /* answered with an error: the queue may have changed */
};

/* The node's outage decides: worth a try, to be waited for, or given up. */
static enum verdict outage_verdict(struct client *c, struct node *n, uint64_t now)
{
    const struct config_backend *limits = &c->env->config->backend;
    const struct beconn *conn = node_shared_now(n, c->profile);

    if (!n->held && now >= n->retry_at_ms && (conn == NULL || conn->state == BECONN_READY))
        return SENT;
    /* However long ago the outage began: an attempt that has just been made may end it. */
    if (conn != NULL && conn->state < BECONN_READY && now < conn->progress_ms + FRESH_MS)
        return WAIT;
    return now - n->outage_ms > limits->ride_through_ms ? FAILED : WAIT;
}

/* A slot that moved while the nodes were asked may be nobody's in a map of their answers, and in
 * the next one, which can be of the same round: the one after that decides. */
static enum verdict unowned_verdict(struct client *c, uint64_t now)
{
    struct client_extra *x = c->extra;

    if (x->wait_version == 0)
        x->wait_version = c->up->map->version + 2;
    if (c->up->map->version >= x->wait_version ||
        now - x->held_since_ms > c->env->config->backend.ride_through_ms)
        return FAILED;
    c->env->hooks->want_refresh(c->env, c->up->index);
    return WAIT;
}

static bool is_asking(const struct request *r)
{
    return r->refusal == REFUSAL_ASK && r->ask_node != NULL;
}

/* Where a refused request goes next; NULL: its slot is nobody's. */
static struct node *target_of(const struct client *c, const struct request *r)
{
    return is_asking(r) ? r->ask_node : upstream_route(c->up, r->slot);
}

/* A block waits for the end of its connection's handshake, which also tells who may not. */
static bool is_coming_up(const struct client *c, const struct request *r, const struct node *n)
{
    const struct beconn *conn = node_shared_now(n, c->profile);

    return r->is_tx && conn != NULL && conn->state < BECONN_READY;
}

static enum verdict try_request(struct client *c, struct request *r, uint64_t now)
{
    uint64_t limit = c->env->config->backend.ride_through_ms;
    struct client_extra *x = c->extra;
    bool asking = is_asking(r);
    struct node *n = target_of(c, r);
    struct beconn *conn;
    bool counted;
    enum verdict v;

    if (now < x->retry_at_ms)
        return now - x->held_since_ms > limit ? FAILED : WAIT;
    if (n == NULL)
        return unowned_verdict(c, now);
    x->wait_version = 0;
    v = n->outage_ms != 0 ? outage_verdict(c, n, now) : SENT;
    if (v != SENT)
        return v;
    if (UNLIKELY(r->is_tx) && transaction_is_forbidden(c, n)) {
        redirect_drop_target(r);
        r->refusal = REFUSAL_NO_MULTI;
        return FAILED;
    }
    /* No outage tells how long: it is sent, and comes back every time. */
    if ((r->refusal == REFUSAL_LOST || r->refusal >= REFUSAL_TRYAGAIN) &&
        now - x->held_since_ms > limit)
        return FAILED;
    /* What blocks would keep its share of the budget until it is served. */
    counted = !r->is_blocking;
    if (counted && !node_retry_begin(n, now))
        return now - x->held_since_ms > limit ? FAILED : WAIT;
    conn = forward_connection_of(c, r, n);
    if (conn == NULL || forward_is_full(c, conn)) {
        if (counted)
            node_retry_end(n, false);
        if (asking && conn == NULL && !is_coming_up(c, r, n)) /* its owner knows best */
            redirect_drop_target(r);
        return now - x->held_since_ms > limit ? FAILED : WAIT;
    }
    /* One request tries; until it is answered the others stay away. */
    if (n->outage_ms != 0)
        n->retry_at_ms = now + 2 * REDIRECT_PROBE_MS;
    redirect_release(c, r);
    redirect_drop_target(r);
    r->again = counted;
    forward_again(c, r, conn, asking);
    return SENT;
}

static enum verdict fail_request(struct client *c, struct request *r)
{
    enum error_id id = refusal_error((enum refusal)r->refusal);

    redirect_release(c, r);
    redirect_fail(c, r, id);
    return FAILED;
}

/* Until a map tells whether a script's refusal was the server's. */
static enum verdict settle_unsure(struct client *c, struct request *r, uint64_t now)
{
    char text[ADDR_TEXT_MAX + 32];
    size_t len;

    if (refusal_confirm(c, r))
        return NOTHING;
    if (now < c->extra->unsure_until_ms)
        return WAIT;
    len = refusal_text(r, text, sizeof(text));
    redirect_release(c, r);
    redirect_answer(c, r, text, len);
    return FAILED;
}

static enum verdict resume_request(struct client *c, struct request *r, uint64_t now)
{
    enum verdict v;

    if (r->state != REQUEST_REFUSED)
        return NOTHING;
    if (UNLIKELY(refusal_is_unsure(r->refusal)) && (v = settle_unsure(c, r, now)) != NOTHING)
        return v;
    if (refusal_overtaken(c, r)) {
        /* A later command on the same key has run: to run this one now would change their order. */
        enum refusal why = r->refusal == REFUSAL_NOSCRIPT ? REFUSAL_NOSCRIPT : REFUSAL_TRYAGAIN;

        redirect_drop_target(r);
        r->refusal = (uint8_t)why;
        return fail_request(c, r);
    }
    if (r->refusal == REFUSAL_TRYAGAIN && scatter_split(c, r))
        return FAILED;
    v = try_request(c, r, now);
    return v == FAILED ? fail_request(c, r) : v;
}

static enum verdict resume_parts(struct client *c, struct request *parent, uint64_t now)
{
    for (struct request *p = parent->scatter->parts; p != NULL; p = p->next) {
        enum verdict v = resume_request(c, p, now);

        if (v == WAIT || v == FAILED)
            return v;
    }
    return NOTHING;
}

/* Sends refused requests in program order, up to the first that has to wait. */
static void resume_client(struct client *c, uint64_t now)
{
    struct request *r = c->head;

    while (r != NULL && c->refused > 0) {
        enum verdict v =
            r->state == REQUEST_PARTS ? resume_parts(c, r, now) : resume_request(c, r, now);

        if (v == WAIT)
            return;
        r = v == FAILED ? c->head : r->next;
    }
}

/* --- the clients that wait --- */

void redirect_start_waiting(struct client *c)
{
    struct session_env *env = c->env;

    if ((c->hold & HOLD_REFUSED) == 0) {
        struct client_extra *x = client_extra(c);

        x->held_since_ms = clock_ms();
        x->wait_version = 0;
        client_hold(c, HOLD_REFUSED);
        list_push(&env->waiting, &x->wait_link);
        METRIC_ADD(&env->metrics, held, 1);
        ev_timer_again(env->loop->ev, &env->hold_timer);
    }
    redirect_wake(env);
}

void redirect_stop_waiting(struct client *c)
{
    if (c->extra == NULL || !list_linked(&c->extra->wait_link))
        return;
    list_unlink(&c->extra->wait_link);
    METRIC_ADD(&c->env->metrics, held, -1);
    if (list_empty(&c->env->waiting))
        ev_timer_stop(c->env->loop->ev, &c->env->hold_timer);
}

static void try_client(struct client *c, uint64_t now)
{
    if (c->inflight > 0)
        return;
    resume_client(c, now);
    /* Held until what was sent again is answered: nothing may overtake it. */
    if (!stream_is_open(&c->stream))
        return;
    if (c->inflight > 0) { /* it had its turn: another client makes the next attempt */
        list_unlink(&c->extra->wait_link);
        list_push(&c->env->waiting, &c->extra->wait_link);
    }
    if (c->refused > 0 || c->inflight > 0)
        return;
    redirect_stop_waiting(c);
    client_unhold(c, HOLD_REFUSED);
}

void redirect_wake(struct session_env *env)
{
    env->wake_waiting = true;
}

void redirect_on_turn(struct session_env *env)
{
    struct list_node *at, *tmp;
    uint64_t now;

    if (LIKELY(!env->wake_waiting))
        return;
    env->wake_waiting = false;
    now = clock_ms();
    LIST_FOREACH (at, tmp, &env->waiting)
        try_client(CONTAINER_OF(at, struct client_extra, wait_link)->client, now);
}

void redirect_user_refused(struct beconn *conn, const struct bereply *reply)
{
    struct upstream *u = conn->node->user;
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &u->env->waiting) {
        struct client *c = CONTAINER_OF(at, struct client_extra, wait_link)->client;
        struct request *r = c->head;

        if (c->up != u || c->profile != conn->profile || c->inflight > 0 || r == NULL ||
            r->state != REQUEST_REFUSED || refusal_is_unsure(r->refusal) || !r->is_tx ||
            r->is_pinned || target_of(c, r) != conn->node)
            continue;
        redirect_release(c, r);
        redirect_answer(c, r, reply->data, reply->len);
        redirect_wake(u->env);
    }
}

static void on_hold_timer(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct session_env *env = CONTAINER_OF(w, struct session_env, hold_timer);

    (void)ev;
    (void)revents;
    redirect_wake(env);
}

void redirect_init(struct session_env *env)
{
    list_init(&env->waiting);
    ev_timer_init(&env->hold_timer, on_hold_timer, 0, HOLD_TICK_MS / 1000.0);
    env->hold_timer.repeat = HOLD_TICK_MS / 1000.0;
}

void redirect_deinit(struct session_env *env)
{
    ev_timer_stop(env->loop->ev, &env->hold_timer);
}
