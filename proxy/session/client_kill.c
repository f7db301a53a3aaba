/*
 * client_kill.c - CLIENT KILL in its old form and with filters; over all workers.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/client_gather.h"
#include "session/client_list.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"

struct text {
    const char *p; /* in kill_query.request; NULL: not asked for */
    uint32_t len;
};

struct kill_query {
    bool old_form; /* CLIENT KILL ADDR:PORT: answers OK or an error */
    bool skip_me;
    bool user_known; /* there is a client of `user` */
    bool kill_me;    /* found: the asking client closes behind its answer */
    enum client_type type;
    int64_t id;        /* 0: any */
    int64_t max_age_s; /* 0: any; else at least so old */
    uint64_t asker;
    struct text addr, laddr, user;
    char request[]; /* a copy of the arguments */
};

/* --- whom it means --- */

static bool is_text(const struct text *t, const char *s)
{
    return t->p == NULL || (t->len == strlen(s) && memcmp(t->p, s, t->len) == 0);
}

static bool meant(const struct kill_query *q, struct client *c)
{
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];

    if (!stream_is_open(&c->stream) || (q->skip_me && c->id == q->asker))
        return false;
    if (!client_type_is(q->type, c))
        return false;
    if ((q->id != 0 && (uint64_t)q->id != c->id) || !is_text(&q->user, identity_user(c)))
        return false;
    if (q->max_age_s != 0 &&
        (int64_t)(clock_wall_ms() / 1000) - (int64_t)c->created_s < q->max_age_s)
        return false;
    if (q->addr.p == NULL && q->laddr.p == NULL)
        return true;
    client_addresses(c, peer, local);
    return is_text(&q->addr, peer) && is_text(&q->laddr, local);
}

static void collect(struct gather *g, struct session_env *env)
{
    struct kill_query *q = g->data;
    struct list_walk walk;
    struct client *c;

    clients_walk(env, &walk);
    while ((c = clients_walk_next(env, &walk)) != NULL) {
        q->user_known = q->user_known || is_text(&q->user, identity_user(c));
        if (!meant(q, c))
            continue;
        g->number++;
        if (c->id == q->asker)
            q->kill_me = true;
        else
            client_close(c);
    }
}

static void finish(struct gather *g, struct session_env *env)
{
    const struct kill_query *q = g->data;
    struct client *c = client_gather_asker(g, env);
    bool kill_me = q->kill_me;
    struct chain out;

    chain_init(&out);
    if (q->user.p != NULL && !q->user_known)
        resp_write_error(&out, "ERR No such user '%.*s'", (int)MIN(q->user.len, 128u), q->user.p);
    else if (!q->old_form)
        resp_write_int(&out, g->number);
    else if (g->number > 0)
        resp_write_simple(&out, "OK");
    else
        resp_write_error(&out, "ERR No such client");
    client_gather_end(g, c, &out);
    if (c != NULL && kill_me && stream_is_open(&c->stream))
        client_close_when_answered(c);
}

/* --- the arguments --- */

static void take_text(struct kill_query *q, const struct resp_request *r, uint32_t i,
                      struct text *out)
{
    out->p = q->request + r->argv[i].off;
    out->len = resp_arg_len(r, i);
}

static bool refuse(struct chain *out, const char *what, const struct resp_request *r, uint32_t i)
{
    resp_write_error(out, "ERR %s '%.*s'", what, (int)MIN(resp_arg_len(r, i), 128u),
                     resp_arg_ptr(r, i));
    return false;
}

/* The numbers that must be positive; `what` begins the error. */
static bool parse_positive(const struct resp_request *r, uint32_t i, int64_t *to, const char *what,
                           struct chain *out)
{
    if (resp_arg_int(r, i, to) && *to > 0)
        return true;
    resp_write_error(out, "ERR %s should be greater than 0", what);
    return false;
}

/* In Valkey's words: Redis 7.0 has no MAXAGE. */
static bool parse_age(const struct resp_request *r, uint32_t i, int64_t *to, struct chain *out)
{
    if (resp_arg_int(r, i, to))
        return parse_positive(r, i, to, "maxage", out);
    resp_write_error(out, "ERR maxage is not an integer or out of range");
    return false;
}

static bool parse_user(struct kill_query *q, const struct client *c, const struct resp_request *r,
                       uint32_t i, struct chain *out)
{
    take_text(q, r, i, &q->user);
    q->user_known = is_text(&q->user, identity_user(c)) || is_text(&q->user, "default");
    /* Others may be here, where clients have users of their own. */
    return q->user_known || c->env->config->listeners[c->listener].auth == AUTH_SERVERS ||
           refuse(out, "No such user", r, i);
}

/* Option i with its value; false: an error has been composed. */
static bool parse_option(struct kill_query *q, const struct client *c, const struct resp_request *r,
                         uint32_t i, struct chain *out)
{
    if (i + 1 >= r->argc)
        goto syntax;
    if (resp_arg_is(r, i, "id"))
        return parse_positive(r, i + 1, &q->id, "client-id", out);
    if (resp_arg_is(r, i, "maxage"))
        return parse_age(r, i + 1, &q->max_age_s, out);
    if (resp_arg_is(r, i, "type"))
        return client_type_parse(r, i + 1, &q->type, out);
    if (resp_arg_is(r, i, "user"))
        return parse_user(q, c, r, i + 1, out);
    if (resp_arg_is(r, i, "addr")) {
        take_text(q, r, i + 1, &q->addr);
        return true;
    }
    if (resp_arg_is(r, i, "laddr")) {
        take_text(q, r, i + 1, &q->laddr);
        return true;
    }
    if (resp_arg_is(r, i, "skipme") &&
        (resp_arg_is(r, i + 1, "yes") || resp_arg_is(r, i + 1, "no"))) {
        q->skip_me = resp_arg_is(r, i + 1, "yes");
        return true;
    }
syntax:
    error_write(out, ERROR_SYNTAX);
    return false;
}

void local_CLIENT_KILL(struct client *c, const struct command *cmd, const struct resp_request *r,
                       struct chain *out)
{
    struct kill_query *q = xcalloc(1, sizeof(*q) + r->len);

    memcpy(q->request, r->base, r->len);
    q->asker = c->id;
    q->old_form = r->argc == 3;
    q->skip_me = !q->old_form;
    if (q->old_form)
        take_text(q, r, 2, &q->addr);
    for (uint32_t i = 2; !q->old_form && i < r->argc; i += 2) {
        if (!parse_option(q, c, r, i, out)) {
            free(q);
            return;
        }
    }
    client_gather(c, cmd, collect, finish, q);
}
