#include "command/command.h"

#include <CUnit/CUnit.h>

#include "argv_request.h"

void suite_command(void);

enum letters {
    LOWER,
    UPPER,
    MIXED
};

static const struct command *find_words(const char *words)
{
    struct argv_request q = {0};
    const struct command *c;

    argv_request_add_words(&q, words);
    c = command_find(&q.r);
    argv_request_free(&q);
    return c;
}

/* Finds a name that fills its heap block to the last byte. */
static const struct command *find_bytes(const char *p, size_t len)
{
    char *copy = xstrndup(p, len), *exact = xmalloc(len);
    struct resp_arg arg = {.off = 0, .len = (uint32_t)len};
    struct resp_request r = {.base = exact, .len = (uint32_t)len, .argc = 1, .argv = &arg};
    const struct command *c;

    memcpy(exact, copy, len);
    c = command_find(&r);
    free(copy);
    free(exact);
    return c;
}

static const char *name_of(const struct command *c)
{
    return c == NULL ? "(none)" : c->name;
}

static void check_found(const char *words, const char *name)
{
    const struct command *c = find_words(words);

    CU_ASSERT_STRING_EQUAL(name_of(c), name);
    if (strcmp(name_of(c), name) != 0)
        printf("\n  \"%s\" found %s, not %s\n", words, name_of(c), name);
}

static const struct command *row(const char *name)
{
    const struct command *c = command_find_name(name, strlen(name));

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    return c;
}

static char *with_letters(const char *name, enum letters letters)
{
    char *s = xstrdup(name);

    for (size_t i = 0; s[i] != '\0'; i++)
        if (s[i] >= 'a' && s[i] <= 'z' && (letters == UPPER || (letters == MIXED && i % 2 == 0)))
            s[i] = (char)(s[i] - 'a' + 'A');
    return s;
}

static void test_every_row_in_every_case(void)
{
    for (size_t i = 0; i < command_table_len; i++) {
        const char *name = command_table[i].name;

        CU_ASSERT_PTR_EQUAL(command_find_name(name, strlen(name)), &command_table[i]);
        for (int letters = LOWER; letters <= MIXED; letters++) {
            char *s = with_letters(name, (enum letters)letters);
            char *bar = strchr(s, '|');

            if (letters == UPPER)
                CU_ASSERT_PTR_NULL(command_find_name(s, strlen(s)));
            if (bar != NULL)
                *bar = ' ';
            CU_ASSERT_PTR_EQUAL(find_words(s), &command_table[i]);
            free(s);
        }
    }
}

/* What command_find is to answer for a single argument, without any cleverness. */
static const struct command *find_slowly(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < command_table_len; i++) {
        const char *name = command_table[i].name;
        size_t same = 0;

        if (strlen(name) != len || strchr(name, '|') != NULL)
            continue;
        while (same < len) {
            unsigned char c = p[same];

            if (c >= 'A' && c <= 'Z')
                c = (unsigned char)(c - 'A' + 'a');
            if (c != (unsigned char)name[same])
                break;
            same++;
        }
        if (same == len)
            return &command_table[i];
    }
    return NULL;
}

/* Every name with one bit of it flipped, cut short, or with any byte appended. */
static void test_neighbours_of_names(void)
{
    size_t wrong = 0, found = 0;

    for (size_t i = 0; i < command_table_len; i++) {
        size_t len = strlen(command_table[i].name);
        unsigned char s[64];

        memcpy(s, command_table[i].name, len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            s[bit / 8] ^= (unsigned char)(1U << bit % 8);
            wrong += find_bytes((char *)s, len) != find_slowly(s, len);
            found += find_bytes((char *)s, len) != NULL;
            s[bit / 8] ^= (unsigned char)(1U << bit % 8);
        }
        for (size_t n = 0; n < len; n++)
            wrong += find_bytes((char *)s, n) != find_slowly(s, n);
        for (int b = 0; b < 256; b++) {
            s[len] = (unsigned char)b;
            wrong += find_bytes((char *)s, len + 1) != find_slowly(s, len + 1);
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(found > 1000); /* flipping bit 5 of a letter changes only its case */
}

static void test_unknown_names(void)
{
    static const size_t lengths[] = {31, 32, 33, 63, 64, 65, 4096, 1 << 20};

    CU_ASSERT_PTR_NULL(find_bytes("", 0));
    CU_ASSERT_PTR_NULL(find_bytes("get\0", 4));
    CU_ASSERT_PTR_NULL(find_bytes("\0get", 4));
    CU_ASSERT_PTR_NULL(find_bytes("ge\0t", 4));
    CU_ASSERT_PTR_NULL(find_bytes("\r\n", 2));
    CU_ASSERT_PTR_NULL(find_words("nosuchcommand a b"));
    /* '{' and '[' stand beside the letters, '@' and '`' too. */
    CU_ASSERT_PTR_NULL(find_words("GEORADIUS[RO"));
    CU_ASSERT_PTR_NULL(find_words("config@get"));
    /* A subcommand's row is no command of that name. */
    CU_ASSERT_PTR_NULL(find_words("config|get x"));
    CU_ASSERT_PTR_NULL(find_words("CONFIG|GET"));
    CU_ASSERT_PTR_NULL(find_words("config| get"));
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        char *s = xmalloc(lengths[i]);

        memset(s, 'a', lengths[i]);
        CU_ASSERT_PTR_NULL(find_bytes(s, lengths[i]));
        CU_ASSERT_PTR_NULL(command_find_name(s, lengths[i]));
        free(s);
    }
}

static void test_containers(void)
{
    char huge[300] = "object ";

    check_found("object", "object");
    check_found("OBJECT encoding k", "object|encoding");
    check_found("oBjEcT EnCoDiNg k", "object|encoding");
    check_found("object help", "object|help");
    check_found("object nosuch k", "object");
    check_found("object '' k", "object");
    check_found("object encoding| k", "object");
    check_found("object |encoding k", "object");
    check_found("object object|encoding k", "object");
    check_found("cluster count-failure-reports id", "cluster|count-failure-reports");
    check_found("cluster count-failure-reportss id", "cluster");
    check_found("xgroup createconsumer k g c", "xgroup|createconsumer");
    check_found("client setinfo lib-name x", "client|setinfo");
    check_found("script load x", "script|load");
    check_found("command", "command");
    check_found("command docs", "command|docs");
    check_found("command nosuch", "command");
    memset(huge + 7, 'e', sizeof(huge) - 8);
    check_found(huge, "object");
    /* No container: what follows is an argument like any other. */
    check_found("get get", "get");
    check_found("get |", "get");
    check_found("debug object k", "debug|object");
    check_found("debug sleep 0", "debug");
    check_found("debug", "debug");
}

static void test_subcommand_is_binary_safe(void)
{
    struct argv_request q = {0};

    argv_request_add(&q, "OBJECT", 6);
    argv_request_add(&q, "freq\0", 5);
    CU_ASSERT_STRING_EQUAL(name_of(command_find(&q.r)), "object");
    argv_request_free(&q);
    argv_request_add(&q, "OBJECT", 6);
    argv_request_add(&q, "\0", 1);
    CU_ASSERT_STRING_EQUAL(name_of(command_find(&q.r)), "object");
    argv_request_free(&q);
}

static void test_arity(void)
{
    CU_ASSERT_TRUE(command_arity_ok(row("get"), 2));
    CU_ASSERT_FALSE(command_arity_ok(row("get"), 1));
    CU_ASSERT_FALSE(command_arity_ok(row("get"), 3));
    CU_ASSERT_TRUE(command_arity_ok(row("mget"), 2));
    CU_ASSERT_TRUE(command_arity_ok(row("mget"), UINT32_MAX));
    CU_ASSERT_FALSE(command_arity_ok(row("mget"), 1));
    CU_ASSERT_TRUE(command_arity_ok(row("ping"), 1));
    CU_ASSERT_FALSE(command_arity_ok(row("config|get"), 2));
    CU_ASSERT_TRUE(command_arity_ok(row("config|get"), 3));
}

/* Whether another row's name begins with this one and a bar. */
static bool has_subcommands(const struct command *c)
{
    size_t len = strlen(c->name);

    for (size_t i = 0; i < command_table_len; i++)
        if (strncmp(command_table[i].name, c->name, len) == 0 && command_table[i].name[len] == '|')
            return true;
    return false;
}

static void check_route_fits(const struct command *c)
{
    bool keys = c->keys != KEYS_NONE;

    CU_ASSERT_EQUAL(c->route == ROUTE_LOCAL, c->local != LOCAL_NONE);
    CU_ASSERT_EQUAL(c->route == ROUTE_SPLIT || c->route == ROUTE_ALL, c->merge != MERGE_NONE);
    switch ((enum command_route)c->route) {
    case ROUTE_BLOCKING:
        CU_ASSERT_TRUE(c->flags & CMD_BLOCKING);
        CU_ASSERT_TRUE(keys);
        break;
    case ROUTE_KEYS:
        CU_ASSERT_TRUE(keys);
        break;
    case ROUTE_SPLIT:
        CU_ASSERT_EQUAL(c->keys, KEYS_RANGE);
        CU_ASSERT_EQUAL(c->last, -1);
        break;
    case ROUTE_CONTAINER:
        CU_ASSERT_TRUE(has_subcommands(c));
        CU_ASSERT_EQUAL(c->arity, -2);
        CU_ASSERT_FALSE(keys);
        break;
    case ROUTE_UNSUPPORTED:
    case ROUTE_LOCAL: /* WATCH has keys, and channels of SSUBSCRIBE are keys */
        break;
    default:
        CU_ASSERT_FALSE(keys);
    }
}

static void test_rows_are_consistent(void)
{
    uint32_t handlers[LOCAL_COUNT] = {0};

    for (size_t i = 0; i < command_table_len; i++) {
        const struct command *c = &command_table[i];
        const char *bar = strchr(c->name, '|');

        check_route_fits(c);
        handlers[c->local]++;
        CU_ASSERT_NOT_EQUAL(c->arity, 0);
        CU_ASSERT_NOT_EQUAL(c->flags & (CMD_WRITE | CMD_READONLY), CMD_WRITE | CMD_READONLY);
        if (c->keys == KEYS_RANGE)
            CU_ASSERT(c->first > 0 && c->step > 0);
        if (c->keys == KEYS_NUMKEYS)
            CU_ASSERT(c->first > 0 && c->last >= 0 && c->last < c->first && c->step == 1);
        for (const char *p = c->name; *p != '\0'; p++)
            CU_ASSERT((*p >= 'a' && *p <= 'z') || strchr("|-_", *p) != NULL);
        if (bar != NULL) {
            CU_ASSERT_PTR_NOT_NULL(command_find_name(c->name, (size_t)(bar - c->name)));
            CU_ASSERT(c->arity >= 2 || c->arity <= -2);
            CU_ASSERT_NOT_EQUAL(c->route, ROUTE_CONTAINER);
        }
    }
    for (size_t i = LOCAL_NONE + 1; i < LOCAL_COUNT; i++)
        CU_ASSERT(handlers[i] > 0);
}

static void check_routes(const char *names, enum command_route route, enum command_merge merge)
{
    while (*names != '\0') {
        size_t len = strcspn(names, " ");
        const struct command *c = command_find_name(names, len);

        CU_ASSERT_PTR_NOT_NULL_FATAL(c);
        CU_ASSERT_EQUAL(c->route, route);
        CU_ASSERT_EQUAL(c->merge, merge);
        if (c->route != route || c->merge != merge)
            printf("\n  %s has route %d, merge %d\n", c->name, c->route, c->merge);
        names += len + (names[len] == ' ');
    }
}

static void test_routes(void)
{
    check_routes("get set msetnx rename sort sort_ro bitop sinterstore zunionstore eval evalsha "
                 "fcall fcall_ro xread xreadgroup object|encoding memory|usage xinfo|stream "
                 "xgroup|create debug|object georadius",
                 ROUTE_KEYS, MERGE_NONE);
    check_routes("mget", ROUTE_SPLIT, MERGE_ORDER);
    check_routes("mset", ROUTE_SPLIT, MERGE_OK);
    check_routes("del unlink exists touch", ROUTE_SPLIT, MERGE_SUM);
    check_routes("dbsize", ROUTE_ALL, MERGE_SUM);
    check_routes("keys", ROUTE_ALL, MERGE_CONCAT);
    check_routes("flushall flushdb script|flush", ROUTE_ALL, MERGE_OK);
    check_routes("script|load function|load bgsave", ROUTE_ALL, MERGE_FIRST);
    check_routes("config|set save slowlog|reset", ROUTE_ALL, MERGE_OK);
    check_routes("slowlog|get", ROUTE_ALL, MERGE_SLOWLOG);
    check_routes("acl|log", ROUTE_ALL, MERGE_ACL_LOG);
    check_routes("latency|latest", ROUTE_ALL, MERGE_LATEST);
    check_routes("memory|stats", ROUTE_ALL, MERGE_MEMORY);
    check_routes("script|exists", ROUTE_ALL, MERGE_AND);
    check_routes("script|show", ROUTE_ALL, MERGE_FOUND);
    check_routes("time lastsave lolwut command command|count command|info command|docs "
                 "command|list command|getkeys command|getkeysandflags object|help "
                 "script|help xinfo|help xgroup|help memory|help function|list acl|list",
                 ROUTE_ANY, MERGE_NONE);
    check_routes("ping echo quit select hello auth reset client|id info config|get scan multi "
                 "exec discard watch unwatch asking readonly readwrite randomkey sentinel role "
                 "client|kill client|unblock debug acl|whoami script|kill",
                 ROUTE_LOCAL, MERGE_NONE);
    check_routes("monitor wait waitaof client|reply", ROUTE_LOCAL, MERGE_NONE);
    check_routes("publish spublish subscribe psubscribe ssubscribe unsubscribe pubsub|channels",
                 ROUTE_LOCAL, MERGE_NONE);
    check_routes("blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop", ROUTE_BLOCKING,
                 MERGE_NONE);
    check_routes("module|load replicaof slaveof failover psync sync replconf "
                 "shutdown swapdb move restore-asking script|debug",
                 ROUTE_UNSUPPORTED, MERGE_NONE);
    check_routes("object xinfo client acl cluster", ROUTE_CONTAINER, MERGE_NONE);
}

static int set_up(void)
{
    command_init();
    return 0;
}

void suite_command(void)
{
    CU_pSuite s = CU_add_suite("command", set_up, NULL);

    CU_add_test(s, "every row is found in lower, upper and mixed case",
                test_every_row_in_every_case);
    CU_add_test(s, "neighbours of names are found only when they are names",
                test_neighbours_of_names);
    CU_add_test(s, "unknown names", test_unknown_names);
    CU_add_test(s, "containers and subcommands", test_containers);
    CU_add_test(s, "a subcommand is binary-safe", test_subcommand_is_binary_safe);
    CU_add_test(s, "arity", test_arity);
    CU_add_test(s, "rows are consistent in themselves", test_rows_are_consistent);
    CU_add_test(s, "routes and merge rules", test_routes);
}
