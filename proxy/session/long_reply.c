#include "session/long_reply.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "session/subscriber.h"

/* Output that a client may have unread before the connection of its long reply stops being read. */
#define AHEAD_BYTES (256 * 1024)

static struct long_reply *begin(struct client *c, struct request *r, struct beconn *conn)
{
    struct long_reply *l = xcalloc(1, sizeof(*l));

    l->client = c;
    l->conn = conn;
    list_push(&c->env->long_replies, &l->link);
    r->state = REQUEST_STREAMING;
    r->data = l;
    return l;
}

static void end(struct long_reply *l)
{
    struct client_extra *x = l->client->extra;

    if (x != NULL && x->long_reply == l)
        x->long_reply = NULL;
    chain_clear(&l->stash);
    list_unlink(&l->link);
    free(l);
}

/* Others get a fresh connection, and those that have sent nothing yet move to it; this one finishes
 * what was sent on it and closes. */
static void detach(struct session_env *env, struct beconn *conn)
{
    struct upstream *u = conn->node->user;

    node_retire(conn);
    upstream_route_changed(u, conn->node);
    beconn_return_unsent(conn);
    METRIC_ADD(&env->metrics, detached, 1);
    METRIC_ADD(&env->metrics, behind_large, conn->inflight - 1);
}

static void stop_reading(struct long_reply *l)
{
    struct beconn *conn = l->conn;

    if (l->buffered || l->paused)
        return;
    if (!conn->leased && !conn->retired)
        detach(l->client->env, conn);
    l->paused = true;
    if (l->slow_ms == 0)
        l->slow_ms = clock_ms();
    beconn_pause(conn);
}

static void read_on(struct long_reply *l)
{
    if (!l->paused || l->conn == NULL)
        return;
    l->paused = false;
    beconn_resume(l->conn);
}

/* A piece that fills little of its block is copied: what is counted is then what is held. */
static void append_piece(struct chain *to, struct block *b, uint32_t off, uint32_t len)
{
    if (len < b->cap / 4)
        chain_append(to, b->data + off, len);
    else
        chain_append_ref(to, b, off, len);
}

static void piece_at_head(struct client *c, struct long_reply *l, struct block *b, uint32_t off,
                          uint32_t len)
{
    append_piece(&c->stream.out, b, off, len);
    if (l->conn != NULL && c->stream.blocked && c->stream.out.bytes > AHEAD_BYTES) {
        client_extra(c)->long_reply = l;
        c->stream.notify_drained = true;
        stop_reading(l);
    }
    client_output_added(c);
}

void long_reply_piece(struct client *c, struct request *r, struct beconn *conn, struct block *b,
                      uint32_t off, uint32_t len, bool last)
{
    struct long_reply *l = r->state == REQUEST_STREAMING ? r->data : begin(c, r, conn);

    if (last)
        l->conn = NULL;
    if (c->head == r) {
        piece_at_head(c, l, b, off, len);
        if (last && stream_is_open(&c->stream))
            client_drain(c);
        return;
    }
    append_piece(&l->stash, b, off, len);
    if (!last && l->stash.bytes > AHEAD_BYTES)
        stop_reading(l);
    if (l->stash.bytes > c->env->config->client.output_max)
        client_close(c);
}

bool long_reply_at_head(struct client *c, struct request *r)
{
    struct long_reply *l = r->data;

    chain_splice(&c->stream.out, &l->stash);
    if (l->conn != NULL) {
        read_on(l);
        return false;
    }
    end(l);
    r->data = NULL;
    subscriber_after_long_reply(c);
    return true;
}

void long_reply_go_on(struct client *c)
{
    struct long_reply *l = c->extra->long_reply;

    c->extra->long_reply = NULL;
    read_on(l);
}

bool long_reply_drop(struct request *r)
{
    struct long_reply *l = r->data;
    bool with_connection = l->conn != NULL;

    read_on(l);
    end(l);
    r->data = NULL;
    return with_connection;
}

void long_reply_tick(struct session_env *env, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &env->long_replies) {
        struct long_reply *l = CONTAINER_OF(at, struct long_reply, link);

        if (l->slow_ms == 0 || l->buffered || l->conn == NULL || l->conn->inflight < 2 ||
            now_ms - l->slow_ms < env->config->backend.lane_stall_ms)
            continue;
        l->buffered = true;
        read_on(l);
    }
}
