/* Checks along a student's training. `checks.json` in the checkpoint folder holds the best so far and the epoch up to which
 * it was looked for. A resumed student repeats the epochs after its checkpoint with the same weights, so taking a check twice
 * changes nothing. */
#include "eval/checks.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"


rt_status rt_checks_score(rt_checks *c, int64_t *n_correct)
{
    int64_t hits = 0;
    rt_status st = rt_trainer_infer(c->t, c->test, c->run->threads, NULL, NULL, c->predicted);
    if (st != RT_OK) return st;
    for (int64_t i = 0; i < c->test->n; i++) hits += c->predicted[i] == c->test->label[i];
    *n_correct = hits;
    return RT_OK;
}

void rt_checks_take(rt_checks *c, int64_t n_correct, int64_t epochs_done)
{
    if (n_correct < c->best || (n_correct == c->best && epochs_done >= c->best_epoch)) return;
    c->best = n_correct;
    c->best_epoch = epochs_done;
}

static rt_status path_of(const rt_checks *c, char path[PATH_MAX])
{
    return rt_fs_join(path, PATH_MAX, c->run->ckpt_dir, "checks.json");
}

rt_status rt_checks_open(rt_checks *c)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    json_t *v = NULL;
    const char *hash = NULL;
    json_int_t best, epoch;
    c->best = -1;
    c->best_epoch = 0;
    if (!c->run->ckpt_dir) return RT_OK;
    RT_TRY(path_of(c, path));
    /* A file that does not parse or belongs to other inputs is what a killed process or an older run left: start anew. */
    v = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (v && !json_unpack(v, "{s:s, s:I, s:I}", "inputs_hash", &hash, "best", &best, "epoch", &epoch) && c->run->inputs_hash &&
        !strcmp(hash, c->run->inputs_hash) && best >= 0 && best <= c->test->n && epoch > 0) {
        c->best = best;
        c->best_epoch = epoch;
    }
out:
    json_decref(v);
    return st;
}

static rt_status save(const rt_checks *c)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], text[256];
    if (!c->run->ckpt_dir || !c->run->inputs_hash) return RT_OK;
    RT_TRY(rt_fs_mkdirs(c->run->ckpt_dir));
    RT_TRY(path_of(c, path));
    int n = snprintf(text, sizeof text, "{\"inputs_hash\": \"%.64s\", \"best\": %" PRId64 ", \"epoch\": %" PRId64 "}\n",
                     c->run->inputs_hash, c->best, c->best_epoch);
    RT_TRY(rt_fs_write_atomic(path, text, (size_t)n));
out:
    return st;
}

rt_status rt_checks_on_epoch(void *checks, const rt_trainer *t, int64_t epochs_done)
{
    rt_checks *c = checks;
    rt_status st = RT_OK;
    int64_t hits = 0, had = c->best;
    (void)t; /* the same trainer as c->t */
    if (epochs_done == 0 || epochs_done % c->every) return RT_OK;
    RT_TRY(rt_checks_score(c, &hits));
    rt_checks_take(c, hits, epochs_done);
    if (c->best != had) RT_TRY(save(c));
out:
    return st;
}
