/*
 * command_reply.h - reads a server's answer to COMMAND.
 *
 * The layout is that of Redis 7 and Valkey (name, arity, flags, first key, last key, step, ACL
 * categories, tips, key specifications, subcommands); older servers leave out the last ones.
 * Layer: control. Thread: discovery. Owner: of a result, the caller.
 */
#ifndef CONTROL_COMMAND_REPLY_H
#define CONTROL_COMMAND_REPLY_H

#include <hiredis/hiredis.h>

#include "command/learnt.h"

/* What decides whether clients may use a command that was learnt. */
struct learn_policy {
    bool sharded;        /* several masters: the keys have to be found */
    bool admin_commands; /* as configured */
};

/* What one server knows beyond the table. */
struct server_commands {
    const struct learnt_command **rows;
    size_t count;
    int16_t *arity; /* of each row of command_table; 0: as the table has it */
    bool full;      /* the pool had no room for some */
};

/* False, and nothing is allocated, when the answer is not one to COMMAND. */
MUST_CHECK bool command_reply_read(const redisReply *r, const struct learn_policy *policy,
                                   struct learnt_pool *pool, struct server_commands *out);
void server_commands_deinit(struct server_commands *c);

/* A sum over the names of COMMAND LIST that does not depend on their order. */
uint64_t command_reply_names(const redisReply *r);

#endif
