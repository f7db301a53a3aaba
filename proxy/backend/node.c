#include "backend/node.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

#define NODE_MAGIC 0x0de0de00u
/* A connection that has lasted so long was a good one. */
#define STEADY_MS 1000

/* How long an exclusive connection is kept that nobody needed. */
#define TRIM_MS 10000

/* Why a connection is closed under its requests. */
#define REPLACED "another server has taken its place"

struct node *node_new(struct backend_env *env, const struct addr *a,
                      const struct sockaddr_any *target)
{
    struct node *n = xcalloc(1, sizeof(*n));

    n->magic = NODE_MAGIC;
    n->env = env;
    n->addr = *a;
    n->target = *target;
    list_init(&n->conns);
    list_init(&n->idle);
    list_init(&n->spare);
    list_init(&n->link);
    return n;
}

void node_free(struct node **p)
{
    struct node *n = *p;

    *p = NULL;
    CHECK_MAGIC(n, NODE_MAGIC);
    while (!list_empty(&n->conns))
        beconn_close(CONTAINER_OF(n->conns.next, struct beconn, link), NULL);
    list_unlink(&n->link);
    n->magic = 0;
    free(n->far);
    free(n);
}

/* retry_min, doubled so many times, at most retry_max; half fixed, half random: proxies and workers
 * must not come back in step. */
static uint64_t retry_delay(struct backend_env *env, uint32_t doublings)
{
    uint64_t delay = env->retry_min_ms;

    for (uint32_t i = 0; i < doublings && delay < env->retry_max_ms; i++)
        delay *= 2;
    delay = MIN(delay, env->retry_max_ms);
    return delay / 2 + random_next(&env->random) % (delay / 2 + 1);
}

void node_failed(struct node *n)
{
    uint64_t now = clock_ms();

    n->retry_at_ms = now + retry_delay(n->env, n->failures);
    if (n->failures < UINT32_MAX)
        n->failures++;
    if (n->outage_ms == 0)
        n->outage_ms = now;
}

void node_broke(struct node *n, const struct beconn *c)
{
    uint64_t now = clock_ms();

    if (now - c->ready_ms >= STEADY_MS) {
        n->broken = 0;
        return;
    }
    n->retry_at_ms = MAX(n->retry_at_ms, now + retry_delay(n->env, n->broken));
    if (n->broken < UINT32_MAX)
        n->broken++;
}

bool node_retry_begin(struct node *n, uint64_t now_ms)
{
    uint32_t budget = n->env->retry_budget;
    uint64_t gone = (now_ms - n->in_vain_ms) * budget / 1000;

    if (n->in_vain == 0 || gone >= n->in_vain) {
        n->in_vain = 0;
        n->in_vain_ms = now_ms;
    } else if (gone > 0) {
        n->in_vain -= (uint32_t)gone;
        n->in_vain_ms = now_ms;
    }
    if (n->again + n->in_vain >= budget)
        return false;
    n->again++;
    return true;
}

void node_retry_end(struct node *n, bool in_vain)
{
    CHECK(n->again > 0);
    n->again--;
    n->in_vain += in_vain;
}

void node_recovered(struct node *n)
{
    n->failures = 0;
    n->retry_at_ms = 0;
    if (LIKELY(!n->held))
        n->outage_ms = 0;
}

/* A connection is coming up, or owes a reply. */
static bool is_being_tried(const struct node *n)
{
    for (const struct list_node *at = n->conns.next; at != &n->conns; at = at->next) {
        const struct beconn *c = CONTAINER_OF(at, const struct beconn, link);

        if (c->state < BECONN_READY || (c->head != NULL && !c->head->patient))
            return true;
    }
    return false;
}

void node_forget_outage(struct node *n, uint64_t now_ms, uint32_t quiet_ms)
{
    if (n->outage_ms != 0 && !n->held && now_ms > n->retry_at_ms + quiet_ms && !is_being_tried(n))
        n->outage_ms = 0;
}

static struct beconn *open_conn(struct node *n, struct backend_env *env, uint16_t profile)
{
    struct beconn *c;
    char name[ADDR_TEXT_MAX];

    if (n->target.len == 0 || clock_ms() < n->retry_at_ms)
        return NULL;
    c = beconn_new(env, n, profile);
    if (c == NULL) {
        log_warn("cannot connect to %s: %s", addr_format(&n->addr, name), strerror(errno));
        node_failed(n);
        return NULL;
    }
    list_push(&n->conns, &c->link);
    return c;
}

/* Where the shared connection of a profile is noted; `far` grows to hold it. */
static struct beconn **shared_place(struct node *n, uint16_t profile)
{
    uint32_t at = profile - (uint32_t)PROFILE_NEAR;

    if (profile < PROFILE_NEAR)
        return &n->shared[profile];
    if (at >= n->far_count) {
        uint32_t count = MAX(at + 1, n->far_count * 2);

        n->far = xrealloc(n->far, count * sizeof(struct beconn *));
        memset(n->far + n->far_count, 0, (count - n->far_count) * sizeof(struct beconn *));
        n->far_count = count;
    }
    return &n->far[at];
}

void node_leave_shared(struct beconn *c)
{
    struct node *n = c->node;

    if (node_shared_now(n, c->profile) != c)
        return;
    *shared_place(n, c->profile) = NULL;
    n->shared_count--;
}

/* Makes room for one more: of those with nothing to do the one that was silent for longest goes.
 * False: all are at work. */
static bool make_room(struct node *n)
{
    struct beconn *oldest = NULL;

    if (LIKELY(n->shared_count < n->env->max_profiles))
        return true;
    for (struct list_node *at = n->conns.next; at != &n->conns; at = at->next) {
        struct beconn *c = CONTAINER_OF(at, struct beconn, link);

        if (node_shared_now(n, c->profile) == c && c->state == BECONN_READY && c->head == NULL &&
            (oldest == NULL || c->progress_ms < oldest->progress_ms))
            oldest = c;
    }
    if (oldest == NULL)
        return false;
    node_retire(oldest);
    return true;
}

struct beconn *node_open_shared(struct node *n, uint16_t profile)
{
    struct beconn *c;

    CHECK_MAGIC(n, NODE_MAGIC);
    if (!make_room(n))
        return NULL;
    c = open_conn(n, n->env, profile);
    if (c != NULL) {
        *shared_place(n, profile) = c;
        n->shared_count++;
    }
    return c;
}

struct beconn *node_open_own(struct node *n, struct backend_env *env, uint16_t profile)
{
    CHECK_MAGIC(n, NODE_MAGIC);
    return open_conn(n, env, profile);
}

/* The one returned last is taken first, so that those not needed can be told. */
static struct beconn *find_idle(const struct node *n, uint16_t profile)
{
    for (struct list_node *at = n->idle.prev; at != &n->idle; at = at->prev) {
        struct beconn *c = CONTAINER_OF(at, struct beconn, idle_link);

        if (c->profile == profile)
            return c;
    }
    return NULL;
}

static void take_idle(struct node *n, struct beconn *c)
{
    if (!list_linked(&c->idle_link))
        return;
    list_unlink(&c->idle_link);
    if (c->lent)
        c->lent = false;
    else if (--n->idle_count < n->idle_low)
        n->idle_low = n->idle_count;
}

void node_lend(struct beconn *c)
{
    if (c->state == BECONN_CLOSED || list_linked(&c->idle_link))
        return;
    c->lent = true;
    list_push(&c->node->spare, &c->idle_link);
}

void node_unlend(struct beconn *c)
{
    take_idle(c->node, c);
}

bool node_lease_full(const struct node *n)
{
    return n->leased >= n->env->max_leased && n->idle_count == 0 && list_empty(&n->spare);
}

bool node_lease_room(struct node *n)
{
    if (n->leased < n->env->max_leased)
        return true;
    if (node_lease_full(n))
        return false;
    node_retire(
        CONTAINER_OF(n->idle_count > 0 ? n->idle.next : n->spare.next, struct beconn, idle_link));
    return true;
}

struct beconn *node_lease(struct node *n, uint16_t profile)
{
    struct beconn *c = find_idle(n, profile);

    if (c != NULL) {
        take_idle(n, c);
        return c;
    }
    if (!node_lease_room(n))
        return NULL;
    c = open_conn(n, n->env, profile);
    if (c != NULL) {
        c->leased = true;
        n->leased++;
    }
    return c;
}

void node_return(struct beconn **p)
{
    struct beconn *c = *p;
    struct node *n = c->node;

    *p = NULL;
    c->user = NULL;
    if (c->state == BECONN_CLOSED)
        return;
    if (c->state == BECONN_READY && c->head == NULL && !c->retired && !c->found_busy && n->in_map) {
        list_push(&n->idle, &c->idle_link);
        n->idle_count++;
        return;
    }
    c->retired = true; /* not a lost connection */
    if (c->head == NULL)
        beconn_close(c, NULL);
}

/* Closes the idle ones that were not needed since the last time. */
static void trim_idle(struct node *n, uint64_t now_ms)
{
    if (now_ms < n->trim_ms)
        return;
    n->trim_ms = now_ms + TRIM_MS;
    for (uint32_t i = n->idle_low; i > 0; i--)
        node_retire(CONTAINER_OF(n->idle.next, struct beconn, idle_link));
    n->idle_low = n->idle_count;
}

void node_retire(struct beconn *c)
{
    if (c->state == BECONN_CLOSED)
        return;
    node_leave_shared(c);
    take_idle(c->node, c);
    c->retired = true;
    if (c->head == NULL)
        beconn_close(c, NULL);
}

/* What the oldest request of a retired connection owes is awaited no more. */
static bool is_overdue(const struct node *n, const struct beconn *c, uint64_t now_ms)
{
    if (c->state != BECONN_READY)
        return false; /* it has begun since; backend.connect_timeout is for it */
    return c->head == NULL || (uint32_t)now_ms - c->head->sent_ms >= NODE_REPLACED_MS ||
           (c->ready_ms <= n->replaced_ms && now_ms - n->replaced_ms >= NODE_REPLACED_MS);
}

/* Closes connections whose oldest request has waited its time. */
static void close_overdue(struct node *n, uint64_t now_ms)
{
    struct list_walk walk;
    struct beconn *c;
    bool owed = false;

    node_walk(n, &walk);
    while ((c = node_walk_next(n, &walk)) != NULL) {
        /* Who waits without a bound is called back by its sender. */
        if (!c->retired || (c->head != NULL && c->head->patient && c->state == BECONN_READY))
            continue;
        if (is_overdue(n, c, now_ms))
            beconn_close(c, c->head != NULL ? REPLACED : NULL);
        else
            owed = true;
    }
    if (!owed)
        n->replaced_ms = 0;
}

void node_replaced(struct node *n)
{
    struct list_walk walk;
    struct beconn *c;

    CHECK_MAGIC(n, NODE_MAGIC);
    n->replaced_ms = n->env->loop->now_ms;
    n->left_ms = clock_ms();
    node_walk(n, &walk);
    while ((c = node_walk_next(n, &walk)) != NULL) {
        node_retire(c);
        if (c->state < BECONN_READY)
            beconn_close(c, REPLACED);
        else if (c->state == BECONN_READY && beconn_is_held(c))
            beconn_return_unsent(c);
    }
    close_overdue(n, n->replaced_ms);
}

void node_forget(struct node *n, struct beconn *c)
{
    CHECK_MAGIC(n, NODE_MAGIC);
    list_unlink_walked(n->walks, &c->link);
    node_leave_shared(c);
    take_idle(n, c);
    if (c->leased)
        n->leased--;
}

void node_tick(struct node *n, uint64_t now_ms)
{
    struct list_walk walk;
    struct beconn *c;

    node_walk(n, &walk);
    while ((c = node_walk_next(n, &walk)) != NULL)
        beconn_tick(c, now_ms);
    trim_idle(n, now_ms);
    if (n->replaced_ms != 0)
        close_overdue(n, now_ms);
}

static bool is_silent(const struct beconn *c, uint64_t now_ms, uint32_t ms)
{
    return c->state == BECONN_READY && c->head != NULL && !c->leased && !c->paused &&
           (uint32_t)now_ms - c->head->sent_ms > ms && now_ms - c->progress_ms > ms;
}

bool node_fell_silent(struct node *n, uint64_t now_ms, uint32_t ms)
{
    if (now_ms - n->silent_ms <= ms)
        return false;
    for (const struct list_node *at = n->conns.next; at != &n->conns; at = at->next)
        if (is_silent(CONTAINER_OF(at, const struct beconn, link), now_ms, ms)) {
            n->silent_ms = now_ms;
            return true;
        }
    return false;
}
