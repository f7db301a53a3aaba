#include "session/info_own.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"

#define MAX_SECTION_NAME 128 /* no server has a longer one: it selects nothing */

void info_wanted_read(const struct resp_request *r, struct info_wanted *out)
{
    *out = (struct info_wanted){.normal = r->argc == 1, .servers = r->argc == 1};
    for (uint32_t i = 1; i < r->argc; i++) {
        out->normal |= resp_arg_is(r, i, "default") || resp_arg_is(r, i, "all") ||
                       resp_arg_is(r, i, "everything");
        out->server |= resp_arg_is(r, i, "server");
        out->clients |= resp_arg_is(r, i, "clients");
        out->persistence |= resp_arg_is(r, i, "persistence");
        out->stats |= resp_arg_is(r, i, "stats");
        out->replication |= resp_arg_is(r, i, "replication");
        out->cluster |= resp_arg_is(r, i, "cluster");
        out->keyway |= resp_arg_is(r, i, "keyway");
        out->servers |= !resp_arg_is(r, i, "keyway");
    }
}

bool info_request_write(const struct resp_request *r, struct chain *out)
{
    uint32_t names = 0;
    char name[MAX_SECTION_NAME];

    for (uint32_t i = 1; i < r->argc; i++)
        names += resp_arg_len(r, i) <= sizeof(name);
    if (names == 0 && r->argc > 1)
        return false;
    resp_write_array(out, names + 1);
    resp_write_text(out, "info");
    for (uint32_t i = 1; i < r->argc; i++) {
        uint32_t n = resp_arg_len(r, i);
        const char *p = resp_arg_ptr(r, i);

        if (n > sizeof(name))
            continue;
        for (uint32_t k = 0; k < n; k++)
            name[k] = (char)(p[k] >= 'A' && p[k] <= 'Z' ? p[k] + 32 : p[k]);
        resp_write_bulk(out, name, n);
    }
    return true;
}

/* --- sums over all workers --- */

static struct metrics sum_metrics(const struct session_env *env)
{
    struct metrics sum = {0};

    for (unsigned i = 0; i < env->worker_count; i++) {
#define ADD(name, kind, help) METRIC_ADD(&sum, name, METRIC_GET(env->all_metrics[i], name));
        METRICS(ADD)
#undef ADD
    }
    return sum;
}

static uint64_t uptime_s(const struct session_env *env)
{
    uint64_t now = clock_wall_ms();

    return now > env->start_ms ? (now - env->start_ms) / 1000 : 0;
}

/* --- in place of the servers' --- */

static void set_server(struct info_text *t, const struct client *c)
{
    const struct session_env *env = c->env;
    const struct config_listener *l = &env->config->listeners[c->listener];

    if (info_text_get(t, "Server", "redis_version") == NULL)
        info_text_set(t, "Server", "redis_version", "%s", upstream_version(c->up));
    info_text_set(t, "Server", "redis_mode", "%s",
                  l->pretend == PRETEND_CLUSTER ? "cluster" : "standalone");
    info_text_set(t, "Server", "process_id", "%d", (int)getpid());
    info_text_set(t, "Server", "run_id", "%s", env->run_id);
    info_text_set(t, "Server", "tcp_port", "%u", l->address.port);
    info_text_set(t, "Server", "server_time_usec", "%" PRIu64, clock_wall_ms() * 1000);
    info_text_set(t, "Server", "uptime_in_seconds", "%" PRIu64, uptime_s(env));
    info_text_set(t, "Server", "uptime_in_days", "%" PRIu64, uptime_s(env) / 86400);
    if (l->address.port != 0)
        info_text_set(t, "Server", "listener0", "name=tcp,bind=%s,port=%u", l->address.host,
                      l->address.port);
    else
        info_text_set(t, "Server", "listener0", "name=unix,bind=%s", l->address.host);
}

/* The servers' own clients are this proxy's connections, and those of others. */
static void set_clients(struct info_text *t, const struct client *c, const struct metrics *sum)
{
    info_text_set(t, "Clients", "connected_clients", "%" PRIu64, METRIC_GET(sum, clients));
    info_text_set(t, "Clients", "maxclients", "%u", c->env->config->client.max_clients);
    info_text_set(t, "Clients", "blocked_clients", "%" PRIu64,
                  METRIC_GET(sum, blocked) + METRIC_GET(sum, paused));
}

void info_own_identity(struct info_text *t, const struct client *c, const struct info_wanted *w)
{
    const struct config_listener *l = &c->env->config->listeners[c->listener];
    struct metrics sum = sum_metrics(c->env);

    if (w->normal || w->server)
        set_server(t, c);
    if (w->normal || w->clients)
        set_clients(t, c, &sum);
    /* "0" stands when no server is there to be loading: requests are held, not refused. */
    if ((w->normal || w->persistence) && info_text_get(t, "Persistence", "loading") == NULL)
        info_text_set(t, "Persistence", "loading", "0");
    if (w->normal || w->stats)
        info_text_set(t, "Stats", "total_connections_received", "%" PRIu64,
                      METRIC_GET(&sum, clients_total));
    if (w->normal || w->replication) {
        info_text_set(t, "Replication", "role", "master");
        info_text_set(t, "Replication", "connected_slaves", "0");
    }
    if (w->normal || w->cluster)
        info_text_set(t, "Cluster", "cluster_enabled", "%d", l->pretend == PRETEND_CLUSTER);
}

/* --- section Keyway --- */

static void set_upstream(struct info_text *t, const struct upstream *u)
{
    const struct slotmap *m = u->map;
    size_t masters = 0, reachable = 0;
    unsigned slots = 0;
    char field[32];

    for (size_t i = 0; i < m->node_count; i++) {
        if (!slotmap_is_owner(m, i))
            continue;
        masters++;
        slots += m->nodes[i].slots;
        reachable += m->nodes[i].reachable && u->map_nodes[i]->outage_ms == 0;
    }
    snprintf(field, sizeof(field), "keyway_upstream%zu", u->index);
    info_text_set(t, "Keyway", field,
                  "name=%s,nodes=%zu,masters=%zu,masters_reachable=%zu,slots_covered=%u,"
                  "slots_moving=%zu,map_version=%" PRIu64,
                  u->config->name, m->node_count, masters, reachable, slots, m->move_count,
                  m->version);
}

static void set_config(struct info_text *t, const struct config *cf)
{
    info_text_set(t, "Keyway", "keyway_split_multikey", "%d", cf->split_multikey);
    info_text_set(t, "Keyway", "keyway_max_clients", "%u", cf->client.max_clients);
    info_text_set(t, "Keyway", "keyway_memory_max", "%" PRIu64, cf->memory_max);
    info_text_set(t, "Keyway", "keyway_ride_through_ms", "%u", cf->backend.ride_through_ms);
}

void info_own_keyway(struct info_text *t, const struct client *c)
{
    const struct session_env *env = c->env;
    struct metrics sum = sum_metrics(env);

    info_text_set(t, "Keyway", "keyway_version", "%s", env->version);
    info_text_set(t, "Keyway", "keyway_run_id", "%s", env->run_id);
    info_text_set(t, "Keyway", "keyway_uptime_in_seconds", "%" PRIu64, uptime_s(env));
    info_text_set(t, "Keyway", "keyway_workers", "%u", env->worker_count);
    info_text_set(t, "Keyway", "keyway_used_memory", "%zu", alloc_used_bytes());
    set_config(t, env->config);
#define SHOW(name, kind, help)                                                                     \
    info_text_set(t, "Keyway", "keyway_" #name, "%" PRIu64, METRIC_GET(&sum, name));
    METRICS(SHOW)
#undef SHOW
    for (size_t i = 0; i < env->upstream_count; i++)
        set_upstream(t, env->upstreams[i]);
}
