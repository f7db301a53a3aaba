/*
 * sha1.h - SHA-1 in hexadecimal: the names that servers give to scripts.
 * Layer: base. Thread: any.
 */
#ifndef BASE_SHA1_H
#define BASE_SHA1_H

#include "base/check.h"

#define SHA1_HEX_LEN 40

/* The digest of n bytes in lower case, with a NUL. */
void sha1_hex(const void *data, size_t n, char out[SHA1_HEX_LEN + 1]);

#endif
