/*
 * reply_mode.h - CLIENT REPLY: the proxy runs a client's commands and drops their replies.
 *
 * No server hears of it. A request gets its mark (request.silent) when it enters the queue, so what
 * was asked before keeps its reply; of a marked one nothing is stored. What is no reply passes:
 * messages of channels and the confirmations of subscriptions.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_REPLY_MODE_H
#define SESSION_REPLY_MODE_H

#include "session/client.h"

/* Before and after a command of a client whose c->reply_mode is not REPLY_ON. An empty command
 * counts as one, as it does in Redis. */
void reply_mode_begin(struct client *c);
void reply_mode_end(struct client *c);

#endif
