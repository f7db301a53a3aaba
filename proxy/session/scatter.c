#include "session/scatter_parts.h"

#include "base/alloc.h"
#include "session/blocking.h"
#include "session/forward.h"
#include "session/identity.h"
#include "session/long_reply.h"
#include "session/merge.h"

static void scatter_free(struct session_env *env, struct scatter *s)
{
    while (s->parts != NULL) {
        struct request *p = s->parts;

        s->parts = p->next;
        request_free(env, p);
    }
    if (s->home >= 0)
        profile_unref(&env->profiles, (uint16_t)s->home);
    if (s->drop != NULL)
        s->drop(s->data);
    else
        free(s->data);
    free(s);
}

static void finish(struct client *c, struct request *parent)
{
    struct scatter *s = parent->scatter;
    struct chain out;

    chain_init(&out);
    s->finish(c, parent, &out);
    if (parent->state == REQUEST_PARTS && parent->scatter == s && s->pending == 0) {
        identity_return(c, s);
        /* While others are refused the keys it has run with are compared with theirs. */
        if (UNLIKELY(c->refused > 0) && c->head != parent && s->finish == merge_finish) {
            parent->keeps_parts = 1;
        } else {
            parent->scatter = NULL;
            scatter_free(c->env, s);
        }
        client_request_composed(c, parent, &out);
    }
    chain_clear(&out);
}

void scatter_drop_parts(struct session_env *env, struct request *parent)
{
    struct scatter *s = parent->scatter;

    parent->keeps_parts = 0;
    parent->scatter = NULL;
    scatter_free(env, s);
}

static void one_less(struct client *c, struct request *parent)
{
    if (--parent->scatter->pending == 0)
        finish(c, parent);
}

void scatter_part_done(struct client *c, struct request *part)
{
    one_less(c, part->parent);
}

void scatter_close(struct client *c, struct request *parent)
{
    one_less(c, parent);
}

struct request *scatter_open(struct client *c, const struct command *cmd,
                             scatter_finish_fn *finish_fn, void *data)
{
    struct scatter *s = scatter_new(0, finish_fn);

    s->data = data;
    return scatter_parent_new(c, cmd, s);
}

struct request *scatter_add(struct client *c, struct request *parent, uint16_t slot,
                            const char *bytes, uint32_t len)
{
    struct request *p = scatter_part_new(c, parent, slot);

    scatter_link_part(parent->scatter, p);
    forward_new(c, p, bytes, len, NULL);
    return p;
}

struct request *scatter_add_to(struct client *c, struct request *parent, struct beconn *conn,
                               const char *bytes, uint32_t len)
{
    struct request *p = scatter_part_new(c, parent, SLOT_NONE);

    scatter_link_part(parent->scatter, p);
    forward_to(c, p, conn, bytes, len, 1);
    return p;
}

/* A slot by which a part reaches the owner of slot s: the first of its slots that no MOVED has
 * taken to somebody else since the map was made. */
static uint16_t slot_of_owner(const struct upstream *u, uint16_t s)
{
    const struct slotmap *m = u->map;

    for (uint32_t at = s; at < SLOT_COUNT; at++)
        if (m->owner[at] == m->owner[s] && upstream_route(u, at) == u->map_nodes[m->owner[s]])
            return (uint16_t)at;
    return s;
}

void scatter_add_masters(struct client *c, struct request *parent, const char *bytes, uint32_t len)
{
    const struct slotmap *m = c->up->map;
    uint16_t slot = 0;

    /* A master is addressed by a slot of it, so that a part finds the way to its successor. */
    for (uint32_t s = 0, seen = 0; s < SLOT_COUNT && seen < m->node_count; s++) {
        bool first = m->owner[s] != NODE_NONE;

        for (struct request *p = parent->scatter->parts; first && p != NULL; p = p->next)
            first = m->owner[p->slot] != m->owner[s];
        if (first) {
            scatter_add(c, parent, slot_of_owner(c->up, (uint16_t)s), bytes, len);
            seen++;
        }
        s = slotmap_range_end(m, (uint16_t)s);
    }
    if (parent->scatter->parts == NULL)
        scatter_add(c, parent, slot, bytes, len); /* held, then refused */
}

void scatter_masters(struct client *c, const struct command *cmd, const struct resp_request *r,
                     scatter_finish_fn *finish_fn)
{
    struct request *parent = scatter_open(c, cmd, finish_fn, NULL);

    scatter_add_masters(c, parent, r->base, r->len);
    scatter_close(c, parent);
}

/* --- a client leaves --- */

static void orphan_one(struct session_env *env, struct request *r)
{
    if (r->state == REQUEST_SENT && r->is_blocking) {
        r->client = NULL;
        blocking_abandon(r);
    } else if (r->state == REQUEST_SENT || (r->state == REQUEST_STREAMING && long_reply_drop(r)))
        r->client = NULL; /* its reply will come and free it */
    else
        request_free(env, r);
}

void scatter_orphan(struct session_env *env, struct request *r)
{
    struct scatter *s;

    if (r->state != REQUEST_PARTS) {
        orphan_one(env, r);
        return;
    }
    s = r->scatter;
    while (s->parts != NULL) {
        struct request *p = s->parts;

        s->parts = p->next;
        p->parent = NULL;
        orphan_one(env, p);
    }
    scatter_free(env, s);
    request_free(env, r);
}
