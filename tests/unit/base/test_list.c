#include "base/list.h"

#include <CUnit/Basic.h>

struct member {
    int value;
    struct list_node link;
};

static struct member members[8];

static void fill(struct list_node *head, int from, int to)
{
    list_init(head);
    for (int i = from; i < to; i++) {
        members[i].value = i;
        list_init(&members[i].link);
        list_push(head, &members[i].link);
    }
}

/* The members' values as a number, first member first; both directions must agree. */
static int digits(const struct list_node *head)
{
    int forward = 0, backward = 0, power = 1;

    for (const struct list_node *n = head->next; n != head; n = n->next)
        forward = forward * 10 + CONTAINER_OF(n, struct member, link)->value;
    for (const struct list_node *n = head->prev; n != head; n = n->prev, power *= 10)
        backward += power * CONTAINER_OF(n, struct member, link)->value;
    return forward == backward ? forward : -1;
}

static void test_push_pop(void)
{
    struct list_node head;

    fill(&head, 1, 5);
    CU_ASSERT_FALSE(list_empty(&head));
    CU_ASSERT_EQUAL(digits(&head), 1234);
    for (int i = 1; i < 5; i++) {
        struct list_node *n = list_pop(&head);

        CU_ASSERT_PTR_EQUAL(n, &members[i].link);
        CU_ASSERT_FALSE(list_linked(n));
    }
    CU_ASSERT_TRUE(list_empty(&head));
    CU_ASSERT_PTR_NULL(list_pop(&head));
}

static void test_unlink(void)
{
    struct list_node head;

    fill(&head, 1, 6);
    list_unlink(&members[3].link);
    CU_ASSERT_EQUAL(digits(&head), 1245);
    CU_ASSERT_FALSE(list_linked(&members[3].link));
    list_unlink(&members[3].link); /* on no list: nothing happens */
    list_unlink(&members[1].link);
    list_unlink(&members[5].link);
    CU_ASSERT_EQUAL(digits(&head), 24);
    list_push(&head, &members[3].link);
    CU_ASSERT_EQUAL(digits(&head), 243);
}

static void test_splice(void)
{
    struct list_node a, b;

    fill(&a, 1, 3);
    fill(&b, 3, 6);
    list_splice(&a, &b);
    CU_ASSERT_EQUAL(digits(&a), 12345);
    CU_ASSERT_TRUE(list_empty(&b));
    list_splice(&a, &b);
    CU_ASSERT_EQUAL(digits(&a), 12345);
    list_splice(&b, &a);
    CU_ASSERT_EQUAL(digits(&b), 12345);
    CU_ASSERT_TRUE(list_empty(&a));
}

static void test_foreach_unlinks(void)
{
    struct list_node head, *at, *tmp;
    int seen = 0;

    fill(&head, 1, 6);
    LIST_FOREACH (at, tmp, &head) {
        struct member *m = CONTAINER_OF(at, struct member, link);

        seen = seen * 10 + m->value;
        if (m->value % 2 == 1) {
            list_unlink(at);
            memset(m, 0xee, sizeof(*m)); /* as good as freed */
        }
    }
    CU_ASSERT_EQUAL(seen, 12345);
    CU_ASSERT_EQUAL(digits(&head), 24);
}

/* Member 1's turn takes out 2, which is next, and itself; that of 4, within a walk of its own, 5.
 */
static void test_walk_anything_unlinks(void)
{
    struct list_walk *walks = NULL, walk, inner;
    struct list_node head, *at;
    int seen = 0;

    fill(&head, 1, 8);
    list_walk_begin(&walks, &walk, &head);
    while ((at = list_walk_next(&walks, &walk, &head)) != NULL) {
        int value = CONTAINER_OF(at, struct member, link)->value;

        seen = seen * 10 + value;
        if (value == 1) {
            list_unlink_walked(walks, &members[2].link);
            list_unlink_walked(walks, at);
            memset(&members[1], 0xee, sizeof(members[1])); /* as good as freed */
            memset(&members[2], 0xee, sizeof(members[2]));
        }
        if (value != 4)
            continue;
        list_walk_begin(&walks, &inner, &head);
        while ((at = list_walk_next(&walks, &inner, &head)) != NULL)
            if (CONTAINER_OF(at, struct member, link)->value == 3)
                list_unlink_walked(walks, &members[5].link);
    }
    CU_ASSERT_EQUAL(seen, 13467);
    CU_ASSERT_EQUAL(digits(&head), 3467);
    CU_ASSERT_PTR_NULL(walks);
}

static void test_walk_ends(void)
{
    struct list_walk *walks = NULL, walk;
    struct list_node head, *at;
    int turns = 0;

    list_init(&head);
    list_walk_begin(&walks, &walk, &head);
    CU_ASSERT_PTR_NULL(list_walk_next(&walks, &walk, &head));
    fill(&head, 1, 5);
    list_walk_begin(&walks, &walk, &head);
    while ((at = list_walk_next(&walks, &walk, &head)) != NULL) {
        for (int i = 1; i < 5; i++)
            list_unlink_walked(walks, &members[i].link);
        turns++;
    }
    CU_ASSERT_EQUAL(turns, 1);
    CU_ASSERT_PTR_NULL(walks);
}

void suite_list(void)
{
    CU_pSuite s = CU_add_suite("list", NULL, NULL);

    CU_add_test(s, "push and pop", test_push_pop);
    CU_add_test(s, "unlink", test_unlink);
    CU_add_test(s, "splice", test_splice);
    CU_add_test(s, "foreach may unlink", test_foreach_unlinks);
    CU_add_test(s, "walk: anything may be unlinked", test_walk_anything_unlinks);
    CU_add_test(s, "walk: ends when all are gone", test_walk_ends);
}
