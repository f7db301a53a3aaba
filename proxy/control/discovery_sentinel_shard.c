/*
 * discovery_sentinel_shard.c - who is master of one shard.
 *
 * Sentinel's word names, ROLE decides: nobody becomes owner who does not call itself master, and
 * nobody who merely calls itself so. (One exception: at the start a master that cannot be reached
 * is taken on Sentinel's word, so that requests wait for it as for any dead server.)
 */
#include <errno.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_sentinel.h"

/* Sentinel's own default, where it does not tell. */
#define FAILOVER_TIMEOUT_MS 180000
/* A leader that is gone may have done its work already: the named one is watched so much longer. */
#define LEADER_LOST_MS 2000
/* +switch-master is followed by the Sentinels' words, which then count. */
#define SWITCH_TOLD_MS 3000
#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 250

static void close_probe(struct sentinel_shard *d)
{
    node_query_close(&d->probe);
    d->probing = d->answers = d->unreachable = false;
    d->failures = 0;
    d->retry_ms = 0;
}

static void clear_candidate(struct sentinel_shard *d)
{
    close_probe(d);
    d->kind = CANDIDATE_NONE;
    d->leader = NULL;
    d->hold = false;
    discovery_sentinel_arm(d->s);
}

static void set_candidate(struct sentinel_shard *d, const struct addr *a, enum candidate_kind kind)
{
    if (d->kind == CANDIDATE_NONE || !addr_equal(&d->candidate, a))
        close_probe(d);
    d->candidate = *a;
    d->kind = kind;
    d->hold = d->owned;
    discovery_sentinel_arm(d->s);
}

static uint64_t failover_timeout(const struct sentinel_shard *d)
{
    uint64_t longest = 0;

    for (struct list_node *at = d->s->peers.next; at != &d->s->peers; at = at->next) {
        const struct sentinel_peer *p = CONTAINER_OF(at, const struct sentinel_peer, link);

        longest = MAX(longest, p->words[d->index].failover_timeout_ms);
    }
    return longest != 0 ? longest : FAILOVER_TIMEOUT_MS;
}

/* --- words --- */

struct verdict {
    const struct sentinel_word *word; /* NULL: nobody says anything that counts */
    size_t supporters;
};

static bool counts(const struct sentinel_shard *d, const struct sentinel_word *w)
{
    if (!w->valid)
        return false;
    return !d->unconfirmed || w->epoch > d->before_epoch || !addr_equal(&w->addr, &d->before);
}

static size_t count_supporters(const struct sentinel_shard *d, const struct sentinel_word *word)
{
    size_t n = 0;

    for (struct list_node *at = d->s->peers.next; at != &d->s->peers; at = at->next) {
        const struct sentinel_peer *p = CONTAINER_OF(at, const struct sentinel_peer, link);
        const struct sentinel_word *w = &p->words[d->index];

        n += counts(d, w) && w->epoch == word->epoch && addr_equal(&w->addr, &word->addr);
    }
    return n;
}

/* The highest epoch wins; among equals the most Sentinels, and then who is owner already. */
static struct verdict judge(const struct sentinel_shard *d)
{
    struct verdict best = {NULL, 0};

    for (struct list_node *at = d->s->peers.next; at != &d->s->peers; at = at->next) {
        const struct sentinel_peer *p = CONTAINER_OF(at, const struct sentinel_peer, link);
        const struct sentinel_word *w = &p->words[d->index];
        size_t n;

        if (!counts(d, w) || (best.word != NULL && w->epoch < best.word->epoch))
            continue;
        n = count_supporters(d, w);
        if (best.word == NULL || w->epoch > best.word->epoch || n > best.supporters ||
            (n == best.supporters && d->owned && addr_equal(&w->addr, &d->owner)))
            best = (struct verdict){w, n};
    }
    return best;
}

static void owner_confirmed(struct sentinel_shard *d, const struct sentinel_word *w)
{
    if (d->unconfirmed)
        log_info("upstream %s: master %s is confirmed with epoch %llu", d->s->conf->name, d->name,
                 (unsigned long long)w->epoch);
    d->unconfirmed = false;
    d->epoch = w->epoch;
    if (d->kind == CANDIDATE_TOLD)
        clear_candidate(d);
}

void sentinel_shard_consider(struct sentinel_shard *d)
{
    struct verdict v = judge(d);
    char a[ADDR_TEXT_MAX];

    if (v.word == NULL)
        return;
    if (d->owned && addr_equal(&v.word->addr, &d->owner)) {
        owner_confirmed(d, v.word);
        discovery_sentinel_publish(d->s);
        return;
    }
    /* An older word is one of a Sentinel that was cut off; unless most say so: then the master was
     * removed and set up anew, which begins with epoch 0. */
    if (d->owned && v.word->epoch < d->epoch && v.supporters * 2 <= d->s->peer_count)
        return;
    if (d->kind == CANDIDATE_EVENT &&
        (addr_equal(&v.word->addr, &d->candidate) || v.word->epoch <= d->epoch))
        return;
    if (d->kind == CANDIDATE_NONE || !addr_equal(&v.word->addr, &d->candidate))
        log_info("upstream %s: Sentinels call %s master %s, epoch %llu", d->s->conf->name,
                 addr_format(&v.word->addr, a), d->name, (unsigned long long)v.word->epoch);
    set_candidate(d, &v.word->addr, CANDIDATE_TOLD);
    discovery_sentinel_publish(d->s);
}

/* --- events --- */

static void selected(struct sentinel_shard *d, struct sentinel_peer *p, const struct addr *to)
{
    char a[ADDR_TEXT_MAX];

    if (d->owned && addr_equal(to, &d->owner))
        return;
    log_info("upstream %s: %s is to become master %s; requests wait", d->s->conf->name,
             addr_format(to, a), d->name);
    set_candidate(d, to, CANDIDATE_EVENT);
    d->leader = p;
    d->deadline_ms = clock_ms() + failover_timeout(d);
    discovery_sentinel_publish(d->s);
}

static void switched(struct sentinel_shard *d, const struct addr *to)
{
    bool ours = d->owned && addr_equal(to, &d->owner);

    d->s->wished = true;
    if (ours || (d->kind == CANDIDATE_EVENT && addr_equal(to, &d->candidate)))
        return;
    set_candidate(d, to, CANDIDATE_EVENT);
    d->leader = NULL;
    d->deadline_ms = clock_ms() + SWITCH_TOLD_MS;
    discovery_sentinel_publish(d->s);
}

static void give_up(struct sentinel_shard *d, const char *why)
{
    char a[ADDR_TEXT_MAX];

    log_warn("upstream %s: master %s stays where it was, %s was not promoted: %s", d->s->conf->name,
             d->name, addr_format(&d->candidate, a), why);
    clear_candidate(d);
    d->s->wished = true;
    discovery_sentinel_publish(d->s);
}

void sentinel_shard_event(struct sentinel_shard *d, struct sentinel_peer *p,
                          const struct sentinel_event *e)
{
    switch (e->kind) {
    case SENTINEL_EVENT_SELECTED:
        selected(d, p, &e->to);
        break;
    case SENTINEL_EVENT_SWITCHED:
        switched(d, &e->to);
        break;
    case SENTINEL_EVENT_ABORTED:
        d->s->wished = true;
        /* Another one's own attempt may fail while the leader's goes on. */
        if (d->kind == CANDIDATE_EVENT && d->leader == p)
            give_up(d, "the failover was aborted");
        break;
    default:
        d->s->wished = true;
        break;
    }
    d->s->watch.ops->step(&d->s->watch);
}

void sentinel_shard_peer_lost(struct sentinel_shard *d, const struct sentinel_peer *p)
{
    if (d->leader != p)
        return;
    d->leader = NULL;
    d->deadline_ms = MIN(d->deadline_ms, clock_ms() + LEADER_LOST_MS);
}

/* --- the candidate --- */

/* The highest epoch that anybody tells, and the one that is told with this address. */
static void told_epochs(const struct sentinel_shard *d, const struct addr *a, uint64_t *highest,
                        bool *told, uint64_t *with)
{
    *highest = *with = 0;
    *told = false;
    for (struct list_node *at = d->s->peers.next; at != &d->s->peers; at = at->next) {
        const struct sentinel_peer *p = CONTAINER_OF(at, const struct sentinel_peer, link);
        const struct sentinel_word *w = &p->words[d->index];

        if (!w->valid)
            continue;
        *highest = MAX(*highest, w->epoch);
        if (addr_equal(&w->addr, a)) {
            *told = true;
            *with = MAX(*with, w->epoch);
        }
    }
}

static void promote(struct sentinel_shard *d, const char *why)
{
    bool told;
    uint64_t highest, epoch;
    char a[ADDR_TEXT_MAX];

    told_epochs(d, &d->candidate, &highest, &told, &epoch);
    d->unconfirmed = d->kind == CANDIDATE_EVENT && d->owned && (!told || epoch < highest);
    if (d->unconfirmed) {
        d->before = d->owner;
        d->before_epoch = highest;
        d->confirm_by_ms = clock_ms() + failover_timeout(d);
        epoch = highest + 1;
    }
    d->owner = d->candidate;
    d->epoch = epoch;
    d->owned = true;
    log_info("upstream %s: %s is master %s (%s)", d->s->conf->name, addr_format(&d->owner, a),
             d->name, why);
    clear_candidate(d);
    d->s->wished = true;
    discovery_sentinel_publish(d->s);
}

static void probe_failed(struct sentinel_shard *d, const char *why)
{
    char a[ADDR_TEXT_MAX];
    bool heard;

    if (!d->unreachable)
        log_info("upstream %s: %s does not say whether it is master %s: %s", d->s->conf->name,
                 addr_format(&d->candidate, a), d->name, why);
    heard = d->probe != NULL && node_query_heard(d->probe);
    node_query_close(&d->probe);
    resolver_doubt(d->s->resolver, &d->candidate, !d->answers && !heard);
    d->answers = false;
    d->probing = false;
    d->unreachable = true;
    d->retry_ms =
        clock_ms() + MIN((uint64_t)RETRY_MIN_MS << MIN(d->failures, 8u), (uint64_t)RETRY_MAX_MS);
    d->failures++;
    if (!d->owned && d->kind == CANDIDATE_TOLD)
        promote(d, "as Sentinels say; it cannot be reached");
}

void sentinel_shard_probe(struct sentinel_shard *d)
{
    struct sockaddr_any target;

    if (d->kind == CANDIDATE_NONE)
        return;
    if (d->probe == NULL) {
        if (clock_ms() < d->retry_ms)
            return;
        if (!resolver_get(d->s->resolver, &d->candidate, &target)) {
            probe_failed(d, resolver_failure(d->s->resolver, &d->candidate));
            return;
        }
        d->probe = node_query_open(&d->s->server_env, &target, d);
        if (d->probe == NULL) {
            probe_failed(d, strerror(errno));
            return;
        }
    }
    if (!d->probing)
        d->probing = node_query_ask(d->probe, QUESTION_ROLE);
}

static void on_answered(struct node_query *q, enum node_question what, const redisReply *r)
{
    struct sentinel_shard *d = node_query_owner(q);

    (void)what;
    d->probing = d->unreachable = false;
    d->answers = true;
    d->failures = 0;
    if (r->type == REDIS_REPLY_ARRAY && r->elements > 0 &&
        r->element[0]->type == REDIS_REPLY_STRING && strcasecmp(r->element[0]->str, "master") == 0)
        promote(d, "by its own word");
}

static void on_lost(struct node_query *q, const char *why)
{
    struct sentinel_shard *d = node_query_owner(q);

    if (!d->answers) {
        probe_failed(d, why);
        return;
    }
    /* Sentinel promotes by a transaction that closes the new master's connections: ask again now.
     */
    close_probe(d);
    sentinel_shard_probe(d);
}

const struct node_query_ops sentinel_server_ops = {.answered = on_answered, .lost = on_lost};

void sentinel_shard_tick(struct sentinel_shard *d, uint64_t now_ms)
{
    uint64_t limit = d->s->times->query_timeout_ms;

    if (d->probe != NULL && node_query_waiting_since(d->probe) <= now_ms - MIN(now_ms, limit))
        probe_failed(d, "no answer in time");
    if (d->kind == CANDIDATE_EVENT && now_ms >= d->deadline_ms)
        give_up(d, "not within the time of a failover");
    if (d->unconfirmed && now_ms >= d->confirm_by_ms) {
        d->unconfirmed = false;
        sentinel_shard_consider(d);
    }
}
