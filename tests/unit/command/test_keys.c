#include "command/command.h"

#include <CUnit/CUnit.h>

#include "argv_request.h"

void suite_keys(void);

#define BAD "bad"
#define MAX_KEYS 64
#define UNTOUCHED UINT32_C(0xdeadbeef)

/* A request in words, and the positions of its keys ("" for none). */
struct example {
    const char *words, *keys;
};

static void format(char *out, size_t size, const uint32_t *positions, size_t n)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%u", i ? " " : "", positions[i]);
}

/* A smaller array gets the first positions and nothing beyond them; the count stays. */
static void check_smaller_arrays(const struct command *c, const struct resp_request *r,
                                 const uint32_t *all, size_t total)
{
    for (size_t max = 0; max < total; max++) {
        uint32_t some[MAX_KEYS];
        size_t count = 0;

        for (size_t i = 0; i < MAX_KEYS; i++)
            some[i] = UNTOUCHED;
        CU_ASSERT_EQUAL(command_keys_list(c, r, some, max, &count), COMMAND_KEYS_OK);
        CU_ASSERT_EQUAL(count, total);
        CU_ASSERT_EQUAL(memcmp(some, all, max * sizeof(*all)), 0);
        CU_ASSERT_EQUAL(some[max], UNTOUCHED);
    }
}

static void check_range_agrees(const struct command *c, const struct resp_request *r,
                               enum command_keys_status status, const uint32_t *all, size_t total)
{
    struct command_key_range range;

    CU_ASSERT_EQUAL_FATAL(command_keys_range(c, r, &range), status);
    if (status != COMMAND_KEYS_OK)
        return;
    CU_ASSERT_EQUAL_FATAL(range.count, total);
    for (uint32_t i = 0; i < range.count; i++)
        CU_ASSERT_EQUAL(range.first + i * range.step, all[i]);
}

static void check_request(const struct argv_request *q, const char *shown, const char *expected)
{
    const struct command *c = command_find(&q->r);
    enum command_keys_status status;
    uint32_t positions[MAX_KEYS];
    char text[MAX_KEYS * 4] = BAD;
    size_t count = 99;

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    status = command_keys_list(c, &q->r, positions, MAX_KEYS, &count);
    if (status == COMMAND_KEYS_OK) {
        format(text, sizeof(text), positions, count);
        for (size_t i = 0; i < count; i++)
            CU_ASSERT(positions[i] > 0 && positions[i] < q->r.argc);
        check_smaller_arrays(c, &q->r, positions, count);
    } else {
        CU_ASSERT_EQUAL(count, 0);
    }
    if (!command_keys_scattered(c))
        check_range_agrees(c, &q->r, status, positions, count);
    CU_ASSERT_STRING_EQUAL(text, expected);
    if (strcmp(text, expected) != 0)
        printf("\n  \"%s\": keys \"%s\", expected \"%s\"\n", shown, text, expected);
}

static void check_examples(const struct example *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct argv_request q = {0};

        argv_request_add_words(&q, e[i].words);
        check_request(&q, e[i].words, e[i].keys);
        argv_request_free(&q);
    }
}

static void test_ranges(void)
{
    static const struct example examples[] = {
        {"get k", "1"},
        {"GET ''", "1"},
        {"set k v ex 10", "1"},
        {"ping", ""},
        {"ping get", ""},
        {"object", ""},
        {"object encoding k", "2"},
        {"memory usage k samples 5", "2"},
        {"xinfo stream k full", "2"},
        {"xgroup create k g $ mkstream", "2"},
        {"debug object k", "2"},
        {"pfdebug encoding k", "2"},
        {"del a", "1"},
        {"del a b c", "1 2 3"},
        {"mget a a a", "1 2 3"},
        {"mset a 1", "1"},
        {"mset a 1 b 2 c 3", "1 3 5"},
        {"mset a 1 b", "1 3"}, /* the server refuses it, after its own look at the slots */
        {"msetnx a 1 b 2", "1 3"},
        {"rename a b", "1 2"},
        {"copy a b replace", "1 2"},
        {"lmove a b left right", "1 2"},
        {"geosearchstore d s frommember m byradius 1 m", "1 2"},
        {"bitop not d s", "2 3"},
        {"bitop and d a b c", "2 3 4 5"},
        {"blpop a 0", "1"},
        {"blpop a b c 0", "1 2 3"},
        {"brpoplpush a b 0", "1 2"},
        {"blmove a b left right 0", "1 2"},
        {"sinterstore d a b", "1 2 3"},
        {"sort_ro k by w get store", "1"},
        {"georadius_ro k 1 2 3 m", "1"},
        {"watch a b", "1 2"},
        {"spublish channel text", "1"},
        {"sunsubscribe", ""},
        {"sunsubscribe a b", "1 2"},
        /* Fewer arguments than the arity asks for: nothing may be read beyond them. */
        {"get", BAD},
        {"rename a", BAD},
        {"object encoding", BAD},
        {"mget", ""},
        {"blpop a", ""},
        {"bitop not", ""},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_numkeys(void)
{
    static const struct example examples[] = {
        {"sintercard 1 a", "2"},
        {"sintercard 2 a b limit 1", "2 3"},
        {"lmpop 1 a left", "2"},
        {"zmpop 2 a b min", "2 3"},
        {"zunion 2 a b weights 1 2", "2 3"},
        {"zdiff 1 a withscores", "2"},
        {"blmpop 0 2 a b left", "3 4"},
        {"bzmpop 5 1 a min", "3"},
        /* With a destination before the count. */
        {"zunionstore d 1 a", "1 3"},
        {"zinterstore d 2 a b aggregate max", "1 3 4"},
        {"zdiffstore d 3 a b c", "1 3 4 5"},
        /* Not as many keys as the count says, or none. */
        {"zunion 2 a", BAD},
        {"zunion 3 a b", BAD},
        {"zunion 0 a", BAD},
        {"zunion -1 a", BAD},
        {"zunion x a", BAD},
        {"zunion '' a", BAD},
        {"zunion - a", BAD},
        {"zunion + a", BAD},
        {"zunion x1 a", BAD},
        {"zunionstore d 0 a", BAD},
        {"zunionstore d -1 a", BAD},
        {"zunionstore d 2 a", BAD},
        {"zunionstore d x a", BAD},
        {"zunionstore d", BAD},
        {"zunionstore", BAD},
        {"lmpop", BAD},
        {"lmpop 1", BAD},
        {"blmpop 0", BAD},
        /* What the server counts when it looks for keys, although it refuses to run it. */
        {"zunion 1a a", "2"},
        {"zunion +1 a", "2"},
        {"zunion 01 a b", "2"},
        {"zunion 1.9 a b", "2"},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_numkeys_of_scripts(void)
{
    static const struct example examples[] = {
        {"eval s 0", ""},       {"eval s 0 a b", ""},
        {"eval s 1 a", "3"},    {"EVAL s 2 a b c d", "3 4"},
        {"evalsha s 1 a", "3"}, {"eval_ro s 1 a", "3"},
        {"evalsha_ro s 0", ""}, {"fcall f 2 a b", "3 4"},
        {"fcall_ro f 0 x", ""}, {"eval s -1 a", BAD},
        {"eval s 2 a", BAD},    {"eval s 3 a b", BAD},
        {"eval s x a", BAD},    {"eval s ''", BAD},
        {"eval s", BAD},        {"fcall f 1", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

/* Numbers on both sides of 32 and 64 bits: the servers keep the low 32 bits. */
static void test_numkeys_out_of_range(void)
{
    static const struct example examples[] = {
        {"zunion 2147483647 a", BAD},
        {"zunion 2147483648 a", BAD},
        {"zunion 4294967295 a", BAD},
        {"zunion 4294967296 a", BAD},
        {"zunion 4294967297 a b", "2"},
        {"zunion 4294967298 a b", "2 3"},
        {"zunion 4294967299 a b", BAD},
        {"zunion -4294967295 a b", "2"},
        {"zunion 9223372036854775807 a", BAD},
        {"zunion 9223372036854775808 a", BAD},
        {"zunion 18446744073709551617 a", BAD},
        {"zunion 99999999999999999999999999999999 a", BAD},
        {"zunion -9223372036854775807 a b", "2"},
        {"zunion -9223372036854775808 a b", BAD},
        {"zunion -99999999999999999999999999999999 a", BAD},
        {"zunionstore d 4294967297 a", "1 3"},
        {"eval s 4294967297 a", "3"},
        {"eval s 4294967296 a", ""},
        {"eval s 9223372036854775807 a", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_streams(void)
{
    static const struct example examples[] = {
        {"xread streams a 0", "2"},
        {"xread STREAMS a b 0 0", "2 3"},
        {"xread count 5 block 0 streams a b c 0 0 0", "6 7 8"},
        {"xread BLOCK 0 Count 5 Streams a 0", "6"},
        {"xreadgroup group g c streams a >", "5"},
        {"xreadgroup group g c count 1 noack streams a b > >", "8 9"},
        {"xreadgroup NOACK GROUP g c STREAMS a >", "6"},
        /* Names that look like options. */
        {"xreadgroup group streams c streams a >", "5"},
        {"xreadgroup group g streams streams a >", "5"},
        {"xreadgroup group block count streams a >", "5"},
        {"xread count streams streams a 0", "4"},
        {"xread streams streams 0", "2"},
        {"xread streams streams streams streams 0 0 0", "2 3 4"},
        {"xread streams count 5 0 0", "2 3"},
        /* Malformed. */
        {"xread streams a", BAD},
        {"xread streams a b 0", BAD},
        {"xread streams", BAD},
        {"xread a b c", BAD},
        {"xread count 1 2 streams a 0", BAD},
        {"xread count streams a 0", BAD},
        {"xread streamsx a 0", BAD},
        {"xread stream a 0", BAD},
        {"xread '' a 0", BAD},
        {"xread count", BAD},
        {"xread count 1 block", BAD},
        {"xread", BAD},
        {"xreadgroup group g streams a > x y", BAD},
        {"xreadgroup group", BAD},
        {"xreadgroup group g", BAD},
        {"xreadgroup group g c", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_sort(void)
{
    static const struct example examples[] = {
        {"sort k", "1"},
        {"sort k limit 0 10 asc alpha", "1"},
        {"sort k store d", "1 3"},
        {"sort k STORE d", "1 3"},
        {"sort k store d store e", "1 5"},
        {"sort k by w get # get o_* store d", "1 9"},
        {"sort k limit 0 1 store d desc", "1 6"},
        {"sort k store", "1"},
        {"sort k store d store", "1 3"},
        /* The words after BY, GET and LIMIT are theirs. */
        {"sort k by store get store", "1"},
        {"sort k by store store d", "1 5"},
        {"sort k limit store store store d", "1 6"},
        {"sort k limit 1 store x", "1"},
        {"sort k store d limit", "1 3"},
        {"sort k store d get", "1 3"},
        {"sort k store d limit 1", "1 3"},
        /* The one after STORE is looked at once more. */
        {"sort k store store d", "1 4"},
        {"sort k store by store d", "1 3"},
        {"sort k store limit 0 1 store d", "1 7"},
        {"sort", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_georadius(void)
{
    static const struct example examples[] = {
        {"georadius k 1 2 3 m", "1"},
        {"georadius k 1 2 3 m withdist count 5 asc", "1"},
        {"georadius k 1 2 3 m store d", "1 7"},
        {"georadius k 1 2 3 m StoreDist d", "1 7"},
        {"georadius k 1 2 3 m store d storedist e", "1 9"},
        {"georadius k 1 2 3 m storedist e store d", "1 9"},
        {"georadius k 1 2 3 m count 1 store d asc", "1 9"},
        {"georadius k 1 2 3 m store", "1"},
        {"georadius k 1 2 3 m store store", "1 7"},
        {"georadius k 1 2 3 m store store store d", "1 9"},
        {"georadius k 1 2 3 m stored d", "1"},
        {"georadius k 1 2 3 store d", "1 6"},
        {"georadiusbymember k m 3 km", "1"},
        {"georadiusbymember k m 3 km store d", "1 6"},
        {"georadiusbymember k store 3 km store d", "1 6"},
        {"georadiusbymember k store d km count 1", "1"},
        {"georadius", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

static void test_migrate(void)
{
    static const struct example examples[] = {
        {"migrate h 1 k 0 100", "3"},
        {"migrate h 1 k 0 100 copy replace", "3"},
        {"migrate h 1 '' 0 100", "3"},
        {"migrate h 1 '' 0 100 keys a", "7"},
        {"migrate h 1 '' 0 100 copy KEYS a b c", "8 9 10"},
        {"migrate h 1 '' 0 100 auth keys keys a b", "9 10"},
        {"migrate h 1 '' 0 100 auth2 keys keys keys a", "10"},
        {"migrate h 1 '' 0 100 auth keys a", "3"},
        {"migrate h 1 '' 0 100 keys keys", "7"},
        {"migrate h 1 k 0 100 keys a", BAD},
        {"migrate h 1 '' 0 100 keys", BAD},
        {"migrate h 1", BAD},
    };

    check_examples(examples, ARRAY_LEN(examples));
}

/* Bytes that words cannot hold: the servers compare C strings and read C numbers here. */
static void test_binary_arguments(void)
{
    struct argv_request q = {0};

    argv_request_add_words(&q, "sort k");
    argv_request_add(&q, "store\0x", 7);
    argv_request_add(&q, "\0\xff", 2);
    check_request(&q, "sort k store\\0x d", "1 3");
    argv_request_free(&q);

    argv_request_add_words(&q, "sort k");
    argv_request_add(&q, "sto\0e", 5);
    argv_request_add_words(&q, "d");
    check_request(&q, "sort k sto\\0e d", "1");
    argv_request_free(&q);

    argv_request_add_words(&q, "zunion");
    argv_request_add(&q,
                     "\t\n\v\f\r 2\0"
                     "9",
                     9);
    argv_request_add_words(&q, "a b c");
    check_request(&q, "zunion (white space)2\\09 a b c", "2 3");
    argv_request_free(&q);

    argv_request_add_words(&q, "zunion");
    argv_request_add(&q,
                     "\0"
                     "1",
                     2);
    argv_request_add_words(&q, "a");
    check_request(&q, "zunion \\01 a", BAD);
    argv_request_free(&q);

    argv_request_add_words(&q, "zunion");
    argv_request_add(&q,
                     "\xc2\xa0"
                     "1",
                     3);
    argv_request_add_words(&q, "a");
    check_request(&q, "zunion (no-break space)1 a", BAD);
    argv_request_free(&q);
}

/* A range looks at the number of arguments only, so this one needs none. */
static void test_as_many_arguments_as_there_can_be(void)
{
    struct resp_request r = {.base = NULL, .len = 0, .argc = UINT32_MAX, .argv = NULL};
    struct command_key_range range;

    CU_ASSERT_EQUAL(command_keys_range(command_find_name("mset", 4), &r, &range), COMMAND_KEYS_OK);
    CU_ASSERT_EQUAL(range.count, UINT32_MAX / 2);
    CU_ASSERT_EQUAL(command_keys_range(command_find_name("del", 3), &r, &range), COMMAND_KEYS_OK);
    CU_ASSERT_EQUAL(range.count, UINT32_MAX - 1);
    CU_ASSERT_EQUAL(command_keys_range(command_find_name("blpop", 5), &r, &range), COMMAND_KEYS_OK);
    CU_ASSERT_EQUAL(range.count, UINT32_MAX - 2);
    CU_ASSERT_EQUAL(command_keys_range(command_find_name("get", 3), &r, &range), COMMAND_KEYS_OK);
    CU_ASSERT_EQUAL(range.count, 1);
}

static int set_up(void)
{
    command_init();
    return 0;
}

void suite_keys(void)
{
    CU_pSuite s = CU_add_suite("keys", set_up, NULL);

    CU_add_test(s, "ranges", test_ranges);
    CU_add_test(s, "numkeys", test_numkeys);
    CU_add_test(s, "numkeys of scripts", test_numkeys_of_scripts);
    CU_add_test(s, "numkeys out of range", test_numkeys_out_of_range);
    CU_add_test(s, "streams", test_streams);
    CU_add_test(s, "sort", test_sort);
    CU_add_test(s, "georadius", test_georadius);
    CU_add_test(s, "migrate", test_migrate);
    CU_add_test(s, "binary arguments", test_binary_arguments);
    CU_add_test(s, "as many arguments as there can be", test_as_many_arguments_as_there_can_be);
}
