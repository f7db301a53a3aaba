/*
 * write.h - compose RESP into a chain; what differs between the dialects takes `proto` (2 or 3).
 * Layer: resp. Thread: the owner of the chain.
 */
#ifndef RESP_WRITE_H
#define RESP_WRITE_H

#include <stdarg.h>

#include "base/chain.h"

void resp_write_simple(struct chain *out, const char *text);      /* +text */
void resp_write_int(struct chain *out, int64_t v);                /* :v */
void resp_write_bulk(struct chain *out, const void *p, size_t n); /* $n p */
void resp_write_text(struct chain *out, const char *text);        /* $ of a C string */
void resp_write_null(struct chain *out, int proto);               /* $-1 or _ */
void resp_write_null_array(struct chain *out, int proto);         /* *-1 or _ */
void resp_write_array(struct chain *out, size_t n);               /* header of n elements */
void resp_write_map(struct chain *out, int proto, size_t pairs);  /* %pairs or *2*pairs */
void resp_write_set(struct chain *out, int proto, size_t n);      /* ~n or *n */
void resp_write_verbatim(struct chain *out, int proto, const void *p, size_t n); /* txt */

/* -text CRLF; the text begins with its code ("ERR ..."). CR, LF and NUL in it become spaces, so
 * that input quoted in an error cannot end the line. */
void resp_write_error(struct chain *out, const char *fmt, ...) PRINTF_LIKE(2, 3);
void resp_vwrite_error(struct chain *out, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

#endif
