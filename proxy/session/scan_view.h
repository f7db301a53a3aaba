/*
 * scan_view.h - what a server itself says it owns: its answer to CLUSTER NODES.
 *
 * SCAN and GETKEYSINSLOT are never redirected: a server that lost a slot answers them from what it
 * has. So its own word is asked for before and after.
 * Layer: session. Thread: one worker. Owner: the caller; freed with scan_view_free.
 */
#ifndef SESSION_SCAN_VIEW_H
#define SESSION_SCAN_VIEW_H

#include "session/request.h"
#include "topology/nodes_text.h"

struct scan_view {
    struct nodes_text text;
    const struct nodes_line *self;
};

/* Reads the stored reply of a CLUSTER NODES. False: it is none, nothing to free. */
MUST_CHECK bool scan_view_parse(struct scan_view *v, const struct request *part);
void scan_view_free(struct scan_view *v);

/* How many slots of first..last it owns, as a master. */
uint32_t scan_view_owned(const struct scan_view *v, uint16_t first, uint16_t last);

/* The slot's way out of or into this server; NULL when it is not on its way. */
const struct nodes_move *scan_view_move(const struct scan_view *v, uint16_t slot);

/* True when it owns all of first..last and nothing of that is on its way. */
bool scan_view_has_whole(const struct scan_view *v, uint16_t first, uint16_t last);

#endif
