#include "session/client_pause.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/client_gather.h"
#include "session/error.h"
#include "session/local.h"

struct client_pause {
    struct session_env *env;
    struct ev_timer timer;
    uint64_t end_ms;
    bool all; /* else writes only */
};

/* Data of the gather. */
struct pause_order {
    bool end; /* CLIENT UNPAUSE */
    bool all;
    uint64_t end_ms;
};

void client_pause_join(struct client *c)
{
    c->pause_writes = true;
    if (c->env->pause->all)
        client_hold(c, HOLD_PAUSE);
}

bool client_pause_holds(struct client *c, const struct command *cmd)
{
    if (cmd == NULL || ((cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE)) == 0 &&
                        !(cmd->local == LOCAL_EXEC && c->in_multi)))
        return false;
    client_hold(c, HOLD_PAUSE);
    return true;
}

void client_pause_end(struct session_env *env)
{
    struct client_pause *p = env->pause;
    struct list_node *at, *tmp;

    if (p == NULL)
        return;
    env->pause = NULL;
    ev_timer_stop(env->loop->ev, &p->timer);
    free(p);
    LIST_FOREACH (at, tmp, &env->clients) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        c->pause_writes = false;
        client_unhold(c, HOLD_PAUSE);
    }
}

static void on_timer(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct client_pause *p = CONTAINER_OF(w, struct client_pause, timer);

    (void)ev;
    (void)revents;
    client_pause_end(p->env);
}

/* Of two pauses the longer and the stricter, as in Redis. */
static void begin(struct session_env *env, bool all, uint64_t end_ms)
{
    struct client_pause *p = env->pause;
    uint64_t now = clock_ms();
    struct list_node *at, *tmp;

    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        p->env = env;
        env->pause = p;
    } else {
        ev_timer_stop(env->loop->ev, &p->timer);
    }
    p->all |= all;
    p->end_ms = MAX(p->end_ms, end_ms);
    ev_now_update(env->loop->ev);
    ev_timer_init(&p->timer, on_timer, p->end_ms > now ? (double)(p->end_ms - now) / 1000 : 0, 0);
    ev_timer_start(env->loop->ev, &p->timer);
    LIST_FOREACH (at, tmp, &env->clients)
        client_pause_join(CONTAINER_OF(at, struct client, link));
}

static void collect(struct gather *g, struct session_env *env)
{
    const struct pause_order *o = g->data;

    if (o->end)
        client_pause_end(env);
    else if (!env->draining)
        begin(env, o->all, o->end_ms);
}

static void finish(struct gather *g, struct session_env *env)
{
    struct client *c = client_gather_asker(g, env);
    struct chain out;

    chain_init(&out);
    resp_write_simple(&out, "OK");
    client_gather_end(g, c, &out);
}

static void order(struct client *c, const struct command *cmd, const struct pause_order *o)
{
    struct gather *g = xcalloc(1, sizeof(*g));

    g->data = xmalloc(sizeof(*o));
    memcpy(g->data, o, sizeof(*o));
    g->collect = collect;
    g->finish = finish;
    client_gather(c, cmd, g);
}

void local_CLIENT_PAUSE(struct client *c, const struct command *cmd, const struct resp_request *r,
                        struct chain *out)
{
    struct pause_order o = {.all = true};
    uint64_t now = clock_ms();
    int64_t ms;

    if (r->argc > 4) {
        resp_write_error(out,
                         "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try "
                         "CLIENT HELP.",
                         (int)resp_arg_len(r, 1), resp_arg_ptr(r, 1));
        return;
    }
    if (r->argc == 4) {
        if (!resp_arg_is(r, 3, "write") && !resp_arg_is(r, 3, "all")) {
            resp_write_error(out, "ERR CLIENT PAUSE mode must be WRITE or ALL");
            return;
        }
        o.all = resp_arg_is(r, 3, "all");
    }
    if (!resp_arg_int(r, 2, &ms)) {
        resp_write_error(out, "ERR timeout is not an integer or out of range");
        return;
    }
    if (ms < 0) {
        resp_write_error(out, "ERR timeout is negative");
        return;
    }
    if ((uint64_t)ms > INT64_MAX - now) {
        resp_write_error(out, "ERR timeout is out of range");
        return;
    }
    o.end_ms = now + (uint64_t)ms;
    order(c, cmd, &o);
}

void local_CLIENT_UNPAUSE(struct client *c, const struct command *cmd, const struct resp_request *r,
                          struct chain *out)
{
    struct pause_order o = {.end = true};

    (void)r;
    (void)out;
    order(c, cmd, &o);
}
