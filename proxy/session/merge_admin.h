/*
 * merge_admin.h - what the servers log and measure, made into what one server would show.
 *
 * Each function reads the parts' replies, none of which is an error, and composes one into out;
 * false: they do not fit together, and out is as it was.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_MERGE_ADMIN_H
#define SESSION_MERGE_ADMIN_H

#include "session/scatter.h"

/* SLOWLOG GET: the entries of all, newest first, at most `count` of them (negative: all). */
MUST_CHECK bool merge_slowlog(const struct scatter *s, int64_t count, struct chain *out);

/* ACL LOG: the entries of all, youngest first, at most `count` of them (negative: none). RESET: OK.
 */
MUST_CHECK bool merge_acl_log(const struct scatter *s, int64_t count, struct chain *out);

/* LATENCY LATEST: each event once, its newest spike and its largest. */
MUST_CHECK bool merge_latest(const struct scatter *s, struct chain *out);

/* LATENCY HISTORY: by time; of one second the largest, as a server keeps it. */
MUST_CHECK bool merge_history(const struct scatter *s, struct chain *out);

/* LATENCY HISTOGRAM: calls added, the cumulative distributions too. */
MUST_CHECK bool merge_histogram(const struct scatter *s, int proto, struct chain *out);

/* MEMORY STATS: bytes added, ratios computed from the sums. */
MUST_CHECK bool merge_memory(const struct scatter *s, int proto, struct chain *out);

/* FUNCTION STATS: that of a server which runs a script, else the first. */
MUST_CHECK bool merge_function_stats(const struct scatter *s, struct chain *out);

/* SCRIPT KILL, FUNCTION KILL: OK when any server had one to kill; an error other than "there is
 * none" is the answer. Errors are expected among the parts. */
void merge_kill(const struct scatter *s, struct chain *out);

/* Texts for people: one after the other under their servers' names. An error among them stands in
 * its place; when all are errors the first is the answer. */
void merge_texts(const struct client *c, const struct scatter *s, struct chain *out);

#endif
