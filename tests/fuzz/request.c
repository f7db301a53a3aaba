/*
 * request.c - fuzz target: however the bytes of clients are cut up, they are the same requests and
 * the same error.
 *
 * The first two bytes choose the limits and the sizes of the pieces.
 */
#include "resp/request.h"

#include "base/alloc.h"

/* Longer inputs can hold a line beyond the limit, and where that is noticed depends on the cut. */
#define SAME_MAX (64 * 1024)

/* What came out: a hash of all requests and of the error. */
struct outcome {
    uint64_t hash;
    size_t end; /* where the parser stopped */
    enum resp_parse_status status;
};

enum feeding {
    FEED_ALL,
    FEED_PIECES,
    FEED_NEED
};

static void mix(uint64_t *hash, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *hash = (*hash ^ ((const unsigned char *)p)[i]) * 1099511628211u;
    *hash = (*hash ^ n) * 1099511628211u;
}

static void take(struct outcome *o, const struct resp_request *r)
{
    uint32_t end = 0;

    CHECK(r->argc >= 1);
    for (uint32_t i = 0; i < r->argc; i++) {
        CHECK(r->argv[i].off > end && r->argv[i].len <= r->len);
        end = r->argv[i].off + r->argv[i].len;
        CHECK(end + 2 <= r->len);
        mix(&o->hash, resp_arg_ptr(r, i), resp_arg_len(r, i));
    }
    CHECK(end + 2 == r->len);
    mix(&o->hash, r->base, r->len);
}

static void take_error(struct outcome *o, const struct resp_parser *p)
{
    const char *text = resp_parser_error(p);

    CHECK(strncmp(text, "ERR ", 4) == 0);
    CHECK(strpbrk(text, "\r\n") == NULL);
    mix(&o->hash, text, strlen(text));
}

static size_t more(enum feeding how, const struct resp_parser *p, size_t have, unsigned *seed)
{
    size_t need;

    if (how == FEED_PIECES)
        return have + 1 + (size_t)rand_r(seed) % 7;
    need = resp_parser_need(p);
    return need > have ? need : have + 1;
}

static void run(struct outcome *o, const struct resp_limits *limits, const char *data, size_t size,
                enum feeding how, unsigned seed)
{
    struct resp_parser *p = resp_parser_new(limits), *other = resp_parser_new(limits);
    size_t have = how == FEED_ALL ? size : MIN(size, 1);

    *o = (struct outcome){.status = RESP_PARSE_MORE};
    for (;;) {
        /* A copy of just its size, somewhere else each time. */
        char *copy = xmalloc(MAX(have, 1));
        struct resp_request r;
        size_t used = 0;

        memcpy(copy, data + o->end, have);
        o->status = resp_parse(p, copy, have, &r, &used);
        if (o->status == RESP_PARSE_OK)
            take(o, &r);
        free(copy);
        if (o->status == RESP_PARSE_BAD) {
            take_error(o, p);
            break;
        }
        if (o->status == RESP_PARSE_MORE) {
            if (have == size - o->end)
                break;
            have = more(how, p, have, &seed);
            have = MIN(have, size - o->end);
            if (rand_r(&seed) % 2 == 0) {
                struct resp_parser *swap = p;

                resp_parser_move(other, p);
                p = other;
                other = swap;
            }
            continue;
        }
        CHECK(used > 0 && used <= have);
        CHECK(resp_parser_idle(p));
        if (how == FEED_NEED)
            CHECK(used == have);
        o->end += used;
        have = how == FEED_ALL ? size - o->end : MIN(MAX(have - used, 1), size - o->end);
    }
    resp_parser_free(&p);
    resp_parser_free(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct resp_limits limits = {.max_bulk = 512u << 20, .max_request = 1u << 30};
    struct outcome whole, cut;

    if (size < 2)
        return 0;
    if (data[0] & 1)
        limits = (struct resp_limits){.max_bulk = 16, .max_request = 64};
    run(&whole, &limits, (const char *)data + 2, size - 2, FEED_ALL, data[1]);
    for (int how = FEED_PIECES; how <= FEED_NEED && size - 2 <= SAME_MAX; how++) {
        run(&cut, &limits, (const char *)data + 2, size - 2, (enum feeding)how, data[1]);
        CHECK(cut.status == whole.status);
        CHECK(cut.end == whole.end);
        CHECK(cut.hash == whole.hash);
    }
    return 0;
}
