/* Discovery against servers that say what the test wants: seeds, rounds of questions, bad answers.
 * Masters that die or fall silent are in test_discovery_failover.c, real servers in
 * test_discovery_redis.c. */
#include <CUnit/CUnit.h>

#include "fake_cluster.h"

static void test_learns_all_from_one_seed(void)
{
    struct fakes f;
    struct watch w;

    start_four(&f, &w);
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_covers_all, NULL, NULL));
    CU_ASSERT_TRUE(
        watch_wait(&w, 0, map_owner_is, &(struct slot_owner){5001, f.node[1].port}, NULL));
    usleep(100 * 1000);
    /* The nodes the seed named were asked in the same round, once, on a connection with a name. */
    for (size_t i = 0; i < 4; i++) {
        struct fake_counts n = fake_counts(&f, i);

        CU_ASSERT_EQUAL(n.asked_nodes, 1);
        CU_ASSERT_EQUAL(n.accepted, 1);
        CU_ASSERT_EQUAL(n.named, 1);
    }
    CU_ASSERT_EQUAL(fake_counts(&f, 4).accepted, 0);
    CU_ASSERT_EQUAL(watch_count(&w), 1);
    stop(&f, &w);
}

static void test_seed_comes_up_late(void)
{
    struct fakes f;
    struct watch w;
    uint64_t up_us, at_us = 0;

    start_four(&f, &w);
    fake_set_up(&f, 0, false);
    watch_start(&w);
    usleep(700 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), 0);
    up_us = clock_us();
    fake_set_up(&f, 0, true);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, &at_us));
    CU_ASSERT_TRUE(at_us - up_us < 400 * 1000);
    stop(&f, &w);
}

static void test_seed_by_name(void)
{
    struct fakes f;
    struct watch w;
    char text[64];
    const char *seeds[] = {"no-such-name.invalid:1", text, NULL};

    fakes_start(&f, 4);
    tell_all(&f, four, ARRAY_LEN(four));
    seed_text(&f, 2, "localhost", text);
    watch_prepare(&w, seeds);
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 8000, map_has_nodes, &four_nodes, NULL));
    stop(&f, &w);
}

static void test_wishes_are_bounded_and_answered(void)
{
    struct fakes f;
    struct watch w;
    unsigned before, maps;
    uint64_t end;

    start_four(&f, &w);
    w.config->topology.refresh_ms = 300;
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    /* Nothing changes: periodic refreshes publish nothing. */
    usleep(1500 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), 1);
    before = fake_counts(&f, 1).asked_nodes;
    CU_ASSERT_TRUE(before >= 4 && before <= 8);
    for (end = clock_ms() + 2000; clock_ms() < end; usleep(100))
        discovery_want_refresh(w.discovery, 0);
    usleep(300 * 1000);
    maps = watch_count(&w);
    CU_ASSERT_TRUE(fake_counts(&f, 1).asked_nodes - before <= 14);
    CU_ASSERT_TRUE(fake_counts(&f, 1).asked_nodes - before >= 9);
    /* Each round that was wished for made a map, though the same one. */
    CU_ASSERT_TRUE(maps >= 9 && maps <= 14);
    stop(&f, &w);
}

static void test_falls_back_to_seeds(void)
{
    struct fakes f;
    struct watch w;
    const struct line moved_away[] = {{4, -1, 1, false, "0-16383"}};
    const size_t one = 1;

    /* The seed is a name that leads elsewhere later: here, a port where another node answers. */
    fakes_start(&f, 5);
    tell_all(&f, four, ARRAY_LEN(four));
    fake_set_raw(&f, 4, NULL);
    tell(&f, 4, four, 0);
    prepare(&w, &f, 4);
    {
        /* The seed tells of the others, itself a replica. */
        struct line five[ARRAY_LEN(four) + 1];

        memcpy(five, four, sizeof(four));
        five[4] = (struct line){4, 1, 2, false, ""};
        tell_all(&f, five, ARRAY_LEN(five));
    }
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_covers_all, NULL, NULL));
    usleep(200 * 1000);
    for (size_t i = 0; i < 5; i++)
        fake_set_up(&f, i, false);
    usleep(600 * 1000);
    tell(&f, 4, moved_away, 1);
    fake_set_up(&f, 4, true);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_has_nodes, &one, NULL));
    stop(&f, &w);
}

static void test_survives_bad_answers(void)
{
    static const char *const bad[] = {
        "-NOAUTH Authentication required.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-ERR This instance has cluster support disabled\r\n",
        "+OK\r\n",
        ":5\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$5\r\nhello\r\n",
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "%1\r\n+a\r\n+b\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$9999999999\r\n",
        "$20\r\nhalf an",
        "$-7\r\n",
        "+OK\r\n+OK\r\n+one too many\r\n",
    };
    struct fakes f;
    struct watch w;

    start_four(&f, &w);
    w.config->topology.refresh_per_s = 100;
    w.config->topology.query_timeout_ms = 100;
    fake_set_raw(&f, 0, bad[0]);
    watch_start(&w);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fake_set_raw(&f, 0, bad[i]);
        usleep(150 * 1000);
        CU_ASSERT_EQUAL(watch_count(&w), 0);
    }
    tell(&f, 0, four, ARRAY_LEN(four));
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_has_nodes, &four_nodes, NULL));
    /* One bad node among good ones changes nothing. */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        unsigned before = watch_count(&w);

        fake_set_raw(&f, 1, bad[i]);
        discovery_want_refresh(w.discovery, 0);
        for (int k = 0; k < 3000 && watch_count(&w) == before; k++)
            usleep(1000);
        CU_ASSERT_TRUE(watch_count(&w) > before);
        CU_ASSERT_TRUE(watch_wait(&w, 0, map_covers_all, NULL, NULL));
    }
    stop(&f, &w);
}

/* Every slot a range of its own: the longest answer that a cluster of this size can give. */
static void test_fragmented_map(void)
{
    char *slots[2], *text = xcalloc(1, 400 * 1000);
    struct fakes f;
    struct watch w;
    struct slot_owner even, odd;

    fakes_start(&f, 2);
    for (int node = 0; node < 2; node++) {
        size_t n = 0;

        slots[node] = xcalloc(1, 100 * 1000);
        for (int slot = node; slot < SLOT_COUNT; slot += 2)
            n += (size_t)snprintf(slots[node] + n, 100 * 1000 - n, " %d", slot);
    }
    for (int node = 0; node < 2; node++) {
        char *body = xasprintf("%040d 127.0.0.1:%u@1 %smaster - 0 0 1 connected%s\n"
                               "%040d 127.0.0.1:%u@1 %smaster - 0 0 2 connected%s\n",
                               1, f.node[0].port, node == 0 ? "myself," : "", slots[0], 2,
                               f.node[1].port, node == 1 ? "myself," : "", slots[1]);

        snprintf(text, 400 * 1000, "$%zu\r\n%s\r\n", strlen(body), body);
        fake_set_raw(&f, (size_t)node, text);
        free(body);
    }
    prepare(&w, &f, 1);
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 2000, map_covers_all, NULL, NULL));
    even = (struct slot_owner){16382, f.node[0].port};
    odd = (struct slot_owner){16383, f.node[1].port};
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_owner_is, &even, NULL));
    CU_ASSERT_TRUE(watch_wait(&w, 0, map_owner_is, &odd, NULL));
    stop(&f, &w);
    free(slots[0]);
    free(slots[1]);
    free(text);
}

/* Lines of the file that have the text. */
static unsigned count_lines(const char *path, const char *text)
{
    FILE *in = fopen(path, "r");
    char line[1000];
    unsigned n = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    while (fgets(line, sizeof(line), in) != NULL)
        n += strstr(line, text) != NULL;
    fclose(in);
    return n;
}

static void test_complains_once(void)
{
    char path[] = "/tmp/keyway-discovery-XXXXXX";
    int fd = mkstemp(path);
    struct fakes f;
    struct watch w;

    /* A call site prints so many lines a second, and earlier tests may have used them up. */
    usleep(1100 * 1000);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_TRUE_FATAL(log_open(path));
    start_four(&f, &w);
    w.config->topology.refresh_ms = 50;
    w.config->topology.refresh_per_s = 20;
    fake_set_raw(&f, 2, "-LOADING wait\r\n");
    watch_start(&w);
    for (int k = 0; k < 500 && fake_counts(&f, 2).asked_nodes <= 8; k++)
        usleep(10 * 1000);
    CU_ASSERT_TRUE(fake_counts(&f, 2).asked_nodes > 8);
    fake_set_raw(&f, 2, "-NOAUTH no\r\n");
    usleep(300 * 1000);
    tell(&f, 2, four, ARRAY_LEN(four));
    usleep(300 * 1000);
    CU_ASSERT_EQUAL(count_lines(path, "LOADING wait"), 1);
    CU_ASSERT_EQUAL(count_lines(path, "NOAUTH no"), 1);
    CU_ASSERT_EQUAL(count_lines(path, "answers again"), 1);
    stop(&f, &w);
    CU_ASSERT_TRUE(log_open(NULL));
    unlink(path);
    close(fd);
}

static void test_password(void)
{
    struct fakes f;
    struct watch w;

    start_four(&f, &w);
    pthread_mutex_lock(&f.lock);
    for (size_t i = 0; i < 4; i++)
        f.node[i].password = "s3cret";
    pthread_mutex_unlock(&f.lock);
    w.config->upstreams[0].user = xstrdup("someone");
    w.config->upstreams[0].password = xstrdup("wrong");
    watch_start(&w);
    usleep(400 * 1000);
    CU_ASSERT_EQUAL(watch_count(&w), 0);
    discovery_stop(&w.discovery);
    free(w.config->upstreams[0].password);
    w.config->upstreams[0].password = xstrdup("s3cret");
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    stop(&f, &w);
}

static void test_closes_what_is_gone(void)
{
    struct fakes f;
    struct watch w;
    const struct line three[] = {
        {0, -1, 8, false, "0-5000 10001-16383"},
        {1, -1, 2, false, "5001-10000"},
        {3, 0, 8, false, ""},
    };
    const size_t left = 3;
    unsigned asked;

    start_four(&f, &w);
    watch_start(&w);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &four_nodes, NULL));
    usleep(250 * 1000);
    tell_all(&f, three, ARRAY_LEN(three));
    fake_set_raw(&f, 2, NULL);
    discovery_want_refresh(w.discovery, 0);
    CU_ASSERT_TRUE(watch_wait(&w, 1000, map_has_nodes, &left, NULL));
    usleep(600 * 1000); /* its question times out */
    asked = fake_counts(&f, 2).asked_nodes;
    discovery_want_refresh(w.discovery, 0);
    usleep(300 * 1000);
    CU_ASSERT_EQUAL(fake_counts(&f, 2).asked_nodes, asked);
    stop(&f, &w);
}

static void test_stops_at_any_time(void)
{
    struct fakes f;
    struct watch w;

    for (useconds_t us = 0; us < 60000; us = us * 2 + 100) {
        start_four(&f, &w);
        watch_start(&w);
        usleep(us);
        discovery_want_refresh(w.discovery, 0);
        stop(&f, &w);
    }
    CU_PASS("no leak, no race: the sanitizers tell");
}

void suite_discovery(void)
{
    CU_pSuite s = CU_add_suite("discovery", NULL, NULL);

    log_set_level(LOG_DEBUG);
    CU_ADD_TEST(s, test_learns_all_from_one_seed);
    CU_ADD_TEST(s, test_seed_comes_up_late);
    CU_ADD_TEST(s, test_seed_by_name);
    CU_ADD_TEST(s, test_wishes_are_bounded_and_answered);
    CU_ADD_TEST(s, test_falls_back_to_seeds);
    CU_ADD_TEST(s, test_survives_bad_answers);
    CU_ADD_TEST(s, test_fragmented_map);
    CU_ADD_TEST(s, test_complains_once);
    CU_ADD_TEST(s, test_password);
    CU_ADD_TEST(s, test_closes_what_is_gone);
    CU_ADD_TEST(s, test_stops_at_any_time);
}
