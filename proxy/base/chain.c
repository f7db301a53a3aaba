#include "base/chain.h"

#include "base/alloc.h"

/* Segments are 32 bytes and live shorter than a turn of the loop: a free list a thread. */
static _Thread_local struct chain_seg *spare_segs;
static _Thread_local size_t spare_seg_count;
static _Thread_local size_t spare_seg_low; /* fewest since the last trim */

static struct chain_seg *seg_new(void)
{
    struct chain_seg *s = spare_segs;

    if (s == NULL)
        return xmalloc(sizeof(*s));
    spare_segs = s->next;
    if (--spare_seg_count < spare_seg_low)
        spare_seg_low = spare_seg_count;
    return s;
}

static void seg_free(struct chain_seg *s)
{
    block_unref(&s->block);
    s->next = spare_segs;
    spare_segs = s;
    spare_seg_count++;
}

void chain_trim(void)
{
    for (size_t n = spare_seg_low; n > 0; n--) {
        struct chain_seg *s = spare_segs;

        spare_segs = s->next;
        spare_seg_count--;
        free(s);
    }
    spare_seg_low = spare_seg_count;
}

void chain_thread_end(void)
{
    spare_seg_low = spare_seg_count;
    chain_trim();
}

void chain_clear(struct chain *c)
{
    while (c->head != NULL) {
        struct chain_seg *s = c->head;

        c->head = s->next;
        seg_free(s);
    }
    block_unref(&c->open);
    chain_init(c);
}

static void seg_append(struct chain *c, struct block *b, uint32_t off, uint32_t len)
{
    struct chain_seg *s = seg_new();

    *s = (struct chain_seg){.block = block_ref(b), .off = off, .len = len};
    if (c->tail != NULL)
        c->tail->next = s;
    else
        c->head = s;
    c->tail = s;
}

void chain_append_ref(struct chain *c, struct block *b, uint32_t off, uint32_t len)
{
    if (len == 0)
        return;
    seg_append(c, b, off, len);
    c->bytes += len;
}

/* The open block is emptied for reuse once nothing of it is needed any more, so that a connection
 * at low load keeps writing to the same, warm memory. */
static void open_room(struct chain *c, size_t n)
{
    struct block *b = c->open;

    if (b != NULL) {
        if (b->refs == 1)
            b->len = 0;
        if (b->cap - b->len >= n)
            return;
        block_unref(&c->open);
    }
    /* A first small block: most answers of an otherwise idle client fit into it. */
    c->open = block_new(c->bytes == 0 ? n : MAX(n, BLOCK_LARGE));
}

char *chain_reserve(struct chain *c, size_t n)
{
    open_room(c, n);
    return c->open->data + c->open->len;
}

struct block *chain_commit(struct chain *c, size_t n)
{
    struct block *b = c->open;
    struct chain_seg *t = c->tail;

    if (t != NULL && t->block == b && t->off + t->len == b->len)
        t->len += (uint32_t)n;
    else
        seg_append(c, b, b->len, (uint32_t)n);
    b->len += (uint32_t)n;
    c->bytes += n;
    return b;
}

void chain_append(struct chain *c, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0) {
        size_t room, part;

        open_room(c, MIN(n, 64));
        room = c->open->cap - c->open->len;
        part = MIN(n, room);
        memcpy(c->open->data + c->open->len, p, part);
        chain_commit(c, part);
        p += part;
        n -= part;
    }
}

int chain_iov(const struct chain *c, struct iovec *iov, int max)
{
    int n = 0;

    for (const struct chain_seg *s = c->head; s != NULL && n < max; s = s->next, n++) {
        iov[n].iov_base = s->block->data + s->off;
        iov[n].iov_len = s->len;
    }
    return n;
}

void chain_consume(struct chain *c, size_t n)
{
    CHECK(n <= c->bytes);
    c->bytes -= n;
    while (n > 0) {
        struct chain_seg *s = c->head;

        if (n < s->len) {
            s->off += (uint32_t)n;
            s->len -= (uint32_t)n;
            return;
        }
        n -= s->len;
        c->head = s->next;
        seg_free(s);
    }
    if (c->head == NULL)
        c->tail = NULL;
}

void chain_truncate(struct chain *c, size_t n)
{
    struct chain_seg **at = &c->head, *rest;

    CHECK(n <= c->bytes);
    c->bytes = n;
    c->tail = NULL;
    for (; n > 0; at = &(*at)->next) {
        c->tail = *at;
        c->tail->len = (uint32_t)MIN(c->tail->len, n);
        n -= c->tail->len;
    }
    rest = *at;
    *at = NULL;
    while (rest != NULL) {
        struct chain_seg *s = rest;

        rest = s->next;
        seg_free(s);
    }
}

void chain_splice(struct chain *to, struct chain *from)
{
    if (from->head == NULL)
        return;
    if (to->tail != NULL)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->bytes += from->bytes;
    from->head = from->tail = NULL;
    from->bytes = 0;
}
