#include "session/dispatch_error.h"

#include <stdarg.h>

#include "resp/write.h"
#include "session/local.h"
#include "session/reply_mode.h"
#include "session/watch.h"

enum dispatch_result dispatch_error(struct client *c, const struct command *cmd, enum error_id id)
{
    struct chain out;

    chain_init(&out);
    error_write(&out, id);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

enum dispatch_result dispatch_error_text(struct client *c, const struct command *cmd,
                                         const char *fmt, ...)
{
    struct chain out;
    va_list ap;

    chain_init(&out);
    va_start(ap, fmt);
    resp_vwrite_error(&out, fmt, ap);
    va_end(ap);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

void dispatch_protocol_error(struct client *c, const char *text)
{
    if (UNLIKELY(c->reply_mode != REPLY_ON))
        reply_mode_begin(c);
    dispatch_error_text(c, NULL, "%s", text);
    if (stream_is_open(&c->stream))
        client_close_when_answered(c);
}

/* Redis quotes at most 128 bytes of the name, and of the arguments until 128 bytes are quoted. */
enum dispatch_result dispatch_unknown_command(struct client *c, const struct resp_request *r)
{
    char args[512];
    size_t n = 0;

    args[0] = '\0';
    for (uint32_t i = 1; i < r->argc && n < 128; i++)
        n +=
            (size_t)snprintf(args + n, sizeof(args) - n, "'%.*s' ",
                             (int)MIN(resp_arg_len(r, i), (uint32_t)(128 - n)), resp_arg_ptr(r, i));
    return dispatch_error_text(c, NULL, "ERR unknown command '%.*s', with args beginning with: %s",
                               (int)MIN(resp_arg_len(r, 0), 128u), resp_arg_ptr(r, 0), args);
}

enum dispatch_result dispatch_unknown_subcommand(struct client *c, const struct command *cmd,
                                                 const struct resp_request *r)
{
    char upper[32];
    size_t n = 0;

    for (; cmd->name[n] != '\0' && cmd->name[n] != '|' && n < sizeof(upper) - 1; n++)
        upper[n] =
            (char)(cmd->name[n] >= 'a' && cmd->name[n] <= 'z' ? cmd->name[n] - 32 : cmd->name[n]);
    upper[n] = '\0';
    if (r->argc < 2)
        return dispatch_error_text(c, cmd, "ERR wrong number of arguments for '%s' command",
                                   cmd->name);
    return dispatch_error_text(c, cmd, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                               (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1), upper);
}

bool dispatch_is_unknown(const struct client *c, const struct command *cmd)
{
    return cmd->local != LOCAL_CLIENT_NOT_OFFERED && !local_is_offered(c, cmd->local);
}

enum dispatch_result dispatch_unknown(struct client *c, const struct command *cmd,
                                      const struct resp_request *r)
{
    return strchr(cmd->name, '|') != NULL ? dispatch_unknown_subcommand(c, cmd, r)
                                          : dispatch_unknown_command(c, r);
}

enum dispatch_result dispatch_wrong_arity(struct client *c, const struct command *cmd)
{
    if (cmd->local == LOCAL_EXEC) /* a block or none: it ends what it would have ended */
        watch_release(c);
    return dispatch_error_text(
        c, cmd, "%s wrong number of arguments for '%s' command",
        cmd->local == LOCAL_EXEC ? "EXECABORT Transaction discarded because of:" : "ERR",
        cmd->name);
}

enum dispatch_result dispatch_refused(struct client *c, const struct command *cmd, const char *what)
{
    char name[64];
    size_t n = 0;

    for (; cmd->name[n] != '\0' && n < sizeof(name) - 1; n++) {
        char ch = cmd->name[n];

        name[n] = (char)(ch == '|' ? ' ' : ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
    }
    name[n] = '\0';
    return dispatch_error_text(c, cmd, "ERR KEYWAY %s%s", name, what);
}

enum dispatch_result dispatch_unsupported(struct client *c, const struct command *cmd)
{
    /* What a cluster's servers refuse is refused in their words, in front of any masters. */
    static const struct {
        const char *name, *text;
    } in_cluster[] = {
        {"failover",
         "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead."},
        {"move", "ERR MOVE is not allowed in cluster mode"},
        {"replicaof", "ERR REPLICAOF not allowed in cluster mode."},
        {"slaveof", "ERR REPLICAOF not allowed in cluster mode."},
        {"swapdb", "ERR SWAPDB is not allowed in cluster mode"},
    };

    for (size_t i = 0; i < ARRAY_LEN(in_cluster) && !c->up->single; i++)
        if (strcmp(cmd->name, in_cluster[i].name) == 0)
            return dispatch_error_text(c, cmd, "%s", in_cluster[i].text);
    return dispatch_refused(c, cmd, " is not supported yet");
}
