/*
 * learnt.c - a module for redis-server and valkey-server whose commands have keys in every place
 * that key specifications can tell. 53_learnt compiles and loads it.
 *
 * The few declarations of the module API that are needed stand here: a module reaches the server
 * through one function, whose address is the first word of the context it is given.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ctx;
struct string;
struct key;
struct command;
struct blocked;

typedef int handler(struct ctx *ctx, struct string **argv, int argc);

static int (*get_api)(const char *name, void *function);
static int (*set_attributes)(struct ctx *ctx, const char *name, int version, int api);
static int (*create_command)(struct ctx *ctx, const char *name, handler *fn, const char *flags,
                             int first, int last, int step);
static int (*create_subcommand)(struct command *parent, const char *name, handler *fn,
                                const char *flags, int first, int last, int step);
static struct command *(*get_command)(struct ctx *ctx, const char *name);
static int (*set_info)(struct command *c, const void *info);
static int (*wrong_arity)(struct ctx *ctx);
static int (*reply_text)(struct ctx *ctx, const char *text);
static int (*reply_error)(struct ctx *ctx, const char *text);
static int (*reply_integer)(struct ctx *ctx, long long value);
static int (*reply_array)(struct ctx *ctx, long length);
static int (*reply_null)(struct ctx *ctx);
static int (*reply_string)(struct ctx *ctx, struct string *s);
static struct key *(*open_key)(struct ctx *ctx, struct string *name, int mode);
static void (*close_key)(struct key *k);
static int (*string_set)(struct key *k, struct string *value);
static int (*key_type)(struct key *k);
static const char *(*text_of)(const struct string *s, size_t *len);
static int (*string_to_integer)(const struct string *s, long long *out);
static int (*replicate)(struct ctx *ctx);
static int (*keys_asked)(struct ctx *ctx);
static void (*key_at)(struct ctx *ctx, int position);
static struct blocked *(*block)(struct ctx *ctx, handler *reply, handler *timeout,
                                void (*release)(struct ctx *, void *), long long ms);
static struct blocked *(*block_on_keys)(struct ctx *ctx, handler *reply, handler *timeout,
                                        void (*release)(struct ctx *, void *), long long ms,
                                        struct string **keys, int count, void *data);
static int (*delete_key)(struct key *k);
static unsigned long long (*client_id)(struct ctx *ctx);

enum {
    READ = 1,
    WRITE = 2
};

/* Key specifications, as the servers lay them out in memory. */
enum {
    BEGIN_INDEX = 2,
    BEGIN_KEYWORD = 3
};
enum {
    FIND_RANGE = 2,
    FIND_KEYNUM = 3
};
enum {
    KEY_RO = 1 << 0,
    KEY_RW = 1 << 1,
    KEY_ACCESS = 1 << 4,
    KEY_UPDATE = 1 << 5
};
#define KEY_INCOMPLETE (1 << 9)
#define READS (KEY_RO | KEY_ACCESS)

struct spec {
    const char *notes;
    uint64_t flags;
    int begin;
    union {
        struct {
            int pos;
        } index;
        struct {
            const char *word;
            int from;
        } keyword;
    } bs;
    int find;
    union {
        struct {
            int last, step, limit;
        } range;
        struct {
            int at, first, step;
        } keynum;
    } fk;
};

struct info_version {
    int version;
    size_t history_size, spec_size, arg_size;
};

struct info {
    const struct info_version *version;
    const char *summary, *complexity, *since;
    void *history;
    const char *tips;
    int arity;
    struct spec *specs;
    void *args;
};

/* Of history entries and arguments there are none: any size does. */
static const struct info_version info_version = {1, 16, sizeof(struct spec), 80};

/* --- commands --- */

/* Replies with the values of the keys at argv[first], first+step ... before `end`. */
static int values(struct ctx *ctx, struct string **argv, int first, int end, int step)
{
    int n = 0;

    for (int i = first; i < end; i += step)
        n++;
    reply_array(ctx, n);
    for (int i = first; i < end; i += step) {
        struct key *k = open_key(ctx, argv[i], READ);

        if (k == NULL || key_type(k) == 0)
            reply_null(ctx);
        else
            reply_string(ctx, argv[i]); /* it is here: its name is enough */
        if (k != NULL)
            close_key(k);
    }
    return 0;
}

/* kw.put KEY VALUE: a plain write. */
static int put(struct ctx *ctx, struct string **argv, int argc)
{
    struct key *k;

    if (argc != 3)
        return wrong_arity(ctx);
    k = open_key(ctx, argv[1], READ | WRITE);
    string_set(k, argv[2]);
    close_key(k);
    replicate(ctx);
    return reply_text(ctx, "OK");
}

/* kw.range KEY [KEY ...] */
static int range(struct ctx *ctx, struct string **argv, int argc)
{
    return argc < 2 ? wrong_arity(ctx) : values(ctx, argv, 1, argc, 1);
}

/* kw.pairs KEY VALUE [KEY VALUE ...] [OPTION] */
static int pairs(struct ctx *ctx, struct string **argv, int argc)
{
    return argc < 3 ? wrong_arity(ctx) : values(ctx, argv, 1, argc - 1, 2);
}

static int is_word(const struct string *s, const char *word)
{
    size_t n;
    const char *p = text_of(s, &n);

    return n == strlen(word) && strncasecmp(p, word, n) == 0;
}

/* kw.from [OPTION ...] FROM KEY [KEY ...] */
static int from(struct ctx *ctx, struct string **argv, int argc)
{
    for (int i = 1; i + 1 < argc; i++)
        if (is_word(argv[i], "from"))
            return values(ctx, argv, i + 1, argc, 1);
    return reply_text(ctx, "no keys");
}

/* kw.into ... INTO KEY: the last INTO counts. */
static int into(struct ctx *ctx, struct string **argv, int argc)
{
    for (int i = argc - 2; i > 0; i--)
        if (is_word(argv[i], "into"))
            return values(ctx, argv, i + 1, i + 2, 1);
    return reply_text(ctx, "no keys");
}

/* kw.count DESTINATION COUNT KEY [KEY ...] [OPTION ...] */
static int count(struct ctx *ctx, struct string **argv, int argc)
{
    long long n;

    if (argc < 4 || string_to_integer(argv[2], &n) != 0 || n < 1 || n > argc - 3)
        return reply_error(ctx, "ERR a bad number of keys");
    return values(ctx, argv, 3, 3 + (int)n, 1);
}

/* kw.half KEY [KEY ...] VALUE [VALUE ...], as many of both */
static int half(struct ctx *ctx, struct string **argv, int argc)
{
    if (argc < 3 || argc % 2 == 0)
        return wrong_arity(ctx);
    return values(ctx, argv, 1, 1 + (argc - 1) / 2, 1);
}

/* kw.group get KEY [KEY ...] */
static int group_get(struct ctx *ctx, struct string **argv, int argc)
{
    return argc < 3 ? wrong_arity(ctx) : values(ctx, argv, 2, argc, 1);
}

/* kw.any [TEXT ...] and the like: no keys. */
static int any(struct ctx *ctx, struct string **argv, int argc)
{
    (void)argv;
    return reply_integer(ctx, argc);
}

/* kw.hidden X KEY: only the module itself can tell where the key is. */
static int hidden(struct ctx *ctx, struct string **argv, int argc)
{
    if (keys_asked(ctx)) {
        if (argc == 3)
            key_at(ctx, 2);
        return 0;
    }
    return argc == 3 ? values(ctx, argv, 2, 3, 1) : wrong_arity(ctx);
}

/* kw.says TEXT KEY: an error of any text, as a module may return. */
static int says(struct ctx *ctx, struct string **argv, int argc)
{
    size_t n;

    return argc == 3 ? reply_error(ctx, text_of(argv[1], &n)) : wrong_arity(ctx);
}

static int nothing_came(struct ctx *ctx, struct string **argv, int argc)
{
    (void)argv;
    (void)argc;
    return reply_null(ctx);
}

/* Its key is there: takes it away and replies its name. Not there after all: waits on. */
static int taken(struct ctx *ctx, struct string **argv, int argc)
{
    struct key *k = open_key(ctx, argv[1], READ | WRITE);
    int there = k != NULL && key_type(k) != 0;

    (void)argc;
    if (there) {
        delete_key(k);
        reply_string(ctx, argv[1]);
    }
    if (k != NULL)
        close_key(k);
    return there ? 0 : 1;
}

/* kw.take KEY MS: waits until a list, or another key that one can wait for, is there. */
static int take(struct ctx *ctx, struct string **argv, int argc)
{
    long long ms;

    if (argc != 3)
        return wrong_arity(ctx);
    if (string_to_integer(argv[2], &ms) != 0 || ms < 0)
        return reply_error(ctx, "ERR a bad time");
    if (taken(ctx, argv, argc) != 0)
        block_on_keys(ctx, taken, nothing_came, NULL, ms, &argv[1], 1, NULL);
    return 0;
}

/* kw.sleep MS */
static int sleep_ms(struct ctx *ctx, struct string **argv, int argc)
{
    long long ms;

    if (argc != 2)
        return wrong_arity(ctx);
    if (string_to_integer(argv[1], &ms) != 0 || ms < 0)
        return reply_error(ctx, "ERR a bad time");
    block(ctx, nothing_came, nothing_came, NULL, ms);
    return 0;
}

/* kw.alone [TEXT ...]: the number of the connection that it came on. */
static int alone(struct ctx *ctx, struct string **argv, int argc)
{
    (void)argv;
    (void)argc;
    return reply_integer(ctx, (long long)client_id(ctx));
}

/* --- loading --- */

static int describe(struct ctx *ctx, const char *name, int arity, struct spec *specs)
{
    struct info info = {.version = &info_version, .arity = arity, .specs = specs};

    return set_info(get_command(ctx, name), &info);
}

static int describe_all(struct ctx *ctx)
{
    struct spec from_specs[] = {{.flags = READS,
                                 .begin = BEGIN_KEYWORD,
                                 .bs.keyword = {"FROM", 1},
                                 .find = FIND_RANGE,
                                 .fk.range = {-1, 1, 0}},
                                {0}};
    struct spec into_specs[] = {{.flags = READS,
                                 .begin = BEGIN_KEYWORD,
                                 .bs.keyword = {"INTO", -2},
                                 .find = FIND_RANGE,
                                 .fk.range = {0, 1, 0}},
                                {0}};
    struct spec count_specs[] = {{.flags = KEY_RW | KEY_UPDATE,
                                  .begin = BEGIN_INDEX,
                                  .bs.index = {1},
                                  .find = FIND_RANGE,
                                  .fk.range = {0, 1, 0}},
                                 {.flags = READS,
                                  .begin = BEGIN_INDEX,
                                  .bs.index = {2},
                                  .find = FIND_KEYNUM,
                                  .fk.keynum = {0, 1, 1}},
                                 {0}};
    struct spec half_specs[] = {{.flags = READS,
                                 .begin = BEGIN_INDEX,
                                 .bs.index = {1},
                                 .find = FIND_RANGE,
                                 .fk.range = {-1, 1, 2}},
                                {0}};
    struct spec part_specs[] = {{.flags = READS | KEY_INCOMPLETE,
                                 .begin = BEGIN_INDEX,
                                 .bs.index = {1},
                                 .find = FIND_RANGE,
                                 .fk.range = {0, 1, 0}},
                                {0}};

    return describe(ctx, "kw.from", -1, from_specs) | describe(ctx, "kw.into", -1, into_specs) |
           describe(ctx, "kw.count", -4, count_specs) | describe(ctx, "kw.half", -3, half_specs) |
           describe(ctx, "kw.part", -2, part_specs);
}

static int create_all(struct ctx *ctx)
{
    static const struct {
        const char *name;
        handler *fn;
        const char *flags;
        int first, last, step;
    } commands[] = {
        {"kw.put", put, "write deny-oom", 1, 1, 1},
        {"kw.range", range, "readonly", 1, -1, 1},
        {"kw.pairs", pairs, "readonly", 1, -2, 2},
        {"kw.from", from, "readonly", 0, 0, 0},
        {"kw.into", into, "readonly", 0, 0, 0},
        {"kw.count", count, "write", 0, 0, 0},
        {"kw.half", half, "readonly", 0, 0, 0},
        {"kw.part", range, "readonly", 0, 0, 0},
        {"kw.any", any, "readonly fast", 0, 0, 0},
        {"kw.hidden", hidden, "readonly getkeys-api", 0, 0, 0},
        {"kw.says", says, "readonly", 2, 2, 1},
        {"kw.take", take, "write deny-script blocking", 1, 1, 1},
        {"kw.sleep", sleep_ms, "readonly blocking", 0, 0, 0},
        {"kw.channel", any, "pubsub", 0, 0, 0},
        {"kw.alone", alone, "readonly deny-script", 0, 0, 0},
        {"kw.login", any, "deny-script no-auth", 0, 0, 0},
        {"kw.admin", any, "admin", 0, 0, 0},
        {"kw.group", NULL, "", 0, 0, 0},
    };
    struct command *group;
    int bad = 0;

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        bad |= create_command(ctx, commands[i].name, commands[i].fn, commands[i].flags,
                              commands[i].first, commands[i].last, commands[i].step);
    group = get_command(ctx, "kw.group");
    bad |= create_subcommand(group, "get", group_get, "readonly", 2, -1, 1);
    bad |= create_subcommand(group, "hello", any, "readonly", 0, 0, 0);
    return bad;
}

int RedisModule_OnLoad(struct ctx *ctx, struct string **argv, int argc);

int RedisModule_OnLoad(struct ctx *ctx, struct string **argv, int argc)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"SetModuleAttribs", &set_attributes},
        {"CreateCommand", &create_command},
        {"CreateSubcommand", &create_subcommand},
        {"GetCommand", &get_command},
        {"SetCommandInfo", &set_info},
        {"WrongArity", &wrong_arity},
        {"ReplyWithSimpleString", &reply_text},
        {"ReplyWithError", &reply_error},
        {"ReplyWithLongLong", &reply_integer},
        {"ReplyWithArray", &reply_array},
        {"ReplyWithNull", &reply_null},
        {"ReplyWithString", &reply_string},
        {"OpenKey", &open_key},
        {"CloseKey", &close_key},
        {"StringSet", &string_set},
        {"KeyType", &key_type},
        {"StringPtrLen", &text_of},
        {"StringToLongLong", &string_to_integer},
        {"ReplicateVerbatim", &replicate},
        {"IsKeysPositionRequest", &keys_asked},
        {"KeyAtPos", &key_at},
        {"BlockClient", &block},
        {"BlockClientOnKeys", &block_on_keys},
        {"DeleteKey", &delete_key},
        {"GetClientId", &client_id},
    };
    char name[64] = "RedisModule_";

    (void)argv;
    (void)argc;
    memcpy(&get_api, ctx, sizeof(get_api));
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        strncpy(name + 12, functions[i].name, sizeof(name) - 13);
        if (get_api(name, functions[i].function) != 0)
            return 1;
    }
    set_attributes(ctx, "keywaytest", 1, 1);
    return create_all(ctx) | describe_all(ctx);
}
