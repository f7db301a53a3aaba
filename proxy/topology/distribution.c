#include "topology/distribution.h"

#include "base/alloc.h"

#define POINTS_PER_SHARD 160

struct point {
    uint64_t at;
    uint16_t shard;
};

void distribution_ranges(uint16_t owner[SLOT_COUNT], size_t shards)
{
    CHECK(shards > 0);
    for (size_t i = 0; i < shards; i++)
        for (size_t s = SLOT_COUNT * i / shards; s < SLOT_COUNT * (i + 1) / shards; s++)
            owner[s] = (uint16_t)i;
}

/* FNV-1a over the name, then the number mixed in (the finalizer of splitmix64): what is near in
 * number must not be near on the ring. It may never change: keys are where it says. */
static uint64_t place(const char *name, uint64_t number)
{
    uint64_t h = 14695981039346656037u;

    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    h += (number + 1) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

static int by_place(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

void distribution_ketama(uint16_t owner[SLOT_COUNT], const char *const *names, size_t shards)
{
    size_t count = shards * POINTS_PER_SHARD;
    struct point *ring = xcalloc(count, sizeof(*ring));

    CHECK(shards > 0);
    for (size_t i = 0; i < count; i++) {
        ring[i].shard = (uint16_t)(i / POINTS_PER_SHARD);
        ring[i].at = place(names[ring[i].shard], i % POINTS_PER_SHARD);
    }
    qsort(ring, count, sizeof(*ring), by_place);
    for (uint32_t s = 0; s < SLOT_COUNT; s++) {
        uint64_t at = place("slot", s);
        size_t lo = 0, hi = count;

        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;

            if (ring[mid].at < at)
                lo = mid + 1;
            else
                hi = mid;
        }
        owner[s] = ring[lo % count].shard;
    }
    free(ring);
}
