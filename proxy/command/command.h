/*
 * command.h - facts about commands: route, key positions, merge rule, flags.
 *
 * One table (table.def) is the only place that knows commands by name; a test compares it with a
 * live server's COMMAND. A container's subcommand has a row of its own ("xinfo|stream").
 * Layer: command. Thread: any; all of it is immutable after command_init.
 */
#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

#include "base/check.h"
#include "resp/request.h"

/* How a request travels. */
enum command_route {
    ROUTE_KEYS,        /* to the owner of its keys' one slot; keys of two slots: CROSSSLOT */
    ROUTE_SPLIT,       /* like ROUTE_KEYS, but split per slot and merged when there are several */
    ROUTE_BLOCKING,    /* like ROUTE_KEYS; may wait at the server, on a connection of its own */
    ROUTE_ANY,         /* no key: to one master, the same for the client's life */
    ROUTE_ALL,         /* to every master, answers merged by the merge rule */
    ROUTE_LOCAL,       /* answered by the proxy: handler below */
    ROUTE_UNSUPPORTED, /* -ERR KEYWAY <CMD> is not supported yet */
    ROUTE_CONTAINER,   /* a container called without a known subcommand */
};

/* How the answers of the parts become one. */
enum command_merge {
    MERGE_NONE,
    MERGE_SUM,       /* integers added */
    MERGE_OK,        /* all +OK */
    MERGE_ORDER,     /* arrays, elements put back at their keys' positions (MGET) */
    MERGE_CONCAT,    /* arrays, one after the other (KEYS) */
    MERGE_FIRST,     /* all succeed, the first answer stands (SCRIPT LOAD) */
    MERGE_FOUND,     /* the first that is no error (SCRIPT SHOW) */
    MERGE_AND,       /* arrays of 0/1, minimum by position (SCRIPT EXISTS) */
    MERGE_SLOWLOG,   /* SLOWLOG GET (these: session/merge_admin.h) */
    MERGE_ACL_LOG,   /* ACL LOG */
    MERGE_LATEST,    /* LATENCY LATEST */
    MERGE_HISTORY,   /* LATENCY HISTORY */
    MERGE_HISTOGRAM, /* LATENCY HISTOGRAM */
    MERGE_MEMORY,    /* MEMORY STATS */
    MERGE_FUNCTIONS, /* FUNCTION STATS */
    MERGE_TEXT,      /* texts for people, one after the other */
};

enum command_flag {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_BLOCKING = 1 << 2,
    CMD_PUBSUB = 1 << 3,
    CMD_ADMIN = 1 << 4,
    CMD_NO_MULTI = 1 << 5,
    CMD_NOSCRIPT = 1 << 6,
    CMD_DENYOOM = 1 << 7,
    CMD_FAST = 1 << 8,
    CMD_LOADING = 1 << 9,
    CMD_STALE = 1 << 10,
    CMD_NO_AUTH = 1 << 11,
    CMD_MAY_REPLICATE = 1 << 12,
    CMD_SCRIPT = 1 << 13,  /* EVAL, FCALL and module-like: can return any error text */
    CMD_TX = 1 << 14,      /* opens, closes or guards a transaction */
    CMD_ASKING = 1 << 15,  /* server accepts it for an importing slot without ASKING */
    CMD_GUARDED = 1 << 16, /* refused unless admin_commands is true */
};

/* How the key positions of a request are found. */
enum command_keys {
    KEYS_NONE,
    KEYS_RANGE,     /* first, last (negative: from the end), step */
    KEYS_NUMKEYS,   /* argument `first` is a count, the keys follow it; `last` = position of one
                       more key before it (a destination), 0 = none */
    KEYS_STREAMS,   /* XREAD, XREADGROUP: the first half of what follows STREAMS */
    KEYS_SORT,      /* key at 1, and the one after STORE (the last STORE wins) */
    KEYS_MIGRATE,   /* key at 3, or those after KEYS when it is empty */
    KEYS_GEORADIUS, /* key at 1, and the one after the last STORE or STOREDIST */
    KEYS_SPECS,     /* of a learnt command: as its servers specify them (command/learnt.h) */
};

/* Which function of the session layer answers a ROUTE_LOCAL command. */
enum command_local {
    LOCAL_NONE,
#define LOCAL(name) LOCAL_##name,
#include "command/local.def"
#undef LOCAL
    LOCAL_COUNT
};

struct command {
    const char *name; /* lower case; "container|sub" for a subcommand */
    int16_t arity;    /* as COMMAND tells it: negative = at least */
    uint8_t route, merge, keys, local;
    uint16_t number; /* in command_table; learnt ones are counted on from its end */
    uint32_t flags;
    int16_t first, last, step;
};

/* The rows, in the order of table.def. */
extern const struct command command_table[];
extern const size_t command_table_len;

/* Builds the lookup table. Once, before threads start. */
void command_init(void);

/* The row of a request, subcommand included; NULL when the command is unknown. For a container with
 * an unknown or missing subcommand, the container's own row (route ROUTE_CONTAINER). */
const struct command *command_find(const struct resp_request *r);

/* The row with this exact lower-case name ("get", "xinfo|stream"), or NULL. */
const struct command *command_find_name(const char *name, size_t len);

/* True when the number of arguments fits the arity. */
static inline bool command_arity_ok(const struct command *c, uint32_t argc)
{
    return c->arity >= 0 ? argc == (uint32_t)c->arity : argc >= (uint32_t)-c->arity;
}

enum command_keys_status {
    COMMAND_KEYS_OK,
    COMMAND_KEYS_BAD, /* malformed numkeys, missing STREAMS ...: let a server word the error */
};

/* Positions of a request's keys as a range when they are one (the common case):
 * first, first+step, ... count of them. Returns false when the keys need command_keys_list. */
struct command_key_range {
    uint32_t first, step, count;
};
enum command_keys_status command_keys_range(const struct command *c, const struct resp_request *r,
                                            struct command_key_range *out);

/* True when command_keys_range cannot describe this command's keys. */
static inline bool command_keys_scattered(const struct command *c)
{
    return c->keys == KEYS_SORT || c->keys == KEYS_GEORADIUS ||
           (c->keys == KEYS_NUMKEYS && c->last != 0) || c->keys == KEYS_MIGRATE ||
           c->keys == KEYS_SPECS;
}

/* All key positions, ascending where the command's are; at most max are written, the total is
 * returned through *count. Works for every kind. */
enum command_keys_status command_keys_list(const struct command *c, const struct resp_request *r,
                                           uint32_t *positions, size_t max, size_t *count);

#endif
