/*
 * transaction.h - MULTI to EXEC: queued here, sent as one block, answered by one array.
 *
 * Without WATCH a transaction needs no connection of its own: its commands are checked and kept,
 * and at EXEC they leave as one contiguous MULTI ... EXEC on the shared connection of their slot's
 * node, for which that node sends one reply a command. A refusal before EXEC's reply, or as it,
 * means that nothing ran: the whole block is sent again like any refused request. Commands that the
 * proxy answers itself stay behind; they run when EXEC has succeeded, one after the other, and
 * their answers are put into its array.
 * Layer: session. Thread: one worker. Owner: the client (client_extra) up to EXEC, then EXEC's
 * request.
 */
#ifndef SESSION_TRANSACTION_H
#define SESSION_TRANSACTION_H

#include "session/dispatch.h"

struct transaction;

/* MULTI: what follows is queued. */
void transaction_begin(struct client *c);

/* Forgets the client's transaction: DISCARD, RESET, or the client leaves. */
void transaction_end(struct client *c);

/* Bytes that the client's open transaction holds. */
uint64_t transaction_bytes(const struct client *c);

/* Commands that it has queued, or whose answers EXEC is writing; -1: it is not inside MULTI. */
int transaction_commands(const struct client *c);

/* Among them is one that a pause of writes is about. The client is inside MULTI. */
bool transaction_writes(const struct client *c);

/* A command inside MULTI. True: *result tells what became of it. False: it is to be handled as if
 * there were no transaction, which by then knows whether that is an error. */
bool transaction_takes(struct client *c, const struct command *cmd, const struct resp_request *r,
                       enum dispatch_result *result);

/* HOLD_EXEC, and nothing of c is under way any more: EXEC's array goes on. */
void transaction_go_on(struct client *c);

/* The client is gone: frees what transaction_go_on would use. */
void transaction_run_drop(struct client *c);

/* --- EXEC's request (request.is_tx) --- */

/* Replies that its block will get. */
uint16_t transaction_replies(const struct request *r);

/* It is sent (again): errors of an earlier attempt count no more. */
void transaction_sent(struct request *r);

/* An error before EXEC's reply: EXEC will fail because of the first one. */
void transaction_early_error(struct request *r, struct beconn *conn, const struct bereply *reply);

/* Bytes that it keeps beside the block: SCRIPT LOADs, the proxy's own commands. */
uint64_t transaction_sent_bytes(const struct request *r);

/* SCRIPT LOADs that are sent before its block; NULL: none. */
const struct block *transaction_loads(const struct request *r);

/* True when its array has places that the proxy fills. */
bool transaction_has_own(const struct request *r);

/* EXEC's reply tells that the connection cannot be used any more, and why; NULL: it can. */
const char *transaction_spoils(const struct request *r, const struct bereply *reply);

/* True when node n does not let its user have transactions: a block sent to it would run command by
 * command. */
bool transaction_is_forbidden(struct client *c, struct node *n);
/* True when that was said on conn, and so long ago that a new connection shall ask again. */
bool transaction_refusal_is_old(const struct beconn *conn);

/* True when an error came before EXEC's reply, which will therefore be one too: nothing ran. (Not
 * where the error was MULTI's: what follows runs command by command.) */
bool transaction_is_refused(const struct request *r);

/* EXEC's reply is an error. The one that tells why: the first if there was one before. `inner` is
 * room for it. */
const struct bereply *transaction_cause(struct request *r, const struct bereply *reply,
                                        struct bereply *inner);

/* EXEC's reply is no refusal: answers r, which may be gone afterwards. False: the reply stands as
 * it is. */
MUST_CHECK bool transaction_answer(struct client *c, struct request *r,
                                   const struct bereply *reply);

/* Frees what belongs to the transaction in r. */
void transaction_drop(struct request *r);

#endif
