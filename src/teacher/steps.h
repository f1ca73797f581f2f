/* Internal to src/teacher: the compiled steps of a trainer, and the host side of their batches. */
#ifndef RT_TEACHER_STEPS_H
#define RT_TEACHER_STEPS_H

#include "nn/dsa.h"
#include "teacher/train.h"

enum { RT_MAX_STEPS = 4, RT_MAX_OPT_STATE = 2 };

/* One compiled training step for one batch size, with its input tensors. Of M networks axis 0 of each is M blocks. */
typedef struct rt_train_step {
    int64_t batch; /* images of one network */
    rt_exec *exec;
    rt_tensor *x, *q, *target;               /* q: unless the loss is KL; target: logits, of stored ones only */
    rt_tensor *color, *affine, *box;         /* the DSA parameters exist for RT_AUGMENT_DSA only */
    rt_tensor *partner, *patch;              /* CutMix after DSA: rows to paste from, boxes to paste into */
    double teacher_flops, teacher_flops_one; /* of one run; of a network alone, which shares no folding with others */
} rt_train_step;

typedef struct rt_infer_step {
    int64_t batch;
    rt_exec *exec;
    rt_tensor *x, *logits, *features;
} rt_infer_step;

struct rt_trainer {
    rt_backend *be;
    rt_model *model;
    rt_recipe recipe;
    int64_t nets, n_params, n_buffers; /* networks, and sizes of one */
    int n_state;
    /* theta [P] of one network, [M,P] of several; so are state, buffers and a decay mask. loss: rank 0, or [M]; losses [window,M]:
     * those of step s in row s mod window. */
    rt_tensor *theta, *state[RT_MAX_OPT_STATE], *buffers, *hyper, *decay, *loss, *losses;
    int64_t window;
    rt_tensor *ema; /* average of theta, or NULL */
    const rt_committee *teachers; /* borrowed; NULL: none is asked */
    rt_tensor **teacher_theta, **teacher_buffers; /* of each; buffers may be NULL */
    rt_train_step step[RT_MAX_STEPS];
    int n_steps;
    rt_infer_step infer;
    rt_tensor *seated, *seated_buffers; /* of several networks: the one that inference looks at */
    float *snapshot; /* [nets * n_params], then [nets * n_buffers]; or NULL */
};

/* What inference and whoever reads the weights gets: the average where there is one. */
static inline rt_tensor *rt_judged(const rt_trainer *t) { return t->ema ? t->ema : t->theta; }
/* Parts of a batch of this many images: never more than images. */
static inline int64_t rt_parts_of(const rt_recipe *r, int64_t batch) { return r->parts < 2 ? 1 : r->parts < batch ? r->parts : batch; }

/* taught.c. open uploads the weights of teachers where the recipe asks them (RT_ERR_ARG when it does and there are none, or none
 * that fit); close accepts a trainer that never opened. */
rt_status rt_taught_open(rt_trainer *t, const rt_committee *c);
void rt_taught_close(rt_trainer *t);
/* Target logits [nets * batch, classes] of the views x, without gradient. Appends the teachers' bindings to in, at most two each. */
rt_status rt_taught_target(rt_trainer *t, rt_graph *g, rt_val x, int64_t nets, int64_t batch, rt_bind *in, int *n_in, rt_val *target);
/* Loss of each sample, [nets * batch]. q: label weights; target: logits; none where the loss has no use for them. */
rt_val rt_student_loss(const rt_recipe *r, rt_graph *g, rt_val logits, rt_val q, rt_val target);
/* What the teachers' passes of one step of that many networks cost. */
rt_status rt_taught_flops(rt_trainer *t, int64_t nets, int64_t batch, double *flops);
/* Rows [lo, hi) of each of `nets` equal blocks of axis 0. */
rt_val rt_rows_slice(rt_graph *g, rt_val x, int64_t nets, int64_t lo, int64_t hi);

rt_status rt_train_step_get(rt_trainer *t, int64_t batch, rt_train_step **out);
rt_status rt_infer_step_get(rt_trainer *t, int64_t batch, rt_infer_step **out);
void rt_train_step_fini(rt_train_step *s);
void rt_infer_step_fini(rt_infer_step *s);

/* Losses of a backend that runs on by itself are read this often, together; those of one that does not after every step. */
enum { RT_LOSS_WINDOW = 16 };

/* Host staging of one run; sized for the largest batch. order [nets][n]: each network's order of this epoch. */
typedef struct rt_staging {
    float *x, *q, *color, *affine, *box, *patch;
    float *mix_q, *mix_box;      /* CutMix: labels; after DSA the boxes too */
    float *target;               /* stored logits, or NULL */
    int32_t *partner;
    int64_t *order, *scratch, n;
    rt_resident *resident;       /* where the images lie on the device: x and patch then are NULL */
} rt_staging;
rt_status rt_staging_init(rt_staging *s, const rt_trainer *t, const rt_train_data *d, int64_t batch);
void rt_staging_fini(rt_staging *s);
/* Fills the inputs of s with images order[.][first ...]; seeds [nets] of each network's draws, step: of this run. */
rt_status rt_staging_load(rt_trainer *t, rt_train_step *s, const rt_train_data *d, const rt_dsa *dsa, int64_t first,
                          const uint64_t *seeds, uint64_t step, int threads, rt_staging *h);

#endif
