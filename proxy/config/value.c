/* Values of settings: from text, to text, and what is expected of them. */
#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"
#include "config/setting.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* The first name of a factor is the one that is printed; k, m and g are binary as in Redis. */
static const struct unit size_units[] = {
    {"GiB", (uint64_t)1 << 30},
    {"MiB", 1 << 20},
    {"KiB", 1 << 10},
    {"gb", (uint64_t)1 << 30},
    {"mb", 1 << 20},
    {"kb", 1 << 10},
    {"g", 1 << 30},
    {"m", 1 << 20},
    {"k", 1 << 10},
    {"b", 1},
};
static const struct unit time_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

static const char *const bool_words[] = {"false", "true", NULL};

/* Digits, then the rest in *unit. */
static bool parse_digits(const char *text, uint64_t *out, const char **unit)
{
    uint64_t v = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');

        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    *unit = p;
    return p > text;
}

static bool scale(const struct unit *units, size_t count, const char *name, uint64_t *v)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(units[i].name, name) == 0)
            return !__builtin_mul_overflow(*v, units[i].factor, v);
    return false;
}

/* False when the text has not the form of the setting's type; bounds are looked at later. */
static bool parse_number(const struct setting *s, const char *text, uint64_t *out)
{
    const char *unit;

    if (!parse_digits(text, out, &unit))
        return false;
    if (s->type == SETTING_COUNT)
        return *unit == '\0';
    while (*unit == ' ')
        unit++;
    if (s->type == SETTING_SIZE)
        return *unit == '\0' || scale(size_units, ARRAY_LEN(size_units), unit, out);
    /* A bare number would be read as seconds by one and as milliseconds by another. */
    if (*unit == '\0')
        return *out == 0;
    if (!scale(time_units, ARRAY_LEN(time_units), unit, out))
        return false;
    if (s->type == SETTING_TIME_S) {
        if (*out % 1000 != 0)
            return false;
        *out /= 1000;
    }
    return true;
}

static const char *const *words_of(const struct setting *s)
{
    return s->type == SETTING_BOOL ? bool_words : s->words;
}

static bool parse_word(const struct setting *s, const char *text, uint64_t *out)
{
    const char *const *words = words_of(s);

    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static const char *format_unit(const struct unit *units, size_t count, uint64_t v,
                               char out[SETTING_VALUE_MAX])
{
    for (size_t i = 0; i < count; i++) {
        if (v != 0 && v % units[i].factor == 0) {
            snprintf(out, SETTING_VALUE_MAX, "%llu%s", (unsigned long long)(v / units[i].factor),
                     units[i].name);
            return out;
        }
    }
    snprintf(out, SETTING_VALUE_MAX, "%llu", (unsigned long long)v);
    return out;
}

const char *setting_format(const struct setting *s, uint64_t value, char out[SETTING_VALUE_MAX])
{
    switch (s->type) {
    case SETTING_SIZE:
        return format_unit(size_units, 3, value, out);
    case SETTING_TIME_MS:
        return format_unit(time_units, ARRAY_LEN(time_units), value, out);
    case SETTING_TIME_S:
        return format_unit(time_units, ARRAY_LEN(time_units), value * 1000, out);
    case SETTING_BOOL:
    case SETTING_CHOICE:
        snprintf(out, SETTING_VALUE_MAX, "%s", words_of(s)[value]);
        return out;
    default:
        snprintf(out, SETTING_VALUE_MAX, "%llu", (unsigned long long)value);
        return out;
    }
}

const char *setting_expected(const struct setting *s, char *out, size_t size)
{
    char min[SETTING_VALUE_MAX], max[SETTING_VALUE_MAX];
    int n;

    switch (s->type) {
    case SETTING_BOOL:
    case SETTING_CHOICE:
        n = snprintf(out, size, "one of %s", words_of(s)[0]);
        for (size_t i = 1; words_of(s)[i] != NULL && n > 0 && (size_t)n < size; i++)
            n += snprintf(out + n, size - (size_t)n, ", %s", words_of(s)[i]);
        break;
    case SETTING_TEXT:
        snprintf(out, size, "text of at most %llu bytes", (unsigned long long)s->max);
        break;
    case SETTING_PASSWORD_FILE:
        snprintf(out, size, "the name of a file");
        break;
    case SETTING_ADDR:
        snprintf(out, size, "HOST:PORT or the path of a socket");
        break;
    case SETTING_HOST_PORT:
        snprintf(out, size, "HOST:PORT, or nothing");
        break;
    case SETTING_SERVER:
        snprintf(out, size, "HOST:PORT or the path of a socket");
        break;
    case SETTING_NAMES:
        if (s->max == 1)
            snprintf(out, size, "a name");
        else
            snprintf(out, size, "a list of 1 to %llu names", (unsigned long long)s->max);
        break;
    case SETTING_ADDRESS_MAP:
        snprintf(out, size, "at most %llu times HOST:PORT: HOST:PORT or 'HOST:*': 'HOST:*'",
                 (unsigned long long)s->max);
        break;
    case SETTING_SEEDS:
        snprintf(out, size, "a list of 1 to %llu times HOST:PORT", (unsigned long long)s->max);
        break;
    default:
        snprintf(out, size, "%s to %s", setting_format(s, s->min, min),
                 setting_format(s, s->max, max));
        break;
    }
    return out;
}

static const char *form_name(const struct setting *s)
{
    switch (s->type) {
    case SETTING_COUNT:
        return "a whole number";
    case SETTING_SIZE:
        return "a size (bytes, KiB, MiB or GiB)";
    case SETTING_TIME_MS:
        return "a time (with ms, s, m or h)";
    case SETTING_TIME_S:
        return "a time in whole seconds (with s, m or h)";
    case SETTING_BOOL:
    case SETTING_CHOICE:
        return "known";
    case SETTING_SEEDS:
    case SETTING_NAMES:
    case SETTING_ADDRESS_MAP:
        return "a list";
    default:
        return "an address";
    }
}

static bool refuse(const struct setting *s, const char *text, const char *what, char *err,
                   size_t errlen)
{
    char expected[256];

    snprintf(err, errlen, "'%.80s' is %s; expected %s", text, what,
             setting_expected(s, expected, sizeof(expected)));
    return false;
}

static bool refuse_form(const struct setting *s, const char *text, char *err, size_t errlen)
{
    char what[80];

    snprintf(what, sizeof(what), "not %s", form_name(s));
    return refuse(s, text, what, err, errlen);
}

static void put_number(const struct setting *s, void *base, uint64_t v)
{
    char *field = (char *)base + s->offset;

    if (s->type == SETTING_SIZE)
        *(uint64_t *)(void *)field = v;
    else if (s->type == SETTING_BOOL)
        *(bool *)field = v != 0;
    else
        *(uint32_t *)(void *)field = (uint32_t)v;
}

static void put_text(const struct setting *s, void *base, const char *text)
{
    char **field = (char **)(void *)((char *)base + s->offset);

    free(*field);
    *field = text[0] != '\0' ? xstrdup(text) : NULL;
}

uint64_t setting_get(const struct setting *s, const void *base)
{
    const char *field = (const char *)base + s->offset;

    _Static_assert(sizeof(enum log_level) == 4 && sizeof(enum config_pretend) == 4 &&
                       sizeof(enum config_auth) == 4,
                   "a choice is read as 32 bits");
    if (s->type == SETTING_SIZE)
        return *(const uint64_t *)(const void *)field;
    if (s->type == SETTING_BOOL)
        return *(const bool *)field;
    return *(const uint32_t *)(const void *)field;
}

void setting_set_default(const struct setting *s, void *base)
{
    if (s->type <= SETTING_CHOICE)
        put_number(s, base, s->def);
}

static bool read_password(const struct setting *s, void *base, const char *path, char *err,
                          size_t errlen)
{
    char line[4098] = "";
    size_t n = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        snprintf(err, errlen, "'%.200s' cannot be read: %s", path, strerror(errno));
        return false;
    }
    while (n < sizeof(line) - 1 && (got = read(fd, line + n, sizeof(line) - 1 - n)) > 0)
        n += (size_t)got;
    close(fd);
    line[n] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0' || strlen(line) > s->max) {
        snprintf(err, errlen,
                 "'%.200s' has no password in its first line; expected 1 to %llu bytes", path,
                 (unsigned long long)s->max);
        explicit_bzero(line, sizeof(line));
        return false;
    }
    put_text(s, base, line);
    explicit_bzero(line, sizeof(line));
    return true;
}

static bool set_number(const struct setting *s, void *base, const char *text, char *err,
                       size_t errlen)
{
    uint64_t v;

    if (!parse_number(s, text, &v))
        return refuse_form(s, text, err, errlen);
    if (v < s->min)
        return refuse(s, text, "too small", err, errlen);
    if (v > s->max)
        return refuse(s, text, "too large", err, errlen);
    put_number(s, base, v);
    return true;
}

static bool put_host_port(const struct setting *s, void *base, const char *text)
{
    struct addr *field = (struct addr *)(void *)((char *)base + s->offset);

    if (text[0] == '\0') {
        *field = (struct addr){.port = 0};
        return true;
    }
    return addr_parse(text, strlen(text), field) && field->port != 0;
}

bool setting_set(const struct setting *s, void *base, const char *text, char *err, size_t errlen)
{
    uint64_t v;

    switch (s->type) {
    case SETTING_BOOL:
    case SETTING_CHOICE:
        if (!parse_word(s, text, &v))
            return refuse_form(s, text, err, errlen);
        put_number(s, base, v);
        return true;
    case SETTING_TEXT:
        if (strlen(text) > s->max)
            return refuse(s, text, "too long", err, errlen);
        put_text(s, base, text);
        return true;
    case SETTING_PASSWORD_FILE:
        return text[0] == '\0' || read_password(s, base, text, err, errlen);
    case SETTING_ADDR:
        return addr_parse(text, strlen(text), (struct addr *)(void *)((char *)base + s->offset)) ||
               refuse_form(s, text, err, errlen);
    case SETTING_HOST_PORT:
        return put_host_port(s, base, text) || refuse_form(s, text, err, errlen);
    case SETTING_SEEDS:
    case SETTING_SERVER:
    case SETTING_NAMES:
    case SETTING_ADDRESS_MAP:
        return refuse_form(s, text, err, errlen);
    default:
        return set_number(s, base, text, err, errlen);
    }
}
