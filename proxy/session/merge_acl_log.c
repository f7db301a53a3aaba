/*
 * merge_acl_log.c - ACL LOG of all masters: each notes what it refused itself.
 */
#include "base/alloc.h"
#include "resp/write.h"
#include "session/merge_admin.h"

struct entry {
    const char *p; /* the whole element */
    size_t len, order;
    double age_s;
};

static int youngest_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->age_s != y->age_s)
        return x->age_s < y->age_s ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* A flat array or map of names and values; one of them is "age-seconds". */
static bool read_age(const char *p, const char *end, double *out)
{
    struct resp_item head, name, value;
    char text[40];

    if (!resp_next(&p, end, &head) || (head.type != '*' && head.type != '%'))
        return false;
    while (p < end && resp_next(&p, end, &name)) {
        if (name.len != 11 || memcmp(name.data, "age-seconds", 11) != 0) {
            if (!resp_skip(&p, end))
                return false;
            continue;
        }
        if (!resp_next(&p, end, &value) || value.len == 0 || value.len >= sizeof(text))
            return false;
        memcpy(text, value.data, value.len);
        text[value.len] = '\0';
        *out = strtod(text, NULL);
        return true;
    }
    return false;
}

/* Adds a part's entries to the list, which has *n. False: it is not what it should be. */
static bool take_part(const struct request *part, struct entry **list, size_t *n)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item head;

    if (!resp_next(&p, end, &head) || head.type != '*' || head.count < 0)
        return false;
    *list = xrealloc(*list, (*n + (size_t)head.count + 1) * sizeof(**list));
    for (int64_t left = head.count; left > 0; left--) {
        struct entry *e = *list + *n;

        e->order = (*n)++;
        e->p = p;
        if (!resp_skip(&p, end) || !read_age(e->p, p, &e->age_s))
            return false;
        e->len = (size_t)(p - e->p);
    }
    return true;
}

bool merge_acl_log(const struct scatter *s, int64_t count, struct chain *out)
{
    struct entry *list = NULL;
    size_t total = 0, shown;
    bool ok = true;

    if (*request_reply(s->parts) == '+') { /* RESET */
        chain_append(out, request_reply(s->parts), s->parts->reply_len);
        return true;
    }
    for (const struct request *p = s->parts; ok && p != NULL; p = p->next)
        ok = take_part(p, &list, &total);
    if (ok) {
        shown = count >= 0 ? MIN((size_t)count, total) : 0;
        qsort(list, total, sizeof(*list), youngest_first);
        resp_write_array(out, shown);
        for (size_t i = 0; i < shown; i++)
            chain_append(out, list[i].p, list[i].len);
    }
    free(list);
    return ok;
}
