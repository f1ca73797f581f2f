/* The whitening transform on disk. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artefact/artefact.h"
#include "base/alloc.h"
#include "base/fs.h"

static const char file_name[] = "zca.safetensors";

rt_status rt_zca_write(rt_zca *z, rt_commit *c)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], eps[32], h[16], w[16];
    uint64_t d = (uint64_t)z->d;
    rt_st_tensor t[] = {{"mean", RT_ST_F32, 1, {z->d}, z->mean, d * 4},
                        {"transform", RT_ST_F32, 2, {z->d, z->d}, z->transform, d * d * 4},
                        {"inverse", RT_ST_F32, 2, {z->d, z->d}, z->inverse, d * d * 4},
                        {"spectrum", RT_ST_F64, 1, {z->d}, z->spectrum, d * 8}};
    snprintf(eps, sizeof eps, "%.9g", z->eps);
    snprintf(h, sizeof h, "%d", z->h);
    snprintf(w, sizeof w, "%d", z->w);
    RT_TRY(rt_fs_join(path, sizeof path, rt_commit_dir(c), file_name));
    RT_TRY(rt_st_write(path, t, 4, (const char *const[]){"eps", eps, "height", h, "width", w}, 3));
    RT_TRY(rt_hash_file(path, z->hash, NULL));
out:
    return st;
}

static rt_status take(const rt_st_file *f, const char *path, const char *name, int rank, int64_t d, float **out)
{
    rt_status st = RT_OK;
    const rt_st_tensor *t = rt_st_find(f, name);
    int64_t n = rank == 2 ? d * d : d;
    if (!t || t->dtype != RT_ST_F32 || t->rank != rank || t->shape[0] != d || t->shape[rank - 1] != d)
        return RT_RAISE(RT_ERR_FORMAT, "%s: '%s' is not a float32 %s of %lld", path, name, rank == 2 ? "matrix" : "vector", (long long)d);
    RT_ALLOC(*out, (size_t)n * sizeof **out, "whitening");
    RT_TRY(rt_st_to_f32(t, *out, n));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite((*out)[i])) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: '%s' holds a value that is not finite", path, name);
            goto out;
        }
out:
    return st;
}

static int32_t side(const rt_st_file *f, const char *key)
{
    const char *v = rt_st_metadata(f, key);
    long n = v ? strtol(v, NULL, 10) : 0;
    return n > 0 && n <= 4096 ? (int32_t)n : 0;
}

rt_status rt_zca_read(const char *path, rt_zca *out)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    rt_st_file *f = NULL;
    rt_zca z = {0};
    RT_TRY(rt_artefact_open(path, "zca", true, NULL));
    RT_TRY(rt_fs_join(file, sizeof file, path, file_name));
    RT_TRY(rt_st_open(file, &f));
    const char *eps = rt_st_metadata(f, "eps");
    const rt_st_tensor *s = rt_st_find(f, "spectrum");
    z.h = side(f, "height");
    z.w = side(f, "width");
    z.eps = eps ? strtod(eps, NULL) : 0;
    z.d = 3 * (int64_t)z.h * z.w;
    if (!z.d || !(z.eps > 0) || !s || s->dtype != RT_ST_F64 || s->rank != 1 || s->shape[0] != z.d) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: not a whitening transform", file);
        goto out;
    }
    RT_TRY(take(f, file, "mean", 1, z.d, &z.mean));
    RT_TRY(take(f, file, "transform", 2, z.d, &z.transform));
    RT_TRY(take(f, file, "inverse", 2, z.d, &z.inverse));
    RT_ALLOC(z.spectrum, (size_t)z.d * sizeof *z.spectrum, "whitening");
    memcpy(z.spectrum, s->data, (size_t)z.d * sizeof *z.spectrum);
    RT_TRY(rt_hash_file(file, z.hash, NULL));
    *out = z;
    memset(&z, 0, sizeof z);
out:
    rt_st_close(f);
    rt_zca_fini(&z);
    return st;
}
