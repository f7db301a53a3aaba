#include "resp/write.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"
#include "resp/reply.h"

/* Compares what is in the chain and empties it. */
static bool wrote(struct chain *c, const char *expected, size_t n)
{
    bool same = c->bytes == n;
    size_t pos = 0;

    for (struct chain_seg *s = c->head; same && s != NULL; s = s->next) {
        same = memcmp(s->block->data + s->off, expected + pos, s->len) == 0;
        pos += s->len;
    }
    same = same && pos == n;
    chain_consume(c, c->bytes);
    return same;
}

#define ASSERT_WROTE(c, text) CU_ASSERT_TRUE(wrote((c), (text), sizeof(text) - 1))

static void test_types(void)
{
    struct chain c;

    chain_init(&c);
    resp_write_simple(&c, "OK");
    ASSERT_WROTE(&c, "+OK\r\n");
    resp_write_int(&c, INT64_MIN);
    ASSERT_WROTE(&c, ":-9223372036854775808\r\n");
    resp_write_int(&c, 0);
    ASSERT_WROTE(&c, ":0\r\n");
    resp_write_bulk(&c, "a\0\r\n", 4);
    ASSERT_WROTE(&c, "$4\r\na\0\r\n\r\n");
    resp_write_bulk(&c, NULL, 0);
    ASSERT_WROTE(&c, "$0\r\n\r\n");
    resp_write_text(&c, "text");
    ASSERT_WROTE(&c, "$4\r\ntext\r\n");
    resp_write_array(&c, 0);
    ASSERT_WROTE(&c, "*0\r\n");
    resp_write_array(&c, 12345678901);
    ASSERT_WROTE(&c, "*12345678901\r\n");
    chain_clear(&c);
}

static void test_dialects(void)
{
    struct chain c;

    chain_init(&c);
    resp_write_null(&c, 2);
    ASSERT_WROTE(&c, "$-1\r\n");
    resp_write_null(&c, 3);
    ASSERT_WROTE(&c, "_\r\n");
    resp_write_null_array(&c, 2);
    ASSERT_WROTE(&c, "*-1\r\n");
    resp_write_null_array(&c, 3);
    ASSERT_WROTE(&c, "_\r\n");
    resp_write_map(&c, 2, 3);
    ASSERT_WROTE(&c, "*6\r\n");
    resp_write_map(&c, 3, 3);
    ASSERT_WROTE(&c, "%3\r\n");
    resp_write_verbatim(&c, 2, "abc", 3);
    ASSERT_WROTE(&c, "$3\r\nabc\r\n");
    resp_write_verbatim(&c, 3, "abc", 3);
    ASSERT_WROTE(&c, "=7\r\ntxt:abc\r\n");
    resp_write_verbatim(&c, 3, "", 0);
    ASSERT_WROTE(&c, "=4\r\ntxt:\r\n");
    chain_clear(&c);
}

static void test_errors(void)
{
    char word[1000];
    struct chain c;

    chain_init(&c);
    resp_write_error(&c, "ERR %s %d", "x", 5);
    ASSERT_WROTE(&c, "-ERR x 5\r\n");
    /* Quoted input can neither end the line nor begin another one. */
    resp_write_error(&c, "ERR unknown command '%s'", "a\r\n+OK\r\nb");
    ASSERT_WROTE(&c, "-ERR unknown command 'a  +OK  b'\r\n");
    resp_write_error(&c, "ERR %c|%%s", '\0');
    ASSERT_WROTE(&c, "-ERR  |%s\r\n");
    memset(word, 'w', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    resp_write_error(&c, "ERR %s", word);
    CU_ASSERT_EQUAL(c.bytes, 1 + 511 + 2);
    chain_clear(&c);
}

/* Strings around the sizes at which blocks end. */
static void test_long_strings(void)
{
    static const size_t sizes[] = {BLOCK_SMALL, BLOCK_LARGE, 65536, 3 * BLOCK_LARGE};
    char *bytes = xmalloc(4 * 65536);
    char *expected = xmalloc(4 * 65536);
    struct chain c;

    for (size_t i = 0; i < 4 * 65536; i++)
        bytes[i] = (char)(i * 7 + i / 256);
    chain_init(&c);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (size_t n = sizes[i] - 12; n <= sizes[i] + 3; n++) {
            size_t len = (size_t)snprintf(expected, 32, "$%zu\r\n", n);

            memcpy(expected + len, bytes, n);
            memcpy(expected + len + n, "\r\n", 2);
            resp_write_bulk(&c, bytes, n);
            CU_ASSERT_TRUE(wrote(&c, expected, len + n + 2));
            chain_clear(&c);
        }
    }
    free(bytes);
    free(expected);
}

void suite_write(void)
{
    CU_pSuite s = CU_add_suite("write", NULL, NULL);

    CU_add_test(s, "types", test_types);
    CU_add_test(s, "dialects", test_dialects);
    CU_add_test(s, "errors", test_errors);
    CU_add_test(s, "long strings", test_long_strings);
}
