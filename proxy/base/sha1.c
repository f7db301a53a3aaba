/* First: its prototypes use parameter names that base/banned.h takes away. */
#include <openssl/evp.h>

#include "base/sha1.h"

void sha1_hex(const void *data, size_t n, char out[SHA1_HEX_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    CHECK(EVP_Digest(data, n, md, &len, EVP_sha1(), NULL) == 1 && len == SHA1_HEX_LEN / 2);
    for (unsigned i = 0; i < len; i++) {
        out[2 * i] = digits[md[i] >> 4];
        out[2 * i + 1] = digits[md[i] & 15];
    }
    out[SHA1_HEX_LEN] = '\0';
}
