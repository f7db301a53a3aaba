/*
 * transaction_rules.c - what becomes of a command inside MULTI.
 */
#include "base/clock.h"
#include "base/crc16.h"
#include "session/error.h"
#include "session/local.h"
#include "session/single.h"
#include "session/transaction_block.h"

/* Those that are run by the proxy whatever is behind it. */
static bool is_always_own(enum command_local l)
{
    switch (l) {
    case LOCAL_PING:
    case LOCAL_ECHO:
    case LOCAL_CLIENT_ID:
    case LOCAL_CLIENT_SETNAME:
    case LOCAL_CLIENT_GETNAME:
    case LOCAL_CLIENT_SETINFO:
    case LOCAL_CLIENT_INFO:
    case LOCAL_CLIENT_HELP:
    case LOCAL_CLIENT_NO_EVICT:
    case LOCAL_CLIENT_CACHING:
    case LOCAL_CLIENT_GETREDIR:
    case LOCAL_CLIENT_TRACKINGINFO:
    case LOCAL_CLIENT_LIST:
    case LOCAL_CLIENT_KILL:
    case LOCAL_CLIENT_PAUSE:
    case LOCAL_CLIENT_UNPAUSE:
    case LOCAL_CLIENT_UNBLOCK:
    case LOCAL_ACL_WHOAMI:
    case LOCAL_ROLE:
    case LOCAL_ASKING:
    case LOCAL_READONLY:
    case LOCAL_READWRITE:
    case LOCAL_UNWATCH:
    case LOCAL_CLUSTER_SLOTS:
    case LOCAL_CLUSTER_SHARDS:
    case LOCAL_CLUSTER_NODES:
    case LOCAL_CLUSTER_INFO:
    case LOCAL_CLUSTER_MYID:
    case LOCAL_CLUSTER_MYSHARDID:
    case LOCAL_CLUSTER_KEYSLOT:
    case LOCAL_CLUSTER_LINKS:
    case LOCAL_CLUSTER_REPLICAS:
    case LOCAL_CLUSTER_HELP:
    case LOCAL_SENTINEL:
        return true;
    default:
        return false;
    }
}

/* Those that one server answers just as well in the proxy's place. */
static bool one_server_answers(enum command_local l)
{
    return l == LOCAL_SCAN || l == LOCAL_RANDOMKEY || l == LOCAL_INFO;
}

/* In front of one server: those that change the client, or are about the proxy's clients. */
static bool is_own_of_one(enum command_local l)
{
    switch (l) {
    case LOCAL_AUTH:
    case LOCAL_HELLO:
    case LOCAL_CLIENT_REPLY:
    case LOCAL_CLIENT_NO_TOUCH:
    case LOCAL_SUBSCRIBE:
    case LOCAL_PSUBSCRIBE:
    case LOCAL_SSUBSCRIBE:
    case LOCAL_UNSUBSCRIBE:
    case LOCAL_PUNSUBSCRIBE:
    case LOCAL_SUNSUBSCRIBE:
    case LOCAL_PUBSUB_CHANNELS:
    case LOCAL_PUBSUB_NUMSUB:
    case LOCAL_PUBSUB_NUMPAT:
    case LOCAL_MONITOR:
    case LOCAL_SCRIPT_KILL:
    case LOCAL_FUNCTION_KILL:
    case LOCAL_CLUSTER_COUNTKEYSINSLOT:
    case LOCAL_CLUSTER_GETKEYSINSLOT:
        return true;
    default:
        return false;
    }
}

static bool has_auth(const struct resp_request *r)
{
    bool auth = resp_arg_is(r, 0, "auth");

    for (uint32_t i = 2; i < r->argc && !auth; i++)
        auth = resp_arg_is(r, i, "auth");
    return auth;
}

/* Its integer is the server's: the proxy's clients are one listener. Behind a SUBSCRIBE of the same
 * block it would not find the client there, so it is run behind it. */
static enum transaction_fate fate_of_publish(const struct client *c)
{
    return c->extra->transaction->listens ? TX_OWN : TX_SENT;
}

static enum transaction_fate fate_of_local(const struct client *c, const struct command *cmd,
                                           const struct resp_request *r)
{
    enum command_local l = cmd->local;
    int64_t n;

    if (l == LOCAL_PUBLISH)
        return fate_of_publish(c);
    if (!local_is_offered(c, l))
        return TX_UNSUPPORTED;
    if (l == LOCAL_WAIT || l == LOCAL_WAITAOF)
        return TX_SENT; /* there it does not wait, and counts what the connection has written */
    if (is_always_own(l))
        return TX_OWN;
    if (l == LOCAL_SELECT) {
        if (c->up->single)
            return TX_SELECT;
        return !resp_arg_int(r, 1, &n) || n == 0 ? TX_OWN : TX_IMPOSSIBLE;
    }
    if (!c->up->single)
        return TX_IMPOSSIBLE;
    if (one_server_answers(l))
        return TX_SENT;
    if (l == LOCAL_CONFIG_GET)
        return TX_CONFIG;
    if (l == LOCAL_DEBUG) /* a refusal is an answer in its place, as the server's would be */
        return debug_is_passed(r) ? TX_SENT : TX_OWN;
    return is_own_of_one(l) ? TX_OWN : TX_IMPOSSIBLE;
}

uint8_t transaction_see_own(struct client *c, struct transaction *t, const struct command *cmd,
                            const struct resp_request *r)
{
    enum command_local l = cmd->local;
    uint8_t proto;

    if (l == LOCAL_SUBSCRIBE || l == LOCAL_PSUBSCRIBE)
        t->listens = true;
    if (l != LOCAL_HELLO && l != LOCAL_AUTH)
        return 0;
    proto = l == LOCAL_HELLO ? hello_proto(r) : 0;
    if (has_auth(r)) {
        /* What comes of it is known only when the block has run. */
        t->asks |= c->env->config->listeners[c->listener].auth == AUTH_SERVERS ||
                   (proto != 0 && proto != t->proto);
        return 0;
    }
    if (proto != 0)
        t->proto = proto;
    return proto;
}

enum transaction_fate transaction_fate(const struct client *c, const struct command *cmd,
                                       const struct resp_request *r)
{
    switch ((enum command_route)cmd->route) {
    case ROUTE_LOCAL:
        return fate_of_local(c, cmd, r);
    case ROUTE_ALL:
        return c->up->single ? TX_SENT : TX_IMPOSSIBLE;
    case ROUTE_UNSUPPORTED:
        return single_forwards(c->up, cmd) ? TX_SENT : TX_UNSUPPORTED;
    case ROUTE_BLOCKING: /* there it does not wait */
        return learnt_leaves_traces(cmd) ? TX_IMPOSSIBLE : TX_SENT;
    default:
        return single_copies_away(c->up, cmd, r) ? TX_IMPOSSIBLE : TX_SENT;
    }
}

/* PUBLISH goes where the others go: a cluster passes it to all its nodes. Alone it takes the way
 * that it takes outside MULTI. Sentinel's masters do not know each other. */
static const char *join_publish(const struct client *c, struct transaction *t,
                                const struct resp_request *r)
{
    uint16_t slot = key_slot(resp_arg_ptr(r, 1), resp_arg_len(r, 1));

    if (c->up->config->kind == UPSTREAM_CLUSTER || !c->up->map->sharded) {
        if (t->publish_slot == SLOT_NONE)
            t->publish_slot = slot;
        return NULL;
    }
    if (t->slot != SLOT_NONE && t->slot != slot)
        return error_text(ERROR_CROSSSLOT);
    t->slot = slot;
    return NULL;
}

const char *transaction_join(struct client *c, struct transaction *t, const struct command *cmd,
                             const struct resp_request *r)
{
    uint16_t slot = SLOT_NONE;
    size_t count = 0;

    if (cmd->local == LOCAL_PUBLISH && cmd->keys == KEYS_NONE)
        return join_publish(c, t, r);
    if (cmd->keys == KEYS_NONE)
        return NULL;
    if (!dispatch_one_slot(c, cmd, r, &slot, &count))
        return error_text(ERROR_CROSSSLOT);
    if (count == 0)
        return NULL;
    if (t->slot != SLOT_NONE && t->slot != slot && c->up->map->sharded)
        return error_text(ERROR_CROSSSLOT);
    t->slot = slot;
    return NULL;
}

/* A server that refused MULTI is asked again when so long has passed: rights change. */
#define FORBIDDEN_MS 10000

bool transaction_refusal_is_old(const struct beconn *conn)
{
    return UNLIKELY(conn->multi_refused) && clock_ms() - conn->multi_ms >= FORBIDDEN_MS;
}

bool transaction_is_forbidden(struct client *c, struct node *n)
{
    struct beconn *conn = node_shared_now(n, c->profile);

    if (LIKELY(conn == NULL || !conn->multi_refused))
        return false;
    if (!transaction_refusal_is_old(conn))
        return true;
    node_retire(conn);
    upstream_route_changed(c->up, n);
    return false;
}
