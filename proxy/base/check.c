#include "base/check.h"

void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "keyway: %s:%d: invariant broken: %s\n", file, line, what);
    fflush(stderr);
    abort();
}
