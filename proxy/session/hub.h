/*
 * hub.h - the channels that clients of one worker listen to on one upstream as one user.
 *
 * Each user has a hub of its own, so that a server's ACL decides who may listen to what.
 * However many clients listen to a channel, the hub is subscribed to it once, on a connection of
 * its own to one server (session/hub_conn.h), and fans the messages out. A channel's place is the
 * owner of its slot, where PUBLISH of it goes as well: one publisher's messages keep their order.
 * It stays there when the slot moves (the cluster passes messages on, in order) and looks for
 * another place only when the connection is lost. A sharded channel always follows its slot. A
 * pattern sits on any one master. What servers say about their keys (__keyspace@...,
 * __keyevent@...) is passed on by no cluster: a channel or pattern that can mean it has a place on
 * every master, and all but its primary one serve for nothing else.
 *
 * Each worker tells the others how many clients each of its channels has and where its place is: so
 * PUBLISH and PUBSUB can replace what the proxy adds to the servers' counts by its clients.
 * Layer: session. Thread: one worker. Owner: the upstream; a channel is freed when nobody uses it,
 * a hub when it has neither channels nor clients.
 */
#ifndef SESSION_HUB_H
#define SESSION_HUB_H

#include "base/sha1.h"
#include "base/table.h"
#include "session/upstream.h"

struct hub_conn;
struct sub_op;

enum channel_kind {
    CHANNEL_PLAIN,
    CHANNEL_PATTERN,
    CHANNEL_SHARD,
    CHANNEL_KINDS,
};

/* One subscription of the hub at one server. */
struct place {
    struct list_node of_channel, of_conn;
    struct channel *ch;
    struct hub_conn *conn;
    enum {
        PLACE_ASKED, /* SUBSCRIBE is on its way */
        PLACE_LIVE,
        PLACE_LEAVING, /* UNSUBSCRIBE is on its way */
    } state;
    /* It leaves because the last client has left: what is still on its way is for that one. */
    bool farewell, was_primary;
};

/* What one worker has of a channel. */
struct channel_share {
    uint32_t
        clients;   /* 0 until the first SUBSCRIBE was confirmed: the server counts that already */
    uint64_t node; /* hub_node_id of its place; HUB_NOWHERE, HUB_EVERYWHERE */
};

#define HUB_NOWHERE 0
#define HUB_EVERYWHERE 1

struct channel {
    struct table_node link; /* hub->channels */
    struct hub *hub;
    uint8_t kind;    /* enum channel_kind */
    bool everywhere; /* a place on every master */
    bool confirmed;  /* it has been live since it has clients: they count */
    uint16_t slot;
    uint32_t len;
    uint32_t clients;              /* members of subs that are not leaving */
    uint32_t pins;                 /* somebody is at work on it: it is not freed */
    struct list_node subs;         /* struct subscription.of_channel */
    struct place *primary;         /* where messages are taken from; NULL while there is none */
    struct list_node places;       /* struct place.of_channel, leaving ones too */
    struct list_node joins;        /* struct sub_wait: for it to be live */
    struct list_node leaves;       /* struct sub_wait: for the servers to have forgotten it */
    struct list_node wanted_link;  /* hub->wanted: it has clients */
    struct list_node pattern_link; /* hub->patterns */
    struct list_node lost_link;    /* hub->lost: places are missing */
    struct list_node dirty_link;   /* hub->dirty: the other workers do not know its state */
    uint64_t lost_ms;              /* since when it is lost */
    uint32_t sharers;              /* of shares: those that are not empty */
    struct channel_share *shares;  /* one a worker, as far as they told */
    char name[];
};

struct hub {
    struct list_node link; /* upstream's hubs */
    struct upstream *up;
    char key[SHA1_HEX_LEN + 1]; /* of its user and password: the same in all workers */
    int profile;                /* RESP3, of its connections; -1: no client of it was here yet */
    uint32_t members;           /* struct subscriber of clients */
    struct backend_env backend; /* the worker's, with ops of our own */
    struct table channels;      /* struct channel.link: this worker's and those others told of */
    struct table subscriptions; /* struct subscription.link (session/subscriber.h) */
    struct list_node wanted, patterns, lost, dirty;
    struct list_node conns;    /* struct hub_conn.link */
    struct list_node settling; /* struct sub_op.of_hub: for the other workers to know */
    struct loop_task task;     /* finds places, tells other workers */
    uint64_t told, known;      /* last batch sent to the other workers, and last one all have */
    bool stopping;
};

/* The hub of a client's user, created when it has none. NULL: there are too many profiles. */
struct hub *hub_of(struct client *c);
/* The hub with this key, created when there is none. */
struct hub *hub_of_key(struct upstream *u, const char *key);
/* Closes the connections of all hubs of u and frees them. After all clients are closed. */
void hubs_free(struct upstream *u);
/* From the worker's tick, and when a new map was adopted: all hubs of u. */
void hubs_tick(struct upstream *u, uint64_t now_ms);
void hubs_on_map(struct upstream *u);

struct channel *hub_find(const struct hub *h, enum channel_kind kind, const char *name, size_t len);
/* The same, created when there is none. */
struct channel *hub_channel(struct hub *h, enum channel_kind kind, const char *name, size_t len);
/* Frees a channel that nobody uses any more. */
void channel_put(struct channel *ch);

/* --- session/hub_place.c --- */

/* Its number of clients went up or down by one. */
void channel_joined(struct channel *ch);
void channel_left(struct channel *ch);

/* All servers that it needs and that can be reached have confirmed it. */
bool channel_is_live(const struct channel *ch);
/* Some server has yet to confirm that it forgot it. */
bool channel_is_leaving(const struct channel *ch);

/* A new map was adopted. */
void hub_on_map(struct hub *h);
/* Looks for missing places. */
void hub_retry_lost(struct hub *h);

/* --- what a connection tells --- */

void place_confirmed(struct place *p);
/* The server does not have it any more, or its connection is gone. */
void place_lost(struct place *p);
/* The server does not let us, or not here. */
void place_refused(struct place *p, const struct bereply *reply);
/* The server has forgotten it. */
void place_left(struct place *p);

/* --- session/hub_share.c --- */

uint64_t hub_node_id(const struct node *n);

/* The number of clients or the place of ch has changed: the other workers are told. */
void hub_changed(struct channel *ch);
/* Sends what has changed, when nothing is on its way. */
void hub_tell(struct hub *h);
/* op goes on (sub_op_settled) when all workers know what has changed so far. */
void hub_settle(struct hub *h, struct sub_op *op);

/* The next of u's hubs after h, the first after NULL; NULL at the end. */
struct hub *hub_next(const struct upstream *u, const struct hub *h);

/* Sums over all workers: clients of ch, those of them that a message reaches now, and how many
 * places of it the server `node` counts. */
uint32_t channel_clients(const struct channel *ch);
uint32_t channel_reached(const struct channel *ch);
uint32_t channel_places(const struct channel *ch, uint64_t node);

#endif
