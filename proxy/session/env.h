/*
 * env.h - what a session may see of the worker that runs it.
 *
 * The worker embeds this struct and fills it; what lies above (discovery, other workers) is reached
 * through hooks.
 * Layer: session. Thread: one worker. Owner: the worker.
 */
#ifndef SESSION_ENV_H
#define SESSION_ENV_H

#include "backend/node.h"
#include "config/config.h"
#include "resp/request.h"
#include "session/gather.h"
#include "session/metrics.h"
#include "topology/slotmap.h"

struct acl_cache;
struct client;
struct client_pause;
struct info_cache;
struct request;
struct scripts;
struct upstream;

#define CLIENT_SCRATCH (64 * 1024)
#define HOLD_TICK_MS 10

struct session_env;

struct session_hooks {
    /* The picture of an upstream is out of date; many calls make one refresh. */
    void (*want_refresh)(struct session_env *env, size_t upstream);
    /* A client sent a command that is not known: perhaps the servers have learnt it just now. */
    void (*want_commands)(struct session_env *env, size_t upstream);
    /* Runs fn for every worker's environment, in its own thread, then done in this thread; fn
     * appends what it has to text. For the rare commands that look at all clients. */
    void (*gather)(struct session_env *env, struct gather *g);
};

struct session_env {
    struct loop *loop;
    const struct config *config;
    const struct session_hooks *hooks;
    unsigned worker; /* number of this worker */
    struct backend_env backend;
    struct profile_table profiles;
    uint16_t guest_profile;             /* RESP2, without credentials */
    uint16_t auth_profile, ask_profile; /* bare connections: for AUTH, and to ask about guests */
    struct upstream **upstreams;        /* one per configured upstream */
    size_t upstream_count;
    struct list_node clients; /* struct client.link; where clients may close: clients_walk */
    struct list_walk *client_walks;
    struct list_node waiting; /* clients with refused requests, struct client_extra.wait_link */
    struct list_node long_replies; /* struct long_reply.link */
    struct list_node blocked;      /* struct blocking.link */
    struct ev_timer hold_timer;    /* runs every HOLD_TICK_MS while `waiting` has members */
    bool wake_waiting;             /* look at `waiting` before the loop sleeps */
    uint64_t idle_timeout_ms;      /* client.idle_timeout, or CONFIG SET timeout; 0: never */
    uint64_t held_bytes;           /* of refused requests: ride_through_bytes bounds it */
    char *scratch;                 /* CLIENT_SCRATCH bytes; valid within one callback */
    struct resp_limits limits;     /* of requests: the configured ones, or a server's if lower */
    struct resp_parser *parser;    /* of the bytes just read */
    struct resp_parser *reparser;  /* of requests already accepted */
    struct request *spare_requests;
    size_t spare_request_count, spare_request_low;
    uint32_t ticks;             /* of the loop, since the start */
    bool draining;              /* the process stops: clients close when they are answered */
    struct client_pause *pause; /* NULL: clients are not paused */
    struct scripts *scripts;    /* remembered bodies */
    struct info_cache *info;
    struct acl_cache *acl; /* what users may do, as the servers said */
    struct metrics metrics;
    const struct metrics *const *all_metrics; /* of all workers, for INFO */
    unsigned worker_count;
    uint64_t start_ms;  /* wall clock, when the process started */
    const char *run_id; /* of this process, RUN_ID_LEN characters */
    const char *version;
};

#endif
