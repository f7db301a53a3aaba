/*
 * scripts_repair.c - where bodies are seen, and how an EVALSHA becomes an EVAL.
 */
#include "base/alloc.h"
#include "resp/number.h"
#include "session/scripts.h"

static bool is_named(const struct command *cmd, const char *name)
{
    return strcmp(cmd->name, name) == 0;
}

void scripts_see(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    if (is_named(cmd, "eval") || is_named(cmd, "eval_ro"))
        scripts_remember(c->env->scripts, resp_arg_ptr(r, 1), resp_arg_len(r, 1));
}

/* --- all workers --- */

struct news {
    bool flush;
    uint32_t len;
    char body[];
};

static void collect(struct gather *g, struct session_env *env)
{
    const struct news *n = g->data;

    if (n->flush)
        scripts_forget(env->scripts);
    else
        scripts_remember(env->scripts, n->body, n->len);
}

static void finish(struct gather *g, struct session_env *env)
{
    (void)env;
    gather_free(g);
}

static void tell_all(struct session_env *env, bool flush, const char *body, uint32_t len)
{
    struct gather *g = xcalloc(1, sizeof(*g));
    struct news *n = xmalloc(sizeof(*n) + len);

    n->flush = flush;
    n->len = len;
    if (len > 0)
        memcpy(n->body, body, len);
    g->collect = collect;
    g->finish = finish;
    g->data = n;
    collect(g, env);
    if (env->worker_count > 1)
        env->hooks->gather(env, g);
    else
        gather_free(g);
}

bool scripts_is_news(const struct command *cmd)
{
    return (cmd->flags & CMD_NOSCRIPT) != 0 &&
           (is_named(cmd, "script|flush") || is_named(cmd, "script|load"));
}

void scripts_see_all(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    if (is_named(cmd, "script|flush"))
        tell_all(c->env, true, NULL, 0);
    else if (is_named(cmd, "script|load") &&
             resp_arg_len(r, 2) <= c->env->config->scripts_max_bytes)
        tell_all(c->env, false, resp_arg_ptr(r, 2), resp_arg_len(r, 2));
}

/* --- the repair --- */

bool scripts_can_repair(struct session_env *env, const struct request *r)
{
    struct resp_request req;
    struct script body;

    if (r->is_part || (!is_named(r->cmd, "evalsha") && !is_named(r->cmd, "evalsha_ro")))
        return false;
    request_parse(env, r, &req);
    return scripts_find(env->scripts, resp_arg_ptr(&req, 1), resp_arg_len(&req, 1), &body) &&
           (uint64_t)r->be.len + body.len <= env->config->client.max_request;
}

static void put(struct block *b, const void *p, size_t n)
{
    memcpy(b->data + b->len, p, n);
    b->len += (uint32_t)n;
}

static void put_header(struct block *b, char type, uint32_t n)
{
    char text[24];
    size_t len = resp_format_int(text + 1, n) + 1;

    text[0] = type;
    memcpy(text + len, "\r\n", 2);
    put(b, text, len + 2);
}

static void put_bulk(struct block *b, const void *p, uint32_t n)
{
    put_header(b, '$', n);
    put(b, p, n);
    put(b, "\r\n", 2);
}

void scripts_repair(struct session_env *env, struct request *r)
{
    const char *name = is_named(r->cmd, "evalsha_ro") ? "eval_ro" : "eval";
    struct resp_request req;
    struct script body;
    struct block *b;
    uint32_t rest;

    request_parse(env, r, &req);
    CHECK(scripts_find(env->scripts, resp_arg_ptr(&req, 1), resp_arg_len(&req, 1), &body));
    rest = req.argv[1].off + req.argv[1].len + 2;
    b = block_new_exact((size_t)body.len + (req.len - rest) + 128);
    put_header(b, '*', req.argc);
    put_bulk(b, name, (uint32_t)strlen(name));
    put_bulk(b, body.body, body.len);
    put(b, req.base + rest, req.len - rest);
    block_unref(&r->be.block);
    r->be.block = b;
    r->be.off = 0;
    r->be.len = b->len;
    r->cmd = command_find_name(name, strlen(name));
    METRIC_ADD(&env->metrics, scripts_repaired, 1);
}
