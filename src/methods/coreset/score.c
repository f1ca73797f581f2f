/* Selection by a score per row, and the EL2N score. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "methods/coreset/coreset.h"

typedef struct keyed {
    double value;
    int64_t row;
} keyed;

static int by_value_then_row(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

rt_status rt_select_score(const double *value, int64_t n, int64_t budget, int64_t *picked, double *score)
{
    rt_status st = RT_OK;
    keyed *k = NULL;
    if (n < 0 || budget < 0 || (n && !value))
        return RT_RAISE(RT_ERR_ARG, "selection of %lld from %lld scores", (long long)budget, (long long)n);
    RT_ALLOC(k, ((size_t)n + 1) * sizeof *k, "scores");
    for (int64_t i = 0; i < n; i++) {
        if (isnan(value[i])) {
            st = RT_RAISE(RT_ERR_NUMERIC, "score of row %lld of %lld is NaN", (long long)i, (long long)n);
            goto out;
        }
        k[i] = (keyed){value[i], i};
    }
    qsort(k, (size_t)n, sizeof *k, by_value_then_row);
    for (int64_t t = 0; t < n && t < budget; t++) {
        picked[t] = k[t].row;
        if (score) score[t] = k[t].value;
    }
out:
    rt_free(k);
    return st;
}

static rt_status el2n(const float *in, bool logits, int64_t n, int32_t c, const int32_t *label, double *value)
{
    rt_status st = RT_OK;
    double *p = NULL;
    if (n < 0 || c < 1 || (n && (!in || !label)))
        return RT_RAISE(RT_ERR_ARG, "EL2N of %lld rows of %d classes", (long long)n, c);
    RT_ALLOC(p, ((size_t)n + 1) * sizeof *p, "EL2N scores");
    for (int64_t i = 0; i < n; i++) {
        const float *z = in + i * c;
        if (label[i] < 0 || label[i] >= c) {
            st = RT_RAISE(RT_ERR_FORMAT, "row %lld: label %d of %d classes", (long long)i, label[i], c);
            goto out;
        }
        double top = (double)z[0], sum = 0, sq = 0;
        for (int32_t j = 1; j < c; j++) top = (double)z[j] > top ? (double)z[j] : top;
        for (int32_t j = 0; logits && j < c; j++) sum += exp((double)z[j] - top);
        for (int32_t j = 0; j < c; j++) {
            double e = (logits ? exp((double)z[j] - top) / sum : (double)z[j]) - (j == label[i]);
            sq += e * e;
        }
        p[i] = sqrt(sq);
        if (!isfinite(p[i])) {
            st = RT_RAISE(RT_ERR_NUMERIC, "%s of row %lld of %lld hold NaN or infinity",
                          logits ? "logits" : "probabilities", (long long)i, (long long)n);
            goto out;
        }
    }
    for (int64_t i = 0; i < n; i++) value[i] = p[i];
out:
    rt_free(p);
    return st;
}

rt_status rt_el2n_probs(const float *prob, int64_t n, int32_t classes, const int32_t *label, double *value)
{
    return el2n(prob, false, n, classes, label, value);
}

rt_status rt_el2n_logits(const float *logit, int64_t n, int32_t classes, const int32_t *label, double *value)
{
    return el2n(logit, true, n, classes, label, value);
}
