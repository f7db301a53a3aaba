#include "control/command_reply.h"

#include "base/alloc.h"
#include "base/table.h"

struct reading {
    const struct learn_policy *policy;
    struct learnt_pool *pool;
    struct server_commands *out;
    size_t room;
};

/* --- pieces of a reply --- */

static bool is_text(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS;
}

/* Element i of an array, or NULL. */
static const redisReply *element(const redisReply *r, size_t i)
{
    return r != NULL && r->type == REDIS_REPLY_ARRAY && i < r->elements ? r->element[i] : NULL;
}

/* The value behind a key in an array of keys and values, or NULL. */
static const redisReply *value_of(const redisReply *map, const char *key)
{
    for (size_t i = 0; map != NULL && map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements;
         i += 2)
        if (is_text(map->element[i]) && strcmp(map->element[i]->str, key) == 0)
            return map->element[i + 1];
    return NULL;
}

static bool text_is(const redisReply *r, const char *text)
{
    return r != NULL && is_text(r) && strcmp(r->str, text) == 0;
}

/* An integer within the bounds of a position. */
static bool number(const redisReply *r, int least, int16_t *out)
{
    if (r == NULL || r->type != REDIS_REPLY_INTEGER || r->integer < least || r->integer > INT16_MAX)
        return false;
    *out = (int16_t)r->integer;
    return true;
}

static bool has_word(const redisReply *list, const char *word)
{
    for (size_t i = 0; list != NULL && list->type == REDIS_REPLY_ARRAY && i < list->elements; i++)
        if (is_text(list->element[i]) && strcasecmp(list->element[i]->str, word) == 0)
            return true;
    return false;
}

/* --- keys --- */

static bool read_begin(const redisReply *r, struct key_spec *s)
{
    const redisReply *type = value_of(r, "type"), *spec = value_of(r, "spec"), *word;

    if (text_is(type, "index")) {
        s->begin = KEY_BEGIN_INDEX;
        return number(value_of(spec, "index"), 1, &s->at);
    }
    word = value_of(spec, "keyword");
    if (!text_is(type, "keyword") || word == NULL || !is_text(word) || word->len == 0 ||
        (size_t)word->len > KEY_WORD_MAX)
        return false;
    s->begin = KEY_BEGIN_WORD;
    memcpy(s->word, word->str, (size_t)word->len);
    return number(value_of(spec, "startfrom"), INT16_MIN, &s->at) && s->at != 0;
}

static bool read_find(const redisReply *r, struct key_spec *s)
{
    const redisReply *type = value_of(r, "type"), *spec = value_of(r, "spec");

    if (!number(value_of(spec, "keystep"), 1, &s->step))
        return false;
    if (text_is(type, "range")) {
        s->find = KEY_FIND_RANGE;
        return number(value_of(spec, "lastkey"), INT16_MIN, &s->last) &&
               number(value_of(spec, "limit"), 0, &s->limit);
    }
    s->find = KEY_FIND_COUNT;
    return text_is(type, "keynum") && number(value_of(spec, "keynumidx"), 0, &s->count_at) &&
           number(value_of(spec, "firstkey"), 0, &s->first);
}

/* A range that begins at a fixed place is what the table has too, and found faster. A range of one
 * step only: of others the table expects whole groups. */
static bool as_range(struct learnt_command *c)
{
    const struct key_spec *s = &c->spec[0];

    if (c->spec_count != 1 || s->begin != KEY_BEGIN_INDEX || s->find != KEY_FIND_RANGE ||
        s->step != 1 || s->last > 0 || (s->last < 0 && s->limit > 1))
        return false;
    c->row.keys = KEYS_RANGE;
    c->row.first = s->at;
    c->row.last = s->last == 0 ? s->at : s->last;
    c->row.step = 1;
    c->spec_count = 0;
    memset(c->spec, 0, sizeof(c->spec));
    return true;
}

/* Servers before 7.0 tell no more than a range. */
static bool read_old_keys(const redisReply *r, struct learnt_command *c)
{
    struct key_spec *s = &c->spec[0];
    int16_t last;

    if (!number(element(r, 3), 0, &s->at) || !number(element(r, 4), INT16_MIN, &last))
        return false;
    if (s->at == 0)
        return true;
    s->begin = KEY_BEGIN_INDEX;
    s->find = KEY_FIND_RANGE;
    s->last = (int16_t)(last < 0 ? last : last - s->at);
    c->spec_count = 1;
    return (last < 0 || last >= s->at) && number(element(r, 5), 1, &s->step);
}

/* False when some of the keys cannot be found. */
static bool read_keys(const redisReply *r, struct learnt_command *c)
{
    const redisReply *specs = element(r, 8);
    bool moves = has_word(element(r, 2), "movablekeys");

    if (specs == NULL)
        return !moves && read_old_keys(r, c);
    if (specs->elements > KEY_SPECS_MAX || (specs->elements == 0 && moves))
        return false;
    for (size_t i = 0; i < specs->elements; i++) {
        const redisReply *spec = specs->element[i];

        if (has_word(value_of(spec, "flags"), "incomplete") ||
            !read_begin(value_of(spec, "begin_search"), &c->spec[i]) ||
            !read_find(value_of(spec, "find_keys"), &c->spec[i]))
            return false;
        c->spec_count++;
    }
    return true;
}

static void set_keys(const redisReply *r, struct learnt_command *c, const struct learn_policy *p)
{
    bool found = read_keys(r, c);

    if (found && c->spec_count > 0) {
        c->row.route = ROUTE_KEYS;
        if (!as_range(c))
            c->row.keys = KEYS_SPECS;
        return;
    }
    c->spec_count = 0;
    memset(c->spec, 0, sizeof(c->spec));
    c->row.route = ROUTE_ANY;
    if (!p->sharded)
        return; /* all keys are on the one server */
    if (!found)
        c->refused = "the servers do not tell where its keys are";
    else if (has_word(element(r, 2), "touches_arbitrary_keys"))
        c->refused = "it works on keys that it does not name";
}

/* --- flags --- */

static void set_flags(const redisReply *flags, struct learnt_command *c)
{
    static const struct {
        const char *word;
        uint32_t flag;
    } known[] = {
        {"write", CMD_WRITE},
        {"readonly", CMD_READONLY},
        {"may_replicate", CMD_MAY_REPLICATE},
        {"fast", CMD_FAST},
        {"denyoom", CMD_DENYOOM},
        {"loading", CMD_LOADING},
        {"stale", CMD_STALE},
        {"module", CMD_SCRIPT},
        {"admin", CMD_ADMIN},
        {"blocking", CMD_BLOCKING},
        {"noscript", CMD_NOSCRIPT},
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (has_word(flags, known[i].word))
            c->row.flags |= known[i].flag;
    /* What is not said to be harmless is not sent twice. */
    if ((c->row.flags & CMD_READONLY) == 0)
        c->row.flags |= CMD_WRITE;
}

/* Not on a connection that clients share: what waits there, and what may leave something behind. */
static void set_own_connection(const redisReply *categories, struct learnt_command *c)
{
    if (has_word(categories, "@blocking"))
        c->row.flags |= CMD_BLOCKING;
    if ((c->row.flags & (CMD_BLOCKING | CMD_NOSCRIPT)) != 0)
        c->row.route = ROUTE_BLOCKING;
}

/* What belongs to a connection, or has not one reply. The categories are looked at because some
 * commands that concern the connection itself have no flag that says so. */
static void set_refusal(const redisReply *r, struct learnt_command *c, const struct learn_policy *p)
{
    static const struct {
        const char *flag, *category, *why;
    } unsafe[] = {
        {"pubsub", "@pubsub", "it is about channels"},
        {"no_multi", "@transaction", "it is about transactions, or not allowed in one"},
    };
    const redisReply *flags = element(r, 2), *categories = element(r, 6);

    for (size_t i = 0; i < ARRAY_LEN(unsafe) && c->refused == NULL; i++)
        if (has_word(flags, unsafe[i].flag) || has_word(categories, unsafe[i].category))
            c->refused = unsafe[i].why;
    if (c->refused == NULL && (has_word(categories, "@connection") ||
                               (has_word(flags, "noscript") && has_word(flags, "no_auth"))))
        c->refused = "it is about its connection";
    if (c->refused == NULL && !p->admin_commands &&
        (has_word(flags, "admin") || has_word(categories, "@admin") ||
         has_word(categories, "@dangerous"))) {
        c->refused = "";
        c->guarded = true;
    }
    if (c->refused != NULL)
        c->row.route = ROUTE_UNSUPPORTED;
}

/* --- names --- */

/* In lower case, printable and without spaces: it becomes part of error texts. */
static bool copy_name(const redisReply *r, char out[LEARNT_NAME_MAX + 1])
{
    size_t n = r != NULL && is_text(r) ? (size_t)r->len : 0;

    if (n == 0 || n > LEARNT_NAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        char ch = r->str[i];

        if (ch <= ' ' || ch > '~')
            return false;
        out[i] = (char)(ch >= 'A' && ch <= 'Z' ? ch + ('a' - 'A') : ch);
    }
    out[n] = '\0';
    return true;
}

static void add(struct reading *in, const struct learnt_command *c)
{
    const struct learnt_command *row = learnt_intern(in->pool, c);

    if (row == NULL) {
        in->out->full = true;
        return;
    }
    if (in->out->count == in->room) {
        in->room = in->room * 2 + 16;
        in->out->rows = xrealloc(in->out->rows, in->room * sizeof(struct learnt_command *));
    }
    in->out->rows[in->out->count++] = row;
}

/* Where an entry of the reply stands. */
enum place {
    PLACE_TOP,
    PLACE_IN_TABLE, /* a subcommand of a container that the table has */
    PLACE_IN_NEW,   /* of one that it lacks */
};

static void read_one(struct reading *in, const redisReply *r, enum place place);

/* A subcommand of a container of the table is taken when it names keys: others are about a server
 * or a connection, and mean nothing on whichever one they would reach. */
static void read_new(struct reading *in, const redisReply *r, struct learnt_command *c,
                     bool has_subs, enum place place)
{
    set_flags(element(r, 2), c);
    set_keys(r, c, in->policy);
    if (has_subs && c->row.route == ROUTE_ANY)
        c->row.route = ROUTE_CONTAINER;
    else
        set_own_connection(element(r, 6), c);
    set_refusal(r, c, in->policy);
    if (place != PLACE_IN_TABLE || (c->row.keys != KEYS_NONE && c->row.route != ROUTE_UNSUPPORTED))
        add(in, c);
}

static void read_one(struct reading *in, const redisReply *r, enum place place)
{
    const redisReply *subs = element(r, 9);
    size_t sub_count = subs != NULL && subs->type == REDIS_REPLY_ARRAY ? subs->elements : 0;
    const struct command *known;
    struct learnt_command c;

    memset(&c, 0, sizeof(c));
    if (!copy_name(element(r, 0), c.name) || !number(element(r, 1), INT16_MIN, &c.row.arity) ||
        (strchr(c.name, '|') == NULL) != (place == PLACE_TOP))
        return;
    known = command_find_name(c.name, strlen(c.name));
    for (size_t i = 0; i < sub_count && place == PLACE_TOP; i++)
        read_one(in, subs->element[i], known != NULL ? PLACE_IN_TABLE : PLACE_IN_NEW);
    if (known == NULL)
        read_new(in, r, &c, sub_count > 0, place);
    else if (known->arity != c.row.arity && (known->flags & CMD_SCRIPT) == 0)
        in->out->arity[known->number] = c.row.arity; /* (of scripts the first argument is read) */
}

bool command_reply_read(const redisReply *r, const struct learn_policy *policy,
                        struct learnt_pool *pool, struct server_commands *out)
{
    struct reading in = {.policy = policy, .pool = pool, .out = out};

    if (r->type != REDIS_REPLY_ARRAY)
        return false;
    *out = (struct server_commands){.arity = xcalloc(command_table_len, sizeof(*out->arity))};
    for (size_t i = 0; i < r->elements; i++)
        read_one(&in, r->element[i], PLACE_TOP);
    return true;
}

void server_commands_deinit(struct server_commands *c)
{
    free(c->rows);
    free(c->arity);
    *c = (struct server_commands){.rows = NULL};
}

uint64_t command_reply_names(const redisReply *r)
{
    uint64_t sum = 0;

    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++)
        if (is_text(r->element[i]))
            sum += table_hash(1, r->element[i]->str, (size_t)r->element[i]->len);
    return sum;
}
