/*
 * reply.c - fuzz target: however the bytes of a server are cut up, they are the same replies; what
 * the framer calls a reply the cursor can read to its end; and the cursor never leaves its bytes.
 *
 * The first byte chooses the sizes of the pieces.
 */
#include "resp/reply.h"

#include "base/alloc.h"

struct outcome {
    uint64_t hash; /* of the replies' ends and types */
    size_t end;    /* of the last whole reply */
    bool bad;
};

static void mix(uint64_t *hash, uint64_t v)
{
    *hash = (*hash ^ v) * 1099511628211u;
}

/* Visits the element at *p with all it contains; false when the cursor refused. */
static bool walk(const char **p, const char *end, char *type)
{
    int64_t left = 1;
    bool first = true;

    while (left > 0) {
        struct resp_item item;
        const char *begin = *p;

        if (!resp_next(p, end, &item))
            return false;
        CHECK(*p > begin && *p <= end);
        CHECK(item.raw >= begin && item.raw + item.raw_len <= end && item.raw_len >= 3);
        CHECK(item.data >= item.raw && item.data + item.len <= end);
        if (first)
            *type = item.type;
        first = false;
        left--;
        if (strchr("*%~>", item.type) != NULL && item.count > 0)
            left += item.count;
    }
    return true;
}

static void check_reply(const char *reply, size_t len, char type)
{
    const char *p = reply;
    char seen = 0;

    CHECK(resp_skip(&p, reply + len));
    CHECK(p == reply + len);
    p = reply;
    CHECK(walk(&p, reply + len, &seen));
    CHECK(p == reply + len);
    CHECK(seen == type);
}

static void run(struct outcome *o, const char *data, size_t size, bool cut, unsigned seed)
{
    struct resp_framer f;
    size_t pos = 0, have = cut ? 0 : size;
    uint64_t least_end = 0; /* what resp_framer_need promised so far */

    *o = (struct outcome){0};
    resp_framer_init(&f);
    while (!o->bad && (pos < size || have > 0)) {
        char *copy = xmalloc(MAX(have, 1));
        size_t used = 0;
        enum resp_frame_status st;

        memcpy(copy, data + pos, have);
        st = resp_frame(&f, copy, have, &used);
        free(copy);
        o->bad = st == RESP_FRAME_BAD;
        if (o->bad)
            break;
        CHECK(used <= have);
        pos += used;
        have -= used;
        if (st == RESP_FRAME_DONE) {
            CHECK(used > 0 && resp_framer_idle(&f));
            CHECK(pos >= least_end);
            if (!cut)
                check_reply(data + o->end, pos - o->end, f.type);
            mix(&o->hash, pos);
            mix(&o->hash, (unsigned char)f.type);
            o->end = pos;
            least_end = 0;
            if (!cut || have > 0)
                continue;
        } else {
            least_end = MAX(least_end, pos + resp_framer_need(&f));
        }
        if (pos + have == size)
            break;
        have += 1 + (size_t)rand_r(&seed) % 7;
        have = MIN(have, size - pos);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1, *p;
    struct outcome whole, cut;
    char type;

    if (size < 1)
        return 0;
    run(&whole, text, size - 1, false, data[0]);
    run(&cut, text, size - 1, true, data[0]);
    CHECK(cut.bad == whole.bad);
    CHECK(cut.end == whole.end);
    CHECK(cut.hash == whole.hash);
    p = text;
    (void)walk(&p, text + size - 1, &type);
    p = text;
    if (resp_skip(&p, text + size - 1))
        CHECK(p > text && p <= text + size - 1);
    return 0;
}
