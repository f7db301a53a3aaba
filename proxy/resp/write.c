#include "resp/write.h"

#include "resp/number.h"

static void write_header(struct chain *out, char type, int64_t n)
{
    char line[24];
    size_t len = 1;

    line[0] = type;
    len += resp_format_int(line + 1, n);
    line[len++] = '\r';
    line[len++] = '\n';
    chain_append(out, line, len);
}

void resp_write_simple(struct chain *out, const char *text)
{
    chain_append(out, "+", 1);
    chain_append(out, text, strlen(text));
    chain_append(out, "\r\n", 2);
}

void resp_write_int(struct chain *out, int64_t v)
{
    write_header(out, ':', v);
}

void resp_write_bulk(struct chain *out, const void *p, size_t n)
{
    write_header(out, '$', (int64_t)n);
    chain_append(out, p, n);
    chain_append(out, "\r\n", 2);
}

void resp_write_text(struct chain *out, const char *text)
{
    resp_write_bulk(out, text, strlen(text));
}

void resp_write_null(struct chain *out, int proto)
{
    if (proto == 3)
        chain_append(out, "_\r\n", 3);
    else
        chain_append(out, "$-1\r\n", 5);
}

void resp_write_null_array(struct chain *out, int proto)
{
    if (proto == 3)
        chain_append(out, "_\r\n", 3);
    else
        chain_append(out, "*-1\r\n", 5);
}

void resp_write_array(struct chain *out, size_t n)
{
    write_header(out, '*', (int64_t)n);
}

void resp_write_map(struct chain *out, int proto, size_t pairs)
{
    if (proto == 3)
        write_header(out, '%', (int64_t)pairs);
    else
        write_header(out, '*', (int64_t)pairs * 2);
}

void resp_write_set(struct chain *out, int proto, size_t n)
{
    write_header(out, proto == 3 ? '~' : '*', (int64_t)n);
}

void resp_write_verbatim(struct chain *out, int proto, const void *p, size_t n)
{
    if (proto != 3) {
        resp_write_bulk(out, p, n);
        return;
    }
    write_header(out, '=', (int64_t)n + 4);
    chain_append(out, "txt:", 4);
    chain_append(out, p, n);
    chain_append(out, "\r\n", 2);
}

void resp_vwrite_error(struct chain *out, const char *fmt, va_list ap)
{
    char text[512];
    int n = vsnprintf(text, sizeof(text), fmt, ap);

    CHECK(n >= 0);
    n = MIN(n, (int)sizeof(text) - 1);
    for (int i = 0; i < n; i++)
        if (text[i] == '\r' || text[i] == '\n' || text[i] == '\0')
            text[i] = ' ';
    chain_append(out, "-", 1);
    chain_append(out, text, (size_t)n);
    chain_append(out, "\r\n", 2);
}

void resp_write_error(struct chain *out, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    resp_vwrite_error(out, fmt, ap);
    va_end(ap);
}
