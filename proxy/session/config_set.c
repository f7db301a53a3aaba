#include "session/config_set.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "resp/write.h"
#include "session/acl.h"
#include "session/client_gather.h"
#include "session/config_own.h"
#include "session/dispatch_error.h"
#include "session/merge.h"
#include "session/scatter.h"

/* What is sent to the servers takes so many bytes more than its arguments, each and in all. */
#define HEAD_MAX 16

static bool is_config_set(const struct command *cmd)
{
    return strcmp(cmd->name, "config|set") == 0;
}

/* The place of `timeout` from `i` on among the names in r; 0: it is not there. A name without a
 * value is for the servers, which refuse all of it. */
static uint32_t find_timeout(const struct resp_request *r, uint32_t i)
{
    for (; r->argc % 2 == 0 && i < r->argc; i += 2)
        if (resp_arg_is(r, i, "timeout"))
            return i;
    return 0;
}

/* --- all workers --- */

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

/* --- the servers, which are told of all the rest before --- */

/* The new value was taken by all of them, and holds from now on. */
static void on_taken(struct client *c, struct request *parent, struct chain *out)
{
    struct scatter *s = parent->scatter;
    uint64_t *ms;

    merge_finish(c, parent, out);
    if (merge_first_error(s) != NULL)
        return;
    chain_clear(out);
    ms = s->data;
    s->data = NULL;
    scatter_drop_parts(c->env, parent);
    client_gather_on(c, parent, collect, finish, ms);
}

static uint32_t write_arg(char *to, const char *p, uint32_t n)
{
    int head = snprintf(to, HEAD_MAX, "$%" PRIu32 "\r\n", n);

    memcpy(to + head, p, n);
    memcpy(to + head + n, "\r\n", 2);
    return (uint32_t)head + n + 2;
}

/* r without the two arguments at `without`; *len is set. Freed with free(). */
static char *write_rest(const struct resp_request *r, uint32_t without, uint32_t *len)
{
    char *text = xmalloc(r->len + (size_t)HEAD_MAX * (r->argc + 1));

    *len = (uint32_t)snprintf(text, HEAD_MAX, "*%" PRIu32 "\r\n", r->argc - 2);
    for (uint32_t i = 0; i < r->argc; i++)
        if (i != without && i != without + 1)
            *len += write_arg(text + *len, resp_arg_ptr(r, i), resp_arg_len(r, i));
    return text;
}

static void set_rest(struct client *c, const struct command *cmd, const struct resp_request *r,
                     uint32_t timeout, uint64_t *ms)
{
    struct request *parent;
    uint32_t len;
    char *rest = write_rest(r, timeout, &len);

    client_hold(c, HOLD_BARRIER);
    parent = scatter_open(c, cmd, on_taken, ms);
    scatter_add_masters(c, parent, rest, len);
    free(rest);
    scatter_close(c, parent);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}

/* --- the command --- */

static enum dispatch_result refuse(struct client *c, const struct command *cmd, const char *name,
                                   const char *why)
{
    return dispatch_error_text(c, cmd,
                               "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                               (int)strlen("timeout"), name, why);
}

static enum dispatch_result set_timeout(struct client *c, const struct command *cmd,
                                        const struct resp_request *r, uint32_t at)
{
    uint32_t twice = find_timeout(r, at + 2);
    enum dispatch_result stopped;
    uint64_t *ms;
    int64_t s;

    if (acl_stops(c, cmd, r, &stopped))
        return stopped;
    if (twice != 0)
        return refuse(c, cmd, resp_arg_ptr(r, twice), "duplicate parameter");
    if (!resp_arg_int(r, at + 1, &s))
        return refuse(c, cmd, "timeout", "argument couldn't be parsed into an integer");
    if (s < 0 || s > INT32_MAX)
        return refuse(c, cmd, "timeout", "argument must be between 0 and 2147483647 inclusive");
    if (dispatch_barrier(c))
        return DISPATCH_WAIT;
    ms = xmalloc(sizeof(*ms));
    *ms = (uint64_t)s * 1000;
    if (r->argc > 4)
        set_rest(c, cmd, r, at, ms);
    else
        client_gather(c, cmd, collect, finish, ms);
    return DISPATCH_DONE;
}

/* True: answered, because one of the names is the proxy's own; `timeout` may pass. */
static bool refuse_own(struct client *c, const struct command *cmd, const struct resp_request *r,
                       bool timeout)
{
    struct config_own own;

    config_own_read(c, &own);
    for (uint32_t i = 2; i < r->argc; i += 2) {
        if (config_own_find(&own, resp_arg_ptr(r, i), resp_arg_len(r, i)) == NULL ||
            (timeout && resp_arg_is(r, i, "timeout")))
            continue;
        dispatch_error_text(c, cmd,
                            "ERR KEYWAY CONFIG SET failed (possibly related to argument '%.*s') - "
                            "it is the proxy's own, set in its configuration",
                            (int)resp_arg_len(r, i), resp_arg_ptr(r, i));
        return true;
    }
    return false;
}

bool config_set_refuses(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    return is_config_set(cmd) && refuse_own(c, cmd, r, false);
}

bool config_set_takes(struct client *c, const struct command *cmd, const struct resp_request *r,
                      enum dispatch_result *result)
{
    uint32_t timeout;

    *result = DISPATCH_DONE;
    if (!is_config_set(cmd))
        return false;
    if (refuse_own(c, cmd, r, true))
        return true;
    timeout = find_timeout(r, 2);
    if (timeout != 0)
        *result = set_timeout(c, cmd, r, timeout);
    return timeout != 0;
}
