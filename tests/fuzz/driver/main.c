/*
 * main.c - runs a fuzz target once over every file of its corpus, for builds without libFuzzer.
 *
 * Each input is copied into memory of just its size, so that AddressSanitizer sees a read beyond
 * the end. Arguments are files or folders.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned files_run;

static bool run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data;
    size_t n;

    if (f == NULL || fstat(fileno(f), &st) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (f != NULL)
            fclose(f);
        return false;
    }
    data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    n = data != NULL ? fread(data, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    if (data == NULL || n != (size_t)st.st_size) {
        fprintf(stderr, "%s: could not be read whole\n", path);
        free(data);
        return false;
    }
    printf("%s (%zu bytes)\n", path, n);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    files_run++;
    return true;
}

static bool run_path(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool ok = true;

    if (dir == NULL)
        return run_file(path);
    while ((entry = readdir(dir)) != NULL) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        ok = run_file(name) && ok;
    }
    closedir(dir);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = true;

    for (int i = 1; i < argc; i++)
        ok = run_path(argv[i]) && ok;
    if (files_run == 0)
        fprintf(stderr, "no input was run\n");
    return ok && files_run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
