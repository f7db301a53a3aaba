/*
 * hub_share.c - what the workers tell each other about their channels.
 *
 * A batch of states goes from worker to worker as a message, one batch of a hub at a time, so what
 * changes meanwhile is told once. A client's confirmation waits for the end of its batch's round:
 * whoever publishes after it finds the client counted, on whatever worker.
 */
#include "base/alloc.h"
#include "session/hub_conn.h"
#include "session/subscriber.h"

struct batch {
    size_t upstream;
    char key[SHA1_HEX_LEN + 1]; /* of the hub */
    unsigned worker;
    uint64_t number;
    size_t len;
    char bytes[]; /* struct told and a name, again and again, without alignment */
};

struct told {
    uint32_t clients, len;
    uint64_t node;
    uint8_t kind;
};

uint64_t hub_node_id(const struct node *n)
{
    char name[ADDR_TEXT_MAX];

    addr_format(&n->addr, name);
    return table_hash(0, name, strlen(name)) | 2; /* neither NOWHERE nor EVERYWHERE */
}

static uint64_t place_id(const struct channel *ch)
{
    if (ch->primary == NULL || ch->primary->state != PLACE_LIVE)
        return HUB_NOWHERE;
    return ch->everywhere ? HUB_EVERYWHERE : hub_node_id(ch->primary->conn->node);
}

void hub_changed(struct channel *ch)
{
    struct hub *h = ch->hub;

    if (h->stopping || list_linked(&ch->dirty_link))
        return;
    list_push(&h->dirty, &ch->dirty_link);
    loop_add_task(h->up->env->loop, &h->task);
}

static struct batch *make_batch(struct hub *h)
{
    struct batch *b;
    size_t len = 0;
    struct list_node *at;
    char *to;

    for (at = h->dirty.next; at != &h->dirty; at = at->next)
        len += sizeof(struct told) + CONTAINER_OF(at, struct channel, dirty_link)->len;
    b = xmalloc(sizeof(*b) + len);
    *b = (struct batch){
        .upstream = h->up->index, .worker = h->up->env->worker, .number = ++h->told, .len = len};
    memcpy(b->key, h->key, sizeof(b->key));
    to = b->bytes;
    while ((at = list_pop(&h->dirty)) != NULL) {
        struct channel *ch = CONTAINER_OF(at, struct channel, dirty_link);
        struct told t;

        memset(&t, 0, sizeof(t));
        t.clients = ch->confirmed ? ch->clients : 0;
        t.len = ch->len;
        t.node = place_id(ch);
        t.kind = ch->kind;
        memcpy(to, &t, sizeof(t));
        memcpy(to + sizeof(t), ch->name, ch->len);
        to += sizeof(t) + ch->len;
        channel_put(ch);
    }
    return b;
}

static void apply_one(struct hub *h, unsigned worker, const struct told *t, const char *name)
{
    bool empty = t->clients == 0 && t->node == HUB_NOWHERE;
    struct channel *ch = hub_find(h, (enum channel_kind)t->kind, name, t->len);
    struct channel_share *s;

    if (ch == NULL && empty)
        return;
    if (ch == NULL)
        ch = hub_channel(h, (enum channel_kind)t->kind, name, t->len);
    s = &ch->shares[worker];
    ch->sharers -= s->clients != 0 || s->node != HUB_NOWHERE;
    *s = (struct channel_share){.clients = t->clients, .node = t->node};
    ch->sharers += !empty;
    channel_put(ch);
}

static void apply(struct session_env *env, const struct batch *b)
{
    struct hub *h = hub_of_key(env->upstreams[b->upstream], b->key);

    for (size_t at = 0; at < b->len;) {
        struct told t;

        memcpy(&t, b->bytes + at, sizeof(t));
        apply_one(h, b->worker, &t, b->bytes + at + sizeof(t));
        at += sizeof(t) + t.len;
    }
}

static void settle_known(struct hub *h)
{
    while (!list_empty(&h->settling)) {
        struct sub_op *op = CONTAINER_OF(h->settling.next, struct sub_op, of_hub);

        if (op->batch > h->known)
            return;
        list_unlink(&op->of_hub);
        sub_op_settled(op);
    }
}

static void collect(struct gather *g, struct session_env *env)
{
    apply(env, g->data);
}

static void finish(struct gather *g, struct session_env *env)
{
    const struct batch *b = g->data;
    struct hub *h = hub_of_key(env->upstreams[b->upstream], b->key);

    h->known = b->number;
    gather_free(g);
    settle_known(h);
    hub_tell(h);
}

void hub_tell(struct hub *h)
{
    struct session_env *env = h->up->env;
    struct batch *b;
    struct gather *g;

    if (h->told != h->known || list_empty(&h->dirty) || h->stopping)
        return;
    b = make_batch(h);
    if (env->worker_count == 1) {
        apply(env, b);
        h->known = b->number;
        free(b);
        settle_known(h);
        return;
    }
    g = xcalloc(1, sizeof(*g));
    g->collect = collect;
    g->finish = finish;
    g->data = b;
    env->hooks->gather(env, g);
}

void hub_settle(struct hub *h, struct sub_op *op)
{
    op->batch = list_empty(&h->dirty) ? h->told : h->told + 1;
    if (op->batch <= h->known) {
        sub_op_settled(op);
        return;
    }
    list_push(&h->settling, &op->of_hub);
}

uint32_t channel_clients(const struct channel *ch)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < ch->hub->up->env->worker_count; i++)
        sum += ch->shares[i].clients;
    return sum;
}

uint32_t channel_reached(const struct channel *ch)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < ch->hub->up->env->worker_count; i++)
        sum += ch->shares[i].node != HUB_NOWHERE ? ch->shares[i].clients : 0;
    return sum;
}

uint32_t channel_places(const struct channel *ch, uint64_t node)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < ch->hub->up->env->worker_count; i++)
        sum += ch->shares[i].node == node || ch->shares[i].node == HUB_EVERYWHERE;
    return sum;
}
