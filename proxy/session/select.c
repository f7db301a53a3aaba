/*
 * select.c - SELECT: another database is another profile, whose connections select it once.
 *
 * Only a server knows how many databases it has. It is asked in two ways at the same time, because
 * either may be forbidden: CONFIG GET databases, and SELECT inside a script, which changes the
 * database for that script alone. So the shared connection stays where it is.
 */
#include "base/alloc.h"
#include "resp/number.h"
#include "resp/reply.h"
#include "resp/write.h"
#include "session/error.h"
#include "session/identity.h"
#include "session/local.h"
#include "session/scatter.h"

static const char ask_config[] = "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$9\r\ndatabases\r\n";
static const char ask_script[] =
    "*4\r\n$4\r\nEVAL\r\n$36\r\nreturn redis.pcall('select',ARGV[1])\r\n$1\r\n0\r\n$%zu\r\n%s\r\n";

/* The number that CONFIG GET databases tells; 0: it tells none. */
static int64_t read_databases(const struct request *part)
{
    const char *p = request_reply(part), *end = p + part->reply_len;
    struct resp_item head, key, value;
    int64_t n;

    if (!resp_next(&p, end, &head) || (head.type != '*' && head.type != '%') ||
        !resp_next(&p, end, &key) || !resp_next(&p, end, &value) ||
        !resp_parse_int(value.data, value.len, &n) || n < 1)
        return 0;
    return n;
}

bool local_set_db(struct client *c, uint16_t db)
{
    int profile = identity_profile(c, c->proto, db);

    if (profile < 0)
        return false;
    identity_move(c, profile);
    return true;
}

static void change_to(struct client *c, uint16_t db, struct chain *out)
{
    if (local_set_db(c, db))
        resp_write_simple(out, "OK");
    else
        error_write(out, ERROR_PROFILES);
}

static void on_answered(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *config = parent->scatter->parts, *script = config->next;
    uint16_t db = *(const uint16_t *)parent->scatter->data;
    int64_t databases = read_databases(config);

    identity_return(c, parent->scatter);
    if (databases > 0 && db >= databases)
        error_write(out, ERROR_DB_RANGE);
    else if (databases > 0 || *request_reply(script) == '+')
        change_to(c, db, out);
    else
        chain_append(out, request_reply(script), script->reply_len);
}

static void ask_server(struct client *c, const struct command *cmd, uint16_t db)
{
    char number[8], text[160];
    size_t digits = (size_t)snprintf(number, sizeof(number), "%u", db);
    int n = snprintf(text, sizeof(text), ask_script, digits, number);
    uint16_t *data = xmalloc(sizeof(*data));
    struct request *parent;

    *data = db;
    parent = scatter_open(c, cmd, on_answered, data);
    identity_borrow(c, cmd, parent->scatter);
    client_hold(c, HOLD_BARRIER); /* what comes behind goes to the other database */
    scatter_add(c, parent, 0, ask_config, sizeof(ask_config) - 1);
    scatter_add(c, parent, 0, text, (uint32_t)n);
    scatter_close(c, parent);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}

void local_SELECT(struct client *c, const struct command *cmd, const struct resp_request *r,
                  struct chain *out)
{
    int64_t db;

    if (!resp_arg_int(r, 1, &db))
        error_write(out, ERROR_NOT_INTEGER);
    else if (db < INT32_MIN || db > INT32_MAX)
        resp_write_error(out, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                         INT32_MAX);
    else if (db == c->env->profiles.profiles[c->profile].db)
        resp_write_simple(out, "OK");
    else if (!c->up->single)
        error_write(out, ERROR_SELECT_CLUSTER);
    else if (db < 0 || db > UINT16_MAX)
        error_write(out, ERROR_DB_RANGE);
    else if (db == 0)
        change_to(c, 0, out);
    else
        ask_server(c, cmd, (uint16_t)db);
}
