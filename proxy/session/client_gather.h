/*
 * client_gather.h - a client that asks all workers, and is held until they have answered.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_CLIENT_GATHER_H
#define SESSION_CLIENT_GATHER_H

#include "session/client.h"

/* Puts a request of c in its empty queue and asks the workers. `data` is malloc'ed and belongs to
 * the gather from here on; finish ends with client_gather_end. */
void client_gather(struct client *c, const struct command *cmd,
                   void (*collect)(struct gather *g, struct session_env *env),
                   void (*finish)(struct gather *g, struct session_env *env), void *data);

/* The same for a request that is the only one in c's queue already, and that holds nothing else. */
void client_gather_on(struct client *c, struct request *req,
                      void (*collect)(struct gather *g, struct session_env *env),
                      void (*finish)(struct gather *g, struct session_env *env), void *data);

/* In finish: the asking client; NULL when it has left. */
struct client *client_gather_asker(const struct gather *g, struct session_env *env);

/* Answers the asking client c (NULL: it has left) and frees g; `reply` is emptied. */
void client_gather_end(struct gather *g, struct client *c, struct chain *reply);

#endif
