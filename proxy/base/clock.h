/*
 * clock.h - the time now.
 *
 * The monotonic clock never jumps and is what timeouts are measured with; the wall clock is for
 * people and for seeds of identities. A loop that has its own idea of "now" uses that instead.
 * Layer: base. Thread: any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/check.h"

/* Monotonic microseconds since an arbitrary moment. */
static inline uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Monotonic milliseconds since the same moment. */
static inline uint64_t clock_ms(void)
{
    return clock_us() / 1000;
}

/* Milliseconds since 1970-01-01T00:00:00Z. */
static inline uint64_t clock_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#endif
