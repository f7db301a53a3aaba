#include "topology/distribution.h"

#include <CUnit/Basic.h>

#define KETAMA_SUM 2691022802u

static uint16_t owner[SLOT_COUNT], other[SLOT_COUNT];

static void test_ranges(void)
{
    size_t count[3] = {0};

    distribution_ranges(owner, 3);
    for (size_t s = 0; s < SLOT_COUNT; s++) {
        CU_ASSERT_FATAL(owner[s] < 3);
        CU_ASSERT(s == 0 || owner[s] == owner[s - 1] || owner[s] == owner[s - 1] + 1);
        count[owner[s]]++;
    }
    CU_ASSERT(count[0] >= 5461 && count[1] >= 5461 && count[2] >= 5461);
    distribution_ranges(owner, 1);
    CU_ASSERT_EQUAL(owner[0] + owner[SLOT_COUNT - 1], 0);
}

static void test_ketama_shares(void)
{
    const char *names[] = {"shard-0", "shard-1", "shard-2", "shard-3"};
    size_t count[4] = {0};

    distribution_ketama(owner, names, 4);
    for (size_t s = 0; s < SLOT_COUNT; s++) {
        CU_ASSERT_FATAL(owner[s] < 4);
        count[owner[s]]++;
    }
    for (size_t i = 0; i < 4; i++)
        CU_ASSERT(count[i] > SLOT_COUNT / 4 * 3 / 4 && count[i] < SLOT_COUNT / 4 * 5 / 4);
}

/* One more: it gets its share, and nothing moves between the others. The order does not matter. */
static void test_ketama_growth(void)
{
    const char *names[] = {"shard-0", "shard-1", "shard-2", "shard-3"};
    const char *turned[] = {"shard-2", "shard-1", "shard-0"};
    size_t moved = 0;

    distribution_ketama(owner, names, 3);
    distribution_ketama(other, names, 4);
    for (size_t s = 0; s < SLOT_COUNT; s++) {
        CU_ASSERT(other[s] == owner[s] || other[s] == 3);
        moved += other[s] != owner[s];
    }
    CU_ASSERT(moved > 0 && moved < SLOT_COUNT / 3);
    distribution_ketama(other, turned, 3);
    for (size_t s = 0; s < SLOT_COUNT; s++)
        CU_ASSERT_EQUAL(other[s], 2 - owner[s]);
}

/* Keys are where these numbers say: they stay the same for ever. */
static void test_ketama_is_for_ever(void)
{
    const char *names[] = {"a", "b", "c"};
    uint32_t sum = 0;

    distribution_ketama(owner, names, 3);
    for (uint32_t s = 0; s < SLOT_COUNT; s++)
        sum = sum * 31 + owner[s];
    CU_ASSERT_EQUAL(sum, KETAMA_SUM);
}

void suite_distribution(void)
{
    CU_pSuite s = CU_add_suite("distribution", NULL, NULL);

    CU_add_test(s, "ranges", test_ranges);
    CU_add_test(s, "ketama: equal shares", test_ketama_shares);
    CU_add_test(s, "ketama: one shard more", test_ketama_growth);
    CU_add_test(s, "ketama: never changes", test_ketama_is_for_ever);
}
