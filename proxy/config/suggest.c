/*
 * suggest.c - the name that a mistyped one may have meant.
 */
#include "config/setting.h"

#define WORD_MAX 40

/* Letters to insert, remove or replace to get from a to b; words are shorter than WORD_MAX. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], la = strlen(a), lb = strlen(b);

    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = MIN(replace, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[lb];
}

static bool is_near(const char *word, const char *name)
{
    size_t len = strlen(word), allowed = MAX(len / 3, (size_t)1);

    if (len == 0 || len >= WORD_MAX || strlen(name) >= WORD_MAX)
        return false;
    return distance(word, name) <= allowed || (len >= 3 && strstr(name, word) != NULL) ||
           (strlen(name) >= 3 && strstr(word, name) != NULL);
}

const char *setting_suggest(const char *word, const char *const *names, size_t count, char *out,
                            size_t size)
{
    size_t near = 0;
    int n = 0;

    for (size_t i = 0; i < count; i++)
        near += is_near(word, names[i]);
    n = snprintf(out, size, near > 0 ? "did you mean " : "expected one of ");
    for (size_t i = 0, written = 0; i < count && n > 0 && (size_t)n < size; i++) {
        if (near > 0 && !is_near(word, names[i]))
            continue;
        n += snprintf(out + n, size - (size_t)n, "%s%s",
                      written == 0 ? "" : (near > 0 ? " or " : ", "), names[i]);
        written++;
    }
    if (near > 0 && n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, "?");
    return out;
}
