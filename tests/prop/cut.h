/*
 * cut.h - for properties of the kind "however the bytes are cut up, the outcome is the same":
 * random bytes, places to cut them at, and hashes of outcomes.
 *
 * The seed is the program's argument or KEYWAY_SEED in the environment, else 1; it is printed when
 * the property fails.
 */
#ifndef TEST_PROP_CUT_H
#define TEST_PROP_CUT_H

#include "base/alloc.h"

static unsigned prop_seed; /* of the round under way */

static inline unsigned first_seed(int argc, char **argv)
{
    const char *text = argc > 1 ? argv[1] : getenv("KEYWAY_SEED");

    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
}

#define HOLDS(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold with seed %u: %s\n", __FILE__, __LINE__,         \
                    prop_seed, #cond);                                                             \
            exit(EXIT_FAILURE);                                                                    \
        }                                                                                          \
    } while (0)

static inline size_t below(unsigned *seed, size_t n)
{
    return ((size_t)rand_r(seed) << 16 ^ (size_t)rand_r(seed)) % n;
}

/* A string that grows. */
struct text {
    char *p;
    size_t len, cap;
};

static inline char *text_room(struct text *t, size_t n)
{
    if (t->len + n > t->cap) {
        t->cap = 2 * t->cap + n;
        t->p = xrealloc(t->p, t->cap);
    }
    t->len += n;
    return t->p + t->len - n;
}

static inline void text_add(struct text *t, const char *p, size_t n)
{
    if (n > 0)
        memcpy(text_room(t, n), p, n);
}

static inline void text_line(struct text *t, char type, long long n)
{
    char line[32];

    text_add(t, line, (size_t)snprintf(line, sizeof(line), "%c%lld\r\n", type, n));
}

/* n bytes among which those that mean something to the protocol are frequent. */
static inline void text_random(struct text *t, size_t n, unsigned *seed)
{
    static const char special[] = {'\r', '\n', '$', '*', '0', '1', '\0', '|'};
    char *p = text_room(t, n);

    for (size_t i = 0; i < n; i++) {
        unsigned pick = (unsigned)rand_r(seed) >> 4;

        p[i] = pick % 4 == 0 ? special[pick / 4 % sizeof(special)] : (char)(pick >> 8);
    }
}

/* What came out, in order. */
static inline void hash_add(uint64_t *hash, const void *p, size_t n)
{
    const unsigned char *c = p;

    for (size_t i = 0; i < n; i++)
        *hash = (*hash ^ c[i]) * 1099511628211u;
    *hash = (*hash ^ n ^ 0x5a) * 1099511628211u;
}

/* The sizes of everything that bytes pass through: pooled blocks, and what one read may bring. */
static const size_t buffer_sizes[] = {1024, 16384, 64 * 1024, 128 * 1024};

/* Bytes become visible up to ends[0], then ends[1], ... and last up to their end. */
struct cuts {
    const size_t *ends;
    size_t count;
    size_t step; /* no ends: so many bytes more each time */
};

static inline size_t cuts_next(const struct cuts *c, size_t visible, size_t total)
{
    size_t next = total;

    if (c->step > 0)
        return MIN(visible + c->step, total);
    for (size_t i = c->count; i-- > 0;)
        if (c->ends[i] > visible)
            next = MIN(next, c->ends[i]);
    return next;
}

/* Memory of just n bytes, so that AddressSanitizer sees a read beyond; large ones are not copied.
 */
static inline const char *exact_copy(const char *p, size_t n, char **to_free)
{
    *to_free = NULL;
    if (n > 4096)
        return p;
    *to_free = xmalloc(MAX(n, 1));
    memcpy(*to_free, p, n);
    return *to_free;
}

#endif
