/*
 * local_config.c - CONFIG GET: one master is asked, and what a client would act upon is what the
 * proxy itself holds to. Passwords are not shown.
 */
#include <fnmatch.h>
#include <strings.h>

#include "base/alloc.h"
#include "resp/write.h"
#include "session/config_own.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/local.h"
#include "session/scatter.h"

#define MAX_TRIES 8 /* masters asked, when one after the other goes away */

static const char *const hidden[] = {
    "requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass",
};

static bool is_hidden(const char *name, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
        if (strlen(hidden[i]) == n && strncasecmp(hidden[i], name, n) == 0)
            return true;
    return false;
}

/* --- a server's reply --- */

struct pair {
    struct resp_item name;
    const char *value; /* the whole element */
    size_t value_len;
};

static bool next_pair(const char **p, const char *end, struct pair *out)
{
    if (!resp_next(p, end, &out->name))
        return false;
    out->value = *p;
    if (!resp_skip(p, end))
        return false;
    out->value_len = (size_t)(*p - out->value);
    return true;
}

static void write_pairs(const struct client *c, const char *p, const char *end, struct chain *out)
{
    struct config_own own;
    const char *at = p, *text;
    struct pair pair;
    size_t shown = 0;

    config_own_read(c, &own);
    while (next_pair(&at, end, &pair))
        shown += !is_hidden(pair.name.data, pair.name.len);
    resp_write_map(out, c->proto, shown);
    for (at = p; next_pair(&at, end, &pair);) {
        if (is_hidden(pair.name.data, pair.name.len))
            continue;
        resp_write_bulk(out, pair.name.data, pair.name.len);
        text = config_own_find(&own, pair.name.data, pair.name.len);
        if (text != NULL)
            resp_write_text(out, text);
        else
            chain_append(out, pair.value, pair.value_len);
    }
}

void config_get_compose(const struct client *c, const char *reply, size_t len, struct chain *out)
{
    const char *p = reply;
    struct resp_item head;

    if (resp_next(&p, reply + len, &head) && (head.type == '*' || head.type == '%'))
        write_pairs(c, p, reply + len, out);
    else
        chain_append(out, reply, len); /* the server's error */
}

/* --- without a server --- */

/* Data of the scatter: what is sent once more when the server that was asked goes away. */
struct query {
    uint32_t tries, len;
    char *patterns; /* behind the request: each with a NUL behind it; an empty one ends them */
    char request[];
};

static struct query *query_new(const struct resp_request *r)
{
    struct query *q = xmalloc(sizeof(*q) + 2 * (size_t)r->len + 1);
    char *p = q->request + r->len;

    q->tries = 0;
    q->len = r->len;
    q->patterns = p;
    memcpy(q->request, r->base, r->len);
    for (uint32_t i = 2; i < r->argc; i++) {
        uint32_t n = resp_arg_len(r, i);

        if (n == 0 || memchr(resp_arg_ptr(r, i), '\0', n) != NULL)
            continue;
        memcpy(p, resp_arg_ptr(r, i), n);
        p += n;
        *p++ = '\0';
    }
    *p = '\0';
    return q;
}

static bool matches(const char *patterns, const char *name)
{
    for (; *patterns != '\0'; patterns += strlen(patterns) + 1)
        if (fnmatch(patterns, name, FNM_CASEFOLD) == 0)
            return true;
    return false;
}

static void write_own(const struct client *c, const char *patterns, struct chain *out)
{
    struct config_own own;
    size_t shown = 0;

    config_own_read(c, &own);
    for (size_t i = 0; i < own.count; i++)
        shown += matches(patterns, own.list[i].name);
    resp_write_map(out, c->proto, shown);
    for (size_t i = 0; i < own.count; i++) {
        if (!matches(patterns, own.list[i].name))
            continue;
        resp_write_text(out, own.list[i].name);
        resp_write_text(out, own.list[i].text);
    }
}

/* --- the command --- */

/* A connection to the client's own master, or to any other that can be asked now. Those whose
 * connection stands come first: the rest may be gone. */
static struct beconn *any_connection(struct client *c)
{
    const struct slotmap *m = c->up->map;
    struct node *own = upstream_any_master(c->up, c->id);
    struct beconn *second = own != NULL ? forward_connection_now(c, own) : NULL;

    if (second != NULL && second->state == BECONN_READY)
        return second;
    for (size_t i = 0; i < m->node_count; i++) {
        struct beconn *conn;

        if (!slotmap_is_owner(m, i))
            continue;
        conn = forward_connection_now(c, c->up->map_nodes[i]);
        if (conn != NULL && conn->state == BECONN_READY)
            return conn;
        if (second == NULL)
            second = conn;
    }
    return second;
}

/* False: there is nobody to ask. */
static bool ask(struct client *c, struct request *parent)
{
    struct query *q = parent->scatter->data;
    struct beconn *conn = q->tries < MAX_TRIES ? any_connection(c) : NULL;

    if (conn == NULL)
        return false;
    q->tries++;
    scatter_add_to(c, parent, conn, q->request, q->len);
    return true;
}

static const struct request *last_part(const struct scatter *s)
{
    const struct request *part = s->parts;

    while (part != NULL && part->next != NULL)
        part = part->next;
    return part;
}

static void finish(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *part = last_part(parent->scatter);
    const struct query *q = parent->scatter->data;

    if (part == NULL || part->failed) {
        if (part == NULL || !ask(c, parent))
            write_own(c, q->patterns, out);
        return;
    }
    config_get_compose(c, request_reply(part), part->reply_len, out);
}

void local_CONFIG_GET(struct client *c, const struct command *cmd, const struct resp_request *r,
                      struct chain *out)
{
    struct request *parent;

    /* It would go on a connection that others share, and be kept for another try. */
    if (r->len > c->env->config->backend.large_request) {
        error_write(out, ERROR_CONFIG_SIZE);
        return;
    }
    parent = scatter_open(c, cmd, finish, query_new(r));
    ask(c, parent);
    scatter_close(c, parent);
}
