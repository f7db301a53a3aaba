/*
 * identity.h - who a client is to the servers: the user of its profile, and how it becomes another.
 *
 * Where a listener has `auth: servers`, every AUTH is asked of a server on a connection that serves
 * for nothing else. The client then moves to a profile with that user's credentials, and whatever
 * it asks for goes on connections that were opened with them: the servers' ACLs rule. Before, it is
 * a guest: whom the servers let in without a password is asked of them as well, on a connection of
 * which they know nothing else (RESET, PING). With `auth: proxy` the proxy compares with its
 * configuration, and everybody uses the upstream's credentials.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_IDENTITY_H
#define SESSION_IDENTITY_H

#include "session/dispatch.h"

/* Profiles that do not depend on the upstream; from session_env_init. */
void identity_env_init(struct session_env *env);

/* A new client, or one after RESET: its first profile, and whether it has to AUTH. */
void identity_begin(struct client *c);
/* The client closes: its profile is no longer in use. */
void identity_end(struct client *c);

/* The profile of the same user with this dialect and database; the caller has a reference. -1 when
 * there are too many. */
MUST_CHECK int identity_profile(struct client *c, uint8_t proto, uint16_t db);
/* Moves c to a profile whose reference is taken over. */
void identity_move(struct client *c, int profile);

/* For a client that is `anonymous`: true when cmd does not go on now, and *result is what the
 * dispatcher returns (it waits until the servers were asked, or was answered with NOAUTH). */
MUST_CHECK bool identity_stops(struct client *c, const struct command *cmd,
                               enum dispatch_result *result);

/* For a client that is `anonymous`: true when a request of so many bytes is not waited for, because
 * it has to AUTH first: whom nobody knows may not fill the proxy's memory. */
MUST_CHECK bool identity_too_long(const struct client *c, size_t bytes);

/* A new connection was told to AUTH: the servers let nobody in without. */
void identity_guest_refused(struct upstream *u);

/* A command that can change who is let in. */
bool identity_is_about_users(const struct command *cmd, const struct resp_request *r);

/* One is on its way to the servers: all workers doubt what they know of that (identity_doubt.c). */
void identity_doubt(struct client *c);

/* For what the proxy does in several steps, of which a client knows nothing: until s ends they go
 * on connections of the upstream's own user. c has nothing else under way, and the servers have
 * allowed cmd; where that is not known, nothing changes. */
void identity_borrow(struct client *c, const struct command *cmd, struct scatter *s);
/* The client is on its own profile again. */
void identity_return(struct client *c, struct scatter *s);

/* Its own profile, whatever it has under way. */
const struct profile *identity_own_profile(const struct client *c);
/* The name of its user. */
const char *identity_user(const struct client *c);

/* What AUTH or HELLO ... AUTH was given. */
struct credentials {
    const char *user, *password; /* borrowed */
    uint32_t user_len, password_len;
    bool alone; /* only a password was given: `user` is whom it is meant for */
};

/* What follows an AUTH that succeeded: composes the answer. Freed with free(). */
struct auth_next {
    void (*done)(struct client *c, const struct auth_next *next, struct chain *out);
    uint8_t proto;
    bool named;
    uint32_t name_len;
    char name[];
};

/* Has them checked. Then next->done answers, or the refusal does. c has nothing under way. Takes
 * over next. */
void identity_auth(struct client *c, const struct command *cmd, const struct credentials *who,
                   struct auth_next **next, struct chain *out);

#endif
