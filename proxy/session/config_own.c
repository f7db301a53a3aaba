#include "session/config_own.h"

#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>

static void add_own(struct config_own *own, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static void add_own(struct config_own *own, const char *name, const char *fmt, ...)
{
    struct config_own_value *v = &own->list[own->count++];
    va_list ap;

    CHECK(own->count <= CONFIG_OWN_MAX);
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

void config_own_read(const struct client *c, struct config_own *own)
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

const char *config_own_find(const struct config_own *own, const char *name, size_t n)
{
    for (size_t i = 0; i < own->count; i++)
        if (strlen(own->list[i].name) == n && strncasecmp(own->list[i].name, name, n) == 0)
            return own->list[i].text;
    return NULL;
}
