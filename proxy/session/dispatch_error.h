/*
 * dispatch_error.h - the errors that a request is answered with at once, in the client's order.
 *
 * The words are redis-server's where it has some for the case. All return DISPATCH_DONE.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_DISPATCH_ERROR_H
#define SESSION_DISPATCH_ERROR_H

#include "session/dispatch.h"
#include "session/error.h"

enum dispatch_result dispatch_error(struct client *c, const struct command *cmd, enum error_id id);

/* In words that only one place has; cmd may be NULL: no command was found. */
enum dispatch_result dispatch_error_text(struct client *c, const struct command *cmd,
                                         const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Of EXEC: ends WATCH as well. */
enum dispatch_result dispatch_wrong_arity(struct client *c, const struct command *cmd);

/* No command of this name is known. */
enum dispatch_result dispatch_unknown_command(struct client *c, const struct resp_request *r);

/* True for what the table knows and the servers at hand do not. */
bool dispatch_is_unknown(const struct client *c, const struct command *cmd);
/* Says of such a command what they would. */
enum dispatch_result dispatch_unknown(struct client *c, const struct command *cmd,
                                      const struct resp_request *r);

/* cmd is a container, or one of its rows, and its subcommand is missing or unknown. */
enum dispatch_result dispatch_unknown_subcommand(struct client *c, const struct command *cmd,
                                                 const struct resp_request *r);

/* Answers "ERR KEYWAY <CMD><what>". */
enum dispatch_result dispatch_refused(struct client *c, const struct command *cmd,
                                      const char *what);

/* A route that is none: ROUTE_UNSUPPORTED. */
enum dispatch_result dispatch_unsupported(struct client *c, const struct command *cmd);

/* Answers a protocol error and closes the client behind it. */
void dispatch_protocol_error(struct client *c, const char *text);

#endif
