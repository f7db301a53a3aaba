/*
 * scripts.h - bodies of scripts that clients have sent, by their SHA-1.
 *
 * A node that was restarted, promoted or added lacks the scripts of the others and answers EVALSHA
 * with NOSCRIPT. The request has not run; with a body that is remembered it is sent again as EVAL,
 * once, by the rules of any refused request (session/redirect.h). A body counts when a server has
 * taken it. Until then it is there for the client that has sent it, whose pipeline may go on with
 * EVALSHA at another server; one that does not compile, or may not be run, is forgotten.
 * Layer: session. Thread: one worker. Owner: env->scripts. Bound: scripts_max_bytes, then the least
 * recently used body goes.
 */
#ifndef SESSION_SCRIPTS_H
#define SESSION_SCRIPTS_H

#include "base/sha1.h"
#include "session/client.h"
#include "session/scatter.h"

struct scripts;

struct script {
    const char *body;
    uint32_t len;
    bool taken; /* false: known to this client alone, by an EVAL of its own */
};

struct scripts *scripts_new(uint64_t max_bytes);
void scripts_free(struct scripts **s);

#define SCRIPT_TAKEN 0 /* in place of a client's id: a server has taken it */

/* Remembers a body; one that is there already becomes the most recently used. `by`: the client that
 * has sent it, or SCRIPT_TAKEN. True when a server has taken it, now or before. */
bool scripts_remember(struct scripts *s, const char *body, uint32_t len, uint64_t by);

/* No server took the body that client `by` has sent. */
void scripts_reject(struct scripts *s, const char *body, uint32_t len, uint64_t by);

/* The body whose SHA-1 these n bytes are, in any case; false when it is not there for this client.
 * What it points to is valid until the next call that remembers or forgets. */
MUST_CHECK bool scripts_find(struct scripts *s, uint64_t client, const char *sha, size_t n,
                             struct script *out);

/* Forgets all. */
void scripts_forget(struct scripts *s);

/* A client's EVAL, or SCRIPT LOAD for one server, is in its queue: its answer decides about the
 * body. */
void scripts_see(struct client *c, const struct command *cmd, const struct resp_request *r);

/* r, which scripts_see has marked, is answered. */
void scripts_answered(struct session_env *env, const struct request *r,
                      const struct bereply *reply);

/* The answer to EVAL or SCRIPT LOAD (cmd) tells that a server has the body. */
void scripts_told(struct session_env *env, const struct command *cmd, const struct resp_request *r,
                  const char *reply, size_t len);

/* SCRIPT LOAD or FLUSH: only who may run it may change what is remembered. */
bool scripts_is_news(const struct command *cmd);

/* If it is SCRIPT FLUSH, which is about to be sent, all workers forget all. */
void scripts_flush(struct client *c, const struct command *cmd);

/* How the answers of all masters to a command become one; of SCRIPT LOAD all workers then remember
 * the body. */
scatter_finish_fn *scripts_finish(const struct command *cmd);

/* r got NOSCRIPT: true when it is an EVALSHA whose body is there, and not brought by what its
 * client has sent behind it: run late, it would be out of its turn. */
MUST_CHECK bool scripts_can_repair(struct session_env *env, const struct request *r);

/* Makes an EVAL of r, for which scripts_can_repair holds. */
void scripts_repair(struct session_env *env, struct request *r);

#endif
