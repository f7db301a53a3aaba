#include "config/config.h"

#include <sched.h>

#include "base/alloc.h"
#include "config/setting.h"

static const char default_listener[] = CONFIG_DEFAULT_LISTENER;

struct config *config_new(void)
{
    struct config *c = xcalloc(1, sizeof(*c));

    for (size_t i = 0; i < settings_main.count; i++)
        setting_set_default(&settings_main.rows[i], c);
    return c;
}

static void free_secret(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void listener_init(struct config_listener *l)
{
    for (size_t i = 0; i < settings_listener.count; i++)
        setting_set_default(&settings_listener.rows[i], l);
}

void listener_deinit(struct config_listener *l)
{
    free(l->upstream);
    free(l->sentinel_master);
    free(l->user);
    free_secret(l->password);
}

void config_free(struct config **config)
{
    struct config *c = *config;

    *config = NULL;
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->listener_count; i++)
        listener_deinit(&c->listeners[i]);
    for (size_t i = 0; i < c->upstream_count; i++) {
        free(c->upstreams[i].name);
        free(c->upstreams[i].seeds);
        free(c->upstreams[i].user);
        free_secret(c->upstreams[i].password);
        for (size_t k = 0; k < c->upstreams[i].master_count; k++)
            free(c->upstreams[i].masters[k]);
        free(c->upstreams[i].masters);
        free(c->upstreams[i].sentinel_user);
        free(c->upstreams[i].address_map);
        free_secret(c->upstreams[i].sentinel_password);
    }
    free(c->listeners);
    free(c->upstreams);
    free(c->log_file);
    free(c);
}

struct addr config_dialled(const struct config_upstream *u, const struct addr *announced)
{
    struct addr a = *announced;

    for (size_t i = 0; i < u->address_map_count; i++) {
        const struct config_mapping *m = &u->address_map[i];

        a.port = m->announced.port != 0 ? announced->port : 0;
        if (!addr_equal(&m->announced, &a))
            continue;
        a = m->dialled;
        if (m->announced.port == 0)
            a.port = announced->port;
        return a;
    }
    return *announced;
}

static uint32_t cpus_allowed(void)
{
    cpu_set_t set;

    /* Fails only where a kernel has more CPUs than the set: then one worker is a safe answer. */
    if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) < 1)
        return 1;
    return (uint32_t)CPU_COUNT(&set);
}

static bool check_listeners(const struct config *c, char *err, size_t errlen)
{
    char text[ADDR_TEXT_MAX];

    for (size_t i = 0; i < c->listener_count; i++) {
        const struct config_listener *l = &c->listeners[i];
        bool known = l->upstream == NULL;

        for (size_t k = 0; k < c->upstream_count && !known; k++)
            known = strcmp(c->upstreams[k].name, l->upstream) == 0;
        if (!known) {
            snprintf(err, errlen,
                     "listeners[%zu].upstream: there is no upstream '%.80s'; expected the name of "
                     "one of upstreams",
                     i, l->upstream);
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (addr_equal(&c->listeners[k].address, &l->address)) {
                snprintf(err, errlen, "listeners[%zu].address: %s is listeners[%zu]'s address too",
                         i, addr_format(&l->address, text), k);
                return false;
            }
        }
    }
    return true;
}

static const struct config_upstream *upstream_of(const struct config *c,
                                                 const struct config_listener *l)
{
    for (size_t i = 0; i < c->upstream_count && l->upstream != NULL; i++)
        if (strcmp(c->upstreams[i].name, l->upstream) == 0)
            return &c->upstreams[i];
    return &c->upstreams[0];
}

static bool is_local(const struct addr *a)
{
    struct sockaddr_any sa;

    /* "127.0.0.1.example.com" is a name like any other. */
    return a->port == 0 || (strncmp(a->host, "127.", 4) == 0 && addr_numeric(a, &sa)) ||
           strcmp(a->host, "::1") == 0 || strcmp(a->host, "localhost") == 0;
}

/* What `auto` means for each listener, and whether it can be meant. */
static bool finish_auth(struct config *c, char *err, size_t errlen)
{
    for (size_t i = 0; i < c->listener_count; i++) {
        struct config_listener *l = &c->listeners[i];
        const struct config_upstream *u = upstream_of(c, l);

        if (l->auth == AUTH_AUTO && l->password != NULL)
            l->auth = AUTH_PROXY;
        else if (l->auth == AUTH_AUTO && u->password == NULL)
            l->auth = AUTH_SERVERS;
        if (l->auth == AUTH_PROXY && l->password == NULL && u->password == NULL) {
            snprintf(err, errlen,
                     "listeners[%zu].auth: proxy needs a password to check; expected password or "
                     "password_file of the listener, or of its upstream",
                     i);
            return false;
        }
        if (l->auth != AUTH_PROXY && (l->password != NULL || l->user != NULL)) {
            snprintf(err, errlen,
                     "listeners[%zu].%s: goes with auth: proxy and a password only; expected "
                     "both, or neither",
                     i, l->password != NULL ? "password" : "user");
            return false;
        }
        if ((l->auth == AUTH_NONE || l->auth == AUTH_AUTO) && u->password != NULL && l->protect &&
            !is_local(&l->address)) {
            snprintf(err, errlen,
                     "listeners[%zu].auth: whoever reaches %.100s would use the upstream's "
                     "password without knowing it; expected auth: servers or proxy, a local "
                     "address, or protected: no",
                     i, l->address.host);
            return false;
        }
    }
    return true;
}

static bool check_upstreams(const struct config *c, char *err, size_t errlen)
{
    if (c->upstream_count == 0) {
        snprintf(err, errlen,
                 "upstreams: no server is named; expected HOST:PORT arguments, or a "
                 "configuration file with at least one upstream");
        return false;
    }
    for (size_t i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (u->seed_count == 0) {
            snprintf(err, errlen,
                     u->master_count > 0
                         ? "upstreams.%.80s.sentinel.sentinels: missing; expected a list of "
                           "HOST:PORT"
                         : "upstreams.%.80s.cluster: missing; expected a list of HOST:PORT",
                     u->name);
            return false;
        }
        if (u->kind == UPSTREAM_SENTINEL && u->master_count == 0) {
            snprintf(err, errlen,
                     "upstreams.%.80s.sentinel.master: missing; expected the name by which the "
                     "Sentinels know the master",
                     u->name);
            return false;
        }
        if (u->sentinel_user != NULL && u->sentinel_password == NULL) {
            snprintf(err, errlen,
                     "upstreams.%.80s.sentinel.sentinel_user: a user needs a password; expected "
                     "sentinel_password or sentinel_password_file",
                     u->name);
            return false;
        }
        if (u->user != NULL && u->password == NULL) {
            snprintf(err, errlen,
                     "upstreams.%.80s.user: a user needs a password; expected password, "
                     "password_file or the environment variable KEYWAY_PASSWORD",
                     u->name);
            return false;
        }
    }
    return true;
}

/* Pairs of settings of which the first may not be larger than the second. */
static const struct {
    const char *section, *small, *than_section, *large;
} ordered[] = {
    {"client", "output_pause", "client", "output_max"},
    {"client", "max_bulk", "client", "max_request"},
    {"backend", "retry_min", "backend", "retry_max"},
    {"backend", "large_request", "client", "max_inflight_bytes"},
    {"backend", "large_request", "backend", "max_inflight_bytes"},
    {"backend", "large_reply", "client", "output_max"},
};

static bool check_order(const struct config *c, char *err, size_t errlen)
{
    for (size_t i = 0; i < ARRAY_LEN(ordered); i++) {
        const struct setting *s =
            setting_find(&settings_main, ordered[i].section, ordered[i].small);
        const struct setting *l =
            setting_find(&settings_main, ordered[i].than_section, ordered[i].large);
        char small[SETTING_VALUE_MAX], large[SETTING_VALUE_MAX];

        CHECK(s != NULL && l != NULL);
        if (setting_get(s, c) <= setting_get(l, c))
            continue;
        snprintf(err, errlen, "%s.%s: %s is more than %s.%s; expected at most its %s", s->section,
                 s->key, setting_format(s, setting_get(s, c), small), l->section, l->key,
                 setting_format(l, setting_get(l, c), large));
        return false;
    }
    return true;
}

bool config_finish(struct config *c, char *err, size_t errlen)
{
    if (c->listener_count == 0) {
        c->listeners = xcalloc(1, sizeof(*c->listeners));
        c->listener_count = 1;
        listener_init(&c->listeners[0]);
        CHECK(addr_parse(default_listener, strlen(default_listener), &c->listeners[0].address));
    }
    if (c->workers == 0)
        c->workers = cpus_allowed();
    return check_upstreams(c, err, errlen) && check_listeners(c, err, errlen) &&
           finish_auth(c, err, errlen) && check_order(c, err, errlen);
}
