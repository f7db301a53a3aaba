/*
 * handshake.c - the first words on a new connection.
 *
 * All steps leave in one write and their replies are taken in order; requests of clients wait until
 * the last one is in, so that an AUTH never shares a pipeline with them.
 */
#include <inttypes.h>

#include "backend/node.h"
#include "base/log.h"
#include "resp/number.h"
#include "resp/write.h"

enum step {
    STEP_OPENER,   /* AUTH as the upstream's user, for the next step; may be refused */
    STEP_DB_FIRST, /* SELECT as that one, or as a guest, before AUTH; may be refused */
    STEP_HELLO,    /* RESP3: HELLO 3 [AUTH user password]; must succeed */
    STEP_AUTH,     /* RESP2 with a password; must succeed */
    STEP_SELECT,   /* a database other than 0; must succeed, unless the first one has */
    STEP_READONLY, /* must succeed */
    STEP_SETNAME,  /* the rest may be refused by an ACL */
    STEP_NO_EVICT,
    STEP_NO_TOUCH,
    STEP_MAX_BULK,
    STEP_INFO,
    STEP_ID,
    STEP_MULTI, /* three steps: whether the user may have transactions */
    STEP_EXEC,
    STEP_DISCARD, /* an error, unless EXEC is unknown: then the connection is still inside MULTI */
    STEP_DONE,
};

static const struct profile *profile_of(const struct beconn *c)
{
    return &c->env->profiles->profiles[c->profile];
}

/* Who selects a database for a user who may not. */
static const struct profile *opener_of(const struct beconn *c)
{
    return &c->env->profiles->profiles[c->node->opener];
}

static bool step_wanted(const struct beconn *c, enum step s)
{
    const struct profile *p = profile_of(c);

    if (p->bare)
        return false;
    switch (s) {
    case STEP_OPENER:
        return p->db_first && opener_of(c)->password != NULL;
    case STEP_DB_FIRST:
        return p->db_first;
    case STEP_HELLO:
        return p->proto == 3;
    case STEP_AUTH:
        return p->proto != 3 && p->password != NULL;
    case STEP_SELECT:
        return p->db != 0;
    case STEP_READONLY:
        return p->readonly;
    case STEP_NO_TOUCH:
        return p->no_touch;
    case STEP_MULTI:
    case STEP_EXEC:
    case STEP_DISCARD:
        return c->probes_multi;
    case STEP_ID:
        return true;
    default:
        return !c->brief;
    }
}

/* Another connection to the process stands: it is still the one that said who it is. `guest`: one
 * of a client's own user. */
static bool has_company(const struct beconn *c, bool guest)
{
    const struct node *n = c->node;

    for (const struct list_node *at = n->conns.next; at != &n->conns; at = at->next) {
        const struct beconn *other = CONTAINER_OF(at, const struct beconn, link);

        if (other->state == BECONN_READY && !profile_of(other)->bare &&
            (!guest || profile_of(other)->guest))
            return true;
    }
    return false;
}

/* What more there is to know of the process was learnt by another connection that still stands. A
 * user's rights may not even reach for the questions, and a server notes each that it refuses. */
static bool is_brief(const struct beconn *c)
{
    const struct profile *p = profile_of(c);
    const struct node *n = c->node;

    return p->guest && p->password != NULL && n->run_id[0] != '\0' && has_company(c, false);
}

static void write_command(struct chain *out, size_t argc, const char *const *argv)
{
    resp_write_array(out, argc);
    for (size_t i = 0; i < argc; i++)
        resp_write_text(out, argv[i]);
}

#define SEND(out, ...)                                                                             \
    write_command((out), sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),                   \
                  (const char *const[]){__VA_ARGS__})

static void send_auth(struct chain *out, const struct profile *p)
{
    if (p->user != NULL)
        SEND(out, "AUTH", p->user, p->password);
    else
        SEND(out, "AUTH", p->password);
}

static void send_step(struct beconn *c, enum step s)
{
    const struct profile *p = profile_of(c);
    const char *user = p->user != NULL ? p->user : "default";
    struct chain *out = &c->stream.out;
    char db[8];

    switch (s) {
    case STEP_OPENER:
        send_auth(out, opener_of(c));
        break;
    case STEP_HELLO:
        if (p->password != NULL)
            SEND(out, "HELLO", "3", "AUTH", user, p->password);
        else
            SEND(out, "HELLO", "3");
        break;
    case STEP_AUTH:
        send_auth(out, p);
        break;
    case STEP_DB_FIRST:
    case STEP_SELECT:
        snprintf(db, sizeof(db), "%u", p->db);
        SEND(out, "SELECT", db);
        break;
    case STEP_READONLY:
        SEND(out, "READONLY");
        break;
    case STEP_SETNAME:
        SEND(out, "CLIENT", "SETNAME", "keyway");
        break;
    case STEP_NO_EVICT:
        SEND(out, "CLIENT", "NO-EVICT", "ON");
        break;
    case STEP_NO_TOUCH:
        SEND(out, "CLIENT", "NO-TOUCH", "ON");
        break;
    case STEP_MAX_BULK:
        SEND(out, "CONFIG", "GET", "proto-max-bulk-len");
        break;
    case STEP_INFO:
        SEND(out, "INFO", "server");
        break;
    case STEP_ID:
        SEND(out, "CLIENT", "ID");
        break;
    case STEP_MULTI:
        SEND(out, "MULTI");
        break;
    case STEP_EXEC:
        SEND(out, "EXEC");
        break;
    case STEP_DISCARD:
        SEND(out, "DISCARD");
        break;
    case STEP_DONE:
        break;
    }
}

static uint8_t next_step(const struct beconn *c, uint8_t s)
{
    while (s < STEP_DONE && !step_wanted(c, s))
        s++;
    return s;
}

/* The value that follows "name" in a flat array or map of strings. */
static void read_max_bulk(struct node *n, const struct bereply *reply)
{
    const char *p = reply->data, *end = p + reply->len;
    struct resp_item head, key, value;
    int64_t v;

    if (resp_next(&p, end, &head) && head.count >= 2 && resp_next(&p, end, &key) &&
        resp_next(&p, end, &value) && resp_parse_int(value.data, value.len, &v) && v > 0)
        n->max_bulk = (uint64_t)v;
}

/* The value of one "name:value" line of INFO, cut to the room there is. */
static void read_info_line(const struct bereply *reply, const char *label, char *out, size_t size)
{
    const char *end = reply->data + reply->len;
    const char *at = memmem(reply->data, reply->len, label, strlen(label));
    size_t n = 0;

    if (at == NULL)
        return;
    for (at += strlen(label); at < end && *at != '\r' && n < size - 1; at++)
        out[n++] = *at;
    out[n] = '\0';
}

/* DISCARD's "ERR DISCARD without MULTI". */
static bool is_without_multi(const struct bereply *reply)
{
    return memmem(reply->data, reply->len, "without MULTI", 13) != NULL;
}

static void become_ready(struct beconn *c)
{
    char name[ADDR_TEXT_MAX];

    c->state = BECONN_READY;
    c->progress_ms = c->ready_ms = c->env->loop->now_ms;
    /* The clock of waiting requests starts when they can leave. */
    for (struct bereq *r = c->head; r != NULL; r = r->next)
        r->sent_ms = (uint32_t)c->env->loop->now_ms;
    chain_splice(&c->stream.out, &c->waiting);
    chain_clear(&c->waiting);
    stream_mark_dirty(&c->stream);
    /* A server that hangs takes connections all the same: a bare one has yet to hear a word. */
    if (!profile_of(c)->bare)
        node_recovered(c->node);
    log_debug("connected to %s", addr_format(&c->node->addr, name));
    c->env->ops->ready(c);
}

void handshake_start(struct beconn *c)
{
    c->brief = is_brief(c);
    c->probes_multi = profile_of(c)->password != NULL || c->node->probe_multi;
    for (uint8_t s = next_step(c, 0); s < STEP_DONE; s = next_step(c, s + 1))
        send_step(c, s);
    c->handshake_bytes = c->stream.out.bytes;
    c->step = next_step(c, 0);
    if (c->step == STEP_DONE)
        become_ready(c);
}

size_t handshake_change(struct beconn *c, uint16_t profile, char text[HANDSHAKE_CHANGE_MAX],
                        uint16_t *commands)
{
    const struct profile *from = profile_of(c), *to = &c->env->profiles->profiles[profile];
    size_t n = 0;

    CHECK(c->leased && c->state == BECONN_READY && c->head == NULL);
    *commands = 0;
    if (from->proto != to->proto) {
        n += (size_t)snprintf(text + n, HANDSHAKE_CHANGE_MAX - n,
                              "*2\r\n$5\r\nHELLO\r\n$1\r\n%u\r\n", to->proto);
        ++*commands;
    }
    if (from->db != to->db) {
        char db[8];
        int digits = snprintf(db, sizeof(db), "%u", to->db);

        n += (size_t)snprintf(text + n, HANDSHAKE_CHANGE_MAX - n,
                              "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", digits, db);
        ++*commands;
    }
    if (from->no_touch != to->no_touch) {
        n += (size_t)snprintf(text + n, HANDSHAKE_CHANGE_MAX - n,
                              "*3\r\n$6\r\nCLIENT\r\n$8\r\nNO-TOUCH\r\n$%d\r\n%s\r\n",
                              to->no_touch ? 2 : 3, to->no_touch ? "ON" : "OFF");
        ++*commands;
    }
    profile_ref(c->env->profiles, profile);
    profile_unref(c->env->profiles, c->profile);
    c->profile = profile;
    return n;
}

static bool begins_with(const struct bereply *reply, const char *word)
{
    size_t n = strlen(word);

    return reply->len > n && memcmp(reply->data, word, n) == 0;
}

/* The server refuses this user, and nobody else: it is no outage. */
static bool refuses_user(const struct beconn *c, const struct bereply *reply)
{
    return (profile_of(c)->guest || has_company(c, true)) &&
           (begins_with(reply, "-WRONGPASS ") || begins_with(reply, "-NOAUTH ") ||
            begins_with(reply, "-NOPERM "));
}

/* The server has no RESP3, or its HELLO has another name: it serves the others all the same. */
static bool refuses_dialect(const struct beconn *c, const struct bereply *reply)
{
    return c->step == STEP_HELLO && (profile_of(c)->guest || has_company(c, true)) &&
           (begins_with(reply, "-NOPROTO ") || begins_with(reply, "-ERR unknown command"));
}

static void refuse(struct beconn *c, const struct bereply *reply)
{
    /* What HELLO says about itself would be a strange answer to a GET, and could repeat a
     * password. */
    static const char noauth[] = "-NOAUTH Authentication required.\r\n",
                      noproto[] = "-NOPROTO unsupported protocol version\r\n";
    static const struct bereply no_auth = {.data = noauth, .len = sizeof(noauth) - 1, .type = '-'},
                                no_proto = {
                                    .data = noproto, .len = sizeof(noproto) - 1, .type = '-'};

    if (refuses_dialect(c, reply))
        reply = &no_proto;
    beconn_refuse(c, begins_with(reply, "-NOAUTH ") ? &no_auth : reply);
}

/* A server repeats the arguments of a command that it does not know: among them the password. */
static void log_refusal(const struct beconn *c, const struct bereply *reply)
{
    size_t len = MIN(reply->len - 3, (size_t)200);
    const char *args = memmem(reply->data + 1, len, ", with args", 11);
    char name[ADDR_TEXT_MAX];

    if (args != NULL)
        len = (size_t)(args - reply->data) - 1;
    log_warn("%s refuses the handshake: %.*s", addr_format(&c->node->addr, name), (int)len,
             reply->data + 1);
}

/* Other errors (BUSY) pass. EXEC's stands behind EXECABORT. */
static bool is_forbidden(const struct bereply *reply)
{
    return reply->type == '-' && (memmem(reply->data, reply->len, "NOPERM ", 7) != NULL ||
                                  memmem(reply->data, reply->len, "unknown command", 15) != NULL);
}

/* A reply of the last three steps. False: the connection cannot be used. */
static bool take_multi(struct beconn *c, const struct bereply *reply)
{
    if (c->step == STEP_MULTI)
        c->multi_ok = !is_forbidden(reply);
    if (c->step == STEP_EXEC)
        c->exec_ok = !is_forbidden(reply);
    if (c->step != STEP_DISCARD)
        return true;
    if (!c->multi_ok || !c->exec_ok)
        beconn_multi_refused(c);
    return !c->multi_ok || c->exec_ok || reply->type != '-' || is_without_multi(reply);
}

/* The database was selected by somebody else, or is now by one who may not: the client is in it all
 * the same. */
static bool take_select(struct beconn *c, const struct bereply *reply)
{
    if (c->step == STEP_DB_FIRST)
        c->db_selected = reply->type != '-';
    return c->step == STEP_OPENER || c->step == STEP_DB_FIRST ||
           (c->step == STEP_SELECT && c->db_selected && begins_with(reply, "-NOPERM "));
}

bool handshake_reply(struct beconn *c, const struct bereply *reply)
{
    if (take_select(c, reply)) {
        c->step = next_step(c, c->step + 1); /* STEP_ID is still to come */
        return true;
    }
    c->noauth |= begins_with(reply, "-NOAUTH ");
    if ((reply->type == '-' && c->step < STEP_SETNAME) || !take_multi(c, reply)) {
        if (c->step < STEP_SETNAME && (refuses_user(c, reply) || refuses_dialect(c, reply))) {
            if (!profile_of(c)->guest)
                log_refusal(c, reply);
            refuse(c, reply);
            return false;
        }
        log_refusal(c, reply);
        node_failed(c->node);
        beconn_close(c, NULL);
        return false;
    }
    if (c->step == STEP_MAX_BULK && reply->type != '-')
        read_max_bulk(c->node, reply);
    if (c->step == STEP_INFO) {
        /* A process that does not say who it is must not pass for its predecessor. */
        char before[sizeof(c->node->run_id)];

        memcpy(before, c->node->run_id, sizeof(before));
        if (reply->type != '-' || !has_company(c, false))
            c->node->run_id[0] = '\0';
        read_info_line(reply, "\nrun_id:", c->node->run_id, sizeof(c->node->run_id));
        c->node->restarted |= before[0] != '\0' && strcmp(before, c->node->run_id) != 0;
        read_info_line(reply, "\nredis_version:", c->node->version, sizeof(c->node->version));
        if (reply->type != '-')
            c->node->valkey[0] = '\0';
        read_info_line(reply, "\nvalkey_version:", c->node->valkey, sizeof(c->node->valkey));
    }
    if (c->step == STEP_ID && reply->type == ':' &&
        !resp_parse_int(reply->data + 1, reply->len - 3, &c->server_id))
        c->server_id = 0;
    c->found_busy |= c->step == STEP_ID && begins_with(reply, "-BUSY ");
    c->step = next_step(c, c->step + 1);
    if (c->step == STEP_DONE)
        become_ready(c);
    return c->state != BECONN_CLOSED;
}
