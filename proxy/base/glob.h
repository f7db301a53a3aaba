/*
 * glob.h - the patterns of KEYS and SCAN MATCH, as redis-server understands them.
 *
 * "*" any bytes, "?" one byte, "[abc]" "[a-c]" "[^a]" one of a set, "\x" the byte x itself. Bytes
 * compare as plain char, as in the server. The time is bounded by pattern length times text length,
 * whatever the pattern.
 * Layer: base. Thread: any.
 */
#ifndef BASE_GLOB_H
#define BASE_GLOB_H

#include "base/check.h"

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len);

#endif
