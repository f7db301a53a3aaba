#include "session/dispatch_error.h"

#include "resp/write.h"
#include "session/reply_mode.h"

enum dispatch_result dispatch_error(struct client *c, const struct command *cmd, enum error_id id)
{
    struct chain out;

    chain_init(&out);
    error_write(&out, id);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

void dispatch_protocol_error(struct client *c, const char *text)
{
    struct chain out;

    if (UNLIKELY(c->reply_mode != REPLY_ON))
        reply_mode_begin(c);
    chain_init(&out);
    resp_write_error(&out, "%s", text);
    client_reply(c, NULL, &out);
    chain_clear(&out);
    if (stream_is_open(&c->stream))
        client_close_when_answered(c);
}

/* Redis quotes at most 128 bytes of the name, and of the arguments until 128 bytes are quoted. */
enum dispatch_result dispatch_unknown_command(struct client *c, const struct resp_request *r)
{
    struct chain out;
    char args[512];
    size_t n = 0;

    args[0] = '\0';
    for (uint32_t i = 1; i < r->argc && n < 128; i++)
        n +=
            (size_t)snprintf(args + n, sizeof(args) - n, "'%.*s' ",
                             (int)MIN(resp_arg_len(r, i), (uint32_t)(128 - n)), resp_arg_ptr(r, i));
    chain_init(&out);
    resp_write_error(&out, "ERR unknown command '%.*s', with args beginning with: %s",
                     (int)MIN(resp_arg_len(r, 0), 128u), resp_arg_ptr(r, 0), args);
    client_reply(c, NULL, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

enum dispatch_result dispatch_unknown_subcommand(struct client *c, const struct command *cmd,
                                                 const struct resp_request *r)
{
    struct chain out;
    char upper[32];
    size_t n = 0;

    for (; cmd->name[n] != '\0' && n < sizeof(upper) - 1; n++)
        upper[n] =
            (char)(cmd->name[n] >= 'a' && cmd->name[n] <= 'z' ? cmd->name[n] - 32 : cmd->name[n]);
    upper[n] = '\0';
    chain_init(&out);
    if (r->argc < 2)
        resp_write_error(&out, "ERR wrong number of arguments for '%s' command", cmd->name);
    else
        resp_write_error(&out, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                         (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1), upper);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

enum dispatch_result dispatch_wrong_arity(struct client *c, const struct command *cmd)
{
    struct chain out;

    chain_init(&out);
    resp_write_error(&out, "%s wrong number of arguments for '%s' command",
                     cmd->local == LOCAL_EXEC ? "EXECABORT Transaction discarded because of:"
                                              : "ERR",
                     cmd->name);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
}

enum dispatch_result dispatch_refused(struct client *c, const struct command *cmd, const char *what)
{
    struct chain out;
    char name[64];
    size_t n = 0;

    for (; cmd->name[n] != '\0' && n < sizeof(name) - 1; n++) {
        char ch = cmd->name[n];

        name[n] = (char)(ch == '|' ? ' ' : ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
    }
    name[n] = '\0';
    chain_init(&out);
    resp_write_error(&out, "ERR KEYWAY %s%s", name, what);
    client_reply(c, cmd, &out);
    chain_clear(&out);
    return DISPATCH_DONE;
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
    struct chain out;

    for (size_t i = 0; i < ARRAY_LEN(in_cluster) && !c->up->single; i++) {
        if (strcmp(cmd->name, in_cluster[i].name) != 0)
            continue;
        chain_init(&out);
        resp_write_error(&out, "%s", in_cluster[i].text);
        client_reply(c, cmd, &out);
        chain_clear(&out);
        return DISPATCH_DONE;
    }
    return dispatch_refused(c, cmd, " is not supported yet");
}
