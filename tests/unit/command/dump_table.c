/*
 * dump_table.c - shows the command table to tests/integration/command_table.py.
 *
 * Without an argument: one row a line, "name arity flags first last step keys route merge local".
 * With --keys: reads one request a line, its arguments in hexadecimal ("-" for an empty one), and
 * prints the positions of its keys, "none", "bad", or "unknown" for a command without a row.
 */
#include "command/command.h"

#include "argv_request.h"

static const char *const route_names[] = {
    [ROUTE_KEYS] = "keys",
    [ROUTE_SPLIT] = "split",
    [ROUTE_BLOCKING] = "blocking",
    [ROUTE_ANY] = "any",
    [ROUTE_ALL] = "all",
    [ROUTE_LOCAL] = "local",
    [ROUTE_UNSUPPORTED] = "unsupported",
    [ROUTE_CONTAINER] = "container",
};

static const char *const merge_names[] = {
    [MERGE_NONE] = "none",       [MERGE_SUM] = "sum",
    [MERGE_OK] = "ok",           [MERGE_ORDER] = "order",
    [MERGE_CONCAT] = "concat",   [MERGE_FIRST] = "first",
    [MERGE_AND] = "and",         [MERGE_SLOWLOG] = "slowlog",
    [MERGE_ACL_LOG] = "acl_log", [MERGE_LATEST] = "latest",
    [MERGE_HISTORY] = "history", [MERGE_HISTOGRAM] = "histogram",
    [MERGE_MEMORY] = "memory",   [MERGE_FUNCTIONS] = "functions",
    [MERGE_TEXT] = "text",       [MERGE_FOUND] = "found",
};

static const char *const keys_names[] = {
    [KEYS_NONE] = "none",           [KEYS_RANGE] = "range", [KEYS_NUMKEYS] = "numkeys",
    [KEYS_STREAMS] = "streams",     [KEYS_SORT] = "sort",   [KEYS_MIGRATE] = "migrate",
    [KEYS_GEORADIUS] = "georadius",
};

static const char *const local_names[] = {
    [LOCAL_NONE] = "none",
#define LOCAL(name) [LOCAL_##name] = #name,
#include "command/local.def"
#undef LOCAL
};

/* By bit, in the servers' words where they have one. */
static const char *const flag_names[] = {
    "write",         "readonly", "blocking", "pubsub",  "admin",   "no_multi",
    "noscript",      "denyoom",  "fast",     "loading", "stale",   "no_auth",
    "may_replicate", "script",   "tx",       "asking",  "guarded",
};

static void print_flags(uint32_t flags)
{
    const char *comma = "";

    CHECK(flags < 1U << ARRAY_LEN(flag_names));
    if (flags == 0)
        printf("-");
    for (size_t i = 0; i < ARRAY_LEN(flag_names); i++) {
        if (flags & 1U << i) {
            printf("%s%s", comma, flag_names[i]);
            comma = ",";
        }
    }
}

static void print_table(void)
{
    for (size_t i = 0; i < command_table_len; i++) {
        const struct command *c = &command_table[i];

        printf("%s %d ", c->name, c->arity);
        print_flags(c->flags);
        printf(" %d %d %d %s %s %s %s\n", c->first, c->last, c->step, keys_names[c->keys],
               route_names[c->route], merge_names[c->merge], local_names[c->local]);
    }
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = memchr(digits, c, 16);

    CHECK(at != NULL);
    return (int)(at - digits);
}

/* Turns a word of hexadecimal digits into bytes, in place. */
static size_t unhex(char *word)
{
    size_t n = 0;

    if (strcmp(word, "-") == 0)
        return 0;
    for (; word[2 * n] != '\0'; n++)
        word[n] = (char)(hex_digit(word[2 * n]) << 4 | hex_digit(word[2 * n + 1]));
    return n;
}

static void print_keys(const struct resp_request *r)
{
    const struct command *c = command_find(r);
    uint32_t positions[1024];
    size_t count;

    if (c == NULL) {
        printf("unknown\n");
    } else if (command_keys_list(c, r, positions, ARRAY_LEN(positions), &count) !=
               COMMAND_KEYS_OK) {
        printf("bad\n");
    } else {
        CHECK(count <= ARRAY_LEN(positions));
        for (size_t i = 0; i < count; i++)
            printf("%s%u", i ? " " : "", positions[i]);
        printf("%s\n", count ? "" : "none");
    }
}

static void answer_requests(void)
{
    struct argv_request q = {0};
    char *line = NULL, *rest, *word;
    size_t size = 0;
    ssize_t n;

    while ((n = getline(&line, &size, stdin)) > 0) {
        rest = line;
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        while ((word = strsep(&rest, " ")) != NULL)
            argv_request_add(&q, word, unhex(word));
        print_keys(&q.r);
        argv_request_free(&q);
    }
    free(line);
}

int main(int argc, char **argv)
{
    command_init();
    if (argc == 1) {
        print_table();
    } else if (argc == 2 && strcmp(argv[1], "--keys") == 0) {
        answer_requests();
    } else {
        fprintf(stderr, "usage: %s [--keys]\n", argv[0]);
        return 2;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
