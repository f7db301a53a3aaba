#include "session/error.h"

#include <CUnit/Basic.h>

/* Every text begins with a code in capitals, as clients tell errors apart, and is one line. */
static void test_texts(void)
{
    for (int i = 0; i < ERROR_COUNT; i++) {
        const char *text = error_text((enum error_id)i), *space;

        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        space = strchr(text, ' ');
        CU_ASSERT_PTR_NOT_NULL_FATAL(space);
        CU_ASSERT(space > text);
        for (const char *p = text; p < space; p++)
            CU_ASSERT(*p >= 'A' && *p <= 'Z');
        CU_ASSERT_PTR_NULL(strpbrk(text, "\r\n"));
        CU_ASSERT(strlen(text) < 500);
    }
}

static void test_write(void)
{
    struct chain c;
    static const char line[] = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";

    chain_init(&c);
    error_write(&c, ERROR_CROSSSLOT);
    CU_ASSERT_EQUAL_FATAL(c.bytes, sizeof(line) - 1);
    CU_ASSERT_EQUAL(memcmp(c.head->block->data + c.head->off, line, c.bytes), 0);
    chain_clear(&c);
}

void suite_error(void)
{
    CU_pSuite s = CU_add_suite("error", NULL, NULL);

    CU_add_test(s, "texts", test_texts);
    CU_add_test(s, "write", test_write);
}
