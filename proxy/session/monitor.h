/*
 * monitor.h - MONITOR: the lines of all masters for the clients of one worker that asked for them.
 *
 * However many clients monitor, each master has one connection with MONITOR of the worker; its
 * lines are passed on as they come, between the clients' replies. The connections follow the map
 * and are closed when the last client goes. A client is answered when every master has confirmed,
 * or has been tried in vain while another one has: its lines begin when it is back.
 * Layer: session. Thread: one worker. Owner: the upstream; a client's part: struct client_extra.
 */
#ifndef SESSION_MONITOR_H
#define SESSION_MONITOR_H

#include "session/client.h"

struct monitor_hub;

/* The client closes, or RESET. */
void monitor_leave(struct client *c);

/* True: cmd, which uses keys, was answered with the error that Redis has for monitors. */
MUST_CHECK bool monitor_refuses(struct client *c, const struct command *cmd);

/* A new map was adopted. */
void monitor_hub_on_map(struct monitor_hub *h);
/* From the worker's tick. */
void monitor_hub_tick(struct monitor_hub *h, uint64_t now_ms);
/* Closes its connections and frees it. After all clients are closed. */
void monitor_hub_free(struct monitor_hub **h);

#endif
