#include "session/merge.h"

#include "base/alloc.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/merge_admin.h"

/* A stored reply as a cursor. */
struct cursor {
    const char *p, *end;
};

static struct cursor reply_cursor(const struct request *part)
{
    const char *p = request_reply(part);

    return (struct cursor){p, p + part->reply_len};
}

static bool read_head(const struct request *part, struct cursor *at, struct resp_item *head)
{
    *at = reply_cursor(part);
    return resp_next(&at->p, at->end, head);
}

/* The array in a part's reply; false when it is none, or a null. */
static bool read_array(const struct request *part, struct cursor *at, struct resp_item *head)
{
    return read_head(part, at, head) && (head->type == '*' || head->type == '~') &&
           head->count >= 0;
}

const struct request *merge_first_error(const struct scatter *s)
{
    const struct request *found = NULL;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        struct cursor at;
        struct resp_item head;
        char first = p->reply_len > 0 ? *request_reply(p) : '-';

        if (LIKELY(first == '*' || first == ':' || first == '+' || first == '$'))
            continue;
        if (read_head(p, &at, &head) && head.type != '-' && head.type != '!')
            continue;
        if (found == NULL || (s->keys > 0 && s->order[p->first] < s->order[found->first]))
            found = p;
    }
    return found;
}

static bool merge_sum(const struct scatter *s, struct chain *out)
{
    int64_t sum = 0, v;
    struct cursor at;
    struct resp_item head;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        if (!read_head(p, &at, &head) || head.type != ':' ||
            !resp_parse_int(head.data, head.len, &v) || __builtin_add_overflow(sum, v, &sum))
            return false;
    }
    resp_write_int(out, sum);
    return true;
}

struct element {
    const char *p;
    size_t len;
};

/* "*1" and its element: the reply to a part of one key. */
static bool single_element(const struct request *p, struct element *out)
{
    static const char head[] = "*1\r\n";
    const char *reply = request_reply(p);

    if (p->count != 1 || p->reply_len < sizeof(head) - 1 || memcmp(reply, head, 4) != 0)
        return false;
    out->p = reply + 4;
    out->len = p->reply_len - 4;
    return true;
}

static bool collect_elements(const struct scatter *s, struct element *elements)
{
    struct cursor at;
    struct resp_item head;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        if (LIKELY(single_element(p, &elements[s->order[p->first]])))
            continue;
        if (!read_array(p, &at, &head) || (uint64_t)head.count != p->count)
            return false;
        for (uint32_t i = 0; i < p->count; i++) {
            struct element *e = &elements[s->order[p->first + i]];

            e->p = at.p;
            if (!resp_skip(&at.p, at.end))
                return false;
            e->len = (size_t)(at.p - e->p);
        }
    }
    return true;
}

static bool merge_order(const struct scatter *s, struct chain *out)
{
    struct element local[64];
    struct element *elements =
        s->keys <= ARRAY_LEN(local) ? local : xmalloc(s->keys * sizeof(*elements));
    bool ok = collect_elements(s, elements);

    if (ok) {
        resp_write_array(out, s->keys);
        for (uint32_t i = 0; i < s->keys; i++)
            chain_append(out, elements[i].p, elements[i].len);
    }
    if (elements != local)
        free(elements);
    return ok;
}

static bool merge_concat(const struct scatter *s, struct chain *out)
{
    struct cursor at;
    struct resp_item head;
    int64_t total = 0;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        if (!read_array(p, &at, &head))
            return false;
        total += head.count;
    }
    resp_write_array(out, (size_t)total);
    for (const struct request *p = s->parts; p != NULL; p = p->next)
        if (read_array(p, &at, &head))
            chain_append(out, at.p, (size_t)(at.end - at.p));
    return true;
}

/* Arrays of integers, the smallest by position: 1 only where every part says 1. */
static bool merge_and(const struct scatter *s, struct chain *out)
{
    struct cursor at;
    struct resp_item head, item;
    int64_t n = -1, v;
    int64_t *least = NULL;
    bool ok = true;

    for (const struct request *p = s->parts; ok && p != NULL; p = p->next) {
        ok = read_array(p, &at, &head) && (n < 0 || head.count == n);
        if (ok && n < 0) {
            n = head.count;
            least = xmalloc((size_t)n * sizeof(*least));
            for (int64_t i = 0; i < n; i++)
                least[i] = INT64_MAX;
        }
        for (int64_t i = 0; ok && i < n; i++) {
            ok = resp_next(&at.p, at.end, &item) && resp_parse_int(item.data, item.len, &v);
            if (ok)
                least[i] = MIN(least[i], v);
        }
    }
    if (ok) {
        resp_write_array(out, (size_t)n);
        for (int64_t i = 0; i < n; i++)
            resp_write_int(out, least[i]);
    }
    free(least);
    return ok;
}

static bool is_error(const struct request *p)
{
    return p->reply_len == 0 || *request_reply(p) == '-';
}

static bool is_noscript(const struct request *p)
{
    static const char word[] = "-NOSCRIPT ";

    return p->reply_len >= sizeof(word) && memcmp(request_reply(p), word, sizeof(word) - 1) == 0;
}

/* What one server has. None has it only when all have said so. */
static const struct request *merge_found(const struct scatter *s)
{
    const struct request *missed = s->parts;

    for (const struct request *p = s->parts; p != NULL; p = p->next) {
        if (!is_error(p))
            return p;
        if (is_noscript(missed))
            missed = p;
    }
    return missed;
}

/* SLOWLOG GET [count] or ACL LOG [count] as its first part was sent. */
static int64_t entry_count(struct client *c, const struct scatter *s)
{
    struct resp_request req;
    int64_t count = 10;

    request_parse(c->env, s->parts, &req);
    if (req.argc > 2 && !resp_arg_int(&req, 2, &count))
        count = -1; /* a server has taken it for a number all the same */
    return count;
}

void merge_finish(struct client *c, struct request *parent, struct chain *out)
{
    const struct scatter *s = parent->scatter;
    const struct request *failed = merge_first_error(s);
    bool ok = true;

    if (parent->cmd->merge == MERGE_TEXT) {
        merge_texts(c, s, out);
        return;
    }
    if (failed != NULL && parent->cmd->merge == MERGE_FOUND)
        failed = merge_found(s);
    if (failed != NULL) {
        chain_append(out, request_reply(failed), failed->reply_len);
        return;
    }
    switch ((enum command_merge)parent->cmd->merge) {
    case MERGE_SUM:
        ok = merge_sum(s, out);
        break;
    case MERGE_ORDER:
        ok = merge_order(s, out);
        break;
    case MERGE_CONCAT:
        ok = merge_concat(s, out);
        break;
    case MERGE_AND:
        ok = merge_and(s, out);
        break;
    case MERGE_SLOWLOG:
        ok = merge_slowlog(s, entry_count(c, s), out);
        break;
    case MERGE_ACL_LOG:
        ok = merge_acl_log(s, entry_count(c, s), out);
        break;
    case MERGE_LATEST:
        ok = merge_latest(s, out);
        break;
    case MERGE_HISTORY:
        ok = merge_history(s, out);
        break;
    case MERGE_HISTOGRAM:
        ok = merge_histogram(s, c->proto, out);
        break;
    case MERGE_MEMORY:
        ok = merge_memory(s, c->proto, out);
        break;
    case MERGE_FUNCTIONS:
        ok = merge_function_stats(s, out);
        break;
    default: /* all succeeded with the same answer */
        chain_append(out, request_reply(s->parts), s->parts->reply_len);
        break;
    }
    if (!ok)
        error_write(out, ERROR_PART_LOST);
}
