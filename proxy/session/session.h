/*
 * session.h - what the worker calls: start, tick and stop of all sessions of one worker.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "session/client.h"

/* Completes an environment whose loop, config, hooks and worker fields are set. */
void session_env_init(struct session_env *env);
void session_env_deinit(struct session_env *env);

/* Before the flush of each turn, and every LOOP_TICK_MS. */
void session_on_turn(struct session_env *env);
void session_on_tick(struct session_env *env);

/* No new requests are read; clients close when they are answered. */
void session_drain(struct session_env *env);

/* Closes all clients now. */
void session_close_all(struct session_env *env);

#endif
