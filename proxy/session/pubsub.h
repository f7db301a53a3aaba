/*
 * pubsub.h - the commands of publish and subscribe as others meet them.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_PUBSUB_H
#define SESSION_PUBSUB_H

#include "session/dispatch.h"

/* True: the command has to wait for earlier ones of its client; a hold is set. */
MUST_CHECK bool pubsub_must_wait(struct client *c, const struct command *cmd,
                                 const struct resp_request *r);

/* The same for what may publish inside: EXEC, a script. It is to be heard by the client's own
 * SUBSCRIBE before it, which is not confirmed yet. */
MUST_CHECK bool pubsub_is_settling(struct client *c);

/* A RESP2 client that listens may say little else. True: cmd was answered with Redis's error. */
MUST_CHECK bool pubsub_refuses(struct client *c, const struct command *cmd,
                               const struct resp_request *r);

/* PING's answer while c->subscribed. */
void pubsub_write_pong(const struct resp_request *r, struct chain *out);

#endif
