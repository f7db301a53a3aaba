/*
 * inline.h - a command typed as a line of words, re-encoded as a RESP array.
 *
 * Words may be quoted as in redis-cli: "..." with \n \r \t \b \a \xHH and \", '...' with \'.
 * Layer: resp. Thread: any.
 */
#ifndef RESP_INLINE_H
#define RESP_INLINE_H

#include "resp/request.h"

struct inline_request {
    char *bytes; /* the array form; the caller frees it (NULL when argc is 0) */
    uint32_t len;
    uint32_t argc;
    struct resp_arg *argv; /* the caller frees it (NULL when argc is 0) */
};

/* Splits one line (without its end). False when quotes are unbalanced; nothing to free then. */
MUST_CHECK bool inline_split(const char *line, size_t len, struct inline_request *out);

#endif
