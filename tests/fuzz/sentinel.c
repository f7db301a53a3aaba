/*
 * sentinel.c - fuzz target: what a Sentinel says is read within its bounds, whatever it is.
 *
 * The first line is a channel, the second a message; all lines together are a description.
 */
#include "topology/sentinel.h"

#define LINES_MAX 64

static void check_addr(const struct addr *a)
{
    struct addr again;
    char text[ADDR_TEXT_MAX];

    CHECK(a->port != 0);
    CHECK(a->host[0] != '\0' && a->host[0] != '/');
    addr_format(a, text);
    CHECK(addr_parse(text, strlen(text), &again));
    CHECK(addr_equal(a, &again));
}

static void check_event(const struct sentinel_text *lines)
{
    struct sentinel_event e;

    if (!sentinel_read_event(lines[0], lines[1], &e))
        return;
    CHECK(strlen(e.master) <= SENTINEL_NAME_MAX);
    check_addr(&e.from);
    if (e.kind == SENTINEL_EVENT_SELECTED || e.kind == SENTINEL_EVENT_SWITCHED)
        check_addr(&e.to);
}

static void check_instance(const struct sentinel_text *lines, size_t count)
{
    struct sentinel_instance m;

    if (sentinel_read_instance(lines, count, &m))
        check_addr(&m.addr);
    CHECK(strlen(m.name) <= SENTINEL_NAME_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sentinel_text lines[LINES_MAX] = {{"", 0}};
    const char *p = (const char *)data, *end = p + size;
    size_t count = 0;

    while (p < end && count < LINES_MAX) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *stop = eol != NULL ? eol : end;

        lines[count++] = (struct sentinel_text){p, (size_t)(stop - p)};
        p = stop + 1;
    }
    if (count >= 2)
        check_event(lines);
    check_instance(lines, count);
    return 0;
}
