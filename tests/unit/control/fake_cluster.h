/*
 * fake_cluster.h - fake nodes that tell of a cluster, and a discovery that asks them.
 *
 * What a node says of the others is set node by node, so that they may contradict each other.
 */
#ifndef TEST_CONTROL_FAKE_CLUSTER_H
#define TEST_CONTROL_FAKE_CLUSTER_H

#include <CUnit/CUnit.h>

#include "fake_node.h"
#include "watch.h"

/* What one line of CLUSTER NODES says. */
struct line {
    int node;   /* of the fakes */
    int master; /* -1: is one */
    unsigned epoch;
    bool failed;
    const char *slots;
};

static inline void node_id(int node, char out[NODE_ID_LEN + 1])
{
    memset(out, 'a' + node, NODE_ID_LEN);
    out[NODE_ID_LEN] = '\0';
}

static inline size_t write_line(const struct fakes *f, char *out, size_t size, const struct line *l,
                                bool myself)
{
    char id[NODE_ID_LEN + 1], master[NODE_ID_LEN + 1] = "-";

    node_id(l->node, id);
    if (l->master >= 0)
        node_id(l->master, master);
    return (size_t)snprintf(
        out, size, "%s 127.0.0.1:%u@1,,shard-id=x %s%s%s %s 0 0 %u connected%s%s\n", id,
        f->node[l->node].port, myself ? "myself," : "", l->master >= 0 ? "slave" : "master",
        l->failed ? ",fail" : "", master, l->epoch, l->slots[0] != '\0' ? " " : "", l->slots);
}

/* Makes `node` tell these lines. */
static inline void tell(struct fakes *f, int node, const struct line *lines, size_t count)
{
    char text[4096], whole[4200];
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += write_line(f, text + n, sizeof(text) - n, &lines[i], lines[i].node == node);
    snprintf(whole, sizeof(whole), "$%zu\r\n%s\r\n", n, text);
    fake_set_raw(f, (size_t)node, whole);
}

/* All nodes that have a line tell the same. */
static inline void tell_all(struct fakes *f, const struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tell(f, lines[i].node, lines, count);
}

/* Three masters, and a replica of the first. */
static const struct line four[] = {
    {0, -1, 1, false, "0-5000"},
    {1, -1, 2, false, "5001-10000"},
    {2, -1, 3, false, "10001-16383"},
    {3, 0, 1, false, ""},
};
static const size_t four_nodes = 4;

static inline void seed_text(const struct fakes *f, size_t node, const char *host, char out[64])
{
    snprintf(out, 64, "%s:%u", host, f->node[node].port);
}

/* A discovery, not started, that knows this node. */
static inline void prepare(struct watch *w, const struct fakes *f, size_t seed)
{
    char text[64];
    const char *seeds[] = {text, NULL};

    seed_text(f, seed, "127.0.0.1", text);
    watch_prepare(w, seeds);
    w->config->topology.query_timeout_ms = 400;
}

/* Four nodes and one that nobody tells of, and a discovery, not started, that knows the first. */
static inline void start_four(struct fakes *f, struct watch *w)
{
    fakes_start(f, 5);
    tell_all(f, four, ARRAY_LEN(four));
    prepare(w, f, 0);
}

static inline void stop(struct fakes *f, struct watch *w)
{
    CU_ASSERT_FALSE(watch_stop(w));
    fakes_stop(f);
}

#endif
