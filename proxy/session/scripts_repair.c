/*
 * scripts_repair.c - where bodies are seen, and how an EVALSHA becomes an EVAL.
 */
#include "base/alloc.h"
#include "resp/number.h"
#include "session/merge.h"
#include "session/scatter.h"
#include "session/scripts.h"

static bool is_named(const struct command *cmd, const char *name)
{
    return strcmp(cmd->name, name) == 0;
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
        (void)scripts_remember(env->scripts, n->body, n->len, SCRIPT_TAKEN);
}

static void tell_all(struct session_env *env, bool flush, const char *body, uint32_t len)
{
    struct news *n = xmalloc(sizeof(*n) + len);

    n->flush = flush;
    n->len = len;
    if (len > 0)
        memcpy(n->body, body, len);
    gather_tell(env, collect, n);
}

bool scripts_is_news(const struct command *cmd)
{
    return (cmd->flags & CMD_NOSCRIPT) != 0 &&
           (is_named(cmd, "script|flush") || is_named(cmd, "script|load"));
}

/* A server says so before it has looked at the body, or because it cannot use it. */
static bool is_rejection(const char *reply, size_t len)
{
    static const char *const words[] = {
        "-ERR Error compiling script",
        "-NOPERM ",
        "-NOAUTH ",
        "-ERR Number of keys",
        "-ERR value is not an",
        "-ERR wrong number of arguments",
        "-ERR unknown command",
        "-ERR Invalid script shebang",
        "-ERR Unexpected engine",
        "-ERR Unknown lua shebang",
        "-ERR Unexpected flag",
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (len >= strlen(words[i]) && memcmp(reply, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

/* An error of a script that ran into one tells its digest. Others may be anybody's. */
static bool has_run(const struct resp_request *r, const char *reply, size_t len)
{
    char sha[SHA1_HEX_LEN + 1];

    if (reply[0] != '-' && reply[0] != '!')
        return true;
    sha1_hex(resp_arg_ptr(r, 1), resp_arg_len(r, 1), sha);
    return memmem(reply, len, sha, SHA1_HEX_LEN) != NULL;
}

static bool is_eval(const struct command *cmd)
{
    return is_named(cmd, "eval") || is_named(cmd, "eval_ro");
}

void scripts_told(struct session_env *env, const struct command *cmd, const struct resp_request *r,
                  const char *reply, size_t len)
{
    bool error = len == 0 || reply[0] == '-' || reply[0] == '!';

    if (is_named(cmd, "script|flush") && !error)
        tell_all(env, true, NULL, 0);
    else if (is_named(cmd, "script|load") && !error &&
             resp_arg_len(r, 2) <= env->config->scripts_max_bytes)
        tell_all(env, false, resp_arg_ptr(r, 2), resp_arg_len(r, 2));
    else if (is_eval(cmd) && len > 0 && !is_rejection(reply, len) && has_run(r, reply, len))
        (void)scripts_remember(env->scripts, resp_arg_ptr(r, 1), resp_arg_len(r, 1), SCRIPT_TAKEN);
}

void scripts_see(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    struct request *last;

    if (c->head == NULL || (!is_eval(cmd) && !is_named(cmd, "script|load")))
        return; /* it was refused by the proxy */
    last = CONTAINER_OF(c->tail, struct request, next);
    if (last->cmd != cmd || last->state == REQUEST_DONE)
        return;
    last->is_news = !is_eval(cmd) || !scripts_remember(c->env->scripts, resp_arg_ptr(r, 1),
                                                       resp_arg_len(r, 1), c->id);
}

void scripts_answered(struct session_env *env, const struct request *r, const struct bereply *reply)
{
    struct resp_request req;

    request_parse(env, r, &req);
    scripts_told(env, r->cmd, &req, reply->data, reply->len);
    if (r->client != NULL && is_eval(r->cmd) && is_rejection(reply->data, reply->len))
        scripts_reject(env->scripts, resp_arg_ptr(&req, 1), resp_arg_len(&req, 1), r->client->id);
}

/* All masters have answered. */
static void on_loaded(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *part = parent->scatter->parts;
    struct resp_request req;

    merge_finish(c, parent, out);
    if (!parent->is_news || merge_first_error(parent->scatter) != NULL)
        return;
    request_parse(c->env, part, &req);
    scripts_told(c->env, parent->cmd, &req, request_reply(part), part->reply_len);
}

scatter_finish_fn *scripts_finish(const struct command *cmd)
{
    return is_named(cmd, "script|load") ? on_loaded : merge_finish;
}

void scripts_flush(struct client *c, const struct command *cmd)
{
    if (!is_named(cmd, "script|flush"))
        return;
    for (struct request *r = c->head; r != NULL; r = r->next)
        r->is_news = 0; /* answered later, but what they bring is flushed */
    tell_all(c->env, true, NULL, 0);
}

/* --- the repair --- */

static uint64_t client_of(const struct request *r)
{
    return r->client != NULL ? r->client->id : SCRIPT_TAKEN;
}

/* p is an EVAL under way with this body. */
static bool brings(struct session_env *env, const struct request *p, const struct script *body)
{
    struct resp_request req;

    if (!p->is_news || !is_eval(p->cmd) ||
        (p->state != REQUEST_SENT && p->state != REQUEST_REFUSED))
        return false;
    request_parse(env, p, &req);
    return resp_arg_len(&req, 1) == body->len &&
           memcmp(resp_arg_ptr(&req, 1), body->body, body->len) == 0;
}

static bool is_brought_later(struct session_env *env, const struct request *r,
                             const struct script *body)
{
    bool behind = false;

    for (const struct request *p = r->client->head; p != NULL; p = p->next) {
        behind |= p == r;
        if (brings(env, p, body))
            return behind;
    }
    return false;
}

bool scripts_can_repair(struct session_env *env, const struct request *r)
{
    struct resp_request req;
    struct script body;

    if (r->is_part || (!is_named(r->cmd, "evalsha") && !is_named(r->cmd, "evalsha_ro")))
        return false;
    request_parse(env, r, &req);
    return scripts_find(env->scripts, client_of(r), resp_arg_ptr(&req, 1), resp_arg_len(&req, 1),
                        &body) &&
           (uint64_t)r->be.len + body.len <= env->config->client.max_request &&
           (body.taken || r->client == NULL || !is_brought_later(env, r, &body));
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
    CHECK(scripts_find(env->scripts, client_of(r), resp_arg_ptr(&req, 1), resp_arg_len(&req, 1),
                       &body));
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
