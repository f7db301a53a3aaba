/*
 * info_own.h - what INFO tells of the proxy itself: its identity in place of the servers', and a
 * section "Keyway".
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_INFO_OWN_H
#define SESSION_INFO_OWN_H

#include "session/client.h"
#include "session/info_merge.h"

/* The sections of one INFO. */
struct info_wanted {
    bool normal; /* no section named, "default", "all" or "everything" */
    bool server, clients, persistence, stats, replication, cluster, keyway;
    bool servers; /* something that the servers are asked for */
};

void info_wanted_read(const struct resp_request *r, struct info_wanted *out);

/* The request that the servers get: names in lower case, so that equal requests are equal bytes.
 * False: no section is asked for that a server could have. */
MUST_CHECK bool info_request_write(const struct resp_request *r, struct chain *out);

/* Sets in t what the proxy answers for itself as c's listener sees it. Without any server's text
 * these are all the fields. */
void info_own_identity(struct info_text *t, const struct client *c, const struct info_wanted *w);

/* The section "Keyway". */
void info_own_keyway(struct info_text *t, const struct client *c);

#endif
