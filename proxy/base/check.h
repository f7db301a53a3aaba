/*
 * check.h - invariants that hold in release builds too.
 *
 * CHECK aborts with file and line when an invariant of a long-lived object is broken; input never
 * reaches one. A struct with MAGIC_FIELD as its first member is tested for its own identity by
 * CHECK_MAGIC, which turns most uses after free into an immediate, named abort.
 * Layer: base. Thread: any.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/banned.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Prints what failed to standard error and aborts. */
NORETURN void check_failed(const char *what, const char *file, int line);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (UNLIKELY(!(cond)))                                                                     \
            check_failed(#cond, __FILE__, __LINE__);                                               \
    } while (0)

#define MAGIC_FIELD uint32_t magic
#define CHECK_MAGIC(obj, value) CHECK((obj) != NULL && (obj)->magic == (value))

#endif
