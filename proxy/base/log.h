/*
 * log.h - one line per event, to standard error or a file, limited in rate.
 *
 * A line is "2026-01-31T12:00:00.123Z LEVEL [thread] text". The same call site prints at most
 * LOG_BURST lines a second; what was left out is counted in its next line.
 * Layer: base. Thread: any (a line is one write; the file is swapped under a mutex).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/check.h"

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG
};

#define LOG_BURST 20

/* "error" ... "debug" to a level; false for another word. */
MUST_CHECK bool log_level_parse(const char *word, enum log_level *out);
const char *log_level_name(enum log_level level);

void log_set_level(enum log_level level);
/* NULL: standard error. False with errno when the file cannot be opened. */
MUST_CHECK bool log_open(const char *path);
/* The name this thread's lines carry; a literal or one that outlives the thread. */
void log_set_thread(const char *name);

/* State of one call site's rate limit: racy counts between threads only change how many lines a
 * burst prints, so they are relaxed atomics. */
struct log_site {
    _Atomic uint64_t window_s;
    _Atomic uint32_t count, dropped;
};

extern enum log_level log_threshold;
void log_write(enum log_level level, struct log_site *site, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define LOG_AT(level, ...)                                                                         \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        if ((level) <= log_threshold)                                                              \
            log_write((level), &log_site_, __VA_ARGS__);                                           \
    } while (0)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)

#endif
