#include "session/request.h"

#include "base/alloc.h"
#include "session/blocking.h"
#include "session/client.h"
#include "session/transaction.h"

/* A stored reply of more bytes is kept by reference where it can be, instead of being copied. */
#define REFERENCE_MIN 4096

_Static_assert(sizeof(struct request) == 128, "two cache lines");

struct request *request_new(struct session_env *env, struct client *c, const struct command *cmd)
{
    struct request *r = env->spare_requests;

    if (LIKELY(r != NULL)) {
        env->spare_requests = r->next;
        __builtin_prefetch(r->next, 1); /* a pipeline will take it next */
        if (--env->spare_request_count < env->spare_request_low)
            env->spare_request_low = env->spare_request_count;
    } else {
        r = xmalloc(sizeof(*r));
    }
    /* Everything but the inline reply, which reply_len guards. */
    memset(r, 0, offsetof(struct request, reply_inline));
    r->client = c;
    r->cmd = cmd;
    r->slot = SLOT_NONE;
    return r;
}

static uint32_t stored_kib(const struct request *r)
{
    return (r->reply_len + 1023) / 1024;
}

void request_free(struct session_env *env, struct request *r)
{
    bereq_release(&r->be);
    if (UNLIKELY(r->is_tx || r->is_blocking)) {
        if (r->is_tx)
            transaction_drop(r);
        else
            blocking_drop(r);
    }
    if (r->state == REQUEST_DONE && UNLIKELY(r->reply_block != NULL)) {
        if (r->client != NULL)
            r->client->stored_kib -= stored_kib(r);
        block_unref(&r->reply_block);
    }
    r->next = env->spare_requests;
    env->spare_requests = r;
    env->spare_request_count++;
}

void requests_trim(struct session_env *env)
{
    for (size_t n = env->spare_request_low; n > 0; n--) {
        struct request *r = env->spare_requests;

        env->spare_requests = r->next;
        env->spare_request_count--;
        free(r);
    }
    env->spare_request_low = env->spare_request_count;
}

void request_store(struct request *r, const char *data, size_t len, struct block *owner)
{
    r->reply_len = (uint32_t)len;
    r->reply_block = NULL;
    r->state = REQUEST_DONE;
    if (len <= REQUEST_INLINE_REPLY) {
        memcpy(r->reply_inline, data, len);
        return;
    }
    if (r->client != NULL)
        r->client->stored_kib += stored_kib(r);
    if (owner != NULL && len >= REFERENCE_MIN) {
        r->reply_block = block_ref(owner);
        r->reply_off = (uint32_t)(data - owner->data);
    } else {
        r->reply_block = block_new_exact(len);
        r->reply_off = 0;
        memcpy(r->reply_block->data, data, len);
        r->reply_block->len = (uint32_t)len;
    }
}

void request_move_reply(struct request *r, struct chain *out)
{
    if (r->reply_block != NULL && r->reply_len >= REFERENCE_MIN)
        chain_append_ref(out, r->reply_block, r->reply_off, r->reply_len);
    else
        chain_append(out, request_reply(r), r->reply_len);
}

void request_parse(struct session_env *env, const struct request *r, struct resp_request *out)
{
    size_t used;

    resp_parser_reset(env->reparser);
    CHECK(resp_parse(env->reparser, r->be.block->data + r->be.off, r->be.len, out, &used) ==
          RESP_PARSE_OK);
}
