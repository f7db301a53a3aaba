/*
 * local_tracking.c - what the proxy does not offer a client, said as a server says it that does not
 * offer it either: an OK would make clients wait for pushes that never come, or trust stale caches.
 */
#include "resp/write.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"

bool local_is_offered(const struct client *c, enum command_local l)
{
    switch (l) {
    case LOCAL_CLIENT_NOT_OFFERED: /* CLIENT TRACKING */
        return false;
    case LOCAL_CLIENT_CAPA:
        return upstream_valkey(c->up) != NULL;
    case LOCAL_CLIENT_NO_TOUCH:
    case LOCAL_WAITAOF:
        return upstream_is_from(c->up, "7.2.0");
    default:
        return true;
    }
}

static void not_offered(const struct resp_request *r, struct chain *out)
{
    resp_write_error(out, "ERR unknown subcommand '%.*s'. Try CLIENT HELP.",
                     (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1));
}

HANDLER(CLIENT_NOT_OFFERED)
{
    UNUSED;
    not_offered(r, out);
}

/* "redirect" means that the client would follow a replica's word to its master. There is only a
 * master here, so nothing follows from it; other words a server ignores. */
HANDLER(CLIENT_CAPA)
{
    UNUSED;
    if (!local_is_offered(c, cmd->local))
        not_offered(r, out);
    else
        resp_write_simple(out, "OK");
}

/* Connections on which it is on are another profile's. */
HANDLER(CLIENT_NO_TOUCH)
{
    struct profile wanted = c->env->profiles.profiles[c->profile];
    int profile;

    UNUSED;
    wanted.no_touch = resp_arg_is(r, 2, "on");
    if (!local_is_offered(c, cmd->local)) {
        not_offered(r, out);
        return;
    }
    if (!wanted.no_touch && !resp_arg_is(r, 2, "off")) {
        error_write(out, ERROR_SYNTAX);
        return;
    }
    profile = profile_find(&c->env->profiles, &wanted);
    if (profile < 0) {
        error_write(out, ERROR_PROFILES);
        return;
    }
    identity_move(c, profile);
    resp_write_simple(out, "OK");
}

HANDLER(CLIENT_CACHING)
{
    UNUSED;
    resp_write_error(out, "ERR CLIENT CACHING can be called only when the client is in tracking "
                          "mode with OPTIN or OPTOUT mode enabled");
}

HANDLER(CLIENT_GETREDIR)
{
    UNUSED;
    resp_write_int(out, -1);
}

HANDLER(CLIENT_TRACKINGINFO)
{
    UNUSED;
    resp_write_map(out, c->proto, 3);
    resp_write_text(out, "flags");
    resp_write_set(out, c->proto, 1);
    resp_write_text(out, "off");
    resp_write_text(out, "redirect");
    resp_write_int(out, -1);
    resp_write_text(out, "prefixes");
    resp_write_array(out, 0);
}

/* memory_max closes the client that holds most, except those that asked not to be. */
HANDLER(CLIENT_NO_EVICT)
{
    bool on = resp_arg_is(r, 2, "on");

    UNUSED;
    if (!on && !resp_arg_is(r, 2, "off")) {
        error_write(out, ERROR_SYNTAX);
        return;
    }
    if (on || c->extra != NULL)
        client_extra(c)->no_evict = on;
    resp_write_simple(out, "OK");
}
