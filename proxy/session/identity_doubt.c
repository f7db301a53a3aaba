/*
 * identity_doubt.c - commands about users that pass through the proxy: from then on guests are
 * asked for anew, by all workers, though no password was ever configured.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "session/identity.h"

static void collect(struct gather *g, struct session_env *env)
{
    const size_t *upstream = (const size_t *)g->data;
    struct upstream *u = env->upstreams[*upstream];

    identity_guest_refused(u);
    u->guests_doubt_us = clock_us();
}

bool identity_is_about_users(const struct command *cmd, const struct resp_request *r)
{
    static const char *const names[] = {"acl|setuser", "acl|deluser", "acl|load"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(cmd->name, names[i]) == 0)
            return true;
    for (uint32_t i = 2; strcmp(cmd->name, "config|set") == 0 && i < r->argc; i += 2)
        if (resp_arg_is(r, i, "requirepass"))
            return true;
    return false;
}

void identity_doubt(struct client *c)
{
    size_t *upstream = xmalloc(sizeof(*upstream));

    *upstream = c->up->index;
    gather_tell(c->env, collect, upstream);
}
