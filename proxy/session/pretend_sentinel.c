/*
 * pretend_sentinel.c - SENTINEL: a Sentinel that watches one master, which is the proxy.
 *
 * Behind one port there are both, so a client that asks a Sentinel where to connect is sent back to
 * where it is. The master goes by the listener's sentinel_master, or by any name one asks for.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "resp/write.h"
#include "session/local.h"
#include "session/pretend.h"

/* What is listed where any name is known: the name in Sentinel's own configuration example. */
#define USUAL_NAME "mymaster"
#define MASTER_FIELDS 20

struct ask {
    const struct client *c;
    const struct resp_request *r;
    struct chain *out;
    struct pretend_self self;
};

static const char *configured_name(const struct client *c)
{
    return c->env->config->listeners[c->listener].sentinel_master;
}

/* Whether argument 2 names the master. */
static bool names_master(const struct ask *a)
{
    const char *name = configured_name(a->c);

    return name == NULL || (resp_arg_len(a->r, 2) == strlen(name) &&
                            memcmp(resp_arg_ptr(a->r, 2), name, strlen(name)) == 0);
}

/* False: the error has been composed. */
static bool check_name(const struct ask *a)
{
    if (names_master(a))
        return true;
    resp_write_error(a->out, "ERR No such master with that name");
    return false;
}

static void field(struct chain *out, const char *name, const char *value)
{
    resp_write_text(out, name);
    resp_write_text(out, value);
}

static void number(struct chain *out, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    field(out, name, text);
}

/* As a Sentinel shows a master that is well, with Sentinel's default settings. */
static void write_master(const struct ask *a, const char *name, size_t len)
{
    struct chain *out = a->out;
    uint64_t now = clock_wall_ms(), start = a->c->env->start_ms;

    resp_write_map(out, a->c->proto, MASTER_FIELDS);
    resp_write_text(out, "name");
    resp_write_bulk(out, name, len);
    field(out, "ip", a->self.host);
    number(out, "port", a->self.port);
    field(out, "runid", a->c->env->run_id);
    field(out, "flags", "master");
    number(out, "link-pending-commands", 0);
    number(out, "link-refcount", 1);
    number(out, "last-ping-sent", 0);
    number(out, "last-ok-ping-reply", 0);
    number(out, "last-ping-reply", 0);
    number(out, "down-after-milliseconds", 30000);
    number(out, "info-refresh", 0);
    field(out, "role-reported", "master");
    number(out, "role-reported-time", now > start ? now - start : 0);
    number(out, "config-epoch", 0);
    number(out, "num-slaves", 0);
    number(out, "num-other-sentinels", 0);
    number(out, "quorum", 1);
    number(out, "failover-timeout", 180000);
    number(out, "parallel-syncs", 1);
}

static void get_master_addr(const struct ask *a)
{
    char port[8];

    if (!names_master(a)) {
        resp_write_null_array(a->out, a->c->proto);
        return;
    }
    snprintf(port, sizeof(port), "%u", a->self.port);
    resp_write_array(a->out, 2);
    resp_write_text(a->out, a->self.host);
    resp_write_text(a->out, port);
}

static void masters(const struct ask *a)
{
    const char *name = configured_name(a->c);

    if (name == NULL)
        name = USUAL_NAME;
    resp_write_array(a->out, 1);
    write_master(a, name, strlen(name));
}

static void master(const struct ask *a)
{
    if (check_name(a))
        write_master(a, resp_arg_ptr(a->r, 2), resp_arg_len(a->r, 2));
}

/* Replicas, and other Sentinels. */
static void nobody(const struct ask *a)
{
    if (check_name(a))
        resp_write_array(a->out, 0);
}

static void ckquorum(const struct ask *a)
{
    if (check_name(a))
        resp_write_simple(a->out, "OK 1 usable Sentinels. Quorum and failover authorization can be "
                                  "reached");
}

static void myid(const struct ask *a)
{
    char id[SHA1_HEX_LEN + 1];

    pretend_id(&a->self, "sentinel", id);
    resp_write_text(a->out, id);
}

static void help(const struct ask *a)
{
    static const char *const lines[] = {
        "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CKQUORUM <master-name>",
        "    Check if the quorum can be reached.",
        "GET-MASTER-ADDR-BY-NAME <master-name>",
        "    Return the ip and port number of the master with that name: this proxy's.",
        "MASTER <master-name>",
        "    Show the state and info of the specified master.",
        "MASTERS",
        "    Show a list of monitored masters and their state: this proxy.",
        "MYID",
        "    Return the ID of the Sentinel instance.",
        "REPLICAS <master-name>",
        "    Show a list of replicas for this master: there are none.",
        "SENTINELS <master-name>",
        "    Show a list of other Sentinel instances for this master: there are none.",
        "HELP",
        "    Print this help.",
    };

    local_help(lines, ARRAY_LEN(lines), a->out);
}

static const struct subcommand {
    const char *name;
    int arity;                        /* negative: at least */
    void (*run)(const struct ask *a); /* NULL: what only a real Sentinel can do */
} subcommands[] = {
    {"get-master-addr-by-name", 3, get_master_addr},
    {"masters", 2, masters},
    {"master", 3, master},
    {"replicas", 3, nobody},
    {"slaves", 3, nobody},
    {"sentinels", 3, nobody},
    {"ckquorum", 3, ckquorum},
    {"myid", 2, myid},
    {"help", 2, help},
    {"config", -3, NULL},
    {"debug", -2, NULL},
    {"failover", 3, NULL},
    {"flushconfig", 2, NULL},
    {"info-cache", -3, NULL},
    {"is-master-down-by-addr", 6, NULL},
    {"monitor", 6, NULL},
    {"pending-scripts", 2, NULL},
    {"remove", 3, NULL},
    {"reset", 3, NULL},
    {"set", -5, NULL},
    {"simulate-failure", -3, NULL},
};

void local_SENTINEL(struct client *c, const struct command *cmd, const struct resp_request *r,
                    struct chain *out)
{
    struct ask a = {.c = c, .r = r, .out = out};

    (void)cmd;
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
        const struct subcommand *s = &subcommands[i];
        int argc = (int)MIN(r->argc, 100u);

        if (!resp_arg_is(r, 1, s->name))
            continue;
        if (s->arity >= 0 ? argc != s->arity : argc < -s->arity) {
            resp_write_error(out, "ERR wrong number of arguments for 'sentinel|%s' command",
                             s->name);
        } else if (s->run == NULL) {
            resp_write_error(out, "ERR KEYWAY SENTINEL %.*s is not supported yet",
                             (int)resp_arg_len(r, 1), resp_arg_ptr(r, 1));
        } else {
            pretend_self(c, &a.self);
            s->run(&a);
        }
        return;
    }
    resp_write_error(out, "ERR unknown subcommand '%.*s'. Try SENTINEL HELP.",
                     (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1));
}
