#include "base/crc16.h"

/* table[k][b] is the CRC of byte b followed by k zero bytes, so that eight bytes take eight
 * independent look-ups instead of a chain of them. CRC is linear: an entry is the exclusive or of
 * those of its single bits, and the eight per row below are all that has to be written down. */
#define BITS(n, b0, b1, b2, b3, b4, b5, b6, b7)                                                    \
    (((n)&1 ? (b0) : 0) ^ ((n)&2 ? (b1) : 0) ^ ((n)&4 ? (b2) : 0) ^ ((n)&8 ? (b3) : 0) ^           \
     ((n)&16 ? (b4) : 0) ^ ((n)&32 ? (b5) : 0) ^ ((n)&64 ? (b6) : 0) ^ ((n)&128 ? (b7) : 0))
#define X4(n, ...)                                                                                 \
    BITS(n, __VA_ARGS__), BITS((n) + 1, __VA_ARGS__), BITS((n) + 2, __VA_ARGS__),                  \
        BITS((n) + 3, __VA_ARGS__)
#define X16(n, ...)                                                                                \
    X4(n, __VA_ARGS__), X4((n) + 4, __VA_ARGS__), X4((n) + 8, __VA_ARGS__),                        \
        X4((n) + 12, __VA_ARGS__)
#define X64(n, ...)                                                                                \
    X16(n, __VA_ARGS__), X16((n) + 16, __VA_ARGS__), X16((n) + 32, __VA_ARGS__),                   \
        X16((n) + 48, __VA_ARGS__)
#define ROW(...)                                                                                   \
    {                                                                                              \
        X64(0, __VA_ARGS__), X64(64, __VA_ARGS__), X64(128, __VA_ARGS__), X64(192, __VA_ARGS__)    \
    }

static const uint16_t table[8][256] = {
    ROW(0x1021, 0x2042, 0x4084, 0x8108, 0x1231, 0x2462, 0x48c4, 0x9188),
    ROW(0x3331, 0x6662, 0xccc4, 0x89a9, 0x0373, 0x06e6, 0x0dcc, 0x1b98),
    ROW(0x3730, 0x6e60, 0xdcc0, 0xa9a1, 0x4363, 0x86c6, 0x1dad, 0x3b5a),
    ROW(0x76b4, 0xed68, 0xcaf1, 0x85c3, 0x1ba7, 0x374e, 0x6e9c, 0xdd38),
    ROW(0xaa51, 0x4483, 0x8906, 0x022d, 0x045a, 0x08b4, 0x1168, 0x22d0),
    ROW(0x45a0, 0x8b40, 0x06a1, 0x0d42, 0x1a84, 0x3508, 0x6a10, 0xd420),
    ROW(0xb861, 0x60e3, 0xc1c6, 0x93ad, 0x377b, 0x6ef6, 0xddec, 0xabf9),
    ROW(0x47d3, 0x8fa6, 0x0f6d, 0x1eda, 0x3db4, 0x7b68, 0xf6d0, 0xfd81),
};

static inline uint32_t crc_of(const unsigned char *p, size_t len)
{
    uint32_t crc = 0;

    for (; len >= 8; p += 8, len -= 8)
        crc = table[7][p[0] ^ crc >> 8] ^ table[6][p[1] ^ (crc & 0xff)] ^ table[5][p[2]] ^
              table[4][p[3]] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    if (len >= 4) {
        crc = table[3][p[0] ^ crc >> 8] ^ table[2][p[1] ^ (crc & 0xff)] ^ table[1][p[2]] ^
              table[0][p[3]];
        p += 4;
        len -= 4;
    }
    if (len >= 2) {
        crc = table[1][p[0] ^ crc >> 8] ^ table[0][p[1] ^ (crc & 0xff)];
        p += 2;
        len -= 2;
    }
    if (len > 0)
        crc = (crc << 8 & 0xff00) ^ table[0][*p ^ crc >> 8];
    return crc;
}

static inline bool word_has_brace(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;

    word ^= ones * '{'; /* a byte that was '{' is now zero */
    return ((word - ones) & ~word & high) != 0;
}

/* Most keys have no '{' and are short: words, the last of which may overlap the one before it,
 * find that out faster than a call of memchr. */
static inline bool has_brace(const unsigned char *p, size_t len)
{
    uint64_t word;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            memcpy(&word, p + i, 8);
            if (word_has_brace(word))
                return true;
        }
        memcpy(&word, p + len - 8, 8);
        return word_has_brace(word);
    }
    if (len >= 4) {
        uint32_t first, last;

        memcpy(&first, p, 4);
        memcpy(&last, p + len - 4, 4);
        return word_has_brace((uint64_t)last << 32 | first);
    }
    for (size_t i = 0; i < len; i++)
        if (p[i] == '{')
            return true;
    return false;
}

uint16_t crc16(const char *data, size_t len)
{
    return (uint16_t)crc_of((const unsigned char *)data, len);
}

uint16_t key_slot(const char *key, size_t len)
{
    const unsigned char *p = (const unsigned char *)key;

    if (UNLIKELY(has_brace(p, len))) {
        const unsigned char *tag = (const unsigned char *)memchr(p, '{', len) + 1;
        const unsigned char *close = memchr(tag, '}', len - (size_t)(tag - p));

        if (close != NULL && close > tag) {
            p = tag;
            len = (size_t)(close - tag);
        }
    }
    return (uint16_t)(crc_of(p, len) & 16383);
}
