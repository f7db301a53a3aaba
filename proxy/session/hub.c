#include "session/hub.h"

#include "base/alloc.h"
#include "base/crc16.h"
#include "session/error.h"
#include "session/hub_conn.h"
#include "session/identity.h"
#include "session/subscriber.h"

static void run_task(struct loop_task *t);

struct hub *hub_next(const struct upstream *u, const struct hub *h)
{
    const struct list_node *at = h != NULL ? h->link.next : u->hubs.next;

    return at != &u->hubs ? CONTAINER_OF(at, struct hub, link) : NULL;
}

static struct hub *hub_new(struct upstream *u, const char *key)
{
    struct hub *h = xcalloc(1, sizeof(*h));

    h->up = u;
    h->profile = -1;
    memcpy(h->key, key, SHA1_HEX_LEN + 1);
    list_push(&u->hubs, &h->link);
    h->backend = u->env->backend;
    h->backend.ops = &hub_conn_ops;
    list_init(&h->wanted);
    list_init(&h->patterns);
    list_init(&h->lost);
    list_init(&h->dirty);
    list_init(&h->conns);
    list_init(&h->settling);
    list_init(&h->task.link);
    h->task.run = run_task;
    return h;
}

struct hub *hub_of_key(struct upstream *u, const char *key)
{
    for (struct hub *h = hub_next(u, NULL); h != NULL; h = hub_next(u, h))
        if (memcmp(h->key, key, SHA1_HEX_LEN) == 0)
            return h;
    return hub_new(u, key);
}

/* The lengths stand before the texts, so that no two users have the same. */
static void key_of(const struct profile *p, char key[SHA1_HEX_LEN + 1])
{
    const char *user = p->user != NULL ? p->user : "", *password = p->password;
    size_t size = strlen(user) + (password != NULL ? strlen(password) : 0) + 48;
    char *text = xmalloc(size);
    int n = snprintf(text, size, "%d%d %zu %s %s", p->guest, password != NULL, strlen(user), user,
                     password != NULL ? password : "");

    sha1_hex(text, (size_t)n, key);
    explicit_bzero(text, size);
    free(text);
}

struct hub *hub_of(struct client *c)
{
    char key[SHA1_HEX_LEN + 1];
    struct hub *h;

    key_of(&c->env->profiles.profiles[c->profile], key);
    h = hub_of_key(c->up, key);
    if (h->profile < 0)
        h->profile = identity_profile(c, 3, 0);
    return h->profile >= 0 ? h : NULL;
}

/* --- channels --- */

static uint64_t channel_hash(enum channel_kind kind, const char *name, size_t len)
{
    return table_hash((uint64_t)kind, name, len);
}

struct channel *hub_find(const struct hub *h, enum channel_kind kind, const char *name, size_t len)
{
    struct table_node *n = table_first(&h->channels, channel_hash(kind, name, len));

    for (; n != NULL; n = table_next(n)) {
        struct channel *ch = CONTAINER_OF(n, struct channel, link);

        if (ch->kind == kind && ch->len == len && memcmp(ch->name, name, len) == 0)
            return ch;
    }
    return NULL;
}

static bool has_prefix(const char *name, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);

    return len >= n && memcmp(name, prefix, n) == 0;
}

/* True when a pattern can match a name that begins with `text`: the pattern is followed as far as
 * its plain characters go; whatever comes at its first special one may match the rest. */
static bool can_begin_with(const char *pattern, size_t len, const char *text)
{
    size_t i = 0;

    for (; i < len && *text != '\0'; i++, text++) {
        if (strchr("*?[\\", pattern[i]) != NULL && pattern[i] != '\0')
            return true;
        if (pattern[i] != *text)
            return false;
    }
    return *text == '\0' || i < len;
}

static bool is_about_keys(enum channel_kind kind, const char *name, size_t len)
{
    if (kind == CHANNEL_PLAIN)
        return has_prefix(name, len, "__keyspace@") || has_prefix(name, len, "__keyevent@");
    return kind == CHANNEL_PATTERN &&
           (can_begin_with(name, len, "__keyspace@") || can_begin_with(name, len, "__keyevent@"));
}

struct channel *hub_channel(struct hub *h, enum channel_kind kind, const char *name, size_t len)
{
    struct channel *ch = hub_find(h, kind, name, len);

    if (ch != NULL)
        return ch;
    ch = xcalloc(1, sizeof(*ch) + len);
    ch->hub = h;
    ch->kind = (uint8_t)kind;
    ch->everywhere = is_about_keys(kind, name, len);
    ch->slot = key_slot(name, len);
    ch->len = (uint32_t)len;
    memcpy(ch->name, name, len);
    ch->shares = xcalloc(h->up->env->worker_count, sizeof(*ch->shares));
    list_init(&ch->subs);
    list_init(&ch->places);
    list_init(&ch->joins);
    list_init(&ch->leaves);
    list_init(&ch->wanted_link);
    list_init(&ch->pattern_link);
    list_init(&ch->lost_link);
    list_init(&ch->dirty_link);
    table_add(&h->channels, &ch->link, channel_hash(kind, name, len));
    if (kind == CHANNEL_PATTERN)
        list_push(&h->patterns, &ch->pattern_link);
    return ch;
}

static void channel_free(struct channel *ch)
{
    list_unlink(&ch->wanted_link);
    list_unlink(&ch->pattern_link);
    list_unlink(&ch->lost_link);
    list_unlink(&ch->dirty_link);
    table_remove(&ch->hub->channels, &ch->link);
    free(ch->shares);
    free(ch);
}

void channel_put(struct channel *ch)
{
    if (ch->clients == 0 && ch->sharers == 0 && ch->pins == 0 && list_empty(&ch->places) &&
        list_empty(&ch->joins) && list_empty(&ch->leaves) && !list_linked(&ch->dirty_link))
        channel_free(ch);
}

/* --- time --- */

static void run_task(struct loop_task *t)
{
    struct hub *h = CONTAINER_OF(t, struct hub, task);

    hub_retry_lost(h);
    hub_tell(h);
}

/* Clients that have waited for a confirmation for backend.ride_through get an error. */
static bool refuse_one(struct hub *h, uint64_t now_ms)
{
    uint32_t limit = h->up->env->config->backend.ride_through_ms;
    char text[128];
    int n = snprintf(text, sizeof(text), "-%s\r\n", error_text(ERROR_CLUSTERDOWN));

    for (struct list_node *at = h->wanted.next; at != &h->wanted; at = at->next) {
        struct channel *ch = CONTAINER_OF(at, struct channel, wanted_link);

        if (!list_empty(&ch->joins) && ch->lost_ms != 0 && now_ms > ch->lost_ms + limit) {
            subscriber_refused(ch, text, (size_t)n);
            return true;
        }
    }
    return false;
}

static void hub_tick(struct hub *h, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    hub_retry_lost(h);
    while (refuse_one(h, now_ms))
        ;
    LIST_FOREACH (at, tmp, &h->conns)
        hub_conn_tick(CONTAINER_OF(at, struct hub_conn, link), now_ms);
}

static void hub_free(struct hub *h)
{
    struct list_node *at, *tmp;

    h->stopping = true;
    LIST_FOREACH (at, tmp, &h->conns)
        beconn_close(CONTAINER_OF(at, struct hub_conn, link)->conn, NULL);
    list_unlink(&h->task.link);
    for (size_t i = 0; i < h->channels.size; i++)
        while (h->channels.buckets[i] != NULL)
            channel_free(CONTAINER_OF(h->channels.buckets[i], struct channel, link));
    table_deinit(&h->channels);
    table_deinit(&h->subscriptions);
    if (h->profile >= 0)
        profile_unref(&h->up->env->profiles, (uint16_t)h->profile);
    list_unlink(&h->link);
    free(h);
}

/* --- all of an upstream --- */

static bool is_unused(const struct hub *h)
{
    return h->members == 0 && h->channels.count == 0 && list_empty(&h->conns) &&
           h->told == h->known && list_empty(&h->settling) && !list_linked(&h->task.link);
}

void hubs_tick(struct upstream *u, uint64_t now_ms)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &u->hubs) {
        struct hub *h = CONTAINER_OF(at, struct hub, link);

        hub_tick(h, now_ms);
        if (is_unused(h))
            hub_free(h);
    }
}

void hubs_on_map(struct upstream *u)
{
    for (struct hub *h = hub_next(u, NULL); h != NULL; h = hub_next(u, h))
        hub_on_map(h);
}

void hubs_free(struct upstream *u)
{
    while (!list_empty(&u->hubs))
        hub_free(CONTAINER_OF(u->hubs.next, struct hub, link));
}
