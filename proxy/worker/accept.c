#include "worker/accept.h"

#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "net/sock.h"
#include "session/error.h"

#define BACKLOG 4096
/* Connections taken in one turn, so that a storm of them does not keep signals waiting. */
#define ACCEPT_BURST 64
/* Without descriptors left the listener rests for so long instead of spinning. */
#define EMFILE_PAUSE_S 0.1

struct listener {
    struct ev_io io;
    struct acceptor *acceptor;
    int fd;
    struct addr addr;
};

struct acceptor {
    const struct config *config;
    struct loop *loop;
    struct workers *workers;
    struct ev_timer rest;
    uint64_t next_id;
    size_t count;
    struct listener listeners[];
};

static void refuse(int fd)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "-%s\r\n", error_text(ERROR_MAX_CLIENTS));

    (void)!write(fd, line, (size_t)n);
    close(fd);
}

static void take(struct acceptor *a, struct listener *l, int fd)
{
    if (workers_clients(a->workers) >= a->config->client.max_clients) {
        log_warn("client refused: client.max_clients (%u) are connected",
                 a->config->client.max_clients);
        refuse(fd);
        return;
    }
    workers_give_client(a->workers, fd, a->next_id++, (uint16_t)(l - a->listeners));
}

static void on_accept(struct ev_loop *ev, struct ev_io *w, int revents)
{
    struct listener *l = CONTAINER_OF(w, struct listener, io);
    struct acceptor *a = l->acceptor;

    (void)revents;
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_any from;
        int fd = sock_accept(l->fd, &from, a->config->client.tcp_keepalive_s);

        if (fd >= 0) {
            sock_set_user_timeout(fd, a->config->client.tcp_user_timeout_ms);
            take(a, l, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("cannot accept a connection: %s", strerror(errno));
            ev_io_stop(ev, &l->io);
            ev_timer_again(ev, &a->rest);
        }
        return;
    }
}

static void on_rested(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    struct acceptor *a = CONTAINER_OF(w, struct acceptor, rest);

    (void)revents;
    ev_timer_stop(ev, w);
    for (size_t i = 0; i < a->count; i++)
        ev_io_start(ev, &a->listeners[i].io);
}

static bool open_listener(struct listener *l, const struct addr *at, char *err, size_t errlen)
{
    struct sockaddr_any sa;
    char name[ADDR_TEXT_MAX];

    l->addr = *at;
    if (!addr_resolve(at, &sa)) {
        snprintf(err, errlen, "cannot listen on %s: the name does not resolve",
                 addr_format(at, name));
        return false;
    }
    l->fd = sock_listen(&sa, BACKLOG);
    if (l->fd < 0)
        snprintf(err, errlen, "cannot listen on %s: %s", addr_format(at, name), strerror(errno));
    return l->fd >= 0;
}

struct acceptor *acceptor_new(const struct config *config, char *err, size_t errlen)
{
    struct acceptor *a = xcalloc(1, sizeof(*a) + config->listener_count * sizeof(a->listeners[0]));

    a->config = config;
    a->next_id = 1;
    for (size_t i = 0; i < config->listener_count; i++) {
        a->listeners[i].acceptor = a;
        if (!open_listener(&a->listeners[i], &config->listeners[i].address, err, errlen)) {
            acceptor_free(&a);
            return NULL;
        }
        a->count++;
    }
    return a;
}

void acceptor_start(struct acceptor *a, struct loop *l, struct workers *ws)
{
    char name[ADDR_TEXT_MAX];

    a->loop = l;
    a->workers = ws;
    ev_timer_init(&a->rest, on_rested, 0, EMFILE_PAUSE_S);
    for (size_t i = 0; i < a->count; i++) {
        ev_io_init(&a->listeners[i].io, on_accept, a->listeners[i].fd, EV_READ);
        ev_io_start(l->ev, &a->listeners[i].io);
        log_info("listening on %s", addr_format(&a->listeners[i].addr, name));
    }
}

void acceptor_free(struct acceptor **p)
{
    struct acceptor *a = *p;

    *p = NULL;
    if (a == NULL)
        return;
    if (a->loop != NULL)
        ev_timer_stop(a->loop->ev, &a->rest);
    for (size_t i = 0; i < a->count; i++) {
        struct listener *l = &a->listeners[i];

        if (a->loop != NULL)
            ev_io_stop(a->loop->ev, &l->io);
        close(l->fd);
        if (l->addr.port == 0)
            unlink(l->addr.host);
    }
    free(a);
}
