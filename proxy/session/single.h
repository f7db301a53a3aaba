/*
 * single.h - commands that have no meaning in front of several servers, and pass in front of one.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_SINGLE_H
#define SESSION_SINGLE_H

#include "command/command.h"

/* True for a command that one server may be sent on a shared connection: it neither blocks nor
 * changes what the connection is, and its answer is the whole answer. */
bool single_forwards(const struct command *cmd);

#endif
