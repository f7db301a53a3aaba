/*
 * admin.c - commands for operators that need more than a row in the table: DEBUG, whose subcommands
 * go to all servers, to one or to a key's; SCRIPT KILL and FUNCTION KILL; ACL WHOAMI.
 */
#include "base/alloc.h"
#include "base/crc16.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"
#include "session/merge_admin.h"

HANDLER(ACL_WHOAMI)
{
    UNUSED;
    resp_write_text(out, identity_user(c));
}

/* --- DEBUG --- */

enum debug_way {
    DEBUG_ALL, /* all masters: the first error, else the first answer */
    DEBUG_ANY,
    DEBUG_KEY,    /* argument 2 */
    DEBUG_KEYS,   /* from argument 2 on, of one slot */
    DEBUG_DIGEST, /* all masters: one of the whole dataset */
    DEBUG_ONE,    /* only in front of one server: several would have each key several times */
};

/* What is not here stops or crashes servers, or means something else in each of them. */
static const struct {
    const char *name;
    enum debug_way way;
} debug_ways[] = {
    {"change-repl-id", DEBUG_ALL},
    {"config-rewrite-force-all", DEBUG_ALL},
    {"dict-resizing", DEBUG_ALL},
    {"digest", DEBUG_DIGEST},
    {"digest-value", DEBUG_KEYS},
    {"error", DEBUG_ANY}, /* without a text; see debug_error */
    {"help", DEBUG_ANY},
    {"htstats-key", DEBUG_KEY},
    {"listpack", DEBUG_KEY},
    {"loadaof", DEBUG_ALL},
    {"pause-cron", DEBUG_ALL},
    {"populate", DEBUG_ONE},
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

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A server's digest is those of its keys and of each database that has some, xor-ed. Behind several
 * masters there is only database 0: its own digest counts once, not once a master. */
static void finish_digest(struct client *c, struct request *parent, struct chain *out)
{
    static const char db_0[] = "aa3098f3aae94baac14e3b8b8dcae989af93f6a2",
                      hex[] = "0123456789abcdef";
    enum {
        LEN = sizeof(db_0) - 1
    };
    char sum[LEN] = {0}, text[LEN + 1] = "";
    unsigned with_keys = 0;

    for (const struct request *p = parent->scatter->parts; p != NULL; p = p->next) {
        const char *digest = request_reply(p) + 1;
        int any = 0;

        if (c->up->single || p->reply_len != 1 + LEN + 2 || digest[-1] != '+') {
            finish_same(c, parent, out);
            return;
        }
        for (unsigned i = 0; i < LEN; i++) {
            any |= hex_value(digest[i]);
            sum[i] ^= (char)hex_value(digest[i]);
        }
        with_keys += any != 0;
    }
    for (unsigned i = 0; i < LEN; i++)
        text[i] =
            hex[(sum[i] ^ (with_keys > 0 && with_keys % 2 == 0 ? hex_value(db_0[i]) : 0)) & 15];
    resp_write_simple(out, text);
}

static bool in_one_slot(const struct client *c, const struct resp_request *r, uint32_t first)
{
    uint16_t slot = key_slot(resp_arg_ptr(r, first), resp_arg_len(r, first));

    for (uint32_t i = first + 1; i < r->argc && c->up->map->sharded; i++)
        if (key_slot(resp_arg_ptr(r, i), resp_arg_len(r, i)) != slot)
            return false;
    return true;
}

static void debug_send(struct client *c, const struct command *cmd, const struct resp_request *r,
                       enum debug_way way)
{
    struct request *parent =
        scatter_open(c, cmd, way == DEBUG_DIGEST ? finish_digest : finish_same, NULL);
    uint16_t slot = way == DEBUG_KEY || way == DEBUG_KEYS
                        ? key_slot(resp_arg_ptr(r, 2), resp_arg_len(r, 2))
                        : dispatch_any_slot(c);

    if (way == DEBUG_ALL || way == DEBUG_DIGEST)
        scatter_add_masters(c, parent, r->base, r->len);
    else
        scatter_add(c, parent, slot, r->base, r->len);
    scatter_close(c, parent);
}

bool debug_is_passed(const struct resp_request *r)
{
    for (size_t i = 0; i < ARRAY_LEN(debug_ways); i++)
        if (resp_arg_is(r, 1, debug_ways[i].name))
            return true;
    return false;
}

struct error_line {
    size_t len;
    char text[];
};

/* The error that was ordered, if the user may order one. */
static void finish_error(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *part = parent->scatter->parts;
    const struct error_line *line = parent->scatter->data;

    (void)c;
    if (part->reply_len == 0 || *request_reply(part) == '-')
        chain_append(out, request_reply(part), part->reply_len);
    else
        chain_append(out, line->text, line->len);
}

/* For those who test clients. A server's "LOADING ..." would be acted on here, so it is only asked,
 * by another DEBUG, whether the user may. */
static void debug_error(struct client *c, const struct command *cmd, const struct resp_request *r)
{
    static const char ask[] = "*2\r\n$5\r\nDEBUG\r\n$4\r\nHELP\r\n";
    const char *text = resp_arg_ptr(r, 2);
    size_t n = resp_arg_len(r, 2);
    struct error_line *line = xmalloc(sizeof(*line) + n + 3);
    struct request *parent;

    line->len = n + 3;
    line->text[0] = '-';
    for (size_t i = 0; i < n; i++)
        line->text[i + 1] = text[i] == '\r' || text[i] == '\n' ? ' ' : text[i];
    memcpy(line->text + n + 1, "\r\n", 2);
    parent = scatter_open(c, cmd, finish_error, line);
    scatter_add(c, parent, dispatch_any_slot(c), ask, sizeof(ask) - 1);
    scatter_close(c, parent);
}

HANDLER(DEBUG)
{
    if (resp_arg_is(r, 1, "error") && r->argc == 3) {
        debug_error(c, cmd, r);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(debug_ways); i++) {
        enum debug_way way = debug_ways[i].way;

        if (!resp_arg_is(r, 1, debug_ways[i].name) || (way == DEBUG_ONE && !c->up->single))
            continue;
        if ((way == DEBUG_KEY || way == DEBUG_KEYS) && r->argc < 3)
            way = DEBUG_ANY; /* a server words the error */
        if (way == DEBUG_KEYS && !in_one_slot(c, r, 2))
            error_write(out, ERROR_CROSSSLOT);
        else
            debug_send(c, cmd, r, way);
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
    size_t masters = slotmap_count_owners(c->up->map), asked = 0;
    bool killed = false;

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

        if (!slotmap_is_owner(m, i))
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
