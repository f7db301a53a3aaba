#include "net/loop.h"

#include <CUnit/Basic.h>
#include <pthread.h>
#include <unistd.h>

#include "net/sock.h"
#include "until.h"

/* What happened, one letter an event. */
static char events[64];
static size_t event_count;

static void event(char c)
{
    if (event_count < sizeof(events) - 1)
        events[event_count++] = c;
    events[event_count] = '\0';
}

static void forget_events(void)
{
    event_count = 0;
    events[0] = '\0';
}

struct job {
    struct loop_task task;
    struct loop *loop;
    char letter;
    int again; /* queues itself so many times */
};

static void run_job(struct loop_task *t)
{
    struct job *j = CONTAINER_OF(t, struct job, task);

    event(j->letter);
    if (j->again-- > 0)
        loop_add_task(j->loop, t);
}

static void job_init(struct job *j, struct loop *l, char letter, int again)
{
    *j = (struct job){.loop = l, .letter = letter, .again = again, .task.run = run_job};
    list_init(&j->task.link);
}

static void on_turn(struct loop *l)
{
    (void)l;
    event('.');
}

static void test_tasks(void)
{
    struct loop l;
    struct job a, b;

    loop_init(&l, ev_loop_new(0), NULL);
    l.on_turn = on_turn;
    job_init(&a, &l, 'a', 2);
    job_init(&b, &l, 'b', 0);
    forget_events();
    loop_add_task(&l, &a.task);
    loop_add_task(&l, &b.task);
    loop_add_task(&l, &a.task); /* it is queued already */
    for (int i = 0; i < 6; i++)
        ev_run(l.ev, EVRUN_NOWAIT);
    /* In order, and what queues itself again waits for a turn of the sockets. */
    CU_ASSERT_STRING_EQUAL(events, ".ab.a.a...");
    loop_deinit(&l);
}

/* While tasks wait the loop must not sleep until the tick. */
static void test_tasks_do_not_wait(void)
{
    struct loop l;
    struct job a;
    uint64_t begin = clock_ms();

    loop_init(&l, ev_loop_new(0), NULL);
    job_init(&a, &l, 'a', 50);
    forget_events();
    loop_add_task(&l, &a.task);
    TURN_UNTIL(&l, a.again < 0);
    CU_ASSERT_EQUAL(event_count, 51);
    CU_ASSERT(clock_ms() - begin < 50 * LOOP_TICK_MS / 2);
    loop_deinit(&l);
}

static void on_busy(struct ev_loop *ev, struct ev_io *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
    event('i');
}

/* A socket that is always ready does not keep tasks from running. */
static void test_tasks_beside_busy_sockets(void)
{
    struct loop l;
    struct job a;
    struct ev_io busy;
    int fds[2];

    CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
    loop_init(&l, ev_loop_new(0), NULL);
    ev_io_init(&busy, on_busy, fds[1], EV_WRITE);
    ev_io_start(l.ev, &busy);
    job_init(&a, &l, 'a', 2);
    forget_events();
    loop_add_task(&l, &a.task);
    for (int i = 0; i < 6; i++)
        ev_run(l.ev, EVRUN_NOWAIT);
    CU_ASSERT_EQUAL(a.again, -1);
    CU_ASSERT_PTR_NOT_NULL(strchr(events, 'i'));
    ev_io_stop(l.ev, &busy);
    loop_deinit(&l);
    close(fds[0]);
    close(fds[1]);
}

struct corpse {
    struct loop_reap reap;
    struct loop *loop;
    struct corpse *heir; /* becomes one when this is freed */
    char letter;
};

static void free_corpse(struct loop_reap *r)
{
    struct corpse *c = CONTAINER_OF(r, struct corpse, reap);

    event(c->letter);
    if (c->heir != NULL)
        loop_add_reap(c->loop, &c->heir->reap);
    memset(c, 0xee, sizeof(*c));
}

static void test_reaps(void)
{
    struct loop l;
    struct corpse a, b, c;

    loop_init(&l, ev_loop_new(0), NULL);
    l.on_turn = on_turn;
    a = (struct corpse){.reap.free = free_corpse, .loop = &l, .letter = 'a'};
    b = (struct corpse){.reap.free = free_corpse, .loop = &l, .letter = 'b', .heir = &a};
    c = (struct corpse){.reap.free = free_corpse, .loop = &l, .letter = 'c'};
    forget_events();
    loop_add_reap(&l, &c.reap);
    loop_add_reap(&l, &b.reap);
    CU_ASSERT_STRING_EQUAL(events, "");
    turn_twice(&l);
    /* After the turn's work, the newest first, each once, heirs in the same turn. */
    CU_ASSERT_STRING_EQUAL(events, ".bac.");
    c = (struct corpse){.reap.free = free_corpse, .loop = &l, .letter = 'c'};
    loop_add_reap(&l, &c.reap);
    loop_deinit(&l);
    CU_ASSERT_STRING_EQUAL(events, ".bac.c");
}

static void on_tick(struct loop *l)
{
    if (++*(int *)l->owner == 3)
        loop_stop(l);
}

static void test_ticks(void)
{
    int ticks = 0;
    uint64_t begin = clock_ms();
    struct loop l;

    loop_init(&l, ev_loop_new(0), &ticks);
    l.on_tick = on_tick;
    loop_run(&l);
    CU_ASSERT_EQUAL(ticks, 3);
    CU_ASSERT(clock_ms() - begin >= 2 * LOOP_TICK_MS);
    CU_ASSERT(l.now_ms >= begin + 2 * LOOP_TICK_MS && l.now_ms <= clock_ms());
    loop_deinit(&l);
}

static void on_wake(struct loop *l)
{
    ++*(int *)l->owner;
    loop_stop(l);
}

static void *wake_from_outside(void *arg)
{
    loop_wake(arg);
    return NULL;
}

static void test_wake(void)
{
    int woken = 0;
    struct loop l;
    pthread_t t;

    loop_init(&l, ev_loop_new(0), &woken);
    l.on_wake = on_wake;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, wake_from_outside, &l), 0);
    loop_run(&l);
    CU_ASSERT_EQUAL(woken, 1);
    pthread_join(t, NULL);
    loop_deinit(&l);
}

void suite_loop(void)
{
    CU_pSuite s = CU_add_suite("loop", NULL, NULL);

    CU_add_test(s, "tasks", test_tasks);
    CU_add_test(s, "tasks keep the loop awake", test_tasks_do_not_wait);
    CU_add_test(s, "tasks beside busy sockets", test_tasks_beside_busy_sockets);
    CU_add_test(s, "reaps", test_reaps);
    CU_add_test(s, "ticks", test_ticks);
    CU_add_test(s, "wake", test_wake);
}
