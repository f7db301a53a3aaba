#include "control/learner.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "command/learnt.h"
#include "control/command_reply.h"
#include "control/complaint.h"
#include "control/node_query.h"

/* Servers asked for all their commands at the same time: an answer is long, and reading it holds up
 * what else this thread does. */
#define AT_ONCE 2
#define RETRY_MIN_MS 100
/* How soon after the last time an unknown command makes a server be asked again. */
#define WISH_GAP_MS 500

struct learner_server {
    struct list_node link;
    struct learner *learner;
    struct addr addr;
    struct sockaddr_any target;
    struct node_query *query; /* NULL: not connected */
    struct server_commands commands;
    bool told;      /* it has answered COMMAND, or refused to */
    bool has_names; /* `names` is its sum of COMMAND LIST */
    uint64_t names;
    bool asks_auth; /* it did not let us in the last time */
    uint64_t asked_ms, retry_ms;
    uint32_t failures;
    bool keep; /* mark of a sweep */
    struct complaint complaint;
};

struct learner {
    struct discovery_site site;
    const struct config_upstream *conf;
    struct node_query_env env;
    struct learn_policy policy;
    struct learnt_pool *pool;
    discovery_commands_fn *publish;
    struct list_node servers;
    struct learnt *learnt; /* published last; NULL: none yet */
    bool told_full;
    uint64_t started_ms;
    atomic_uint wish;
};

static const struct node_query_ops learner_ops;

struct learner *learner_new(const struct discovery_site *site, struct learnt_pool *pool,
                            discovery_commands_fn *publish)
{
    struct learner *l = xcalloc(1, sizeof(*l));

    l->site = *site;
    l->conf = &site->config->upstreams[site->index];
    l->env = (struct node_query_env){.loop = site->loop,
                                     .ops = &learner_ops,
                                     .user = l->conf->user,
                                     .password = l->conf->password,
                                     .scratch = site->scratch,
                                     .name = "keyway-commands"};
    l->policy = (struct learn_policy){.sharded = !config_is_single(l->conf),
                                      .admin_commands = site->config->admin_commands};
    l->pool = pool;
    l->publish = publish;
    l->started_ms = clock_ms();
    list_init(&l->servers);
    atomic_init(&l->wish, 0);
    return l;
}

static void remove_server(struct learner_server *s)
{
    node_query_close(&s->query);
    server_commands_deinit(&s->commands);
    list_unlink(&s->link);
    free(s);
}

void learner_free(struct learner **learner)
{
    struct learner *l = *learner;
    struct list_node *at, *tmp;

    *learner = NULL;
    if (l == NULL)
        return;
    LIST_FOREACH (at, tmp, &l->servers)
        remove_server(CONTAINER_OF(at, struct learner_server, link));
    learnt_unref(&l->learnt);
    free(l);
}

/* Logs what is wrong with a server, once until it changes; NULL: nothing any more. */
static void complain(struct learner_server *s, const char *what)
{
    char at[ADDR_TEXT_MAX];

    if (complaint_is_new(&s->complaint, what) && what != NULL)
        log_info("upstream %s: %s does not tell its commands: %s", s->learner->conf->name,
                 addr_format(&s->addr, at), s->complaint.text);
}

/* --- what all of them know --- */

static void join(struct learner *l, struct learnt *to, const struct server_commands *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct learnt_command *c = from->rows[i], *merged;
        const struct learnt_command **place = learnt_place(to, c->name, strlen(c->name));

        if (*place == NULL) {
            *place = c;
            to->count++;
            continue;
        }
        merged = learnt_merge(l->pool, *place, c);
        if (merged != NULL)
            *place = merged;
    }
    for (size_t i = 0; from->arity != NULL && i < command_table_len; i++) {
        int16_t a = from->arity[i], *b = &to->arity[i];

        /* Of two the one that takes more: the other server refuses by itself. */
        if (a != 0)
            *b = *b == 0 || *b == a ? a : (int16_t)-MIN(abs(a), abs(*b));
    }
}

static void log_learnt(struct learner *l, const struct learnt *made)
{
    bool full = false;
    size_t refused = 0;

    for (struct list_node *at = l->servers.next; at != &l->servers; at = at->next)
        full = full || CONTAINER_OF(at, struct learner_server, link)->commands.full;
    if (full && !l->told_full)
        log_warn("upstream %s: some of its commands stay unknown: %d are learnt already",
                 l->conf->name, LEARNT_MAX);
    l->told_full = full;
    if (made->count == 0 && (l->learnt == NULL || l->learnt->count == 0))
        return;
    for (size_t i = 0; i < made->size; i++)
        refused += made->slots[i] != NULL && made->slots[i]->refused != NULL;
    log_info("upstream %s: %zu commands learnt from its servers, %zu of them not to be used",
             l->conf->name, made->count, refused);
}

static bool is_late(const struct learner *l)
{
    return clock_ms() - l->started_ms > l->site.config->topology.query_timeout_ms;
}

static void publish(struct learner *l)
{
    struct learnt *made;
    size_t rows = 0, told = 0;

    for (struct list_node *at = l->servers.next; at != &l->servers; at = at->next) {
        struct learner_server *s = CONTAINER_OF(at, struct learner_server, link);

        told += s->told;
        rows += s->commands.count;
    }
    /* Servers that have just come instead of others will know what those knew. Clients wait for the
     * first word, but not for ever. */
    if (told == 0 && (l->learnt != NULL || !is_late(l)))
        return;
    made = learnt_new(l->pool, rows);
    for (struct list_node *at = l->servers.next; at != &l->servers; at = at->next) {
        struct learner_server *s = CONTAINER_OF(at, struct learner_server, link);

        join(l, made, &s->commands);
        made->asks_auth = made->asks_auth || (s->asks_auth && l->conf->password == NULL);
    }
    if (l->learnt != NULL && learnt_same(l->learnt, made)) {
        learnt_unref(&made);
        return;
    }
    log_learnt(l, made);
    learnt_unref(&l->learnt);
    l->learnt = made;
    l->publish(l->site.arg, l->site.index, learnt_ref(made));
}

/* --- one server --- */

static void set_lost(struct learner_server *s, const char *why)
{
    const struct config_topology *times = &s->learner->site.config->topology;
    uint64_t wait = RETRY_MIN_MS;

    node_query_close(&s->query);
    if (!s->told) /* one that has told is only restarted, or gone */
        complain(s, why);
    for (uint32_t i = 0; i < s->failures && wait < times->refresh_ms; i++)
        wait *= 2;
    s->failures++;
    s->retry_ms = clock_ms() + MIN(wait, (uint64_t)times->refresh_ms);
}

static void ask(struct learner_server *s, enum node_question what)
{
    s->asked_ms = clock_ms();
    if (!node_query_ask(s->query, what))
        set_lost(s, "too many questions without an answer");
}

/* A connection that stands shows nothing of a password that the server has been given since. */
static void ask_anew(struct learner_server *s)
{
    if (s->learner->conf->password == NULL && !node_query_reset(s->query))
        set_lost(s, "too many questions without an answer");
    if (s->query != NULL)
        ask(s, s->told ? QUESTION_COMMAND_NAMES : QUESTION_COMMANDS);
}

static void connect_server(struct learner_server *s)
{
    s->has_names = false;
    s->query = node_query_open(&s->learner->env, &s->target, s);
    if (s->query == NULL)
        set_lost(s, strerror(errno));
    if (s->query != NULL)
        ask(s, QUESTION_COMMANDS);
    if (s->query != NULL)
        ask(s, QUESTION_COMMAND_NAMES);
}

static void take_commands(struct learner_server *s, const redisReply *r)
{
    struct learner *l = s->learner;
    struct server_commands news;

    s->told = true;
    if (r->type == REDIS_REPLY_ERROR) {
        /* LOADING passes; what is not allowed stays so. What it told before is kept. */
        complain(s, r->str);
        if (strncmp(r->str, "LOADING", 7) == 0)
            s->told = false;
    } else if (command_reply_read(r, &l->policy, l->pool, &news)) {
        server_commands_deinit(&s->commands);
        s->commands = news;
        complain(s, NULL);
    } else {
        complain(s, "COMMAND: an answer of another type");
    }
    publish(l);
}

static void take_names(struct learner_server *s, const redisReply *r)
{
    uint64_t names;

    if (s->learner->learnt != NULL && s->asks_auth != s->learner->learnt->asks_auth)
        publish(s->learner);
    if (r->type != REDIS_REPLY_ARRAY)
        return; /* before 7.0 there is no COMMAND LIST: only a restart makes it be asked again */
    names = command_reply_names(r);
    if (s->has_names) {
        s->failures = 0;
        if (names != s->names)
            ask(s, QUESTION_COMMANDS);
    }
    s->names = names;
    s->has_names = true;
}

static void on_answered(struct node_query *q, enum node_question what, const redisReply *r)
{
    struct learner_server *s = node_query_owner(q);

    s->asks_auth = r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOAUTH ", 7) == 0;
    if (what == QUESTION_COMMANDS)
        take_commands(s, r);
    else
        take_names(s, r);
}

static void on_lost(struct node_query *q, const char *why)
{
    set_lost(node_query_owner(q), why);
}

static const struct node_query_ops learner_ops = {.answered = on_answered, .lost = on_lost};

/* --- which servers --- */

static struct learner_server *find_server(struct learner *l, const struct addr *a)
{
    for (struct list_node *at = l->servers.next; at != &l->servers; at = at->next) {
        struct learner_server *s = CONTAINER_OF(at, struct learner_server, link);

        if (addr_equal(&s->addr, a))
            return s;
    }
    return NULL;
}

static void know_server(struct learner *l, const struct slotmap_node *n)
{
    struct learner_server *s = find_server(l, &n->addr);

    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->learner = l;
        s->addr = n->addr;
        list_init(&s->link);
        list_push(&l->servers, &s->link);
    }
    s->keep = true;
    if (s->target.len != n->target.len ||
        memcmp(&s->target.sa, &n->target.sa, n->target.len) != 0) {
        node_query_close(&s->query);
        s->target = n->target;
        s->retry_ms = 0;
    }
}

void learner_on_map(struct learner *l, const struct slotmap *m)
{
    struct list_node *at, *tmp;

    for (at = l->servers.next; at != &l->servers; at = at->next)
        CONTAINER_OF(at, struct learner_server, link)->keep = false;
    for (size_t i = 0; i < m->node_count; i++)
        if (slotmap_is_owner(m, i) && m->nodes[i].target.len != 0)
            know_server(l, &m->nodes[i]);
    LIST_FOREACH (at, tmp, &l->servers) {
        struct learner_server *s = CONTAINER_OF(at, struct learner_server, link);

        if (!s->keep)
            remove_server(s);
    }
    publish(l);
    learner_step(l, clock_ms());
}

static bool is_busy(const struct learner_server *s)
{
    return s->query != NULL && node_query_waiting_since(s->query) != UINT64_MAX;
}

/* Returns true when the server is busy afterwards. */
static bool step_server(struct learner_server *s, uint64_t now, bool wished, bool may_connect)
{
    const struct config_topology *times = &s->learner->site.config->topology;
    uint64_t gap = wished ? WISH_GAP_MS : times->refresh_ms;

    if (s->query == NULL) {
        if (may_connect && now >= s->retry_ms)
            connect_server(s);
    } else if (is_busy(s)) {
        if (node_query_waiting_since(s->query) + times->query_timeout_ms < now)
            set_lost(s, "no answer in time");
    } else if (now >= s->asked_ms + gap) {
        ask_anew(s);
    }
    return is_busy(s);
}

void learner_step(struct learner *l, uint64_t now_ms)
{
    bool wished = atomic_load(&l->wish) != 0, waits = false;
    struct list_node *at, *tmp;
    size_t busy = 0;

    if (l->learnt == NULL && is_late(l))
        publish(l);
    LIST_FOREACH (at, tmp, &l->servers)
        busy += is_busy(CONTAINER_OF(at, struct learner_server, link));
    LIST_FOREACH (at, tmp, &l->servers) {
        struct learner_server *s = CONTAINER_OF(at, struct learner_server, link);
        bool was_busy = is_busy(s);

        waits = waits || was_busy || now_ms < s->asked_ms + WISH_GAP_MS;
        busy += step_server(s, now_ms, wished, busy < AT_ONCE);
        busy -= was_busy;
    }
    /* A wish stays until all have been asked after it. */
    if (wished && !waits)
        atomic_store(&l->wish, 0);
}

bool learner_wish(struct learner *l)
{
    return atomic_exchange(&l->wish, 1) == 0;
}
