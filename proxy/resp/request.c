#include "resp/request.h"

#include <limits.h>
#include <stdarg.h>
#include <strings.h>

#include "base/alloc.h"
#include "resp/inline.h"
#include "resp/number.h"

/* A line without its end after so many bytes is an error (PROTO_INLINE_MAX_SIZE of redis-server).
 */
#define LINE_MAX_BYTES (64 * 1024)
#define ARGV_KEEP 64

enum parser_state {
    IDLE,
    ARRAY,
    INLINE_TEXT
};

struct resp_parser {
    struct resp_limits limits;
    enum parser_state state;
    uint32_t argc, remaining; /* arguments seen, arguments to come */
    uint32_t pos;             /* bytes of the request understood so far */
    int64_t bulk;             /* length of the argument that begins at pos, -1: not read yet */
    uint32_t argv_cap;
    struct resp_arg *argv;
    char *inline_form; /* an inline request re-encoded as an array */
    char error[160];
};

struct resp_parser *resp_parser_new(const struct resp_limits *limits)
{
    struct resp_parser *p = xcalloc(1, sizeof(*p));

    p->limits = *limits;
    p->bulk = -1;
    return p;
}

void resp_parser_free(struct resp_parser **pp)
{
    struct resp_parser *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    free(p->argv);
    free(p->inline_form);
    free(p);
}

void resp_parser_set_limits(struct resp_parser *p, const struct resp_limits *limits)
{
    p->limits = *limits;
}

void resp_parser_reset(struct resp_parser *p)
{
    p->state = IDLE;
    p->argc = p->remaining = p->pos = 0;
    p->bulk = -1;
}

size_t resp_parser_bytes(const struct resp_parser *p)
{
    return sizeof(*p) + (size_t)p->argv_cap * sizeof(*p->argv);
}

bool resp_parser_idle(const struct resp_parser *p)
{
    return p->state == IDLE;
}

void resp_parser_move(struct resp_parser *to, struct resp_parser *from)
{
    struct resp_arg *argv = to->argv;
    uint32_t cap = to->argv_cap;

    to->state = from->state;
    to->argc = from->argc;
    to->remaining = from->remaining;
    to->pos = from->pos;
    to->bulk = from->bulk;
    to->argv = from->argv;
    to->argv_cap = from->argv_cap;
    from->argv = argv;
    from->argv_cap = cap;
    resp_parser_reset(from);
}

const char *resp_parser_error(const struct resp_parser *p)
{
    return p->error;
}

static PRINTF_LIKE(2, 3) enum resp_parse_status bad(struct resp_parser *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(p->error, sizeof(p->error), fmt, ap);
    va_end(ap);
    for (char *c = p->error; *c != '\0'; c++)
        if (*c == '\r' || *c == '\n')
            *c = ' ';
    return RESP_PARSE_BAD;
}

/* To redis-server a line is a C string: what it looks for behind a NUL byte it never finds. */
static const char *find_in_line(const char *p, const char *end, char wanted)
{
    const char *found = memchr(p, wanted, (size_t)(end - p));

    if (found != NULL && memchr(p, '\0', (size_t)(found - p)) != NULL)
        return NULL;
    return found;
}

static __attribute__((noinline)) enum resp_parse_status
read_any_number(const char *buf, size_t pos, size_t len, int64_t *value, size_t *next)
{
    const char *p = buf + pos, *end = buf + len, *cr = find_in_line(p, end, '\r');

    if (cr == NULL || cr + 1 >= end)
        return cr == NULL && end - p >= LINE_MAX_BYTES ? RESP_PARSE_BAD : RESP_PARSE_MORE;
    if (!resp_parse_int(p, (size_t)(cr - p), value))
        *value = INT64_MAX;
    *next = (size_t)(cr + 2 - buf);
    return RESP_PARSE_OK;
}

/* Finds the number between buf[pos] and the CRLF. OK: *value, and *next is the byte after the line.
 * A number that is none gives *value = INT64_MAX, which no limit allows. */
static inline enum resp_parse_status read_number(const char *buf, size_t pos, size_t len,
                                                 int64_t *value, size_t *next)
{
    const char *p = buf + pos;

    /* One or two digits: nearly every line there is. */
    if (LIKELY(len - pos >= 4 && p[0] >= '1' && p[0] <= '9')) {
        if (p[1] == '\r') {
            *value = p[0] - '0';
            *next = pos + 3;
            return RESP_PARSE_OK;
        }
        if (p[1] >= '0' && p[1] <= '9' && p[2] == '\r') {
            *value = (p[0] - '0') * 10 + (p[1] - '0');
            *next = pos + 4;
            return RESP_PARSE_OK;
        }
    }
    return read_any_number(buf, pos, len, value, next);
}

static void argv_room(struct resp_parser *p, uint32_t wanted)
{
    uint32_t cap;

    if (wanted <= p->argv_cap)
        return;
    /* Grown by what has arrived, never by what a client merely announced. */
    cap = MAX(wanted, MAX(ARGV_KEEP, p->argv_cap * 2));
    p->argv = xrealloc(p->argv, cap * sizeof(*p->argv));
    p->argv_cap = cap;
}

static enum resp_parse_status array_header(struct resp_parser *p, const char *buf, size_t len)
{
    int64_t n;
    size_t next;
    enum resp_parse_status st = read_number(buf, 1, len, &n, &next);

    if (st == RESP_PARSE_BAD)
        return bad(p, "ERR Protocol error: too big mbulk count string");
    if (st != RESP_PARSE_OK)
        return st;
    if (n > INT_MAX)
        return bad(p, "ERR Protocol error: invalid multibulk length");
    p->pos = (uint32_t)next;
    p->argc = 0;
    p->bulk = -1;
    if (n <= 0)
        return RESP_PARSE_EMPTY;
    p->remaining = (uint32_t)n;
    p->state = ARRAY;
    return RESP_PARSE_OK;
}

/* redis-server complains of the first byte only when the line is complete. */
static enum resp_parse_status not_a_bulk(struct resp_parser *p, const char *buf, size_t len)
{
    const char *line = buf + p->pos, *end = buf + len;
    const char *cr = find_in_line(line, end, '\r');

    if (cr != NULL && cr + 1 < end)
        return bad(p, "ERR Protocol error: expected '$', got '%c'", *line);
    if (cr == NULL && end - line > LINE_MAX_BYTES)
        return bad(p, "ERR Protocol error: too big bulk count string");
    return RESP_PARSE_MORE;
}

static enum resp_parse_status bulk_header(struct resp_parser *p, const char *buf, size_t len)
{
    int64_t n;
    size_t next;
    enum resp_parse_status st;

    if (p->pos >= len)
        return RESP_PARSE_MORE;
    if (UNLIKELY(buf[p->pos] != '$'))
        return not_a_bulk(p, buf, len);
    st = read_number(buf, p->pos + 1, len, &n, &next);
    if (st == RESP_PARSE_BAD)
        return bad(p, "ERR Protocol error: too big bulk count string");
    if (st != RESP_PARSE_OK)
        return st;
    if (n < 0 || n > p->limits.max_bulk)
        return bad(p, "ERR Protocol error: invalid bulk length");
    if (next + (uint64_t)n + 2 > p->limits.max_request)
        return bad(p, "ERR KEYWAY request is larger than client.max_request (%u bytes)",
                   p->limits.max_request);
    p->bulk = n;
    p->pos = (uint32_t)next;
    return RESP_PARSE_OK;
}

static enum resp_parse_status parse_array(struct resp_parser *p, const char *buf, size_t len,
                                          struct resp_request *out, size_t *used)
{
    while (p->remaining > 0) {
        if (p->bulk < 0) {
            enum resp_parse_status st = bulk_header(p, buf, len);

            if (st != RESP_PARSE_OK)
                return st;
        }
        if (len - p->pos < (uint64_t)p->bulk + 2)
            return RESP_PARSE_MORE;
        argv_room(p, p->argc + 1);
        p->argv[p->argc++] = (struct resp_arg){p->pos, (uint32_t)p->bulk};
        p->pos += (uint32_t)p->bulk + 2;
        p->bulk = -1;
        p->remaining--;
    }
    *out = (struct resp_request){.base = buf, .len = p->pos, .argc = p->argc, .argv = p->argv};
    *used = p->pos;
    resp_parser_reset(p);
    return RESP_PARSE_OK;
}

static enum resp_parse_status parse_inline(struct resp_parser *p, const char *buf, size_t len,
                                           struct resp_request *out, size_t *used)
{
    const char *newline = find_in_line(buf, buf + len, '\n');
    struct inline_request r;
    size_t line;

    if (newline == NULL) {
        if (len > LINE_MAX_BYTES)
            return bad(p, "ERR Protocol error: too big inline request");
        p->state = INLINE_TEXT;
        return RESP_PARSE_MORE;
    }
    line = (size_t)(newline - buf);
    *used = line + 1;
    resp_parser_reset(p);
    if (line > 0 && buf[line - 1] == '\r')
        line--;
    free(p->inline_form);
    p->inline_form = NULL;
    if (!inline_split(buf, line, &r))
        return bad(p, "ERR Protocol error: unbalanced quotes in request");
    if (r.argc == 0)
        return RESP_PARSE_EMPTY;
    p->inline_form = r.bytes;
    argv_room(p, r.argc);
    memcpy(p->argv, r.argv, r.argc * sizeof(*r.argv));
    free(r.argv);
    *out = (struct resp_request){.base = r.bytes, .len = r.len, .argc = r.argc, .argv = p->argv};
    return RESP_PARSE_OK;
}

enum resp_parse_status resp_parse(struct resp_parser *p, const char *buf, size_t len,
                                  struct resp_request *out, size_t *used)
{
    if (p->state == IDLE) {
        enum resp_parse_status st;

        if (len == 0)
            return RESP_PARSE_MORE;
        if (UNLIKELY(buf[0] != '*'))
            return parse_inline(p, buf, len, out, used);
        st = array_header(p, buf, len);
        if (UNLIKELY(st != RESP_PARSE_OK)) {
            *used = p->pos;
            if (st == RESP_PARSE_EMPTY)
                resp_parser_reset(p);
            return st;
        }
    }
    if (UNLIKELY(p->state == INLINE_TEXT))
        return parse_inline(p, buf, len, out, used);
    return parse_array(p, buf, len, out, used);
}

size_t resp_parser_need(const struct resp_parser *p)
{
    size_t need = p->pos + 1;

    if (p->state != ARRAY)
        return need;
    /* "$0", an empty argument and two line ends are the least an argument can be: 6 bytes. */
    if (p->bulk >= 0)
        return p->pos + (size_t)p->bulk + 2 + (size_t)(p->remaining - 1) * 6;
    return p->pos + (size_t)p->remaining * 6;
}

bool resp_arg_is(const struct resp_request *r, uint32_t i, const char *word)
{
    size_t n = strlen(word);

    return r->argv[i].len == n && strncasecmp(resp_arg_ptr(r, i), word, n) == 0;
}

bool resp_arg_int(const struct resp_request *r, uint32_t i, int64_t *out)
{
    return resp_parse_int(resp_arg_ptr(r, i), resp_arg_len(r, i), out);
}
