#include "config/config.h"

#include <fcntl.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/alloc.h"

#define ARGC_MAX 32

static struct config *config;
static char said[65536]; /* standard output and error of the last run */
static int status;

static int redirect(int fd, int to)
{
    int old = dup(fd);

    CU_ASSERT_FATAL(old >= 0 && dup2(to, fd) >= 0);
    return old;
}

static void restore(int fd, int old)
{
    dup2(old, fd);
    close(old);
}

/* Runs args_parse over words (split at spaces), with a fresh configuration. */
static enum args_action run(const char *line)
{
    char words[1024], name[] = "keyway", *argv[ARGC_MAX + 1] = {name}, *rest = words, *word;
    char path[] = "/tmp/keyway-args-XXXXXX";
    enum args_action action;
    int argc = 1, out, err, fd = mkstemp(path);
    ssize_t n;

    CU_ASSERT_FATAL(fd >= 0);
    unlink(path);
    snprintf(words, sizeof(words), "%s", line);
    while ((word = strsep(&rest, " ")) != NULL && argc < ARGC_MAX)
        if (*word != '\0')
            argv[argc++] = word;
    config_free(&config);
    config = config_new();
    fflush(stdout);
    out = redirect(STDOUT_FILENO, fd);
    err = redirect(STDERR_FILENO, fd);
    action = args_parse(argc, argv, config, &status);
    fflush(stdout);
    restore(STDOUT_FILENO, out);
    restore(STDERR_FILENO, err);
    n = pread(fd, said, sizeof(said) - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(fd);
    return action;
}

static int teardown(void)
{
    config_free(&config);
    return 0;
}

static void refused(const char *line, const char *message)
{
    enum args_action action = run(line);

    if (action != ARGS_EXIT || status != 2 || strstr(said, message) == NULL)
        printf("\n  keyway %s\n  said: %s  want: %s\n", line, said, message);
    CU_ASSERT_EQUAL(action, ARGS_EXIT);
    CU_ASSERT_EQUAL(status, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, message));
}

static void test_seeds_only(void)
{
    unsetenv("KEYWAY_PASSWORD");
    CU_ASSERT_EQUAL(run("127.0.0.1:7000 [::1]:7001"), ARGS_RUN);
    CU_ASSERT_STRING_EQUAL(said, "");
    CU_ASSERT_EQUAL_FATAL(config->upstream_count, 1);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].name, "default");
    CU_ASSERT_EQUAL(config->upstreams[0].kind, UPSTREAM_CLUSTER);
    CU_ASSERT_EQUAL_FATAL(config->upstreams[0].seed_count, 2);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].seeds[1].host, "::1");
    CU_ASSERT_PTR_NULL(config->upstreams[0].password);
    CU_ASSERT_EQUAL(config->listeners[0].address.port, 7600);
    CU_ASSERT(config->workers >= 1);
}

static void test_server(void)
{
    CU_ASSERT_EQUAL(run("--server h:1"), ARGS_RUN);
    CU_ASSERT_EQUAL(config->upstreams[0].kind, UPSTREAM_SERVER);
    CU_ASSERT_EQUAL(config->upstreams[0].seeds[0].port, 1);
    CU_ASSERT_TRUE(config_is_single(&config->upstreams[0]));
    CU_ASSERT_EQUAL(run("--check -w 1 --server /run/redis.sock"), ARGS_CHECK);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "  upstream default: server /run/redis.sock\n"));
    refused("--server h", "'h' is not an address; expected HOST:PORT");
    refused("--server h:1 h:2", "expected one of them");
    refused("--server h:1 --sentinel m@h:1", "expected one of them");
}

static void test_sentinel(void)
{
    CU_ASSERT_EQUAL(run("--sentinel my@ster@h:1,[::1]:2"), ARGS_RUN);
    CU_ASSERT_EQUAL(config->upstreams[0].kind, UPSTREAM_SENTINEL);
    CU_ASSERT_EQUAL_FATAL(config->upstreams[0].master_count, 1);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].masters[0], "my@ster");
    CU_ASSERT_EQUAL_FATAL(config->upstreams[0].seed_count, 2);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].seeds[1].host, "::1");
    CU_ASSERT_TRUE(config_is_single(&config->upstreams[0]));
    CU_ASSERT_EQUAL(run("--sentinel a,b@h:1"), ARGS_RUN);
    CU_ASSERT_EQUAL_FATAL(config->upstreams[0].master_count, 2);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].masters[1], "b");
    CU_ASSERT_FALSE(config_is_single(&config->upstreams[0]));
    CU_ASSERT_EQUAL(run("--check -w 1 --sentinel a,b@h:1,h:2"), ARGS_CHECK);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(said, "  upstream default: master a and others by the Sentinels h:1 and others\n"));
    refused("--sentinel h:1", "expected NAME@HOST:PORT");
    refused("--sentinel @h:1", "expected NAME@HOST:PORT");
    refused("--sentinel a,@h:1", "a master's name has 1 to 128 bytes");
    refused("--sentinel a@h:1,", "'' is not an address");
    refused("--sentinel a@h", "'h' is not an address");
}

static void test_options(void)
{
    CU_ASSERT_EQUAL(run("--listen 0.0.0.0:1 h:7000 -l /run/k.sock --workers 4 --pretend cluster "
                        "--log-level debug"),
                    ARGS_RUN);
    CU_ASSERT_EQUAL(config->workers, 4);
    CU_ASSERT_EQUAL(config->log_level, LOG_DEBUG);
    CU_ASSERT_EQUAL_FATAL(config->listener_count, 2);
    CU_ASSERT_EQUAL(config->listeners[0].address.port, 1);
    CU_ASSERT_STRING_EQUAL(config->listeners[1].address.host, "/run/k.sock");
    CU_ASSERT_EQUAL(config->listeners[0].pretend, PRETEND_CLUSTER);
    CU_ASSERT_EQUAL(config->listeners[1].pretend, PRETEND_CLUSTER);
    CU_ASSERT_EQUAL(config->listeners[1].auth, AUTH_SERVERS);
    CU_ASSERT_EQUAL(run("--auth none h:1"), ARGS_RUN);
    CU_ASSERT_EQUAL(config->listeners[0].auth, AUTH_NONE);
    CU_ASSERT_EQUAL(run("--pretend cluster h:1"), ARGS_RUN);
    CU_ASSERT_EQUAL(config->listeners[0].address.port, 7600);
    CU_ASSERT_EQUAL(config->listeners[0].pretend, PRETEND_CLUSTER);
}

static void test_password(void)
{
    char path[] = "/tmp/keyway-password-XXXXXX", line[128];
    int fd = mkstemp(path);

    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, "from-file\n", 10), 10);
    close(fd);
    setenv("KEYWAY_PASSWORD", "from-env", 1);
    CU_ASSERT_EQUAL(run("--user me h:1"), ARGS_RUN);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].user, "me");
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].password, "from-env");
    snprintf(line, sizeof(line), "--password-file %s h:1", path);
    CU_ASSERT_EQUAL(run(line), ARGS_RUN);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].password, "from-file");
    unsetenv("KEYWAY_PASSWORD");
    unlink(path);
    refused("--user me h:1", "upstreams.default.user: a user needs a password");
    refused(line, "--password-file: '/tmp/keyway-password-");
}

static void test_errors(void)
{
    refused("", "keyway: upstreams: no server is named");
    refused("7000", "keyway: '7000' is not an address; expected HOST:PORT");
    refused("h:1 --workers x", "keyway: --workers: 'x' is not a whole number; expected 0 to 256");
    refused("h:1 --workers", "keyway: --workers: expected a value, N");
    refused("h:1 -w", "keyway: --workers: expected a value, N");
    refused("h:1 -w 1 -w 2", "keyway: --workers: given twice; expected once");
    refused("h:1 --check=yes", "keyway: --check: takes no value");
    refused("h:1 --wrokers 2", "keyway: --wrokers: there is no such option; did you mean workers?");
    refused("h:1 -x", "keyway: -x: there is no such option");
    refused("h:1 --pretend both",
            "keyway: --pretend: 'both' is not known; expected one of standalone, cluster");
    refused("h:1 --log-level loud", "keyway: --log-level: 'loud' is not known; expected one of");
    refused("h:1 --listen 7600", "keyway: --listen: '7600' is not an address; expected HOST:PORT");
    refused("h:1 -l a:1 -l a:1", "keyway: listeners[1].address: a:1 is listeners[0]'s address too");
    refused("-c " SOURCE_DIR "/conf/keyway.yaml h:1",
            "keyway: h:1: " SOURCE_DIR "/conf/keyway.yaml names its upstreams itself");
    refused("-c " SOURCE_DIR "/conf/keyway.yaml --user u",
            "keyway: --user: goes with HOST:PORT arguments");
    CU_ASSERT_EQUAL(run("-c /no/such/file"), ARGS_EXIT);
    CU_ASSERT_EQUAL(status, 1);
    CU_ASSERT_STRING_EQUAL(said,
                           "keyway: /no/such/file: cannot be read: No such file or directory\n");
}

static void test_file(void)
{
    CU_ASSERT_EQUAL(run("--workers 7 --listen 127.0.0.1:9 -c " SOURCE_DIR "/conf/keyway.yaml"),
                    ARGS_RUN);
    CU_ASSERT_STRING_EQUAL(config->upstreams[0].name, "main");
    CU_ASSERT_EQUAL(config->workers, 7);
    CU_ASSERT_EQUAL_FATAL(config->listener_count, 1);
    CU_ASSERT_EQUAL(config->listeners[0].address.port, 9);
}

static void test_check(void)
{
    CU_ASSERT_EQUAL(run("--check -w 2 -c " SOURCE_DIR "/conf/keyway.yaml"), ARGS_CHECK);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_STRING_EQUAL(said, SOURCE_DIR "/conf/keyway.yaml: ok\n  2 workers\n"
                                            "  listener 127.0.0.1:7600 to main, as standalone\n"
                                            "  upstream main: cluster of 127.0.0.1:7000 and "
                                            "others\n");
    CU_ASSERT_EQUAL(run("--check -c /no/such/file"), ARGS_EXIT);
    CU_ASSERT_EQUAL(status, 1);
}

static void test_help(void)
{
    CU_ASSERT_EQUAL(run("--help"), ARGS_EXIT);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "--listen ADDR:PORT"));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "client.max_pipeline"));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "1 to 1048576; default 1024"));
    CU_ASSERT_EQUAL(run("--version"), ARGS_EXIT);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(strncmp(said, "keyway ", 7), 0);
    CU_ASSERT(said[7] >= '0' && said[7] <= '9');
}

void suite_args(void)
{
    CU_pSuite s = CU_add_suite("args", NULL, teardown);

    CU_add_test(s, "seeds only", test_seeds_only);
    CU_add_test(s, "options", test_options);
    CU_add_test(s, "plain server", test_server);
    CU_add_test(s, "Sentinel", test_sentinel);
    CU_add_test(s, "password", test_password);
    CU_add_test(s, "errors", test_errors);
    CU_add_test(s, "file and arguments", test_file);
    CU_add_test(s, "check", test_check);
    CU_add_test(s, "help and version", test_help);
}
