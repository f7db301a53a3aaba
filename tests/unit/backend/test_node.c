#include "backend/node.h"

#include <sys/socket.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/clock.h"

#define CONNS 6

static struct beconn *conns[CONNS];
static int closed_count;

/* Who closes takes both neighbours along. */
static void on_closed(struct beconn *c)
{
    closed_count++;
    for (int i = 0; i < CONNS; i++)
        if (conns[i] == c) {
            conns[i] = NULL;
            if (i + 1 < CONNS && conns[i + 1] != NULL)
                beconn_close(conns[i + 1], NULL);
            if (i > 0 && conns[i - 1] != NULL)
                beconn_close(conns[i - 1], NULL);
        }
}

static const struct beconn_ops ops = {.closed = on_closed};

/* Nobody accepts: the connections come up, and their handshakes are not answered. */
static int listen_on(struct addr *a, struct sockaddr_any *target)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    char text[32];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CU_ASSERT_FATAL(bind(fd, (struct sockaddr *)&in, len) == 0 && listen(fd, CONNS) == 0);
    CU_ASSERT_FATAL(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(in.sin_port));
    CU_ASSERT_FATAL(addr_parse(text, strlen(text), a) && addr_numeric(a, target));
    return fd;
}

static void with_conns(void (*act)(struct node *n))
{
    struct loop loop;
    struct profile_table profiles = {0};
    struct backend_env env = {
        .loop = &loop, .ops = &ops, .profiles = &profiles, .connect_timeout_ms = 60000};
    int profile = profile_find(&profiles, &(struct profile){.proto = 2});
    struct sockaddr_any target;
    struct addr addr;
    int fd = listen_on(&addr, &target);
    struct node *n;

    loop_init(&loop, ev_loop_new(EVFLAG_AUTO), NULL);
    n = node_new(&env, &addr, &target);
    closed_count = 0;
    for (int i = 0; i < CONNS; i++) {
        conns[i] = node_open_own(n, &env, (uint16_t)profile);
        CU_ASSERT_PTR_NOT_NULL_FATAL(conns[i]);
    }
    act(n);
    CU_ASSERT_EQUAL(closed_count, CONNS);
    CU_ASSERT_TRUE(list_empty(&n->conns));
    CU_ASSERT_PTR_NULL(n->walks);
    node_free(&n);
    loop_deinit(&loop);
    profile_table_deinit(&profiles);
    close(fd);
}

static void tick_late(struct node *n)
{
    node_tick(n, clock_ms() + 120000);
}

static void free_conns(struct node *n)
{
    struct node *copy = node_new(n->env, &n->addr, &n->target);

    list_splice(&copy->conns, &n->conns);
    for (int i = 0; i < CONNS; i++)
        conns[i]->node = copy;
    node_free(&copy);
}

static void test_replaced(void)
{
    with_conns(node_replaced);
}

static void test_tick(void)
{
    with_conns(tick_late);
}

static void test_free(void)
{
    with_conns(free_conns);
}

void suite_node(void)
{
    CU_pSuite s = CU_add_suite("node", NULL, NULL);

    CU_add_test(s, "replaced: who closes takes neighbours along", test_replaced);
    CU_add_test(s, "tick: who closes takes neighbours along", test_tick);
    CU_add_test(s, "free: who closes takes neighbours along", test_free);
}
