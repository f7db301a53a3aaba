#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "base/alloc.h"
#include "base/clock.h"

static char path[64];
static enum log_level threshold_before;

static int setup(void)
{
    int fd;

    threshold_before = log_threshold;
    snprintf(path, sizeof(path), "/tmp/keyway-log-test-XXXXXX");
    fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return log_open(path) ? 0 : -1;
}

static int teardown(void)
{
    log_threshold = threshold_before;
    unlink(path);
    return log_open(NULL) ? 0 : -1;
}

/* What was logged since the last call; the caller frees it. */
static char *take(void)
{
    int fd = open(path, O_RDWR);
    size_t cap = 1 << 20;
    char *text = xcalloc(1, cap);
    ssize_t n;

    CU_ASSERT_FATAL(fd >= 0);
    n = read(fd, text, cap - 1);
    CU_ASSERT(n >= 0);
    CU_ASSERT_EQUAL(ftruncate(fd, 0), 0);
    close(fd);
    return text;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

/* "2026-01-31T12:00:00.123Z WARN [main] text\n" */
static void test_line(void)
{
    unsigned year, month, day, hour, minute, second, ms;
    char level[16], thread[16];
    int end = 0;
    char *text;
    struct tm tm = {0};
    time_t said;

    log_set_thread("w1");
    log_warn("answer %d", 42);
    log_set_thread("main");
    text = take();
    CU_ASSERT_EQUAL_FATAL(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ %15s [%15[^]]] %n", &year,
                                 &month, &day, &hour, &minute, &second, &ms, level, thread, &end),
                          9);
    CU_ASSERT_STRING_EQUAL(level, "WARN");
    CU_ASSERT_STRING_EQUAL(thread, "w1");
    CU_ASSERT_STRING_EQUAL(text + end, "answer 42\n");
    tm.tm_year = (int)year - 1900;
    tm.tm_mon = (int)month - 1;
    tm.tm_mday = (int)day;
    tm.tm_hour = (int)hour;
    tm.tm_min = (int)minute;
    tm.tm_sec = (int)second;
    said = timegm(&tm);
    CU_ASSERT(llabs((long long)said - (long long)(clock_wall_ms() / 1000)) <= 2);
    free(text);
}

static void test_threshold(void)
{
    enum log_level level;
    char *text;

    log_set_level(LOG_WARN);
    log_info("quiet");
    log_error("loud");
    log_set_level(LOG_DEBUG);
    log_debug("detail");
    text = take();
    CU_ASSERT_PTR_NULL(strstr(text, "quiet"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "ERROR [main] loud\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "DEBUG [main] detail\n"));
    free(text);
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        CU_ASSERT_TRUE(log_level_parse(log_level_name((enum log_level)i), &level));
        CU_ASSERT_EQUAL((int)level, i);
    }
    CU_ASSERT_FALSE(log_level_parse("loud", &level));
    CU_ASSERT_FALSE(log_level_parse("", &level));
    CU_ASSERT_FALSE(log_level_parse("warning", &level));
}

static void test_no_forged_lines(void)
{
    char *text;

    log_warn("client said %s",
             "a\r\n2026-01-01T00:00:00.000Z ERROR [main] forged\x1b[2J\t\x7f\x01");
    text = take();
    CU_ASSERT_EQUAL(count_lines(text), 1);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "a\\r\\n2026-01-01T00:00:00.000Z ERROR [main] forged\\x1b[2J\\t\\x7f\\x01\n"));
    free(text);
}

static void test_long_text(void)
{
    static char big[100000];
    char *text;
    size_t len;

    memset(big, '\x01', sizeof(big) - 1);
    log_warn("%s", big);
    text = take();
    len = strlen(text);
    CU_ASSERT_EQUAL(count_lines(text), 1);
    CU_ASSERT(len > 4000 && len < 9000);
    CU_ASSERT_STRING_EQUAL(text + len - 8, "\\x01...\n");
    free(text);
}

static void one_site(unsigned i)
{
    log_warn("line %u", i);
}

/* Waits for the beginning of the next second, as the rate limit counts them. */
static void next_second(void)
{
    uint64_t now = clock_ms() / 1000;

    while (clock_ms() / 1000 == now)
        usleep(2000);
}

static void test_rate_limit(void)
{
    char *text;

    next_second();
    for (unsigned i = 0; i < 100; i++)
        one_site(i);
    log_warn("another call site is not limited by it");
    text = take();
    CU_ASSERT_EQUAL(count_lines(text), LOG_BURST + 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "another call site"));
    CU_ASSERT_PTR_NULL(strstr(text, "left out"));
    free(text);
    next_second();
    one_site(100);
    one_site(101);
    text = take();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "line 100 (80 lines like this left out)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "line 101\n"));
    free(text);
}

static void test_open_failure(void)
{
    char *text;

    errno = 0;
    CU_ASSERT_FALSE(log_open("/no/such/folder/log"));
    CU_ASSERT_EQUAL(errno, ENOENT);
    log_warn("still here");
    text = take();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "still here"));
    free(text);
}

static void *writer(void *arg)
{
    (void)arg;
    log_set_thread("writer");
    for (int i = 0; i < 2000; i++)
        log_write(LOG_INFO, NULL, "0123456789 0123456789 0123456789");
    return NULL;
}

/* Lines of several threads are whole, also while the file is being replaced under them. */
static void test_threads(void)
{
    pthread_t threads[4];
    char *text, *line, *rest;
    size_t lines = 0;

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, writer, NULL), 0);
    for (int i = 0; i < 50; i++)
        CU_ASSERT_TRUE(log_open(path));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    text = take();
    rest = text;
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        CU_ASSERT_STRING_EQUAL(line + 25, "INFO [writer] 0123456789 0123456789 0123456789");
        lines++;
    }
    CU_ASSERT_EQUAL(lines, 8000);
    free(text);
}

void suite_log(void)
{
    CU_pSuite s = CU_add_suite("log", setup, teardown);

    CU_add_test(s, "a line", test_line);
    CU_add_test(s, "levels", test_threshold);
    CU_add_test(s, "control bytes are escaped", test_no_forged_lines);
    CU_add_test(s, "a long text is cut", test_long_text);
    CU_add_test(s, "rate limit", test_rate_limit);
    CU_add_test(s, "a file that cannot be opened", test_open_failure);
    CU_add_test(s, "threads", test_threads);
}
