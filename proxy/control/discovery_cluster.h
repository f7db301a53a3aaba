/*
 * discovery_cluster.h - the watch over one Redis Cluster. For discovery*.c only.
 *
 * discovery.c has the thread; discovery_cluster.c the rounds of CLUSTER NODES; discovery_nodes.c
 * the nodes asked and their connections; discovery_guard.c what keeps an older view from undoing a
 * newer one; discovery_failover.c the watch over masters; discovery_resolve.c the names.
 *
 * A round asks all known nodes at once. Its map is published as soon as most masters have answered,
 * and again when a later answer changes it, so that a dead node delays nothing.
 * Layer: control. Thread: discovery. Owner: struct discovery.
 */
#ifndef CONTROL_DISCOVERY_CLUSTER_H
#define CONTROL_DISCOVERY_CLUSTER_H

#include "control/complaint.h"
#include "control/discovery_resolve.h"
#include "control/discovery_watch.h"
#include "control/node_query.h"
#include "topology/cluster.h"

/* --- one node --- */

struct discovery_cluster;

struct discovery_node {
    struct list_node link;
    struct discovery_cluster *cluster;
    struct addr addr;
    struct sockaddr_any target;
    struct node_query *query; /* NULL: not connected */
    char id[NODE_ID_LEN + 1]; /* as it told itself; empty: not known */
    uint64_t asked_round;     /* of the question that waits, or waited last */
    uint64_t answered_round;  /* the last round whose question it answered */
    bool pending;             /* CLUSTER NODES waits for an answer */
    bool probing;             /* ROLE waits for an answer */
    bool answered;            /* something, on this connection */
    bool down;                /* its connection failed and it has not answered since */
    bool loading;             /* it answers that it is not ready yet */
    bool keep;                /* mark of a sweep */
    uint32_t failures;        /* in a row */
    uint64_t retry_ms;        /* not connected again before, except by a round */
    uint64_t probed_ms;       /* when it was asked ROLE last */
    uint64_t out_ms;          /* of a master: since when it is out of reach; 0: it is not */
    uint64_t well_ms; /* since when it is in reach again; out_ms goes when that has lasted */
    bool out_failed;  /* out_ms is since the cluster calls it failed */
    struct complaint complaint;
};

struct discovery_node *discovery_node_find(struct discovery_cluster *c, const struct addr *a);
struct discovery_node *discovery_node_add(struct discovery_cluster *c, const struct addr *a);
void discovery_node_remove(struct discovery_node **n);
/* Connects when it is not connected, or was to another address than its name has now. */
MUST_CHECK bool discovery_node_open(struct discovery_node *n);
/* Asks for CLUSTER NODES unless that waits already. */
void discovery_node_ask(struct discovery_node *n);
/* Asks ROLE unless that waits already; connects when the time for that has come. */
void discovery_node_probe(struct discovery_node *n);
/* Logs what is wrong with a node, once until it changes; NULL: nothing any more. */
void discovery_node_complain(struct discovery_node *n, const char *what);
/* Closes connections that owe an answer for too long. */
void discovery_nodes_expire(struct discovery_cluster *c, uint64_t now_ms);
extern const struct node_query_ops discovery_node_ops;

/* --- one cluster --- */

struct discovery_cluster {
    struct discovery_watch watch;
    const struct config_upstream *conf;
    const struct config_topology *times;
    uint32_t ride_through_ms;
    size_t index; /* of the upstream */
    struct loop *loop;
    struct resolver *resolver;
    struct node_query_env env;
    discovery_publish_fn *publish;
    void *arg;
    uint64_t random; /* state of the jitter */

    struct list_node nodes;
    struct slotmap *map;               /* published last; NULL: none yet */
    struct discovery_node **map_nodes; /* the node at the address of each of the map's */
    uint64_t version;

    bool wished;    /* seen, and no round has begun since */
    bool urgent;    /* a round as soon as the rate allows */
    bool use_seeds; /* the seeds are asked too */
    bool silent;    /* nobody answered the last round */
    uint64_t complained_ms;

    uint64_t round; /* number of the round that runs, or ran last; 0: none */
    bool running;
    bool forced; /* the next map is published even when nothing has changed */
    bool judged; /* the round's first map has been made */
    struct cluster_builder *builder;
    size_t told; /* answers in the builder */
    uint64_t started_ms;
    uint64_t judge_ms; /* when to make a map of what has come in; UINT64_MAX: not before the end */
    uint64_t due_ms;   /* of the next periodic round */
    struct ev_timer timer, probe_timer;

    uint64_t contradicted_ms; /* since when answers have claims that the guard holds off; 0: no */
};

/* Does what is due and sets the timer for what comes next. After every event. */
void discovery_cluster_step(struct discovery_cluster *c);
/* A node's answer to CLUSTER NODES; NULL: there will be none in this round. */
void discovery_cluster_hear(struct discovery_cluster *c, struct discovery_node *n,
                            const redisReply *r);
/* Publishes m (one reference is taken) as the new map. */
void discovery_cluster_publish(struct discovery_cluster *c, struct slotmap **m, const char *why);
/* ms +-20 %, so that several processes do not act in step. */
uint64_t discovery_jitter(struct discovery_cluster *c, uint64_t ms);

/* --- guard --- */

/* True when more than half of the masters of the map answered this round's question. */
bool discovery_guard_majority(struct discovery_cluster *c);
/* Corrects a map just built by what the published one knows better: see discovery_guard.c. May put
 * a copy of the published map in its place. */
void discovery_guard_apply(struct discovery_cluster *c, struct slotmap **m, bool complete);
struct slotmap *discovery_guard_copy(const struct slotmap *m);

/* --- failover --- */

/* Compares the map with the state of its masters; starts or stops the probing. True while a master
 * with slots is out of reach. */
bool discovery_failover_check(struct discovery_cluster *c);
/* A node's answer to ROLE. */
void discovery_failover_role(struct discovery_cluster *c, struct discovery_node *n,
                             const redisReply *r);
void discovery_failover_tick(struct ev_loop *ev, struct ev_timer *w, int revents);

#endif
