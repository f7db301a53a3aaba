#include "topology/cluster.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"
#include "topology/nodes_text.h"

/* Node ids; those of a real cluster are 40 hexadecimal digits. */
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccccccccccc"
#define D "dddddddddddddddddddddddddddddddddddddddd"

static struct cluster_builder *builder;
static char err[256];

static void begin(void)
{
    cluster_builder_free(&builder);
    builder = cluster_builder_new();
}

static bool add_from(const char *asked, const char *text)
{
    struct addr a;

    CU_ASSERT_FATAL(addr_parse(asked, strlen(asked), &a));
    err[0] = '\0';
    return cluster_builder_add(builder, &a, text, strlen(text), err, sizeof(err));
}

static void add(const char *text)
{
    if (!add_from("10.9.9.9:9999", text)) {
        printf("%s\n", err);
        CU_FAIL_FATAL("a good answer was refused");
    }
}

/* The map of one good answer; the caller drops it. */
static struct slotmap *map_of(const char *text)
{
    begin();
    add(text);
    return cluster_builder_finish(builder, 1);
}

static const struct slotmap_node *find(const struct slotmap *m, const char *id)
{
    for (size_t i = 0; i < m->node_count; i++)
        if (strcmp(m->nodes[i].id, id) == 0)
            return &m->nodes[i];
    return NULL;
}

/* The id of a slot's owner, "-" for none. */
static const char *owner(const struct slotmap *m, unsigned slot)
{
    return m->owner[slot] == NODE_NONE ? "-" : m->nodes[m->owner[slot]].id;
}

static void has_addr(const struct slotmap *m, const char *id, const char *want)
{
    const struct slotmap_node *n = find(m, id);
    char text[ADDR_TEXT_MAX];

    CU_ASSERT_PTR_NOT_NULL_FATAL(n);
    CU_ASSERT_STRING_EQUAL(addr_format(&n->addr, text), want);
}

static void test_plain(void)
{
    struct slotmap *m = map_of(
        C " 127.0.0.1:7003@17003 slave " A " 0 1700000000001 1 connected\n" A
          " 127.0.0.1:7001@17001 myself,master - 0 1700000000000 1 connected 0-8191 16383\n" B
          " 127.0.0.1:7002@17002 master,nofailover - 0 1700000000002 2 connected 8192-16382\n");

    CU_ASSERT_TRUE(m->sharded);
    CU_ASSERT_EQUAL(m->version, 1);
    CU_ASSERT_EQUAL_FATAL(m->node_count, 3);
    CU_ASSERT_STRING_EQUAL(m->nodes[0].id, A);
    CU_ASSERT_STRING_EQUAL(m->nodes[1].id, B);
    CU_ASSERT_STRING_EQUAL(m->nodes[2].id, C);
    CU_ASSERT_EQUAL(m->nodes[0].slots, 8193);
    CU_ASSERT_EQUAL(m->nodes[1].slots, 8191);
    CU_ASSERT_EQUAL(m->nodes[2].slots, 0);
    CU_ASSERT_TRUE(m->nodes[0].is_master && m->nodes[1].is_master && !m->nodes[2].is_master);
    CU_ASSERT_EQUAL(m->nodes[0].master, NODE_NONE);
    CU_ASSERT_EQUAL(m->nodes[2].master, 0);
    CU_ASSERT_EQUAL(m->nodes[2].epoch, 1);
    CU_ASSERT_EQUAL(m->nodes[0].target.len, 0);
    CU_ASSERT_STRING_EQUAL(owner(m, 0), A);
    CU_ASSERT_STRING_EQUAL(owner(m, 8191), A);
    CU_ASSERT_STRING_EQUAL(owner(m, 8192), B);
    CU_ASSERT_STRING_EQUAL(owner(m, 16383), A);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 0), 8191);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 100), 8191);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 8192), 16382);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 16383), 16383);
    CU_ASSERT_EQUAL(m->move_count, 0);
    slotmap_unref(&m);
    CU_ASSERT_PTR_NULL(m);
}

static void test_addresses(void)
{
    struct slotmap *m;

    /* Redis 3: no cluster bus port. Redis 7: host name and fields. Valkey: fields alone. IPv6. */
    m = map_of(A " 127.0.0.1:7001 myself,master - 0 0 1 connected 1\n" B
                 " 10.0.0.2:7002@17002,host-b,shard-id=abc master - 0 0 2 connected 2\n" C
                 " 2001:db8::3:7003@17003,,tls-port=0,shard-id=abc master - 0 0 3 connected 3\n" D
                 " :7004@17004,host-d master - 0 0 4 connected 4\n");
    CU_ASSERT_EQUAL(m->node_count, 4);
    has_addr(m, A, "127.0.0.1:7001");
    has_addr(m, B, "10.0.0.2:7002");
    has_addr(m, C, "[2001:db8::3]:7003");
    has_addr(m, D, "host-d:7004");
    slotmap_unref(&m);

    /* A node that does not know its own address has that at which it was asked. */
    m = map_of(A " :7001@17001 myself,master - 0 0 1 connected 0-16383\r\n");
    has_addr(m, A, "10.9.9.9:7001");
    slotmap_unref(&m);
    m = map_of(A " :0@0 myself,master - 0 0 1 connected 0-16383\n");
    has_addr(m, A, "10.9.9.9:9999");
    slotmap_unref(&m);
    m = map_of(A " ?:7001@17001,? myself,master - 0 0 1 connected 0-16383\n");
    has_addr(m, A, "10.9.9.9:7001");
    slotmap_unref(&m);

    /* Its own line tells better than its neighbours', before or after them. */
    begin();
    add(A " 10.0.0.1:7001@1 myself,master - 0 0 1 connected 1\n" B
          " 10.0.0.9:7002@1 master - 0 0 9 connected 2\n");
    add(B " 10.0.0.2:7002@1 myself,master - 0 0 2 connected 2\n" A
          " 10.0.0.9:7001@1 master - 0 0 9 connected 1\n");
    m = cluster_builder_finish(builder, 1);
    has_addr(m, A, "10.0.0.1:7001");
    has_addr(m, B, "10.0.0.2:7002");
    slotmap_unref(&m);
}

static void test_left_out(void)
{
    struct slotmap *m = map_of(A " 127.0.0.1:7001@1 myself,master - 0 0 1 connected 0-99\n" B
                                 " 127.0.0.1:7002@1 handshake - 0 0 0 connected\n" C
                                 " :0@0 master,fail,noaddr - 0 0 3 disconnected 100-199\n" D
                                 " 127.0.0.1:7004@1 slave " C " 0 0 3 connected\n");

    CU_ASSERT_EQUAL(m->node_count, 2);
    CU_ASSERT_PTR_NULL(find(m, B));
    CU_ASSERT_PTR_NULL(find(m, C));
    CU_ASSERT_STRING_EQUAL(owner(m, 99), A);
    CU_ASSERT_STRING_EQUAL(owner(m, 100), "-");
    CU_ASSERT_PTR_NOT_NULL_FATAL(find(m, D));
    CU_ASSERT_EQUAL(find(m, D)->master, NODE_NONE);
    CU_ASSERT_FALSE(find(m, D)->is_master);
    CU_ASSERT_EQUAL(find(m, D)->epoch, 3);
    slotmap_unref(&m);
}

/* "fail" is agreed on by the cluster, "fail?" is one node's suspicion. */
static void test_failed(void)
{
    struct slotmap *m = map_of(A " 127.0.0.1:7001@1 myself,master - 0 0 1 connected 0\n" B
                                 " 127.0.0.1:7002@1 master,fail? - 0 0 2 disconnected 1\n" C
                                 " 127.0.0.1:7003@1 master,fail - 5 5 3 disconnected 2\n");

    CU_ASSERT_TRUE(find(m, A)->reachable);
    CU_ASSERT_TRUE(find(m, B)->reachable);
    CU_ASSERT_FALSE(find(m, C)->reachable);
    CU_ASSERT_STRING_EQUAL(owner(m, 2), C);
    slotmap_unref(&m);
    /* One that holds on to an old failure is outvoted. */
    begin();
    add(A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0\n" C
          " 127.0.0.1:3@1 master,fail - 0 0 3 disconnected 2\n");
    add(B " 127.0.0.1:2@1 myself,master - 0 0 2 connected 1\n" C
          " 127.0.0.1:3@1 master - 0 0 3 connected 2\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_TRUE(find(m, C)->reachable);
    slotmap_unref(&m);
}

static const char majority[] = B " 127.0.0.1:2@1 myself,master - 0 0 7 connected 0-99\n" C
                                 " 127.0.0.1:3@1 master - 0 0 2 connected 100-199\n" A
                                 " 127.0.0.1:1@1 master,fail - 0 0 1 disconnected\n";
static const char minority[] =
    A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0-99\n" B " 127.0.0.1:2@1 slave,fail? " A
      " 0 0 1 connected\n" C " 127.0.0.1:3@1 master,fail? - 0 0 2 connected 100-199\n";

/* A was cut off and its replica B elected; A still believes that it is the owner. */
static void test_partition(void)
{
    const char *const orders[2][2] = {{majority, minority}, {minority, majority}};
    struct slotmap *maps[2];

    for (size_t i = 0; i < 2; i++) {
        begin();
        add(orders[i][0]);
        add(orders[i][1]);
        maps[i] = cluster_builder_finish(builder, i);
        CU_ASSERT_STRING_EQUAL(owner(maps[i], 50), B);
        CU_ASSERT_STRING_EQUAL(owner(maps[i], 150), C);
        CU_ASSERT_TRUE(find(maps[i], B)->is_master);
        CU_ASSERT_EQUAL(find(maps[i], B)->epoch, 7);
        CU_ASSERT_FALSE(find(maps[i], A)->reachable);
        CU_ASSERT_EQUAL(find(maps[i], A)->slots, 0);
    }
    CU_ASSERT_TRUE(slotmap_same(maps[0], maps[1]));
    slotmap_unref(&maps[0]);
    slotmap_unref(&maps[1]);
}

/* A gave slot 5 to B; C has not heard of it. */
static void test_given_away(void)
{
    const char *stale = C " 127.0.0.1:3@1 myself,master - 0 0 3 connected 20\n" A
                          " 127.0.0.1:1@1 master - 0 0 9 connected 0-9\n" B
                          " 127.0.0.1:2@1 master - 0 0 2 connected 10\n";
    struct slotmap *m;

    begin();
    add(stale);
    add(A " 127.0.0.1:1@1 myself,master - 0 0 9 connected 0-4 6-9\n");
    add(B " 127.0.0.1:2@1 myself,master - 0 0 2 connected 5 10\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_STRING_EQUAL(owner(m, 5), B);
    CU_ASSERT_STRING_EQUAL(owner(m, 6), A);
    slotmap_unref(&m);
    /* Equal epochs: who speaks for itself wins over what others say of another. */
    begin();
    add(C " 127.0.0.1:3@1 myself,master - 0 0 3 connected\n" A
          " 127.0.0.1:1@1 master - 0 0 4 connected 5\n");
    add(B " 127.0.0.1:2@1 myself,master - 0 0 4 connected 5\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_STRING_EQUAL(owner(m, 5), B);
    slotmap_unref(&m);
    /* Both speak for themselves: the first. */
    begin();
    add(B " 127.0.0.1:2@1 myself,master - 0 0 4 connected 5\n");
    add(A " 127.0.0.1:1@1 myself,master - 0 0 4 connected 5\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_STRING_EQUAL(owner(m, 5), B);
    slotmap_unref(&m);
}

static const char giver[] = A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0-99 [7->-" B
                              "] [9->-" B "]\n" B " 127.0.0.1:2@1 master - 0 0 2 connected 100\n";
static const char taker[] = B " 127.0.0.1:2@1 myself,master - 0 0 2 connected 100 [7-<-" A "]\n" A
                              " 127.0.0.1:1@1 master - 0 0 1 connected 0-99\n";

static void is_move(const struct slotmap *m, uint16_t slot, const char *from, const char *to)
{
    const struct slotmap_move *mv = slotmap_find_move(m, slot);

    CU_ASSERT_PTR_NOT_NULL_FATAL(mv);
    CU_ASSERT_TRUE(slotmap_is_moving(m, slot));
    CU_ASSERT_EQUAL(mv->slot, slot);
    CU_ASSERT_STRING_EQUAL(mv->from == NODE_NONE ? "-" : m->nodes[mv->from].id, from);
    CU_ASSERT_STRING_EQUAL(mv->to == NODE_NONE ? "-" : m->nodes[mv->to].id, to);
}

static void test_moves(void)
{
    struct slotmap *m;

    begin();
    add(giver);
    add(taker);
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_EQUAL(m->move_count, 2);
    is_move(m, 7, A, B);
    is_move(m, 9, A, B);
    CU_ASSERT_PTR_NULL(slotmap_find_move(m, 8));
    CU_ASSERT_FALSE(slotmap_is_moving(m, 8));
    CU_ASSERT_STRING_EQUAL(owner(m, 7), A);
    slotmap_unref(&m);
    m = map_of(taker);
    CU_ASSERT_EQUAL(m->move_count, 1);
    is_move(m, 7, A, B);
    slotmap_unref(&m);
    m = map_of(A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 7 [7->-" D "]\n");
    is_move(m, 7, A, "-");
    slotmap_unref(&m);
    /* Asked again, the later answer stands. */
    begin();
    add(giver);
    add(A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0-99 [9->-" B "]\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_EQUAL(m->move_count, 1);
    is_move(m, 9, A, B);
    slotmap_unref(&m);
}

static void test_old_moves(void)
{
    struct slotmap *m;

    /* B has the slot already; A's word is old. */
    begin();
    add(giver);
    add(B " 127.0.0.1:2@1 myself,master - 0 0 5 connected 7 100\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_STRING_EQUAL(owner(m, 7), B);
    CU_ASSERT_EQUAL(m->move_count, 1);
    is_move(m, 9, A, B);
    slotmap_unref(&m);
    /* The giver failed over to C in the middle; the taker still names A. */
    begin();
    add(taker);
    add(C " 127.0.0.1:3@1 myself,master - 0 0 8 connected 0-99\n" A " 127.0.0.1:1@1 slave " C
          " 0 0 8 connected\n");
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_EQUAL(m->move_count, 1);
    is_move(m, 7, C, B);
    slotmap_unref(&m);
}

static void test_garbage(void)
{
    static const char *const bad[] = {
        "",
        "\n\n",
        "OK",
        "-ERR This instance has cluster support disabled",
        A,
        A " 127.0.0.1:1@1 master - 0 0 1 connected 0\n", /* nobody speaks for itself */
        A " 127.0.0.1:1@1 myself,master - 0 0 1\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 16384\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 5-3\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 5-\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected -5\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 5 0-9\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected x\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected [5->-" B "\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected [5-" B "]\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected [5->-]\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected [\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected []\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected [5->-" B "] [5-<-" B "]\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 perhaps\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 x connected\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 99999999999999999999 connected\n",
        A " 127.0.0.1:1@1 myself,master - x 0 1 connected\n",
        A " 127.0.0.1:1@1 myself,master ! 0 0 1 connected\n",
        A " 127.0.0.1:1@1 myself,master,slave - 0 0 1 connected\n",
        A " 127.0.0.1:1@1 myself - 0 0 1 connected\n",
        A " 127.0.0.1:1@1 myself,handshake,master - 0 0 1 connected\n",
        A " 127.0.0.1:1@1 MYSELF,master - 0 0 1 connected\n",
        A " 127.0.0.1:x@1 myself,master - 0 0 1 connected\n",
        A " 127.0.0.1:65536@1 myself,master - 0 0 1 connected\n",
        A " 127.0.0.1 myself,master - 0 0 1 connected\n",
        A " a[b:1@1 myself,master - 0 0 1 connected\n",
        A "a 127.0.0.1:1@1 myself,master - 0 0 1 connected\n",
        " 127.0.0.1:1@1 myself,master - 0 0 1 connected\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0\n" B
          " 127.0.0.1:2@1 master - 0 0 1 connected 0\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0\n" B
          " 127.0.0.1:2@1 myself,master - 0 0 1 connected 1\n",
        A " 127.0.0.1:1@1 myself,master - 0 0 1 connected 0\n" B
          " 127.0.0.1:2@1 master - 0 0 1 connected [1->-" A "]\n",
    };
    struct slotmap *before, *after;

    begin();
    add(majority);
    before = cluster_builder_finish(builder, 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (add_from("127.0.0.1:1", bad[i])) {
            printf("accepted: %s\n", bad[i]);
            CU_FAIL("garbage was accepted");
        }
        CU_ASSERT(strlen(err) > 10);
    }
    after = cluster_builder_finish(builder, 1);
    CU_ASSERT_TRUE(slotmap_same(before, after));
    slotmap_unref(&before);
    slotmap_unref(&after);
}

/* Every prefix of a good text is either refused or a map of whole lines; nothing is read beyond. */
static void test_prefixes(void)
{
    size_t accepted = 0;
    struct addr a;

    CU_ASSERT_FATAL(addr_parse("h:1", 3, &a));
    for (size_t len = 0; len < sizeof(giver); len++) {
        char *text = xmalloc(len);

        memcpy(text, giver, len);
        begin();
        accepted += cluster_builder_add(builder, &a, text, len, err, sizeof(err));
        free(text);
    }
    CU_ASSERT(accepted > 5 && accepted < sizeof(giver) / 2);
}

static void test_bounds(void)
{
    size_t cap = NODES_TEXT_MAX + 2, n;
    char *text = xmalloc(cap);
    struct addr a;
    struct slotmap *m;

    CU_ASSERT_FATAL(addr_parse("h:1", 3, &a));
    begin();
    n = (size_t)snprintf(text, cap, A " h:1@1 myself,master - 0 0 1 connected 0\n");
    for (unsigned i = 1; i < NODES_MAX; i++)
        n += (size_t)snprintf(text + n, cap - n, "%08x h:%u@1 master - 0 0 1 connected %u\n", i,
                              i + 1, i);
    CU_ASSERT_TRUE(cluster_builder_add(builder, &a, text, n, err, sizeof(err)));
    m = cluster_builder_finish(builder, 1);
    CU_ASSERT_EQUAL(m->node_count, NODES_MAX);
    CU_ASSERT_STRING_EQUAL(owner(m, 16383), "00003fff");
    slotmap_unref(&m);
    /* One more node in another answer, one more line in one answer, one byte too many. */
    CU_ASSERT_FALSE(add_from("h:1", B " h:1@1 myself,master - 0 0 1 connected\n"));
    n += (size_t)snprintf(text + n, cap - n, "ffffffff h:1@1 master - 0 0 1 connected\n");
    begin();
    CU_ASSERT_FALSE(cluster_builder_add(builder, &a, text, n, err, sizeof(err)));
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "too many nodes"));
    memset(text, '\n', cap);
    n = (size_t)snprintf(text, cap, A " h:1@1 myself,master - 0 0 1 connected 0");
    text[n] = '\n';
    CU_ASSERT_TRUE(cluster_builder_add(builder, &a, text, NODES_TEXT_MAX, err, sizeof(err)));
    CU_ASSERT_FALSE(cluster_builder_add(builder, &a, text, NODES_TEXT_MAX + 1, err, sizeof(err)));
    free(text);
}

static void test_nothing(void)
{
    struct slotmap *m;

    begin();
    m = cluster_builder_finish(builder, 3);
    CU_ASSERT_EQUAL(m->node_count, 0);
    CU_ASSERT_EQUAL(slotmap_range_end(m, 0), 16383);
    CU_ASSERT_STRING_EQUAL(owner(m, 0), "-");
    slotmap_unref(&m);
}

static int teardown(void)
{
    cluster_builder_free(&builder);
    return 0;
}

void suite_cluster(void)
{
    CU_pSuite s = CU_add_suite("cluster", NULL, teardown);

    CU_add_test(s, "a plain answer", test_plain);
    CU_add_test(s, "addresses", test_addresses);
    CU_add_test(s, "nodes that are left out", test_left_out);
    CU_add_test(s, "failed nodes", test_failed);
    CU_add_test(s, "a partition", test_partition);
    CU_add_test(s, "a slot given away", test_given_away);
    CU_add_test(s, "moves", test_moves);
    CU_add_test(s, "old moves", test_old_moves);
    CU_add_test(s, "garbage", test_garbage);
    CU_add_test(s, "prefixes", test_prefixes);
    CU_add_test(s, "bounds", test_bounds);
    CU_add_test(s, "no answer", test_nothing);
}
