/*
 * specs.c - the key positions of a learnt command's request, by its key specifications.
 *
 * They are found as a server finds them: a word that is not there has no keys, positions beyond the
 * arguments are left out. Where a number of keys is none, the keys found otherwise still tell to
 * whom the request goes, who then words the error.
 */
#include "command/learnt.h"

static uint32_t word_at(const struct key_spec *s, const struct resp_request *r)
{
    if (s->at >= 0) {
        for (uint32_t i = (uint32_t)s->at; i + 1 < r->argc; i++)
            if (resp_arg_is(r, i, s->word))
                return i;
        return 0;
    }
    for (int64_t i = (int64_t)r->argc + s->at; i > 0; i--)
        if (resp_arg_is(r, (uint32_t)i, s->word))
            return (uint32_t)i;
    return 0;
}

struct span_of_keys {
    int64_t first, last;
};

/* False: this specification has no keys here. */
static bool find_span(const struct key_spec *s, const struct resp_request *r,
                      struct span_of_keys *out)
{
    int64_t argc = r->argc, begin = s->at, n;

    if (s->begin == KEY_BEGIN_WORD) {
        begin = word_at(s, r);
        if (begin++ == 0)
            return false;
    }
    out->first = begin;
    if (s->find == KEY_FIND_COUNT) {
        int64_t at = begin + s->count_at;

        if (at >= argc || !resp_arg_int(r, (uint32_t)at, &n) || n < 0)
            return false;
        out->first = begin + s->first;
        out->last = out->first + MIN(n, argc) * s->step - 1;
    } else if (s->last >= 0) {
        out->last = begin + s->last;
    } else if (s->limit == 0) {
        out->last = argc + s->last;
    } else {
        out->last = begin + (argc - begin) / s->limit + s->last;
    }
    return true;
}

size_t learnt_keys(const struct command *c, const struct resp_request *r, uint32_t *positions,
                   size_t max)
{
    const struct learnt_command *l = learnt_of(c);
    size_t found = 0;

    for (size_t k = 0; k < l->spec_count; k++) {
        const struct key_spec *s = &l->spec[k];
        struct span_of_keys span;

        if (!find_span(s, r, &span))
            continue;
        for (int64_t i = span.first; i <= span.last && i < (int64_t)r->argc; i += s->step) {
            if (found < max)
                positions[found] = (uint32_t)i;
            found++;
        }
    }
    return found;
}
