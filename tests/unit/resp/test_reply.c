#include "resp/reply.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

/* Every type of both dialects, and what contains what. */
static const struct {
    const char *bytes;
    char type;
} samples[] = {
    {"+OK\r\n", '+'},
    {"+\r\n", '+'},
    {"+a\rb\r\r\n", '+'},
    {"-ERR no\r\n", '-'},
    {":-12\r\n", ':'},
    {":-9223372036854775808\r\n", ':'},
    {"$3\r\nfoo\r\n", '$'},
    {"$0\r\n\r\n", '$'},
    {"$-1\r\n", '$'},
    {"$12\r\n+OK\r\n$5\r\nabc\r\n", '$'},
    {"*-1\r\n", '*'},
    {"*0\r\n", '*'},
    {"*1\r\n*0\r\n", '*'},
    {"*3\r\n:1\r\n$-1\r\n*2\r\n+a\r\n$1\r\nb\r\n", '*'},
    {"*2\r\n*2\r\n*1\r\n:1\r\n*0\r\n*-1\r\n", '*'},
    {"_\r\n", '_'},
    {"#t\r\n", '#'},
    {",1.5\r\n", ','},
    {",-inf\r\n", ','},
    {"(3492890328409238509324850943850943825024385\r\n", '('},
    {"!21\r\nSYNTAX invalid syntax\r\n", '!'},
    {"=15\r\ntxt:Some string\r\n", '='},
    {"~2\r\n+a\r\n_\r\n", '~'},
    {"~0\r\n", '~'},
    {"%0\r\n", '%'},
    {"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n*0\r\n", '%'},
    {">2\r\n+message\r\n$1\r\nx\r\n", '>'},
    {">0\r\n", '>'},
    {"|1\r\n+ttl\r\n:3600\r\n$3\r\nfoo\r\n", '$'},
    {"|0\r\n-ERR x\r\n", '-'},
    {"|1\r\n-key\r\n>1\r\n+x\r\n+OK\r\n", '+'},
    {"|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n|1\r\n+b\r\n%0\r\n>1\r\n+c\r\n", '>'},
    {"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", '*'},
    {"%1\r\n|1\r\n+a\r\n+b\r\n+k\r\n|2\r\n:1\r\n:2\r\n:3\r\n:4\r\n*1\r\n_\r\n", '%'},
};

static void test_types(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t len = strlen(samples[i].bytes), used = 0;
        char *copy = xmalloc(len);
        struct resp_framer f;

        memcpy(copy, samples[i].bytes, len);
        resp_framer_init(&f);
        CU_ASSERT_EQUAL(resp_frame(&f, copy, len, &used), RESP_FRAME_DONE);
        CU_ASSERT_EQUAL(used, len);
        CU_ASSERT_EQUAL(f.type, samples[i].type);
        CU_ASSERT_TRUE(resp_framer_idle(&f));
        free(copy);
    }
}

/* One byte more at a time: never done early, never asking for more than there is to come. */
static void test_byte_by_byte(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const char *bytes = samples[i].bytes;
        size_t len = strlen(bytes), pos = 0, used;
        struct resp_framer f;

        resp_framer_init(&f);
        for (size_t have = 1; have < len; have++) {
            CU_ASSERT_EQUAL_FATAL(resp_frame(&f, bytes + pos, have - pos, &used), RESP_FRAME_MORE);
            pos += used;
            CU_ASSERT(pos <= have);
            CU_ASSERT_FALSE(resp_framer_idle(&f));
            CU_ASSERT(resp_framer_need(&f) >= 1);
            CU_ASSERT(pos + resp_framer_need(&f) <= len);
        }
        CU_ASSERT_EQUAL(resp_frame(&f, bytes + pos, len - pos, &used), RESP_FRAME_DONE);
        CU_ASSERT_EQUAL(pos + used, len);
        CU_ASSERT_EQUAL(f.type, samples[i].type);
    }
}

/* The next reply's bytes are not touched. */
static void test_followed(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t len = strlen(samples[i].bytes), used = 0;
        char *both = xmalloc(len + 5);
        struct resp_framer f;

        memcpy(both, samples[i].bytes, len);
        memcpy(both + len, "-NO\r\n", 5);
        resp_framer_init(&f);
        CU_ASSERT_EQUAL(resp_frame(&f, both, len + 5, &used), RESP_FRAME_DONE);
        CU_ASSERT_EQUAL(used, len);
        CU_ASSERT_EQUAL(f.type, samples[i].type);
        CU_ASSERT_EQUAL(resp_frame(&f, both + used, 5, &used), RESP_FRAME_DONE);
        CU_ASSERT_EQUAL(used, 5);
        CU_ASSERT_EQUAL(f.type, '-');
        free(both);
    }
}

static void test_need(void)
{
    struct resp_framer f;
    size_t used;

    resp_framer_init(&f);
    CU_ASSERT_EQUAL(resp_framer_need(&f), 3);
    CU_ASSERT_EQUAL(resp_frame(&f, "*3\r\n$10\r\nabc", 12, &used), RESP_FRAME_MORE);
    CU_ASSERT_EQUAL(used, 12);
    CU_ASSERT_EQUAL(resp_framer_need(&f), 9 + 2 * 3);
    resp_framer_init(&f);
    CU_ASSERT_EQUAL(resp_frame(&f, "$1000000000000\r\n", 16, &used), RESP_FRAME_MORE);
    CU_ASSERT_EQUAL(resp_framer_need(&f), 1000000000002);
    resp_framer_init(&f);
    CU_ASSERT_EQUAL(resp_frame(&f, "$9223372036854775807\r\n", 22, &used), RESP_FRAME_MORE);
    CU_ASSERT_EQUAL(resp_framer_need(&f), (uint64_t)INT64_MAX + 2);
    /* An unfinished header is not consumed. */
    resp_framer_init(&f);
    CU_ASSERT_EQUAL(resp_frame(&f, "*2\r\n:1\r\n:22\r", 12, &used), RESP_FRAME_MORE);
    CU_ASSERT_EQUAL(used, 8);
    CU_ASSERT_EQUAL(resp_framer_need(&f), 3);
}

static void test_not_resp(void)
{
    static const char *const table[] = {
        "PONG\r\n",
        "\r\n",
        " +OK\r\n",
        "$x\r\n",
        "$\r\n",
        "$-2\r\n",
        "*-2\r\n",
        "%-1\r\n",
        "~-1\r\n",
        ">-1\r\n",
        "|-1\r\n",
        "$3\rXfoo\r\n",
        "$ 3\r\n",
        "$+3\r\n",
        "$3.0\r\n",
        "*?\r\n",
        "$?\r\n",
        ";4\r\nHell\r\n",
        ":-9223372036854775808\rX",
        ":-9223372036854775809\r\n",
        ":1x\r\n",
        "$3\r\nfooXY",
        "$3\r\nfoo\rY",
        ".\r\n",
        "=-2\r\n",
        "*1\r\nx\r\n",
        "*2\r\n:1\r\nx",
        "%1\r\n+a\r\n$z\r\n",
        "$9223372036854775808\r\n",
        "*9223372036854775807\r\n",
        "*1099511627777\r\n",
        "%9223372036854775807\r\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct resp_framer f;
        size_t used;

        resp_framer_init(&f);
        if (resp_frame(&f, table[i], strlen(table[i]), &used) != RESP_FRAME_BAD)
            CU_FAIL(table[i]);
    }
}

/* Depth costs no stack. */
static void test_deep(void)
{
    enum {
        DEPTH = 200000
    };
    char *bytes = xmalloc(DEPTH * 4 + 4);
    const char *p = bytes;
    struct resp_framer f;
    struct resp_item item;
    size_t used;

    for (int i = 0; i < DEPTH; i++)
        memcpy(bytes + i * 4, "*1\r\n", 4);
    memcpy(bytes + DEPTH * 4, ":1\r\n", 4);
    resp_framer_init(&f);
    CU_ASSERT_EQUAL(resp_frame(&f, bytes, DEPTH * 4 + 4, &used), RESP_FRAME_DONE);
    CU_ASSERT_EQUAL(used, DEPTH * 4 + 4);
    for (int i = 0; i < DEPTH; i++)
        CU_ASSERT(resp_next(&p, bytes + DEPTH * 4 + 4, &item) && item.type == '*');
    CU_ASSERT(resp_next(&p, bytes + DEPTH * 4 + 4, &item) && item.type == ':');
    free(bytes);
}

static bool item_is(const struct resp_item *i, char type, int64_t count, const char *data)
{
    return i->type == type && (count == INT64_MIN || i->count == count) &&
           (data == NULL || (i->len == strlen(data) && memcmp(i->data, data, i->len) == 0));
}

static void test_cursor(void)
{
    static const char bytes[] = "*7\r\n+OK\r\n$3\r\na\rb\r\n$-1\r\n%1\r\n:1\r\n,2.5\r\n*-1\r\n_\r\n"
                                "=7\r\ntxt:abc\r\n";
    static const struct {
        char type;
        int64_t count; /* INT64_MIN: not looked at */
        const char *data;
        size_t raw_len;
    } steps[] = {
        {'*', 7, NULL, 4},          {'+', INT64_MIN, "OK", 5},
        {'$', 3, "a\rb", 9},        {'$', -1, "", 5},
        {'%', 2, NULL, 4},          {':', INT64_MIN, "1", 4},
        {',', INT64_MIN, "2.5", 6}, {'*', -1, NULL, 5},
        {'_', INT64_MIN, "", 3},    {'=', INT64_MIN, "txt:abc", 13},
    };
    const char *p = bytes, *end = bytes + sizeof(bytes) - 1;
    struct resp_item item;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        const char *begin = p;

        CU_ASSERT_TRUE_FATAL(resp_next(&p, end, &item));
        CU_ASSERT_TRUE(item_is(&item, steps[i].type, steps[i].count, steps[i].data));
        CU_ASSERT_EQUAL(item.raw_len, steps[i].raw_len);
        CU_ASSERT_PTR_EQUAL(item.raw, begin);
        CU_ASSERT_PTR_EQUAL(p, begin + steps[i].raw_len);
    }
    CU_ASSERT_PTR_EQUAL(p, end);
    CU_ASSERT_FALSE(resp_next(&p, end, &item));
}

static void test_cursor_attributes(void)
{
    static const char bytes[] =
        "*2\r\n|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n|1\r\n+b\r\n+c\r\n:3\r\n+last\r\n";
    const char *p = bytes, *end = bytes + sizeof(bytes) - 1;
    struct resp_item item;

    CU_ASSERT_TRUE(resp_next(&p, end, &item) && item_is(&item, '*', 2, NULL));
    CU_ASSERT_TRUE(resp_next(&p, end, &item) && item_is(&item, ':', INT64_MIN, "3"));
    CU_ASSERT_TRUE(resp_next(&p, end, &item) && item_is(&item, '+', INT64_MIN, "last"));
    CU_ASSERT_PTR_EQUAL(p, end);
    p = bytes + 4;
    CU_ASSERT_TRUE(resp_skip(&p, end)); /* an element and its attributes */
    CU_ASSERT_TRUE(resp_next(&p, end, &item) && item_is(&item, '+', INT64_MIN, "last"));
}

/* A cursor on half a reply stops; it reads nothing beyond the end. */
static void test_cursor_cut(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t len = strlen(samples[i].bytes);

        for (size_t cut = 0; cut < len; cut++) {
            char *copy = xmalloc(MAX(cut, 1));
            const char *p = copy;
            struct resp_item item;

            memcpy(copy, samples[i].bytes, cut);
            CU_ASSERT_FALSE(resp_skip(&p, copy + cut));
            while (resp_next(&p, copy + cut, &item))
                CU_ASSERT_FATAL(p > copy && p <= copy + cut);
            free(copy);
        }
    }
}

static void test_cursor_absurd(void)
{
    static const char *const table[] = {
        "$9223372036854775807\r\nabc",
        "$9223372036854775806\r\nabc",
        "$9223372036854775805\r\nabc",
        "$3\r\nabc",
        "$3\r\nabc\r",
        "$-2\r\n",
        "*-2\r\n",
        "%-1\r\n",
        "*9223372036854775807\r\n",
        "|9223372036854775807\r\n",
        "?\r\n",
        "",
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *p = table[i];
        struct resp_item item;

        if (resp_next(&p, table[i] + strlen(table[i]), &item))
            CU_FAIL(table[i]);
    }
}

void suite_reply(void)
{
    CU_pSuite s = CU_add_suite("reply", NULL, NULL);

    CU_add_test(s, "types", test_types);
    CU_add_test(s, "byte by byte", test_byte_by_byte);
    CU_add_test(s, "followed by another", test_followed);
    CU_add_test(s, "need", test_need);
    CU_add_test(s, "not RESP", test_not_resp);
    CU_add_test(s, "deep", test_deep);
    CU_add_test(s, "cursor", test_cursor);
    CU_add_test(s, "cursor: attributes", test_cursor_attributes);
    CU_add_test(s, "cursor: cut off", test_cursor_cut);
    CU_add_test(s, "cursor: absurd lengths", test_cursor_absurd);
}
