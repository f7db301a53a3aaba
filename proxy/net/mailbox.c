#include "net/mailbox.h"

void mailbox_init(struct mailbox *b, struct loop *l)
{
    CHECK(pthread_mutex_init(&b->lock, NULL) == 0);
    list_init(&b->mails);
    b->loop = l;
}

void mailbox_deinit(struct mailbox *b)
{
    CHECK(list_empty(&b->mails));
    pthread_mutex_destroy(&b->lock);
}

void mailbox_post(struct mailbox *b, struct mail *m)
{
    pthread_mutex_lock(&b->lock);
    list_push(&b->mails, &m->link);
    pthread_mutex_unlock(&b->lock);
    loop_wake(b->loop);
}

void mailbox_drain(struct mailbox *b, void *owner)
{
    struct list_node now, *n;

    list_init(&now);
    pthread_mutex_lock(&b->lock);
    list_splice(&now, &b->mails);
    pthread_mutex_unlock(&b->lock);
    while ((n = list_pop(&now)) != NULL) {
        struct mail *m = CONTAINER_OF(n, struct mail, link);

        m->handle(m, owner);
    }
}
