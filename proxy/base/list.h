/*
 * list.h - intrusive doubly linked list.
 *
 * A member of a list embeds a struct list_node; the head is a node of its own. An unlinked node
 * points to itself, so list_unlink is safe on it.
 * Layer: base. Thread: the owner of the list.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/check.h"

struct list_node {
    struct list_node *prev, *next;
};

static inline void list_init(struct list_node *n)
{
    n->prev = n->next = n;
}

static inline bool list_empty(const struct list_node *head)
{
    return head->next == head;
}

/* For a member: true while it is on a list. */
static inline bool list_linked(const struct list_node *n)
{
    return n->next != n;
}

static inline void list_push(struct list_node *head, struct list_node *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static inline void list_unlink(struct list_node *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

/* First member, unlinked; NULL when the list is empty. */
static inline struct list_node *list_pop(struct list_node *head)
{
    struct list_node *n = head->next;

    if (n == head)
        return NULL;
    list_unlink(n);
    return n;
}

/* Moves all members of `from` to the end of `to`. */
static inline void list_splice(struct list_node *to, struct list_node *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* A walk over a list of which any member may be unlinked meanwhile, by whatever the body calls. The
 * list's owner keeps the walks under way, the innermost first, and unlinks by list_unlink_walked.
 * A walk goes on to its end: no break, no return. */
struct list_walk {
    struct list_node *next;
    struct list_walk *outer;
};

static inline void list_walk_begin(struct list_walk **walks, struct list_walk *w,
                                   const struct list_node *head)
{
    w->next = head->next;
    w->outer = *walks;
    *walks = w;
}

/* The next member; NULL at the end, and the walk is over. */
static inline struct list_node *list_walk_next(struct list_walk **walks, struct list_walk *w,
                                               const struct list_node *head)
{
    struct list_node *n = w->next;

    if (n == head) {
        CHECK(*walks == w);
        *walks = w->outer;
        return NULL;
    }
    w->next = n->next;
    return n;
}

static inline void list_unlink_walked(struct list_walk *walks, struct list_node *n)
{
    for (struct list_walk *w = walks; w != NULL; w = w->outer)
        if (w->next == n)
            w->next = n->next;
    list_unlink(n);
}

/* The body may unlink or free `pos`, but no other member. */
#define LIST_FOREACH(pos, tmp, head)                                                               \
    for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head);                               \
         (pos) = (tmp), (tmp) = (pos)->next)

#endif
