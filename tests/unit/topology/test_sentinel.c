#include "topology/sentinel.h"

#include <CUnit/Basic.h>

static struct sentinel_text text(const char *s)
{
    return (struct sentinel_text){s, strlen(s)};
}

static bool event(const char *channel, const char *message, struct sentinel_event *e)
{
    return sentinel_read_event(text(channel), text(message), e);
}

static void is_addr(const struct addr *a, const char *expected)
{
    char out[ADDR_TEXT_MAX];

    CU_ASSERT_STRING_EQUAL(addr_format(a, out), expected);
}

static void test_events(void)
{
    struct sentinel_event e;

    CU_ASSERT(event("+selected-slave",
                    "slave 127.0.0.1:6381 127.0.0.1 6381 @ mymaster 127.0.0.1 6380", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_SELECTED);
    CU_ASSERT_STRING_EQUAL(e.master, "mymaster");
    is_addr(&e.from, "127.0.0.1:6380");
    is_addr(&e.to, "127.0.0.1:6381");

    CU_ASSERT(event("+switch-master", "m fd01::1 6380 host.example 6381", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_SWITCHED);
    CU_ASSERT_STRING_EQUAL(e.master, "m");
    is_addr(&e.from, "[fd01::1]:6380");
    is_addr(&e.to, "host.example:6381");

    CU_ASSERT(event("-failover-abort-no-good-slave", "master m 10.0.0.1 1", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_ABORTED);
    CU_ASSERT_STRING_EQUAL(e.master, "m");
    CU_ASSERT(event("+monitor", "master m 10.0.0.1 1 quorum 2", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_NEWS);
    CU_ASSERT(event("+sentinel", "sentinel 65f0 10.0.0.2 2 @ m 10.0.0.1 1", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_NEWS);
    CU_ASSERT_STRING_EQUAL(e.master, "m");
    CU_ASSERT(event("+tilt-like", "master m 10.0.0.1 1", &e));
    CU_ASSERT_EQUAL(e.kind, SENTINEL_EVENT_OTHER);
}

static void test_bad_events(void)
{
    struct sentinel_event e;
    char long_name[400];

    CU_ASSERT_FALSE(event("+selected-slave", "", &e));
    CU_ASSERT_FALSE(event("+selected-slave", "slave x 10.0.0.1 1 @ m 10.0.0.2", &e));
    CU_ASSERT_FALSE(event("+selected-slave", "slave x 10.0.0.1 1 m 10.0.0.2 2 3", &e));
    CU_ASSERT_FALSE(event("+selected-slave", "slave x 10.0.0.1 0 @ m 10.0.0.2 2", &e));
    /* A master alone names nobody who could take its place. */
    CU_ASSERT_FALSE(event("+selected-slave", "master m 10.0.0.2 2", &e));
    CU_ASSERT_FALSE(event("+switch-master", "m 10.0.0.1 1 10.0.0.2", &e));
    CU_ASSERT_FALSE(event("+switch-master", "m 10.0.0.1 1 10.0.0.2 65536", &e));
    CU_ASSERT_FALSE(event("+switch-master", "m /tmp/a 1 10.0.0.2 2", &e));
    CU_ASSERT_FALSE(event("+new-epoch", "7", &e));
    memset(long_name, 'n', sizeof(long_name));
    snprintf(long_name + 300, 100, " 10.0.0.1 1 10.0.0.2 2");
    CU_ASSERT(event("+switch-master", long_name, &e));
    CU_ASSERT_EQUAL(strlen(e.master), SENTINEL_NAME_MAX);
}

static void test_instances(void)
{
    const char *words[] = {
        "name",         "mymaster",     "ip", "127.0.0.1",        "port",  "6380", "flags",
        "slave,s_down", "config-epoch", "7",  "failover-timeout", "60000", "odd"};
    struct sentinel_text fields[ARRAY_LEN(words)];
    struct sentinel_instance m;

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        fields[i] = text(words[i]);
    CU_ASSERT(sentinel_read_instance(fields, ARRAY_LEN(fields), &m));
    CU_ASSERT_STRING_EQUAL(m.name, "mymaster");
    is_addr(&m.addr, "127.0.0.1:6380");
    CU_ASSERT_EQUAL(m.config_epoch, 7);
    CU_ASSERT_EQUAL(m.failover_timeout_ms, 60000);
    CU_ASSERT_TRUE(m.down);
    fields[7] = text("slave,s_downs,xo_down");
    CU_ASSERT(sentinel_read_instance(fields, ARRAY_LEN(fields), &m));
    CU_ASSERT_FALSE(m.down);
    fields[9] = text("-7");
    CU_ASSERT(sentinel_read_instance(fields, ARRAY_LEN(fields), &m));
    CU_ASSERT_EQUAL(m.config_epoch, 0);
    /* A replica whose address is not known yet. */
    fields[3] = text("");
    CU_ASSERT_FALSE(sentinel_read_instance(fields, ARRAY_LEN(fields), &m));
    CU_ASSERT_FALSE(sentinel_read_instance(fields, 0, &m));
}

void suite_sentinel(void)
{
    CU_pSuite s = CU_add_suite("sentinel", NULL, NULL);

    CU_add_test(s, "events", test_events);
    CU_add_test(s, "bad events", test_bad_events);
    CU_add_test(s, "descriptions", test_instances);
}
