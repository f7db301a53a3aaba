/*
 * test_inline.c - words of a line as redis-server 7.0.15 reads them: what it answered to ECHO with
 * the same line is what is expected here.
 */
#include "resp/inline.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

struct sample {
    const char *line;
    uint32_t argc;
    const char *words[5];
    bool unbalanced;
};

static bool word_is(const struct inline_request *r, uint32_t i, const char *expected)
{
    return r->argv[i].len == strlen(expected) &&
           memcmp(r->bytes + r->argv[i].off, expected, r->argv[i].len) == 0;
}

static void check_sample(const struct sample *s)
{
    size_t len = strlen(s->line);
    char *copy = xmalloc(len + 1);
    struct inline_request r;
    bool ok;

    memcpy(copy, s->line, len);
    copy[len] = '"'; /* must not be looked at */
    ok = inline_split(copy, len, &r);
    free(copy);
    if (ok == s->unbalanced || (ok && r.argc != s->argc))
        printf("\n    %s: %s, %u words\n", s->line, ok ? "accepted" : "refused", r.argc);
    CU_ASSERT_EQUAL(ok, !s->unbalanced);
    CU_ASSERT_EQUAL(r.argc, s->argc);
    for (uint32_t i = 0; i < MIN(r.argc, s->argc); i++)
        CU_ASSERT_TRUE(word_is(&r, i, s->words[i]));
    if (r.argc == 0)
        CU_ASSERT_TRUE(r.bytes == NULL && r.argv == NULL);
    free(r.bytes);
    free(r.argv);
}

#define UNBALANCED(line)                                                                           \
    {                                                                                              \
        line, 0, {0}, true                                                                         \
    }

static void test_words(void)
{
    static const struct sample table[] = {
        {"", 0, {0}, false},
        {" \t\v\f\r ", 0, {0}, false},
        {"a", 1, {"a"}, false},
        {"ECHO a", 2, {"ECHO", "a"}, false},
        {"  ECHO \t  a  ", 2, {"ECHO", "a"}, false},
        {"a\rb\nc\td e", 5, {"a", "b", "c", "d", "e"}, false},
        /* Between words they are space, within a word they are not. */
        {"a\vb", 1, {"a\vb"}, false},
        {"a\fb", 1, {"a\fb"}, false},
        {"a \v\fb", 2, {"a", "b"}, false},
        {"\xff\x80\xa0", 1, {"\xff\x80\xa0"}, false},
        {"a\\nb", 1, {"a\\nb"}, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check_sample(&table[i]);
}

static void test_quotes(void)
{
    static const struct sample table[] = {
        {"\"a b\"", 1, {"a b"}, false},
        {"'a b'", 1, {"a b"}, false},
        {"\"\" ''", 2, {"", ""}, false},
        {"a\"b c\"", 1, {"ab c"}, false},
        {"a'b c' d", 2, {"ab c", "d"}, false},
        {"\"'\" '\"'", 2, {"'", "\""}, false},
        {"\"\\x41\\n\\r\\t\\b\\a\\q\\\"\\\\\"", 1, {"A\n\r\t\b\aq\"\\"}, false},
        {"\"\\x4\" \"\\xzz\" \"\\x\"", 3, {"x4", "xzz", "x"}, false},
        {"\"\\xaF\\xAf\"", 1, {"\xaf\xaf"}, false},
        {"'a\\'b\\n\\\\ '", 1, {"a'b\\n\\\\ "}, false},
        {"\"a\"\vb", 2, {"a", "b"}, false},
        UNBALANCED("\"a"),
        UNBALANCED("'a"),
        UNBALANCED("\""),
        UNBALANCED("ECHO a'"),
        UNBALANCED("\"a\"b"),
        UNBALANCED("'a'b"),
        UNBALANCED("'a''b'"),
        UNBALANCED("\"a\\\""),
        UNBALANCED("\"a\\"),
        UNBALANCED("'\\'"),
        UNBALANCED("'\\\\'"),
        UNBALANCED("a b c \"d"),
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check_sample(&table[i]);
}

static void test_encoded(void)
{
    static const char array[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello world!\r\n";
    static const char line[] = "SET k 'hello world!'";
    struct inline_request r;

    CU_ASSERT_TRUE_FATAL(inline_split(line, sizeof(line) - 1, &r));
    CU_ASSERT_EQUAL_FATAL(r.len, sizeof(array) - 1);
    CU_ASSERT_EQUAL(memcmp(r.bytes, array, r.len), 0);
    free(r.bytes);
    free(r.argv);
}

/* As many words as a line can have: the longest array form that a line can become. */
static void test_many_words(void)
{
    enum {
        WORDS = 32768
    };
    char *line = xmalloc(WORDS * 2);
    struct inline_request r;

    for (int i = 0; i < WORDS; i++) {
        line[2 * i] = (char)('a' + i % 26);
        line[2 * i + 1] = ' ';
    }
    CU_ASSERT_TRUE_FATAL(inline_split(line, WORDS * 2, &r));
    CU_ASSERT_EQUAL_FATAL(r.argc, WORDS);
    CU_ASSERT_EQUAL(r.len, 8 + WORDS * 7);
    for (uint32_t i = 0; i < WORDS; i++)
        CU_ASSERT(r.argv[i].len == 1 && r.bytes[r.argv[i].off] == (char)('a' + i % 26));
    free(line);
    free(r.bytes);
    free(r.argv);
}

void suite_inline(void)
{
    CU_pSuite s = CU_add_suite("inline", NULL, NULL);

    CU_add_test(s, "words", test_words);
    CU_add_test(s, "quotes", test_quotes);
    CU_add_test(s, "encoded", test_encoded);
    CU_add_test(s, "many words", test_many_words);
}
