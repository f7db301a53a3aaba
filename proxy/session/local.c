#include "session/local.h"

#include "resp/write.h"
#include "session/acl.h"
#include "session/identity.h"
#include "session/monitor.h"
#include "session/pubsub.h"
#include "session/subscriber.h"
#include "session/transaction.h"
#include "session/watch.h"

static local_fn *const handlers[LOCAL_COUNT] = {
#define LOCAL(name) [LOCAL_##name] = local_##name,
#include "command/local.def"
#undef LOCAL
};

/* Those that move the client to other connections or end it, and those that go in several rounds
 * and have to see what was written before them. */
static bool is_barrier(enum command_local l)
{
    return l == LOCAL_HELLO || l == LOCAL_AUTH || l == LOCAL_SELECT || l == LOCAL_RESET ||
           l == LOCAL_CLIENT_LIST || l == LOCAL_SCAN || l == LOCAL_CLUSTER_COUNTKEYSINSLOT ||
           l == LOCAL_CLUSTER_GETKEYSINSLOT || l == LOCAL_CLIENT_KILL || l == LOCAL_CLIENT_PAUSE ||
           l == LOCAL_CLIENT_UNPAUSE || l == LOCAL_CLIENT_UNBLOCK || l == LOCAL_RANDOMKEY ||
           l == LOCAL_DEBUG || l == LOCAL_SCRIPT_KILL || l == LOCAL_FUNCTION_KILL ||
           l == LOCAL_WATCH || l == LOCAL_MONITOR || l == LOCAL_WAIT || l == LOCAL_WAITAOF ||
           l == LOCAL_CLIENT_NO_TOUCH;
}

enum dispatch_result local_dispatch(struct client *c, const struct command *cmd,
                                    const struct resp_request *r)
{
    enum dispatch_result stopped;
    struct chain out;

    if (acl_stops(c, cmd, r, &stopped))
        return stopped;
    if (is_barrier(cmd->local) && dispatch_barrier(c))
        return DISPATCH_WAIT;
    /* ECHO, PING: what would be stored behind requests under way has no other bound. */
    if (UNLIKELY(r->len > c->env->config->backend.large_request) && dispatch_barrier(c))
        return DISPATCH_WAIT;
    if ((cmd->flags & CMD_PUBSUB) != 0 && pubsub_must_wait(c, cmd, r))
        return DISPATCH_WAIT;
    chain_init(&out);
    handlers[cmd->local](c, cmd, r, &out);
    if (out.bytes > 0)
        client_reply(c, cmd, &out);
    chain_clear(&out);
    if (UNLIKELY(c->queued >= c->env->config->client.max_pipeline))
        client_hold(c, HOLD_PIPELINE); /* they wait behind requests under way */
    if (cmd->local == LOCAL_QUIT && stream_is_open(&c->stream))
        client_close_when_answered(c);
    return DISPATCH_DONE;
}

void local_compose(struct client *c, const struct command *cmd, const struct resp_request *r,
                   struct chain *out)
{
    handlers[cmd->local](c, cmd, r, out);
}

void local_arity_error(const struct command *cmd, struct chain *out)
{
    resp_write_error(out, "ERR wrong number of arguments for '%s' command", cmd->name);
}

void local_subcommand_error(const struct resp_request *r, const char *container, struct chain *out)
{
    resp_write_error(out,
                     "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
                     (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1), container);
}

void local_help(const char *const *lines, size_t count, struct chain *out)
{
    resp_write_array(out, count);
    for (size_t i = 0; i < count; i++)
        resp_write_simple(out, lines[i]);
}

bool local_set_proto(struct client *c, uint8_t proto)
{
    int profile = identity_profile(c, proto, c->env->profiles.profiles[c->profile].db);

    if (profile < 0)
        return false;
    c->proto = proto;
    identity_move(c, profile);
    subscriber_update_mode(c);
    return true;
}

HANDLER(PING)
{
    UNUSED;
    if (r->argc > 2)
        local_arity_error(cmd, out);
    else if (c->subscribed)
        pubsub_write_pong(r, out);
    else if (r->argc == 2)
        resp_write_bulk(out, resp_arg_ptr(r, 1), resp_arg_len(r, 1));
    else
        resp_write_simple(out, "PONG");
}

HANDLER(ECHO)
{
    UNUSED;
    resp_write_bulk(out, resp_arg_ptr(r, 1), resp_arg_len(r, 1));
}

HANDLER(QUIT)
{
    UNUSED;
    resp_write_simple(out, "OK");
}

HANDLER(RESET)
{
    UNUSED;
    subscriber_free(c);
    monitor_leave(c);
    identity_end(c);
    identity_begin(c);
    subscriber_update_mode(c);
    transaction_end(c);
    watch_release(c);
    if (c->reply_mode == REPLY_OFF) /* a reply that is skipped stays skipped */
        c->reply_mode = REPLY_ON;
    if (c->extra != NULL) {
        free(c->extra->name);
        c->extra->name = NULL;
    }
    resp_write_simple(out, "RESET");
}

HANDLER(MULTI)
{
    UNUSED;
    transaction_begin(c);
    resp_write_simple(out, "OK");
}

HANDLER(EXEC)
{
    UNUSED;
    resp_write_error(out, "ERR EXEC without MULTI");
}

HANDLER(DISCARD)
{
    UNUSED;
    resp_write_error(out, "ERR DISCARD without MULTI");
}

/* The proxy routes by itself; a client that thinks it is talking to a cluster node gets its OK. */
HANDLER(ASKING)
{
    UNUSED;
    resp_write_simple(out, "OK");
}

HANDLER(READONLY)
{
    UNUSED;
    resp_write_simple(out, "OK");
}

HANDLER(READWRITE)
{
    UNUSED;
    resp_write_simple(out, "OK");
}
