/*
 * client_list.h - one client as CLIENT LIST shows it.
 * Layer: session. Thread: the worker of the client.
 */
#ifndef SESSION_CLIENT_LIST_H
#define SESSION_CLIENT_LIST_H

#include "session/client.h"

#define CLIENT_LINE_MAX 1024

/* What CLIENT LIST and CLIENT KILL call a type. NONE: masters and replicas, which no client is. */
enum client_type {
    CLIENT_TYPE_ANY,
    CLIENT_TYPE_NORMAL,
    CLIENT_TYPE_PUBSUB,
    CLIENT_TYPE_NONE,
};

/* Reads argument i. False: the error has been written to `out`. */
bool client_type_parse(const struct resp_request *r, uint32_t i, enum client_type *type,
                       struct chain *out);

bool client_type_is(enum client_type type, const struct client *c);

/* Writes the client's line, newline included; returns its length. */
size_t client_line(struct client *c, char line[CLIENT_LINE_MAX]);

/* Its two ends, as CLIENT LIST shows them. */
void client_addresses(const struct client *c, char peer[ADDR_TEXT_MAX], char local[ADDR_TEXT_MAX]);

#endif
