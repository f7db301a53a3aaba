/*
 * local_config.c - CONFIG GET: one master is asked, and what a client would act upon is what the
 * proxy itself holds to. Passwords are not shown.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>

#include "base/alloc.h"
#include "resp/write.h"
#include "session/forward.h"
#include "session/error.h"
#include "session/local.h"
#include "session/scatter.h"

/* Values of the proxy in place of a server's. */
struct own_value {
    const char *name;
    char text[ADDR_HOST_MAX + 1];
};

#define OWN_MAX 8
#define MAX_TRIES 8 /* masters asked, when one after the other goes away */

struct own_values {
    size_t count;
    struct own_value list[OWN_MAX];
};

static const char *const hidden[] = {
    "requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass",
};

static void add_own(struct own_values *own, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static void add_own(struct own_values *own, const char *name, const char *fmt, ...)
{
    struct own_value *v = &own->list[own->count++];
    va_list ap;

    CHECK(own->count <= OWN_MAX);
    v->name = name;
    va_start(ap, fmt);
    vsnprintf(v->text, sizeof(v->text), fmt, ap);
    va_end(ap);
}

/* An argument longer than this is refused by the proxy or by one of the servers. */
static uint64_t lowest_max_bulk(const struct client *c)
{
    uint64_t least = c->env->config->client.max_bulk;

    for (const struct list_node *at = c->up->nodes.next; at != &c->up->nodes; at = at->next) {
        const struct node *n = CONTAINER_OF(at, const struct node, link);

        if (n->max_bulk != 0)
            least = MIN(least, n->max_bulk);
    }
    return least;
}

static void own_values(const struct client *c, struct own_values *own)
{
    const struct config *cf = c->env->config;
    const struct config_listener *l = &cf->listeners[c->listener];

    own->count = 0;
    add_own(own, "bind", "%s", l->address.port != 0 ? l->address.host : "");
    add_own(own, "port", "%u", l->address.port);
    add_own(own, "maxclients", "%u", cf->client.max_clients);
    add_own(own, "timeout", "%u", (unsigned)(c->env->idle_timeout_ms / 1000));
    add_own(own, "tcp-keepalive", "%u", cf->client.tcp_keepalive_s);
    add_own(own, "proto-max-bulk-len", "%" PRIu64, lowest_max_bulk(c));
    add_own(own, "cluster-enabled", "%s", l->pretend == PRETEND_CLUSTER ? "yes" : "no");
    if (c->up->config->kind == UPSTREAM_CLUSTER)
        add_own(own, "databases", "1");
}

/* A server shows a name as the client wrote it. */
static const char *own_value(const struct own_values *own, const char *name, size_t n)
{
    for (size_t i = 0; i < own->count; i++)
        if (strlen(own->list[i].name) == n && strncasecmp(own->list[i].name, name, n) == 0)
            return own->list[i].text;
    return NULL;
}

bool config_set_refuses(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    struct own_values own;
    struct chain out;

    if (strcmp(cmd->name, "config|set") != 0)
        return false;
    own_values(c, &own);
    for (uint32_t i = 2; i < r->argc; i += 2) {
        if (own_value(&own, resp_arg_ptr(r, i), resp_arg_len(r, i)) == NULL)
            continue;
        chain_init(&out);
        resp_write_error(&out,
                         "ERR KEYWAY CONFIG SET failed (possibly related to argument '%.*s') - it "
                         "is the proxy's own, set in its configuration",
                         (int)resp_arg_len(r, i), resp_arg_ptr(r, i));
        client_reply(c, cmd, &out);
        chain_clear(&out);
        return true;
    }
    return false;
}

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
    struct own_values own;
    const char *at = p, *text;
    struct pair pair;
    size_t shown = 0;

    own_values(c, &own);
    while (next_pair(&at, end, &pair))
        shown += !is_hidden(pair.name.data, pair.name.len);
    resp_write_map(out, c->proto, shown);
    for (at = p; next_pair(&at, end, &pair);) {
        if (is_hidden(pair.name.data, pair.name.len))
            continue;
        resp_write_bulk(out, pair.name.data, pair.name.len);
        text = own_value(&own, pair.name.data, pair.name.len);
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
    struct own_values own;
    size_t shown = 0;

    own_values(c, &own);
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
