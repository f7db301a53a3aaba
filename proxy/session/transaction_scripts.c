/*
 * transaction_scripts.c - scripts that a block calls by their digests.
 *
 * A server that lacks one says so inside EXEC's array, when the rest has run: too late to send the
 * block again. So every body that is remembered goes before the MULTI as SCRIPT LOAD.
 */
#include "base/alloc.h"
#include "resp/number.h"
#include "session/scripts.h"
#include "session/transaction_block.h"

/* Bodies before one block; those beyond are left to the server. */
#define LOADS_MAX 1000

static void append_bulk(struct buffer *b, const char *p, uint32_t n)
{
    char head[24];
    size_t digits = resp_format_int(head + 1, n);

    head[0] = '$';
    memcpy(head + 1 + digits, "\r\n", 2);
    buffer_append(b, head, digits + 3);
    buffer_append(b, p, n);
    buffer_append(b, "\r\n", 2);
}

static bool is_loaded(const struct transaction *t, const char *sha)
{
    for (uint32_t i = 0; i < t->load_count; i++)
        if (strncasecmp(t->loaded[i], sha, SHA1_HEX_LEN) == 0)
            return true;
    return false;
}

void transaction_see_script(struct client *c, struct transaction *t, const struct command *cmd,
                            const struct resp_request *r)
{
    static const char head[] = "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n";
    const char *sha = resp_arg_ptr(r, 1);
    struct script found;

    if (strcmp(cmd->name, "evalsha") != 0 && strcmp(cmd->name, "evalsha_ro") != 0) {
        t->scripts = true;
        return;
    }
    if (t->load_count == LOADS_MAX || resp_arg_len(r, 1) != SHA1_HEX_LEN || is_loaded(t, sha) ||
        !scripts_find(c->env->scripts, c->id, sha, SHA1_HEX_LEN, &found) ||
        transaction_held(t) + found.len + 64 > c->env->config->client.tx_max_bytes)
        return;
    t->loaded = xrealloc(t->loaded, (t->load_count + 1) * sizeof(*t->loaded));
    memcpy(t->loaded[t->load_count++], sha, SHA1_HEX_LEN);
    buffer_append(&t->loads, head, sizeof(head) - 1);
    append_bulk(&t->loads, found.body, found.len);
}

void transaction_learn_scripts(struct client *c, const struct request *r,
                               const struct bereply *reply)
{
    const char *p = r->be.block->data + r->be.off, *end = p + r->be.len;
    const char *at = reply->data, *reply_end = at + reply->len;
    struct resp_parser *parser = c->env->reparser;
    struct resp_request req;
    struct resp_item array;
    size_t used;

    CHECK(resp_next(&at, reply_end, &array));
    for (int64_t i = -1; p < end && i < array.count; i++, p += used) { /* the first is MULTI */
        const char *element = at;
        const struct command *cmd;

        resp_parser_reset(parser);
        CHECK(resp_parse(parser, p, (size_t)(end - p), &req, &used) == RESP_PARSE_OK);
        if (i < 0)
            continue;
        CHECK(resp_skip(&at, reply_end));
        cmd = command_find(&req);
        if (cmd != NULL)
            scripts_told(c->env, cmd, &req, element, (size_t)(at - element));
    }
}
