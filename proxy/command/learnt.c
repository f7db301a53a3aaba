#include "command/learnt.h"

#include "base/alloc.h"
#include "base/table.h"

struct entry {
    struct table_node node; /* hash of the name */
    struct learnt_command command;
};

struct learnt_pool {
    struct table table;
    size_t count;
    const struct learnt_command *rows[LEARNT_MAX]; /* by number - command_table_len */
};

struct learnt_pool *learnt_pool_new(void)
{
    CHECK(command_table_len + LEARNT_MAX <= UINT16_MAX);
    return xcalloc(1, sizeof(struct learnt_pool));
}

void learnt_pool_free(struct learnt_pool **pool)
{
    struct learnt_pool *p = *pool;

    *pool = NULL;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->count; i++)
        free(CONTAINER_OF(p->rows[i], struct entry, command));
    table_deinit(&p->table);
    free(p);
}

/* Both sides were zeroed before they were filled, padding included. */
static bool same_facts(const struct learnt_command *kept, const struct learnt_command *c)
{
    struct learnt_command copy;

    memcpy(&copy, kept, sizeof(copy));
    copy.row.name = c->row.name;
    copy.row.number = c->row.number;
    return memcmp(&copy, c, sizeof(copy)) == 0;
}

const struct learnt_command *learnt_intern(struct learnt_pool *p, const struct learnt_command *c)
{
    uint64_t hash = table_hash(0, c->name, strlen(c->name));
    struct entry *e;

    for (struct table_node *n = table_first(&p->table, hash); n != NULL; n = table_next(n)) {
        e = CONTAINER_OF(n, struct entry, node);
        if (same_facts(&e->command, c))
            return &e->command;
    }
    if (p->count == LEARNT_MAX)
        return NULL;
    e = xcalloc(1, sizeof(*e));
    memcpy(&e->command, c, sizeof(*c));
    e->command.row.name = e->command.name;
    e->command.row.number = (uint16_t)(command_table_len + p->count);
    p->rows[p->count++] = &e->command;
    table_add(&p->table, &e->node, hash);
    return &e->command;
}

static bool same_keys(const struct learnt_command *a, const struct learnt_command *b)
{
    return a->row.keys == b->row.keys && a->row.first == b->row.first &&
           a->row.last == b->row.last && a->row.step == b->row.step &&
           a->spec_count == b->spec_count && memcmp(a->spec, b->spec, sizeof(a->spec)) == 0;
}

/* The arity that lets both through; the servers check it again. */
static int16_t wider(int16_t a, int16_t b)
{
    int16_t least_a = (int16_t)(a < 0 ? -a : a), least_b = (int16_t)(b < 0 ? -b : b);

    return a == b ? a : (int16_t)-MIN(least_a, least_b);
}

/* A command of which one server says that it waits is treated as one that does. ROUTE_UNSUPPORTED:
 * they do not agree. */
static uint8_t merged_route(const struct learnt_command *a, const struct learnt_command *b)
{
    bool containers = a->row.route == ROUTE_CONTAINER || b->row.route == ROUTE_CONTAINER;

    if (!same_keys(a, b) || (a->row.route != b->row.route && containers))
        return ROUTE_UNSUPPORTED;
    return a->row.route == ROUTE_BLOCKING ? a->row.route : b->row.route;
}

const struct learnt_command *learnt_merge(struct learnt_pool *p, const struct learnt_command *a,
                                          const struct learnt_command *b)
{
    const uint32_t both = CMD_READONLY | CMD_FAST | CMD_LOADING | CMD_STALE;
    struct learnt_command c;

    if (a == b || a->refused != NULL)
        return a;
    if (b->refused != NULL)
        return b;
    memcpy(&c, a, sizeof(c));
    c.row.name = NULL;
    c.row.number = 0;
    c.row.arity = wider(a->row.arity, b->row.arity);
    c.row.flags = (a->row.flags | b->row.flags) & ~both;
    c.row.flags |= a->row.flags & b->row.flags & both;
    c.row.route = merged_route(a, b);
    if (c.row.route == ROUTE_UNSUPPORTED)
        c.refused = "the servers disagree about its keys";
    return learnt_intern(p, &c);
}

/* --- snapshots --- */

struct learnt *learnt_new(const struct learnt_pool *p, size_t rows)
{
    struct learnt *l = xcalloc(1, sizeof(*l));

    atomic_init(&l->refs, 1);
    l->pool = p;
    for (l->size = 8; l->size <= 2 * rows; l->size *= 2)
        ;
    l->slots = xcalloc(l->size, sizeof(struct learnt_command *));
    l->arity = xcalloc(command_table_len, sizeof(*l->arity));
    return l;
}

struct learnt *learnt_ref(struct learnt *l)
{
    unsigned before = atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);

    CHECK(before > 0);
    return l;
}

void learnt_unref(struct learnt **learnt)
{
    struct learnt *l = *learnt;

    *learnt = NULL;
    if (l == NULL)
        return;
    /* Release: what this thread read of it is done before another one frees it. */
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(l->slots);
    free(l->arity);
    free(l);
}

/* The slot that holds the name, or the free one where it would go. */
static size_t slot_of(const struct learnt *l, const char *name, size_t len)
{
    size_t i = (size_t)table_hash(0, name, len) & (l->size - 1);

    while (l->slots[i] != NULL &&
           (strlen(l->slots[i]->name) != len || memcmp(l->slots[i]->name, name, len) != 0))
        i = (i + 1) & (l->size - 1);
    return i;
}

const struct learnt_command **learnt_place(struct learnt *l, const char *name, size_t len)
{
    return &l->slots[slot_of(l, name, len)];
}

bool learnt_same(const struct learnt *a, const struct learnt *b)
{
    if (a->count != b->count || a->asks_auth != b->asks_auth ||
        memcmp(a->arity, b->arity, command_table_len * sizeof(*a->arity)) != 0)
        return false;
    for (size_t i = 0; i < a->size; i++) {
        const struct learnt_command *c = a->slots[i];

        if (c != NULL && b->slots[slot_of(b, c->name, strlen(c->name))] != c)
            return false;
    }
    return true;
}

/* Appends argument i in lower case; false when there is no room. */
static bool append_lower(char *text, size_t *len, const struct resp_request *r, uint32_t i)
{
    const char *p = resp_arg_ptr(r, i);
    size_t n = resp_arg_len(r, i);

    if (n > LEARNT_NAME_MAX - *len)
        return false;
    for (size_t k = 0; k < n; k++)
        text[(*len)++] = (char)(p[k] >= 'A' && p[k] <= 'Z' ? p[k] + ('a' - 'A') : p[k]);
    return true;
}

static const struct command *find_sub(const struct learnt *l, const struct resp_request *r,
                                      const struct command *container)
{
    char text[LEARNT_NAME_MAX];
    size_t len = strlen(container->name);
    const struct learnt_command *c;

    if (r->argc < 2 || len >= sizeof(text))
        return container;
    memcpy(text, container->name, len);
    text[len++] = '|';
    if (!append_lower(text, &len, r, 1))
        return container;
    c = l->slots[slot_of(l, text, len)];
    return c != NULL ? &c->row : container;
}

const struct command *learnt_find(const struct learnt *l, const struct resp_request *r,
                                  const struct command *container)
{
    char text[LEARNT_NAME_MAX];
    const struct learnt_command *c;
    size_t len = 0;

    if (l == NULL || l->count == 0)
        return container;
    if (container != NULL)
        return find_sub(l, r, container);
    if (!append_lower(text, &len, r, 0) || memchr(text, '|', len) != NULL)
        return NULL;
    c = l->slots[slot_of(l, text, len)];
    if (c == NULL)
        return NULL;
    return c->row.route == ROUTE_CONTAINER ? find_sub(l, r, &c->row) : &c->row;
}

bool learnt_arity_ok(const struct learnt *l, const struct command *c, uint32_t argc)
{
    int16_t arity = l != NULL && !command_is_learnt(c) ? l->arity[c->number] : 0;

    /* What the proxy answers or puts together itself reads only the arguments it knows. */
    if (arity == 0 || (c->route != ROUTE_KEYS && c->route != ROUTE_SPLIT && c->route != ROUTE_ANY))
        return false;
    return arity >= 0 ? argc == (uint32_t)arity : argc >= (uint32_t)-arity;
}

const char *learnt_name(const struct learnt *l, uint16_t number)
{
    const struct learnt_command *c;

    if (number < command_table_len)
        return command_table[number].name;
    CHECK(l != NULL);
    c = l->pool->rows[number - command_table_len];
    CHECK(c != NULL);
    return c->name;
}
