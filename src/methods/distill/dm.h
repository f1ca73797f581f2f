/* Internal to DM: its state, and the draws of one iteration (dm_draws.c). */
#ifndef RT_METHODS_DM_H
#define RT_METHODS_DM_H

#include "methods/method.h"
#include "nn/dsa.h"

enum { DM_DSA_INPUTS = 3 }; /* color, affine, box */
extern const int64_t rt_dm_dsa_width[DM_DSA_INPUTS];
extern const char *const rt_dm_dsa_name[DM_DSA_INPUTS];

typedef struct rt_dm {
    const rt_build_ctx *ctx;
    rt_model *model;
    rt_dsa dsa;
    bool use_dsa;
    int64_t n, px, ipc, classes, chunk, dim, n_params, n_buffers; /* px: floats per image; chunk: classes per gradient step */
    rt_exec *real, *grad, *update;
    rt_tensor *theta, *buffers;
    rt_tensor *xr, *pr[DM_DSA_INPUTS], *mu_r;             /* real batch, its DSA parameters, its mean feature [dim] */
    rt_tensor *xs, *ps[DM_DSA_INPUTS], *mu, *gs, *loss;   /* synthetic chunk, its parameters, targets [chunk,dim] */
    rt_tensor *all, *velocity, *g_all, *lr;               /* the whole set and its optimiser */
    float *images, *g_host, *theta_host, *buffers_host, *batch, *mu_host, *dsa_host[DM_DSA_INPUTS];
    int64_t *by_class, *start, *pick;
    rt_st_file *weights, *order;                          /* files that replace draws */
    const rt_st_tensor *given_theta, *given_real, *given_dsa[DM_DSA_INPUTS];
    double flops_per_it;
} rt_dm;

rt_status rt_dm_open_draws(rt_dm *d);                      /* validates ctx->files against the sizes in d */
rt_status rt_dm_initial_images(rt_dm *d);                  /* fills d->images */
rt_status rt_dm_new_network(rt_dm *d, int64_t it);         /* writes d->theta and d->buffers */
void rt_dm_real_batch(rt_dm *d, int64_t it, int64_t c);    /* fills d->pick[0..batch_real) with training-set indices */
/* Class c's one draw of iteration it, repeated for rows [at, at + n) of d->dsa_host. */
void rt_dm_dsa(rt_dm *d, int64_t it, int64_t c, int64_t at, int64_t n);

#endif
