/*
 * scan.h - SCAN over a whole cluster: one step of it. For scan*.c.
 *
 * A step takes one of two ways from its cursor's slot s. (a) scan_range.c: the SCAN of the owner of
 * s, of which only keys in the owner's contiguous range s..end pass. Cheap, but its cursor holds
 * only as long as that process owns the whole range without a break. (b) scan_walk.c: whole slots,
 * by COUNTKEYSINSLOT and GETKEYSINSLOT, of the source and then the destination where a slot is half
 * moved. For short ranges, for half-moved slots, and wherever (a) turns out not to hold: each step
 * of (b) gets further whatever happens around it.
 *
 * Neither SCAN nor CLUSTER ...KEYSINSLOT is ever redirected, so no answer counts before the process
 * that gave it has said, before and after, that the slots are its own.
 *
 * A step goes in rounds: some requests, and when all are answered a function that looks at the
 * replies and begins the next round or composes the answer. When a range or a window is done and
 * has less than COUNT keys, the step goes on with the next one (a leg), so that a small cluster is
 * answered as quickly as a small server would be.
 * Layer: session. Thread: one worker. Owner: the scatter of SCAN's request (its data).
 */
#ifndef SESSION_SCAN_H
#define SESSION_SCAN_H

#include "session/scan_cursor.h"
#include "session/scan_view.h"
#include "session/scatter.h"

#define SCAN_WINDOW 256       /* slots that one step of (b) looks at */
#define SCAN_SLOT_KEYS 100000 /* a slot of more keys is scanned, unless it is half moved */
#define SCAN_PARTS (2 * SCAN_WINDOW)
#define SCAN_HOLDERS 1024 /* replies that hold the keys of one answer */

struct scan;

/* Looks at the replies of a round. True: the answer is in out. False: another round is under way.
 */
typedef bool scan_round_fn(struct scan *sc, struct chain *out);

/* Who answered. */
struct scan_source {
    uint64_t server;  /* hash of the process and its address; 0: no server did */
    uint64_t process; /* hash of its run_id; 0: not known */
};

enum scan_slot_state {
    SCAN_SLOT_FOREIGN, /* the server that was asked does not own it, or no longer */
    SCAN_SLOT_OWNED,
    SCAN_SLOT_LEAVING, /* owned, and half moved */
};

/* A slot of the window of (b). */
struct scan_slot {
    const struct request *part; /* its keys; NULL: it has none */
    uint64_t server, epoch;     /* who was asked, and its configuration epoch before */
    uint32_t keys;              /* counted before */
    uint8_t state;              /* enum scan_slot_state, as seen before */
    bool confirmed;             /* and seen again after */
};

/* A reply whose keys are part of the answer. */
struct scan_holder {
    const struct request *part;
    uint16_t first, last; /* keys of these slots pass */
    bool scanned;         /* a reply to SCAN: MATCH and TYPE were applied */
};

struct scan {
    struct client *client;
    struct request *parent;
    struct scan_cursor at; /* where this leg begins */

    /* The current round. */
    scan_round_fn *on_round;
    struct request **round;              /* its parts */
    uint32_t part_count;                 /* of it */
    struct scan_source from[SCAN_PARTS]; /* of its first parts, by their `first` */
    unsigned failures;                   /* attempts that came to nothing */

    /* (a) */
    uint64_t epoch, process; /* of the owner */
    uint16_t end;            /* last slot of the range */

    /* (b) */
    struct scan_slot slots[SCAN_WINDOW]; /* from at.slot on */
    uint32_t slot_count;
    uint32_t target_limit;        /* keys asked of the destination of a half-moved slot */
    char target[NODE_ID_LEN + 1]; /* its id */
    bool walking;                 /* goes on in this way until the owner changes */
    bool any_size;                /* a slot is taken whole however many keys it has */

    /* The answer: the arrays of keys in these replies, filtered. */
    struct scan_holder holders[SCAN_HOLDERS];
    uint32_t holder_count;
    uint32_t kept; /* of them: those of finished legs */
    uint32_t legs;
    int64_t keys;            /* found in finished legs */
    struct scan_cursor then; /* the cursor of the answer */
    bool at_end;             /* it is 0 */
    struct request **types;  /* replies to TYPE, in the order of the keys; NULL: none */

    /* The client's request; offsets into bytes. */
    int64_t wanted; /* COUNT */
    uint32_t argc, options, len;
    uint32_t match, match_len, type, type_len;
    bool has_match, has_type;
    char bytes[];
};

/* --- scan.c --- */

/* Begins a round; then its parts are asked, then scan_round_sent. */
void scan_round_begin(struct scan *sc, scan_round_fn *on_round);
void scan_round_sent(struct scan *sc);

/* Adds "CLUSTER NODES" (the server's own view), or any command, to the server of `slot`. */
void scan_ask_view(struct scan *sc, uint16_t slot);
void scan_ask(struct scan *sc, uint16_t slot, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Remembers who answers the part that was just added. */
void scan_track(struct scan *sc, struct request *part);

/* Who answered a part of this round. */
const struct scan_source *scan_from(const struct scan *sc, const struct request *part);

/* Everything below slot `next` is held now: the next leg, or the answer. */
bool scan_complete(struct scan *sc, uint32_t next, struct chain *out);

/* The cluster is not as we thought: asks for a new picture, finds the slot's owner, tries again. */
bool scan_again(struct scan *sc, struct chain *out);

/* --- scan_answer.c --- */

/* The keys in this reply, as far as they are of slots first..last, are part of the answer. */
void scan_hold(struct scan *sc, const struct request *part, uint16_t first, uint16_t last,
               bool scanned);
/* Gives up what this leg holds. */
void scan_drop_leg(struct scan *sc);
/* The leg is done: counts what it holds. */
void scan_keep_leg(struct scan *sc);

/* The answer, with sc->then as it is. */
MUST_CHECK bool scan_answer(struct scan *sc, struct chain *out);

/* --- scan_range.c --- */

/* Begins (a), when it can be done and is worth it. */
MUST_CHECK bool scan_range_begin(struct scan *sc);
/* The same for a slot with very many keys alone. */
MUST_CHECK bool scan_range_begin_narrow(struct scan *sc);

/* --- scan_walk.c --- */

void scan_walk_begin(struct scan *sc);

#endif
