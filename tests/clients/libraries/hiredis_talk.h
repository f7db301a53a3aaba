/*
 * hiredis_talk.h - what hiredis.c does its operations with: a connection, commands of words, their
 * replies as text, and the lines that the runner reads. Included once, by hiredis.c.
 */
#ifndef HIREDIS_TALK_H
#define HIREDIS_TALK_H

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *host, *prefix, *later;
static int port;
static redisContext *r;
static char why[512];

static redisContext *dial(void)
{
    struct timeval limit = {20, 0};
    redisContext *c = redisConnectWithTimeout(host, port, limit);

    if (c == NULL || c->err != 0) {
        printf("cannot connect: %s\n", c != NULL ? c->errstr : "no memory");
        exit(1);
    }
    redisSetTimeout(c, limit);
    return c;
}

/* A reply as text: integers :N, bulks and status as they are, nil (nil), errors -..., arrays [a b].
 */
static void show(const redisReply *reply, char *out, size_t size)
{
    size_t at = 0;

    if (reply == NULL) {
        snprintf(out, size, "no reply");
        return;
    }
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        snprintf(out, size, ":%lld", reply->integer);
        break;
    case REDIS_REPLY_NIL:
        snprintf(out, size, "(nil)");
        break;
    case REDIS_REPLY_ERROR:
        snprintf(out, size, "-%s", reply->str);
        break;
    case REDIS_REPLY_ARRAY:
        at += (size_t)snprintf(out, size, "[");
        for (size_t i = 0; i < reply->elements && at < size - 1; i++) {
            if (i > 0)
                at += (size_t)snprintf(out + at, size - at, " ");
            if (at < size)
                show(reply->element[i], out + at, size - at);
            at += strlen(out + at);
        }
        if (at < size)
            snprintf(out + at, size - at, "]");
        break;
    default:
        snprintf(out, size, "%s", reply->str);
    }
}

static bool told_later(const char *name)
{
    size_t len = strlen(name);

    for (const char *p = strstr(later, name); p != NULL; p = strstr(p + 1, name))
        if ((p == later || p[-1] == ',') && (p[len] == ',' || p[len] == '\0'))
            return true;
    return false;
}

static void tell(const char *name, bool good)
{
    for (char *p = why; *p != '\0'; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    if (good)
        printf("ok %s\n", name);
    else
        printf("FAIL %s: %s\n", name, why);
    fflush(stdout);
}

/* One command of words, each @x standing for the key x; its reply shown. */
static redisReply *words(redisContext *c, const char *line)
{
    char copy[1024], keys[16][256];
    const char *argv[16];
    int argc = 0;

    snprintf(copy, sizeof(copy), "%s", line);
    for (char *save, *w = strtok_r(copy, " ", &save); w != NULL && argc < 16;
         w = strtok_r(NULL, " ", &save)) {
        if (w[0] == '@')
            snprintf(keys[argc], sizeof(keys[0]), "%s:%s", prefix, w + 1);
        else if (w[0] == '%')
            snprintf(keys[argc], sizeof(keys[0]), "{%s}:%s", prefix, w + 1);
        else
            snprintf(keys[argc], sizeof(keys[0]), "%s", w);
        argv[argc] = keys[argc];
        argc++;
    }
    return redisCommandArgv(c, argc, argv, NULL);
}

/* Commands and the answers they must get, up to NULL. An answer that ends with ... is a beginning.
 */
static bool dialogue(const char *const *lines)
{
    char got[512];

    for (; *lines != NULL; lines += 2) {
        redisReply *reply = words(r, lines[0]);
        size_t len = strlen(lines[1]);
        bool begins = len >= 3 && strcmp(lines[1] + len - 3, "...") == 0;

        show(reply, got, sizeof(got));
        freeReplyObject(reply);
        if (begins ? strncmp(got, lines[1], len - 3) != 0 : strcmp(got, lines[1]) != 0) {
            snprintf(why, sizeof(why), "%s: expected %s, got %.300s", lines[0], lines[1], got);
            return false;
        }
    }
    return true;
}

static void op(const char *name, bool (*function)(void))
{
    if (told_later(name)) {
        printf("later %s\n", name);
        return;
    }
    why[0] = '\0';
    tell(name, function());
}

#define TALK(name, ...)                                                                            \
    do {                                                                                           \
        static const char *const lines_[] = {__VA_ARGS__, NULL};                                   \
        if (told_later(name))                                                                      \
            printf("later %s\n", name);                                                            \
        else                                                                                       \
            tell(name, dialogue(lines_));                                                          \
    } while (0)

/* Follows the cursor of a SCAN-like command; counts the elements (fields and values apart). */
static long scan_count(const char *format, const char *key)
{
    char cursor[32] = "0";
    long n = 0;

    do {
        redisReply *reply = redisCommand(r, format, key, cursor);

        if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
            show(reply, why, sizeof(why));
            freeReplyObject(reply);
            return -1;
        }
        n += (long)reply->element[1]->elements;
        snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        freeReplyObject(reply);
    } while (strcmp(cursor, "0") != 0);
    return n;
}

static bool scanned(const char *add, const char *format, const char *key, long want)
{
    char full[256];
    long got;

    snprintf(full, sizeof(full), "%s:%s", prefix, key);
    for (int i = 0; i < 1500; i++)
        redisAppendCommand(r, add, full, i, i);
    for (int i = 0; i < 1500; i++) {
        redisReply *reply = NULL;

        if (redisGetReply(r, (void **)&reply) != REDIS_OK)
            return false;
        freeReplyObject(reply);
    }
    got = scan_count(format, full);
    if (got != want && got >= 0)
        snprintf(why, sizeof(why), "%ld elements, expected %ld", got, want);
    return got == want;
}

#endif
