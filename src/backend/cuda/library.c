/* Finding and opening cuDNN and cuBLASLt.
 *
 * They are opened by name when a CUDA device is, never linked: the program starts on machines that have neither, says what it
 * missed and where it looked. The first library that opens and has every function wins. cuBLASLt is opened before cuDNN and
 * globally, because cuDNN's engines ask the loader for it by name. */
#include "backend/cuda/vendor.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_NAMES = 2, MAX_FUNCTIONS = 32 };

typedef struct wanted {
    const char *what, *package;    /* for people; folder below a Python environment's nvidia/ */
    const char *names[MAX_NAMES];  /* file names, the preferred first */
    const char *functions[MAX_FUNCTIONS];
    size_t offsets[MAX_FUNCTIONS]; /* where the table keeps each */
} wanted;

#define RT_CUDNN_VALUE(name, value)
#define RT_CUBLASLT_VALUE(name, value)
static const wanted cudnn = {
    .what = "cuDNN 9", .package = "nvidia-cudnn-cu13", .names = {"libcudnn.so.9"},
#define RT_CUBLASLT_FN(name, result, args)
#define RT_CUDNN_FN(name, result, args) #name,
    .functions = {
#include "backend/cuda/vendor.def"
    },
#undef RT_CUDNN_FN
#define RT_CUDNN_FN(name, result, args) offsetof(rt_cudnn, name),
    .offsets = {
#include "backend/cuda/vendor.def"
    },
#undef RT_CUDNN_FN
#undef RT_CUBLASLT_FN
};
static const wanted cublaslt = {
    .what = "cuBLASLt", .package = "nvidia-cublas", .names = {"libcublasLt.so.13", "libcublasLt.so.12"},
#define RT_CUDNN_FN(name, result, args)
#define RT_CUBLASLT_FN(name, result, args) #name,
    .functions = {
#include "backend/cuda/vendor.def"
    },
#undef RT_CUBLASLT_FN
#define RT_CUBLASLT_FN(name, result, args) offsetof(rt_cublaslt, name),
    .offsets = {
#include "backend/cuda/vendor.def"
    },
#undef RT_CUDNN_FN
#undef RT_CUBLASLT_FN
};
#undef RT_CUDNN_VALUE
#undef RT_CUBLASLT_VALUE

/* Opens file and fills the table (a struct whose first member is the handle). why: says which function is missing. */
static bool try_open(const wanted *w, const char *file, char *table, char *why, size_t len)
{
    void *so = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    if (!so) {
        const char *text = dlerror();
        if (text && strchr(file, '/') && access(file, F_OK) == 0) snprintf(why, len, "%s", text); /* there, but will not open */
        return false;
    }
    void *at[MAX_FUNCTIONS];
    for (int i = 0; i < MAX_FUNCTIONS && w->functions[i]; i++)
        if (!(at[i] = dlsym(so, w->functions[i]))) {
            snprintf(why, len, "%s has no %s", file, w->functions[i]);
            dlclose(so);
            return false;
        }
    memcpy(table, &so, sizeof so);
    for (int i = 0; i < MAX_FUNCTIONS && w->functions[i]; i++) memcpy(table + w->offsets[i], &at[i], sizeof at[i]);
    return true;
}

static bool try_folder(const wanted *w, const char *dir, size_t dir_len, char *table, char *why, size_t len)
{
    char file[PATH_MAX];
    for (int i = 0; i < MAX_NAMES && w->names[i]; i++)
        if (snprintf(file, sizeof file, "%.*s/%s", (int)dir_len, dir, w->names[i]) < (int)sizeof file &&
            try_open(w, file, table, why, len))
            return true;
    return false;
}

static bool try_list(const wanted *w, const char *list, char *table, char *why, size_t len)
{
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ":");
        if (n > 0 && n < PATH_MAX / 2 && try_folder(w, p, n, table, why, len)) return true;
        p += n + (p[n] == ':');
    }
    return false;
}

/* Below a prefix such as CUDA_HOME or a virtual environment; tail may hold wildcards. */
static bool try_glob(const wanted *w, const char *prefix, const char *tail, char *table, char *why, size_t len)
{
    char pattern[PATH_MAX];
    glob_t g = {0};
    bool found = false;
    if (!prefix || snprintf(pattern, sizeof pattern, "%s/%s", prefix, tail) >= (int)sizeof pattern) return false;
    if (glob(pattern, 0, NULL, &g) == 0)
        for (size_t i = 0; i < g.gl_pathc && !found; i++)
            found = try_folder(w, g.gl_pathv[i], strlen(g.gl_pathv[i]), table, why, len);
    globfree(&g);
    return found;
}

static rt_status open_library(const wanted *w, void *table)
{
    static const char *const packages[] = {"lib/python3*/site-packages/nvidia/*/lib", "lib/python3*/dist-packages/nvidia/*/lib"};
    static const char *const toolkits[] = {"lib64", "lib", "targets/x86_64-linux/lib"};
    char why[512] = "";
    const char *mine = getenv("RT_CUDA_LIBRARIES"), *home = getenv("HOME");
    if (mine && *mine) { /* given: nothing else is looked at, so that a choice is a choice */
        if (try_list(w, mine, table, why, sizeof why)) return RT_OK;
        rt_status st = RT_RAISE(RT_ERR_UNSUPPORTED, "%s not found: %s%sno %s in RT_CUDA_LIBRARIES=%s", w->what, why, *why ? "; " : "",
                                w->names[0], mine);
        return rt_error_fix(st, "unset RT_CUDA_LIBRARIES, or name the folder that holds %s", w->names[0]);
    }
    for (int i = 0; i < MAX_NAMES && w->names[i]; i++)
        if (try_open(w, w->names[i], table, why, sizeof why)) return RT_OK;
    const char *roots[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda"};
    for (size_t r = 0; r < sizeof roots / sizeof *roots; r++)
        for (size_t t = 0; t < sizeof toolkits / sizeof *toolkits; t++)
            if (try_glob(w, roots[r], toolkits[t], table, why, sizeof why)) return RT_OK;
    char local[PATH_MAX] = "";
    if (home) snprintf(local, sizeof local, "%s/.local", home);
    const char *pythons[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX"), *local ? local : NULL, "/usr/local", "/usr"};
    for (size_t r = 0; r < sizeof pythons / sizeof *pythons; r++)
        for (size_t t = 0; t < sizeof packages / sizeof *packages; t++)
            if (try_glob(w, pythons[r], packages[t], table, why, sizeof why)) return RT_OK;
    rt_status st = RT_RAISE(RT_ERR_UNSUPPORTED,
                            "%s not found: %s%slooked for %s on the loader's path, below CUDA_HOME, CUDA_PATH and /usr/local/cuda, "
                            "and in the nvidia packages of Python (VIRTUAL_ENV, CONDA_PREFIX, ~/.local, /usr)",
                            w->what, why, *why ? "; " : "", w->names[0]);
    return rt_error_fix(st, "install it (pip install %s, or NVIDIA's packages), or name its folder in RT_CUDA_LIBRARIES", w->package);
}

rt_status rt_cudnn_open(rt_cudnn *l) { return open_library(&cudnn, l); }
rt_status rt_cublaslt_open(rt_cublaslt *l) { return open_library(&cublaslt, l); }

void rt_cudnn_close(rt_cudnn *l)
{
    if (l->so) dlclose(l->so);
    memset(l, 0, sizeof *l);
}

void rt_cublaslt_close(rt_cublaslt *l)
{
    if (l->so) dlclose(l->so);
    memset(l, 0, sizeof *l);
}

static const char memory_fix[] = "use a smaller batch, or free the device: another process may hold its memory";

rt_status rt_cudnn_failed(const rt_cudnn *l, int status, const char *what)
{
    char more[256] = "";
    l->cudnnGetLastErrorString(more, sizeof more);
    rt_status as = status / 1000 == RT_CUDNN_STATUS_NOT_SUPPORTED / 1000 ? RT_ERR_UNSUPPORTED : RT_ERR_DEVICE;
    if (status == RT_CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || status == RT_CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        as = RT_ERR_NOMEM;
    rt_status st = RT_RAISE(as, "%.*s: %s (%d)%s%s", (int)strcspn(what, "("), what, l->cudnnGetErrorString(status), status,
                            *more ? ": " : "", more);
    return st == RT_ERR_NOMEM ? rt_error_fix(st, "%s", memory_fix) : st;
}

rt_status rt_cublaslt_failed(const rt_cublaslt *l, int status, const char *what)
{
    rt_status as = status == RT_CUBLAS_STATUS_ALLOC_FAILED    ? RT_ERR_NOMEM
                   : status == RT_CUBLAS_STATUS_NOT_SUPPORTED ? RT_ERR_UNSUPPORTED
                                                              : RT_ERR_DEVICE;
    rt_status st = RT_RAISE(as, "%.*s: %s (%d)", (int)strcspn(what, "("), what, l->cublasLtGetStatusString(status), status);
    return st == RT_ERR_NOMEM ? rt_error_fix(st, "%s", memory_fix) : st;
}
