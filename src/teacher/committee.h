/* Trained networks that label images and that recovery inverts: one teacher, or several as a committee. Frozen: nothing
 * here trains. Weights are read once and shared; networks are checked against the classes they are used for when they are
 * read (stage/committee.c), so whoever holds a committee may rely on its heads. */
#ifndef RT_TEACHER_COMMITTEE_H
#define RT_TEACHER_COMMITTEE_H

#include "base/hash.h"
#include "nn/nn.h"

typedef struct rt_teacher {
    char name[48];             /* "net0", or the architecture: "mobilenet_v2" */
    rt_model *model;           /* owned; its input side is data.size */
    float *theta, *buffers;    /* owned; lengths are the model's; buffers may be NULL when it has none */
    char content[RT_HASH_HEX]; /* of the artefact it was read from */
    double accuracy;           /* on the evaluation split when it was made, fraction; NaN: not known */
    double wall_s, flops;      /* what making it took */
    double weight;             /* in a weighted committee; 1 unless somebody says otherwise */
} rt_teacher;

typedef struct rt_committee {
    int32_t n;
    rt_teacher *teacher; /* owned */
} rt_committee;
void rt_committee_fini(rt_committee *c); /* accepts a zeroed struct */
/* A model of the same network for images of another side, sharing nothing: parameters have the same shapes and order, so a
 * teacher's theta and buffers fit. RT_ERR_UNSUPPORTED naming the network when its parameters depend on the side. */
rt_status rt_teacher_resized(const rt_teacher *t, int32_t size, rt_model **out);

#endif
