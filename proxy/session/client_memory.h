/*
 * client_memory.h - what a client makes the proxy hold; memory_max closes the one that holds most.
 *
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_CLIENT_MEMORY_H
#define SESSION_CLIENT_MEMORY_H

#include "session/client.h"

/* Bytes on its account, as its counters tell: what it has not read, has begun to send, has under
 * way, listens to. */
uint64_t client_bytes(const struct client *c);

/* Bytes that its queue keeps besides: requests that wait to be sent (again), or that are answered
 * behind one that is not; parts; blocks of transactions; what came early of long replies. */
uint64_t client_queue_bytes(const struct client *c);

/* From the worker's tick, when memory_max is set: the client that holds most, of all workers, is
 * closed. Each worker tells how much its largest holds; the one with the largest of all acts. */
void client_memory_tick(struct session_env *env);

#endif
