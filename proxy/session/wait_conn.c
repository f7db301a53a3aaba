#include "session/wait_conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/number.h"
#include "resp/reply.h"
#include "resp/write.h"
#include "session/blocking.h"
#include "session/redirect.h"
#include "session/wait.h"
#include "session/wait_known.h"

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

/* A write that changes nothing, which a cluster's server takes as well: no functions are added to
 * those that there are. The payload is FUNCTION DUMP's of a server without any: the format's
 * version (10, Redis 7.0's) and a checksum. */
static void write_mark(struct chain *out)
{
    static const unsigned char none[] = {10, 0, 0x5d, 0x9b, 0x5c, 0x40, 0x0f, 0x7f, 0xa2, 0xda};

    resp_write_array(out, 4);
    resp_write_text(out, "FUNCTION");
    resp_write_text(out, "RESTORE");
    resp_write_bulk(out, none, sizeof(none));
    resp_write_text(out, "APPEND");
}

static void write_waitaof(struct chain *out, const struct wait_count *wanted, uint64_t ms)
{
    char text[24];

    resp_write_array(out, 4);
    resp_write_text(out, "WAITAOF");
    resp_write_bulk(out, text, resp_format_int(text, wanted->local));
    resp_write_bulk(out, text, resp_format_int(text, wanted->replicas));
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
    write_wait(out, wc->op->fresh ? 0 : wc->op->wanted.replicas, remaining(wc->op));
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

/* True when the client wrote there since the connection's mark, or that is another's. */
static bool needs_mark(const struct wait_conn *wc)
{
    const struct client *c = wc->op->client;

    return !wc->op->fresh &&
           (wc->owner != c->id || (c->extra->unmarked & wc->conn->node->mark) != 0);
}

static void ask_marked(struct wait_conn *wc)
{
    static const struct wait_count nothing = {0};
    const struct wait *op = wc->op;
    bool knows = op->marked_anew && wait_known_already(op);

    wc->next = NEXT_FSYNCED;
    write_waitaof(output(wc), knows ? &nothing : &op->wanted, remaining(op));
}

/* WAITAOF leaves when the mark is answered: a replica that finds both in one piece has not written
 * the mark when it is asked about it, and tells by itself once a second. */
static void ask_fsynced(struct wait_conn *wc)
{
    if (!needs_mark(wc)) {
        ask_marked(wc);
        return;
    }
    wc->next = NEXT_MARK;
    write_mark(output(wc));
    wc->marked = wc->op->marked_anew = true;
    wc->owner = wc->op->client->id;
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

static bool says_master(const struct bereply *reply)
{
    return memmem(reply->data, reply->len, "\nrole:master\r", 13) != NULL;
}

/* It has answered. */
static void done(struct wait_conn *wc, struct wait_count count)
{
    struct wait *op = wc->op;

    wc->op = NULL;
    wc->idle_ms = clock_ms();
    if (wc->spent)
        wait_conn_end(wc);
    else
        node_lend(wc->conn);
    wait_part_done(op, count);
}

/* A master's PINGs count in its offset, and its replicas may confirm them as late as the next one:
 * who wants none, and is only told how many have it, has them asked once. */
static bool is_hasty(const struct wait_conn *wc, const struct bereply *reply, int64_t count)
{
    return wc->op->wanted.replicas <= 0 && wc->slice_ms == SLICE_MIN_MS &&
           count < count_replicas(reply, 0);
}

static void on_count(struct wait_conn *wc, const struct bereply *reply)
{
    const struct wait *op = wc->op;
    int64_t count = count_replicas(reply, wc->offset);
    bool is_time = op->deadline_ms == 0 || clock_ms() < op->deadline_ms;

    if (is_time && (count < op->wanted.replicas || is_hasty(wc, reply, count)))
        ask_again(wc);
    else
        done(wc, (struct wait_count){0, count});
}

static void on_offset(struct wait_conn *wc, const struct bereply *reply)
{
    wc->offset = number_after(reply->data, reply->data + reply->len, "\nmaster_repl_offset:");
    wc->next = NEXT_WAIT;
    if (wc->offset < 0)
        wait_conn_end(wc);
    else if (wc->op->fresh)
        wc->offset = 0;
}

static void on_fsynced(struct wait_conn *wc, const struct bereply *reply)
{
    const char *p = reply->data, *end = p + reply->len;
    struct resp_item head, local, replicas;
    struct wait_count count;

    if (resp_next(&p, end, &head) && head.type == '*' && head.count == 2 &&
        resp_next(&p, end, &local) && resp_parse_int(local.data, local.len, &count.local) &&
        resp_next(&p, end, &replicas) &&
        resp_parse_int(replicas.data, replicas.len, &count.replicas))
        done(wc, count);
    else
        wait_conn_end(wc);
}

/* It has become a replica. */
static bool is_demoted(const struct bereply *reply)
{
    static const char *const words[] = {"-UNBLOCKED ", "-READONLY ",
                                        "-ERR WAITAOF cannot be used with replica"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (reply->len > strlen(words[i]) && memcmp(reply->data, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

static void on_stray(struct beconn *conn, const struct bereply *reply)
{
    struct wait_conn *wc = conn->user;

    if (wc->op == NULL)
        beconn_close(conn, "a reply that nothing asked for");
    else if (is_demoted(reply))
        wait_conn_end(wc);
    else if (reply->type == '-')
        wait_fail(wc->op, reply); /* wc is gone */
    else if (wc->next == NEXT_WAIT)
        wc->next = NEXT_COUNT;
    else if (wc->next == NEXT_MARK)
        ask_marked(wc);
    else if (wc->next == NEXT_FSYNCED)
        on_fsynced(wc, reply);
    else if (!says_master(reply))
        wait_conn_end(wc);
    else if (wc->next == NEXT_OFFSET)
        on_offset(wc, reply);
    else
        on_count(wc, reply);
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
        wait_part_done(op, (struct wait_count){0});
}

const struct beconn_ops wait_conn_ops = {
    .push = on_push,
    .stray = on_stray,
    .ready = on_ready,
    .closed = on_closed,
};

/* Whom WAITAOF asks for a client that wrote nothing has to have written nothing either. */
static bool suits(const struct wait_conn *wc, const struct wait *op, const struct node *n)
{
    if (wc->op != NULL || wc->conn->node != n || wc->conn->retired)
        return false;
    if (op->kind == WAIT_FSYNCED && op->fresh)
        return !wc->marked;
    return wc->owner == 0 || (wc->owner == op->client->id && op->kind == WAIT_FSYNCED);
}

static struct wait_conn *idle_conn(const struct wait *op, const struct node *n)
{
    const struct waits *ws = op->ws;
    struct wait_conn *found = NULL;

    for (struct list_node *at = ws->conns.next; at != &ws->conns; at = at->next) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (!suits(wc, op, n))
            continue;
        found = wc;
        if (wc->owner != 0)
            break; /* its own */
    }
    return found;
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
    struct wait_conn *wc = idle_conn(op, n);

    if (wc == NULL && !node_lease_room(n))
        return false;
    if (wc == NULL)
        wc = conn_new(op->ws, n);
    if (wc == NULL) {
        op->least = (struct wait_count){0};
        return true;
    }
    node_unlend(wc->conn);
    wc->op = op;
    op->pending++;
    if (op->kind == WAIT_FSYNCED)
        ask_fsynced(wc);
    else
        ask_first(wc);
    return true;
}

void wait_conns_release(struct wait *op)
{
    for (struct list_node *at = op->ws->conns.next; at != &op->ws->conns; at = at->next) {
        struct wait_conn *wc = CONTAINER_OF(at, struct wait_conn, link);

        if (wc->owner == op->client->id)
            wc->owner = 0;
    }
}

void wait_conn_hurry(struct wait_conn *wc)
{
    const struct upstream *u = wc->ws->up;
    struct beconn *to = wc->conn->state == BECONN_READY && wc->conn->server_id != 0
                            ? node_shared(wc->conn->node, u->base_profile[0])
                            : NULL;

    wc->spent = true;
    if (to == NULL)
        wait_conn_end(wc);
    else
        blocking_send_unblock(u->env, to, wc->conn->server_id, false);
}
