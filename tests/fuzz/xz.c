/* Any bytes as a CIFAR file or a list that may be xz-compressed: unpacked within its cap or refused. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "data/internal.h"

enum { CAP = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char path[64];
    void *out = NULL;
    char **line = NULL;
    size_t size = 0;
    int64_t lines = 0;
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (rt_read_maybe_xz(path, CAP, &out, &size) == RT_OK) {
        if (size > CAP) abort();
        if (rt_split_lines(path, out, size, &line, &lines) == RT_OK) rt_free(line);
        rt_free(out);
    }
    close(fd);
    return 0;
}
