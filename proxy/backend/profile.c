#include "backend/profile.h"

#include "base/alloc.h"

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same(const struct profile *a, const struct profile *b)
{
    return a->proto == b->proto && a->readonly == b->readonly && a->db == b->db &&
           same_text(a->user, b->user) && same_text(a->password, b->password);
}

int profile_find(struct profile_table *t, const struct profile *wanted)
{
    struct profile *p;

    for (size_t i = 0; i < t->count; i++)
        if (same(&t->profiles[i], wanted))
            return (int)i;
    if (t->count == PROFILE_MAX)
        return -1;
    p = &t->profiles[t->count];
    *p = *wanted;
    p->user = wanted->user != NULL ? xstrdup(wanted->user) : NULL;
    p->password = wanted->password != NULL ? xstrdup(wanted->password) : NULL;
    return (int)t->count++;
}

void profile_table_deinit(struct profile_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->profiles[i].user);
        free(t->profiles[i].password);
    }
    t->count = 0;
}
