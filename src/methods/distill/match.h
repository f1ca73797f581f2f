/* One gradient-matching step, compiled: the engine of DC, DSA and IDC (matching.md 3.3).
 *
 *     real side       g_c = d/dtheta mean CE(theta; A x_real, c)          per class c, first order, a constant below
 *     synthetic side  d/dx sum_c D(g_c, d/dtheta mean CE(theta; A x_syn, c))            second order
 *
 * Several classes go through one pass as one batched problem: theta is broadcast to a copy per class, so that the gradient of
 * the summed loss comes out per class. The two sides take different numbers of classes per pass (`chunk`): a real pass is a
 * large first-order batch, a synthetic one a small second-order batch. Class terms separate, so the result does not depend on
 * the chunks except for rounding.
 *
 * Not here: which images, which draws, and the update of the images. */
#ifndef RT_METHODS_MATCH_H
#define RT_METHODS_MATCH_H

#include "data/data.h"
#include "methods/distill/distill.h"
#include "methods/distill/gradient_distance.h"

typedef struct rt_match_desc {
    rt_backend *be;            /* borrowed, as are model, theta, buffers; they outlive the step */
    const rt_model *model;
    rt_distance distance;
    rt_tensor *theta, *buffers; /* [P]; [B] or NULL: batch norm then uses them as they are (frozen) */
    int64_t classes;           /* of the data set */
    int64_t real, syn;         /* images per class on each side; syn: stored images */
    int64_t chunk_real, chunk_syn; /* classes per pass; chunk_real divides chunk_syn, which divides classes */
    bool dsa;                  /* both sides go through rt_dsa_apply with the rows given at run time */
    const rt_normalise *norm;  /* not NULL: images live in [0,1] and are normalised before the augmentation */
    int32_t factor;            /* of multi-formation (formation.h): syn * factor^2 images of a class enter; 0 or 1: syn */
    int64_t take;              /* only so many of them, chosen anew for every pass; 0: all */
} rt_match_desc;

/* One compiled side. Rows (images) are grouped by class. */
typedef struct rt_match_side {
    int64_t classes, images;   /* per pass: classes, and images per class after decoding */
    rt_exec *ex;
    rt_tensor *x, *label, *pick, *weight, *dsa[RT_DSA_INPUTS];
} rt_match_side;

typedef struct rt_match {
    rt_match_desc d;
    int32_t n_tensors, *tensor; /* parameters that enter the distance */
    rt_match_side real, syn;
    rt_tensor **g_part, **g_real; /* [chunk_real, ...] as the real side writes, [chunk_syn, ...] as the other reads */
    rt_tensor *gx, *distance;   /* [chunk_syn * syn, ...]; [chunk_syn] */
    float **g_host;             /* assembles parts; NULL when the chunks are equal and g_part is g_real */
    int32_t *label;
    float *weight;
    int64_t arena_bytes;        /* of the larger side, with its bound tensors */
    double flops_real, flops_syn; /* of one pass */
} rt_match;

/* RT_ERR_CONFIG when no parameter tensor enters the distance. */
rt_status rt_match_create(const rt_match_desc *d, rt_match *out);
void rt_match_fini(rt_match *m); /* accepts a zeroed struct */
int64_t rt_match_decoded(const rt_match_desc *d); /* images of a class that enter a synthetic pass */

/* Classes [first, first + chunk_real): x [chunk_real * real, h,w,3], dsa rows likewise (or NULL). A class smaller than `real`
 * has distinct[i] images of its own (i counts from first), the rest of its rows are fillers and do not count; NULL: all rows
 * count. The gradients stay in the step; first must lie in the chunk that rt_match_images is called for next. */
rt_status rt_match_gradients(rt_match *m, int64_t first, const float *x, const int64_t *distinct, float *const dsa[RT_DSA_INPUTS]);
/* Classes [first, first + chunk_syn) against the gradients of the passes before: x [chunk_syn * syn, ...], gx the same shape
 * receives the image gradient, *loss the sum of the distances. pick [chunk_syn * take]: rows of the decoded images that enter,
 * grouped by class, class i of the pass having rows i * syn * factor^2 and on; NULL when all enter. dsa rows belong to those. */
rt_status rt_match_images(rt_match *m, int64_t first, const float *x, const int32_t *pick, float *const dsa[RT_DSA_INPUTS],
                          float *gx, double *loss);

/* v = momentum v + g; x -= lr v: PyTorch's SGD, on the host (the images of a set are few). */
void rt_match_sgd(float *x, float *v, const float *g, int64_t n, double lr, double momentum);
/* What k such steps with g = 0 do: images coast on their momentum while other classes take their steps (matching.md 7, 4). */
void rt_match_coast(float *x, float *v, int64_t n, double lr, double momentum, int64_t k);

#endif
