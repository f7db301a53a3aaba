/*
 * scatter_keys.c - a request cut by its keys: one part a slot, or one a key behind a TRYAGAIN.
 */
#include "base/alloc.h"
#include "base/crc16.h"
#include "resp/number.h"
#include "session/forward.h"
#include "session/merge.h"
#include "session/redirect.h"
#include "session/scatter_parts.h"

struct slot_key {
    uint16_t slot;
    uint32_t ordinal;
};

static int by_slot(const void *a, const void *b)
{
    const struct slot_key *x = a, *y = b;

    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

/* Few keys: no call of a comparison function for each pair. */
static void sort_keys(struct slot_key *k, uint32_t n)
{
    if (n > 32) {
        qsort(k, n, sizeof(*k), by_slot);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        struct slot_key x = k[i];
        uint32_t j = i;

        for (; j > 0 && k[j - 1].slot > x.slot; j--)
            k[j] = k[j - 1];
        k[j] = x;
    }
}

/* The bytes of arguments i to i + n - 1 with their headers: in array form they are contiguous. */
static const char *raw_args(const struct resp_request *r, uint32_t i, uint32_t n, uint32_t *len)
{
    uint32_t begin = r->argv[i - 1].off + r->argv[i - 1].len + 2;
    const struct resp_arg *last = &r->argv[i + n - 1];

    *len = last->off + last->len + 2 - begin;
    return r->base + begin;
}

/* Where a part's bytes are put together. */
struct composer {
    char *p;
    size_t len, cap;
    char local[4096];
};

static void compose(struct composer *b, const char *p, size_t n)
{
    if (b->len + n > b->cap) {
        size_t cap = MAX(b->cap * 2, b->len + n);
        char *bigger = xmalloc(cap);

        memcpy(bigger, b->p, b->len);
        if (b->p != b->local)
            free(b->p);
        b->p = bigger;
        b->cap = cap;
    }
    memcpy(b->p + b->len, p, n);
    b->len += n;
}

static void composer_init(struct composer *b)
{
    b->p = b->local;
    b->len = 0;
    b->cap = sizeof(b->local);
}

static void composer_deinit(struct composer *b)
{
    if (b->p != b->local)
        free(b->p);
}

/* "<type>n\r\n"; returns its length. */
static size_t write_header(char *out, char type, uint32_t n)
{
    size_t len = 1;

    out[0] = type;
    len += resp_format_int(out + 1, n);
    memcpy(out + len, "\r\n", 2);
    return len + 2;
}

/* The command with only the keys order[first...first+count) of the request. */
static void compose_part(struct composer *b, const struct resp_request *r,
                         const struct command_key_range *range, const uint32_t *order,
                         uint32_t count)
{
    uint32_t raw_len;
    char head[48];
    size_t n = write_header(head, '*', 1 + count * range->step);

    n += write_header(head + n, '$', resp_arg_len(r, 0));
    b->len = 0;
    compose(b, head, n);
    compose(b, resp_arg_ptr(r, 0), resp_arg_len(r, 0));
    compose(b, "\r\n", 2);
    for (uint32_t i = 0; i < count; i++) {
        const char *raw = raw_args(r, range->first + order[i] * range->step, range->step, &raw_len);

        compose(b, raw, raw_len);
    }
}

void scatter_keys(struct client *c, const struct command *cmd, const struct resp_request *r,
                  const struct command_key_range *range)
{
    struct scatter *s = scatter_new(range->count, merge_finish);
    struct request *parent = scatter_parent_new(c, cmd, s);
    struct slot_key local[64];
    struct slot_key *keys =
        range->count <= ARRAY_LEN(local) ? local : xmalloc(range->count * sizeof(*keys));
    struct composer b;

    for (uint32_t i = 0; i < range->count; i++) {
        uint32_t arg = range->first + i * range->step;

        keys[i].slot = key_slot(resp_arg_ptr(r, arg), resp_arg_len(r, arg));
        keys[i].ordinal = i;
    }
    sort_keys(keys, range->count);
    composer_init(&b);
    for (uint32_t i = 0, n; i < range->count; i += n) {
        struct request *p = scatter_part_new(c, parent, keys[i].slot);

        for (n = 0; i + n < range->count && keys[i + n].slot == keys[i].slot; n++)
            s->order[i + n] = keys[i + n].ordinal;
        p->first = i;
        p->count = n;
        compose_part(&b, r, range, s->order + i, n);
        scatter_link_part(s, p);
        forward_new(c, p, b.p, (uint32_t)b.len, NULL);
    }
    composer_deinit(&b);
    if (keys != local)
        free(keys);
    scatter_close(c, parent);
}

/* --- TRYAGAIN --- */

static bool can_split(const struct request *r)
{
    return r->cmd->route == ROUTE_SPLIT &&
           (r->cmd->merge == MERGE_SUM || r->cmd->merge == MERGE_ORDER);
}

/* One part for each key of `req`, whose ordinals in the parent begin at `first` of its order. */
static void add_single_keys(struct client *c, struct request *parent,
                            const struct resp_request *req, const struct command_key_range *range,
                            uint32_t first)
{
    struct scatter *s = parent->scatter;
    struct composer b;

    composer_init(&b);
    for (uint32_t i = 0; i < range->count; i++) {
        uint32_t arg = range->first + i * range->step;
        struct request *p =
            scatter_part_new(c, parent, key_slot(resp_arg_ptr(req, arg), resp_arg_len(req, arg)));

        p->first = first + i;
        p->count = 1;
        compose_part(&b, req, range, &i, 1);
        scatter_link_part(s, p);
        forward_new(c, p, b.p, (uint32_t)b.len, NULL);
    }
    composer_deinit(&b);
}

static void unlink_part(struct scatter *s, struct request *part)
{
    struct request **at = &s->parts;

    while (*at != part)
        at = &(*at)->next;
    *at = part->next;
    if (part->next == NULL)
        s->tail = at;
}

bool scatter_split(struct client *c, struct request *r)
{
    struct command_key_range range;
    struct resp_request req;
    struct request *parent = r->is_part ? r->parent : r;
    struct scatter *s;

    if (!can_split(r))
        return false;
    request_parse(c->env, r, &req);
    if (command_keys_range(r->cmd, &req, &range) != COMMAND_KEYS_OK || range.count < 2)
        return false;
    redirect_forget(c, r);
    if (r->is_part) {
        s = parent->scatter;
        add_single_keys(c, parent, &req, &range, r->first);
        unlink_part(s, r);
        request_free(c->env, r);
        scatter_close(c, parent);
        return true;
    }
    s = scatter_new(range.count, merge_finish);
    for (uint32_t i = 0; i < range.count; i++)
        s->order[i] = i;
    r->state = REQUEST_PARTS;
    r->scatter = s;
    add_single_keys(c, r, &req, &range, 0);
    scatter_close(c, parent);
    return true;
}
