/*
 * keys.c - where the keys of a request are.
 *
 * The positions are those that a cluster node computes itself when it checks a request's slots
 * (they can differ from what COMMAND GETKEYS tells). Where a request is malformed and the server
 * sees keys in it all the same, so do we: any other node would answer MOVED instead of the error.
 */
#include "command/learnt.h"

/* True when argument i is this lower-case word in any case. Like the servers, which compare C
 * strings here, it takes a NUL for the argument's end. */
static bool is_word(const struct resp_request *r, uint32_t i, const char *word)
{
    const char *p = resp_arg_ptr(r, i);
    size_t n = strlen(word), len = resp_arg_len(r, i);

    if (len < n || (len > n && p[n] != '\0'))
        return false;
    for (size_t j = 0; j < n; j++) {
        char c = p[j];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        if (c != word[j])
            return false;
    }
    return true;
}

/* Argument i as the servers read a number of keys when they look for them: leading white space, a
 * sign, digits up to the first other byte, and of what strtol makes of them the low 32 bits. The
 * command itself then refuses all but a plain number. False when there is no digit. */
static bool lenient_int(const struct resp_request *r, uint32_t i, int32_t *out)
{
    const char *p = resp_arg_ptr(r, i), *end = p + resp_arg_len(r, i);
    bool negative = false, digits = false;
    uint64_t v = 0;

    while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r')))
        p++;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        digits = true;
        /* Saturates; one more digit on top of this bound would still fit 64 bits. */
        if (v <= INT64_MAX / 10)
            v = v * 10 + (uint64_t)(*p - '0');
        else
            v = UINT64_MAX;
    }
    if (v > INT64_MAX)
        v = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    *out = (int32_t)(uint32_t)(negative ? 0 - v : v);
    return digits;
}

static enum command_keys_status range_keys(const struct command *c, uint32_t argc,
                                           struct command_key_range *out)
{
    int64_t last = c->last < 0 ? (int64_t)argc + c->last : c->last;

    out->first = (uint32_t)c->first;
    out->step = (uint32_t)c->step;
    out->count = 0;
    if (last >= (int64_t)argc)
        return COMMAND_KEYS_BAD;
    if (last >= c->first)
        out->count = (uint32_t)((last - c->first) / c->step + 1);
    return COMMAND_KEYS_OK;
}

static enum command_keys_status counted_keys(const struct command *c, const struct resp_request *r,
                                             struct command_key_range *out)
{
    uint32_t first = (uint32_t)c->first + 1;
    int32_t n;

    out->first = first;
    out->step = 1;
    out->count = 0;
    if (r->argc < first || !lenient_int(r, first - 1, &n))
        return COMMAND_KEYS_BAD;
    if (n == 0 && (c->flags & CMD_SCRIPT))
        return COMMAND_KEYS_OK;
    if (n < 1 || (uint32_t)n > r->argc - first)
        return COMMAND_KEYS_BAD;
    out->count = (uint32_t)n;
    return COMMAND_KEYS_OK;
}

/* The options before STREAMS have to be stepped over: a group or a consumer may be named so. */
static enum command_keys_status stream_keys(const struct resp_request *r,
                                            struct command_key_range *out)
{
    uint32_t i = 1, n;

    out->first = 0;
    out->step = 1;
    out->count = 0;
    while (i < r->argc && !is_word(r, i, "streams")) {
        if (is_word(r, i, "block") || is_word(r, i, "count"))
            i += 2;
        else if (is_word(r, i, "group"))
            i += 3;
        else if (is_word(r, i, "noack"))
            i += 1;
        else
            return COMMAND_KEYS_BAD;
    }
    if (i >= r->argc)
        return COMMAND_KEYS_BAD;
    n = r->argc - i - 1;
    if (n == 0 || n % 2 != 0)
        return COMMAND_KEYS_BAD;
    out->first = i + 1;
    out->count = n / 2;
    return COMMAND_KEYS_OK;
}

enum command_keys_status command_keys_range(const struct command *c, const struct resp_request *r,
                                            struct command_key_range *out)
{
    switch ((enum command_keys)c->keys) {
    case KEYS_RANGE:
        return range_keys(c, r->argc, out);
    case KEYS_NUMKEYS:
        return counted_keys(c, r, out);
    case KEYS_STREAMS:
        return stream_keys(r, out);
    default:
        CHECK(c->keys == KEYS_NONE);
        *out = (struct command_key_range){.first = 0, .step = 1, .count = 0};
        return COMMAND_KEYS_OK;
    }
}

/* Positions in the making: those beyond the caller's array are only counted. */
struct list {
    uint32_t *positions;
    size_t max, count;
};

static void list_add(struct list *l, uint32_t position)
{
    if (l->count < l->max)
        l->positions[l->count] = position;
    l->count++;
}

static void list_add_range(struct list *l, const struct command_key_range *range)
{
    for (uint32_t i = 0; i < range->count; i++)
        list_add(l, range->first + i * range->step);
}

/* The argument of the last STORE, or 0. The words after LIMIT, GET and BY are theirs; the one after
 * STORE is looked at again, as the servers do. */
static uint32_t sort_destination(const struct resp_request *r)
{
    uint32_t found = 0;

    for (uint32_t i = 2; i < r->argc; i++) {
        if (is_word(r, i, "limit")) {
            if (r->argc - i <= 2)
                break;
            i += 2;
        } else if (is_word(r, i, "get") || is_word(r, i, "by")) {
            i += 1;
        } else if (is_word(r, i, "store") && i + 1 < r->argc) {
            found = i + 1;
        }
    }
    return found;
}

/* The argument of the last STORE or STOREDIST, or 0. */
static uint32_t georadius_destination(const struct resp_request *r)
{
    uint32_t found = 0;

    for (uint32_t i = 5; i + 1 < r->argc; i++)
        if (is_word(r, i, "store") || is_word(r, i, "storedist"))
            found = ++i;
    return found;
}

static enum command_keys_status migrate_keys(const struct resp_request *r, struct list *l)
{
    for (uint32_t i = 6; i < r->argc; i++) {
        if (is_word(r, i, "keys")) {
            if (resp_arg_len(r, 3) > 0 || i + 1 == r->argc)
                return COMMAND_KEYS_BAD;
            while (++i < r->argc)
                list_add(l, i);
            return COMMAND_KEYS_OK;
        }
        if (is_word(r, i, "auth"))
            i += 1;
        else if (is_word(r, i, "auth2"))
            i += 2;
    }
    if (r->argc < 4)
        return COMMAND_KEYS_BAD;
    list_add(l, 3);
    return COMMAND_KEYS_OK;
}

static enum command_keys_status scattered_keys(const struct command *c,
                                               const struct resp_request *r, struct list *l)
{
    struct command_key_range range;
    uint32_t destination;

    switch ((enum command_keys)c->keys) {
    case KEYS_NUMKEYS:
        if (counted_keys(c, r, &range) != COMMAND_KEYS_OK)
            return COMMAND_KEYS_BAD;
        list_add(l, (uint32_t)c->last);
        list_add_range(l, &range);
        return COMMAND_KEYS_OK;
    case KEYS_MIGRATE:
        return migrate_keys(r, l);
    default:
        CHECK(c->keys == KEYS_SORT || c->keys == KEYS_GEORADIUS);
        if (r->argc < 2)
            return COMMAND_KEYS_BAD;
        destination = c->keys == KEYS_SORT ? sort_destination(r) : georadius_destination(r);
        list_add(l, 1);
        if (destination != 0)
            list_add(l, destination);
        return COMMAND_KEYS_OK;
    }
}

enum command_keys_status command_keys_list(const struct command *c, const struct resp_request *r,
                                           uint32_t *positions, size_t max, size_t *count)
{
    struct list l = {.positions = positions, .max = max, .count = 0};
    struct command_key_range range;
    enum command_keys_status status;

    if (c->keys == KEYS_SPECS) {
        *count = learnt_keys(c, r, positions, max);
        return COMMAND_KEYS_OK;
    }
    if (command_keys_scattered(c)) {
        status = scattered_keys(c, r, &l);
    } else {
        status = command_keys_range(c, r, &range);
        if (status == COMMAND_KEYS_OK)
            list_add_range(&l, &range);
    }
    *count = status == COMMAND_KEYS_OK ? l.count : 0;
    return status;
}
