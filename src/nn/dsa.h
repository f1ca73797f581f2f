/* Differentiable Siamese Augmentation (Zhao, Bilen: "Dataset condensation with differentiable siamese augmentation",
 * ICML 2021; ranges and rules in matching.md 2.4).
 *
 * Two halves. The host draws parameters by counter; the graph applies them as data, so one prepared plan serves every
 * draw:
 *
 *     rt_dsa d;  rt_dsa_parse("color_crop_cutout_flip_scale_rotate", 'S', &d);
 *     x = rt_dsa_apply(g, x, color, affine, box);                  // once; color [N,3], affine [N,6], box [N,4] inputs
 *     d.siamese = 1;                                               // per step: fill the three inputs
 *     rt_dsa_draw(&d, 0, h, w, seed, step, class, NULL, n, color, affine, box);
 *
 * Mode S applies one op group per call: one stage. Mode M applies all ops in list order, which is *not* one stage in
 * general: a crop or a scale loses what leaves the frame and each resampling interpolates anew, so their composition is
 * not one resampling. Ops share a stage only where that is exact: colour, then geometry, then cutout, with a flip
 * merged into one neighbouring crop, scale or rotation. Apply rt_dsa_stages(d) stages one after the other, each with
 * its own inputs.
 *
 * Mode I is the policy of IDC and NCFM (matching.md 2.4): flip, then color, then one op drawn from crop, scale and rotate,
 * then cutout; flip, color and cutout are always applied when the string names them. That is one stage.
 *
 * Draws: the op group of modes S and I comes from (seed, RT_RNG_DSA, step, group); parameters from the same key when siamese,
 * else from (seed, RT_RNG_DSA, step, sample[i]). Real and synthetic batches of a class draw with the same key, hence
 * alike. */
#ifndef RT_NN_DSA_H
#define RT_NN_DSA_H

#include <stdint.h>

#include "retort/graph.h"

typedef enum rt_dsa_op {
    RT_DSA_COLOR,
    RT_DSA_CROP,
    RT_DSA_CUTOUT,
    RT_DSA_FLIP,
    RT_DSA_SCALE,
    RT_DSA_ROTATE,
    RT_DSA_OPS
} rt_dsa_op;

typedef struct rt_dsa {
    int32_t n_ops;             /* 0: identity */
    rt_dsa_op op[RT_DSA_OPS];  /* in the order of the strategy string; mode I: of application */
    int32_t stage[RT_DSA_OPS]; /* mode M: stage of each op; else 0 */
    int32_t n_stages;          /* at least 1 */
    char mode;                 /* 'S', 'M' or 'I' */
    int32_t siamese;           /* all images of a call share one draw */
    int32_t align_corners;     /* grid convention of rotations on maps that are not square; else without effect */
} rt_dsa;

/* Op names joined by '_'; "" and "none" give the identity. mode 'S', 'M' or 'I'. RT_ERR_CONFIG names a bad or repeated op.
 * siamese and align_corners start at 0. */
rt_status rt_dsa_parse(const char *strategy, char mode, rt_dsa *out);
int32_t rt_dsa_stages(const rt_dsa *d);
/* Fills one stage for n images of h x w: color n*3, affine n*6, box n*4, identity where an op is not chosen.
 * group: what shares one op choice, and in siamese mode one draw (the class; 0 for a training batch).
 * sample: n ids of the images (their places in the batch when NULL); not read in siamese mode. */
void rt_dsa_draw(const rt_dsa *d, int32_t stage, int64_t h, int64_t w, uint64_t seed, uint64_t step, uint32_t group,
                 const uint32_t *sample, int64_t n, float *color, float *affine, float *box);
/* One stage: box_mask(affine_sample(color(x))). x [N,H,W,C]; color f32[N,3]; affine f32[N,6]; box f32[N,4]. */
rt_val rt_dsa_apply(rt_graph *g, rt_val x, rt_val color, rt_val affine, rt_val box);

#endif
