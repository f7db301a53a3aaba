/*
 * reply.h - where does a server's reply end? An incremental framer for RESP2 and RESP3.
 *
 * It builds no tree and copies nothing: it counts elements still to come. The caller feeds
 * consecutive bytes and keeps what was not consumed (an unfinished header line). An attribute
 * ("|") belongs to the reply after it and is part of its bytes. Types as in
 * https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md .
 * Layer: resp. Thread: the owner of the framer.
 */
#ifndef RESP_REPLY_H
#define RESP_REPLY_H

#include "base/check.h"

struct resp_framer {
    uint64_t pending; /* elements to come; 0: between replies */
    uint64_t bulk;    /* bytes of a string to come, its CRLF included */
    size_t looked;    /* bytes of an unfinished line that have no end in them */
    char type;        /* first byte of the reply, attributes aside; 0: not known yet */
};

enum resp_frame_status {
    RESP_FRAME_DONE, /* *used bytes end the reply */
    RESP_FRAME_MORE, /* the reply goes on after *used bytes */
    RESP_FRAME_BAD,  /* not RESP: the connection has lost step */
};

static inline void resp_framer_init(struct resp_framer *f)
{
    *f = (struct resp_framer){0};
}

/* True when the framer stands between two replies. */
static inline bool resp_framer_idle(const struct resp_framer *f)
{
    return f->pending == 0;
}

/* Consumes as much of buf as it understands. With MORE, buf[*used...] is an unfinished header
 * line that must be presented again with what follows it. After DONE the framer is idle, and
 * f->type still tells the type of the reply that ended. */
enum resp_frame_status resp_frame(struct resp_framer *f, const char *buf, size_t len, size_t *used);

/* After MORE: the least number of bytes the reply still has beyond those consumed. */
uint64_t resp_framer_need(const struct resp_framer *f);

/*
 * A cursor over the elements of one complete reply, for the few places that look inside one
 * (merging the parts of a split command, SCAN, handshakes).
 */
struct resp_item {
    char type;        /* '$' '+' '-' ':' '*' '%' '~' '_' '#' ',' '(' '=' '!' '>' */
    const char *data; /* strings and numbers: the text; aggregates: the first element */
    size_t len;       /* strings and numbers: its length; null: 0 */
    int64_t count;    /* aggregates: elements (a map of n pairs has 2n); -1: null of RESP2 */
    const char *raw;  /* the whole element, header included */
    size_t raw_len;   /* aggregates: header only */
};

/* Reads the element at *p (attributes are skipped) and moves *p behind it (for aggregates: to their
 * first element). False at the end or when it is not RESP. */
MUST_CHECK bool resp_next(const char **p, const char *end, struct resp_item *out);

/* Moves *p behind the whole element that begins there, with all it contains. */
MUST_CHECK bool resp_skip(const char **p, const char *end);

#endif
