/* What the measures share: checked rows, tiled dot products, eigenvalues. */
#ifndef RT_METRICS_INTERNAL_H
#define RT_METRICS_INTERNAL_H

#include "base/linalg.h"
#include "metrics/metrics.h"

/* Rows whose dot products are wanted: float rows (through idx, less a mean) or plain double rows. All borrowed. */
typedef struct rt_mat {
    rt_points p;
    const double *mean; /* d, subtracted from float rows; NULL: nothing */
    const double *g;    /* n x d in place of p.x, or NULL */
    const double *norm2; /* n squared norms of the rows as read (rt_norms), where a visitor needs distances */
} rt_mat;

/* Called once per row i of a and block of columns, with ascending j0, always by the one thread that has row i:
 * dot[j] = a_i . b_(j0+j), j < m. State kept per row needs no lock and its order never changes. */
typedef struct rt_visit {
    void (*fn)(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot);
    void *ctx;
} rt_visit;

/* Every pair (i, j) of rows of a and b; upper: only pairs with j >= i are promised. tile: columns per block or 0. */
rt_status rt_dots(const rt_mat *a, const rt_mat *b, int64_t tile, bool upper, const rt_visit *visit, int n_visit);
rt_status rt_norms(const rt_mat *a, double *norm2); /* a_i . a_i in the same order of summation */
rt_status rt_product(const rt_mat *a, const rt_mat *b, bool add, double *out); /* out [+]= a b', n_a x n_b */
/* out = sum over rows of s^2 (x - mean)(x - mean)', d x d, s = inv[i] or 1. */
rt_status rt_scatter(const rt_mat *a, const double *inv, double *out);

rt_status rt_points_check(const char *what, rt_points p); /* shape, then finiteness: names the row */
rt_status rt_points_pair_check(rt_points real, rt_points set);
void rt_points_mean(rt_points p, double *mean);

/* Rows centred on a given mean, with their norms: one side of every two-sample measure. */
typedef struct rt_side {
    rt_mat m;
    double *mean, *norm2; /* owned; mean NULL when borrowed */
} rt_side;
rt_status rt_side_open(rt_points p, const double *mean, rt_side *s); /* mean NULL: its own */
void rt_side_close(rt_side *s);

static inline double rt_dist2(double na, double nb, double dot)
{
    double v = na + nb - 2 * dot;
    return v > 0 ? v : 0;
}

/* Row sums of the three kernels. */
typedef struct rt_kernel_sums {
    const rt_mat *a, *b;
    double gamma;               /* 1 / (2 sigma2); 0: no RBF sums */
    double *pa, *pb;            /* a_i . mean, b_j . mean + |mean|^2 (owned): undo the centring for the cubic kernel */
    double *rbf, *cubic, *dist; /* n_a sums over all columns (owned) */
} rt_kernel_sums;
rt_status rt_kernel_sums_open(const rt_mat *a, const rt_mat *b, double sigma2, rt_kernel_sums *s);
void rt_kernel_sums_close(rt_kernel_sums *s);
void rt_kernel_sums_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot);
/* Mean of each kernel over all pairs, and over the diagonal of a (meaningful when b is a). */
typedef struct rt_kernel_means {
    double all[3], diagonal[3]; /* by rt_mmd_kernel */
} rt_kernel_means;
void rt_kernel_sums_mean(const rt_kernel_sums *s, rt_kernel_means *out);
double rt_mmd_biased(double xx, double yy, double xy);
/* Mean over pairs of different rows. */
double rt_off_diagonal(double all, double diagonal, int64_t n);

/* The k smallest squared distances to other rows of the same set. */
typedef struct rt_neighbours {
    const rt_mat *a;
    int64_t k;
    double *near2; /* n x k ascending (owned) */
} rt_neighbours;
rt_status rt_neighbours_open(const rt_mat *a, int64_t k, rt_neighbours *s);
void rt_neighbours_close(rt_neighbours *s);
void rt_neighbours_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot);

/* What one pass over real x set leaves: the nearest set row per real row, and the counts of PRDC for each k. */
typedef struct rt_cross {
    const rt_mat *real, *set;
    int n_k;
    const double *const *real_r2; /* n_k arrays of real.n squared radii */
    const double *const *set_r2;  /* n_k arrays of set.n, or NULL entries where k >= set.n */
    double *min2;                 /* real.n (owned) */
    int64_t *inside;              /* n_k x set.n balls that hold the set row (owned) */
    uint8_t *reached;             /* n_k x real.n: in the ball of some set row (owned) */
} rt_cross;
rt_status rt_cross_open(const rt_mat *real, const rt_mat *set, int n_k, const double *const *real_r2,
                        const double *const *set_r2, rt_cross *s);
void rt_cross_close(rt_cross *s);
void rt_cross_visit(void *ctx, int64_t i, int64_t j0, int64_t m, const double *dot);
void rt_cross_prdc(const rt_cross *s, int at, int64_t k, rt_prdc *out); /* recall NaN where there is no radius */

rt_status rt_nearest_of(const rt_cross *s, rt_nearest *out);

/* Moments of the real side of a Frechet distance, kept over many sets. */
typedef struct rt_moments {
    double *mean, *cov, *root; /* d, d x d (n-1), its square root; owned */
    double trace;
    int64_t d;
} rt_moments;
rt_status rt_moments_open(rt_points p, bool root, rt_moments *m);
void rt_moments_close(rt_moments *m);
rt_status rt_frechet_to(const rt_moments *m, rt_points set, rt_frechet_form form, double *out);

/* A class, or all classes together: the real side of the panel. */
typedef struct rt_group {
    int64_t *idx;       /* rows compared with (owned) */
    int64_t population; /* real images that they are a uniform sample of */
    rt_side side;       /* centred on the mean of these rows */
    double *r2;         /* n_k x side.m.p.n squared radii (owned) */
    rt_kernel_means means;
    double mean_cosine, trace; /* of all images of a class (n - 1); NaN where undefined, and for the pooled group */
} rt_group;

struct rt_metric_ref {
    const float *feat; /* borrowed */
    int64_t n, d, tile, most; /* most: the largest k */
    int32_t n_classes;
    int64_t *k; /* owned */
    int n_k;
    bool rbf;   /* sigma2 is defined */
    double sigma2;
    rt_group *group; /* n_classes, then the pooled one (owned) */
    rt_moments moments; /* of all images; mean NULL when undefined */
};

/* Row numbers sorted by class: class c holds row[start[c]] .. row[start[c + 1]), ascending. The caller owns both. */
rt_status rt_rows_by_class(const int32_t *label, int64_t n, int32_t n_classes, int64_t **row, int64_t **start);
bool rt_points_zero_row(rt_points p); /* some row is all zeros: cosines are undefined */

#endif
