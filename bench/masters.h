/*
 * masters.h - the masters of a cluster and their slots, as the bare loop needs them: read once, at
 * the start, with blocking calls. Any surprise ends the program.
 */
#ifndef BENCH_MASTERS_H
#define BENCH_MASTERS_H

#include "base/addr.h"

enum {
    MASTERS_MAX = 256,
    SLOTS = 16384,
};

struct masters {
    size_t count;
    struct sockaddr_any at[MASTERS_MAX];
    uint8_t of_slot[SLOTS];
};

/* Asks the node "host:port" for CLUSTER NODES. */
void masters_read(struct masters *m, const char *seed);

struct sockaddr_any resolve(const char *host_port);

/* Prints what failed and errno, if any, and exits. */
void NORETURN die(const char *what);

/* result, or death when it is negative. */
int must(int result, const char *what);

#endif
