/*
 * crc16.h - the slot of a key, as the Redis Cluster specification defines it.
 *
 * A key's slot is CRC16 (XMODEM: polynomial 0x1021, start 0, not reflected) of the key modulo
 * 16384. When the key has a '{' and after it a '}' with something in between, only what stands
 * between the first '{' and the first '}' after it is hashed (the hash tag).
 * Layer: base. Thread: any; the tables are constants.
 */
#ifndef BASE_CRC16_H
#define BASE_CRC16_H

#include "base/check.h"

uint16_t crc16(const char *data, size_t len);

/* 0 to 16383. */
uint16_t key_slot(const char *key, size_t len);

#endif
