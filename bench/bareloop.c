/*
 * bareloop.c - the physical limit that the benchmark's table is read against.
 *
 * The least that a proxy in front of a Redis Cluster can do: epoll, frame a request just enough to
 * find its first key, slot -> master, one shared pipelined connection per thread and master, frame
 * the replies, put them back in each client's order, one write per socket and turn of the loop.
 * Everything else that a proxy owes its users is missing on purpose: no redirects, no split
 * commands, no reconnects, no bounds, RESP2 only, and it exits at the first surprise. What a real
 * proxy spends above this is the price of its features and of its own clumsiness.
 *
 * Usage: bareloop --listen ADDR:PORT [--workers N] SEED...
 *
 * Threads: main accepts and deals the clients out; after the epoll_ctl that hands it over, a client
 * belongs to one worker alone. The slot map is complete before the first worker starts.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crc16.h"
#include "masters.h"

enum {
    WORKERS_MAX = 64,
    SCRATCH_BYTES = 64 * 1024,
    REPLY_INLINE = 32,
    EVENTS_MAX = 512,
    NO_REPLY_YET = -1,
};

struct buf {
    char *data;
    size_t len, cap;
};

/* A request that was sent and not yet answered to its client: one cache line. */
struct request {
    struct request *next_of_client, *next_of_backend;
    struct conn *client;
    ssize_t reply_len; /* NO_REPLY_YET, or the length of a reply that waits for its turn */
    union {
        char text[REPLY_INLINE];
        char *heap; /* when reply_len > REPLY_INLINE */
    } reply;
};

/* A client or a backend: a socket, its buffers and its unanswered requests, oldest first. */
struct conn {
    int fd; /* -1: a closed client that still has requests out */
    bool is_backend, dirty, wants_write;
    struct buf in; /* the unfinished end of what was read; usually empty */
    struct buf out;
    size_t out_sent;
    struct conn *next_dirty;
    struct request *head, **tail; /* linked by next_of_client or next_of_backend */
};

struct worker {
    pthread_t thread;
    int epoll;
    struct conn *dirty; /* has output, or is a closed client to free */
    struct request *free_requests;
    struct conn backends[MASTERS_MAX];
    char scratch[SCRATCH_BYTES];
};

static struct masters masters;

/* ---- buffers ---- */

static void buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len >= more)
        return;
    b->cap = MAX(b->cap * 2, b->len + more);
    b->data = xrealloc(b->data, b->cap);
}

static inline void buf_append(struct buf *b, const char *data, size_t len)
{
    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

/* ---- framing: each returns the length of the first frame, or 0 while it is unfinished ---- */

/* Reads the number of a "*12\r\n" or "$-1\r\n" and steps behind it; false while unfinished. */
static inline bool frame_number(const char **at, const char *end, long *out)
{
    const char *s = *at + 1;
    bool negative = end - *at > 1 && *s == '-';
    long n = 0;

    if (*at >= end)
        return false;
    for (s += negative; s < end && *s != '\r'; s++)
        n = n * 10 + (*s - '0');
    if (end - s < 2)
        return false;
    *at = s + 2;
    *out = negative ? -n : n;
    return true;
}

/* Also finds argument 1, which is the key of the commands that are measured. */
static size_t frame_request(const char *data, const char *end, const char **key, size_t *key_len)
{
    const char *s = data;
    long argc, len;

    if (*data != '*')
        die("a client sent no RESP array");
    if (!frame_number(&s, end, &argc))
        return 0;
    *key = data;
    *key_len = 0;
    for (long i = 0; i < argc; i++) {
        if (!frame_number(&s, end, &len) || end - s < len + 2)
            return 0;
        if (i == 1) {
            *key = s;
            *key_len = (size_t)len;
        }
        s += len + 2;
    }
    return (size_t)(s - data);
}

static size_t frame_reply(const char *data, const char *end)
{
    const char *s = data;
    long n;

    for (long pending = 1; pending > 0; pending--) {
        if (s >= end)
            return 0;
        if (*s == '$' || *s == '*') {
            bool bulk = *s == '$';
            if (!frame_number(&s, end, &n) || (bulk && n >= 0 && end - s < n + 2))
                return 0;
            if (bulk && n >= 0)
                s += n + 2;
            else if (!bulk && n > 0)
                pending += n;
        } else {
            s = memchr(s, '\n', (size_t)(end - s));
            if (s == NULL)
                return 0;
            s++;
        }
    }
    return (size_t)(s - data);
}

/* ---- requests and replies ---- */

static inline void mark_dirty(struct worker *w, struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = w->dirty;
    w->dirty = c;
}

static struct request *request_new(struct worker *w)
{
    struct request *r = w->free_requests;

    if (r == NULL)
        return xmalloc(sizeof(*r));
    w->free_requests = r->next_of_client;
    return r;
}

static size_t take_requests(struct worker *w, struct conn *client, const char *data,
                            const char *end)
{
    const char *s = data, *key;
    size_t len, key_len;

    while (s < end && (len = frame_request(s, end, &key, &key_len)) > 0) {
        struct conn *backend = &w->backends[masters.of_slot[key_slot(key, key_len)]];
        struct request *r = request_new(w);

        r->client = client;
        r->reply_len = NO_REPLY_YET;
        r->next_of_client = r->next_of_backend = NULL;
        *client->tail = r;
        client->tail = &r->next_of_client;
        *backend->tail = r;
        backend->tail = &r->next_of_backend;
        buf_append(&backend->out, s, len);
        mark_dirty(w, backend);
        s += len;
    }
    return (size_t)(s - data);
}

static void reply_hold(struct request *r, const char *data, size_t len)
{
    char *to = r->reply.text;

    if (len > REPLY_INLINE)
        to = r->reply.heap = xmalloc(len);
    memcpy(to, data, len);
    r->reply_len = (ssize_t)len;
}

/* The oldest request of a client has been answered: it leaves the list. */
static void request_pop(struct worker *w, struct conn *client)
{
    struct request *r = client->head;

    client->head = r->next_of_client;
    if (client->head == NULL)
        client->tail = &client->head;
    r->next_of_client = w->free_requests;
    w->free_requests = r;
}

/* A reply goes straight to the client's output when it is the next one, else it is held. */
static void reply_deliver(struct worker *w, struct request *r, const char *data, size_t len)
{
    struct conn *client = r->client;

    if (client->head != r) {
        reply_hold(r, data, len);
        return;
    }
    buf_append(&client->out, data, len);
    request_pop(w, client);
    while ((r = client->head) != NULL && r->reply_len != NO_REPLY_YET) {
        bool heap = r->reply_len > REPLY_INLINE;

        buf_append(&client->out, heap ? r->reply.heap : r->reply.text, (size_t)r->reply_len);
        if (heap)
            free(r->reply.heap);
        request_pop(w, client);
    }
    mark_dirty(w, client);
}

static size_t take_replies(struct worker *w, struct conn *backend, const char *data,
                           const char *end)
{
    const char *s = data;
    size_t len;

    while (s < end && (len = frame_reply(s, end)) > 0) {
        struct request *r = backend->head;

        if (r == NULL)
            die("a reply that nobody asked for");
        backend->head = r->next_of_backend;
        if (backend->head == NULL)
            backend->tail = &backend->head;
        reply_deliver(w, r, s, len);
        s += len;
    }
    return (size_t)(s - data);
}

/* ---- sockets ---- */

static void conn_init(struct conn *c, int fd, bool is_backend)
{
    int on = 1;

    *c = (struct conn){.fd = fd, .is_backend = is_backend, .tail = &c->head};
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
}

static void conn_watch(int epoll, int op, struct conn *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};

    must(epoll_ctl(epoll, op, c->fd, &ev), "epoll_ctl");
}

/* A client's requests that are still out keep its struct until they are answered. */
static void client_close(struct worker *w, struct conn *c)
{
    if (c->is_backend)
        die("a master closed its connection");
    close(c->fd);
    c->fd = -1;
    mark_dirty(w, c);
}

/* One read an event: what does not fit is announced again by the next epoll_wait. */
static void conn_read(struct worker *w, struct conn *c)
{
    char *data = w->scratch;
    size_t had = c->in.len, room = SCRATCH_BYTES, used, rest;
    ssize_t got;

    if (had > 0) {
        buf_reserve(&c->in, SCRATCH_BYTES);
        data = c->in.data;
        room = c->in.cap - had;
    }
    got = read(c->fd, data + had, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        client_close(w, c);
        return;
    }
    used = (c->is_backend ? take_replies : take_requests)(w, c, data, data + had + got);
    rest = had + (size_t)got - used;
    if (had > 0) {
        memmove(data, data + used, rest);
        c->in.len = rest;
    } else if (rest > 0) {
        buf_append(&c->in, data + used, rest);
    }
}

static void conn_write(struct worker *w, struct conn *c)
{
    ssize_t n = write(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent);
    bool blocked;

    if (n < 0 && errno != EAGAIN) {
        client_close(w, c);
        return;
    }
    c->out_sent += n > 0 ? (size_t)n : 0;
    blocked = c->out_sent < c->out.len;
    if (!blocked)
        c->out.len = c->out_sent = 0;
    if (blocked != c->wants_write) {
        c->wants_write = blocked;
        conn_watch(w->epoll, EPOLL_CTL_MOD, c, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static void flush_dirty(struct worker *w)
{
    struct conn *c;

    while ((c = w->dirty) != NULL) {
        w->dirty = c->next_dirty;
        c->dirty = false;
        if (c->fd >= 0) {
            conn_write(w, c);
        } else if (c->head == NULL) {
            free(c->in.data);
            free(c->out.data);
            free(c);
        }
    }
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(w->epoll, events, EVENTS_MAX, -1);

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (events[i].events & EPOLLOUT)
                mark_dirty(w, c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                conn_read(w, c);
        }
        flush_dirty(w);
    }
    return NULL;
}

/* ---- start ---- */

static int connect_to(const struct sockaddr_any *to)
{
    int fd = must(socket(to->sa.sa_family, SOCK_STREAM, 0), "socket");
    int on = 1;

    must(connect(fd, &to->sa, to->len), "connect");
    must(ioctl(fd, FIONBIO, &on), "FIONBIO");
    return fd;
}

static struct worker *worker_start(void)
{
    struct worker *w = xcalloc(1, sizeof(*w));

    w->epoll = must(epoll_create1(0), "epoll_create1");
    for (size_t i = 0; i < masters.count; i++) {
        conn_init(&w->backends[i], connect_to(&masters.at[i]), true);
        conn_watch(w->epoll, EPOLL_CTL_ADD, &w->backends[i], EPOLLIN);
    }
    if (pthread_create(&w->thread, NULL, worker_run, w) != 0)
        die("pthread_create");
    return w;
}

static int listen_on(const char *text)
{
    struct sockaddr_any at = resolve(text);
    int on = 1, fd = must(socket(at.sa.sa_family, SOCK_STREAM, 0), "socket");

    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
    must(bind(fd, &at.sa, at.len), "bind");
    must(listen(fd, 4096), "listen");
    return fd;
}

int main(int argc, char **argv)
{
    const char *listen_text = NULL, *seed = NULL;
    struct worker *workers[WORKERS_MAX];
    size_t count = 1, next = 0;
    int listener;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--listen") == 0 && i + 1 < argc)
            listen_text = argv[++i];
        else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc)
            count = strtoul(argv[++i], NULL, 10);
        else
            seed = seed != NULL ? seed : argv[i]; /* one is enough: further seeds are not asked */
    }
    if (listen_text == NULL || seed == NULL || count < 1 || count > WORKERS_MAX) {
        fprintf(stderr, "usage: bareloop --listen ADDR:PORT [--workers N] SEED...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    masters_read(&masters, seed);
    listener = listen_on(listen_text);
    for (size_t i = 0; i < count; i++)
        workers[i] = worker_start();
    for (;;) {
        int fd = must(accept4(listener, NULL, NULL, SOCK_NONBLOCK), "accept4");
        struct conn *client = xmalloc(sizeof(*client));

        conn_init(client, fd, false);
        conn_watch(workers[next++ % count]->epoll, EPOLL_CTL_ADD, client, EPOLLIN);
    }
}
