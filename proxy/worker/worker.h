/*
 * worker.h - a thread with a loop of its own, and the clients and connections that live on it.
 *
 * Layer: worker. Thread: functions are called from main (and, where they say so, from others).
 * Owner: main.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <pthread.h>

#include "net/mailbox.h"
#include "session/session.h"

struct workers;

struct worker {
    struct session_env env; /* first: hooks get back to the worker from it */
    struct workers *all;
    struct loop loop;
    struct mailbox box;
    pthread_t thread;
    char name[16];
    uint64_t given;                         /* clients handed over; main's thread only */
    _Atomic(struct slotmap *) *new_maps;    /* one inbox an upstream: the latest wins */
    _Atomic(struct learnt *) *new_commands; /* the same for what servers tell of commands */
    struct client_mail *early;              /* clients that came before the servers were known */
    bool draining;
    uint64_t drain_deadline_ms;
};

/* What workers need from above. */
struct workers_hooks {
    void (*want_refresh)(void *arg, size_t upstream);  /* any worker's thread */
    void (*want_commands)(void *arg, size_t upstream); /* any worker's thread */
    void *arg;
};

struct workers {
    size_t count;
    struct worker *list;
    const struct metrics **metrics;
    const struct config *config;
    struct workers_hooks hooks;
    char run_id[RUN_ID_LEN + 1];
};

/* Creates and starts config->workers workers. `version` is the program's, for INFO. */
struct workers *workers_start(const struct config *config, const struct workers_hooks *hooks,
                              const char *version);

/* Hands an accepted socket to the worker with the fewest clients. Main's thread. */
void workers_give_client(struct workers *ws, int fd, uint64_t id, uint16_t listener);

/* Clients connected to all of them. */
unsigned workers_clients(const struct workers *ws);

/* A new map for all workers; takes over one reference. Any thread. */
void workers_publish(struct workers *ws, size_t upstream, struct slotmap *m);

/* New knowledge of an upstream's commands; the same. */
void workers_publish_commands(struct workers *ws, size_t upstream, struct learnt *l);

/* Workers answer what they have, for at most config->shutdown_timeout_ms, and end; joins them. */
void workers_stop(struct workers *ws);

/* Frees stopped workers, when nobody publishes to them any more. */
void workers_free(struct workers **ws);

#endif
