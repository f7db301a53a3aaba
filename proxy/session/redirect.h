/*
 * redirect.h - requests that came back without having run: MOVED, ASK, TRYAGAIN, a node that is
 * down, loading or demoted.
 *
 * The client is held; when the replies of everything else it had sent are in, its refused requests
 * are sent again in program order, each when its node can take it. A node in outage is tried by
 * one client at a time; the others wait for its first good answer. The time a request may wait is
 * measured from the begin of the outage, not of the request.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_REDIRECT_H
#define SESSION_REDIRECT_H

#include "session/client.h"
#include "session/error.h"

/* What an error reply of node n to request r means: REFUSAL_NONE when it is the answer. Reroutes
 * the slot for MOVED, remembers the target of an ASK, starts the outage of a node that cannot
 * serve. */
enum refusal redirect_classify(struct upstream *u, struct node *n, struct request *r,
                               const struct bereply *reply);

/* Marks r as refused and holds its client; fails r at once when it may not wait. */
void redirect_hold(struct client *c, struct request *r, enum refusal why);

/* Answers r, which no connection has, with an error of the proxy's own. */
void redirect_fail(struct client *c, struct request *r, enum error_id id);

/* The client closes: r no longer counts as held, nor does any part of it. */
void redirect_forget(struct client *c, struct request *r);

/* Drops r's claim on the target of an ASK. */
void redirect_drop_target(struct request *r);

/* The client no longer waits (it closes). */
void redirect_stop_waiting(struct client *c);

/* A server refuses conn's user, with this reply: so it is to blocks, which wait without being sent
 * until a connection is ready. */
void redirect_user_refused(struct beconn *conn, const struct bereply *reply);

/* Something has changed: waiting clients are looked at before the loop sleeps. */
void redirect_wake(struct session_env *env);

/* Looks at waiting clients; called once a turn. */
void redirect_on_turn(struct session_env *env);

/* Starts and stops what the worker's environment needs for this. */
void redirect_init(struct session_env *env);
void redirect_deinit(struct session_env *env);

#endif
