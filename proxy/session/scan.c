#include "session/scan.h"

#include <stdarg.h>

#include "base/alloc.h"
#include "base/crc16.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"

#define DEFAULT_COUNT 10
#define MAX_FAILURES 8 /* attempts at one step that come to nothing */
#define MAX_LEGS 16

static void begin(struct scan *sc);

/* --- rounds --- */

static struct scatter *scatter_of(struct scan *sc)
{
    return sc->parent->scatter;
}

void scan_round_begin(struct scan *sc, scan_round_fn *on_round)
{
    struct scatter *s = scatter_of(sc);

    s->pending++; /* or a part that fails at once would end the round */
    sc->on_round = on_round;
    sc->round = s->tail;
    sc->part_count = 0;
}

void scan_round_sent(struct scan *sc)
{
    scatter_of(sc)->pending--;
}

void scan_track(struct scan *sc, struct request *part)
{
    part->first = sc->part_count++;
    if (part->first < SCAN_PARTS)
        sc->from[part->first] = (struct scan_source){0};
}

static void answered_by(struct request *part, const struct node *n)
{
    struct scan *sc = part->parent->scatter->data;
    struct scan_source *from = &sc->from[part->first];
    size_t len = strlen(n->run_id);

    if (part->first >= SCAN_PARTS)
        return;
    from->process = len > 0 ? scan_hash(0, n->run_id, len) | 1 : 0;
    from->server = scan_hash(from->process, n->addr.host, strlen(n->addr.host));
    from->server = scan_hash(from->server, &n->addr.port, sizeof(n->addr.port)) | 1;
}

const struct scan_source *scan_from(const struct scan *sc, const struct request *part)
{
    return &sc->from[part->first];
}

void scan_ask(struct scan *sc, uint16_t slot, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    CHECK(n > 0 && (size_t)n < sizeof(text));
    scan_track(sc, scatter_add(sc->client, sc->parent, slot, text, (uint32_t)n));
}

void scan_ask_view(struct scan *sc, uint16_t slot)
{
    scan_ask(sc, slot, "*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n");
}

/* An error that a server, or the proxy in its place, answered to any part of the round. */
static bool round_failed(const struct scan *sc, struct chain *out)
{
    for (const struct request *p = *sc->round; p != NULL; p = p->next) {
        const char *at = request_reply(p), *end = at + p->reply_len;
        struct resp_item item;

        if (!resp_next(&at, end, &item)) {
            error_write(out, ERROR_PART_LOST);
            return true;
        }
        if (p->failed && p->slot == SLOT_NONE)
            continue; /* it was for one server alone: on_round knows what to do */
        if (item.type == '-' || item.type == '!') {
            chain_append(out, request_reply(p), p->reply_len);
            return true;
        }
    }
    return false;
}

/* A scatter_finish_fn: a round is answered. No recursion: a new round may fail at once. */
static void on_answered(struct client *c, struct request *parent, struct chain *out)
{
    struct scan *sc = parent->scatter->data;

    (void)c;
    do {
        if (round_failed(sc, out) || sc->on_round(sc, out))
            return;
    } while (parent->scatter->pending == 0);
}

/* --- legs --- */

static bool wants_more(struct scan *sc)
{
    scan_keep_leg(sc);
    return ++sc->legs < MAX_LEGS && sc->keys < sc->wanted &&
           sc->kept + SCAN_WINDOW + 1 <= SCAN_HOLDERS;
}

bool scan_complete(struct scan *sc, uint32_t next, struct chain *out)
{
    const struct upstream *u = sc->client->up;
    bool further = next > sc->at.slot;
    uint16_t mark = SCAN_FRESH;

    sc->at_end = next == SLOT_COUNT;
    if (!sc->at_end && sc->walking && upstream_route(u, next) == upstream_route(u, sc->at.slot))
        mark = SCAN_WALK;
    sc->then = (struct scan_cursor){.slot = (uint16_t)next, .mark = mark};
    if (sc->at_end || !further || !wants_more(sc))
        return scan_answer(sc, out);
    sc->at = sc->then;
    sc->walking = sc->any_size = false;
    begin(sc);
    return false;
}

/* --- finding the owner anew --- */

static bool on_passed_on(struct scan *sc, struct chain *out)
{
    const struct request *part = *sc->round;

    chain_append(out, request_reply(part), part->reply_len);
    return true;
}

static bool on_found(struct scan *sc, struct chain *out)
{
    (void)out;
    if (!sc->client->up->map->sharded) { /* the first map has arrived, and it is one server's */
        scan_round_begin(sc, on_passed_on);
        scan_track(sc, scatter_add(sc->client, sc->parent, 0, sc->bytes, sc->len));
        scan_round_sent(sc);
    } else if (sc->failures > 0) {
        scan_walk_begin(sc);
    } else {
        begin(sc);
    }
    return false;
}

/* A command with a key, unlike the others, is redirected and waits for a failover to end. */
static void find_owner(struct scan *sc)
{
    char key[32];
    int n;
    unsigned i = 0;

    do
        n = snprintf(key, sizeof(key), "keyway:scan:%u", i++);
    while (key_slot(key, (size_t)n) != sc->at.slot);
    scan_round_begin(sc, on_found);
    scan_ask(sc, sc->at.slot, "*2\r\n$6\r\nEXISTS\r\n$%d\r\n%s\r\n", n, key);
    scan_round_sent(sc);
}

bool scan_again(struct scan *sc, struct chain *out)
{
    sc->client->env->hooks->want_refresh(sc->client->env, sc->client->up->index);
    scan_drop_leg(sc);
    sc->walking = true;
    if (++sc->failures > MAX_FAILURES)
        return scan_complete(sc, sc->at.slot, out); /* nothing is lost: the client asks again */
    find_owner(sc);
    return false;
}

/* --- the command --- */

/* Reads the options behind the cursor; an error is composed as redis-server words it. */
static bool parse_options(struct scan *sc, const struct resp_request *r, struct chain *out)
{
    sc->wanted = DEFAULT_COUNT;
    for (uint32_t i = 2; i < r->argc; i += 2) {
        uint32_t value = i + 1;

        if (value == r->argc) {
            error_write(out, ERROR_SYNTAX);
            return false;
        }
        if (resp_arg_is(r, i, "count")) {
            if (!resp_arg_int(r, value, &sc->wanted)) {
                error_write(out, ERROR_NOT_INTEGER);
                return false;
            }
            if (sc->wanted >= 1)
                continue;
        } else if (resp_arg_is(r, i, "match")) {
            sc->match = r->argv[value].off;
            sc->match_len = r->argv[value].len;
            sc->has_match = !(sc->match_len == 1 && *resp_arg_ptr(r, value) == '*');
            continue;
        } else if (resp_arg_is(r, i, "type")) {
            sc->type = r->argv[value].off;
            sc->type_len = r->argv[value].len;
            sc->has_type = true;
            continue;
        }
        error_write(out, ERROR_SYNTAX);
        return false;
    }
    return true;
}

static void begin(struct scan *sc)
{
    if (sc->client->up->map->node_count == 0) {
        find_owner(sc); /* there is no picture yet */
    } else if (!scan_range_begin(sc)) {
        scan_walk_begin(sc);
    }
}

void local_SCAN(struct client *c, const struct command *cmd, const struct resp_request *r,
                struct chain *out)
{
    struct scan_cursor at;
    struct scan *sc;

    if (c->up->map->node_count > 0 && !c->up->map->sharded) {
        (void)dispatch_any(c, cmd, r, NULL); /* one server: its cursors are the client's */
        return;
    }
    if (!scan_cursor_parse(resp_arg_ptr(r, 1), resp_arg_len(r, 1), &at)) {
        error_write(out, ERROR_INVALID_CURSOR);
        return;
    }
    sc = xcalloc(1, sizeof(*sc) + r->len);
    if (!parse_options(sc, r, out)) {
        free(sc);
        return;
    }
    sc->client = c;
    sc->at = at;
    sc->argc = r->argc;
    sc->options = r->argv[1].off + r->argv[1].len + 2;
    sc->len = r->len;
    memcpy(sc->bytes, r->base, r->len);
    sc->parent = scatter_open(c, cmd, on_answered, sc);
    sc->parent->scatter->answered_by = answered_by;
    identity_borrow(c, cmd, sc->parent->scatter);
    client_hold(c, HOLD_BARRIER); /* what comes behind must not overtake its later rounds */
    begin(sc);
    scatter_close(c, sc->parent);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}
