#include "session/info_merge.h"

#include <stdarg.h>
#include <strings.h>

#include "base/alloc.h"
#include "session/info_rule.h"

struct field {
    char *name, *value;
    unsigned server; /* the last one that had it */
};

struct section {
    char *name;
    struct field *fields;
    size_t count, cap;
    size_t next; /* where the next field of the text being added is expected */
};

struct info_text {
    struct section *sections;
    size_t count, cap;
    size_t next;      /* where the next section of the text being added is expected */
    unsigned servers; /* texts added */
};

struct info_text *info_text_new(void)
{
    return xcalloc(1, sizeof(struct info_text));
}

void info_text_free(struct info_text **p)
{
    struct info_text *t = *p;

    *p = NULL;
    for (size_t i = 0; i < t->count; i++) {
        struct section *s = &t->sections[i];

        for (size_t j = 0; j < s->count; j++) {
            free(s->fields[j].name);
            free(s->fields[j].value);
        }
        free(s->fields);
        free(s->name);
    }
    free(t->sections);
    free(t);
}

/* --- sections and fields --- */

/* The words of a text that is being read; not terminated. */
struct word {
    const char *p;
    size_t n;
};

static bool word_is(struct word w, const char *text)
{
    return strncasecmp(w.p, text, w.n) == 0 && text[w.n] == '\0';
}

/* Names of fields differ by case: a script's own errors are counted by their first word. */
static bool word_same(struct word w, const char *text)
{
    return strncmp(w.p, text, w.n) == 0 && text[w.n] == '\0';
}

static struct word word_of(const char *text)
{
    return (struct word){text, strlen(text)};
}

static struct section *find_section(const struct info_text *t, struct word name)
{
    for (size_t i = 0; i < t->count; i++)
        if (word_is(name, t->sections[i].name))
            return &t->sections[i];
    return NULL;
}

static struct section *insert_section(struct info_text *t, size_t at, struct word name)
{
    struct section *s;

    if (t->count == t->cap) {
        t->cap = MAX(16u, t->cap * 2);
        t->sections = xrealloc(t->sections, t->cap * sizeof(*t->sections));
    }
    s = &t->sections[at];
    memmove(s + 1, s, (t->count - at) * sizeof(*s));
    t->count++;
    *s = (struct section){.name = xstrndup(name.p, name.n)};
    return s;
}

/* The section of a text being added. Servers show them in one order, so a new one belongs behind
 * the one before it. */
static struct section *enter_section(struct info_text *t, struct word name)
{
    struct section *s = find_section(t, name);

    if (s == NULL)
        s = insert_section(t, t->next, name);
    t->next = (size_t)(s - t->sections) + 1;
    s->next = 0;
    return s;
}

/* Looks from s->next on, where the field is when the servers agree, and round. Of a name that a
 * server repeats ("module:...") each place is found once. */
static struct field *find_field(const struct section *s, struct word name, unsigned server)
{
    for (size_t i = 0; i < s->count; i++) {
        struct field *f = &s->fields[(s->next + i) % s->count];

        if (f->server != server && word_same(name, f->name))
            return f;
    }
    return NULL;
}

static struct field *insert_field(struct section *s, size_t at, struct word name, char *value)
{
    struct field *f;

    if (s->count == s->cap) {
        s->cap = MAX(16u, s->cap * 2);
        s->fields = xrealloc(s->fields, s->cap * sizeof(*s->fields));
    }
    f = &s->fields[at];
    memmove(f + 1, f, (s->count - at) * sizeof(*f));
    s->count++;
    *f = (struct field){.name = xstrndup(name.p, name.n), .value = value};
    return f;
}

static void add_field(struct section *s, struct word name, struct word value, unsigned server)
{
    char *text = xstrndup(value.p, value.n);
    struct field *f;

    if (info_rule_drops(s->name, name.p, name.n)) {
        free(text);
        return;
    }
    f = find_field(s, name, server);
    if (f == NULL) {
        f = insert_field(s, s->next, name, text);
    } else {
        char *merged = info_rule_merge(s->name, f->name, f->value, text);

        free(f->value);
        free(text);
        f->value = merged;
    }
    f->server = server;
    s->next = (size_t)(f - s->fields) + 1;
}

/* One line without its end, at most `end`; *p moves behind it. */
static struct word next_line(const char **p, const char *end)
{
    struct word w = {*p, 0};
    const char *nl = memchr(*p, '\n', (size_t)(end - *p));

    *p = nl != NULL ? nl + 1 : end;
    w.n = (size_t)((nl != NULL ? nl : end) - w.p);
    if (w.n > 0 && w.p[w.n - 1] == '\r')
        w.n--;
    return w;
}

void info_text_add(struct info_text *t, const char *text, size_t n)
{
    const char *end = text + n;
    struct section *s = NULL;

    t->servers++;
    t->next = 0;
    while (text < end) {
        struct word line = next_line(&text, end);
        const char *colon;

        if (line.n > 2 && line.p[0] == '#') {
            s = enter_section(t, (struct word){line.p + 2, line.n - 2});
            continue;
        }
        colon = memchr(line.p, ':', line.n);
        if (s == NULL || colon == NULL)
            continue;
        add_field(s, (struct word){line.p, (size_t)(colon - line.p)},
                  (struct word){colon + 1, line.n - (size_t)(colon + 1 - line.p)}, t->servers);
    }
}

/* --- single fields --- */

static struct field *get_field(const struct info_text *t, const char *section, const char *field)
{
    struct section *s = find_section(t, word_of(section));

    return s != NULL ? find_field(s, word_of(field), UINT32_MAX) : NULL;
}

const char *info_text_get(const struct info_text *t, const char *section, const char *field)
{
    const struct field *f = get_field(t, section, field);

    return f != NULL ? f->value : NULL;
}

static void set_value(struct info_text *t, const char *section, const char *field, char *value)
{
    struct field *f = get_field(t, section, field);
    struct section *s;

    if (f != NULL) {
        free(f->value);
        f->value = value;
        return;
    }
    s = find_section(t, word_of(section));
    if (s == NULL)
        s = insert_section(t, t->count, word_of(section));
    insert_field(s, s->count, word_of(field), value);
}

void info_text_set(struct info_text *t, const char *section, const char *field, const char *fmt,
                   ...)
{
    char *value;
    va_list ap;

    va_start(ap, fmt);
    value = xvasprintf(fmt, ap);
    va_end(ap);
    set_value(t, section, field, value);
}

/* --- what follows from other fields --- */

/* value = part / (whole - base), of the section's fields. */
struct ratio {
    const char *section, *field, *part, *whole, *base;
    bool percent;
};

static const struct ratio ratios[] = {
    {"Memory", "used_memory_peak_perc", "used_memory", "used_memory_peak", NULL, true},
    {"Memory", "used_memory_dataset_perc", "used_memory_dataset", "used_memory",
     "used_memory_startup", true},
    {"Memory", "allocator_frag_ratio", "allocator_active", "allocator_allocated", NULL, false},
    {"Memory", "allocator_rss_ratio", "allocator_resident", "allocator_active", NULL, false},
    {"Memory", "rss_overhead_ratio", "used_memory_rss", "allocator_resident", NULL, false},
    {"Memory", "mem_fragmentation_ratio", "used_memory_rss", "used_memory", NULL, false},
    {"Persistence", "loading_loaded_perc", "loading_loaded_bytes", "loading_total_bytes", NULL,
     false},
};

/* False when it is missing or no number. */
static bool number(const struct info_text *t, const char *section, const char *field, double *out)
{
    const char *value = info_text_get(t, section, field);
    char *end;

    if (value == NULL)
        return false;
    *out = strtod(value, &end);
    return end != value && *end == '\0';
}

static void derive_ratio(struct info_text *t, const struct ratio *r)
{
    double part, whole, base = 0;

    if (info_text_get(t, r->section, r->field) == NULL || !number(t, r->section, r->part, &part) ||
        !number(t, r->section, r->whole, &whole))
        return;
    if ((r->base != NULL && !number(t, r->section, r->base, &base)) || whole - base <= 0)
        return;
    part /= whole - base;
    if (strcmp(r->section, "Persistence") == 0)
        info_text_set(t, r->section, r->field, "%.2f", part * 100);
    else
        info_text_set(t, r->section, r->field, r->percent ? "%.2f%%" : "%.2f",
                      r->percent ? part * 100 : part);
}

static char *human(double bytes)
{
    static const char units[] = "BKMGTP";
    size_t u = 0;

    while (bytes >= 1024 && u < sizeof(units) - 2) {
        bytes /= 1024;
        u++;
    }
    return u == 0 ? xasprintf("%.0fB", bytes) : xasprintf("%.2f%c", bytes, units[u]);
}

static void derive_human(struct info_text *t, struct section *s)
{
    static const char suffix[] = "_human";

    for (size_t i = 0; i < s->count; i++) {
        struct field *f = &s->fields[i];
        size_t n = strlen(f->name), m = sizeof(suffix) - 1;
        char base[128];
        double bytes;

        if (n <= m || n - m >= sizeof(base) || strcmp(f->name + n - m, suffix) != 0)
            continue;
        memcpy(base, f->name, n - m);
        base[n - m] = '\0';
        if (!number(t, s->name, base, &bytes))
            continue;
        free(f->value);
        f->value = human(bytes);
    }
}

void info_text_derive(struct info_text *t)
{
    if (t->servers < 2)
        return; /* the server's own figures are the better ones */
    for (size_t i = 0; i < ARRAY_LEN(ratios); i++)
        derive_ratio(t, &ratios[i]);
    for (size_t i = 0; i < t->count; i++)
        derive_human(t, &t->sections[i]);
}

/* --- the whole text --- */

char *info_text_write(const struct info_text *t, size_t *len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);

    CHECK(f != NULL);
    for (size_t i = 0; i < t->count; i++) {
        const struct section *s = &t->sections[i];

        fprintf(f, "%s# %s\r\n", i > 0 ? "\r\n" : "", s->name);
        for (size_t j = 0; j < s->count; j++)
            fprintf(f, "%s:%s\r\n", s->fields[j].name, s->fields[j].value);
    }
    CHECK(fclose(f) == 0);
    return text;
}
