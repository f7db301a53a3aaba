/* The command line over the file over the defaults. */
#include <getopt.h>

#include "base/alloc.h"
#include "config/args_option.h"

#ifndef KEYWAY_VERSION
#error "the build gives KEYWAY_VERSION"
#endif

#define ERR_MAX 1024
#define STATUS_BAD_FILE 1
#define STATUS_BAD_ARGS 2

static bool set_one(const char *option, const struct setting *s, void *base, const char *text)
{
    char why[ERR_MAX];

    CHECK(s != NULL);
    return setting_set(s, base, text, why, sizeof(why)) || args_bad("--%s: %s", option, why);
}

/* The upstream that the command line names; NULL: the file names some already. `word` is the first
 * of what names it. */
static struct config_upstream *own_upstream(struct args *a, const char *word,
                                            enum config_upstream_kind kind, size_t seeds)
{
    struct config *c = a->config;
    struct config_upstream *u;

    if (c->upstream_count > 0) {
        (void)args_bad("%s: %s names its upstreams itself; expected either HOST:PORT arguments or "
                       "upstreams in the file",
                       word, a->file);
        return NULL;
    }
    c->upstreams = xcalloc(1, sizeof(*c->upstreams));
    c->upstream_count = 1;
    u = &c->upstreams[0];
    u->name = xstrdup("default");
    u->kind = kind;
    u->seeds = xcalloc(seeds, sizeof(*u->seeds));
    return u;
}

static bool add_seed(struct config_upstream *u, const char *text, size_t len)
{
    if (!addr_parse(text, len, &u->seeds[u->seed_count]))
        return args_bad("'%.*s' is not an address; expected HOST:PORT", (int)len, text);
    u->seed_count++;
    return true;
}

/* HOST:PORT arguments: a cluster. */
static bool set_seeds(struct args *a, int count, char **seeds)
{
    struct config_upstream *u;

    if (count > CONFIG_SEEDS_MAX)
        return args_bad("%d times HOST:PORT; expected at most %d", count, CONFIG_SEEDS_MAX);
    u = own_upstream(a, seeds[0], UPSTREAM_CLUSTER, (size_t)count);
    for (int i = 0; u != NULL && i < count; i++)
        if (!add_seed(u, seeds[i], strlen(seeds[i])))
            return false;
    return u != NULL;
}

static bool set_server(struct args *a)
{
    struct config_upstream *u = own_upstream(a, "--server", UPSTREAM_SERVER, 1);

    return u != NULL && add_seed(u, a->server, strlen(a->server));
}

static size_t count_commas(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == ',';
    return n;
}

/* NAME[,NAME...]@HOST:PORT[,HOST:PORT...] */
static bool set_sentinel(struct args *a)
{
    const char *at = strrchr(a->sentinel, '@'), *p = a->sentinel;
    size_t most = count_commas(a->sentinel) + 1;
    struct config_upstream *u;

    if (at == NULL || at == a->sentinel || most > CONFIG_MASTERS_MAX)
        return args_bad("--sentinel: '%s' is not a master's name and its Sentinels; expected "
                        "NAME@HOST:PORT,HOST:PORT...",
                        a->sentinel);
    u = own_upstream(a, "--sentinel", UPSTREAM_SENTINEL, most);
    if (u == NULL)
        return false;
    u->masters = xcalloc(most, sizeof(*u->masters));
    for (size_t n; p <= at; p += n + 1) {
        n = MIN(strcspn(p, ","), (size_t)(at - p));
        if (n == 0 || n > CONFIG_MASTER_NAME_MAX)
            return args_bad("--sentinel: a master's name has 1 to %d bytes",
                            CONFIG_MASTER_NAME_MAX);
        u->masters[u->master_count] = xcalloc(1, n + 1);
        memcpy(u->masters[u->master_count++], p, n);
    }
    for (size_t n; p[-1] != '\0'; p += n + 1) {
        n = strcspn(p, ",");
        if (!add_seed(u, p, n))
            return false;
    }
    return true;
}

static bool set_credentials(struct args *a)
{
    struct config_upstream *u = &a->config->upstreams[0];

    if (a->user != NULL &&
        !set_one("user", setting_find(&settings_upstream, "", "user"), u, a->user))
        return false;
    return a->password_file == NULL ||
           set_one("password-file", setting_find(&settings_upstream, "", "password_file"), u,
                   a->password_file);
}

/* Listeners of the command line stand in for those of the file. */
static bool set_listeners(struct args *a)
{
    struct config *c = a->config;
    const struct setting *address = setting_find(&settings_listener, "", "address");
    const struct setting *pretend = setting_find(&settings_listener, "", "pretend");
    const struct setting *auth = setting_find(&settings_listener, "", "auth");

    if (a->listen_count == 0 && c->listener_count == 0 && (a->pretend != NULL || a->auth != NULL))
        a->listen[a->listen_count++] = CONFIG_DEFAULT_LISTENER;
    if (a->listen_count > 0) {
        for (size_t i = 0; i < c->listener_count; i++)
            listener_deinit(&c->listeners[i]);
        free(c->listeners);
        c->listeners = xcalloc(a->listen_count, sizeof(*c->listeners));
        c->listener_count = a->listen_count;
    }
    for (size_t i = 0; i < a->listen_count; i++)
        listener_init(&c->listeners[i]);
    for (size_t i = 0; i < a->listen_count; i++)
        if (!set_one("listen", address, &c->listeners[i], a->listen[i]))
            return false;
    for (size_t i = 0; i < c->listener_count && a->pretend != NULL; i++)
        if (!set_one("pretend", pretend, &c->listeners[i], a->pretend))
            return false;
    for (size_t i = 0; i < c->listener_count && a->auth != NULL; i++)
        if (!set_one("auth", auth, &c->listeners[i], a->auth))
            return false;
    return true;
}

static bool override(struct args *a, int argc, char **argv)
{
    struct config *c = a->config;

    if ((optind < argc) + (a->server != NULL) + (a->sentinel != NULL) > 1)
        return args_bad("HOST:PORT arguments, --server and --sentinel: expected one of them");
    if (optind < argc || a->server != NULL || a->sentinel != NULL) {
        bool ok = a->server != NULL     ? set_server(a)
                  : a->sentinel != NULL ? set_sentinel(a)
                                        : set_seeds(a, argc - optind, argv + optind);

        if (!ok || !set_credentials(a))
            return false;
    } else if (a->user != NULL || a->password_file != NULL) {
        return args_bad("--%s: goes with HOST:PORT arguments; expected it in the file, beside the "
                        "upstream's servers",
                        a->user != NULL ? "user" : "password-file");
    }
    if (a->workers != NULL &&
        !set_one("workers", setting_find(&settings_main, "", "workers"), c, a->workers))
        return false;
    if (a->log_level != NULL &&
        !set_one("log-level", setting_find(&settings_main, "log", "level"), c, a->log_level))
        return false;
    return set_listeners(a);
}

static void take_environment(struct config *c)
{
    const char *password = getenv("KEYWAY_PASSWORD");

    for (size_t i = 0; i < c->upstream_count && password != NULL && password[0] != '\0'; i++)
        if (c->upstreams[i].password == NULL)
            c->upstreams[i].password = xstrdup(password);
}

static void print_summary(const struct args *a)
{
    const struct config *c = a->config;
    char text[ADDR_TEXT_MAX];

    printf("%s: ok\n  %u workers\n", a->file != NULL ? a->file : "arguments", c->workers);
    for (size_t i = 0; i < c->listener_count; i++) {
        const struct config_listener *l = &c->listeners[i];

        printf("  listener %s to %s, as %s\n", addr_format(&l->address, text),
               l->upstream != NULL ? l->upstream : c->upstreams[0].name,
               l->pretend == PRETEND_CLUSTER ? "cluster" : "standalone");
    }
    for (size_t i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];
        const char *seed = addr_format(&u->seeds[0], text);
        const char *others = u->seed_count > 1 ? " and others" : "";

        if (u->kind == UPSTREAM_SENTINEL)
            printf("  upstream %s: master %s%s by the Sentinels %s%s\n", u->name, u->masters[0],
                   u->master_count > 1 ? " and others" : "", seed, others);
        else
            printf("  upstream %s: %s %s%s\n", u->name,
                   u->kind == UPSTREAM_SERVER ? "server" : "cluster of", seed, others);
    }
}

/* Everything after the options are read. Returns the exit status that an error has, or 0. */
static int build(struct args *a, int argc, char **argv)
{
    char err[ERR_MAX];

    if (a->file != NULL && !config_load_yaml(a->config, a->file, err, sizeof(err))) {
        fprintf(stderr, "keyway: %s\n", err);
        return STATUS_BAD_FILE;
    }
    if (!override(a, argc, argv))
        return STATUS_BAD_ARGS;
    take_environment(a->config);
    if (config_finish(a->config, err, sizeof(err)))
        return 0;
    if (a->file == NULL) {
        (void)args_bad("%s", err);
        return STATUS_BAD_ARGS;
    }
    fprintf(stderr, "keyway: %s: %s\n", a->file, err);
    return STATUS_BAD_FILE;
}

enum args_action args_parse(int argc, char **argv, struct config *c, int *status)
{
    struct args a = {.config = c, .listen = xcalloc((size_t)argc + 1, sizeof(char *))};
    enum args_action action = ARGS_EXIT;

    *status = 0;
    if (!args_read_options(&a, argc, argv)) {
        *status = STATUS_BAD_ARGS;
    } else if (a.help) {
        args_print_help();
    } else if (a.version) {
        printf("keyway %s\n", KEYWAY_VERSION);
    } else {
        *status = build(&a, argc, argv);
        if (*status == 0)
            action = a.check ? ARGS_CHECK : ARGS_RUN;
        if (action == ARGS_CHECK)
            print_summary(&a);
    }
    fflush(stdout);
    free(a.listen);
    return action;
}
