/*
 * transaction_run.c - EXEC's array, place by place: what the server answered, and what the proxy
 * does itself.
 *
 * The block has run when this begins. The array's head and its elements go straight to the client's
 * output, and the proxy's own commands run in between as if the client sent them now, each when the
 * one before it is answered: so a CLIENT LIST may ask all workers, and a SUBSCRIBE the servers. The
 * client is held meanwhile (HOLD_EXEC), and messages for it wait for the end of the array. As in
 * Redis an own command may have several answers or none (SUBSCRIBE, CLIENT REPLY), change the
 * dialect of those behind it (HELLO), or end the client (CLIENT KILL).
 */
#include "base/alloc.h"
#include "base/log.h"
#include "resp/write.h"
#include "session/acl.h"
#include "session/local.h"
#include "session/subscriber.h"
#include "session/transaction_block.h"

struct transaction_run {
    struct transaction *t;
    struct resp_parser *parser; /* of t->own; handlers use the environment's */
    struct block *elements;     /* holds the server's; NULL: it was not asked */
    uint32_t at, end;           /* in elements: those not yet written */
    uint32_t own_at;            /* in t->own */
    uint32_t next;              /* in t->own_list */
    uint32_t place;             /* in the array */
    bool skipped;               /* CLIENT REPLY SKIP: EXEC gets no answer */
    bool skips;                 /* CLIENT REPLY SKIP inside: the command behind EXEC gets none */
};

const struct transaction *transaction_running(const struct client *c)
{
    return c->extra->run->t;
}

uint64_t transaction_run_bytes(const struct client *c)
{
    const struct transaction_run *run = c->extra != NULL ? c->extra->run : NULL;

    if (run == NULL)
        return 0;
    return transaction_memory(run->t) + run->end - run->at;
}

void transaction_run_drop(struct client *c)
{
    struct transaction_run *run = c->extra != NULL ? c->extra->run : NULL;

    if (run == NULL)
        return;
    c->extra->run = NULL;
    transaction_free(&run->t);
    resp_parser_free(&run->parser);
    block_unref(&run->elements);
    free(run);
}

/* --- the server's answers --- */

static const char *first(const struct transaction_run *run)
{
    return run->elements->data + run->at;
}

/* Steps over n of them; returns their bytes. */
static uint32_t pass(struct transaction_run *run, uint32_t n)
{
    const char *at, *begin;

    CHECK(run->elements != NULL);
    at = begin = first(run);
    for (; n > 0; n--)
        CHECK(resp_skip(&at, run->elements->data + run->end));
    run->at += (uint32_t)(at - begin);
    return (uint32_t)(at - begin);
}

static void write_element(struct client *c, struct transaction_run *run, uint32_t n)
{
    uint32_t off = run->at, len = pass(run, n);
    struct chain out;

    chain_init(&out);
    if (len > BLOCK_LARGE)
        chain_append_ref(&out, run->elements, off, len);
    else
        chain_append(&out, run->elements->data + off, len);
    client_reply(c, NULL, &out);
    chain_clear(&out);
}

static void close_client(struct client *c, const char *why)
{
    log_warn("client %llu closed: %s", (unsigned long long)c->id, why);
    client_doom(c);
}

static void write_select(struct client *c, struct transaction_run *run, int32_t db)
{
    bool good = *first(run) == '+';

    write_element(c, run, 1);
    if (good && db >= 0 && !local_set_db(c, (uint16_t)db))
        close_client(c, "too many combinations of database and dialect are in use");
}

static void write_config(struct client *c, struct transaction_run *run)
{
    const char *element = first(run);
    struct chain out;

    chain_init(&out);
    config_get_compose(c, element, pass(run, 1), &out);
    client_reply(c, NULL, &out);
    chain_clear(&out);
}

/* --- the proxy's own commands --- */

/* EXEC ends what keeps a client from blocking and from getting more than one answer a command, save
 * for SUBSCRIBE and PSUBSCRIBE, which were there first. */
static bool is_denied(enum command_local l, struct chain *out)
{
    if (l == LOCAL_MONITOR)
        resp_write_error(out, "ERR MONITOR isn't allowed for DENY BLOCKING client");
    else if (l == LOCAL_SSUBSCRIBE)
        resp_write_error(out, "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
    else
        return false;
    return true;
}

/* CLIENT REPLY SKIP is about the command behind EXEC, not about the place behind it. */
static void see_reply_mode(struct client *c, struct transaction_run *run)
{
    if (c->reply_mode == REPLY_ON) {
        run->skipped = false;
    } else if (c->reply_mode == REPLY_SKIP_NEXT) {
        run->skips = true;
        c->reply_mode = run->skipped ? REPLY_SKIP : REPLY_ON;
    }
}

static void run_own(struct client *c, struct transaction_run *run, const struct own_command *o)
{
    const struct block *own = run->t->own.block;
    enum dispatch_result result;
    struct resp_request req;
    struct chain out;
    bool stopped;
    size_t used;

    resp_parser_reset(run->parser);
    CHECK(resp_parse(run->parser, own->data + run->own_at, own->len - run->own_at, &req, &used) ==
          RESP_PARSE_OK);
    /* It was allowed when it was queued: since then the user may be another. */
    stopped = acl_stops(c, o->cmd, &req, &result);
    if (stopped && result == DISPATCH_WAIT)
        return; /* it comes again when the servers have answered */
    run->own_at += (uint32_t)used;
    run->next++;
    run->place++;
    if (stopped)
        return;
    chain_init(&out);
    if (!is_denied(o->cmd->local, &out))
        local_compose(c, o->cmd, &req, &out);
    if (!stream_is_open(&c->stream)) {
        chain_clear(&out);
        return;
    }
    if (o->cmd->local == LOCAL_CLIENT_REPLY)
        see_reply_mode(c, run);
    if (out.bytes > 0)
        client_reply(c, o->cmd, &out);
    chain_clear(&out);
    if (o->value != 0 && c->proto != o->value)
        close_client(c,
                     "its HELLO failed inside EXEC, where the answers behind it are in the other "
                     "dialect");
}

/* --- place by place --- */

static void step(struct client *c, struct transaction_run *run)
{
    const struct transaction *t = run->t;
    const struct own_command *o = run->next < t->own_count ? &t->own_list[run->next] : NULL;

    if (o == NULL || o->position > run->place) {
        uint32_t n = (o != NULL ? o->position : t->commands) - run->place;

        write_element(c, run, n);
        run->place += n;
        return;
    }
    if (o->kind == OWN_RUN) {
        run_own(c, run, o);
        return;
    }
    run->next++;
    if (o->kind == OWN_HELLO) {
        pass(run, 1);
        return;
    }
    run->place++;
    if (o->kind == OWN_SELECT)
        write_select(c, run, o->value);
    else
        write_config(c, run);
}

static void finish(struct client *c)
{
    if (c->reply_mode == REPLY_SKIP)
        c->reply_mode = REPLY_ON;
    if (c->extra->run->skips && c->reply_mode == REPLY_ON)
        c->reply_mode = REPLY_SKIP_NEXT;
    transaction_run_drop(c);
    client_unhold(c, HOLD_EXEC);
    subscriber_after_long_reply(c);
    client_drain(c);
}

void transaction_go_on(struct client *c)
{
    struct transaction_run *run = c->extra->run;

    if (c->head != NULL)
        return; /* an own command is not answered yet */
    if (run->skipped && c->reply_mode == REPLY_ON)
        c->reply_mode = REPLY_SKIP;
    while (run->place < run->t->commands && !c->closing) {
        step(c, run);
        if (!stream_is_open(&c->stream) || c->head != NULL)
            return;
    }
    finish(c);
}

static void take_elements(struct transaction_run *run, const struct bereply *servers)
{
    const char *at = servers->data;
    uint32_t off = 0;
    struct resp_item array;

    CHECK(resp_next(&at, servers->data + servers->len, &array));
    if (servers->block != NULL && servers->len > BLOCK_LARGE) {
        run->elements = block_ref(servers->block);
        off = (uint32_t)(servers->data - servers->block->data);
    } else {
        run->elements = block_new_exact(servers->len);
        memcpy(run->elements->data, servers->data, servers->len);
        run->elements->len = (uint32_t)servers->len;
    }
    run->at = off + (uint32_t)(at - servers->data);
    run->end = off + (uint32_t)servers->len;
}

void transaction_run(struct client *c, struct transaction **t, struct request *exec,
                     const struct bereply *servers)
{
    /* They were within the limits when they came; those may be lower by now. */
    static const struct resp_limits limits = {.max_bulk = UINT32_MAX, .max_request = UINT32_MAX};
    struct transaction_run *run = xcalloc(1, sizeof(*run));
    struct chain out;

    CHECK(c->head == exec && client_extra(c)->run == NULL);
    run->t = *t;
    *t = NULL;
    run->parser = resp_parser_new(&limits);
    if (servers != NULL)
        take_elements(run, servers);
    run->skipped =
        exec != NULL ? exec->silent && c->reply_mode != REPLY_OFF : c->reply_mode == REPLY_SKIP;
    c->extra->run = run;
    client_hold(c, HOLD_EXEC);
    chain_init(&out);
    resp_write_array(&out, run->t->commands);
    if (exec != NULL)
        client_request_composed(c, exec, &out);
    else
        client_reply(c, NULL, &out);
    chain_clear(&out);
    transaction_go_on(c);
}
