#include "session/monitor.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "resp/write.h"
#include "session/dispatch_error.h"
#include "session/local.h"
#include "session/redirect.h"
#include "session/subscriber.h"

/* Longer lines are not copied to each client. */
#define SHARE_MIN 4096

struct monitor_hub {
    struct upstream *up;
    struct backend_env backend; /* the worker's, with ops of our own */
    struct list_node waiting;   /* struct monitor.link: MONITOR is not answered yet */
    struct list_node live;
    struct list_node conns; /* struct monitor_conn.link */
    struct loop_task task;  /* answers those who wait; closes what nobody needs any more */
};

/* One client. */
struct monitor {
    struct list_node link;
    struct client *client;
    struct monitor_hub *hub;
    uint64_t since_ms;
};

/* The connection to one master. */
struct monitor_conn {
    struct list_node link;
    struct monitor_hub *hub;
    struct beconn *conn;
    uint64_t asked_ms;
    bool live; /* MONITOR is confirmed */
};

static void run_task(struct loop_task *t);
static const struct beconn_ops monitor_ops;

static struct monitor_hub *hub_get(struct upstream *u)
{
    struct monitor_hub *h = u->monitors;

    if (h != NULL)
        return h;
    h = u->monitors = xcalloc(1, sizeof(*h));
    h->up = u;
    h->backend = u->env->backend;
    h->backend.ops = &monitor_ops;
    list_init(&h->waiting);
    list_init(&h->live);
    list_init(&h->conns);
    list_init(&h->task.link);
    h->task.run = run_task;
    return h;
}

static bool in_use(const struct monitor_hub *h)
{
    return !list_empty(&h->waiting) || !list_empty(&h->live);
}

/* --- connections --- */

static bool has_conn(const struct monitor_hub *h, const struct node *n)
{
    for (const struct list_node *at = h->conns.next; at != &h->conns; at = at->next) {
        const struct beconn *conn = CONTAINER_OF(at, const struct monitor_conn, link)->conn;

        if (conn->node == n && !conn->retired)
            return true;
    }
    return false;
}

static void conn_new(struct monitor_hub *h, struct node *n)
{
    struct beconn *conn = node_open_own(n, &h->backend, h->up->base_profile[0]);
    struct monitor_conn *mc;

    if (conn == NULL)
        return; /* the next tick tries again */
    mc = xcalloc(1, sizeof(*mc));
    mc->hub = h;
    mc->conn = conn;
    mc->asked_ms = clock_ms();
    conn->user = mc;
    list_push(&h->conns, &mc->link);
    resp_write_array(&conn->waiting, 1);
    resp_write_text(&conn->waiting, "MONITOR");
}

static void connect_missing(struct monitor_hub *h)
{
    const struct upstream *u = h->up;

    for (size_t i = 0; in_use(h) && i < u->map_node_count; i++)
        if (slotmap_is_owner(u->map, i) && !has_conn(h, u->map_nodes[i]))
            conn_new(h, u->map_nodes[i]);
}

/* Not a lost connection: nobody wants it any more. */
static void conn_end(struct monitor_conn *mc)
{
    mc->conn->retired = true;
    beconn_close(mc->conn, NULL);
}

static void conns_end(struct monitor_hub *h)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &h->conns)
        conn_end(CONTAINER_OF(at, struct monitor_conn, link));
}

/* --- clients --- */

void monitor_leave(struct client *c)
{
    struct monitor *m = c->extra != NULL ? c->extra->monitor : NULL;
    struct monitor_hub *h;

    if (m == NULL)
        return;
    h = m->hub;
    c->extra->monitor = NULL;
    c->monitors = false;
    list_unlink(&m->link);
    free(m);
    /* Not at once: the client may leave because a connection breaks, in the midst of a walk over
     * its node's connections, of which ours is one. */
    if (!in_use(h))
        loop_add_task(h->up->env->loop, &h->task);
}

static void answer(struct client *c, struct chain *out)
{
    CHECK(c->head != NULL && c->head->state == REQUEST_PENDING);
    client_request_composed(c, c->head, out);
    chain_clear(out);
}

static void refuse(struct client *c, const char *line, size_t len)
{
    struct chain out;

    chain_init(&out);
    chain_append(&out, line, len);
    monitor_leave(c);
    answer(c, &out);
}

static void refuse_all(struct monitor_hub *h, const char *line, size_t len)
{
    while (!list_empty(&h->waiting))
        refuse(CONTAINER_OF(h->waiting.next, struct monitor, link)->client, line, len);
}

static void accept_all(struct monitor_hub *h)
{
    struct list_node *at;
    struct chain out;

    while ((at = list_pop(&h->waiting)) != NULL) {
        list_push(&h->live, at);
        chain_init(&out);
        resp_write_simple(&out, "OK");
        answer(CONTAINER_OF(at, struct monitor, link)->client, &out);
    }
}

/* True when no master has still to answer, and one has. */
static bool is_settled(const struct monitor_hub *h)
{
    for (const struct list_node *at = h->conns.next; at != &h->conns; at = at->next)
        if (!CONTAINER_OF(at, const struct monitor_conn, link)->live)
            return false;
    return !list_empty(&h->conns);
}

static void run_task(struct loop_task *t)
{
    struct monitor_hub *h = CONTAINER_OF(t, struct monitor_hub, task);

    if (!in_use(h))
        conns_end(h);
    else if (is_settled(h))
        accept_all(h);
}

void local_MONITOR(struct client *c, const struct command *cmd, const struct resp_request *r,
                   struct chain *out)
{
    struct monitor *m;
    struct request *req;

    (void)r;
    (void)out;
    if (c->monitors)
        return; /* as in Redis: not even an answer */
    req = request_new(c->env, c, cmd);
    req->state = REQUEST_PENDING;
    req->epoch = c->up->epoch;
    client_enqueue(c, req);
    client_hold(c, HOLD_BARRIER);
    m = client_extra(c)->monitor = xcalloc(1, sizeof(*m));
    m->client = c;
    m->hub = hub_get(c->up);
    m->since_ms = clock_ms();
    c->monitors = true;
    list_push(&m->hub->waiting, &m->link);
    connect_missing(m->hub);
    loop_add_task(c->env->loop, &m->hub->task);
}

bool monitor_refuses(struct client *c, const struct command *cmd)
{
    if ((cmd->flags & (CMD_READONLY | CMD_WRITE | CMD_MAY_REPLICATE)) == 0)
        return false;
    dispatch_error_text(c, cmd, "ERR Replica can't interact with the keyspace");
    return true;
}

/* --- lines --- */

static void deliver(struct monitor_hub *h, const char *data, size_t len)
{
    struct block *shared = NULL;

    for (struct list_node *at = h->live.next; at != &h->live; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct monitor, link)->client;
        struct chain *out = c->reply_mode != REPLY_OFF ? subscriber_output(c) : NULL;

        if (out == NULL)
            continue;
        if (len < SHARE_MIN) {
            chain_append(out, data, len);
        } else {
            if (shared == NULL) {
                shared = block_new_exact(len);
                memcpy(shared->data, data, len);
                shared->len = (uint32_t)len;
            }
            chain_append_ref(out, shared, 0, (uint32_t)len);
        }
        subscriber_output_added(c, out);
    }
    block_unref(&shared);
}

/* A server refuses MONITOR. Those who have it already are closed when it says that they may not:
 * lines of one master would be missing, and nothing would tell. */
static void refused(struct monitor_hub *h, const struct bereply *reply)
{
    struct list_node *at;

    refuse_all(h, reply->data, reply->len);
    if (reply->len < 7 || memcmp(reply->data, "-NOPERM", 7) != 0)
        return;
    for (at = h->live.next; at != &h->live; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct monitor, link)->client;

        if (c->doomed)
            continue;
        log_warn("client %llu closed: a server refuses MONITOR: %.*s", (unsigned long long)c->id,
                 (int)MIN(reply->len - 3, (size_t)200), reply->data + 1);
        client_doom(c);
    }
}

static void on_stray(struct beconn *conn, const struct bereply *reply)
{
    struct monitor_conn *mc = conn->user;

    if (mc->live && reply->type == '+') {
        deliver(mc->hub, reply->data, reply->len);
    } else if (mc->live) {
        beconn_close(conn, "something else than a line of MONITOR");
    } else if (reply->type == '+') {
        mc->live = true;
        loop_add_task(mc->hub->up->env->loop, &mc->hub->task);
    } else {
        struct monitor_hub *h = mc->hub;

        conn_end(mc); /* mc is gone */
        refused(h, reply);
    }
}

static void on_push(struct beconn *conn, const char *data, size_t len)
{
    (void)conn;
    (void)data;
    (void)len; /* these connections speak RESP2 */
}

static void on_ready(struct beconn *conn)
{
    struct monitor_conn *mc = conn->user;

    mc->asked_ms = clock_ms();
    redirect_wake(mc->hub->up->env);
}

static void on_closed(struct beconn *conn)
{
    struct monitor_conn *mc = conn->user;
    struct monitor_hub *h = mc->hub;
    struct session_env *env = h->up->env;

    list_unlink(&mc->link);
    free(mc);
    if (!in_use(h))
        return;
    if (!conn->retired) {
        METRIC_ADD(&env->metrics, backend_lost, 1);
        env->hooks->want_refresh(env, h->up->index);
    }
    loop_add_task(env->loop, &h->task);
}

static const struct beconn_ops monitor_ops = {
    .push = on_push,
    .stray = on_stray,
    .ready = on_ready,
    .closed = on_closed,
};

/* --- time --- */

void monitor_hub_on_map(struct monitor_hub *h)
{
    const struct upstream *u = h->up;
    struct list_node *at, *tmp;

    connect_missing(h);
    LIST_FOREACH (at, tmp, &h->conns) {
        struct monitor_conn *mc = CONTAINER_OF(at, struct monitor_conn, link);
        bool wanted = false;

        for (size_t i = 0; i < u->map_node_count; i++)
            wanted = wanted || (u->map_nodes[i] == mc->conn->node && slotmap_is_owner(u->map, i));
        if (!wanted)
            conn_end(mc);
    }
}

static void close_silent(struct monitor_hub *h, uint64_t now_ms)
{
    uint32_t limit = h->backend.request_timeout_ms;
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &h->conns) {
        struct monitor_conn *mc = CONTAINER_OF(at, struct monitor_conn, link);

        if (mc->live || mc->conn->state != BECONN_READY || limit == 0 ||
            now_ms <= mc->asked_ms + limit)
            continue;
        node_failed(mc->conn->node);
        beconn_close(mc->conn, "no answer to MONITOR within backend.request_timeout");
    }
}

void monitor_hub_tick(struct monitor_hub *h, uint64_t now_ms)
{
    uint32_t limit = h->up->env->config->backend.ride_through_ms;
    const struct monitor *first;
    char text[128];

    if (!in_use(h))
        return;
    connect_missing(h);
    close_silent(h, now_ms);
    while (!list_empty(&h->waiting)) {
        first = CONTAINER_OF(h->waiting.next, const struct monitor, link);
        if (now_ms <= first->since_ms + limit)
            return;
        refuse(first->client, text,
               (size_t)snprintf(text, sizeof(text), "-%s\r\n", error_text(ERROR_CLUSTERDOWN)));
    }
}

void monitor_hub_free(struct monitor_hub **p)
{
    struct monitor_hub *h = *p;

    *p = NULL;
    if (h == NULL)
        return;
    conns_end(h);
    list_unlink(&h->task.link);
    free(h);
}
