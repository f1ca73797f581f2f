/* What a condensed set covers: a set's features measured against those of the real training images.
 *
 * Two layers. The single measures (rt_prdc_measure, rt_mmd_measure, rt_frechet ...) take two matrices of feature rows
 * and return numbers; tests and experiments use them. The stage uses the panel:
 *
 *     rt_metric_ref *ref;                       // once per (data set, extractor): what depends on real images alone
 *     rt_metric_ref_create(feat, label, n, d, n_classes, &(rt_metric_opts){.k = k, .n_k = 2}, &ref);
 *     rt_metric_rows rows = {0};
 *     rt_metrics_of_set(ref, set_feat, set_label, m, &rows);      // per set: N M D + M^2 D work
 *     for (int64_t i = 0; i < rows.n; i++) use(rows.row[i]);
 *     rt_metric_rows_fini(&rows);
 *     rt_metric_ref_destroy(ref);
 *
 * Rules
 *   - Features are float32 rows; all arithmetic is float64. Distances are |x|^2 + |y|^2 - 2 x.y of features centred on
 *     the real mean, with every dot product (norms included) summed in one fixed order: the distance of equal rows is
 *     exactly 0, d(x,y) == d(y,x), and no result depends on the tile size or the number of threads.
 *   - Pairs are visited in tiles; nothing of size N x N is ever held.
 *   - A measure that is undefined (k >= n, covariance of one point) is RT_ERR_ARG in the single measures and an absent
 *     row in the panel, never a silent value. A row with NaN or infinity is RT_ERR_NUMERIC and the message names it.
 *   - Out-parameters are untouched on failure. SIGTERM ends a long pass with RT_ERR_CANCELLED.
 *
 * Not here: feature extraction (teacher/), accuracy of students (eval/), cost (artefact/ledger). */
#ifndef RT_METRICS_METRICS_H
#define RT_METRICS_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "retort/status.h"

/* n rows of d floats, borrowed. With idx, row i is x + idx[i] * d: a class of a matrix without a copy. */
typedef struct rt_points {
    const float *x;
    int64_t n, d;
    const int64_t *idx; /* n row numbers, or NULL for 0..n-1 */
} rt_points;

/* --- the panel --------------------------------------------------------------------------------------------------- */
typedef struct rt_metric_opts {
    const int64_t *k;      /* neighbourhood sizes of precision, recall, density, coverage; each >= 1 */
    int n_k;
    int64_t max_reference; /* real images per class that a set is compared with, a seeded sample; 0: all */
    int64_t max_pooled;    /* the same for all classes together, where work grows as its square; 0: RT_METRIC_POOLED */
    uint64_t seed;
    int64_t tile;          /* rows per block; 0 chooses. Never changes a result. */
} rt_metric_opts;
enum { RT_METRIC_POOLED = 10000 };

typedef struct rt_metric_ref rt_metric_ref;
/* feat: n x d, borrowed until destroy. label: n classes in [0, n_classes), copied. RT_ERR_CONFIG when a class has no
 * more than max(k) images. Cost: n_c^2 d per class and max_pooled^2 d. */
rt_status rt_metric_ref_create(const float *feat, const int32_t *label, int64_t n, int64_t d, int32_t n_classes,
                               const rt_metric_opts *o, rt_metric_ref **out);
void rt_metric_ref_destroy(rt_metric_ref *ref);
int64_t rt_metric_ref_rows(const rt_metric_ref *ref, int32_t class_index); /* rows compared with; -1: pooled */

/* One figure. name (static storage):
 *   with k      coverage, precision, recall, density
 *   without     delta_mean delta_max delta_p50 delta_p90 delta_p99 delta_rest   distance of a real image to the set
 *               mmd_rbf (biased, squared) kid (unbiased) energy frechet
 *               vendi vendi_2 vendi_inf mean_cosine trace_ratio effective_rank participation
 *   class -1    balance_entropy balance_min balance_max; coverage_class_mean coverage_class_min (with k)
 * class_index -1 is the pooled value, except for the diversity row (vendi ... participation), where it is the mean over
 * the classes that have the value: diversity within a class is the question, and pooled Vendi is capped by d. */
typedef struct rt_metric_row {
    const char *name;
    int64_t k;                 /* 0 where it plays no part */
    int64_t class_index;       /* -1: see above */
    double value;
    double random_expectation; /* for a uniform random subset of the same size (panel.c), or NaN where none is known */
} rt_metric_row;

typedef struct rt_metric_rows {
    rt_metric_row *row; /* owned */
    int64_t n, capacity;
} rt_metric_rows;
void rt_metric_rows_fini(rt_metric_rows *rows); /* accepts {0} */

/* feat: n x d of the reference; label: classes of the set, any counts, 0 included. Appends to *rows. */
rt_status rt_metrics_of_set(const rt_metric_ref *ref, const float *feat, const int32_t *label, int64_t n,
                            rt_metric_rows *rows);

/* --- precision, recall, density, coverage ------------------------------------------------------------------------ */
/* Distance of every row to its k-th nearest other row. r: n_k x n. RT_ERR_ARG when some k >= n. */
rt_status rt_knn_radii(rt_points x, const int64_t *k, int n_k, int64_t tile, double *r);

typedef struct rt_prdc {
    double precision, recall, density, coverage;
} rt_prdc;
/* Needs k < real.n and k < set.n. */
rt_status rt_prdc_measure(rt_points real, rt_points set, int64_t k, int64_t tile, rt_prdc *out);
/* Of a uniform random m-subset of n points without ties: 1 - C(n-k,m) / C(n,m). NaN unless 1 <= k < n, 0 <= m <= n. */
double rt_coverage_expected(int64_t n, int64_t m, int64_t k);
/* The same when coverage is counted over a uniform sample of n_ref of the n points: the k-th neighbour in the sample is
 * the p-th of all with negative hypergeometric probability. Equals the above for n_ref == n. */
double rt_coverage_expected_sampled(int64_t n, int64_t n_ref, int64_t m, int64_t k);

/* --- distance from real images to the set ------------------------------------------------------------------------ */
typedef struct rt_nearest {
    double mean, mean_square, max, p50, p90, p99; /* percentiles by linear interpolation between order statistics */
    double rest; /* mean over the rows that are not in the set (see nearest.c); 0 when all are */
} rt_nearest;
rt_status rt_nearest_measure(rt_points real, rt_points set, int64_t tile, rt_nearest *out);

/* --- kernel two-sample distances --------------------------------------------------------------------------------- */
typedef enum rt_mmd_kernel {
    RT_KERNEL_RBF,   /* exp(-|x-y|^2 / (2 sigma2)) */
    RT_KERNEL_CUBIC, /* (x.y / d + 1)^3, the kernel of KID; here over all pairs, not averaged over subsets */
    RT_KERNEL_ENERGY /* -|x-y|: the biased value is the energy distance */
} rt_mmd_kernel;
typedef struct rt_mmd {
    double biased, unbiased; /* squared; unbiased is NaN when a side has one row */
    double mean_xx, mean_yy, mean_xy;
} rt_mmd;
rt_status rt_mmd_measure(rt_points real, rt_points set, rt_mmd_kernel kernel, double sigma2, int64_t tile, rt_mmd *out);
/* Median squared distance over 10^4 seeded pairs of different rows. RT_ERR_ARG when n < 2, RT_ERR_NUMERIC at 0. */
rt_status rt_rbf_sigma2(rt_points real, uint64_t seed, double *sigma2);

/* --- Frechet distance -------------------------------------------------------------------------------------------- */
typedef enum rt_frechet_form {
    RT_FRECHET_AUTO,    /* low rank when set.n < d */
    RT_FRECHET_DENSE,   /* d x d: eigenvalues of S1^1/2 S2 S1^1/2 */
    RT_FRECHET_LOW_RANK /* m x m: eigenvalues of Yc S1 Yc' / (m-1) */
} rt_frechet_form;
/* Covariances with n - 1, no ridge. RT_ERR_ARG when a side has one row. */
rt_status rt_frechet(rt_points real, rt_points set, rt_frechet_form form, double *out);

/* --- diversity --------------------------------------------------------------------------------------------------- */
typedef struct rt_vendi {
    double q1, q2, qinf;
} rt_vendi;
typedef enum rt_vendi_form { RT_VENDI_AUTO, RT_VENDI_PRIMAL, RT_VENDI_DUAL } rt_vendi_form; /* n x n, d x d */
/* Cosine kernel. RT_ERR_NUMERIC on a zero row: it has no direction. */
rt_status rt_vendi_measure(rt_points x, rt_vendi_form form, rt_vendi *out);
rt_status rt_vendi_of_kernel(const double *kernel, int64_t n, rt_vendi *out); /* symmetric, unit diagonal */
/* Order q >= 0 from n eigenvalues of K/n; INFINITY gives 1/max. Eigenvalues <= 1e-12 are dropped. */
double rt_vendi_of_eigenvalues(const double *lambda, int64_t n, double q);

typedef struct rt_spread {
    double trace, trace_unbiased;   /* of the covariance, with 1/n and 1/(n-1); the latter NaN when n is 1 */
    double effective_rank, participation; /* of the covariance's spectrum; NaN when all rows are equal */
    double effective_rank_sv;       /* of the singular values of the centred rows (Roy and Vetterli) */
} rt_spread;
rt_status rt_spread_measure(rt_points x, rt_spread *out);
rt_status rt_mean_cosine(rt_points x, double *out); /* over pairs of different rows; RT_ERR_ARG when n < 2 */

/* --- class balance ----------------------------------------------------------------------------------------------- */
typedef struct rt_balance {
    int64_t min, max;
    double entropy; /* of the class shares over ln(classes); 1 for one class */
} rt_balance;
rt_status rt_balance_measure(const int32_t *label, int64_t n, int32_t n_classes, rt_balance *out);

#endif
