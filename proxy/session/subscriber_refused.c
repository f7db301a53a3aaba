/*
 * subscriber_refused.c - a server does not let clients listen, or not any more.
 */
#include "base/log.h"
#include "session/subscriber.h"

static void close_listeners(const struct channel *ch, const char *line, size_t len)
{
    for (struct list_node *at = ch->subs.next; at != &ch->subs; at = at->next) {
        struct subscription *m = CONTAINER_OF(at, struct subscription, of_channel);

        if (list_linked(&m->of_op) || m->leaving || m->sub->client->doomed)
            continue;
        log_warn("client %llu closed: a channel of it cannot be subscribed to again: %.*s",
                 (unsigned long long)m->sub->client->id, (int)MIN(len - 3, (size_t)200), line + 1);
        client_doom(m->sub->client);
    }
}

void subscriber_refused(struct channel *ch, const char *line, size_t len)
{
    struct list_node *at;

    ch->pins++;
    while ((at = list_pop(&ch->joins)) != NULL) {
        struct sub_wait *w = CONTAINER_OF(at, struct sub_wait, of_channel);

        if (w->op->error == NULL) {
            w->op->error = block_new_exact(len);
            memcpy(w->op->error->data, line, len);
            w->op->error->len = (uint32_t)len;
        }
        sub_wait_over(w);
    }
    ch->pins--;
    channel_put(ch);
}

void subscriber_revoked(struct channel *ch, const char *line, size_t len)
{
    close_listeners(ch, line, len);
    subscriber_refused(ch, line, len);
}
