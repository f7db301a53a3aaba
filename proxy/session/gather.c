#include "session/gather.h"

#include "base/alloc.h"

void gather_append(struct gather *g, const char *p, size_t n)
{
    if (g->len + n > g->cap) {
        g->cap = MAX(g->cap * 2, g->len + n);
        g->text = xrealloc(g->text, g->cap);
    }
    memcpy(g->text + g->len, p, n);
    g->len += n;
}

void gather_free(struct gather *g)
{
    free(g->text);
    free(g->data);
    free(g);
}
