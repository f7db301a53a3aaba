/*
 * test_request.c - what a client may send, as redis-server 7.0.15 answers the same bytes. What it
 * says to each row of the tables was read from a server.
 */
#include "resp/request.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

static const struct resp_limits normal = {.max_bulk = 512u << 20, .max_request = 1u << 30};

struct sample {
    const char *bytes;
    size_t len;
    enum resp_parse_status status;
    const char *expected; /* OK: the arguments joined by '|'; BAD: the error */
};
#define SAMPLE(bytes, status, expected)                                                            \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, status, expected                                                 \
    }
#define GOOD(bytes, args) SAMPLE(bytes, RESP_PARSE_OK, args)
#define BAD(bytes, error) SAMPLE(bytes, RESP_PARSE_BAD, "ERR Protocol error: " error)
#define MORE(bytes) SAMPLE(bytes, RESP_PARSE_MORE, NULL)
#define EMPTY(bytes) SAMPLE(bytes, RESP_PARSE_EMPTY, NULL)

/* Text with a NUL in the middle is compared as far as C strings go: use it only where that does. */
static bool args_are(const struct resp_request *r, const char *expected)
{
    char *joined = xmalloc(r->len + r->argc + 1);
    size_t n = 0;
    bool same;

    for (uint32_t i = 0; i < r->argc; i++) {
        if (i > 0)
            joined[n++] = '|';
        memcpy(joined + n, resp_arg_ptr(r, i), resp_arg_len(r, i));
        n += resp_arg_len(r, i);
    }
    same = n == strlen(expected) && memcmp(joined, expected, n) == 0;
    if (!same)
        printf("\n    arguments %.*s instead of %s\n", (int)n, joined, expected);
    free(joined);
    return same;
}

static void check_sample(const struct sample *s)
{
    struct resp_parser *p = resp_parser_new(&normal);
    char *copy = xmalloc(s->len); /* of just its size */
    struct resp_request r;
    size_t used = 0;
    enum resp_parse_status st;

    memcpy(copy, s->bytes, s->len);
    st = resp_parse(p, copy, s->len, &r, &used);
    if (st != s->status)
        printf("\n    status %d instead of %d for: %s\n", (int)st, (int)s->status, s->bytes);
    CU_ASSERT_EQUAL(st, s->status);
    if (st == s->status && st == RESP_PARSE_OK)
        CU_ASSERT_TRUE(args_are(&r, s->expected));
    if (st == s->status && st == RESP_PARSE_BAD)
        CU_ASSERT_STRING_EQUAL(resp_parser_error(p), s->expected);
    if (st == RESP_PARSE_OK || st == RESP_PARSE_EMPTY)
        CU_ASSERT_TRUE(used == s->len && resp_parser_idle(p));
    free(copy);
    resp_parser_free(&p);
    CU_ASSERT_PTR_NULL(p);
}

#define CHECK_SAMPLES(table)                                                                       \
    for (size_t i = 0; i < ARRAY_LEN(table); i++)                                                  \
    check_sample(&(table)[i])

static void test_counts(void)
{
    static const struct sample table[] = {
        EMPTY("*0\r\n"),
        EMPTY("*-1\r\n"),
        EMPTY("*-5\r\n"),
        EMPTY("*-9223372036854775808\r\n"),
        BAD("*-9223372036854775809\r\n", "invalid multibulk length"),
        BAD("*-0\r\n", "invalid multibulk length"),
        BAD("*00\r\n", "invalid multibulk length"),
        BAD("*01\r\n", "invalid multibulk length"),
        BAD("*+1\r\n", "invalid multibulk length"),
        BAD("* 1\r\n", "invalid multibulk length"),
        BAD("*1 \r\n", "invalid multibulk length"),
        BAD("*\r\n", "invalid multibulk length"),
        BAD("*a\r\n", "invalid multibulk length"),
        BAD("*1\n$4\nPING\n\r\n", "invalid multibulk length"),
        BAD("*2147483648\r\n", "invalid multibulk length"),
        BAD("*9223372036854775808\r\n", "invalid multibulk length"),
        BAD("*100000000000000000000000\r\n", "invalid multibulk length"),
        MORE("*1048577\r\n"),
        MORE("*99999999\r\n"),
        MORE("*2147483647\r\n"),
        MORE("*"),
        MORE("*1"),
        MORE("*1\r"),
        MORE("*1\r\n"),
        MORE("*1\0\r\n$4\r\nPING\r\n"), /* a NUL hides the end of the line */
    };

    CHECK_SAMPLES(table);
}

static void test_lengths(void)
{
    static const struct sample table[] = {
        BAD("*1\r\nPING\r\n", "expected '$', got 'P'"),
        BAD("*1\r\n:1\r\n", "expected '$', got ':'"),
        BAD("*1\r\n*1\r\n", "expected '$', got '*'"),
        BAD("*1\r\n\r\n", "expected '$', got ' '"),
        BAD("*1\r\n\n\r\n", "expected '$', got ' '"),
        BAD("*1\r\n$-5\r\n", "invalid bulk length"),
        BAD("*1\r\n$-1\r\n", "invalid bulk length"),
        BAD("*1\r\n$-0\r\n", "invalid bulk length"),
        BAD("*1\r\n$+4\r\nPING\r\n", "invalid bulk length"),
        BAD("*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        BAD("*1\r\n$ 4\r\n", "invalid bulk length"),
        BAD("*1\r\n$4 \r\n", "invalid bulk length"),
        BAD("*1\r\n$\r\n", "invalid bulk length"),
        BAD("*1\r\n$x\r\n", "invalid bulk length"),
        BAD("*1\r\n$536870913\r\n", "invalid bulk length"),
        BAD("*1\r\n$9999999999\r\n", "invalid bulk length"),
        BAD("*1\r\n$99999999999999999999999\r\n", "invalid bulk length"),
        BAD("*2\r\n$3\r\nGET\r\n$x\r\n", "invalid bulk length"),
        MORE("*1\r\n$536870912\r\n"),
        MORE("*1\r\n$4\0\r\nPING\r\n"),
        MORE("*1\r\n$"),
        MORE("*1\r\n$4\r"),
        MORE("*1\r\n$4\r\nPIN"),
        MORE("*1\r\n$4\r\nPING"),
        MORE("*1\r\n$4\r\nPING\r"),
        GOOD("*1\r\n$4\r\nPING\r\n", "PING"),
        GOOD("*1\r\n$0\r\n\r\n", ""),
        GOOD("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n", "SET||"),
        GOOD("*2\r\n$4\r\nECHO\r\n$8\r\n\r\n$1\r\n*1\r\n", "ECHO|\r\n$1\r\n*1"),
        /* Of a line's end only CR is looked at, of an argument's end nothing. */
        GOOD("*1\rX$4\rXPINGab", "PING"),
    };

    CHECK_SAMPLES(table);
}

static void test_inline(void)
{
    static const struct sample table[] = {
        EMPTY("\r\n"),
        EMPTY("\n"),
        EMPTY("   \t \r\n"),
        GOOD("PING\r\n", "PING"),
        GOOD("PING\n", "PING"),
        GOOD("  SET  k\tv  \r\n", "SET|k|v"),
        GOOD("PING\r\r\n", "PING"),
        GOOD("P\rING\r\n", "P|ING"),
        GOOD("$4\r\n", "$4"),
        GOOD("+OK\r\n", "+OK"),
        GOOD("\"\"\r\n", ""),
        GOOD("ECHO \"a b\" 'c d'\n", "ECHO|a b|c d"),
        MORE("PING"),
        MORE("PING\r"),
        MORE("ECHO \"a"),
        MORE("PING\0\r\n"),
        MORE("\0PING\r\nPING\r\n"),
        MORE("ECHO \"a\0b\"\n"),
        BAD("ECHO \"a\r\n", "unbalanced quotes in request"),
        BAD("ECHO 'a\r\n", "unbalanced quotes in request"),
    };

    CHECK_SAMPLES(table);
}

static void test_binary_safe(void)
{
    static const char bytes[] = "*2\r\n$4\r\nECHO\r\n$6\r\n\0\r\n\xff$1\r\n";
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    size_t used;

    CU_ASSERT_EQUAL_FATAL(resp_parse(p, bytes, sizeof(bytes) - 1, &r, &used), RESP_PARSE_OK);
    CU_ASSERT_EQUAL(r.argc, 2);
    CU_ASSERT_EQUAL(resp_arg_len(&r, 1), 6);
    CU_ASSERT_EQUAL(memcmp(resp_arg_ptr(&r, 1), "\0\r\n\xff$1", 6), 0);
    CU_ASSERT_PTR_EQUAL(r.base, bytes);
    CU_ASSERT_EQUAL(r.len, sizeof(bytes) - 1);
    resp_parser_free(&p);
}

/* The form that is forwarded: an inline request becomes the array that it means. */
static void test_inline_encoded(void)
{
    static const char bytes[] = "set k \"\\x00\\r\\n\" ''\r\n";
    static const char array[] = "*4\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n$0\r\n\r\n";
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    size_t used;

    CU_ASSERT_EQUAL_FATAL(resp_parse(p, bytes, sizeof(bytes) - 1, &r, &used), RESP_PARSE_OK);
    CU_ASSERT_EQUAL(used, sizeof(bytes) - 1);
    CU_ASSERT_EQUAL(r.argc, 4);
    CU_ASSERT_EQUAL_FATAL(r.len, sizeof(array) - 1);
    CU_ASSERT_EQUAL(memcmp(r.base, array, r.len), 0);
    CU_ASSERT_EQUAL(r.argv[2].off, 24);
    CU_ASSERT_EQUAL(resp_arg_len(&r, 2), 3);
    resp_parser_free(&p);
}

/* Parses `total` bytes: a head, then filler. */
static enum resp_parse_status parse_filled(struct resp_parser *p, const char *head, char filler,
                                           size_t total)
{
    char *bytes = xmalloc(total);
    struct resp_request r;
    size_t used;
    enum resp_parse_status st;

    memset(bytes, filler, total);
    memcpy(bytes, head, strlen(head));
    st = resp_parse(p, bytes, total, &r, &used);
    free(bytes);
    return st;
}

/* Lines without an end: 65,536 bytes are waited for, one more is refused. */
static void test_line_limit(void)
{
    static const struct {
        const char *head, *error;
        size_t before; /* bytes that do not belong to the line */
    } table[] = {
        {"a", "ERR Protocol error: too big inline request", 0},
        {"*", "ERR Protocol error: too big mbulk count string", 0},
        {"*1\r\n$", "ERR Protocol error: too big bulk count string", 4},
        {"*1\r\nx", "ERR Protocol error: too big bulk count string", 4},
        {"*2\r\n$1\r\na\r\n$", "ERR Protocol error: too big bulk count string", 11},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct resp_parser *p = resp_parser_new(&normal);
        size_t limit = table[i].before + 64 * 1024;

        CU_ASSERT_EQUAL(parse_filled(p, table[i].head, '1', limit), RESP_PARSE_MORE);
        CU_ASSERT_EQUAL(parse_filled(p, table[i].head, '1', limit + 1), RESP_PARSE_BAD);
        CU_ASSERT_STRING_EQUAL(resp_parser_error(p), table[i].error);
        resp_parser_free(&p);
    }
}

static enum resp_parse_status parse_text(struct resp_parser *p, const char *text)
{
    struct resp_request r;
    size_t used;
    enum resp_parse_status st = resp_parse(p, text, strlen(text), &r, &used);

    if (st != RESP_PARSE_BAD)
        resp_parser_reset(p);
    return st;
}

static void test_limits(void)
{
    static const struct resp_limits small = {.max_bulk = 8, .max_request = 40};
    struct resp_parser *p = resp_parser_new(&small);

    CU_ASSERT_EQUAL(parse_text(p, "*1\r\n$8\r\n12345678\r\n"), RESP_PARSE_OK);
    /* Just 40 bytes; then one more, which its length already tells. */
    CU_ASSERT_EQUAL(parse_text(p, "*3\r\n$3\r\nSET\r\n$8\r\n12345678\r\n$7\r\n1234567\r\n"),
                    RESP_PARSE_OK);
    CU_ASSERT_EQUAL(parse_text(p, "*3\r\n$3\r\nSET\r\n$8\r\n12345678\r\n$8\r\n"), RESP_PARSE_BAD);
    CU_ASSERT_STRING_EQUAL(resp_parser_error(p),
                           "ERR KEYWAY request is larger than client.max_request (40 bytes)");
    resp_parser_reset(p);
    CU_ASSERT_EQUAL(parse_text(p, "*1\r\n$9\r\n"), RESP_PARSE_BAD);
    CU_ASSERT_STRING_EQUAL(resp_parser_error(p), "ERR Protocol error: invalid bulk length");
    resp_parser_free(&p);
}

static void test_several_in_one_buffer(void)
{
    static const char bytes[] =
        "*1\r\n$4\r\nPING\r\n\r\n*0\r\nECHO a\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1";
    static const struct {
        enum resp_parse_status status;
        size_t used;
        const char *args;
    } steps[] = {
        {RESP_PARSE_OK, 14, "PING"},  {RESP_PARSE_EMPTY, 2, NULL},  {RESP_PARSE_EMPTY, 4, NULL},
        {RESP_PARSE_OK, 7, "ECHO|a"}, {RESP_PARSE_OK, 20, "GET|k"}, {RESP_PARSE_MORE, 0, NULL},
    };
    struct resp_parser *p = resp_parser_new(&normal);
    size_t pos = 0;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct resp_request r;
        size_t used = 0;

        CU_ASSERT_EQUAL_FATAL(resp_parse(p, bytes + pos, sizeof(bytes) - 1 - pos, &r, &used),
                              steps[i].status);
        if (steps[i].args != NULL)
            CU_ASSERT_TRUE(args_are(&r, steps[i].args));
        if (steps[i].status != RESP_PARSE_MORE) {
            CU_ASSERT_EQUAL(used, steps[i].used);
            pos += used;
        }
    }
    CU_ASSERT_EQUAL(pos, sizeof(bytes) - 3);
    resp_parser_free(&p);
}

/* After MORE in the middle of a request: its end is named as far as it is known. */
static void test_need(void)
{
    static const char bytes[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
    static const struct {
        size_t have, need;
    } steps[] = {
        {0, 1},       /* nothing is known */
        {4, 4 + 18},  /* three arguments of at least six bytes */
        {8, 13 + 12}, /* the first has three bytes */
        {10, 13 + 12}, {13, 13 + 12}, {17, 20 + 6}, {20, 20 + 6}, {24, 31}, {30, 31},
    };
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    size_t used;

    CU_ASSERT_TRUE(resp_parser_idle(p));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        CU_ASSERT_EQUAL(resp_parse(p, bytes, steps[i].have, &r, &used), RESP_PARSE_MORE);
        CU_ASSERT_EQUAL(resp_parser_need(p), steps[i].need);
    }
    CU_ASSERT_FALSE(resp_parser_idle(p));
    CU_ASSERT_EQUAL(resp_parse(p, bytes, 31, &r, &used), RESP_PARSE_OK);
    CU_ASSERT_EQUAL(used, 31);
    CU_ASSERT_TRUE(resp_parser_idle(p));
    resp_parser_free(&p);
}

/* A count is only announced: what it makes the parser ask for grows with it, its memory does not,
 * and a caller has to bound what it believes. */
static void test_announced_count(void)
{
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    size_t used;

    CU_ASSERT_EQUAL(resp_parse(p, "*2147483647\r\n", 13, &r, &used), RESP_PARSE_MORE);
    CU_ASSERT(resp_parser_need(p) > 13);
    CU_ASSERT(resp_parser_need(p) <= 13 + (size_t)2147483647 * 6);
    resp_parser_free(&p);
}

/* The parser of a thread hands an unfinished request over and is free for another client. */
static void test_move(void)
{
    static const char bytes[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";

    for (size_t cut = 1; cut < sizeof(bytes) - 1; cut++) {
        struct resp_parser *shared = resp_parser_new(&normal), *own = resp_parser_new(&normal);
        struct resp_request r;
        size_t used;

        CU_ASSERT_EQUAL(resp_parse(shared, bytes, cut, &r, &used), RESP_PARSE_MORE);
        resp_parser_move(own, shared);
        CU_ASSERT_TRUE(resp_parser_idle(shared));
        CU_ASSERT_EQUAL(resp_parse(shared, "PING\r\n", 6, &r, &used), RESP_PARSE_OK);
        CU_ASSERT_TRUE(args_are(&r, "PING"));
        CU_ASSERT_EQUAL(resp_parse(shared, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", 18, &r, &used),
                        RESP_PARSE_OK);
        CU_ASSERT_EQUAL(resp_parse(own, bytes, sizeof(bytes) - 1, &r, &used), RESP_PARSE_OK);
        CU_ASSERT_TRUE(args_are(&r, "SET|k|value"));
        resp_parser_free(&shared);
        resp_parser_free(&own);
    }
}

static void test_many_arguments(void)
{
    enum {
        COUNT = 5000
    };
    char *bytes = xmalloc(COUNT * 16 + 16);
    size_t len = (size_t)snprintf(bytes, 16, "*%d\r\n", COUNT), used;
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    int64_t v;

    for (int i = 0; i < COUNT; i++)
        len += (size_t)snprintf(bytes + len, 16, "$4\r\n%d\r\n", 1000 + i);
    CU_ASSERT_EQUAL_FATAL(resp_parse(p, bytes, len, &r, &used), RESP_PARSE_OK);
    CU_ASSERT_EQUAL_FATAL(r.argc, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        CU_ASSERT(resp_arg_int(&r, i, &v) && v == 1000 + (int)i);
    free(bytes);
    resp_parser_free(&p);
}

static void test_argument_helpers(void)
{
    static const char bytes[] = "*4\r\n$3\r\nGeT\r\n$2\r\n-7\r\n$2\r\n07\r\n$0\r\n\r\n";
    struct resp_parser *p = resp_parser_new(&normal);
    struct resp_request r;
    size_t used;
    int64_t v;

    CU_ASSERT_EQUAL_FATAL(resp_parse(p, bytes, sizeof(bytes) - 1, &r, &used), RESP_PARSE_OK);
    CU_ASSERT_TRUE(resp_arg_is(&r, 0, "get"));
    CU_ASSERT_FALSE(resp_arg_is(&r, 0, "ge"));
    CU_ASSERT_FALSE(resp_arg_is(&r, 0, "gets"));
    CU_ASSERT_TRUE(resp_arg_is(&r, 3, ""));
    CU_ASSERT(resp_arg_int(&r, 1, &v) && v == -7);
    CU_ASSERT_FALSE(resp_arg_int(&r, 2, &v));
    CU_ASSERT_FALSE(resp_arg_int(&r, 3, &v));
    resp_parser_free(&p);
}

void suite_request(void)
{
    CU_pSuite s = CU_add_suite("request", NULL, NULL);

    CU_add_test(s, "counts", test_counts);
    CU_add_test(s, "lengths", test_lengths);
    CU_add_test(s, "inline", test_inline);
    CU_add_test(s, "binary safe", test_binary_safe);
    CU_add_test(s, "inline is encoded as an array", test_inline_encoded);
    CU_add_test(s, "line limit", test_line_limit);
    CU_add_test(s, "limits", test_limits);
    CU_add_test(s, "several in one buffer", test_several_in_one_buffer);
    CU_add_test(s, "need", test_need);
    CU_add_test(s, "announced count", test_announced_count);
    CU_add_test(s, "move", test_move);
    CU_add_test(s, "many arguments", test_many_arguments);
    CU_add_test(s, "argument helpers", test_argument_helpers);
}
