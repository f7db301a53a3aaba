/*
 * transaction_queue.c - the bytes of a block: what MULTI has queued for the server, what is kept
 * for the proxy, and what the block does to its connection and takes back at its end.
 */
#include "base/alloc.h"
#include "session/identity.h"
#include "session/scripts.h"
#include "session/transaction_block.h"

static const char multi_command[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec_command[] = "*1\r\n$4\r\nEXEC\r\n";
#define MULTI_LEN (sizeof(multi_command) - 1)

_Static_assert(sizeof(exec_command) - 1 == TX_EXEC_LEN, "it is counted before it is there");

static void note_own(struct transaction *t, enum own_kind kind, const struct command *cmd,
                     int32_t value)
{
    struct own_command *o;

    if (t->own_count == t->own_cap) {
        t->own_cap = MAX(t->own_cap * 2, 8u);
        t->own_list = xrealloc(t->own_list, t->own_cap * sizeof(*t->own_list));
    }
    o = &t->own_list[t->own_count++];
    o->kind = kind;
    o->cmd = cmd;
    o->position = t->commands;
    o->value = value;
}

static void append_sent(struct transaction *t, const char *p, size_t n)
{
    if (t->sent_count == 0)
        buffer_append(&t->sent, multi_command, MULTI_LEN);
    buffer_append(&t->sent, p, n);
    t->sent_count++;
}

static size_t hello_text(char text[32], uint8_t proto)
{
    return (size_t)snprintf(text, 32, "*2\r\n$5\r\nHELLO\r\n$1\r\n%u\r\n", proto);
}

/* Behind a HELLO of the client the server has to answer in the other dialect: it is told before the
 * first command that it answers. */
static void keep_sent(struct transaction *t, const struct resp_request *r)
{
    char text[32];

    if (UNLIKELY(t->sent_proto != t->proto)) {
        note_own(t, OWN_HELLO, NULL, 0);
        append_sent(t, text, hello_text(text, t->proto));
        t->sent_proto = t->proto;
    }
    append_sent(t, r->base, r->len);
}

/* Its connection goes back to the client's database inside the block, so that it stays shared. */
static void keep_select(struct transaction *t, const struct resp_request *r)
{
    int64_t db;

    keep_sent(t, r);
    t->selects = true;
    note_own(t, OWN_SELECT, NULL,
             resp_arg_int(r, 1, &db) && db >= 0 && db <= UINT16_MAX ? (int32_t)db : -1);
}

void transaction_keep(struct client *c, struct transaction *t, enum transaction_fate fate,
                      const struct command *cmd, const struct resp_request *r)
{
    if (fate == TX_OWN) {
        note_own(t, OWN_RUN, cmd, transaction_see_own(c, t, cmd, r));
        buffer_append(&t->own, r->base, r->len);
        return;
    }
    if ((cmd->flags & CMD_SCRIPT) != 0)
        transaction_see_script(c, t, cmd, r);
    else if (cmd->route == ROUTE_ALL && (cmd->flags & CMD_NOSCRIPT) != 0)
        t->news |= scripts_is_news(cmd);
    if ((cmd->flags & CMD_GUARDED) != 0)
        t->lets_in |= identity_is_about_users(cmd, r);
    if (fate == TX_SELECT)
        keep_select(t, r);
    else
        keep_sent(t, r);
    if (fate == TX_CONFIG)
        note_own(t, OWN_CONFIG, NULL, 0);
}

void transaction_seal(const struct client *c, struct transaction *t)
{
    char back[64], db[8];

    if (t->sent_count == 0)
        buffer_append(&t->sent, multi_command, MULTI_LEN);
    if (t->selects) {
        int digits = snprintf(db, sizeof(db), "%u", c->env->profiles.profiles[c->profile].db);
        int n = snprintf(back, sizeof(back), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", digits, db);

        buffer_append(&t->sent, back, (size_t)n);
    }
    t->redials = t->sent_proto != c->proto;
    if (t->redials)
        buffer_append(&t->sent, back, hello_text(back, c->proto));
    buffer_append(&t->sent, exec_command, TX_EXEC_LEN);
}
