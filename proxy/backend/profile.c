#include "backend/profile.h"

#include "base/alloc.h"

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool profile_same_user(const struct profile *a, const struct profile *b)
{
    return a->guest == b->guest && same_text(a->user, b->user) &&
           same_text(a->password, b->password);
}

static bool same(const struct profile *a, const struct profile *b)
{
    return a->proto == b->proto && a->readonly == b->readonly && a->db == b->db &&
           a->no_touch == b->no_touch && a->bare == b->bare && a->db_first == b->db_first &&
           profile_same_user(a, b);
}

static void wipe(struct profile *p)
{
    free(p->user);
    if (p->password != NULL)
        explicit_bzero(p->password, strlen(p->password));
    free(p->password);
    memset(p, 0, sizeof(*p));
}

int profile_find(struct profile_table *t, const struct profile *wanted)
{
    struct profile *p;
    size_t at = t->count;

    for (size_t i = 0; i < t->count; i++) {
        p = &t->profiles[i];
        if (p->refs == 0) {
            at = MIN(at, i);
        } else if (same(p, wanted)) {
            p->refs++;
            return (int)i;
        }
    }
    if (at == PROFILE_MAX)
        return -1;
    if (at == t->cap) {
        t->cap = t->cap > 0 ? t->cap * 2 : 8;
        t->profiles = xrealloc(t->profiles, t->cap * sizeof(*t->profiles));
    }
    t->count = MAX(t->count, at + 1);
    p = &t->profiles[at];
    *p = *wanted;
    p->user = wanted->user != NULL ? xstrdup(wanted->user) : NULL;
    p->password = wanted->password != NULL ? xstrdup(wanted->password) : NULL;
    p->refs = 1;
    return (int)at;
}

void profile_unref(struct profile_table *t, uint16_t i)
{
    CHECK(i < t->count && t->profiles[i].refs > 0);
    if (--t->profiles[i].refs == 0)
        wipe(&t->profiles[i]);
}

void profile_table_deinit(struct profile_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->profiles[i].refs > 0)
            wipe(&t->profiles[i]);
    free(t->profiles);
    *t = (struct profile_table){.count = 0};
}
