#include "session/merge_admin.h"

#include "base/alloc.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/upstream.h"

/* A server keeps so many samples of an event. */
#define HISTORY_MAX 160

struct reader {
    const char *p, *end;
};

static bool open_part(const struct request *part, struct reader *at, struct resp_item *head)
{
    at->p = request_reply(part);
    at->end = at->p + part->reply_len;
    return resp_next(&at->p, at->end, head);
}

static bool open_array(const struct request *part, struct reader *at, int64_t *count)
{
    struct resp_item head;

    if (!open_part(part, at, &head) || head.type != '*' || head.count < 0)
        return false;
    *count = head.count;
    return true;
}

static bool read_int(struct reader *at, int64_t *out)
{
    struct resp_item item;

    return resp_next(&at->p, at->end, &item) && item.type == ':' &&
           resp_parse_int(item.data, item.len, out);
}

/* The elements of all parts' arrays, counted. */
static bool count_elements(const struct scatter *s, size_t *total)
{
    struct reader at;
    int64_t n;

    *total = 0;
    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        if (!open_array(p, &at, &n))
            return false;
        *total += (size_t)n;
    }
    return true;
}

/* Reads one element into list, of which *n places are taken. False: it is not what it should be. */
typedef bool take_fn(struct reader *at, void *list, size_t *n);

/* All elements of the parts' arrays, taken one after the other into a list with `size` bytes for
 * each; *n are taken. The caller frees it. NULL: a part is not what it should be. */
static void *take_elements(const struct scatter *s, size_t size, take_fn *take, size_t *n)
{
    size_t total;
    void *list;
    bool ok = true;

    *n = 0;
    if (!count_elements(s, &total))
        return NULL;
    list = xcalloc(total + 1, size);
    for (const struct request *p = s->parts; ok && p != NULL; p = p->next) {
        struct reader at;
        int64_t left = 0;

        for (ok = open_array(p, &at, &left); ok && left > 0; left--)
            ok = take(&at, list, n);
    }
    if (!ok)
        free(list);
    return ok ? list : NULL;
}

/* --- SLOWLOG GET --- */

struct entry {
    const char *p; /* the whole element */
    size_t len, order;
    int64_t time;
};

static int newest_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->time != y->time)
        return x->time > y->time ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* [id, seconds, microseconds, arguments, client, name] */
static bool take_entry(struct reader *at, void *list, size_t *n)
{
    struct entry *e = (struct entry *)list + *n;
    struct reader inside = *at;
    struct resp_item head;
    int64_t id;

    e->order = (*n)++;
    e->p = at->p;
    if (!resp_skip(&at->p, at->end) || !resp_next(&inside.p, inside.end, &head))
        return false;
    e->len = (size_t)(at->p - e->p);
    return head.type == '*' && head.count >= 2 && read_int(&inside, &id) &&
           read_int(&inside, &e->time);
}

bool merge_slowlog(const struct scatter *s, int64_t count, struct chain *out)
{
    size_t total, shown;
    struct entry *list = take_elements(s, sizeof(*list), take_entry, &total);

    if (list == NULL)
        return false;
    shown = count >= 0 ? MIN((size_t)count, total) : total;
    qsort(list, total, sizeof(*list), newest_first);
    resp_write_array(out, shown);
    for (size_t i = 0; i < shown; i++)
        chain_append(out, list[i].p, list[i].len);
    free(list);
    return true;
}

/* --- LATENCY LATEST --- */

struct spike {
    const char *event;
    size_t event_len;
    int64_t time, last, max;
};

static bool read_spike(struct reader *at, struct spike *out)
{
    struct resp_item head, name;

    if (!resp_next(&at->p, at->end, &head) || head.type != '*' || head.count != 4 ||
        !resp_next(&at->p, at->end, &name))
        return false;
    out->event = name.data;
    out->event_len = name.len;
    return read_int(at, &out->time) && read_int(at, &out->last) && read_int(at, &out->max);
}

static void add_spike(struct spike *list, size_t *count, const struct spike *new)
{
    for (size_t i = 0; i < *count; i++) {
        struct spike *old = &list[i];

        if (old->event_len != new->event_len || memcmp(old->event, new->event, new->event_len) != 0)
            continue;
        if (new->time > old->time || (new->time == old->time &&new->last > old->last)) {
            old->time = new->time;
            old->last = new->last;
        }
        old->max = MAX(old->max, new->max);
        return;
    }
    list[(*count)++] = *new;
}

static bool take_spike(struct reader *at, void *list, size_t *n)
{
    struct spike one;

    if (!read_spike(at, &one))
        return false;
    add_spike(list, n, &one);
    return true;
}

bool merge_latest(const struct scatter *s, struct chain *out)
{
    size_t count;
    struct spike *list = take_elements(s, sizeof(*list), take_spike, &count);

    if (list == NULL)
        return false;
    resp_write_array(out, count);
    for (size_t i = 0; i < count; i++) {
        resp_write_array(out, 4);
        resp_write_bulk(out, list[i].event, list[i].event_len);
        resp_write_int(out, list[i].time);
        resp_write_int(out, list[i].last);
        resp_write_int(out, list[i].max);
    }
    free(list);
    return true;
}

/* --- LATENCY HISTORY --- */

struct sample {
    int64_t time, ms;
};

static int oldest_first(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return x->ms < y->ms ? -1 : x->ms > y->ms;
}

static bool take_sample(struct reader *at, void *list, size_t *n)
{
    struct sample *one = (struct sample *)list + (*n)++;
    struct resp_item head;

    return resp_next(&at->p, at->end, &head) && head.type == '*' && head.count == 2 &&
           read_int(at, &one->time) && read_int(at, &one->ms);
}

/* Sorted; of one second only the largest stays. Returns how many are left. */
static size_t thin_out(struct sample *list, size_t total)
{
    size_t n = 0;

    qsort(list, total, sizeof(*list), oldest_first);
    for (size_t i = 0; i < total; i++) {
        if (n > 0 && list[n - 1].time == list[i].time)
            n--;
        list[n++] = list[i];
    }
    return n;
}

bool merge_history(const struct scatter *s, struct chain *out)
{
    size_t total, count, from;
    struct sample *list = take_elements(s, sizeof(*list), take_sample, &total);

    if (list == NULL)
        return false;
    count = thin_out(list, total);
    from = count > HISTORY_MAX ? count - HISTORY_MAX : 0;
    resp_write_array(out, count - from);
    for (size_t i = from; i < count; i++) {
        resp_write_array(out, 2);
        resp_write_int(out, list[i].time);
        resp_write_int(out, list[i].ms);
    }
    free(list);
    return true;
}

/* --- FUNCTION STATS --- */

/* True when the reply is a map whose first value, running_script, is not null. */
static bool runs_script(const struct request *part, bool *fits)
{
    struct resp_item head, name, value;
    struct reader at;

    *fits = open_part(part, &at, &head) && (head.type == '*' || head.type == '%') &&
            head.count >= 2 && resp_next(&at.p, at.end, &name) && resp_next(&at.p, at.end, &value);
    return *fits && value.type != '_' && value.count >= 0 &&
           (value.type == '*' || value.type == '%');
}

bool merge_function_stats(const struct scatter *s, struct chain *out)
{
    const struct request *chosen = NULL;
    bool fits = true;

    for (const struct request *p = s->parts; fits && p != NULL; p = p->next)
        if (runs_script(p, &fits) && chosen == NULL)
            chosen = p;
    if (!fits)
        return false;
    if (chosen == NULL)
        chosen = s->parts;
    chain_append(out, request_reply(chosen), chosen->reply_len);
    return true;
}

/* --- SCRIPT KILL, FUNCTION KILL --- */

void merge_kill(const struct scatter *s, struct chain *out)
{
    static const char nothing[] = "-NOTBUSY ";
    const struct request *answer = NULL;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        const char *reply = request_reply(p);
        bool none =
            p->reply_len >= sizeof(nothing) - 1 && memcmp(reply, nothing, sizeof(nothing) - 1) == 0;

        if (p->reply_len > 0 && *reply == '-' && !none) {
            answer = p;
            break;
        }
        if (answer == NULL || (!none && *request_reply(answer) == '-'))
            answer = p;
    }
    chain_append(out, request_reply(answer), answer->reply_len);
}

/* --- texts --- */

static void add_text(struct chain *to, const struct client *c, const struct request *part)
{
    const struct node *n = part->slot != SLOT_NONE ? upstream_route(c->up, part->slot) : NULL;
    char head[ADDR_TEXT_MAX + 8], addr[ADDR_TEXT_MAX];
    struct resp_item item;
    struct reader at;
    size_t skip;
    int len;

    len = snprintf(head, sizeof(head), "# %s\n", n != NULL ? addr_format(&n->addr, addr) : "?");
    chain_append(to, head, (size_t)len);
    if (!open_part(part, &at, &item))
        return;
    skip = item.type == '=' ? MIN((size_t)4, item.len) : 0; /* "txt:" */
    chain_append(to, item.data + skip, item.len - skip);
    chain_append(to, "\n\n", 2);
}

void merge_texts(const struct client *c, const struct scatter *s, struct chain *out)
{
    const struct request *first = s->parts;
    struct chain text;
    bool all_errors = true;
    char *flat;
    size_t n = 0;

    for (const struct request *p = first; p != NULL; p = p->next)
        all_errors &= p->reply_len > 0 && *request_reply(p) == '-';
    if (all_errors || first->next == NULL) {
        chain_append(out, request_reply(first), first->reply_len);
        return;
    }
    chain_init(&text);
    for (const struct request *p = first; p != NULL; p = p->next)
        add_text(&text, c, p);
    flat = xmalloc(text.bytes);
    for (const struct chain_seg *seg = text.head; seg != NULL; seg = seg->next) {
        memcpy(flat + n, seg->block->data + seg->off, seg->len);
        n += seg->len;
    }
    resp_write_verbatim(out, c->proto, flat, n);
    free(flat);
    chain_clear(&text);
}
