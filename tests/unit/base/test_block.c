#include "base/block.h"

#include <CUnit/Basic.h>
#include <pthread.h>

static void check_new(size_t wanted, size_t cap)
{
    struct block *b = block_new(wanted), *borrowed;

    CU_ASSERT_EQUAL(b->cap, cap);
    CU_ASSERT_EQUAL(b->len, 0);
    CU_ASSERT_EQUAL(b->refs, 1);
    memset(b->data, 0xab, b->cap); /* AddressSanitizer sees room that is not there */
    borrowed = block_ref(b);
    CU_ASSERT_EQUAL(b->refs, 2);
    block_unref(&borrowed);
    CU_ASSERT_PTR_NULL(borrowed);
    CU_ASSERT_EQUAL(b->refs, 1);
    block_unref(&b);
    CU_ASSERT_PTR_NULL(b);
    block_unref(&b); /* NULL is allowed */
}

static void test_sizes(void)
{
    CU_ASSERT_EQUAL(BLOCK_SMALL + BLOCK_HEADER, 1024);
    CU_ASSERT_EQUAL(BLOCK_LARGE + BLOCK_HEADER, 16384);
    check_new(0, BLOCK_SMALL);
    check_new(1, BLOCK_SMALL);
    check_new(BLOCK_SMALL, BLOCK_SMALL);
    check_new(BLOCK_SMALL + 1, BLOCK_LARGE);
    check_new(BLOCK_LARGE, BLOCK_LARGE);
    check_new(BLOCK_LARGE + 1, BLOCK_LARGE + 1);
    check_new(1 << 20, 1 << 20);
    block_thread_end();
}

static void test_exact(void)
{
    for (size_t cap = 0; cap < 40; cap++) {
        struct block *b = block_new_exact(cap);

        CU_ASSERT_EQUAL(b->cap, cap);
        memset(b->data, 1, cap);
        block_unref(&b);
    }
}

static void test_reuse(void)
{
    struct block *a = block_new(10), *b, *was = a;

    a->len = 7;
    block_unref(&a);
    b = block_new(20);
    CU_ASSERT_PTR_EQUAL(b, was); /* the one used last is the warm one */
    CU_ASSERT_EQUAL(b->len, 0);
    CU_ASSERT_EQUAL(b->refs, 1);
    a = block_new(BLOCK_LARGE); /* another size, another list */
    CU_ASSERT_PTR_NOT_EQUAL(a, was);
    CU_ASSERT_EQUAL(a->cap, BLOCK_LARGE);
    block_unref(&a);
    block_unref(&b);
    block_thread_end();
}

static void check_grow(struct block *b, size_t len, size_t cap)
{
    for (size_t i = 0; i < len; i++)
        b->data[i] = (char)(i * 31 + 5);
    b->len = (uint32_t)len;
    block_grow(&b, cap);
    CU_ASSERT(b->cap >= cap);
    CU_ASSERT_EQUAL(b->len, len);
    CU_ASSERT_EQUAL(b->refs, 1);
    for (size_t i = 0; i < len; i++)
        if (b->data[i] != (char)(i * 31 + 5))
            CU_FAIL_FATAL("bytes were lost");
    memset(b->data + len, 0, b->cap - len);
    block_unref(&b);
}

static void test_grow(void)
{
    static const size_t caps[] = {10,          BLOCK_SMALL,     BLOCK_SMALL + 1,
                                  BLOCK_LARGE, BLOCK_LARGE + 1, 100000};

    for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
        check_grow(block_new(1), BLOCK_SMALL, MAX(caps[i], BLOCK_SMALL));
        check_grow(block_new(BLOCK_LARGE), 5000, caps[i]);
        check_grow(block_new(BLOCK_LARGE + 1), BLOCK_LARGE + 1, caps[i]);
        check_grow(block_new_exact(3), 3, caps[i]);
    }
    block_thread_end();
}

enum {
    MANY = 100
};

/* How many of MANY new blocks have memory that is one of the old ones'. */
static int reused(struct block *const *old)
{
    struct block *b[MANY];
    int n = 0;

    for (int i = 0; i < MANY; i++) {
        b[i] = block_new(1);
        for (int j = 0; j < MANY; j++)
            n += b[i] == old[j];
    }
    for (int i = 0; i < MANY; i++)
        block_unref(&b[i]);
    return n;
}

/* A trim frees what was idle since the trim before, and no more. */
static void test_trim(void)
{
    struct block *b[MANY], *old[MANY];

    for (int i = 0; i < MANY; i++)
        old[i] = b[i] = block_new(1);
    for (int i = 0; i < MANY; i++)
        block_unref(&b[i]);
    block_trim(); /* all of them were needed since the start */
    CU_ASSERT_EQUAL(reused(old), MANY);
    block_trim(); /* and again */
    CU_ASSERT_EQUAL(reused(old), MANY);
    block_trim();
    for (int i = 0; i < MANY / 2; i++)
        b[i] = block_new(1);
    for (int i = 0; i < MANY / 2; i++)
        block_unref(&b[i]);
    block_trim(); /* half of them were never needed */
    block_trim();
    block_trim();
    for (int i = 0; i < 5; i++) {
        b[i] = block_new(1);
        CU_ASSERT_EQUAL(b[i]->refs, 1);
    }
    for (int i = 0; i < 5; i++)
        block_unref(&b[i]);
    block_thread_end();
    block_trim(); /* nothing left to trim */
    b[0] = block_new(1);
    block_unref(&b[0]);
    block_thread_end();
}

static void *thread_main(void *arg)
{
    struct block *b[MANY];

    (void)arg;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < MANY; i++) {
            b[i] = block_new(i % 2 == 0 ? 1 : BLOCK_LARGE);
            b[i]->data[0] = (char)i;
        }
        for (int i = 0; i < MANY; i++)
            block_unref(&b[i]);
        block_trim();
    }
    block_thread_end();
    return NULL;
}

/* Lists are a thread's own: nothing here is a race, and a thread leaves nothing behind. */
static void test_threads(void)
{
    pthread_t t[2];

    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&t[i], NULL, thread_main, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

void suite_block(void)
{
    CU_pSuite s = CU_add_suite("block", NULL, NULL);

    CU_add_test(s, "sizes", test_sizes);
    CU_add_test(s, "exact", test_exact);
    CU_add_test(s, "reuse", test_reuse);
    CU_add_test(s, "grow", test_grow);
    CU_add_test(s, "trim", test_trim);
    CU_add_test(s, "threads", test_threads);
}
