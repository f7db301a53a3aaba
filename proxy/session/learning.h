/*
 * learning.h - commands beyond the table: what one worker does with command/learnt.h.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_LEARNING_H
#define SESSION_LEARNING_H

#include "session/client.h"

/* Takes over the caller's reference to what u's servers tell of their commands. */
void learning_adopt(struct upstream *u, struct learnt *l);

/* r is no command of the table, or an unknown subcommand of the container *cmd: puts the learnt row
 * there when there is one. False: the servers have not told their commands yet, the client is held
 * until they have. */
MUST_CHECK bool learning_find(struct client *c, const struct resp_request *r,
                              const struct command **cmd);

/* Answers a learnt command that is not to be used. */
void learning_refuse(struct client *c, const struct command *cmd);

#endif
