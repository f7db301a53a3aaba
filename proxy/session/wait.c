#include "session/wait.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/dispatch_error.h"
#include "session/local.h"
#include "session/wait_conn.h"
#include "session/wait_known.h"

/* An idle connection is kept so long. */
#define KEEP_MS 5000
/* A master that has not answered so long after the time is over counts as 0. */
#define OVERDUE_MS 1000
/* A client whose end of file comes right behind its WAIT still gets an answer that is there. */
#define LAST_ANSWER_MS 100

static struct waits *waits_of(struct upstream *u)
{
    struct waits *ws = u->waits;

    if (ws != NULL)
        return ws;
    ws = u->waits = xcalloc(1, sizeof(*ws));
    ws->up = u;
    ws->backend = u->env->backend;
    ws->backend.ops = &wait_conn_ops;
    list_init(&ws->ops);
    list_init(&ws->conns);
    return ws;
}

/* --- the answer --- */

/* Ends an op without an answer: what it waits on is closed, and the servers' blocks with it. */
static struct client *op_end(struct wait *op)
{
    struct client *c = op->client;
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &op->ws->conns) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (wc->op != op)
            continue;
        wc->op = NULL;
        wait_conn_end(wc);
    }
    if (op->counted)
        METRIC_ADD(&c->env->metrics, blocked, -1);
    c->extra->wait = NULL;
    list_unlink(&op->link);
    free(op);
    return c;
}

static void answer(struct client *c, struct chain *out)
{
    CHECK(c->head != NULL && c->head->state == REQUEST_PENDING);
    client_request_composed(c, c->head, out);
    chain_clear(out);
}

void wait_fail(struct wait *op, const struct bereply *reply)
{
    struct chain out;

    chain_init(&out);
    chain_append(&out, reply->data, reply->len);
    answer(op_end(op), &out);
}

static void write_count(const struct wait *op, const struct wait_count *count, struct chain *out)
{
    if (op->kind == WAIT_FSYNCED) {
        resp_write_array(out, 2);
        resp_write_int(out, count->local);
    }
    resp_write_int(out, count->replicas);
}

/* Composes the answer. */
static void settle(struct wait *op, struct chain *out)
{
    struct wait_count count = wait_known_settle(op);

    write_count(op, &count, out);
    if (wait_wants(op) && wait_is_enough(&count, &op->wanted))
        wait_conns_release(op);
}

static void op_done(struct wait *op)
{
    struct chain out;

    chain_init(&out);
    settle(op, &out);
    answer(op_end(op), &out);
}

void wait_part_done(struct wait *op, struct wait_count count)
{
    wait_count_least(&op->least, &count);
    if (--op->pending == 0)
        op_done(op);
}

/* --- the command --- */

/* The time, argument i. False: an error has been composed. */
static bool read_time(const struct resp_request *r, uint32_t i, struct wait *op, struct chain *out)
{
    int64_t ms;

    if (!resp_arg_int(r, i, &ms)) {
        resp_write_error(out, "ERR timeout is not an integer or out of range");
        return false;
    }
    if (ms < 0) {
        resp_write_error(out, "ERR timeout is negative");
        return false;
    }
    if ((uint64_t)ms > (uint64_t)INT64_MAX - clock_wall_ms()) {
        resp_write_error(out, "ERR timeout is out of range");
        return false;
    }
    op->deadline_ms = ms > 0 ? op->started_ms + (uint64_t)ms : 0;
    return true;
}

static bool read_wait(const struct resp_request *r, struct wait *op, struct chain *out)
{
    if (resp_arg_int(r, 1, &op->wanted.replicas))
        return read_time(r, 2, op, out);
    error_write(out, ERROR_NOT_INTEGER);
    return false;
}

static bool read_waitaof(const struct resp_request *r, struct wait *op, struct chain *out)
{
    struct wait_count *w = &op->wanted;

    if (!resp_arg_int(r, 1, &w->local))
        error_write(out, ERROR_NOT_INTEGER);
    else if (w->local < 0 || w->local > 1)
        resp_write_error(out, "ERR value is out of range, value must between 0 and 1");
    else if (!resp_arg_int(r, 2, &w->replicas) || w->replicas < 0)
        resp_write_error(out, "ERR value is out of range, must be positive");
    else
        return read_time(r, 3, op, out);
    return false;
}

/* Asks the chosen ones. Their number; -1: an error has been composed. */
static int ask_masters(struct wait *op, struct chain *out)
{
    const struct upstream *u = op->ws->up;
    int asked = 0;

    for (size_t i = 0; i < u->map_node_count; i++) {
        struct node *n = u->map_nodes[i];

        if (!u->map->nodes[i].is_master || (n->mark & op->masters) == 0 ||
            (op->every && u->map->nodes[i].slots == 0))
            continue;
        asked++;
        if (!wait_conn_ask(op, n)) {
            error_write(out, ERROR_LEASED);
            return -1;
        }
    }
    return asked;
}

static void wait_begin(struct client *c, const struct command *cmd, struct wait *op,
                       struct chain *out)
{
    struct request *req;
    int asked = ask_masters(op, out);

    if (asked == 0) { /* those of then are masters no more: what others have is all there is */
        op->masters = UINT16_MAX;
        op->every = true;
        asked = ask_masters(op, out);
    }
    if (op->kind == WAIT_FSYNCED && asked > 0) /* else some were not reached, and took no mark */
        c->extra->unmarked &= (uint16_t)~op->masters;
    if (asked == 0)
        error_write(out, ERROR_CLUSTERDOWN);
    else if (asked > 0 && op->pending == 0) /* none can be reached */
        settle(op, out);
    if (out->bytes > 0) {
        (void)op_end(op);
        return;
    }
    req = request_new(c->env, c, cmd);
    req->state = REQUEST_PENDING;
    req->epoch = c->up->epoch;
    client_enqueue(c, req);
    client_hold(c, HOLD_BARRIER);
    op->counted = true;
    METRIC_ADD(&c->env->metrics, blocked, 1);
}

static void wait_command(struct client *c, const struct command *cmd, const struct resp_request *r,
                         enum wait_kind kind, struct chain *out)
{
    struct client_extra *x = client_extra(c);
    struct wait *op = xcalloc(1, sizeof(*op));

    op->client = c;
    op->ws = waits_of(c->up);
    op->kind = kind;
    op->least = (struct wait_count){kind == WAIT_FSYNCED ? INT64_MAX : 0, INT64_MAX};
    op->started_ms = clock_ms();
    if (!(kind == WAIT_FSYNCED ? read_waitaof : read_wait)(r, op, out)) {
        free(op);
        return;
    }
    wait_known_choose(op);
    x->wait = op;
    list_push(&op->ws->ops, &op->link);
    if (x->waited[kind].lost) {
        settle(op, out);
        (void)op_end(op);
        return;
    }
    wait_begin(c, cmd, op, out);
}

HANDLER(WAIT)
{
    wait_command(c, cmd, r, WAIT_RECEIVED, out);
}

HANDLER(WAITAOF)
{
    if (local_is_offered(c, LOCAL_WAITAOF))
        wait_command(c, cmd, r, WAIT_FSYNCED, out);
    else
        (void)dispatch_unknown_command(c, r);
}

/* --- CLIENT UNBLOCK --- */

void wait_unblock(struct client *c, bool error)
{
    struct wait *op = c->extra->wait;
    struct list_node *at, *tmp;
    struct chain out;

    if (error) {
        chain_init(&out);
        resp_write_error(&out, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
        answer(op_end(op), &out);
        return;
    }
    op->deadline_ms = clock_ms();
    LIST_FOREACH (at, tmp, &op->ws->conns) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (wc->op == op)
            wait_conn_hurry(wc);
        if (c->extra->wait != op)
            return; /* it was the last one */
    }
}

void wait_free(struct client *c)
{
    if (c->extra != NULL && c->extra->wait != NULL)
        (void)op_end(c->extra->wait);
}

/* --- masters that are none any more --- */

void wait_writes_lost(struct upstream *u, const struct node *n)
{
    for (struct list_node *at = u->env->clients.next; at != &u->env->clients; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        if (c->up == u)
            wait_known_lost(c, n->mark);
    }
}

void wait_node_ready(struct node *n)
{
    if (LIKELY(!n->restarted))
        return;
    n->restarted = false;
    wait_writes_lost(n->user, n);
}

/* With slots or without: what was written to one that gave them all away still has to reach its
 * replicas. */
static bool is_still_master(const struct upstream *u, const struct node *n)
{
    for (size_t i = 0; i < u->map_node_count; i++)
        if (u->map_nodes[i] == n)
            return u->map->nodes[i].is_master;
    return false;
}

void waits_on_map(struct upstream *u, const struct slotmap *old, struct node **old_nodes)
{
    struct list_node *at, *tmp;

    for (size_t i = 0; i < old->node_count; i++)
        if (old->nodes[i].is_master && !is_still_master(u, old_nodes[i]))
            wait_writes_lost(u, old_nodes[i]);
    if (u->waits == NULL)
        return;
    LIST_FOREACH (at, tmp, &u->waits->conns) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (!is_still_master(u, wc->conn->node))
            wait_conn_end(wc);
    }
}

/* --- time --- */

void waits_tick(struct waits *ws, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &ws->ops) {
        struct wait *op = CONTAINER_OF(at, struct wait, link);

        if (now_ms > op->started_ms + LAST_ANSWER_MS && stream_peer_ended(&op->client->stream)) {
            client_close(op->client);
        } else if (op->deadline_ms != 0 ? now_ms > op->deadline_ms + OVERDUE_MS
                                        : ws->up->env->draining) {
            op->least = (struct wait_count){0};
            op_done(op);
        }
    }
    LIST_FOREACH (at, tmp, &ws->conns) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (wc->op == NULL && now_ms > wc->idle_ms + KEEP_MS)
            wait_conn_end(wc);
    }
}

void waits_free(struct waits **p)
{
    struct waits *ws = *p;
    struct list_node *at, *tmp;

    *p = NULL;
    if (ws == NULL)
        return;
    LIST_FOREACH (at, tmp, &ws->conns)
        wait_conn_end(CONTAINER_OF(at, struct wait_conn, link));
    free(ws);
}
