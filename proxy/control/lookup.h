/*
 * lookup.h - names looked up beside the discovery thread, which must not wait for a name service
 * that does not answer: a failover could not be followed meanwhile.
 *
 * Each look-up has a thread of its own, since one that hangs holds up whoever shares it, and nobody
 * can end it. It wakes the loop when it is through. One that is given up ends by itself.
 * Layer: control. Thread: discovery, but for what runs beside it. Owner: struct discovery.
 */
#ifndef CONTROL_LOOKUP_H
#define CONTROL_LOOKUP_H

#include "base/addr.h"
#include "net/loop.h"

/* Addresses of one name that are told. */
#define LOOKUP_MAX 16

struct lookups;
struct lookup;

struct lookups *lookups_new(struct loop *l);
/* The loop is not woken any more. After all look-ups were taken or given up. */
void lookups_close(struct lookups **s);

/* NULL: too many are under way. */
struct lookup *lookup_start(struct lookups *s, const struct addr *a);

/* True when it is through. A new one is waited for as long as a name service takes that works,
 * unless another has lasted longer just now. */
MUST_CHECK bool lookup_is_done(struct lookup *l, bool fresh);

/* What was found, of one that is through; 0: nothing. */
size_t lookup_take(struct lookup **l, struct sockaddr_any out[LOOKUP_MAX]);

/* Nobody wants to know any more. NULL is allowed. */
void lookup_give_up(struct lookup **l);

#endif
