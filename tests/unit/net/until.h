/* until.h - turns a loop until something is true, or five seconds have passed. */
#ifndef TEST_NET_UNTIL_H
#define TEST_NET_UNTIL_H

#include "base/clock.h"
#include "net/loop.h"

/* The loop's tick wakes it when nothing else does. */
#define TURN_UNTIL(l, condition)                                                                   \
    for (uint64_t until_ = clock_ms() + 5000; !(condition) && clock_ms() < until_;)                \
    ev_run((l)->ev, EVRUN_ONCE)

/* One turn with what is ready, and one more to do what that queued. */
static inline void turn_twice(struct loop *l)
{
    ev_run(l->ev, EVRUN_NOWAIT);
    ev_run(l->ev, EVRUN_NOWAIT);
}

#endif
