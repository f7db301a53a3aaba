#include "session/client_pause.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/client_gather.h"
#include "session/local.h"
#include "session/scripts.h"
#include "session/transaction.h"

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

/* The first line of a script: "#!lua flags=no-writes,allow-stale". */
static bool says_no_writes(const char *body, uint32_t len)
{
    static const char option[] = " flags=", flag[] = "no-writes";
    const char *end = memchr(body, '\n', len);
    const char *at;

    end = end != NULL ? end : body + len;
    if (len < 2 || memcmp(body, "#!", 2) != 0)
        return false;
    at = memmem(body, (size_t)(end - body), option, sizeof(option) - 1);
    for (at = at != NULL ? at + sizeof(option) - 1 : end; at < end && *at != ' ';) {
        const char *word = at;

        while (at < end && *at != ',' && *at != ' ' && *at != '\r')
            at++;
        if ((size_t)(at - word) == sizeof(flag) - 1 && memcmp(word, flag, sizeof(flag) - 1) == 0)
            return true;
        if (at < end && *at != ' ')
            at++;
    }
    return false;
}

/* A script that tells in its first line that it only reads. Of a function we do not know it. */
static bool only_reads(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    struct script script;

    if ((cmd->flags & CMD_SCRIPT) == 0)
        return false;
    if (strcmp(cmd->name, "eval") == 0)
        return says_no_writes(resp_arg_ptr(r, 1), resp_arg_len(r, 1));
    return strcmp(cmd->name, "evalsha") == 0 &&
           scripts_find(c->env->scripts, c->id, resp_arg_ptr(r, 1), resp_arg_len(r, 1), &script) &&
           says_no_writes(script.body, script.len);
}

bool client_pause_concerns(struct client *c, const struct command *cmd,
                           const struct resp_request *r)
{
    return (cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE)) != 0 && !only_reads(c, cmd, r);
}

bool client_pause_holds(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    if (cmd == NULL || !command_arity_ok(cmd, r->argc))
        return false;
    if (!client_pause_concerns(c, cmd, r) &&
        !(cmd->local == LOCAL_EXEC && c->in_multi && transaction_writes(c)))
        return false;
    client_hold(c, HOLD_PAUSE);
    return true;
}

static void set_paused(struct session_env *env, uint64_t n)
{
    METRIC_ADD(&env->metrics, paused, n - METRIC_GET(&env->metrics, paused));
}

void client_pause_tick(struct session_env *env)
{
    struct list_node *at, *tmp;
    uint64_t n = 0;

    LIST_FOREACH (at, tmp, &env->clients) {
        const struct client *c = CONTAINER_OF(at, struct client, link);

        n += (c->hold & HOLD_PAUSE) != 0 && c->partial != NULL;
    }
    set_paused(env, n);
}

void client_pause_end(struct session_env *env)
{
    struct client_pause *p = env->pause;
    struct list_node *at, *tmp;

    if (p == NULL)
        return;
    env->pause = NULL;
    set_paused(env, 0);
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

void local_CLIENT_PAUSE(struct client *c, const struct command *cmd, const struct resp_request *r,
                        struct chain *out)
{
    struct pause_order o = {.all = true}, *data;
    uint64_t now = clock_ms();
    int64_t ms;

    if (r->argc > 4) {
        local_subcommand_error(r, "CLIENT", out);
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
    data = xmalloc(sizeof(*data));
    *data = o;
    client_gather(c, cmd, collect, finish, data);
}

void local_CLIENT_UNPAUSE(struct client *c, const struct command *cmd, const struct resp_request *r,
                          struct chain *out)
{
    struct pause_order *o = xcalloc(1, sizeof(*o));

    (void)r;
    (void)out;
    o->end = true;
    client_gather(c, cmd, collect, finish, o);
}
