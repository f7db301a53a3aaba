/*
 * refusal.h - reading a server's error: is it an answer, or did the request not run?
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_REFUSAL_H
#define SESSION_REFUSAL_H

#include "session/client.h"

struct refusal_info {
    struct node *target; /* MOVED, ASK: where to; NULL when the name is not known (yet) */
};

/* What the error reply of node n to r means. Scripts and functions can return any text, so for them
 * it counts only when it is word for word the server's and names r's slot and a known node. */
enum refusal refusal_parse(struct upstream *u, const struct node *n, const struct request *r,
                           const struct bereply *reply, struct refusal_info *info);

/* True when r, a write that was refused, shares a key with a later request of its client that was
 * executed meanwhile: sending r now would turn their order round. */
bool refusal_overtaken(struct client *c, const struct request *r);

#endif
