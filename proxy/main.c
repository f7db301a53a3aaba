/*
 * main.c - keyway, from its arguments to its exit status.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/log.h"
#include "command/command.h"
#include "config/config.h"
#include "control/discovery.h"
#include "worker/accept.h"

struct program {
    struct config *config;
    struct loop loop;
    struct ev_signal term, interrupt;
    struct acceptor *acceptor;
    struct workers *workers;
    struct discovery *discovery;
};

static void on_signal(struct ev_loop *ev, struct ev_signal *w, int revents)
{
    struct program *p = w->data;

    (void)ev;
    (void)revents;
    log_info("signal %d: finishing what is under way", w->signum);
    loop_stop(&p->loop);
}

/* Threads inherit the mask: signals are for main's loop alone. */
static void block_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static void unblock_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
}

/* A descriptor a client, and some that clients cannot take, for servers: as many as the system lets
 * us have, and fewer clients when that is not enough. */
static void raise_descriptor_limit(struct config *c)
{
    struct rlimit lim;
    uint64_t reserve;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
        return;
    lim.rlim_cur = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &lim) != 0 && getrlimit(RLIMIT_NOFILE, &lim) != 0)
        return;
    reserve = MIN((uint64_t)lim.rlim_cur / 4, (uint64_t)256);
    if (lim.rlim_cur - reserve >= c->client.max_clients)
        return;
    log_warn("client.max_clients is %llu instead of %u: there are only %llu descriptors",
             (unsigned long long)(lim.rlim_cur - reserve), c->client.max_clients,
             (unsigned long long)lim.rlim_cur);
    c->client.max_clients = (uint32_t)(lim.rlim_cur - reserve);
}

static void publish(void *arg, size_t upstream, struct slotmap *m)
{
    struct program *p = arg;

    workers_publish(p->workers, upstream, m);
}

static void publish_commands(void *arg, size_t upstream, struct learnt *l)
{
    struct program *p = arg;

    workers_publish_commands(p->workers, upstream, l);
}

static void want_commands(void *arg, size_t upstream)
{
    struct program *p = arg;

    discovery_want_commands(p->discovery, upstream);
}

static void want_refresh(void *arg, size_t upstream)
{
    struct program *p = arg;

    discovery_want_refresh(p->discovery, upstream);
}

static void start_loop(struct program *p)
{
    loop_init(&p->loop, ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV), p);
    ev_signal_init(&p->term, on_signal, SIGTERM);
    ev_signal_init(&p->interrupt, on_signal, SIGINT);
    p->term.data = p->interrupt.data = p;
    ev_signal_start(p->loop.ev, &p->term);
    ev_signal_start(p->loop.ev, &p->interrupt);
}

static bool start(struct program *p)
{
    struct workers_hooks hooks = {
        .want_refresh = want_refresh, .want_commands = want_commands, .arg = p};
    char err[512];

    p->acceptor = acceptor_new(p->config, err, sizeof(err));
    if (p->acceptor == NULL) {
        log_error("%s", err);
        return false;
    }
    start_loop(p);
    /* Each of the two needs the other: workers ask for refreshes, and maps are published to them.
     */
    p->discovery =
        discovery_new(p->config, publish, p->config->learn_commands ? publish_commands : NULL, p);
    p->workers = workers_start(p->config, &hooks, KEYWAY_VERSION);
    discovery_start(p->discovery);
    acceptor_start(p->acceptor, &p->loop, p->workers);
    return true;
}

static void stop(struct program *p)
{
    acceptor_free(&p->acceptor);
    workers_stop(p->workers);
    discovery_stop(&p->discovery);
    workers_free(&p->workers);
    loop_deinit(&p->loop);
}

int main(int argc, char **argv)
{
    struct program p = {.config = config_new()};
    int status = 0;

    if (args_parse(argc, argv, p.config, &status) != ARGS_RUN)
        goto out;
    log_set_level(p.config->log_level);
    if (p.config->log_file != NULL && !log_open(p.config->log_file)) {
        log_error("cannot open log file %s", p.config->log_file);
        status = 1;
        goto out;
    }
    log_set_thread("main");
    raise_descriptor_limit(p.config);
    block_signals();
    alloc_start_background();
    command_init();
    if (!start(&p)) {
        status = 1;
        goto out;
    }
    unblock_signals();
    loop_run(&p.loop);
    stop(&p);
    log_info("bye");
out:
    config_free(&p.config);
    return status;
}
