#include "command/command.h"

/* Bytes of the longest name that can be looked up, in words of eight. */
#define NAME_WORDS 4
#define NAME_MAX_LEN ((size_t)NAME_WORDS * 8)

/* Slots of the lookup table: a power of two, at least twice the number of rows. */
#define SLOTS_LOG2 10
#define SLOTS (1U << SLOTS_LOG2)

/* table.def writes its flags without the prefix. */
enum {
    WRITE = CMD_WRITE,
    READONLY = CMD_READONLY,
    BLOCKING = CMD_BLOCKING,
    PUBSUB = CMD_PUBSUB,
    ADMIN = CMD_ADMIN,
    NO_MULTI = CMD_NO_MULTI,
    NOSCRIPT = CMD_NOSCRIPT,
    DENYOOM = CMD_DENYOOM,
    FAST = CMD_FAST,
    LOADING = CMD_LOADING,
    STALE = CMD_STALE,
    NO_AUTH = CMD_NO_AUTH,
    MAY_REPLICATE = CMD_MAY_REPLICATE,
    SCRIPT = CMD_SCRIPT,
    TX = CMD_TX,
    ASKING = CMD_ASKING,
    GUARDED = CMD_GUARDED,
};

#define ROW(n, a, r, m, k, l, fl, f, e, s)                                                         \
    {                                                                                              \
        .name = (n), .arity = (a), .route = ROUTE_##r, .merge = MERGE_##m, .keys = KEYS_##k,       \
        .local = LOCAL_##l, .flags = (fl), .first = (f), .last = (e), .step = (s)                  \
    }
#define KEY(n, a, fl) ROW(n, a, KEYS, NONE, RANGE, NONE, fl, 1, 1, 1),
#define KEYS(n, a, fl, f, e, s) ROW(n, a, KEYS, NONE, RANGE, NONE, fl, f, e, s),
#define COUNTED(n, a, fl, f, d) ROW(n, a, KEYS, NONE, NUMKEYS, NONE, fl, f, d, 1),
#define FORM(n, a, fl, k, f, e, s) ROW(n, a, KEYS, NONE, k, NONE, fl, f, e, s),
#define SPLIT(n, a, fl, m, f, e, s) ROW(n, a, SPLIT, m, RANGE, NONE, fl, f, e, s),
#define BLOCKS(n, a, fl, k, f, e, s) ROW(n, a, BLOCKING, NONE, k, NONE, fl, f, e, s),
#define ANY(n, a, fl) ROW(n, a, ANY, NONE, NONE, NONE, fl, 0, 0, 0),
#define ALL(n, a, fl, m) ROW(n, a, ALL, m, NONE, NONE, fl, 0, 0, 0),
#define PROXY(n, a, fl, l) ROW(n, a, LOCAL, NONE, NONE, l, fl, 0, 0, 0),
#define PROXY_KEYS(n, a, fl, l, f, e, s) ROW(n, a, LOCAL, NONE, RANGE, l, fl, f, e, s),
#define CONTAINER(n, a, fl) ROW(n, a, CONTAINER, NONE, NONE, NONE, fl, 0, 0, 0),
#define LATER(n, a, fl) ROW(n, a, UNSUPPORTED, NONE, NONE, NONE, fl, 0, 0, 0),
#define LATER_KEYS(n, a, fl, k, f, e, s) ROW(n, a, UNSUPPORTED, NONE, k, NONE, fl, f, e, s),

const struct command command_table[] = {
#include "command/table.def"
};
const size_t command_table_len = ARRAY_LEN(command_table);

/* A name as the table keeps it: zero-padded words of eight bytes, the first byte lowest. */
struct name {
    uint64_t word[NAME_WORDS];
    uint32_t len;
};

struct slot {
    _Alignas(64) struct name name;
    bool is_sub; /* "container|sub": not to be found by a request's first argument */
    bool has_subs;
    const struct command *command; /* NULL: the slot is free */
};

static struct slot slots[SLOTS];
_Static_assert(sizeof(struct slot) == 64, "a slot fills a cache line");

static uint64_t from_little_endian(uint64_t w)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(w);
#else
    return w;
#endif
}

static uint64_t load_eight(const char *p)
{
    uint64_t w;

    memcpy(&w, p, sizeof(w));
    return from_little_endian(w);
}

static uint64_t load_four(const char *p)
{
    uint64_t w = 0;

    memcpy(&w, p, 4);
    return from_little_endian(w);
}

/* 1 to 7 bytes. Loads that overlap set the same bits twice, which spares a loop. */
static uint64_t load_some(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;

    if (n >= 4)
        return load_four(p) | load_four(p + n - 4) << 8 * (n - 4);
    return (uint64_t)u[0] | (uint64_t)u[n / 2] << 8 * (n / 2) | (uint64_t)u[n - 1] << 8 * (n - 1);
}

/* Turns A-Z among eight bytes into a-z and leaves every other byte alone. */
static uint64_t fold_word(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t low = w & ones * 0x7f;
    uint64_t from_a = low + ones * (0x80 - 'A');       /* top bit: not below 'A' */
    uint64_t beyond_z = low + ones * (0x80 - 'Z' - 1); /* top bit: above 'Z' */

    return w | ((from_a & ~beyond_z & ~w & ones * 0x80) >> 2);
}

/* Fills out with n bytes (at most NAME_MAX_LEN). Words beyond the name's are not written. */
static void name_load(struct name *out, const char *p, size_t n)
{
    size_t i;

    out->len = (uint32_t)n;
    for (i = 0; n >= 8; i++, p += 8, n -= 8)
        out->word[i] = load_eight(p);
    if (n > 0)
        out->word[i] = load_some(p, n);
}

static size_t name_words(size_t len)
{
    return (len + 7) / 8;
}

/* The functions below get the number of words from their caller, so that the compiler makes a
 * straight line of them for the names of one word, which are most. */

static inline void name_fold(struct name *n, size_t words)
{
    for (size_t i = 0; i < words; i++)
        n->word[i] = fold_word(n->word[i]);
}

static inline uint32_t name_hash(const struct name *n, size_t words)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t h = n->len;

    for (size_t i = 0; i < words; i++)
        h = (h ^ (h >> 32) ^ n->word[i]) * odd;
    return (uint32_t)(h >> (64 - SLOTS_LOG2));
}

static inline bool name_equal(const struct name *a, const struct name *b, size_t words)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < words; i++)
        if (a->word[i] != b->word[i])
            return false;
    return true;
}

/* The slot that holds the name, or the free one where it would go. */
static inline struct slot *slot_of(const struct name *n, size_t words)
{
    uint32_t i = name_hash(n, words);

    while (slots[i].command != NULL && !name_equal(&slots[i].name, n, words))
        i = (i + 1) & (SLOTS - 1);
    return &slots[i];
}

static struct slot *slot_of_text(const char *text, size_t len)
{
    struct name n;

    name_load(&n, text, len);
    return slot_of(&n, name_words(len));
}

void command_init(void)
{
    /* Half empty, so that an unknown name meets a free slot soon. */
    CHECK(command_table_len <= SLOTS / 2);
    memset(slots, 0, sizeof(slots));
    for (size_t i = 0; i < command_table_len; i++) {
        const struct command *c = &command_table[i];
        size_t len = strlen(c->name);
        struct slot *s;

        CHECK(len > 0 && len <= NAME_MAX_LEN);
        s = slot_of_text(c->name, len);
        CHECK(s->command == NULL);
        name_load(&s->name, c->name, len);
        s->is_sub = strchr(c->name, '|') != NULL;
        s->command = c;
    }
    for (size_t i = 0; i < command_table_len; i++) {
        const char *bar = strchr(command_table[i].name, '|');
        struct slot *s;

        if (bar == NULL)
            continue;
        s = slot_of_text(command_table[i].name, (size_t)(bar - command_table[i].name));
        CHECK(s->command != NULL);
        s->has_subs = true;
    }
}

/* The row of "container|sub", or the container's own. */
static const struct command *find_sub(const struct slot *container, const char *sub, size_t len)
{
    size_t at = container->name.len;
    char text[NAME_MAX_LEN];
    const struct slot *s;
    struct name n;
    size_t words;

    if (len >= NAME_MAX_LEN - at)
        return container->command;
    memcpy(text, container->command->name, at);
    text[at] = '|';
    memcpy(text + at + 1, sub, len);
    words = name_words(at + 1 + len);
    name_load(&n, text, at + 1 + len);
    name_fold(&n, words);
    s = slot_of(&n, words);
    return s->command != NULL ? s->command : container->command;
}

/* 1 to 8 bytes. */
static const struct slot *find_short(const char *p, size_t len)
{
    struct name n;

    n.len = (uint32_t)len;
    n.word[0] = len == 8 ? load_eight(p) : load_some(p, len);
    name_fold(&n, 1);
    return slot_of(&n, 1);
}

static const struct slot *find_long(const char *p, size_t len)
{
    struct name n;

    name_load(&n, p, len);
    name_fold(&n, name_words(len));
    return slot_of(&n, name_words(len));
}

const struct command *command_find(const struct resp_request *r)
{
    size_t len = resp_arg_len(r, 0);
    const struct slot *s;

    if (UNLIKELY(len == 0 || len > NAME_MAX_LEN))
        return NULL;
    s = len <= 8 ? find_short(resp_arg_ptr(r, 0), len) : find_long(resp_arg_ptr(r, 0), len);
    if (UNLIKELY(s->command == NULL || s->is_sub))
        return NULL;
    if (LIKELY(!s->has_subs) || r->argc < 2)
        return s->command;
    return find_sub(s, resp_arg_ptr(r, 1), resp_arg_len(r, 1));
}

const struct command *command_find_name(const char *name, size_t len)
{
    return len > NAME_MAX_LEN ? NULL : slot_of_text(name, len)->command;
}
