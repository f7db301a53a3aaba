#include "session/transaction.h"

#include "base/alloc.h"
#include "resp/write.h"
#include "session/acl.h"
#include "session/client_pause.h"
#include "session/dispatch_error.h"
#include "session/forward.h"
#include "session/monitor.h"
#include "session/scripts.h"
#include "session/transaction_block.h"
#include "session/watch.h"

static const char multi_command[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec_command[] = "*1\r\n$4\r\nEXEC\r\n";
#define MULTI_LEN (sizeof(multi_command) - 1)
#define EXEC_LEN (sizeof(exec_command) - 1)

void transaction_begin(struct client *c)
{
    struct transaction *t = xcalloc(1, sizeof(*t));

    CHECK(client_extra(c)->transaction == NULL);
    t->publish_slot = SLOT_NONE;
    t->slot = watch_slot(c); /* all keys are in the slot of the watched ones */
    c->extra->transaction = t;
    c->in_multi = true;
}

void transaction_end(struct client *c)
{
    c->in_multi = false;
    if (c->extra != NULL)
        transaction_free(&c->extra->transaction);
}

uint64_t transaction_bytes(const struct client *c)
{
    const struct transaction *t = c->extra != NULL ? c->extra->transaction : NULL;

    return t != NULL ? transaction_memory(t) : 0;
}

int transaction_commands(const struct client *c)
{
    return c->in_multi ? (int)c->extra->transaction->commands : -1;
}

bool transaction_writes(const struct client *c)
{
    return c->extra->transaction->writes;
}

static enum dispatch_result reply(struct client *c, const struct command *cmd, struct chain *out)
{
    client_reply(c, cmd, out);
    chain_clear(out);
    if (UNLIKELY(c->queued >= c->env->config->client.max_pipeline))
        client_hold(c, HOLD_PIPELINE); /* they wait behind requests under way */
    return DISPATCH_DONE;
}

static enum dispatch_result reply_text(struct client *c, const struct command *cmd,
                                       const char *text)
{
    struct chain out;

    chain_init(&out);
    resp_write_simple(&out, text);
    return reply(c, cmd, &out);
}

static enum dispatch_result reply_error(struct client *c, const struct command *cmd,
                                        const char *text)
{
    struct chain out;

    chain_init(&out);
    resp_write_error(&out, "%s", text);
    return reply(c, cmd, &out);
}

/* EXEC will be refused: what is kept for it is not needed any more. */
static void fail(struct transaction *t)
{
    t->failed = true;
    buffer_drop(&t->sent);
    buffer_drop(&t->own);
    buffer_drop(&t->loads);
}

static enum dispatch_result refuse(struct client *c, const struct command *cmd, const char *text)
{
    fail(c->extra->transaction);
    return reply_error(c, cmd, text);
}

/* --- queueing --- */

static void note_own(struct transaction *t, const struct command *cmd, int32_t db)
{
    struct own_command *o;

    if (t->own_count == t->own_cap) {
        t->own_cap = MAX(t->own_cap * 2, 8u);
        t->own_list = xrealloc(t->own_list, t->own_cap * sizeof(*t->own_list));
    }
    o = &t->own_list[t->own_count++];
    o->cmd = cmd;
    o->position = t->commands;
    o->db = db;
}

static void keep_sent(struct transaction *t, const struct resp_request *r)
{
    if (t->sent_count == 0)
        buffer_append(&t->sent, multi_command, MULTI_LEN);
    buffer_append(&t->sent, r->base, r->len);
    t->sent_count++;
}

/* Its connection goes back to the client's database inside the block, so that it stays shared. */
static void keep_select(struct transaction *t, const struct resp_request *r)
{
    int64_t db;

    keep_sent(t, r);
    t->selects = true;
    note_own(t, NULL, resp_arg_int(r, 1, &db) && db >= 0 && db <= UINT16_MAX ? (int32_t)db : -1);
}

static void keep(struct client *c, struct transaction *t, enum transaction_fate fate,
                 const struct command *cmd, const struct resp_request *r)
{
    if (fate == TX_OWN) {
        note_own(t, cmd, 0);
        buffer_append(&t->own, r->base, r->len);
        return;
    }
    if ((cmd->flags & CMD_SCRIPT) != 0)
        transaction_see_script(c, t, cmd, r);
    else if (cmd->route == ROUTE_ALL && (cmd->flags & CMD_NOSCRIPT) != 0)
        t->scripts |= scripts_is_news(cmd);
    if (fate == TX_SELECT)
        keep_select(t, r);
    else
        keep_sent(t, r);
}

static const char *check_caps(struct client *c, const struct transaction *t,
                              const struct resp_request *r)
{
    const struct config_client *limits = &c->env->config->client;

    if (t->commands >= limits->tx_max_commands)
        return error_text(ERROR_TX_COMMANDS);
    if (transaction_held(t) + r->len + EXEC_LEN > limits->tx_max_bytes)
        return error_text(ERROR_TX_BYTES);
    return NULL;
}

static enum dispatch_result queue(struct client *c, const struct command *cmd,
                                  const struct resp_request *r, enum transaction_fate fate)
{
    struct transaction *t = c->extra->transaction;
    const char *problem = check_caps(c, t, r);

    if (problem == NULL && fate != TX_OWN)
        problem = transaction_join(c, t, cmd, r);
    if (problem != NULL)
        return refuse(c, cmd, problem);
    if (!t->failed)
        keep(c, t, fate, cmd, r);
    t->commands++;
    t->writes |= client_pause_concerns(c, cmd, r);
    return reply_text(c, cmd, "QUEUED");
}

/* --- EXEC --- */

/* True: a hold was set, EXEC has to come again. */
static bool must_wait(struct client *c, uint16_t slot, bool alone)
{
    if (alone)
        return dispatch_barrier(c);
    if (c->head == NULL || c->head->epoch == c->up->epoch || !forward_must_wait(c, slot))
        return false;
    client_hold(c, HOLD_BARRIER);
    return true;
}

static enum dispatch_result execute_own(struct client *c, const struct command *cmd)
{
    struct transaction *t = c->extra->transaction;
    struct chain out;

    c->extra->transaction = NULL;
    transaction_end(c);
    chain_init(&out);
    transaction_compose(c, t, NULL, &out);
    transaction_free(&t);
    return reply(c, cmd, &out);
}

/* What is watched was lost sight of. */
static enum dispatch_result conflict(struct client *c, const struct command *cmd)
{
    struct chain out;

    transaction_end(c);
    chain_init(&out);
    watch_conflict(c, &out);
    return reply(c, cmd, &out);
}

static uint16_t slot_of(const struct client *c, const struct transaction *t)
{
    if (t->slot != SLOT_NONE)
        return t->slot;
    return t->publish_slot != SLOT_NONE ? t->publish_slot : dispatch_any_slot(c);
}

/* Completes the bytes of the block. */
static void finish_block(const struct client *c, struct transaction *t)
{
    char back[64], db[8];

    if (t->sent_count == 0)
        buffer_append(&t->sent, multi_command, MULTI_LEN);
    if (t->selects) {
        int digits = snprintf(db, sizeof(db), "%u", c->env->profiles.profiles[c->profile].db);
        int n = snprintf(back, sizeof(back), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", digits, db);

        buffer_append(&t->sent, back, (size_t)n);
    }
    buffer_append(&t->sent, exec_command, EXEC_LEN);
}

static enum dispatch_result abort_with(struct client *c, const struct command *cmd,
                                       enum error_id id)
{
    transaction_end(c);
    watch_release(c);
    return reply_error(c, cmd, error_text(id));
}

static enum dispatch_result execute(struct client *c, const struct command *cmd)
{
    struct transaction *t = c->extra->transaction;
    uint16_t slot = slot_of(c, t);
    uint64_t bytes = (uint64_t)buffer_bytes(&t->sent) + buffer_bytes(&t->loads) + EXEC_LEN;
    /* A half-moved slot, a block that takes a connection of its own, or has long scripts before it
     * (which a few bytes name, and which no other bound counts), own commands that run when the
     * others have: nothing of the client before or behind it may be under way. */
    bool alone = watch_is_on(c) || upstream_is_unstable(c->up, slot) || t->own_count > 0 ||
                 bytes > c->env->config->backend.large_request;
    struct beconn *watched = NULL;
    bool asking = false;
    struct request *r;

    if (must_wait(c, slot, alone))
        return DISPATCH_WAIT;
    if (watch_is_on(c)) {
        watched = watch_connection(c, &asking);
        if (watched == NULL)
            return conflict(c, cmd);
        if (transaction_is_forbidden(c, watched->node) || watched->multi_refused)
            return abort_with(c, cmd, ERROR_NO_MULTI);
    }
    finish_block(c, t);
    c->extra->transaction = NULL;
    transaction_end(c);
    r = request_new(c->env, c, cmd);
    r->slot = slot;
    r->is_tx = 1;
    r->data = t;
    r->is_pinned = watched != NULL;
    r->be.whole = t->own_count > 0 || watched != NULL;
    r->be.block = t->sent.block;
    r->be.len = t->sent.block->len;
    t->sent.block = NULL;
    client_enqueue(c, r);
    if (watched != NULL)
        forward_again(c, r, watched, asking);
    else
        forward_stored(c, r);
    dispatch_limit(c);
    if (alone && c->head != NULL)
        client_hold(c, HOLD_BARRIER);
    return DISPATCH_DONE;
}

static enum dispatch_result on_exec(struct client *c, const struct command *cmd)
{
    struct transaction *t = c->extra->transaction;

    if (t->failed)
        return abort_with(c, cmd, ERROR_EXECABORT);
    return t->sent_count == 0 && !watch_is_on(c) ? execute_own(c, cmd) : execute(c, cmd);
}

/* --- the entrance --- */

static bool is_exec(const struct command *cmd)
{
    return cmd != NULL && cmd->local == LOCAL_EXEC;
}

/* No server sees it in time to say that the user may not run it. */
static bool is_ours(const struct command *cmd, enum transaction_fate fate)
{
    return fate == TX_OWN || scripts_is_news(cmd);
}

bool transaction_takes(struct client *c, const struct command *cmd, const struct resp_request *r,
                       enum dispatch_result *result)
{
    struct transaction *t = c->extra->transaction;

    if (cmd != NULL)
        c->last_command = cmd->number;
    if (is_exec(cmd)) {
        if (!command_arity_ok(cmd, r->argc)) {
            transaction_end(c);
            watch_release(c);
            return false;
        }
        *result = on_exec(c, cmd);
        return true;
    }
    if (cmd == NULL || cmd->route == ROUTE_CONTAINER ||
        (!command_arity_ok(cmd, r->argc) && !learnt_arity_ok(c->up->learnt, cmd, r->argc))) {
        fail(t);
        return false;
    }
    if (cmd->local == LOCAL_QUIT || cmd->local == LOCAL_RESET)
        return false;
    if (UNLIKELY(c->monitors) && monitor_refuses(c, cmd)) {
        fail(t);
        *result = DISPATCH_DONE;
        return true;
    }
    if (cmd->local == LOCAL_DISCARD) {
        transaction_end(c);
        watch_release(c);
        *result = reply_text(c, cmd, "OK");
    } else if (cmd->local == LOCAL_MULTI) {
        *result = reply_error(c, cmd, "ERR MULTI calls can not be nested");
    } else if (cmd->local == LOCAL_WATCH) {
        *result = reply_error(c, cmd, "ERR WATCH inside MULTI is not allowed");
    } else if ((cmd->flags & CMD_NO_MULTI) != 0) {
        *result = refuse(c, cmd, "ERR Command not allowed inside a transaction");
    } else if (dispatch_is_guarded(c, cmd)) {
        *result = refuse(c, cmd, error_text(ERROR_GUARDED));
    } else {
        enum transaction_fate fate = transaction_fate(c, cmd, r);

        if (fate == TX_UNSUPPORTED || fate == TX_IMPOSSIBLE)
            fail(t);
        if (fate == TX_UNSUPPORTED)
            return false;
        if (is_ours(cmd, fate) && acl_stops(c, cmd, r, result)) {
            if (*result == DISPATCH_DONE)
                fail(t);
            return true;
        }
        *result = fate == TX_IMPOSSIBLE ? dispatch_refused(c, cmd, " is not possible inside MULTI")
                                        : queue(c, cmd, r, fate);
    }
    return true;
}
