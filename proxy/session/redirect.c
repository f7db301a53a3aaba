#include "session/redirect.h"

#include "base/clock.h"
#include "session/redirect_held.h"
#include "session/refusal.h"
#include "session/scatter.h"
#include "session/scripts.h"

/* The longest wait before a request that is sent round in circles is sent again. */
#define CIRCLE_MS 500

void redirect_drop_target(struct request *r)
{
    if ((r->refusal == REFUSAL_ASK || refusal_is_unsure(r->refusal)) && r->ask_node != NULL)
        r->ask_node->holds--;
    r->refusal = REFUSAL_NONE;
    r->ask_node = NULL;
}

static void count_redirect(struct request *r)
{
    r->redirects += r->redirects < UINT8_MAX;
}

/* Sent round in circles, or to nobody: the news is still spreading. */
static uint64_t redirect_delay(const struct request *r)
{
    return MIN((uint64_t)REDIRECT_PROBE_MS << MIN(r->redirects, 6u), (uint64_t)CIRCLE_MS);
}

enum refusal redirect_classify(struct upstream *u, struct node *n, struct request *r,
                               const struct bereply *reply)
{
    struct session_env *env = u->env;
    struct refusal_info info;
    enum refusal why = refusal_parse(u, n, r, reply, &info);

    if (why == REFUSAL_NONE || r->client == NULL)
        return why;
    METRIC_ADD(&env->metrics, replies_refused, 1);
    redirect_drop_target(r);
    r->refusal = (uint8_t)why; /* by which redirect_drop_target knows that there is a target */
    switch (why) {
    case REFUSAL_MOVED:
        METRIC_ADD(&env->metrics, moved, 1);
        count_redirect(r);
        if (info.target != NULL)
            upstream_override(u, r->slot, info.target);
        if (info.target == NULL || r->redirects > 2)
            client_extra(r->client)->retry_at_ms = clock_ms() + redirect_delay(r);
        break;
    case REFUSAL_ASK:
        METRIC_ADD(&env->metrics, ask, 1);
        count_redirect(r);
        upstream_set_unstable(u, r->slot);
        r->ask_node = info.target;
        if (r->ask_node != NULL)
            r->ask_node->holds++;
        if (info.target == NULL || r->redirects > 2)
            client_extra(r->client)->retry_at_ms = clock_ms() + redirect_delay(r);
        break;
    case REFUSAL_MOVED_UNSURE:
    case REFUSAL_ASK_UNSURE:
        count_redirect(r);
        r->ask_node = info.target;
        r->ask_node->holds++;
        client_extra(r->client)->unsure_until_ms = clock_ms() + REFUSAL_UNSURE_MS;
        break;
    case REFUSAL_TRYAGAIN:
        upstream_set_unstable(u, r->slot);
        /* Its commands are checked one by one: it goes to and fro by ASK while the slot moves, and
         * only the time counts. */
        if (r->is_tx)
            r->redirects = 0;
        client_extra(r->client)->retry_at_ms = clock_ms() + REDIRECT_PROBE_MS;
        break;
    case REFUSAL_NOT_SERVED: /* this slot, or writes: the node is not down for others */
        client_extra(r->client)->retry_at_ms = clock_ms() + REDIRECT_PROBE_MS;
        break;
    case REFUSAL_NOSCRIPT: /* redirect_hold makes an EVAL of it */
        break;
    default:
        if (n->outage_ms == 0)
            n->outage_ms = clock_ms();
        n->retry_at_ms = clock_ms() + REDIRECT_PROBE_MS;
        break;
    }
    if (why != REFUSAL_NOSCRIPT)
        env->hooks->want_refresh(env, u->index);
    return why;
}

void redirect_answer(struct client *c, struct request *r, const char *text, size_t n)
{
    redirect_drop_target(r);
    if (r->is_part) {
        request_store(r, text, n, NULL);
        scatter_part_done(c, r);
    } else if (c->refused > 0) {
        request_store(r, text, n, NULL);
        client_request_stored(c, r);
    } else {
        client_request_done(c, r, text, n, NULL);
    }
}

void redirect_fail(struct client *c, struct request *r, enum error_id id)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "-%s\r\n", error_text(id));

    r->failed = 1;
    redirect_answer(c, r, text, (size_t)n);
}

void redirect_hold(struct client *c, struct request *r, enum refusal why)
{
    struct session_env *env = c->env;
    const struct config_backend *limits = &env->config->backend;

    if (why != REFUSAL_ASK && !refusal_is_unsure(why))
        redirect_drop_target(r);
    if (why == REFUSAL_NOSCRIPT)
        scripts_repair(env, r);
    if (r->slot == SLOT_NONE) { /* it was for one server only, and not to be waited for */
        redirect_fail(c, r, refusal_error(why));
        return;
    }
    if (why == REFUSAL_LOST) {
        count_redirect(r);
        if (r->redirects > 1)
            client_extra(c)->retry_at_ms = clock_ms() + redirect_delay(r);
    }
    r->state = REQUEST_REFUSED;
    r->refusal = (uint8_t)why;
    if (env->held_bytes + r->be.len > limits->ride_through_bytes) {
        redirect_fail(c, r, ERROR_RIDE_THROUGH_FULL);
        return;
    }
    if (r->redirects > limits->max_redirects) {
        redirect_fail(c, r, ERROR_REDIRECTS);
        return;
    }
    env->held_bytes += r->be.len;
    c->refused++;
    redirect_start_waiting(c);
}

void redirect_release(struct client *c, struct request *r)
{
    c->env->held_bytes -= r->be.len;
    c->refused--;
}

static void forget_one(struct client *c, struct request *r)
{
    if (r->state != REQUEST_REFUSED)
        return;
    redirect_drop_target(r);
    redirect_release(c, r);
}

void redirect_forget(struct client *c, struct request *r)
{
    forget_one(c, r);
    if (r->state == REQUEST_PARTS)
        for (struct request *p = r->scatter->parts; p != NULL; p = p->next)
            forget_one(c, p);
}
