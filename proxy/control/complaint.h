/*
 * complaint.h - what was logged of a server last, so that it is said once and not every time.
 * Layer: control. Thread: discovery. Owner: whoever embeds it, zeroed.
 */
#ifndef CONTROL_COMPLAINT_H
#define CONTROL_COMPLAINT_H

#include "base/check.h"

struct complaint {
    char text[160]; /* cut off where it is longer; empty: nothing bad */
};

/* Remembers what is wrong now; NULL: nothing any more. True when it is something else than before.
 */
static inline bool complaint_is_new(struct complaint *c, const char *what)
{
    struct complaint now;

    snprintf(now.text, sizeof(now.text), "%s", what != NULL ? what : "");
    if (strcmp(now.text, c->text) == 0)
        return false;
    *c = now;
    return true;
}

#endif
