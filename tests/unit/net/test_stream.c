#include "net/stream.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/sock.h"
#include "until.h"

/* The owner of a stream; counts what it is told. */
struct end {
    struct stream stream;
    struct loop_reap reap;
    char in[256];
    size_t room; /* of `in` that buffer() offers */
    uint64_t got;
    int reads, ended, failed, drained, connected, error;
    bool close_in_data, close_in_drained, silent; /* silent: writes nothing when connected */
    struct end *tell;                             /* gets a byte when this one fails */
    bool *freed;
};

static struct loop loop;

static void free_end(struct loop_reap *r)
{
    struct end *e = CONTAINER_OF(r, struct end, reap);

    *e->freed = true;
    memset(e, 0xee, sizeof(*e));
    free(e);
}

static void close_and_free(struct end *e)
{
    stream_close(&e->stream);
    e->reap.free = free_end;
    loop_add_reap(&loop, &e->reap);
}

static struct span on_buffer(struct stream *s)
{
    struct end *e = CONTAINER_OF(s, struct end, stream);

    return (struct span){e->in, e->room};
}

static void on_data(struct stream *s, size_t n)
{
    struct end *e = CONTAINER_OF(s, struct end, stream);

    e->reads++;
    e->got += n;
    if (e->close_in_data) {
        close_and_free(e);
        CU_ASSERT_FALSE(*e->freed);
    }
}

static void on_ended(struct stream *s)
{
    CONTAINER_OF(s, struct end, stream)->ended++;
}

static void on_failed(struct stream *s, int error)
{
    struct end *e = CONTAINER_OF(s, struct end, stream);

    CU_ASSERT_FALSE(stream_is_open(s));
    e->failed++;
    e->error = error;
    if (e->tell != NULL) {
        chain_append(&e->tell->stream.out, "!", 1);
        stream_mark_dirty(&e->tell->stream);
    }
}

static void on_drained(struct stream *s)
{
    struct end *e = CONTAINER_OF(s, struct end, stream);

    e->drained++;
    CU_ASSERT_EQUAL(s->out.bytes, 0);
    if (e->close_in_drained)
        close_and_free(e);
}

static void on_connected(struct stream *s)
{
    struct end *e = CONTAINER_OF(s, struct end, stream);

    e->connected++;
    if (e->silent)
        return;
    chain_append(&s->out, "hello", 5);
    stream_mark_dirty(s);
}

static const struct stream_ops ops = {
    .buffer = on_buffer,
    .data = on_data,
    .failed = on_failed,
    .drained = on_drained,
    .connected = on_connected,
};
static const struct stream_ops ops_half_close = {
    .buffer = on_buffer,
    .data = on_data,
    .ended = on_ended,
    .failed = on_failed,
    .drained = on_drained,
};

static int start(void)
{
    signal(SIGPIPE, SIG_IGN);
    loop_init(&loop, ev_loop_new(0), NULL);
    return 0;
}

static int stop(void)
{
    loop_deinit(&loop);
    chain_thread_end();
    block_thread_end();
    return 0;
}

/* A stream on one end of a pair of sockets; the other end is returned. */
static int end_open(struct end *e, const struct stream_ops *with, int type)
{
    int fds[2];

    *e = (struct end){.room = sizeof(e->in)};
    CHECK(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    stream_open(&e->stream, &loop, fds[0], with, false);
    CU_ASSERT_EQUAL(stream_fd(&e->stream), fds[0]);
    return fds[1];
}

static void put(struct end *e, const char *text)
{
    chain_append(&e->stream.out, text, strlen(text));
    stream_mark_dirty(&e->stream);
}

static bool arrives(int fd, const char *expected)
{
    char buf[200];
    ssize_t n = read(fd, buf, sizeof(buf));

    return n == (ssize_t)strlen(expected) && memcmp(buf, expected, (size_t)n) == 0;
}

/* Records keep the borders of writes: all that one turn queued is one write, before the sleep. */
static void test_one_write_a_turn(void)
{
    struct end e;
    int other = end_open(&e, &ops, SOCK_SEQPACKET);
    struct block *b = block_new(100);

    memcpy(b->data, "0123456789", 10);
    put(&e, "a");
    chain_append_ref(&e.stream.out, b, 2, 3);
    put(&e, "bc");
    stream_mark_dirty(&e.stream);
    block_unref(&b);
    CU_ASSERT_TRUE(recv(other, (char[1]){0}, 1, MSG_PEEK) < 0 && errno == EAGAIN);
    ev_run(loop.ev, EVRUN_NOWAIT);
    CU_ASSERT_TRUE(arrives(other, "a234bc"));
    CU_ASSERT_EQUAL(e.stream.written, 6);
    CU_ASSERT_PTR_NULL(e.stream.out.open); /* an idle stream keeps no block */
    put(&e, "next");
    ev_run(loop.ev, EVRUN_NOWAIT);
    CU_ASSERT_TRUE(arrives(other, "next"));
    stream_close(&e.stream);
    close(other);
}

static void test_delivery(void)
{
    struct end e;
    int other = end_open(&e, &ops, SOCK_STREAM);
    char bytes[1000] = {0};

    CU_ASSERT_EQUAL(write(other, bytes, sizeof(bytes)), sizeof(bytes));
    TURN_UNTIL(&loop, e.got == sizeof(bytes));
    CU_ASSERT_EQUAL(e.got, sizeof(bytes));
    CU_ASSERT_EQUAL(e.reads, 4); /* 256 at most at a time */
    stream_close(&e.stream);
    stream_close(&e.stream);
    CU_ASSERT_FALSE(stream_is_open(&e.stream));
    close(other);
}

static void test_many_vectors(void)
{
    enum {
        PIECES = 1000
    };
    struct end e;
    int other = end_open(&e, &ops, SOCK_STREAM);
    struct block *b = block_new(100);
    char buf[PIECES + 1];
    ssize_t n, total = 0;

    memcpy(b->data, "abcdefghijklmnopqrstuvwxyz", 26);
    for (int i = 0; i < PIECES; i++)
        chain_append_ref(&e.stream.out, b, (uint32_t)i % 26, 1);
    block_unref(&b);
    stream_mark_dirty(&e.stream);
    ev_run(loop.ev, EVRUN_NOWAIT);
    CU_ASSERT_EQUAL(e.stream.out.bytes, 0); /* all in one turn */
    while ((n = read(other, buf + total, sizeof(buf) - (size_t)total)) > 0)
        total += n;
    CU_ASSERT_EQUAL_FATAL(total, PIECES);
    for (int i = 0; i < PIECES; i++)
        CU_ASSERT(buf[i] == (char)('a' + i % 26));
    stream_close(&e.stream);
    close(other);
}

/* A reader that takes its time: the rest waits, arrives whole, and the end is told once. */
static void test_blocked_and_drained(void)
{
    enum {
        SIZE = 4 << 20
    };
    struct end e;
    int other = end_open(&e, &ops, SOCK_STREAM);
    char *bytes = xmalloc(SIZE), *back = xmalloc(SIZE);
    size_t total = 0;

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + (i >> 10));
    chain_append(&e.stream.out, bytes, SIZE);
    e.stream.notify_drained = true;
    stream_mark_dirty(&e.stream);
    turn_twice(&loop);
    CU_ASSERT_TRUE(e.stream.blocked);
    CU_ASSERT_EQUAL(e.drained, 0);
    CU_ASSERT_EQUAL(e.stream.written + e.stream.out.bytes, SIZE);
    for (uint64_t until = clock_ms() + 5000; total < SIZE && clock_ms() < until;) {
        ssize_t n = read(other, back + total, MIN(SIZE - total, 100000));

        if (n > 0)
            total += (size_t)n;
        ev_run(loop.ev, EVRUN_NOWAIT);
    }
    CU_ASSERT_EQUAL(total, SIZE);
    CU_ASSERT_EQUAL(memcmp(bytes, back, SIZE), 0);
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.drained, 1);
    CU_ASSERT_FALSE(e.stream.blocked);
    CU_ASSERT_EQUAL(e.stream.written, SIZE);
    put(&e, "more"); /* told once, not for ever */
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.drained, 1);
    stream_close(&e.stream);
    close(other);
    free(bytes);
    free(back);
}

static void test_pause_and_resume(void)
{
    struct end e;
    int other = end_open(&e, &ops, SOCK_STREAM);

    stream_pause(&e.stream);
    CU_ASSERT_EQUAL(write(other, "abc", 3), 3);
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.got, 0);
    stream_resume(&e.stream);
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.got, 3);
    e.room = 0; /* no buffer: reading stops by itself, without a busy loop */
    CU_ASSERT_EQUAL(write(other, "de", 2), 2);
    turn_twice(&loop);
    CU_ASSERT_FALSE(ev_is_active(&e.stream.rio));
    e.room = 1;
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.got, 3);
    stream_resume(&e.stream);
    TURN_UNTIL(&loop, e.got == 5);
    CU_ASSERT_EQUAL(e.got, 5);
    stream_close(&e.stream);
    stream_resume(&e.stream); /* closed: stays so */
    CU_ASSERT_FALSE(ev_is_active(&e.stream.rio));
    close(other);
}

/* What was queued before stays too, and one write takes all. */
static void test_hold_and_release(void)
{
    struct end e;
    int other = end_open(&e, &ops, SOCK_SEQPACKET);

    put(&e, "a");
    stream_hold(&e.stream);
    put(&e, "b");
    turn_twice(&loop);
    put(&e, "c");
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.stream.written, 0);
    CU_ASSERT_EQUAL(write(other, "x", 1), 1); /* it is read all the same */
    TURN_UNTIL(&loop, e.got == 1);
    stream_release(&e.stream);
    turn_twice(&loop);
    CU_ASSERT_TRUE(arrives(other, "abc"));
    stream_release(&e.stream); /* it is not held: nothing */
    stream_hold(&e.stream);
    stream_release(&e.stream);
    put(&e, "d");
    turn_twice(&loop);
    CU_ASSERT_TRUE(arrives(other, "d"));
    stream_close(&e.stream);
    close(other);
}

/* The kernel takes no more: its word on when it does must not be lost. */
static void test_hold_of_a_blocked_stream(void)
{
    enum {
        SIZE = 4 << 20
    };
    struct end e;
    int other = end_open(&e, &ops, SOCK_STREAM);
    char *bytes = xcalloc(1, SIZE);
    ssize_t n;

    chain_append(&e.stream.out, bytes, SIZE);
    stream_mark_dirty(&e.stream);
    turn_twice(&loop);
    CU_ASSERT_TRUE(e.stream.blocked);
    stream_hold(&e.stream);
    stream_release(&e.stream);
    for (uint64_t until = clock_ms() + 5000; e.stream.out.bytes > 0 && clock_ms() < until;) {
        while ((n = read(other, bytes, SIZE)) > 0)
            continue;
        ev_run(loop.ev, EVRUN_NOWAIT);
    }
    CU_ASSERT_EQUAL(e.stream.written, SIZE);
    stream_close(&e.stream);
    close(other);
    free(bytes);
}

static struct end *heap_end(int *other, bool *freed)
{
    struct end *e = xmalloc(sizeof(*e));

    *other = end_open(e, &ops, SOCK_STREAM);
    *freed = false;
    e->freed = freed;
    return e;
}

/* The owner is freed at the end of the turn, not under the feet of its own callback. */
static void test_close_in_callbacks(void)
{
    int other;
    bool freed;
    struct end *e = heap_end(&other, &freed);

    e->close_in_data = true;
    put(e, "unsent");
    CU_ASSERT_EQUAL(write(other, "x", 1), 1);
    TURN_UNTIL(&loop, freed);
    CU_ASSERT_TRUE(freed);
    close(other);

    e = heap_end(&other, &freed);
    e->close_in_drained = true;
    e->stream.notify_drained = true;
    put(e, "bye");
    TURN_UNTIL(&loop, freed);
    CU_ASSERT_TRUE(freed);
    CU_ASSERT_TRUE(arrives(other, "bye"));
    close(other);

    /* Closed and freed by somebody else while it waits for the flush. */
    e = heap_end(&other, &freed);
    e->stream.notify_drained = true;
    put(e, "unsent");
    stream_close(&e->stream);
    stream_flush_dirty(&loop);
    CU_ASSERT_EQUAL(e->drained, 0);
    close_and_free(e);
    turn_twice(&loop);
    CU_ASSERT_TRUE(freed);
    close(other);
}

static void test_other_side_closes(void)
{
    struct end e, told;
    int other = end_open(&e, &ops, SOCK_STREAM), told_other;

    close(other);
    TURN_UNTIL(&loop, e.failed > 0);
    CU_ASSERT_EQUAL(e.failed, 1);
    CU_ASSERT_EQUAL(e.error, 0);
    /* Writing finds it first: what its failure writes to another stream leaves in this turn. */
    other = end_open(&e, &ops, SOCK_STREAM);
    told_other = end_open(&told, &ops, SOCK_STREAM);
    e.tell = &told;
    close(other);
    put(&e, "lost");
    stream_flush_dirty(&loop);
    CU_ASSERT_EQUAL(e.failed, 1);
    CU_ASSERT_EQUAL(e.error, EPIPE);
    CU_ASSERT_TRUE(arrives(told_other, "!"));
    stream_close(&told.stream);
    close(told_other);
}

static void test_half_close(void)
{
    struct end e;
    int other = end_open(&e, &ops_half_close, SOCK_STREAM);

    CU_ASSERT_EQUAL(write(other, "q", 1), 1);
    CU_ASSERT_EQUAL(shutdown(other, SHUT_WR), 0);
    TURN_UNTIL(&loop, e.ended > 0);
    turn_twice(&loop);
    CU_ASSERT_EQUAL(e.got, 1);
    CU_ASSERT_EQUAL(e.ended, 1);
    CU_ASSERT_TRUE(stream_is_open(&e.stream));
    put(&e, "answer");
    turn_twice(&loop);
    CU_ASSERT_TRUE(arrives(other, "answer"));
    stream_close(&e.stream);
    close(other);
}

/* A listener on a free port of the loopback; its address in *at. */
static int listen_somewhere(struct sockaddr_any *at)
{
    struct addr a = {.host = "127.0.0.1"};
    int fd;

    CHECK(addr_numeric(&a, at));
    fd = sock_listen(at, 5);
    CHECK(fd >= 0);
    sock_local(fd, at);
    return fd;
}

static void test_connect(void)
{
    struct sockaddr_any at, from;
    int listener = listen_somewhere(&at), fd = -1;
    struct end e = {.room = sizeof(e.in)};

    CU_ASSERT_TRUE_FATAL(stream_connect(&e.stream, &loop, &at, 30, &ops, true));
    CU_ASSERT_EQUAL(e.connected, 0); /* never before it returned */
    put(&e, "early ");               /* waits for the connection */
    stream_resume(&e.stream);        /* nothing to resume yet */
    TURN_UNTIL(&loop, e.stream.written == 11);
    CU_ASSERT_EQUAL(e.connected, 1);
    fd = sock_accept(listener, &from, 30);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_TRUE(arrives(fd, "early hello"));
    CU_ASSERT_PTR_NOT_NULL(e.stream.out.open); /* keep_open_block */
    CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
    TURN_UNTIL(&loop, e.got == 1);
    CU_ASSERT_EQUAL(e.got, 1);
    stream_close(&e.stream);
    close(fd);
    close(listener);
}

/* What was queued before there was a connection leaves with no further call. */
static void test_connect_with_bytes(void)
{
    struct sockaddr_any at;
    int listener = listen_somewhere(&at);
    struct end e = {.room = sizeof(e.in), .silent = true};

    CU_ASSERT_TRUE_FATAL(stream_connect(&e.stream, &loop, &at, 0, &ops, true));
    put(&e, "early");
    TURN_UNTIL(&loop, e.stream.written == 5);
    CU_ASSERT_EQUAL(e.stream.written, 5);
    stream_close(&e.stream);
    close(listener);
}

static void test_connect_fails(void)
{
    struct sockaddr_any at;
    int listener = listen_somewhere(&at);
    struct end e = {.room = sizeof(e.in)};

    close(listener);
    if (stream_connect(&e.stream, &loop, &at, 0, &ops, true)) {
        CU_ASSERT_EQUAL(e.failed, 0);
        TURN_UNTIL(&loop, e.failed > 0);
        CU_ASSERT_EQUAL(e.failed, 1);
        CU_ASSERT_EQUAL(e.error, ECONNREFUSED);
        CU_ASSERT_EQUAL(e.connected, 0);
    } else {
        CU_ASSERT_EQUAL(errno, ECONNREFUSED);
    }
    at.un = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    at.len = sizeof(at.un);
    CU_ASSERT_FALSE(stream_connect(&e.stream, &loop, &at, 0, &ops, true));
    CU_ASSERT_EQUAL(errno, ENOENT);
}

void suite_stream(void)
{
    CU_pSuite s = CU_add_suite("stream", start, stop);

    CU_add_test(s, "delivery", test_delivery);
    CU_add_test(s, "one write a turn", test_one_write_a_turn);
    CU_add_test(s, "many vectors", test_many_vectors);
    CU_add_test(s, "blocked and drained", test_blocked_and_drained);
    CU_add_test(s, "pause and resume", test_pause_and_resume);
    CU_add_test(s, "hold and release", test_hold_and_release);
    CU_add_test(s, "hold of a blocked stream", test_hold_of_a_blocked_stream);
    CU_add_test(s, "close in callbacks", test_close_in_callbacks);
    CU_add_test(s, "the other side closes", test_other_side_closes);
    CU_add_test(s, "half close", test_half_close);
    CU_add_test(s, "connect", test_connect);
    CU_add_test(s, "connect with bytes waiting", test_connect_with_bytes);
    CU_add_test(s, "connect fails", test_connect_fails);
}
