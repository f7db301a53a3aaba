/*
 * merge.h - one reply out of the parts of a split command, by the command's merge rule.
 *
 * An error of one part is the answer: the first in key order, never a nil, never a smaller sum.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_MERGE_H
#define SESSION_MERGE_H

#include "session/scatter.h"

/* A scatter_finish_fn for the rules of enum command_merge. */
void merge_finish(struct client *c, struct request *parent, struct chain *out);

/* The error to answer with when a part failed: the part's, NULL when none did. */
const struct request *merge_first_error(const struct scatter *s);

#endif
