/*
 * node.h - one server as a worker sees it: its connections by profile, its back-off, its outage.
 *
 * Layer: backend. Thread: one worker. Owner: the worker's upstream; a node outlives the slot maps
 * that name it until its last connection is closed.
 */
#ifndef BACKEND_NODE_H
#define BACKEND_NODE_H

#include "backend/beconn.h"
#include "base/addr.h"

struct node {
    MAGIC_FIELD;
    struct backend_env *env;
    struct addr addr;
    struct sockaddr_any target;
    struct beconn *shared[PROFILE_NEAR]; /* by profile */
    struct beconn **far;                 /* of the profiles from PROFILE_NEAR on */
    uint32_t far_count;
    uint32_t shared_count;  /* connections in both; at most env->max_profiles */
    struct list_node conns; /* all connections, struct beconn.link; see node_walk */
    struct list_walk *walks;
    struct list_node idle; /* clean exclusive connections that nobody has leased */
    uint32_t idle_count;
    uint32_t idle_low;           /* the fewest since the last trim */
    uint64_t trim_ms;            /* when idle ones that were not needed are closed next */
    struct list_node spare;      /* idle ones that others lend: see node_lend */
    uint32_t leased;             /* exclusive connections that exist, idle ones included */
    uint32_t failures;           /* failed attempts in a row */
    uint64_t retry_at_ms;        /* no new attempt before */
    uint32_t broken;             /* connections in a row that broke soon after they were ready */
    uint32_t again;              /* requests sent again that are under way */
    uint32_t in_vain;            /* those that came to nothing lately; retry_budget go a second */
    uint64_t in_vain_ms;         /* when they were counted down last */
    uint64_t outage_ms;          /* since when it cannot serve; 0: it can */
    uint64_t silent_ms;          /* when its silence was last told of */
    uint16_t number;             /* under which the upstream's slots name it */
    uint16_t opener;             /* profile of the user who selects databases for those who may
                                    not (profile.db_first) */
    uint16_t mark;               /* one bit, for sets of nodes; more than 16 share them */
    bool restarted;              /* a handshake has found another process there than before */
    bool in_map;                 /* the current slot map names it */
    bool held;                   /* about to be replaced: its outage ends with a new map only */
    bool displaced;              /* the slots it had are others': what a silent server was not sent
                                    goes to them */
    uint64_t replaced_ms;        /* when another took its place: what it then owes is awaited for
                                    NODE_REPLACED_MS; 0: nothing is owed */
    uint64_t left_ms;            /* when that was last */
    uint64_t max_bulk;           /* the server's proto-max-bulk-len; 0: not known */
    char run_id[RUN_ID_LEN + 1]; /* of the server process; empty: not known */
    char version[24];            /* its redis_version; empty: not known */
    char valkey[24];             /* its valkey_version; empty: it is none, or not known */
    bool probe_multi;            /* a handshake tries MULTI even where no user is configured */
    uint32_t holds;              /* requests that name it as their ASK target */
    struct list_node link;       /* upstream's nodes */
    void *user;                  /* the upstream */
};

struct node *node_new(struct backend_env *env, const struct addr *a,
                      const struct sockaddr_any *target);
/* Closes all its connections (lost() is called for their requests) and frees it. */
void node_free(struct node **n);

/* The shared connection of a profile, opened when there is none. NULL while the node cannot be
 * connected to (back-off), or while env->max_profiles others are all at work. */
struct beconn *node_open_shared(struct node *n, uint16_t profile);

/* The shared connection of a profile if there is one. */
static inline struct beconn *node_shared_now(const struct node *n, uint16_t profile)
{
    if (LIKELY(profile < PROFILE_NEAR))
        return n->shared[profile];
    return profile - PROFILE_NEAR < (int)n->far_count ? n->far[profile - PROFILE_NEAR] : NULL;
}

static inline struct beconn *node_shared(struct node *n, uint16_t profile)
{
    struct beconn *c = node_shared_now(n, profile);

    return LIKELY(c != NULL) ? c : node_open_shared(n, profile);
}

/* True while somebody outside the slot map refers to it. */
static inline bool node_is_named(const struct node *n)
{
    return n->holds > 0;
}

/* A walk over all its connections: whatever is closed meanwhile, which the callbacks of one may do
 * to another. To be gone on with up to NULL. */
static inline void node_walk(struct node *n, struct list_walk *w)
{
    list_walk_begin(&n->walks, w, &n->conns);
}

static inline struct beconn *node_walk_next(struct node *n, struct list_walk *w)
{
    struct list_node *at = list_walk_next(&n->walks, w, &n->conns);

    return at != NULL ? CONTAINER_OF(at, struct beconn, link) : NULL;
}

/* An exclusive connection; NULL while the node is in back-off or at its limit. */
MUST_CHECK struct beconn *node_lease(struct node *n, uint16_t profile);
/* Room for one more of them; an idle one, or a lent one, is closed for it. False:
 * backend.max_leased are in use. */
MUST_CHECK bool node_lease_room(struct node *n);
/* True when node_lease would fail for backend.max_leased. */
bool node_lease_full(const struct node *n);
/* An exclusive connection of the caller's own (its ops end what hangs on it) has nothing to do:
 * where room is needed it is closed. */
void node_lend(struct beconn *c);
/* The caller uses it again. */
void node_unlend(struct beconn *c);
/* Gives it back: kept when it is clean (ready, nothing in flight), else closed. */
void node_return(struct beconn **c);

/* How long the replies of a node are awaited whose place another has taken. */
#define NODE_REPLACED_MS 1000
/* Another node has its place: its connections finish what they have, and close. */
void node_replaced(struct node *n);

/* A connection of the caller's own, with ops of its own (env); it is ended by beconn_close. NULL
 * while the node is in back-off. */
MUST_CHECK struct beconn *node_open_own(struct node *n, struct backend_env *env, uint16_t profile);

/* Takes a connection out of the shared set: it finishes what it has and closes. */
void node_retire(struct beconn *c);

/* Takes it out of the shared set, and nothing else. */
void node_leave_shared(struct beconn *c);

/* An attempt to reach the node failed: back-off with jitter, the outage begins. */
void node_failed(struct node *n);
/* A connection of it became ready. */
void node_recovered(struct node *n);
/* Ends the outage of a node that nobody has tried for quiet_ms, though it could have been: nobody
 * knows whether it goes on. Who comes next shall wait for an outage of his own, if there is one. */
void node_forget_outage(struct node *n, uint64_t now_ms, uint32_t quiet_ms);
/* A ready connection broke under requests. One that does so soon after the other is opened with a
 * delay that grows like that of failed attempts, though the server can be reached. */
void node_broke(struct node *n, const struct beconn *c);

/* The retry budget: a request that has been sent before may be sent to n. To be followed by
 * node_retry_end; false: not now. */
MUST_CHECK bool node_retry_begin(struct node *n, uint64_t now_ms);
/* It came back; in vain: as a refusal, or with its connection lost. */
void node_retry_end(struct node *n, bool in_vain);

/* Called by a connection that closes. */
void node_forget(struct node *n, struct beconn *c);

/* Timeouts of its connections. */
void node_tick(struct node *n, uint64_t now_ms);

/* True, once in so many milliseconds, when a shared connection has owed a reply for as long and
 * nothing came: the server may be hanging, or be cut off. */
bool node_fell_silent(struct node *n, uint64_t now_ms, uint32_t ms);

#endif
