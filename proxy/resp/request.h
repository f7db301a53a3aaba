/*
 * request.h - a client's command as bytes in one contiguous buffer, and the incremental parser.
 *
 * The parser knows RESP arrays and inline commands and no command names. It accepts, refuses and
 * words its refusals as redis-server does (networking.c of Redis 7.0: processMultibulkBuffer,
 * processInlineBuffer; checked against a live server by tests/integration). It never copies: its
 * arguments are offsets into the caller's buffer, so the buffer may move between two calls.
 * Layer: resp. Thread: the parser belongs to one thread.
 */
#ifndef RESP_REQUEST_H
#define RESP_REQUEST_H

#include "base/check.h"

/* One argument: where it stands, relative to the first byte of its request. */
struct resp_arg {
    uint32_t off, len;
};

/* A complete request. All of it is borrowed from the parser and the buffer that was parsed and is
 * valid until the next call of resp_parse or the buffer's next change. */
struct resp_request {
    const char *base; /* the request in RESP array form, ready to be forwarded */
    uint32_t len;     /* bytes at base */
    uint32_t argc;    /* at least 1 */
    const struct resp_arg *argv;
};

static inline const char *resp_arg_ptr(const struct resp_request *r, uint32_t i)
{
    return r->base + r->argv[i].off;
}

static inline uint32_t resp_arg_len(const struct resp_request *r, uint32_t i)
{
    return r->argv[i].len;
}

/* Case-insensitive comparison of argument i with a literal. */
bool resp_arg_is(const struct resp_request *r, uint32_t i, const char *word);

/* Argument i as a 64-bit integer in Redis's strict form (no spaces, no plus, no leading zero). */
MUST_CHECK bool resp_arg_int(const struct resp_request *r, uint32_t i, int64_t *out);

enum resp_parse_status {
    RESP_PARSE_OK,    /* one request is complete */
    RESP_PARSE_MORE,  /* all bytes belong to a request that goes on */
    RESP_PARSE_EMPTY, /* bytes consumed, no request: "*0", "*-1", an empty line */
    RESP_PARSE_BAD,   /* protocol error: answer resp_parser_error, then close */
};

/* What a request may be; exceeding a limit is a protocol error, as in redis-server. */
struct resp_limits {
    uint32_t max_bulk;    /* bytes of one argument (proto-max-bulk-len) */
    uint32_t max_request; /* bytes of a whole request */
};

struct resp_parser;

/* A new parser; limits are copied. Freed with resp_parser_free, which nulls the pointer. */
struct resp_parser *resp_parser_new(const struct resp_limits *limits);
void resp_parser_free(struct resp_parser **p);

/* Other limits, from the next argument on. */
void resp_parser_set_limits(struct resp_parser *p, const struct resp_limits *limits);

/* Parses the request that begins at buf[0]. Call it again with the same bytes and more after
 * RESP_PARSE_MORE: it goes on where it stopped (the buffer may have moved). After OK or EMPTY
 * *used is the number of bytes that the request took, and the next call starts a new one. */
enum resp_parse_status resp_parse(struct resp_parser *p, const char *buf, size_t len,
                                  struct resp_request *out, size_t *used);

/* After RESP_PARSE_MORE: the least number of bytes, from the request's first, that the request
 * will have; a caller that reads exactly so many sees no byte of the next request. */
size_t resp_parser_need(const struct resp_parser *p);

/* After RESP_PARSE_BAD: the text of the error line, without "-" and CRLF, for example
 * "ERR Protocol error: invalid bulk length". Never holds CR, LF or a byte of another request. */
const char *resp_parser_error(const struct resp_parser *p);

/* Forgets an unfinished request. */
void resp_parser_reset(struct resp_parser *p);

/* True when nothing of a request has been seen yet. */
bool resp_parser_idle(const struct resp_parser *p);

/* Bytes that it holds. */
size_t resp_parser_bytes(const struct resp_parser *p);

/* Moves an unfinished request's state from one parser to another (which is reset first), so that a
 * thread's parser is free for the next client. */
void resp_parser_move(struct resp_parser *to, struct resp_parser *from);

#endif
