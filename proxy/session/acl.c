#include "session/acl.h"

#include "base/alloc.h"
#include "base/table.h"
#include "resp/reply.h"
#include "resp/write.h"
#include "session/dispatch_error.h"
#include "session/identity.h"
#include "session/scatter.h"

#define KEEP_MS 10000
/* That nobody could be asked is remembered so long. */
#define KEEP_NOTHING_MS 500
/* Verdicts that are remembered; beyond, the oldest goes. */
#define MAX_VERDICTS 4096
#define TEXT_MAX 256
/* The verdict is one for all arguments (commands with keys are the servers' own), so no more than
 * these are shown to them. */
#define MAX_ARGS 32
#define MAX_ARG_LEN 64

enum verdict {
    ACL_ALLOWED,
    ACL_DENIED,
    ACL_UNKNOWN, /* the servers do not tell */
    ACL_LATER,   /* nor now, for a reason that passes (BUSY): `text` */
};

struct acl_verdict {
    struct table_node link;  /* cache's table */
    struct list_node by_age; /* cache's list, the oldest first */
    const struct upstream *up;
    const struct command *cmd;
    uint64_t until_ms;
    enum verdict verdict;
    char text[TEXT_MAX]; /* ACL_DENIED, ACL_LATER: the error without "-" */
    char user[];
};

struct acl_cache {
    struct session_env *env;
    struct table table;
    struct list_node by_age;
};

/* --- what is remembered --- */

static uint64_t verdict_hash(const struct upstream *u, const struct command *cmd, const char *user)
{
    return table_hash(u->index << 16 | (uint64_t)(cmd - command_table), user, strlen(user));
}

static struct acl_verdict *find(const struct acl_cache *a, const struct upstream *u,
                                const struct command *cmd, const char *user)
{
    struct table_node *n = table_first(&a->table, verdict_hash(u, cmd, user));

    for (; n != NULL; n = table_next(n)) {
        struct acl_verdict *v = CONTAINER_OF(n, struct acl_verdict, link);

        if (v->up == u && v->cmd == cmd && strcmp(v->user, user) == 0)
            return v;
    }
    return NULL;
}

static void forget(struct acl_cache *a, struct acl_verdict *v)
{
    table_remove(&a->table, &v->link);
    list_unlink(&v->by_age);
    free(v);
}

static struct acl_verdict *remember(struct acl_cache *a, const struct upstream *u,
                                    const struct command *cmd, const char *user)
{
    struct acl_verdict *v = find(a, u, cmd, user);

    if (v != NULL)
        forget(a, v);
    else if (a->table.count >= MAX_VERDICTS)
        forget(a, CONTAINER_OF(a->by_age.next, struct acl_verdict, by_age));
    v = xcalloc(1, sizeof(*v) + strlen(user) + 1);
    memcpy(v->user, user, strlen(user) + 1);
    v->up = u;
    v->cmd = cmd;
    v->until_ms = a->env->loop->now_ms + KEEP_MS;
    table_add(&a->table, &v->link, verdict_hash(u, cmd, user));
    list_push(&a->by_age, &v->by_age);
    return v;
}

struct acl_cache *acl_cache_new(struct session_env *env)
{
    struct acl_cache *a = xcalloc(1, sizeof(*a));

    a->env = env;
    list_init(&a->by_age);
    return a;
}

void acl_cache_free(struct acl_cache **p)
{
    struct acl_cache *a = *p;

    *p = NULL;
    while (!list_empty(&a->by_age))
        forget(a, CONTAINER_OF(a->by_age.next, struct acl_verdict, by_age));
    table_deinit(&a->table);
    free(a);
}

/* --- what a server says --- */

/* Data of the scatter. */
struct question {
    const struct command *cmd;
    char user[];
};

static bool begins_with(const struct resp_item *i, const char *text)
{
    size_t n = strlen(text);

    return i->len >= n && memcmp(i->data, text, n) == 0;
}

/* DRYRUN says what the refusal would say, as a sentence: "This user has no permissions ...". */
static void read_denial(struct acl_verdict *v, const struct resp_item *item)
{
    int n = (int)MIN(item->len, (size_t)TEXT_MAX - 16);

    v->verdict = ACL_DENIED;
    if (begins_with(item, "This user "))
        snprintf(v->text, sizeof(v->text), "NOPERM this%.*s", n - 4, item->data + 4);
    else if (begins_with(item, "User "))
        snprintf(v->text, sizeof(v->text), "NOPERM %.*s", n, item->data);
    else
        snprintf(v->text, sizeof(v->text),
                 "NOPERM this user has no permissions to run the '%s' command", v->cmd->name);
}

/* The upstream's user has no right to ask, or is not let in at all, or they have no DRYRUN. */
static bool will_not_tell(const struct resp_item *item)
{
    return begins_with(item, "NOPERM ") || begins_with(item, "NOAUTH ") ||
           begins_with(item, "WRONGPASS ") || begins_with(item, "ERR unknown ") ||
           begins_with(item, "ERR Unknown ");
}

/* False: the servers did not say anything about the user. */
static bool read_answer(struct acl_verdict *v, const struct request *part)
{
    const char *p = request_reply(part);
    struct resp_item item;

    v->verdict = ACL_UNKNOWN;
    if (part->failed || !resp_next(&p, p + part->reply_len, &item))
        return false;
    if (item.type == '+') {
        v->verdict = ACL_ALLOWED;
    } else if (item.type == '$' || begins_with(&item, "ERR User '")) {
        read_denial(v, &item); /* or there is none of this name (any more) */
    } else if (begins_with(&item, "ERR Command '")) {
        v->verdict = ACL_ALLOWED; /* no server has it: there is nothing to be guarded */
    } else if (!will_not_tell(&item)) {
        v->verdict = ACL_LATER;
        snprintf(v->text, sizeof(v->text), "%.*s", (int)MIN(item.len, (size_t)TEXT_MAX - 1),
                 item.data);
        return false;
    }
    return true;
}

static void on_answer(struct client *c, struct request *parent, struct chain *out)
{
    const struct question *q = parent->scatter->data;
    struct acl_cache *a = c->env->acl;
    struct acl_verdict *v = find(a, c->up, q->cmd, q->user);
    struct acl_verdict said = {.cmd = q->cmd};

    (void)out; /* the command that waits is looked at again */
    if (!read_answer(&said, parent->scatter->parts)) {
        /* What was known has to do for a while. */
        if (v == NULL || v->verdict == ACL_UNKNOWN || v->verdict == ACL_LATER) {
            v = remember(a, c->up, q->cmd, q->user);
            v->verdict = said.verdict;
            memcpy(v->text, said.text, sizeof(v->text));
        }
        v->until_ms = a->env->loop->now_ms + KEEP_NOTHING_MS;
        return;
    }
    v = remember(a, c->up, q->cmd, q->user);
    v->verdict = said.verdict;
    memcpy(v->text, said.text, sizeof(v->text));
}

static char *chain_text(const struct chain *from, uint32_t *len)
{
    char *text = xmalloc(from->bytes);

    *len = 0;
    for (const struct chain_seg *s = from->head; s != NULL; s = s->next) {
        memcpy(text + *len, s->block->data + s->off, s->len);
        *len += s->len;
    }
    return text;
}

static char *compose(const char *user, const struct resp_request *r, uint32_t *len)
{
    uint32_t argc = MIN(r->argc, (uint32_t)MAX_ARGS);
    struct chain out;
    char *text;

    chain_init(&out);
    resp_write_array(&out, argc + 3);
    resp_write_text(&out, "ACL");
    resp_write_text(&out, "DRYRUN");
    resp_write_text(&out, user);
    for (uint32_t i = 0; i < argc; i++)
        resp_write_bulk(&out, resp_arg_ptr(r, i), MIN(resp_arg_len(r, i), (uint32_t)MAX_ARG_LEN));
    text = chain_text(&out, len);
    chain_clear(&out);
    return text;
}

/* False: there is nobody to ask. */
static bool ask(struct client *c, const struct command *cmd, const struct resp_request *r,
                const char *user)
{
    struct upstream *u = c->up;
    struct node *n = upstream_any_master(u, c->id);
    struct beconn *conn =
        n != NULL && n->outage_ms == 0 ? node_shared(n, u->base_profile[0]) : NULL;
    struct request *parent;
    struct question *q;
    uint32_t len;
    char *text;

    if (conn == NULL)
        return false;
    q = xmalloc(sizeof(*q) + strlen(user) + 1);
    q->cmd = cmd;
    memcpy(q->user, user, strlen(user) + 1);
    text = compose(user, r, &len);
    parent = scatter_open(c, command_find_name("acl|dryrun", 10), on_answer, q);
    client_hold(c, HOLD_BARRIER);
    scatter_add_to(c, parent, conn, text, len);
    free(text);
    scatter_close(c, parent);
    return true;
}

/* --- the decision --- */

/* These the servers refuse by themselves: they are sent to them by this name, as this user. */
static bool reaches_servers(const struct command *cmd)
{
    switch ((enum command_local)cmd->local) {
    case LOCAL_PUBLISH:
    case LOCAL_SUBSCRIBE:
    case LOCAL_PSUBSCRIBE:
    case LOCAL_SSUBSCRIBE:
    case LOCAL_PUBSUB_CHANNELS:
    case LOCAL_PUBSUB_NUMSUB:
    case LOCAL_PUBSUB_NUMPAT:
    case LOCAL_DEBUG:
    case LOCAL_SCRIPT_KILL:
    case LOCAL_FUNCTION_KILL:
    case LOCAL_WATCH:
        return true;
    default:
        return false;
    }
}

static bool is_dangerous(const struct command *cmd)
{
    return (cmd->flags & CMD_ADMIN) != 0 || cmd->local == LOCAL_INFO || cmd->local == LOCAL_ROLE;
}

static bool deny(struct client *c, const struct command *cmd, const char *text)
{
    static const char since[] =
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
        "call. This command is no longer allowed for the following reason: no permission to "
        "execute the command or subcommand";

    if ((c->hold & HOLD_EXEC) != 0 && strncmp(text, "NOPERM ", 7) == 0)
        text = since;
    dispatch_error_text(c, cmd, "%s", text);
    return true;
}

bool acl_stops(struct client *c, const struct command *cmd, const struct resp_request *r,
               enum dispatch_result *result)
{
    const char *user = c->env->profiles.profiles[c->profile].user;
    bool guest = user == NULL; /* the default user, without AUTH */
    const struct acl_verdict *v;
    char text[TEXT_MAX];

    if (c->env->config->listeners[c->listener].auth != AUTH_SERVERS ||
        (cmd->flags & CMD_NO_AUTH) != 0 || reaches_servers(cmd))
        return false;
    /* What libraries send whenever they connect costs the others nothing. */
    if (guest && cmd->route == ROUTE_LOCAL && (!is_dangerous(cmd) || cmd->local == LOCAL_INFO))
        return false;
    user = identity_user(c);
    v = find(c->env->acl, c->up, cmd, user);
    *result = DISPATCH_WAIT;
    if ((v == NULL || v->until_ms <= c->env->loop->now_ms) &&
        (dispatch_barrier(c) || ask(c, cmd, r, user)))
        return true;
    if (v != NULL && v->verdict == ACL_ALLOWED)
        return false;
    *result = DISPATCH_DONE;
    if (v != NULL && v->verdict == ACL_DENIED)
        return deny(c, cmd, v->text);
    if (v != NULL && v->verdict == ACL_LATER && is_dangerous(cmd))
        return deny(c, cmd, v->text);
    if (strcmp(user, "default") == 0 || !is_dangerous(cmd))
        return false;
    snprintf(text, sizeof(text), "NOPERM this user has no permissions to run the '%s' command",
             cmd->name);
    return deny(c, cmd, text);
}

bool acl_allows(const struct client *c, const struct command *cmd)
{
    const struct acl_verdict *v = find(c->env->acl, c->up, cmd, identity_user(c));

    return v != NULL && v->verdict == ACL_ALLOWED && v->until_ms > c->env->loop->now_ms;
}
