/*
 * info.c - INFO: who asks the masters, and who only waits for the answer.
 *
 * Libraries send INFO on every connect, so a reconnecting fleet would multiply it by the number of
 * masters. Clients that want the same sections at the same time share one answer: one's scatter
 * asks, those of the others have no parts and end when the answer is there. Only those share it who
 * came before the masters were asked: whoever comes later may have changed what they would tell,
 * and waits for the next round. A master that cannot be reached is left out rather than waited for.
 */
#include "session/info.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/info_own.h"
#include "session/local.h"
#include "session/scatter.h"

#define SPACING_MS 10  /* between the begins of two rounds for the same sections */
#define MAX_ANSWERS 64 /* kept for their asked_ms only */
#define MAX_NAMES 128  /* sections in one request */

/* What is asked for, and this round's answer to it. */
struct info_answer {
    struct list_node link;      /* cache's answers, the oldest first */
    struct list_node waiters;   /* struct info_waiter.link: of this round */
    struct list_node later;     /* of the next, they came when this one was under way */
    struct info_waiter *leader; /* the one whose parts are under way; NULL: none */
    struct info_cache *cache;
    struct upstream *up;
    uint16_t listener, profile;
    struct info_wanted wanted;
    bool done, error;
    uint64_t asked_ms; /* when the last round began; 0: none did */
    char *text;        /* when done: INFO's text, or an error as a server sent it */
    size_t len;
    uint32_t key_len;
    char key[]; /* the request to the servers */
};

/* Data of a client's scatter. */
struct info_waiter {
    struct list_node link;
    struct info_answer *answer;
    struct client *c;
    struct request *parent;
};

struct info_cache {
    struct session_env *env;
    struct list_node answers;
    size_t count;
    struct loop_task task; /* ends waiters whose answer is there, replaces a leader that left */
    struct ev_timer timer; /* runs the task when a round may begin that came too soon */
};

/* --- the answers --- */

static struct info_answer *answer_new(struct info_cache *cache, const struct client *c,
                                      const struct info_wanted *wanted, const char *key,
                                      uint32_t key_len)
{
    struct info_answer *a = xcalloc(1, sizeof(*a) + key_len);

    a->cache = cache;
    a->up = c->up;
    a->listener = c->listener;
    a->profile = c->profile;
    profile_ref(&cache->env->profiles, a->profile);
    a->wanted = *wanted;
    a->key_len = key_len;
    memcpy(a->key, key, key_len);
    list_init(&a->waiters);
    list_init(&a->later);
    list_push(&cache->answers, &a->link);
    cache->count++;
    return a;
}

static void answer_free(struct info_answer *a)
{
    a->cache->count--;
    profile_unref(&a->cache->env->profiles, a->profile);
    list_unlink(&a->link);
    free(a->text);
    free(a);
}

/* Milliseconds until its next round may begin. */
static uint64_t round_in_ms(const struct info_answer *a)
{
    uint64_t past = clock_ms() - a->asked_ms;

    return a->asked_ms == 0 || past >= SPACING_MS ? 0 : SPACING_MS - past;
}

static void prune(struct info_cache *cache)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &cache->answers) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (list_empty(&a->waiters) && list_empty(&a->later) &&
            (round_in_ms(a) == 0 || cache->count > MAX_ANSWERS))
            answer_free(a);
    }
}

static struct info_answer *find(struct info_cache *cache, const struct client *c, const char *key,
                                uint32_t key_len)
{
    for (struct list_node *at = cache->answers.next; at != &cache->answers; at = at->next) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (a->up == c->up && a->listener == c->listener && a->profile == c->profile &&
            a->key_len == key_len && memcmp(a->key, key, key_len) == 0)
            return a;
    }
    return NULL;
}

static void answer_write(const struct info_answer *a, const struct client *c, struct chain *out)
{
    if (a->error)
        chain_append(out, a->text, a->len);
    else
        resp_write_verbatim(out, c->proto, a->text, a->len);
}

/* --- from the masters' texts to the answer --- */

/* Merges the parts' texts. Returns how many there were; *error is a server's error, if any. */
static unsigned merge_parts(const struct scatter *s, struct info_text *t,
                            const struct request **error)
{
    unsigned answered = 0;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        const char *at = request_reply(p);
        struct resp_item item;
        size_t skip;

        if (p->failed || !resp_next(&at, at + p->reply_len, &item))
            continue;
        if (item.type == '-' || item.type == '!') {
            *error = p;
        } else if (item.type == '$' || item.type == '=') {
            skip = item.type == '=' ? MIN((size_t)4, item.len) : 0; /* "txt:" */
            info_text_add(t, item.data + skip, item.len - skip);
            answered++;
        }
    }
    info_text_derive(t);
    return answered;
}

static void answer_compose(struct info_answer *a, const struct client *c, const struct scatter *s)
{
    struct info_text *t = info_text_new();
    const struct request *error = NULL;
    unsigned answered = merge_parts(s, t, &error);

    a->done = true;
    if (answered == 0 && error != NULL) {
        a->error = true;
        a->len = error->reply_len;
        a->text = xmalloc(a->len);
        memcpy(a->text, request_reply(error), a->len);
    } else {
        info_own_identity(t, c, &a->wanted);
        if (a->wanted.normal || a->wanted.keyway) {
            info_own_keyway(t, c);
            info_text_set(t, "Keyway", "keyway_info_masters", "%zu",
                          slotmap_count_owners(c->up->map));
            info_text_set(t, "Keyway", "keyway_info_masters_answered", "%u", answered);
        }
        a->text = info_text_write(t, &a->len);
    }
    info_text_free(&t);
}

static void finish(struct client *c, struct request *parent, struct chain *out)
{
    struct info_waiter *w = parent->scatter->data;
    struct info_answer *a = w->answer;

    if (!a->done) {
        answer_compose(a, c, parent->scatter);
        loop_add_task(c->env->loop, &a->cache->task);
    }
    answer_write(a, c, out);
}

/* --- asking --- */

/* The waiter's scatter asks all masters that can be asked now. */
static void lead(struct info_waiter *w)
{
    struct info_answer *a = w->answer;
    const struct slotmap *m = a->up->map;

    a->leader = w;
    a->asked_ms = clock_ms();
    for (size_t i = 0; i < m->node_count; i++) {
        struct beconn *conn;

        if (!slotmap_is_owner(m, i))
            continue;
        conn = forward_connection_now(w->c, a->up->map_nodes[i]);
        if (conn != NULL)
            scatter_add_to(w->c, w->parent, conn, a->key, a->key_len);
    }
    scatter_close(w->c, w->parent);
}

/* Begins a round for those who wait, now or when the time has come. */
static void begin_round(struct info_answer *a)
{
    struct info_cache *cache = a->cache;
    uint64_t ms = round_in_ms(a);

    if (list_empty(&a->waiters))
        return;
    if (ms == 0) {
        lead(CONTAINER_OF(a->waiters.next, struct info_waiter, link));
    } else if (!ev_is_active(&cache->timer)) {
        ev_timer_set(&cache->timer, (double)ms / 1000, 0);
        ev_timer_start(cache->env->loop->ev, &cache->timer);
    }
}

/* The client was answered, or it has left. */
static void drop_waiter(void *data)
{
    struct info_waiter *w = data;
    struct info_answer *a = w->answer;

    list_unlink(&w->link);
    if (a->leader == w)
        a->leader = NULL;
    if (!a->done && a->leader == NULL)
        loop_add_task(a->cache->env->loop, &a->cache->task);
    free(w);
}

static void join(struct client *c, const struct command *cmd, struct info_answer *a)
{
    struct info_waiter *w = xmalloc(sizeof(*w));

    *w = (struct info_waiter){.answer = a, .c = c};
    w->parent = scatter_open(c, cmd, finish, w);
    w->parent->scatter->drop = drop_waiter;
    list_init(&w->link);
    if (a->leader != NULL || a->done) {
        list_push(&a->later, &w->link);
        return;
    }
    list_push(&a->waiters, &w->link);
    begin_round(a);
}

static void end_round(struct info_answer *a)
{
    while (!list_empty(&a->waiters)) {
        struct info_waiter *w = CONTAINER_OF(a->waiters.next, struct info_waiter, link);

        scatter_close(w->c, w->parent);
    }
    free(a->text);
    a->text = NULL;
    a->done = a->error = false;
}

static void run_task(struct loop_task *task)
{
    struct info_cache *cache = CONTAINER_OF(task, struct info_cache, task);
    struct list_node *at, *tmp;

    /* Answers are freed by prune() only, so the next one stays where it is. */
    LIST_FOREACH (at, tmp, &cache->answers) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (a->leader != NULL)
            continue;
        if (a->done)
            end_round(a);
        list_splice(&a->waiters, &a->later);
        begin_round(a);
    }
    prune(cache);
}

static void on_timer(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct info_cache *cache = CONTAINER_OF(w, struct info_cache, timer);

    (void)ev;
    (void)revents;
    loop_add_task(cache->env->loop, &cache->task);
}

/* --- the command --- */

/* What needs no server. */
static void answer_alone(struct client *c, const struct info_wanted *wanted, struct chain *out)
{
    struct info_text *t = info_text_new();
    size_t len;
    char *text;

    if (wanted->keyway)
        info_own_keyway(t, c);
    text = info_text_write(t, &len);
    resp_write_verbatim(out, c->proto, text, len);
    free(text);
    info_text_free(&t);
}

static char *chain_copy(const struct chain *from, uint32_t *len)
{
    char *text = xmalloc(from->bytes);

    *len = 0;
    for (const struct chain_seg *s = from->head; s != NULL; s = s->next) {
        memcpy(text + *len, s->block->data + s->off, s->len);
        *len += s->len;
    }
    return text;
}

void local_INFO(struct client *c, const struct command *cmd, const struct resp_request *r,
                struct chain *out)
{
    struct info_cache *cache = c->env->info;
    struct info_wanted wanted;
    struct info_answer *a;
    struct chain request;
    uint32_t key_len;
    char *key;

    if (r->argc > MAX_NAMES + 1) {
        error_write(out, ERROR_SYNTAX);
        return;
    }
    info_wanted_read(r, &wanted);
    chain_init(&request);
    if (!wanted.servers || !info_request_write(r, &request)) {
        answer_alone(c, &wanted, out);
        chain_clear(&request);
        return;
    }
    key = chain_copy(&request, &key_len);
    chain_clear(&request);
    prune(cache);
    a = find(cache, c, key, key_len);
    if (a == NULL)
        a = answer_new(cache, c, &wanted, key, key_len);
    free(key);
    join(c, cmd, a);
}

struct info_cache *info_cache_new(struct session_env *env)
{
    struct info_cache *cache = xcalloc(1, sizeof(*cache));

    cache->env = env;
    list_init(&cache->answers);
    list_init(&cache->task.link);
    cache->task.run = run_task;
    ev_timer_init(&cache->timer, on_timer, 0, 0);
    return cache;
}

void info_cache_free(struct info_cache **p)
{
    struct info_cache *cache = *p;

    *p = NULL;
    list_unlink(&cache->task.link);
    ev_timer_stop(cache->env->loop->ev, &cache->timer);
    while (!list_empty(&cache->answers))
        answer_free(CONTAINER_OF(cache->answers.next, struct info_answer, link));
    free(cache);
}
