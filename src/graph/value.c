/* Shapes, and the cheap questions about values. Shapes are plain values: building one cannot fail, so a bad one (rank out
 * of range, negative dimension) is carried as rank -1 or a count of -1 and refused by the first op that sees it. */
#include "ops/util.h"

#include <stdio.h>
#include <string.h>

rt_shape rt_shape_make(rt_dtype t, int rank, const int64_t *d)
{
    rt_shape s;
    memset(&s, 0, sizeof s);
    s.dtype = t;
    s.rank = rank < 0 || rank > RT_MAX_RANK ? -1 : rank;
    for (int i = 0; i < s.rank; i++) s.d[i] = d[i];
    return s;
}

int64_t rt_shape_count(const rt_shape *s)
{
    int64_t n = 1;
    bool zero = false;
    if (s->rank < 0) return -1;
    for (int i = 0; i < s->rank; i++) {
        if (s->d[i] < 0) return -1;
        if (s->d[i] == 0) {
            zero = true;
            continue; /* the other dimensions must still not overflow: strides are products of them */
        }
        if (__builtin_mul_overflow(n, s->d[i], &n)) return -1;
    }
    return zero ? 0 : n;
}

bool rt_shape_eq(const rt_shape *a, const rt_shape *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           (a->rank <= 0 || memcmp(a->d, b->d, (size_t)a->rank * sizeof a->d[0]) == 0);
}

const char *rt_shape_str(const rt_shape *s, char *buf, size_t n)
{
    size_t at = 0;
    int w = snprintf(buf, n, "%s[", s->dtype == RT_F32 ? "f32" : "i32");
    at += w > 0 ? (size_t)w : 0;
    for (int i = 0; i < s->rank && at < n; i++) {
        w = snprintf(buf + at, n - at, "%s%lld", i ? "," : "", (long long)s->d[i]);
        at += w > 0 ? (size_t)w : 0;
    }
    if (at < n) snprintf(buf + at, n - at, s->rank < 0 ? "?]" : "]");
    return buf;
}

rt_status rt_shape_check(const char *op, const rt_shape *s)
{
    char b[RT_SHAPE_STR];
    int64_t n = rt_shape_count(s);
    if (s->dtype != RT_F32 && s->dtype != RT_I32)
        return RT_RAISE(RT_ERR_ARG, "%s: unknown dtype %d", op, (int)s->dtype);
    if (n < 0 || n > INT64_MAX / 8)
        return RT_RAISE(RT_ERR_ARG, "%s: shape %s is not valid: %s", op, rt_shape_str(s, b, sizeof b),
                        s->rank < 0 ? "rank must lie in 0..6" : "negative dimension or too many elements");
    return RT_OK;
}

void rt_shape_strides(const rt_shape *s, int64_t stride[RT_MAX_RANK])
{
    int64_t n = 1;
    for (int i = 0; i < RT_MAX_RANK; i++) stride[i] = 0;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= s->d[i];
    }
}

rt_status rt_shape_broadcast(const char *op, const rt_shape *a, const rt_shape *b, rt_shape *out)
{
    char sa[RT_SHAPE_STR], sb[RT_SHAPE_STR];
    int rank = a->rank > b->rank ? a->rank : b->rank;
    rt_shape r = rt_shape_make(a->dtype, 0, NULL);
    r.rank = rank;
    for (int i = 0; i < rank; i++) {
        int ia = i - (rank - a->rank), ib = i - (rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->d[ia], db = ib < 0 ? 1 : b->d[ib];
        if (da != db && da != 1 && db != 1)
            return RT_RAISE(RT_ERR_ARG, "%s: shapes %s and %s do not broadcast", op, rt_shape_str(a, sa, sizeof sa),
                            rt_shape_str(b, sb, sizeof sb));
        r.d[i] = da == 1 ? db : da;
    }
    *out = r;
    return RT_OK;
}

void rt_broadcast_strides(const rt_shape *in, const rt_shape *out, int64_t stride[RT_MAX_RANK])
{
    int64_t own[RT_MAX_RANK];
    rt_shape_strides(in, own);
    for (int i = 0; i < RT_MAX_RANK; i++) stride[i] = 0;
    for (int i = 0; i < in->rank; i++)
        if (in->d[i] != 1) stride[i + out->rank - in->rank] = own[i];
}
