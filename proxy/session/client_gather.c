#include "session/client_gather.h"

#include "base/alloc.h"

void client_gather(struct client *c, const struct command *cmd,
                   void (*collect)(struct gather *g, struct session_env *env),
                   void (*finish)(struct gather *g, struct session_env *env), void *data)
{
    struct request *req = request_new(c->env, c, cmd);

    CHECK(c->head == NULL);
    req->epoch = c->up->epoch;
    client_enqueue(c, req);
    client_hold(c, HOLD_BARRIER);
    client_gather_on(c, req, collect, finish, data);
}

void client_gather_on(struct client *c, struct request *req,
                      void (*collect)(struct gather *g, struct session_env *env),
                      void (*finish)(struct gather *g, struct session_env *env), void *data)
{
    struct gather *g = xmalloc(sizeof(*g));

    CHECK(c->head == req && req->next == NULL);
    *g = (struct gather){.collect = collect, .finish = finish, .data = data, .client = c->id};
    req->state = REQUEST_PENDING;
    c->env->hooks->gather(c->env, g);
}

struct client *client_gather_asker(const struct gather *g, struct session_env *env)
{
    for (struct list_node *at = env->clients.next; at != &env->clients; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        /* It is held until its request, the only one, is answered. */
        if (c->id == g->client)
            return c->head != NULL && c->head->state == REQUEST_PENDING ? c : NULL;
    }
    return NULL;
}

void client_gather_end(struct gather *g, struct client *c, struct chain *reply)
{
    if (c != NULL)
        client_request_composed(c, c->head, reply);
    chain_clear(reply);
    gather_free(g);
}
