/* The command line. */
#include <getopt.h>
#include <stdarg.h>

#include "base/alloc.h"
#include "config/setting.h"

#ifndef KEYWAY_VERSION
#error "the build gives KEYWAY_VERSION"
#endif

#define ERR_MAX 1024
#define STATUS_BAD_FILE 1
#define STATUS_BAD_ARGS 2

/* What the options said, before it is put over the file's settings. */
struct args {
    struct config *config;
    const char *file, *pretend, *auth, *user, *password_file;
    const char *workers, *log_level, *server, *sentinel;
    const char **listen; /* argc entries, borrowed from argv */
    size_t listen_count;
    bool check, help, version;
};

enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_LIST
};

static const struct option_row {
    const char *name;
    int letter;
    enum option_kind kind;
    const char *value; /* its name in --help */
    size_t offset;     /* in struct args */
    const char *text;
} rows[] = {
    {"listen", 'l', OPTION_LIST, "ADDR:PORT", 0,
     "where clients connect (127.0.0.1:7600); may be repeated"},
    {"server", 's', OPTION_TEXT, "HOST:PORT", offsetof(struct args, server),
     "one plain server, or the path of its socket, instead of a cluster"},
    {"sentinel", 'S', OPTION_TEXT, "NAME@HOST:PORT,...", offsetof(struct args, sentinel),
     "the master that these Sentinels call NAME, instead of a cluster"},
    {"workers", 'w', OPTION_TEXT, "N", offsetof(struct args, workers),
     "threads (one for each CPU it may use)"},
    {"pretend", 'p', OPTION_TEXT, "KIND", offsetof(struct args, pretend),
     "what clients are told they are connected to: standalone (the default) or cluster"},
    {"auth", 'a', OPTION_TEXT, "WHO", offsetof(struct args, auth),
     "who checks the AUTH of clients: servers, proxy, none, or auto (the default)"},
    {"user", 'u', OPTION_TEXT, "USER", offsetof(struct args, user),
     "for AUTH at the servers named on the command line"},
    {"password-file", 'f', OPTION_TEXT, "FILE", offsetof(struct args, password_file),
     "its first line is the password for AUTH"},
    {"log-level", 'L', OPTION_TEXT, "LEVEL", offsetof(struct args, log_level),
     "error, warn, info (the default) or debug"},
    {"config", 'c', OPTION_TEXT, "FILE", offsetof(struct args, file),
     "read this file first; the other arguments override it"},
    {"check", 't', OPTION_FLAG, NULL, offsetof(struct args, check),
     "read and check everything, say what was found, and exit"},
    {"help", 'h', OPTION_FLAG, NULL, offsetof(struct args, help), "print this and exit"},
    {"version", 'V', OPTION_FLAG, NULL, offsetof(struct args, version),
     "print the version and exit"},
};

static void print_keys(const char *title, const char *prefix, const struct setting_list *list)
{
    printf("\n%s\n", title);
    for (size_t i = 0; i < list->count; i++) {
        const struct setting *s = &list->rows[i];
        char name[80], expected[256], def[SETTING_VALUE_MAX];

        snprintf(name, sizeof(name), "%s%s%s%s", prefix, s->section, s->section[0] ? "." : "",
                 s->key);
        printf("  %-30s %s\n", name, s->text);
        printf("  %-30s %s", "", setting_expected(s, expected, sizeof(expected)));
        if (s->type <= SETTING_CHOICE)
            printf("; default %s", setting_format(s, s->def, def));
        printf("\n");
    }
}

static void print_help(void)
{
    printf("Usage: keyway [OPTION]... HOST:PORT...\n"
           "       keyway [OPTION]... -c FILE\n\n"
           "       keyway [OPTION]... --server HOST:PORT\n"
           "       keyway [OPTION]... --sentinel NAME@HOST:PORT,HOST:PORT...\n\n"
           "A proxy that makes a Redis or Valkey cluster look like one server. HOST:PORT are some\n"
           "nodes of the cluster; the others are learnt from them.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char name[40];

        snprintf(name, sizeof(name), "--%s%s%s", rows[i].name, rows[i].value ? " " : "",
                 rows[i].value ? rows[i].value : "");
        printf("  -%c, %-24s %s\n", rows[i].letter, name, rows[i].text);
    }
    printf("\nThe environment variable KEYWAY_PASSWORD is the password of an upstream that has\n"
           "no other.\n");
    print_keys("Keys of the configuration file (YAML):", "", &settings_main);
    print_keys("Of each entry in the list listeners:", "", &settings_listener);
    print_keys("Of each name in upstreams:", "", &settings_upstream);
}

static bool bad_args(const char *fmt, ...) PRINTF_LIKE(1, 2);

static bool bad_args(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "keyway: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nTry 'keyway --help'.\n");
    return false;
}

static const struct option_row *row_of(int letter)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

static bool unknown_option(char **argv, int letter)
{
    const char *names[ARRAY_LEN(rows)];
    const char *word = argv[optind - 1];
    char hint[512];

    if (letter != 0) {
        const struct option_row *row = row_of(letter);

        /* A long option that takes no value was given one, or a letter that is none. */
        if (row != NULL)
            return bad_args("--%s: takes no value", row->name);
        return bad_args("-%c: there is no such option", letter);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        names[i] = rows[i].name;
    return bad_args(
        "%s: there is no such option; %s", word,
        setting_suggest(word + strspn(word, "-"), names, ARRAY_LEN(names), hint, sizeof(hint)));
}

static bool take_option(struct args *a, const struct option_row *row, const char *value)
{
    char *field = (char *)a + row->offset;

    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return true;
    case OPTION_LIST:
        a->listen[a->listen_count++] = value;
        return true;
    case OPTION_TEXT:
        if (*(const char **)(void *)field != NULL)
            return bad_args("--%s: given twice; expected once", row->name);
        *(const char **)(void *)field = value;
        return true;
    }
    return false;
}

static bool read_options(struct args *a, int argc, char **argv)
{
    struct option longs[ARRAY_LEN(rows) + 1];
    char letters[2 * ARRAY_LEN(rows) + 2] = ":"; /* a missing value is told apart */
    size_t n = 1;
    int letter;

    memset(longs, 0, sizeof(longs));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool value = rows[i].kind != OPTION_FLAG;

        longs[i] = (struct option){rows[i].name, value ? required_argument : no_argument, NULL,
                                   rows[i].letter};
        letters[n++] = (char)rows[i].letter;
        if (value)
            letters[n++] = ':';
    }
    letters[n] = '\0';
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    while ((letter = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (letter == '?')
            return unknown_option(argv, optopt);
        if (letter == ':')
            return bad_args("--%s: expected a value, %s", row_of(optopt)->name,
                            row_of(optopt)->value);
        if (!take_option(a, row_of(letter), optarg))
            return false;
    }
    return true;
}

static bool set_one(const char *option, const struct setting *s, void *base, const char *text)
{
    char why[ERR_MAX];

    CHECK(s != NULL);
    return setting_set(s, base, text, why, sizeof(why)) || bad_args("--%s: %s", option, why);
}

/* The upstream that the command line names; NULL: the file names some already. `word` is the first
 * of what names it. */
static struct config_upstream *own_upstream(struct args *a, const char *word,
                                            enum config_upstream_kind kind, size_t seeds)
{
    struct config *c = a->config;
    struct config_upstream *u;

    if (c->upstream_count > 0) {
        (void)bad_args("%s: %s names its upstreams itself; expected either HOST:PORT arguments or "
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
        return bad_args("'%.*s' is not an address; expected HOST:PORT", (int)len, text);
    u->seed_count++;
    return true;
}

/* HOST:PORT arguments: a cluster. */
static bool set_seeds(struct args *a, int count, char **seeds)
{
    struct config_upstream *u;

    if (count > CONFIG_SEEDS_MAX)
        return bad_args("%d times HOST:PORT; expected at most %d", count, CONFIG_SEEDS_MAX);
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
        return bad_args("--sentinel: '%s' is not a master's name and its Sentinels; expected "
                        "NAME@HOST:PORT,HOST:PORT...",
                        a->sentinel);
    u = own_upstream(a, "--sentinel", UPSTREAM_SENTINEL, most);
    if (u == NULL)
        return false;
    u->masters = xcalloc(most, sizeof(*u->masters));
    for (size_t n; p <= at; p += n + 1) {
        n = MIN(strcspn(p, ","), (size_t)(at - p));
        if (n == 0 || n > CONFIG_MASTER_NAME_MAX)
            return bad_args("--sentinel: a master's name has 1 to %d bytes",
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
        return bad_args("HOST:PORT arguments, --server and --sentinel: expected one of them");
    if (optind < argc || a->server != NULL || a->sentinel != NULL) {
        bool ok = a->server != NULL     ? set_server(a)
                  : a->sentinel != NULL ? set_sentinel(a)
                                        : set_seeds(a, argc - optind, argv + optind);

        if (!ok || !set_credentials(a))
            return false;
    } else if (a->user != NULL || a->password_file != NULL) {
        return bad_args("--%s: goes with HOST:PORT arguments; expected it in the file, beside the "
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
        (void)bad_args("%s", err);
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
    if (!read_options(&a, argc, argv)) {
        *status = STATUS_BAD_ARGS;
    } else if (a.help) {
        print_help();
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
