/*
 * accept.h - the listening sockets: numbers each connection and hands it to a worker.
 * Layer: worker. Thread: main's. Owner: main.
 */
#ifndef WORKER_ACCEPT_H
#define WORKER_ACCEPT_H

#include "worker/worker.h"

struct acceptor;

/* Opens all listeners of the configuration. NULL when one cannot be opened; err says which and why.
 * Accepting begins with acceptor_start. */
struct acceptor *acceptor_new(const struct config *config, char *err, size_t errlen);
void acceptor_start(struct acceptor *a, struct loop *l, struct workers *ws);

/* Closes the listeners; safe before acceptor_start. */
void acceptor_free(struct acceptor **a);

#endif
