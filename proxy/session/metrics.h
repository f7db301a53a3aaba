/*
 * metrics.h - counters with one writer each; anyone may read them at any time.
 * Layer: session. Thread: written by their worker, read by all.
 */
#ifndef SESSION_METRICS_H
#define SESSION_METRICS_H

#include <stdatomic.h>

#include "base/check.h"

/* METRIC(field, kind, help): counters only grow, gauges go both ways. */
#define METRICS(METRIC)                                                                            \
    METRIC(clients, gauge, "connected clients")                                                    \
    METRIC(clients_total, counter, "clients accepted since the start")                             \
    METRIC(clients_closed, counter, "clients closed since the start")                              \
    METRIC(requests, counter, "requests received")                                                 \
    METRIC(replies_refused, counter, "refusals of servers that were handled inside")               \
    METRIC(moved, counter, "MOVED redirections followed")                                          \
    METRIC(ask, counter, "ASK redirections followed")                                              \
    METRIC(scripts_repaired, counter, "EVALSHA sent again as EVAL to a server without it")         \
    METRIC(held, gauge, "clients whose requests wait for a shard")                                 \
    METRIC(blocked, gauge, "clients that wait in a blocking command")                              \
    METRIC(unknown, counter, "writes answered with -UNKNOWN")                                      \
    METRIC(clients_closed_output, counter, "clients closed at an output limit")                    \
    METRIC(largest_client, gauge, "bytes that the client with most of them holds")                 \
    METRIC(backend_lost, counter, "connections to servers lost")

struct metrics {
#define METRIC_FIELD(name, kind, help) _Atomic uint64_t name;
    METRICS(METRIC_FIELD)
#undef METRIC_FIELD
};

/* One writer: a plain add, which other threads see whole. */
#define METRIC_ADD(m, field, n)                                                                    \
    atomic_store_explicit(&(m)->field,                                                             \
                          atomic_load_explicit(&(m)->field, memory_order_relaxed) + (uint64_t)(n), \
                          memory_order_relaxed)
#define METRIC_GET(m, field) atomic_load_explicit(&(m)->field, memory_order_relaxed)

#endif
