/*
 * pubsub_count.c - PUBLISH, SPUBLISH and PUBSUB: what servers count, with the clients of all
 * workers in the place of the hubs' own subscriptions.
 *
 * A server of a cluster counts those that listen at that server. PUBLISH goes to the owner of the
 * channel's slot, where the hubs listen as well, and is told: that server's count, less the hubs'
 * subscriptions there, plus the proxy's clients on workers whose subscription stands. PUBSUB asks
 * all masters and adds up.
 */
#include "base/alloc.h"
#include "base/crc16.h"
#include "base/glob.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/hub.h"
#include "session/local.h"
#include "session/scatter.h"

/* What finish has to know of the request. */
struct asked {
    enum channel_kind kind;
    bool all; /* no pattern: all channels */
    size_t len;
    char text[]; /* the channel of PUBLISH, the pattern of PUBSUB CHANNELS */
};

static struct asked *asked_new(enum channel_kind kind, const struct resp_request *r, uint32_t arg)
{
    uint32_t len = arg < r->argc ? resp_arg_len(r, arg) : 0;
    struct asked *a = xcalloc(1, sizeof(*a) + len);

    a->kind = kind;
    a->all = arg >= r->argc;
    a->len = len;
    if (len > 0)
        memcpy(a->text, resp_arg_ptr(r, arg), len);
    return a;
}

/* A part keeps in its unused fields which server answered it. */
static void note_node(struct request *part, const struct node *n)
{
    uint64_t id = hub_node_id(n);

    part->first = (uint32_t)id;
    part->count = (uint32_t)(id >> 32);
}

static uint64_t node_of(const struct request *part)
{
    return (uint64_t)part->count << 32 | part->first;
}

/* While slots move, two parts can end at one server: it counts once. */
static bool is_second(const struct request *parent, const struct request *part)
{
    for (const struct request *p = parent->scatter->parts; p != part; p = p->next)
        if (node_of(p) == node_of(part))
            return true;
    return false;
}

/* The first element of a part's reply; false when it is not of this type: then the reply, an error,
 * has been composed. */
static bool open_reply(const struct request *part, char type, const char **p, const char **end,
                       struct resp_item *head, struct chain *out)
{
    *p = request_reply(part);
    *end = *p + part->reply_len;
    if (resp_next(p, *end, head) && head->type == type)
        return true;
    if (head->type == '-')
        chain_append(out, request_reply(part), part->reply_len);
    else
        error_write(out, ERROR_PART_LOST);
    return false;
}

/* --- PUBLISH --- */

/* What clients and places have to do with a message to this channel at this server. */
static int64_t difference(const struct hub *h, const struct asked *a, uint64_t node)
{
    const struct channel *ch = hub_find(h, a->kind, a->text, a->len);
    int64_t sum = 0;

    if (ch != NULL)
        sum += (int64_t)channel_reached(ch) - channel_places(ch, node);
    if (a->kind == CHANNEL_SHARD)
        return sum;
    for (struct list_node *at = h->patterns.next; at != &h->patterns; at = at->next) {
        ch = CONTAINER_OF(at, struct channel, pattern_link);
        if (glob_match(ch->name, ch->len, a->text, a->len))
            sum += (int64_t)channel_reached(ch) - channel_places(ch, node);
    }
    return sum;
}

static void publish_finish(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *part = parent->scatter->parts;
    struct resp_item head = {0};
    const char *p, *end;
    int64_t n;

    if (!open_reply(part, ':', &p, &end, &head, out))
        return;
    if (!resp_parse_int(head.data, head.len, &n))
        n = 0;
    for (const struct hub *h = hub_next(c->up, NULL); h != NULL; h = hub_next(c->up, h))
        n += difference(h, parent->scatter->data, node_of(part));
    resp_write_int(out, MAX(n, 0));
}

HANDLER(PUBLISH)
{
    enum channel_kind kind = cmd->name[0] == 's' ? CHANNEL_SHARD : CHANNEL_PLAIN;
    struct request *parent = scatter_open(c, cmd, publish_finish, asked_new(kind, r, 1));

    (void)out;
    parent->scatter->answered_by = note_node;
    /* A large one goes alone, on a connection of its own. */
    if (r->len > c->env->config->backend.large_request)
        client_hold(c, HOLD_BARRIER);
    scatter_add(c, parent, key_slot(resp_arg_ptr(r, 1), resp_arg_len(r, 1)), r->base, r->len);
    scatter_close(c, parent);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}

/* --- PUBSUB --- */

static void ask_masters(struct client *c, const struct command *cmd, const struct resp_request *r,
                        scatter_finish_fn *finish, struct asked *a)
{
    struct request *parent = scatter_open(c, cmd, finish, a);

    parent->scatter->answered_by = note_node;
    scatter_add_masters(c, parent, r->base, r->len);
    scatter_close(c, parent);
}

/* A name found, once. */
struct found {
    struct table_node link;
    struct found *next;
    const char *name;
    size_t len;
};

struct found_set {
    struct table table;
    struct found *first, **tail;
};

static void found_add(struct found_set *set, const char *name, size_t len)
{
    uint64_t hash = table_hash(0, name, len);
    struct found *f;

    for (struct table_node *n = table_first(&set->table, hash); n != NULL; n = table_next(n)) {
        f = CONTAINER_OF(n, struct found, link);
        if (f->len == len && memcmp(f->name, name, len) == 0)
            return;
    }
    f = xcalloc(1, sizeof(*f));
    f->name = name;
    f->len = len;
    *set->tail = f;
    set->tail = &f->next;
    table_add(&set->table, &f->link, hash);
}

static void found_free(struct found_set *set)
{
    for (struct found *f = set->first, *next; f != NULL; f = next) {
        next = f->next;
        free(f);
    }
    table_deinit(&set->table);
}

/* The proxy's own: a client's subscription counts even while its server is away. */
static void add_own(struct found_set *set, const struct hub *h, const struct asked *a)
{
    for (size_t i = 0; i < h->channels.size; i++)
        for (struct table_node *n = h->channels.buckets[i]; n != NULL; n = n->next) {
            const struct channel *ch = CONTAINER_OF(n, struct channel, link);

            if (ch->kind == a->kind && channel_clients(ch) > 0 &&
                (a->all || glob_match(a->text, a->len, ch->name, ch->len)))
                found_add(set, ch->name, ch->len);
        }
}

static bool add_part(struct found_set *set, const struct request *part, struct chain *out)
{
    struct resp_item head = {0}, item;
    const char *p, *end;

    if (!open_reply(part, '*', &p, &end, &head, out))
        return false;
    for (int64_t i = 0; i < head.count && resp_next(&p, end, &item); i++)
        found_add(set, item.data, item.len);
    return true;
}

static void channels_finish(struct client *c, struct request *parent, struct chain *out)
{
    struct found_set set = {.tail = &set.first};

    for (struct request *p = parent->scatter->parts; p != NULL; p = p->next)
        if (!add_part(&set, p, out)) {
            found_free(&set);
            return;
        }
    for (const struct hub *h = hub_next(c->up, NULL); h != NULL; h = hub_next(c->up, h))
        add_own(&set, h, parent->scatter->data);
    resp_write_array(out, set.table.count);
    for (struct found *f = set.first; f != NULL; f = f->next)
        resp_write_bulk(out, f->name, f->len);
    found_free(&set);
}

/* What all hubs have of a channel: clients, and places at a server. */
static int64_t own_clients(const struct upstream *u, enum channel_kind kind,
                           const struct resp_item *name)
{
    int64_t sum = 0;

    for (const struct hub *h = hub_next(u, NULL); h != NULL; h = hub_next(u, h)) {
        const struct channel *ch = hub_find(h, kind, name->data, name->len);

        sum += ch != NULL ? channel_clients(ch) : 0;
    }
    return sum;
}

static int64_t own_places(const struct upstream *u, enum channel_kind kind,
                          const struct resp_item *name, uint64_t node)
{
    int64_t sum = 0;

    for (const struct hub *h = hub_next(u, NULL); h != NULL; h = hub_next(u, h)) {
        const struct channel *ch = hub_find(h, kind, name->data, name->len);

        sum += ch != NULL ? channel_places(ch, node) : 0;
    }
    return sum;
}

/* One part's counts, less the hubs' own, are added to sums. */
static bool add_counts(const struct upstream *u, const struct request *part, enum channel_kind kind,
                       int64_t *sums, int64_t count, struct chain *out)
{
    struct resp_item head = {0}, name, number;
    const char *p, *end;

    if (!open_reply(part, '*', &p, &end, &head, out))
        return false;
    for (int64_t i = 0; i < count && i < head.count / 2; i++) {
        int64_t n;

        if (!resp_next(&p, end, &name) || !resp_next(&p, end, &number) ||
            !resp_parse_int(number.data, number.len, &n))
            break;
        sums[i] += n - own_places(u, kind, &name, node_of(part));
    }
    return true;
}

static void numsub_finish(struct client *c, struct request *parent, struct chain *out)
{
    const struct asked *a = parent->scatter->data;
    const struct request *first = parent->scatter->parts;
    struct resp_item head = {0}, name, number;
    const char *p, *end;
    int64_t count, *sums;

    if (!open_reply(first, '*', &p, &end, &head, out))
        return;
    count = head.count / 2;
    sums = xcalloc((size_t)count + 1, sizeof(*sums));
    for (const struct request *q = first; q != NULL; q = q->next)
        if (!is_second(parent, q) && !add_counts(c->up, q, a->kind, sums, count, out)) {
            free(sums);
            return;
        }
    resp_write_array(out, (size_t)count * 2);
    for (int64_t i = 0; i < count && resp_next(&p, end, &name) && resp_next(&p, end, &number);
         i++) {
        int64_t own = own_clients(c->up, a->kind, &name);

        resp_write_bulk(out, name.data, name.len);
        resp_write_int(out, MAX(sums[i], 0) + own);
    }
    free(sums);
}

/* A server counts a pattern once, whoever listens to it. */
static bool is_at(const struct channel *ch, uint64_t node)
{
    return node != HUB_NOWHERE ? channel_places(ch, node) > 0 : channel_clients(ch) > 0;
}

/* True when a hub before h has it as well. */
static bool was_counted(const struct hub *h, const struct channel *ch, uint64_t node)
{
    for (const struct hub *g = hub_next(h->up, NULL); g != h; g = hub_next(h->up, g)) {
        const struct channel *same = hub_find(g, CHANNEL_PATTERN, ch->name, ch->len);

        if (same != NULL && is_at(same, node))
            return true;
    }
    return false;
}

static int64_t own_patterns(const struct upstream *u, uint64_t node)
{
    int64_t n = 0;

    for (const struct hub *h = hub_next(u, NULL); h != NULL; h = hub_next(u, h))
        for (struct list_node *at = h->patterns.next; at != &h->patterns; at = at->next) {
            const struct channel *ch = CONTAINER_OF(at, struct channel, pattern_link);

            n += is_at(ch, node) && !was_counted(h, ch, node);
        }
    return n;
}

static void numpat_finish(struct client *c, struct request *parent, struct chain *out)
{
    struct resp_item head = {0};
    const char *p, *end;
    int64_t sum = 0, n;

    for (struct request *q = parent->scatter->parts; q != NULL; q = q->next) {
        if (is_second(parent, q))
            continue;
        if (!open_reply(q, ':', &p, &end, &head, out))
            return;
        if (resp_parse_int(head.data, head.len, &n))
            sum += MAX(n - own_patterns(c->up, node_of(q)), 0);
    }
    resp_write_int(out, sum + own_patterns(c->up, HUB_NOWHERE));
}

/* "shardchannels" and "shardnumsub" are about sharded channels. */
static enum channel_kind kind_of(const struct command *cmd)
{
    return strncmp(cmd->name, "pubsub|shard", 12) == 0 ? CHANNEL_SHARD : CHANNEL_PLAIN;
}

HANDLER(PUBSUB_CHANNELS)
{
    if (r->argc > 3)
        local_subcommand_error(r, "PUBSUB", out);
    else
        ask_masters(c, cmd, r, channels_finish, asked_new(kind_of(cmd), r, 2));
}

HANDLER(PUBSUB_NUMSUB)
{
    (void)out;
    ask_masters(c, cmd, r, numsub_finish, asked_new(kind_of(cmd), r, r->argc));
}

HANDLER(PUBSUB_NUMPAT)
{
    (void)out;
    ask_masters(c, cmd, r, numpat_finish, asked_new(CHANNEL_PATTERN, r, r->argc));
}
