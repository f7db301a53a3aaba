#include "session/wait_known.h"

static struct wait_known *known_of(const struct wait *op)
{
    return &op->client->extra->waited[op->kind];
}

void wait_count_least(struct wait_count *a, const struct wait_count *b)
{
    a->local = MIN(a->local, b->local);
    a->replicas = MIN(a->replicas, b->replicas);
}

static void book(struct client *c)
{
    struct client_extra *x = client_extra(c);

    x->waited[WAIT_RECEIVED].wrote |= c->wrote;
    x->waited[WAIT_FSYNCED].wrote |= c->wrote;
    x->unmarked |= c->wrote;
    c->wrote = 0;
}

void wait_known_choose(struct wait *op)
{
    const struct wait_known *k;
    uint16_t ever;

    book(op->client);
    k = known_of(op);
    ever = k->wrote | k->ever_wrote;
    op->fresh = k->wrote == 0 && !k->has_acked;
    op->nothing_new = k->wrote == 0 && k->has_acked;
    op->every = op->fresh;
    if (op->fresh)
        op->masters = UINT16_MAX;
    else if (!k->has_acked || !wait_is_enough(&k->acked, &op->wanted))
        op->masters = ever;
    else
        op->masters = k->wrote != 0 ? k->wrote : k->last_wrote;
    op->all = op->masters == ever;
}

bool wait_known_already(const struct wait *op)
{
    return op->nothing_new && wait_is_enough(&known_of(op)->acked, &op->wanted);
}

struct wait_count wait_known_settle(struct wait *op)
{
    struct wait_known *k = known_of(op);
    struct wait_count least = op->least;

    if (k->lost) {
        k->lost = false;
        return (struct wait_count){0};
    }
    if (op->fresh)
        return least;
    if (!op->all && k->has_acked)
        wait_count_least(&least, &k->acked);
    if (op->nothing_new && op->marked_anew) {
        least.local = MAX(least.local, k->acked.local);
        least.replicas = MAX(least.replicas, k->acked.replicas);
    }
    /* Who wants nothing has had nothing confirmed: next time there may be more. */
    if (wait_wants(op) && wait_is_enough(&least, &op->wanted)) {
        k->ever_wrote |= op->masters;
        k->last_wrote = op->masters;
        k->wrote = 0;
        k->has_acked = true;
        k->acked = least;
    }
    return least;
}

void wait_known_lost(struct client *c, uint16_t mark)
{
    const struct client_extra *x = c->extra;
    uint16_t wrote = c->wrote;

    if (x != NULL)
        wrote |= x->waited[WAIT_RECEIVED].wrote | x->waited[WAIT_FSYNCED].wrote;
    if ((wrote & mark) == 0)
        return;
    book(c);
    for (size_t i = 0; i < ARRAY_LEN(c->extra->waited); i++) {
        struct wait_known *k = &c->extra->waited[i];

        k->lost |= (k->wrote & mark) != 0;
        k->wrote &= (uint16_t)~mark;
    }
}
