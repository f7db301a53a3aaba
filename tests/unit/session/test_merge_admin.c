/*
 * test_merge_admin.c - slow logs, latencies, memory figures and kills of several servers as one's.
 */
#include "session/merge_admin.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

static struct session_env env;
static struct upstream upstream;
static struct client client = {.env = &env, .up = &upstream, .proto = 2};

static void add_part(struct scatter *s, const char *reply)
{
    struct request *r = xcalloc(1, sizeof(*r));

    r->slot = SLOT_NONE;
    request_store(r, reply, strlen(reply), NULL);
    *s->tail = r;
    s->tail = &r->next;
}

static struct scatter *scatter_of(const char *const *replies)
{
    struct scatter *s = xcalloc(1, sizeof(*s));

    s->tail = &s->parts;
    for (; *replies != NULL; replies++)
        add_part(s, *replies);
    return s;
}

static void scatter_drop(struct scatter *s)
{
    struct request *r;

    while ((r = s->parts) != NULL) {
        s->parts = r->next;
        block_unref(&r->reply_block);
        free(r);
    }
    free(s);
}

enum which {
    SLOWLOG,
    ACL_LOG,
    LATEST,
    HISTORY,
    HISTOGRAM,
    MEMORY,
    FUNCTIONS,
    KILL,
    TEXTS
};

/* "BAD" when the parts do not fit together. */
static void check(enum which which, int64_t arg, const char *expected, const char *const *replies)
{
    struct scatter *s = scatter_of(replies);
    struct chain out;
    char text[4096];
    size_t n = 0;
    bool ok = true;

    chain_init(&out);
    switch (which) {
    case SLOWLOG:
        ok = merge_slowlog(s, arg, &out);
        break;
    case ACL_LOG:
        ok = merge_acl_log(s, arg, &out);
        break;
    case LATEST:
        ok = merge_latest(s, &out);
        break;
    case HISTORY:
        ok = merge_history(s, &out);
        break;
    case HISTOGRAM:
        ok = merge_histogram(s, (int)arg, &out);
        break;
    case MEMORY:
        ok = merge_memory(s, (int)arg, &out);
        break;
    case FUNCTIONS:
        ok = merge_function_stats(s, &out);
        break;
    case KILL:
        merge_kill(s, &out);
        break;
    case TEXTS:
        merge_texts(&client, s, &out);
        break;
    }
    for (const struct chain_seg *seg = out.head; seg != NULL; seg = seg->next) {
        memcpy(text + n, seg->block->data + seg->off, seg->len);
        n += seg->len;
    }
    text[n] = '\0';
    if (!ok) {
        CU_ASSERT_EQUAL(n, 0);
        snprintf(text, sizeof(text), "BAD");
    }
    CU_ASSERT_STRING_EQUAL(text, expected);
    if (strcmp(text, expected) != 0)
        printf("\n  expected %s\n  got      %s\n", expected, text);
    chain_clear(&out);
    scatter_drop(s);
}

#define CHECK_MERGE(which, arg, expected, ...)                                                     \
    check(which, arg, expected, (const char *const[]){__VA_ARGS__, NULL})

#define ENTRY(id, time) "*3\r\n:" id "\r\n:" time "\r\n:5\r\n"

static void test_slowlog(void)
{
    CHECK_MERGE(SLOWLOG, 10, "*0\r\n", "*0\r\n", "*0\r\n");
    CHECK_MERGE(
        SLOWLOG, 10, "*4\r\n" ENTRY("7", "30") ENTRY("1", "20") ENTRY("6", "10") ENTRY("0", "5"),
        "*2\r\n" ENTRY("7", "30") ENTRY("6", "10"), "*2\r\n" ENTRY("1", "20") ENTRY("0", "5"));
    CHECK_MERGE(SLOWLOG, 2, "*2\r\n" ENTRY("7", "30") ENTRY("1", "20"),
                "*2\r\n" ENTRY("7", "30") ENTRY("6", "10"), "*1\r\n" ENTRY("1", "20"));
    CHECK_MERGE(SLOWLOG, -1, "*2\r\n" ENTRY("3", "9") ENTRY("2", "9"),
                "*2\r\n" ENTRY("3", "9") ENTRY("2", "9"), "*0\r\n");
    CHECK_MERGE(SLOWLOG, 0, "*0\r\n", "*1\r\n" ENTRY("3", "9"));
    CHECK_MERGE(SLOWLOG, 10, "BAD", "*0\r\n", ":1\r\n");
    CHECK_MERGE(SLOWLOG, 10, "BAD", "*1\r\n:1\r\n");
}

#define REFUSED(count, age) "*4\r\n$5\r\ncount\r\n:" count "\r\n$11\r\nage-seconds\r\n$" age "\r\n"
#define REFUSED_3(count, age)                                                                      \
    "%2\r\n$5\r\ncount\r\n:" count "\r\n$11\r\nage-seconds\r\n," age "\r\n"

static void test_acl_log(void)
{
    CHECK_MERGE(ACL_LOG, 10, "*0\r\n", "*0\r\n", "*0\r\n");
    CHECK_MERGE(ACL_LOG, 10, "+OK\r\n", "+OK\r\n", "+OK\r\n");
    CHECK_MERGE(ACL_LOG, 10,
                "*3\r\n" REFUSED("2", "3\r\n0.5") REFUSED("1", "1\r\n2") REFUSED("3", "2\r\n10"),
                "*2\r\n" REFUSED("1", "1\r\n2") REFUSED("3", "2\r\n10"),
                "*1\r\n" REFUSED("2", "3\r\n0.5"));
    CHECK_MERGE(ACL_LOG, 1, "*1\r\n" REFUSED_3("2", "0.5"), "*1\r\n" REFUSED_3("1", "2"),
                "*1\r\n" REFUSED_3("2", "0.5"));
    CHECK_MERGE(ACL_LOG, -1, "*0\r\n", "*1\r\n" REFUSED_3("1", "2"));
    CHECK_MERGE(ACL_LOG, 10, "BAD", "*0\r\n", ":1\r\n");
    CHECK_MERGE(ACL_LOG, 10, "BAD", "*1\r\n:1\r\n");
    CHECK_MERGE(ACL_LOG, 10, "BAD", "*1\r\n*2\r\n$5\r\ncount\r\n:1\r\n");
}

#define SPIKE(event, time, last, max) "*4\r\n$" event "\r\n:" time "\r\n:" last "\r\n:" max "\r\n"

static void test_latest(void)
{
    CHECK_MERGE(LATEST, 0, "*0\r\n", "*0\r\n", "*0\r\n");
    CHECK_MERGE(LATEST, 0,
                "*2\r\n" SPIKE("4\r\nfork", "9", "3", "50") SPIKE("1\r\nx", "1", "1", "1"),
                "*1\r\n" SPIKE("4\r\nfork", "5", "40", "50"),
                "*2\r\n" SPIKE("1\r\nx", "1", "1", "1") SPIKE("4\r\nfork", "9", "3", "7"));
    CHECK_MERGE(LATEST, 0, "BAD", "*1\r\n*1\r\n:1\r\n");
}

static void test_history(void)
{
    CHECK_MERGE(HISTORY, 0, "*0\r\n", "*0\r\n", "*0\r\n");
    CHECK_MERGE(HISTORY, 0, "*3\r\n*2\r\n:1\r\n:5\r\n*2\r\n:2\r\n:9\r\n*2\r\n:3\r\n:1\r\n",
                "*2\r\n*2\r\n:1\r\n:5\r\n*2\r\n:2\r\n:3\r\n",
                "*2\r\n*2\r\n:2\r\n:9\r\n*2\r\n:3\r\n:1\r\n");
    CHECK_MERGE(HISTORY, 0, "BAD", "*1\r\n:1\r\n");
}

static void test_histogram(void)
{
    CHECK_MERGE(HISTOGRAM, 3, "%0\r\n", "%0\r\n", "%0\r\n");
    /* 2 calls up to 1 us and 1 more up to 4; 3 up to 2 us: so far 2, 5, 6. */
    CHECK_MERGE(HISTOGRAM, 3,
                "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:6\r\n$14\r\nhistogram_usec\r\n"
                "%3\r\n:1\r\n:2\r\n:2\r\n:5\r\n:4\r\n:6\r\n",
                "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n"
                "%2\r\n:1\r\n:2\r\n:4\r\n:3\r\n",
                "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n"
                "%1\r\n:2\r\n:3\r\n");
    CHECK_MERGE(HISTOGRAM, 2,
                "*2\r\n$1\r\na\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n"
                "*2\r\n:1\r\n:2\r\n",
                "*0\r\n",
                "*2\r\n$1\r\na\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n"
                "*2\r\n:1\r\n:2\r\n");
    CHECK_MERGE(HISTOGRAM, 2, "BAD", "*2\r\n$1\r\na\r\n:1\r\n");
}

static void test_memory(void)
{
    CHECK_MERGE(MEMORY, 3,
                "%4\r\n$14\r\npeak.allocated\r\n:40\r\n$15\r\ntotal.allocated\r\n:30\r\n"
                "$15\r\npeak.percentage\r\n,75\r\n$4\r\ndb.0\r\n%1\r\n$1\r\nx\r\n:7\r\n",
                "%3\r\n$14\r\npeak.allocated\r\n:30\r\n$15\r\ntotal.allocated\r\n:20\r\n"
                "$15\r\npeak.percentage\r\n,66.6\r\n",
                "%4\r\n$14\r\npeak.allocated\r\n:10\r\n$15\r\ntotal.allocated\r\n:10\r\n"
                "$15\r\npeak.percentage\r\n,100\r\n$4\r\ndb.0\r\n%1\r\n$1\r\nx\r\n:7\r\n");
    CHECK_MERGE(MEMORY, 2, "*4\r\n$10\r\nkeys.count\r\n:3\r\n$13\r\nfragmentation\r\n$1\r\n0\r\n",
                "*4\r\n$10\r\nkeys.count\r\n:1\r\n$13\r\nfragmentation\r\n$3\r\n1.5\r\n",
                "*4\r\n$10\r\nkeys.count\r\n:2\r\n$13\r\nfragmentation\r\n$3\r\n2.5\r\n");
    CHECK_MERGE(MEMORY, 2, "BAD", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    CHECK_MERGE(MEMORY, 2, "BAD", "$1\r\na\r\n");
}

static void test_function_stats(void)
{
    static const char idle[] = "*4\r\n$14\r\nrunning_script\r\n$-1\r\n$7\r\nengines\r\n*0\r\n";
    static const char busy[] = "*4\r\n$14\r\nrunning_script\r\n*2\r\n$4\r\nname\r\n$1\r\nf\r\n"
                               "$7\r\nengines\r\n*0\r\n";

    CHECK_MERGE(FUNCTIONS, 0, idle, idle, idle);
    CHECK_MERGE(FUNCTIONS, 0, busy, idle, busy, idle);
    CHECK_MERGE(FUNCTIONS, 0, "BAD", idle, ":1\r\n");
}

static void test_kill(void)
{
    static const char none[] = "-NOTBUSY No scripts in execution right now.\r\n";
    static const char wrote[] = "-UNKILLABLE Sorry\r\n";

    CHECK_MERGE(KILL, 0, none, none, none);
    CHECK_MERGE(KILL, 0, "+OK\r\n", none, "+OK\r\n", none);
    CHECK_MERGE(KILL, 0, "+OK\r\n", "+OK\r\n", none);
    CHECK_MERGE(KILL, 0, wrote, none, wrote, "+OK\r\n");
    CHECK_MERGE(KILL, 0, wrote, "+OK\r\n", wrote);
}

static void test_texts(void)
{
    CHECK_MERGE(TEXTS, 0, "$3\r\none\r\n", "$3\r\none\r\n");
    CHECK_MERGE(TEXTS, 0, "$20\r\n# ?\none\n\n# ?\nERR x\n\n\r\n", "$3\r\none\r\n", "-ERR x\r\n");
    CHECK_MERGE(TEXTS, 0, "-ERR x\r\n", "-ERR x\r\n", "-ERR y\r\n");
    CHECK_MERGE(TEXTS, 0, "$18\r\n# ?\none\n\n# ?\ntwo\n\n\r\n", "=7\r\ntxt:one\r\n",
                "=7\r\ntxt:two\r\n");
}

void suite_merge_admin(void)
{
    CU_pSuite s = CU_add_suite("merge_admin", NULL, NULL);

    CU_add_test(s, "slow log", test_slowlog);
    CU_add_test(s, "refusals", test_acl_log);
    CU_add_test(s, "latest spikes", test_latest);
    CU_add_test(s, "history", test_history);
    CU_add_test(s, "histogram", test_histogram);
    CU_add_test(s, "memory", test_memory);
    CU_add_test(s, "function stats", test_function_stats);
    CU_add_test(s, "kill", test_kill);
    CU_add_test(s, "texts", test_texts);
}
