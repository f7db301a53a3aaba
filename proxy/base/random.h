/*
 * random.h - numbers for jitter: workers and processes must not act in step. Never for secrets.
 * Layer: base. Thread: whose the state is.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include "base/check.h"

/* The next number of this state (xorshift), which is not 0 when it begins. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

#endif
