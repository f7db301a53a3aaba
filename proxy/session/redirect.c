#include "session/redirect.h"

#include "base/clock.h"
#include "base/log.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/refusal.h"
#include "session/scatter.h"
#include "session/scripts.h"
#include "session/transaction.h"

/* How long a node that answered "not now" is left alone before one request tries it again. */
#define PROBE_MS 10
/* A server that is there says hello so soon after an attempt, whose time is known by its tick. */
#define FRESH_MS (100 + LOOP_TICK_MS)
/* The longest wait before a request that is sent round in circles is sent again. */
#define CIRCLE_MS 500

void redirect_drop_target(struct request *r)
{
    if ((r->refusal == REFUSAL_ASK || refusal_is_unsure(r->refusal)) && r->ask_node != NULL)
        r->ask_node->holds--;
    r->refusal = REFUSAL_NONE;
    r->ask_node = NULL;
}

static void count_redirect(struct request *r)
{
    r->redirects += r->redirects < UINT8_MAX;
}

/* Sent round in circles, or to nobody: the news is still spreading. */
static uint64_t redirect_delay(const struct request *r)
{
    return MIN((uint64_t)PROBE_MS << MIN(r->redirects, 6u), (uint64_t)CIRCLE_MS);
}

enum refusal redirect_classify(struct upstream *u, struct node *n, struct request *r,
                               const struct bereply *reply)
{
    struct session_env *env = u->env;
    struct refusal_info info;
    enum refusal why = refusal_parse(u, n, r, reply, &info);

    if (why == REFUSAL_NONE || r->client == NULL)
        return why;
    METRIC_ADD(&env->metrics, replies_refused, 1);
    redirect_drop_target(r);
    r->refusal = (uint8_t)why; /* by which redirect_drop_target knows that there is a target */
    switch (why) {
    case REFUSAL_MOVED:
        METRIC_ADD(&env->metrics, moved, 1);
        count_redirect(r);
        if (info.target != NULL)
            upstream_override(u, r->slot, info.target);
        if (info.target == NULL || r->redirects > 2)
            client_extra(r->client)->retry_at_ms = clock_ms() + redirect_delay(r);
        break;
    case REFUSAL_ASK:
        METRIC_ADD(&env->metrics, ask, 1);
        count_redirect(r);
        upstream_set_unstable(u, r->slot);
        r->ask_node = info.target;
        if (r->ask_node != NULL)
            r->ask_node->holds++;
        if (info.target == NULL || r->redirects > 2)
            client_extra(r->client)->retry_at_ms = clock_ms() + redirect_delay(r);
        break;
    case REFUSAL_MOVED_UNSURE:
    case REFUSAL_ASK_UNSURE:
        count_redirect(r);
        r->ask_node = info.target;
        r->ask_node->holds++;
        client_extra(r->client)->unsure_until_ms = clock_ms() + REFUSAL_UNSURE_MS;
        break;
    case REFUSAL_TRYAGAIN:
        upstream_set_unstable(u, r->slot);
        /* Its commands are checked one by one: it goes to and fro by ASK while the slot moves, and
         * only the time counts. */
        if (r->is_tx)
            r->redirects = 0;
        client_extra(r->client)->retry_at_ms = clock_ms() + PROBE_MS;
        break;
    case REFUSAL_NOT_SERVED: /* this slot, or writes: the node is not down for others */
        client_extra(r->client)->retry_at_ms = clock_ms() + PROBE_MS;
        break;
    case REFUSAL_NOSCRIPT: /* redirect_hold makes an EVAL of it */
        break;
    default:
        if (n->outage_ms == 0)
            n->outage_ms = clock_ms();
        n->retry_at_ms = clock_ms() + PROBE_MS;
        break;
    }
    if (why != REFUSAL_NOSCRIPT)
        env->hooks->want_refresh(env, u->index);
    return why;
}

static void answer_with(struct client *c, struct request *r, const char *text, size_t n)
{
    redirect_drop_target(r);
    if (r->is_part) {
        request_store(r, text, n, NULL);
        scatter_part_done(c, r);
    } else if (c->refused > 0) {
        request_store(r, text, n, NULL);
        client_request_stored(c, r);
    } else {
        client_request_done(c, r, text, n, NULL);
    }
}

void redirect_fail(struct client *c, struct request *r, enum error_id id)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "-%s\r\n", error_text(id));

    r->failed = 1;
    answer_with(c, r, text, (size_t)n);
}

void redirect_hold(struct client *c, struct request *r, enum refusal why)
{
    struct session_env *env = c->env;
    const struct config_backend *limits = &env->config->backend;

    if (why != REFUSAL_ASK && !refusal_is_unsure(why))
        redirect_drop_target(r);
    if (why == REFUSAL_NOSCRIPT)
        scripts_repair(env, r);
    if (r->slot == SLOT_NONE) { /* it was for one server only, and not to be waited for */
        redirect_fail(c, r, refusal_error(why));
        return;
    }
    if (why == REFUSAL_LOST) {
        count_redirect(r);
        if (r->redirects > 1)
            client_extra(c)->retry_at_ms = clock_ms() + redirect_delay(r);
    }
    r->state = REQUEST_REFUSED;
    r->refusal = (uint8_t)why;
    if (env->held_bytes + r->be.len > limits->ride_through_bytes) {
        redirect_fail(c, r, ERROR_RIDE_THROUGH_FULL);
        return;
    }
    if (r->redirects > limits->max_redirects) {
        redirect_fail(c, r, ERROR_REDIRECTS);
        return;
    }
    env->held_bytes += r->be.len;
    c->refused++;
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

/* r leaves the state REFUSED. */
static void unhold(struct client *c, struct request *r)
{
    c->env->held_bytes -= r->be.len;
    c->refused--;
}

static void forget_one(struct client *c, struct request *r)
{
    if (r->state != REQUEST_REFUSED)
        return;
    redirect_drop_target(r);
    unhold(c, r);
}

void redirect_forget(struct client *c, struct request *r)
{
    forget_one(c, r);
    if (r->state == REQUEST_PARTS)
        for (struct request *p = r->scatter->parts; p != NULL; p = p->next)
            forget_one(c, p);
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

/* --- trying again --- */

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

static enum verdict try_request(struct client *c, struct request *r, uint64_t now)
{
    uint64_t limit = c->env->config->backend.ride_through_ms;
    struct client_extra *x = c->extra;
    bool asking = r->refusal == REFUSAL_ASK && r->ask_node != NULL;
    struct node *n = asking ? r->ask_node : upstream_route(c->up, r->slot);
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
        if (asking && conn == NULL) /* its owner knows best */
            redirect_drop_target(r);
        return now - x->held_since_ms > limit ? FAILED : WAIT;
    }
    /* One request tries; until it is answered the others stay away. */
    if (n->outage_ms != 0)
        n->retry_at_ms = now + 2 * PROBE_MS;
    unhold(c, r);
    redirect_drop_target(r);
    r->again = counted;
    forward_again(c, r, conn, asking);
    return SENT;
}

static enum verdict fail_request(struct client *c, struct request *r)
{
    enum error_id id = refusal_error((enum refusal)r->refusal);

    unhold(c, r);
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
    unhold(c, r);
    answer_with(c, r, text, len);
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
