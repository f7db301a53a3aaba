#include "session/dispatch_error.h"

#include "base/alloc.h"
#include "base/crc16.h"
#include "base/log.h"
#include "session/acl.h"
#include "session/blocking.h"
#include "session/client_pause.h"
#include "session/config_set.h"
#include "session/forward.h"
#include "session/identity.h"
#include "session/learning.h"
#include "session/local.h"
#include "session/monitor.h"
#include "session/pubsub.h"
#include "session/reply_mode.h"
#include "session/scatter.h"
#include "session/scripts.h"
#include "session/single.h"
#include "session/transaction.h"

/* --- keyed commands --- */

/* What a request in flight forbids: true when the next one has to wait. */
static inline bool route_in_motion(struct client *c, uint16_t slot)
{
    if (LIKELY(c->head == NULL || c->head->epoch == c->up->epoch))
        return false;
    if (!forward_must_wait(c, slot))
        return false;
    client_hold(c, HOLD_BARRIER);
    return true;
}

static inline void pipeline_limit(struct client *c)
{
    const struct config_client *limits = &c->env->config->client;

    if (UNLIKELY(c->queued >= limits->max_pipeline ||
                 c->inflight_bytes > limits->max_inflight_bytes))
        client_hold(c, HOLD_PIPELINE);
}

static enum dispatch_result send_to_slot(struct client *c, const struct command *cmd,
                                         const struct resp_request *r, struct block *block,
                                         uint16_t slot)
{
    struct request *req;

    /* Keys come in any order, so the table is rarely in a near cache: it is read further down. */
    __builtin_prefetch(&c->up->route[slot]);
    if (UNLIKELY(route_in_motion(c, slot)))
        return DISPATCH_WAIT;
    /* A large request takes a connection of its own: nothing of the client may be under way. */
    if (UNLIKELY(r->len > c->env->config->backend.large_request)) {
        if (dispatch_barrier(c))
            return DISPATCH_WAIT;
        client_hold(c, HOLD_BARRIER);
    }
    req = request_new(c->env, c, cmd);
    req->slot = slot;
    client_enqueue(c, req);
    forward_new(c, req, r->base, r->len, block);
    pipeline_limit(c);
    return DISPATCH_DONE;
}

void dispatch_limit(struct client *c)
{
    pipeline_limit(c);
}

uint16_t dispatch_any_slot(const struct client *c)
{
    const struct slotmap *m = c->up->map;
    const struct node *n = upstream_any_master(c->up, c->id);
    uint32_t slot = 0;

    /* Addressed by a slot of that master, so that it finds the way to its successor. */
    while (n != NULL && slot < SLOT_COUNT - 1 &&
           (m->owner[slot] == NODE_NONE || c->up->map_nodes[m->owner[slot]] != n))
        slot = slotmap_range_end(m, (uint16_t)slot) + 1u;
    return (uint16_t)MIN(slot, SLOT_COUNT - 1u);
}

enum dispatch_result dispatch_any(struct client *c, const struct command *cmd,
                                  const struct resp_request *r, struct block *block)
{
    return send_to_slot(c, cmd, r, block, dispatch_any_slot(c));
}

/* While a slot is half moved, what comes behind a multi-key request must not overtake it. */
static enum dispatch_result send_multi(struct client *c, const struct command *cmd,
                                       const struct resp_request *r, struct block *block,
                                       uint16_t slot)
{
    enum dispatch_result d;

    if (single_copies_away(c->up, cmd, r))
        return dispatch_error(c, cmd, ERROR_COPY_CLUSTER);
    if (LIKELY(!upstream_is_unstable(c->up, slot)))
        return send_to_slot(c, cmd, r, block, slot);
    if (dispatch_barrier(c))
        return DISPATCH_WAIT;
    d = send_to_slot(c, cmd, r, block, slot);
    if (d == DISPATCH_DONE && c->head != NULL)
        client_hold(c, HOLD_BARRIER);
    return d;
}

bool dispatch_one_slot(struct client *c, const struct command *cmd, const struct resp_request *r,
                       uint16_t *slot, size_t *count)
{
    uint32_t positions[64];
    uint32_t *list = positions;
    bool same = true;

    if (command_keys_list(cmd, r, positions, ARRAY_LEN(positions), count) != COMMAND_KEYS_OK) {
        *count = 0;
        return true;
    }
    if (*count > ARRAY_LEN(positions)) {
        list = xmalloc(*count * sizeof(*list));
        if (command_keys_list(cmd, r, list, *count, count) != COMMAND_KEYS_OK)
            *count = 0;
    }
    for (size_t i = 0; i < *count; i++) {
        uint16_t s = key_slot(resp_arg_ptr(r, list[i]), resp_arg_len(r, list[i]));

        if (i == 0)
            *slot = s;
        else if (s != *slot && c->up->map->sharded)
            same = false;
    }
    if (list != positions)
        free(list);
    return same;
}

static enum dispatch_result scattered_keys(struct client *c, const struct command *cmd,
                                           const struct resp_request *r, struct block *block)
{
    uint16_t slot = 0;
    size_t count;

    if (!dispatch_one_slot(c, cmd, r, &slot, &count))
        return dispatch_error(c, cmd, ERROR_CROSSSLOT);
    if (count == 0)
        return dispatch_any(c, cmd, r, block);
    return count > 1 ? send_multi(c, cmd, r, block, slot) : send_to_slot(c, cmd, r, block, slot);
}

static bool range_in_one_slot(const struct resp_request *r, const struct command_key_range *k,
                              uint16_t slot)
{
    for (uint32_t i = 1; i < k->count; i++) {
        uint32_t arg = k->first + i * k->step;

        if (key_slot(resp_arg_ptr(r, arg), resp_arg_len(r, arg)) != slot)
            return false;
    }
    return true;
}

static enum dispatch_result split_over_slots(struct client *c, const struct command *cmd,
                                             const struct resp_request *r,
                                             const struct command_key_range *k)
{
    if (!c->env->config->split_multikey)
        return dispatch_error(c, cmd, ERROR_CROSSSLOT);
    for (uint32_t i = 0; i < k->count; i++) {
        uint32_t arg = k->first + i * k->step;
        uint16_t slot = key_slot(resp_arg_ptr(r, arg), resp_arg_len(r, arg));

        if (UNLIKELY(upstream_is_unstable(c->up, slot))) {
            if (dispatch_barrier(c))
                return DISPATCH_WAIT;
            client_hold(c, HOLD_BARRIER);
        } else if (UNLIKELY(route_in_motion(c, slot))) {
            return DISPATCH_WAIT;
        }
    }
    if (UNLIKELY(r->len > c->env->config->backend.large_request)) {
        if (dispatch_barrier(c))
            return DISPATCH_WAIT;
        client_hold(c, HOLD_BARRIER);
    }
    scatter_keys(c, cmd, r, k);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
    pipeline_limit(c);
    return DISPATCH_DONE;
}

static inline enum dispatch_result send_keys(struct client *c, const struct command *cmd,
                                             const struct resp_request *r, struct block *block)
{
    struct command_key_range k;
    uint16_t slot;

    if (command_keys_range(cmd, r, &k) != COMMAND_KEYS_OK || k.count == 0)
        return dispatch_any(c, cmd, r, block); /* a server words the error */
    if (UNLIKELY(k.step > 1) && cmd->last < 0 && (r->argc - k.first) % k.step != 0)
        return dispatch_wrong_arity(c, cmd); /* a key without its value */
    slot = key_slot(resp_arg_ptr(r, k.first), resp_arg_len(r, k.first));
    if (LIKELY(k.count == 1))
        return send_to_slot(c, cmd, r, block, slot);
    if (!c->up->map->sharded || range_in_one_slot(r, &k, slot))
        return send_multi(c, cmd, r, block, slot);
    if (cmd->route == ROUTE_SPLIT)
        return split_over_slots(c, cmd, r, &k);
    return dispatch_error(c, cmd, ERROR_CROSSSLOT);
}

static enum dispatch_result dispatch_script(struct client *c, const struct command *cmd,
                                            const struct resp_request *r, struct block *block)
{
    enum dispatch_result d;

    if (pubsub_is_settling(c))
        return DISPATCH_WAIT;
    d = send_keys(c, cmd, r, block);
    if (d == DISPATCH_DONE)
        scripts_see(c, cmd, r);
    return d;
}

static enum dispatch_result dispatch_keys(struct client *c, const struct command *cmd,
                                          const struct resp_request *r, struct block *block)
{
    if (UNLIKELY(command_keys_scattered(cmd)))
        return scattered_keys(c, cmd, r, block);
    if (UNLIKELY(cmd->keys >= KEYS_NUMKEYS)) {
        if (cmd->keys == KEYS_STREAMS && blocking_option(r) != 0)
            return blocking_dispatch(c, cmd, r);
        if ((cmd->flags & CMD_SCRIPT) != 0)
            return dispatch_script(c, cmd, r, block);
    }
    return send_keys(c, cmd, r, block);
}

/* SCRIPT LOAD or FLUSH, or another command, for the one server that there is. */
static enum dispatch_result dispatch_all_at_one(struct client *c, const struct command *cmd,
                                                const struct resp_request *r, struct block *block)
{
    enum dispatch_result d;

    if ((cmd->flags & CMD_NOSCRIPT) != 0)
        scripts_flush(c, cmd);
    d = dispatch_any(c, cmd, r, block);
    if (d == DISPATCH_DONE && (cmd->flags & CMD_NOSCRIPT) != 0)
        scripts_see(c, cmd, r);
    return d;
}

static enum dispatch_result dispatch_all(struct client *c, const struct command *cmd,
                                         const struct resp_request *r, struct block *block)
{
    enum dispatch_result stopped;

    if (UNLIKELY((cmd->flags & CMD_GUARDED) != 0)) {
        if (config_set_takes(c, cmd, r, &stopped))
            return stopped;
        if (identity_is_about_users(cmd, r))
            identity_doubt(c);
    }
    if (UNLIKELY(scripts_is_news(cmd)) && acl_stops(c, cmd, r, &stopped))
        return stopped;
    if (c->up->single)
        return dispatch_all_at_one(c, cmd, r, block);
    if (c->head != NULL && c->head->epoch != c->up->epoch && dispatch_barrier(c))
        return DISPATCH_WAIT;
    if (UNLIKELY(r->len > c->env->config->backend.large_request)) {
        if (dispatch_barrier(c))
            return DISPATCH_WAIT;
        client_hold(c, HOLD_BARRIER); /* its parts take connections of their own */
    }
    if ((cmd->flags & CMD_NOSCRIPT) != 0)
        scripts_flush(c, cmd);
    scatter_masters(c, cmd, r, scripts_finish(cmd));
    if ((cmd->flags & CMD_NOSCRIPT) != 0)
        scripts_see(c, cmd, r);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
    pipeline_limit(c);
    return DISPATCH_DONE;
}

/* --- the one entrance --- */

/* A browser that was lured into sending an HTTP request: redis-server closes at its first line or
 * its Host header, before a body that could hold commands. */
static bool is_http(const struct resp_request *r)
{
    return resp_arg_is(r, 0, "post") || resp_arg_is(r, 0, "host:");
}

static inline enum dispatch_result dispatch(struct client *c, const struct resp_request *r,
                                            struct block *block)
{
    const struct command *cmd = command_find(r);
    enum dispatch_result taken;

    if (UNLIKELY(cmd == NULL || cmd->route == ROUTE_CONTAINER) && !is_http(r) &&
        !learning_find(c, r, &cmd))
        return DISPATCH_WAIT;
    if (UNLIKELY(c->pause_writes) && client_pause_holds(c, cmd, r))
        return DISPATCH_WAIT;
    if (UNLIKELY(c->in_multi) && transaction_takes(c, cmd, r, &taken))
        return taken;
    if (UNLIKELY(cmd == NULL)) {
        if (!is_http(r))
            return dispatch_unknown_command(c, r);
        log_warn("client %llu closed: it speaks HTTP", (unsigned long long)c->id);
        client_doom(c);
        return DISPATCH_DONE;
    }
    c->last_command = cmd->number;
    if (UNLIKELY(cmd->route == ROUTE_CONTAINER))
        return dispatch_unknown_subcommand(c, cmd, r);
    if (UNLIKELY(!command_arity_ok(cmd, r->argc)) && !learnt_arity_ok(c->up->learnt, cmd, r->argc))
        return dispatch_is_unknown(c, cmd) ? dispatch_unknown(c, cmd, r)
                                           : dispatch_wrong_arity(c, cmd);
    if (UNLIKELY(c->anonymous) && identity_stops(c, cmd, &taken))
        return taken;
    if (UNLIKELY(c->subscribed) && pubsub_refuses(c, cmd, r))
        return DISPATCH_DONE;
    if (UNLIKELY(c->monitors) && monitor_refuses(c, cmd))
        return DISPATCH_DONE;
    switch ((enum command_route)cmd->route) {
    case ROUTE_KEYS:
    case ROUTE_SPLIT:
        return dispatch_keys(c, cmd, r, block);
    case ROUTE_BLOCKING:
        return blocking_dispatch(c, cmd, r);
    case ROUTE_ANY:
        return dispatch_is_guarded(c, cmd) ? dispatch_error(c, cmd, ERROR_GUARDED)
                                           : dispatch_any(c, cmd, r, block);
    case ROUTE_ALL:
        return dispatch_is_guarded(c, cmd) ? dispatch_error(c, cmd, ERROR_GUARDED)
                                           : dispatch_all(c, cmd, r, block);
    case ROUTE_LOCAL:
        return dispatch_is_guarded(c, cmd) ? dispatch_error(c, cmd, ERROR_GUARDED)
                                           : local_dispatch(c, cmd, r);
    default:
        if (command_is_learnt(cmd)) {
            learning_refuse(c, cmd);
            return DISPATCH_DONE;
        }
        if (single_forwards(c->up, cmd))
            return dispatch_keys(c, cmd, r, block);
        return dispatch_unsupported(c, cmd);
    }
}

enum dispatch_result dispatch_request(struct client *c, const struct resp_request *r,
                                      struct block *block)
{
    bool on = c->reply_mode == REPLY_ON;
    enum dispatch_result d;

    METRIC_ADD(&c->env->metrics, requests, 1);
    if (UNLIKELY(!on))
        reply_mode_begin(c);
    d = dispatch(c, r, block);
    if (UNLIKELY(d == DISPATCH_WAIT))
        METRIC_ADD(&c->env->metrics, requests, -1); /* it comes again */
    else if (UNLIKELY(!on))
        reply_mode_end(c);
    return d;
}
