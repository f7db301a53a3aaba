/*
 * banned.h - functions that are not used here, turned into compile errors.
 *
 * Every .c file includes base/check.h, which includes this. Unbounded string functions and those
 * that keep hidden state between calls (and so between threads) are out.
 * Layer: base.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

/* The headers that declare them come first: a declaration after the poison is an error too. */
#include <alloca.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#undef alloca /* a macro, which gcc refuses to poison */

#pragma GCC poison strcpy strcat sprintf vsprintf strtok gets strncat alloca
#pragma GCC poison localtime gmtime ctime asctime
#pragma GCC poison gethostbyname inet_ntoa rand atoi atol atoll

#endif
