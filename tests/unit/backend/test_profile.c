#include "backend/profile.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

static int find(struct profile_table *t, uint8_t proto, uint16_t db, char *user, char *password)
{
    return profile_find(
        t, &(struct profile){
               .proto = proto, .guest = true, .db = db, .user = user, .password = password});
}

static void test_same_and_different(void)
{
    struct profile_table t = {.count = 0};
    char ann[] = "ann", bob[] = "bob", secret[] = "secret", other[] = "other";
    int first = find(&t, 2, 0, ann, secret);

    CU_ASSERT(first >= 0);
    CU_ASSERT_PTR_NOT_EQUAL(t.profiles[first].user, ann);
    CU_ASSERT_STRING_EQUAL(t.profiles[first].password, "secret");
    CU_ASSERT_EQUAL(find(&t, 2, 0, ann, secret), first);
    CU_ASSERT_EQUAL(t.profiles[first].refs, 2);
    CU_ASSERT_NOT_EQUAL(find(&t, 3, 0, ann, secret), first);
    CU_ASSERT_NOT_EQUAL(find(&t, 2, 1, ann, secret), first);
    CU_ASSERT_NOT_EQUAL(find(&t, 2, 0, ann, other), first);
    CU_ASSERT_NOT_EQUAL(find(&t, 2, 0, bob, secret), first);
    CU_ASSERT_NOT_EQUAL(find(&t, 2, 0, ann, NULL), first);
    CU_ASSERT_NOT_EQUAL(find(&t, 2, 0, NULL, NULL), first);
    /* The upstream's own is not a client's, though its words are the same. */
    CU_ASSERT_NOT_EQUAL(
        profile_find(&t, &(struct profile){.proto = 2, .user = ann, .password = secret}), first);
    CU_ASSERT_EQUAL(t.count, 8);
    CU_ASSERT_TRUE(profile_same_user(&t.profiles[0], &t.profiles[1]));
    CU_ASSERT_FALSE(profile_same_user(&t.profiles[0], &t.profiles[3]));
    profile_table_deinit(&t);
}

/* A place is used again, and not before the last reference is gone. */
static void test_references(void)
{
    struct profile_table t = {.count = 0};
    char user[16], password[] = "p";
    int at[100];

    for (int i = 0; i < 100; i++) {
        snprintf(user, sizeof(user), "u%d", i);
        at[i] = find(&t, 2, 0, user, password);
        CU_ASSERT_EQUAL(at[i], i);
    }
    profile_ref(&t, 7);
    profile_unref(&t, 7);
    CU_ASSERT_STRING_EQUAL(t.profiles[7].user, "u7");
    profile_unref(&t, 7);
    profile_unref(&t, 3);
    snprintf(user, sizeof(user), "new");
    CU_ASSERT_EQUAL(find(&t, 2, 0, user, password), 3);
    snprintf(user, sizeof(user), "newer");
    CU_ASSERT_EQUAL(find(&t, 2, 0, user, password), 7);
    CU_ASSERT_STRING_EQUAL(t.profiles[7].user, "newer");
    CU_ASSERT_EQUAL(t.count, 100);
    profile_table_deinit(&t);
}

static void test_full(void)
{
    struct profile_table t = {.count = 0};

    for (uint32_t i = 0; i < 300; i++)
        CU_ASSERT_EQUAL(find(&t, 2, (uint16_t)i, NULL, NULL), (int)i);
    /* The others are taken without looking for each: only the last places matter here. */
    t.profiles = xrealloc(t.profiles, PROFILE_MAX * sizeof(*t.profiles));
    for (size_t i = t.count; i < PROFILE_MAX; i++)
        t.profiles[i] = (struct profile){.proto = 3, .db = (uint16_t)i, .refs = 1};
    t.count = t.cap = PROFILE_MAX;
    CU_ASSERT_EQUAL(find(&t, 2, 300, NULL, NULL), -1);
    profile_unref(&t, 65000);
    CU_ASSERT_EQUAL(find(&t, 2, 300, NULL, NULL), 65000);
    CU_ASSERT_EQUAL(find(&t, 2, 301, NULL, NULL), -1);
    profile_table_deinit(&t);
}

void suite_profile(void)
{
    CU_pSuite s = CU_add_suite("profile", NULL, NULL);

    CU_add_test(s, "same and different", test_same_and_different);
    CU_add_test(s, "references", test_references);
    CU_add_test(s, "full", test_full);
}
