/*
 * test_scripts.c - bodies by their digest, within a bound.
 */
#include "session/scripts.h"

#include <CUnit/Basic.h>

static const char body[] = "return 1";
static const char digest[] = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

static bool finds(struct scripts *s, const char *sha, const char *expected)
{
    struct script out;

    return scripts_find(s, SCRIPT_TAKEN, sha, strlen(sha), &out) && out.len == strlen(expected) &&
           memcmp(out.body, expected, out.len) == 0;
}

static void test_remember(void)
{
    struct scripts *s = scripts_new(1 << 20);
    struct script out;

    CU_ASSERT_FALSE(scripts_find(s, SCRIPT_TAKEN, digest, strlen(digest), &out));
    (void)scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN);
    (void)scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN);
    CU_ASSERT(finds(s, digest, body));
    CU_ASSERT(finds(s, "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", body));
    CU_ASSERT_FALSE(scripts_find(s, SCRIPT_TAKEN, digest, strlen(digest) - 1, &out));
    CU_ASSERT_FALSE(
        scripts_find(s, SCRIPT_TAKEN, "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\n\r{|", 40, &out));
    (void)scripts_remember(s, "", 0, SCRIPT_TAKEN);
    CU_ASSERT(finds(s, "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""));
    scripts_forget(s);
    CU_ASSERT_FALSE(scripts_find(s, SCRIPT_TAKEN, digest, strlen(digest), &out));
    (void)scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN);
    CU_ASSERT(finds(s, digest, body));
    scripts_free(&s);
    CU_ASSERT_PTR_NULL(s);
}

static void remember_number(struct scripts *s, int i, char sha[SHA1_HEX_LEN + 1], char text[1001])
{
    snprintf(text, 1001, "return %0992d", i);
    sha1_hex(text, strlen(text), sha);
    (void)scripts_remember(s, text, (uint32_t)strlen(text), SCRIPT_TAKEN);
}

static void test_bound(void)
{
    struct scripts *s = scripts_new(20000);
    char sha[SHA1_HEX_LEN + 1], text[1001];
    struct script out;
    int kept = 0;

    (void)scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN);
    for (int i = 0; i < 1000; i++) {
        remember_number(s, i, sha, text);
        CU_ASSERT(finds(s, sha, text));
        CU_ASSERT(finds(s, digest, body)); /* used all the time: it stays */
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "return %0992d", i);
        sha1_hex(text, strlen(text), sha);
        if (scripts_find(s, SCRIPT_TAKEN, sha, SHA1_HEX_LEN, &out)) {
            kept++;
            CU_ASSERT(i > 900);
        }
    }
    CU_ASSERT(kept >= 15 && kept < 20);
    scripts_free(&s);
}

static void test_too_large(void)
{
    struct scripts *s = scripts_new(0), *small = scripts_new(200);
    char sha[SHA1_HEX_LEN + 1], text[1001];
    struct script out;

    (void)scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN);
    CU_ASSERT_FALSE(scripts_find(s, SCRIPT_TAKEN, digest, strlen(digest), &out));
    (void)scripts_remember(small, body, sizeof(body) - 1, SCRIPT_TAKEN);
    remember_number(small, 1, sha, text);
    CU_ASSERT_FALSE(scripts_find(small, SCRIPT_TAKEN, sha, SHA1_HEX_LEN, &out));
    CU_ASSERT(finds(small, digest, body));
    scripts_free(&s);
    scripts_free(&small);
}

/* Of client 7, until a server has taken it. */
static void test_not_taken(void)
{
    struct scripts *s = scripts_new(1 << 20);
    struct script out;

    for (int round = 0; round < 2; round++) {
        CU_ASSERT_FALSE(scripts_remember(s, body, sizeof(body) - 1, 7));
        CU_ASSERT_FALSE(scripts_remember(s, body, sizeof(body) - 1, 8));
        CU_ASSERT(scripts_find(s, 7, digest, SHA1_HEX_LEN, &out));
        CU_ASSERT_FALSE(scripts_find(s, 8, digest, SHA1_HEX_LEN, &out));
        CU_ASSERT_FALSE(scripts_find(s, SCRIPT_TAKEN, digest, SHA1_HEX_LEN, &out));
        scripts_reject(s, body, sizeof(body) - 1, 8);
        CU_ASSERT(scripts_find(s, 7, digest, SHA1_HEX_LEN, &out));
        scripts_reject(s, body, sizeof(body) - 1, 7);
        CU_ASSERT_FALSE(scripts_find(s, 7, digest, SHA1_HEX_LEN, &out));
    }
    CU_ASSERT_FALSE(scripts_remember(s, body, sizeof(body) - 1, 7));
    CU_ASSERT(scripts_remember(s, body, sizeof(body) - 1, SCRIPT_TAKEN));
    CU_ASSERT(scripts_remember(s, body, sizeof(body) - 1, 8));
    scripts_reject(s, body, sizeof(body) - 1, 7);
    scripts_reject(s, body, sizeof(body) - 1, 8);
    CU_ASSERT(finds(s, digest, body));
    scripts_free(&s);
}

/* However many bodies are sent that no server takes, those that were taken stay. */
static void test_not_taken_bound(void)
{
    struct scripts *s = scripts_new(20000);
    char sha[SHA1_HEX_LEN + 1], text[1001];
    struct script out;

    for (int i = 0; i < 10; i++)
        remember_number(s, i, sha, text);
    for (int i = 100; i < 200; i++) {
        snprintf(text, sizeof(text), "return %0992d", i);
        CU_ASSERT_FALSE(scripts_remember(s, text, (uint32_t)strlen(text), 7));
        sha1_hex(text, strlen(text), sha);
        CU_ASSERT(scripts_find(s, 7, sha, SHA1_HEX_LEN, &out));
    }
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof(text), "return %0992d", i);
        sha1_hex(text, strlen(text), sha);
        CU_ASSERT(finds(s, sha, text));
    }
    for (int i = 300; i < 400; i++)
        remember_number(s, i, sha, text);
    snprintf(text, sizeof(text), "return %0992d", 500);
    CU_ASSERT_FALSE(scripts_remember(s, text, (uint32_t)strlen(text), 7)); /* no room */
    sha1_hex(text, strlen(text), sha);
    CU_ASSERT_FALSE(scripts_find(s, 7, sha, SHA1_HEX_LEN, &out));
    scripts_free(&s);
}

void suite_scripts(void)
{
    CU_pSuite s = CU_add_suite("scripts", NULL, NULL);

    CU_add_test(s, "remember and find", test_remember);
    CU_add_test(s, "the least recently used goes", test_bound);
    CU_add_test(s, "larger than the bound", test_too_large);
    CU_add_test(s, "not taken yet", test_not_taken);
    CU_add_test(s, "not taken: no others go for them", test_not_taken_bound);
}
