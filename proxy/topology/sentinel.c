#include "topology/sentinel.h"

#include "resp/number.h"

/* The longest of them, "+selected-slave slave NAME IP PORT @ MASTER IP PORT", has 8. */
#define WORDS_MAX 12

static bool is(struct sentinel_text t, const char *word)
{
    return t.len == strlen(word) && memcmp(t.data, word, t.len) == 0;
}

static bool starts_with(struct sentinel_text t, const char *word)
{
    size_t n = strlen(word);

    return t.len >= n && memcmp(t.data, word, n) == 0;
}

bool sentinel_read_addr(const struct sentinel_text *host, const struct sentinel_text *port,
                        struct addr *out)
{
    char text[ADDR_TEXT_MAX];
    int64_t number;
    int n;

    /* A path is never told, and would be read as one. */
    if (host->len == 0 || host->len > ADDR_HOST_MAX || host->data[0] == '/' ||
        !resp_parse_int(port->data, port->len, &number) || number < 1 || number > UINT16_MAX)
        return false;
    n = snprintf(text, sizeof(text), "%.*s:%d", (int)host->len, host->data, (int)number);
    return n > 0 && (size_t)n < sizeof(text) && (size_t)n > host->len &&
           addr_parse(text, (size_t)n, out);
}

static void copy_name(char out[SENTINEL_NAME_MAX + 1], struct sentinel_text t)
{
    size_t n = MIN(t.len, (size_t)SENTINEL_NAME_MAX);

    memcpy(out, t.data, n);
    out[n] = '\0';
}

static uint64_t number_of(struct sentinel_text t)
{
    int64_t v;

    return resp_parse_int(t.data, t.len, &v) && v > 0 ? (uint64_t)v : 0;
}

/* "s_down,slave,disconnected" */
static bool has_flag(struct sentinel_text flags, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = flags.data, *end = p + flags.len; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end;

        if ((size_t)(stop - p) == n && memcmp(p, word, n) == 0)
            return true;
        p = stop + 1;
    }
    return false;
}

bool sentinel_read_instance(const struct sentinel_text *fields, size_t count,
                            struct sentinel_instance *out)
{
    struct sentinel_text host = {"", 0}, port = {"", 0};

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i + 1 < count; i += 2) {
        struct sentinel_text value = fields[i + 1];

        if (is(fields[i], "ip"))
            host = value;
        else if (is(fields[i], "port"))
            port = value;
        else if (is(fields[i], "name"))
            copy_name(out->name, value);
        else if (is(fields[i], "config-epoch"))
            out->config_epoch = number_of(value);
        else if (is(fields[i], "failover-timeout"))
            out->failover_timeout_ms = number_of(value);
        else if (is(fields[i], "flags"))
            out->down = has_flag(value, "s_down") || has_flag(value, "o_down") ||
                        has_flag(value, "disconnected");
    }
    return sentinel_read_addr(&host, &port, &out->addr);
}

/* --- events --- */

static const char *const news[] = {
    "+reset-master",
    "+monitor",
    "-monitor",
    "+failover-end",
    "+promoted-slave",
    "+sentinel",
    "+slave",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+config-update-from",
    "+role-change",
    "-role-change",
    "+convert-to-slave",
    "+set",
    "+failover-end-for-timeout",
};

static enum sentinel_event_kind kind_of(struct sentinel_text channel)
{
    if (is(channel, "+selected-slave"))
        return SENTINEL_EVENT_SELECTED;
    if (is(channel, "+switch-master"))
        return SENTINEL_EVENT_SWITCHED;
    if (starts_with(channel, "-failover-abort-"))
        return SENTINEL_EVENT_ABORTED;
    for (size_t i = 0; i < ARRAY_LEN(news); i++)
        if (is(channel, news[i]))
            return SENTINEL_EVENT_NEWS;
    return SENTINEL_EVENT_OTHER;
}

static size_t split(struct sentinel_text line, struct sentinel_text words[WORDS_MAX])
{
    const char *p = line.data, *end = p + line.len;
    size_t n = 0;

    while (p < end && n < WORDS_MAX) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        const char *stop = space != NULL ? space : end;

        if (stop > p)
            words[n++] = (struct sentinel_text){p, (size_t)(stop - p)};
        p = stop + 1;
    }
    return n;
}

/* "slave NAME IP PORT @ MASTER IP PORT", or "master NAME IP PORT ..." */
static bool read_subject(struct sentinel_event *e, const struct sentinel_text *w, size_t n)
{
    if (n >= 4 && is(w[0], "master")) {
        copy_name(e->master, w[1]);
        return sentinel_read_addr(&w[2], &w[3], &e->from);
    }
    if (n < 8 || !is(w[4], "@"))
        return false;
    copy_name(e->master, w[5]);
    return sentinel_read_addr(&w[2], &w[3], &e->to) && sentinel_read_addr(&w[6], &w[7], &e->from);
}

bool sentinel_read_event(struct sentinel_text channel, struct sentinel_text message,
                         struct sentinel_event *out)
{
    struct sentinel_text words[WORDS_MAX];
    size_t n = split(message, words);

    memset(out, 0, sizeof(*out));
    out->kind = kind_of(channel);
    if (out->kind == SENTINEL_EVENT_SWITCHED) {
        if (n < 5)
            return false;
        copy_name(out->master, words[0]);
        return sentinel_read_addr(&words[1], &words[2], &out->from) &&
               sentinel_read_addr(&words[3], &words[4], &out->to);
    }
    if (!read_subject(out, words, n))
        return false;
    return out->kind != SENTINEL_EVENT_SELECTED || out->to.port != 0;
}
