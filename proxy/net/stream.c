#include "net/stream.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "net/sock.h"

/* More vectors than this in one call gain nothing measurable. */
#define FLUSH_IOV 128

int stream_fd(const struct stream *s)
{
    return s->rio.fd;
}

static void fail(struct stream *s, int error)
{
    stream_close(s);
    s->ops->failed(s, error);
}

static void on_readable(struct ev_loop *ev, struct ev_io *w, int revents)
{
    struct stream *s = CONTAINER_OF(w, struct stream, rio);
    struct span to = s->ops->buffer(s);
    ssize_t n;

    (void)revents;
    if (to.len == 0) {
        ev_io_stop(ev, w);
        return;
    }
    n = read(w->fd, to.data, to.len);
    if (LIKELY(n > 0)) {
        s->ops->data(s, (size_t)n);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && s->ops->ended != NULL) {
        ev_io_stop(ev, w);
        s->ops->ended(s);
        return;
    }
    fail(s, n == 0 ? 0 : errno);
}

/* What the kernel takes leaves the chain; what it does not waits for on_writable. */
static void flush(struct stream *s)
{
    struct iovec iov[FLUSH_IOV];

    while (s->out.bytes > 0) {
        int count = chain_iov(&s->out, iov, FLUSH_IOV);
        ssize_t n = count == 1 ? write(s->rio.fd, iov[0].iov_base, iov[0].iov_len)
                               : writev(s->rio.fd, iov, count);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN) {
                fail(s, errno);
                return;
            }
            n = 0;
        }
        s->written += (uint64_t)n;
        chain_consume(&s->out, (size_t)n);
        if (s->out.bytes > 0 && (n == 0 || count < FLUSH_IOV)) {
            s->blocked = true;
            ev_io_start(s->loop->ev, &s->wio);
            return;
        }
    }
    if (!s->keep_open_block)
        chain_idle(&s->out);
    if (UNLIKELY(s->notify_drained)) {
        s->notify_drained = false;
        s->ops->drained(s);
    }
}

static void finish_connect(struct stream *s)
{
    int error = sock_error(s->rio.fd);

    if (error != 0) {
        fail(s, error);
        return;
    }
    s->connecting = s->blocked = false;
    ev_io_stop(s->loop->ev, &s->wio);
    ev_io_start(s->loop->ev, &s->rio);
    s->ops->connected(s);
    if (s->open && s->out.bytes > 0)
        stream_mark_dirty(s);
}

static void on_writable(struct ev_loop *ev, struct ev_io *w, int revents)
{
    struct stream *s = CONTAINER_OF(w, struct stream, wio);

    (void)revents;
    if (s->connecting) {
        finish_connect(s);
        return;
    }
    ev_io_stop(ev, w);
    s->blocked = false;
    flush(s);
}

static void prepare(struct stream *s, struct loop *l, int fd, const struct stream_ops *ops,
                    bool keep_open_block)
{
    ev_io_init(&s->rio, on_readable, fd, EV_READ);
    ev_io_init(&s->wio, on_writable, fd, EV_WRITE);
    s->loop = l;
    s->ops = ops;
    chain_init(&s->out);
    s->next_dirty = NULL;
    s->written = 0;
    s->dirty = s->blocked = s->held = s->connecting = s->notify_drained = false;
    s->open = true;
    s->keep_open_block = keep_open_block;
}

void stream_open(struct stream *s, struct loop *l, int fd, const struct stream_ops *ops,
                 bool keep_open_block)
{
    prepare(s, l, fd, ops, keep_open_block);
    ev_io_start(l->ev, &s->rio);
}

bool stream_connect(struct stream *s, struct loop *l, const struct sockaddr_any *to,
                    uint32_t keepalive_s, const struct stream_ops *ops, bool keep_open_block)
{
    int fd = sock_connect(to, keepalive_s);

    if (fd < 0)
        return false;
    prepare(s, l, fd, ops, keep_open_block);
    s->connecting = s->blocked = true;
    ev_io_start(l->ev, &s->wio);
    return true;
}

bool stream_peer_ended(const struct stream *s)
{
    struct pollfd p = {.fd = s->rio.fd, .events = POLLRDHUP};

    return s->open && poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool stream_is_broken(const struct stream *s)
{
    struct pollfd p = {.fd = s->rio.fd};

    return s->open && poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

void stream_pause(struct stream *s)
{
    if (s->open)
        ev_io_stop(s->loop->ev, &s->rio);
}

void stream_resume(struct stream *s)
{
    if (s->open && !s->connecting)
        ev_io_start(s->loop->ev, &s->rio);
}

void stream_hold(struct stream *s)
{
    if (!s->blocked)
        s->blocked = s->held = true;
}

void stream_release(struct stream *s)
{
    if (!s->held)
        return;
    s->blocked = s->held = false;
    if (s->out.bytes > 0)
        stream_mark_dirty(s);
}

void stream_close(struct stream *s)
{
    if (!s->open)
        return;
    s->open = false;
    ev_io_stop(s->loop->ev, &s->rio);
    ev_io_stop(s->loop->ev, &s->wio);
    close(s->rio.fd);
    chain_clear(&s->out);
}

void stream_flush_dirty(struct loop *l)
{
    /* A failing stream's callbacks may write to others: they join the list and leave this turn. */
    while (l->dirty != NULL) {
        struct stream *s = l->dirty;

        l->dirty = s->next_dirty;
        s->dirty = false;
        if (s->open && !s->blocked)
            flush(s);
    }
}
