/*
 * mailbox.h - messages to another thread's loop; each moves the ownership of what it carries.
 *
 * post: lock, link, unlock, wake. drain: swap the list out under the lock, handle outside of it.
 * Layer: net. Thread: post from any, drain by the owner of the loop.
 */
#ifndef NET_MAILBOX_H
#define NET_MAILBOX_H

#include <pthread.h>

#include "net/loop.h"

struct mail {
    struct list_node link;
    /* Runs in the receiving thread and frees the message. `owner` is the receiver's. */
    void (*handle)(struct mail *m, void *owner);
};

struct mailbox {
    pthread_mutex_t lock;
    struct list_node mails;
    struct loop *loop;
};

void mailbox_init(struct mailbox *b, struct loop *l);
void mailbox_deinit(struct mailbox *b);

/* Hands the message over and wakes the receiver. */
void mailbox_post(struct mailbox *b, struct mail *m);

/* Handles all waiting messages. */
void mailbox_drain(struct mailbox *b, void *owner);

#endif
