/* Any bytes as a tar shard, or (first byte odd) as the index file beside a good one: members must lie inside the file
 * and have harmless names, whatever happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/internal.h"

static char dir[] = "/tmp/retort-fuzz-XXXXXX", tar[64], idx[64];

static void put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) abort();
}

static void leave(void)
{
    unlink(tar);
    unlink(idx);
    rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!mkdtemp(dir)) abort();
    snprintf(tar, sizeof tar, "%s/a.tar", dir);
    snprintf(idx, sizeof idx, "%s/a.idx", dir);
    atexit(leave);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const uint8_t empty[2048];
    rt_member_list m = {0};
    struct stat sb;
    if (n < 1) return 0;
    bool index = bytes[0] & 1;
    put(tar, index ? empty : bytes + 1, index ? sizeof empty : n - 1);
    unlink(idx);
    if (index) put(idx, bytes + 1, n - 1);
    if (stat(tar, &sb)) abort();
    if (rt_tar_members(tar, NULL, &m) != RT_OK) return 0;
    for (size_t i = 0; i < m.n; i++)
        if (m.item[i].off > (uint64_t)sb.st_size || m.item[i].len > (uint64_t)sb.st_size - m.item[i].off ||
            rt_member_check_name("fuzz", m.names + m.item[i].name) != RT_OK)
            abort();
    rt_member_list_fini(&m);
    return 0;
}
