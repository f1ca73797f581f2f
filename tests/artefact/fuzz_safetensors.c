/* libFuzzer target: any bytes as a safetensors file. Built with -DRT_FUZZ=ON and clang; start it on golden/ as the corpus:
 *     fuzz_safetensors -max_len=4096 corpus tests/artefact/golden */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "artefact/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    rt_st_file *f = NULL;
    if (fd < 0) {
        snprintf(path, sizeof path, "%s/fuzz-safetensors.%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (long)getpid());
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n || rt_st_open(path, &f) != RT_OK) return 0;
    volatile unsigned sum = 0; /* every byte is read, so that the sanitizers see each */
    for (int64_t i = 0; i < rt_st_count(f); i++) {
        const rt_st_tensor *t = rt_st_at(f, i);
        float out[1024];
        int64_t count = 1;
        for (uint64_t k = 0; k < t->bytes; k++) sum += ((const uint8_t *)t->data)[k];
        for (int r = 0; r < t->rank; r++) count *= t->shape[r];
        if (count <= 1024) rt_st_to_f32(t, out, count);
    }
    rt_st_close(f);
    return 0;
}
