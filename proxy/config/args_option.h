/*
 * args_option.h - the table of options: reading them, and --help.
 * Layer: config (args.c and args_option.c only). Thread: main, before any other.
 */
#ifndef CONFIG_ARGS_OPTION_H
#define CONFIG_ARGS_OPTION_H

#include "config/setting.h"

/* What the options said, before it is put over the file's settings. */
struct args {
    struct config *config;
    const char *file, *pretend, *auth, *user, *password_file;
    const char *workers, *log_level, *server, *sentinel;
    const char **listen; /* argc entries, borrowed from argv */
    size_t listen_count;
    bool check, help, version;
};

/* Sets *a from argv, whose words it borrows; optind is behind the last option. False: told why. */
MUST_CHECK bool args_read_options(struct args *a, int argc, char **argv);

void args_print_help(void);

/* Tells on standard error what is wrong with the command line. False. */
bool args_bad(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
