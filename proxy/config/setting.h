/*
 * setting.h - the table of settings that drives reading, bounds, messages and --help.
 *
 * A row says where a setting's value lives, what form it has, and what is allowed; nothing else in
 * this layer knows a key by name. A new setting is a field in config.h, a row in setting.c and an
 * entry in conf/keyway.yaml (a test checks the last).
 * Layer: config (its own files only). Thread: any; the tables are constants.
 */
#ifndef CONFIG_SETTING_H
#define CONFIG_SETTING_H

#include "config/config.h"

enum setting_type {
    SETTING_COUNT,         /* uint32_t, a whole number */
    SETTING_SIZE,          /* uint64_t, bytes: 64KiB */
    SETTING_TIME_MS,       /* uint32_t, milliseconds: 15s */
    SETTING_TIME_S,        /* uint32_t, whole seconds: 5m */
    SETTING_BOOL,          /* bool */
    SETTING_CHOICE,        /* an enum: its values are the positions in words */
    SETTING_TEXT,          /* char *, NULL when empty; max is its longest length */
    SETTING_PASSWORD_FILE, /* char *, the first line of a file; NULL when no file is named */
    SETTING_ADDR,          /* struct addr */
    SETTING_HOST_PORT,     /* struct addr without a path; empty text empties it */
    SETTING_SEEDS,         /* list of addresses of a struct config_upstream; def is its kind */
    SETTING_SERVER,        /* the same with one address, not a list */
    SETTING_NAMES,         /* its masters: a list of names, or one where max is 1 */
    SETTING_ADDRESS_MAP,   /* its mapping of addresses to addresses */
};

struct setting {
    const char *section; /* the mapping it stands in; "" for none */
    const char *key;
    enum setting_type type;
    size_t offset; /* in struct config, config_upstream or config_listener */
    uint64_t min, max, def;
    const char *const *words; /* of a choice, NULL at the end */
    const char *text;         /* for --help */
};

struct setting_list {
    const struct setting *rows;
    size_t count;
};

extern const struct setting_list settings_main;     /* offsets in struct config */
extern const struct setting_list settings_upstream; /* in struct config_upstream */
extern const struct setting_list settings_listener; /* in struct config_listener */

/* Where clients connect when nothing else is said. */
#define CONFIG_DEFAULT_LISTENER "127.0.0.1:7600"

/* Gives a zeroed listener its defaults; frees what it owns. */
void listener_init(struct config_listener *l);
void listener_deinit(struct config_listener *l);

/* Longest list of seeds, listeners and upstreams. */
#define CONFIG_SEEDS_MAX 1024
#define CONFIG_LISTENERS_MAX 64
#define CONFIG_UPSTREAMS_MAX 64
/* Longest list of Sentinel masters, and the longest name of one. */
#define CONFIG_MASTERS_MAX 256
#define CONFIG_MASTER_NAME_MAX 128
#define CONFIG_ADDRESS_MAP_MAX 4096

/* NULL when there is none. */
const struct setting *setting_find(const struct setting_list *list, const char *section,
                                   const char *key);

/* Sets a value (but seeds) from text. False with "'abc' is not ...; expected ..." in err. */
MUST_CHECK bool setting_set(const struct setting *s, void *base, const char *text, char *err,
                            size_t errlen);
void setting_set_default(const struct setting *s, void *base);

/* The value of a setting that is a number, a bool or a choice. */
uint64_t setting_get(const struct setting *s, const void *base);

#define SETTING_VALUE_MAX 64
/* A value as the file would have it: "64KiB", "15s", "true". Returns out. */
const char *setting_format(const struct setting *s, uint64_t value, char out[SETTING_VALUE_MAX]);

/* What a setting takes: "1 to 1048576", "one of error, warn, info, debug". Returns out. */
const char *setting_expected(const struct setting *s, char *out, size_t size);

/* Writes "did you mean a or b?", or the list of all names when none is near. Returns out. */
const char *setting_suggest(const char *word, const char *const *names, size_t count, char *out,
                            size_t size);

#endif
