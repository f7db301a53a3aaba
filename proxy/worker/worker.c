#include "worker/worker.h"

#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/learning.h"
#include "session/redirect.h"

static struct worker *worker_of(struct session_env *env)
{
    return CONTAINER_OF(env, struct worker, env);
}

/* --- hooks of the sessions --- */

static void want_refresh(struct session_env *env, size_t upstream)
{
    struct workers *ws = worker_of(env)->all;

    ws->hooks.want_refresh(ws->hooks.arg, upstream);
}

static void want_commands(struct session_env *env, size_t upstream)
{
    struct workers *ws = worker_of(env)->all;

    ws->hooks.want_commands(ws->hooks.arg, upstream);
}

static void visit(struct mail *m, void *owner)
{
    struct gather *g = CONTAINER_OF(m, struct gather, mail);
    struct worker *w = owner;
    struct workers *ws = w->all;

    if (g->next < ws->count) {
        g->collect(g, &w->env);
        g->next++;
    }
    mailbox_post(&ws->list[g->next < ws->count ? g->next : g->from].box, &g->mail);
}

/* The last stop is the asking worker again, with next == count: then the answer is complete. */
static void visit_or_finish(struct mail *m, void *owner)
{
    struct gather *g = CONTAINER_OF(m, struct gather, mail);
    struct worker *w = owner;

    if (w == NULL)
        gather_free(g);
    else if (g->next >= w->all->count)
        g->finish(g, &w->env);
    else
        visit(m, owner);
}

static void gather(struct session_env *env, struct gather *g)
{
    struct worker *w = worker_of(env);

    g->from = env->worker;
    g->next = 0;
    g->mail.handle = visit_or_finish;
    mailbox_post(&w->all->list[0].box, &g->mail);
}

static const struct session_hooks session_hooks = {
    .want_refresh = want_refresh,
    .want_commands = want_commands,
    .gather = gather,
};

/* --- clients --- */

/* For so long after the start new clients wait for the servers' version: most ask for it at once.
 */
#define EARLY_MS 500

struct client_mail {
    struct mail mail;
    int fd;
    uint16_t listener;
    uint64_t id;
    struct client_mail *next; /* in worker.early */
};

static bool is_early(const struct worker *w)
{
    bool known = true;

    for (size_t i = 0; i < w->env.upstream_count; i++)
        known = known && w->env.upstreams[i]->known;
    return !known && clock_wall_ms() < w->env.start_ms + EARLY_MS;
}

static void give_client(struct worker *w, struct client_mail *cm)
{
    if (w->draining)
        close(cm->fd); /* nobody counts any more */
    else
        client_new(&w->env, cm->fd, cm->id, cm->listener);
    free(cm);
}

static void give_early(struct worker *w)
{
    if (!w->draining && is_early(w))
        return;
    while (w->early != NULL) {
        struct client_mail *cm = w->early;

        w->early = cm->next;
        give_client(w, cm);
    }
}

/* --- messages: a receiver that has ended passes no owner, and they only free themselves --- */

static void take_client(struct mail *m, void *owner)
{
    struct client_mail *cm = CONTAINER_OF(m, struct client_mail, mail);
    struct worker *w = owner;

    if (w == NULL) {
        close(cm->fd);
        free(cm);
    } else if (!w->draining && is_early(w)) {
        cm->next = w->early;
        w->early = cm;
    } else {
        give_client(w, cm);
    }
}

static void begin_drain(struct mail *m, void *owner)
{
    struct worker *w = owner;

    free(m);
    w->draining = true;
    w->drain_deadline_ms = clock_ms() + w->env.config->shutdown_timeout_ms;
    session_drain(&w->env);
}

/* --- the loop --- */

static void adopt_news(struct worker *w)
{
    for (size_t i = 0; i < w->env.upstream_count; i++) {
        struct slotmap *m = atomic_exchange(&w->new_maps[i], NULL);
        struct learnt *l = atomic_exchange(&w->new_commands[i], NULL);

        if (l != NULL)
            learning_adopt(w->env.upstreams[i], l);
        if (m != NULL) {
            upstream_adopt(w->env.upstreams[i], m);
            redirect_wake(&w->env);
        }
    }
}

static void on_wake(struct loop *l)
{
    struct worker *w = l->owner;

    adopt_news(w);
    mailbox_drain(&w->box, w);
}

static void on_turn(struct loop *l)
{
    struct worker *w = l->owner;

    if (UNLIKELY(w->early != NULL))
        give_early(w);
    session_on_turn(&w->env);
}

/* A worker without clients stays as long as others have some: it is asked for CLIENT LIST. */
static bool nobody_left(const struct workers *ws)
{
    for (size_t i = 0; i < ws->count; i++)
        if (METRIC_GET(ws->metrics[i], clients) != 0)
            return false;
    return true;
}

static void on_tick(struct loop *l)
{
    struct worker *w = l->owner;

    session_on_tick(&w->env);
    if (w->draining && (nobody_left(w->all) || clock_ms() >= w->drain_deadline_ms))
        loop_stop(l);
}

static void *run(void *arg)
{
    struct worker *w = arg;

    log_set_thread(w->name);
    loop_run(&w->loop);
    session_env_deinit(&w->env);
    chain_thread_end();
    block_thread_end();
    return NULL;
}

static void worker_init(struct workers *ws, struct worker *w, unsigned number, const char *version)
{
    w->all = ws;
    snprintf(w->name, sizeof(w->name), "worker-%u", number);
    loop_init(&w->loop, ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOSIGMASK), w);
    w->loop.on_wake = on_wake;
    w->loop.on_turn = on_turn;
    w->loop.on_tick = on_tick;
    mailbox_init(&w->box, &w->loop);
    w->new_maps = xcalloc(ws->config->upstream_count, sizeof(*w->new_maps));
    w->new_commands = xcalloc(ws->config->upstream_count, sizeof(*w->new_commands));
    w->env = (struct session_env){
        .loop = &w->loop,
        .config = ws->config,
        .hooks = &session_hooks,
        .worker = number,
        .all_metrics = ws->metrics,
        .worker_count = (unsigned)ws->count,
        .start_ms = clock_wall_ms(),
        .run_id = ws->run_id,
        .version = version,
    };
    ws->metrics[number] = &w->env.metrics;
    session_env_init(&w->env);
}

static void make_run_id(char out[RUN_ID_LEN + 1])
{
    unsigned char bytes[RUN_ID_LEN / 2];

    CHECK(getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

struct workers *workers_start(const struct config *config, const struct workers_hooks *hooks,
                              const char *version)
{
    struct workers *ws = xcalloc(1, sizeof(*ws));

    ws->count = config->workers;
    ws->config = config;
    ws->hooks = *hooks;
    ws->list = xcalloc(ws->count, sizeof(*ws->list));
    ws->metrics = xcalloc(ws->count, sizeof(*ws->metrics));
    make_run_id(ws->run_id);
    for (size_t i = 0; i < ws->count; i++)
        worker_init(ws, &ws->list[i], (unsigned)i, version);
    for (size_t i = 0; i < ws->count; i++)
        CHECK(pthread_create(&ws->list[i].thread, NULL, run, &ws->list[i]) == 0);
    return ws;
}

/* Handed over and not yet closed. */
static unsigned clients_of(const struct worker *w)
{
    return (unsigned)(w->given - METRIC_GET(&w->env.metrics, clients_closed));
}

void workers_give_client(struct workers *ws, int fd, uint64_t id, uint16_t listener)
{
    struct client_mail *cm = xmalloc(sizeof(*cm));
    struct worker *best = &ws->list[0];
    unsigned least = UINT32_MAX;

    for (size_t i = 0; i < ws->count; i++) {
        unsigned n = clients_of(&ws->list[i]);

        if (n < least) {
            least = n;
            best = &ws->list[i];
        }
    }
    best->given++;
    *cm = (struct client_mail){.fd = fd, .id = id, .listener = listener};
    cm->mail.handle = take_client;
    mailbox_post(&best->box, &cm->mail);
}

unsigned workers_clients(const struct workers *ws)
{
    unsigned sum = 0;

    for (size_t i = 0; i < ws->count; i++)
        sum += clients_of(&ws->list[i]);
    return sum;
}

void workers_publish(struct workers *ws, size_t upstream, struct slotmap *m)
{
    for (size_t i = 0; i < ws->count; i++) {
        struct slotmap *old = atomic_exchange(&ws->list[i].new_maps[upstream], slotmap_ref(m));

        slotmap_unref(&old);
        loop_wake(&ws->list[i].loop);
    }
    slotmap_unref(&m);
}

void workers_publish_commands(struct workers *ws, size_t upstream, struct learnt *l)
{
    for (size_t i = 0; i < ws->count; i++) {
        struct learnt *old = atomic_exchange(&ws->list[i].new_commands[upstream], learnt_ref(l));

        learnt_unref(&old);
        loop_wake(&ws->list[i].loop);
    }
    learnt_unref(&l);
}

void workers_stop(struct workers *ws)
{
    for (size_t i = 0; i < ws->count; i++) {
        struct mail *m = xmalloc(sizeof(*m));

        m->handle = begin_drain;
        mailbox_post(&ws->list[i].box, m);
    }
    for (size_t i = 0; i < ws->count; i++)
        pthread_join(ws->list[i].thread, NULL);
}

static void worker_deinit(struct worker *w, size_t upstreams)
{
    mailbox_drain(&w->box, NULL);
    mailbox_deinit(&w->box);
    for (size_t i = 0; i < upstreams; i++) {
        struct slotmap *m = atomic_exchange(&w->new_maps[i], NULL);
        struct learnt *l = atomic_exchange(&w->new_commands[i], NULL);

        slotmap_unref(&m);
        learnt_unref(&l);
    }
    free(w->new_maps);
    free(w->new_commands);
    loop_deinit(&w->loop);
}

void workers_free(struct workers **p)
{
    struct workers *ws = *p;

    *p = NULL;
    for (size_t i = 0; i < ws->count; i++)
        worker_deinit(&ws->list[i], ws->config->upstream_count);
    free(ws->list);
    free(ws->metrics);
    free(ws);
}
