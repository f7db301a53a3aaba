/*
 * number.h - Redis's strict decimal integers.
 * Layer: resp. Thread: any.
 */
#ifndef RESP_NUMBER_H
#define RESP_NUMBER_H

#include "base/check.h"

/* n bytes as a signed 64-bit integer: an optional '-', no '+', no spaces, no leading zero, no
 * overflow ("-0" is refused, as redis-server does). */
MUST_CHECK bool resp_parse_int(const char *p, size_t n, int64_t *out);

/* Writes v in decimal, without a NUL; returns the number of bytes (at most 20). */
size_t resp_format_int(char *out, int64_t v);

#endif
