#include "session/learning.h"

#include "session/dispatch_error.h"
#include "session/identity.h"

void learning_adopt(struct upstream *u, struct learnt *l)
{
    struct list_node *at, *tmp;

    learnt_unref(&u->learnt);
    u->learnt = l;
    if (l->asks_auth)
        identity_guest_refused(u);
    LIST_FOREACH (at, tmp, &u->env->clients) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        if ((c->hold & HOLD_LEARNING) != 0 && c->up == u)
            client_unhold(c, HOLD_LEARNING);
    }
}

/* Only in the first moments of the process: the control thread publishes what it knows, nothing if
 * need be, within topology.query_timeout. */
static bool must_wait(struct client *c)
{
    if (c->up->learnt != NULL || !c->env->config->learn_commands)
        return false;
    client_hold(c, HOLD_LEARNING);
    return true;
}

bool learning_find(struct client *c, const struct resp_request *r, const struct command **cmd)
{
    *cmd = learnt_find(c->up->learnt, r, *cmd);
    if (*cmd != NULL)
        return true;
    if (must_wait(c))
        return false;
    if (c->env->config->learn_commands)
        c->env->hooks->want_commands(c->env, c->up->index);
    return true;
}

void learning_refuse(struct client *c, const struct command *cmd)
{
    const struct learnt_command *l = learnt_of(cmd);

    if (l->guarded)
        dispatch_error(c, cmd, ERROR_GUARDED);
    else
        dispatch_error_text(c, cmd, "ERR KEYWAY '%s' cannot be used: %s", cmd->name, l->refused);
}
