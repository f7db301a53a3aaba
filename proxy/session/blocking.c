#include "session/blocking.h"

#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "session/dispatch_error.h"
#include "session/forward.h"

/* A client whose end of file comes right behind its command still gets an answer that is there. */
#define LAST_ANSWER_MS 100
#define MAX_SECONDS 1e12
/* Bytes behind a blocking command that are read, to see its client leave, and kept unparsed. */
#define AHEAD_BYTES CLIENT_SCRATCH

struct blocking {
    struct list_node link; /* env->blocked */
    struct session_env *env;
    struct request *r;
    struct beconn *conn;  /* exclusive, while r is SENT */
    uint64_t started_ms;  /* when it was first to be sent */
    uint64_t deadline_ms; /* 0: none */
    uint64_t sent_ms;
    uint64_t astray_ms;   /* since when its connection's node does not own the slot; 0: it does */
    uint32_t timeout_arg; /* position of its time; 0: not known */
    bool seconds;         /* the time is seconds, perhaps with a fraction; else milliseconds */
    bool called_back;     /* its server was asked to end it: it blocks anew elsewhere */
    bool called;          /* or was to be, and could not */
    bool calling;         /* in this tick */
    bool asked;           /* sent to the target of an ASK */
};

uint32_t blocking_option(const struct resp_request *r)
{
    uint32_t found = 0;

    /* In any order; of two times the later counts. Other words are a server's syntax error. */
    for (uint32_t i = 1; i < r->argc; i++) {
        if (resp_arg_is(r, i, "block"))
            found = ++i;
        else if (resp_arg_is(r, i, "count"))
            i++;
        else if (resp_arg_is(r, i, "group"))
            i += 2; /* whatever group and consumer are called */
        else if (!resp_arg_is(r, i, "noack"))
            break;
    }
    return found;
}

static uint32_t timeout_position(const struct command *cmd, const struct resp_request *r)
{
    if (command_is_learnt(cmd))
        return 0;
    if (cmd->keys == KEYS_STREAMS)
        return blocking_option(r);
    if (cmd->keys == KEYS_NUMKEYS) /* BLMPOP, BZMPOP */
        return 1;
    return r->argc - 1;
}

/* The time of a command in milliseconds. False: it blocks for ever, or the server will refuse it.
 */
static bool read_timeout(const struct blocking *b, const struct resp_request *r, uint64_t *ms)
{
    char text[64], *end;
    uint32_t n;
    double s;

    if (b->timeout_arg == 0 || b->timeout_arg >= r->argc)
        return false;
    n = resp_arg_len(r, b->timeout_arg);
    if (n == 0 || n >= sizeof(text))
        return false;
    memcpy(text, resp_arg_ptr(r, b->timeout_arg), n);
    text[n] = '\0';
    s = strtod(text, &end);
    if (*end != '\0' || !isfinite(s) || s <= 0 || s > MAX_SECONDS)
        return false;
    *ms = (uint64_t)ceil(b->seconds ? s * 1000 : s);
    return true;
}

static void blocking_new(struct client *c, struct request *req, const struct command *cmd,
                         const struct resp_request *r)
{
    struct blocking *b = xcalloc(1, sizeof(*b));
    uint64_t ms;

    b->r = req;
    b->seconds = cmd->keys != KEYS_STREAMS;
    b->timeout_arg = timeout_position(cmd, r);
    b->started_ms = clock_ms();
    if (read_timeout(b, r, &ms))
        b->deadline_ms = b->started_ms + ms;
    b->env = c->env;
    list_push(&c->env->blocked, &b->link);
    METRIC_ADD(&c->env->metrics, blocked, 1);
    req->is_blocking = 1;
    req->be.patient = true;
    req->data = b;
}

void blocking_drop(struct request *r)
{
    struct blocking *b = r->data;

    r->is_blocking = 0;
    r->data = NULL;
    list_unlink(&b->link);
    METRIC_ADD(&b->env->metrics, blocked, -1);
    free(b);
}

enum dispatch_result blocking_dispatch(struct client *c, const struct command *cmd,
                                       const struct resp_request *r)
{
    uint16_t slot = SLOT_NONE;
    struct request *req;
    size_t count;

    if (!dispatch_one_slot(c, cmd, r, &slot, &count))
        return dispatch_error(c, cmd, ERROR_CROSSSLOT);
    if (count == 0)
        slot = dispatch_any_slot(c); /* a server words the error */
    if (dispatch_barrier(c))
        return DISPATCH_WAIT;
    req = request_new(c->env, c, cmd);
    req->slot = slot;
    blocking_new(c, req, cmd, r);
    req->be.block = block_new_exact(r->len);
    memcpy(req->be.block->data, r->base, r->len);
    req->be.block->len = req->be.len = r->len;
    client_enqueue(c, req);
    client_hold(c, HOLD_BARRIER);
    forward_stored(c, req);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
    else
        stream_resume(&c->stream); /* to see it leave */
    return DISPATCH_DONE;
}

/* --- sending --- */

static size_t format_rest(const struct blocking *b, uint64_t now, char *out, size_t size)
{
    /* 0 would be for ever: the server shall say that the time is over, in the command's own way. */
    uint64_t ms = b->deadline_ms > now ? b->deadline_ms - now : 1;

    if (!b->seconds)
        return (size_t)snprintf(out, size, "%llu", (unsigned long long)ms);
    return (size_t)snprintf(out, size, "%llu.%03u", (unsigned long long)(ms / 1000),
                            (unsigned)(ms % 1000));
}

void blocking_prepare(struct client *c, struct request *r)
{
    struct blocking *b = r->data;
    uint64_t now = clock_ms();
    uint32_t begin, end;
    struct resp_request req;
    struct block *fresh;
    char text[32], head[64];
    size_t text_len, head_len;

    if (b->deadline_ms == 0 || now <= b->started_ms)
        return;
    request_parse(c->env, r, &req);
    begin = req.argv[b->timeout_arg - 1].off + req.argv[b->timeout_arg - 1].len + 2;
    end = req.argv[b->timeout_arg].off + req.argv[b->timeout_arg].len + 2;
    text_len = format_rest(b, now, text, sizeof(text));
    head_len = (size_t)snprintf(head, sizeof(head), "$%zu\r\n%s\r\n", text_len, text);
    fresh = block_new_exact(begin + head_len + (req.len - end));
    memcpy(fresh->data, req.base, begin);
    memcpy(fresh->data + begin, head, head_len);
    memcpy(fresh->data + begin + head_len, req.base + end, req.len - end);
    fresh->len = (uint32_t)(begin + head_len + (req.len - end));
    block_unref(&r->be.block);
    r->be.block = fresh;
    r->be.off = 0;
    r->be.len = fresh->len;
}

void blocking_sent(struct request *r, struct beconn *conn, bool asking)
{
    struct blocking *b = r->data;

    b->conn = conn;
    b->asked = asking;
    b->sent_ms = clock_ms();
    b->astray_ms = 0;
    b->called_back = b->called = false;
}

void blocking_back(struct request *r)
{
    struct blocking *b = r->data;

    b->conn = NULL;
}

struct beconn *blocking_connection(const struct request *r)
{
    const struct blocking *b = r->data;

    return b->conn;
}

/* --- a client leaves --- */

bool blocking_reads_no_more(const struct client *c)
{
    const struct partial *p = c->partial;

    return p != NULL && p->block->len - p->start >= AHEAD_BYTES;
}

void blocking_abandon(struct request *r)
{
    struct blocking *b = r->data;
    struct beconn *conn = b->conn;

    conn->retired = true; /* it is not lost, it is closed */
    beconn_close(conn, NULL);
}

void blocking_client_ended(struct client *c)
{
    const struct blocking *b = c->head->data;

    if (c->head->state != REQUEST_SENT || clock_ms() - b->sent_ms >= LAST_ANSWER_MS)
        client_close(c);
}

uint32_t blocking_unblock_text(char out[UNBLOCK_TEXT_MAX], int64_t server_id, bool error)
{
    char number[24];
    int digits = snprintf(number, sizeof(number), "%lld", (long long)server_id);

    return (uint32_t)snprintf(out, UNBLOCK_TEXT_MAX,
                              "*4\r\n$6\r\nCLIENT\r\n$7\r\nUNBLOCK\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
                              digits, number, error ? 5 : 7, error ? "ERROR" : "TIMEOUT");
}

void blocking_send_unblock(struct session_env *env, struct beconn *to, int64_t server_id,
                           bool error)
{
    char text[UNBLOCK_TEXT_MAX];
    uint32_t n = blocking_unblock_text(text, server_id, error);
    struct request *r = request_new(env, NULL, command_find_name("client|unblock", 14));

    r->state = REQUEST_SENT;
    memcpy(beconn_reserve(to, n), text, n);
    beconn_commit(to, &r->be, n, 0, 1);
}

/* A master that was replaced, by Sentinels or as its neighbours call it failed, may live and not
 * know it for some ten seconds. It is asked to end the block, with an error that tells that nothing
 * was popped. */
static void call_back(struct session_env *env, struct blocking *b)
{
    struct beconn *to = node_shared(b->conn->node, b->conn->profile);

    if (to == NULL)
        return;
    blocking_send_unblock(env, to, b->conn->server_id, true);
    b->called_back = b->calling = true;
}

/* The connection that took these words was for them only. */
static void end_call(struct blocking *b)
{
    struct beconn *to;

    b->calling = false;
    to = b->conn != NULL ? node_shared_now(b->conn->node, b->conn->profile) : NULL;
    if (to != NULL)
        node_retire(to);
}

bool blocking_is_called_back(const struct request *r)
{
    const struct blocking *b = r->data;

    return b->called_back;
}

/* Another has taken the place of its server, or of its server's address, since it was sent. */
static bool is_left_behind(const struct blocking *b)
{
    return b->conn->retired && b->sent_ms <= b->conn->node->left_ms;
}

static void check_node(struct session_env *env, struct blocking *b, uint64_t now_ms)
{
    const struct upstream *u = b->conn->node->user;
    bool elsewhere = !b->asked && upstream_route(u, b->r->slot) != b->conn->node;
    bool left_behind = is_left_behind(b);
    uint32_t limit = left_behind ? NODE_REPLACED_MS : env->config->backend.request_timeout_ms;

    if (!elsewhere && !left_behind) {
        b->astray_ms = 0;
        b->called = false;
    } else if (elsewhere && !b->called && (left_behind || u->config->kind == UPSTREAM_SENTINEL)) {
        /* Not where its server had another address: who is there now has other clients. */
        b->astray_ms = now_ms;
        b->called = true;
        if (b->conn->server_id != 0 && !blocking_may_have_acted(b->r))
            call_back(env, b);
    } else if (b->astray_ms == 0) {
        b->astray_ms = now_ms;
    } else if (limit != 0 && now_ms - b->astray_ms > limit) {
        /* A server that lives ends the block itself with MOVED, or was asked to. */
        beconn_close(b->conn, "a blocked command's slot has another owner, and no word of it came");
    }
}

/* Its own time is over, and as much more as any server may take to answer. */
static bool is_overdue(const struct session_env *env, const struct blocking *b, uint64_t now_ms)
{
    uint32_t limit = env->config->backend.request_timeout_ms;

    return b->deadline_ms != 0 && limit != 0 && now_ms > b->deadline_ms + limit &&
           now_ms > b->sent_ms + limit;
}

void blocking_tick(struct session_env *env, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &env->blocked) {
        struct blocking *b = CONTAINER_OF(at, struct blocking, link);
        struct client *c = b->r->client;

        if (c->ended || (blocking_reads_no_more(c) && stream_peer_ended(&c->stream)))
            blocking_client_ended(c);
        else if (b->conn != NULL && is_overdue(env, b, now_ms))
            beconn_close(b->conn, "a blocked command's time was over backend.request_timeout ago");
        else if (b->conn != NULL)
            check_node(env, b, now_ms);
    }
    LIST_FOREACH (at, tmp, &env->blocked) {
        struct blocking *b = CONTAINER_OF(at, struct blocking, link);

        if (b->calling)
            end_call(b);
    }
}
