/* What `doctor` looks at. Each check fills one row; none may fail the program, because a broken machine is what doctor
 * is for. Arithmetic is checked against the float64 reference and against published test vectors, so that a miscompiled
 * or mislinked build is seen before a long run. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <archive.h>
#include <dnnl.h>
#include <jansson.h>
#include <jpeglib.h>
#include <openssl/crypto.h>
#include <spng.h>
#include <sqlite3.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "cli/cli.h"
#include "cli/version.h"
#include "data/data.h"
#include "retort/exec.h"

typedef struct doctor {
    doctor_row *rows;
    int n;
} doctor;

static void RT_PRINTF(4, 5) row(doctor *d, doctor_level level, const char *name, const char *fmt, ...)
{
    if (d->n == DOCTOR_MAX_ROWS) return;
    doctor_row *r = &d->rows[d->n++];
    memset(r, 0, sizeof *r);
    r->level = level;
    snprintf(r->name, sizeof r->name, "%s", name);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->value, sizeof r->value, fmt, ap);
    va_end(ap);
}

static void RT_PRINTF(2, 3) fix(doctor *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->rows[d->n - 1].fix, sizeof d->rows[0].fix, fmt, ap);
    va_end(ap);
}

/* --- processor and memory ------------------------------------------------------------------------------------------
 */
static int cores_allowed(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static void check_cores(doctor *d)
{
    int allowed = cores_allowed(), online = (int)sysconf(_SC_NPROCESSORS_ONLN), threads = omp_get_max_threads();
    bool narrow = allowed == 1 && online > 1;
    row(d, narrow ? DOCTOR_YELLOW : DOCTOR_GREEN, "cores", "%d of %d online may be used", allowed, online);
    if (narrow)
        fix(d, "a launcher bound this process to one core: use `mpirun --bind-to none` or `srun --cpus-per-task`");
    bool odd = threads != allowed;
    row(d, odd ? DOCTOR_YELLOW : DOCTOR_GREEN, "OpenMP", "%d thread%s", threads, threads == 1 ? "" : "s");
    if (odd) fix(d, "unset OMP_NUM_THREADS or set it to %d", allowed);
}

static const char *isa_name(dnnl_cpu_isa_t isa)
{
    switch (isa) {
    case dnnl_cpu_isa_sse41: return "SSE4.1";
    case dnnl_cpu_isa_avx: return "AVX";
    case dnnl_cpu_isa_avx2: return "AVX2";
    case dnnl_cpu_isa_avx2_vnni: return "AVX2 with VNNI";
    case dnnl_cpu_isa_avx512_core: return "AVX-512";
    case dnnl_cpu_isa_avx512_core_vnni: return "AVX-512 with VNNI";
    case dnnl_cpu_isa_avx512_core_bf16: return "AVX-512 with bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "AVX-512 with AMX";
    default: return "generic code";
    }
}

static void check_libraries(doctor *d)
{
    const dnnl_version_t *v = dnnl_version();
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    bool old = isa == dnnl_cpu_isa_all || isa == dnnl_cpu_isa_sse41 || isa == dnnl_cpu_isa_avx;
    row(d, old ? DOCTOR_YELLOW : DOCTOR_GREEN, "oneDNN", "%d.%d.%d, uses %s", v->major, v->minor, v->patch,
        isa_name(isa));
    if (old) fix(d, "unset DNNL_MAX_CPU_ISA, or expect a several times slower run on this processor");
    row(d, DOCTOR_GREEN, "libraries", "libjpeg%s API %d, spng %s, %s, libyaml %s, jansson %s, SQLite %s, %s",
#ifdef LIBJPEG_TURBO_VERSION
        "-turbo",
#else
        "",
#endif
        JPEG_LIB_VERSION, spng_version_string(), archive_version_string(), yaml_get_version_string(),
        jansson_version_str(), sqlite3_libversion(), OpenSSL_version(OPENSSL_VERSION));
}

static void check_memory(doctor *d)
{
    long long available_kib = -1, total_kib = -1;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "MemTotal: %lld kB", &total_kib);
        sscanf(line, "MemAvailable: %lld kB", &available_kib);
    }
    if (f) fclose(f);
    double available = (double)available_kib / 1048576, total = (double)total_kib / 1048576;
    bool low = available_kib >= 0 && available < 2;
    row(d, low ? DOCTOR_YELLOW : DOCTOR_GREEN, "memory", "%.1f of %.1f GiB available", available, total);
    if (low) fix(d, "end other programs, or see `retort plan` for what a run needs");
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        bool few = files.rlim_cur < 256;
        row(d, few ? DOCTOR_YELLOW : DOCTOR_GREEN, "open files", "limit %llu", (unsigned long long)files.rlim_cur);
        if (few) fix(d, "ulimit -n 1024");
    }
    char half[8];
    snprintf(half, sizeof half, "%.1f", 0.5);
    bool comma = strcmp(half, "0.5") != 0;
    row(d, comma ? DOCTOR_RED : DOCTOR_GREEN, "locale", "one half prints as %s", half);
    if (comma) fix(d, "export LC_ALL=C");
}

/* --- disk ----------------------------------------------------------------------------------------------------------
 */
static const char *fs_name(long type)
{
    switch ((unsigned long)type & 0xFFFFFFFFul) {
    case 0xEF53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683E: return "btrfs";
    case 0x01021994: return "tmpfs (memory: lost at restart)";
    case 0x794C7630: return "overlay";
    case 0x6969: return "NFS";
    case 0x0BD00BD0: return "Lustre";
    case 0x2FC12FC1: return "ZFS";
    case 0x65735546: return "FUSE";
    default: return "file system";
    }
}

static void check_disk(doctor *d, const char *dir)
{
    struct statvfs v;
    struct statfs s;
    char a[PATH_MAX], b[PATH_MAX];
    if (statvfs(dir, &v) || statfs(dir, &s) || access(dir, W_OK)) {
        row(d, DOCTOR_RED, "disk", "%s: %s", dir, strerror(errno));
        fix(d, "name a folder that exists and can be written: `retort doctor FOLDER`");
        return;
    }
    double free_gib = (double)v.f_bavail * (double)v.f_frsize / 1073741824;
    bool low = free_gib < 2, few = v.f_files && v.f_favail < 10000;
    row(d, low || few ? DOCTOR_YELLOW : DOCTOR_GREEN, "disk", "%s, %.1f GiB free, %llu inodes free", fs_name(s.f_type),
        free_gib, (unsigned long long)v.f_favail);
    if (low || few) fix(d, "free space in %s, or put run.dir elsewhere", dir);

    double slowest = 0, sum = 0;
    enum { ROUNDS = 5 };
    char bytes[4096];
    memset(bytes, 'r', sizeof bytes);
    snprintf(a, sizeof a, "%.3000s/.retort-doctor.%ld.a", dir, (long)getpid());
    snprintf(b, sizeof b, "%.3000s/.retort-doctor.%ld.b", dir, (long)getpid());
    bool works = true;
    for (int i = 0; i < ROUNDS && works; i++) {
        double t = rt_now();
        works = rt_fs_write_atomic(a, bytes, sizeof bytes) == RT_OK;
        t = rt_now() - t;
        sum += t;
        if (t > slowest) slowest = t;
    }
    works = works && !rename(a, b) && !rt_fs_exists(a) && rt_fs_size(b) == (int64_t)sizeof bytes;
    unlink(a);
    unlink(b);
    bool slow = sum / ROUNDS > 0.25;
    row(d,
        !works ? DOCTOR_RED
        : slow ? DOCTOR_YELLOW
               : DOCTOR_GREEN,
        "durable commit",
        works ? "write, fsync, rename: %.1f ms, slowest %.1f ms" : "write, fsync or rename failed (%.1f ms, %.1f ms)",
        1e3 * sum / ROUNDS, 1e3 * slowest);
    if (!works)
        fix(d, "put run.dir on another file system: %s", rt_error_what()[0] ? rt_error_what() : "rename failed");
    else if (slow)
        fix(d, "put run.dir on a local disk, or raise run.checkpoint_seconds");
}

/* --- arithmetic ----------------------------------------------------------------------------------------------------
 */
static void check_philox(doctor *d)
{
    /* Known answers published with the generator (Random123, philox4x32 with 10 rounds). */
    static const struct {
        uint32_t ctr, key, want[4];
    } kat[] = {{0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
               {0xffffffff, 0xffffffff, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}};
    bool right = true;
    for (int i = 0; i < 2; i++) {
        rt_u32x4 ctr = {{kat[i].ctr, kat[i].ctr, kat[i].ctr, kat[i].ctr}};
        rt_u32x4 got = rt_philox4x32(ctr, kat[i].key, kat[i].key);
        right = right && !memcmp(got.v, kat[i].want, sizeof got.v);
    }
    row(d, right ? DOCTOR_GREEN : DOCTOR_RED, "random numbers",
        right ? "Philox4x32-10 known answers" : "Philox4x32-10 is wrong");
    if (!right) fix(d, "this build is broken: rebuild from a clean folder with another compiler");
}

/* One conv + matmul program on a backend; outputs as doubles. */
static rt_status small_program(const char *backend, double *y_conv, double *y_mat)
{
    rt_status st = RT_OK;
    rt_backend *be = NULL;
    rt_graph *g = NULL;
    rt_exec *ex = NULL;
    rt_tensor *t[5] = {0};
    enum { N = 2, S = 8, C = 3, K = 16, M = 24 };
    const rt_shape shape[5] = {RT_SHAPE(RT_F32, N, S, S, C), RT_SHAPE(RT_F32, K, C, 3, 3), RT_SHAPE(RT_F32, M, K),
                               RT_SHAPE(RT_F32, N, S, S, K), RT_SHAPE(RT_F32, M, N * S * S)};
    static const char *const name[] = {"x", "w", "a"};
    double *values = NULL;
    RT_ALLOC(values, 4096 * sizeof *values, "check values");
    RT_TRY(rt_backend_open(backend, &(rt_backend_opts){.strict = true}, &be));
    RT_TRY(rt_graph_create(&g));
    rt_val in[3];
    for (int i = 0; i < 5; i++) RT_TRY(rt_tensor_create(be, shape[i], &t[i]));
    for (int i = 0; i < 3; i++) {
        rt_rng r = rt_rng_at(1, RT_RNG_TEST, (uint64_t)i, 0);
        int64_t count = rt_shape_count(&shape[i]);
        for (int64_t k = 0; k < count; k++) values[k] = rt_rng_uniform(&r) - 0.5;
        RT_TRY(rt_tensor_write_f64(t[i], values, (size_t)count));
        in[i] = rt_input(g, name[i], shape[i]);
    }
    rt_val none = {0};
    rt_val y = rt_conv2d(g, in[0], in[1], none, (rt_conv_attr){{1, 1}, {1, 1}, 1, 0});
    rt_val z = rt_matmul(g, in[2], rt_reshape(g, y, RT_SHAPE(RT_F32, N * S * S, K)), false, true);
    RT_TRY(rt_graph_status(g));
    rt_bind bi[] = {{in[0], t[0]}, {in[1], t[1]}, {in[2], t[2]}}, bo[] = {{y, t[3]}, {z, t[4]}};
    RT_TRY(rt_exec_prepare(be, g, bi, 3, bo, 2, NULL, &ex));
    RT_TRY(rt_exec_run(ex));
    RT_TRY(rt_tensor_read_f64(t[3], y_conv, (size_t)rt_shape_count(&shape[3])));
    RT_TRY(rt_tensor_read_f64(t[4], y_mat, (size_t)rt_shape_count(&shape[4])));
out:
    rt_exec_destroy(ex);
    for (int i = 0; i < 5; i++) rt_tensor_destroy(t[i]);
    rt_graph_destroy(g);
    rt_backend_close(be);
    rt_free(values);
    return st;
}

static double worst(const double *a, const double *b, int n)
{
    double w = 0;
    for (int i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e <= w)) w = e; /* NaN sticks */
    }
    return w;
}

static void check_arithmetic(doctor *d)
{
    enum { CONV = 2 * 8 * 8 * 16, MAT = 24 * 2 * 8 * 8 };
    double *y = rt_calloc(2 * (CONV + MAT) * sizeof *y);
    rt_status st = y ? small_program("ref", y, y + CONV) : RT_RAISE(RT_ERR_NOMEM, "no memory");
    if (st == RT_OK) st = small_program("cpu", y + CONV + MAT, y + 2 * CONV + MAT);
    if (st != RT_OK) {
        row(d, DOCTOR_RED, "arithmetic", "%s", rt_error_what());
        fix(d, "%s", rt_error_remedy()[0] ? rt_error_remedy() : "reinstall oneDNN, then rebuild");
    } else {
        double ec = worst(y, y + CONV + MAT, CONV), em = worst(y + CONV, y + 2 * CONV + MAT, MAT);
        bool good = ec <= 1e-5 && em <= 1e-5; /* 27 and 27 x 16 terms below 1/4 */
        row(d, good ? DOCTOR_GREEN : DOCTOR_RED, "arithmetic",
            "largest difference from float64: convolution %.1e, matrix product %.1e", ec, em);
        if (!good) fix(d, "this build or oneDNN miscomputes: try DNNL_MAX_CPU_ISA=AVX2, and please report it");
    }
    rt_free(y);
}

/* Decoding: a synthetic photograph, encoded here; the pixels' hash is fixed by libjpeg's exact integer transform. */
static void check_decode(doctor *d)
{
    enum { SIDE = 224, ROUNDS = 40 };
    uint8_t *px = rt_malloc(SIDE * SIDE * 3);
    void *jpeg = NULL;
    size_t n = 0;
    rt_status st = px ? RT_OK : RT_RAISE(RT_ERR_NOMEM, "no memory");
    for (int i = 0; px && i < SIDE * SIDE * 3; i++) {
        int x = i / 3 % SIDE, y = i / 3 / SIDE, c = i % 3;
        px[i] = (uint8_t)(20 + (x * (c + 1) + y * (3 - c)) / 8 + ((x / 28 + y / 28) % 2) * 60);
    }
    if (st == RT_OK) st = rt_jpeg_encode(px, SIDE, SIDE, 90, &jpeg, &n);
    double t = rt_now();
    double error = 0;
    for (int i = 0; i < ROUNDS && st == RT_OK; i++) {
        rt_image im = {0};
        st = rt_decode(jpeg, n, "doctor.jpg", &im, NULL);
        if (st == RT_OK && i == 0)
            for (int k = 0; k < SIDE * SIDE * 3; k++) error += abs(im.px[k] - px[k]);
        rt_image_fini(&im);
    }
    t = rt_now() - t;
    if (st != RT_OK) {
        row(d, DOCTOR_RED, "decoding", "%s", rt_error_what());
        fix(d, "reinstall libjpeg-turbo, then rebuild");
    } else {
        double rate = ROUNDS / t, mean_error = error / (SIDE * SIDE * 3);
        doctor_level level = mean_error > 6 ? DOCTOR_RED : rate < 300 ? DOCTOR_YELLOW : DOCTOR_GREEN;
        row(d, level, "decoding", "%.0f JPEG/s per core (%d KB, 224 x 224), mean pixel error %.1f", rate,
            (int)(n / 1000), mean_error);
        if (level == DOCTOR_RED) fix(d, "the JPEG library decodes wrongly: reinstall libjpeg-turbo");
        if (level == DOCTOR_YELLOW)
            fix(d, "slow decoding: check that libjpeg-turbo was built with SIMD and the machine is idle");
    }
    rt_free(jpeg);
    rt_free(px);
}

/* --- devices and helpers -------------------------------------------------------------------------------------------
 */
static void check_devices(doctor *d)
{
    rt_backend *be = NULL;
    if (rt_backend_open("cuda", &(rt_backend_opts){0}, &be) == RT_OK) {
        row(d, DOCTOR_GREEN, "CUDA", "%s", rt_backend_describe(be));
        rt_backend_close(be);
    } else { /* not a fault: the whole program runs on the processor. A device that cannot be used is worth a word. */
        const bool none = strstr(rt_error_what(), "no CUDA device") || strstr(rt_error_what(), "without CUDA");
        row(d, none ? DOCTOR_GREEN : DOCTOR_YELLOW, "CUDA", "%s", rt_error_what());
        if (!none) fix(d, "%s", rt_error_remedy());
    }
    const char *path = getenv("PATH");
    bool found = false;
    char file[PATH_MAX];
    for (const char *p = path ? path : ""; *p && !found;) {
        size_t n = strcspn(p, ":");
        snprintf(file, sizeof file, "%.*s/gnuplot", (int)(n > 4000 ? 4000 : n), p);
        found = n && !access(file, X_OK);
        p += n + (p[n] == ':');
    }
    row(d, found ? DOCTOR_GREEN : DOCTOR_YELLOW, "gnuplot", "%s", found ? file : "not found: reports have no plots");
    if (!found) fix(d, "apt-get install gnuplot-nox");
}

int doctor_run(const char *dir, doctor_row rows[DOCTOR_MAX_ROWS])
{
    doctor d = {.rows = rows};
    row(&d, DOCTOR_GREEN, "retort", "%s", RT_VERSION);
    check_cores(&d);
    check_memory(&d);
    check_libraries(&d);
    check_disk(&d, dir);
    check_philox(&d);
    check_arithmetic(&d);
    check_decode(&d);
    check_devices(&d);
    rt_error_clear();
    return d.n;
}
