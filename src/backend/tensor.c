/* Tensors: storage in a backend's memory, moved as float, int32 or double on the host side.
 *
 * Conversion happens here, in blocks on the stack, so that a backend only ever copies bytes of its own storage type. */
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "ops/util.h"

enum { BLOCK = 1024 };

static size_t elem_bytes(const rt_tensor *t) { return t->shape.dtype == RT_F32 ? t->be->vt->real_bytes : 4; }

rt_status rt_tensor_create(rt_backend *be, rt_shape s, rt_tensor **out)
{
    rt_status st = RT_OK;
    rt_tensor *t = NULL;
    char b[RT_SHAPE_STR];
    s = rt_shape_make(s.dtype, s.rank, s.d);
    RT_TRY(rt_shape_check("tensor", &s));
    RT_ALLOC(t, sizeof *t, "tensor");
    t->be = be;
    t->shape = s;
    t->bytes = (size_t)rt_shape_count(&s) * elem_bytes(t);
    RT_TRYF(be->vt->alloc(be, t->bytes ? t->bytes : 1, &t->data), "tensor %s", rt_shape_str(&s, b, sizeof b));
    *out = t;
    t = NULL;
out:
    rt_tensor_destroy(t);
    return st;
}

void rt_tensor_destroy(rt_tensor *t)
{
    if (!t) return;
    if (t->data) t->be->vt->free(t->be, t->data);
    rt_free(t);
}

const rt_shape *rt_tensor_shape(const rt_tensor *t) { return &t->shape; }
size_t rt_tensor_bytes(const rt_tensor *t) { return t->bytes; }
void *rt_tensor_host(rt_tensor *t) { return t->be->vt->host_memory ? t->data : NULL; }

static rt_status check_size(const rt_tensor *t, const char *verb, size_t got, size_t want, const char *unit)
{
    char b[RT_SHAPE_STR];
    if (got == want) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "tensor %s: %s of %zu %s, must be %zu", rt_shape_str(&t->shape, b, sizeof b), verb, got,
                    unit, want);
}

static rt_status check_real(const rt_tensor *t, const char *verb)
{
    char b[RT_SHAPE_STR];
    if (t->shape.dtype == RT_F32) return RT_OK;
    return RT_RAISE(RT_ERR_ARG, "tensor %s: %s as double", rt_shape_str(&t->shape, b, sizeof b), verb);
}

rt_status rt_tensor_write(rt_tensor *t, const void *src, size_t bytes)
{
    rt_status st = RT_OK;
    size_t count = (size_t)rt_shape_count(&t->shape);
    RT_TRY(check_size(t, "write", bytes, count * 4, "bytes"));
    if (elem_bytes(t) == 4) {
        st = t->be->vt->upload(t->be, t->data, src, bytes);
        goto out;
    }
    double block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        size_t n = count - i < BLOCK ? count - i : BLOCK;
        for (size_t k = 0; k < n; k++) block[k] = (double)((const float *)src)[i + k];
        RT_TRY(t->be->vt->upload(t->be, (double *)t->data + i, block, n * sizeof *block));
    }
out:
    return st;
}

rt_status rt_tensor_read(const rt_tensor *t, void *dst, size_t bytes)
{
    rt_status st = RT_OK;
    size_t count = (size_t)rt_shape_count(&t->shape);
    RT_TRY(check_size(t, "read", bytes, count * 4, "bytes"));
    if (elem_bytes(t) == 4) {
        st = t->be->vt->download(t->be, dst, t->data, bytes);
        goto out;
    }
    double block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        size_t n = count - i < BLOCK ? count - i : BLOCK;
        RT_TRY(t->be->vt->download(t->be, block, (const double *)t->data + i, n * sizeof *block));
        for (size_t k = 0; k < n; k++) ((float *)dst)[i + k] = (float)block[k];
    }
out:
    return st;
}

rt_status rt_tensor_write_f64(rt_tensor *t, const double *src, size_t count)
{
    rt_status st = RT_OK;
    RT_TRY(check_real(t, "write"));
    RT_TRY(check_size(t, "write", count, (size_t)rt_shape_count(&t->shape), "elements"));
    if (elem_bytes(t) == sizeof(double)) {
        st = t->be->vt->upload(t->be, t->data, src, count * sizeof *src);
        goto out;
    }
    float block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        size_t n = count - i < BLOCK ? count - i : BLOCK;
        for (size_t k = 0; k < n; k++) block[k] = (float)src[i + k];
        RT_TRY(t->be->vt->upload(t->be, (float *)t->data + i, block, n * sizeof *block));
    }
out:
    return st;
}

rt_status rt_tensor_read_f64(const rt_tensor *t, double *dst, size_t count)
{
    rt_status st = RT_OK;
    RT_TRY(check_real(t, "read"));
    RT_TRY(check_size(t, "read", count, (size_t)rt_shape_count(&t->shape), "elements"));
    if (elem_bytes(t) == sizeof(double)) {
        st = t->be->vt->download(t->be, dst, t->data, count * sizeof *dst);
        goto out;
    }
    float block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        size_t n = count - i < BLOCK ? count - i : BLOCK;
        RT_TRY(t->be->vt->download(t->be, block, (const float *)t->data + i, n * sizeof *block));
        for (size_t k = 0; k < n; k++) dst[i + k] = (double)block[k];
    }
out:
    return st;
}

rt_status rt_tensor_copy(rt_tensor *dst, int64_t dst_at, const rt_tensor *src, int64_t src_at, int64_t count)
{
    char a[RT_SHAPE_STR], b[RT_SHAPE_STR];
    const rt_backend_vtable *vt = dst->be->vt;
    const size_t elem = elem_bytes(dst);
    if (src->be != dst->be || src->shape.dtype != dst->shape.dtype || count < 0 || dst_at < 0 || src_at < 0 ||
        count > rt_shape_count(&dst->shape) - dst_at || count > rt_shape_count(&src->shape) - src_at)
        return RT_RAISE(RT_ERR_ARG, "copy of %lld elements from %s at %lld to %s at %lld", (long long)count,
                        rt_shape_str(&src->shape, a, sizeof a), (long long)src_at,
                        rt_shape_str(&dst->shape, b, sizeof b), (long long)dst_at);
    void *to = (char *)dst->data + (size_t)dst_at * elem;
    const void *from = (const char *)src->data + (size_t)src_at * elem;
    return (vt->copy ? vt->copy : vt->upload)(dst->be, to, from, (size_t)count * elem);
}
