#include "resp/number.h"

bool resp_parse_int(const char *p, size_t n, int64_t *out)
{
    bool negative = false;
    uint64_t v = 0, limit = INT64_MAX;
    size_t i = 0;

    if (n == 0 || n > 20)
        return false;
    if (n == 1 && p[0] == '0') {
        *out = 0;
        return true;
    }
    if (p[0] == '-') {
        negative = true;
        limit = (uint64_t)INT64_MAX + 1;
        i = 1;
    }
    if (i == n || p[i] < '1' || p[i] > '9')
        return false;
    for (; i < n; i++) {
        uint64_t digit = (uint64_t)(unsigned char)p[i] - '0';

        if (digit > 9 || v > (limit - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

size_t resp_format_int(char *out, int64_t v)
{
    char digits[20];
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = 0, len = 0;

    do {
        digits[n++] = (char)('0' + u % 10);
        u /= 10;
    } while (u > 0);
    if (v < 0)
        out[len++] = '-';
    while (n > 0)
        out[len++] = digits[--n];
    return len;
}
