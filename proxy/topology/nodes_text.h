/*
 * nodes_text.h - one answer to CLUSTER NODES as a list of lines. For cluster.c and its tests.
 *
 * Strict: a text with anything that no server prints is refused whole, because a map made from
 * half an answer would route wrongly. Bounded: NODES_TEXT_MAX bytes, NODES_MAX lines, and each
 * slot at most once, so the memory taken follows from the text's length.
 * Layer: topology. Thread: any.
 */
#ifndef TOPOLOGY_NODES_TEXT_H
#define TOPOLOGY_NODES_TEXT_H

#include "topology/slotmap.h"

#define NODES_TEXT_MAX ((size_t)16 << 20)
#define NODES_MAX 16384

enum nodes_flag {
    NODES_MYSELF = 1 << 0,
    NODES_MASTER = 1 << 1,
    NODES_REPLICA = 1 << 2,
    NODES_FAIL = 1 << 3, /* "fail"; the suspicion of one node, "fail?", does not count */
    NODES_HANDSHAKE = 1 << 4,
    NODES_NOADDR = 1 << 5,
};

struct nodes_line {
    char id[NODE_ID_LEN + 1];
    char master[NODE_ID_LEN + 1];     /* empty: none */
    struct addr addr;                 /* host empty: the line tells none */
    char hostname[ADDR_HOST_MAX + 1]; /* announced beside an address; empty: none */
    uint16_t port;                    /* as printed; 0 = unknown */
    unsigned flags;
    uint64_t epoch;
    uint32_t first_range, range_count; /* into ranges */
};

struct nodes_range {
    uint16_t first, last;
};

struct nodes_move {
    char peer[NODE_ID_LEN + 1];
    uint16_t slot;
    bool importing; /* from the peer; else migrating to it */
};

struct nodes_text {
    struct nodes_line *lines;
    struct nodes_range *ranges;
    struct nodes_move *moves; /* of the line of myself */
    size_t line_count, range_count, move_count;
    size_t myself; /* its line */
};

/* Fills *out, to be freed with nodes_text_free. False with a reason in err: nothing to free. */
MUST_CHECK bool nodes_text_parse(struct nodes_text *out, const char *text, size_t len, char *err,
                                 size_t errlen);
void nodes_text_free(struct nodes_text *t);

#endif
