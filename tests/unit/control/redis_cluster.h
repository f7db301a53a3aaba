/*
 * redis_cluster.h - real redis-server processes on loopback, made into a cluster.
 *
 * Each has free ports and a scratch folder; they are stopped by their process ids.
 */
#ifndef TEST_CONTROL_REDIS_CLUSTER_H
#define TEST_CONTROL_REDIS_CLUSTER_H

#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "fake_node.h"

#define REDIS_MAX 7

extern char **environ;

struct redis_node {
    uint16_t port, bus_port;
    pid_t pid; /* 0: not running */
    redisContext *ctx;
    char id[64];
};

struct redis_cluster {
    char dir[64];
    struct redis_node node[REDIS_MAX];
};

static inline void redis_die(const char *what)
{
    fprintf(stderr, "real cluster: %s\n", what);
    abort();
}

static inline bool redis_connect(struct redis_node *n)
{
    struct timeval t = {1, 0};

    if (n->ctx != NULL)
        redisFree(n->ctx);
    n->ctx = redisConnectWithTimeout("127.0.0.1", n->port, t);
    if (n->ctx != NULL && n->ctx->err == 0)
        return true;
    if (n->ctx != NULL)
        redisFree(n->ctx);
    n->ctx = NULL;
    return false;
}

/* The answer as text; "" for what is none. Valid until the next call. */
static inline const char *redis_text(struct redis_node *n, const char *fmt, ...)
{
    static char text[64 * 1024];
    redisReply *r;
    va_list args;

    text[0] = '\0';
    if (n->ctx == NULL && !redis_connect(n))
        return text;
    va_start(args, fmt);
    r = redisvCommand(n->ctx, fmt, args);
    va_end(args);
    if (r == NULL) {
        redisFree(n->ctx);
        n->ctx = NULL;
        return text;
    }
    if (r->type == REDIS_REPLY_ARRAY && r->elements > 0 && r->element[0]->str != NULL)
        snprintf(text, sizeof(text), "%s", r->element[0]->str);
    else if (r->str != NULL)
        snprintf(text, sizeof(text), "%s", r->str);
    freeReplyObject(r);
    return text;
}

static inline void redis_ok(struct redis_node *n, const char *fmt, ...)
{
    redisReply *r;
    va_list args;

    va_start(args, fmt);
    r = n->ctx != NULL ? redisvCommand(n->ctx, fmt, args) : NULL;
    va_end(args);
    if (r == NULL || r->type == REDIS_REPLY_ERROR)
        redis_die(r != NULL ? r->str : fmt);
    freeReplyObject(r);
}

static inline void redis_choose_ports(struct redis_cluster *rc)
{
    int fds[REDIS_MAX * 2];

    for (size_t i = 0; i < REDIS_MAX; i++) {
        fds[i * 2] = fake_listen(&rc->node[i].port);
        fds[i * 2 + 1] = fake_listen(&rc->node[i].bus_port);
    }
    for (size_t i = 0; i < REDIS_MAX * 2; i++)
        close(fds[i]);
}

static inline void redis_start(struct redis_cluster *rc, size_t i)
{
    struct redis_node *n = &rc->node[i];
    char port[8], bus[8], conf[40], log[100];
    char *argv[] = {(char *)"redis-server",
                    (char *)"--port",
                    port,
                    (char *)"--cluster-port",
                    bus,
                    (char *)"--cluster-enabled",
                    (char *)"yes",
                    (char *)"--cluster-config-file",
                    conf,
                    (char *)"--cluster-node-timeout",
                    (char *)"2000",
                    (char *)"--bind",
                    (char *)"127.0.0.1",
                    (char *)"--dir",
                    rc->dir,
                    (char *)"--logfile",
                    log,
                    (char *)"--save",
                    (char *)"",
                    (char *)"--repl-diskless-sync-delay",
                    (char *)"0",
                    NULL};

    snprintf(port, sizeof(port), "%u", n->port);
    snprintf(bus, sizeof(bus), "%u", n->bus_port);
    snprintf(conf, sizeof(conf), "nodes-%zu.conf", i);
    snprintf(log, sizeof(log), "%s/%zu.log", rc->dir, i);
    if (posix_spawnp(&n->pid, "redis-server", NULL, NULL, argv, environ) != 0)
        redis_die("no redis-server");
    for (int k = 0; k < 1000 && !redis_connect(n); k++)
        usleep(5000);
    if (n->ctx == NULL)
        redis_die("redis-server does not listen");
    snprintf(n->id, sizeof(n->id), "%s", redis_text(n, "CLUSTER MYID"));
}

static inline void redis_kill(struct redis_cluster *rc, size_t i)
{
    struct redis_node *n = &rc->node[i];

    if (n->ctx != NULL)
        redisFree(n->ctx);
    n->ctx = NULL;
    if (n->pid == 0)
        return;
    kill(n->pid, SIGKILL);
    waitpid(n->pid, NULL, 0);
    n->pid = 0;
}

static inline int redis_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void redis_stop_all(struct redis_cluster *rc)
{
    for (size_t i = 0; i < REDIS_MAX; i++)
        redis_kill(rc, i);
    nftw(rc->dir, redis_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* Polls until the node's answer contains the text. */
static inline bool redis_until(struct redis_node *n, const char *command, const char *text,
                               uint32_t timeout_ms)
{
    uint64_t end = clock_ms() + timeout_ms;

    while (strstr(redis_text(n, command), text) == NULL) {
        if (clock_ms() > end)
            return false;
        usleep(5000);
    }
    return true;
}

/* Nodes 0 to 2 masters, 3 to 5 their replicas. */
static inline void redis_join(struct redis_cluster *rc)
{
    static const unsigned bounds[] = {0, 5461, 10923, 16384};

    for (size_t i = 0; i < 6; i++)
        redis_ok(&rc->node[i], "CLUSTER SET-CONFIG-EPOCH %d", (int)i + 1);
    for (size_t i = 0; i < 3; i++)
        redis_ok(&rc->node[i], "CLUSTER ADDSLOTSRANGE %d %d", (int)bounds[i],
                 (int)bounds[i + 1] - 1);
    for (size_t i = 1; i < 6; i++)
        redis_ok(&rc->node[0], "CLUSTER MEET 127.0.0.1 %d %d", (int)rc->node[i].port,
                 (int)rc->node[i].bus_port);
    for (size_t i = 0; i < 6; i++)
        if (!redis_until(&rc->node[i], "CLUSTER INFO", "cluster_known_nodes:6", 20000) ||
            !redis_until(&rc->node[i], "CLUSTER INFO", "cluster_state:ok", 20000))
            redis_die("the nodes do not meet");
    for (size_t i = 3; i < 6; i++)
        redis_ok(&rc->node[i], "CLUSTER REPLICATE %s", rc->node[i - 3].id);
    for (size_t i = 3; i < 6; i++)
        if (!redis_until(&rc->node[i], "INFO replication", "master_link_status:up", 20000))
            redis_die("a replica does not follow");
    /* A replica is elected only once the others know it as one. */
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 3; k < 6; k++) {
            char line[128];

            snprintf(line, sizeof(line), "slave %s", rc->node[k - 3].id);
            if (!redis_until(&rc->node[i], "CLUSTER NODES", line, 20000))
                redis_die("a replica is not known");
        }
}

#endif
