#include "session/pretend.h"

#include <arpa/inet.h>

#include "net/sock.h"

/* A client that came to [::] over IPv4 has a mapped address: it has to be told the IPv4 one. */
static void local_ip(const struct client *c, char ip[ADDR_HOST_MAX + 1], uint16_t *port)
{
    struct sockaddr_any sa;

    ip[0] = '\0';
    *port = 0;
    sock_local(stream_fd(&c->stream), &sa);
    if (sa.len == 0)
        return;
    if (sa.sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &sa.in4.sin_addr, ip, ADDR_HOST_MAX);
        *port = ntohs(sa.in4.sin_port);
    } else if (sa.sa.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&sa.in6.sin6_addr))
            inet_ntop(AF_INET, &sa.in6.sin6_addr.s6_addr[12], ip, ADDR_HOST_MAX);
        else
            inet_ntop(AF_INET6, &sa.in6.sin6_addr, ip, ADDR_HOST_MAX);
        *port = ntohs(sa.in6.sin6_port);
    }
}

void pretend_id(const struct pretend_self *self, const char *purpose, char out[SHA1_HEX_LEN + 1])
{
    char text[ADDR_HOST_MAX + 64];
    int n = snprintf(text, sizeof(text), "keyway %s %s %u", purpose, self->host, self->port);

    sha1_hex(text, (size_t)n, out);
}

void pretend_self(const struct client *c, struct pretend_self *out)
{
    const struct addr *announce = &c->env->config->listeners[c->listener].announce;
    struct sockaddr_any numeric;
    uint16_t port;

    memset(out, 0, sizeof(*out));
    local_ip(c, out->ip, &port);
    if (announce->host[0] == '\0') {
        memcpy(out->host, out->ip, sizeof(out->host));
        out->port = port;
    } else {
        memcpy(out->host, announce->host, sizeof(out->host));
        out->port = announce->port;
        out->is_name = !addr_numeric(announce, &numeric);
        if (!out->is_name)
            memcpy(out->ip, out->host, sizeof(out->ip));
    }
    pretend_id(out, "node", out->id);
}
