/*
 * discovery_nodes.c - the nodes that are asked, and their connections.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/discovery_cluster.h"

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 500

struct discovery_node *discovery_node_find(struct discovery_cluster *c, const struct addr *a)
{
    struct list_node *pos, *tmp;

    LIST_FOREACH (pos, tmp, &c->nodes) {
        struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);

        if (addr_equal(&n->addr, a))
            return n;
    }
    return NULL;
}

struct discovery_node *discovery_node_add(struct discovery_cluster *c, const struct addr *a)
{
    struct discovery_node *n = xcalloc(1, sizeof(*n));

    n->cluster = c;
    n->addr = *a;
    list_init(&n->link);
    list_push(&c->nodes, &n->link);
    return n;
}

void discovery_node_remove(struct discovery_node **node)
{
    struct discovery_node *n = *node;

    *node = NULL;
    node_query_close(&n->query);
    list_unlink(&n->link);
    free(n);
}

void discovery_node_complain(struct discovery_node *n, const char *what)
{
    char at[ADDR_TEXT_MAX];

    if (!complaint_is_new(&n->complaint, what))
        return;
    if (what != NULL)
        log_warn("upstream %s: %s: %s", n->cluster->conf->name, addr_format(&n->addr, at),
                 n->complaint.text);
    else
        log_info("upstream %s: %s answers again", n->cluster->conf->name,
                 addr_format(&n->addr, at));
}

/* The connection is gone, or there was none to be had. */
static void set_lost(struct discovery_node *n, const char *why)
{
    struct discovery_cluster *c = n->cluster;
    bool was_good = n->answered;
    /* Workers may be connected where we alone are refused ("max number of clients"): they are not
     * to move to the name's next address. Without a map there are none. */
    bool refused = n->query != NULL && node_query_heard(n->query) && c->map != NULL;
    uint64_t wait = RETRY_MIN_MS;

    node_query_close(&n->query);
    resolver_doubt(c->resolver, &n->addr, !was_good && !refused);
    discovery_node_complain(n, why);
    for (uint32_t i = 0; i < n->failures && wait < RETRY_MAX_MS; i++)
        wait *= 2;
    n->failures++;
    /* A server that closes idle connections is still there: the first try is made at once. */
    n->retry_ms = clock_ms() + (was_good ? 0 : discovery_jitter(c, MIN(wait, RETRY_MAX_MS)));
    n->pending = n->probing = n->answered = false;
    n->down = true;
    if (was_good)
        c->urgent = true;
}

bool discovery_node_open(struct discovery_node *n)
{
    struct discovery_cluster *c = n->cluster;
    struct sockaddr_any target;

    if (!resolver_get(c->resolver, &n->addr, &target)) {
        set_lost(n, resolver_failure(c->resolver, &n->addr));
        return false;
    }
    if (n->query != NULL && sockaddr_equal(&n->target, &target))
        return true;
    node_query_close(&n->query);
    n->pending = n->probing = n->answered = false;
    n->target = target;
    n->query = node_query_open(&c->env, &target, n);
    if (n->query == NULL)
        set_lost(n, strerror(errno));
    return n->query != NULL;
}

void discovery_node_ask(struct discovery_node *n)
{
    if (n->pending || !discovery_node_open(n) || !node_query_ask(n->query, QUESTION_NODES))
        return;
    n->pending = true;
    n->asked_round = n->cluster->round;
}

void discovery_node_probe(struct discovery_node *n)
{
    if (n->query == NULL && (clock_ms() < n->retry_ms || !discovery_node_open(n)))
        return;
    if (!n->probing)
        n->probing = node_query_ask(n->query, QUESTION_ROLE);
}

static void on_answered(struct node_query *q, enum node_question what, const redisReply *r)
{
    struct discovery_node *n = node_query_owner(q);
    struct discovery_cluster *c = n->cluster;

    n->failures = 0;
    n->answered = true;
    if (what == QUESTION_ROLE) {
        n->probing = false;
        discovery_failover_role(c, n, r);
    } else {
        n->pending = false;
        discovery_cluster_hear(c, n, r);
    }
    discovery_cluster_step(c);
}

static void on_lost(struct node_query *q, const char *why)
{
    struct discovery_node *n = node_query_owner(q);
    struct discovery_cluster *c = n->cluster;

    set_lost(n, why);
    discovery_cluster_step(c);
}

const struct node_query_ops discovery_node_ops = {.answered = on_answered, .lost = on_lost};

void discovery_nodes_expire(struct discovery_cluster *c, uint64_t now_ms)
{
    struct list_node *pos, *tmp;
    bool any = false;

    LIST_FOREACH (pos, tmp, &c->nodes) {
        struct discovery_node *n = CONTAINER_OF(pos, struct discovery_node, link);

        if (n->query == NULL ||
            node_query_waiting_since(n->query) > now_ms - MIN(now_ms, c->times->query_timeout_ms))
            continue;
        set_lost(n, "no answer in time");
        any = true;
    }
    if (any)
        discovery_cluster_step(c);
}
