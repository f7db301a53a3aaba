#include "session/forward.h"

#include "base/alloc.h"
#include "session/blocking.h"
#include "session/error.h"
#include "session/redirect.h"
#include "session/scatter.h"
#include "session/transaction.h"
#include "session/watch.h"

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

/* Bytes that it puts on a connection; the scripts before a block are not its own. */
static uint32_t bytes_of(const struct request *r)
{
    const struct block *loads = r->is_tx ? transaction_loads(r) : NULL;

    return r->be.len + (loads != NULL ? loads->len : 0);
}

struct beconn *forward_connection_of(struct client *c, const struct request *r, struct node *n)
{
    if (r->is_pinned)
        return watch_lease(c, r, n);
    if (r->is_blocking)
        return node_lease(n, c->profile);
    return r->is_tx && !multi_is_known(c, n) ? NULL : forward_connection(c, n, bytes_of(r));
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
    if (UNLIKELY(conn == NULL || forward_is_full(c, conn))) {
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
                uint32_t len, uint16_t replies)
{
    memcpy(beconn_reserve(conn, len), bytes, len);
    beconn_commit(conn, &r->be, len, 0, replies);
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
    if (conn == NULL || forward_is_full(c, conn)) {
        bool leases = r->is_blocking || r->is_pinned || is_large(c, bytes_of(r));

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
