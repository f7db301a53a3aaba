/* Values in the configuration file: plain ones by their row, and those that are lists or pairs. */
#include "base/alloc.h"
#include "config/yaml_load.h"

static bool load_seeds(const struct load *ld, const struct setting *s, const struct scope *sc,
                       const yaml_node_t *node)
{
    struct config_upstream *u = sc->base;
    char expected[128];
    size_t count = node->type == YAML_SEQUENCE_NODE ? item_count(node) : 0;

    if (count < s->min || count > s->max)
        return load_fail(ld, line_of(node), "%s%s: expected %s", sc->path, s->key,
                         setting_expected(s, expected, sizeof(expected)));
    u->kind = (enum config_upstream_kind)s->def;
    u->seeds = xcalloc(count, sizeof(*u->seeds));
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *seed = item(ld, node, i);
        const char *text = text_of(seed);

        if (text == NULL || !addr_parse(text, strlen(text), &u->seeds[i]))
            return load_fail(ld, line_of(seed),
                             "%s%s[%zu]: '%.80s' is not an address; expected HOST:PORT", sc->path,
                             s->key, i, text != NULL ? text : "");
        for (size_t k = 0; k < i; k++)
            if (addr_equal(&u->seeds[k], &u->seeds[i]))
                return load_fail(ld, line_of(seed), "%s%s[%zu]: '%.80s' is given twice", sc->path,
                                 s->key, i, text);
    }
    u->seed_count = count;
    return true;
}

static bool load_server(const struct load *ld, const struct setting *s, const struct scope *sc,
                        const yaml_node_t *node)
{
    struct config_upstream *u = sc->base;
    const char *text = text_of(node);
    struct addr address;

    if (text == NULL || !addr_parse(text, strlen(text), &address))
        return load_fail(
            ld, line_of(node),
            "%s%s: '%.80s' is not an address; expected HOST:PORT or the path of a socket", sc->path,
            s->key, text != NULL ? text : "");
    u->kind = (enum config_upstream_kind)s->def;
    u->seeds = xcalloc(1, sizeof(*u->seeds));
    u->seeds[0] = address;
    u->seed_count = 1;
    return true;
}

/* One name where the row allows no more, else a list of them. */
static bool load_names(const struct load *ld, const struct setting *s, const struct scope *sc,
                       const yaml_node_t *node)
{
    struct config_upstream *u = sc->base;
    char expected[128];
    bool list = s->max > 1;
    size_t count = !list ? 1 : node->type == YAML_SEQUENCE_NODE ? item_count(node) : 0;

    if (count < s->min || count > s->max)
        return load_fail(ld, line_of(node), "%s%s: expected %s", sc->path, s->key,
                         setting_expected(s, expected, sizeof(expected)));
    u->masters = xcalloc(count, sizeof(*u->masters));
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *name = list ? item(ld, node, i) : node;
        const char *text = text_of(name);

        if (text == NULL || text[0] == '\0' || strlen(text) > CONFIG_MASTER_NAME_MAX)
            return load_fail(ld, line_of(name), "%s%s: expected a name of 1 to %d bytes", sc->path,
                             s->key, CONFIG_MASTER_NAME_MAX);
        for (size_t k = 0; k < i; k++)
            if (strcmp(u->masters[k], text) == 0)
                return load_fail(ld, line_of(name), "%s%s: '%.80s' is given twice", sc->path,
                                 s->key, text);
        u->masters[i] = xstrdup(text);
        u->master_count++;
    }
    return true;
}

/* "HOST:PORT", or "HOST:*" as port 0. */
static bool parse_mapped(const char *text, struct addr *out)
{
    char any[ADDR_TEXT_MAX];
    size_t n = text != NULL ? strlen(text) : 0;
    bool ok;

    if (n < 2 || text[0] == '/' || n >= sizeof(any) || strcmp(text + n - 2, ":*") != 0)
        return n > 0 && text[0] != '/' && addr_parse(text, n, out);
    memcpy(any, text, n + 1);
    any[n - 1] = '1';
    ok = addr_parse(any, n, out);
    out->port = 0;
    return ok;
}

/* The mappings of one port come before those of all. */
static void add_mapping(struct config_upstream *u, const struct config_mapping *m)
{
    size_t at = u->address_map_count++;

    for (; at > 0 && m->announced.port != 0 && u->address_map[at - 1].announced.port == 0; at--)
        u->address_map[at] = u->address_map[at - 1];
    u->address_map[at] = *m;
}

static bool load_address_map(const struct load *ld, const struct setting *s, const struct scope *sc,
                             const yaml_node_t *node)
{
    struct config_upstream *u = sc->base;
    char expected[128];

    if (node->type != YAML_MAPPING_NODE || pair_count(node) > s->max)
        return load_fail(ld, line_of(node), "%s%s: expected %s", sc->path, s->key,
                         setting_expected(s, expected, sizeof(expected)));
    u->address_map = xcalloc(pair_count(node), sizeof(*u->address_map));
    for (size_t i = 0; i < pair_count(node); i++) {
        const yaml_node_t *value = node_at(ld, node->data.mapping.pairs.start[i].value);
        const char *key = load_key_at(ld, node, sc->path, i), *text = text_of(value);
        struct config_mapping m;

        if (key == NULL)
            return false;
        if (!parse_mapped(key, &m.announced) || !parse_mapped(text, &m.dialled) ||
            (m.announced.port == 0) != (m.dialled.port == 0))
            return load_fail(ld, line_of(value),
                             "%s%s: '%.80s: %.80s' is not a pair of addresses; expected %s",
                             sc->path, s->key, key, text != NULL ? text : "",
                             setting_expected(s, expected, sizeof(expected)));
        add_mapping(u, &m);
    }
    return true;
}

bool load_value(const struct load *ld, const struct setting *s, const struct scope *sc,
                const yaml_node_t *node)
{
    char expected[256], why[512];
    const char *text = text_of(node);

    if (s->type == SETTING_SEEDS)
        return load_seeds(ld, s, sc, node);
    if (s->type == SETTING_SERVER)
        return load_server(ld, s, sc, node);
    if (s->type == SETTING_NAMES)
        return load_names(ld, s, sc, node);
    if (s->type == SETTING_ADDRESS_MAP)
        return load_address_map(ld, s, sc, node);
    if (text == NULL)
        return load_fail(ld, line_of(node), "%s%s: not a plain value; expected %s", sc->path,
                         s->key, setting_expected(s, expected, sizeof(expected)));
    if (!setting_set(s, sc->base, text, why, sizeof(why)))
        return load_fail(ld, line_of(node), "%s%s: %s", sc->path, s->key, why);
    return true;
}
