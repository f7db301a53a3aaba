/*
 * local.h - the commands that the proxy answers by itself.
 *
 * A handler composes its reply; local_dispatch puts it in the client's order. Handlers that change
 * what connection the client uses are barriers: they run when nothing of it is under way.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_LOCAL_H
#define SESSION_LOCAL_H

#include "session/dispatch.h"

/* Composes the reply to r into out. Nothing composed: the handler answers by itself (later, or by
 * closing the client). */
typedef void local_fn(struct client *c, const struct command *cmd, const struct resp_request *r,
                      struct chain *out);

#define LOCAL(name) local_fn local_##name;
#include "command/local.def"
#undef LOCAL

/* Begins the definition of a handler; UNUSED is for the arguments that most do without. */
#define HANDLER(name)                                                                              \
    void local_##name(struct client *c, const struct command *cmd, const struct resp_request *r,   \
                      struct chain *out)
#define UNUSED (void)c, (void)cmd, (void)r

enum dispatch_result local_dispatch(struct client *c, const struct command *cmd,
                                    const struct resp_request *r);

/* Only composes: the reply of one that answers at once. */
void local_compose(struct client *c, const struct command *cmd, const struct resp_request *r,
                   struct chain *out);

/* Composes "wrong number of arguments for ...". */
void local_arity_error(const struct command *cmd, struct chain *out);

/* Composes what redis-server says to a subcommand of `container` with too many arguments. */
void local_subcommand_error(const struct resp_request *r, const char *container, struct chain *out);

/* Composes the reply of a HELP: an array of lines. */
void local_help(const char *const *lines, size_t count, struct chain *out);

/* The dialect that a HELLO sets, if those who check its AUTH agree; 0: it sets none, because it
 * names none or will be refused. */
uint8_t hello_proto(const struct resp_request *r);

/* False for what the servers at hand do not know either: it is answered as an unknown subcommand.
 */
bool local_is_offered(const struct client *c, enum command_local l);

/* True for a DEBUG that servers are asked, false for one that the proxy refuses. */
bool debug_is_passed(const struct resp_request *r);

/* A server's whole reply to CONFIG GET, as the proxy tells it. */
void config_get_compose(const struct client *c, const char *reply, size_t len, struct chain *out);

/* The client's dialect: replies and its profile follow. False: there are too many profiles. */
MUST_CHECK bool local_set_proto(struct client *c, uint8_t proto);

/* The client's database: false when there are too many profiles. */
MUST_CHECK bool local_set_db(struct client *c, uint16_t db);

#endif
