#include "session/subscriber.h"

#include "base/alloc.h"
#include "base/log.h"
#include "session/hub_conn.h"

struct subscriber *subscriber_of(struct client *c)
{
    struct client_extra *x = client_extra(c);
    struct subscriber *s = x->subscriber;
    struct hub *h;

    if (s != NULL)
        return s;
    h = hub_of(c);
    if (h == NULL)
        return NULL;
    s = x->subscriber = xcalloc(1, sizeof(*s));
    s->client = c;
    s->hub = h;
    h->members++;
    for (int k = 0; k < CHANNEL_KINDS; k++)
        list_init(&s->subscriptions[k]);
    list_init(&s->ops);
    return s;
}

uint32_t subscriber_count(const struct subscriber *s, enum channel_kind kind)
{
    return kind == CHANNEL_SHARD ? s->count[CHANNEL_SHARD]
                                 : s->count[CHANNEL_PLAIN] + s->count[CHANNEL_PATTERN];
}

void subscriber_update_mode(struct client *c)
{
    c->subscribed = c->proto == 2 && subscriber_is(c);
}

/* --- the set --- */

static uint64_t pair_hash(const struct subscriber *s, const struct channel *ch)
{
    const void *pair[2] = {s, ch};

    return table_hash(0, pair, sizeof(pair));
}

static struct subscription *find(const struct subscriber *s, const struct channel *ch)
{
    struct table_node *n = table_first(&s->hub->subscriptions, pair_hash(s, ch));

    for (; n != NULL; n = table_next(n)) {
        struct subscription *m = CONTAINER_OF(n, struct subscription, link);

        if (m->sub == s && m->ch == ch)
            return m;
    }
    return NULL;
}

/* Of a subscription, and of its channel, as if nobody else listened to it. */
static uint64_t cost(const struct channel *ch)
{
    return sizeof(struct subscription) + sizeof(*ch) + sizeof(struct place) + ch->len;
}

static void take_out(struct subscription *m)
{
    struct channel *ch = m->ch;

    table_remove(&m->sub->hub->subscriptions, &m->link);
    list_unlink(&m->of_client);
    m->sub->count[ch->kind]--;
    channel_left(ch);
}

static void drop(struct subscription *m)
{
    struct channel *ch = m->ch;

    list_unlink(&m->of_channel);
    list_unlink(&m->of_op);
    m->sub->bytes -= cost(ch);
    if (m->leaving) {
        list_unlink(&m->of_client);
        ch->pins--;
    } else {
        take_out(m);
    }
    free(m);
    channel_put(ch);
}

static struct sub_wait *wait_new(struct sub_op *op, struct channel *ch)
{
    struct sub_wait *w = xcalloc(1, sizeof(*w));

    w->op = op;
    w->ch = ch;
    list_init(&w->of_channel);
    list_push(&op->waits, &w->of_op);
    return w;
}

static void wait_for(struct sub_op *op, struct channel *ch, struct list_node *list)
{
    list_push(list, &wait_new(op, ch)->of_channel);
}

void subscriber_join(struct sub_op *op, enum channel_kind kind, const char *name, size_t len)
{
    struct subscriber *s = op->sub;
    struct channel *ch = hub_channel(s->hub, kind, name, len);

    if (find(s, ch) == NULL) {
        struct subscription *m = xcalloc(1, sizeof(*m));

        m->ch = ch;
        m->sub = s;
        table_add(&s->hub->subscriptions, &m->link, pair_hash(s, ch));
        list_push(&ch->subs, &m->of_channel);
        list_push(&s->subscriptions[kind], &m->of_client);
        list_push(&op->fresh, &m->of_op);
        s->count[kind]++;
        s->bytes += cost(ch);
        channel_joined(ch);
    }
    if (!channel_is_live(ch))
        wait_for(op, ch, &ch->joins);
    else /* what was published before may still be on its way to us */
        hub_conn_fence(ch->primary->conn, wait_new(op, ch));
}

void subscriber_leave(struct sub_op *op, enum channel_kind kind, const char *name, size_t len)
{
    struct channel *ch = hub_find(op->sub->hub, kind, name, len);
    struct subscription *m = ch != NULL ? find(op->sub, ch) : NULL;

    if (m == NULL)
        return;
    ch->pins++;
    take_out(m);
    m->leaving = true;
    list_push(&op->leaving, &m->of_client);
    if (ch->clients == 0 && channel_is_leaving(ch)) {
        wait_for(op, ch, &ch->leaves);
    } else if (ch->clients > 0 && channel_is_live(ch)) {
        struct sub_wait *w = wait_new(op, ch);

        w->leaves = true;
        hub_conn_fence(ch->primary->conn, w);
    }
}

/* --- commands under way --- */

struct sub_op *sub_op_begin(struct client *c, const struct command *cmd)
{
    struct subscriber *s = subscriber_of(c);
    struct sub_op *op;
    struct request *r;

    if (s == NULL)
        return NULL;
    op = xcalloc(1, sizeof(*op));
    r = request_new(c->env, c, cmd);
    op->sub = s;
    op->open = true;
    list_init(&op->of_hub);
    list_init(&op->waits);
    list_init(&op->fresh);
    list_init(&op->leaving);
    chain_init(&op->reply);
    list_push(&s->ops, &op->of_client);
    s->op_count++;
    r->state = REQUEST_PENDING;
    r->epoch = c->up->epoch;
    client_enqueue(c, r);
    r->silent = 0; /* a confirmation is no reply to CLIENT REPLY */
    return op;
}

static void op_free(struct sub_op *op)
{
    struct list_node *at, *tmp;

    while ((at = list_pop(&op->waits)) != NULL) {
        struct sub_wait *w = CONTAINER_OF(at, struct sub_wait, of_op);
        struct channel *ch = w->ch;

        list_unlink(&w->of_channel);
        ch->pins -= w->fenced;
        free(w);
        channel_put(ch);
    }
    LIST_FOREACH (at, tmp, &op->fresh)
        list_unlink(at);
    while ((at = list_pop(&op->leaving)) != NULL)
        drop(CONTAINER_OF(at, struct subscription, of_client));
    list_unlink(&op->of_client);
    list_unlink(&op->of_hub);
    op->sub->op_count--;
    block_unref(&op->error);
    chain_clear(&op->reply);
    free(op);
}

/* Answers the client's oldest command of the family, which is its oldest of all. */
static void answer(struct sub_op *op)
{
    struct client *c = op->sub->client;
    struct chain out;

    CHECK(c->head != NULL && c->head->state == REQUEST_PENDING);
    chain_init(&out);
    if (op->error != NULL) {
        struct list_node *at;

        chain_append_ref(&out, op->error, 0, op->error->len);
        while ((at = list_pop(&op->fresh)) != NULL)
            drop(CONTAINER_OF(at, struct subscription, of_op));
    } else {
        chain_splice(&out, &op->reply);
    }
    op_free(op);
    subscriber_update_mode(c);
    client_request_composed(c, c->head, &out);
    chain_clear(&out);
}

static void answer_settled(struct client *c)
{
    /* An answer may be the last thing a client waited for: then it is closed, and its set gone. */
    while (c->extra->subscriber != NULL && !list_empty(&c->extra->subscriber->ops)) {
        struct sub_op *op = CONTAINER_OF(c->extra->subscriber->ops.next, struct sub_op, of_client);

        if (!op->settled)
            return;
        answer(op);
    }
}

void sub_op_settled(struct sub_op *op)
{
    op->settled = true;
    answer_settled(op->sub->client);
}

void sub_op_end(struct sub_op *op)
{
    op->open = false;
    subscriber_update_mode(op->sub->client);
    if (list_empty(&op->waits))
        hub_settle(op->sub->hub, op);
}

void sub_wait_over(struct sub_wait *w)
{
    struct sub_op *op = w->op;

    list_unlink(&w->of_op);
    free(w);
    if (list_empty(&op->waits) && !op->open)
        hub_settle(op->sub->hub, op);
}

void subscriber_free(struct client *c)
{
    struct subscriber *s = c->extra != NULL ? c->extra->subscriber : NULL;
    struct list_node *at;

    if (s == NULL)
        return;
    c->extra->subscriber = NULL;
    c->subscribed = false;
    while (!list_empty(&s->ops))
        op_free(CONTAINER_OF(s->ops.next, struct sub_op, of_client));
    for (int k = 0; k < CHANNEL_KINDS; k++)
        while ((at = list_pop(&s->subscriptions[k])) != NULL)
            drop(CONTAINER_OF(at, struct subscription, of_client));
    s->hub->members--;
    free(s);
}

/* --- messages --- */

/* A message as each dialect has it, and in a block of its own when it is to be shared. */
struct frame {
    const char *data;
    size_t len;
    struct block *shared[2];
};

/* Longer ones are not copied to each client. */
#define SHARE_MIN 512

/* RESP2 has an array where RESP3 has a push; all else is the same. */
static void append(struct chain *out, struct frame *f, uint8_t proto)
{
    struct block **b = &f->shared[proto - 2];

    if (f->len < SHARE_MIN) {
        char *to = chain_reserve(out, f->len);

        memcpy(to, f->data, f->len);
        to[0] = proto == 2 ? '*' : '>';
        (void)chain_commit(out, f->len);
        return;
    }
    if (*b == NULL) {
        *b = block_new_exact(f->len);
        memcpy((*b)->data, f->data, f->len);
        (*b)->data[0] = proto == 2 ? '*' : '>';
        (*b)->len = (uint32_t)f->len;
    }
    chain_append_ref(out, *b, 0, (uint32_t)f->len);
}

static void output_limit(struct client *c, size_t unread)
{
    uint64_t limit = c->env->config->client.output_max_pubsub;

    if (LIKELY(unread <= limit) || c->doomed)
        return;
    log_warn("client %llu closed: %zu bytes of messages unread, client.output_max_pubsub is %llu",
             (unsigned long long)c->id, unread, (unsigned long long)limit);
    METRIC_ADD(&c->env->metrics, clients_closed_output, 1);
    client_doom(c);
}

struct chain *subscriber_output(struct client *c)
{
    bool within_reply = (c->head != NULL && c->head->state == REQUEST_STREAMING) ||
                        UNLIKELY((c->hold & HOLD_EXEC) != 0);

    if (UNLIKELY(!stream_is_open(&c->stream) || c->doomed || c->closing))
        return NULL;
    return UNLIKELY(within_reply) ? &client_extra(c)->stash : &c->stream.out;
}

void subscriber_output_added(struct client *c, const struct chain *out)
{
    if (out == &c->stream.out)
        client_output_added(c);
    output_limit(c, c->stream.out.bytes + c->extra->stash.bytes);
}

static void push_to(struct client *c, struct frame *f)
{
    struct chain *out = subscriber_output(c);

    if (out == NULL)
        return;
    append(out, f, c->proto);
    subscriber_output_added(c, out);
}

void subscriber_deliver(struct channel *ch, const char *data, size_t len)
{
    struct frame f = {.data = data, .len = len};

    for (struct list_node *at = ch->subs.next; at != &ch->subs; at = at->next) {
        struct subscription *m = CONTAINER_OF(at, struct subscription, of_channel);

        if (!list_linked(&m->of_op))
            push_to(m->sub->client, &f);
    }
    block_unref(&f.shared[0]);
    block_unref(&f.shared[1]);
}

void subscriber_after_long_reply(struct client *c)
{
    if (c->extra != NULL && c->extra->stash.bytes > 0)
        chain_splice(&c->stream.out, &c->extra->stash);
}
