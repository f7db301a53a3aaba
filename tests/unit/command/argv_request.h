/*
 * argv_request.h - requests for the tests of the command layer, made from their arguments.
 *
 * The bytes end with the request: a read beyond them is one that the address sanitizer sees.
 */
#ifndef TESTS_UNIT_COMMAND_ARGV_REQUEST_H
#define TESTS_UNIT_COMMAND_ARGV_REQUEST_H

#include "base/alloc.h"
#include "resp/request.h"

struct argv_request {
    struct resp_request r; /* what the functions under test get */
    char *bytes;
    struct resp_arg *args;
};

/* Adds an argument of len bytes to a request that began as all zeros. */
static inline void argv_request_add(struct argv_request *q, const char *p, size_t len)
{
    char head[32];
    size_t head_len = (size_t)snprintf(head, sizeof(head), "$%zu\r\n", len);
    size_t all = q->r.len + head_len + len + 2;

    q->bytes = xrealloc(q->bytes, all);
    memcpy(q->bytes + q->r.len, head, head_len);
    if (len > 0)
        memcpy(q->bytes + q->r.len + head_len, p, len);
    memcpy(q->bytes + all - 2, "\r\n", 2);
    q->args = xrealloc(q->args, (q->r.argc + 1) * sizeof(*q->args));
    q->args[q->r.argc].off = (uint32_t)(q->r.len + head_len);
    q->args[q->r.argc].len = (uint32_t)len;
    q->r.argc++;
    q->r.len = (uint32_t)all;
    q->r.base = q->bytes;
    q->r.argv = q->args;
}

/* Adds each word of a text with single spaces between them; the word '' is an empty argument. */
static inline void argv_request_add_words(struct argv_request *q, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        argv_request_add(q, text, len == 2 && memcmp(text, "''", 2) == 0 ? 0 : len);
        text += len;
        if (*text == ' ')
            text++;
    }
}

static inline void argv_request_free(struct argv_request *q)
{
    free(q->bytes);
    free(q->args);
    memset(q, 0, sizeof(*q));
}

#endif
