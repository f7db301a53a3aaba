/*
 * info_rule.h - how one field of two servers' INFO texts becomes one.
 * Layer: session. Thread: any.
 */
#ifndef SESSION_INFO_RULE_H
#define SESSION_INFO_RULE_H

#include "base/check.h"

/* True for a field (a name of n bytes) that says something only of the server it came from: its
 * replicas, its master, its sockets. */
bool info_rule_drops(const char *section, const char *field, size_t n);

/* The value for both; malloc'ed. `a` is that of the servers before, `b` that of the next one. */
char *info_rule_merge(const char *section, const char *field, const char *a, const char *b);

#endif
