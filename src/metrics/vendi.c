/* Vendi score (Friedman and Dieng, TMLR 2023; orders q: Pasarkar and Dieng 2024): the effective number of distinct
 * rows, the exponential of the Renyi entropy of the eigenvalues of K/n. Cosine kernel; K (n x n) and the dual Z'Z
 * (d x d) have the same non-zero spectrum, so the smaller one is solved. */
#include <math.h>

#include "base/alloc.h"
#include "metrics/internal.h"

double rt_vendi_of_eigenvalues(const double *lambda, int64_t n, double q)
{
    const double floor = 1e-12; /* round-off of zeros, negative ones included */
    double largest = 0, power = 0, entropy = 0;
    for (int64_t i = 0; i < n; i++) {
        const double l = lambda[i];
        if (!(l > floor)) continue;
        largest = l > largest ? l : largest;
        entropy -= l * log(l);
        power += pow(l, isinf(q) ? 1 : q);
    }
    if (isinf(q)) return 1 / largest;
    return q == 1 ? exp(entropy) : exp(log(power) / (1 - q));
}

/* a: symmetric with trace 1, destroyed. */
static rt_status scores_of(double *a, int64_t n, rt_vendi *out)
{
    rt_status st = RT_OK;
    double *w = NULL;
    RT_ALLOC(w, (size_t)n * sizeof *w, "eigenvalues");
    RT_TRY(rt_eigen(a, n, w, false));
    *out = (rt_vendi){rt_vendi_of_eigenvalues(w, n, 1), rt_vendi_of_eigenvalues(w, n, 2),
                      rt_vendi_of_eigenvalues(w, n, INFINITY)};
out:
    rt_free(w);
    return st;
}

rt_status rt_vendi_of_kernel(const double *kernel, int64_t n, rt_vendi *out)
{
    rt_status st = RT_OK;
    double *a = NULL;
    if (n < 1 || n > 46340) return RT_RAISE(RT_ERR_ARG, "kernel matrix of order %lld", (long long)n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (!isfinite(kernel[i * n + j]))
                return RT_RAISE(RT_ERR_NUMERIC, "kernel row %lld holds NaN or infinity", (long long)i);
    RT_ALLOC(a, (size_t)(n * n) * sizeof *a, "a kernel matrix");
    for (int64_t i = 0; i < n * n; i++) a[i] = kernel[i] / (double)n;
    RT_TRY(scores_of(a, n, out));
out:
    rt_free(a);
    return st;
}

rt_status rt_vendi_measure(rt_points x, rt_vendi_form form, rt_vendi *out)
{
    rt_status st = RT_OK;
    const int64_t n = x.n, d = x.d;
    double *inv = NULL, *a = NULL;
    const rt_mat m = {.p = x};
    RT_TRY(rt_points_check("set", x));
    RT_ALLOC(inv, (size_t)n * sizeof *inv, "norms of features");
    RT_TRY(rt_norms(&m, inv));
    for (int64_t i = 0; i < n; i++) {
        if (!(inv[i] > 0)) {
            const int64_t row = x.idx ? x.idx[i] : i;
            st = RT_RAISE(RT_ERR_NUMERIC, "feature row %lld is zero: it has no cosine", (long long)row);
            goto out;
        }
        inv[i] = 1 / sqrt(inv[i]);
    }
    if (form == RT_VENDI_DUAL || (form == RT_VENDI_AUTO && d < n)) {
        RT_ALLOC(a, (size_t)(d * d) * sizeof *a, "a dual kernel matrix");
        RT_TRY(rt_scatter(&m, inv, a));
        for (int64_t i = 0; i < d * d; i++) a[i] /= (double)n;
        RT_TRY(scores_of(a, d, out));
    } else {
        RT_ALLOC(a, (size_t)(n * n) * sizeof *a, "a kernel matrix");
        RT_TRY(rt_product(&m, &m, false, a));
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) a[i * n + j] *= inv[i] * inv[j] / (double)n;
        RT_TRY(scores_of(a, n, out));
    }
out:
    rt_free(inv);
    rt_free(a);
    return st;
}
