/*
 * scatter_parts.h - making a scatter and its parts, for the files that do.
 * Layer: session (session/scatter*.c only). Thread: one worker. Owner: the scatter owns linked
 * parts, its parent owns the scatter.
 */
#ifndef SESSION_SCATTER_PARTS_H
#define SESSION_SCATTER_PARTS_H

#include "base/alloc.h"
#include "session/scatter.h"

/* A scatter for so many keys; its builder is counted in pending. */
static inline struct scatter *scatter_new(uint32_t keys, scatter_finish_fn *finish)
{
    struct scatter *s = xmalloc(sizeof(*s) + keys * sizeof(s->order[0]));

    *s = (struct scatter){.finish = finish, .pending = 1, .keys = keys, .home = -1};
    s->tail = &s->parts;
    return s;
}

/* A part of parent, not yet linked. */
static inline struct request *scatter_part_new(struct client *c, struct request *parent,
                                               uint16_t slot)
{
    struct request *p = request_new(c->env, c, parent->cmd);

    p->is_part = 1;
    p->parent = parent;
    p->slot = slot;
    p->be.whole = true;
    return p;
}

static inline void scatter_link_part(struct scatter *s, struct request *p)
{
    *s->tail = p;
    s->tail = &p->next;
    s->pending++;
}

/* A request at the end of c's queue, which s belongs to. */
static inline struct request *scatter_parent_new(struct client *c, const struct command *cmd,
                                                 struct scatter *s)
{
    struct request *r = request_new(c->env, c, cmd);

    r->state = REQUEST_PARTS;
    r->scatter = s;
    r->epoch = c->up->epoch;
    client_enqueue(c, r);
    return r;
}

#endif
