/*
 * wait_known.h - which masters WAIT and WAITAOF ask, and what their answers say of a client's
 * writes.
 *
 * client.wrote collects the masters that took writes; here it is booked for both commands, because
 * what one has confirmed the other has not. What is confirmed is asked for no more, unless later
 * more is wanted of it.
 * Layer: session. Thread: one worker. Owner: struct client_extra.
 */
#ifndef SESSION_WAIT_KNOWN_H
#define SESSION_WAIT_KNOWN_H

#include "session/wait_conn.h"

static inline bool wait_is_enough(const struct wait_count *is, const struct wait_count *wanted)
{
    return is->local >= wanted->local && is->replicas >= wanted->replicas;
}

/* False for who only wants to know the numbers. */
static inline bool wait_wants(const struct wait *op)
{
    return op->wanted.local > 0 || op->wanted.replicas > 0;
}

/* a, where b is not smaller: number by number. */
void wait_count_least(struct wait_count *a, const struct wait_count *b);

/* Which masters have what op asks about: op->masters and the flags below it. */
void wait_known_choose(struct wait *op);

/* True when nothing was written since what op wants, and what it waits for, was confirmed. */
bool wait_known_already(const struct wait *op);

/* The answer, op->least being that of the masters asked; keeps what follows from it. */
struct wait_count wait_known_settle(struct wait *op);

/* What c wrote at masters with this mark is lost. */
void wait_known_lost(struct client *c, uint16_t mark);

#endif
