#include "control/node_query.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "resp/write.h"

#define QUERY_MAGIC 0x71756572u
#define QUERY_NAME "keyway-topology"
/* AUTH, SETNAME, NODES and ROLE once each; a power of two. */
#define IN_FLIGHT_MAX 8u

struct node_query {
    MAGIC_FIELD;
    const struct node_query_env *env;
    void *owner;
    struct stream stream;
    redisReader *reader;
    size_t fed; /* bytes of an answer that is not complete */
    struct {
        enum node_question what;
        uint64_t sent_ms;
    } in_flight[IN_FLIGHT_MAX];
    unsigned first, count;
    char refusal[128]; /* a server that turns us away says why, then hangs up */
    struct loop_reap reap;
};

static const char *const no_args[] = {NULL};
static const char *const role_args[] = {"ROLE", NULL};
static const char *const nodes_args[] = {"CLUSTER", "NODES", NULL};
static const char *const setname_args[] = {"CLIENT", "SETNAME", QUERY_NAME, NULL};

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

bool node_query_ask(struct node_query *q, enum node_question what)
{
    CHECK_MAGIC(q, QUERY_MAGIC);
    if (q->count == IN_FLIGHT_MAX)
        return false;
    put(q, what, what == QUESTION_ROLE ? role_args : what == QUESTION_NODES ? nodes_args : no_args);
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

static void take_reply(struct node_query *q, const redisReply *r)
{
    enum node_question what;
    char why[128];

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
    if (what == QUESTION_AUTH && auth_refused(r))
        lose(q, r->str);
    else if (what == QUESTION_NODES || what == QUESTION_ROLE)
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
    put(q, QUESTION_SETNAME, setname_args);
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
