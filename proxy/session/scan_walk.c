/*
 * scan_walk.c - SCAN slot by slot.
 *
 * Rounds: every server's view and each slot's number of keys; the keys of as many slots as COUNT
 * needs, and every server's view again; for a half-moved slot the keys at its destination, and that
 * one's view. Keys move from the source to the destination only, so the source is asked first.
 */
#include <inttypes.h>

#include "resp/number.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/scan.h"

/* Keys that may have come since they were counted. */
#define SLACK(keys) ((keys) + (keys) / 8 + 64)

static bool read_number(const struct request *part, uint32_t *out)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item item;
    int64_t v;

    if (!resp_next(&p, end, &item) || item.type != ':' ||
        !resp_parse_int(item.data, item.len, &v) || v < 0)
        return false;
    *out = (uint32_t)MIN(v, INT32_MAX / 4);
    return true;
}

static bool read_length(const struct request *part, uint32_t *out)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item item;

    if (!resp_next(&p, end, &item) || item.type != '*' || item.count < 0)
        return false;
    *out = (uint32_t)MIN(item.count, (int64_t)UINT32_MAX);
    return true;
}

static bool misfit(struct chain *out)
{
    error_write(out, ERROR_PART_LOST);
    return true;
}

/* A reply to GETKEYSINSLOT: all of it is of the right slot. */
static void hold(struct scan *sc, const struct request *part)
{
    scan_hold(sc, part, 0, SLOT_COUNT - 1, false);
}

static void ask_keys(struct scan *sc, uint16_t slot, uint32_t limit)
{
    char number[16], count[16];
    int n = snprintf(number, sizeof(number), "%u", slot);
    int m = snprintf(count, sizeof(count), "%" PRIu32, limit);

    scan_ask(sc, slot, "*4\r\n$7\r\nCLUSTER\r\n$13\r\nGETKEYSINSLOT\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
             n, number, m, count);
}

static void ask_number(struct scan *sc, uint16_t slot)
{
    char number[16];
    int n = snprintf(number, sizeof(number), "%u", slot);

    scan_ask(sc, slot, "*3\r\n$7\r\nCLUSTER\r\n$15\r\nCOUNTKEYSINSLOT\r\n$%d\r\n%s\r\n", n, number);
}

/* The view of every server that has one of the window's slots. */
static void ask_views(struct scan *sc)
{
    const struct upstream *u = sc->client->up;

    for (uint32_t i = 0; i < sc->slot_count; i++) {
        const struct node *n = upstream_route(u, sc->at.slot + i);
        bool first = true;

        for (uint32_t j = 0; first && j < i; j++)
            first = upstream_route(u, sc->at.slot + j) != n;
        if (first)
            scan_ask_view(sc, (uint16_t)(sc->at.slot + i));
    }
}

/* --- the destination of a half-moved slot --- */

static struct node *node_of_id(const struct upstream *u, const char *id)
{
    for (size_t i = 0; i < u->map_node_count; i++)
        if (strcmp(u->map->nodes[i].id, id) == 0)
            return u->map_nodes[i];
    return NULL;
}

static bool ask_target(struct scan *sc, struct chain *out);

/* It takes the slot in, or has become its owner meanwhile. */
static bool is_target(const struct scan *sc, const struct request *part)
{
    const struct nodes_move *move;
    struct scan_view view;
    bool ok;

    if (!scan_view_parse(&view, part))
        return false;
    move = scan_view_move(&view, sc->at.slot);
    ok = strcmp(view.self->id, sc->target) == 0 &&
         (move != NULL ? move->importing : scan_view_owned(&view, sc->at.slot, sc->at.slot) == 1);
    scan_view_free(&view);
    return ok;
}

static bool on_target(struct scan *sc, struct chain *out)
{
    const struct request *keys = *sc->round, *view = keys->next;
    uint64_t server = scan_from(sc, keys)->server;
    uint32_t length;

    if (keys->failed || view->failed)
        return scan_again(sc, out);
    if (!read_length(keys, &length))
        return misfit(out);
    if (server == 0 || server != scan_from(sc, view)->server || !is_target(sc, view))
        return scan_again(sc, out);
    if (length >= sc->target_limit) {
        sc->target_limit *= 4;
        return ask_target(sc, out);
    }
    hold(sc, keys);
    return scan_complete(sc, sc->at.slot + 1u, out);
}

static bool ask_target(struct scan *sc, struct chain *out)
{
    static const char view[] = "*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n";
    struct node *n = node_of_id(sc->client->up, sc->target);
    struct beconn *conn = NULL;
    char text[128], slot[16], limit[16];
    int len;

    if (n != NULL)
        conn = forward_connection_now(sc->client, n);
    if (conn == NULL || sc->target_limit > INT32_MAX / 4)
        return scan_again(sc, out);
    len = snprintf(slot, sizeof(slot), "%u", sc->at.slot);
    snprintf(limit, sizeof(limit), "%" PRIu32, sc->target_limit);
    len = snprintf(text, sizeof(text),
                   "*4\r\n$7\r\nCLUSTER\r\n$13\r\nGETKEYSINSLOT\r\n$%d\r\n%s\r\n$%zu\r\n%s\r\n",
                   len, slot, strlen(limit), limit);
    scan_round_begin(sc, on_target);
    scan_track(sc, scatter_add_to(sc->client, sc->parent, conn, text, (uint32_t)len));
    scan_track(sc, scatter_add_to(sc->client, sc->parent, conn, view, (uint32_t)sizeof(view) - 1));
    scan_round_sent(sc);
    return false;
}

/* --- keys --- */

/* What the server says after its keys were read: what it said before must still be so. */
static void confirm(struct scan *sc, const struct request *part, const struct scan_view *view)
{
    uint64_t server = scan_from(sc, part)->server;

    for (uint32_t i = 0; i < sc->slot_count; i++) {
        struct scan_slot *slot = &sc->slots[i];
        uint16_t number = (uint16_t)(sc->at.slot + i);

        if (slot->server != server || slot->epoch != view->self->epoch ||
            scan_view_owned(view, number, number) == 0)
            continue;
        slot->confirmed = true;
        if (scan_view_move(view, number) == NULL)
            continue;
        slot->state = SCAN_SLOT_LEAVING;
        if (i == 0)
            memcpy(sc->target, scan_view_move(view, number)->peer, sizeof(sc->target));
    }
}

/* Takes the keys of the slots in their order; *part is behind the last one then. False: no reply
 * to GETKEYSINSLOT. */
static bool take_keys(struct scan *sc, const struct request **part)
{
    for (uint32_t i = 0; i < sc->slot_count; i++) {
        struct scan_slot *slot = &sc->slots[i];
        uint32_t length;

        slot->part = NULL;
        slot->confirmed = false;
        if (slot->keys == 0)
            continue;
        if (!read_length(*part, &length))
            return false;
        if (length >= SLACK(slot->keys) || scan_from(sc, *part)->server != slot->server)
            slot->server = 0; /* not all of them, or another server's: not confirmed */
        slot->part = *part;
        *part = (*part)->next;
    }
    return true;
}

static bool on_keys(struct scan *sc, struct chain *out)
{
    const struct request *part = *sc->round;
    struct scan_view view;
    uint32_t n = 0;

    if (!take_keys(sc, &part))
        return misfit(out);
    for (; part != NULL; part = part->next) {
        if (!scan_view_parse(&view, part))
            return misfit(out);
        confirm(sc, part, &view);
        scan_view_free(&view);
    }
    scan_drop_leg(sc);
    for (; n < sc->slot_count; n++) {
        const struct scan_slot *slot = &sc->slots[n];

        if (!slot->confirmed || (n > 0 && slot->state == SCAN_SLOT_LEAVING))
            break;
        if (slot->part != NULL)
            hold(sc, slot->part);
        if (slot->state != SCAN_SLOT_LEAVING)
            continue;
        sc->target_limit = 2 * SLACK(slot->keys) + 1000;
        return ask_target(sc, out);
    }
    return n > 0 ? scan_complete(sc, sc->at.slot + n, out) : scan_again(sc, out);
}

static void fetch(struct scan *sc)
{
    scan_round_begin(sc, on_keys);
    for (uint32_t i = 0; i < sc->slot_count; i++)
        if (sc->slots[i].keys > 0)
            ask_keys(sc, (uint16_t)(sc->at.slot + i), SLACK(sc->slots[i].keys));
    ask_views(sc);
    scan_round_sent(sc);
}

/* --- numbers --- */

static void classify(struct scan *sc, const struct request *part, const struct scan_view *view)
{
    uint64_t server = scan_from(sc, part)->server;
    uint32_t first = sc->at.slot, last = first + sc->slot_count - 1;

    if ((view->self->flags & NODES_MASTER) == 0)
        return;
    for (uint32_t i = 0; i < view->self->range_count; i++) {
        const struct nodes_range *r = &view->text.ranges[view->self->first_range + i];

        for (uint32_t s = MAX(r->first, first); s <= MIN(r->last, last); s++) {
            struct scan_slot *slot = &sc->slots[s - first];

            if (slot->server != server || server == 0)
                continue;
            slot->epoch = view->self->epoch;
            slot->state =
                scan_view_move(view, (uint16_t)s) != NULL ? SCAN_SLOT_LEAVING : SCAN_SLOT_OWNED;
        }
    }
}

/* How many slots this step takes: as many as COUNT needs, and a half-moved or very large one for
 * itself. */
static uint32_t choose(const struct scan *sc)
{
    int64_t keys = sc->keys;
    uint32_t n = 0;

    while (n < sc->slot_count && keys < sc->wanted) {
        const struct scan_slot *slot = &sc->slots[n];
        bool alone = slot->state == SCAN_SLOT_LEAVING || slot->keys > SCAN_SLOT_KEYS;

        if (slot->state == SCAN_SLOT_FOREIGN || (alone && n > 0))
            break;
        keys += slot->keys;
        n++;
        if (alone)
            break;
    }
    return n;
}

static bool on_numbers(struct scan *sc, struct chain *out)
{
    const struct request *part = *sc->round;
    uint32_t views = sc->part_count - sc->slot_count;
    struct scan_view view;

    for (uint32_t i = 0; i < views; i++)
        part = part->next;
    for (uint32_t i = 0; i < sc->slot_count; i++, part = part->next) {
        sc->slots[i] = (struct scan_slot){.server = scan_from(sc, part)->server};
        if (!read_number(part, &sc->slots[i].keys))
            return misfit(out);
    }
    part = *sc->round;
    for (uint32_t i = 0; i < views; i++, part = part->next) {
        if (!scan_view_parse(&view, part))
            return misfit(out);
        classify(sc, part, &view);
        scan_view_free(&view);
    }
    sc->slot_count = choose(sc);
    if (sc->slot_count == 0)
        return scan_again(sc, out);
    if (sc->slots[0].keys > SCAN_SLOT_KEYS && sc->slots[0].state == SCAN_SLOT_OWNED &&
        !sc->any_size && scan_range_begin_narrow(sc))
        return false;
    fetch(sc);
    return false;
}

void scan_walk_begin(struct scan *sc)
{
    const struct upstream *u = sc->client->up;

    scan_drop_leg(sc);
    sc->slot_count = 1;
    while (sc->slot_count < SCAN_WINDOW && sc->at.slot + sc->slot_count < SLOT_COUNT &&
           upstream_route(u, sc->at.slot + sc->slot_count) != NULL)
        sc->slot_count++;
    scan_round_begin(sc, on_numbers);
    ask_views(sc);
    for (uint32_t i = 0; i < sc->slot_count; i++)
        ask_number(sc, (uint16_t)(sc->at.slot + i));
    scan_round_sent(sc);
}
