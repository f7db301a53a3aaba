#include "session/config_set.h"

#include "base/alloc.h"
#include "resp/write.h"
#include "session/acl.h"
#include "session/client_gather.h"
#include "session/config_own.h"
#include "session/dispatch_error.h"

static bool is_timeout(const struct command *cmd, const struct resp_request *r)
{
    return r->argc == 4 && resp_arg_is(r, 2, "timeout") && strcmp(cmd->name, "config|set") == 0;
}

static void collect(struct gather *g, struct session_env *env)
{
    env->idle_timeout_ms = *(const uint64_t *)g->data;
}

static void finish(struct gather *g, struct session_env *env)
{
    struct chain out;

    chain_init(&out);
    resp_write_simple(&out, "OK");
    client_gather_end(g, client_gather_asker(g, env), &out);
}

static enum dispatch_result refuse(struct client *c, const struct command *cmd, const char *why)
{
    return dispatch_error_text(
        c, cmd, "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument %s",
        why);
}

static enum dispatch_result set_timeout(struct client *c, const struct command *cmd,
                                        const struct resp_request *r)
{
    enum dispatch_result stopped;
    uint64_t *ms;
    int64_t s;

    if (acl_stops(c, cmd, r, &stopped))
        return stopped;
    if (!resp_arg_int(r, 3, &s))
        return refuse(c, cmd, "couldn't be parsed into an integer");
    if (s < 0 || s > INT32_MAX)
        return refuse(c, cmd, "must be between 0 and 2147483647 inclusive");
    if (dispatch_barrier(c))
        return DISPATCH_WAIT;
    ms = xmalloc(sizeof(*ms));
    *ms = (uint64_t)s * 1000;
    client_gather(c, cmd, collect, finish, ms);
    return DISPATCH_DONE;
}

bool config_set_refuses(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    struct config_own own;

    if (strcmp(cmd->name, "config|set") != 0)
        return false;
    config_own_read(c, &own);
    for (uint32_t i = 2; i < r->argc; i += 2) {
        if (config_own_find(&own, resp_arg_ptr(r, i), resp_arg_len(r, i)) == NULL)
            continue;
        dispatch_error_text(c, cmd,
                            "ERR KEYWAY CONFIG SET failed (possibly related to argument '%.*s') - "
                            "it is the proxy's own, set in its configuration",
                            (int)resp_arg_len(r, i), resp_arg_ptr(r, i));
        return true;
    }
    return false;
}

bool config_set_takes(struct client *c, const struct command *cmd, const struct resp_request *r,
                      enum dispatch_result *result)
{
    *result = DISPATCH_DONE;
    if (is_timeout(cmd, r)) {
        *result = set_timeout(c, cmd, r);
        return true;
    }
    return config_set_refuses(c, cmd, r);
}
