/* Checks along the training of students. `checks.json` in the checkpoint folder holds each network's best so far and the epoch
 * of it. A resumed run repeats the epochs after its checkpoint with the same weights, so taking a check twice changes
 * nothing. */
#include "eval/checks.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"


rt_status rt_checks_score(rt_checks *c, int64_t m, int64_t *n_correct)
{
    int64_t hits = 0;
    rt_status st = rt_trainer_infer_of(c->t, m, c->test, c->run->threads, NULL, NULL, c->predicted);
    if (st != RT_OK) return st;
    for (int64_t i = 0; i < c->test->n; i++) hits += c->predicted[i] == c->test->label[i];
    *n_correct = hits;
    return RT_OK;
}

void rt_checks_take(rt_checks *c, int64_t m, int64_t n_correct, int64_t epochs_done)
{
    if (n_correct < c->best[m] || (n_correct == c->best[m] && epochs_done >= c->best_epoch[m])) return;
    c->best[m] = n_correct;
    c->best_epoch[m] = epochs_done;
}

/* Entry m of an array of integers in [lo, hi]. */
static bool entry(const json_t *a, int64_t m, int64_t lo, int64_t hi, int64_t *out)
{
    const json_t *x = json_array_get(a, (size_t)m);
    if (!json_is_integer(x) || json_integer_value(x) < lo || json_integer_value(x) > hi) return false;
    *out = json_integer_value(x);
    return true;
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
    const json_t *best, *epoch;
    const int64_t nets = rt_trainer_networks(c->t);
    for (int64_t m = 0; m < nets; m++) {
        c->best[m] = -1;
        c->best_epoch[m] = 0;
    }
    if (!c->run->ckpt_dir) return RT_OK;
    RT_TRY(path_of(c, path));
    /* A file that does not parse or belongs to other inputs is what a killed process or an older run left: start anew. */
    v = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!v || json_unpack(v, "{s:s, s:o, s:o}", "inputs_hash", &hash, "best", &best, "epoch", &epoch) || !c->run->inputs_hash ||
        strcmp(hash, c->run->inputs_hash) != 0)
        goto out;
    for (int64_t m = 0; m < nets; m++) {
        int64_t hits, at;
        if (!entry(best, m, 0, c->test->n, &hits) || !entry(epoch, m, 1, INT64_MAX, &at)) continue;
        c->best[m] = hits;
        c->best_epoch[m] = at;
    }
out:
    json_decref(v);
    return st;
}

static rt_status save(const rt_checks *c)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], *text = NULL;
    json_t *best = json_array(), *epoch = json_array(), *v = NULL;
    if (!c->run->ckpt_dir || !c->run->inputs_hash) goto out;
    for (int64_t m = 0; m < rt_trainer_networks(c->t); m++) {
        json_array_append_new(best, json_integer(c->best[m]));
        json_array_append_new(epoch, json_integer(c->best_epoch[m]));
    }
    v = json_pack("{s:s, s:O?, s:O?}", "inputs_hash", c->run->inputs_hash, "best", best, "epoch", epoch);
    text = v ? json_dumps(v, JSON_COMPACT) : NULL;
    if (!text) {
        st = RT_RAISE(RT_ERR_NOMEM, "checks");
        goto out;
    }
    RT_TRY(rt_fs_mkdirs(c->run->ckpt_dir));
    RT_TRY(path_of(c, path));
    RT_TRY(rt_fs_write_atomic(path, text, strlen(text)));
out:
    free(text); /* jansson's allocator */
    json_decref(best);
    json_decref(epoch);
    json_decref(v);
    return st;
}

rt_status rt_checks_on_epoch(void *checks, const rt_trainer *t, int64_t epochs_done)
{
    rt_checks *c = checks;
    rt_status st = RT_OK;
    bool better = false;
    (void)t; /* the same trainer as c->t */
    if (epochs_done == 0 || epochs_done % c->every) return RT_OK;
    for (int64_t m = 0; m < rt_trainer_networks(c->t); m++) {
        int64_t hits = 0, had = c->best[m];
        RT_TRY(rt_checks_score(c, m, &hits));
        rt_checks_take(c, m, hits, epochs_done);
        better = better || c->best[m] != had;
    }
    if (better) RT_TRY(save(c));
out:
    return st;
}
