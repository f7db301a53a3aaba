/*
 * stream.h - a connected byte stream: above it nobody sees a descriptor, EAGAIN or readiness.
 *
 * Bytes arrive where the owner says; bytes to send are queued in `out` and leave in one writev a
 * turn. Closing is deferred: stream_close ends all callbacks at once, the owner frees its object
 * through loop_add_reap.
 * Layer: net. Thread: its loop's. Owner: the object that embeds it.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <ev.h>

#include "base/addr.h"
#include "base/chain.h"
#include "net/loop.h"

struct span {
    char *data;
    size_t len;
};

struct stream_ops {
    /* Where the next bytes go. An empty span stops reading until stream_resume. */
    struct span (*buffer)(struct stream *s);
    /* n > 0 bytes are at the span's begin. */
    void (*data)(struct stream *s, size_t n);
    /* The other side sends no more (it may still read). NULL: the same as failed(0). */
    void (*ended)(struct stream *s);
    /* The stream is dead (already closed here); error is an errno, 0 for an end of file. */
    void (*failed)(struct stream *s, int error);
    /* Everything queued has been taken by the kernel; called once after notify_drained was set. */
    void (*drained)(struct stream *s);
    /* An outgoing connection is established. */
    void (*connected)(struct stream *s);
};

struct stream {
    struct ev_io rio, wio;
    struct loop *loop;
    const struct stream_ops *ops;
    struct chain out;
    struct stream *next_dirty;
    uint64_t written; /* bytes taken by the kernel so far */
    bool dirty, blocked, held, connecting, open, keep_open_block;
    bool notify_drained; /* set by the owner who wants ops->drained */
};

/* Takes over a connected, non-blocking fd and starts reading. keep_open_block: the out chain keeps
 * its open block while idle (backend connections; thousands of idle clients must not). */
void stream_open(struct stream *s, struct loop *l, int fd, const struct stream_ops *ops,
                 bool keep_open_block);

/* Starts connecting; ops->connected or ops->failed follows, never before this returns.
 * keepalive_s 0: no TCP keepalive. Returns false with errno when it failed at once (nothing is
 * open then). */
MUST_CHECK bool stream_connect(struct stream *s, struct loop *l, const struct sockaddr_any *to,
                               uint32_t keepalive_s, const struct stream_ops *ops,
                               bool keep_open_block);

static inline bool stream_is_open(const struct stream *s)
{
    return s->open;
}

int stream_fd(const struct stream *s);

/* After bytes were put into s->out: they leave at the end of this turn. */
static inline void stream_mark_dirty(struct stream *s)
{
    if (!s->dirty && !s->blocked && s->open) {
        s->dirty = true;
        s->next_dirty = s->loop->dirty;
        s->loop->dirty = s;
    }
}

/* True when the other side sends no more, though what it sent is not read to its end. */
bool stream_peer_ended(const struct stream *s);

/* True when the other side is gone, or the connection broken, though nothing is read or written.
 * One that has only closed may still read: that is not to be told from one that sends no more. */
bool stream_is_broken(const struct stream *s);

/* Reads again after an empty span. */
void stream_resume(struct stream *s);
/* Stops reading until stream_resume. */
void stream_pause(struct stream *s);

/* Writes nothing more until stream_release: what is queued stays. A stream whose other side takes
 * no more anyway is left as it is. */
void stream_hold(struct stream *s);
void stream_release(struct stream *s);

/* Closes without a callback; unsent bytes are dropped. Safe to call twice. */
void stream_close(struct stream *s);

/* Flushes all dirty streams; called by the loop before it sleeps. */
void stream_flush_dirty(struct loop *l);

#endif
