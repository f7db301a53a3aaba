/*
 * client_pause.h - CLIENT PAUSE: for a while no command, or no write, of any client is begun.
 *
 * What has been sent already is answered. Each worker keeps its own copy of the pause, with a
 * timer.
 * Layer: session. Thread: one worker. Owner: env->pause.
 */
#ifndef SESSION_CLIENT_PAUSE_H
#define SESSION_CLIENT_PAUSE_H

#include "session/client.h"

/* c->pause_writes is set: true when cmd (NULL: unknown) has to wait; HOLD_PAUSE is then set. */
bool client_pause_holds(struct client *c, const struct command *cmd, const struct resp_request *r);

/* What a pause of writes is about: r can change something at a server. */
bool client_pause_concerns(struct client *c, const struct command *cmd,
                           const struct resp_request *r);

/* Counts the clients of this worker that wait (metrics.paused), for INFO's blocked_clients. */
void client_pause_tick(struct session_env *env);

/* A client that comes during a pause. */
void client_pause_join(struct client *c);

/* Ends the pause of this worker, if there is one. */
void client_pause_end(struct session_env *env);

#endif
