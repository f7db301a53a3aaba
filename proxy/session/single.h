/*
 * single.h - commands that have no meaning in front of several servers, and pass in front of one.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_SINGLE_H
#define SESSION_SINGLE_H

#include "session/upstream.h"

/* True for a command that u's server may be sent on a shared connection: it neither blocks nor
 * changes what the connection is, and its answer is the whole answer. Behind a cluster: which any
 * server of it refuses in words of its own. */
bool single_forwards(const struct upstream *u, const struct command *cmd);

/* True for a COPY to another database of one of several masters under Sentinel, from where no
 * client could get it back. (A cluster's servers refuse it themselves.) Arguments that are wrong
 * are left to the server. */
bool single_copies_away(const struct upstream *u, const struct command *cmd,
                        const struct resp_request *r);

#endif
