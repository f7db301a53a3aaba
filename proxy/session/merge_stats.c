/*
 * merge_stats.c - MEMORY STATS and LATENCY HISTOGRAM: maps of numbers, added.
 */
#include <math.h>

#include "base/alloc.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/merge_admin.h"

/* One number with its name, or a map of them. Names point into the parts' replies. */
struct figure {
    const char *name;
    size_t name_len;
    bool is_map, is_ratio;
    int64_t value;
    double ratio;
    struct figures *map;
};

struct figures {
    size_t count, cap;
    struct figure *list;
};

static void figures_free(struct figures *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        figures_free(s->list[i].map);
    free(s->list);
    free(s);
}

static struct figure *figures_find(const struct figures *s, const char *name, size_t len)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].name_len == len && memcmp(s->list[i].name, name, len) == 0)
            return &s->list[i];
    return NULL;
}

static struct figure *figures_add(struct figures *s, const char *name, size_t len)
{
    struct figure *st = figures_find(s, name, len);

    if (st != NULL)
        return st;
    if (s->count == s->cap) {
        s->cap = MAX(s->cap * 2, (size_t)32);
        s->list = xrealloc(s->list, s->cap * sizeof(*s->list));
    }
    st = &s->list[s->count++];
    *st = (struct figure){.name = name, .name_len = len};
    return st;
}

static bool parse_double(const struct resp_item *item, double *out)
{
    char text[64], *rest;

    if (item->len == 0 || item->len >= sizeof(text))
        return false;
    memcpy(text, item->data, item->len);
    text[item->len] = '\0';
    *out = strtod(text, &rest);
    return *rest == '\0';
}

#define DEPTH_MAX 4

/* Adds a map's numbers to s; *p is behind the map's head. */
static bool add_map(struct figures *s, const char **p, const char *end, int64_t items, int depth)
{
    for (int64_t i = 0; i + 1 < items; i += 2) {
        struct resp_item name, item;
        struct figure *st;
        int64_t v;

        if (!resp_next(p, end, &name) || name.data == NULL || !resp_next(p, end, &item))
            return false;
        st = figures_add(s, name.data, name.len);
        switch (item.type) {
        case ':':
            if (!resp_parse_int(item.data, item.len, &v) ||
                __builtin_add_overflow(st->value, v, &st->value))
                return false;
            break;
        case ',':
        case '$':
            st->is_ratio = true;
            if (!parse_double(&item, &st->ratio))
                return false;
            break;
        case '*':
        case '%':
            if (depth == DEPTH_MAX || item.count < 0)
                return false;
            st->is_map = true;
            if (st->map == NULL)
                st->map = xcalloc(1, sizeof(*st->map));
            if (!add_map(st->map, p, end, item.count, depth + 1))
                return false;
            break;
        default:
            return false;
        }
    }
    return true;
}

/* NULL: the replies are no maps of numbers. */
static struct figures *add_parts(const struct scatter *s)
{
    struct figures *all = xcalloc(1, sizeof(*all));

    for (const struct request *part = s->parts; part != NULL; part = part->next) {
        const char *p = request_reply(part), *end = p + part->reply_len;
        struct resp_item head;

        if (!resp_next(&p, end, &head) || (head.type != '*' && head.type != '%') ||
            head.count < 0 || !add_map(all, &p, end, head.count, 0)) {
            figures_free(all);
            return NULL;
        }
    }
    return all;
}

/* --- MEMORY STATS --- */

static double value_of(const struct figures *s, const char *name)
{
    const struct figure *st = figures_find(s, name, strlen(name));

    return st != NULL ? (double)st->value : 0;
}

static void set_ratio(struct figures *s, const char *name, double over, double under)
{
    struct figure *st = figures_find(s, name, strlen(name));

    if (st != NULL && st->is_ratio)
        st->ratio = under > 0 ? over / under : 0;
}

/* The sums' own ratios; a mean of the servers' would mean nothing. */
static void compute_ratios(struct figures *s)
{
    double total = value_of(s, "total.allocated"), startup = value_of(s, "startup.allocated");
    double resident = value_of(s, "allocator.resident");
    double rss = resident + value_of(s, "rss-overhead.bytes");
    double keys = value_of(s, "keys.count"), net = total - startup;
    struct figure *per_key = figures_find(s, "keys.bytes-per-key", strlen("keys.bytes-per-key"));

    if (per_key != NULL)
        per_key->value = keys > 0 ? (int64_t)(net / keys) : 0;
    set_ratio(s, "dataset.percentage", 100 * value_of(s, "dataset.bytes"), net);
    set_ratio(s, "peak.percentage", 100 * total, value_of(s, "peak.allocated"));
    set_ratio(s, "allocator-fragmentation.ratio", value_of(s, "allocator.active"),
              value_of(s, "allocator.allocated"));
    set_ratio(s, "allocator-rss.ratio", resident, value_of(s, "allocator.active"));
    set_ratio(s, "rss-overhead.ratio", rss, resident);
    set_ratio(s, "fragmentation", total + value_of(s, "fragmentation.bytes"), total);
}

static void write_double(struct chain *out, int proto, double v)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%.17g", isfinite(v) ? v : 0.0);

    if (proto != 3) {
        resp_write_bulk(out, text, (size_t)n);
        return;
    }
    chain_append(out, ",", 1);
    chain_append(out, text, (size_t)n);
    chain_append(out, "\r\n", 2);
}

static void write_stats(struct chain *out, int proto, const struct figures *s)
{
    resp_write_map(out, proto, s->count);
    for (size_t i = 0; i < s->count; i++) {
        const struct figure *st = &s->list[i];

        resp_write_bulk(out, st->name, st->name_len);
        if (st->is_map)
            write_stats(out, proto, st->map);
        else if (st->is_ratio)
            write_double(out, proto, st->ratio);
        else
            resp_write_int(out, st->value);
    }
}

bool merge_memory(const struct scatter *s, int proto, struct chain *out)
{
    struct figures *all = add_parts(s);

    if (all == NULL)
        return false;
    compute_ratios(all);
    write_stats(out, proto, all);
    figures_free(all);
    return true;
}

/* --- LATENCY HISTOGRAM --- */

struct bucket {
    int64_t edge, count; /* microseconds; calls of this bucket alone */
};

#define BUCKETS_MAX 256

struct histogram {
    const char *command;
    size_t command_len;
    int64_t calls;
    size_t count;
    struct bucket buckets[BUCKETS_MAX]; /* by edge */
};

struct histograms {
    size_t count, cap;
    struct histogram *list;
};

static struct histogram *histogram_of(struct histograms *all, const struct resp_item *name)
{
    struct histogram *h;

    for (size_t i = 0; i < all->count; i++)
        if (all->list[i].command_len == name->len &&
            memcmp(all->list[i].command, name->data, name->len) == 0)
            return &all->list[i];
    if (all->count == all->cap) {
        all->cap = MAX(all->cap * 2, (size_t)8);
        all->list = xrealloc(all->list, all->cap * sizeof(*all->list));
    }
    h = &all->list[all->count++];
    h->command = name->data;
    h->command_len = name->len;
    h->calls = 0;
    h->count = 0;
    return h;
}

static bool add_bucket(struct histogram *h, int64_t edge, int64_t count)
{
    size_t i = 0;

    while (i < h->count && h->buckets[i].edge < edge)
        i++;
    if (i == h->count || h->buckets[i].edge != edge) {
        if (h->count == BUCKETS_MAX)
            return false;
        memmove(&h->buckets[i + 1], &h->buckets[i], (h->count - i) * sizeof(h->buckets[0]));
        h->buckets[i] = (struct bucket){.edge = edge};
        h->count++;
    }
    h->buckets[i].count += count;
    return true;
}

static bool next_int(const char **p, const char *end, int64_t *out)
{
    struct resp_item item;

    return resp_next(p, end, &item) && item.type == ':' && resp_parse_int(item.data, item.len, out);
}

/* "calls" n "histogram_usec" {edge: calls so far, ...} */
static bool add_histogram(struct histogram *h, const char **p, const char *end)
{
    struct resp_item name, map;
    int64_t calls, edge, so_far, before = 0;

    if (!resp_next(p, end, &name) || !next_int(p, end, &calls) || !resp_next(p, end, &name) ||
        !resp_next(p, end, &map) || (map.type != '*' && map.type != '%'))
        return false;
    h->calls += calls;
    for (int64_t i = 0; i + 1 < map.count; i += 2) {
        if (!next_int(p, end, &edge) || !next_int(p, end, &so_far) ||
            !add_bucket(h, edge, so_far - before))
            return false;
        before = so_far;
    }
    return true;
}

static bool add_histograms(struct histograms *all, const struct request *part)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item head, name, inner;

    if (!resp_next(&p, end, &head) || (head.type != '*' && head.type != '%'))
        return false;
    for (int64_t i = 0; i + 1 < head.count; i += 2)
        if (!resp_next(&p, end, &name) || !resp_next(&p, end, &inner) || inner.count != 4 ||
            !add_histogram(histogram_of(all, &name), &p, end))
            return false;
    return true;
}

static void write_histogram(struct chain *out, int proto, const struct histogram *h)
{
    int64_t so_far = 0;

    resp_write_bulk(out, h->command, h->command_len);
    resp_write_map(out, proto, 2);
    resp_write_text(out, "calls");
    resp_write_int(out, h->calls);
    resp_write_text(out, "histogram_usec");
    resp_write_map(out, proto, h->count);
    for (size_t i = 0; i < h->count; i++) {
        so_far += h->buckets[i].count;
        resp_write_int(out, h->buckets[i].edge);
        resp_write_int(out, so_far);
    }
}

bool merge_histogram(const struct scatter *s, int proto, struct chain *out)
{
    struct histograms all = {0};
    bool ok = true;

    for (const struct request *p = s->parts; ok && p != NULL; p = p->next)
        ok = add_histograms(&all, p);
    if (ok) {
        resp_write_map(out, proto, all.count);
        for (size_t i = 0; i < all.count; i++)
            write_histogram(out, proto, &all.list[i]);
    }
    free(all.list);
    return ok;
}
