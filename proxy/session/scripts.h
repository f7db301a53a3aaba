/*
 * scripts.h - bodies of scripts that clients have sent, by their SHA-1.
 *
 * A node that was restarted, promoted or added lacks the scripts of the others and answers EVALSHA
 * with NOSCRIPT. The request has not run; with a body that is remembered it is sent again as EVAL,
 * once, by the rules of any refused request (session/redirect.h).
 * Layer: session. Thread: one worker. Owner: env->scripts. Bound: scripts_max_bytes, then the least
 * recently used body goes.
 */
#ifndef SESSION_SCRIPTS_H
#define SESSION_SCRIPTS_H

#include "base/sha1.h"
#include "session/client.h"

struct scripts;

struct script {
    const char *body;
    uint32_t len;
};

struct scripts *scripts_new(uint64_t max_bytes);
void scripts_free(struct scripts **s);

/* Remembers a body; one that is there already becomes the most recently used. */
void scripts_remember(struct scripts *s, const char *body, uint32_t len);

/* The body whose SHA-1 these n bytes are, in any case; false when it is not there. What it points
 * to is valid until the next call that remembers or forgets. */
MUST_CHECK bool scripts_find(struct scripts *s, const char *sha, size_t n, struct script *out);

/* Forgets all. */
void scripts_forget(struct scripts *s);

/* A client sends EVAL (or another command with CMD_SCRIPT): its body is remembered. */
void scripts_see(struct client *c, const struct command *cmd, const struct resp_request *r);

/* SCRIPT LOAD or FLUSH: only who may run it may change what is remembered. */
bool scripts_is_news(const struct command *cmd);

/* A client sends SCRIPT LOAD or FLUSH: all workers remember its body, or forget all. */
void scripts_see_all(struct client *c, const struct command *cmd, const struct resp_request *r);

/* r got NOSCRIPT: true when it is an EVALSHA whose body is there. */
MUST_CHECK bool scripts_can_repair(struct session_env *env, const struct request *r);

/* Makes an EVAL of r, for which scripts_can_repair holds. */
void scripts_repair(struct session_env *env, struct request *r);

#endif
