#include "base/glob.h"

#include <CUnit/Basic.h>

static bool match(const char *pattern, const char *text)
{
    return glob_match(pattern, strlen(pattern), text, strlen(text));
}

struct glob_case {
    const char *pattern, *text;
    bool matches;
};

/* What redis-server answers to the same pairs (KEYS, and a key of that name). */
static const struct glob_case cases[] = {
    {"a", "a", true},
    {"a", "b", false},
    {"a", "aa", false},
    {"", "a", false},
    {"*", "a", true},
    {"**", "abc", true},
    {"a*", "a", true},
    {"a**", "a", true},
    {"*a", "ba", true},
    {"*a", "ab", false},
    {"a*c", "abbbc", true},
    {"a*c", "abbbcd", false},
    {"*ab*ab", "aabab", true},
    {"*ab*ab", "abaab", true},
    {"*ab*ab", "ab", false},
    {"h?llo", "hello", true},
    {"h?llo", "hllo", false},
    {"?", "", false},
    {"h[ae]llo", "hallo", true},
    {"h[ae]llo", "hillo", false},
    {"h[^e]llo", "hallo", true},
    {"h[^e]llo", "hello", false},
    {"h[a-c]llo", "hbllo", true},
    {"h[c-a]llo", "hbllo", true},
    {"h[a-c]llo", "hdllo", false},
    {"[]", "a", false},
    {"[^]", "a", true},
    {"[^]", "ab", false},
    {"[]a]", "a", false},
    {"[^]a]", "xa]", true},
    {"[abc", "b", true},
    {"[abc", "d", false},
    {"[", "a", false},
    {"[^", "a", true},
    {"[a-]", "^", true}, /* from "]" to "a" */
    {"[a-]", "-", false},
    {"[a-", "-", true},
    {"[-a]", "-", true},
    {"[\\]]", "]", true},
    {"[\\a-c]", "b", false},
    {"[\\a-c]", "-", true},
    {"[a\\", "\\", true},
    {"\\*", "*", true},
    {"\\*", "a", false},
    {"\\a", "a", true},
    {"a\\", "a\\", true},
    {"\\", "\\", true},
    {"*\\*", "ab*", true},
    {"*[0-9]", "key7", true},
    {"[*]", "*", true},
    {"[?]", "a", false},
    {"*[", "a", false},
};

static void test_cases(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool got = match(cases[i].pattern, cases[i].text);

        if (got != cases[i].matches)
            printf("pattern %s text %s\n", cases[i].pattern, cases[i].text);
        CU_ASSERT_EQUAL(got, cases[i].matches);
    }
}

static void test_bytes(void)
{
    CU_ASSERT_TRUE(glob_match("a\0*", 3, "a\0b", 3));
    CU_ASSERT_FALSE(glob_match("a\0*", 3, "a", 1));
    CU_ASSERT_TRUE(glob_match("?\xff", 2, "\xfe\xff", 2));
    CU_ASSERT_TRUE(glob_match("", 0, "", 0));
    CU_ASSERT_FALSE(glob_match("*", 1, "", 0)); /* as in the server */
}

/* A pattern that backtracks exponentially where every "*" is tried anew. */
static void test_bounded(void)
{
    char text[4000], pattern[400];
    clock_t begin = clock();

    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < sizeof(pattern); i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[sizeof(pattern) - 1] = 'b';
    CU_ASSERT_FALSE(glob_match(pattern, sizeof(pattern), text, sizeof(text)));
    CU_ASSERT_TRUE(clock() - begin < 2 * CLOCKS_PER_SEC);
}

/* Nothing beyond the pattern is read (the sanitizer builds see it): all short patterns of the
 * characters that mean something, in memory of just their length. */
static void test_ends(void)
{
    static const char meta[] = {'*', '?', '[', ']', '^', '-', '\\', 'a'};

    for (unsigned n = 0; n < 8 * 8 * 8 * 8; n++) {
        for (size_t len = 1; len <= 4; len++) {
            char *pattern = malloc(len), text[2] = {'a', ']'};

            CU_ASSERT_PTR_NOT_NULL_FATAL(pattern);
            for (size_t i = 0; i < len; i++)
                pattern[i] = meta[n >> 3 * i & 7];
            for (size_t k = 1; k <= 2; k++)
                if (glob_match(pattern, len, text, k))
                    CU_ASSERT_TRUE(len >= k || memchr(pattern, '*', len) != NULL);
            free(pattern);
        }
    }
}

void suite_glob(void)
{
    CU_pSuite s = CU_add_suite("glob", NULL, NULL);

    CU_add_test(s, "patterns", test_cases);
    CU_add_test(s, "any bytes", test_bytes);
    CU_add_test(s, "time is bounded", test_bounded);
    CU_add_test(s, "ends of patterns", test_ends);
}
