/*
 * info_merge.h - the INFO texts of several servers as the one text that a single server would show.
 *
 * Counters are added, what a sum would make absurd is the largest, smallest or worst, ratios and
 * human-readable sizes are computed again, and of facts that belong to one server the first text's
 * stay. Sections and fields keep the order in which the servers show them. What the proxy knows
 * better is set over it afterwards.
 * Layer: session. Thread: the owner of the text.
 */
#ifndef SESSION_INFO_MERGE_H
#define SESSION_INFO_MERGE_H

#include "base/check.h"

struct info_text;

struct info_text *info_text_new(void);
void info_text_free(struct info_text **t);

/* Merges one server's text (n bytes, without the reply's header) into t. */
void info_text_add(struct info_text *t, const char *text, size_t n);

/* Computes again what follows from other fields. Once, after the last info_text_add. */
void info_text_derive(struct info_text *t);

/* The value of a field, NULL when there is none; valid until t is changed. */
const char *info_text_get(const struct info_text *t, const char *section, const char *field);

/* Sets a field in its place, or adds it at the end of its section, and the section if it is new. */
void info_text_set(struct info_text *t, const char *section, const char *field, const char *fmt,
                   ...) PRINTF_LIKE(4, 5);

/* The text as INFO answers it: malloc'ed, with a NUL behind its *len bytes. */
char *info_text_write(const struct info_text *t, size_t *len);

#endif
