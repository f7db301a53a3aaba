/*
 * redirect_held.h - a request that is held, for redirect.c, which holds it, and redirect_retry.c,
 * which sends it again or gives it up.
 * Layer: session (session/redirect*.c only). Thread: one worker.
 */
#ifndef SESSION_REDIRECT_HELD_H
#define SESSION_REDIRECT_HELD_H

#include "session/redirect.h"

/* How long a node that answered "not now" is left alone before one request tries it again. */
#define REDIRECT_PROBE_MS 10

/* c has a refused request: it waits, if it does not yet, and is looked at in this turn. */
void redirect_start_waiting(struct client *c);

/* r is about to leave the state REFUSED: it no longer counts as held. */
void redirect_release(struct client *c, struct request *r);

/* Answers r, which no connection has. */
void redirect_answer(struct client *c, struct request *r, const char *text, size_t n);

#endif
