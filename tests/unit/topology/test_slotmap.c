#include "topology/slotmap.h"

#include <pthread.h>

#include <CUnit/Basic.h>

#include "base/alloc.h"

static struct addr addr_of(const char *text)
{
    struct addr a;

    CU_ASSERT_FATAL(addr_parse(text, strlen(text), &a));
    return a;
}

static void test_single(void)
{
    struct addr a = addr_of("h:6379"), other = addr_of("h:6380");
    struct slotmap *m = slotmap_single(&a);

    CU_ASSERT_FALSE(m->sharded);
    CU_ASSERT_EQUAL(m->node_count, 1);
    CU_ASSERT_EQUAL(m->nodes[0].slots, SLOT_COUNT);
    CU_ASSERT_TRUE(m->nodes[0].is_master && m->nodes[0].reachable);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 0), SLOT_COUNT - 1);
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &a), 0);
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &other), NODE_NONE);
    slotmap_unref(&m);
    slotmap_unref(&m); /* of NULL: nothing */
}

/* A node set up anew under another id has the address of one that is gone. */
static void test_find_addr(void)
{
    struct addr a = addr_of("h:1");
    struct slotmap *m = slotmap_new();

    m->node_count = 2;
    m->nodes = xcalloc(2, sizeof(*m->nodes));
    m->nodes[0].addr = m->nodes[1].addr = a;
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &a), 0);
    m->nodes[1].reachable = true;
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &a), 1);
    slotmap_unref(&m);
}

/* A node goes by its address and by the host name it announces, and by nothing else. */
static void test_find_hostname(void)
{
    struct addr by_name = addr_of("Node-1.example:7001"), other = addr_of("node-1.example:7002");
    struct slotmap *m = slotmap_new();

    m->node_count = 2;
    m->nodes = xcalloc(2, sizeof(*m->nodes));
    m->nodes[0].addr = addr_of("10.0.0.1:7001");
    m->nodes[1].addr = addr_of("10.0.0.2:7001");
    snprintf(m->nodes[1].hostname, sizeof(m->nodes[1].hostname), "node-1.example");
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &by_name), 1);
    CU_ASSERT_EQUAL(slotmap_find_addr(m, &other), NODE_NONE);
    slotmap_unref(&m);
}

static void test_guess(void)
{
    struct slotmap *m = slotmap_new();

    m->node_count = 3;
    m->nodes = xcalloc(3, sizeof(*m->nodes));
    m->nodes[0].addr = addr_of("10.0.0.1:7001");
    m->nodes[1].addr = addr_of("10.0.0.2:7001");
    m->nodes[2].addr = addr_of("10.0.0.2:7002");
    for (size_t i = 0; i < 3; i++)
        m->nodes[i].reachable = true;
    CU_ASSERT_EQUAL(slotmap_guess(m, 5, 7002), 2);
    CU_ASSERT_EQUAL(slotmap_guess(m, 5, 7001), NODE_NONE);
    CU_ASSERT_EQUAL(slotmap_guess(m, 5, 7003), NODE_NONE);
    m->move_count = 1;
    m->moves = xcalloc(1, sizeof(*m->moves));
    m->moves[0] = (struct slotmap_move){.slot = 5, .from = 0, .to = 1};
    CU_ASSERT_EQUAL(slotmap_guess(m, 5, 7001), 1);
    CU_ASSERT_EQUAL(slotmap_guess(m, 6, 7001), NODE_NONE);
    slotmap_unref(&m);
}

static void test_same(void)
{
    struct addr a = addr_of("127.0.0.1:1");
    struct slotmap *m = slotmap_single(&a), *n = slotmap_single(&a);

    n->version = 9;
    CU_ASSERT_TRUE(slotmap_same(m, n));
    n->owner[16383] = NODE_NONE;
    CU_ASSERT_FALSE(slotmap_same(m, n));
    n->owner[16383] = 0;
    n->nodes[0].reachable = false;
    CU_ASSERT_FALSE(slotmap_same(m, n));
    n->nodes[0].reachable = true;
    n->nodes[0].addr.port = 2;
    CU_ASSERT_FALSE(slotmap_same(m, n));
    n->nodes[0].addr.port = 1;
    CU_ASSERT_TRUE(addr_numeric(&n->nodes[0].addr, &n->nodes[0].target));
    CU_ASSERT_FALSE(slotmap_same(m, n));
    CU_ASSERT_TRUE(addr_numeric(&m->nodes[0].addr, &m->nodes[0].target));
    CU_ASSERT_TRUE(slotmap_same(m, n));
    n->moves = xcalloc(1, sizeof(*n->moves));
    n->move_count = 1;
    CU_ASSERT_FALSE(slotmap_same(m, n));
    slotmap_unref(&m);
    slotmap_unref(&n);
}

static void *reader(void *arg)
{
    struct slotmap *m = arg;

    for (int i = 0; i < 20000; i++) {
        struct slotmap *mine = slotmap_ref(m);

        if (mine->owner[i % SLOT_COUNT] != 0)
            return NULL;
        slotmap_unref(&mine);
    }
    slotmap_unref(&m);
    return arg;
}

/* The last of several threads frees; a sanitizer build sees a race or a leak. */
static void test_threads(void)
{
    struct addr a = addr_of("h:1");
    struct slotmap *m = slotmap_single(&a);
    pthread_t threads[4];
    void *result;

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, reader, slotmap_ref(m)), 0);
    slotmap_unref(&m);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], &result);
        CU_ASSERT_PTR_NOT_NULL(result);
    }
}

void suite_slotmap(void)
{
    CU_pSuite s = CU_add_suite("slotmap", NULL, NULL);

    CU_add_test(s, "one server", test_single);
    CU_add_test(s, "find by address", test_find_addr);
    CU_add_test(s, "find by host name", test_find_hostname);
    CU_add_test(s, "guess by slot and port", test_guess);
    CU_add_test(s, "same", test_same);
    CU_add_test(s, "references of several threads", test_threads);
}
