/*
 * addr.h - "host:port" and "/path/to.sock" as values, and their resolved socket addresses.
 *
 * Text is split at the LAST colon, so "fd01::1:6379" and "[fd01::1]:6379" both work.
 * Layer: base. Thread: any; addr_resolve may block (DNS) and is for control threads only.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>

#include "base/check.h"

#define ADDR_HOST_MAX 255

/* A name as an operator or a server wrote it. A unix socket has its path in host and port 0. */
struct addr {
    char host[ADDR_HOST_MAX + 1];
    uint16_t port;
};

/* A socket address ready for connect or bind. */
struct sockaddr_any {
    socklen_t len; /* 0: not resolved */
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
};

#define ADDR_TEXT_MAX (ADDR_HOST_MAX + 10)

/* Parses n bytes of text. False when there is no port, it is not 1 to 65535, or the host is empty
 * or too long. */
MUST_CHECK bool addr_parse(const char *text, size_t n, struct addr *out);

/* "host:port" ("[host]:port" for IPv6), or the path. Returns out. */
const char *addr_format(const struct addr *a, char out[ADDR_TEXT_MAX]);

bool addr_equal(const struct addr *a, const struct addr *b);

/* Fills out from a numeric IPv4/IPv6 address or a unix path, without DNS. False for a name. */
MUST_CHECK bool addr_numeric(const struct addr *a, struct sockaddr_any *out);

/* The same, with DNS for names: blocks. False when the name does not resolve. */
MUST_CHECK bool addr_resolve(const struct addr *a, struct sockaddr_any *out);

/* All that it resolves to, at most max, IPv4 before IPv6: blocks. Returns how many; 0: none. */
size_t addr_resolve_all(const struct addr *a, struct sockaddr_any *out, size_t max);

bool sockaddr_equal(const struct sockaddr_any *a, const struct sockaddr_any *b);

/* "ip:port" of a socket address, as CLIENT LIST shows it ("/path:0" for unix sockets). */
const char *sockaddr_format(const struct sockaddr_any *sa, char out[ADDR_TEXT_MAX]);

#endif
