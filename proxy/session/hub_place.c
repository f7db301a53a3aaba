/*
 * hub_place.c - where a hub's channels are subscribed to: finding places, and losing them.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/hub_conn.h"
#include "session/refusal.h"
#include "session/subscriber.h"

static bool is_owner(const struct upstream *u, const struct node *n)
{
    for (size_t i = 0; i < u->map_node_count; i++)
        if (u->map_nodes[i] == n)
            return slotmap_is_owner(u->map, i);
    return false;
}

/* Any master will do for what the cluster broadcasts; it is best where PUBLISH goes. */
static struct node *home_of(const struct channel *ch)
{
    const struct upstream *u = ch->hub->up;
    struct node *n = ch->kind == CHANNEL_PATTERN ? upstream_any_master(u, ch->link.hash)
                                                 : upstream_route(u, ch->slot);

    if (ch->kind == CHANNEL_SHARD || (n != NULL && n->outage_ms == 0))
        return n;
    for (size_t i = 0; i < u->map_node_count; i++)
        if (slotmap_is_owner(u->map, i) && u->map_nodes[i]->outage_ms == 0)
            return u->map_nodes[i];
    return n;
}

static struct place *find_place(const struct channel *ch, const struct node *n)
{
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next) {
        struct place *p = CONTAINER_OF(at, struct place, of_channel);

        if (p->state != PLACE_LEAVING && p->conn->node == n)
            return p;
    }
    return NULL;
}

static struct place *place_new(struct channel *ch, struct node *n)
{
    struct hub_conn *conn = n != NULL ? hub_conn_to(ch->hub, n) : NULL;
    struct place *p;

    if (conn == NULL)
        return NULL;
    p = xcalloc(1, sizeof(*p));
    p->ch = ch;
    p->conn = conn;
    p->state = PLACE_ASKED;
    list_push(&ch->places, &p->of_channel);
    list_push(&conn->places, &p->of_conn);
    hub_conn_subscribe(p);
    return p;
}

static void place_free(struct place *p)
{
    list_unlink(&p->of_channel);
    list_unlink(&p->of_conn);
    free(p);
}

static void place_leave(struct place *p)
{
    if (p->ch->primary == p)
        p->ch->primary = NULL;
    p->state = PLACE_LEAVING;
    hub_conn_unsubscribe(p);
}

/* Asks for the places that are missing. False: not all of them can be reached. */
static bool find_places(struct channel *ch)
{
    const struct upstream *u = ch->hub->up;
    bool all = true;

    if (ch->primary == NULL) {
        struct node *n = home_of(ch);

        ch->primary = ch->everywhere && n != NULL ? find_place(ch, n) : NULL;
        if (ch->primary == NULL)
            ch->primary = place_new(ch, n);
        all = ch->primary != NULL;
    }
    for (size_t i = 0; ch->everywhere && i < u->map_node_count; i++) {
        struct node *n = u->map_nodes[i];

        if (slotmap_is_owner(u->map, i) && find_place(ch, n) == NULL && place_new(ch, n) == NULL)
            all = false;
    }
    return all;
}

/* Its places are looked for in the next turn, or by the next tick. */
static void want_places(struct channel *ch, bool soon)
{
    struct hub *h = ch->hub;

    if (h->stopping || ch->clients == 0)
        return;
    if (soon)
        loop_add_task(h->up->env->loop, &h->task);
    if (list_linked(&ch->lost_link))
        return;
    if (ch->lost_ms == 0)
        ch->lost_ms = clock_ms();
    list_push(&h->lost, &ch->lost_link);
}

/* What ends with a wait may let go of the channel: it is pinned meanwhile. */
static void resolve(struct channel *ch, struct list_node *waits)
{
    struct list_node *at;

    ch->pins++;
    while ((at = list_pop(waits)) != NULL)
        sub_wait_over(CONTAINER_OF(at, struct sub_wait, of_channel));
    ch->pins--;
}

bool channel_is_live(const struct channel *ch)
{
    if (ch->primary == NULL || ch->primary->state != PLACE_LIVE)
        return false;
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next)
        if (CONTAINER_OF(at, struct place, of_channel)->state == PLACE_ASKED)
            return false;
    return true;
}

bool channel_is_leaving(const struct channel *ch)
{
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next)
        if (CONTAINER_OF(at, struct place, of_channel)->state == PLACE_LEAVING)
            return true;
    return false;
}

/* After any change of its places; frees it when nobody uses it any more. */
static void places_changed(struct channel *ch)
{
    ch->pins++;
    hub_changed(ch);
    if (channel_is_live(ch)) {
        ch->lost_ms = 0;
        ch->confirmed = ch->clients > 0;
        resolve(ch, &ch->joins);
    }
    if (!channel_is_leaving(ch))
        resolve(ch, &ch->leaves);
    ch->pins--;
    channel_put(ch);
}

void channel_joined(struct channel *ch)
{
    if (ch->clients++ == 0) {
        list_push(&ch->hub->wanted, &ch->wanted_link);
        if (!find_places(ch))
            want_places(ch, true);
    }
    hub_changed(ch);
}

static void leave_all(struct channel *ch)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &ch->places) {
        struct place *p = CONTAINER_OF(at, struct place, of_channel);

        if (p->state == PLACE_LEAVING)
            continue;
        p->farewell = true;
        p->was_primary = ch->primary == p;
        place_leave(p);
    }
}

void channel_left(struct channel *ch)
{
    if (--ch->clients == 0) {
        ch->confirmed = false;
        list_unlink(&ch->wanted_link);
        list_unlink(&ch->lost_link);
        leave_all(ch);
        resolve(ch, &ch->joins); /* of clients that have left it meanwhile */
    }
    hub_changed(ch);
}

/* --- what a connection tells --- */

void place_confirmed(struct place *p)
{
    if (p->state == PLACE_ASKED)
        p->state = PLACE_LIVE;
    places_changed(p->ch);
}

void place_left(struct place *p)
{
    struct channel *ch = p->ch;

    place_free(p);
    places_changed(ch);
}

/* One of the other places of a channel that has several takes over. */
static struct place *next_primary(const struct channel *ch)
{
    for (struct list_node *at = ch->places.next; at != &ch->places; at = at->next) {
        struct place *p = CONTAINER_OF(at, struct place, of_channel);

        if (p->state == PLACE_LIVE)
            return p;
    }
    return NULL;
}

void place_lost(struct place *p)
{
    struct channel *ch = p->ch;

    if (ch->primary == p)
        ch->primary = NULL;
    place_free(p);
    if (ch->primary == NULL)
        ch->primary = next_primary(ch);
    want_places(ch, true);
    places_changed(ch);
}

void place_refused(struct place *p, const struct bereply *reply)
{
    struct channel *ch = p->ch;
    struct hub *h = ch->hub;
    struct request like = {.cmd = command_find_name("subscribe", 9), .slot = ch->slot};
    struct refusal_info info;
    enum refusal why = refusal_parse(h->up, p->conn->node, &like, reply, &info);

    if (p->state == PLACE_LEAVING)
        return; /* its UNSUBSCRIBE will be answered all the same */
    if (ch->primary == p)
        ch->primary = NULL;
    place_free(p);
    if (why == REFUSAL_MOVED && info.target != NULL)
        upstream_override(h->up, ch->slot, info.target);
    want_places(ch, false);
    hub_changed(ch);
    if (why != REFUSAL_NONE)
        h->up->env->hooks->want_refresh(h->up->env, h->up->index);
    else
        subscriber_revoked(ch, reply->data, reply->len);
}

/* --- changes --- */

/* Places that a new map made wrong: a sharded channel's slot has another owner; a server that is no
 * master any more tells of its master's keys a second time. */
static void leave_wrong_places(struct channel *ch)
{
    const struct upstream *u = ch->hub->up;
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &ch->places) {
        struct place *p = CONTAINER_OF(at, struct place, of_channel);
        const struct node *n = p->conn->node;
        bool wrong = ch->kind == CHANNEL_SHARD
                         ? upstream_route(u, ch->slot) != NULL && upstream_route(u, ch->slot) != n
                         : ch->everywhere && !is_owner(u, n);

        if (wrong && p->state != PLACE_LEAVING)
            place_leave(p);
    }
    if (ch->primary == NULL)
        ch->primary = next_primary(ch);
    if (ch->primary == NULL || ch->everywhere)
        want_places(ch, true);
    hub_changed(ch);
}

void hub_on_map(struct hub *h)
{
    for (struct list_node *at = h->wanted.next; at != &h->wanted; at = at->next) {
        struct channel *ch = CONTAINER_OF(at, struct channel, wanted_link);

        if (ch->kind == CHANNEL_SHARD || ch->everywhere)
            leave_wrong_places(ch);
    }
}

void hub_retry_lost(struct hub *h)
{
    struct list_node *at, *tmp;

    LIST_FOREACH (at, tmp, &h->lost) {
        struct channel *ch = CONTAINER_OF(at, struct channel, lost_link);

        if (find_places(ch))
            list_unlink(&ch->lost_link);
    }
}
