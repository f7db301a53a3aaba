/*
 * config.h - every setting of the proxy, with its default and its bounds.
 *
 * The fields' names are the YAML keys ("client.max_pipeline" is struct config_client,
 * max_pipeline). conf/keyway.yaml describes each for the operator. Sizes are bytes, times
 * milliseconds unless the name says otherwise.
 * Layer: config. Thread: immutable once loaded; any thread reads. Owner: main.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/addr.h"
#include "base/log.h"

enum config_upstream_kind {
    UPSTREAM_CLUSTER,
    UPSTREAM_SERVER,
    UPSTREAM_SENTINEL,
};

/* How the slots are dealt to several Sentinel masters. */
enum config_distribution {
    DISTRIBUTION_RANGES,
    DISTRIBUTION_KETAMA,
};

enum config_pretend {
    PRETEND_STANDALONE,
    PRETEND_CLUSTER,
};

/* A server that is reached elsewhere than where it says it is. */
struct config_mapping {
    struct addr announced, dialled; /* both port 0: every port, and it stays the same */
};

/* Who checks what a client says with AUTH. */
enum config_auth {
    AUTH_AUTO,    /* until config_finish; then: nobody has to say it, the upstream's is accepted */
    AUTH_SERVERS, /* the servers; each user has connections of its own */
    AUTH_PROXY,   /* the proxy, and everybody has to say it */
    AUTH_NONE,    /* there is nothing to check */
};

struct config_upstream {
    char *name;
    enum config_upstream_kind kind;
    struct addr *seeds; /* nodes of the cluster; the one server; some of the Sentinels */
    size_t seed_count;
    char *user;     /* NULL: none (AUTH password only, or no AUTH) */
    char *password; /* NULL: none */
    char **masters; /* UPSTREAM_SENTINEL: their names, shard by shard */
    size_t master_count;
    char *sentinel_user, *sentinel_password; /* for AUTH at the Sentinels; NULL: none */
    enum config_distribution distribution;
    struct config_mapping *address_map; /* "HOST:PORT" before "HOST:*" */
    size_t address_map_count;
};

struct config_listener {
    struct addr address;
    char *upstream; /* name of an upstream; NULL: the first */
    enum config_pretend pretend;
    struct addr announce;  /* where clients are told it is; empty host: where they connected to */
    char *sentinel_master; /* the only name SENTINEL knows; NULL: any */
    enum config_auth auth;
    char *user, *password; /* AUTH_PROXY: what clients have to say; NULL: the upstream's */
    uint32_t protect;      /* 1: whoever reaches it may not use the upstream's password just so,
                              unless it is reached from this machine only */
};

struct config_client {
    uint32_t max_clients;         /* 10000: connections in all; more are refused with an error */
    uint32_t max_pipeline;        /* 1024: requests in flight of one client */
    uint64_t max_inflight_bytes;  /* 64 MiB: unanswered request bytes of one client */
    uint64_t output_pause;        /* 32 MiB unread: its requests are no longer parsed */
    uint64_t read_ahead;          /* 64 MiB: of its requests that are read all the same, if it
                                     writes them all before it reads an answer */
    uint64_t output_max;          /* 1 GiB unread: closed */
    uint64_t output_max_pubsub;   /* 32 MiB unread while it listens to channels: closed */
    uint32_t output_stall_ms;     /* 60 s with unread output and no byte taken: closed */
    uint32_t idle_timeout_ms;     /* 0 = never */
    uint32_t tcp_keepalive_s;     /* 300; 0 = off */
    uint32_t tcp_user_timeout_ms; /* 0 = the kernel's own */
    uint64_t max_bulk;            /* 512 MiB: one argument */
    uint64_t max_request;         /* 1 GiB: a whole request */
    uint32_t tx_max_commands;     /* 50000: between MULTI and EXEC */
    uint64_t tx_max_bytes;        /* 64 MiB: of them */
};

struct config_backend {
    uint32_t connect_timeout_ms;  /* 1000 */
    uint32_t request_timeout_ms;  /* 5000: no reply for so long: connection dropped; 0 = never */
    uint32_t silence_ms;          /* 100: no reply for so long: nothing more is sent; 0 = never */
    uint64_t max_inflight_bytes;  /* 256 MiB: unanswered bytes on one connection */
    uint32_t max_redirects;       /* 16 */
    uint32_t ride_through_ms;     /* 15000 */
    uint64_t ride_through_bytes;  /* 256 MiB held for shards without an owner, per worker */
    uint32_t retry_min_ms;        /* 10: first reconnect delay */
    uint32_t retry_max_ms;        /* 1000: largest reconnect delay */
    uint32_t retry_budget;        /* 1000 requests sent again, per worker and node: see node.h */
    uint64_t large_request;       /* 64 KiB: handed over by reference on a leased connection */
    uint64_t large_reply;         /* 1 MiB: streamed */
    uint32_t lane_stall_ms;       /* 1000: others wait so long behind a reply read slowly */
    uint32_t max_leased;          /* 1000 exclusive connections, per worker and node */
    uint32_t max_profiles;        /* 64 shared connections per worker and node */
    uint32_t tcp_keepalive_s;     /* 60 */
    uint32_t tcp_user_timeout_ms; /* 0 = the kernel's own */
};

struct config_topology {
    uint32_t refresh_ms;       /* 5000: periodic refresh, +-20 % jitter */
    uint32_t refresh_per_s;    /* 5: full refreshes a second at most */
    uint32_t resolve_ms;       /* 30000: names are resolved again */
    uint32_t probe_ms;         /* 10: ROLE to replicas of a shard without an owner */
    uint32_t query_timeout_ms; /* 1000: an answer of one node to CLUSTER NODES */
};

struct config {
    struct config_listener *listeners;
    size_t listener_count;
    struct config_upstream *upstreams;
    size_t upstream_count;
    uint32_t workers;    /* 0 in YAML: the CPUs the process may use; resolved by config_finish */
    uint64_t memory_max; /* 0 = no limit; beyond it the client that holds most is closed */
    enum log_level log_level;
    char *log_file;               /* NULL: standard error */
    uint32_t shutdown_timeout_ms; /* 10000: SIGTERM waits so long for replies in flight */
    bool split_multikey;          /* true */
    bool admin_commands;          /* false: commands with CMD_GUARDED are refused */
    bool learn_commands;          /* true: commands the table lacks are learnt from the servers */
    uint64_t scripts_max_bytes;   /* 16 MiB per worker: bodies remembered for NOSCRIPT; 0 = none */
    struct config_client client;
    struct config_backend backend;
    struct config_topology topology;
};

/* A configuration of defaults only: no listener, no upstream. */
struct config *config_new(void);
void config_free(struct config **c);

/* Reads a YAML file over the defaults. On failure returns false and err holds one line:
 * "FILE:LINE: KEY: what was wrong, what was expected". Unknown and repeated keys are errors. */
MUST_CHECK bool config_load_yaml(struct config *c, const char *path, char *err, size_t errlen);
/* The same from memory (tests, fuzzing); `name` stands for the file in messages. */
MUST_CHECK bool config_load_yaml_text(struct config *c, const char *name, const char *text,
                                      size_t len, char *err, size_t errlen);

/* Fills what was left open (listener 127.0.0.1:7600, workers from the CPU set) and checks what only
 * the whole shows: at least one upstream, listeners naming known upstreams, limits that fit. */
MUST_CHECK bool config_finish(struct config *c, char *err, size_t errlen);

/* Where a server is dialled that calls itself so. */
struct addr config_dialled(const struct config_upstream *u, const struct addr *announced);

/* True when all keys are on one server: nothing is split, refused or checked for slots. */
static inline bool config_is_single(const struct config_upstream *u)
{
    return u->kind == UPSTREAM_SERVER || (u->kind == UPSTREAM_SENTINEL && u->master_count == 1);
}

/* What the command line asks for. */
enum args_action {
    ARGS_RUN,
    ARGS_CHECK,
    ARGS_EXIT
};

/* Parses argv over *c (loading -c FILE first, wherever it stands) and finishes it. ARGS_RUN: *c is
 * complete. ARGS_CHECK: so it is, and a summary of it was printed. ARGS_EXIT: --help or --version
 * was answered, or an error was printed to standard error. *status is the exit code of the latter
 * two: 2 for a bad command line, 1 for a bad file. */
enum args_action args_parse(int argc, char **argv, struct config *c, int *status);

#endif
