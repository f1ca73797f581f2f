/* Protocols: students trained from scratch on a set, each by one recipe of the literature (matching.md 5, decoupled.md 5).
 *
 * A protocol is a recipe plus what it reports: the last epoch's test accuracy. The best over checks on test data is a figure
 * of its own, never the headline: several papers report it, and only it can be compared with them. The evaluation split is
 * an argument here and nowhere else. */
#ifndef RT_EVAL_EVAL_H
#define RT_EVAL_EVAL_H

#include "artefact/artefact.h"
#include "teacher/train.h"

typedef enum rt_protocol {
    RT_P1_PLAIN,   /* DC recipe: SGD 0.01 m 0.9 wd 5e-4, batch 256, 300 epochs, no augmentation, lr / 10 after E/2 + 1 */
    RT_P1_CLASSIC, /* DSA/DM recipe: the same with DSA and 1,000 epochs */
    RT_P1,         /* KD budget: AdamW 1e-3, RRC + flip + CutMix, cosine to 0 */
    RT_P1_MTT,     /* MTT, TESLA: p1_classic at the rate the set learned, under the set's labels */
    RT_P1_DATM,    /* DATM: the same, batch 128 */
    RT_P1_IDC,     /* IDC: batch 64, 1,000 epochs, x 0.2 at 2/3 and 5/6, DSA variant + CutMix */
    RT_P1_DATADAM, /* DataDAM: p1_classic with batch 64 and 1,800 epochs */
    RT_P1_NCFM,    /* NCFM: AdamW 1e-3 wd 1e-2, batch 128, 2,000 epochs, x 0.5 four times, DSA variant + CutMix */
    RT_P2,         /* one teacher: KL at T = 20 on the very views, cosine to half the rate; else as p1 */
    RT_P2_RD3,     /* the same for 400 epochs with batch 50; cosine to 0 for a ResNet-18 */
    RT_P2_SRE2L,   /* the same with batch 1024, crops from .08 on, cosine to 0; labels online */
    RT_P2_FIXED,   /* p2 with one stored distribution per image, from its plain view, and no CutMix */
    RT_P3,         /* the committee's mean logits: MSE + .025 CE, average of the weights */
    RT_P3_KL,      /* the committee under p2's loss: beside p2 it isolates the number of teachers */
    RT_P3_EDC,     /* p3 with EDC's batch and the rate its ImageNet-1K code runs: a line from 1 to one half */
    RT_P3_GVBSM,   /* p3 with the teachers' logits scaled to one norm first */
    RT_P3_5XR18,   /* several seeds of one network (teach.runs), p2's loss */
    RT_P3_BSSL,    /* p3_kl with teachers' batch statistics, batches of 16 in two halves */
    RT_PROTOCOL_COUNT
} rt_protocol;
const char *rt_protocol_name(rt_protocol p); /* "p1_plain", ... */
rt_status rt_protocol_find(const char *name, rt_protocol *out);
/* Whose labels students learn: nobody's, those of the first teacher, of the whole committee, of all of teach.runs. */
typedef enum rt_lesson { RT_LESSON_NONE, RT_LESSON_FIRST, RT_LESSON_COMMITTEE, RT_LESSON_RUNS } rt_lesson;
rt_lesson rt_protocol_teachers(rt_protocol p);
/* True of p1, p2, p3 and their variants, which share optimiser, views and the rule of the batch. */
bool rt_protocol_budget(rt_protocol p);
/* What depends on the student's architecture: of those, the rate (decoupled.md 4) and where the cosine ends. */
void rt_protocol_student(rt_protocol p, const char *arch, rt_recipe *r);
/* True when students take the set's learned rate and soft labels; the others use .01 or their own rate, and class labels. */
bool rt_protocol_follows_set(rt_protocol p);

/* The published settings; the caller may change batch and lr. n: images in the set. epochs 0: the published number. The DC
 * lineage runs one epoch more than it says (indices 0..E), and so do we. */
void rt_protocol_recipe(rt_protocol p, int64_t n, int32_t classes, int64_t epochs, rt_recipe *out);

/* What students are judged on. Borrowed. */
typedef struct rt_eval_task {
    const rt_train_data *test;   /* with labels; in the space that `zca` names */
    const rt_classes *classes;
    const char *zca;             /* hash of the ZCA artefact the test data are whitened with; NULL or "": none */
    bool soft_labels;            /* train on the set's soft labels where it has them, else on class labels alone */
    const rt_committee *labeller; /* of recipes with stored_targets: the first member labels every plain image once; else NULL */
    rt_backend *be;              /* where it does */
    int64_t check_every;         /* > 0: test accuracy after every so many epochs, for `best` */
} rt_eval_task;

typedef struct rt_eval_result {
    double accuracy;             /* last epoch, fraction */
    double best;                 /* highest over the checks and the last epoch; NaN without checks */
    int64_t best_epoch;          /* epochs done when it was reached; 0 without checks */
    int64_t n_correct, n_test;
    double first_loss, last_loss;
    double images_seen, flops, wall_s;
    double teacher_flops;        /* of the teachers' passes, which flops leaves out */
    int64_t label_bytes;         /* of stored targets; 0: there are none */
    double *per_class;           /* owned, `classes` fractions */
} rt_eval_result;
void rt_eval_result_fini(rt_eval_result *r);

/* Trains the student of number run->network, or those of a trainer of several networks, on the set with the trainer's recipe,
 * then scores them: out has one result per network, wall_s its share. The set is decoded first
 * (rt_set_decode). Refuses when the class lists differ, naming the first differing classes, and when set and test data live
 * under different whitenings, naming the fix. Recipes whose views work on uint8 images see the set as stored, 8 bits, and
 * refuse whitened sets. */
rt_status rt_eval_set(rt_trainer *t, const rt_set *set, const rt_eval_task *task, const rt_train_run *run, rt_eval_result *out);
/* The same for any training data, e.g. the full training split (classes are the caller's to check). */
rt_status rt_eval_data(rt_trainer *t, const rt_train_data *data, const rt_eval_task *task, const rt_train_run *run,
                       rt_eval_result *out);

#endif
