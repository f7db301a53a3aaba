/*
 * dispatch.h - from a parsed command to the one who answers it.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_DISPATCH_H
#define SESSION_DISPATCH_H

#include "session/client.h"

enum dispatch_result {
    DISPATCH_DONE, /* the request is on its way or answered; its bytes are no longer needed */
    DISPATCH_WAIT, /* a hold was set; present the same bytes again when it ends */
};

/* `block` is the block that holds r's bytes, or NULL when they are in a scratch buffer. */
enum dispatch_result dispatch_request(struct client *c, const struct resp_request *r,
                                      struct block *block);

/* Sets HOLD_BARRIER unless nothing of the client is under way. True: wait. */
static inline bool dispatch_barrier(struct client *c)
{
    if (c->head == NULL)
        return false;
    client_hold(c, HOLD_BARRIER);
    return true;
}

/* The slot of r's keys (*count of them). False: they are of several, and the map is sharded. */
MUST_CHECK bool dispatch_one_slot(struct client *c, const struct command *cmd,
                                  const struct resp_request *r, uint16_t *slot, size_t *count);

/* A slot of the client's own master, for what has no key. */
uint16_t dispatch_any_slot(const struct client *c);

/* After a request was sent: holds the client at its limits. */
void dispatch_limit(struct client *c);

/* What shows or changes how the servers run, and who may use them: refused by admin_commands. */
static inline bool dispatch_is_guarded(const struct client *c, const struct command *cmd)
{
    return UNLIKELY((cmd->flags & CMD_GUARDED) != 0) && !c->env->config->admin_commands;
}

/* One of the keyless routes: r is sent to the client's own master. */
enum dispatch_result dispatch_any(struct client *c, const struct command *cmd,
                                  const struct resp_request *r, struct block *block);

#endif
