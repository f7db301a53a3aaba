#include "control/discovery_resolve.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "control/lookup.h"

/* A name that does not resolve can take seconds to fail: not asked again at once. */
#define FAILED_MS 5000
/* After failed connections a name is looked up again, but not for each of them. */
#define DOUBTED_MS 1000
/* Names not asked for during so many lifetimes are forgotten. */
#define FORGET_LIVES 10

struct entry {
    struct addr addr;
    struct lookup *lookup; /* NULL: none is under way */
    struct sockaddr_any choice[LOOKUP_MAX];
    size_t choice_count; /* 0: never resolved */
    size_t chosen;
    uint64_t looked_up_ms, used_ms;
    bool failed, doubted;
};

struct resolver {
    struct entry *entries;
    size_t count, cap;
    const struct config_upstream *conf;
    struct lookups *lookups;
    uint32_t resolve_ms;
};

struct resolver *resolver_new(const struct config_upstream *conf, struct lookups *lookups,
                              uint32_t resolve_ms)
{
    struct resolver *r = xcalloc(1, sizeof(*r));

    r->conf = conf;
    r->lookups = lookups;
    r->resolve_ms = resolve_ms;
    return r;
}

void resolver_free(struct resolver **r)
{
    for (size_t i = 0; i < (*r)->count; i++)
        lookup_give_up(&(*r)->entries[i].lookup);
    free((*r)->entries);
    free(*r);
    *r = NULL;
}

static struct entry *find(struct resolver *r, const struct addr *a)
{
    for (size_t i = 0; i < r->count; i++)
        if (addr_equal(&r->entries[i].addr, a))
            return &r->entries[i];
    return NULL;
}

static void forget_unused(struct resolver *r, uint64_t now)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->count; i++)
        if (now - r->entries[i].used_ms < (uint64_t)r->resolve_ms * FORGET_LIVES)
            r->entries[kept++] = r->entries[i];
        else
            lookup_give_up(&r->entries[i].lookup);
    r->count = kept;
}

static struct entry *add(struct resolver *r, const struct addr *a, uint64_t now)
{
    struct entry *e;

    if (r->count == r->cap)
        forget_unused(r, now);
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        r->entries = xrealloc(r->entries, r->cap * sizeof(*r->entries));
    }
    e = &r->entries[r->count++];
    memset(e, 0, sizeof(*e));
    e->addr = *a;
    return e;
}

static bool stale(const struct resolver *r, const struct entry *e, uint64_t now)
{
    uint64_t life = r->resolve_ms;

    if (e->lookup != NULL)
        return false;
    if (e->failed)
        life = MIN(life, FAILED_MS);
    else if (e->doubted)
        life = MIN(life, DOUBTED_MS);
    return e->looked_up_ms == 0 || now - e->looked_up_ms >= life;
}

/* A name that no longer resolves keeps its last addresses: the name service may be down while the
 * servers are not. True: another address is to be used than before. */
static bool take_found(struct entry *e)
{
    struct sockaddr_any found[LOOKUP_MAX], old = {0};
    size_t n = lookup_take(&e->lookup, found);

    e->failed = n == 0;
    e->looked_up_ms = clock_ms();
    if (n == 0)
        return false;
    if (e->choice_count > 0)
        old = e->choice[e->chosen];
    memcpy(e->choice, found, n * sizeof(*found));
    e->choice_count = n;
    e->chosen = 0;
    for (size_t i = 0; i < n; i++)
        if (sockaddr_equal(&found[i], &old))
            e->chosen = i;
    return !sockaddr_equal(&e->choice[e->chosen], &old);
}

/* It is awaited for a moment; if that is not enough, resolver_settle takes what is found. */
static void look_up(struct resolver *r, struct entry *e)
{
    e->doubted = false;
    e->looked_up_ms = clock_ms();
    e->lookup = lookup_start(r->lookups, &e->addr);
    if (e->lookup == NULL)
        e->failed = true;
    else if (lookup_is_done(e->lookup, true))
        (void)take_found(e);
}

bool resolver_settle(struct resolver *r)
{
    bool changed = false;

    for (size_t i = 0; i < r->count; i++)
        if (r->entries[i].lookup != NULL && lookup_is_done(r->entries[i].lookup, false))
            changed |= take_found(&r->entries[i]);
    return changed;
}

bool resolver_get(struct resolver *r, const struct addr *announced, struct sockaddr_any *out)
{
    struct addr a = config_dialled(r->conf, announced);
    uint64_t now = clock_ms();
    struct entry *e;

    if (addr_numeric(&a, out))
        return true;
    e = find(r, &a);
    if (e == NULL)
        e = add(r, &a, now);
    if (stale(r, e, now))
        look_up(r, e);
    e->used_ms = clock_ms();
    memset(out, 0, sizeof(*out));
    if (e->choice_count > 0)
        *out = e->choice[e->chosen];
    return out->len != 0;
}

const char *resolver_failure(struct resolver *r, const struct addr *announced)
{
    struct addr a = config_dialled(r->conf, announced);
    const struct entry *e = find(r, &a);

    return e != NULL && e->lookup != NULL ? "the name service has not answered yet"
                                          : "the name does not resolve";
}

void resolver_doubt(struct resolver *r, const struct addr *announced, bool unreachable)
{
    struct addr a = config_dialled(r->conf, announced);
    struct entry *e = find(r, &a);

    if (e == NULL)
        return;
    e->doubted = true;
    if (unreachable && e->choice_count > 0)
        e->chosen = (e->chosen + 1) % e->choice_count;
}

bool resolver_has_choice(struct resolver *r, const struct addr *announced)
{
    struct addr a = config_dialled(r->conf, announced);
    const struct entry *e = find(r, &a);

    return e != NULL && e->choice_count > 1;
}
