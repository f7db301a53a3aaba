/*
 * profile.h - what makes two connections to one node interchangeable.
 *
 * Clients with the same profile share connections; a client that changes dialect, user, database or
 * read-only mode merely moves to another profile, and no reply ever needs translation.
 * Layer: backend. Thread: one worker. Owner: the table, for the worker's life.
 */
#ifndef BACKEND_PROFILE_H
#define BACKEND_PROFILE_H

#include "base/check.h"

/* Two dialects for each of the 64 upstreams there may be. */
#define PROFILE_MAX 128

struct profile {
    uint8_t proto; /* 2 or 3 */
    bool readonly; /* READONLY is sent: reads from a replica */
    uint16_t db;
    char *user;     /* NULL: none */
    char *password; /* NULL: no AUTH */
};

struct profile_table {
    size_t count;
    struct profile profiles[PROFILE_MAX];
};

/* Index of an equal profile, added when it is new; -1 when the table is full. */
MUST_CHECK int profile_find(struct profile_table *t, const struct profile *wanted);

void profile_table_deinit(struct profile_table *t);

#endif
