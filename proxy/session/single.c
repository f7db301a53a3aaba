#include "session/single.h"

/* Names, and with a bar at their end all subcommands of a container. */
static const char *const passed[] = {
    "move",           "swapdb",           "role",
    "bgsave",         "bgrewriteaof",     "latency|",
    "slowlog|",       "memory|",          "config|resetstat",
    "config|rewrite", "function|delete",  "function|dump",
    "function|flush", "function|help",    "function|list",
    "function|load",  "function|restore", "function|stats",
    "module|list",    "script|show",      "acl|log",
};

/* A cluster's servers refuse them in words of their own, whatever the arguments. */
static bool cluster_refuses(const struct command *cmd)
{
    return strcmp(cmd->name, "move") == 0 || strcmp(cmd->name, "swapdb") == 0;
}

bool single_forwards(const struct upstream *u, const struct command *cmd)
{
    if (!u->single)
        return u->config->kind == UPSTREAM_CLUSTER && cluster_refuses(cmd);
    for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
        size_t n = strlen(passed[i]);

        if (passed[i][n - 1] == '|' ? strncmp(cmd->name, passed[i], n) == 0
                                    : strcmp(cmd->name, passed[i]) == 0)
            return true;
    }
    return false;
}

static bool is_copy_away(const struct command *cmd, const struct resp_request *r)
{
    int64_t db = 0;

    if (strcmp(cmd->name, "copy") != 0)
        return false;
    for (uint32_t i = 3; i < r->argc; i++) {
        if (resp_arg_is(r, i, "replace"))
            continue;
        if (!resp_arg_is(r, i, "db") || ++i == r->argc || !resp_arg_int(r, i, &db) || db < 0)
            return false;
    }
    return db != 0; /* the last one counts */
}

bool single_copies_away(const struct upstream *u, const struct command *cmd,
                        const struct resp_request *r)
{
    return UNLIKELY(u->config->kind == UPSTREAM_SENTINEL) && !u->single && is_copy_away(cmd, r);
}
