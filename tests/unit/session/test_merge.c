/*
 * test_merge.c - one answer out of the answers of the parts.
 */
#include "session/merge.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

enum {
    PARTS_MAX = 4,
    KEYS_MAX = 200
};

/* A part: which keys of the command it has, and what its server answered. */
struct part {
    const char *reply;
    uint32_t count;
    uint32_t keys[4];
};

static struct session_env env;
static struct client client = {.env = &env};

static void add_part(struct scatter *s, const char *reply, uint32_t count, const uint32_t *keys)
{
    struct request *r = xcalloc(1, sizeof(*r));
    size_t len = strlen(reply);
    struct block *owner = block_new_exact(len);

    memcpy(owner->data, reply, len);
    request_store(r, owner->data, len, owner);
    block_unref(&owner);
    r->first = s->keys;
    r->count = count;
    for (uint32_t i = 0; i < count; i++)
        s->order[s->keys++] = keys[i];
    *s->tail = r;
    s->tail = &r->next;
}

static struct scatter *scatter_of(const struct part *parts, size_t n)
{
    struct scatter *s = xcalloc(1, sizeof(*s) + KEYS_MAX * sizeof(s->order[0]));

    s->tail = &s->parts;
    for (size_t i = 0; i < n; i++)
        add_part(s, parts[i].reply, parts[i].count, parts[i].keys);
    return s;
}

static void scatter_drop(struct scatter **p)
{
    struct request *r;

    while ((r = (*p)->parts) != NULL) {
        (*p)->parts = r->next;
        block_unref(&r->reply_block);
        free(r);
    }
    free(*p);
    *p = NULL;
}

/* The merged answer; the caller frees it. */
static char *merged(enum command_merge how, struct scatter *s)
{
    struct command cmd = {.merge = (uint8_t)how};
    struct request parent = {.cmd = &cmd, .scatter = s};
    struct chain out;
    char *text;
    size_t n = 0;

    chain_init(&out);
    merge_finish(&client, &parent, &out);
    text = xcalloc(1, out.bytes + 1);
    for (struct chain_seg *seg = out.head; seg != NULL; seg = seg->next) {
        memcpy(text + n, seg->block->data + seg->off, seg->len);
        n += seg->len;
    }
    chain_clear(&out);
    return text;
}

static void check(enum command_merge how, const char *expected, const struct part *parts, size_t n)
{
    struct scatter *s = scatter_of(parts, n);
    char *text = merged(how, s);

    if (strcmp(text, expected) != 0)
        printf("\n    %s\n    instead of %s\n", text, expected);
    CU_ASSERT_STRING_EQUAL(text, expected);
    free(text);
    scatter_drop(&s);
}

#define CHECK_MERGE(how, expected, ...)                                                            \
    check((how), (expected), (const struct part[]){__VA_ARGS__},                                   \
          sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part))
#define MISFIT "-ERR KEYWAY the parts of a merged answer do not fit together\r\n"

static void test_sum(void)
{
    CHECK_MERGE(MERGE_SUM, ":6\r\n", {":1\r\n", 1, {0}}, {":2\r\n", 1, {1}}, {":3\r\n", 1, {2}});
    CHECK_MERGE(MERGE_SUM, ":0\r\n", {":0\r\n", 1, {0}});
    CHECK_MERGE(MERGE_SUM, MISFIT, {":1\r\n", 1, {0}}, {"+OK\r\n", 1, {1}});
    CHECK_MERGE(MERGE_SUM, MISFIT, {":9223372036854775807\r\n", 1, {0}}, {":1\r\n", 1, {1}});
}

static void test_order(void)
{
    CHECK_MERGE(MERGE_ORDER, "*4\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n$2\r\ndd\r\n",
                {"*2\r\n$1\r\nc\r\n$1\r\na\r\n", 2, {2, 0}},
                {"*2\r\n$2\r\ndd\r\n$-1\r\n", 2, {3, 1}});
    CHECK_MERGE(MERGE_ORDER, "*2\r\n_\r\n$0\r\n\r\n", {"*1\r\n$0\r\n\r\n", 1, {1}},
                {"*1\r\n_\r\n", 1, {0}});
    /* An element with all it contains. */
    CHECK_MERGE(MERGE_ORDER, "*2\r\n:1\r\n*2\r\n:2\r\n*1\r\n:3\r\n",
                {"*1\r\n*2\r\n:2\r\n*1\r\n:3\r\n", 1, {1}}, {"*1\r\n:1\r\n", 1, {0}});
    /* More or fewer elements than keys, or no array at all. */
    CHECK_MERGE(MERGE_ORDER, MISFIT, {"*1\r\n:1\r\n", 1, {0}}, {"*1\r\n:1\r\n", 2, {1, 2}});
    CHECK_MERGE(MERGE_ORDER, MISFIT, {"*2\r\n:1\r\n:2\r\n", 1, {0}});
    CHECK_MERGE(MERGE_ORDER, MISFIT, {"*-1\r\n", 1, {0}});
    CHECK_MERGE(MERGE_ORDER, MISFIT, {":1\r\n", 1, {0}});
}

/* More keys than the merge keeps on its stack. */
static void test_order_of_many(void)
{
    struct scatter *s = scatter_of(NULL, 0);
    char expected[KEYS_MAX * 8 + 16], *text;
    size_t n = (size_t)snprintf(expected, sizeof(expected), "*%d\r\n", KEYS_MAX);

    for (uint32_t i = 0; i < KEYS_MAX; i++) {
        uint32_t key = KEYS_MAX - 1 - i;
        char reply[32];

        snprintf(reply, sizeof(reply), "*1\r\n:%u\r\n", key);
        add_part(s, reply, 1, &key);
        n += (size_t)snprintf(expected + n, sizeof(expected) - n, ":%u\r\n", i);
    }
    text = merged(MERGE_ORDER, s);
    CU_ASSERT_STRING_EQUAL(text, expected);
    free(text);
    scatter_drop(&s);
}

static void test_concat(void)
{
    CHECK_MERGE(MERGE_CONCAT, "*3\r\n+a\r\n+b\r\n+c\r\n", {"*2\r\n+a\r\n+b\r\n", 0, {0}},
                {"*0\r\n", 0, {0}}, {"*1\r\n+c\r\n", 0, {0}});
    CHECK_MERGE(MERGE_CONCAT, "*0\r\n", {"*0\r\n", 0, {0}}, {"*0\r\n", 0, {0}});
    CHECK_MERGE(MERGE_CONCAT, MISFIT, {"*0\r\n", 0, {0}}, {"$1\r\na\r\n", 0, {0}});
}

static void test_and(void)
{
    CHECK_MERGE(MERGE_AND, "*3\r\n:1\r\n:0\r\n:0\r\n", {"*3\r\n:1\r\n:0\r\n:1\r\n", 0, {0}},
                {"*3\r\n:1\r\n:1\r\n:0\r\n", 0, {0}});
    CHECK_MERGE(MERGE_AND, "*0\r\n", {"*0\r\n", 0, {0}});
    CHECK_MERGE(MERGE_AND, MISFIT, {"*1\r\n:1\r\n", 0, {0}}, {"*2\r\n:1\r\n:1\r\n", 0, {0}});
    CHECK_MERGE(MERGE_AND, MISFIT, {"*1\r\n+x\r\n", 0, {0}});
}

static void test_same_answer(void)
{
    CHECK_MERGE(MERGE_OK, "+OK\r\n", {"+OK\r\n", 1, {0}}, {"+OK\r\n", 1, {1}});
    CHECK_MERGE(MERGE_FIRST, "$3\r\nsha\r\n", {"$3\r\nsha\r\n", 0, {0}}, {"$3\r\nsha\r\n", 0, {0}});
}

/* One has it; that none has it is known only when all have said so. */
static void test_found(void)
{
    CHECK_MERGE(MERGE_FOUND, "$3\r\na b\r\n", {"-NOSCRIPT no\r\n", 0, {0}},
                {"$3\r\na b\r\n", 0, {0}}, {"-CLUSTERDOWN x\r\n", 0, {0}});
    CHECK_MERGE(MERGE_FOUND, "$1\r\na\r\n", {"$1\r\na\r\n", 0, {0}});
    CHECK_MERGE(MERGE_FOUND, "-CLUSTERDOWN x\r\n", {"-NOSCRIPT no\r\n", 0, {0}},
                {"-CLUSTERDOWN x\r\n", 0, {0}}, {"-NOSCRIPT no\r\n", 0, {0}});
    CHECK_MERGE(MERGE_FOUND, "-NOSCRIPT b\r\n", {"-NOSCRIPT a\r\n", 0, {0}},
                {"-NOSCRIPT b\r\n", 0, {0}});
}

/* The error of the first key, wherever its part stands; never a smaller sum or a nil. */
static void test_errors(void)
{
    CHECK_MERGE(MERGE_SUM, "-B of key 0\r\n", {":1\r\n", 1, {1}}, {"-A of key 2\r\n", 1, {2}},
                {"-B of key 0\r\n", 2, {0, 3}});
    CHECK_MERGE(MERGE_ORDER, "-OOM no\r\n", {"*1\r\n:1\r\n", 1, {0}}, {"-OOM no\r\n", 1, {1}});
    CHECK_MERGE(MERGE_OK, "!5\r\nERR x\r\n", {"+OK\r\n", 1, {0}}, {"!5\r\nERR x\r\n", 1, {1}});
    /* Without keys the first part's. */
    CHECK_MERGE(MERGE_CONCAT, "-ERR 1\r\n", {"*0\r\n", 0, {0}}, {"-ERR 1\r\n", 0, {0}},
                {"-ERR 2\r\n", 0, {0}});
}

static void test_no_error(void)
{
    static const struct part parts[] = {{":1\r\n", 1, {0}}, {"$6\r\n-ERR x\r\n", 1, {1}}};
    struct scatter *s = scatter_of(parts, 2);

    CU_ASSERT_PTR_NULL(merge_first_error(s));
    scatter_drop(&s);
}

/* Each answer that is not nil is chosen sometimes, nil only when there is nothing else. */

void suite_merge(void)
{
    CU_pSuite s = CU_add_suite("merge", NULL, NULL);

    CU_add_test(s, "sum", test_sum);
    CU_add_test(s, "order", test_order);
    CU_add_test(s, "order of many keys", test_order_of_many);
    CU_add_test(s, "concat", test_concat);
    CU_add_test(s, "and", test_and);
    CU_add_test(s, "same answer", test_same_answer);
    CU_add_test(s, "found", test_found);
    CU_add_test(s, "errors", test_errors);
    CU_add_test(s, "a string is no error", test_no_error);
}
