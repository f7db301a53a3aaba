/*
 * discovery_sentinel.h - the watch over masters that Redis Sentinel watches. For
 * discovery_sentinel*.c only.
 *
 * discovery_sentinel.c has the watch, its rounds and the map; discovery_sentinel_peer.c the
 * connections to each Sentinel and what it says; discovery_sentinel_shard.c decides who is master.
 *
 * We are a client of all Sentinels. The elected leader's +selected-slave names the next master some
 * 100 ms before it is one, and the old master goes on taking writes for seconds after: so from that
 * word on the old one is held (slotmap_node.hold), and the named one's own ROLE ends the hold.
 * Layer: control. Thread: discovery. Owner: struct discovery.
 */
#ifndef CONTROL_DISCOVERY_SENTINEL_H
#define CONTROL_DISCOVERY_SENTINEL_H

#include "control/complaint.h"
#include "control/discovery_resolve.h"
#include "control/discovery_watch.h"
#include "control/node_query.h"
#include "topology/sentinel.h"

struct discovery_sentinel;

/* What one Sentinel says of one master. */
struct sentinel_word {
    bool valid;     /* it knows the master, and its connection stands */
    bool told_addr; /* the first of its answers has come */
    struct addr addr;
    uint64_t epoch;
    uint64_t failover_timeout_ms;
    size_t replica_count;
    struct sentinel_instance *replicas;
};

/* One Sentinel: a connection for questions and one for events. */
struct sentinel_peer {
    struct list_node link;
    struct discovery_sentinel *s;
    struct addr addr;
    struct node_query *ask, *events; /* both or none */
    struct sentinel_word *words;     /* one a shard */
    size_t asking;                   /* the shard it is asked about; SIZE_MAX: none */
    bool again;                      /* asked from the beginning when it is through */
    bool seed;
    bool tried;        /* it has answered or failed once */
    uint64_t named_ms; /* when another Sentinel, or the configuration, named it last */
    uint64_t retry_ms, ping_ms;
    uint32_t failures; /* in a row */
    struct complaint complaint;
};

/* What a shard's next master is expected to be, and why. */
enum candidate_kind {
    CANDIDATE_NONE,
    CANDIDATE_TOLD,  /* Sentinels call it the master: until they say otherwise */
    CANDIDATE_EVENT, /* an event named it: until deadline_ms */
};

struct sentinel_shard {
    struct discovery_sentinel *s;
    size_t index;
    const char *name;
    bool owned;
    struct addr owner;
    uint64_t epoch; /* configuration epoch of the owner */
    bool hold;      /* of the owner */

    /* The owner was taken on its own word before Sentinels say so: what they said of the one before
     * (addr, epoch) is no contradiction, until confirm_by_ms. */
    bool unconfirmed;
    struct addr before;
    uint64_t before_epoch, confirm_by_ms;

    enum candidate_kind kind;
    struct addr candidate;
    struct sentinel_peer *leader; /* whose event it was; NULL: gone */
    uint64_t deadline_ms;
    struct node_query *probe; /* to the candidate */
    bool probing;             /* ROLE waits for an answer */
    bool answers;             /* something, on this connection */
    bool unreachable;         /* the last attempt failed */
    uint32_t failures;
    uint64_t retry_ms;
};

struct discovery_sentinel {
    struct discovery_watch watch;
    struct discovery_site site;
    const struct config_upstream *conf;
    const struct config_topology *times;
    struct resolver *resolver;
    struct node_query_env peer_env, server_env;
    struct list_node peers;
    size_t peer_count;
    struct sentinel_shard *shards;
    size_t shard_count;
    struct slotmap *map; /* published last; NULL: none yet */
    uint64_t version;
    uint64_t started_ms, round_ms, due_ms;
    bool wished; /* a round as soon as the rate allows */
    bool forced; /* a map is published after the round even when nothing has changed */
    struct ev_timer probe_timer;
    uint16_t deal[SLOT_COUNT]; /* slot -> shard */
};

/* Publishes a map if it says anything new. */
void discovery_sentinel_publish(struct discovery_sentinel *s);
/* Starts the probing if a shard has a candidate, else stops it. */
void discovery_sentinel_arm(struct discovery_sentinel *s);
/* NULL: it is not one of ours. */
struct sentinel_shard *discovery_sentinel_shard(struct discovery_sentinel *s, const char *name);

/* --- one Sentinel --- */

/* Finds or adds it. */
struct sentinel_peer *sentinel_peer_know(struct discovery_sentinel *s, const struct addr *a);
void sentinel_peer_remove(struct sentinel_peer **p);
/* Asks about all shards, once what is being asked is answered. */
void sentinel_peer_ask(struct sentinel_peer *p);
/* Connects, notices silence. */
void sentinel_peer_tick(struct sentinel_peer *p, uint64_t now_ms);
extern const struct node_query_ops sentinel_peer_ops;

/* --- one shard --- */

/* Some Sentinel's word has changed. */
void sentinel_shard_consider(struct sentinel_shard *d);
void sentinel_shard_event(struct sentinel_shard *d, struct sentinel_peer *p,
                          const struct sentinel_event *e);
/* A Sentinel's connection is lost. */
void sentinel_shard_peer_lost(struct sentinel_shard *d, const struct sentinel_peer *p);
/* Asks the candidate's ROLE. */
void sentinel_shard_probe(struct sentinel_shard *d);
void sentinel_shard_tick(struct sentinel_shard *d, uint64_t now_ms);
extern const struct node_query_ops sentinel_server_ops;

#endif
