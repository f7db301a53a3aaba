/*
 * fake_node.h - servers that say what a test tells them to say.
 *
 * One thread serves all of them. A node can be up (listening) or down, and answers CLUSTER NODES
 * and ROLE with texts that the test sets at any time.
 */
#ifndef TEST_CONTROL_FAKE_NODE_H
#define TEST_CONTROL_FAKE_NODE_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/alloc.h"

#define FAKE_MAX 8
#define FAKE_CONNS 64

struct fake_conn {
    int fd; /* -1: free */
    size_t node;
    redisReader *reader;
    bool authed;
};

struct fake_node {
    uint16_t port;
    int listener; /* -1: down */
    char *nodes;  /* bytes of the answer to CLUSTER NODES; NULL: none comes */
    const char *role;
    const char *password; /* NULL: none wanted */
    unsigned asked_nodes, asked_role, named, accepted;
};

struct fakes {
    pthread_mutex_t lock;
    pthread_t thread;
    bool stop;
    size_t count;
    struct fake_node node[FAKE_MAX];
    struct fake_conn conn[FAKE_CONNS];
};

static inline int fake_listen(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        perror("fake node");
        abort();
    }
    *port = ntohs(a.sin_port);
    return fd;
}

static inline void fake_say(int fd, const char *bytes)
{
    size_t n = strlen(bytes);

    if (send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n && errno != EPIPE && errno != ECONNRESET)
        perror("fake node");
}

static inline void fake_hang_up(struct fake_conn *c)
{
    close(c->fd);
    redisReaderFree(c->reader);
    c->fd = -1;
}

static inline void fake_answer(struct fakes *f, struct fake_conn *c, const redisReply *r)
{
    struct fake_node *n = &f->node[c->node];
    const char *word = r->elements > 0 ? r->element[0]->str : "";
    const char *last = r->elements > 0 ? r->element[r->elements - 1]->str : "";

    if (strcmp(word, "AUTH") == 0) {
        c->authed = n->password != NULL && strcmp(last, n->password) == 0;
        fake_say(c->fd, c->authed ? "+OK\r\n" : "-WRONGPASS invalid\r\n");
    } else if (n->password != NULL && !c->authed) {
        fake_say(c->fd, "-NOAUTH Authentication required.\r\n");
    } else if (strcmp(word, "CLIENT") == 0) {
        n->named += strcmp(last, "keyway-topology") == 0;
        fake_say(c->fd, "+OK\r\n");
    } else if (strcmp(word, "CLUSTER") == 0) {
        n->asked_nodes++;
        if (n->nodes != NULL)
            fake_say(c->fd, n->nodes);
    } else if (strcmp(word, "ROLE") == 0) {
        n->asked_role++;
        fake_say(c->fd, n->role);
    } else {
        fake_say(c->fd, "-ERR unknown command\r\n");
    }
}

static inline void fake_read(struct fakes *f, struct fake_conn *c)
{
    char buf[4096];
    ssize_t n = read(c->fd, buf, sizeof(buf));
    void *r = NULL;

    if (n <= 0) {
        fake_hang_up(c);
        return;
    }
    redisReaderFeed(c->reader, buf, (size_t)n);
    while (redisReaderGetReply(c->reader, &r) == REDIS_OK && r != NULL) {
        fake_answer(f, c, r);
        freeReplyObject(r);
    }
}

static inline void fake_accept(struct fakes *f, size_t node)
{
    int fd = accept4(f->node[node].listener, NULL, NULL, SOCK_CLOEXEC);

    for (size_t i = 0; i < FAKE_CONNS && fd >= 0; i++) {
        if (f->conn[i].fd >= 0)
            continue;
        f->conn[i] = (struct fake_conn){.fd = fd, .node = node, .reader = redisReaderCreate()};
        f->node[node].accepted++;
        return;
    }
    if (fd >= 0)
        close(fd);
}

static inline void fake_turn(struct fakes *f)
{
    struct pollfd p[FAKE_MAX + FAKE_CONNS];

    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < FAKE_MAX; i++)
        p[i] = (struct pollfd){.fd = i < f->count ? f->node[i].listener : -1, .events = POLLIN};
    for (size_t i = 0; i < FAKE_CONNS; i++)
        p[FAKE_MAX + i] = (struct pollfd){.fd = f->conn[i].fd, .events = POLLIN};
    if (poll(p, FAKE_MAX + FAKE_CONNS, 0) > 0) {
        for (size_t i = 0; i < FAKE_CONNS; i++)
            if (p[FAKE_MAX + i].revents != 0)
                fake_read(f, &f->conn[i]);
        for (size_t i = 0; i < FAKE_MAX; i++)
            if (p[i].revents != 0)
                fake_accept(f, i);
    }
    pthread_mutex_unlock(&f->lock);
}

static inline void *fake_run(void *arg)
{
    struct fakes *f = arg;
    bool stop = false;

    while (!stop) {
        fake_turn(f);
        usleep(500);
        pthread_mutex_lock(&f->lock);
        stop = f->stop;
        pthread_mutex_unlock(&f->lock);
    }
    return NULL;
}

/* `count` nodes that listen, and answer nothing yet. */
static inline void fakes_start(struct fakes *f, size_t count)
{
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    f->count = count;
    for (size_t i = 0; i < FAKE_CONNS; i++)
        f->conn[i].fd = -1;
    for (size_t i = 0; i < count; i++) {
        f->node[i].listener = fake_listen(&f->node[i].port);
        f->node[i].role = "*3\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n";
    }
    if (pthread_create(&f->thread, NULL, fake_run, f) != 0)
        abort();
}

static inline void fakes_stop(struct fakes *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    for (size_t i = 0; i < FAKE_CONNS; i++)
        if (f->conn[i].fd >= 0)
            fake_hang_up(&f->conn[i]);
    for (size_t i = 0; i < f->count; i++) {
        if (f->node[i].listener >= 0)
            close(f->node[i].listener);
        free(f->node[i].nodes);
    }
    pthread_mutex_destroy(&f->lock);
}

/* The node dies, or comes back on its port. */
static inline void fake_set_up(struct fakes *f, size_t node, bool up)
{
    struct fake_node *n = &f->node[node];

    pthread_mutex_lock(&f->lock);
    if (n->listener >= 0)
        close(n->listener);
    n->listener = up ? fake_listen(&n->port) : -1;
    for (size_t i = 0; i < FAKE_CONNS; i++)
        if (f->conn[i].fd >= 0 && f->conn[i].node == node)
            fake_hang_up(&f->conn[i]);
    pthread_mutex_unlock(&f->lock);
}

/* What the node answers to CLUSTER NODES, byte for byte; NULL: nothing. */
static inline void fake_set_raw(struct fakes *f, size_t node, const char *bytes)
{
    pthread_mutex_lock(&f->lock);
    free(f->node[node].nodes);
    f->node[node].nodes = bytes != NULL ? xstrdup(bytes) : NULL;
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_set_role(struct fakes *f, size_t node, bool master)
{
    pthread_mutex_lock(&f->lock);
    f->node[node].role = master ? "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n"
                                : "*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n$9\r\nconnected\r\n:1\r\n";
    pthread_mutex_unlock(&f->lock);
}

struct fake_counts {
    unsigned asked_nodes, asked_role, named, accepted;
};

static inline struct fake_counts fake_counts(struct fakes *f, size_t node)
{
    struct fake_counts c;

    pthread_mutex_lock(&f->lock);
    c = (struct fake_counts){f->node[node].asked_nodes, f->node[node].asked_role,
                             f->node[node].named, f->node[node].accepted};
    pthread_mutex_unlock(&f->lock);
    return c;
}

#endif
