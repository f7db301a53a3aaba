#include "resp/inline.h"

#include <ctype.h>

#include "base/alloc.h"

/* Words unquoted one behind the other; argv holds offsets into text. */
struct words {
    char *text;
    uint32_t len, argc, cap;
    struct resp_arg *argv;
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return c;
    }
}

/* One character inside double quotes at p (not the closing quote); returns the byte after it. */
static const char *double_quoted(const char *p, const char *end, char *out)
{
    if (*p != '\\' || p + 1 >= end) {
        *out = *p;
        return p + 1;
    }
    if (p[1] == 'x' && end - p >= 4 && hex_value(p[2]) >= 0 && hex_value(p[3]) >= 0) {
        *out = (char)(hex_value(p[2]) * 16 + hex_value(p[3]));
        return p + 4;
    }
    *out = unescape(p[1]);
    return p + 2;
}

/* A closing quote ends the word: a space or the end of the line must follow. */
static bool closes_word(const char *p, const char *end)
{
    return p + 1 >= end || isspace((unsigned char)p[1]);
}

/* Reads one word at p; NULL when its quotes are unbalanced, else the byte after it. */
static const char *read_word(const char *p, const char *end, struct words *w)
{
    char quote = 0;

    for (; p < end; w->len++) {
        if (quote == 0) {
            if (memchr(" \n\r\t", *p, 5) != NULL) /* not every isspace, as in redis-server */
                return p;
            if (*p == '"' || *p == '\'') {
                quote = *p++;
                w->len--; /* the quote itself is no byte of the word */
                continue;
            }
            w->text[w->len] = *p++;
        } else if (*p == quote) {
            return closes_word(p, end) ? p + 1 : NULL;
        } else if (quote == '"') {
            p = double_quoted(p, end, &w->text[w->len]);
        } else if (*p == '\\' && p + 1 < end && p[1] == '\'') {
            w->text[w->len] = '\'';
            p += 2;
        } else {
            w->text[w->len] = *p++;
        }
    }
    return quote == 0 ? p : NULL;
}

static bool read_words(const char *line, size_t len, struct words *w)
{
    const char *p = line, *end = line + len;

    for (;;) {
        uint32_t start = w->len;

        while (p < end && isspace((unsigned char)*p))
            p++;
        /* As in redis-server, whose lines are C strings, a NUL byte ends the line. */
        if (p >= end || *p == '\0')
            return true;
        p = read_word(p, end, w);
        if (p == NULL)
            return false;
        if (w->argc == w->cap) {
            w->cap = MAX(16, w->cap * 2);
            w->argv = xrealloc(w->argv, w->cap * sizeof(*w->argv));
        }
        w->argv[w->argc++] = (struct resp_arg){start, w->len - start};
    }
}

static void encode(const struct words *w, struct inline_request *out)
{
    size_t size = 16 + w->len + (size_t)w->argc * 16;
    char *bytes = xmalloc(size);
    uint32_t pos = (uint32_t)snprintf(bytes, size, "*%u\r\n", w->argc);

    for (uint32_t i = 0; i < w->argc; i++) {
        uint32_t n = w->argv[i].len;

        pos += (uint32_t)snprintf(bytes + pos, size - pos, "$%u\r\n", n);
        memcpy(bytes + pos, w->text + w->argv[i].off, n);
        w->argv[i].off = pos;
        memcpy(bytes + pos + n, "\r\n", 2);
        pos += n + 2;
    }
    *out = (struct inline_request){.bytes = bytes, .len = pos, .argc = w->argc, .argv = w->argv};
}

bool inline_split(const char *line, size_t len, struct inline_request *out)
{
    struct words w = {.text = xmalloc(len + 1)};
    bool ok = read_words(line, len, &w);

    *out = (struct inline_request){0};
    if (ok && w.argc > 0)
        encode(&w, out);
    else
        free(w.argv);
    free(w.text);
    return ok;
}
