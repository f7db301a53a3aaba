/* Discovery against a real cluster, in the order of a cluster's life: each test goes on from the
 * state that the one before it left. */
#include <CUnit/CUnit.h>

#include "redis_cluster.h"
#include "watch.h"

static struct redis_cluster cluster;
static const size_t six = 6;

static int begin(void)
{
    snprintf(cluster.dir, sizeof(cluster.dir), "/tmp/keyway-discovery-XXXXXX");
    if (mkdtemp(cluster.dir) == NULL)
        return 1;
    redis_choose_ports(&cluster);
    return 0;
}

static int end(void)
{
    redis_stop_all(&cluster);
    return 0;
}

static void open_watch(struct watch *w, size_t seed)
{
    char text[64];
    const char *seeds[] = {text, NULL};

    snprintf(text, sizeof(text), "127.0.0.1:%u", cluster.node[seed].port);
    watch_prepare(w, seeds);
    watch_start(w);
}

static void close_watch(struct watch *w)
{
    CU_ASSERT_FALSE(watch_stop(w));
}

static struct slot_owner owner(uint16_t slot, size_t node)
{
    return (struct slot_owner){slot, cluster.node[node].port};
}

/* Wishes until the map passes, as workers do that are told MOVED. */
static bool wish_until(struct watch *w, uint32_t timeout_ms, watch_test *test, const void *arg)
{
    uint64_t stop = clock_ms() + timeout_ms;

    while (clock_ms() < stop) {
        discovery_want_refresh(w->discovery, 0);
        if (watch_wait(w, 20, test, arg, NULL))
            return true;
    }
    return false;
}

static void test_before_the_cluster_is_there(void)
{
    struct watch w;
    struct slot_owner last = owner(16383, 2);
    uint64_t up_us, at_us = 0;

    open_watch(&w, 1);
    usleep(600 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), 0);
    /* A server that is up, alone and empty, is news. */
    up_us = clock_us();
    for (size_t i = 0; i < 6; i++)
        redis_start(&cluster, i);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_has_node, &cluster.node[1].port, &at_us));
    printf("\n    servers started, first map %.0f ms later", (double)(at_us - up_us) / 1000);
    redis_join(&cluster);
    CU_ASSERT_TRUE(watch_wait(&w, 8000, map_covers_all, NULL, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 8000, map_has_nodes, &six, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 100, map_owner_is, &last, NULL));
    close_watch(&w);
}

static void test_one_connection_a_node(void)
{
    struct watch w;

    open_watch(&w, 4);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_has_nodes, &six, NULL));
    for (int i = 0; i < 10; i++) {
        discovery_want_refresh(w.discovery, 0);
        usleep(210 * 1000);
    }
    CU_ASSERT_TRUE(watch_count(&w) >= 9);
    for (size_t i = 0; i < 6; i++) {
        const char *list = redis_text(&cluster.node[i], "CLIENT LIST"), *p = list;
        unsigned n = 0;

        while ((p = strstr(p, "name=keyway-topology")) != NULL) {
            n++;
            p++;
        }
        CU_ASSERT_EQUAL(n, 1);
    }
    close_watch(&w);
}

static void test_slot_moves(void)
{
    struct watch w;
    const uint16_t slot = 100;
    struct slot_owner from = owner(100, 0), to = owner(100, 2);

    open_watch(&w, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &from, NULL));
    redis_ok(&cluster.node[2], "CLUSTER SETSLOT 100 IMPORTING %s", cluster.node[0].id);
    redis_ok(&cluster.node[0], "CLUSTER SETSLOT 100 MIGRATING %s", cluster.node[2].id);
    CU_ASSERT_TRUE(wish_until(&w, 1000, map_is_moving, &slot));
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_owner_is, &from, NULL));
    redis_ok(&cluster.node[2], "CLUSTER SETSLOT 100 NODE %s", cluster.node[2].id);
    CU_ASSERT_TRUE(wish_until(&w, 1000, map_owner_is, &to));
    redis_ok(&cluster.node[0], "CLUSTER SETSLOT 100 NODE %s", cluster.node[2].id);
    discovery_want_refresh(w.discovery, 0);
    CU_ASSERT_TRUE(watch_holds(&w, 1000, map_owner_is, &to));
    CU_ASSERT_FALSE(watch_wait(&w, 0, map_is_moving, &slot, NULL));
    close_watch(&w);
}

static void test_node_added(void)
{
    struct watch w;
    const size_t seven = 7;

    open_watch(&w, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_has_nodes, &six, NULL));
    redis_start(&cluster, 6);
    redis_ok(&cluster.node[6], "CLUSTER MEET 127.0.0.1 %d %d", (int)cluster.node[0].port,
             (int)cluster.node[0].bus_port);
    /* Nobody wishes: the periodic refresh finds it. */
    CU_ASSERT_TRUE(watch_wait(&w, 12000, map_has_nodes, &seven, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_has_node, &cluster.node[6].port, NULL));
    close_watch(&w);
}

/* Asks the node ROLE every 5 ms; when it first said master (clock_us), 0: never. */
static uint64_t wait_promoted(size_t node, uint32_t timeout_ms)
{
    uint64_t stop = clock_ms() + timeout_ms;

    while (clock_ms() < stop) {
        if (strcmp(redis_text(&cluster.node[node], "ROLE"), "master") == 0)
            return clock_us();
        usleep(5000);
    }
    return 0;
}

/* The time from the promotion that the test saw to the map; negative: the map was first. */
static void check_promoted(struct watch *w, const char *what, struct slot_owner so, size_t node,
                           int bound_ms)
{
    uint64_t promoted_us = wait_promoted(node, 20000), at_us = 0;
    double late;

    CU_ASSERT_NOT_EQUAL_FATAL(promoted_us, 0);
    CU_ASSERT_TRUE(watch_wait(w, 2000, map_owner_is, &so, &at_us));
    late = ((double)at_us - (double)promoted_us) / 1000;
    printf("\n    %s: map %+.1f ms after the replica was seen as master", what, late);
    CU_ASSERT_TRUE(late <= bound_ms);
    CU_ASSERT_TRUE(watch_holds(w, 3000, map_owner_is, &so));
}

static void test_planned_failover(void)
{
    struct watch w;
    struct slot_owner old = owner(1, 0), new = owner(1, 3);
    uint64_t promoted_us, at_us = 0;

    open_watch(&w, 2);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &old, NULL));
    usleep(300 * 1000);
    redis_ok(&cluster.node[3], "CLUSTER FAILOVER");
    promoted_us = wait_promoted(3, 10000);
    CU_ASSERT_NOT_EQUAL_FATAL(promoted_us, 0);
    discovery_want_refresh(w.discovery, 0); /* a worker was told MOVED */
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_owner_is, &new, &at_us));
    printf("\n    planned: map %+.1f ms after the replica was seen as master and one wish",
           ((double)at_us - (double)promoted_us) / 1000);
    CU_ASSERT_TRUE(at_us < promoted_us + 300 * 1000);
    CU_ASSERT_TRUE(watch_holds(&w, 2000, map_owner_is, &new));
    CU_ASSERT_EQUAL(watch_owner_changes(&w), 2); /* not back and forth */
    close_watch(&w);
}

static void test_killed_master(void)
{
    struct watch w;
    struct slot_owner old = owner(6000, 1), new = owner(6000, 4);

    open_watch(&w, 1); /* the seed dies, too */
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &old, NULL));
    usleep(300 * 1000);
    redis_kill(&cluster, 1);
    check_promoted(&w, "kill -9", new, 4, 150);
    close_watch(&w);
}

static void test_hung_master(void)
{
    struct watch w;
    struct slot_owner old = owner(16000, 2), new = owner(16000, 5);

    CU_ASSERT_TRUE(redis_until(&cluster.node[2], "CLUSTER INFO", "cluster_state:ok", 20000));
    open_watch(&w, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &old, NULL));
    usleep(300 * 1000);
    kill(cluster.node[2].pid, SIGSTOP);
    discovery_want_refresh(w.discovery, 0); /* a worker's request timed out */
    check_promoted(&w, "SIGSTOP", new, 5, 150);
    /* It wakes up, and takes itself for a master until it is told. */
    kill(cluster.node[2].pid, SIGCONT);
    for (int i = 0; i < 10; i++) {
        discovery_want_refresh(w.discovery, 0);
        CU_ASSERT_TRUE(watch_holds(&w, 100, map_owner_is, &new));
    }
    close_watch(&w);
}

static void test_all_die_and_come_back(void)
{
    struct watch w;
    struct slot_owner so = owner(1, 3);
    unsigned before;

    open_watch(&w, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_owner_is, &so, NULL));
    for (size_t i = 0; i < REDIS_MAX; i++)
        redis_kill(&cluster, i);
    usleep(1000 * 1000);
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_owner_is, &so, NULL));
    before = watch_count(&w);
    discovery_want_refresh(w.discovery, 0); /* nobody can fulfil it yet */
    usleep(500 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), before);
    for (size_t i = 0; i < REDIS_MAX; i++)
        redis_start(&cluster, i);
    for (int i = 0; i < 3000 && watch_count(&w) == before; i++)
        usleep(1000);
    CU_ASSERT_TRUE(watch_count(&w) > before);
    CU_ASSERT_TRUE(watch_wait(&w, 5000, map_covers_all, NULL, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 5000, map_owner_is, &so, NULL));
    close_watch(&w);
}

void suite_discovery_redis(void)
{
    CU_pSuite s = CU_add_suite("discovery of a real cluster", begin, end);

    CU_ADD_TEST(s, test_before_the_cluster_is_there);
    CU_ADD_TEST(s, test_one_connection_a_node);
    CU_ADD_TEST(s, test_slot_moves);
    CU_ADD_TEST(s, test_node_added);
    CU_ADD_TEST(s, test_planned_failover);
    CU_ADD_TEST(s, test_killed_master);
    CU_ADD_TEST(s, test_hung_master);
    CU_ADD_TEST(s, test_all_die_and_come_back);
}
