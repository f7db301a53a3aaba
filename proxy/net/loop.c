#include "net/loop.h"

#include "base/clock.h"
#include "net/stream.h"

/* A tick so much later than the one before finds a process that was stopped, or was busy. */
#define LATE_MS (3 * LOOP_TICK_MS)

static void on_prepare(struct ev_loop *ev, struct ev_prepare *w, int revents)
{
    struct loop *l = CONTAINER_OF(w, struct loop, prepare);

    (void)revents;
    if (l->on_turn != NULL)
        l->on_turn(l);
    stream_flush_dirty(l);
    while (l->reaps != NULL) {
        struct loop_reap *r = l->reaps;

        l->reaps = r->next;
        r->free(r);
    }
    if (!list_empty(&l->tasks))
        ev_idle_start(ev, &l->idle);
    else
        ev_idle_stop(ev, &l->idle);
}

static void on_idle(struct ev_loop *ev, struct ev_idle *w, int revents)
{
    struct loop *l = CONTAINER_OF(w, struct loop, idle);
    struct list_node now, *n;

    (void)ev;
    (void)revents;
    /* Tasks queued meanwhile wait for the next turn, or sockets would starve. */
    list_init(&now);
    list_splice(&now, &l->tasks);
    while ((n = list_pop(&now)) != NULL) {
        struct loop_task *t = CONTAINER_OF(n, struct loop_task, link);

        t->run(t);
    }
}

static void on_wake(struct ev_loop *ev, struct ev_async *w, int revents)
{
    struct loop *l = CONTAINER_OF(w, struct loop, wake);

    (void)ev;
    (void)revents;
    if (l->on_wake != NULL)
        l->on_wake(l);
}

static void on_tick(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct loop *l = CONTAINER_OF(w, struct loop, tick);

    (void)revents;
    (void)ev;
    l->late = !l->late && clock_ms() - l->now_ms > LATE_MS;
    l->now_ms = clock_ms();
    /* Time-outs are judged when what has arrived in the meantime is read. */
    if (l->on_tick != NULL && !l->late)
        l->on_tick(l);
}

void loop_init(struct loop *l, struct ev_loop *ev, void *owner)
{
    CHECK(ev != NULL);
    *l = (struct loop){.ev = ev, .owner = owner, .now_ms = clock_ms()};
    list_init(&l->tasks);
    ev_set_userdata(ev, l);
    ev_prepare_init(&l->prepare, on_prepare);
    ev_prepare_start(ev, &l->prepare);
    ev_idle_init(&l->idle, on_idle);
    /* An idle watcher waits for those above it: tasks must not wait for a quiet moment. */
    ev_set_priority(&l->idle, EV_MAXPRI);
    ev_async_init(&l->wake, on_wake);
    ev_async_start(ev, &l->wake);
    ev_timer_init(&l->tick, on_tick, LOOP_TICK_MS / 1000.0, LOOP_TICK_MS / 1000.0);
    ev_set_priority(&l->tick, EV_MINPRI); /* behind the sockets of the same turn */
    ev_timer_start(ev, &l->tick);
}

void loop_deinit(struct loop *l)
{
    ev_prepare_stop(l->ev, &l->prepare);
    ev_idle_stop(l->ev, &l->idle);
    ev_async_stop(l->ev, &l->wake);
    ev_timer_stop(l->ev, &l->tick);
    while (l->reaps != NULL) {
        struct loop_reap *r = l->reaps;

        l->reaps = r->next;
        r->free(r);
    }
    if (!ev_is_default_loop(l->ev))
        ev_loop_destroy(l->ev);
    l->ev = NULL;
}

void loop_run(struct loop *l)
{
    ev_run(l->ev, 0);
}

void loop_stop(struct loop *l)
{
    ev_break(l->ev, EVBREAK_ALL);
}

void loop_wake(struct loop *l)
{
    ev_async_send(l->ev, &l->wake);
}

void loop_add_task(struct loop *l, struct loop_task *t)
{
    if (!list_linked(&t->link))
        list_push(&l->tasks, &t->link);
}
