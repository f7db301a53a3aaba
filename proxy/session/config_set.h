/*
 * config_set.h - CONFIG SET of what the proxy itself holds to.
 *
 * `timeout` is set here: the time after which idle clients are closed, for those of all workers,
 * until the process ends. What is set with it goes to the servers first: when one of them refuses,
 * `timeout` stays. Everything else that CONFIG GET tells of the proxy is refused, for nothing would
 * come of it at the servers.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_CONFIG_SET_H
#define SESSION_CONFIG_SET_H

#include "session/client.h"
#include "session/dispatch.h"

/* True: it was answered, or has to wait: *result is what the dispatcher returns. False for any
 * other command, and for a CONFIG SET that is for the servers. */
MUST_CHECK bool config_set_takes(struct client *c, const struct command *cmd,
                                 const struct resp_request *r, enum dispatch_result *result);

/* CONFIG SET of what CONFIG GET tells of the proxy itself: true, with an error, for nothing would
 * come of it. False for any other command. */
MUST_CHECK bool config_set_refuses(struct client *c, const struct command *cmd,
                                   const struct resp_request *r);

#endif
