#include "command/learnt.h"

#include <CUnit/CUnit.h>

#include "argv_request.h"

void suite_learnt(void);

static struct learnt_command fresh(const char *name)
{
    struct learnt_command c;

    memset(&c, 0, sizeof(c));
    memcpy(c.name, name, strlen(name));
    c.row.arity = -2;
    c.row.route = ROUTE_KEYS;
    c.row.keys = KEYS_SPECS;
    c.row.flags = CMD_READONLY;
    return c;
}

/* The positions as text, "1,3". */
static const char *keys_of(const struct learnt_command *c, const char *words)
{
    static char text[256];
    struct argv_request q = {0};
    uint32_t positions[8];
    size_t count, at = 0;

    argv_request_add_words(&q, words);
    CU_ASSERT_EQUAL(command_keys_list(&c->row, &q.r, positions, ARRAY_LEN(positions), &count),
                    COMMAND_KEYS_OK);
    text[0] = '\0';
    for (size_t i = 0; i < MIN(count, ARRAY_LEN(positions)); i++)
        at +=
            (size_t)snprintf(text + at, sizeof(text) - at, "%s%u", i > 0 ? "," : "", positions[i]);
    argv_request_free(&q);
    return text;
}

static const struct learnt_command *with_spec(struct learnt_pool *p, const struct key_spec *s)
{
    struct learnt_command c = fresh("x");

    memcpy(&c.spec[0], s, sizeof(*s));
    c.spec_count = 1;
    return learnt_intern(p, &c);
}

static void test_ranges(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct key_spec every_second = {.at = 2, .last = -2, .step = 2};
    struct key_spec three = {.at = 1, .last = 2, .step = 1};
    struct key_spec half = {.at = 1, .last = -1, .limit = 2, .step = 1};
    const struct learnt_command *c = with_spec(p, &every_second);

    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a k v k v o"), "2,4");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a k v"), "2");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a k"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x"), "");
    c = with_spec(p, &three);
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a b c d"), "1,2,3");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a"), "1"); /* those that are there */
    c = with_spec(p, &half);
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x k k v v"), "1,2");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x k v"), "1");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x"), "");
    learnt_pool_free(&p);
}

static void test_words(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct key_spec forward = {
        .begin = KEY_BEGIN_WORD, .at = 2, .last = -1, .step = 1, .word = "KEYS"};
    struct key_spec backward = {.begin = KEY_BEGIN_WORD, .at = -2, .step = 1, .word = "TO"};
    const struct learnt_command *c = with_spec(p, &forward);

    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a keys b c"), "3,4");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x keys keys b"), "3");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x keys a b"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a b KEYS"), ""); /* nothing behind it */
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a keysb keyskeys c"), "");
    c = with_spec(p, &backward);
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x to a To b"), "4");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x to a"), "2");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x a b to"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "to"), "");
    learnt_pool_free(&p);
}

static void test_counts(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct key_spec one = {.find = KEY_FIND_COUNT, .at = 1, .first = 1, .step = 1};
    struct key_spec pairs = {.find = KEY_FIND_COUNT, .at = 2, .first = 1, .step = 2};
    const struct learnt_command *c = with_spec(p, &one);

    CU_ASSERT_STRING_EQUAL(keys_of(c, "x 2 a b c"), "2,3");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x 0 a"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x -1 a"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x y a"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x 3 a b"), "2,3");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x 9223372036854775807 a b"), "2,3");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x 9223372036854775808 a b"), "");
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x"), "");
    c = with_spec(p, &pairs);
    CU_ASSERT_STRING_EQUAL(keys_of(c, "x o 2 a 1 b 2 c"), "3,5");
    learnt_pool_free(&p);
}

/* Of several specifications each counts for itself; a list that is too long is only counted. */
static void test_several(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct learnt_command c = fresh("x");
    const struct learnt_command *row;
    struct argv_request q = {0};
    uint32_t positions[2];
    size_t count;

    c.spec[0] = (struct key_spec){.at = 1, .step = 1};
    c.spec[1] = (struct key_spec){.find = KEY_FIND_COUNT, .at = 2, .first = 1, .step = 1};
    c.spec_count = 2;
    row = learnt_intern(p, &c);
    CU_ASSERT_STRING_EQUAL(keys_of(row, "x d 2 a b"), "1,3,4");
    CU_ASSERT_STRING_EQUAL(keys_of(row, "x d y a b"), "1");
    argv_request_add_words(&q, "x d 3 a b c");
    CU_ASSERT_EQUAL(command_keys_list(&row->row, &q.r, positions, 2, &count), COMMAND_KEYS_OK);
    CU_ASSERT_EQUAL(count, 4);
    argv_request_free(&q);
    learnt_pool_free(&p);
}

static struct learnt *snapshot(const struct learnt_pool *p,
                               const struct learnt_command *const *rows, size_t n)
{
    struct learnt *l = learnt_new(p, n);

    for (size_t i = 0; i < n; i++)
        *learnt_place(l, rows[i]->name, strlen(rows[i]->name)) = rows[i];
    l->count = n;
    return l;
}

static const char *found(const struct learnt *l, const char *words)
{
    struct argv_request q = {0};
    const struct command *c;

    argv_request_add_words(&q, words);
    c = command_find(&q.r);
    if (c == NULL || c->route == ROUTE_CONTAINER)
        c = learnt_find(l, &q.r, c);
    argv_request_free(&q);
    return c != NULL ? c->name : "(none)";
}

static void test_find(void)
{
    static const char *const names[] = {
        "json.get", "ft", "ft|search", "object|new",
        "a.name.longer.than.any.of.the.tables.own.commands.can.be.found"};
    struct learnt_pool *p = learnt_pool_new();
    const struct learnt_command *rows[ARRAY_LEN(names)];
    struct learnt *l;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct learnt_command c = fresh(names[i]);

        c.row.route = strcmp(names[i], "ft") == 0 ? ROUTE_CONTAINER : ROUTE_KEYS;
        rows[i] = learnt_intern(p, &c);
        CU_ASSERT_PTR_EQUAL(learnt_intern(p, &c), rows[i]);
        CU_ASSERT_EQUAL(rows[i]->row.number, command_table_len + i);
    }
    l = snapshot(p, rows, ARRAY_LEN(names));
    CU_ASSERT_STRING_EQUAL(found(l, "JSON.Get k"), "json.get");
    CU_ASSERT_STRING_EQUAL(found(l, "json.ge k"), "(none)");
    CU_ASSERT_STRING_EQUAL(found(l, "ft"), "ft");
    CU_ASSERT_STRING_EQUAL(found(l, "FT SEARCH x"), "ft|search");
    CU_ASSERT_STRING_EQUAL(found(l, "ft nothing"), "ft");
    CU_ASSERT_STRING_EQUAL(found(l, "ft|search x"), "(none)");
    CU_ASSERT_STRING_EQUAL(found(l, "object NEW k"), "object|new");
    CU_ASSERT_STRING_EQUAL(found(l, "object other k"), "object");
    CU_ASSERT_STRING_EQUAL(found(l, names[4]), names[4]);
    CU_ASSERT_STRING_EQUAL(found(NULL, "json.get k"), "(none)");
    CU_ASSERT_STRING_EQUAL(found(NULL, "object new k"), "object");
    CU_ASSERT_STRING_EQUAL(learnt_name(l, rows[2]->row.number), "ft|search");
    CU_ASSERT_STRING_EQUAL(learnt_name(NULL, 0), command_table[0].name);
    learnt_unref(&l);
    learnt_pool_free(&p);
}

static void test_merge(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct learnt_command a = fresh("m"), b = fresh("m");
    const struct learnt_command *ra, *rb, *both;

    b.row.arity = 4;
    b.row.flags = CMD_WRITE;
    ra = learnt_intern(p, &a);
    rb = learnt_intern(p, &b);
    both = learnt_merge(p, ra, rb);
    CU_ASSERT_EQUAL(both->row.arity, -2);
    CU_ASSERT_EQUAL(both->row.flags, CMD_WRITE);
    CU_ASSERT_PTR_NULL(both->refused);
    CU_ASSERT_PTR_EQUAL(learnt_merge(p, rb, ra), both);
    CU_ASSERT_PTR_EQUAL(learnt_merge(p, ra, ra), ra);
    b.row.flags |= CMD_BLOCKING;
    b.row.route = ROUTE_BLOCKING; /* for one of them it waits, so for both */
    rb = learnt_intern(p, &b);
    both = learnt_merge(p, ra, rb);
    CU_ASSERT_EQUAL(both->row.route, ROUTE_BLOCKING);
    CU_ASSERT_EQUAL(both->row.flags, CMD_WRITE | CMD_BLOCKING);
    CU_ASSERT_PTR_NULL(both->refused);
    CU_ASSERT_PTR_EQUAL(learnt_merge(p, rb, ra), both);
    b.row.route = ROUTE_CONTAINER;
    both = learnt_merge(p, ra, learnt_intern(p, &b));
    CU_ASSERT_EQUAL(both->row.route, ROUTE_UNSUPPORTED);
    b.row.route = ROUTE_KEYS;
    b.spec[0].at = 1;
    b.spec_count = 1;
    both = learnt_merge(p, ra, learnt_intern(p, &b));
    CU_ASSERT_EQUAL(both->row.route, ROUTE_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(both->refused);
    CU_ASSERT_PTR_EQUAL(learnt_merge(p, both, ra), both);
    CU_ASSERT_PTR_EQUAL(learnt_merge(p, ra, both), both);
    learnt_pool_free(&p);
}

static void test_arity(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct learnt *l = learnt_new(p, 0), *other = learnt_new(p, 0);
    const struct command *get = command_find_name("get", 3), *echo = command_find_name("echo", 4);

    CU_ASSERT_FALSE(learnt_arity_ok(NULL, get, 3));
    CU_ASSERT_FALSE(learnt_arity_ok(l, get, 3));
    CU_ASSERT_TRUE(learnt_same(l, other));
    l->arity[get->number] = -2;
    l->arity[echo->number] = -2;
    CU_ASSERT_TRUE(learnt_arity_ok(l, get, 3));
    CU_ASSERT_FALSE(learnt_arity_ok(l, get, 1));
    CU_ASSERT_FALSE(learnt_arity_ok(l, echo, 3)); /* the proxy's own answer */
    CU_ASSERT_FALSE(learnt_same(l, other));
    learnt_unref(&l);
    learnt_unref(&other);
    learnt_pool_free(&p);
}

static void test_full(void)
{
    struct learnt_pool *p = learnt_pool_new();
    struct learnt_command c;
    char name[16];

    for (int i = 0; i < LEARNT_MAX; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        c = fresh(name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(learnt_intern(p, &c));
    }
    CU_ASSERT_PTR_NOT_NULL(learnt_intern(p, &c));
    c = fresh("another");
    CU_ASSERT_PTR_NULL(learnt_intern(p, &c));
    learnt_pool_free(&p);
}

void suite_learnt(void)
{
    CU_pSuite s = CU_add_suite("learnt commands", NULL, NULL);

    command_init();
    CU_add_test(s, "ranges of keys", test_ranges);
    CU_add_test(s, "keys behind a word", test_words);
    CU_add_test(s, "counted keys", test_counts);
    CU_add_test(s, "several specifications", test_several);
    CU_add_test(s, "names", test_find);
    CU_add_test(s, "servers that differ", test_merge);
    CU_add_test(s, "arities", test_arity);
    CU_add_test(s, "a full pool", test_full);
}
