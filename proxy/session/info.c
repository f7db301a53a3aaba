/*
 * info.c - INFO: who asks the masters, and who only waits for the answer.
 *
 * Libraries send INFO on every connect, so a reconnecting fleet would multiply it by the number of
 * masters. Clients that want the same sections at the same time share one answer: the first one's
 * scatter asks, those of the others have no parts and end when the answer is there. A master that
 * cannot be reached is left out rather than waited for.
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

#define FRESH_MS 100
#define MAX_ANSWERS 64       /* that nobody waits for */
#define MAX_NAMES 128        /* sections in one request */
#define MAX_SECTION_NAME 128 /* no server has a longer one: it selects nothing */

struct info_answer {
    struct list_node link;      /* cache's answers, the oldest first */
    struct list_node waiters;   /* struct info_waiter.link */
    struct info_waiter *leader; /* the one whose parts are under way; NULL: none */
    struct info_cache *cache;
    struct upstream *up;
    uint16_t listener, profile;
    struct info_wanted wanted;
    bool done, error;
    uint64_t done_ms;
    char *text; /* when done: INFO's text, or an error as a server sent it */
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

static bool is_fresh(const struct info_answer *a)
{
    return clock_ms() - a->done_ms < FRESH_MS;
}

static void prune(struct info_cache *cache)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &cache->answers) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (list_empty(&a->waiters) && (!a->done || !is_fresh(a) || cache->count > MAX_ANSWERS))
            answer_free(a);
    }
}

static struct info_answer *find(struct info_cache *cache, const struct client *c, const char *key,
                                uint32_t key_len)
{
    for (struct list_node *at = cache->answers.next; at != &cache->answers; at = at->next) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (a->up == c->up && a->listener == c->listener && a->profile == c->profile &&
            a->key_len == key_len && memcmp(a->key, key, key_len) == 0 && (!a->done || is_fresh(a)))
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

static size_t count_masters(const struct slotmap *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->node_count; i++)
        n += m->nodes[i].is_master && m->nodes[i].slots > 0;
    return n;
}

static void answer_compose(struct info_answer *a, const struct client *c, const struct scatter *s)
{
    struct info_text *t = info_text_new();
    const struct request *error = NULL;
    unsigned answered = merge_parts(s, t, &error);

    a->done = true;
    a->done_ms = clock_ms();
    if (answered == 0 && error != NULL) {
        a->error = true;
        a->len = error->reply_len;
        a->text = xmalloc(a->len);
        memcpy(a->text, request_reply(error), a->len);
    } else {
        info_own_identity(t, c, &a->wanted);
        if (a->wanted.normal || a->wanted.keyway) {
            info_own_keyway(t, c);
            info_text_set(t, "Keyway", "keyway_info_masters", "%zu", count_masters(c->up->map));
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
    for (size_t i = 0; i < m->node_count; i++) {
        struct beconn *conn;

        if (!m->nodes[i].is_master || m->nodes[i].slots == 0)
            continue;
        conn = forward_connection_now(w->c, a->up->map_nodes[i]);
        if (conn != NULL)
            scatter_add_to(w->c, w->parent, conn, a->key, a->key_len);
    }
    scatter_close(w->c, w->parent);
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
    list_push(&a->waiters, &w->link);
    if (a->leader == NULL)
        lead(w);
}

static void end_waiters(struct info_answer *a)
{
    while (!list_empty(&a->waiters)) {
        struct info_waiter *w = CONTAINER_OF(a->waiters.next, struct info_waiter, link);

        scatter_close(w->c, w->parent);
    }
}

static void run_task(struct loop_task *task)
{
    struct info_cache *cache = CONTAINER_OF(task, struct info_cache, task);
    struct list_node *at, *tmp;

    /* Answers are freed by prune() only, so the next one stays where it is. */
    LIST_FOREACH (at, tmp, &cache->answers) {
        struct info_answer *a = CONTAINER_OF(at, struct info_answer, link);

        if (a->done)
            end_waiters(a);
        else if (a->leader == NULL && !list_empty(&a->waiters))
            lead(CONTAINER_OF(a->waiters.next, struct info_waiter, link));
    }
    prune(cache);
}

/* --- the command --- */

/* The request that the servers get: names in lower case, so that equal requests are equal bytes.
 * False: no section is asked for that a server could have. */
static bool compose_request(const struct resp_request *r, struct chain *out)
{
    uint32_t names = 0;
    char name[MAX_SECTION_NAME];

    for (uint32_t i = 1; i < r->argc; i++)
        names += resp_arg_len(r, i) <= sizeof(name);
    if (names == 0 && r->argc > 1)
        return false;
    resp_write_array(out, names + 1);
    resp_write_text(out, "info");
    for (uint32_t i = 1; i < r->argc; i++) {
        uint32_t n = resp_arg_len(r, i);
        const char *p = resp_arg_ptr(r, i);

        if (n > sizeof(name))
            continue;
        for (uint32_t k = 0; k < n; k++)
            name[k] = (char)(p[k] >= 'A' && p[k] <= 'Z' ? p[k] + 32 : p[k]);
        resp_write_bulk(out, name, n);
    }
    return true;
}

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
    if (!wanted.servers || !compose_request(r, &request)) {
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
    if (a->done)
        answer_write(a, c, out);
    else
        join(c, cmd, a);
}

struct info_cache *info_cache_new(struct session_env *env)
{
    struct info_cache *cache = xcalloc(1, sizeof(*cache));

    cache->env = env;
    list_init(&cache->answers);
    list_init(&cache->task.link);
    cache->task.run = run_task;
    return cache;
}

void info_cache_free(struct info_cache **p)
{
    struct info_cache *cache = *p;

    *p = NULL;
    list_unlink(&cache->task.link);
    while (!list_empty(&cache->answers))
        answer_free(CONTAINER_OF(cache->answers.next, struct info_answer, link));
    free(cache);
}
