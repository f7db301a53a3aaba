#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"

#define LOG_TEXT_MAX 2048
/* Every byte of the text may become "\xHH", and a line has a head and a tail. */
#define LOG_LINE_MAX (LOG_TEXT_MAX * 4 + 256)

enum log_level log_threshold = LOG_INFO;

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const level_labels[] = {"ERROR", "WARN", "INFO", "DEBUG"};

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
/* The descriptor of the log. Once it is not standard error's it never changes again: another file
 * is put in its place by dup3, so that a thread that is about to write needs no lock. */
static _Atomic int log_fd = STDERR_FILENO;
static __thread const char *thread_name = "main";

bool log_level_parse(const char *word, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcasecmp(word, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    CHECK((size_t)level < ARRAY_LEN(level_names));
    return level_names[level];
}

void log_set_level(enum log_level level)
{
    log_threshold = level;
}

void log_set_thread(const char *name)
{
    thread_name = name;
}

static bool swap_in(int fd)
{
    int cur = atomic_load(&log_fd);

    if (cur == STDERR_FILENO) {
        atomic_store(&log_fd, fd);
        return true;
    }
    if (dup3(fd, cur, O_CLOEXEC) < 0)
        return false;
    if (fd != STDERR_FILENO)
        close(fd);
    return true;
}

bool log_open(const char *path)
{
    bool ok = true;
    int saved = 0;

    pthread_mutex_lock(&open_lock);
    if (path != NULL) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

        ok = fd >= 0 && swap_in(fd);
        if (!ok) {
            saved = errno;
            if (fd >= 0)
                close(fd);
        }
    } else if (atomic_load(&log_fd) != STDERR_FILENO) {
        ok = swap_in(STDERR_FILENO);
        saved = errno;
    }
    pthread_mutex_unlock(&open_lock);
    if (!ok)
        errno = saved;
    return ok;
}

/* True when the line may be printed; *dropped is what its call site left out before it. */
static bool site_allows(struct log_site *site, uint32_t *dropped)
{
    /* +1: a fresh site's zero is never the current window. */
    uint64_t now = clock_ms() / 1000 + 1;

    *dropped = 0;
    if (atomic_load_explicit(&site->window_s, memory_order_relaxed) != now) {
        atomic_store_explicit(&site->window_s, now, memory_order_relaxed);
        atomic_store_explicit(&site->count, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) >= LOG_BURST) {
        atomic_fetch_add_explicit(&site->dropped, 1, memory_order_relaxed);
        return false;
    }
    *dropped = atomic_exchange_explicit(&site->dropped, 0, memory_order_relaxed);
    return true;
}

static size_t write_head(char *line, size_t size, enum log_level level)
{
    uint64_t now = clock_wall_ms();
    time_t s = (time_t)(now / 1000);
    struct tm tm;
    size_t n;

    gmtime_r(&s, &tm);
    n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, size - n, ".%03uZ %s [%.32s] ", (unsigned)(now % 1000),
                          level_labels[level], thread_name);
    return n;
}

/* Text may quote what a client or server sent: with its control bytes escaped it can neither begin
 * a line of its own nor steer a terminal. `out` holds four bytes for each of the text. */
static size_t escape(char *out, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c >= 0x20 && c != 0x7f) {
            *p++ = (char)c;
            continue;
        }
        *p++ = '\\';
        if (c == '\n') {
            *p++ = 'n';
        } else if (c == '\r') {
            *p++ = 'r';
        } else if (c == '\t') {
            *p++ = 't';
        } else {
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    return (size_t)(p - out);
}

void log_write(enum log_level level, struct log_site *site, const char *fmt, ...)
{
    char text[LOG_TEXT_MAX], line[LOG_LINE_MAX];
    int saved = errno;
    uint32_t dropped = 0;
    size_t n;
    va_list ap;
    int len;

    if (site != NULL && !site_allows(site, &dropped))
        return;
    errno = saved; /* fmt may have %m */
    va_start(ap, fmt);
    len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len < 0)
        text[0] = '\0';
    n = write_head(line, 128, level);
    n += escape(line + n, text);
    if (len >= (int)sizeof(text))
        n += (size_t)snprintf(line + n, sizeof(line) - n, "...");
    if (dropped > 0)
        n +=
            (size_t)snprintf(line + n, sizeof(line) - n, " (%u lines like this left out)", dropped);
    line[n++] = '\n';
    /* A log that cannot be written (full disk, closed pipe) must not stop the proxy. */
    while (write(atomic_load_explicit(&log_fd, memory_order_relaxed), line, n) < 0 &&
           errno == EINTR)
        ;
    errno = saved;
}
