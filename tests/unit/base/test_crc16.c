#include "base/crc16.h"

#include <CUnit/Basic.h>

/* The definition, bit by bit: what the tables must agree with. */
static uint16_t reference(const char *p, size_t len)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < len; i++) {
        crc ^= (uint32_t)(unsigned char)p[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
        crc &= 0xffff;
    }
    return (uint16_t)crc;
}

static uint16_t reference_slot(const char *key, size_t len)
{
    size_t open = 0, close;

    while (open < len && key[open] != '{')
        open++;
    for (close = open + 1; close < len && key[close] != '}';)
        close++;
    if (open < len && close < len && close > open + 1)
        return reference(key + open + 1, close - open - 1) % 16384;
    return reference(key, len) % 16384;
}

static uint16_t slot(const char *key)
{
    return key_slot(key, strlen(key));
}

static void test_known_values(void)
{
    CU_ASSERT_EQUAL(crc16("123456789", 9), 0x31c3);
    CU_ASSERT_EQUAL(crc16("", 0), 0);
    /* As CLUSTER KEYSLOT of redis-server 7.0 answers. */
    CU_ASSERT_EQUAL(slot("foo"), 12182);
    CU_ASSERT_EQUAL(slot("bar"), 5061);
    CU_ASSERT_EQUAL(slot("hello"), 866);
    CU_ASSERT_EQUAL(slot("somekey"), 11058);
    CU_ASSERT_EQUAL(slot(""), 0);
}

static void test_every_length(void)
{
    char buf[312];
    unsigned seed = 7;

    for (size_t len = 0; len <= 300; len++) {
        for (size_t shift = 0; shift < 9; shift++) {
            for (size_t i = 0; i < sizeof(buf); i++)
                buf[i] = (char)(rand_r(&seed) >> 3);
            CU_ASSERT_EQUAL(crc16(buf + shift, len), reference(buf + shift, len));
            CU_ASSERT_EQUAL(key_slot(buf + shift, len), reference_slot(buf + shift, len));
        }
    }
}

static void test_hash_tags(void)
{
    CU_ASSERT_EQUAL(slot("{user1000}.following"), slot("{user1000}.followers"));
    CU_ASSERT_EQUAL(slot("{user1000}.following"), slot("user1000"));
    CU_ASSERT_EQUAL(slot("foo{}{bar}"), reference("foo{}{bar}", 10) % 16384);
    CU_ASSERT_EQUAL(slot("foo{{bar}}zap"), slot("{bar"));
    CU_ASSERT_EQUAL(slot("foo{bar}{zap}"), slot("bar"));
    CU_ASSERT_EQUAL(slot("{}"), reference("{}", 2) % 16384);
    CU_ASSERT_EQUAL(slot("{"), reference("{", 1) % 16384);
    CU_ASSERT_EQUAL(slot("a{b"), reference("a{b", 3) % 16384);
    CU_ASSERT_EQUAL(slot("}{x}"), slot("x"));
    CU_ASSERT_EQUAL(key_slot("{a\0b}c", 6), key_slot("a\0b", 3));
}

/* Keys of braces and little else meet every branch of the rule, at every place of the scan. */
static void test_random_tags(void)
{
    static const char alphabet[] = {'{', '}', 'a', 'b', (char)0xfb, (char)0x7a, (char)0x7c, '\0'};
    char key[40];
    unsigned seed = 11;
    size_t tagged = 0;

    for (int round = 0; round < 200000; round++) {
        size_t len = (size_t)rand_r(&seed) % sizeof(key);

        for (size_t i = 0; i < len; i++) {
            unsigned pick = (unsigned)rand_r(&seed);

            /* Mostly neighbours of '{' in value, so that the braces stand far apart. */
            key[i] = alphabet[pick % 16 == 0 ? pick / 16 % 2 : 2 + pick / 16 % 6];
        }
        tagged += reference_slot(key, len) != reference(key, len) % 16384;
        CU_ASSERT_EQUAL(key_slot(key, len), reference_slot(key, len));
    }
    CU_ASSERT(tagged > 10000);
}

void suite_crc16(void)
{
    CU_pSuite s = CU_add_suite("crc16", NULL, NULL);

    CU_add_test(s, "known values", test_known_values);
    CU_add_test(s, "every length against the definition", test_every_length);
    CU_add_test(s, "hash tags", test_hash_tags);
    CU_add_test(s, "random hash tags", test_random_tags);
}
