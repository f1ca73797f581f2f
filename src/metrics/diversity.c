/* Cheap companions of the Vendi score: mean cosine, variance and effective ranks of a group of rows; class balance. */
#include <float.h>
#include <math.h>

#include "base/alloc.h"
#include "metrics/internal.h"

rt_status rt_mean_cosine(rt_points x, double *out)
{
    rt_status st = RT_OK;
    double *norm2 = NULL, *sum = NULL, square = 0;
    RT_TRY(rt_points_check("set", x));
    if (x.n < 2) return RT_RAISE(RT_ERR_ARG, "the cosine of pairs needs 2 rows or more");
    RT_ALLOC(norm2, (size_t)x.n * sizeof *norm2, "norms of features");
    RT_ALLOC(sum, (size_t)x.d * sizeof *sum, "a sum of features");
    RT_TRY(rt_norms(&(rt_mat){.p = x}, norm2));
    for (int64_t i = 0; i < x.n; i++) {
        const int64_t row = x.idx ? x.idx[i] : i;
        if (!(norm2[i] > 0)) {
            st = RT_RAISE(RT_ERR_NUMERIC, "feature row %lld is zero: it has no cosine", (long long)row);
            goto out;
        }
        const double f = 1 / sqrt(norm2[i]);
        for (int64_t k = 0; k < x.d; k++) sum[k] += f * (double)x.x[row * x.d + k];
    }
    for (int64_t k = 0; k < x.d; k++) square += sum[k] * sum[k];
    *out = (square - (double)x.n) / ((double)x.n * (double)(x.n - 1)); /* |sum z|^2 = n + sum over pairs */
out:
    rt_free(norm2);
    rt_free(sum);
    return st;
}

/* exp of the entropy of the shares of the eigenvalues to a power; round-off of zeros dropped. */
static double effective_rank(const double *w, int64_t n, double power)
{
    const double floor = (double)n * DBL_EPSILON * w[n - 1];
    double total = 0, entropy = 0;
    for (int64_t i = 0; i < n; i++)
        if (w[i] > floor) total += pow(w[i], power);
    for (int64_t i = 0; i < n; i++)
        if (w[i] > floor) {
            const double p = pow(w[i], power) / total;
            entropy -= p * log(p);
        }
    return exp(entropy);
}

rt_status rt_spread_measure(rt_points x, rt_spread *out)
{
    rt_status st = RT_OK;
    rt_side s = {0};
    double *a = NULL, *w = NULL, trace = 0, level = 0, sum = 0, square = 0;
    const int64_t n = x.n, d = x.d, order = n < d ? n : d;
    rt_spread r = {.effective_rank = NAN, .participation = NAN, .effective_rank_sv = NAN};
    RT_TRY(rt_points_check("set", x));
    RT_TRY(rt_side_open(x, NULL, &s));
    for (int64_t i = 0; i < n; i++) trace += s.norm2[i];
    r.trace = trace / (double)n;
    r.trace_unbiased = n > 1 ? trace / (double)(n - 1) : NAN;
    for (int64_t k = 0; k < d; k++) level += s.mean[k] * s.mean[k];
    if (trace > 1e-27 * (double)n * level) { /* below: round-off of a mean of equal rows */
        RT_ALLOC(a, (size_t)(order * order) * sizeof *a, "a covariance");
        RT_ALLOC(w, (size_t)order * sizeof *w, "eigenvalues");
        if (order == n)
            RT_TRY(rt_product(&s.m, &s.m, false, a));
        else
            RT_TRY(rt_scatter(&s.m, NULL, a));
        RT_TRY(rt_eigen(a, order, w, false));
        for (int64_t i = 0; i < order; i++) {
            const double l = w[i] > 0 ? w[i] : 0;
            sum += l;
            square += l * l;
        }
        r.effective_rank = effective_rank(w, order, 1);
        r.effective_rank_sv = effective_rank(w, order, 0.5);
        r.participation = sum * sum / square;
    }
    *out = r;
out:
    rt_side_close(&s);
    rt_free(a);
    rt_free(w);
    return st;
}

rt_status rt_balance_measure(const int32_t *label, int64_t n, int32_t n_classes, rt_balance *out)
{
    rt_status st = RT_OK;
    int64_t *count = NULL;
    double entropy = 0;
    if (n < 1 || n_classes < 1 || !label)
        return RT_RAISE(RT_ERR_ARG, "balance of %lld labels in %d classes", (long long)n, (int)n_classes);
    RT_ALLOC(count, (size_t)n_classes * sizeof *count, "class counts");
    for (int64_t i = 0; i < n; i++) {
        if (label[i] < 0 || label[i] >= n_classes) {
            st = RT_RAISE(RT_ERR_ARG, "label %d of row %lld is not one of %d classes", (int)label[i], (long long)i,
                          (int)n_classes);
            goto out;
        }
        count[label[i]]++;
    }
    rt_balance b = {.min = count[0], .max = count[0]};
    for (int32_t c = 0; c < n_classes; c++) {
        const double p = (double)count[c] / (double)n;
        if (p > 0) entropy -= p * log(p);
        b.min = count[c] < b.min ? count[c] : b.min;
        b.max = count[c] > b.max ? count[c] : b.max;
    }
    b.entropy = n_classes > 1 ? entropy / log((double)n_classes) : 1;
    *out = b;
out:
    rt_free(count);
    return st;
}
