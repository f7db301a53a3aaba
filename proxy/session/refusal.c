#include "session/refusal.h"

#include "resp/number.h"
#include "session/blocking.h"
#include "session/redirect.h"
#include "session/scatter.h"
#include "session/scripts.h"

/* So many nodes that no map names may be known at a time before scripts' words make no new ones. */
#define UNSURE_NODES_MAX 64

struct known_refusal {
    const char *text; /* the server's whole words */
    enum refusal meaning;
};

static const struct known_refusal known[] = {
    {"TRYAGAIN Multiple keys request during rehashing of slot", REFUSAL_TRYAGAIN},
    {"CLUSTERDOWN The cluster is down", REFUSAL_CLUSTERDOWN},
    {"CLUSTERDOWN Hash slot not served", REFUSAL_NOT_SERVED},
    {"CLUSTERDOWN The cluster is down and only accepts read commands", REFUSAL_NOT_SERVED},
    {"LOADING Redis is loading the dataset in memory", REFUSAL_LOADING},
    {"LOADING Valkey is loading the dataset in memory", REFUSAL_LOADING},
    {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
     REFUSAL_MASTERDOWN},
    {"READONLY You can't write against a read only replica.", REFUSAL_READONLY},
    {"NOSCRIPT No matching script. Please use EVAL.", REFUSAL_NOSCRIPT},
    {"NOSCRIPT No matching script.", REFUSAL_NOSCRIPT}, /* Valkey 8 */
};

static bool starts_with(const char *p, size_t n, const char *word)
{
    size_t w = strlen(word);

    return n >= w && memcmp(p, word, w) == 0;
}

/* "?:6381": its server keeps to itself where the others are, but the map may tell. */
static bool guess_target(const struct upstream *u, uint16_t slot, const char *p, size_t len,
                         struct addr *out)
{
    uint16_t node;
    int64_t port;

    if (len < 3 || p[1] != ':' || !resp_parse_int(p + 2, len - 2, &port) || port <= 0 ||
        port > UINT16_MAX)
        return false;
    node = slotmap_guess(u->map, slot, (uint16_t)port);
    if (node == NODE_NONE)
        return false;
    *out = u->map->nodes[node].addr;
    return true;
}

/* "3999 127.0.0.1:6381": true when it is this request's slot and an address. */
static bool parse_target(const struct upstream *u, const struct node *n, const struct request *r,
                         const char *p, size_t len, struct addr *out)
{
    const char *space = memchr(p, ' ', len), *host;
    size_t host_len;
    int64_t slot;

    if (space == NULL || !resp_parse_int(p, (size_t)(space - p), &slot) || slot != r->slot)
        return false;
    host = space + 1;
    host_len = (size_t)(p + len - host);
    if (host_len > 0 && host[0] == '?')
        return guess_target(u, r->slot, host, host_len, out);
    if (host_len > 0 && memrchr(host, ':', host_len) == host) {
        /* "the same host as mine". An IPv6 address may begin with a colon too, but has more. */
        char text[ADDR_TEXT_MAX];
        int w = snprintf(text, sizeof(text), "%s%.*s", n->addr.host, (int)host_len, host);

        return w > 0 && (size_t)w < sizeof(text) && addr_parse(text, (size_t)w, out);
    }
    return addr_parse(host, host_len, out);
}

static bool node_known(const struct upstream *u, const struct addr *a)
{
    return slotmap_find_addr(u->map, a) != NODE_NONE;
}

/* By the server's whole words, or, where nobody else can have said it, by the first. */
static enum refusal known_refusal(const char *p, size_t len, bool whole_only)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (len == strlen(known[i].text) && memcmp(p, known[i].text, len) == 0)
            return known[i].meaning;
    for (size_t i = 0; !whole_only && i < ARRAY_LEN(known); i++) {
        size_t word = (size_t)(strchr(known[i].text, ' ') - known[i].text) + 1;

        if (len >= word && memcmp(p, known[i].text, word) == 0)
            return known[i].meaning;
    }
    return REFUSAL_NONE;
}

/* What a request without a slot is not told by a cluster's servers: it would be about none. */
static bool is_about_slot(const char *p, size_t len)
{
    return starts_with(p, len, "MOVED ") || starts_with(p, len, "ASK ") ||
           starts_with(p, len, "TRYAGAIN ");
}

enum refusal refusal_parse(struct upstream *u, const struct node *n, const struct request *r,
                           const struct bereply *reply, struct refusal_info *info)
{
    bool script = (r->cmd->flags & CMD_SCRIPT) != 0;
    const char *p = reply->data;
    size_t len = reply->len;
    struct addr target;
    enum refusal why;

    info->target = NULL;
    if (*p != '-' || len < 3)
        return REFUSAL_NONE; /* behind an attribute: not one of the short errors meant here */
    p++;
    len -= 3;
    if (UNLIKELY(r->slot == SLOT_NONE) && is_about_slot(p, len))
        return REFUSAL_NONE;
    if (starts_with(p, len, "MOVED ") || starts_with(p, len, "ASK ")) {
        size_t word = *p == 'M' ? 6 : 4;

        why = *p == 'M' ? REFUSAL_MOVED : REFUSAL_ASK;
        if (!parse_target(u, n, r, p + word, len - word, &target))
            return script ? REFUSAL_NONE : why; /* no target: the next map tells */
        if (!script || node_known(u, &target)) {
            info->target = upstream_node(u, &target);
            return why;
        }
        if (u->number_count < u->map_node_count + UNSURE_NODES_MAX)
            info->target = upstream_node(u, &target);
        if (info->target == NULL)
            return REFUSAL_NONE;
        return why == REFUSAL_MOVED ? REFUSAL_MOVED_UNSURE : REFUSAL_ASK_UNSURE;
    }
    if (r->is_blocking && blocking_may_have_acted(r) && starts_with(p, len, "UNBLOCKED "))
        return REFUSAL_NONE;
    if (r->is_blocking && starts_with(p, len, "UNBLOCKED force unblock"))
        return REFUSAL_READONLY; /* its server was a master when it was sent */
    if (r->is_blocking && starts_with(p, len, "UNBLOCKED client unblocked") &&
        blocking_is_called_back(r))
        return REFUSAL_NOT_SERVED;
    why = known_refusal(p, len, script);
    /* A script whose body nobody remembers is really missing. */
    return why == REFUSAL_NOSCRIPT && !scripts_can_repair(u->env, r) ? REFUSAL_NONE : why;
}

bool refusal_confirm(struct client *c, struct request *r)
{
    struct node *n = r->ask_node;

    if (!node_known(c->up, &n->addr))
        return false;
    if (r->refusal == REFUSAL_ASK_UNSURE) {
        r->refusal = REFUSAL_ASK;
        upstream_set_unstable(c->up, r->slot);
        return true;
    }
    redirect_drop_target(r);
    r->refusal = REFUSAL_MOVED;
    upstream_override(c->up, r->slot, n);
    return true;
}

size_t refusal_text(const struct request *r, char *out, size_t size)
{
    char at[ADDR_TEXT_MAX];

    return (size_t)snprintf(out, size, "-%s %u %s\r\n",
                            r->refusal == REFUSAL_ASK_UNSURE ? "ASK" : "MOVED", r->slot,
                            addr_format(&r->ask_node->addr, at));
}

enum error_id refusal_error(enum refusal why)
{
    switch (why) {
    case REFUSAL_NO_OWNER:
    case REFUSAL_NOT_SERVED:
        return ERROR_SLOT_UNSERVED;
    case REFUSAL_TRYAGAIN:
        return ERROR_TRYAGAIN;
    case REFUSAL_LOADING:
        return ERROR_LOADING;
    case REFUSAL_MASTERDOWN:
        return ERROR_MASTERDOWN;
    case REFUSAL_READONLY:
        return ERROR_READONLY;
    case REFUSAL_NOSCRIPT:
        return ERROR_NOSCRIPT;
    case REFUSAL_NO_MULTI:
        return ERROR_NO_MULTI;
    default:
        return ERROR_CLUSTERDOWN;
    }
}

/* --- order --- */

#define COMPARED_KEYS 256

struct key_set {
    size_t count; /* may exceed COMPARED_KEYS: then the set is taken to hold any key */
    struct {
        const char *p;
        uint32_t n;
    } keys[COMPARED_KEYS];
};

static void add_keys(const struct command *cmd, const struct resp_request *req, struct key_set *out)
{
    uint32_t positions[COMPARED_KEYS];
    size_t n;

    if (command_keys_list(cmd, req, positions, COMPARED_KEYS, &n) != COMMAND_KEYS_OK)
        return;
    for (size_t i = 0; i < n && out->count + i < COMPARED_KEYS; i++) {
        out->keys[out->count + i].p = resp_arg_ptr(req, positions[i]);
        out->keys[out->count + i].n = resp_arg_len(req, positions[i]);
    }
    out->count += n;
}

static void read_keys(struct session_env *env, const struct request *r, struct key_set *out)
{
    const char *p = r->be.block->data + r->be.off, *end = p + r->be.len;
    struct resp_request req;
    size_t used;

    out->count = 0;
    if ((r->cmd->flags & CMD_TX) == 0) {
        request_parse(env, r, &req);
        add_keys(r->cmd, &req, out);
        return;
    }
    /* EXEC with its whole block: MULTI and what was queued. */
    for (; p < end; p += used) {
        const struct command *cmd;

        resp_parser_reset(env->reparser);
        CHECK(resp_parse(env->reparser, p, (size_t)(end - p), &req, &used) == RESP_PARSE_OK);
        cmd = command_find(&req);
        if (cmd != NULL)
            add_keys(cmd, &req, out);
    }
}

static bool sets_meet(const struct key_set *a, const struct key_set *b)
{
    if (a->count > COMPARED_KEYS || b->count > COMPARED_KEYS)
        return true;
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count; j++)
            if (a->keys[i].n == b->keys[j].n &&
                memcmp(a->keys[i].p, b->keys[j].p, a->keys[i].n) == 0)
                return true;
    return false;
}

static bool executed_with_keys_of(struct client *c, const struct request *q,
                                  const struct request *r, const struct key_set *mine)
{
    struct key_set other;

    if ((q->state != REQUEST_DONE && q->state != REQUEST_STREAMING) || q->failed ||
        q->slot != r->slot || q->be.block == NULL)
        return false;
    read_keys(c->env, q, &other);
    return sets_meet(mine, &other);
}

bool refusal_overtaken(struct client *c, const struct request *r)
{
    const struct request *top = r->is_part ? r->parent : r;
    struct key_set mine;

    if (!request_is_write(r) || top->next == NULL)
        return false;
    read_keys(c->env, r, &mine);
    for (const struct request *q = top->next; q != NULL; q = q->next) {
        if (executed_with_keys_of(c, q, r, &mine))
            return true;
        if (q->state != REQUEST_PARTS && !q->keeps_parts)
            continue;
        for (const struct request *p = q->scatter->parts; p != NULL; p = p->next)
            if (executed_with_keys_of(c, p, r, &mine))
                return true;
    }
    return false;
}
