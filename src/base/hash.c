#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

#include "base/alloc.h"

struct rt_sha256 {
    EVP_MD_CTX *ctx;
};

rt_status rt_sha256_create(rt_sha256 **out)
{
    rt_sha256 *h = rt_calloc(sizeof *h);
    if (!h) return RT_RAISE(RT_ERR_NOMEM, "hash state");
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(h->ctx);
        rt_free(h);
        return RT_RAISE(RT_ERR_INTERNAL, "SHA-256 is not available in libcrypto");
    }
    *out = h;
    return RT_OK;
}

void rt_sha256_update(rt_sha256 *h, const void *p, size_t n) { EVP_DigestUpdate(h->ctx, p, n); }

void rt_sha256_final(rt_sha256 *h, char hex[RT_HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char md[32] = {0};
    unsigned len = 0;
    EVP_DigestFinal_ex(h->ctx, md, &len);
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[md[i] >> 4];
        hex[2 * i + 1] = digits[md[i] & 15];
    }
    hex[64] = 0;
    EVP_MD_CTX_free(h->ctx);
    rt_free(h);
}

rt_status rt_hash_bytes(const void *p, size_t n, char hex[RT_HASH_HEX])
{
    rt_sha256 *h = NULL;
    rt_status st = rt_sha256_create(&h);
    if (st != RT_OK) return st;
    rt_sha256_update(h, p, n);
    rt_sha256_final(h, hex);
    return RT_OK;
}

rt_status rt_hash_file(const char *path, char hex[RT_HASH_HEX], uint64_t *size)
{
    rt_status st = RT_OK;
    rt_sha256 *h = NULL;
    enum { BLOCK = 1 << 20 };
    char *buf = NULL;
    uint64_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a FIFO must not hang us */
    if (fd < 0) return RT_RAISE_ERRNO("%s", path);
    RT_ALLOC(buf, BLOCK, "hash block");
    RT_TRY(rt_sha256_create(&h));
    for (;;) {
        ssize_t r = read(fd, buf, BLOCK);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) {
            st = RT_RAISE_ERRNO("%s: read", path);
            goto out;
        }
        if (r == 0) break;
        rt_sha256_update(h, buf, (size_t)r);
        total += (uint64_t)r;
    }
    rt_sha256_final(h, hex);
    h = NULL;
    if (size) *size = total;
out:
    if (h) {
        char drop[RT_HASH_HEX];
        rt_sha256_final(h, drop);
    }
    rt_free(buf);
    close(fd);
    return st;
}

uint32_t rt_crc32(uint32_t crc, const void *p, size_t n) { return (uint32_t)crc32_z(crc, p, n); }
uint64_t rt_hash64(const void *p, size_t n, uint64_t seed) { return XXH64(p, n, seed); }
