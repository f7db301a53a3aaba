#include "session/session.h"

#include "base/alloc.h"
#include "session/acl.h"
#include "session/blocking.h"
#include "session/client_memory.h"
#include "session/client_pause.h"
#include "session/forward.h"
#include "session/identity.h"
#include "session/info.h"
#include "session/long_reply.h"
#include "session/redirect.h"
#include "session/scripts.h"

/* A merged reply is put together in one block, whose size is a 32-bit number. */
#define WHOLE_REPLY_MAX ((uint64_t)1024 * 1024 * 1024)
#define TICKS_PER_SECOND (1000 / LOOP_TICK_MS)

static void backend_env_init(struct session_env *env)
{
    const struct config_backend *cb = &env->config->backend;

    env->backend = (struct backend_env){
        .loop = env->loop,
        .ops = &forward_ops,
        .scratch = xmalloc(BECONN_SCRATCH),
        .profiles = &env->profiles,
        .connect_timeout_ms = cb->connect_timeout_ms,
        .request_timeout_ms = cb->request_timeout_ms,
        .silence_ms = cb->silence_ms,
        .tcp_keepalive_s = cb->tcp_keepalive_s,
        .tcp_user_timeout_ms = cb->tcp_user_timeout_ms,
        .retry_min_ms = cb->retry_min_ms,
        .retry_max_ms = cb->retry_max_ms,
        .max_leased = cb->max_leased,
        .retry_budget = cb->retry_budget,
        .max_profiles = cb->max_profiles,
        .large_reply = cb->large_reply,
        .max_whole_reply = MIN(env->config->client.output_max, WHOLE_REPLY_MAX),
        .random = env->start_ms * 2654435761u + env->worker * 40503u + (uintptr_t)env + 1,
    };
}

void session_env_init(struct session_env *env)
{
    const struct config_client *cc = &env->config->client;

    list_init(&env->clients);
    list_init(&env->long_replies);
    list_init(&env->blocked);
    redirect_init(env);
    env->idle_timeout_ms = cc->idle_timeout_ms;
    env->scratch = xmalloc(CLIENT_SCRATCH);
    env->limits = (struct resp_limits){.max_bulk = (uint32_t)cc->max_bulk,
                                       .max_request = (uint32_t)cc->max_request};
    env->parser = resp_parser_new(&env->limits);
    env->reparser = resp_parser_new(&env->limits);
    env->info = info_cache_new(env);
    env->acl = acl_cache_new(env);
    env->scripts = scripts_new(env->config->scripts_max_bytes);
    backend_env_init(env);
    identity_env_init(env);
    env->upstream_count = env->config->upstream_count;
    env->upstreams = xcalloc(env->upstream_count, sizeof(*env->upstreams));
    for (size_t i = 0; i < env->upstream_count; i++)
        env->upstreams[i] = upstream_new(env, i);
}

void session_env_deinit(struct session_env *env)
{
    session_close_all(env);
    client_pause_end(env);
    info_cache_free(&env->info);
    acl_cache_free(&env->acl);
    scripts_free(&env->scripts);
    for (size_t i = 0; i < env->upstream_count; i++)
        upstream_free(&env->upstreams[i]);
    free(env->upstreams);
    redirect_deinit(env);
    profile_table_deinit(&env->profiles);
    resp_parser_free(&env->parser);
    resp_parser_free(&env->reparser);
    free(env->scratch);
    free(env->backend.scratch);
    env->spare_request_low = env->spare_request_count;
    requests_trim(env);
}

void session_on_turn(struct session_env *env)
{
    redirect_on_turn(env);
}

static void each_second(struct session_env *env, uint64_t now_ms)
{
    struct list_walk walk;
    struct client *c;

    clients_walk(env, &walk);
    while ((c = clients_walk_next(env, &walk)) != NULL)
        client_tick(c, now_ms);
    block_trim();
    chain_trim();
    requests_trim(env);
}

void session_on_tick(struct session_env *env)
{
    uint64_t now_ms = env->loop->now_ms;

    for (size_t i = 0; i < env->upstream_count; i++)
        upstream_tick(env->upstreams[i], now_ms);
    long_reply_tick(env, now_ms);
    blocking_tick(env, now_ms);
    if (env->pause != NULL)
        client_pause_tick(env);
    if (env->config->memory_max > 0)
        client_memory_tick(env);
    if (++env->ticks % TICKS_PER_SECOND == 0)
        each_second(env, now_ms);
}

void session_drain(struct session_env *env)
{
    struct list_walk walk;
    struct client *c;

    env->draining = true;
    client_pause_end(env);
    clients_walk(env, &walk);
    while ((c = clients_walk_next(env, &walk)) != NULL)
        client_drain_and_close(c);
}

void session_close_all(struct session_env *env)
{
    while (!list_empty(&env->clients))
        client_close(CONTAINER_OF(env->clients.next, struct client, link));
}
