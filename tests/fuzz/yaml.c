/*
 * yaml.c - fuzz target: any text is a configuration within its bounds, or is refused in one line
 * that names the file.
 */
#include "config/config.h"

#include "base/alloc.h"
#include "config/setting.h"

static void check_config(const struct config *c)
{
    for (size_t i = 0; i < settings_main.count; i++) {
        const struct setting *s = &settings_main.rows[i];

        if (s->type > SETTING_CHOICE)
            continue;
        CHECK(setting_get(s, c) >= s->min);
        CHECK(setting_get(s, c) <= s->max);
    }
    for (size_t i = 0; i < c->upstream_count; i++)
        CHECK(c->upstreams[i].name != NULL && c->upstreams[i].seed_count > 0);
    for (size_t i = 0; i < c->listener_count; i++)
        CHECK(c->listeners[i].address.host[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = config_new();
    char err[300] = "";

    if (config_load_yaml_text(c, "fuzz.yaml", (const char *)data, size, err, sizeof(err))) {
        check_config(c);
        if (!config_finish(c, err, sizeof(err)))
            CHECK(err[0] != '\0');
    } else {
        CHECK(strncmp(err, "fuzz.yaml:", 10) == 0);
        CHECK(strpbrk(err, "\r\n") == NULL);
    }
    config_free(&c);
    return 0;
}
