#include "base/alloc.h"

#ifdef KEYWAY_JEMALLOC
#include <jemalloc/jemalloc.h>

/* What clients leave behind goes back to the system within seconds. Blocks have free lists of their
 * own (base/block.h), so that the thread caches need not keep large pieces as well. */
const char *malloc_conf =
    "dirty_decay_ms:1000,muzzy_decay_ms:0,max_background_threads:1,lg_tcache_max:13";
#endif

static NORETURN void out_of_memory(size_t size)
{
    fprintf(stderr, "keyway: out of memory (asked for %zu bytes)\n", size);
    abort();
}

void *xmalloc(size_t size)
{
    void *p = malloc(size ? size : 1);

    if (UNLIKELY(p == NULL))
        out_of_memory(size);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);

    if (UNLIKELY(p == NULL))
        out_of_memory(count * size);
    return p;
}

void *xrealloc(void *ptr, size_t size)
{
    void *p = realloc(ptr, size ? size : 1);

    if (UNLIKELY(p == NULL))
        out_of_memory(size);
    return p;
}

char *xstrndup(const char *s, size_t n)
{
    char *p = xmalloc(n + 1);

    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xvasprintf(const char *fmt, va_list ap)
{
    va_list again;
    int n;
    char *p;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    CHECK(n >= 0);
    p = xmalloc((size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *p;

    va_start(ap, fmt);
    p = xvasprintf(fmt, ap);
    va_end(ap);
    return p;
}

#ifdef KEYWAY_JEMALLOC

size_t alloc_used_bytes(void)
{
    size_t used = 0, len = sizeof(used);
    uint64_t epoch = 1;

    mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    if (mallctl("stats.allocated", &used, &len, NULL, 0) != 0)
        return 0;
    return used;
}

void alloc_start_background(void)
{
    bool on = true;

    /* Not fatal: without it pages are still purged, only lazily. */
    (void)mallctl("background_thread", NULL, NULL, &on, sizeof(on));
}

#else

size_t alloc_used_bytes(void)
{
    return 0;
}

void alloc_start_background(void) {}

#endif
