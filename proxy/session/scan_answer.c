/*
 * scan_answer.c - SCAN's answer: the keys in the replies that were collected, filtered.
 */
#include "base/alloc.h"
#include "base/crc16.h"
#include "base/glob.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/scan.h"

void scan_hold(struct scan *sc, const struct request *part, uint16_t first, uint16_t last,
               bool scanned)
{
    CHECK(sc->holder_count < SCAN_HOLDERS);
    sc->holders[sc->holder_count++] =
        (struct scan_holder){.part = part, .first = first, .last = last, .scanned = scanned};
}

void scan_drop_leg(struct scan *sc)
{
    sc->holder_count = sc->kept;
}

/* The keys in the replies, one after the other. */
struct key_cursor {
    const struct scan_holder *holder, *next;
    int64_t left;
    const char *p, *end;
};

static struct key_cursor first_key(const struct scan *sc, uint32_t holder)
{
    return (struct key_cursor){.next = sc->holders + holder};
}

/* The array of keys: the second element of SCAN's reply, or the whole one. */
static bool open_keys(struct key_cursor *k)
{
    struct resp_item item;

    k->holder = k->next++;
    k->p = request_reply(k->holder->part);
    k->end = k->p + k->holder->part->reply_len;
    if (!resp_next(&k->p, k->end, &item) || item.count < 0)
        return false;
    if (k->holder->scanned &&
        (!resp_next(&k->p, k->end, &item) || !resp_next(&k->p, k->end, &item)))
        return false;
    k->left = item.count;
    return true;
}

static bool passes(const struct scan *sc, const struct scan_holder *h, const struct resp_item *key)
{
    uint16_t slot;

    if (!h->scanned)
        return !sc->has_match ||
               glob_match(sc->bytes + sc->match, sc->match_len, key->data, key->len);
    slot = key_slot(key->data, key->len);
    return slot >= h->first && slot <= h->last;
}

/* The next key of the answer, its type aside. */
static bool next_key(const struct scan *sc, struct key_cursor *k, struct resp_item *key)
{
    for (;;) {
        while (k->left == 0)
            if (k->next == sc->holders + sc->holder_count || !open_keys(k))
                return false;
        k->left--;
        if (!resp_next(&k->p, k->end, key) || key->type != '$')
            return false;
        if (passes(sc, k->holder, key))
            return true;
    }
}

void scan_keep_leg(struct scan *sc)
{
    struct key_cursor k = first_key(sc, sc->kept);
    struct resp_item key;

    while (next_key(sc, &k, &key))
        sc->keys++;
    sc->kept = sc->holder_count;
}

/* A key that has gone meanwhile is of no type. */
static bool type_is(const struct scan *sc, const struct request *part)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item item;

    return resp_next(&p, end, &item) && item.len == sc->type_len &&
           !(item.len == 4 && memcmp(item.data, "none", 4) == 0) &&
           strncasecmp(item.data, sc->bytes + sc->type, item.len) == 0;
}

static void compose(struct scan *sc, struct chain *out)
{
    const struct request *type = sc->types != NULL ? *sc->types : NULL;
    struct key_cursor k = first_key(sc, 0);
    struct resp_item key;
    struct chain keys;
    char text[24];
    size_t count = 0, n;

    chain_init(&keys);
    while (next_key(sc, &k, &key)) {
        bool wanted = true;

        if (sc->has_type && !k.holder->scanned && type != NULL) {
            wanted = type_is(sc, type);
            type = type->next;
        }
        if (wanted) {
            chain_append(&keys, key.raw, key.raw_len);
            count++;
        }
    }
    n = resp_format_int(text, sc->at_end ? 0 : (int64_t)scan_cursor_encode(&sc->then));
    resp_write_array(out, 2);
    resp_write_bulk(out, text, n);
    resp_write_array(out, count);
    chain_splice(out, &keys);
    chain_clear(&keys);
}

static bool on_types(struct scan *sc, struct chain *out)
{
    sc->types = sc->round;
    compose(sc, out);
    return true;
}

/* Asks the type of each key that no server has looked at. */
static bool ask_types(struct scan *sc)
{
    static const char head[] = "*2\r\n$4\r\nTYPE\r\n";
    struct key_cursor k = first_key(sc, 0);
    struct resp_item key;

    scan_round_begin(sc, on_types);
    while (next_key(sc, &k, &key)) {
        size_t len = sizeof(head) - 1 + key.raw_len;
        char *bytes;

        if (k.holder->scanned)
            continue;
        bytes = xmalloc(len);
        memcpy(bytes, head, sizeof(head) - 1);
        memcpy(bytes + sizeof(head) - 1, key.raw, key.raw_len);
        scan_track(sc, scatter_add(sc->client, sc->parent, key_slot(key.data, key.len), bytes,
                                   (uint32_t)len));
        free(bytes);
    }
    scan_round_sent(sc);
    return sc->part_count > 0;
}

bool scan_answer(struct scan *sc, struct chain *out)
{
    if (sc->has_type && ask_types(sc))
        return false;
    compose(sc, out);
    return true;
}
