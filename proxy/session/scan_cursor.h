/*
 * scan_cursor.h - SCAN's cursor: all that is known of a scan, in 53 bits.
 *
 *     14 bits slot | 9 bits mark | 30 bits inner (29 bits of the server's cursor, 1 bit "narrow")
 *
 * Every key that was there all along in a lower slot has been returned. Within the range that
 * begins at the slot the owner's own cursor goes on; it means something to one process only and as
 * long as that process owns the range, so the mark is then a fingerprint of both. No process of
 * ours keeps anything: any proxy in front of the same servers can go on. 53 bits: clients may keep
 * it in a double. 0 is the begin and, as an answer, the end; no cursor in between is 0.
 * Layer: session. Thread: any.
 */
#ifndef SESSION_SCAN_CURSOR_H
#define SESSION_SCAN_CURSOR_H

#include "base/check.h"

#define SCAN_INNER_MAX ((UINT64_C(1) << 29) - 1)

/* What the mark says at the begin of a slot, where there is nothing to fingerprint. */
enum scan_mark {
    SCAN_FRESH = 1, /* go on in whatever way is best */
    SCAN_WALK = 2,  /* slot by slot, as long as the owner is the same */
};

struct scan_cursor {
    uint64_t inner; /* the server's cursor; 0: the slot is at its begin */
    uint16_t slot;
    uint16_t mark; /* inner 0: enum scan_mark; else a fingerprint */
    bool narrow;   /* the range is this one slot */
};

/* Reads a client's cursor, in the forms in which redis-server takes a number. False for what is no
 * number, and for numbers that are no cursor of ours by their size. */
MUST_CHECK bool scan_cursor_parse(const char *p, size_t n, struct scan_cursor *out);

/* Never 0. inner is at most SCAN_INNER_MAX. */
uint64_t scan_cursor_encode(const struct scan_cursor *c);

/* Continues a hash (begin with 0) over n bytes. */
uint64_t scan_hash(uint64_t hash, const void *p, size_t n);

/* Never 0. Of the process that owns the range (a hash of its run_id), its configuration epoch,
 * which changes when it gets a slot back that it had lost, and the last slot of the range. */
uint16_t scan_fingerprint(uint64_t process, uint64_t epoch, uint16_t end);

#endif
