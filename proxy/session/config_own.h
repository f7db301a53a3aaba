/*
 * config_own.h - what the proxy itself holds to, under the names that servers have for it: CONFIG
 * GET tells these in place of a server's, and CONFIG SET does not change them there.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_CONFIG_OWN_H
#define SESSION_CONFIG_OWN_H

#include "session/client.h"

#define CONFIG_OWN_MAX 8

struct config_own {
    size_t count;
    struct config_own_value {
        const char *name;
        char text[ADDR_HOST_MAX + 1];
    } list[CONFIG_OWN_MAX];
};

/* As this client is told. */
void config_own_read(const struct client *c, struct config_own *own);

/* The value of a name, in any case: a server shows it as the client wrote it. NULL: it is the
 * servers'. */
const char *config_own_find(const struct config_own *own, const char *name, size_t n);

#endif
