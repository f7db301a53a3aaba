#include "config/setting.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

#define SECOND 1000u
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
/* The longest that Linux takes for TCP_KEEPIDLE, in seconds. */
#define KEEPALIVE_MAX 32767

static const char *const level_words[] = {"error", "warn", "info", "debug", NULL};
static const char *const distribution_words[] = {"ranges", "ketama", NULL};
static const char *const pretend_words[] = {"standalone", "cluster", NULL};
static const char *const auth_words[] = {"auto", "servers", "proxy", "none", NULL};
static const char *const protect_words[] = {"no", "yes", NULL};

/* clang-format off */
#define TOP(key, field, type, min, max, def, text) \
    {"", key, SETTING_##type, offsetof(struct config, field), min, max, def, NULL, text}
#define IN(section, key, field, type, min, max, def, text) \
    {#section, key, SETTING_##type, offsetof(struct config, section.field), min, max, def, NULL, text}

static const struct setting main_rows[] = {
    TOP("workers", workers, COUNT, 0, 256, 0, "threads; 0 = one for each CPU it may use"),
    TOP("memory_max", memory_max, SIZE, 0, 64 * TIB, 0,
        "bytes of the process, 0 = no limit; beyond it the client that holds most is closed"),
    TOP("shutdown_timeout", shutdown_timeout_ms, TIME_MS, 0, HOUR, 10 * SECOND,
        "how long SIGTERM waits for replies in flight"),
    TOP("split_multikey", split_multikey, BOOL, 0, 1, 1,
        "split MGET, MSET, DEL, UNLINK, EXISTS, TOUCH whose keys are in several slots"),

    TOP("admin_commands", admin_commands, BOOL, 0, 1, 0,
        "pass CONFIG SET, RESETSTAT, REWRITE, DEBUG, and ACL commands about users to the servers"),
    TOP("learn_commands", learn_commands, BOOL, 0, 1, 1,
        "pass commands of modules and newer servers, as the servers' COMMAND describes them"),
    TOP("scripts_max_bytes", scripts_max_bytes, SIZE, 0, TIB, 16 * MIB,
        "scripts a worker remembers, for servers that answer NOSCRIPT; 0 = none"),

    {"log", "level", SETTING_CHOICE, offsetof(struct config, log_level), 0, 3, LOG_INFO,
     level_words, "the least important lines that are logged"},
    {"log", "file", SETTING_TEXT, offsetof(struct config, log_file), 0, 4095, 0, NULL,
     "where to; empty = standard error"},

    IN(client, "max_clients", max_clients, COUNT, 1, 10000000, 10000,
       "connections in all; more are refused with an error"),
    IN(client, "max_pipeline", max_pipeline, COUNT, 1, 1048576, 1024,
       "requests in flight of one client; the rest waits unparsed"),
    IN(client, "max_inflight_bytes", max_inflight_bytes, SIZE, 64 * KIB, TIB, 64 * MIB,
       "unanswered request bytes of one client; the rest waits unparsed"),
    IN(client, "output_pause", output_pause, SIZE, 64 * KIB, TIB, 32 * MIB,
       "unread reply bytes at which a client's requests are no longer parsed"),
    IN(client, "read_ahead", read_ahead, SIZE, 0, GIB, 64 * MIB,
       "request bytes kept of a client that writes on at output_pause before it reads"),
    IN(client, "output_max", output_max, SIZE, 64 * KIB, TIB, GIB,
       "unread reply bytes at which a client is closed"),
    IN(client, "output_max_pubsub", output_max_pubsub, SIZE, 64 * KIB, TIB, 32 * MIB,
       "unread bytes at which a client that gets messages or MONITOR is closed"),
    IN(client, "output_stall", output_stall_ms, TIME_MS, SECOND, DAY, 60 * SECOND,
       "a client that takes no byte of unread output for so long is closed"),
    IN(client, "idle_timeout", idle_timeout_ms, TIME_MS, 0, 30 * DAY, 0,
       "a client that sends nothing for so long is closed; 0 = never"),
    IN(client, "tcp_keepalive", tcp_keepalive_s, TIME_S, 0, KEEPALIVE_MAX, 300,
       "silence before the kernel probes a client's connection; 0 = off"),
    IN(client, "tcp_user_timeout", tcp_user_timeout_ms, TIME_MS, 0, DAY, 0,
       "how long sent bytes may stay without acknowledgement; 0 = the kernel's own"),
    IN(client, "max_bulk", max_bulk, SIZE, KIB, 2 * GIB, 512 * MIB,
       "one argument; a longer one is a protocol error"),
    IN(client, "max_request", max_request, SIZE, 64 * KIB, 2 * GIB - 1, GIB,
       "a whole request; a longer one is a protocol error"),
    IN(client, "tx_max_commands", tx_max_commands, COUNT, 1, 60000, 50000,
       "commands between MULTI and EXEC; with more EXEC is refused"),
    IN(client, "tx_max_bytes", tx_max_bytes, SIZE, 4 * KIB, GIB, 64 * MIB,
       "bytes of the commands between MULTI and EXEC; with more EXEC is refused"),

    IN(backend, "connect_timeout", connect_timeout_ms, TIME_MS, 1, 10 * MINUTE, SECOND,
       "for a connection to a server"),
    IN(backend, "request_timeout", request_timeout_ms, TIME_MS, 0, DAY, 5 * SECOND,
       "no reply for so long: the connection is dropped; 0 = never"),
    IN(backend, "silence", silence_ms, TIME_MS, 0, DAY, 100,
       "no reply for so long: nothing more is sent until one comes; 0 = never"),
    IN(backend, "max_inflight_bytes", max_inflight_bytes, SIZE, 64 * KIB, TIB, 256 * MIB,
       "unanswered bytes on one connection to a server"),
    IN(backend, "max_redirects", max_redirects, COUNT, 1, 254, 16,
       "how often a request that servers refuse unexecuted is sent again"),
    IN(backend, "ride_through", ride_through_ms, TIME_MS, 0, HOUR, 15 * SECOND,
       "how long requests wait for a shard without a reachable owner; 0 = not at all"),
    IN(backend, "ride_through_bytes", ride_through_bytes, SIZE, 0, TIB, 256 * MIB,
       "bytes of such requests a worker holds; more are refused at once"),
    IN(backend, "retry_min", retry_min_ms, TIME_MS, 1, MINUTE, 10,
       "first delay before a server is connected to again"),
    IN(backend, "retry_max", retry_max_ms, TIME_MS, 1, HOUR, SECOND,
       "largest delay before a server is connected to again"),
    IN(backend, "retry_budget", retry_budget, COUNT, 1, 10000000, 1000,
       "requests sent again to one server: under way at once, and in vain a second"),
    IN(backend, "large_request", large_request, SIZE, 4 * KIB, GIB, 64 * KIB,
       "a longer request takes a connection of its own"),
    IN(backend, "large_reply", large_reply, SIZE, 16 * KIB, GIB, MIB,
       "a longer reply is streamed"),
    IN(backend, "lane_stall", lane_stall_ms, TIME_MS, 1, HOUR, SECOND,
       "how long others wait behind a large reply that its client reads slowly"),
    IN(backend, "max_leased", max_leased, COUNT, 1, 1000000, 1000,
       "exclusive connections of one worker to one server"),
    IN(backend, "max_profiles", max_profiles, COUNT, 4, 65535, 64,
       "shared connections of one worker to one server: one a user, database and dialect"),
    IN(backend, "tcp_keepalive", tcp_keepalive_s, TIME_S, 0, KEEPALIVE_MAX, 60,
       "silence before the kernel probes a server's connection; 0 = off"),
    IN(backend, "tcp_user_timeout", tcp_user_timeout_ms, TIME_MS, 0, DAY, 0,
       "how long sent bytes may stay without acknowledgement; 0 = the kernel's own"),

    IN(topology, "refresh", refresh_ms, TIME_MS, 100, HOUR, 5 * SECOND,
       "how often servers are asked who owns what, give or take a fifth"),
    IN(topology, "refresh_per_s", refresh_per_s, COUNT, 1, 1000, 5,
       "full refreshes a second at most, whatever asks for them"),
    IN(topology, "resolve", resolve_ms, TIME_MS, SECOND, DAY, 30 * SECOND,
       "how often host names are looked up again"),
    IN(topology, "probe", probe_ms, TIME_MS, 1, MINUTE, 10,
       "how often replicas of a shard without an owner are asked for their role"),
    IN(topology, "query_timeout", query_timeout_ms, TIME_MS, 10, 10 * MINUTE, SECOND,
       "for one server's answer about the cluster"),
};

#define UPSTREAM(key, field, type, min, max, def, text) \
    {"", key, SETTING_##type, offsetof(struct config_upstream, field), min, max, def, NULL, text}

#define SENTINEL(key, field, type, min, max, def, words, text) \
    {"sentinel", key, SETTING_##type, offsetof(struct config_upstream, field), min, max, def, \
     words, text}

static const struct setting upstream_rows[] = {
    UPSTREAM("cluster", seeds, SEEDS, 1, CONFIG_SEEDS_MAX, UPSTREAM_CLUSTER,
             "some nodes of a Redis Cluster; the others are learnt from them"),
    UPSTREAM("server", seeds, SERVER, 1, 1, UPSTREAM_SERVER,
             "instead: one plain server"),
    UPSTREAM("address_map", address_map, ADDRESS_MAP, 0, CONFIG_ADDRESS_MAP_MAX, 0,
             "where servers are dialled that call themselves by an address not to be reached"),
    UPSTREAM("user", user, TEXT, 0, 512, 0, "for AUTH at the servers; empty = the default user"),
    UPSTREAM("password", password, TEXT, 0, 4096, 0, "for AUTH at the servers; empty = none"),
    UPSTREAM("password_file", password, PASSWORD_FILE, 0, 4096, 0,
             "a file whose first line is the password; empty = none"),

    SENTINEL("master", masters, NAMES, 1, 1, 0, NULL,
             "instead: the master that Redis Sentinel calls so"),
    SENTINEL("masters", masters, NAMES, 1, CONFIG_MASTERS_MAX, 0, NULL,
             "several of them, among which the keys are distributed"),
    SENTINEL("sentinels", seeds, SEEDS, 1, CONFIG_SEEDS_MAX, UPSTREAM_SENTINEL, NULL,
             "some of the Sentinels; the others are learnt from them"),
    SENTINEL("sentinel_user", sentinel_user, TEXT, 0, 512, 0, NULL,
             "for AUTH at the Sentinels; empty = the default user"),
    SENTINEL("sentinel_password", sentinel_password, TEXT, 0, 4096, 0, NULL,
             "for AUTH at the Sentinels; empty = none"),
    SENTINEL("sentinel_password_file", sentinel_password, PASSWORD_FILE, 0, 4096, 0, NULL,
             "a file whose first line is the password; empty = none"),
    SENTINEL("distribution", distribution, CHOICE, 0, 1, DISTRIBUTION_RANGES, distribution_words,
             "how several masters get their hash slots"),
};

static const struct setting listener_rows[] = {
    {"", "address", SETTING_ADDR, offsetof(struct config_listener, address), 0, 0, 0, NULL,
     "where clients connect"},
    {"", "upstream", SETTING_TEXT, offsetof(struct config_listener, upstream), 0, 255, 0, NULL,
     "the upstream its clients reach; empty = the first"},
    {"", "pretend", SETTING_CHOICE, offsetof(struct config_listener, pretend), 0, 1,
     PRETEND_STANDALONE, pretend_words, "what clients are told they are connected to"},
    {"", "announce", SETTING_HOST_PORT, offsetof(struct config_listener, announce), 0, 0, 0, NULL,
     "the address that CLUSTER and SENTINEL tell clients; empty = where they connected to"},
    {"", "sentinel_master", SETTING_TEXT, offsetof(struct config_listener, sentinel_master), 0, 255,
     0, NULL, "the master's name that SENTINEL knows; empty = any"},
    {"", "auth", SETTING_CHOICE, offsetof(struct config_listener, auth), 0, 3, AUTH_AUTO, auth_words,
     "who checks the AUTH of clients; auto = the servers, unless a password is configured"},
    {"", "user", SETTING_TEXT, offsetof(struct config_listener, user), 0, 512, 0, NULL,
     "whom clients have to AUTH as at the proxy; empty = the default user"},
    {"", "password", SETTING_TEXT, offsetof(struct config_listener, password), 0, 4096, 0, NULL,
     "with which password; empty = the upstream's"},
    {"", "password_file", SETTING_PASSWORD_FILE, offsetof(struct config_listener, password), 0, 4096,
     0, NULL, "a file whose first line is that password; empty = none"},
    {"", "protected", SETTING_CHOICE, offsetof(struct config_listener, protect), 0, 1, 1,
     protect_words, "never share the upstream's password with whoever comes from elsewhere"},
};
/* clang-format on */

const struct setting_list settings_main = {main_rows, ARRAY_LEN(main_rows)};
const struct setting_list settings_upstream = {upstream_rows, ARRAY_LEN(upstream_rows)};
const struct setting_list settings_listener = {listener_rows, ARRAY_LEN(listener_rows)};

const struct setting *setting_find(const struct setting_list *list, const char *section,
                                   const char *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].section, section) == 0 && strcmp(list->rows[i].key, key) == 0)
            return &list->rows[i];
    return NULL;
}
