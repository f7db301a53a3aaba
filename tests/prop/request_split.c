/*
 * request_split.c - however a client's bytes are cut up, the parser yields the requests that were
 * written and the error behind them; and who reads just what the parser asks for never gets a byte
 * of the next request.
 */
#include "prop/cut.h"
#include "resp/request.h"

static const struct resp_limits limits = {.max_bulk = 1 << 20, .max_request = 4 << 20};

/* Bytes of requests, and the hash of what they mean. */
struct input {
    struct text bytes;
    uint64_t hash;
};

static void add_array(struct input *in, uint32_t argc, const size_t *lengths, unsigned *seed)
{
    text_line(&in->bytes, '*', argc);
    for (uint32_t i = 0; i < argc; i++) {
        size_t at;

        text_line(&in->bytes, '$', (long long)lengths[i]);
        at = in->bytes.len;
        text_random(&in->bytes, lengths[i], seed);
        hash_add(&in->hash, in->bytes.p + at, lengths[i]);
        text_add(&in->bytes, "\r\n", 2);
    }
    hash_add(&in->hash, "end", 3);
}

static void add_words(struct input *in, unsigned *seed)
{
    static const char *const words[][2] = {
        {"PING", "PING"},         {"\"a b\"", "a b"}, {"'c\\'d'", "c'd"},
        {"\"\\x0d\\n\"", "\r\n"}, {"''", ""},
    };
    size_t n = 1 + below(seed, 5);

    for (size_t i = 0; i < n; i++) {
        size_t pick = below(seed, ARRAY_LEN(words));

        text_add(&in->bytes, words[pick][0], strlen(words[pick][0]));
        text_add(&in->bytes, "  ", 1 + below(seed, 2));
        hash_add(&in->hash, words[pick][1], strlen(words[pick][1]));
    }
    hash_add(&in->hash, "end", 3);
    text_add(&in->bytes, "\r\n", 2);
}

static void add_error(struct input *in, unsigned *seed)
{
    static const char *const errors[][2] = {
        {"*x\r\n", "ERR Protocol error: invalid multibulk length"},
        {"*2\r\n$3\r\nGET\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"},
        {"*1\r\n:4\r\n", "ERR Protocol error: expected '$', got ':'"},
        {"*1\r\n$1048577\r\n", "ERR Protocol error: invalid bulk length"},
        {"GET \"a\"b\r\n", "ERR Protocol error: unbalanced quotes in request"},
    };
    size_t pick = below(seed, ARRAY_LEN(errors));

    text_add(&in->bytes, errors[pick][0], strlen(errors[pick][0]));
    hash_add(&in->hash, errors[pick][1], strlen(errors[pick][1]));
}

static void add_random(struct input *in, unsigned *seed)
{
    size_t lengths[6];
    uint32_t argc = (uint32_t)(1 + below(seed, ARRAY_LEN(lengths)));

    switch (below(seed, 6)) {
    case 0:
        add_words(in, seed);
        return;
    case 1:
        text_add(&in->bytes, "*0\r\n*-1\r\n\r\n\n \r\n", 15);
        return;
    default:
        for (uint32_t i = 0; i < argc; i++)
            lengths[i] = below(seed, 8) == 0 ? below(seed, 300) : below(seed, 12);
        add_array(in, argc, lengths, seed);
        return;
    }
}

static void take(uint64_t *hash, const struct resp_request *r)
{
    for (uint32_t i = 0; i < r->argc; i++)
        hash_add(hash, resp_arg_ptr(r, i), resp_arg_len(r, i));
    hash_add(hash, "end", 3);
}

/* Parses what becomes visible cut by cut; with cuts NULL just what the parser asks for. */
static uint64_t parse(const struct input *in, const struct cuts *cuts)
{
    struct resp_parser *p = resp_parser_new(&limits);
    size_t begin = 0, visible = cuts != NULL ? cuts_next(cuts, 0, in->bytes.len) : 1;
    uint64_t hash = 0;

    while (begin < in->bytes.len) {
        struct resp_request r;
        size_t used = 0;
        char *copy;
        const char *at = exact_copy(in->bytes.p + begin, visible - begin, &copy);
        enum resp_parse_status st = resp_parse(p, at, visible - begin, &r, &used);

        if (st == RESP_PARSE_OK)
            take(&hash, &r);
        free(copy);
        if (st == RESP_PARSE_BAD) {
            hash_add(&hash, resp_parser_error(p), strlen(resp_parser_error(p)));
            break;
        }
        if (st == RESP_PARSE_MORE && cuts != NULL) {
            HOLDS(visible < in->bytes.len);
            visible = cuts_next(cuts, visible, in->bytes.len);
        } else if (st == RESP_PARSE_MORE) {
            visible = MAX(visible + 1, begin + resp_parser_need(p));
            HOLDS(visible <= in->bytes.len);
        } else {
            HOLDS(used > 0 && used <= visible - begin);
            HOLDS(cuts != NULL || begin + used == visible);
            begin += used;
            if (begin == visible)
                visible = cuts != NULL ? cuts_next(cuts, visible, in->bytes.len) : begin + 1;
        }
    }
    resp_parser_free(&p);
    return hash;
}

static void check(const struct input *in, const struct cuts *cuts)
{
    HOLDS(parse(in, cuts) == in->hash);
}

static void check_random_cuts(const struct input *in, unsigned *seed)
{
    size_t ends[10];

    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        ends[i] = below(seed, in->bytes.len + 1);
    check(in, &(struct cuts){.ends = ends, .count = ARRAY_LEN(ends)});
}

static void small_inputs(unsigned seed)
{
    struct input in = {0};
    size_t n = 1 + below(&seed, 6);

    for (size_t i = 0; i < n; i++)
        add_random(&in, &seed);
    if (below(&seed, 2) == 0)
        add_error(&in, &seed);
    check(&in, &(struct cuts){0});
    check(&in, &(struct cuts){.step = 1});
    check(&in, &(struct cuts){.step = 1 + below(&seed, 9)});
    for (size_t cut = 1; cut < in.bytes.len; cut++)
        check(&in, &(struct cuts){.ends = &cut, .count = 1});
    for (int i = 0; i < 10; i++)
        check_random_cuts(&in, &seed);
    free(in.bytes.p);
}

/* Only whole requests: read just what is asked for. */
static void exact_reads(unsigned seed)
{
    struct input in = {0};
    size_t n = 1 + below(&seed, 8);

    for (size_t i = 0; i < n; i++)
        add_random(&in, &seed);
    HOLDS(parse(&in, NULL) == in.hash);
    free(in.bytes.p);
}

/* Values, and whole requests, of just about a buffer's size; the reads are of that size too. */
static void around_buffers(unsigned seed)
{
    for (size_t i = 0; i < ARRAY_LEN(buffer_sizes); i++) {
        for (size_t shift = 0; shift <= 64; shift++) {
            size_t size = buffer_sizes[i] + 3 - shift;
            struct input in = {0};

            add_array(&in, 2, (size_t[]){3, 5}, &seed);
            /* The last argument's header meets the same borders. */
            add_array(&in, 4, (size_t[]){3, 1, size, shift}, &seed);
            add_array(&in, 2, (size_t[]){3, 5}, &seed);
            check(&in, &(struct cuts){0});
            for (size_t j = 0; j < ARRAY_LEN(buffer_sizes); j++)
                check(&in, &(struct cuts){.step = buffer_sizes[j]});
            for (size_t cut = in.bytes.len - 30; cut < in.bytes.len; cut++)
                check(&in, &(struct cuts){.ends = &cut, .count = 1});
            check_random_cuts(&in, &seed);
            HOLDS(parse(&in, NULL) == in.hash);
            free(in.bytes.p);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned first = first_seed(argc, argv);

    for (prop_seed = first; prop_seed < first + 300; prop_seed++) {
        small_inputs(prop_seed);
        exact_reads(prop_seed);
    }
    prop_seed = first;
    around_buffers(first);
    return EXIT_SUCCESS;
}
