/* One training loop for teachers, students and the full-data reference: the same code, so that a teacher cannot be trained
 * by other rules than a student by accident.
 *
 * A trainer owns the compiled steps (one per distinct batch size) and the state tensors of one architecture; it is reused
 * over seeds. All randomness is counter-based: (seed, network, epoch, step) fix order, views and mixing, so a resumed run
 * ends with the same bytes.
 *
 * A trainer of several networks trains them in one compiled step (nn.h: theta [M,P]). Each has its own initial weights,
 * order, views and mixing, those that it has on its own, so that its result does not depend on M beyond rounding: not at all
 * where the backend computes a network of a batch as it computes one alone. */
#ifndef RT_TEACHER_TRAIN_H
#define RT_TEACHER_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "artefact/artefact.h"
#include "data/data.h"
#include "nn/nn.h"
#include "optim/optim.h"
#include "retort/exec.h"
#include "teacher/committee.h"

typedef enum rt_augment_kind {
    RT_AUGMENT_NONE,
    RT_AUGMENT_FLIP_CROP,  /* flip 0.5, zero-pad by size/8 and crop back */
    RT_AUGMENT_DSA,        /* differentiable augmentation, parameters per image (matching.md 2.4, not siamese) */
    RT_AUGMENT_RRC_CUTMIX, /* KD-budget view of decoupled.md 5.1: RRC (0.5, 1), flip, CutMix alpha 1 on every batch */
    RT_AUGMENT_RRC         /* the same without CutMix */
} rt_augment_kind;

typedef enum rt_loss_kind {
    RT_LOSS_CE,     /* cross-entropy with labels, hard or soft, mixed as the images are */
    RT_LOSS_KL,     /* KL of softmax(teacher / T) and softmax(student / T); decoupled.md 1.7 */
    RT_LOSS_MSE_GT  /* mean (s - t)^2 + gamma CE(s, y); decoupled.md 1.7 */
} rt_loss_kind;
typedef enum rt_target_kind {
    RT_TARGET_MEAN,      /* mean of the logits, weighted by the teachers' weights */
    RT_TARGET_EQUALISED  /* each teacher's block of logits scaled to the mean Frobenius norm first (G-VBSM) */
} rt_target_kind;

typedef struct rt_recipe {
    char name[32];
    int64_t epochs, batch;
    rt_optim_desc optim;
    rt_schedule schedule;        /* in epochs; total is set from epochs */
    bool decay_kernels_only;     /* weight decay on weights of rank >= 2 only */
    double gsam_rho, gsam_alpha; /* rho > 0: adaptive GSAM, two gradients a step (optim.h) */
    rt_augment_kind augment;
    const char *dsa_strategy;    /* borrowed; for RT_AUGMENT_DSA */
    char dsa_mode;               /* 'S' (also 0): one operation per batch; 'I': the policy of IDC and NCFM (nn/dsa.h) */
    rt_loss_kind loss;           /* what the student learns from; the last two want a committee (rt_trainer_create_taught) */
    rt_target_kind target;       /* how a committee's logits become one */
    bool stored_targets;         /* the target logits come with the data (rt_train_data.logits), no committee is asked */
    double temperature;          /* RT_LOSS_KL: T of teacher and student */
    bool t_squared;              /* RT_LOSS_KL: times T^2 */
    double gamma;                /* RT_LOSS_MSE_GT: weight of the cross-entropy with the unmixed class label */
    bool teacher_batch_stats;    /* BSSL: teachers in training mode, their running statistics left alone */
    int32_t parts;               /* > 1: a batch passes in so many parts, each with batch statistics of its own, for one update */
    double ema;                  /* > 0: theta is judged as its moving average of this decay, with the live buffers */
    float rrc_scale;             /* the two RRC: smallest share of the area; 0: 0.5 */
    bool patch_shuffle;          /* the two RRC: columns and rows of a 2x2 grid swap by two coins an image (RDED) */
    double cutmix;               /* RT_AUGMENT_DSA: probability per batch of CutMix after the augmentation (nn/cutmix.h) */
} rt_recipe;

/* What a trainer learns from: either resident uint8 images or float pixels already in normalised space. Borrowed. */
typedef struct rt_train_data {
    int64_t n;
    const rt_images *images;     /* uint8 source, or NULL */
    const float *px;             /* float source [n,h,w,3], or NULL */
    const int32_t *label;        /* [n] */
    const float *soft;           /* [n,classes] target probabilities, or NULL for one-hot */
    const float *logits;         /* [n,classes] of recipes with stored_targets: what a teacher said about each image */
    rt_normalise norm;           /* of the uint8 source */
} rt_train_data;

typedef struct rt_trainer rt_trainer;
rt_status rt_trainer_create(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, rt_trainer **out);
/* The same for `networks` >= 1 networks at once. */
rt_status rt_trainer_create_many(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, int64_t networks,
                                 rt_trainer **out);
/* Students of a committee: teachers and students are one compiled step, the teachers look at the very views that the
 * students see. Borrows teachers until destroy. NULL: as above; RT_ERR_ARG when the recipe's loss wants one. */
rt_status rt_trainer_create_taught(rt_backend *be, const rt_model_desc *net, const rt_recipe *r, int64_t networks,
                                   const rt_committee *teachers, rt_trainer **out);
int64_t rt_trainer_networks(const rt_trainer *t);
void rt_trainer_destroy(rt_trainer *t);
const rt_model *rt_trainer_model(const rt_trainer *t);
const rt_recipe *rt_trainer_recipe(const rt_trainer *t);

typedef struct rt_train_run {
    uint64_t seed, network;      /* initialisation and order */
    const uint64_t *networks;    /* numbers of a trainer's M networks; NULL: network, network + 1, ... */
    double lr;                   /* > 0: stands for the recipe's rate, e.g. the one a set learned */
    const char *ckpt_dir;        /* NULL: not resumable */
    const char *inputs_hash;     /* names the run a checkpoint belongs to */
    double ckpt_seconds;
    int keep, threads;
    const char *phase;           /* for progress */
    int64_t snapshot_epoch;      /* > 0: keep theta after this epoch for rt_trainer_snapshot */
    rt_ledger *ledger;           /* images seen and flops are added; may be NULL */
    /* Called with 0 after initialisation and with e after each epoch, before any checkpoint that lies past it; reads the
     * weights with rt_trainer_weights. A resumed run calls it again from the epoch of its checkpoint on. May be NULL. */
    rt_status (*on_epoch)(void *to, const rt_trainer *t, int64_t epochs_done);
    void *on_epoch_to;
} rt_train_run;

typedef struct rt_train_result {
    double first_loss, last_loss;
    int64_t steps;
    double images_seen, flops;
    double teacher_flops;        /* of the teachers' passes for this network, as if alone; flops leaves them out */
} rt_train_result;

/* Trains from fresh initial weights. out has one result per network: its own losses, and its share of images and flops (the
 * ledger gets them all). RT_ERR_CANCELLED after committing a checkpoint when a stop was requested;
 * RT_ERR_NUMERIC naming the step when its loss is not finite; a device is asked every 16 steps (steps.h). */
rt_status rt_trainer_run(rt_trainer *t, const rt_train_data *d, const rt_train_run *run, rt_train_result *out);
/* Weights after the last run (or its snapshot), of every network in turn: theta has networks * n_params floats, buffers
 * networks * n_buffers. With an EMA theta is the average, which inference uses too. */
rt_status rt_trainer_weights(const rt_trainer *t, bool snapshot, float *theta, float *buffers);
rt_status rt_trainer_set_weights(rt_trainer *t, const float *theta, const float *buffers);
/* Compiles the step of this batch size and times it on zeros: seconds and costs per step, before a long run. The trainer's
 * weights are undefined afterwards. */
rt_status rt_trainer_probe(rt_trainer *t, int64_t batch, double *seconds, rt_exec_stats *stats);
/* The same for inference, per image. */
rt_status rt_trainer_probe_infer(rt_trainer *t, double *seconds, double *flops);
int64_t rt_trainer_arena_bytes(const rt_trainer *t); /* largest step's arena + state, for the ledger */

/* --- inference -------------------------------------------------------------------------------------------------------- */
/* Eval-mode pass over images with the current weights of the trainer's only or first network. Every output may be NULL: features [n,dim], probs
 * [n,classes], predicted [n] (argmax of the logits; the smallest index wins a tie). */
rt_status rt_trainer_infer(rt_trainer *t, const rt_train_data *d, int threads, float *features, float *probs,
                           int32_t *predicted);
/* The same with network m of several, 0 <= m < networks. */
rt_status rt_trainer_infer_of(rt_trainer *t, int64_t m, const rt_train_data *d, int threads, float *features, float *probs,
                              int32_t *predicted);

#endif
