/*
 * gather.h - a question to all workers, answered to the client that is held meanwhile.
 * Layer: session. Thread: `collect` runs in each worker in turn, `finish` in the asking one.
 */
#ifndef SESSION_GATHER_H
#define SESSION_GATHER_H

#include "base/chain.h"
#include "net/mailbox.h"

struct session_env;

struct gather {
    struct mail mail;    /* used by the worker layer */
    unsigned from, next; /* asking worker; the one to visit next */
    char *text;          /* grows; owned by the gather */
    size_t len, cap;
    int64_t number; /* a sum, for those that count */
    void (*collect)(struct gather *g, struct session_env *env);
    void (*finish)(struct gather *g, struct session_env *env); /* ends with gather_free */
    uint64_t client; /* id of the asking client: it may be gone by then */
    void *data;      /* malloc'ed; freed with the gather */
};

/* Appends to g->text. */
void gather_append(struct gather *g, const char *p, size_t n);

/* For all workers, this one at once, without an answer to wait for. `data` is malloc'ed, and
 * belongs to the gather from here on. */
void gather_tell(struct session_env *env, void (*collect)(struct gather *, struct session_env *),
                 void *data);

/* Frees it with its text and data. */
void gather_free(struct gather *g);

#endif
