/*
 * admin.c - commands for operators that need more than a row in the table: DEBUG, whose subcommands
 * go to all servers, to one or to a key's; SCRIPT KILL and FUNCTION KILL; ACL WHOAMI.
 */
#include "base/crc16.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/forward.h"
#include "session/identity.h"
#include "session/local.h"
#include "session/merge_admin.h"

#define HANDLER(name)                                                                              \
    void local_##name(struct client *c, const struct command *cmd, const struct resp_request *r,   \
                      struct chain *out)
#define UNUSED (void)c, (void)cmd, (void)r

HANDLER(ACL_WHOAMI)
{
    UNUSED;
    resp_write_text(out, identity_user(c));
}

/* --- DEBUG --- */

enum debug_way {
    DEBUG_ALL, /* all masters: the first error, else the first answer */
    DEBUG_ANY,
    DEBUG_KEY, /* argument 2 */
};

/* What is not here stops or crashes servers, or means something else in each of them. */
static const struct {
    const char *name;
    enum debug_way way;
} debug_ways[] = {
    {"change-repl-id", DEBUG_ALL},
    {"config-rewrite-force-all", DEBUG_ALL},
    {"dict-resizing", DEBUG_ALL},
    {"help", DEBUG_ANY},
    {"htstats-key", DEBUG_KEY},
    {"listpack", DEBUG_KEY},
    {"loadaof", DEBUG_ALL},
    {"pause-cron", DEBUG_ALL},
    {"protocol", DEBUG_ANY},
    {"quicklist", DEBUG_KEY},
    {"quicklist-packed-threshold", DEBUG_ALL},
    {"reload", DEBUG_ALL},
    {"replybuffer", DEBUG_ALL},
    {"sdslen", DEBUG_KEY},
    {"set-active-expire", DEBUG_ALL},
    {"set-disable-deny-scripts", DEBUG_ALL},
    {"sleep", DEBUG_ALL},
    {"stringmatch-len", DEBUG_ANY},
    {"ziplist", DEBUG_KEY},
};

/* The first error, else the first answer. */
static void finish_same(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *answer = parent->scatter->parts;

    (void)c;
    for (const struct request *p = answer; p != NULL; p = p->next) {
        if (p->reply_len == 0 || *request_reply(p) != '-')
            continue;
        answer = p;
        break;
    }
    chain_append(out, request_reply(answer), answer->reply_len);
}

HANDLER(DEBUG)
{
    struct request *parent;

    for (size_t i = 0; i < ARRAY_LEN(debug_ways); i++) {
        enum debug_way way = debug_ways[i].way;

        if (!resp_arg_is(r, 1, debug_ways[i].name))
            continue;
        if (way == DEBUG_KEY && r->argc < 3)
            way = DEBUG_ANY; /* a server words the error */
        parent = scatter_open(c, cmd, finish_same, NULL);
        if (way == DEBUG_ALL)
            scatter_add_masters(c, parent, r->base, r->len);
        else if (way == DEBUG_ANY)
            scatter_add(c, parent, dispatch_any_slot(c), r->base, r->len);
        else
            scatter_add(c, parent, key_slot(resp_arg_ptr(r, 2), resp_arg_len(r, 2)), r->base,
                        r->len);
        scatter_close(c, parent);
        return;
    }
    resp_write_error(out, "ERR KEYWAY DEBUG %.*s is not supported",
                     (int)MIN(resp_arg_len(r, 1), 128u), resp_arg_ptr(r, 1));
}

/* --- SCRIPT KILL, FUNCTION KILL --- */

/* A master that cannot be asked may be the one whose script runs: then "there is none" is not
 * known. */
static void finish_kill(struct client *c, struct request *parent, struct chain *out)
{
    const struct slotmap *m = c->up->map;
    size_t masters = 0, asked = 0;
    bool killed = false;

    for (size_t i = 0; i < m->node_count; i++)
        masters += m->nodes[i].is_master && m->nodes[i].slots > 0;
    for (const struct request *p = parent->scatter->parts; p != NULL; p = p->next) {
        asked++;
        killed |= p->reply_len > 0 && *request_reply(p) == '+';
    }
    if (asked == 0 || (asked < masters && !killed))
        error_write(out, ERROR_CLUSTERDOWN);
    else
        merge_kill(parent->scatter, out);
}

/* On connections of their own: a server reads nothing more from the one whose script runs. */
static void kill_scripts(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    struct request *parent = scatter_open(c, cmd, finish_kill, NULL);
    const struct slotmap *m = c->up->map;

    for (size_t i = 0; i < m->node_count; i++) {
        struct beconn *conn;

        if (!m->nodes[i].is_master || m->nodes[i].slots == 0)
            continue;
        conn = node_lease(c->up->map_nodes[i], c->profile);
        if (conn != NULL)
            scatter_add_to(c, parent, conn, r->base, r->len);
    }
    scatter_close(c, parent);
}

HANDLER(SCRIPT_KILL)
{
    (void)out;
    kill_scripts(c, cmd, r);
}

HANDLER(FUNCTION_KILL)
{
    (void)out;
    kill_scripts(c, cmd, r);
}
