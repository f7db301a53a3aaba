#include "resp/number.h"

#include <CUnit/Basic.h>

static void test_accepted(void)
{
    static const struct {
        const char *text;
        int64_t value;
    } table[] = {
        {"0", 0},
        {"1", 1},
        {"-1", -1},
        {"9", 9},
        {"10", 10},
        {"-10", -10},
        {"2147483648", 2147483648},
        {"9223372036854775806", INT64_MAX - 1},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775807", -INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t v = 77;

        CU_ASSERT_TRUE(resp_parse_int(table[i].text, strlen(table[i].text), &v));
        CU_ASSERT_EQUAL(v, table[i].value);
    }
}

static void test_refused(void)
{
    static const char *const table[] = {
        "",
        "-",
        "--1",
        "-0",
        "00",
        "01",
        "-01",
        "+1",
        "+0",
        " 1",
        "1 ",
        "1a",
        "a",
        "0x1",
        "1.0",
        "1e3",
        "\r",
        "1\n",
        "/",
        ":",
        "1/",
        "1:",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "18446744073709551617",
        "99999999999999999999",
        "111111111111111111111",
        "-11111111111111111111",
    };
    int64_t v;

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (resp_parse_int(table[i], strlen(table[i]), &v))
            CU_FAIL(table[i]);
    CU_ASSERT_FALSE(resp_parse_int("1\0002", 3, &v));
    CU_ASSERT_FALSE(resp_parse_int("\0", 1, &v));
    /* Only n bytes count. */
    CU_ASSERT_TRUE(resp_parse_int("12x", 2, &v));
    CU_ASSERT_EQUAL(v, 12);
}

static void check_round_trip(int64_t v)
{
    char text[20], expected[24];
    int n = snprintf(expected, sizeof(expected), "%lld", (long long)v);
    size_t len = resp_format_int(text, v);
    int64_t back;

    CU_ASSERT_EQUAL_FATAL(len, (size_t)n);
    CU_ASSERT_EQUAL(memcmp(text, expected, len), 0);
    CU_ASSERT(resp_parse_int(text, len, &back) && back == v);
}

static void test_round_trip(void)
{
    unsigned seed = 3;

    check_round_trip(0);
    check_round_trip(INT64_MAX);
    check_round_trip(INT64_MIN);
    for (uint64_t power = 1; power < UINT64_MAX / 10; power *= 10) {
        for (int64_t d = -1; d <= 1; d++) {
            check_round_trip((int64_t)power + d);
            check_round_trip(-((int64_t)power + d));
        }
    }
    for (int i = 0; i < 100000; i++) {
        uint64_t bits =
            (uint64_t)rand_r(&seed) << 40 ^ (uint64_t)rand_r(&seed) << 20 ^ (uint64_t)rand_r(&seed);

        check_round_trip((int64_t)(bits >> (rand_r(&seed) % 64)));
    }
}

void suite_number(void)
{
    CU_pSuite s = CU_add_suite("number", NULL, NULL);

    CU_add_test(s, "accepted", test_accepted);
    CU_add_test(s, "refused", test_refused);
    CU_add_test(s, "round trip", test_round_trip);
}
