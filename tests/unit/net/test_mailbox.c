#include "net/mailbox.h"

#include <CUnit/Basic.h>

#include "base/alloc.h"
#include "until.h"

enum {
    SENDERS = 4,
    LETTERS = 2000
};

struct receiver {
    struct loop loop;
    struct mailbox box;
    int next[SENDERS]; /* number of the next letter of each */
    int wrong, got;
};

struct letter {
    struct mail mail;
    int sender, number;
};

static void on_letter(struct mail *m, void *owner)
{
    struct letter *l = CONTAINER_OF(m, struct letter, mail);
    struct receiver *r = owner;

    r->wrong += r->next[l->sender]++ != l->number;
    r->got++;
    free(l);
}

static void post(struct receiver *r, int sender, int number)
{
    struct letter *l = xcalloc(1, sizeof(*l));

    *l = (struct letter){.mail.handle = on_letter, .sender = sender, .number = number};
    mailbox_post(&r->box, &l->mail);
}

struct sender {
    struct receiver *to;
    int number;
    pthread_t thread;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;

    for (int i = 0; i < LETTERS; i++)
        post(s->to, s->number, i);
    return NULL;
}

static void on_wake(struct loop *l)
{
    struct receiver *r = l->owner;

    mailbox_drain(&r->box, r);
}

static void receiver_init(struct receiver *r)
{
    *r = (struct receiver){0};
    loop_init(&r->loop, ev_loop_new(0), r);
    r->loop.on_wake = on_wake;
    mailbox_init(&r->box, &r->loop);
}

static void receiver_deinit(struct receiver *r)
{
    mailbox_deinit(&r->box);
    loop_deinit(&r->loop);
}

/* Every letter arrives once, each sender's in the order they were posted. */
static void test_threads(void)
{
    struct receiver r;
    struct sender senders[SENDERS];

    receiver_init(&r);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.to = &r, .number = i};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    TURN_UNTIL(&r.loop, r.got == SENDERS * LETTERS);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    CU_ASSERT_EQUAL(r.got, SENDERS * LETTERS);
    CU_ASSERT_EQUAL(r.wrong, 0);
    receiver_deinit(&r);
}

static void on_letter_answer(struct mail *m, void *owner)
{
    on_letter(m, owner);
    post(owner, 1, 0); /* to itself, while the box is being emptied */
}

static void test_post_from_handler(void)
{
    struct receiver r;
    struct letter *l = xcalloc(1, sizeof(*l));

    receiver_init(&r);
    l->mail.handle = on_letter_answer;
    mailbox_post(&r.box, &l->mail);
    TURN_UNTIL(&r.loop, r.got == 2);
    CU_ASSERT_EQUAL(r.got, 2);
    CU_ASSERT_EQUAL(r.next[1], 1);
    mailbox_drain(&r.box, &r); /* nothing there: nothing happens */
    CU_ASSERT_EQUAL(r.got, 2);
    receiver_deinit(&r);
}

void suite_mailbox(void)
{
    CU_pSuite s = CU_add_suite("mailbox", NULL, NULL);

    CU_add_test(s, "threads", test_threads);
    CU_add_test(s, "post from a handler", test_post_from_handler);
}
