/*
 * local_client.c - HELLO, AUTH and CLIENT: what a client says and asks about itself.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"
#include "session/client_list.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"

/* Printable ASCII without spaces, as redis-server wants names. */
static bool valid_name(const char *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (p[i] < '!' || p[i] > '~')
            return false;
    return true;
}

static void set_text(char **to, const char *p, uint32_t n)
{
    free(*to);
    *to = n > 0 ? xstrndup(p, n) : NULL;
}

/* --- identity --- */

static void auth_done(struct client *c, const struct auth_next *next, struct chain *out)
{
    (void)c;
    (void)next;
    resp_write_simple(out, "OK");
}

/* A client of the default user that has no password gives one. */
static bool asks_for_none(const struct client *c)
{
    const struct config_listener *l = &c->env->config->listeners[c->listener];

    return l->auth == AUTH_NONE || (l->auth == AUTH_AUTO && c->up->config->password == NULL);
}

HANDLER(AUTH)
{
    const struct config_listener *l = &c->env->config->listeners[c->listener];
    const char *configured = l->auth == AUTH_SERVERS ? NULL
                             : l->password != NULL   ? l->user
                                                     : c->up->config->user;
    struct credentials who = {.user = configured != NULL ? configured : "default",
                              .alone = r->argc == 2};
    struct auth_next *next;
    uint32_t pw = r->argc - 1;

    if (r->argc > 3) {
        error_write(out, ERROR_SYNTAX);
        return;
    }
    if (r->argc == 2 && asks_for_none(c)) {
        error_write(out, ERROR_NO_PASSWORD);
        return;
    }
    who.user_len = (uint32_t)strlen(who.user);
    if (r->argc == 3) {
        who.user = resp_arg_ptr(r, 1);
        who.user_len = resp_arg_len(r, 1);
    }
    who.password = resp_arg_ptr(r, pw);
    who.password_len = resp_arg_len(r, pw);
    next = xcalloc(1, sizeof(*next));
    next->done = auth_done;
    identity_auth(c, cmd, &who, &next, out);
}

/* --- HELLO --- */

static void hello_reply(struct client *c, struct chain *out)
{
    bool cluster = c->env->config->listeners[c->listener].pretend == PRETEND_CLUSTER;
    const char *valkey = upstream_valkey(c->up);

    resp_write_map(out, c->proto, 7);
    resp_write_text(out, "server");
    resp_write_text(out, valkey != NULL ? "valkey" : "redis");
    resp_write_text(out, "version");
    resp_write_text(out, valkey != NULL ? valkey : upstream_version(c->up));
    resp_write_text(out, "proto");
    resp_write_int(out, c->proto);
    resp_write_text(out, "id");
    resp_write_int(out, (int64_t)c->id);
    resp_write_text(out, "mode");
    resp_write_text(out, cluster ? "cluster" : "standalone");
    resp_write_text(out, "role");
    resp_write_text(out, "master");
    resp_write_text(out, "modules");
    resp_write_array(out, 0);
}

struct hello {
    int64_t proto;
    uint32_t user, name; /* positions of AUTH's user and SETNAME's name; 0: not given */
};

/* False: an error has been composed. */
static bool hello_options(const struct resp_request *r, struct hello *h, struct chain *out)
{
    for (uint32_t i = 2; i < r->argc; i++) {
        uint32_t more = r->argc - 1 - i;

        if (resp_arg_is(r, i, "AUTH") && more >= 2) {
            h->user = i + 1;
            i += 2;
        } else if (resp_arg_is(r, i, "SETNAME") && more >= 1) {
            h->name = i + 1;
            i += 1;
        } else {
            resp_write_error(out, "ERR Syntax error in HELLO option '%.*s'",
                             (int)MIN(resp_arg_len(r, i), 128u), resp_arg_ptr(r, i));
            return false;
        }
    }
    return true;
}

/* Who it is is known: the rest of the command. */
static void hello_done(struct client *c, const struct auth_next *next, struct chain *out)
{
    if (next->named && !valid_name(next->name, next->name_len)) {
        error_write(out, ERROR_NAME_CHARS);
        return;
    }
    if (!local_set_proto(c, next->proto)) {
        error_write(out, ERROR_PROFILES);
        return;
    }
    if (next->named)
        set_text(&client_extra(c)->name, next->name, next->name_len);
    hello_reply(c, out);
}

static struct auth_next *hello_next(const struct resp_request *r, const struct hello *h)
{
    uint32_t n = h->name != 0 ? resp_arg_len(r, h->name) : 0;
    struct auth_next *next = xcalloc(1, sizeof(*next) + n);

    next->done = hello_done;
    next->proto = (uint8_t)h->proto;
    next->named = h->name != 0;
    next->name_len = n;
    if (n > 0)
        memcpy(next->name, resp_arg_ptr(r, h->name), n);
    return next;
}

uint8_t hello_proto(const struct resp_request *r)
{
    struct hello h = {0};
    struct chain out;
    bool good;

    if (r->argc == 1 || !resp_arg_int(r, 1, &h.proto) || h.proto < 2 || h.proto > 3)
        return 0;
    chain_init(&out);
    good = hello_options(r, &h, &out);
    chain_clear(&out);
    if (h.name != 0 && !valid_name(resp_arg_ptr(r, h.name), resp_arg_len(r, h.name)))
        good = false;
    return good ? (uint8_t)h.proto : 0;
}

HANDLER(HELLO)
{
    struct hello h = {.proto = c->proto};
    struct auth_next *next;

    if (r->argc > 1 && !resp_arg_int(r, 1, &h.proto)) {
        resp_write_error(out, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (h.proto < 2 || h.proto > 3) {
        error_write(out, ERROR_NOPROTO);
        return;
    }
    if (!hello_options(r, &h, out))
        return;
    next = hello_next(r, &h);
    if (h.user != 0) {
        struct credentials who = {.user = resp_arg_ptr(r, h.user),
                                  .user_len = resp_arg_len(r, h.user),
                                  .password = resp_arg_ptr(r, h.user + 1),
                                  .password_len = resp_arg_len(r, h.user + 1)};

        identity_auth(c, cmd, &who, &next, out);
        return;
    }
    if (c->anonymous)
        error_write(out, ERROR_NOAUTH_HELLO);
    else
        hello_done(c, next, out);
    free(next);
}

/* --- CLIENT --- */

HANDLER(CLIENT_ID)
{
    UNUSED;
    resp_write_int(out, (int64_t)c->id);
}

HANDLER(CLIENT_SETNAME)
{
    UNUSED;
    if (!valid_name(resp_arg_ptr(r, 2), resp_arg_len(r, 2))) {
        error_write(out, ERROR_NAME_CHARS);
        return;
    }
    set_text(&client_extra(c)->name, resp_arg_ptr(r, 2), resp_arg_len(r, 2));
    resp_write_simple(out, "OK");
}

HANDLER(CLIENT_GETNAME)
{
    UNUSED;
    if (c->extra != NULL && c->extra->name != NULL)
        resp_write_text(out, c->extra->name);
    else
        resp_write_null(out, c->proto);
}

HANDLER(CLIENT_SETINFO)
{
    bool lib_name = resp_arg_is(r, 2, "lib-name");

    UNUSED;
    if (!lib_name && !resp_arg_is(r, 2, "lib-ver")) {
        resp_write_error(out, "ERR Unrecognized option '%.*s'", (int)MIN(resp_arg_len(r, 2), 128u),
                         resp_arg_ptr(r, 2));
        return;
    }
    if (!valid_name(resp_arg_ptr(r, 3), resp_arg_len(r, 3))) {
        resp_write_error(out, "ERR %s cannot contain spaces, newlines or special characters.",
                         lib_name ? "lib-name" : "lib-ver");
        return;
    }
    set_text(lib_name ? &client_extra(c)->lib_name : &client_extra(c)->lib_ver, resp_arg_ptr(r, 3),
             resp_arg_len(r, 3));
    resp_write_simple(out, "OK");
}

HANDLER(CLIENT_INFO)
{
    char line[CLIENT_LINE_MAX];
    size_t n = client_line(c, line);

    UNUSED;
    resp_write_verbatim(out, c->proto, line, n);
}

HANDLER(CLIENT_HELP)
{
    static const char *const lines[] = {
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETREDIR",
        "    Return the client ID we are redirecting to when tracking is enabled: it never is.",
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are: ADDR, LADDR, ID, USER, MAXAGE, SKIPME (YES|NO),",
        "    TYPE (NORMAL|MASTER|REPLICA|PUBSUB).",
        "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [<id> ...]]",
        "    Return information about client connections of all workers.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Leave the times at which keys were used last as they are (servers from 7.2 on).",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Unblock the specified blocked client.",
        "UNPAUSE",
        "    Stop the current client pause, resuming traffic.",
        "REPLY (ON|OFF|SKIP)",
        "    Send replies, none any more, or none to the next command.",
        "SETINFO <LIB-NAME|LIB-VER> <value>",
        "    Set client meta attributes.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "TRACKINGINFO",
        "    Report tracking status for the current connection.",
        "HELP",
        "    Print this help.",
    };

    UNUSED;
    local_help(lines, ARRAY_LEN(lines), out);
}
