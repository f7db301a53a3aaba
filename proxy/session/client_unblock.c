/*
 * client_unblock.c - CLIENT UNBLOCK; over all workers.
 *
 * Whether a command still waits, or its answer is on the way, only its server knows. So that server
 * is asked to end it, by the server's own number of the connection. That connection is used for
 * nothing else any more: the word could reach it late.
 */
#include "base/alloc.h"
#include "resp/write.h"
#include "session/blocking.h"
#include "session/client_gather.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/local.h"
#include "session/redirect.h"
#include "session/wait.h"

struct unblock_order {
    int64_t id;
    bool error; /* it gets an error, not what the end of its time would give */
    enum {
        UNBLOCK_NOBODY,
        UNBLOCK_ANSWERED,
        UNBLOCK_AT_SERVER,
        UNBLOCK_IMPOSSIBLE,
    } found;
    size_t upstream;
    struct addr addr; /* of the server */
    int64_t server_id;
};

static const char *nil_of(const struct client *c, const struct command *cmd)
{
    if (c->proto == 3)
        return "_\r\n";
    return strcmp(cmd->name, "blmove") == 0 || strcmp(cmd->name, "brpoplpush") == 0 ? "$-1\r\n"
                                                                                    : "*-1\r\n";
}

/* It waits for a node, not at one: it has not run. */
static void answer_held(const struct unblock_order *o, struct client *c)
{
    const char *text =
        o->error ? "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n" : nil_of(c, c->head->cmd);

    redirect_forget(c, c->head);
    client_request_done(c, c->head, text, strlen(text), NULL);
    redirect_wake(c->env);
}

static void unblock(struct unblock_order *o, struct client *c)
{
    struct beconn *conn = blocking_connection(c->head);

    if (conn != NULL && conn->state != BECONN_READY) {
        conn->retired = true;
        beconn_close(conn, NULL); /* nothing was sent yet: the request comes back, and is held */
    }
    if (!blocking_is_on(c)) {
        o->found = UNBLOCK_ANSWERED; /* it could not be held: it has its error */
    } else if (c->head->state == REQUEST_REFUSED && !o->error && command_is_learnt(c->head->cmd)) {
        o->found = UNBLOCK_NOBODY; /* only its module knows what it says when its time is over */
    } else if (c->head->state == REQUEST_REFUSED) {
        answer_held(o, c);
        o->found = UNBLOCK_ANSWERED;
    } else if (conn->server_id == 0) {
        o->found = UNBLOCK_IMPOSSIBLE;
    } else {
        const struct upstream *u = conn->node->user;

        o->found = UNBLOCK_AT_SERVER;
        o->upstream = u->index;
        o->addr = conn->node->addr;
        o->server_id = conn->server_id;
        node_retire(conn);
    }
}

static void collect(struct gather *g, struct session_env *env)
{
    struct unblock_order *o = g->data;

    for (struct list_node *at = env->clients.next; at != &env->clients; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        if ((int64_t)c->id != o->id)
            continue;
        if (!stream_is_open(&c->stream))
            return;
        if (blocking_is_on(c)) {
            unblock(o, c);
        } else if (wait_is_on(c)) {
            wait_unblock(c, o->error);
            o->found = UNBLOCK_ANSWERED;
        }
        return;
    }
}

/* The server's answer is the client's. False: it cannot be reached. */
static bool ask_server(struct client *c, const struct unblock_order *o)
{
    struct upstream *u = c->env->upstreams[o->upstream];
    struct node *n = upstream_node(u, &o->addr); /* NULL: a name of a map that is gone */
    struct beconn *conn = n != NULL ? node_shared(n, u->base_profile[0]) : NULL;
    char text[UNBLOCK_TEXT_MAX];

    if (conn == NULL)
        return false;
    forward_to(c, c->head, conn, text, blocking_unblock_text(text, o->server_id, o->error), 1);
    return true;
}

static void finish(struct gather *g, struct session_env *env)
{
    const struct unblock_order *o = g->data;
    struct client *c = client_gather_asker(g, env);
    struct chain out;

    chain_init(&out);
    if (c != NULL && o->found == UNBLOCK_AT_SERVER && ask_server(c, o))
        c = NULL; /* answered by its reply */
    else if (o->found == UNBLOCK_IMPOSSIBLE)
        error_write(&out, ERROR_NO_CLIENT_ID);
    else
        resp_write_int(&out, o->found == UNBLOCK_ANSWERED);
    client_gather_end(g, c, &out);
}

void local_CLIENT_UNBLOCK(struct client *c, const struct command *cmd, const struct resp_request *r,
                          struct chain *out)
{
    struct unblock_order o = {0}, *data;

    if (r->argc > 4) {
        local_subcommand_error(r, "CLIENT", out);
        return;
    }
    if (r->argc == 4) {
        if (!resp_arg_is(r, 3, "timeout") && !resp_arg_is(r, 3, "error")) {
            resp_write_error(out, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            return;
        }
        o.error = resp_arg_is(r, 3, "error");
    }
    if (!resp_arg_int(r, 2, &o.id)) {
        error_write(out, ERROR_NOT_INTEGER);
        return;
    }
    data = xmalloc(sizeof(*data));
    *data = o;
    client_gather(c, cmd, collect, finish, data);
}
