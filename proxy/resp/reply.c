#include "resp/reply.h"

#include "resp/number.h"

/* No server sends a reply of more elements; a header that claims so has lost step. */
#define ELEMENTS_MAX ((int64_t)1 << 40)

/* The header line at p: *value is its number, returns the byte after the line, NULL when the line
 * is not complete. A line that is no number gives INT64_MIN. */
static inline const char *header_number(const char *p, const char *end, int64_t *value)
{
    const char *q = p + 1, *cr;
    uint32_t v = 0;

    while (q < end && (unsigned char)(*q - '0') <= 9 && q - p < 9)
        v = v * 10 + (uint32_t)(*q++ - '0');
    if (q > p + 1 && end - q >= 2 && q[0] == '\r' && q[1] == '\n') {
        *value = v;
        return q + 2;
    }
    cr = memchr(p, '\r', (size_t)(end - p));
    if (cr == NULL || cr + 1 >= end)
        return NULL;
    if (cr[1] != '\n' || !resp_parse_int(p + 1, (size_t)(cr - p - 1), value))
        *value = INT64_MIN;
    return cr + 2;
}

/* header_number says INT64_MIN of the smallest integer as of what is none. */
static bool is_smallest(const char *p, const char *next)
{
    static const char text[] = "-9223372036854775808\r\n";

    return next - p == sizeof(text) && memcmp(p + 1, text, sizeof(text) - 1) == 0;
}

/* The byte after the line at p, whose first `looked` bytes are known to hold no end. */
static const char *line_end(const char *p, const char *end, size_t looked)
{
    const char *cr = p + looked;

    for (;;) {
        cr = memchr(cr, '\r', (size_t)(end - cr));
        if (cr == NULL || cr + 1 >= end)
            return NULL;
        if (cr[1] == '\n')
            return cr + 2;
        cr++;
    }
}

/* Elements that follow the header of an aggregate; -1: none of that type, or an absurd number. */
static int64_t children(char type, int64_t n)
{
    if (n < 0)
        return n == -1 && type == '*' ? 0 : -1;
    if (n > ELEMENTS_MAX)
        return -1;
    switch (type) {
    case '*':
    case '~':
    case '>':
        return n;
    case '%':
        return 2 * n;
    case '|': /* and the reply that it belongs to */
        return 2 * n + 1;
    default:
        return -1;
    }
}

/* `left` (0 or 1) bytes of a bulk are still to come, `part` have just been passed: are those of its
 * CRLF that are among them right? */
static bool ends_like_bulk(const char *p, uint64_t part, uint64_t left)
{
    if (left == 1)
        return p[-1] == '\r';
    return p[-1] == '\n' && (part < 2 || p[-2] == '\r');
}

enum resp_frame_status resp_frame(struct resp_framer *f, const char *buf, size_t len, size_t *used)
{
    const char *p = buf, *end = buf + len, *next;
    size_t looked = f->looked;
    int64_t n;

    f->looked = 0;
    if (f->pending == 0) {
        f->pending = 1;
        f->bulk = 0;
        f->type = 0;
    }
    do {
        if (f->bulk > 0) {
            uint64_t part = MIN(f->bulk, (uint64_t)(end - p));

            p += part;
            f->bulk -= part;
            /* The CRLF behind a string is where a connection that lost step betrays itself. */
            if (f->bulk < 2 && part > 0 && !ends_like_bulk(p, part, f->bulk))
                return RESP_FRAME_BAD;
            if (f->bulk > 0)
                goto more;
            f->pending--;
            continue;
        }
        if (p >= end)
            goto more;
        /* What an attribute contains stands before the last pending element, the reply. */
        if (f->type == 0 && f->pending == 1 && *p != '|')
            f->type = *p;
        switch (*p) {
        case '$':
        case '=':
        case '!':
            next = header_number(p, end, &n);
            if (next == NULL)
                goto more;
            if (n < -1)
                return RESP_FRAME_BAD;
            if (n == -1)
                f->pending--;
            else
                f->bulk = (uint64_t)n + 2;
            break;
        case ':':
            next = header_number(p, end, &n);
            if (next == NULL)
                goto more;
            if (n == INT64_MIN && !is_smallest(p, next))
                return RESP_FRAME_BAD;
            f->pending--;
            break;
        case '+':
        case '-':
        case ',':
        case '#':
        case '(':
        case '_':
            next = line_end(p, end, looked);
            if (next == NULL) {
                f->looked = (size_t)(end - p) - 1; /* a CR may be the last byte */
                goto more;
            }
            looked = 0;
            f->pending--;
            break;
        case '*':
        case '~':
        case '>':
        case '%':
        case '|':
            next = header_number(p, end, &n);
            if (next == NULL)
                goto more;
            n = children(*p, n);
            if (n < 0)
                return RESP_FRAME_BAD;
            f->pending += (uint64_t)n - 1;
            break;
        default:
            return RESP_FRAME_BAD;
        }
        p = next;
    } while (f->pending > 0);
    *used = (size_t)(p - buf);
    return RESP_FRAME_DONE;
more:
    *used = (size_t)(p - buf);
    return RESP_FRAME_MORE;
}

uint64_t resp_framer_need(const struct resp_framer *f)
{
    /* The shortest element is "_\r\n". */
    if (f->pending == 0)
        return 3;
    return f->bulk > 0 ? f->bulk + (f->pending - 1) * 3 : f->pending * 3;
}

static bool next_any(const char **p, const char *end, struct resp_item *out)
{
    const char *next;
    int64_t n;

    if (*p >= end)
        return false;
    *out = (struct resp_item){.type = **p, .raw = *p};
    switch (**p) {
    case '$':
    case '=':
    case '!':
        next = header_number(*p, end, &n);
        if (next == NULL || n < -1 || (n >= 0 && n > end - next - 2))
            return false;
        out->count = n;
        out->data = next;
        out->len = n < 0 ? 0 : (size_t)n;
        *p = n < 0 ? next : next + n + 2;
        break;
    case '*':
    case '~':
    case '>':
    case '%':
    case '|':
        next = header_number(*p, end, &n);
        if (next == NULL || children(**p, n) < 0)
            return false;
        out->count = n < 0 ? n : **p == '%' || **p == '|' ? 2 * n : n;
        out->data = next;
        *p = next;
        break;
    case '+':
    case '-':
    case ':':
    case ',':
    case '#':
    case '(':
    case '_':
        next = line_end(*p, end, 0);
        if (next == NULL)
            return false;
        out->data = *p + 1;
        out->len = (size_t)(next - *p) - 3;
        *p = next;
        break;
    default:
        return false;
    }
    out->raw_len = (size_t)(*p - out->raw);
    return true;
}

bool resp_next(const char **p, const char *end, struct resp_item *out)
{
    while (next_any(p, end, out)) {
        if (out->type != '|')
            return true;
        for (int64_t i = 0; i < out->count; i++)
            if (!resp_skip(p, end))
                return false;
    }
    return false;
}

bool resp_skip(const char **p, const char *end)
{
    struct resp_framer f;
    size_t used;

    resp_framer_init(&f);
    if (resp_frame(&f, *p, (size_t)(end - *p), &used) != RESP_FRAME_DONE)
        return false;
    *p += used;
    return true;
}
