/*
 * error.h - the errors of error.def by name.
 * Layer: session. Thread: any.
 */
#ifndef SESSION_ERROR_H
#define SESSION_ERROR_H

#include "base/chain.h"

enum error_id {
#define ERROR(name, text) ERROR_##name,
#include "session/error.def"
#undef ERROR
    ERROR_COUNT
};

/* The text without "-" and CRLF. */
const char *error_text(enum error_id id);

/* Appends the error line. */
void error_write(struct chain *out, enum error_id id);

#endif
