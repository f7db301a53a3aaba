/*
 * info.h - INFO: asked of all masters, shown as one server's, shared by the clients of a worker.
 * Layer: session. Thread: one worker. Owner: its session_env.
 */
#ifndef SESSION_INFO_H
#define SESSION_INFO_H

#include "session/env.h"

struct info_cache;

struct info_cache *info_cache_new(struct session_env *env);
/* All clients are closed. */
void info_cache_free(struct info_cache **c);

#endif
