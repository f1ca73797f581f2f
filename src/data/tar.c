/* One walk over a tar archive by libarchive, which knows the dialects (ustar prefix, GNU long names, PAX path and size,
 * base-256 sizes, concatenated archives). The result is where each regular file's bytes lie; they are later read in
 * place with pread. Nothing is ever extracted, yet a path that would leave a folder, a link or a device marks a shard
 * that was not made for us: it is refused, not skipped.
 *
 * Also refused: compressed archives (no random access), sparse members (bytes are not contiguous), members that end
 * past the file, and an archive without an end-of-archive block, which is what a cut at a member's border looks like.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/internal.h"

enum { BLOCK = 512, READ_BLOCK = 64 << 10, MAX_NAME = 4096, MAX_MEMBERS = 50000000 };

rt_status rt_member_add(rt_member_list *m, const char *name, uint64_t off, uint64_t len)
{
    size_t name_n = strlen(name) + 1;
    if (m->n == m->cap) {
        size_t grown = m->cap ? m->cap * 2 : 1024;
        rt_member *bigger = rt_realloc(m->item, m->cap * sizeof *bigger, grown * sizeof *bigger);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for an index of %zu members", grown);
        m->item = bigger;
        m->cap = grown;
    }
    if (m->names_cap - m->names_len < name_n) {
        size_t grown = m->names_cap * 2 + name_n + 4096;
        char *bigger = rt_realloc(m->names, m->names_cap, grown);
        if (!bigger) return RT_RAISE(RT_ERR_NOMEM, "no memory for %zu bytes of member names", grown);
        m->names = bigger;
        m->names_cap = grown;
    }
    m->item[m->n++] = (rt_member){.off = off, .len = len, .name = m->names_len};
    memcpy(m->names + m->names_len, name, name_n);
    m->names_len += name_n;
    return RT_OK;
}

void rt_member_list_fini(rt_member_list *m)
{
    rt_free(m->item);
    rt_free(m->names);
    *m = (rt_member_list){0};
}

rt_status rt_member_check_name(const char *tar, const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > MAX_NAME) return RT_RAISE(RT_ERR_FORMAT, "%s: a member with a name of %zu bytes", tar, n);
    if (name[0] == '/') return RT_RAISE(RT_ERR_FORMAT, "%s: member '%s' has an absolute path", tar, name);
    for (const char *p = name; p; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || !p[2]))
            return RT_RAISE(RT_ERR_FORMAT, "%s: member '%s' climbs out of its folder", tar, name);
    }
    return RT_OK;
}

static rt_status check_kind(const char *tar, const char *name, struct archive_entry *e)
{
    const char *what = NULL;
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
    case AE_IFDIR:
        break;
    case AE_IFLNK:
        what = "a symbolic link";
        break;
    case AE_IFCHR:
    case AE_IFBLK:
        what = "a device";
        break;
    case AE_IFIFO:
        what = "a FIFO";
        break;
    default:
        what = "not a regular file";
        break;
    }
    if (archive_entry_hardlink(e))
        what = "a hard link";
    else if (archive_entry_sparse_count(e) > 0)
        what = "a sparse file";
    if (what) return RT_RAISE(RT_ERR_FORMAT, "%s: member '%s' is %s", tar, name, what);
    return RT_OK;
}

/* A block is a tar header when the checksum field holds the sum of its bytes with that field blank. */
static bool is_header(const uint8_t b[BLOCK])
{
    unsigned long sum = 0, want = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : b[i];
    int i = 148;
    while (i < 156 && b[i] == ' ') i++;
    for (; i < 156 && b[i] >= '0' && b[i] <= '7'; i++) want = want * 8 + (unsigned long)(b[i] - '0');
    return sum == want;
}

/* libarchive says where it stands after a header; make sure that this is where the content begins. */
static rt_status check_place(int fd, const char *tar, const char *name, uint64_t off, uint64_t len, uint64_t size)
{
    uint8_t block[BLOCK];
    if (off % BLOCK || off < BLOCK || off > size || len > size - off)
        return RT_RAISE(RT_ERR_FORMAT, "%s: truncated: member '%s' needs %llu bytes from %llu, the file has %llu", tar,
                        name, (unsigned long long)len, (unsigned long long)off, (unsigned long long)size);
    rt_status st = rt_fs_pread(fd, tar, block, BLOCK, off - BLOCK);
    if (st != RT_OK) return st;
    if (!is_header(block))
        return RT_RAISE(RT_ERR_UNSUPPORTED, "%s: member '%s': no header before its content: unknown tar dialect", tar,
                        name);
    return RT_OK;
}

static rt_status check_end(int fd, const char *tar, uint64_t end, uint64_t size)
{
    uint8_t block[BLOCK];
    uint64_t at = (end + BLOCK - 1) / BLOCK * BLOCK;
    bool zero = at + BLOCK <= size;
    if (zero) {
        rt_status st = rt_fs_pread(fd, tar, block, BLOCK, at);
        if (st != RT_OK) return st;
        for (int i = 0; i < BLOCK; i++) zero = zero && block[i] == 0;
    }
    if (!zero)
        return RT_RAISE(RT_ERR_FORMAT, "%s: truncated: no end-of-archive block at %llu", tar, (unsigned long long)at);
    return RT_OK;
}

static rt_status unreadable(struct archive *a, const char *path)
{
    const char *why = archive_error_string(a);
    if (archive_errno(a) == ENOMEM) return RT_RAISE(RT_ERR_NOMEM, "%s: no memory to read the archive", path);
    rt_status st = RT_RAISE(RT_ERR_FORMAT, "%s: not a readable plain tar: %s", path, why ? why : "unknown damage");
    return rt_error_fix(st, "shards are read in place: unpack compressed ones, copy damaged ones again");
}

static rt_status scan(struct archive *a, int fd, const char *path, uint64_t size, rt_member_list *m)
{
    rt_status st = RT_OK;
    struct archive_entry *e = NULL;
    uint64_t end = 0;
    for (int r; (r = archive_read_next_header(a, &e)) != ARCHIVE_EOF;) {
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return unreadable(a, path); /* warnings: odd owners or times */
        const char *name = archive_entry_pathname(e);
        if (!name) return RT_RAISE(RT_ERR_FORMAT, "%s: member %zu has no name", path, m->n);
        RT_TRY(rt_member_check_name(path, name));
        RT_TRY(check_kind(path, name, e));
        if (archive_entry_filetype(e) != AE_IFREG) continue;
        int64_t len = archive_entry_size(e), off = archive_filter_bytes(a, 0);
        if (len < 0 || off < 0) return RT_RAISE(RT_ERR_FORMAT, "%s: member '%s' has no size", path, name);
        RT_TRY(check_place(fd, path, name, (uint64_t)off, (uint64_t)len, size));
        if (m->n >= MAX_MEMBERS) return RT_RAISE(RT_ERR_FORMAT, "%s: more than %d members", path, MAX_MEMBERS);
        RT_TRY(rt_member_add(m, name, (uint64_t)off, (uint64_t)len));
        end = (uint64_t)(off + len);
        if (m->n % 4096 == 0)
            rt_progress_report(&(rt_progress){
                .phase = "index shard", .unit = "byte", .done = (double)end, .total = (double)size, .note = path});
    }
    if (m->n) RT_TRY(check_end(fd, path, end, size));
out:
    return st;
}

rt_status rt_tar_scan(const char *path, rt_member_list *m)
{
    rt_status st = RT_OK;
    rt_member_list list = {0};
    struct archive *a = NULL;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return RT_RAISE_ERRNO("%s", path);
    if (fstat(fd, &sb)) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    if (!S_ISREG(sb.st_mode)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: not a regular file", path);
        goto out;
    }
    if (!(a = archive_read_new())) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a tar reader");
        goto out;
    }
    if (archive_read_support_filter_none(a) || archive_read_support_format_tar(a) ||
        archive_read_set_format_option(a, "tar", "read_concatenated_archives", "1") ||
        archive_read_open_fd(a, fd, READ_BLOCK)) {
        st = unreadable(a, path);
        goto out;
    }
    RT_TRY(scan(a, fd, path, (uint64_t)sb.st_size, &list));
    *m = list;
    list = (rt_member_list){0};
out:
    archive_read_free(a);
    rt_member_list_fini(&list);
    close(fd);
    return st;
}
