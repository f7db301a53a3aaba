/*
 * main.c - the main program of every unit test binary: registers the suites that the build listed,
 * runs them, and fails when anything failed, was not registered, or did not run.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <CUnit/Basic.h>

#define SUITE(name) void suite_##name(void);
#include "suites.def"
#undef SUITE

static const struct {
    const char *name;
    void (*add)(void);
} suites[] = {
#define SUITE(name) {#name, suite_##name},
#include "suites.def"
#undef SUITE
};

/* A suite function that adds nothing would look like one that passed. */
static bool add_suites(void)
{
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        CU_pTestRegistry all = CU_get_registry();
        unsigned before_suites = all->uiNumberOfSuites, before_tests = all->uiNumberOfTests;

        suites[i].add();
        if (CU_get_error() != CUE_SUCCESS) {
            fprintf(stderr, "suite_%s: %s\n", suites[i].name, CU_get_error_msg());
            return false;
        }
        if (all->uiNumberOfSuites == before_suites || all->uiNumberOfTests == before_tests) {
            fprintf(stderr, "suite_%s: registered no test\n", suites[i].name);
            return false;
        }
    }
    return true;
}

int main(void)
{
    bool ok;
    unsigned registered;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (CU_initialize_registry() != CUE_SUCCESS) {
        fprintf(stderr, "CUnit: %s\n", CU_get_error_msg());
        return EXIT_FAILURE;
    }
    if (!add_suites())
        return EXIT_FAILURE;
    registered = CU_get_registry()->uiNumberOfTests;
    CU_basic_set_mode(CU_BRM_VERBOSE);
    ok = CU_basic_run_tests() == CUE_SUCCESS;
    if (CU_get_number_of_tests_run() != registered) {
        fprintf(stderr, "%u of %u tests ran\n", CU_get_number_of_tests_run(), registered);
        ok = false;
    }
    ok = ok && registered > 0 && CU_get_number_of_failures() == 0 &&
         CU_get_number_of_suites_failed() == 0;
    CU_cleanup_registry();
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
