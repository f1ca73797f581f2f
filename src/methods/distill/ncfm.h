/* Internal to NCFM: its state; the compiled steps are in ncfm_steps.c, the loop in ncfm.c. */
#ifndef RT_METHODS_NCFM_H
#define RT_METHODS_NCFM_H

#include "methods/distill/distill.h"
#include "optim/optim.h"

typedef struct rt_ncfm {
    const rt_build_ctx *ctx;
    rt_draws draws;
    rt_model *model;
    rt_dsa dsa;
    rt_optim_desc optim;
    bool use_dsa, classwise, psi;
    int64_t n, px, ipc, classes, factor, dim, k, n_params, n_buffers; /* px: floats per stored image; k: frequencies */
    int64_t batch, part;                     /* real images of a class, and how many of them go through one step */
    int64_t chunk, rows;                     /* classes per step over synthetic images, decoded images of a chunk */
    int n_state;                             /* vectors of the image optimiser */
    rt_exec *real, *match, *calibrate, *update, *clamp, *psi_t, *psi_step;
    rt_tensor *all, *state[2], *acc, *hyper; /* stored images, flat; optimiser; gradient of a joint step; rates */
    rt_tensor *theta, *trained, *buffers;    /* network of the match, of the calibration */
    rt_tensor *t, *noise;                    /* frequencies [k,dim], noise of psi */
    rt_tensor *xr, *pr[RT_DSA_INPUTS], *part_c, *part_s, *part_f;
    rt_tensor *index, *label, *ps[RT_DSA_INPUTS], *cr, *sr, *fs, *loss;
    rt_tensor *psi_theta, *psi_v, *psi_hyper, *fr;
    float *images, *state_host[2], plateau[3], *psi_host[2];        /* plateau: rate, best loss, iterations since */
    float *theta_host, *trained_host, *buffers_host, *real_px, *mean_c, *mean_s, *part_host, *t_host, *fr_host;
    float *dsa_host[RT_DSA_INPUTS];
    int32_t *index_host, *label_host;
    int64_t *pick;
    const rt_st_tensor *given_t, *given_trained;
    double flops_per_it;
} rt_ncfm;

/* Tensors and compiled steps, from the sizes in d. */
rt_status rt_ncfm_compile(rt_ncfm *d);
double rt_ncfm_peak_bytes(const rt_ncfm *d);
void rt_ncfm_fini(rt_ncfm *d);

#endif
