/*
 * loop.h - one libev loop and what every turn of it does.
 *
 * A turn: callbacks run and queue bytes on streams; then, just before the loop sleeps, every stream
 * that was written to is flushed by one writev, work that was put off runs again, and what closed
 * in this turn is freed. Nothing is freed inside its own callback.
 * Layer: net. Thread: the one that runs the loop; only loop_wake may be called by others.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <ev.h>

#include "base/list.h"

#define LOOP_TICK_MS 100

struct stream;

/* Work to run again in the next turn, before the loop sleeps. */
struct loop_task {
    struct list_node link;
    void (*run)(struct loop_task *t);
};

/* Something to free at the end of the turn. */
struct loop_reap {
    struct loop_reap *next;
    void (*free)(struct loop_reap *r);
};

struct loop {
    struct ev_loop *ev;
    struct ev_prepare prepare;
    struct ev_idle idle; /* active while tasks wait: the loop must not sleep */
    struct ev_async wake;
    struct ev_timer tick;
    struct stream *dirty; /* singly linked through stream.next_dirty */
    struct list_node tasks;
    struct loop_reap *reaps;
    uint64_t now_ms; /* clock_ms of the last tick: cheap, up to LOOP_TICK_MS old */
    bool late;       /* that tick came so late that on_tick was left to the next one */
    void *owner;
    void (*on_turn)(struct loop *l); /* before the flush of each turn; may be NULL */
    void (*on_tick)(struct loop *l); /* every LOOP_TICK_MS, the sockets' turn first; may be NULL */
    void (*on_wake)(struct loop *l); /* after loop_wake; may be NULL */
};

/* `owner` is for the callbacks. main's loop passes ev_default_loop, others ev_loop_new. */
void loop_init(struct loop *l, struct ev_loop *ev, void *owner);
void loop_deinit(struct loop *l);

/* Runs until loop_stop. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* Makes on_wake run. Any thread, while the loop exists. */
void loop_wake(struct loop *l);

/* Queues a task for the next turn; a task already queued stays where it is. */
void loop_add_task(struct loop *l, struct loop_task *t);

static inline void loop_add_reap(struct loop *l, struct loop_reap *r)
{
    r->next = l->reaps;
    l->reaps = r;
}

#endif
