/*
 * scatter.h - one request that goes to several servers, or to one in several pieces.
 *
 * The parts are requests of their own: each is routed, held and sent again like any other. When the
 * last one is answered the scatter's finish function makes one reply of them.
 * Layer: session. Thread: one worker. Owner: the parent request.
 */
#ifndef SESSION_SCATTER_H
#define SESSION_SCATTER_H

#include "session/client.h"

struct scatter;

/* Composes the reply from the parts (all REQUEST_DONE) into out. */
typedef void scatter_finish_fn(struct client *c, struct request *parent, struct chain *out);

/* Tells, before a part's reply is stored, which server answered it. */
typedef void scatter_answered_fn(struct request *part, const struct node *n);

struct scatter {
    scatter_finish_fn *finish;
    scatter_answered_fn *answered_by; /* NULL: nobody wants to know */
    struct request *parts, **tail;    /* in the order they were added */
    uint32_t pending;                 /* parts without a reply, and one for the builder */
    uint32_t keys;                    /* keys of the parent */
    void *data;                       /* of finish; freed with the scatter */
    void (*drop)(void *data);         /* how to free it; NULL: free() */
    int32_t home;     /* the client's own profile, with its reference, while it is on another; -1 */
    uint32_t order[]; /* ordinals of the keys, part by part (request.first, count) */
};

/* Splits a multi-key command by slot and sends the parts. The keys are range's. */
void scatter_keys(struct client *c, const struct command *cmd, const struct resp_request *r,
                  const struct command_key_range *range);

/* Sends the request as it is to every master. */
void scatter_masters(struct client *c, const struct command *cmd, const struct resp_request *r,
                     scatter_finish_fn *finish);
/* For commands made of several steps: a parent at the end of c's queue without parts yet. */
struct request *scatter_open(struct client *c, const struct command *cmd, scatter_finish_fn *finish,
                             void *data);
/* Adds a part for every master; at least one. */
void scatter_add_masters(struct client *c, struct request *parent, const char *bytes, uint32_t len);
/* Adds a part and sends it to the node that serves `slot`. */
struct request *scatter_add(struct client *c, struct request *parent, uint16_t slot,
                            const char *bytes, uint32_t len);
/* Adds a part and sends it on this connection. It is for that server alone: if it cannot be
 * answered now, the part fails at once (request.failed) instead of being held. */
struct request *scatter_add_to(struct client *c, struct request *parent, struct beconn *conn,
                               const char *bytes, uint32_t len);
/* All parts are added: from now on the last reply finishes it. The parent may be gone after. */
void scatter_close(struct client *c, struct request *parent);

/* A part's reply is stored. */
void scatter_part_done(struct client *c, struct request *part);

/* Splits a refused request that met TRYAGAIN into one part a key, where its command allows. True:
 * done, the client's queue has changed. */
MUST_CHECK bool scatter_split(struct client *c, struct request *r);

/* Frees the parts that a finished request has kept (keeps_parts). */
void scatter_drop_parts(struct session_env *env, struct request *parent);

/* The client closes: r and its parts are freed, or orphaned while a connection has them. */
void scatter_orphan(struct session_env *env, struct request *r);

#endif
