#include "config/args_option.h"

#include <getopt.h>
#include <stdarg.h>

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

void args_print_help(void)
{
    printf("Usage: keyway [OPTION]... HOST:PORT...\n"
           "       keyway [OPTION]... -c FILE\n"
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

bool args_bad(const char *fmt, ...)
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
            return args_bad("--%s: takes no value", row->name);
        return args_bad("-%c: there is no such option", letter);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        names[i] = rows[i].name;
    return args_bad(
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
            return args_bad("--%s: given twice; expected once", row->name);
        *(const char **)(void *)field = value;
        return true;
    }
    return false;
}

bool args_read_options(struct args *a, int argc, char **argv)
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
            return args_bad("--%s: expected a value, %s", row_of(optopt)->name,
                            row_of(optopt)->value);
        if (!take_option(a, row_of(letter), optarg))
            return false;
    }
    return true;
}
