/*
 * pubsub.c - SUBSCRIBE, UNSUBSCRIBE and their relatives.
 */
#include "session/pubsub.h"

#include "base/crc16.h"
#include "resp/write.h"
#include "session/dispatch_error.h"
#include "session/forward.h"
#include "session/local.h"
#include "session/subscriber.h"

/* The family's own commands may follow each other: their answers come in order by themselves. */
static bool is_subscription(enum command_local l)
{
    return l == LOCAL_SUBSCRIBE || l == LOCAL_PSUBSCRIBE || l == LOCAL_SSUBSCRIBE ||
           l == LOCAL_UNSUBSCRIBE || l == LOCAL_PUNSUBSCRIBE || l == LOCAL_SUNSUBSCRIBE;
}

static uint32_t ops_under_way(const struct client *c)
{
    return c->extra != NULL && c->extra->subscriber != NULL ? c->extra->subscriber->op_count : 0;
}

bool pubsub_is_settling(struct client *c)
{
    return UNLIKELY(ops_under_way(c) > 0) && dispatch_barrier(c);
}

bool pubsub_must_wait(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    if (is_subscription(cmd->local))
        return c->queued != ops_under_way(c) && dispatch_barrier(c);
    if (pubsub_is_settling(c))
        return true;
    if (cmd->local == LOCAL_PUBLISH) {
        if (r->len > c->env->config->backend.large_request)
            return dispatch_barrier(c);
        return c->head != NULL && c->head->epoch != c->up->epoch &&
               forward_must_wait(c, key_slot(resp_arg_ptr(r, 1), resp_arg_len(r, 1))) &&
               dispatch_barrier(c);
    }
    return c->head != NULL && c->head->epoch != c->up->epoch && dispatch_barrier(c);
}

bool pubsub_refuses(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    if (is_subscription(cmd->local) || cmd->local == LOCAL_PING || cmd->local == LOCAL_QUIT ||
        cmd->local == LOCAL_RESET)
        return false;
    if (dispatch_is_unknown(c, cmd)) {
        dispatch_unknown(c, cmd, r);
        return true;
    }
    dispatch_error_text(
        c, cmd,
        "%s Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
        "allowed in this context",
        cmd->local == LOCAL_EXEC ? "EXECABORT Transaction discarded because of:" : "ERR",
        cmd->name);
    return true;
}

void pubsub_write_pong(const struct resp_request *r, struct chain *out)
{
    resp_write_array(out, 2);
    resp_write_text(out, "pong");
    if (r->argc == 2)
        resp_write_bulk(out, resp_arg_ptr(r, 1), resp_arg_len(r, 1));
    else
        resp_write_text(out, "");
}

/* `name` NULL: nil. */
static void write_confirmation(struct sub_op *op, enum channel_kind kind, const char *verb,
                               const char *name, size_t len)
{
    uint8_t proto = op->sub->client->proto;
    struct chain *out = &op->reply;

    chain_append(out, proto == 3 ? ">3\r\n" : "*3\r\n", 4);
    resp_write_text(out, verb);
    if (name != NULL)
        resp_write_bulk(out, name, len);
    else
        resp_write_null(out, proto);
    resp_write_int(out, subscriber_count(op->sub, kind));
}

static struct sub_op *begin(struct client *c, const struct command *cmd, struct chain *out)
{
    struct sub_op *op = sub_op_begin(c, cmd);

    if (op == NULL)
        error_write(out, ERROR_PROFILES);
    return op;
}

static void subscribe(struct client *c, const struct command *cmd, const struct resp_request *r,
                      enum channel_kind kind, struct chain *out)
{
    struct sub_op *op = begin(c, cmd, out);

    if (op == NULL)
        return;
    for (uint32_t i = 1; i < r->argc; i++) {
        subscriber_join(op, kind, resp_arg_ptr(r, i), resp_arg_len(r, i));
        write_confirmation(op, kind, cmd->name, resp_arg_ptr(r, i), resp_arg_len(r, i));
    }
    sub_op_end(op);
}

static void unsubscribe_all(struct sub_op *op, enum channel_kind kind, const char *verb)
{
    struct subscriber *s = op->sub;

    if (list_empty(&s->subscriptions[kind]))
        write_confirmation(op, kind, verb, NULL, 0);
    while (!list_empty(&s->subscriptions[kind])) {
        struct channel *ch =
            CONTAINER_OF(s->subscriptions[kind].next, struct subscription, of_client)->ch;

        ch->pins++;
        subscriber_leave(op, kind, ch->name, ch->len);
        write_confirmation(op, kind, verb, ch->name, ch->len);
        ch->pins--;
        channel_put(ch);
    }
}

static void unsubscribe(struct client *c, const struct command *cmd, const struct resp_request *r,
                        enum channel_kind kind, struct chain *out)
{
    struct sub_op *op = begin(c, cmd, out);

    if (op == NULL)
        return;
    if (r->argc == 1)
        unsubscribe_all(op, kind, cmd->name);
    for (uint32_t i = 1; i < r->argc; i++) {
        subscriber_leave(op, kind, resp_arg_ptr(r, i), resp_arg_len(r, i));
        write_confirmation(op, kind, cmd->name, resp_arg_ptr(r, i), resp_arg_len(r, i));
    }
    sub_op_end(op);
}

HANDLER(SUBSCRIBE)
{
    UNUSED;
    subscribe(c, cmd, r, CHANNEL_PLAIN, out);
}

HANDLER(PSUBSCRIBE)
{
    UNUSED;
    subscribe(c, cmd, r, CHANNEL_PATTERN, out);
}

HANDLER(SSUBSCRIBE)
{
    UNUSED;
    subscribe(c, cmd, r, CHANNEL_SHARD, out);
}

HANDLER(UNSUBSCRIBE)
{
    UNUSED;
    unsubscribe(c, cmd, r, CHANNEL_PLAIN, out);
}

HANDLER(PUNSUBSCRIBE)
{
    UNUSED;
    unsubscribe(c, cmd, r, CHANNEL_PATTERN, out);
}

HANDLER(SUNSUBSCRIBE)
{
    UNUSED;
    unsubscribe(c, cmd, r, CHANNEL_SHARD, out);
}
