#include "control/node_query.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"

#define QUERY_MAGIC 0x71756572u
/* AUTH, twice SETNAME, RESET and at most four others once each; a power of two. */
#define IN_FLIGHT_MAX 8u

struct node_query {
    MAGIC_FIELD;
    const struct node_query_env *env;
    void *owner;
    struct stream stream;
    redisReader *reader;
    size_t fed; /* bytes of an answer that is not complete */
    bool heard;
    struct {
        enum node_question what;
        uint64_t sent_ms;
    } in_flight[IN_FLIGHT_MAX];
    unsigned first, count;
    char refusal[128]; /* a server that turns us away says why, then hangs up */
    struct loop_reap reap;
};

/* A question's words; a master's name may follow. */
static const char *const question_args[][3] = {
    [QUESTION_NODES] = {"CLUSTER", "NODES", NULL},
    [QUESTION_ROLE] = {"ROLE", NULL},
    [QUESTION_PING] = {"PING", NULL},
    [QUESTION_SUBSCRIBE] = {"PSUBSCRIBE", "*", NULL},
    [QUESTION_SENTINEL_ADDR] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", NULL},
    [QUESTION_SENTINEL_MASTER] = {"SENTINEL", "MASTER", NULL},
    [QUESTION_SENTINEL_REPLICAS] = {"SENTINEL", "REPLICAS", NULL},
    [QUESTION_SENTINEL_SENTINELS] = {"SENTINEL", "SENTINELS", NULL},
    [QUESTION_COMMANDS] = {"COMMAND", NULL},
    [QUESTION_COMMAND_NAMES] = {"COMMAND", "LIST", NULL},
};

static void put(struct node_query *q, enum node_question what, const char *const *args)
{
    size_t n = 0;

    while (args[n] != NULL)
        n++;
    resp_write_array(&q->stream.out, n);
    for (size_t i = 0; i < n; i++)
        resp_write_text(&q->stream.out, args[i]);
    q->in_flight[(q->first + q->count) % IN_FLIGHT_MAX].what = what;
    q->in_flight[(q->first + q->count) % IN_FLIGHT_MAX].sent_ms = clock_ms();
    q->count++;
    stream_mark_dirty(&q->stream);
}

bool node_query_ask_of(struct node_query *q, enum node_question what, const char *master)
{
    const char *args[] = {question_args[what][0], NULL, NULL, NULL};
    size_t n = 1;

    CHECK_MAGIC(q, QUERY_MAGIC);
    if (q->count == IN_FLIGHT_MAX)
        return false;
    if (question_args[what][1] != NULL)
        args[n++] = question_args[what][1];
    args[n] = master;
    put(q, what, args);
    return true;
}

bool node_query_ask(struct node_query *q, enum node_question what)
{
    return node_query_ask_of(q, what, NULL);
}

static void put_name(struct node_query *q)
{
    const char *setname[] = {"CLIENT", "SETNAME", q->env->name, NULL};

    put(q, QUESTION_SETNAME, setname);
}

bool node_query_reset(struct node_query *q)
{
    static const char *const reset[] = {"RESET", NULL};

    CHECK_MAGIC(q, QUERY_MAGIC);
    CHECK(q->env->password == NULL);
    if (q->count + 2 > IN_FLIGHT_MAX)
        return false;
    put(q, QUESTION_RESET, reset);
    put_name(q);
    return true;
}

uint64_t node_query_waiting_since(const struct node_query *q)
{
    return q->count > 0 ? q->in_flight[q->first].sent_ms : UINT64_MAX;
}

void *node_query_owner(const struct node_query *q)
{
    return q->owner;
}

bool node_query_heard(const struct node_query *q)
{
    return q->heard;
}

static void lose(struct node_query *q, const char *why)
{
    q->env->ops->lost(q, why);
}

/* A server without a password answers AUTH with an error, and then needs none. */
static bool auth_refused(const redisReply *r)
{
    return r->type == REDIS_REPLY_ERROR && strstr(r->str, "without any password") == NULL &&
           strstr(r->str, "no password is set") == NULL;
}

static bool is_message(const redisReply *r)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements == 4 &&
           r->element[0]->type == REDIS_REPLY_STRING &&
           strcmp(r->element[0]->str, "pmessage") == 0 &&
           r->element[2]->type == REDIS_REPLY_STRING && r->element[3]->type == REDIS_REPLY_STRING;
}

static void take_reply(struct node_query *q, const redisReply *r)
{
    enum node_question what;
    char why[128];

    if (q->env->ops->pushed != NULL && is_message(r)) {
        q->env->ops->pushed(q, r);
        return;
    }
    if (q->count == 0) {
        /* "-ERR max number of clients reached" and the like, before it hangs up. */
        snprintf(why, sizeof(why), "an answer to no question%s%s",
                 r->type == REDIS_REPLY_ERROR ? ": " : "",
                 r->type == REDIS_REPLY_ERROR ? r->str : "");
        lose(q, why);
        return;
    }
    what = q->in_flight[q->first].what;
    q->first = (q->first + 1) % IN_FLIGHT_MAX;
    q->count--;
    if (what == QUESTION_SETNAME && r->type == REDIS_REPLY_ERROR)
        snprintf(q->refusal, sizeof(q->refusal), "%s", r->str);
    if (what == QUESTION_AUTH && auth_refused(r)) {
        /* A server repeats the arguments of a command that it does not know: the password. */
        const char *args = strstr(r->str, ", with args");

        snprintf(why, sizeof(why), "%.*s",
                 args != NULL ? (int)MIN(args - r->str, (ptrdiff_t)sizeof(why)) : (int)sizeof(why),
                 r->str);
        lose(q, why);
    } else if (what != QUESTION_AUTH && what != QUESTION_SETNAME && what != QUESTION_RESET)
        q->env->ops->answered(q, what, r);
}

static struct span on_buffer(struct stream *s)
{
    return CONTAINER_OF(s, struct node_query, stream)->env->scratch;
}

static void on_data(struct stream *s, size_t n)
{
    struct node_query *q = CONTAINER_OF(s, struct node_query, stream);
    void *reply = NULL;

    CHECK_MAGIC(q, QUERY_MAGIC);
    q->heard = true;
    q->fed += n;
    if (q->fed > NODE_QUERY_MAX || redisReaderFeed(q->reader, q->env->scratch.data, n) != 0) {
        lose(q, "an answer too long");
        return;
    }
    while (stream_is_open(s)) {
        if (redisReaderGetReply(q->reader, &reply) != REDIS_OK) {
            lose(q, "an answer that is not RESP");
            return;
        }
        if (reply == NULL)
            return;
        q->fed = 0;
        take_reply(q, reply);
        freeReplyObject(reply);
    }
}

static void on_failed(struct stream *s, int error)
{
    struct node_query *q = CONTAINER_OF(s, struct node_query, stream);

    CHECK_MAGIC(q, QUERY_MAGIC);
    if (error == 0 && q->refusal[0] != '\0')
        lose(q, q->refusal);
    else
        lose(q, error != 0 ? strerror(error) : "connection closed by the server");
}

/* What was put meanwhile leaves now, by the stream itself. */
static void on_connected(struct stream *s)
{
    (void)s;
}

static const struct stream_ops query_stream_ops = {
    .buffer = on_buffer,
    .data = on_data,
    .failed = on_failed,
    .connected = on_connected,
};

struct node_query *node_query_open(const struct node_query_env *env, const struct sockaddr_any *to,
                                   void *owner)
{
    struct node_query *q = xcalloc(1, sizeof(*q));
    const char *auth[] = {"AUTH", env->user != NULL ? env->user : env->password,
                          env->user != NULL ? env->password : NULL, NULL};

    q->magic = QUERY_MAGIC;
    q->env = env;
    q->owner = owner;
    if (!stream_connect(&q->stream, env->loop, to, 0, &query_stream_ops, false)) {
        int error = errno;

        free(q);
        errno = error;
        return NULL;
    }
    q->reader = redisReaderCreate();
    CHECK(q->reader != NULL);
    if (env->password != NULL)
        put(q, QUESTION_AUTH, auth);
    put_name(q);
    return q;
}

static void reap_query(struct loop_reap *r)
{
    struct node_query *q = CONTAINER_OF(r, struct node_query, reap);

    redisReaderFree(q->reader);
    free(q);
}

void node_query_close(struct node_query **query)
{
    struct node_query *q = *query;

    *query = NULL;
    if (q == NULL)
        return;
    CHECK_MAGIC(q, QUERY_MAGIC);
    q->magic = 0;
    stream_close(&q->stream);
    q->reap.free = reap_query;
    loop_add_reap(q->env->loop, &q->reap);
}
