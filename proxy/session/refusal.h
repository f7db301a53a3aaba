/*
 * refusal.h - reading a server's error: is it an answer, or did the request not run?
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_REFUSAL_H
#define SESSION_REFUSAL_H

#include "session/client.h"
#include "session/error.h"

struct refusal_info {
    struct node *target; /* MOVED, ASK: where to; NULL when the name is not known (yet) */
};

/* What the error reply of node n to r means. Scripts and functions can return any text, so for them
 * it counts only when it is word for word the server's and names r's slot and a node of the map.
 * When it names another node it is unsure: the map may not have heard of that node yet. */
enum refusal refusal_parse(struct upstream *u, const struct node *n, const struct request *r,
                           const struct bereply *reply, struct refusal_info *info);

/* How long the next map may take that names the node of an unsure refusal. */
#define REFUSAL_UNSURE_MS 1000

/* The error that a client gets when waiting did not help. */
enum error_id refusal_error(enum refusal why);

static inline bool refusal_is_unsure(enum refusal why)
{
    return why == REFUSAL_MOVED_UNSURE || why == REFUSAL_ASK_UNSURE;
}

/* True when the map names the node by now: r's unsure refusal was the server's. */
MUST_CHECK bool refusal_confirm(struct client *c, struct request *r);

/* Writes an unsure refusal as it came; returns its length. */
size_t refusal_text(const struct request *r, char *out, size_t size);

/* True when r, a write that was refused, shares a key with a later request of its client that was
 * executed meanwhile: sending r now would turn their order round. */
bool refusal_overtaken(struct client *c, const struct request *r);

#endif
