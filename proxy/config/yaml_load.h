/*
 * yaml_load.h - a configuration file while it is read: its document, and where values go.
 * Layer: config (yaml.c and yaml_value.c only). Thread: any. Owner: nodes and their texts are the
 * document's. Where a function fails, load.err says why.
 */
#ifndef CONFIG_YAML_LOAD_H
#define CONFIG_YAML_LOAD_H

#include <yaml.h>

#include "config/setting.h"

/* One file. All is borrowed. */
struct load {
    struct config *config;
    yaml_document_t *doc;
    const char *name; /* of the file, for messages */
    const char *text;
    size_t len;
    char *err;
    size_t errlen;
};

/* A mapping being read: which rows its keys are looked up in and where their values go. */
struct scope {
    const struct setting_list *list;
    const char *section;
    const char *path; /* "client." */
    void *base;
};

static inline size_t line_of(const yaml_node_t *node)
{
    return node->start_mark.line + 1;
}

static inline yaml_node_t *node_at(const struct load *ld, int id)
{
    return yaml_document_get_node(ld->doc, id);
}

static inline size_t item_count(const yaml_node_t *list)
{
    return (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
}

static inline yaml_node_t *item(const struct load *ld, const yaml_node_t *list, size_t i)
{
    return node_at(ld, list->data.sequence.items.start[i]);
}

static inline size_t pair_count(const yaml_node_t *map)
{
    return (size_t)(map->data.mapping.pairs.top - map->data.mapping.pairs.start);
}

/* The text of a scalar, or NULL when it is none or has a NUL inside. */
static inline const char *text_of(const yaml_node_t *node)
{
    const char *text;

    if (node->type != YAML_SCALAR_NODE)
        return NULL;
    text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

/* Writes "FILE:LINE: ..." to err, in one line whatever the file's text held. False. */
bool load_fail(const struct load *ld, size_t line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The i-th key of a mapping, checked to be text that stands there once. NULL: err is set. */
const char *load_key_at(const struct load *ld, const yaml_node_t *map, const char *path, size_t i);

/* Sets s, of whatever type it is, from its value in the file. */
MUST_CHECK bool load_value(const struct load *ld, const struct setting *s, const struct scope *sc,
                           const yaml_node_t *node);

#endif
