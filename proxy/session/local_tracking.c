/*
 * local_tracking.c - what the proxy does not offer a client, said as a server says it that does not
 * offer it either: an OK would make clients wait for pushes that never come, or trust stale caches.
 */
#include "resp/write.h"
#include "session/error.h"
#include "session/local.h"

/* CLIENT TRACKING, CAPA, NO-TOUCH. */
HANDLER(CLIENT_NOT_OFFERED)
{
    UNUSED;
    resp_write_error(out, "ERR unknown subcommand '%.*s'. Try CLIENT HELP.",
                     (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1));
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
