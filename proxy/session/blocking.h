/*
 * blocking.h - BLPOP and the like: commands that may wait at a server. So may learnt ones, whose
 * time is not known; those that may leave something behind on their connection come this way as
 * well.
 *
 * Such a command is a barrier and takes an exclusive connection for as long as it lasts; the client
 * is held meanwhile, but its socket is still read, so that a client that leaves frees its
 * connection at once (the connection is closed: the block goes with it). A demoted server or a
 * moved slot ends the block with an error that the client does not see: it blocks anew with the
 * time that remains.
 * Layer: session. Thread: one worker. Owner: the request (request.is_blocking).
 */
#ifndef SESSION_BLOCKING_H
#define SESSION_BLOCKING_H

#include "session/dispatch.h"

struct blocking;

/* Sends a command that may block. */
enum dispatch_result blocking_dispatch(struct client *c, const struct command *cmd,
                                       const struct resp_request *r);

/* True when what r did before it was interrupted is not known: a module may have begun to write. */
static inline bool blocking_may_have_acted(const struct request *r)
{
    return (r->cmd->flags & CMD_SCRIPT) != 0 && request_is_write(r);
}

/* XREAD and XREADGROUP: the position of the time behind the option BLOCK; 0: there is none. */
uint32_t blocking_option(const struct resp_request *r);

/* True when the client waits in such a command: its bytes are read, but not parsed, until enough
 * of them are there (blocking_reads_no_more). */
static inline bool blocking_is_on(const struct client *c)
{
    return c->head != NULL && c->head->is_blocking;
}

bool blocking_reads_no_more(const struct client *c);

/* The client of a blocking command sends no more: it is closed, in a moment. */
void blocking_client_ended(struct client *c);

/* r is about to be sent (again): its time is what remains. */
void blocking_prepare(struct client *c, struct request *r);
/* It was sent. */
void blocking_sent(struct request *r, struct beconn *conn, bool asking);
/* It came back: its connection is its own no more. */
void blocking_back(struct request *r);

/* The connection on which r waits; NULL: it waits for one. */
struct beconn *blocking_connection(const struct request *r);

#define UNBLOCK_TEXT_MAX 128
/* Writes CLIENT UNBLOCK for a connection by its server's number; returns the bytes. */
uint32_t blocking_unblock_text(char out[UNBLOCK_TEXT_MAX], int64_t server_id, bool error);

/* Sends it on `to`; nobody hears of the answer. */
void blocking_send_unblock(struct session_env *env, struct beconn *to, int64_t server_id,
                           bool error);

/* True when its server was asked to end it, because it is to wait elsewhere. */
bool blocking_is_called_back(const struct request *r);

/* The client has left. r, which is SENT, is gone afterwards, and so is its connection. */
void blocking_abandon(struct request *r);

/* Frees what belongs to it in r. */
void blocking_drop(struct request *r);

/* From the worker's tick: clients that have left, servers that own the slot no more. */
void blocking_tick(struct session_env *env, uint64_t now_ms);

#endif
