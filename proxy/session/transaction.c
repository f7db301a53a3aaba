#include "session/transaction.h"

#include "base/alloc.h"
#include "resp/write.h"
#include "session/acl.h"
#include "session/client_pause.h"
#include "session/config_set.h"
#include "session/dispatch_error.h"
#include "session/forward.h"
#include "session/identity.h"
#include "session/monitor.h"
#include "session/pubsub.h"
#include "session/scripts.h"
#include "session/transaction_block.h"
#include "session/watch.h"

void transaction_begin(struct client *c)
{
    struct transaction *t = xcalloc(1, sizeof(*t));

    CHECK(client_extra(c)->transaction == NULL);
    t->publish_slot = SLOT_NONE;
    t->proto = t->sent_proto = c->proto;
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

    return t != NULL ? transaction_memory(t) : transaction_run_bytes(c);
}

int transaction_commands(const struct client *c)
{
    if ((c->hold & HOLD_EXEC) != 0)
        return (int)transaction_running(c)->commands;
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

static const char *check_caps(struct client *c, const struct transaction *t,
                              const struct resp_request *r)
{
    const struct config_client *limits = &c->env->config->client;

    if (MAX(t->commands, t->sent_count) >= limits->tx_max_commands)
        return error_text(ERROR_TX_COMMANDS);
    if (transaction_held(t) + r->len + TX_EXEC_LEN > limits->tx_max_bytes)
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
        transaction_keep(c, t, fate, cmd, r);
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

static enum dispatch_result execute_own(struct client *c)
{
    struct transaction *t = c->extra->transaction;

    if (dispatch_barrier(c))
        return DISPATCH_WAIT;
    c->extra->transaction = NULL;
    transaction_end(c);
    transaction_run(c, &t, NULL, NULL);
    return DISPATCH_DONE;
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
    uint64_t bytes = (uint64_t)buffer_bytes(&t->sent) + buffer_bytes(&t->loads) + TX_EXEC_LEN;
    /* A half-moved slot, a block that takes a connection of its own, or has long scripts before it
     * (which a few bytes name, and which no other bound counts), own commands that run when the
     * others have: nothing of the client before or behind it may be under way. */
    bool alone = watch_is_on(c) || upstream_is_unstable(c->up, slot) || t->own_count > 0 ||
                 bytes > c->env->config->backend.large_request;
    struct beconn *watched = NULL;
    bool asking = false;
    struct request *r;

    if (must_wait(c, slot, alone) || (watch_is_on(c) && watch_follows(c)))
        return DISPATCH_WAIT;
    if (watch_is_on(c)) {
        watched = watch_connection(c, &asking);
        if (watched == NULL)
            return conflict(c, cmd);
        if (transaction_is_forbidden(c, watched->node) || watched->multi_refused)
            return abort_with(c, cmd, ERROR_NO_MULTI);
    }
    transaction_seal(c, t);
    if (t->lets_in)
        identity_doubt(c);
    c->extra->transaction = NULL;
    transaction_end(c);
    r = request_new(c->env, c, cmd);
    r->slot = slot;
    r->is_tx = 1;
    r->data = t;
    r->is_pinned = watched != NULL;
    r->be.whole = t->own_count > 0 || t->news || watched != NULL;
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
    if (pubsub_is_settling(c))
        return DISPATCH_WAIT;
    return t->sent_count == 0 && !watch_is_on(c) ? execute_own(c) : execute(c, cmd);
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

static bool takes(struct client *c, const struct command *cmd, const struct resp_request *r,
                  enum dispatch_result *result)
{
    struct transaction *t = c->extra->transaction;
    enum transaction_fate fate = transaction_fate(c, cmd, r);
    bool late = t->asks && fate != TX_OWN; /* what is sent leaves before the servers are asked */

    *result = DISPATCH_DONE;
    if (fate == TX_UNSUPPORTED) {
        fail(t);
        return false;
    }
    if (fate == TX_IMPOSSIBLE || late) {
        fail(t);
        dispatch_refused(c, cmd,
                         late ? " is not possible behind AUTH inside MULTI"
                              : " is not possible inside MULTI");
        return true;
    }
    if ((cmd->flags & CMD_GUARDED) != 0 && config_set_refuses(c, cmd, r)) {
        fail(t);
        return true;
    }
    if (is_ours(cmd, fate) && acl_stops(c, cmd, r, result)) {
        if (*result == DISPATCH_DONE)
            fail(t);
        return true;
    }
    *result = queue(c, cmd, r, fate);
    return true;
}

/* Since 8.0 Valkey says so of MULTI and WATCH too; for Redis they are errors that EXEC ignores. */
static bool is_not_allowed(const struct client *c, const struct command *cmd)
{
    if (cmd->local == LOCAL_MULTI || cmd->local == LOCAL_WATCH)
        return upstream_is_valkey_from(c->up, "8.0.0");
    return (cmd->flags & CMD_NO_MULTI) != 0;
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
            return false; /* dispatch_wrong_arity() ends WATCH */
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
    } else if (is_not_allowed(c, cmd)) {
        *result = refuse(c, cmd, "ERR Command not allowed inside a transaction");
    } else if (cmd->local == LOCAL_MULTI) {
        *result = reply_error(c, cmd, "ERR MULTI calls can not be nested");
    } else if (cmd->local == LOCAL_WATCH) {
        *result = reply_error(c, cmd, "ERR WATCH inside MULTI is not allowed");
    } else if (dispatch_is_guarded(c, cmd)) {
        *result = refuse(c, cmd, error_text(ERROR_GUARDED));
    } else {
        return takes(c, cmd, r, result);
    }
    return true;
}
