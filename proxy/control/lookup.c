#include "control/lookup.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/alloc.h"
#include "base/log.h"

/* A name service that works answers within this. */
#define USUAL_MS 50
/* Threads that wait for one that does not. */
#define AT_ONCE 64

struct lookups {
    pthread_mutex_t lock; /* of all below, and of the look-ups under way */
    pthread_cond_t done;
    struct loop *loop; /* NULL: closed */
    unsigned running;
    unsigned late; /* of them: waited for in vain */
};

struct lookup {
    struct lookups *s;
    struct addr addr;
    bool done, late, given_up;
    size_t count;
    struct sockaddr_any found[LOOKUP_MAX];
};

struct lookups *lookups_new(struct loop *l)
{
    struct lookups *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t attr;

    s->loop = l;
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&s->done, &attr) == 0);
    pthread_condattr_destroy(&attr);
    return s;
}

static void unlock_and_free(struct lookups *s)
{
    bool last = s->loop == NULL && s->running == 0;

    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void lookups_close(struct lookups **p)
{
    struct lookups *s = *p;

    *p = NULL;
    pthread_mutex_lock(&s->lock);
    s->loop = NULL;
    unlock_and_free(s);
}

static void *run(void *arg)
{
    struct lookup *l = arg;
    struct lookups *s = l->s;
    size_t n = addr_resolve_all(&l->addr, l->found, LOOKUP_MAX);

    pthread_mutex_lock(&s->lock);
    l->count = n;
    l->done = true;
    s->late -= l->late;
    s->running--;
    if (l->given_up)
        free(l);
    pthread_cond_signal(&s->done);
    if (s->loop != NULL)
        loop_wake(s->loop);
    unlock_and_free(s);
    return NULL;
}

struct lookup *lookup_start(struct lookups *s, const struct addr *a)
{
    struct lookup *l;
    pthread_t thread;
    bool room;

    pthread_mutex_lock(&s->lock);
    room = s->running < AT_ONCE;
    s->running += room;
    pthread_mutex_unlock(&s->lock);
    if (!room)
        return NULL;
    l = xcalloc(1, sizeof(*l));
    l->s = s;
    l->addr = *a;
    if (pthread_create(&thread, NULL, run, l) == 0) {
        pthread_detach(thread);
        return l;
    }
    log_warn("no thread to look up %s", a->host);
    pthread_mutex_lock(&s->lock);
    s->running--;
    pthread_mutex_unlock(&s->lock);
    free(l);
    return NULL;
}

/* Under the lock. */
static void wait_usual(struct lookup *l)
{
    struct lookups *s = l->s;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += USUAL_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (!l->done && pthread_cond_timedwait(&s->done, &s->lock, &until) != ETIMEDOUT)
        ;
    if (!l->done) {
        l->late = true;
        s->late++;
    }
}

bool lookup_is_done(struct lookup *l, bool fresh)
{
    struct lookups *s = l->s;
    bool done;

    pthread_mutex_lock(&s->lock);
    if (fresh && !l->done && !l->late && s->late == 0)
        wait_usual(l);
    done = l->done;
    pthread_mutex_unlock(&s->lock);
    return done;
}

size_t lookup_take(struct lookup **p, struct sockaddr_any out[LOOKUP_MAX])
{
    struct lookup *l = *p;
    size_t n = l->count;

    *p = NULL;
    memcpy(out, l->found, n * sizeof(*out));
    free(l);
    return n;
}

void lookup_give_up(struct lookup **p)
{
    struct lookup *l = *p;
    struct lookups *s;

    *p = NULL;
    if (l == NULL)
        return;
    s = l->s;
    pthread_mutex_lock(&s->lock);
    l->given_up = true;
    if (l->done)
        free(l);
    pthread_mutex_unlock(&s->lock);
}
