/* Content hashes: SHA-256 (libcrypto) for identity, CRC-32 (zlib) for quick damage checks. */
#ifndef RT_BASE_HASH_H
#define RT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "retort/status.h"

enum { RT_HASH_HEX = 65 }; /* 64 hex digits and NUL */

typedef struct rt_sha256 rt_sha256;
rt_status rt_sha256_create(rt_sha256 **out);
void rt_sha256_update(rt_sha256 *h, const void *p, size_t n);
void rt_sha256_final(rt_sha256 *h, char hex[RT_HASH_HEX]); /* destroys h */

rt_status rt_hash_bytes(const void *p, size_t n, char hex[RT_HASH_HEX]);
rt_status rt_hash_file(const char *path, char hex[RT_HASH_HEX], uint64_t *size);
uint32_t rt_crc32(uint32_t crc, const void *p, size_t n); /* start with 0 */
uint64_t rt_hash64(const void *p, size_t n, uint64_t seed); /* xxHash64: hash tables only, never stored */

#endif
