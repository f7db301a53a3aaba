#include "net/sock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_int(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void set_options(int fd, sa_family_t family, uint32_t keepalive_s)
{
    if (family == AF_UNIX)
        return;
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (keepalive_s == 0)
        return;
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)keepalive_s);
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)MAX(keepalive_s / 3, 1));
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

static int close_keeping_errno(int fd)
{
    int saved = errno;

    close(fd);
    errno = saved;
    return -1;
}

/* A socket file nobody listens on any more stands in bind's way; anything else is left alone. */
static void remove_stale_unix(const struct sockaddr_any *at)
{
    struct stat st;
    int fd;

    if (stat(at->un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, &at->sa, at->len) != 0 && errno == ECONNREFUSED)
        unlink(at->un.sun_path);
    close(fd);
}

int sock_listen(const struct sockaddr_any *at, int backlog)
{
    int fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (at->sa.sa_family == AF_UNIX)
        remove_stale_unix(at);
    else
        set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (at->sa.sa_family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, &at->sa, at->len) != 0 || listen(fd, backlog) != 0)
        return close_keeping_errno(fd);
    return fd;
}

int sock_accept(int listener, struct sockaddr_any *from, uint32_t keepalive_s)
{
    int fd;

    from->len = sizeof(*from) - offsetof(struct sockaddr_any, sa);
    fd = accept4(listener, &from->sa, &from->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        set_options(fd, from->sa.sa_family, keepalive_s);
    return fd;
}

int sock_connect(const struct sockaddr_any *to, uint32_t keepalive_s)
{
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    set_options(fd, to->sa.sa_family, keepalive_s);
    if (connect(fd, &to->sa, to->len) != 0 && errno != EINPROGRESS)
        return close_keeping_errno(fd);
    return fd;
}

void sock_set_user_timeout(int fd, uint32_t ms)
{
    if (ms != 0)
        set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)ms);
}

int sock_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return errno;
    return error;
}

void sock_local(int fd, struct sockaddr_any *out)
{
    out->len = sizeof(*out) - offsetof(struct sockaddr_any, sa);
    if (getsockname(fd, &out->sa, &out->len) != 0)
        *out = (struct sockaddr_any){0};
}

void sock_peer(int fd, struct sockaddr_any *out)
{
    out->len = sizeof(*out) - offsetof(struct sockaddr_any, sa);
    if (getpeername(fd, &out->sa, &out->len) != 0)
        *out = (struct sockaddr_any){0};
}
