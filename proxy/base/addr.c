#include "base/addr.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <strings.h>

static bool is_path(const struct addr *a)
{
    return a->host[0] == '/';
}

/* Bytes that no host name, numeric address or zone has: they would only be misread later. */
static bool host_byte_ok(unsigned char c)
{
    return c > ' ' && c != 0x7f && c != '[' && c != ']' && c != '/' && c != '@' && c != ',';
}

static bool parse_path(const char *text, size_t n, struct addr *out)
{
    struct sockaddr_un un;

    /* Longer than a socket address can hold: refused here, where there is somebody to tell. */
    if (n >= sizeof(un.sun_path) || n > ADDR_HOST_MAX || memchr(text, '\0', n) != NULL)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(out->host, text, n);
    return true;
}

static bool parse_port(const char *text, size_t n, uint16_t *out)
{
    uint32_t port = 0;

    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return false;
    *out = (uint16_t)port;
    return true;
}

bool addr_parse(const char *text, size_t n, struct addr *out)
{
    const char *host = text, *colon;
    size_t len;
    uint16_t port;

    if (n > 0 && text[0] == '/')
        return parse_path(text, n, out);
    colon = n > 0 ? memrchr(text, ':', n) : NULL;
    if (colon == NULL || !parse_port(colon + 1, n - (size_t)(colon + 1 - text), &port))
        return false;
    len = (size_t)(colon - text);
    if (len > 0 && host[0] == '[') {
        if (len < 2 || host[len - 1] != ']')
            return false;
        host++;
        len -= 2;
    }
    if (len == 0 || len > ADDR_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!host_byte_ok((unsigned char)host[i]))
            return false;
    memset(out, 0, sizeof(*out));
    memcpy(out->host, host, len);
    out->port = port;
    return true;
}

const char *addr_format(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    if (is_path(a))
        snprintf(out, ADDR_TEXT_MAX, "%s", a->host);
    else if (strchr(a->host, ':') != NULL)
        snprintf(out, ADDR_TEXT_MAX, "[%s]:%u", a->host, a->port);
    else
        snprintf(out, ADDR_TEXT_MAX, "%s:%u", a->host, a->port);
    return out;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    if (a->port != b->port)
        return false;
    /* Host names and hexadecimal digits have no case; paths do. */
    return is_path(a) ? strcmp(a->host, b->host) == 0 : strcasecmp(a->host, b->host) == 0;
}

static size_t take_family(const struct addrinfo *list, int family, uint16_t port,
                          struct sockaddr_any *out, size_t max)
{
    size_t n = 0;

    for (const struct addrinfo *ai = list; ai != NULL && n < max; ai = ai->ai_next) {
        if (ai->ai_family != family)
            continue;
        memset(&out[n], 0, sizeof(out[n]));
        memcpy(&out[n].sa, ai->ai_addr, ai->ai_addrlen);
        out[n].len = ai->ai_addrlen;
        if (family == AF_INET)
            out[n].in4.sin_port = htons(port);
        else
            out[n].in6.sin6_port = htons(port);
        n++;
    }
    return n;
}

/* IPv4 first: servers listen there unless they were told otherwise, and "localhost" has both. */
static size_t lookup(const struct addr *a, int family, int flags, struct sockaddr_any *out,
                     size_t max)
{
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *list = NULL;
    size_t n;

    if (getaddrinfo(a->host, NULL, &hints, &list) != 0 || list == NULL)
        return 0;
    n = take_family(list, AF_INET, a->port, out, max);
    n += take_family(list, AF_INET6, a->port, out + n, max - n);
    freeaddrinfo(list);
    return n;
}

bool addr_numeric(const struct addr *a, struct sockaddr_any *out)
{
    size_t len = strlen(a->host);

    memset(out, 0, sizeof(*out));
    if (is_path(a)) {
        if (len >= sizeof(out->un.sun_path))
            return false;
        out->un.sun_family = AF_UNIX;
        memcpy(out->un.sun_path, a->host, len + 1);
        out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
        return true;
    }
    if (strchr(a->host, ':') != NULL) /* getaddrinfo knows zones: fe80::1%eth0 */
        return lookup(a, AF_INET6, AI_NUMERICHOST, out, 1) == 1;
    /* Not getaddrinfo: that would read "127.1" or "10" as an address. */
    if (inet_pton(AF_INET, a->host, &out->in4.sin_addr) != 1)
        return false;
    out->in4.sin_family = AF_INET;
    out->in4.sin_port = htons(a->port);
    out->len = sizeof(out->in4);
    return true;
}

size_t addr_resolve_all(const struct addr *a, struct sockaddr_any *out, size_t max)
{
    if (addr_numeric(a, out))
        return 1;
    if (is_path(a) || a->host[0] == '\0')
        return 0;
    return lookup(a, AF_UNSPEC, 0, out, max);
}

bool addr_resolve(const struct addr *a, struct sockaddr_any *out)
{
    return addr_resolve_all(a, out, 1) == 1;
}

bool sockaddr_equal(const struct sockaddr_any *a, const struct sockaddr_any *b)
{
    return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

static const char *format_unix(const struct sockaddr_any *sa, char out[ADDR_TEXT_MAX])
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t n = sa->len > head ? sa->len - head : 0;

    if (n == 0) /* a client that bound no name */
        snprintf(out, ADDR_TEXT_MAX, "unix:0");
    else if (sa->un.sun_path[0] == '\0') /* the abstract name space of Linux */
        snprintf(out, ADDR_TEXT_MAX, "@%.*s:0", (int)(n - 1), sa->un.sun_path + 1);
    else
        snprintf(out, ADDR_TEXT_MAX, "%.*s:0", (int)n, sa->un.sun_path);
    return out;
}

const char *sockaddr_format(const struct sockaddr_any *sa, char out[ADDR_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (sa->len == 0) {
        snprintf(out, ADDR_TEXT_MAX, "?:0");
        return out;
    }
    switch (sa->sa.sa_family) {
    case AF_UNIX:
        return format_unix(sa, out);
    case AF_INET6:
        inet_ntop(AF_INET6, &sa->in6.sin6_addr, ip, sizeof(ip));
        snprintf(out, ADDR_TEXT_MAX, "[%s]:%u", ip, ntohs(sa->in6.sin6_port));
        return out;
    case AF_INET:
        inet_ntop(AF_INET, &sa->in4.sin_addr, ip, sizeof(ip));
        snprintf(out, ADDR_TEXT_MAX, "%s:%u", ip, ntohs(sa->in4.sin_port));
        return out;
    default:
        snprintf(out, ADDR_TEXT_MAX, "?:0");
        return out;
    }
}
