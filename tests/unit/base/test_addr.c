#include "base/addr.h"

#include <CUnit/Basic.h>

static bool parse(const char *text, struct addr *out)
{
    return addr_parse(text, strlen(text), out);
}

static void expect(const char *text, const char *host, unsigned port, const char *back)
{
    struct addr a;
    char out[ADDR_TEXT_MAX];

    CU_ASSERT_FATAL(parse(text, &a));
    CU_ASSERT_STRING_EQUAL(a.host, host);
    CU_ASSERT_EQUAL(a.port, port);
    CU_ASSERT_STRING_EQUAL(addr_format(&a, out), back);
}

static void test_parse(void)
{
    expect("127.0.0.1:6379", "127.0.0.1", 6379, "127.0.0.1:6379");
    expect("redis.example:1", "redis.example", 1, "redis.example:1");
    expect("h:65535", "h", 65535, "h:65535");
    expect("fd01::1:6379", "fd01::1", 6379, "[fd01::1]:6379");
    expect("[fd01::1]:6379", "fd01::1", 6379, "[fd01::1]:6379");
    expect("[fe80::1%eth0]:7", "fe80::1%eth0", 7, "[fe80::1%eth0]:7");
    expect("/run/redis.sock", "/run/redis.sock", 0, "/run/redis.sock");
    expect("/run/a:1.sock", "/run/a:1.sock", 0, "/run/a:1.sock");
}

static void test_refuse(void)
{
    static const char *const bad[] = {
        "",      "host",  "host:",      ":6379", "[]:6379",  "host:0",     "host:65536",
        "h:+1",  "h: 1",  "h:1 ",       "h:1x",  "h:000001", "[fd01::1]",  "fd01::1]:1",
        "a b:1", "a\n:1", "[fd01::1:1", "h:-1",  "[a]b]:1",  "h:99999999", "[",
        ":",     "[:1",   "a/b:1",      "h@1:1",
    };
    struct addr a;
    char text[600];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse(bad[i], &a)) {
            printf("accepted: %s\n", bad[i]);
            CU_FAIL("a bad address was accepted");
        }
    CU_ASSERT_FALSE(addr_parse("a\0b:1", 5, &a));
    /* The length given counts, not a NUL: the bytes behind it are not read. */
    CU_ASSERT_TRUE_FATAL(addr_parse("h:123", 4, &a));
    CU_ASSERT_EQUAL(a.port, 12);
    memset(text, 'x', sizeof(text));
    memcpy(text + ADDR_HOST_MAX, ":1", 3);
    CU_ASSERT_TRUE(parse(text, &a));
    memset(text, 'x', sizeof(text));
    memcpy(text + ADDR_HOST_MAX + 1, ":1", 3);
    CU_ASSERT_FALSE(parse(text, &a));
    text[0] = '/';
    text[107] = '\0';
    CU_ASSERT_TRUE(parse(text, &a));
    text[107] = 'x';
    text[108] = '\0';
    CU_ASSERT_FALSE(parse(text, &a));
}

static void test_equal(void)
{
    struct addr a, b;

    CU_ASSERT_FATAL(parse("Redis.Example:1", &a) && parse("redis.example:1", &b));
    CU_ASSERT_TRUE(addr_equal(&a, &b));
    CU_ASSERT_FATAL(parse("redis.example:2", &b));
    CU_ASSERT_FALSE(addr_equal(&a, &b));
    CU_ASSERT_FATAL(parse("redis.example.:1", &b));
    CU_ASSERT_FALSE(addr_equal(&a, &b));
    CU_ASSERT_FATAL(parse("/run/A", &a) && parse("/run/a", &b));
    CU_ASSERT_FALSE(addr_equal(&a, &b));
}

static void numeric(const char *text, int family, const char *back)
{
    struct sockaddr_any sa;
    struct addr a;
    char out[ADDR_TEXT_MAX];

    CU_ASSERT_FATAL(parse(text, &a));
    CU_ASSERT_TRUE_FATAL(addr_numeric(&a, &sa));
    CU_ASSERT_EQUAL(sa.sa.sa_family, family);
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), back);
    CU_ASSERT_TRUE(addr_resolve(&a, &sa));
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), back);
}

static void test_numeric(void)
{
    struct sockaddr_any sa;
    struct addr a;

    numeric("127.0.0.1:6379", AF_INET, "127.0.0.1:6379");
    numeric("[::1]:6379", AF_INET6, "[::1]:6379");
    numeric("fd01:0:0:0:0:0:0:1:6379", AF_INET6, "[fd01::1]:6379");
    numeric("/run/redis.sock", AF_UNIX, "/run/redis.sock:0");
    CU_ASSERT_FATAL(parse("localhost:1", &a));
    CU_ASSERT_FALSE(addr_numeric(&a, &sa));
    CU_ASSERT_FATAL(parse("127.1:1", &a));
    CU_ASSERT_FALSE(addr_numeric(&a, &sa));
    CU_ASSERT_FATAL(parse("a::b::c:1", &a));
    CU_ASSERT_FALSE(addr_numeric(&a, &sa));
}

static void test_resolve(void)
{
    struct sockaddr_any sa;
    struct addr a;
    char out[ADDR_TEXT_MAX];

    /* /etc/hosts gives localhost on any system; where it has both families, IPv4 is taken. */
    CU_ASSERT_FATAL(parse("localhost:6379", &a));
    CU_ASSERT_TRUE_FATAL(addr_resolve(&a, &sa));
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), "127.0.0.1:6379");
    CU_ASSERT_FATAL(parse("no-such-host.invalid:1", &a));
    CU_ASSERT_FALSE(addr_resolve(&a, &sa));
}

static void test_format_odd(void)
{
    struct sockaddr_any sa;
    char out[ADDR_TEXT_MAX];

    memset(&sa, 0, sizeof(sa));
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), "?:0");
    sa.un.sun_family = AF_UNIX;
    sa.len = offsetof(struct sockaddr_un, sun_path);
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), "unix:0");
    memcpy(sa.un.sun_path, "\0name", 5);
    sa.len += 5;
    CU_ASSERT_STRING_EQUAL(sockaddr_format(&sa, out), "@name:0");
    /* A path may fill its field without a NUL. */
    memset(sa.un.sun_path, '/', sizeof(sa.un.sun_path));
    sa.len = sizeof(sa.un);
    CU_ASSERT_EQUAL(strlen(sockaddr_format(&sa, out)), sizeof(sa.un.sun_path) + 2);
}

void suite_addr(void)
{
    CU_pSuite s = CU_add_suite("addr", NULL, NULL);

    CU_add_test(s, "parse and format", test_parse);
    CU_add_test(s, "refuse", test_refuse);
    CU_add_test(s, "equal", test_equal);
    CU_add_test(s, "numeric addresses", test_numeric);
    CU_add_test(s, "resolve", test_resolve);
    CU_add_test(s, "socket addresses without a name", test_format_odd);
}
