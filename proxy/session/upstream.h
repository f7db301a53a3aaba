/*
 * upstream.h - one worker's view of one upstream: slot -> node, and what is special about a slot.
 *
 * A slot map is adopted whole; between two maps a MOVED reroutes its slot at once (an override that
 * the next map replaces). Every change of a slot's route gets a new epoch, by which the session
 * notices requests that are still under way on the old route.
 * Layer: session. Thread: one worker. Owner: the worker.
 */
#ifndef SESSION_UPSTREAM_H
#define SESSION_UPSTREAM_H

#include "command/learnt.h"
#include "session/env.h"

struct upstream {
    struct session_env *env;
    size_t index; /* in env->upstreams and the configuration */
    const struct config_upstream *config;
    struct slotmap *map;     /* never NULL */
    struct list_node nodes;  /* struct node.link */
    struct node **map_nodes; /* by index in the map */
    size_t map_node_count;
    bool single; /* all keys are on one server */
    bool known;  /* a server has said its version */
    uint32_t epoch;
    uint16_t base_profile[2]; /* RESP2 and RESP3 with the configured credentials */
    bool guests_vary;         /* not everybody is let in without AUTH, or not always */
    bool guests_refused;      /* not now, as far as is known ... */
    uint64_t guests_us;       /* ... since then (clock_us) */
    uint64_t guests_doubt_us; /* a command that may have changed that came by then */
    struct node **numbered;   /* by node.number; the first is NULL, for slots nobody claims */
    uint32_t number_count;
    uint16_t route[SLOT_COUNT];       /* numbers, and not pointers: it stays in the near caches */
    uint32_t slot_epoch[SLOT_COUNT];  /* when the route last changed */
    uint8_t unstable[SLOT_COUNT / 8]; /* has answered ASK or TRYAGAIN, or the map says so */
    struct learnt *learnt;            /* commands beyond the table; NULL: not told yet */
    struct list_node hubs; /* struct hub.link: of users that listen, here or in another worker */
    struct waits *waits;   /* NULL until a client asks for WAIT */
    struct monitor_hub *monitors; /* NULL until a client asks for MONITOR */
    uint64_t sweep_ms;            /* nodes that no map names are closed after this */
};

/* The node that serves a slot; NULL: nobody claims it. */
static inline struct node *upstream_route(const struct upstream *u, uint32_t slot)
{
    return u->numbered[u->route[slot]];
}

struct upstream *upstream_new(struct session_env *env, size_t index);
void upstream_free(struct upstream **u);

/* Takes over the caller's reference to a new map and routes by it. */
void upstream_adopt(struct upstream *u, struct slotmap *m);

/* Routes a slot to the node a MOVED named, until the next map. */
void upstream_override(struct upstream *u, uint16_t slot, struct node *n);

/* The node of this address or announced host name, created when the address is numeric and new;
 * NULL for an unknown name. */
struct node *upstream_node(struct upstream *u, const struct addr *a);

/* The slots of n go another way from now on: its shared connection is another one. */
void upstream_route_changed(struct upstream *u, const struct node *n);

static inline bool upstream_is_unstable(const struct upstream *u, uint16_t slot)
{
    return u->unstable[slot >> 3] >> (slot & 7) & 1;
}

static inline void upstream_set_unstable(struct upstream *u, uint16_t slot)
{
    u->unstable[slot >> 3] |= (uint8_t)(1u << (slot & 7));
}

/* The master of a keyless command: the same for one seed (a client's id) while the map lasts. NULL
 * when there is none. */
struct node *upstream_any_master(const struct upstream *u, uint64_t seed);

/* The lowest redis_version of its servers as far as they are known; "0.0.0" while u->known is
 * false. (From the first map on a connection is opened for it, without waiting for a client's
 * need.) */
const char *upstream_version(const struct upstream *u);
/* The same of their valkey_version; NULL: they are not all Valkey. */
const char *upstream_valkey(const struct upstream *u);
/* True when all of them are that version or a later one ("7.2.0"; Valkey says 7.2.4). */
bool upstream_is_from(const struct upstream *u, const char *version);
/* True when all of them are that version of Valkey or a later one ("8.0.0"). */
bool upstream_is_valkey_from(const struct upstream *u, const char *version);

/* Timeouts of its connections; closes nodes that are no longer named. */
void upstream_tick(struct upstream *u, uint64_t now_ms);

#endif
