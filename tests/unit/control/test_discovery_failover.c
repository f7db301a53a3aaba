/* Discovery against servers that say what the test wants: what becomes of the slots of a master
 * that dies or falls silent, and whose word counts then. */
#include <CUnit/CUnit.h>

#include "fake_cluster.h"

static void test_silent_master_delays_nothing(void)
{
    struct fakes f;
    struct watch w;
    uint64_t asked_us, best_us, at_us = 0;
    struct line moved[ARRAY_LEN(four)];
    struct slot_owner so;

    start_four(&f, &w);
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    usleep(300 * 1000);
    /* The first falls silent, and the second took slots from the third. */
    memcpy(moved, four, sizeof(moved));
    moved[1].slots = "5001-10100";
    moved[1].epoch = 4;
    moved[2].slots = "10101-16383";
    fake_set_raw(&f, 0, NULL);
    for (int i = 1; i < 4; i++)
        tell(&f, i, moved, ARRAY_LEN(moved));
    so = (struct slot_owner){10050, f.node[1].port};
    asked_us = clock_us();
    discovery_want_refresh(w.discovery, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_owner_is, &so, &at_us));
    best_us = at_us - asked_us;
    /* Two of three masters are enough, without any waiting. */
    for (int i = 0; i < 5; i++) {
        unsigned before;

        usleep(250 * 1000);
        before = watch_count(&w);
        asked_us = clock_us();
        discovery_want_refresh(w.discovery, 0);
        for (int k = 0; k < 1000 && watch_count(&w) == before; k++)
            usleep(1000);
        CU_ASSERT_TRUE(watch_wait(&w, 0, map_owner_is, &so, &at_us));
        best_us = MIN(best_us, at_us - asked_us);
    }
    CU_ASSERT_TRUE(best_us < 40 * 1000);
    stop(&f, &w);
}

/* The first master of four is gone, and its replica says since *promoted_us that it is master; what
 * the others tell is as before. */
static void break_first(struct fakes *f, struct watch *w, uint64_t *promoted_us)
{
    start_four(f, w);
    w->config->topology.refresh_ms = 200;
    watch_start(w);
    CU_ASSERT_TRUE(watch_wait(w, 1000, map_has_nodes, &four_nodes, NULL));
    usleep(200 * 1000);
    fake_set_up(f, 0, false);
    /* Asked every 10 ms, whatever the rate of refreshes. */
    for (int k = 0; k < 100 && fake_counts(f, 3).asked_role <= 10; k++)
        usleep(10 * 1000);
    CU_ASSERT_TRUE(fake_counts(f, 3).asked_role > 10);
    CU_ASSERT_EQUAL(fake_counts(f, 1).asked_role, 0);
    *promoted_us = clock_us();
    fake_set_role(f, 3, true);
    /* Dead, not answering: it was promoted, and only it itself knows. */
    fake_set_raw(f, 3, NULL);
}

static void test_promoted_replica_owns_at_once(void)
{
    struct fakes f;
    struct watch w;
    uint64_t promoted_us, at_us = 0;
    struct slot_owner so;
    struct line after[] = {
        {0, -1, 1, true, ""},
        {1, -1, 2, false, "5001-10000"},
        {2, -1, 3, false, "10001-16383"},
        {3, -1, 7, false, "0-5000"},
    };

    break_first(&f, &w, &promoted_us);
    so = (struct slot_owner){4711, f.node[3].port};
    CU_ASSERT_TRUE(watch_wait(&w, 500, map_owner_is, &so, &at_us));
    CU_ASSERT_TRUE(at_us - promoted_us < 40 * 1000);
    /* The others still tell the old story: it is not believed. */
    CU_ASSERT_TRUE(watch_holds(&w, 900, map_owner_is, &so));
    /* And when the old master is back with it, neither. */
    fake_set_role(&f, 0, true);
    fake_set_up(&f, 0, true);
    discovery_want_refresh(w.discovery, 0);
    CU_ASSERT_TRUE(watch_holds(&w, 900, map_owner_is, &so));
    tell_all(&f, after, ARRAY_LEN(after));
    CU_ASSERT_TRUE(watch_holds(&w, 900, map_owner_is, &so));
    CU_ASSERT_EQUAL(watch_owner_changes(&w), 2); /* not back and forth */
    stop(&f, &w);
}

/* Its answer to CLUSTER NODES came before it was promoted, the others' come after. */
static void test_answer_from_before_the_promotion(void)
{
    struct fakes f;
    struct watch w;
    struct slot_owner so;

    start_four(&f, &w);
    w.config->topology.refresh_per_s = 1; /* the round goes on to its end */
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    usleep(1100 * 1000);
    fake_set_raw(&f, 1, NULL);
    fake_set_up(&f, 0, false);
    usleep(150 * 1000);
    CU_ASSERT_EQUAL(fake_counts(&f, 3).asked_nodes, 2);
    fake_set_raw(&f, 3, NULL);
    fake_set_role(&f, 3, true);
    so = (struct slot_owner){4711, f.node[3].port};
    CU_ASSERT_TRUE(watch_wait(&w, 200, map_owner_is, &so, NULL));
    CU_ASSERT_TRUE(watch_holds(&w, 600, map_owner_is, &so));
    CU_ASSERT_EQUAL(watch_owner_changes(&w), 2); /* not back and forth */
    stop(&f, &w);
}

static void test_promotion_taken_back(void)
{
    struct fakes f;
    struct watch w;
    uint64_t promoted_us;
    struct slot_owner promoted, old;

    break_first(&f, &w, &promoted_us);
    promoted = (struct slot_owner){4711, f.node[3].port};
    old = (struct slot_owner){4711, f.node[0].port};
    CU_ASSERT_TRUE(watch_wait(&w, 500, map_owner_is, &promoted, NULL));
    /* It itself says that it is a replica of the old master, which is back. */
    fake_set_role(&f, 0, true);
    fake_set_role(&f, 3, false);
    fake_set_up(&f, 0, true);
    tell_all(&f, four, ARRAY_LEN(four));
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &old, NULL));
    CU_ASSERT_TRUE(watch_holds(&w, 500, map_owner_is, &old));
    stop(&f, &w);
}

static void test_older_view_is_not_believed(void)
{
    struct fakes f;
    struct watch w;
    struct line newer[ARRAY_LEN(four)];
    struct slot_owner so;

    start_four(&f, &w);
    w.config->topology.refresh_ms = 100;
    watch_start(&w);
    memcpy(newer, four, sizeof(newer));
    newer[1].slots = "5001-10100";
    newer[1].epoch = 9;
    newer[2].slots = "10101-16383";
    /* Only the taker itself knows. Then it dies, and all who are left tell the old story. */
    tell(&f, 1, newer, ARRAY_LEN(newer));
    so = (struct slot_owner){10050, f.node[1].port};
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_owner_is, &so, NULL));
    fake_set_up(&f, 1, false);
    CU_ASSERT_TRUE(watch_holds(&w, 1000, map_owner_is, &so));
    stop(&f, &w);
}

static void test_moving_slot_survives_silence(void)
{
    struct fakes f;
    struct watch w;
    struct line moving[ARRAY_LEN(four)];
    char id[NODE_ID_LEN + 1], slots[100];
    const uint16_t slot = 42;

    start_four(&f, &w);
    memcpy(moving, four, sizeof(moving));
    node_id(1, id);
    snprintf(slots, sizeof(slots), "0-5000 [42->-%s]", id);
    moving[0].slots = slots;
    tell(&f, 0, moving, ARRAY_LEN(moving));
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_is_moving, &slot, NULL));
    usleep(300 * 1000);
    fake_set_raw(&f, 0, NULL);
    discovery_want_refresh(w.discovery, 0);
    /* A map is published without the giver's answer, and its last word is in it. */
    usleep(150 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), 2);
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_is_moving, &slot, NULL));
    tell(&f, 0, four, ARRAY_LEN(four));
    fake_set_up(&f, 0, true); /* connections cut: it answers on a new one */
    for (int i = 0; i < 100 && watch_wait(&w, 0, map_is_moving, &slot, NULL); i++)
        usleep(10 * 1000);
    CU_ASSERT_FALSE(watch_wait(&w, 0, map_is_moving, &slot, NULL));
    stop(&f, &w);
}

void suite_discovery_failover(void)
{
    CU_pSuite s = CU_add_suite("discovery of lost masters", NULL, NULL);

    CU_ADD_TEST(s, test_silent_master_delays_nothing);
    CU_ADD_TEST(s, test_promoted_replica_owns_at_once);
    CU_ADD_TEST(s, test_answer_from_before_the_promotion);
    CU_ADD_TEST(s, test_promotion_taken_back);
    CU_ADD_TEST(s, test_older_view_is_not_believed);
    CU_ADD_TEST(s, test_moving_slot_survives_silence);
}
