/*
 * scan_range.c - SCAN by the owner's own SCAN, of which the keys of one range pass.
 *
 * What makes it right: the owner says before the first and after the last of its answers that the
 * whole range is its own and nothing of it half moved, both times at the same configuration epoch
 * (which changes when a slot comes back), and it is the same process all the time. Then every key
 * that was there all along was on that server all along, and its SCAN has returned it.
 */
#include <inttypes.h>

#include "base/alloc.h"
#include "resp/number.h"
#include "session/scan.h"

/* A range is short, and walked, when it is less than this part of what its owner has: the SCAN of a
 * server goes over all of its keys for each range. */
#define SHORT_RANGE 8

static bool in_motion(const struct upstream *u, uint16_t slot)
{
    return slotmap_is_moving(u->map, slot) || upstream_is_unstable(u, slot);
}

static const struct slotmap_node *owner_of(const struct upstream *u, uint16_t slot)
{
    for (size_t i = 0; i < u->map_node_count; i++)
        if (u->map_nodes[i] == upstream_route(u, slot))
            return &u->map->nodes[i];
    return NULL;
}

/* The range that begins at the cursor's slot, by what we know. */
static bool find_range(struct scan *sc, bool narrow)
{
    const struct upstream *u = sc->client->up;
    const struct slotmap_node *owner = owner_of(u, sc->at.slot);
    uint32_t end = sc->at.slot;

    if (owner == NULL || in_motion(u, sc->at.slot))
        return false;
    while (!narrow && end + 1 < SLOT_COUNT &&
           upstream_route(u, end + 1) == upstream_route(u, sc->at.slot) &&
           !in_motion(u, (uint16_t)(end + 1)))
        end++;
    sc->end = (uint16_t)end;
    sc->epoch = owner->epoch;
    return sc->at.inner != 0 || narrow || (end - sc->at.slot + 1) * SHORT_RANGE >= owner->slots;
}

/* What was begun does not hold: the rest of this owner's slots one by one. */
static bool fall_back(struct scan *sc)
{
    sc->walking = true;
    sc->any_size |= sc->at.narrow; /* it was tried */
    scan_walk_begin(sc);
    return false;
}

/* The owner's own word. */
static bool confirmed(const struct scan *sc, const struct request *part)
{
    struct upstream *u = sc->client->up;
    struct scan_view view;
    bool ok;

    if (!scan_view_parse(&view, part))
        return false;
    ok = scan_view_has_whole(&view, sc->at.slot, sc->end) && view.self->epoch == sc->epoch;
    scan_view_free(&view);
    if (!ok)
        u->env->hooks->want_refresh(u->env, u->index);
    return ok;
}

static bool on_confirmed(struct scan *sc, struct chain *out)
{
    const struct request *part = *sc->round;
    uint64_t process = scan_from(sc, part)->process;

    if (process != sc->process || !confirmed(sc, part))
        return fall_back(sc);
    if (sc->at.narrow) /* it was met on a walk, which goes on */
        sc->walking = true;
    return scan_complete(sc, sc->end + 1u, out);
}

static bool read_cursor(const struct request *part, uint64_t *out)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item item;
    uint64_t v = 0;

    if (!resp_next(&p, end, &item) || item.count != 2 || !resp_next(&p, end, &item) ||
        item.len == 0 || item.len > 20)
        return false;
    for (size_t i = 0; i < item.len; i++) {
        if (item.data[i] < '0' || item.data[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(item.data[i] - '0');
    }
    *out = v;
    return true;
}

static bool on_scanned(struct scan *sc, struct chain *out)
{
    const struct request *view = sc->at.inner == 0 ? *sc->round : NULL;
    const struct request *part = view != NULL ? view->next : *sc->round;
    uint64_t next;
    uint16_t mark;

    sc->process = scan_from(sc, part)->process;
    mark = scan_fingerprint(sc->process, sc->epoch, sc->end);
    if (sc->process == 0 || (view == NULL && mark != sc->at.mark) ||
        (view != NULL && (scan_from(sc, view)->process != sc->process || !confirmed(sc, view))) ||
        !read_cursor(part, &next))
        return fall_back(sc);
    scan_drop_leg(sc);
    scan_hold(sc, part, sc->at.slot, sc->end, true);
    if (next == 0) {
        scan_round_begin(sc, on_confirmed);
        scan_ask_view(sc, sc->at.slot);
        scan_round_sent(sc);
        return false;
    }
    if (next > SCAN_INNER_MAX) { /* the slots one by one, however large */
        sc->any_size = true;
        return fall_back(sc);
    }
    sc->then = (struct scan_cursor){
        .slot = sc->at.slot, .mark = mark, .inner = next, .narrow = sc->at.narrow};
    return scan_answer(sc, out);
}

static void ask_scan(struct scan *sc)
{
    uint32_t options_len = sc->len - sc->options;
    char *bytes = xmalloc(64 + options_len);
    char cursor[24];
    size_t len = resp_format_int(cursor, (int64_t)sc->at.inner);
    int n = snprintf(bytes, 64, "*%" PRIu32 "\r\n$4\r\nSCAN\r\n$%zu\r\n%.*s\r\n", sc->argc, len,
                     (int)len, cursor);

    memcpy(bytes + n, sc->bytes + sc->options, options_len);
    scan_round_begin(sc, on_scanned);
    if (sc->at.inner == 0)
        scan_ask_view(sc, sc->at.slot);
    scan_track(sc,
               scatter_add(sc->client, sc->parent, sc->at.slot, bytes, (uint32_t)n + options_len));
    scan_round_sent(sc);
    free(bytes);
}

bool scan_range_begin(struct scan *sc)
{
    if (sc->at.inner == 0 && sc->at.mark == SCAN_WALK) {
        sc->walking = true;
        return false;
    }
    if (!find_range(sc, sc->at.inner != 0 && sc->at.narrow)) {
        sc->walking = sc->at.inner != 0;
        return false;
    }
    ask_scan(sc);
    return true;
}

bool scan_range_begin_narrow(struct scan *sc)
{
    sc->at.inner = 0;
    sc->at.narrow = true;
    if (!find_range(sc, true))
        return false;
    ask_scan(sc);
    return true;
}
