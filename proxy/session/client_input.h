/*
 * client_input.h - a client's bytes on their way to dispatch: reading, parsing, what is left over.
 * Layer: session. Thread: one worker.
 */
#ifndef SESSION_CLIENT_INPUT_H
#define SESSION_CLIENT_INPUT_H

#include "session/client.h"

extern const struct stream_ops client_stream_ops;

/* Parses what a hold or the fairness limit had left over, and reads again. */
void client_input_continue(struct client *c);

/* Once a second. stalled: c takes no output. It may be one that writes all its requests before it
 * reads any answer, and then it takes none until it is rid of them: though it is held they are read
 * and kept, up to client.read_ahead. */
void client_input_read_ahead(struct client *c, bool stalled);

/* Forgets bytes not yet parsed. */
void client_input_drop(struct client *c);

/* The client sends no more: closes it when nothing is left to parse or to answer. */
void client_input_ended(struct client *c);

/* The two stream events that session/client.c handles. */
void client_on_failed(struct stream *s, int error);
void client_on_drained(struct stream *s);

#endif
