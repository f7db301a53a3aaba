/*
 * acl.h - may this user run that command? For commands that no server sees because the proxy
 * answers them: the servers are asked by ACL DRYRUN, as the upstream's user.
 *
 * What they say is believed for 10 s. Where DRYRUN is not permitted or nobody can be asked, the
 * default user may run everything, and others everything but what is for administrators.
 * Layer: session. Thread: one worker. Owner: the environment.
 */
#ifndef SESSION_ACL_H
#define SESSION_ACL_H

#include "session/dispatch.h"

struct acl_cache;

/* For a command that the proxy answers, or has to act upon itself: true when it does not go on now,
 * and *result is what the dispatcher returns (it waits until the servers were asked, or was
 * answered with NOPERM). */
MUST_CHECK bool acl_stops(struct client *c, const struct command *cmd, const struct resp_request *r,
                          enum dispatch_result *result);

/* True when the servers said, not long ago, that c's user may run cmd. */
bool acl_allows(const struct client *c, const struct command *cmd);

struct acl_cache *acl_cache_new(struct session_env *env);
void acl_cache_free(struct acl_cache **a);

#endif
