#include "session/scan_cursor.h"

#include <inttypes.h>

#include <CUnit/Basic.h>

static bool parse(const char *text, struct scan_cursor *out)
{
    return scan_cursor_parse(text, strlen(text), out);
}

static void check_round_trip(uint16_t slot, uint16_t mark, uint64_t inner, bool narrow)
{
    struct scan_cursor c = {.slot = slot, .mark = mark, .inner = inner, .narrow = narrow}, back;
    uint64_t v = scan_cursor_encode(&c);
    char text[24];

    CU_ASSERT_TRUE(v > 0 && v < UINT64_C(1) << 53);
    snprintf(text, sizeof(text), "%" PRIu64, v);
    CU_ASSERT_FATAL(parse(text, &back));
    CU_ASSERT_EQUAL(back.slot, slot);
    CU_ASSERT_EQUAL(back.mark, mark);
    CU_ASSERT_EQUAL(back.inner, inner);
    CU_ASSERT_EQUAL(back.narrow, inner != 0 && narrow);
}

static void test_round_trip(void)
{
    static const uint16_t slots[] = {0, 1, 5460, 16383};
    static const uint16_t marks[] = {SCAN_FRESH, SCAN_WALK, 3, 511};
    static const uint64_t inners[] = {0, 1, 2, 123456789, SCAN_INNER_MAX};

    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
        for (size_t j = 0; j < sizeof(marks) / sizeof(marks[0]); j++)
            for (size_t k = 0; k < sizeof(inners) / sizeof(inners[0]); k++)
                for (int narrow = 0; narrow < 2; narrow++)
                    check_round_trip(slots[i], marks[j], inners[k], narrow != 0);
}

/* Another version of the program must understand it: the layout is fixed. */
static void test_layout(void)
{
    struct scan_cursor c = {.slot = 1, .mark = 5, .inner = 3, .narrow = true};

    CU_ASSERT_EQUAL(scan_cursor_encode(&c), UINT64_C(1) << 39 | UINT64_C(5) << 30 | 7);
    c = (struct scan_cursor){.slot = 16383, .mark = 511, .inner = SCAN_INNER_MAX, .narrow = true};
    CU_ASSERT_EQUAL(scan_cursor_encode(&c), (UINT64_C(1) << 53) - 1);
}

static void test_begin(void)
{
    static const char *const zeros[] = {"0",  "",   "000",
                                        "+0", "-0", "00000000000000000000000000000"};
    struct scan_cursor c;

    for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++) {
        CU_ASSERT_TRUE(parse(zeros[i], &c));
        CU_ASSERT_TRUE(c.slot == 0 && c.inner == 0 && !c.narrow && c.mark != SCAN_WALK);
    }
    CU_ASSERT_TRUE(parse("1", &c)); /* nothing of the server's is in it, so nothing is narrow */
    CU_ASSERT_TRUE(c.inner == 0 && !c.narrow);
    CU_ASSERT_TRUE(parse("000549755813889", &c));
    CU_ASSERT_EQUAL(c.slot, 1);
}

static void test_refused(void)
{
    static const char *const bad[] = {"abc",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "0x1",
                                      "+",
                                      "-",
                                      "--1",
                                      "-1",
                                      "1.0",
                                      "9007199254740992",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "99999999999999999999999999"};
    struct scan_cursor c;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CU_ASSERT_FALSE(parse(bad[i], &c));
    CU_ASSERT_TRUE(parse("9007199254740991", &c));
    CU_ASSERT_TRUE(scan_cursor_parse("7\0x", 3, &c)); /* a C string to the server */
}

/* Each of the three things it is made of changes it, nearly always, and it is never 0. */
static void test_fingerprint(void)
{
    unsigned same[3] = {0, 0, 0};
    bool used[512] = {false};
    unsigned values = 0;

    for (uint64_t i = 1; i <= 2000; i++) {
        uint64_t process = scan_hash(0, &i, sizeof(i));
        uint16_t f = scan_fingerprint(process, i, (uint16_t)(i % 16384));

        CU_ASSERT_TRUE(f > 0 && f < 512);
        values += !used[f];
        used[f] = true;
        CU_ASSERT_EQUAL(f, scan_fingerprint(process, i, (uint16_t)(i % 16384)));
        same[0] += f == scan_fingerprint(process + 1, i, (uint16_t)(i % 16384));
        same[1] += f == scan_fingerprint(process, i + 1, (uint16_t)(i % 16384));
        same[2] += f == scan_fingerprint(process, i, (uint16_t)((i + 1) % 16384));
    }
    CU_ASSERT_TRUE(values > 480);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_TRUE(same[i] < 20); /* 4 of 2000 are to be expected */
}

void suite_scan_cursor(void)
{
    CU_pSuite s = CU_add_suite("scan_cursor", NULL, NULL);

    CU_add_test(s, "there and back", test_round_trip);
    CU_add_test(s, "layout", test_layout);
    CU_add_test(s, "the begin", test_begin);
    CU_add_test(s, "refused", test_refused);
    CU_add_test(s, "fingerprint", test_fingerprint);
}
