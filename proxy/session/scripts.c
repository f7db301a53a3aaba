#include "session/scripts.h"

#include "base/alloc.h"

/* Chosen by the first 12 bits of the digest: short chains up to some 10,000 scripts. */
#define BUCKETS 4096

struct entry {
    struct entry *next;   /* in its bucket */
    struct list_node lru; /* the least recently used first */
    char sha[SHA1_HEX_LEN + 1];
    uint32_t len;
    uint64_t by; /* SCRIPT_TAKEN; else the client that has sent it, and may use it */
    char body[];
};

struct scripts {
    uint64_t max_bytes, bytes;
    struct list_node lru;
    struct entry *last; /* remembered most recently: the same EVAL again needs no digest */
    struct entry *buckets[BUCKETS];
};

struct scripts *scripts_new(uint64_t max_bytes)
{
    struct scripts *s = xcalloc(1, sizeof(*s));

    s->max_bytes = max_bytes;
    list_init(&s->lru);
    return s;
}

static unsigned nibble(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10) & 15u;
}

static struct entry **bucket_of(struct scripts *s, const char *sha)
{
    return &s->buckets[nibble(sha[0]) << 8 | nibble(sha[1]) << 4 | nibble(sha[2])];
}

static size_t cost(const struct entry *e)
{
    return sizeof(*e) + e->len;
}

static void drop(struct scripts *s, struct entry *e)
{
    struct entry **at = bucket_of(s, e->sha);

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    if (s->last == e)
        s->last = NULL;
    s->bytes -= cost(e);
    list_unlink(&e->lru);
    free(e);
}

void scripts_forget(struct scripts *s)
{
    while (!list_empty(&s->lru))
        drop(s, CONTAINER_OF(s->lru.next, struct entry, lru));
}

void scripts_free(struct scripts **p)
{
    struct scripts *s = *p;

    *p = NULL;
    if (s == NULL)
        return;
    scripts_forget(s);
    free(s);
}

static struct entry *lookup(struct scripts *s, const char *sha)
{
    for (struct entry *e = *bucket_of(s, sha); e != NULL; e = e->next)
        if (memcmp(e->sha, sha, SHA1_HEX_LEN) == 0)
            return e;
    return NULL;
}

static void touch(struct scripts *s, struct entry *e)
{
    list_unlink(&e->lru);
    list_push(&s->lru, &e->lru);
}

/* Room for a body. One that no server has taken makes none that was taken go. */
static bool make_room(struct scripts *s, uint32_t len, uint64_t by)
{
    if (sizeof(struct entry) + len > s->max_bytes)
        return false;
    while (s->bytes + sizeof(struct entry) + len > s->max_bytes) {
        struct entry *oldest = CONTAINER_OF(s->lru.next, struct entry, lru);

        if (by != SCRIPT_TAKEN && oldest->by == SCRIPT_TAKEN)
            return false;
        drop(s, oldest);
    }
    return true;
}

static void add(struct scripts *s, const char *sha, const char *body, uint32_t len, uint64_t by)
{
    struct entry *e = xmalloc(sizeof(*e) + len);

    e->len = len;
    e->by = by;
    memcpy(e->sha, sha, SHA1_HEX_LEN + 1);
    memcpy(e->body, body, len);
    e->next = *bucket_of(s, sha);
    *bucket_of(s, sha) = e;
    list_init(&e->lru);
    list_push(by == SCRIPT_TAKEN ? &s->lru : s->lru.next, &e->lru);
    s->bytes += cost(e);
    if (by == SCRIPT_TAKEN)
        s->last = e;
}

bool scripts_remember(struct scripts *s, const char *body, uint32_t len, uint64_t by)
{
    struct entry *e = s->last;
    char sha[SHA1_HEX_LEN + 1];

    if (e != NULL && e->len == len && memcmp(e->body, body, len) == 0)
        return true;
    sha1_hex(body, len, sha);
    e = lookup(s, sha);
    if (e != NULL && by == SCRIPT_TAKEN)
        e->by = SCRIPT_TAKEN;
    if (e != NULL && e->by == SCRIPT_TAKEN) {
        touch(s, e);
        s->last = e;
    } else if (e == NULL && make_room(s, len, by)) {
        add(s, sha, body, len, by);
    }
    return by == SCRIPT_TAKEN || (e != NULL && e->by == SCRIPT_TAKEN);
}

void scripts_reject(struct scripts *s, const char *body, uint32_t len, uint64_t by)
{
    char sha[SHA1_HEX_LEN + 1];
    struct entry *e;

    sha1_hex(body, len, sha);
    e = lookup(s, sha);
    if (e != NULL && e->by == by && by != SCRIPT_TAKEN)
        drop(s, e);
}

bool scripts_find(struct scripts *s, uint64_t client, const char *sha, size_t n, struct script *out)
{
    char lower[SHA1_HEX_LEN];
    struct entry *e;

    if (n != SHA1_HEX_LEN)
        return false;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(sha[i] >= 'A' && sha[i] <= 'Z' ? sha[i] + ('a' - 'A') : sha[i]);
    e = lookup(s, lower);
    if (e == NULL || (e->by != SCRIPT_TAKEN && e->by != client))
        return false;
    if (e->by == SCRIPT_TAKEN)
        touch(s, e);
    out->body = e->body;
    out->len = e->len;
    out->taken = e->by == SCRIPT_TAKEN;
    return true;
}
