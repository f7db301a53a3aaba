/* hiredis, the C library: synchronous calls and appended pipelines. */
#include "hiredis_talk.h"

static bool bytes_survive(const char *key, const char *data, size_t len)
{
    redisReply *set = redisCommand(r, "SET %s:%s %b", prefix, key, data, len);
    redisReply *get = redisCommand(r, "GET %s:%s", prefix, key);
    bool good = set != NULL && get != NULL && get->type == REDIS_REPLY_STRING &&
                (size_t)get->len == len && memcmp(get->str, data, len) == 0;

    if (!good)
        show(get, why, 200);
    freeReplyObject(set);
    freeReplyObject(get);
    return good;
}

static bool empty_value(void)
{
    return bytes_survive("empty", "", 0);
}
static bool binary(void)
{
    return bytes_survive("bin", "\0\r\n$-1\r\n\xff", 9);
}

static bool large_value(void)
{
    size_t len = 1 << 20;
    char *data = malloc(len);
    bool good;

    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 7 + i / 251);
    good = bytes_survive("large", data, len);
    free(data);
    return good;
}

static bool hscan(void)
{
    return scanned("HSET %s f%d %d", "HSCAN %s %s COUNT 50", "hs", 3000);
}
static bool sscan(void)
{
    return scanned("SADD %s %d", "SSCAN %s %s COUNT 50", "ss", 1500);
}

static bool scan(void)
{
    char pattern[128];

    snprintf(pattern, sizeof(pattern), "%s:sc:*", prefix);
    for (int i = 0; i < 300; i++) {
        redisReply *reply = redisCommand(r, "SET %s:sc:%d x", prefix, i);
        freeReplyObject(reply);
    }
    /* at rest no key comes twice */
    long got = 0;
    char cursor[32] = "0";
    do {
        redisReply *reply = redisCommand(r, "SCAN %s MATCH %s COUNT 50", cursor, pattern);
        if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
            show(reply, why, sizeof(why));
            freeReplyObject(reply);
            return false;
        }
        got += (long)reply->element[1]->elements;
        snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        freeReplyObject(reply);
    } while (strcmp(cursor, "0") != 0);
    snprintf(why, sizeof(why), "%ld keys of 300", got);
    return got == 300;
}

static bool mset_mget(void)
{
    const char *argv[41];
    char args[40][128];
    redisReply *reply;
    bool good;

    argv[0] = "MSET";
    for (int i = 0; i < 20; i++) {
        snprintf(args[2 * i], sizeof(args[0]), "%s:m%d", prefix, i);
        snprintf(args[2 * i + 1], sizeof(args[0]), "%d", i);
        argv[1 + 2 * i] = args[2 * i];
        argv[2 + 2 * i] = args[2 * i + 1];
    }
    freeReplyObject(redisCommandArgv(r, 41, argv, NULL));
    argv[0] = "MGET";
    for (int i = 0; i < 20; i++)
        argv[1 + i] = args[2 * i];
    reply = redisCommandArgv(r, 21, argv, NULL);
    show(reply, why, sizeof(why));
    good = strcmp(why, "[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19]") == 0;
    freeReplyObject(reply);
    return good;
}

static bool eval(void)
{
    redisReply *reply = redisCommand(r, "EVAL %s 1 %s:ev x", "return {ARGV[1], 7, false}", prefix);

    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    return strcmp(why, "[x :7 (nil)]") == 0;
}

/* The script is loaded once; every server must run it. */
static bool script(const char *body, int keys, const char *want)
{
    redisReply *loaded = redisCommand(r, "SCRIPT LOAD %s", body), *reply;
    bool good = loaded != NULL && loaded->type == REDIS_REPLY_STRING;

    for (int i = 0; good && i < keys; i++) {
        reply = redisCommand(r, "EVALSHA %s 1 %s:s%d a", loaded->str, prefix, i);
        show(reply, why, sizeof(why));
        good = strcmp(why, want) == 0;
        freeReplyObject(reply);
    }
    freeReplyObject(loaded);
    return good;
}

static bool evalsha(void)
{
    return script("return redis.call('incr', KEYS[1])", 1, ":1");
}

static bool noscript(void)
{
    redisReply *reply;
    bool good;

    if (!script("return {ARGV[1], 42}", 20, "[a :42]"))
        return false;
    reply = redisCommand(r, "EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 %s:s", prefix);
    show(reply, why, sizeof(why));
    good = strncmp(why, "-NOSCRIPT ", 10) == 0;
    freeReplyObject(reply);
    return good;
}

static bool pipeline(void)
{
    bool good = true;

    for (int i = 0; i < 1000; i++) {
        redisAppendCommand(r, "SET %s:p%d %d", prefix, i, i);
        redisAppendCommand(r, "GET %s:p%d", prefix, i);
    }
    for (int i = 0; i < 2000; i++) {
        redisReply *reply = NULL;
        char want[32];

        if (redisGetReply(r, (void **)&reply) != REDIS_OK)
            return false;
        snprintf(want, sizeof(want), "%d", i / 2);
        if (good && strcmp(reply->str != NULL ? reply->str : "?", i % 2 ? want : "OK") != 0) {
            snprintf(why, sizeof(why), "reply %d is %s", i, reply->str);
            good = false;
        }
        freeReplyObject(reply);
    }
    return good;
}

static bool pipeline_error(void)
{
    static const char *const want[] = {"OK", "-WRONGTYPE", "x"};
    bool good = true;

    redisAppendCommand(r, "SET %s:pe x", prefix);
    redisAppendCommand(r, "LPUSH %s:pe 1", prefix);
    redisAppendCommand(r, "GET %s:pe", prefix);
    for (int i = 0; i < 3; i++) {
        redisReply *reply = NULL;

        if (redisGetReply(r, (void **)&reply) != REDIS_OK)
            return false;
        if (good) {
            show(reply, why, sizeof(why));
            good = strncmp(why, want[i], strlen(want[i])) == 0;
        }
        freeReplyObject(reply);
    }
    return good;
}

static bool info(void)
{
    redisReply *reply = redisCommand(r, "INFO");
    bool good = reply != NULL && reply->str != NULL && strstr(reply->str, "redis_version:") != NULL;

    freeReplyObject(reply);
    return good;
}

/* Subscribes with c, publishes with r, and compares what comes. */
static bool heard(const char *subscribe, const char *publish, const char *want)
{
    redisContext *c = dial();
    redisReply *reply = words(c, subscribe);
    char expected[512];
    bool good = reply != NULL && reply->type == REDIS_REPLY_ARRAY;

    freeReplyObject(reply);
    reply = words(r, publish);
    freeReplyObject(reply);
    reply = NULL;
    good = good && redisGetReply(c, (void **)&reply) == REDIS_OK;
    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    snprintf(expected, sizeof(expected), want, prefix, prefix);
    redisFree(c);
    return good && strcmp(why, expected) == 0;
}

static bool publish(void)
{
    return heard("SUBSCRIBE @ch", "PUBLISH @ch hello", "[message %s:ch hello]");
}

static bool psubscribe(void)
{
    return heard("PSUBSCRIBE @p?", "PUBLISH @p1 hello", "[pmessage %s:p? %s:p1 hello]");
}

static bool watch(void)
{
    static const char *const begin[] = {"SET @w 1", "OK", "WATCH @w", "OK", NULL};
    static const char *const end[] = {"MULTI",   "OK",     "SET @w 3", "QUEUED", "EXEC",  "(nil)",
                                      "GET @w",  "2",      "WATCH @w", "OK",     "MULTI", "OK",
                                      "INCR @w", "QUEUED", "EXEC",     "[:3]",   NULL};
    redisContext *other = dial();
    bool good = dialogue(begin);

    freeReplyObject(words(other, "SET @w 2"));
    redisFree(other);
    return good && dialogue(end);
}

static void *push_later(void *line)
{
    struct timespec wait = {0, 300000000};
    redisContext *c = dial();

    nanosleep(&wait, NULL);
    freeReplyObject(words(c, line));
    redisFree(c);
    return NULL;
}

static bool woken(const char *wait, char *push, const char *want)
{
    char expected[512];
    pthread_t thread;
    redisReply *reply;

    pthread_create(&thread, NULL, push_later, push);
    reply = words(r, wait);
    pthread_join(thread, NULL);
    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    snprintf(expected, sizeof(expected), want, prefix);
    return strcmp(why, expected) == 0;
}

static bool brpop_wait(void)
{
    return woken("BRPOP @later 10", "LPUSH @later job", "[%s:later job]");
}

static bool xread_block(void)
{
    return woken("XREAD BLOCK 10000 STREAMS @xb $", "XADD @xb 7-7 a 1", "[[%s:xb [[7-7 [a 1]]]]]");
}

static bool bzpopmin(void)
{
    char want[256];
    redisReply *reply;

    freeReplyObject(words(r, "ZADD @bz 2 a 1 b"));
    reply = words(r, "BZPOPMIN @bz 5");
    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    snprintf(want, sizeof(want), "[%s:bz b 1]", prefix);
    return strcmp(why, want) == 0;
}

static bool blpop(void)
{
    static const char *const lines[] = {"BLPOP @bl 1", "(nil)", NULL};
    char want[256];
    redisReply *reply;

    freeReplyObject(words(r, "RPUSH @bl x"));
    reply = words(r, "BLPOP @bl 5");
    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    snprintf(want, sizeof(want), "[%s:bl x]", prefix);
    return strcmp(why, want) == 0 && dialogue(lines);
}

static bool dbsize(void)
{
    redisReply *reply = redisCommand(r, "DBSIZE");
    bool good = reply != NULL && reply->integer >= 300;

    show(reply, why, sizeof(why));
    freeReplyObject(reply);
    return good;
}

int main(void)
{
    host = getenv("KW_HOST");
    port = (int)strtol(getenv("KW_PORT"), NULL, 10);
    prefix = getenv("KW_PREFIX");
    later = getenv("KW_LATER");
    r = dial();
    printf("version %d.%d.%d\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    TALK("ping", "PING", "PONG", "PING x", "x");
    TALK("echo", "ECHO hello", "hello");
    TALK("set_get", "SET @a v", "OK", "GET @a", "v");
    TALK("set_options", "SET @o 1 NX EX 100", "OK", "SET @o 2 NX", "(nil)", "SET @o 3 XX GET", "1");
    op("empty_value", empty_value);
    op("binary", binary);
    op("large_value", large_value);
    TALK("missing_key", "GET @no", "(nil)", "LPOP @no", "(nil)", "HGETALL @no", "[]");
    TALK("incr", "INCR @n", ":1", "INCRBY @n 41", ":42", "DECR @n", ":41", "INCRBYFLOAT @n 0.5",
         "41.5");
    TALK("append_getrange", "APPEND @ap hello", ":5", "APPEND @ap world", ":10",
         "GETRANGE @ap 5 -1", "world");
    op("mset_mget", mset_mget);
    TALK("del_exists", "EXISTS @m0 @m1 @m2 @m0", ":4", "DEL @m0 @m1 @m2", ":3", "EXISTS @m0 @m1",
         ":0");
    TALK("expire_ttl", "SET @ex 1", "OK", "EXPIRE @ex 100", ":1", "TTL @ex", ":...", "PERSIST @ex",
         ":1", "TTL @ex", ":-1", "TTL @no", ":-2");
    TALK("bits", "SETBIT @b 7 1", ":0", "GETBIT @b 7", ":1", "BITCOUNT @b", ":1", "BITPOS @b 1",
         ":7");
    TALK("hash", "HSET @h a 1 b 2", ":2", "HGETALL @h", "[a 1 b 2]", "HMGET @h a z", "[1 (nil)]",
         "HDEL @h b", ":1");
    TALK("hash_incr", "HINCRBY @h a 10", ":11", "HINCRBYFLOAT @h a 0.5", "11.5");
    op("hscan", hscan);
    TALK("list", "RPUSH @l a b c d", ":4", "LRANGE @l 0 -1", "[a b c d]", "LPOP @l", "a", "RPOP @l",
         "d", "LLEN @l", ":2");
    TALK("list_move", "RPUSH %l1 1 2", ":2", "RPOPLPUSH %l1 %l2", "2", "LRANGE %l2 0 -1", "[2]");
    TALK("set", "SADD @s 3 1 2", ":3", "SMEMBERS @s", "[1 2 3]", "SISMEMBER @s 1", ":1", "SCARD @s",
         ":3");
    TALK("set_inter", "SADD %s1 1 2", ":2", "SADD %s2 2 3", ":2", "SINTER %s1 %s2", "[2]",
         "SUNIONSTORE %s3 %s1 %s2", ":3");
    op("sscan", sscan);
    TALK("zset", "ZADD @z 1 a 2.5 b 3 c", ":3", "ZRANGE @z 0 -1 WITHSCORES", "[a 1 b 2.5 c 3]",
         "ZRANK @z b", ":1");
    TALK("zset_byscore", "ZRANGEBYSCORE @z (1 +inf", "[b c]");
    TALK("zset_incr", "ZINCRBY @z 2.5 a", "3.5", "ZSCORE @z a", "3.5");
    TALK("hyperloglog", "PFADD @pf a b c", ":1", "PFCOUNT @pf", ":3");
    TALK("geo", "GEOADD @g 13.361389 38.115556 P 15.087269 37.502669 C", ":2", "GEODIST @g P C km",
         "166.2742", "GEOSEARCH @g FROMLONLAT 15 37 BYRADIUS 200 km ASC", "[C P]");
    TALK("stream", "XADD @x 1-1 a 1", "1-1", "XADD @x 1-2 a 2", "1-2", "XRANGE @x - +",
         "[[1-1 [a 1]] [1-2 [a 2]]]", "XLEN @x", ":2");
    TALK("stream_group", "XGROUP CREATE @xg g 0 MKSTREAM", "OK", "XADD @xg 1-1 a 1", "1-1",
         "XREADGROUP GROUP g c STREAMS @xg >", "[[...", "XACK @xg g 1-1", ":1");
    TALK("type_rename", "SET %r1 x", "OK", "TYPE %r1", "string", "RENAME %r1 %r2", "OK", "GET %r2",
         "x");
    TALK("sort", "RPUSH @so 3 1 2", ":3", "SORT @so", "[1 2 3]");
    op("eval", eval);
    op("evalsha", evalsha);
    op("noscript", noscript);
    TALK("wrong_type", "SET @wt 1", "OK", "LPUSH @wt 1", "-WRONGTYPE ...");
    TALK("unknown_command", "NOSUCHCOMMAND a", "-ERR unknown command 'NOSUCHCOMMAND', with ...");
    op("pipeline", pipeline);
    op("pipeline_error", pipeline_error);
    op("scan", scan);
    op("dbsize", dbsize);
    op("info", info);
    TALK("client_name", "CLIENT SETNAME kw-name", "OK", "CLIENT GETNAME", "kw-name");
    op("publish", publish);
    op("psubscribe", psubscribe);
    TALK("multi", "MULTI", "OK", "SET %tx 7", "QUEUED", "INCR %tx", "QUEUED", "GET %tx", "QUEUED",
         "EXEC", "[OK :8 8]", "MULTI", "OK", "SET %tx 9", "QUEUED", "DISCARD", "OK", "GET %tx",
         "8");
    op("watch", watch);
    op("blpop", blpop);
    op("brpop_wait", brpop_wait);
    op("bzpopmin", bzpopmin);
    op("xread_block", xread_block);
    redisFree(r);
    printf("done\n");
    return 0;
}
