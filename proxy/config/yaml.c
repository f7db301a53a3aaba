/* The configuration file: a YAML document walked along the tables of settings. */
#include <errno.h>
#include <stdarg.h>

#include "base/alloc.h"
#include "config/yaml_load.h"

#define FILE_MAX ((size_t)1 << 20)
#define NAMES_MAX 128

bool load_fail(const struct load *ld, size_t line, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(ld->err, ld->errlen, "%s:%zu: ", ld->name, line);

    if (n >= 0 && (size_t)n < ld->errlen) {
        va_start(ap, fmt);
        vsnprintf(ld->err + n, ld->errlen - (size_t)n, fmt, ap);
        va_end(ap);
    }
    for (char *p = ld->err; ld->errlen > 0 && *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return false;
}

const char *load_key_at(const struct load *ld, const yaml_node_t *map, const char *path, size_t i)
{
    const yaml_node_pair_t *pairs = map->data.mapping.pairs.start;
    const yaml_node_t *node = node_at(ld, pairs[i].key);
    const char *key = text_of(node);

    if (key == NULL || key[0] == '\0') {
        load_fail(ld, line_of(node), "%s?: a key that is not text; expected a name", path);
        return NULL;
    }
    for (size_t k = 0; k < i; k++) {
        const yaml_node_t *before = node_at(ld, pairs[k].key);

        if (strcmp(text_of(before), key) == 0) {
            load_fail(ld, line_of(node), "%s%.80s: given twice, first in line %zu", path, key,
                      line_of(before));
            return NULL;
        }
    }
    return key;
}

static bool expect_mapping(const struct load *ld, const yaml_node_t *node, const char *path)
{
    if (node->type == YAML_MAPPING_NODE)
        return true;
    /* "client." is the path of what is in it; the thing itself has no dot. */
    return load_fail(ld, line_of(node), "%.*s: expected keys with values", (int)strlen(path) - 1,
                     path);
}

static bool unknown_key(const struct load *ld, const yaml_node_t *node, const struct scope *sc,
                        const char *key, const char *const *more, size_t more_count)
{
    const char *names[NAMES_MAX];
    char hint[1024];
    size_t count = 0;

    for (size_t i = 0; i < sc->list->count; i++)
        if (strcmp(sc->list->rows[i].section, sc->section) == 0)
            names[count++] = sc->list->rows[i].key;
    for (size_t i = 0; i < more_count; i++)
        names[count++] = more[i];
    CHECK(count <= NAMES_MAX);
    return load_fail(ld, line_of(node), "%s%.80s: there is no such key; %s", sc->path, key,
                     setting_suggest(key, names, count, hint, sizeof(hint)));
}

/* A mapping that has settings and nothing else. */
static bool load_settings(const struct load *ld, const struct scope *sc, const yaml_node_t *map)
{
    if (!expect_mapping(ld, map, sc->path))
        return false;
    for (size_t i = 0; i < pair_count(map); i++) {
        const yaml_node_pair_t *pair = &map->data.mapping.pairs.start[i];
        const char *key = load_key_at(ld, map, sc->path, i);
        const struct setting *s;

        if (key == NULL)
            return false;
        s = setting_find(sc->list, sc->section, key);
        if (s == NULL)
            return unknown_key(ld, node_at(ld, pair->key), sc, key, NULL, 0);
        if (!load_value(ld, s, sc, node_at(ld, pair->value)))
            return false;
    }
    return true;
}

static bool has_key(const struct load *ld, const yaml_node_t *map, const char *key)
{
    for (size_t i = 0; i < pair_count(map); i++) {
        const char *text = text_of(node_at(ld, map->data.mapping.pairs.start[i].key));

        if (text != NULL && strcmp(text, key) == 0)
            return true;
    }
    return false;
}

static bool load_listeners(const struct load *ld, const yaml_node_t *node)
{
    struct config *c = ld->config;
    size_t count = node->type == YAML_SEQUENCE_NODE ? item_count(node) : 0;

    if (count < 1 || count > CONFIG_LISTENERS_MAX)
        return load_fail(ld, line_of(node),
                         "listeners: expected a list of 1 to %d entries with address",
                         CONFIG_LISTENERS_MAX);
    c->listeners = xcalloc(count, sizeof(*c->listeners));
    c->listener_count = count;
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *entry = item(ld, node, i);
        char path[48];
        struct scope sc = {&settings_listener, "", path, &c->listeners[i]};

        snprintf(path, sizeof(path), "listeners[%zu].", i);
        listener_init(&c->listeners[i]);
        if (!load_settings(ld, &sc, entry))
            return false;
        if (!has_key(ld, entry, "address"))
            return load_fail(ld, line_of(entry), "%saddress: missing; expected HOST:PORT", path);
        if (has_key(ld, entry, "password") && has_key(ld, entry, "password_file"))
            return load_fail(ld, line_of(entry),
                             "%spassword: password_file is given too; expected one of them", path);
    }
    return true;
}

/* What the keys of the first list have in common: only one of them may be there. */
static bool only_one(const struct load *ld, const yaml_node_t *map, const char *path,
                     const char *const *keys)
{
    const char *seen = NULL;

    for (; *keys != NULL; keys++) {
        if (!has_key(ld, map, *keys))
            continue;
        if (seen != NULL)
            return load_fail(ld, line_of(map), "%s%s: %s is given too; expected one of them", path,
                             seen, *keys);
        seen = *keys;
    }
    return true;
}

static bool load_sentinel(const struct load *ld, struct config_upstream *u, const char *prefix,
                          const yaml_node_t *node)
{
    static const char *const names[] = {"master", "masters", NULL};
    static const char *const passwords[] = {"sentinel_password", "sentinel_password_file", NULL};
    char path[160];
    struct scope sc = {&settings_upstream, "sentinel", path, u};

    snprintf(path, sizeof(path), "%ssentinel.", prefix);
    if (!expect_mapping(ld, node, path) || !only_one(ld, node, path, names) ||
        !only_one(ld, node, path, passwords) || !load_settings(ld, &sc, node))
        return false;
    if (u->master_count == 0)
        return load_fail(ld, line_of(node), "%smaster: missing; expected a name", path);
    if (u->seed_count == 0)
        return load_fail(ld, line_of(node), "%ssentinels: missing; expected a list of HOST:PORT",
                         path);
    return true;
}

static bool load_upstream(const struct load *ld, struct config_upstream *u, const yaml_node_t *node)
{
    static const char *const kinds[] = {"cluster", "server", "sentinel", NULL};
    static const char *const more[] = {"sentinel"};
    char path[128];
    struct scope sc = {&settings_upstream, "", path, u};

    snprintf(path, sizeof(path), "upstreams.%.80s.", u->name);
    if (!expect_mapping(ld, node, path) || !only_one(ld, node, path, kinds))
        return false;
    for (size_t i = 0; i < pair_count(node); i++) {
        const yaml_node_pair_t *pair = &node->data.mapping.pairs.start[i];
        const yaml_node_t *value = node_at(ld, pair->value);
        const char *key = load_key_at(ld, node, path, i);
        const struct setting *s;

        if (key == NULL)
            return false;
        s = setting_find(sc.list, sc.section, key);
        if (s == NULL && strcmp(key, "sentinel") != 0)
            return unknown_key(ld, node_at(ld, pair->key), &sc, key, more, ARRAY_LEN(more));
        if (s != NULL ? !load_value(ld, s, &sc, value) : !load_sentinel(ld, u, path, value))
            return false;
    }
    if (u->seed_count == 0)
        return load_fail(ld, line_of(node), "%scluster: missing; expected a list of HOST:PORT",
                         path);
    if (has_key(ld, node, "password") && has_key(ld, node, "password_file"))
        return load_fail(ld, line_of(node),
                         "%spassword: password_file is given too; expected one of them", path);
    return true;
}

static bool load_upstreams(const struct load *ld, const yaml_node_t *node)
{
    struct config *c = ld->config;
    size_t count = node->type == YAML_MAPPING_NODE ? pair_count(node) : 0;

    if (count < 1 || count > CONFIG_UPSTREAMS_MAX)
        return load_fail(ld, line_of(node),
                         "upstreams: expected 1 to %d names, each with its servers",
                         CONFIG_UPSTREAMS_MAX);
    c->upstreams = xcalloc(count, sizeof(*c->upstreams));
    for (size_t i = 0; i < count; i++) {
        const char *name = load_key_at(ld, node, "upstreams.", i);

        if (name == NULL)
            return false;
        if (strlen(name) > 80)
            return load_fail(ld, line_of(node),
                             "upstreams.%.80s...: expected a name of at most 80 bytes", name);
        c->upstreams[i].name = xstrdup(name);
        c->upstream_count++;
        if (!load_upstream(ld, &c->upstreams[i],
                           node_at(ld, node->data.mapping.pairs.start[i].value)))
            return false;
    }
    return true;
}

/* What stands at the top beside plain settings and sections of them. */
static const struct {
    const char *key;
    bool (*load)(const struct load *ld, const yaml_node_t *node);
} blocks[] = {
    {"listeners", load_listeners},
    {"upstreams", load_upstreams},
};

static bool is_section(const char *key)
{
    for (size_t i = 0; i < settings_main.count; i++)
        if (strcmp(settings_main.rows[i].section, key) == 0)
            return true;
    return false;
}

static bool unknown_top_key(const struct load *ld, const yaml_node_t *node, const struct scope *sc,
                            const char *key)
{
    const char *more[NAMES_MAX / 2];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        more[count++] = blocks[i].key;
    for (size_t i = 0; i < settings_main.count && count < ARRAY_LEN(more); i++) {
        const char *section = settings_main.rows[i].section;

        if (section[0] != '\0' && strcmp(section, more[count - 1]) != 0)
            more[count++] = section;
    }
    return unknown_key(ld, node, sc, key, more, count);
}

static bool load_top(const struct load *ld, const char *key, const yaml_node_t *key_node,
                     const yaml_node_t *value)
{
    struct scope top = {&settings_main, "", "", ld->config};
    const struct setting *s = setting_find(&settings_main, "", key);

    if (s != NULL)
        return load_value(ld, s, &top, value);
    if (is_section(key)) {
        char path[64];
        struct scope sc = {&settings_main, key, path, ld->config};

        snprintf(path, sizeof(path), "%s.", key);
        return load_settings(ld, &sc, value);
    }
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        if (strcmp(blocks[i].key, key) == 0)
            return blocks[i].load(ld, value);
    return unknown_top_key(ld, key_node, &top, key);
}

static bool load_root(const struct load *ld)
{
    const yaml_node_t *root = yaml_document_get_root_node(ld->doc);

    if (root == NULL) /* an empty file: all defaults */
        return true;
    if (root->type != YAML_MAPPING_NODE)
        return load_fail(ld, line_of(root), "expected keys with values, like 'workers: 2'");
    for (size_t i = 0; i < pair_count(root); i++) {
        const yaml_node_pair_t *pair = &root->data.mapping.pairs.start[i];
        const char *key = load_key_at(ld, root, "", i);

        if (key == NULL || !load_top(ld, key, node_at(ld, pair->key), node_at(ld, pair->value)))
            return false;
    }
    return true;
}

static bool fail_syntax(const struct load *ld, const yaml_parser_t *parser)
{
    size_t line = parser->problem_mark.line + 1;

    /* Bytes that are no text are found before there are lines; only their offset is known. */
    if (parser->error == YAML_READER_ERROR)
        for (size_t i = 0; i < MIN(parser->problem_offset, ld->len); i++)
            line += ld->text[i] == '\n';
    return load_fail(
        ld, line, "not YAML: %s%s%s", parser->problem != NULL ? parser->problem : "unreadable",
        parser->context != NULL ? ", " : "", parser->context != NULL ? parser->context : "");
}

bool config_load_yaml_text(struct config *c, const char *name, const char *text, size_t len,
                           char *err, size_t errlen)
{
    yaml_parser_t parser;
    yaml_document_t doc, next;
    struct load ld = {c, &doc, name, text, len, err, errlen};
    bool ok;

    CHECK(yaml_parser_initialize(&parser) == 1);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (yaml_parser_load(&parser, &doc) != 1) {
        fail_syntax(&ld, &parser);
        yaml_parser_delete(&parser);
        return false;
    }
    ok = load_root(&ld);
    yaml_document_delete(&doc);
    if (ok) {
        ld.doc = &next;
        if (yaml_parser_load(&parser, &next) != 1) {
            ok = fail_syntax(&ld, &parser);
        } else {
            const yaml_node_t *root = yaml_document_get_root_node(&next);

            if (root != NULL)
                ok = load_fail(&ld, line_of(root), "a second document; expected one");
            yaml_document_delete(&next);
        }
    }
    yaml_parser_delete(&parser);
    return ok;
}

bool config_load_yaml(struct config *c, const char *path, char *err, size_t errlen)
{
    FILE *f = fopen(path, "rbe");
    char *text;
    size_t n;
    bool ok;

    if (f == NULL) {
        snprintf(err, errlen, "%s: cannot be read: %s", path, strerror(errno));
        return false;
    }
    text = xmalloc(FILE_MAX + 1);
    n = fread(text, 1, FILE_MAX + 1, f);
    if (ferror(f)) {
        snprintf(err, errlen, "%s: cannot be read: %s", path, strerror(errno));
        ok = false;
    } else if (n > FILE_MAX) {
        snprintf(err, errlen, "%s: larger than %zu bytes", path, FILE_MAX);
        ok = false;
    } else {
        ok = config_load_yaml_text(c, path, text, n, err, errlen);
    }
    fclose(f);
    explicit_bzero(text, n);
    free(text);
    return ok;
}
