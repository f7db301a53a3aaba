#include "base/block.h"

#include "base/alloc.h"

enum {
    KIND_SMALL,
    KIND_LARGE,
    KIND_OWN
};

struct free_list {
    struct block *head;
    size_t count;
    size_t low; /* fewest members since the last trim: those were never needed */
};

static _Thread_local struct free_list free_lists[KIND_OWN];

static const uint32_t kind_cap[KIND_OWN] = {BLOCK_SMALL, BLOCK_LARGE};

static struct block *block_alloc(size_t cap, uint32_t kind)
{
    struct block *b;

    CHECK(cap <= UINT32_MAX - BLOCK_HEADER);
    b = xmalloc(BLOCK_HEADER + MAX(cap, sizeof(struct block *)));
    b->cap = (uint32_t)cap;
    b->kind = kind;
    return b;
}

struct block *block_new(size_t cap)
{
    uint32_t kind = cap <= BLOCK_SMALL ? KIND_SMALL : cap <= BLOCK_LARGE ? KIND_LARGE : KIND_OWN;
    struct block *b;

    if (kind == KIND_OWN) {
        b = block_alloc(cap, kind);
    } else {
        struct free_list *f = &free_lists[kind];

        b = f->head;
        if (b != NULL) {
            f->head = b->next_free;
            if (--f->count < f->low)
                f->low = f->count;
        } else {
            b = block_alloc(kind_cap[kind], kind);
        }
    }
    b->refs = 1;
    b->len = 0;
    return b;
}

struct block *block_new_exact(size_t cap)
{
    struct block *b = block_alloc(cap, KIND_OWN);

    b->refs = 1;
    b->len = 0;
    return b;
}

void block_release(struct block *b)
{
    struct free_list *f;

    if (b->kind == KIND_OWN) {
        free(b);
        return;
    }
    f = &free_lists[b->kind];
    b->next_free = f->head;
    f->head = b;
    f->count++;
}

void block_grow(struct block **p, size_t cap)
{
    struct block *b = *p, *bigger;

    CHECK(b->refs == 1);
    if (cap <= b->cap)
        return;
    if (b->kind == KIND_OWN) {
        CHECK(cap <= UINT32_MAX - BLOCK_HEADER);
        b = xrealloc(b, BLOCK_HEADER + cap);
        b->cap = (uint32_t)cap;
        *p = b;
        return;
    }
    bigger = block_new(cap);
    memcpy(bigger->data, b->data, b->len);
    bigger->len = b->len;
    block_unref(p);
    *p = bigger;
}

static void free_list_drop(struct free_list *f, size_t n)
{
    while (n-- > 0 && f->head != NULL) {
        struct block *b = f->head;

        f->head = b->next_free;
        f->count--;
        free(b);
    }
}

void block_trim(void)
{
    for (int kind = 0; kind < KIND_OWN; kind++) {
        struct free_list *f = &free_lists[kind];

        free_list_drop(f, f->low);
        f->low = f->count;
    }
}

void block_thread_end(void)
{
    for (int kind = 0; kind < KIND_OWN; kind++)
        free_list_drop(&free_lists[kind], free_lists[kind].count);
}
