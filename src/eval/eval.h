/* Protocol P1: students trained from scratch on a set with hard labels (decoupled.md 5, matching.md 5).
 *
 * A protocol is a recipe plus what it reports: last-epoch test accuracy, never the best epoch. The evaluation split is an
 * argument here and nowhere else. */
#ifndef RT_EVAL_EVAL_H
#define RT_EVAL_EVAL_H

#include "artefact/artefact.h"
#include "teacher/train.h"

typedef enum rt_protocol {
    RT_P1_PLAIN,   /* DC recipe: SGD 0.01 m 0.9 wd 5e-4, batch 256, 300 epochs, no augmentation, lr / 10 after E/2 + 1 */
    RT_P1_CLASSIC, /* DSA/DM recipe: the same with DSA and 1,000 epochs */
    RT_P1_KD,      /* KD budget: AdamW 1e-3, RRC + flip + CutMix, cosine to 0 */
    RT_PROTOCOL_COUNT
} rt_protocol;
const char *rt_protocol_name(rt_protocol p); /* "p1_plain", ... */
rt_status rt_protocol_find(const char *name, rt_protocol *out);

/* The published settings; the caller may change batch and lr. n: images in the set. epochs 0: the published number. The DC
 * lineage runs one epoch more than it says (indices 0..E), and so do we. */
void rt_protocol_recipe(rt_protocol p, int64_t n, int32_t classes, int64_t epochs, rt_recipe *out);

typedef struct rt_eval_result {
    double accuracy;             /* last epoch, fraction */
    int64_t n_correct, n_test;
    double first_loss, last_loss;
    double images_seen, flops, wall_s;
    double *per_class;           /* owned, `classes` fractions */
} rt_eval_result;
void rt_eval_result_fini(rt_eval_result *r);

/* Trains student number run->network on the set with the trainer's recipe, then scores it on test. Refuses when the class
 * lists differ, naming the first differing classes. Recipes whose views work on uint8 images see the set as stored: 8 bits. */
rt_status rt_eval_set(rt_trainer *t, const rt_set *set, const rt_images *test, const rt_normalise *norm, const rt_train_run *run,
                      rt_eval_result *out);
/* The same for any training data, e.g. the full training split (classes are the caller's to check). */
rt_status rt_eval_data(rt_trainer *t, const rt_train_data *data, const rt_images *test, const rt_normalise *norm,
                       const rt_train_run *run, rt_eval_result *out);

#endif
