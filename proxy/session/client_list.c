/*
 * client_list.c - CLIENT LIST and the lines it is made of; over all workers.
 */
#include "session/client_list.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/sock.h"
#include "resp/write.h"
#include "session/blocking.h"
#include "session/client_gather.h"
#include "session/identity.h"
#include "session/local.h"
#include "session/subscriber.h"
#include "session/transaction.h"
#include "session/wait.h"

void client_addresses(const struct client *c, char peer[ADDR_TEXT_MAX], char local[ADDR_TEXT_MAX])
{
    struct sockaddr_any sa;

    sock_peer(stream_fd(&c->stream), &sa);
    sockaddr_format(&sa, peer);
    sock_local(stream_fd(&c->stream), &sa);
    sockaddr_format(&sa, local);
}

static const char *or_empty(const char *s)
{
    return s != NULL ? s : "";
}

/* In the order in which redis-server has them. */
static void client_flags(const struct client *c, char out[8])
{
    const struct client_extra *x = c->extra;
    size_t n = 0;

    if (c->monitors)
        out[n++] = 'O';
    if (x != NULL && x->subscriber != NULL && subscriber_listens(x->subscriber))
        out[n++] = 'P';
    if (transaction_commands(c) >= 0)
        out[n++] = 'x';
    if (blocking_is_on(c) || wait_is_on(c))
        out[n++] = 'b';
    if (x != NULL && x->no_evict)
        out[n++] = 'e';
    if (identity_own_profile(c)->no_touch)
        out[n++] = 'T';
    if (n == 0)
        out[n++] = 'N';
    out[n] = '\0';
}

size_t client_line(struct client *c, char line[CLIENT_LINE_MAX])
{
    static const struct client_extra none;
    const struct client_extra *names = c->extra != NULL ? c->extra : &none;
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];
    uint64_t now_s = clock_wall_ms() / 1000;
    uint32_t partial = c->partial != NULL ? c->partial->block->len - c->partial->start : 0;
    size_t out = c->stream.out.bytes;
    const struct subscriber *s = names->subscriber;
    char flags[8];
    int n;

    client_flags(c, flags);
    client_addresses(c, peer, local);
    n = snprintf(line, CLIENT_LINE_MAX,
                 "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=%.128s age=%" PRIu64 " idle=%" PRIu64
                 " flags=%s db=%u sub=%u psub=%u ssub=%u multi=%d qbuf=%u qbuf-free=0"
                 " argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=%u omem=%zu tot-mem=%zu events=r"
                 " cmd=%s user=%s redir=-1 resp=%u lib-name=%.64s lib-ver=%.64s\n",
                 c->id, peer, local, stream_fd(&c->stream), or_empty(names->name),
                 now_s - MIN((uint64_t)c->created_s, now_s),
                 (uint64_t)(uint32_t)(c->env->loop->now_ms / 1000 - c->active_s), flags,
                 identity_own_profile(c)->db, s != NULL ? s->count[CHANNEL_PLAIN] : 0,
                 s != NULL ? s->count[CHANNEL_PATTERN] : 0, s != NULL ? s->count[CHANNEL_SHARD] : 0,
                 transaction_commands(c), partial, c->queued, out, sizeof(*c) + partial + out,
                 learnt_name(c->up->learnt, c->last_command), identity_user(c), c->proto,
                 or_empty(names->lib_name), or_empty(names->lib_ver));
    return MIN((size_t)n, (size_t)CLIENT_LINE_MAX - 1);
}

/* --- types --- */

bool client_type_parse(const struct resp_request *r, uint32_t i, enum client_type *type,
                       struct chain *out)
{
    static const struct {
        const char *name;
        enum client_type type;
    } types[] = {
        {"normal", CLIENT_TYPE_NORMAL}, {"pubsub", CLIENT_TYPE_PUBSUB},
        {"master", CLIENT_TYPE_NONE},   {"primary", CLIENT_TYPE_NONE},
        {"replica", CLIENT_TYPE_NONE},  {"slave", CLIENT_TYPE_NONE},
    };

    for (size_t k = 0; k < ARRAY_LEN(types); k++)
        if (resp_arg_is(r, i, types[k].name)) {
            *type = types[k].type;
            return true;
        }
    resp_write_error(out, "ERR Unknown client type '%.*s'", (int)MIN(resp_arg_len(r, i), 128u),
                     resp_arg_ptr(r, i));
    return false;
}

bool client_type_is(enum client_type type, const struct client *c)
{
    return type == CLIENT_TYPE_ANY ||
           type == (subscriber_is(c) ? CLIENT_TYPE_PUBSUB : CLIENT_TYPE_NORMAL);
}

/* --- CLIENT LIST --- */

struct list_query {
    size_t id_count; /* 0: all */
    enum client_type type;
    int64_t ids[];
};

static bool wanted(const struct list_query *q, const struct client *c)
{
    if (!client_type_is(q->type, c))
        return false;
    for (size_t i = 0; i < q->id_count; i++)
        if (q->ids[i] == (int64_t)c->id)
            return true;
    return q->id_count == 0;
}

static void collect(struct gather *g, struct session_env *env)
{
    char line[CLIENT_LINE_MAX];

    for (struct list_node *at = env->clients.next; at != &env->clients; at = at->next) {
        struct client *c = CONTAINER_OF(at, struct client, link);

        if (stream_is_open(&c->stream) && wanted(g->data, c))
            gather_append(g, line, client_line(c, line));
    }
}

static void finish(struct gather *g, struct session_env *env)
{
    struct client *c = client_gather_asker(g, env);
    struct chain out;

    chain_init(&out);
    if (c != NULL)
        resp_write_verbatim(&out, c->proto, g->text, g->len);
    client_gather_end(g, c, &out);
}

/* NULL: an error has been composed. */
static struct list_query *parse_query(const struct resp_request *r, struct chain *out)
{
    struct list_query *q = xcalloc(1, sizeof(*q) + r->argc * sizeof(q->ids[0]));

    if (r->argc == 2)
        return q;
    if (resp_arg_is(r, 2, "type") && r->argc == 4) {
        if (!client_type_parse(r, 3, &q->type, out))
            goto failed;
        return q;
    }
    if (!resp_arg_is(r, 2, "id") || r->argc < 4) {
        resp_write_error(out, "ERR syntax error");
        goto failed;
    }
    for (uint32_t i = 3; i < r->argc; i++)
        if (!resp_arg_int(r, i, &q->ids[q->id_count++])) {
            resp_write_error(out, "ERR Invalid client ID");
            goto failed;
        }
    return q;
failed:
    free(q);
    return NULL;
}

void local_CLIENT_LIST(struct client *c, const struct command *cmd, const struct resp_request *r,
                       struct chain *out)
{
    struct list_query *q = parse_query(r, out);

    if (q != NULL)
        client_gather(c, cmd, collect, finish, q);
}
