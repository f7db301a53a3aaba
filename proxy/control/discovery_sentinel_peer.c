/*
 * discovery_sentinel_peer.c - the connections to each Sentinel, and what it says.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_sentinel.h"

#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 1000
#define PING_MS 1000
/* Sentinels and replicas that one of them may name; a sane one names a handful. */
#define PEERS_MAX 256
#define REPLICAS_MAX 1024

static void complain(struct sentinel_peer *p, const char *what)
{
    char at[ADDR_TEXT_MAX];

    if (!complaint_is_new(&p->complaint, what))
        return;
    if (what != NULL)
        log_warn("upstream %s: Sentinel %s: %s", p->s->conf->name, addr_format(&p->addr, at),
                 p->complaint.text);
    else
        log_info("upstream %s: Sentinel %s answers again", p->s->conf->name,
                 addr_format(&p->addr, at));
}

struct sentinel_peer *sentinel_peer_know(struct discovery_sentinel *s, const struct addr *a)
{
    struct list_node *pos, *tmp;
    struct sentinel_peer *p;

    LIST_FOREACH (pos, tmp, &s->peers) {
        p = CONTAINER_OF(pos, struct sentinel_peer, link);
        if (addr_equal(&p->addr, a))
            return p;
    }
    p = xcalloc(1, sizeof(*p));
    p->s = s;
    p->addr = *a;
    p->asking = SIZE_MAX;
    p->words = xcalloc(s->shard_count, sizeof(*p->words));
    list_init(&p->link);
    list_push(&s->peers, &p->link);
    s->peer_count++;
    return p;
}

static void forget_word(struct sentinel_word *w)
{
    free(w->replicas);
    memset(w, 0, sizeof(*w));
}

/* Closes both connections; what it said is void. */
static void drop(struct sentinel_peer *p)
{
    node_query_close(&p->ask);
    node_query_close(&p->events);
    p->asking = SIZE_MAX;
    p->again = false;
    for (size_t i = 0; i < p->s->shard_count; i++) {
        forget_word(&p->words[i]);
        sentinel_shard_peer_lost(&p->s->shards[i], p);
    }
}

void sentinel_peer_remove(struct sentinel_peer **peer)
{
    struct sentinel_peer *p = *peer;

    *peer = NULL;
    drop(p);
    list_unlink(&p->link);
    p->s->peer_count--;
    free(p->words);
    free(p);
}

static void set_lost(struct sentinel_peer *p, const char *why)
{
    uint64_t wait = MIN((uint64_t)RETRY_MIN_MS << MIN(p->failures, 10u), (uint64_t)RETRY_MAX_MS);

    drop(p);
    resolver_doubt(p->s->resolver, &p->addr, p->failures > 0 || !p->tried);
    complain(p, why);
    p->tried = true;
    p->failures++;
    p->retry_ms = clock_ms() + wait;
    for (size_t i = 0; i < p->s->shard_count; i++)
        sentinel_shard_consider(&p->s->shards[i]);
}

/* --- asking --- */

static void ask_next(struct sentinel_peer *p)
{
    const char *name = p->s->shards[p->asking].name;

    p->words[p->asking].told_addr = false;
    if (!node_query_ask_of(p->ask, QUESTION_SENTINEL_ADDR, name) ||
        !node_query_ask_of(p->ask, QUESTION_SENTINEL_MASTER, name) ||
        !node_query_ask_of(p->ask, QUESTION_SENTINEL_REPLICAS, name) ||
        !node_query_ask_of(p->ask, QUESTION_SENTINEL_SENTINELS, name))
        set_lost(p, "too many questions wait");
}

void sentinel_peer_ask(struct sentinel_peer *p)
{
    if (p->ask == NULL)
        return;
    if (p->asking != SIZE_MAX) {
        p->again = true;
        return;
    }
    p->asking = 0;
    ask_next(p);
}

static void open_both(struct sentinel_peer *p)
{
    struct sockaddr_any target;

    if (!resolver_get(p->s->resolver, &p->addr, &target)) {
        set_lost(p, resolver_failure(p->s->resolver, &p->addr));
        return;
    }
    p->ask = node_query_open(&p->s->peer_env, &target, p);
    if (p->ask != NULL)
        p->events = node_query_open(&p->s->peer_env, &target, p);
    if (p->events == NULL) {
        set_lost(p, strerror(errno));
        return;
    }
    p->ping_ms = clock_ms() + PING_MS;
    /* Asked when the events come: whatever changes in between is told by one or the other. */
    if (!node_query_ask(p->events, QUESTION_SUBSCRIBE))
        set_lost(p, "too many questions wait");
}

static bool overdue(const struct node_query *q, uint64_t now, uint64_t limit)
{
    return node_query_waiting_since(q) <= now - MIN(now, limit);
}

void sentinel_peer_tick(struct sentinel_peer *p, uint64_t now_ms)
{
    uint64_t limit = p->s->times->query_timeout_ms;

    if (p->ask == NULL) {
        if (now_ms >= p->retry_ms)
            open_both(p);
        return;
    }
    if (overdue(p->ask, now_ms, limit) || overdue(p->events, now_ms, limit)) {
        set_lost(p, "no answer in time");
    } else if (now_ms >= p->ping_ms) {
        p->ping_ms = now_ms + PING_MS;
        if (!node_query_ask(p->events, QUESTION_PING))
            set_lost(p, "too many questions wait");
    }
}

/* --- answers --- */

static struct sentinel_text text_of(const redisReply *r)
{
    if (r->type != REDIS_REPLY_STRING && r->type != REDIS_REPLY_STATUS)
        return (struct sentinel_text){"", 0};
    return (struct sentinel_text){r->str, (size_t)r->len};
}

/* One description: an array of names and values. */
static bool read_instance(const redisReply *r, struct sentinel_instance *out)
{
    struct sentinel_text *fields;
    bool ok;

    if (r->type != REDIS_REPLY_ARRAY || r->elements == 0)
        return false;
    fields = xcalloc(r->elements, sizeof(*fields));
    for (size_t i = 0; i < r->elements; i++)
        fields[i] = text_of(r->element[i]);
    ok = sentinel_read_instance(fields, r->elements, out);
    free(fields);
    return ok;
}

static void take_addr(struct sentinel_peer *p, struct sentinel_word *w, const redisReply *r)
{
    struct sentinel_text host, port;

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2)
        return; /* nil: it does not know the master */
    host = text_of(r->element[0]);
    port = text_of(r->element[1]);
    w->told_addr = sentinel_read_addr(&host, &port, &w->addr);
    if (!w->told_addr)
        complain(p, "a master's address that is none");
}

static void take_master(struct sentinel_peer *p, struct sentinel_word *w, const redisReply *r)
{
    struct sentinel_instance m;

    if (r->type == REDIS_REPLY_ERROR)
        complain(p, r->str);
    if (!w->told_addr || !read_instance(r, &m)) {
        forget_word(w);
        return;
    }
    complain(p, NULL);
    w->epoch = m.config_epoch;
    w->failover_timeout_ms = m.failover_timeout_ms;
    w->valid = true;
}

static void take_replicas(struct sentinel_word *w, const redisReply *r)
{
    free(w->replicas);
    w->replicas = NULL;
    w->replica_count = 0;
    if (!w->valid || r->type != REDIS_REPLY_ARRAY || r->elements > REPLICAS_MAX)
        return;
    w->replicas = xcalloc(r->elements + 1, sizeof(*w->replicas));
    for (size_t i = 0; i < r->elements; i++)
        w->replica_count += read_instance(r->element[i], &w->replicas[w->replica_count]);
}

static void take_sentinels(struct discovery_sentinel *s, const redisReply *r)
{
    struct sentinel_instance m;

    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++)
        if (read_instance(r->element[i], &m) && s->peer_count < PEERS_MAX)
            sentinel_peer_know(s, &m.addr)->named_ms = clock_ms();
}

static void shard_through(struct sentinel_peer *p)
{
    size_t i = p->asking++;

    p->tried = true;
    p->failures = 0;
    if (p->asking == p->s->shard_count) {
        p->asking = SIZE_MAX;
        if (p->again) {
            p->again = false;
            p->asking = 0;
        }
    }
    if (p->asking != SIZE_MAX)
        ask_next(p);
    sentinel_shard_consider(&p->s->shards[i]);
}

static void on_answered(struct node_query *q, enum node_question what, const redisReply *r)
{
    struct sentinel_peer *p = node_query_owner(q);
    struct sentinel_word *w = p->asking != SIZE_MAX ? &p->words[p->asking] : NULL;

    switch (what) {
    case QUESTION_SUBSCRIBE:
        if (r->type == REDIS_REPLY_ERROR)
            complain(p, r->str);
        sentinel_peer_ask(p);
        break;
    case QUESTION_SENTINEL_ADDR:
        take_addr(p, w, r);
        break;
    case QUESTION_SENTINEL_MASTER:
        take_master(p, w, r);
        break;
    case QUESTION_SENTINEL_REPLICAS:
        take_replicas(w, r);
        break;
    case QUESTION_SENTINEL_SENTINELS:
        take_sentinels(p->s, r);
        shard_through(p);
        break;
    default:
        break;
    }
}

static void on_lost(struct node_query *q, const char *why)
{
    set_lost(node_query_owner(q), why);
}

static void on_pushed(struct node_query *q, const redisReply *r)
{
    struct sentinel_peer *p = node_query_owner(q);
    struct sentinel_event e;
    struct sentinel_shard *d;

    if (!sentinel_read_event(text_of(r->element[2]), text_of(r->element[3]), &e) ||
        e.kind == SENTINEL_EVENT_OTHER)
        return;
    d = discovery_sentinel_shard(p->s, e.master);
    if (d != NULL)
        sentinel_shard_event(d, p, &e);
}

const struct node_query_ops sentinel_peer_ops = {
    .answered = on_answered, .lost = on_lost, .pushed = on_pushed};
