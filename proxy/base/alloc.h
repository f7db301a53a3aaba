/*
 * alloc.h - memory or death.
 *
 * Every allocation of the proxy goes through these; when the system has no memory left the process
 * aborts, so that no caller carries an untested failure path. What input may make us allocate is
 * limited beforehand by named bounds of the configuration, not here.
 * Layer: base. Thread: any.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stdarg.h>

#include "base/check.h"

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *s);
/* A NUL-terminated copy of n bytes. */
char *xstrndup(const char *s, size_t n);
/* printf into a new string; the caller frees it. */
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
char *xvasprintf(const char *fmt, va_list ap) PRINTF_LIKE(1, 0);

/* Bytes the allocator holds for the program now; 0 where it cannot tell (sanitizer builds). */
size_t alloc_used_bytes(void);

/* Starts the allocator's background threads, which give unused memory back to the system.
 * Once, from main, before other threads start. */
void alloc_start_background(void);

#endif
