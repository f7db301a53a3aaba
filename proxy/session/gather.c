#include "session/gather.h"

#include "base/alloc.h"
#include "session/env.h"

void gather_append(struct gather *g, const char *p, size_t n)
{
    if (g->len + n > g->cap) {
        g->cap = MAX(g->cap * 2, g->len + n);
        g->text = xrealloc(g->text, g->cap);
    }
    memcpy(g->text + g->len, p, n);
    g->len += n;
}

static void finish_told(struct gather *g, struct session_env *env)
{
    (void)env;
    gather_free(g);
}

void gather_tell(struct session_env *env, void (*collect)(struct gather *, struct session_env *),
                 void *data)
{
    struct gather *g = xcalloc(1, sizeof(*g));

    g->collect = collect;
    g->finish = finish_told;
    g->data = data;
    collect(g, env);
    if (env->worker_count > 1)
        env->hooks->gather(env, g);
    else
        gather_free(g);
}

void gather_free(struct gather *g)
{
    free(g->text);
    free(g->data);
    free(g);
}
