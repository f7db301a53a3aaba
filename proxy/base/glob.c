#include "base/glob.h"

/* A set, *p behind its "[". A set that is not closed ends with the pattern. In "[a-]" the "]" is
 * the end of a range, and a range may run backwards. */
static bool set_has(const char **p, const char *end, char c)
{
    const char *at = *p;
    bool negated = at < end && *at == '^', found = false;

    if (negated)
        at++;
    while (at < end && *at != ']') {
        if (*at == '\\' && end - at >= 2) {
            found |= at[1] == c;
            at += 2;
        } else if (end - at >= 3 && at[1] == '-') {
            char low = MIN(at[0], at[2]), high = MAX(at[0], at[2]);

            found |= c >= low && c <= high;
            at += 3;
        } else {
            found |= *at == c;
            at++;
        }
    }
    *p = at < end ? at + 1 : end;
    return found != negated;
}

/* One element that stands for one byte (anything but "*"); *p moves behind it. */
static bool element_is(const char **p, const char *end, char c)
{
    char first = *(*p)++;

    switch (first) {
    case '?':
        return true;
    case '[':
        return set_has(p, end, c);
    case '\\':
        if (*p < end)
            first = *(*p)++;
        return first == c;
    default:
        return first == c;
    }
}

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len)
{
    const char *p = pattern, *p_end = pattern + pattern_len;
    const char *t = text, *t_end = text + text_len;
    const char *star = NULL, *star_text = NULL;

    if (text_len == 0)
        return pattern_len == 0; /* not even "*": so the server has it */
    /* Every element takes one byte, so only the last "*" is ever worth another try. */
    while (t < t_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            star_text = t;
        } else if (p < p_end && element_is(&p, p_end, *t)) {
            t++;
        } else if (star != NULL) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}
