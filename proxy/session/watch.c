#include "session/watch.h"

#include "base/alloc.h"
#include "resp/write.h"
#include "session/dispatch.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/local.h"
#include "session/redirect.h"
#include "session/transaction.h"

static const char unwatch_command[] = "*1\r\n$7\r\nUNWATCH\r\n";
#define UNWATCH_LEN (sizeof(unwatch_command) - 1)

struct watch {
    struct beconn *conn; /* NULL: lost, EXEC will answer nil; its user is this struct */
    uint16_t slot;
    bool confirmed; /* a WATCH was answered with OK */
    bool asking;    /* by the target of an ASK */
    int home;       /* the profile that conn was leased from, with a reference; -1: conn has it */
};

static void watch_free(struct client *c)
{
    struct watch *w = c->extra->watch;

    c->extra->watch = NULL;
    if (w->conn != NULL)
        w->conn->user = NULL;
    if (w->home >= 0)
        profile_unref(&c->env->profiles, (uint16_t)w->home);
    free(w);
}

uint16_t watch_slot(const struct client *c)
{
    return watch_is_on(c) ? c->extra->watch->slot : SLOT_NONE;
}

/* The server forgets what it watches (unless it has: clean), and conn is as it was when it was
 * leased. The last reply, for which nobody waits, gives conn back (session/forward_reply.c). */
static void clean_up(struct client *c, struct beconn *conn, bool clean, int home)
{
    char text[UNWATCH_LEN + HANDSHAKE_CHANGE_MAX];
    size_t n = clean ? 0 : UNWATCH_LEN;
    uint16_t replies = 0;
    struct request *r;

    memcpy(text, unwatch_command, n);
    if (home >= 0)
        n += handshake_change(conn, (uint16_t)home, text + n, &replies);
    if (n == 0) {
        node_return(&conn);
        return;
    }
    r = request_new(c->env, NULL, command_find_name("unwatch", 7));
    r->is_pinned = 1;
    memcpy(beconn_reserve(conn, n), text, n);
    r->state = REQUEST_SENT;
    beconn_commit(conn, &r->be, n, 0, (uint16_t)(replies + !clean));
}

/* The connection is not the client's any more. */
static void let_go(struct client *c, bool clean)
{
    struct watch *w = c->extra->watch;
    struct beconn *conn = w->conn;

    if (conn == NULL)
        return;
    conn->user = NULL;
    w->conn = NULL;
    if (conn->head == NULL && conn->state == BECONN_READY && !conn->retired)
        clean_up(c, conn, clean, w->home);
    else
        node_return(&conn); /* closed when its last reply has come, if it still owes one */
}

static void end(struct client *c, bool clean)
{
    if (!watch_is_on(c))
        return;
    let_go(c, clean);
    watch_free(c);
}

void watch_release(struct client *c)
{
    end(c, false);
}

void watch_conn_closed(struct beconn *conn)
{
    struct watch *w = conn->user;

    conn->user = NULL;
    w->conn = NULL;
}

void watch_conflict(const struct client *c, struct chain *out)
{
    resp_write_null_array(out, c->proto);
}

/* --- WATCH --- */

/* AUTH came between: the connection is another user's. */
static bool is_anothers(const struct client *c, const struct beconn *conn)
{
    const struct profile *all = c->env->profiles.profiles;
    const struct profile *its = &all[conn->profile], *own = &all[c->profile];

    return !profile_same_user(its, own) || its->readonly != own->readonly;
}

/* The slot is or will be served elsewhere, or the connection cannot be the client's any more. */
static bool is_stale(const struct client *c, const struct watch *w)
{
    return w->conn == NULL || is_anothers(c, w->conn) || w->conn->node->held ||
           (!w->asking && upstream_route(c->up, w->slot) != w->conn->node);
}

/* One that was refused MULTI a while ago would be refused it for as long as it is in use: only a
 * new one tells. */
static struct beconn *lease(struct client *c, struct node *n)
{
    struct beconn *conn = node_lease(n, c->profile);

    while (conn != NULL && transaction_refusal_is_old(conn)) {
        node_retire(conn);
        conn = node_lease(n, c->profile);
    }
    return conn;
}

struct beconn *watch_lease(struct client *c, const struct request *r, struct node *n)
{
    struct watch *w = c->extra->watch;
    struct beconn *conn;

    if (w != NULL && (w->conn != NULL || w->confirmed))
        return w->conn;
    conn = lease(c, n);
    if (conn == NULL)
        return NULL;
    if (w == NULL) {
        w = c->extra->watch = xcalloc(1, sizeof(*w));
        w->home = -1;
    }
    w->conn = conn;
    w->slot = r->slot;
    conn->user = w;
    return conn;
}

void watch_sent(struct client *c, bool asking)
{
    c->extra->watch->asking = asking;
}

bool watch_follows(struct client *c)
{
    struct watch *w = c->extra->watch;
    char text[HANDSHAKE_CHANGE_MAX];
    struct request *r;
    uint16_t replies;
    size_t n;

    if (is_stale(c, w) || w->conn->profile == c->profile)
        return false;
    if (w->home < 0) {
        w->home = w->conn->profile;
        profile_ref(&c->env->profiles, w->conn->profile);
    }
    n = handshake_change(w->conn, c->profile, text, &replies);
    if (n == 0)
        return false;
    r = request_new(c->env, c, command_find_name("unwatch", 7));
    r->slot = w->slot;
    r->is_pinned = 1;
    client_enqueue(c, r);
    r->silent = 1;
    client_hold(c, HOLD_BARRIER);
    forward_to(c, r, w->conn, text, (uint32_t)n, replies);
    return true;
}

static void send_watch(struct client *c, const struct command *cmd, const struct resp_request *r,
                       uint16_t slot)
{
    struct request *req = request_new(c->env, c, cmd);

    if (watch_is_on(c))
        (void)watch_follows(c); /* WATCH goes behind */
    req->slot = slot;
    req->is_pinned = 1;
    req->be.block = block_new_exact(r->len);
    memcpy(req->be.block->data, r->base, r->len);
    req->be.block->len = req->be.len = r->len;
    client_enqueue(c, req);
    client_hold(c, HOLD_BARRIER);
    if (watch_is_on(c))
        forward_again(c, req, c->extra->watch->conn, c->extra->watch->asking);
    else
        forward_stored(c, req);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}

void local_WATCH(struct client *c, const struct command *cmd, const struct resp_request *r,
                 struct chain *out)
{
    struct watch *w = client_extra(c)->watch;
    uint16_t slot = SLOT_NONE;
    size_t count;

    if (!dispatch_one_slot(c, cmd, r, &slot, &count) ||
        (w != NULL && w->slot != slot && c->up->map->sharded)) {
        error_write(out, ERROR_CROSSSLOT);
        return;
    }
    if (w != NULL && is_stale(c, w)) {
        let_go(c, false);
        resp_write_simple(out, "OK"); /* EXEC will answer nil whatever happens to these keys */
        return;
    }
    send_watch(c, cmd, r, slot);
}

void local_UNWATCH(struct client *c, const struct command *cmd, const struct resp_request *r,
                   struct chain *out)
{
    (void)cmd;
    (void)r;
    watch_release(c);
    resp_write_simple(out, "OK");
}

/* --- EXEC, and what comes back --- */

struct beconn *watch_connection(struct client *c, bool *asking)
{
    struct watch *w = c->extra->watch;

    if (is_stale(c, w)) {
        end(c, false);
        return NULL;
    }
    *asking = w->asking;
    return w->conn;
}

static void answer_text(struct client *c, struct request *r, const char *text)
{
    struct bereply reply = {.data = text, .len = strlen(text), .type = text[0]};

    redirect_drop_target(r);
    forward_answered(c, r, &reply);
}

static void answer_conflict(struct client *c, struct request *r)
{
    answer_text(c, r, c->proto == 3 ? "_\r\n" : "*-1\r\n");
}

static void exec_replied(struct client *c, struct request *r, const struct bereply *reply,
                         enum refusal why)
{
    /* After an array or nil the server watches nothing; after an error it is asked not to. */
    end(c, reply->type == '*' || reply->type == '_');
    if (why != REFUSAL_NONE)
        answer_conflict(c, r);
    else
        forward_answered(c, r, reply);
}

/* Where the connection could not follow the client, EXEC answers nil. */
static void followed(struct client *c, struct request *r, const struct bereply *reply)
{
    struct beconn *conn = c->extra->watch->conn;

    if (conn != NULL && reply->type == '-')
        conn->retired = true;
    if (conn != NULL && conn->retired)
        let_go(c, false);
    forward_answered(c, r, reply);
}

void watch_replied(struct client *c, struct request *r, const struct bereply *reply,
                   enum refusal why)
{
    struct watch *w = c->extra->watch;

    if (r->is_tx) {
        exec_replied(c, r, reply, why);
    } else if (r->cmd->local != LOCAL_WATCH) {
        followed(c, r, reply);
    } else if (why == REFUSAL_NONE) {
        if (reply->type == '+')
            w->confirmed = true;
        else if (!w->confirmed)
            end(c, false);
        forward_answered(c, r, reply);
    } else if (w->confirmed) {
        let_go(c, false); /* the slot goes away from under the first WATCH */
        answer_text(c, r, "+OK\r\n");
    } else {
        end(c, false);
        redirect_hold(c, r, why);
    }
}

void watch_request_lost(struct client *c, struct request *r, enum bereq_loss loss)
{
    struct watch *w = c->extra->watch;
    bool confirmed = w->confirmed;

    if (r->is_tx) {
        watch_free(c);
        if (loss == BEREQ_UNSENT || transaction_is_refused(r))
            answer_conflict(c, r);
        else
            forward_unknown(c, r);
    } else if (confirmed) {
        answer_text(c, r, "+OK\r\n"); /* EXEC will answer nil */
    } else {
        watch_free(c);
        redirect_hold(c, r, loss == BEREQ_UNSENT ? REFUSAL_NO_CONNECTION : REFUSAL_LOST);
    }
}
