#include "session/info_rule.h"

#include <errno.h>
#include <strings.h>

#include "base/alloc.h"
#include "resp/number.h"

enum rule {
    RULE_FIRST,
    RULE_SUM,
    RULE_MAX,
    RULE_MIN,
    RULE_LIMIT,   /* a sum, but 0 means "no limit" and wins */
    RULE_STATUS,  /* the first that is not "ok" */
    RULE_VERSION, /* the lowest */
    RULE_DROP,
};

/* What holds for the fields of a section that are not named below. Sections of modules, and those
 * that this table does not know, say RULE_FIRST: their numbers may be anything. */
static const struct {
    const char *section;
    enum rule rule;
} section_rules[] = {
    {"Clients", RULE_SUM},    {"Memory", RULE_SUM},       {"Persistence", RULE_SUM},
    {"Stats", RULE_SUM},      {"CPU", RULE_SUM},          {"Commandstats", RULE_SUM},
    {"Errorstats", RULE_SUM}, {"Keyspace", RULE_SUM},     {"Threads", RULE_SUM},
    {"Keysizes", RULE_SUM},   {"Latencystats", RULE_MAX},
};

static const struct {
    const char *field; /* with a '*' at its end: all that begin so */
    enum rule rule;
} field_rules[] = {
    /* Server */
    {"redis_version", RULE_VERSION},
    {"valkey_version", RULE_VERSION},
    {"listener*", RULE_DROP},
    /* Clients */
    {"maxclients", RULE_FIRST},
    {"client_recent_max_input_buffer", RULE_MAX},
    {"client_recent_max_output_buffer", RULE_MAX},
    {"client_biggest_input_buf", RULE_MAX},
    {"client_longest_output_list", RULE_MAX},
    /* Memory: scripts and functions are the same on every master */
    {"number_of_cached_scripts", RULE_MAX},
    {"number_of_functions", RULE_MAX},
    {"number_of_libraries", RULE_MAX},
    {"maxmemory", RULE_LIMIT},
    {"active_defrag_running", RULE_MAX},
    /* Persistence */
    {"loading", RULE_MAX},
    {"async_loading", RULE_MAX},
    {"loading_start_time", RULE_MIN},
    {"loading_eta_seconds", RULE_MAX},
    {"current_cow_size_age", RULE_MAX},
    {"current_fork_perc", RULE_MAX},
    {"rdb_bgsave_in_progress", RULE_MAX},
    {"rdb_last_save_time", RULE_MIN},
    {"rdb_last_bgsave_status", RULE_STATUS},
    {"rdb_last_bgsave_time_sec", RULE_MAX},
    {"rdb_current_bgsave_time_sec", RULE_MAX},
    {"aof_enabled", RULE_MAX},
    {"aof_rewrite_in_progress", RULE_MAX},
    {"aof_rewrite_scheduled", RULE_MAX},
    {"aof_last_rewrite_time_sec", RULE_MAX},
    {"aof_current_rewrite_time_sec", RULE_MAX},
    {"aof_rewrites_consecutive_failures", RULE_MAX},
    {"aof_pending_rewrite", RULE_MAX},
    {"aof_last_bgrewrite_status", RULE_STATUS},
    {"aof_last_write_status", RULE_STATUS},
    {"module_fork_in_progress", RULE_MAX},
    /* Stats */
    {"expired_stale_perc", RULE_MAX},
    {"current_eviction_exceeded_time", RULE_MAX},
    {"current_active_defrag_time", RULE_MAX},
    {"latest_fork_usec", RULE_MAX},
    /* Replication: behind the proxy there is one master, without replicas of its own */
    {"slave*", RULE_DROP},
    {"replica*", RULE_DROP},
    {"master_host", RULE_DROP},
    {"master_port", RULE_DROP},
    {"master_link_*", RULE_DROP},
    {"master_last_io_*", RULE_DROP},
    {"master_sync_*", RULE_DROP},
    {"min_slaves_good_slaves", RULE_MIN},
    {"repl_backlog_active", RULE_MAX},
};

static bool pattern_is(const char *pattern, const char *field, size_t n)
{
    size_t m = strlen(pattern);

    if (pattern[m - 1] == '*')
        return n >= m - 1 && memcmp(pattern, field, m - 1) == 0;
    return n == m && memcmp(pattern, field, n) == 0;
}

static enum rule find_rule(const char *section, const char *field, size_t n)
{
    enum rule general = RULE_FIRST;

    for (size_t i = 0; i < ARRAY_LEN(section_rules); i++)
        if (strcasecmp(section_rules[i].section, section) == 0)
            general = section_rules[i].rule;
    for (size_t i = 0; i < ARRAY_LEN(field_rules); i++)
        if (pattern_is(field_rules[i].field, field, n))
            return field_rules[i].rule;
    return general;
}

bool info_rule_drops(const char *section, const char *field, size_t n)
{
    bool one_servers =
        strcasecmp(section, "Replication") == 0 || strcasecmp(section, "Server") == 0;

    return one_servers && find_rule(section, field, n) == RULE_DROP;
}

/* --- values --- */

/* A number as INFO shows it: "12", "-1", "0.03", "99.70%". */
struct number {
    bool real;
    int64_t i;
    double d; /* also of an integer */
    int decimals;
    const char *unit; /* "%" or "" */
};

static bool parse_number(const char *p, size_t n, struct number *out)
{
    char text[64], *end;
    const char *dot;

    if (n == 0 || n >= sizeof(text))
        return false;
    *out = (struct number){.unit = ""};
    if (resp_parse_int(p, n, &out->i)) {
        out->d = (double)out->i;
        return true;
    }
    memcpy(text, p, n);
    text[n] = '\0';
    if (strspn(text, "-0123456789.%") != n)
        return false;
    errno = 0;
    out->real = true;
    out->d = strtod(text, &end);
    if (end == text || errno != 0 || (strcmp(end, "") != 0 && strcmp(end, "%") != 0))
        return false;
    out->unit = end[0] == '%' ? "%" : "";
    dot = strchr(text, '.');
    out->decimals = dot != NULL ? (int)(end - dot) - 1 : 0;
    return true;
}

static char *write_number(const struct number *a, const struct number *b, int64_t i, double d)
{
    if (!a->real && !b->real)
        return xasprintf("%lld", (long long)i);
    return xasprintf("%.*f%s", MAX(a->decimals, b->decimals), d, a->unit);
}

static char *add_numbers(const struct number *a, const struct number *b)
{
    int64_t sum;

    if (__builtin_add_overflow(a->i, b->i, &sum))
        sum = a->i > 0 ? INT64_MAX : INT64_MIN;
    return write_number(a, b, sum, a->d + b->d);
}

static char *first_version(const char *a, const char *b)
{
    return xstrdup(strverscmp(a, b) <= 0 ? a : b);
}

static char *merge_numbers(enum rule rule, const struct number *a, const struct number *b)
{
    const struct number *least = a->d <= b->d ? a : b, *most = least == a ? b : a;

    switch (rule) {
    case RULE_MAX:
        return write_number(most, most, most->i, most->d);
    case RULE_MIN:
        return write_number(least, least, least->i, least->d);
    case RULE_LIMIT:
        if (a->d == 0 || b->d == 0)
            return xstrdup("0");
        return add_numbers(a, b);
    default:
        return add_numbers(a, b);
    }
}

/* --- lists: "calls=1,usec=8,usec_per_call=8.00" --- */

struct item {
    const char *name, *value;
    size_t name_len, value_len;
};

/* Reads the item at *p and moves *p behind it. False at the end, or where there is none. */
static bool next_item(const char **p, struct item *out)
{
    size_t n = strcspn(*p, ","), name = strcspn(*p, "=");

    if (**p == '\0' || name >= n)
        return false;
    *out = (struct item){*p, *p + name + 1, name, n - name - 1};
    *p += n;
    if (**p == ',')
        (*p)++;
    return true;
}

static bool find_item(const char *list, const char *name, size_t n, struct item *out)
{
    while (next_item(&list, out))
        if (out->name_len == n && memcmp(out->name, name, n) == 0)
            return true;
    return false;
}

static bool is_list(const char *text)
{
    struct item it;

    while (next_item(&text, &it))
        if (*text == '\0')
            return true;
    return false;
}

static double item_number(const char *list, const char *name)
{
    struct item it;
    struct number v;

    if (!find_item(list, name, strlen(name), &it) || !parse_number(it.value, it.value_len, &v))
        return 0;
    return v.d;
}

static bool item_is(const struct item *it, const char *name)
{
    return it->name_len == strlen(name) && memcmp(it->name, name, it->name_len) == 0;
}

/* The mean of an item of both lists, each counted by its own item `weight`. */
static double weighted(const char *a, const char *b, const char *item, const char *weight)
{
    double wa = item_number(a, weight), wb = item_number(b, weight);

    if (wa + wb <= 0)
        return 0;
    return (item_number(a, item) * wa + item_number(b, item) * wb) / (wa + wb);
}

static char *merge_item(enum rule rule, const char *a, const char *b, const struct item *ia)
{
    struct number na, nb;
    struct item ib;
    double calls;

    if (item_is(ia, "usec_per_call")) {
        calls = item_number(a, "calls") + item_number(b, "calls");
        return xasprintf(
            "%.2f", calls > 0 ? (item_number(a, "usec") + item_number(b, "usec")) / calls : 0.0);
    }
    if (item_is(ia, "avg_ttl"))
        return xasprintf("%.0f", weighted(a, b, "avg_ttl", "expires"));
    if (find_item(b, ia->name, ia->name_len, &ib) && parse_number(ia->value, ia->value_len, &na) &&
        parse_number(ib.value, ib.value_len, &nb))
        return merge_numbers(rule, &na, &nb);
    return xstrndup(ia->value, ia->value_len);
}

static char *merge_lists(enum rule rule, const char *a, const char *b)
{
    char *text = NULL;
    const char *p;
    size_t len;
    struct item it, other;
    FILE *f = open_memstream(&text, &len);

    CHECK(f != NULL);
    for (p = a; next_item(&p, &it);) {
        char *value = merge_item(rule, a, b, &it);

        fprintf(f, "%s%.*s=%s", it.name == a ? "" : ",", (int)it.name_len, it.name, value);
        free(value);
    }
    for (p = b; next_item(&p, &it);)
        if (!find_item(a, it.name, it.name_len, &other))
            fprintf(f, ",%.*s=%.*s", (int)it.name_len, it.name, (int)it.value_len, it.value);
    CHECK(fclose(f) == 0);
    return text;
}

char *info_rule_merge(const char *section, const char *field, const char *a, const char *b)
{
    enum rule rule = find_rule(section, field, strlen(field));
    struct number na, nb;

    switch (rule) {
    case RULE_STATUS:
        return xstrdup(strcmp(a, "ok") == 0 ? b : a);
    case RULE_VERSION:
        return first_version(a, b);
    case RULE_FIRST:
    case RULE_DROP:
        return xstrdup(a);
    default:
        break;
    }
    if (parse_number(a, strlen(a), &na) && parse_number(b, strlen(b), &nb))
        return merge_numbers(rule, &na, &nb);
    if (is_list(a) && is_list(b))
        return merge_lists(rule, a, b);
    return xstrdup(a);
}
