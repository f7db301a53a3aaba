/*
 * profile.h - what makes two connections to one node interchangeable.
 *
 * Clients with the same profile share connections; a client that changes dialect, user, database or
 * read-only mode merely moves to another profile, and no reply ever needs translation. A profile is
 * known by its index, which stays the same as long as somebody refers to it: a client, a
 * connection, the upstream that it belongs to.
 * Layer: backend. Thread: one worker. Owner: the table, for the worker's life.
 */
#ifndef BACKEND_PROFILE_H
#define BACKEND_PROFILE_H

#include "base/check.h"

/* Profiles below this number have their connections in the node itself. */
#define PROFILE_NEAR 128
#define PROFILE_MAX UINT16_MAX

struct profile {
    uint8_t proto; /* 2 or 3 */
    bool readonly; /* READONLY is sent: reads from a replica */
    bool no_touch; /* CLIENT NO-TOUCH ON is sent: commands leave keys' idle times alone */
    bool guest;    /* a client's own credentials, or none: that a server refuses them says nothing
                      about the server, and is the answer to the requests that wait */
    bool bare;     /* nothing is sent when it is opened: it is for AUTH */
    bool db_first; /* db was selected before AUTH, by the user before: this one may lack the right
                      to SELECT, so another does it for him (node.opener) */
    uint16_t db;
    char *user;     /* NULL: none */
    char *password; /* NULL: no AUTH */
    uint32_t refs;  /* 0: the place is free */
};

struct profile_table {
    size_t count, cap;
    struct profile *profiles; /* moves when it grows; the texts do not */
};

/* Index of an equal profile (refs aside), added when it is new; the caller has one reference more.
 * -1 when the table is full. */
MUST_CHECK int profile_find(struct profile_table *t, const struct profile *wanted);

static inline void profile_ref(struct profile_table *t, uint16_t i)
{
    t->profiles[i].refs++;
}

/* The last reference gone, its texts are wiped and its place is free. */
void profile_unref(struct profile_table *t, uint16_t i);

/* True when both stand for the same user with the same password. */
bool profile_same_user(const struct profile *a, const struct profile *b);

void profile_table_deinit(struct profile_table *t);

#endif
