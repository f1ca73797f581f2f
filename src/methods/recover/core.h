/* What the files of the recovery core share; methods see recover.h alone. */
#ifndef RT_METHODS_RECOVER_CORE_H
#define RT_METHODS_RECOVER_CORE_H

#include "methods/recover/recover.h"

enum { RT_RECOVER_PANEL = 16 }; /* teachers in one step */

/* Which images form a block, and which blocks go through a step together: pass p is blocks [pass[p], pass[p+1]), all of one
 * size. Images of block b: image[start[b] .. start[b+1]). */
typedef struct recover_plan {
    int64_t n_blocks, n_passes, largest; /* largest: images of a pass */
    int64_t *image, *start, *pass;       /* owned */
} recover_plan;
rt_status recover_plan_make(const rt_recovery *r, recover_plan *out);
void recover_plan_fini(recover_plan *p); /* accepts a zeroed struct */

/* The teachers of a step and the weights of their losses. */
typedef struct recover_panel {
    int32_t n, teacher[RT_RECOVER_PANEL];
    double weight[RT_RECOVER_PANEL];
} recover_panel;
void recover_panel_of(const rt_recovery *r, int64_t block, int64_t t, recover_panel *out);

/* A view's row of rt_crop_view, for images of `side` pixels. */
void recover_view_draw(const rt_recover_view *v, double scale_min, uint64_t seed, int64_t block, int64_t t, int32_t side,
                       float box[RT_CROP_BOX]);
/* n images of `from` pixels as `to` pixels, bilinear without antialiasing. in and out are apart. */
void recover_resize(const float *in, int64_t n, int32_t from, float *out, int32_t to);

/* --- compiled steps (step.c) ------------------------------------------------------------------------------------------- */
/* Images of a pass while they are optimised, with Adam's moments: one for every number of images and side. */
typedef struct recover_slot {
    int64_t images;
    int32_t side;
    rt_tensor *x, *m, *v;
} recover_slot;
typedef struct recover_input {
    const char *name;
    rt_tensor *t;
    float *host;
    int64_t count;
    int32_t teacher;
    rt_recover_fill *fill;
} recover_input;
typedef struct recover_step {
    recover_slot *slot;
    recover_panel panel;
    int64_t groups, each, active;   /* groups of `each` images, of which the first `active` take part */
    int64_t labels_of;              /* pass whose labels are in, -1: none */
    rt_tensor *box, *label, *hyper, *loss, *probed;
    rt_exec *ex, *probe;
    recover_input input[RT_RECOVER_INPUTS];
    int n_inputs;
    double flops;
    float *host;                    /* labels, or what was probed */
} recover_step;
typedef struct recover_state {
    const char *name;
    int64_t count;
    float *host;
    rt_tensor *t;
} recover_state;
/* A teacher's network for images of one side. */
typedef struct recover_model {
    int32_t teacher, side;
    rt_model *model; /* owned, unless it is the teacher's own */
} recover_model;
typedef struct recover_steps {
    rt_recovery *r;
    rt_tensor **theta, **buffers;   /* of every teacher */
    recover_model *model;
    int n_models;
    recover_slot **slot;
    int n_slots;
    recover_step **step;
    int n_steps;
    recover_state state[RT_RECOVER_EXTRA];
    int n_states;
    size_t largest_arena;
    rt_exec *lender;                /* of the largest arena */
    double peak_bytes;
} recover_steps;
rt_status recover_steps_init(rt_recovery *r, recover_steps *out);
void recover_steps_fini(recover_steps *s); /* accepts a zeroed struct */
/* The step of that shape, compiled when it is asked for first. Borrowed. */
rt_status recover_step_get(recover_steps *s, const recover_panel *panel, int32_t side, int64_t groups, int64_t each, int64_t active,
                           recover_step **out);
/* Iteration t of a pass: image: its images, block after block; first: its first block; box: one row per block; hyper: of
 * rt_adam_step. */
rt_status recover_step_run(recover_steps *s, recover_step *step, int64_t pass, int64_t first, int64_t t, const int64_t *image,
                           const float *box, const float hyper[3], double *loss);

#endif
