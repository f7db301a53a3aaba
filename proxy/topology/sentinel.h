/*
 * sentinel.h - what Redis Sentinel says, read: answers about masters, and events. No I/O.
 *
 * Formats: https://redis.io/docs/management/sentinel/ (Redis 2.8 to 8, Valkey). SENTINEL MASTER,
 * REPLICAS and SENTINELS describe an instance by a flat list of names and values; an event is a
 * channel ("+switch-master") and a line of words.
 * Layer: topology. Thread: any. Owner: the texts are the caller's; nothing is kept.
 */
#ifndef TOPOLOGY_SENTINEL_H
#define TOPOLOGY_SENTINEL_H

#include "base/addr.h"

#define SENTINEL_NAME_MAX 128

struct sentinel_text {
    const char *data;
    size_t len;
};

/* One description. What is not told is 0, or an empty address. */
struct sentinel_instance {
    char name[SENTINEL_NAME_MAX + 1]; /* a master's; cut when it is longer */
    struct addr addr;
    uint64_t config_epoch;
    uint64_t failover_timeout_ms;
    bool down; /* flagged s_down, o_down or disconnected */
};

/* Reads names and values in turn. False when there is no usable address. */
MUST_CHECK bool sentinel_read_instance(const struct sentinel_text *fields, size_t count,
                                       struct sentinel_instance *out);

/* "host" and "port" as two texts: the answer of SENTINEL GET-MASTER-ADDR-BY-NAME. */
MUST_CHECK bool sentinel_read_addr(const struct sentinel_text *host,
                                   const struct sentinel_text *port, struct addr *out);

enum sentinel_event_kind {
    SENTINEL_EVENT_OTHER,    /* of no meaning for routing */
    SENTINEL_EVENT_SELECTED, /* +selected-slave: `to` is to be promoted */
    SENTINEL_EVENT_SWITCHED, /* +switch-master: from, to */
    SENTINEL_EVENT_ABORTED,  /* -failover-abort-*: all stays as it was */
    SENTINEL_EVENT_NEWS,     /* something of this master changed: worth asking again */
};

struct sentinel_event {
    enum sentinel_event_kind kind;
    char master[SENTINEL_NAME_MAX + 1]; /* its name */
    struct addr from, to;               /* where the kind has them */
};

/* False when it is not an event with a master's name, or is malformed. */
MUST_CHECK bool sentinel_read_event(struct sentinel_text channel, struct sentinel_text message,
                                    struct sentinel_event *out);

#endif
