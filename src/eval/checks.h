/* Internal to src/eval: test accuracy along the training of a trainer's networks, kept beside their checkpoints so that a
 * resumed run still knows the checks of before. */
#ifndef RT_EVAL_CHECKS_H
#define RT_EVAL_CHECKS_H

#include "eval/eval.h"

typedef struct rt_checks {
    rt_trainer *t;
    const rt_train_data *test;
    const rt_train_run *run;
    int64_t every;
    int32_t *predicted;          /* [test->n], scratch */
    int64_t *best, *best_epoch;  /* of each network: images right, epochs done; -1, 0 before the first check */
} rt_checks;

/* Counts what network m's weights get right, into predicted too. */
rt_status rt_checks_score(rt_checks *c, int64_t m, int64_t *n_correct);
/* Reads what an interrupted run of the same inputs_hash found. */
rt_status rt_checks_open(rt_checks *c);
/* rt_train_run.on_epoch, with the rt_checks as its first argument. */
rt_status rt_checks_on_epoch(void *checks, const rt_trainer *t, int64_t epochs_done);
/* Takes a score of network m into account. Ties go to the earlier epoch. */
void rt_checks_take(rt_checks *c, int64_t m, int64_t n_correct, int64_t epochs_done);

#endif
