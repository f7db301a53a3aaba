/*
 * reply_split.c - however a server's bytes are cut up, the framer finds the ends and the types of
 * the replies that were written, and never asks for more than is still to come.
 */
#include "prop/cut.h"
#include "resp/reply.h"

/* Bytes of replies, and the hash of their ends and types. */
struct input {
    struct text bytes;
    uint64_t hash;
    size_t *ends; /* of the replies */
    size_t count;
};

static void add_line(struct text *t, char type, unsigned *seed)
{
    static const char *const lines[] = {"",     "OK",   "1",   "-1",
                                        "a\rb", "3.14", "inf", "ERR a b c d e f"};
    const char *line = lines[below(seed, ARRAY_LEN(lines))];

    if (type == ':' || type == '_')
        line = type == ':' ? "-12345" : "";
    text_add(t, &type, 1);
    text_add(t, line, strlen(line));
    text_add(t, "\r\n", 2);
}

static void add_string(struct text *t, char type, size_t n, unsigned *seed)
{
    text_line(t, type, (long long)n);
    text_random(t, n, seed);
    text_add(t, "\r\n", 2);
}

static void add_element(struct text *t, int depth, unsigned *seed);

static void add_children(struct text *t, char type, int depth, unsigned *seed)
{
    size_t n = below(seed, 5);

    text_line(t, type, (long long)n);
    for (size_t i = type == '%' || type == '|' ? 2 * n : n; i > 0; i--)
        add_element(t, depth + 1, seed);
}

static char element_type(int depth, unsigned *seed)
{
    static const char types[] = "+-:$$$=!,#(_N*~%>";

    return types[below(seed, depth < 4 ? sizeof(types) - 1 : 12)];
}

static void add_of_type(struct text *t, char type, int depth, unsigned *seed)
{
    switch (type) {
    case '$':
    case '=':
    case '!':
        add_string(t, type, below(seed, 40), seed);
        break;
    case 'N':
        text_add(t, "$-1\r\n", 5);
        break;
    case '*':
    case '~':
    case '%':
    case '>':
        add_children(t, type, depth, seed);
        break;
    default:
        add_line(t, type, seed);
        break;
    }
}

static void add_element(struct text *t, int depth, unsigned *seed)
{
    while (depth < 4 && below(seed, 10) == 0)
        add_children(t, '|', depth, seed);
    add_of_type(t, element_type(depth, seed), depth, seed);
}

static void reply_ends(struct input *in, char type)
{
    in->ends = xrealloc(in->ends, (in->count + 1) * sizeof(*in->ends));
    in->ends[in->count++] = in->bytes.len;
    hash_add(&in->hash, &in->bytes.len, sizeof(in->bytes.len));
    hash_add(&in->hash, &type, 1);
}

static void add_reply(struct input *in, unsigned *seed)
{
    char type = element_type(0, seed);

    while (below(seed, 6) == 0)
        add_children(&in->bytes, '|', 0, seed);
    add_of_type(&in->bytes, type, 0, seed);
    reply_ends(in, type == 'N' ? '$' : type);
}

/* As a connection does: what was not consumed is presented again with what follows. */
static void check(const struct input *in, const struct cuts *cuts)
{
    struct resp_framer f;
    size_t pos = 0, visible = 0, reply = 0;
    uint64_t hash = 0;

    resp_framer_init(&f);
    while (pos < in->bytes.len) {
        size_t used;
        char *copy;
        enum resp_frame_status st;

        if (pos == visible)
            visible = cuts_next(cuts, visible, in->bytes.len);
        st = resp_frame(&f, exact_copy(in->bytes.p + pos, visible - pos, &copy), visible - pos,
                        &used);
        free(copy);
        HOLDS(st != RESP_FRAME_BAD);
        HOLDS(used <= visible - pos);
        pos += used;
        if (st == RESP_FRAME_DONE) {
            HOLDS(resp_framer_idle(&f));
            hash_add(&hash, &pos, sizeof(pos));
            hash_add(&hash, &f.type, 1);
            reply++;
            continue;
        }
        HOLDS(!resp_framer_idle(&f));
        HOLDS(pos + resp_framer_need(&f) <= in->ends[reply]);
        HOLDS(visible < in->bytes.len);
        visible = cuts_next(cuts, visible, in->bytes.len);
    }
    HOLDS(hash == in->hash);
}

/* The cursor agrees with the framer on where each reply ends. */
static void check_cursor(const struct input *in)
{
    const char *p = in->bytes.p, *end = p + in->bytes.len;

    for (size_t i = 0; i < in->count; i++) {
        const char *inside = p;
        struct resp_item item;
        int64_t left = 1;

        HOLDS(resp_skip(&p, end));
        HOLDS(p == in->bytes.p + in->ends[i]);
        for (; left > 0; left--) {
            HOLDS(resp_next(&inside, p, &item));
            left += strchr("*~%>", item.type) != NULL && item.count > 0 ? item.count : 0;
        }
        HOLDS(inside == p);
    }
}

static void check_random_cuts(const struct input *in, unsigned *seed)
{
    size_t ends[10];

    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        ends[i] = below(seed, in->bytes.len + 1);
    check(in, &(struct cuts){.ends = ends, .count = ARRAY_LEN(ends)});
}

static void input_free(struct input *in)
{
    free(in->bytes.p);
    free(in->ends);
}

static void small_inputs(unsigned seed)
{
    struct input in = {0};
    size_t n = 1 + below(&seed, 5);

    for (size_t i = 0; i < n; i++)
        add_reply(&in, &seed);
    check(&in, &(struct cuts){0});
    check(&in, &(struct cuts){.step = 1});
    check(&in, &(struct cuts){.step = 1 + below(&seed, 9)});
    for (size_t cut = 1; cut < MIN(in.bytes.len, 600); cut++)
        check(&in, &(struct cuts){.ends = &cut, .count = 1});
    for (int i = 0; i < 10; i++)
        check_random_cuts(&in, &seed);
    check_cursor(&in);
    input_free(&in);
}

/* Strings and arrays of just about a buffer's size, between small ones. */
static void around_buffers(unsigned seed)
{
    for (size_t i = 0; i < ARRAY_LEN(buffer_sizes); i++) {
        for (size_t shift = 0; shift <= 40; shift++) {
            size_t size = buffer_sizes[i] + 3 - shift;
            struct input in = {0};

            add_reply(&in, &seed);
            add_string(&in.bytes, '$', size, &seed);
            reply_ends(&in, '$');
            text_line(&in.bytes, '*', 2);
            add_string(&in.bytes, '$', size - 4, &seed);
            add_string(&in.bytes, '$', shift, &seed);
            reply_ends(&in, '*');
            add_reply(&in, &seed);
            check(&in, &(struct cuts){0});
            for (size_t j = 0; j < ARRAY_LEN(buffer_sizes); j++)
                check(&in, &(struct cuts){.step = buffer_sizes[j]});
            for (int j = 0; j < 10; j++)
                check_random_cuts(&in, &seed);
            check_cursor(&in);
            input_free(&in);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned first = first_seed(argc, argv);

    for (prop_seed = first; prop_seed < first + 300; prop_seed++)
        small_inputs(prop_seed);
    prop_seed = first;
    around_buffers(first);
    return EXIT_SUCCESS;
}
