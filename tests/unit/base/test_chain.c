/*
 * test_chain.c - a chain against a plain string of the same bytes, under operations in random
 * order.
 *
 * The seed of a failure is printed; CHAIN_SEED in the environment runs it again.
 */
#include "base/chain.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"

/* Bytes 0 to 250 repeating from a random begin: any wrong order or loss is seen. */
struct model {
    struct chain chain;
    char *bytes; /* what the chain must hold, from `begin` to `end` */
    size_t begin, end, cap;
};

/* A byte that somebody still refers to after the chain let go of it. */
struct kept {
    struct block *block;
    uint32_t off, len;
    char copy[16];
};

static unsigned seed, next_byte;

static void model_add(struct model *m, const char *p, size_t n)
{
    if (n == 0)
        return;
    if (m->end + n > m->cap) {
        if (m->begin > 0)
            memmove(m->bytes, m->bytes + m->begin, m->end - m->begin);
        m->end -= m->begin;
        m->begin = 0;
        m->cap = MAX(m->cap, 2 * (m->end + n));
        m->bytes = xrealloc(m->bytes, m->cap);
    }
    memcpy(m->bytes + m->end, p, n);
    m->end += n;
}

static void pattern(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(next_byte++ % 251);
}

static bool same(const struct model *m)
{
    size_t pos = m->begin;

    if (m->chain.bytes != m->end - m->begin)
        return false;
    for (const struct chain_seg *s = m->chain.head; s != NULL; s = s->next) {
        if (s->len == 0 || pos + s->len > m->end || s->off + s->len > s->block->cap ||
            memcmp(s->block->data + s->off, m->bytes + pos, s->len) != 0)
            return false;
        if ((s->next == NULL) != (s == m->chain.tail))
            return false;
        pos += s->len;
    }
    return pos == m->end && (m->chain.head != NULL || m->chain.tail == NULL);
}

/* Mostly small, sometimes just around the sizes where a block ends. */
static size_t random_size(void)
{
    static const size_t edges[] = {64, BLOCK_SMALL, BLOCK_LARGE, 65536};
    unsigned pick = (unsigned)rand_r(&seed) % 8;

    if (pick < 5)
        return 1 + (size_t)rand_r(&seed) % 200;
    if (pick == 5)
        return 1 + (size_t)rand_r(&seed) % 20000;
    return edges[(size_t)rand_r(&seed) % ARRAY_LEN(edges)] - 3 + (size_t)rand_r(&seed) % 7;
}

static void do_append(struct model *m)
{
    size_t n = random_size();
    char *p = xmalloc(n);

    pattern(p, n);
    chain_append(&m->chain, p, n);
    model_add(m, p, n);
    free(p);
}

static void do_reserve(struct model *m, struct kept *k)
{
    size_t n = random_size();
    char *p = chain_reserve(&m->chain, n);
    struct block *b;

    pattern(p, n);
    model_add(m, p, n);
    b = chain_commit(&m->chain, n);
    CHECK(p + n == b->data + b->len);
    if (k->block == NULL && rand_r(&seed) % 4 == 0) {
        /* As a request in flight keeps its bytes. */
        k->block = block_ref(b);
        k->len = (uint32_t)MIN(n, sizeof(k->copy));
        k->off = b->len - k->len;
        memcpy(k->copy, b->data + k->off, k->len);
    }
}

static void do_append_ref(struct model *m)
{
    size_t n = random_size();
    struct block *b = rand_r(&seed) % 2 == 0 ? block_new(n) : block_new_exact(n);
    uint32_t off = (uint32_t)((size_t)rand_r(&seed) % n);
    uint32_t len = (uint32_t)((size_t)rand_r(&seed) % (n - off + 1));

    pattern(b->data, n);
    b->len = (uint32_t)n;
    chain_append_ref(&m->chain, b, off, len);
    model_add(m, b->data + off, len);
    block_unref(&b);
}

static void do_truncate(struct model *m)
{
    size_t n = (size_t)rand_r(&seed) % (m->chain.bytes + 1);

    if (rand_r(&seed) % 4 == 0)
        n = m->chain.bytes - MIN(m->chain.bytes, 100);
    chain_truncate(&m->chain, n);
    m->end = m->begin + n;
}

static void do_consume(struct model *m)
{
    size_t n = (size_t)rand_r(&seed) % (m->chain.bytes + 1);

    if (rand_r(&seed) % 4 == 0)
        n = m->chain.bytes;
    else if (rand_r(&seed) % 2 == 0)
        n = MIN(n, 300);
    chain_consume(&m->chain, n);
    m->begin += n;
}

static void do_splice(struct model *to, struct model *from)
{
    chain_splice(&to->chain, &from->chain);
    if (from->end > from->begin)
        model_add(to, from->bytes + from->begin, from->end - from->begin);
    from->begin = from->end;
}

static bool check_iov(const struct model *m)
{
    struct iovec iov[5];
    int max = (int)((unsigned)rand_r(&seed) % 6), n = chain_iov(&m->chain, iov, max);
    size_t pos = m->begin;

    if (n > max || (n < max && n > 0 && m->chain.bytes == 0))
        return false;
    for (int i = 0; i < n; i++) {
        if (pos + iov[i].iov_len > m->end ||
            memcmp(iov[i].iov_base, m->bytes + pos, iov[i].iov_len) != 0)
            return false;
        pos += iov[i].iov_len;
    }
    return n == max || pos == m->end;
}

static bool kept_is_intact(struct kept *k, bool drop)
{
    bool ok = k->block == NULL || memcmp(k->block->data + k->off, k->copy, k->len) == 0;

    if (drop)
        block_unref(&k->block);
    return ok;
}

static bool random_run(int operations)
{
    struct model m[2] = {0};
    struct kept kept = {0};
    bool ok = true;

    for (int i = 0; i < operations && ok; i++) {
        struct model *at = &m[rand_r(&seed) % 2];

        switch (rand_r(&seed) % 10) {
        case 0:
        case 1:
            do_append(at);
            break;
        case 2:
        case 3:
            do_reserve(at, &kept);
            break;
        case 4:
            do_append_ref(at);
            break;
        case 5:
        case 6:
            do_consume(at);
            break;
        case 7:
            do_truncate(at);
            break;
        case 8:
            do_splice(at, at == m ? m + 1 : m);
            break;
        default:
            chain_idle(&at->chain);
            ok = check_iov(at) && kept_is_intact(&kept, true);
            break;
        }
        ok = ok && same(&m[0]) && same(&m[1]) && kept_is_intact(&kept, false);
    }
    block_unref(&kept.block);
    for (int i = 0; i < 2; i++) {
        chain_clear(&m[i].chain);
        ok = ok && m[i].chain.head == NULL && m[i].chain.open == NULL && m[i].chain.bytes == 0;
        free(m[i].bytes);
    }
    return ok;
}

static void test_random(void)
{
    const char *text = getenv("CHAIN_SEED");
    unsigned first = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;

    for (unsigned round = 0; round < 300; round++) {
        seed = first + round;
        next_byte = seed;
        if (!random_run(200)) {
            printf("\n    CHAIN_SEED=%u\n", first + round);
            CU_FAIL_FATAL("the chain differs from its model");
        }
    }
    chain_thread_end();
    block_thread_end();
}

static void test_small_writes_share(void)
{
    struct chain c;

    chain_init(&c);
    for (int i = 0; i < 100; i++)
        chain_append(&c, "0123456789", 10);
    CU_ASSERT_PTR_EQUAL(c.head, c.tail); /* one vector, not a hundred */
    CU_ASSERT_EQUAL(c.head->len, 1000);
    chain_clear(&c);
}

/* At low load a connection writes to the same memory again and again. */
static void test_open_block_is_reused(void)
{
    struct chain c;
    const char *first;

    chain_init(&c);
    first = chain_reserve(&c, 100);
    for (int i = 0; i < 1000; i++) {
        char *p = chain_reserve(&c, 100);

        CU_ASSERT_PTR_EQUAL(p, first);
        memset(p, i, 100);
        chain_commit(&c, 100);
        chain_consume(&c, 100);
    }
    chain_idle(&c);
    CU_ASSERT_PTR_NULL(c.open);
    chain_clear(&c);
}

/* While somebody refers to the open block nothing of it is written again. */
static void test_referenced_bytes_stay(void)
{
    struct chain c;
    struct block *kept;

    chain_init(&c);
    memcpy(chain_reserve(&c, 5), "first", 5);
    kept = block_ref(chain_commit(&c, 5));
    chain_consume(&c, 5);
    for (int i = 0; i < 10000; i++) {
        chain_append(&c, "later", 5);
        chain_consume(&c, 5);
    }
    CU_ASSERT_EQUAL(memcmp(kept->data, "first", 5), 0);
    chain_idle(&c);
    CU_ASSERT_EQUAL(kept->refs, 1);
    block_unref(&kept);
    chain_clear(&c);
}

static void test_empty(void)
{
    struct chain a, b;
    struct block *block = block_new(10);
    struct iovec iov[2];

    chain_init(&a);
    chain_init(&b);
    chain_append(&a, NULL, 0);
    chain_append_ref(&a, block, 3, 0);
    CU_ASSERT_EQUAL(block->refs, 1);
    chain_splice(&a, &b);
    chain_consume(&a, 0);
    CU_ASSERT_EQUAL(chain_iov(&a, iov, 2), 0);
    CU_ASSERT_TRUE(a.head == NULL && a.tail == NULL && a.bytes == 0);
    chain_clear(&a);
    chain_clear(&a);
    block_unref(&block);
    chain_thread_end();
    block_thread_end();
}

void suite_chain(void)
{
    CU_pSuite s = CU_add_suite("chain", NULL, NULL);

    CU_add_test(s, "empty", test_empty);
    CU_add_test(s, "small writes share a block", test_small_writes_share);
    CU_add_test(s, "the open block is reused", test_open_block_is_reused);
    CU_add_test(s, "referenced bytes stay", test_referenced_bytes_stay);
    CU_add_test(s, "random operations against a string", test_random);
}
