#include "session/scan_cursor.h"

#define CURSOR_BITS 53
#define SLOT_SHIFT 39
#define MARK_SHIFT 30
#define MARK_BITS 9
#define INNER_BITS 30

/* strtoul's idea of a number, but for leading spaces, which the server refuses before. */
static bool parse_number(const char *p, size_t n, uint64_t *out)
{
    const char *nul = memchr(p, '\0', n), *end = nul != NULL ? nul : p + n;
    bool negative = p < end && *p == '-';
    uint64_t v = 0;

    *out = 0;
    if (p == end)
        return true;
    if (negative || *p == '+')
        p++;
    if (p == end)
        return false;
    for (; p < end; p++) {
        uint64_t digit = (uint64_t)(unsigned char)*p - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = negative ? 0 - v : v;
    return true;
}

bool scan_cursor_parse(const char *p, size_t n, struct scan_cursor *out)
{
    uint64_t v, inner;

    if (!parse_number(p, n, &v) || v >> CURSOR_BITS != 0)
        return false;
    inner = v & ((UINT64_C(1) << INNER_BITS) - 1);
    *out = (struct scan_cursor){
        .slot = (uint16_t)(v >> SLOT_SHIFT),
        .mark = (uint16_t)(v >> MARK_SHIFT & ((1u << MARK_BITS) - 1)),
        .inner = inner >> 1,
        .narrow = inner > 1 && (inner & 1) != 0,
    };
    return true;
}

uint64_t scan_cursor_encode(const struct scan_cursor *c)
{
    CHECK(c->inner <= SCAN_INNER_MAX && c->mark > 0 && c->mark >> MARK_BITS == 0);
    return (uint64_t)c->slot << SLOT_SHIFT | (uint64_t)c->mark << MARK_SHIFT | c->inner << 1 |
           (c->inner != 0 && c->narrow);
}

uint64_t scan_hash(uint64_t hash, const void *p, size_t n)
{
    const unsigned char *b = p;

    hash ^= UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ b[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint16_t scan_fingerprint(uint64_t process, uint64_t epoch, uint16_t end)
{
    unsigned char bytes[18];
    uint64_t h;

    /* Byte by byte: proxies on machines of either byte order agree. */
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(process >> 8 * i);
        bytes[8 + i] = (unsigned char)(epoch >> 8 * i);
    }
    bytes[16] = (unsigned char)end;
    bytes[17] = (unsigned char)(end >> 8);
    h = scan_hash(0, bytes, sizeof(bytes));
    h ^= h >> 32;
    return (uint16_t)(1 + h % ((1u << MARK_BITS) - 1));
}
