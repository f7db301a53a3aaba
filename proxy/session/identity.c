#include "session/identity.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "session/acl.h"
#include "session/dispatch_error.h"
#include "session/scatter.h"
#include "session/subscriber.h"

/* How long it is believed whether the servers let guests in. */
#define GUESTS_US 1000000
/* After a command about users, which takes its time, it is hardly believed at all. */
#define DOUBT_US 5000000
#define GUESTS_DOUBTED_US 20000
/* No server takes a longer argument from one who did not AUTH yet. */
#define CREDENTIAL_MAX 16384
/* AUTH with two of those, or HELLO, and more. */
#define STRANGER_MAX ((size_t)64 * 1024)

static uint16_t pinned_profile(struct session_env *env, const struct profile *p)
{
    int i = profile_find(&env->profiles, p);

    CHECK(i >= 0);
    return (uint16_t)i;
}

void identity_env_init(struct session_env *env)
{
    /* Two kinds of bare connections, told apart by the database that neither selects. */
    env->guest_profile = pinned_profile(env, &(struct profile){.proto = 2, .guest = true});
    env->auth_profile = pinned_profile(env, &(struct profile){.proto = 2, .bare = true});
    env->ask_profile = pinned_profile(env, &(struct profile){.proto = 2, .bare = true, .db = 1});
}

static const struct config_listener *listener_of(const struct client *c)
{
    return &c->env->config->listeners[c->listener];
}

/* Its requests go by it: the own one, or one that it is lent for a command. */
static const struct profile *profile_in_use(const struct client *c)
{
    return &c->env->profiles.profiles[c->profile];
}

/* --- where a client stands --- */

void identity_begin(struct client *c)
{
    bool servers = listener_of(c)->auth == AUTH_SERVERS;

    c->proto = 2;
    c->profile = servers ? c->env->guest_profile : c->up->base_profile[0];
    profile_ref(&c->env->profiles, c->profile);
    c->anonymous = servers ? c->up->guests_vary : listener_of(c)->auth == AUTH_PROXY;
}

void identity_end(struct client *c)
{
    profile_unref(&c->env->profiles, c->profile);
}

void identity_move(struct client *c, int profile)
{
    CHECK(profile >= 0);
    profile_unref(&c->env->profiles, c->profile);
    c->profile = (uint16_t)profile;
}

int identity_profile(struct client *c, uint8_t proto, uint16_t db)
{
    struct profile wanted = *profile_in_use(c);

    wanted.proto = proto;
    wanted.db_first &= wanted.db == db;
    wanted.db = db;
    return profile_find(&c->env->profiles, &wanted);
}

/* As others see it: not what it is lent for a command, nor where its AUTH waits. */
const struct profile *identity_own_profile(const struct client *c)
{
    const struct request *r = c->head;

    if (r != NULL && r->state == REQUEST_PARTS && r->scatter->home >= 0)
        return &c->env->profiles.profiles[r->scatter->home];
    return profile_in_use(c);
}

const char *identity_user(const struct client *c)
{
    const char *user = identity_own_profile(c)->user;

    return user != NULL ? user : "default";
}

void identity_borrow(struct client *c, const struct command *cmd, struct scatter *s)
{
    const struct profile *own = profile_in_use(c);
    struct profile wanted = c->env->profiles.profiles[c->up->base_profile[0]];
    int lent;

    if (!own->guest || own->password == NULL || !acl_allows(c, cmd))
        return;
    wanted.proto = c->proto;
    wanted.db = own->db;
    wanted.no_touch = own->no_touch;
    lent = profile_find(&c->env->profiles, &wanted);
    if (lent < 0)
        return;
    client_hold(c, HOLD_BARRIER); /* what comes behind is not the upstream's user's */
    s->home = c->profile;
    c->profile = (uint16_t)lent;
}

void identity_return(struct client *c, struct scatter *s)
{
    if (LIKELY(s->home < 0))
        return;
    identity_move(c, s->home);
    s->home = -1;
}

/* --- guests --- */

/* Connections that were let in before AUTH was required stay so: nobody new may come by them. */
static void retire_guests(struct upstream *u)
{
    for (struct list_node *at = u->nodes.next; at != &u->nodes; at = at->next) {
        struct node *n = CONTAINER_OF(at, struct node, link);
        struct list_walk walk;
        struct beconn *conn;

        node_walk(n, &walk);
        while ((conn = node_walk_next(n, &walk)) != NULL) {
            const struct profile *p = &u->env->profiles.profiles[conn->profile];

            if (p->guest && p->password == NULL)
                node_retire(conn);
        }
    }
}

static void learn_guests(struct upstream *u, bool refused)
{
    if (refused && !u->guests_refused)
        retire_guests(u);
    u->guests_refused = refused;
    u->guests_us = clock_us();
}

void identity_guest_refused(struct upstream *u)
{
    u->guests_vary = true;
}

static void on_guests_known(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *ping = parent->scatter->parts->next;
    static const char noauth[] = "-NOAUTH ";

    (void)out; /* the command that waits is looked at again */
    if (ping->failed)
        c->up->guests_us = clock_us(); /* what was known has to do */
    else
        learn_guests(c->up, ping->reply_len > sizeof(noauth) - 1 &&
                                memcmp(request_reply(ping), noauth, sizeof(noauth) - 1) == 0);
}

/* False: there is nobody to ask. */
static bool ask_about_guests(struct client *c)
{
    static const char reset[] = "*1\r\n$5\r\nRESET\r\n", ping[] = "*1\r\n$4\r\nPING\r\n";
    struct node *n = upstream_any_master(c->up, c->id);
    struct beconn *conn =
        n != NULL && n->outage_ms == 0 ? node_shared(n, c->env->ask_profile) : NULL;
    struct request *parent;

    if (conn == NULL)
        return false;
    parent = scatter_open(c, command_find_name("ping", 4), on_guests_known, NULL);
    client_hold(c, HOLD_BARRIER);
    scatter_add_to(c, parent, conn, reset, sizeof(reset) - 1);
    scatter_add_to(c, parent, conn, ping, sizeof(ping) - 1);
    scatter_close(c, parent);
    return true;
}

static bool guests_are_known(const struct upstream *u)
{
    uint64_t now = clock_us(), doubt = u->guests_doubt_us;

    if (doubt != 0 && now < doubt + DOUBT_US)
        return u->guests_us > doubt && now < u->guests_us + GUESTS_DOUBTED_US;
    return now < u->guests_us + GUESTS_US;
}

bool identity_too_long(const struct client *c, size_t bytes)
{
    if (bytes <= STRANGER_MAX)
        return false;
    return listener_of(c)->auth != AUTH_SERVERS || (c->up->guests_refused && c->up->guests_us != 0);
}

bool identity_stops(struct client *c, const struct command *cmd, enum dispatch_result *result)
{
    bool hello = cmd->local == LOCAL_HELLO; /* words its refusal by itself */
    struct upstream *u = c->up;

    if ((cmd->flags & CMD_NO_AUTH) != 0 && !hello)
        return false;
    if (listener_of(c)->auth == AUTH_SERVERS) {
        *result = DISPATCH_WAIT;
        if (!guests_are_known(u) && (dispatch_barrier(c) || ask_about_guests(c)))
            return true;
        if (!u->guests_refused) {
            c->anonymous = false;
            return false;
        }
    }
    if (hello)
        return false;
    *result = dispatch_error(c, cmd, cmd->local == LOCAL_EXEC ? ERROR_NOAUTH_EXEC : ERROR_NOAUTH);
    return true;
}

/* --- AUTH --- */

/* Data of the scatter. While it is under way the client is on the profile of bare connections, away
 * from its own (scatter->home): so the AUTH waits for a server like any other request. */
struct auth_try {
    struct auth_next *next;
    bool alone; /* sent without the user, so that a server's refusal fits */
    struct profile wanted;
};

static void drop_try(void *data)
{
    struct auth_try *t = data;

    explicit_bzero(t->wanted.password, strlen(t->wanted.password));
    free(t->wanted.password);
    free(t->wanted.user);
    free(t->next);
    free(t);
}

static void on_checked(struct client *c, struct request *parent, struct chain *out)
{
    const struct request *part = parent->scatter->parts;
    struct auth_try *t = parent->scatter->data;
    bool good = *request_reply(part) == '+';
    int profile = good ? profile_find(&c->env->profiles, &t->wanted) : -1;

    identity_return(c, parent->scatter);
    if (profile < 0) {
        if (good)
            error_write(out, ERROR_PROFILES);
        else
            chain_append(out, request_reply(part), part->reply_len);
        return;
    }
    identity_move(c, profile);
    c->anonymous = false;
    if (!subscriber_is(c))
        subscriber_free(c); /* its next one is with the new user's hub */
    t->next->done(c, t->next, out);
}

static char *compose(const struct auth_try *t, uint32_t *len)
{
    const char *user = t->wanted.user, *password = t->wanted.password;
    size_t size = strlen(user) + strlen(password) + 64;
    char *text = xmalloc(size);

    if (t->alone)
        *len = (uint32_t)snprintf(text, size, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n",
                                  strlen(password), password);
    else
        *len = (uint32_t)snprintf(text, size, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
                                  strlen(user), user, strlen(password), password);
    return text;
}

static void ask_server(struct client *c, const struct command *cmd, struct auth_try *t)
{
    uint32_t len;
    char *text = compose(t, &len);
    struct request *parent = scatter_open(c, cmd, on_checked, t);

    parent->scatter->drop = drop_try;
    parent->scatter->home = c->profile;
    client_hold(c, HOLD_BARRIER);
    profile_ref(&c->env->profiles, c->env->auth_profile);
    c->profile = c->env->auth_profile;
    scatter_add(c, parent, dispatch_any_slot(c), text, len);
    explicit_bzero(text, len);
    free(text);
    scatter_close(c, parent);
    if (c->head == NULL)
        client_unhold(c, HOLD_BARRIER);
}

/* No server has such a user or password. */
static bool is_impossible(const struct credentials *who)
{
    return who->user_len > CREDENTIAL_MAX || who->password_len > CREDENTIAL_MAX ||
           memchr(who->user, '\0', who->user_len) != NULL ||
           memchr(who->password, '\0', who->password_len) != NULL;
}

static void auth_at_servers(struct client *c, const struct command *cmd,
                            const struct credentials *who, struct auth_next **next,
                            struct chain *out)
{
    struct auth_try *t;

    if (is_impossible(who)) {
        error_write(out, ERROR_WRONGPASS);
        return;
    }
    t = xcalloc(1, sizeof(*t));
    t->next = *next;
    t->alone = who->alone;
    *next = NULL;
    t->wanted = (struct profile){.proto = c->proto,
                                 .no_touch = profile_in_use(c)->no_touch,
                                 .guest = true,
                                 .db = profile_in_use(c)->db};
    t->wanted.db_first = t->wanted.db != 0;
    t->wanted.user = xstrndup(who->user, who->user_len);
    t->wanted.password = xstrndup(who->password, who->password_len);
    if (subscriber_is(c) && !profile_same_user(&t->wanted, profile_in_use(c))) {
        drop_try(t);
        error_write(out, ERROR_AUTH_LISTENS);
        return;
    }
    ask_server(c, cmd, t);
}

/* Without looking at where they differ: the time says nothing about the secret. */
static bool same_secret(const char *a, const char *b, size_t bn)
{
    size_t an = strlen(a);
    unsigned char diff = an != bn;

    for (size_t i = 0; i < bn; i++)
        diff |= (unsigned char)(b[i] ^ a[an > 0 ? i % an : 0]);
    return diff == 0;
}

/* What the proxy itself knows: the listener's, else the upstream's; where there is none, the
 * default user has none either. */
static bool is_configured(const struct client *c, const struct credentials *who)
{
    const struct config_listener *l = listener_of(c);
    const struct config_upstream *u = c->up->config;
    bool own = l->password != NULL;
    const char *user = own ? l->user : u->user;
    const char *password = own ? l->password : l->auth == AUTH_NONE ? NULL : u->password;

    if (user == NULL || password == NULL)
        user = "default";
    if (who->user_len != strlen(user) || memcmp(who->user, user, who->user_len) != 0)
        return false;
    return password == NULL || same_secret(password, who->password, who->password_len);
}

void identity_auth(struct client *c, const struct command *cmd, const struct credentials *who,
                   struct auth_next **next, struct chain *out)
{
    if (listener_of(c)->auth == AUTH_SERVERS) {
        auth_at_servers(c, cmd, who, next, out);
    } else if (!is_configured(c, who)) {
        error_write(out, ERROR_WRONGPASS);
    } else {
        c->anonymous = false;
        (*next)->done(c, *next, out);
    }
    free(*next);
    *next = NULL;
}
