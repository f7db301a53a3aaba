#include "session/hub_conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/redirect.h"
#include "session/subscriber.h"

/* A connection without a channel is kept so long. */
#define KEEP_MS 5000
/* A silent one is asked for a sign of life so often. */
#define PING_MS 1000

struct hub_cmd {
    struct hub_cmd *next;
    struct place *place; /* NULL: PING */
    bool leave;
    uint64_t sent_ms;
    struct list_node waits; /* of PING: struct sub_wait.of_channel */
};

static const char *const verbs[CHANNEL_KINDS][2] = {
    [CHANNEL_PLAIN] = {"subscribe", "unsubscribe"},
    [CHANNEL_PATTERN] = {"psubscribe", "punsubscribe"},
    [CHANNEL_SHARD] = {"ssubscribe", "sunsubscribe"},
};

struct hub_conn *hub_conn_to(struct hub *h, struct node *n)
{
    struct hub_conn *hc;
    struct beconn *conn;

    for (struct list_node *at = h->conns.next; at != &h->conns; at = at->next) {
        hc = CONTAINER_OF(at, struct hub_conn, link);
        if (hc->node == n && !hc->conn->retired)
            return hc;
    }
    conn = node_open_own(n, &h->backend, (uint16_t)h->profile);
    if (conn == NULL)
        return NULL;
    hc = xcalloc(1, sizeof(*hc));
    hc->hub = h;
    hc->conn = conn;
    hc->node = n;
    hc->tail = &hc->head;
    hc->used_ms = hc->pinged_ms = clock_ms();
    list_init(&hc->places);
    list_push(&h->conns, &hc->link);
    conn->user = hc;
    return hc;
}

/* --- commands --- */

static struct chain *output(struct hub_conn *hc)
{
    return hc->conn->state == BECONN_READY ? &hc->conn->stream.out : &hc->conn->waiting;
}

static void expect_answer(struct hub_conn *hc, struct place *p, bool leave)
{
    struct hub_cmd *cmd = xmalloc(sizeof(*cmd));

    *cmd = (struct hub_cmd){.place = p, .leave = leave, .sent_ms = clock_ms()};
    list_init(&cmd->waits);
    *hc->tail = cmd;
    hc->tail = &cmd->next;
    if (hc->conn->state == BECONN_READY)
        stream_mark_dirty(&hc->conn->stream);
}

static void send_command(struct place *p, bool leave)
{
    struct chain *out = output(p->conn);

    resp_write_array(out, 2);
    resp_write_text(out, verbs[p->ch->kind][leave]);
    resp_write_bulk(out, p->ch->name, p->ch->len);
    expect_answer(p->conn, p, leave);
}

void hub_conn_subscribe(struct place *p)
{
    send_command(p, false);
}

void hub_conn_unsubscribe(struct place *p)
{
    send_command(p, true);
}

static void ping(struct hub_conn *hc)
{
    hc->pinged_ms = clock_ms();
    resp_write_array(output(hc), 1);
    resp_write_text(output(hc), "PING");
    expect_answer(hc, NULL, false);
}

void hub_conn_fence(struct hub_conn *hc, struct sub_wait *w)
{
    struct hub_cmd *last;

    /* One PING serves all that want one in a turn. */
    if (hc->head == NULL || !hc->conn->stream.dirty ||
        CONTAINER_OF(hc->tail, struct hub_cmd, next)->place != NULL)
        ping(hc);
    last = CONTAINER_OF(hc->tail, struct hub_cmd, next);
    list_push(&last->waits, &w->of_channel);
    w->fenced = true;
    w->ch->pins++;
}

/* The oldest command, answered or given up. Its waits are moved to `waits`. */
static struct hub_cmd pop(struct hub_conn *hc, struct list_node *waits)
{
    struct hub_cmd *cmd = hc->head, copy = *cmd;

    list_splice(waits, &cmd->waits);

    hc->head = cmd->next;
    if (hc->head == NULL)
        hc->tail = &hc->head;
    free(cmd);
    return copy;
}

/* --- pushes --- */

static bool item_is(const struct resp_item *i, const char *text)
{
    return i->len == strlen(text) && memcmp(i->data, text, i->len) == 0;
}

static bool names(const struct channel *ch, enum channel_kind kind, const struct resp_item *name)
{
    return ch->kind == kind && ch->len == name->len && memcmp(ch->name, name->data, name->len) == 0;
}

/* False: it is no answer to the oldest command. */
static bool is_answer(const struct hub_conn *hc, enum channel_kind kind, bool leave,
                      const struct resp_item *name)
{
    const struct hub_cmd *cmd = hc->head;

    return cmd != NULL && cmd->place != NULL && cmd->leave == leave &&
           names(cmd->place->ch, kind, name);
}

static struct place *live_place(struct hub_conn *hc, const struct channel *ch)
{
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next) {
        struct place *p = CONTAINER_OF(at, struct place, of_channel);

        if (p->conn == hc && p->state == PLACE_LIVE)
            return p;
    }
    return NULL;
}

static void on_confirmation(struct hub_conn *hc, enum channel_kind kind, bool leave,
                            const struct resp_item *name)
{
    if (is_answer(hc, kind, leave, name)) {
        struct list_node none;
        struct hub_cmd cmd;

        list_init(&none);
        cmd = pop(hc, &none);
        if (leave)
            place_left(cmd.place);
        else
            place_confirmed(cmd.place);
    } else if (leave) {
        /* The slot of a sharded channel has left this server. */
        struct channel *ch = hub_find(hc->hub, kind, name->data, name->len);
        struct place *p = ch != NULL ? live_place(hc, ch) : NULL;

        if (p != NULL) {
            hc->hub->up->env->hooks->want_refresh(hc->hub->up->env, hc->hub->up->index);
            place_lost(p);
        }
    } else {
        beconn_close(hc->conn, "a subscription that nothing asked for");
    }
}

static bool is_about_keys(const struct resp_item *channel)
{
    return channel->len > 11 && (memcmp(channel->data, "__keyspace@", 11) == 0 ||
                                 memcmp(channel->data, "__keyevent@", 11) == 0);
}

/* The last client's UNSUBSCRIBE is on its way to the server: until that is confirmed, what was
 * published before still arrives. */
static const struct place *farewell_place(const struct hub_conn *hc, const struct channel *ch)
{
    if (ch->primary != NULL && ch->primary->state != PLACE_ASKED)
        return NULL;
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next) {
        const struct place *p = CONTAINER_OF(at, const struct place, of_channel);

        if (p->conn == hc && p->farewell)
            return p;
    }
    return NULL;
}

/* Where a channel has several places only one may pass on what all of them are told. */
static bool is_passed_on(struct hub_conn *hc, const struct channel *ch,
                         const struct resp_item *channel)
{
    const struct place *p;

    if (ch->primary != NULL && ch->primary->conn == hc)
        return true;
    if (ch->everywhere && live_place(hc, ch) != NULL && is_about_keys(channel))
        return true;
    p = farewell_place(hc, ch);
    return p != NULL && (p->was_primary || is_about_keys(channel));
}

/* `subscribed`: the channel or pattern; `channel`: what was published to. */
static void on_message(struct hub_conn *hc, enum channel_kind kind,
                       const struct resp_item *subscribed, const struct resp_item *channel,
                       const char *data, size_t len)
{
    struct channel *ch = hub_find(hc->hub, kind, subscribed->data, subscribed->len);

    if (ch != NULL && is_passed_on(hc, ch, channel))
        subscriber_deliver(ch, data, len);
}

static void on_push(struct beconn *conn, const char *data, size_t len)
{
    struct hub_conn *hc = conn->user;
    const char *p = data, *end = data + len;
    struct resp_item head, verb, name, channel;

    if (!resp_next(&p, end, &head) || head.count < 3 || !resp_next(&p, end, &verb) ||
        !resp_next(&p, end, &name))
        return;
    for (int kind = 0; kind < CHANNEL_KINDS; kind++)
        for (int leave = 0; leave < 2; leave++)
            if (item_is(&verb, verbs[kind][leave])) {
                on_confirmation(hc, (enum channel_kind)kind, leave, &name);
                return;
            }
    if (item_is(&verb, "message"))
        on_message(hc, CHANNEL_PLAIN, &name, &name, data, len);
    else if (item_is(&verb, "smessage"))
        on_message(hc, CHANNEL_SHARD, &name, &name, data, len);
    else if (item_is(&verb, "pmessage") && resp_next(&p, end, &channel))
        on_message(hc, CHANNEL_PATTERN, &name, &channel, data, len);
}

static void fences_over(struct list_node *waits)
{
    struct list_node *at;

    while ((at = list_pop(waits)) != NULL) {
        struct sub_wait *w = CONTAINER_OF(at, struct sub_wait, of_channel);
        struct channel *ch = w->ch;

        sub_wait_over(w);
        ch->pins--;
        channel_put(ch);
    }
}

/* The connection is gone: what waited for it waits for the channel's next place. */
static void fences_lost(struct list_node *waits)
{
    struct list_node *at, over;

    list_init(&over);
    while ((at = list_pop(waits)) != NULL) {
        struct sub_wait *w = CONTAINER_OF(at, struct sub_wait, of_channel);
        const struct place *p = w->ch->primary;

        if (w->ch->clients == 0 || w->leaves ||
            (p != NULL && p->conn->conn->state != BECONN_CLOSED && channel_is_live(w->ch))) {
            list_push(&over, at);
            continue;
        }
        w->fenced = false;
        w->ch->pins--;
        list_push(&w->ch->joins, at);
    }
    fences_over(&over);
}

/* PONG, or an error in place of a confirmation. */
static void on_stray(struct beconn *conn, const struct bereply *reply)
{
    struct hub_conn *hc = conn->user;
    struct list_node waits;
    struct hub_cmd cmd;

    if (hc->head == NULL || (hc->head->place != NULL && reply->type != '-')) {
        beconn_close(conn, "a reply that nothing asked for");
        return;
    }
    list_init(&waits);
    cmd = pop(hc, &waits);
    if (cmd.place == NULL)
        fences_over(&waits);
    else if (cmd.leave)
        beconn_close(conn, "the server refuses to end a subscription");
    else
        place_refused(cmd.place, reply);
}

/* --- life --- */

/* The server does not let the hub's user in (any more): nor its clients, then. */
static void on_refused(struct beconn *conn, const struct bereply *reply)
{
    struct hub_conn *hc = conn->user;
    struct list_node waits;

    list_init(&waits);
    while (hc->head != NULL) {
        struct hub_cmd cmd = pop(hc, &waits);

        if (cmd.place != NULL && cmd.leave)
            place_left(cmd.place);
        else if (cmd.place != NULL)
            place_refused(cmd.place, reply);
    }
    fences_lost(&waits);
}

static void on_ready(struct beconn *conn)
{
    struct hub_conn *hc = conn->user;

    for (struct hub_cmd *cmd = hc->head; cmd != NULL; cmd = cmd->next)
        cmd->sent_ms = clock_ms();
    redirect_wake(hc->hub->up->env);
}

static void on_closed(struct beconn *conn)
{
    struct hub_conn *hc = conn->user;
    struct session_env *env = hc->hub->up->env;
    struct list_node *at, waits;

    list_unlink(&hc->link);
    list_init(&waits);
    while (hc->head != NULL)
        (void)pop(hc, &waits);
    fences_lost(&waits);
    while ((at = list_pop(&hc->places)) != NULL) {
        struct place *p = CONTAINER_OF(at, struct place, of_conn);

        if (p->state == PLACE_LEAVING)
            place_left(p);
        else
            place_lost(p);
    }
    while (hc->head != NULL) /* from clients that were answered just now */
        (void)pop(hc, &waits);
    if (!conn->retired && !hc->hub->stopping) {
        METRIC_ADD(&env->metrics, backend_lost, 1);
        env->hooks->want_refresh(env, hc->hub->up->index);
    }
    free(hc);
}

void hub_conn_tick(struct hub_conn *hc, uint64_t now_ms)
{
    uint32_t limit = hc->hub->backend.request_timeout_ms;

    if (!list_empty(&hc->places))
        hc->used_ms = now_ms;
    if (hc->conn->state != BECONN_READY)
        return; /* backend.connect_timeout */
    if (hc->head == NULL && now_ms > hc->used_ms + KEEP_MS) {
        hc->conn->retired = true;
        beconn_close(hc->conn, NULL);
        return;
    }
    if (hc->head != NULL && limit != 0 && now_ms > hc->head->sent_ms + limit &&
        now_ms > hc->conn->progress_ms + limit) {
        node_failed(hc->node);
        beconn_close(hc->conn, "no sign of life within backend.request_timeout");
        return;
    }
    if (hc->head == NULL && now_ms > hc->pinged_ms + PING_MS)
        ping(hc);
}

const struct beconn_ops hub_conn_ops = {
    .push = on_push,
    .stray = on_stray,
    .ready = on_ready,
    .closed = on_closed,
    .refused = on_refused,
};
