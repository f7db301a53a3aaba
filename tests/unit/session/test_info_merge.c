#include "session/info_merge.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

static struct info_text *t;

static void begin(void)
{
    if (t != NULL)
        info_text_free(&t);
    t = info_text_new();
}

static void add(const char *text)
{
    info_text_add(t, text, strlen(text));
}

/* Two servers' texts of one section, merged. */
static void merge(const char *section, const char *a, const char *b)
{
    char *one = xasprintf("# %s\r\n%s\r\n", section, a);
    char *two = xasprintf("# %s\r\n%s\r\n", section, b);

    begin();
    add(one);
    add(two);
    info_text_derive(t);
    free(one);
    free(two);
}

static void expect(const char *section, const char *field, const char *value)
{
    const char *got = info_text_get(t, section, field);

    if (got == NULL || strcmp(got, value) != 0)
        printf("%s: %s is %s, expected %s\n", section, field, got != NULL ? got : "(none)", value);
    CU_ASSERT(got != NULL && strcmp(got, value) == 0);
}

/* A field of two servers. */
static void merged(const char *section, const char *field, const char *a, const char *b,
                   const char *value)
{
    char *one = xasprintf("%s:%s", field, a), *two = xasprintf("%s:%s", field, b);

    merge(section, one, two);
    expect(section, field, value);
    free(one);
    free(two);
}

static void expect_text(const char *text)
{
    size_t len;
    char *got = info_text_write(t, &len);

    CU_ASSERT_EQUAL(len, strlen(text));
    if (strcmp(got, text) != 0)
        printf("got\n%s\nexpected\n%s\n", got, text);
    CU_ASSERT_STRING_EQUAL(got, text);
    free(got);
}

static void test_one_server_is_unchanged(void)
{
    static const char text[] = "# Server\r\nredis_version:7.0.15\r\nexecutable:/a:b\r\nempty:\r\n"
                               "\r\n# Memory\r\nused_memory:10\r\nused_memory_human:odd\r\n"
                               "mem_fragmentation_ratio:13.29\r\nused_memory_peak_perc:99.7%\r\n"
                               "\r\n# Modules\r\n\r\n# Keyspace\r\n"
                               "db0:keys=1,expires=0,avg_ttl=0\r\n";

    begin();
    add(text);
    info_text_derive(t);
    expect_text(text);
}

static void test_counters_are_added(void)
{
    merged("Stats", "total_commands_processed", "1", "41", "42");
    merged("Stats", "instantaneous_input_kbps", "0.03", "1.99", "2.02");
    merged("Stats", "keyspace_hits", "9223372036854775807", "1", "9223372036854775807");
    merged("Clients", "blocked_clients", "0", "0", "0");
    merged("CPU", "used_cpu_sys", "0.007594", "1.000001", "1.007595");
    merged("Memory", "used_memory", "1000000000000", "1", "1000000000001");
    /* Equal values are added like any others. */
    merged("Stats", "expired_keys", "5", "5", "10");
}

static void test_not_sums(void)
{
    merged("Persistence", "loading", "0", "1", "1");
    merged("Persistence", "loading", "1", "0", "1");
    merged("Persistence", "rdb_last_save_time", "200", "100", "100");
    merged("Persistence", "rdb_last_bgsave_time_sec", "-1", "-1", "-1");
    merged("Persistence", "rdb_last_bgsave_status", "ok", "err", "err");
    merged("Persistence", "rdb_last_bgsave_status", "err", "ok", "err");
    merged("Persistence", "aof_enabled", "1", "1", "1");
    merged("Stats", "latest_fork_usec", "70", "900", "900");
    merged("Stats", "expired_stale_perc", "0.50", "2.25", "2.25");
    merged("Memory", "maxmemory", "100", "50", "150");
    merged("Memory", "maxmemory", "100", "0", "0");
    merged("Memory", "maxmemory_policy", "noeviction", "allkeys-lru", "noeviction");
    merged("Memory", "number_of_cached_scripts", "3", "2", "3");
    merged("Server", "hz", "10", "10", "10");
    merged("Server", "run_id", "aa", "bb", "aa");
    merged("Server", "redis_version", "7.0.15", "7.0.9", "7.0.9");
    merged("Server", "redis_version", "6.2.14", "7.0.9", "6.2.14");
    merged("Server", "redis_version", "10.0.0", "7.2.4", "7.2.4");
    /* What is not known may be anything. */
    merged("Someones_module", "some_number", "7", "8", "7");
}

static void test_lists(void)
{
    merged("Keyspace", "db0", "keys=3,expires=1,avg_ttl=900", "keys=4,expires=3,avg_ttl=100",
           "keys=7,expires=4,avg_ttl=300");
    merged("Keyspace", "db0", "keys=3,expires=0,avg_ttl=0", "keys=4,expires=0,avg_ttl=0",
           "keys=7,expires=0,avg_ttl=0");
    merged("Keyspace", "db0", "keys=3,expires=0,avg_ttl=0",
           "keys=4,expires=0,avg_ttl=0,subexpiry=2", "keys=7,expires=0,avg_ttl=0,subexpiry=2");
    merged("Commandstats", "cmdstat_get",
           "calls=1,usec=8,usec_per_call=8.00,rejected_calls=0,failed_calls=1",
           "calls=3,usec=2,usec_per_call=0.67,rejected_calls=2,failed_calls=0",
           "calls=4,usec=10,usec_per_call=2.50,rejected_calls=2,failed_calls=1");
    merged("Errorstats", "errorstat_ERR", "count=1", "count=2", "count=3");
    merged("Latencystats", "latency_percentiles_usec_get", "p50=2.007,p99=9.001,p99.9=1.0",
           "p50=8.031,p99=3.000,p99.9=2.0", "p50=8.031,p99=9.001,p99.9=2.0");
}

static void test_derived(void)
{
    merge("Memory",
          "used_memory:1048576\r\nused_memory_human:1.00M\r\nused_memory_rss:2097152\r\n"
          "used_memory_peak:2000000\r\nused_memory_peak_perc:52.43%\r\n"
          "used_memory_startup:48576\r\nused_memory_dataset:500000\r\n"
          "used_memory_dataset_perc:50.00%\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\n"
          "mem_fragmentation_ratio:2.00\r\nallocator_active:0\r\nallocator_allocated:0\r\n"
          "allocator_frag_ratio:1.00",
          "used_memory:524288\r\nused_memory_human:512.00K\r\nused_memory_rss:4194304\r\n"
          "used_memory_peak:1145728\r\nused_memory_peak_perc:45.76%\r\n"
          "used_memory_startup:24288\r\nused_memory_dataset:250000\r\n"
          "used_memory_dataset_perc:50.00%\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\n"
          "mem_fragmentation_ratio:8.00\r\nallocator_active:0\r\nallocator_allocated:0\r\n"
          "allocator_frag_ratio:1.00");
    expect("Memory", "used_memory_human", "1.50M");
    expect("Memory", "used_memory_peak_perc", "50.00%");
    expect("Memory", "used_memory_dataset_perc", "50.00%");
    expect("Memory", "maxmemory_human", "0B");
    expect("Memory", "mem_fragmentation_ratio", "4.00");
}

static void test_order_and_what_only_some_have(void)
{
    begin();
    add("# A\r\na1:x\r\na3:x\r\n\r\n# C\r\nc:1\r\n");
    add("# A\r\na1:x\r\na2:y\r\na3:x\r\na4:z\r\n\r\n# B\r\nb:1\r\n\r\n# C\r\nc:1\r\n");
    add("# C\r\nc:1\r\nlast:1\r\n");
    expect_text("# A\r\na1:x\r\na2:y\r\na3:x\r\na4:z\r\n\r\n# B\r\nb:1\r\n\r\n"
                "# C\r\nc:1\r\nlast:1\r\n");
    /* A master that has not seen a command yet adds nothing to it. */
    merge("Commandstats", "cmdstat_get:calls=1,usec=8,usec_per_call=8.00",
          "cmdstat_set:calls=2,usec=8,usec_per_call=4.00");
    expect("Commandstats", "cmdstat_get", "calls=1,usec=8,usec_per_call=8.00");
    expect("Commandstats", "cmdstat_set", "calls=2,usec=8,usec_per_call=4.00");
    /* Names differ by case: errors that scripts make up. */
    merge("Errorstats", "errorstat_ERR:count=1", "errorstat_Err:count=5");
    expect("Errorstats", "errorstat_ERR", "count=1");
    expect("Errorstats", "errorstat_Err", "count=5");
}

static void test_repeated_names(void)
{
    begin();
    add("# Modules\r\nmodule:name=a,ver=1\r\nmodule:name=b,ver=1\r\n");
    add("# Modules\r\nmodule:name=a,ver=1\r\nmodule:name=b,ver=1\r\n");
    expect_text("# Modules\r\nmodule:name=a,ver=1\r\nmodule:name=b,ver=1\r\n");
}

static void test_one_servers_own_facts(void)
{
    begin();
    add("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"
        "slave0:ip=127.0.0.1,port=1,state=online\r\nmaster_replid:ab\r\n");
    add("# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:1\r\n"
        "master_link_status:up\r\nslave_read_only:1\r\nconnected_slaves:0\r\n");
    expect_text("# Replication\r\nrole:master\r\nconnected_slaves:1\r\nmaster_replid:ab\r\n");
    begin();
    add("# Server\r\ntcp_port:1\r\nlistener0:name=tcp,port=1\r\nlistener1:name=unix\r\n");
    expect_text("# Server\r\ntcp_port:1\r\n");
}

static void test_set(void)
{
    begin();
    add("# Server\r\na:1\r\nb:2\r\n\r\n# Stats\r\nc:1\r\n");
    info_text_set(t, "Server", "a", "%s-%d", "new", 7);
    info_text_set(t, "server", "z", "added");
    info_text_set(t, "Keyway", "k", "1");
    expect_text("# Server\r\na:new-7\r\nb:2\r\nz:added\r\n\r\n# Stats\r\nc:1\r\n\r\n"
                "# Keyway\r\nk:1\r\n");
    CU_ASSERT_PTR_NULL(info_text_get(t, "Server", "c"));
    CU_ASSERT_PTR_NULL(info_text_get(t, "Nothing", "a"));
}

static void test_odd_texts(void)
{
    begin();
    add("");
    expect_text("");
    add("no section:1\r\nno colon\r\n#\r\n# \r\n");
    expect_text("");
    add("# Stats\nunix_lines:1\nno colon\nlast:2");
    expect_text("# Stats\r\nunix_lines:1\r\nlast:2\r\n");
    /* Values that only look like numbers or lists stay as they are. */
    merged("Stats", "v", "1.2.3", "1", "1.2.3");
    merged("Stats", "v", "", "1", "");
    merged("Stats", "v", "--1", "1", "--1");
    merged("Stats", "v", "a=1,b", "a=1,b", "a=1,b");
    merged("Stats", "v", "a=1,b=", "a=1,b=x", "a=2,b=");
    merged("Stats", "v", "=", "=", "=");
    merged("Stats", "v", "1%", "1%", "2%");
    merged("Stats", "v", "10000000000000000000", "1", "10000000000000000000");
}

static int cleanup(void)
{
    info_text_free(&t);
    return 0;
}

void suite_info_merge(void)
{
    CU_pSuite s = CU_add_suite("info_merge", NULL, cleanup);

    CU_ADD_TEST(s, test_one_server_is_unchanged);
    CU_ADD_TEST(s, test_counters_are_added);
    CU_ADD_TEST(s, test_not_sums);
    CU_ADD_TEST(s, test_lists);
    CU_ADD_TEST(s, test_derived);
    CU_ADD_TEST(s, test_order_and_what_only_some_have);
    CU_ADD_TEST(s, test_repeated_names);
    CU_ADD_TEST(s, test_one_servers_own_facts);
    CU_ADD_TEST(s, test_set);
    CU_ADD_TEST(s, test_odd_texts);
}
