/* Internal to src/teacher: the compiled steps of a trainer. */
#ifndef RT_TEACHER_STEPS_H
#define RT_TEACHER_STEPS_H

#include "teacher/train.h"

enum { RT_MAX_STEPS = 4, RT_MAX_OPT_STATE = 2 };

/* One compiled training step for one batch size, with its input tensors and host staging. */
typedef struct rt_train_step {
    int64_t batch;
    rt_exec *exec;
    rt_tensor *x, *q, *color, *affine, *box; /* the DSA parameters exist for RT_AUGMENT_DSA only */
    rt_tensor *partner, *patch;              /* CutMix after DSA: rows to paste from, boxes to paste into */
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
    int64_t n_params, n_buffers;
    int n_state;
    rt_tensor *theta, *state[RT_MAX_OPT_STATE], *buffers, *hyper, *decay, *loss;
    rt_train_step step[RT_MAX_STEPS];
    int n_steps;
    rt_infer_step infer;
    float *snapshot; /* [n_params + n_buffers] or NULL */
};

rt_status rt_train_step_get(rt_trainer *t, int64_t batch, rt_train_step **out);
rt_status rt_infer_step_get(rt_trainer *t, int64_t batch, rt_infer_step **out);
void rt_train_step_fini(rt_train_step *s);
void rt_infer_step_fini(rt_infer_step *s);

#endif
