/*
 * client_list.h - one client as CLIENT LIST shows it.
 * Layer: session. Thread: the worker of the client.
 */
#ifndef SESSION_CLIENT_LIST_H
#define SESSION_CLIENT_LIST_H

#include "session/client.h"

#define CLIENT_LINE_MAX 1024

/* Writes the client's line, newline included; returns its length. */
size_t client_line(struct client *c, char line[CLIENT_LINE_MAX]);

/* Its two ends, as CLIENT LIST shows them. */
void client_addresses(const struct client *c, char peer[ADDR_TEXT_MAX], char local[ADDR_TEXT_MAX]);

#endif
