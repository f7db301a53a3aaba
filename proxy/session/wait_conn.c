#include "session/wait_conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/redirect.h"
#include "session/wait.h"

/* How long one WAIT lasts that only makes replicas confirm: it doubles up to the maximum. */
#define SLICE_MIN_MS 5
#define SLICE_MAX_MS 100

void wait_conn_end(struct wait_conn *wc)
{
    wc->conn->retired = true; /* it is not lost, it is closed */
    beconn_close(wc->conn, NULL);
}

static void write_info(struct chain *out)
{
    resp_write_array(out, 2);
    resp_write_text(out, "INFO");
    resp_write_text(out, "replication");
}

static void write_wait(struct chain *out, int64_t replicas, uint64_t ms)
{
    char text[24];

    resp_write_array(out, 3);
    resp_write_text(out, "WAIT");
    resp_write_bulk(out, text, resp_format_int(text, replicas));
    resp_write_bulk(out, text, resp_format_int(text, (int64_t)ms));
}

static struct chain *output(struct wait_conn *wc)
{
    if (wc->conn->state != BECONN_READY)
        return &wc->conn->waiting;
    stream_mark_dirty(&wc->conn->stream);
    return &wc->conn->stream.out;
}

/* The time that remains; 0: for ever. */
static uint64_t remaining(const struct wait *op)
{
    uint64_t now = clock_ms();

    if (op->deadline_ms == 0)
        return 0;
    return op->deadline_ms > now ? op->deadline_ms - now : 1;
}

/* Servers that count the offset as the connection's own wait in the first WAIT until they have it;
 * others answer at once. */
static void ask_first(struct wait_conn *wc)
{
    struct chain *out = output(wc);

    wc->next = NEXT_OFFSET;
    wc->slice_ms = SLICE_MIN_MS;
    write_info(out);
    write_wait(out, wc->op->fresh ? 0 : wc->op->wanted, remaining(wc->op));
    write_info(out);
}

/* More replicas than there are: it lasts its time, and makes them confirm what they have. */
static void ask_again(struct wait_conn *wc)
{
    struct chain *out = output(wc);
    uint64_t left = remaining(wc->op);

    wc->next = NEXT_WAIT;
    write_wait(out, INT32_MAX, left == 0 ? wc->slice_ms : MIN(left, wc->slice_ms));
    write_info(out);
    wc->slice_ms = MIN(wc->slice_ms * 2, SLICE_MAX_MS);
}

/* The number behind `label` in [p, end); -1: there is none. */
static int64_t number_after(const char *p, const char *end, const char *label)
{
    const char *at = memmem(p, (size_t)(end - p), label, strlen(label));
    size_t n = 0;
    int64_t v;

    if (at == NULL)
        return -1;
    at += strlen(label);
    while (at + n < end && at[n] >= '0' && at[n] <= '9')
        n++;
    return resp_parse_int(at, n, &v) ? v : -1;
}

/* The replicas of INFO that have confirmed `offset`: "slave0:ip=...,state=online,offset=17,lag=0".
 */
static int64_t count_replicas(const struct bereply *reply, int64_t offset)
{
    const char *p = reply->data, *end = p + reply->len, *eol;
    int64_t count = 0;

    for (; p < end; p = eol + 1) {
        eol = memchr(p, '\n', (size_t)(end - p));
        if (eol == NULL)
            break;
        if (eol - p > 6 && memcmp(p, "slave", 5) == 0 && p[5] >= '0' && p[5] <= '9' &&
            memmem(p, (size_t)(eol - p), ",state=online,", 14) != NULL &&
            number_after(p, eol, ",offset=") >= offset)
            count++;
    }
    return count;
}

static bool is_master(const struct bereply *reply)
{
    return memmem(reply->data, reply->len, "\nrole:master\r", 13) != NULL;
}

static void on_count(struct wait_conn *wc, const struct bereply *reply)
{
    struct wait *op = wc->op;
    int64_t count = count_replicas(reply, wc->offset);

    if (count < op->wanted && (op->deadline_ms == 0 || clock_ms() < op->deadline_ms)) {
        ask_again(wc);
        return;
    }
    wc->op = NULL;
    wc->idle_ms = clock_ms();
    node_lend(wc->conn);
    wait_part_done(op, count);
}

static void on_stray(struct beconn *conn, const struct bereply *reply)
{
    struct wait_conn *wc = conn->user;
    struct wait *op = wc->op;

    if (op == NULL) {
        beconn_close(conn, "a reply that nothing asked for");
    } else if (reply->type == '-' && reply->len > 10 &&
               memcmp(reply->data, "-UNBLOCKED", 10) == 0) {
        wait_conn_end(wc); /* it has become a replica */
    } else if (reply->type == '-') {
        wait_fail(op, reply); /* wc is gone */
    } else if (wc->next == NEXT_WAIT) {
        wc->next = NEXT_COUNT;
    } else if (!is_master(reply)) {
        wait_conn_end(wc);
    } else if (wc->next == NEXT_OFFSET) {
        wc->offset = number_after(reply->data, reply->data + reply->len, "\nmaster_repl_offset:");
        wc->next = NEXT_WAIT;
        if (wc->offset < 0)
            wait_conn_end(wc);
        else if (op->fresh)
            wc->offset = 0;
    } else {
        on_count(wc, reply);
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
    struct wait_conn *wc = conn->user;

    redirect_wake(wc->ws->up->env);
    wait_node_ready(conn->node);
}

/* What this master's replicas have is not known any more. */
static void on_closed(struct beconn *conn)
{
    struct wait_conn *wc = conn->user;
    struct wait *op = wc->op;
    struct session_env *env = wc->ws->up->env;

    if (!conn->retired) {
        METRIC_ADD(&env->metrics, backend_lost, 1);
        env->hooks->want_refresh(env, wc->ws->up->index);
    }
    list_unlink(&wc->link);
    free(wc);
    if (op != NULL)
        wait_part_done(op, 0);
}

const struct beconn_ops wait_conn_ops = {
    .push = on_push,
    .stray = on_stray,
    .ready = on_ready,
    .closed = on_closed,
};

static struct wait_conn *idle_conn(const struct waits *ws, const struct node *n)
{
    for (struct list_node *at = ws->conns.next; at != &ws->conns; at = at->next) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (wc->op == NULL && wc->conn->node == n && !wc->conn->retired)
            return wc;
    }
    return NULL;
}

static struct wait_conn *conn_new(struct waits *ws, struct node *n)
{
    struct beconn *conn = node_open_own(n, &ws->backend, ws->up->base_profile[0]);
    struct wait_conn *wc;

    if (conn == NULL)
        return NULL;
    conn->leased = true;
    n->leased++;
    wc = xcalloc(1, sizeof(*wc));
    wc->ws = ws;
    wc->conn = conn;
    conn->user = wc;
    list_push(&ws->conns, &wc->link);
    return wc;
}

bool wait_conn_ask(struct wait *op, struct node *n)
{
    struct wait_conn *wc = idle_conn(op->ws, n);

    if (wc == NULL && !node_lease_room(n))
        return false;
    if (wc == NULL)
        wc = conn_new(op->ws, n);
    if (wc == NULL) {
        op->least = 0;
        return true;
    }
    node_unlend(wc->conn);
    wc->op = op;
    op->pending++;
    ask_first(wc);
    return true;
}
