/*
 * transaction_answer.c - what became of a block that was sent: run, refused, or to be sent again.
 */
#include "base/alloc.h"
#include "session/error.h"
#include "session/transaction_block.h"

static const char because[] = "-EXECABORT Transaction discarded because of: ";
#define BECAUSE_LEN (sizeof(because) - 1)

void buffer_append(struct buffer *b, const void *p, size_t n)
{
    size_t len = buffer_bytes(b);

    if (b->block == NULL)
        b->block = block_new(n);
    else if (len + n > b->block->cap)
        block_grow(&b->block, MAX(len + n, MIN((size_t)b->block->cap * 2, UINT32_MAX / 2)));
    memcpy(b->block->data + len, p, n);
    b->block->len = (uint32_t)(len + n);
}

void buffer_drop(struct buffer *b)
{
    block_unref(&b->block);
}

static uint64_t room(const struct buffer *b)
{
    return b->block != NULL ? b->block->cap : 0;
}

uint64_t transaction_memory(const struct transaction *t)
{
    return sizeof(*t) + room(&t->sent) + room(&t->own) + room(&t->loads) +
           (uint64_t)t->load_count * sizeof(*t->loaded) +
           (uint64_t)t->own_cap * sizeof(*t->own_list);
}

uint64_t transaction_sent_bytes(const struct request *r)
{
    return transaction_memory(r->data);
}

void transaction_free(struct transaction **p)
{
    struct transaction *t = *p;

    *p = NULL;
    if (t == NULL)
        return;
    buffer_drop(&t->sent);
    buffer_drop(&t->own);
    buffer_drop(&t->loads);
    free(t->loaded);
    free(t->own_list);
    free(t->early_error);
    free(t);
}

void transaction_drop(struct request *r)
{
    struct transaction *t = r->data;

    r->is_tx = 0;
    r->data = NULL;
    transaction_free(&t);
}

uint16_t transaction_replies(const struct request *r)
{
    const struct transaction *t = r->data;

    return (uint16_t)(t->load_count + transaction_inner(t) + 2);
}

const struct block *transaction_loads(const struct request *r)
{
    const struct transaction *t = r->data;

    return t->loads.block;
}

void transaction_sent(struct request *r)
{
    struct transaction *t = r->data;

    free(t->early_error);
    t->early_error = NULL;
}

static bool starts_with(const struct bereply *reply, const char *text)
{
    size_t n = strlen(text);

    return reply->len >= n && memcmp(reply->data, text, n) == 0;
}

/* The user's rights, or what the server offers. */
static bool is_forbidden(const struct bereply *reply)
{
    return starts_with(reply, "-NOPERM ") || starts_with(reply, "-ERR unknown command");
}

void transaction_early_error(struct request *r, struct beconn *conn, const struct bereply *reply)
{
    struct transaction *t = r->data;
    uint32_t behind_multi = transaction_inner(t) + 1;

    if (r->be.replies > behind_multi) /* what precedes MULTI decides nothing */
        return;
    if (r->be.replies == behind_multi && is_forbidden(reply)) {
        beconn_multi_refused(
            conn); /* until now it was not: what follows runs without a transaction */
        t->ran_singly = true;
    }
    if (t->early_error != NULL)
        return;
    t->early_error = xmalloc(reply->len);
    memcpy(t->early_error, reply->data, reply->len);
    t->early_len = reply->len;
}

bool transaction_is_refused(const struct request *r)
{
    const struct transaction *t = r->data;

    return t->early_error != NULL && !t->ran_singly;
}

/* EXEC is refused itself in two ways: with the cause alone, or with it behind EXECABORT. */
static void take_cause(struct transaction *t, const struct bereply *reply)
{
    if (t->early_error != NULL || reply->len <= BECAUSE_LEN ||
        memcmp(reply->data, because, BECAUSE_LEN) != 0)
        return;
    t->early_len = reply->len - BECAUSE_LEN + 1;
    t->early_error = xmalloc(t->early_len);
    t->early_error[0] = '-';
    memcpy(t->early_error + 1, reply->data + BECAUSE_LEN, t->early_len - 1);
}

const struct bereply *transaction_cause(struct request *r, const struct bereply *reply,
                                        struct bereply *inner)
{
    struct transaction *t = r->data;

    take_cause(t, reply);
    if (t->early_error == NULL)
        return reply;
    *inner = (struct bereply){.data = t->early_error, .len = t->early_len, .type = '-'};
    return inner;
}

/* True when it is an array of as many elements as commands were sent. */
static bool is_result(const struct transaction *t, const struct bereply *reply)
{
    const char *at = reply->data, *end = at + reply->len;
    struct resp_item array;

    return resp_next(&at, end, &array) && array.type == '*' &&
           array.count == (int64_t)transaction_inner(t);
}

/* What the block did to the connection was not taken back: the block has changed the user's rights.
 */
static bool keeps_state(const struct transaction *t, const struct bereply *reply)
{
    const char *at = reply->data, *end = at + reply->len;
    uint32_t back = t->selects + t->redials;
    struct resp_item array;

    if (back == 0 || !is_result(t, reply) || !resp_next(&at, end, &array))
        return false;
    for (uint32_t i = 0; i < transaction_inner(t); i++) {
        if (i >= transaction_inner(t) - back && *at == '-')
            return true;
        if (!resp_skip(&at, end))
            return true;
    }
    return false;
}

bool transaction_has_own(const struct request *r)
{
    const struct transaction *t = r->data;

    return t->own_count > 0;
}

const char *transaction_spoils(const struct request *r, const struct bereply *reply)
{
    if (!r->is_tx)
        return NULL;
    if (starts_with(reply, "-ERR unknown command"))
        return "it has no EXEC, and is inside MULTI";
    return keeps_state(r->data, reply) ? "a block has not left it as it was" : NULL;
}

bool transaction_answer(struct client *c, struct request *r, const struct bereply *reply)
{
    struct transaction *t = r->data;
    struct chain out;

    if ((t->scripts || t->news) && is_result(t, reply))
        transaction_learn_scripts(c, r, reply);
    chain_init(&out);
    if (t->ran_singly) {
        error_write(&out, ERROR_UNKNOWN);
    } else if (reply->type == '-' && t->early_error != NULL) {
        chain_append(&out, because, BECAUSE_LEN);
        chain_append(&out, t->early_error + 1, t->early_len - 1);
    } else if (t->own_count > 0 && is_result(t, reply)) {
        r->is_tx = 0;
        r->data = NULL;
        transaction_run(c, &t, r, reply);
        return true;
    } else {
        return false;
    }
    transaction_drop(r);
    client_request_composed(c, r, &out);
    chain_clear(&out);
    return true;
}
