/*
 * slow_names.c - a name service on cue: preloaded into the proxy it answers for *.slow.keyway.test
 * with 127.0.0.1, after as many milliseconds as the file named by SLOW_NAMES says. All other names
 * are the C library's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int resolve_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static long delay_ms(void)
{
    FILE *f = fopen(getenv("SLOW_NAMES"), "re");
    char text[32] = "0";

    if (f == NULL || fgets(text, sizeof(text), f) == NULL)
        text[0] = '\0';
    if (f != NULL)
        fclose(f);
    return strtol(text, NULL, 10);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **res)
{
    static const char ours[] = ".slow.keyway.test";
    resolve_fn *real = (resolve_fn *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t n = node != NULL ? strlen(node) : 0;
    long ms;

    if (n >= sizeof(ours) && strcmp(node + n - (sizeof(ours) - 1), ours) == 0) {
        ms = delay_ms();
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
        node = "127.0.0.1";
    }
    return real(node, service, hints, res);
}
