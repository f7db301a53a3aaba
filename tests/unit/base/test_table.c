#include "base/table.h"

#include <CUnit/Basic.h>

struct member {
    struct table_node link;
    int value;
};

static struct member *find(const struct table *t, uint64_t hash, int value)
{
    for (struct table_node *n = table_first(t, hash); n != NULL; n = table_next(n))
        if (CONTAINER_OF(n, struct member, link)->value == value)
            return CONTAINER_OF(n, struct member, link);
    return NULL;
}

/* Many members, some with the same hash, through several doublings. */
static void test_members(void)
{
    enum {
        COUNT = 5000
    };
    static struct member m[COUNT];
    struct table t = {0};

    CU_ASSERT_PTR_NULL(table_first(&t, 1));
    for (int i = 0; i < COUNT; i++) {
        m[i].value = i;
        table_add(&t, &m[i].link, (uint64_t)(i / 3));
    }
    CU_ASSERT_EQUAL(t.count, COUNT);
    for (int i = 0; i < COUNT; i++)
        CU_ASSERT_PTR_EQUAL(find(&t, (uint64_t)(i / 3), i), &m[i]);
    for (int i = 0; i < COUNT; i += 2)
        table_remove(&t, &m[i].link);
    CU_ASSERT_EQUAL(t.count, COUNT / 2);
    for (int i = 0; i < COUNT; i++)
        CU_ASSERT_PTR_EQUAL(find(&t, (uint64_t)(i / 3), i), i % 2 ? &m[i] : NULL);
    table_deinit(&t);
    CU_ASSERT_PTR_NULL(table_first(&t, 1));
}

/* Names that differ little do not meet, and neither do equal names of different seeds. */
static void test_hash(void)
{
    enum {
        COUNT = 20000
    };
    static bool taken[1 << 20];
    int met = 0;

    for (int i = 0; i < COUNT; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "room%d", i);
        uint64_t h = table_hash(0, name, (size_t)n) & ((1 << 20) - 1);

        met += taken[h];
        taken[h] = true;
    }
    CU_ASSERT_TRUE(met < COUNT / 50); /* 190 are expected of a random function */
    CU_ASSERT_NOT_EQUAL(table_hash(0, "a", 1), table_hash(1, "a", 1));
    CU_ASSERT_EQUAL(table_hash(7, "ab", 2), table_hash(7, "ab", 2));
}

void suite_table(void)
{
    CU_pSuite s = CU_add_suite("table", NULL, NULL);

    CU_add_test(s, "members", test_members);
    CU_add_test(s, "hash", test_hash);
}
