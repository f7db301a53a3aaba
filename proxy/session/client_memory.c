#include "session/client_memory.h"

#include "base/alloc.h"
#include "base/log.h"
#include "session/long_reply.h"
#include "session/scatter.h"
#include "session/subscriber.h"
#include "session/transaction.h"

static uint64_t extra_bytes(const struct client_extra *x)
{
    return sizeof(*x) + x->stash.bytes + (x->subscriber != NULL ? x->subscriber->bytes : 0);
}

uint64_t client_bytes(const struct client *c)
{
    uint64_t n = c->stream.out.bytes + (uint64_t)c->stored_kib * 1024 + c->inflight_bytes +
                 (uint64_t)c->queued * sizeof(struct request);

    if (c->partial != NULL)
        n += c->partial->block->cap + resp_parser_bytes(c->partial->parser);
    if (c->extra != NULL)
        n += extra_bytes(c->extra) + transaction_bytes(c);
    return n;
}

/* c->inflight_bytes has the bytes of one that is SENT. */
static uint64_t own_bytes(const struct request *r)
{
    return r->state != REQUEST_SENT && r->be.block != NULL ? r->be.len : 0;
}

static uint64_t parts_bytes(const struct scatter *s)
{
    uint64_t n = sizeof(*s) + s->keys * sizeof(s->order[0]);

    for (const struct request *p = s->parts; p != NULL; p = p->next)
        n += sizeof(*p) + own_bytes(p);
    return n;
}

uint64_t client_queue_bytes(const struct client *c)
{
    uint64_t n = 0;

    for (const struct request *r = c->head; r != NULL; r = r->next) {
        n += own_bytes(r);
        if (r->is_tx)
            n += transaction_sent_bytes(r);
        else if (r->state == REQUEST_PARTS || r->keeps_parts)
            n += parts_bytes(r->scatter);
        else if (r->state == REQUEST_STREAMING)
            n += ((const struct long_reply *)r->data)->stash.bytes;
    }
    return n;
}

/* *most: what it holds. */
static struct client *find_largest(const struct session_env *env, bool queues, uint64_t *most)
{
    struct client *largest = NULL;

    *most = 0;
    for (struct list_node *at = env->clients.next; at != &env->clients; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct client, link);
        uint64_t n = client_bytes(c) + (queues ? client_queue_bytes(c) : 0);

        if (n > *most && (c->extra == NULL || !c->extra->no_evict)) {
            *most = n;
            largest = c;
        }
    }
    return largest;
}

void client_memory_tick(struct session_env *env)
{
    uint64_t max = env->config->memory_max, used = alloc_used_bytes(), most;
    /* Queues are looked through in time for all workers to have told before one has to act. */
    struct client *largest = find_largest(env, used > max - max / 8, &most);

    METRIC_ADD(&env->metrics, largest_client, most - METRIC_GET(&env->metrics, largest_client));
    if (largest == NULL || used <= max)
        return;
    /* What closed clients left in the free lists is nobody's: the first call frees what the lists
     * have not needed, the second one the rest. */
    for (int i = 0; i < 2; i++) {
        block_trim();
        chain_trim();
        requests_trim(env);
    }
    if (alloc_used_bytes() <= max)
        return;
    for (unsigned i = 0; i < env->worker_count; i++)
        if (METRIC_GET(env->all_metrics[i], largest_client) > most)
            return;
    log_warn("client %llu closed: it holds %llu bytes and memory_max is reached",
             (unsigned long long)largest->id, (unsigned long long)most);
    METRIC_ADD(&env->metrics, clients_closed_output, 1);
    client_close(largest);
}
