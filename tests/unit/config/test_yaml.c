#include "config/config.h"

#include <fcntl.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/alloc.h"
#include "config/setting.h"

static char err[1024];

/* Loads a text; the caller frees what comes back, NULL when it was refused. */
static struct config *load(const char *text)
{
    struct config *c = config_new();

    err[0] = '\0';
    if (!config_load_yaml_text(c, "f.yaml", text, strlen(text), err, sizeof(err)))
        config_free(&c);
    return c;
}

static void refused(const char *text, const char *message)
{
    struct config *c = load(text);

    if (c != NULL || strcmp(err, message) != 0)
        printf("\n  text: %s\n  said: %s\n  want: %s\n", text, err, message);
    CU_ASSERT_PTR_NULL(c);
    CU_ASSERT_STRING_EQUAL(err, message);
    config_free(&c);
}

static void test_values(void)
{
    struct config *c = load("workers: 3\n"
                            "memory_max: 2gb\n"
                            "split_multikey: false\n"
                            "log: {level: debug, file: /tmp/x.log}\n"
                            "client:\n"
                            "  max_pipeline: 77\n"
                            "  output_pause: 64KiB\n"
                            "  max_bulk: 1000000\n"
                            "  tcp_keepalive: 2m\n"
                            "  idle_timeout: 1h\n"
                            "backend: {ride_through: 1500ms, retry_min: 15 ms, lane_stall: 2S}\n"
                            "topology: {refresh: 10s}\n");

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_EQUAL(c->workers, 3);
    CU_ASSERT_EQUAL(c->memory_max, (uint64_t)2 << 30);
    CU_ASSERT_FALSE(c->split_multikey);
    CU_ASSERT_EQUAL(c->log_level, LOG_DEBUG);
    CU_ASSERT_STRING_EQUAL(c->log_file, "/tmp/x.log");
    CU_ASSERT_EQUAL(c->client.max_pipeline, 77);
    CU_ASSERT_EQUAL(c->client.output_pause, 65536);
    CU_ASSERT_EQUAL(c->client.max_bulk, 1000000);
    CU_ASSERT_EQUAL(c->client.tcp_keepalive_s, 120);
    CU_ASSERT_EQUAL(c->client.idle_timeout_ms, 3600000);
    CU_ASSERT_EQUAL(c->backend.ride_through_ms, 1500);
    CU_ASSERT_EQUAL(c->backend.retry_min_ms, 15);
    CU_ASSERT_EQUAL(c->backend.lane_stall_ms, 2000);
    CU_ASSERT_EQUAL(c->topology.refresh_ms, 10000);
    CU_ASSERT_EQUAL(c->topology.probe_ms, 10);
    config_free(&c);
    CU_ASSERT_PTR_NULL(c);
}

static const char *dialled(const struct config *c, const char *announced)
{
    static char text[ADDR_TEXT_MAX];
    struct addr a;

    CU_ASSERT_FATAL(addr_parse(announced, strlen(announced), &a));
    a = config_dialled(&c->upstreams[0], &a);
    return addr_format(&a, text);
}

static void test_address_map(void)
{
    struct config *c = load("upstreams:\n"
                            "  a:\n"
                            "    cluster: ['h1:1']\n"
                            "    address_map:\n"
                            "      10.0.0.1:*: '192.0.2.1:*'\n"
                            "      10.0.0.1:7000: other.example:1\n"
                            "      '[fd00::1]:*': '[::1]:*'\n");

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_STRING_EQUAL(dialled(c, "10.0.0.1:7000"), "other.example:1");
    CU_ASSERT_STRING_EQUAL(dialled(c, "10.0.0.1:7001"), "192.0.2.1:7001");
    CU_ASSERT_STRING_EQUAL(dialled(c, "fd00::1:7001"), "[::1]:7001");
    CU_ASSERT_STRING_EQUAL(dialled(c, "10.0.0.2:7000"), "10.0.0.2:7000");
    CU_ASSERT_STRING_EQUAL(dialled(c, "/run/x"), "/run/x");
    config_free(&c);
    refused("upstreams: {a: {cluster: ['h:1'], address_map: {'h:1': 'h:*'}}}",
            "f.yaml:1: upstreams.a.address_map: 'h:1: h:*' is not a pair of addresses; expected at "
            "most 4096 times HOST:PORT: HOST:PORT or 'HOST:*': 'HOST:*'");
}

static void test_lists(void)
{
    struct config *c = load("upstreams:\n"
                            "  a: {cluster: ['h1:1', '[::1]:2'], user: u, password: p w}\n"
                            "  b: {cluster: [h2:3]}\n"
                            "listeners:\n"
                            "  - {address: 127.0.0.1:7000, upstream: b, pretend: cluster}\n"
                            "  - address: /run/k.sock\n");

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_EQUAL_FATAL(c->upstream_count, 2);
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].name, "a");
    CU_ASSERT_EQUAL(c->upstreams[0].kind, UPSTREAM_CLUSTER);
    CU_ASSERT_EQUAL_FATAL(c->upstreams[0].seed_count, 2);
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].seeds[1].host, "::1");
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].user, "u");
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].password, "p w");
    CU_ASSERT_PTR_NULL(c->upstreams[1].user);
    CU_ASSERT_PTR_NULL(c->upstreams[1].password);
    CU_ASSERT_EQUAL_FATAL(c->listener_count, 2);
    CU_ASSERT_EQUAL(c->listeners[0].address.port, 7000);
    CU_ASSERT_STRING_EQUAL(c->listeners[0].upstream, "b");
    CU_ASSERT_EQUAL(c->listeners[0].pretend, PRETEND_CLUSTER);
    CU_ASSERT_STRING_EQUAL(c->listeners[1].address.host, "/run/k.sock");
    CU_ASSERT_PTR_NULL(c->listeners[1].upstream);
    CU_ASSERT_EQUAL(c->listeners[1].pretend, PRETEND_STANDALONE);
    CU_ASSERT_TRUE(config_finish(c, err, sizeof(err)));
    config_free(&c);
}

static void test_kinds(void)
{
    struct config *c = load("upstreams:\n"
                            "  a: {server: /run/redis.sock}\n"
                            "  b: {sentinel: {master: m, sentinels: ['h:1', 'h:2'],\n"
                            "                 sentinel_password: s}, password: p}\n"
                            "  c: {sentinel: {masters: [x, y], sentinels: ['h:1'],\n"
                            "                 distribution: ketama}}\n");

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_EQUAL_FATAL(c->upstream_count, 3);
    CU_ASSERT_EQUAL(c->upstreams[0].kind, UPSTREAM_SERVER);
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].seeds[0].host, "/run/redis.sock");
    CU_ASSERT_EQUAL(c->upstreams[1].kind, UPSTREAM_SENTINEL);
    CU_ASSERT_EQUAL(c->upstreams[1].seed_count, 2);
    CU_ASSERT_STRING_EQUAL(c->upstreams[1].masters[0], "m");
    CU_ASSERT_STRING_EQUAL(c->upstreams[1].sentinel_password, "s");
    CU_ASSERT_STRING_EQUAL(c->upstreams[1].password, "p");
    CU_ASSERT_EQUAL(c->upstreams[1].distribution, DISTRIBUTION_RANGES);
    CU_ASSERT_EQUAL(c->upstreams[2].master_count, 2);
    CU_ASSERT_EQUAL(c->upstreams[2].distribution, DISTRIBUTION_KETAMA);
    config_free(&c);

    refused("upstreams: {a: {server: h:1, cluster: [h:1]}}",
            "f.yaml:1: upstreams.a.cluster: server is given too; expected one of them");
    refused("upstreams: {a: {server: [h:1]}}",
            "f.yaml:1: upstreams.a.server: '' is not an address; expected HOST:PORT or the path of "
            "a socket");
    refused("upstreams: {a: {sentinel: {sentinels: ['h:1']}}}",
            "f.yaml:1: upstreams.a.sentinel.master: missing; expected a name");
    refused("upstreams: {a: {sentinel: {master: m}}}",
            "f.yaml:1: upstreams.a.sentinel.sentinels: missing; expected a list of HOST:PORT");
    refused("upstreams: {a: {sentinel: {masters: [m, m], sentinels: ['h:1']}}}",
            "f.yaml:1: upstreams.a.sentinel.masters: 'm' is given twice");
    refused("upstreams: {a: {sentinel: {master: m, masters: [n], sentinels: ['h:1']}}}",
            "f.yaml:1: upstreams.a.sentinel.master: masters is given too; expected one of them");
    refused("upstreams: {a: {sentinel: {master: m, sentinels: ['h:1'], distribution: x}}}",
            "f.yaml:1: upstreams.a.sentinel.distribution: 'x' is not known; expected one of "
            "ranges, ketama");
    refused("upstreams: {a: {sentinel: h:1}}",
            "f.yaml:1: upstreams.a.sentinel: expected keys with values");
}

static void test_bad_values(void)
{
    refused("client:\n  max_pipeline: abc\n",
            "f.yaml:2: client.max_pipeline: 'abc' is not a whole number; expected 1 to 1048576");
    refused("client: {max_pipeline: 0}",
            "f.yaml:1: client.max_pipeline: '0' is too small; expected 1 to 1048576");
    refused("client: {max_pipeline: 1048577}",
            "f.yaml:1: client.max_pipeline: '1048577' is too large; expected 1 to 1048576");
    refused("client: {max_pipeline: 99999999999999999999999}",
            "f.yaml:1: client.max_pipeline: '99999999999999999999999' is not a whole number; "
            "expected 1 to 1048576");
    refused("client: {max_pipeline: -1}",
            "f.yaml:1: client.max_pipeline: '-1' is not a whole number; expected 1 to 1048576");
    refused("client: {max_pipeline: 1KiB}",
            "f.yaml:1: client.max_pipeline: '1KiB' is not a whole number; expected 1 to 1048576");
    refused("client: {max_bulk: 3GiB}",
            "f.yaml:1: client.max_bulk: '3GiB' is too large; expected 1KiB to 2GiB");
    refused("client: {max_bulk: 17179869184GiB}",
            "f.yaml:1: client.max_bulk: '17179869184GiB' is not a size (bytes, KiB, MiB or GiB); "
            "expected 1KiB to 2GiB");
    refused("backend: {ride_through: 15}",
            "f.yaml:1: backend.ride_through: '15' is not a time (with ms, s, m or h); expected 0 "
            "to 1h");
    refused("client: {tcp_keepalive: 1500ms}",
            "f.yaml:1: client.tcp_keepalive: '1500ms' is not a time in whole seconds (with s, m or "
            "h); expected 0 to 32767s");
    refused("split_multikey: maybe",
            "f.yaml:1: split_multikey: 'maybe' is not known; expected one of false, true");
    refused("log:\n  file: x\n  level: loud\n", "f.yaml:3: log.level: 'loud' is not known; "
                                                "expected one of error, warn, info, debug");
    refused("workers:\n", "f.yaml:1: workers: '' is not a whole number; expected 0 to 256");
    refused("workers: [1]\n", "f.yaml:1: workers: not a plain value; expected 0 to 256");
    refused("log: {file: \"a\\0b\"}",
            "f.yaml:1: log.file: not a plain value; expected text of at most 4095 bytes");
    refused("listeners:\n- {address: nowhere}\n",
            "f.yaml:2: listeners[0].address: 'nowhere' is not an address; expected HOST:PORT or "
            "the path of a socket");
    refused("upstreams:\n  a:\n    cluster:\n    - h:1\n    - h\n",
            "f.yaml:5: upstreams.a.cluster[1]: 'h' is not an address; expected HOST:PORT");
    refused("upstreams: {a: {cluster: [h:1, h:1]}}",
            "f.yaml:1: upstreams.a.cluster[1]: 'h:1' is given twice");
    refused("upstreams: {a: {cluster: []}}",
            "f.yaml:1: upstreams.a.cluster: expected a list of 1 to 1024 times HOST:PORT");
}

static void test_bad_keys(void)
{
    refused("client:\n  max_pipline: 5\n",
            "f.yaml:2: client.max_pipline: there is no such key; did you mean max_pipeline?");
    refused("\n\nworker: 5\n", "f.yaml:3: worker: there is no such key; did you mean workers?");
    refused("clinet: {}", "f.yaml:1: clinet: there is no such key; did you mean client?");
    refused("listener: []", "f.yaml:1: listener: there is no such key; did you mean listeners?");
    refused("log: {colour: red}",
            "f.yaml:1: log.colour: there is no such key; expected one of level, file");
    refused("backend: {retry: 5s}", "f.yaml:1: backend.retry: there is no such key; did you mean "
                                    "retry_min or retry_max or retry_budget?");
    refused("workers: 1\nlog: {}\nworkers: 1\n", "f.yaml:3: workers: given twice, first in line 1");
    refused("log:\n  level: info\n  file: x\n  level: info\n",
            "f.yaml:4: log.level: given twice, first in line 2");
    refused("upstreams:\n  a: {cluster: [h:1]}\n  a: {cluster: [h:1]}\n",
            "f.yaml:3: upstreams.a: given twice, first in line 2");
    refused("client: {[a]: 1}", "f.yaml:1: client.?: a key that is not text; expected a name");
    refused("\"a\\nb\": 1", "f.yaml:1: a?b: there is no such key; expected one of workers, "
                            "memory_max, shutdown_timeout, split_multikey, admin_commands, "
                            "learn_commands, scripts_max_bytes, "
                            "listeners, upstreams, "
                            "log, client, backend, topology");
    refused("client: 5\n", "f.yaml:1: client: expected keys with values");
    refused("listeners: {address: a:1}\n",
            "f.yaml:1: listeners: expected a list of 1 to 64 entries with address");
    refused("listeners: [{pretend: cluster}]\n",
            "f.yaml:1: listeners[0].address: missing; expected HOST:PORT");
    refused("upstreams: [a]\n",
            "f.yaml:1: upstreams: expected 1 to 64 names, each with its servers");
    refused("upstreams: {a: {user: x}}",
            "f.yaml:1: upstreams.a.cluster: missing; expected a list of HOST:PORT");
}

static void test_bad_files(void)
{
    struct config *c = config_new();

    refused("- a\n", "f.yaml:1: expected keys with values, like 'workers: 2'");
    refused("workers: 1\n---\nworkers: 2\n", "f.yaml:3: a second document; expected one");
    CU_ASSERT_PTR_NULL(load("workers: [1\nlog: }\n"));
    CU_ASSERT_EQUAL(strncmp(err, "f.yaml:2: not YAML: ", 20), 0);
    CU_ASSERT_PTR_NULL(load("workers: 1\nlog: {file: \xff}\n"));
    CU_ASSERT_EQUAL(strncmp(err, "f.yaml:2: not YAML: ", 20), 0);
    CU_ASSERT_FALSE(config_load_yaml(c, "/no/such/file.yaml", err, sizeof(err)));
    CU_ASSERT_STRING_EQUAL(err, "/no/such/file.yaml: cannot be read: No such file or directory");
    CU_ASSERT_FALSE(config_load_yaml(c, "/", err, sizeof(err)));
    CU_ASSERT_STRING_EQUAL(err, "/: cannot be read: Is a directory");
    config_free(&c);
    c = load("");
    CU_ASSERT_PTR_NOT_NULL(c);
    config_free(&c);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_password_file(void)
{
    char path[] = "/tmp/keyway-password-XXXXXX", text[256];
    int fd = mkstemp(path);
    struct config *c;

    CU_ASSERT_FATAL(fd >= 0);
    close(fd);
    write_file(path, "s3cret with spaces\r\nsecond line\n");
    snprintf(text, sizeof(text), "upstreams: {a: {cluster: [h:1], password_file: %s}}", path);
    c = load(text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_STRING_EQUAL(c->upstreams[0].password, "s3cret with spaces");
    config_free(&c);
    write_file(path, "\nx");
    CU_ASSERT_PTR_NULL(load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "f.yaml:1: upstreams.a.password_file: '"));
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "has no password in its first line"));
    unlink(path);
    CU_ASSERT_PTR_NULL(load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "cannot be read: No such file or directory"));
    refused("upstreams: {a: {cluster: [h:1], password: x, password_file: ''}}",
            "f.yaml:1: upstreams.a.password: password_file is given too; expected one of them");
    refused("listeners: [{address: h:1, password: x, password_file: ''}]",
            "f.yaml:1: listeners[0].password: password_file is given too; expected one of them");
}

static void unfit(const char *text, const char *message)
{
    struct config *c = load(text);

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_FALSE(config_finish(c, err, sizeof(err)));
    CU_ASSERT_STRING_EQUAL(err, message);
    config_free(&c);
}

static void test_finish(void)
{
    struct config *c = load("upstreams: {a: {cluster: [h:1]}}");

    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_TRUE_FATAL(config_finish(c, err, sizeof(err)));
    CU_ASSERT_EQUAL_FATAL(c->listener_count, 1);
    CU_ASSERT_STRING_EQUAL(c->listeners[0].address.host, "127.0.0.1");
    CU_ASSERT_EQUAL(c->listeners[0].address.port, 7600);
    CU_ASSERT(c->workers >= 1);
    CU_ASSERT(c->workers <= (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
    CU_ASSERT_TRUE(config_finish(c, err, sizeof(err)));
    config_free(&c);
    unfit("workers: 1", "upstreams: no server is named; expected HOST:PORT arguments, or a "
                        "configuration file with at least one upstream");
    unfit("upstreams: {a: {cluster: [h:1]}}\nlisteners: [{address: a:1, upstream: b}]",
          "listeners[0].upstream: there is no upstream 'b'; expected the name of one of upstreams");
    unfit("upstreams: {a: {cluster: [h:1]}}\nlisteners: [{address: a:1}, {address: A:1}]",
          "listeners[1].address: A:1 is listeners[0]'s address too");
    unfit("upstreams: {a: {cluster: [h:1]}}\nclient: {output_pause: 2GiB}",
          "client.output_pause: 2GiB is more than client.output_max; expected at most its 1GiB");
    unfit("upstreams: {a: {cluster: [h:1]}}\nbackend: {retry_min: 2s}",
          "backend.retry_min: 2s is more than backend.retry_max; expected at most its 1s");
    unfit("upstreams: {a: {cluster: [h:1], user: u}}",
          "upstreams.a.user: a user needs a password; expected password, password_file or the "
          "environment variable KEYWAY_PASSWORD");
}

/* The mode that a listener ends up with. */
static enum config_auth finished(const char *listener, const char *upstream)
{
    char text[512];
    struct config *c;
    enum config_auth auth;

    snprintf(text, sizeof(text),
             "listeners: [{address: 127.0.0.1:1%s}]\nupstreams: {a: {cluster: [h:1]%s}}", listener,
             upstream);
    c = load(text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_TRUE(config_finish(c, err, sizeof(err)));
    auth = c->listeners[0].auth;
    config_free(&c);
    return auth;
}

static void test_auth(void)
{
    static const char open_to_all[] =
        "listeners[0].auth: whoever reaches 0.0.0.0 would use the upstream's password without "
        "knowing it; expected auth: servers or proxy, a local address, or protected: no";

    CU_ASSERT_EQUAL(finished("", ""), AUTH_SERVERS);
    CU_ASSERT_EQUAL(finished("", ", password: x"), AUTH_AUTO);
    CU_ASSERT_EQUAL(finished(", password: y", ", password: x"), AUTH_PROXY);
    CU_ASSERT_EQUAL(finished(", password: y, user: u", ""), AUTH_PROXY);
    CU_ASSERT_EQUAL(finished(", auth: proxy", ", password: x"), AUTH_PROXY);
    CU_ASSERT_EQUAL(finished(", auth: servers", ", password: x"), AUTH_SERVERS);
    CU_ASSERT_EQUAL(finished(", auth: none", ", password: x"), AUTH_NONE);
    unfit("listeners: [{address: 0.0.0.0:1}]\nupstreams: {a: {cluster: [h:1], password: x}}",
          open_to_all);
    unfit("listeners: [{address: 0.0.0.0:1, auth: none}]\n"
          "upstreams: {a: {cluster: [h:1], password: x}}",
          open_to_all);
    unfit("listeners: [{address: h:1, auth: proxy}]\nupstreams: {a: {cluster: [h:1]}}",
          "listeners[0].auth: proxy needs a password to check; expected password or password_file "
          "of the listener, or of its upstream");
    unfit(
        "listeners: [{address: h:1, user: u}]\nupstreams: {a: {cluster: [h:1]}}",
        "listeners[0].user: goes with auth: proxy and a password only; expected both, or neither");
    unfit("listeners: [{address: h:1, auth: servers, password: u}]\n"
          "upstreams: {a: {cluster: [h:1]}}",
          "listeners[0].password: goes with auth: proxy and a password only; expected both, or "
          "neither");
}

/* The file that describes every key has every key, and no other value than the default. */
static void keys_of(const struct setting_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct setting *s = &list->rows[i];
        char key[64];

        snprintf(key, sizeof(key), "%s:", s->key);
        if (strstr(text, key) == NULL) {
            printf("conf/keyway.yaml lacks %s\n", key);
            CU_FAIL("a key is not described");
        }
    }
}

static void test_example(void)
{
    static char text[65536];
    struct config *c = config_new(), *defaults = config_new();
    FILE *f = fopen(SOURCE_DIR "/conf/keyway.yaml", "r");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(fread(text, 1, sizeof(text) - 1, f) > 0);
    fclose(f);
    if (!config_load_yaml(c, SOURCE_DIR "/conf/keyway.yaml", err, sizeof(err))) {
        printf("%s\n", err);
        CU_FAIL_FATAL("conf/keyway.yaml is refused");
    }
    for (size_t i = 0; i < settings_main.count; i++) {
        const struct setting *s = &settings_main.rows[i];

        if (s->type <= SETTING_CHOICE && setting_get(s, c) != setting_get(s, defaults)) {
            printf("conf/keyway.yaml: %s.%s is not the default\n", s->section, s->key);
            CU_FAIL("a value is not the default");
        }
    }
    CU_ASSERT_PTR_NULL(c->log_file);
    CU_ASSERT_PTR_NULL(c->upstreams[0].user);
    CU_ASSERT_PTR_NULL(c->upstreams[0].password);
    CU_ASSERT_TRUE(config_finish(c, err, sizeof(err)));
    CU_ASSERT_TRUE(config_finish(defaults, err, sizeof(err)) || defaults->listener_count == 1);
    CU_ASSERT_EQUAL_FATAL(c->listener_count, 1);
    CU_ASSERT_TRUE(addr_equal(&c->listeners[0].address, &defaults->listeners[0].address));
    CU_ASSERT_EQUAL(c->listeners[0].pretend, defaults->listeners[0].pretend);
    keys_of(&settings_main, text);
    keys_of(&settings_listener, text);
    keys_of(&settings_upstream, text);
    config_free(&c);
    config_free(&defaults);
}

/* Each default and bound of the table survives being printed and read again. */
static void test_table(void)
{
    for (size_t i = 0; i < settings_main.count; i++) {
        const struct setting *s = &settings_main.rows[i];
        uint64_t values[] = {s->min, s->def, s->max};
        struct config *c = config_new();

        CU_ASSERT_PTR_EQUAL(setting_find(&settings_main, s->section, s->key), s);
        for (size_t k = 0; k < ARRAY_LEN(values) && s->type <= SETTING_CHOICE; k++) {
            char text[SETTING_VALUE_MAX];

            CU_ASSERT(values[k] >= s->min && values[k] <= s->max);
            CU_ASSERT_TRUE(setting_set(s, c, setting_format(s, values[k], text), err, sizeof(err)));
            CU_ASSERT_EQUAL(setting_get(s, c), values[k]);
        }
        config_free(&c);
    }
}

void suite_yaml(void)
{
    CU_pSuite s = CU_add_suite("yaml", NULL, NULL);

    CU_add_test(s, "values", test_values);
    CU_add_test(s, "lists", test_lists);
    CU_add_test(s, "address_map", test_address_map);
    CU_add_test(s, "kinds of upstreams", test_kinds);
    CU_add_test(s, "bad values", test_bad_values);
    CU_add_test(s, "bad keys", test_bad_keys);
    CU_add_test(s, "bad files", test_bad_files);
    CU_add_test(s, "password file", test_password_file);
    CU_add_test(s, "finish", test_finish);
    CU_add_test(s, "auth", test_auth);
    CU_add_test(s, "conf/keyway.yaml has every key and default", test_example);
    CU_add_test(s, "table", test_table);
}
