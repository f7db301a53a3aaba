/*
 * randomkey.c - RANDOMKEY: every master tells its DBSIZE, then one of them, chosen by that weight,
 * names a key; so each key has the same chance wherever it is.
 */
#include "base/alloc.h"
#include "resp/number.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"
#include "session/merge.h"

static const char dbsize[] = "*1\r\n$6\r\nDBSIZE\r\n";
static const char randomkey[] = "*1\r\n$9\r\nRANDOMKEY\r\n";

struct candidate {
    struct candidate *next;
    uint64_t keys;
    uint16_t slot; /* by which its master is addressed */
};

struct draw {
    bool weighed;
    struct candidate *chosen; /* whose answer is to come */
    struct candidate *list;
};

static void draw_drop(void *data)
{
    struct draw *d = data;

    while (d->list != NULL) {
        struct candidate *next = d->list->next;

        free(d->list);
        d->list = next;
    }
    free(d);
}

/* False: an answer is no number. */
static bool weigh(struct draw *d, const struct scatter *s)
{
    for (const struct request *part = s->parts; part != NULL; part = part->next) {
        const char *p = request_reply(part);
        struct candidate *k = xcalloc(1, sizeof(*k));
        struct resp_item item;
        int64_t n;

        k->next = d->list;
        k->slot = part->slot;
        d->list = k;
        if (!resp_next(&p, p + part->reply_len, &item) || item.type != ':' ||
            !resp_parse_int(item.data, item.len, &n) || n < 0)
            return false;
        k->keys = (uint64_t)n;
    }
    d->weighed = true;
    return true;
}

static uint64_t next_random(struct session_env *env)
{
    uint64_t *x = &env->backend.random;

    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 11;
}

/* NULL: there is no key anywhere. */
static struct candidate *choose(struct session_env *env, const struct draw *d)
{
    uint64_t total = 0, at;

    for (const struct candidate *k = d->list; k != NULL; k = k->next)
        total += k->keys;
    if (total == 0)
        return NULL;
    at = next_random(env) % total;
    for (struct candidate *k = d->list;; k = k->next) {
        if (at < k->keys)
            return k;
        at -= k->keys;
    }
}

static const struct request *last_part(const struct scatter *s)
{
    const struct request *part = s->parts;

    while (part->next != NULL)
        part = part->next;
    return part;
}

static bool is_null(const struct request *part)
{
    const char *p = request_reply(part);
    struct resp_item item;

    return resp_next(&p, p + part->reply_len, &item) && (item.type == '_' || item.count < 0);
}

/* Runs after each round; one that fails at once ends within the loop. */
static void finish(struct client *c, struct request *parent, struct chain *out)
{
    struct scatter *s = parent->scatter;
    struct draw *d = s->data;

    for (;;) {
        const struct request *failed = merge_first_error(s);

        if (failed != NULL) {
            chain_append(out, request_reply(failed), failed->reply_len);
            return;
        }
        if (!d->weighed) {
            if (!weigh(d, s)) {
                error_write(out, ERROR_PART_LOST);
                return;
            }
        } else if (is_null(last_part(s))) {
            d->chosen->keys = 0; /* emptied meanwhile */
        } else {
            chain_append(out, request_reply(last_part(s)), last_part(s)->reply_len);
            return;
        }
        d->chosen = choose(c->env, d);
        if (d->chosen == NULL) {
            resp_write_null(out, c->proto);
            return;
        }
        s->pending++;
        scatter_add(c, parent, d->chosen->slot, randomkey, sizeof(randomkey) - 1);
        if (--s->pending > 0)
            return;
    }
}

void local_RANDOMKEY(struct client *c, const struct command *cmd, const struct resp_request *r,
                     struct chain *out)
{
    struct draw *d = xcalloc(1, sizeof(*d));
    struct request *parent = scatter_open(c, cmd, finish, d);

    (void)r;
    (void)out;
    parent->scatter->drop = draw_drop;
    identity_borrow(c, cmd, parent->scatter);
    scatter_add_masters(c, parent, dbsize, sizeof(dbsize) - 1);
    scatter_close(c, parent);
}
