/*
 * pretend.h - how the proxy names itself to clients that expect a cluster node or a Sentinel.
 * Layer: session. Thread: the client's worker.
 */
#ifndef SESSION_PRETEND_H
#define SESSION_PRETEND_H

#include "base/sha1.h"
#include "session/client.h"

struct pretend_self {
    char host[ADDR_HOST_MAX + 1]; /* what clients connect to; empty: "where you are already" */
    char ip[ADDR_HOST_MAX + 1];   /* the same as a number; empty where it is not known */
    uint16_t port;
    bool is_name;              /* host is no number: ip is that of the client's connection */
    char id[SHA1_HEX_LEN + 1]; /* follows from host and port, so it outlives a restart */
};

/* The listener's announced address, else where c has connected to (a unix socket has none). */
void pretend_self(const struct client *c, struct pretend_self *out);

/* Another 40 characters that follow from the same address, for a purpose of its own. */
void pretend_id(const struct pretend_self *self, const char *purpose, char out[SHA1_HEX_LEN + 1]);

#endif
