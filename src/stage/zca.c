/* data.zca: the whitening transform of a run. Fitted on the training split when first needed, kept as an artefact, attached to
 * the resident images of both splits: everything that makes batches of them then sees whitened pixels. */
#include <string.h>

#include "base/log.h"
#include "stage/run.h"

#define RT_ZCA_EPS 0.1 /* of every published method that whitens */

static rt_status fit(rt_run *r, const char *path, const char *key)
{
    rt_status st = RT_OK;
    rt_commit *commit = NULL;
    rt_ledger *ledger = NULL;
    json_t *m = NULL;
    RT_TRY(rt_ledger_create(&ledger));
    rt_ledger_begin(ledger);
    RT_TRY(rt_zca_fit(&r->train, RT_ZCA_EPS, rt_run_threads(r), &r->zca));
    RT_TRY(rt_commit_begin(path, &commit));
    RT_TRY(rt_zca_write(&r->zca, commit));
    RT_TRY(rt_run_manifest(r, "zca", key, ledger, &m));
    rt_commit *c = commit;
    commit = NULL;
    RT_TRY(rt_commit_finish(c, m));
    rt_log_line(RT_LOG_INFO, "whitening of %lld values fitted on %lld images in %.1f s", (long long)r->zca.d, (long long)r->train.n,
                rt_ledger_entry(ledger)->wall_s);
out:
    rt_commit_abort(commit);
    rt_ledger_destroy(ledger);
    json_decref(m);
    return st;
}

/* The artefact, or a new one: a damaged file costs a fit, not the run. */
rt_status rt_run_zca(rt_run *r)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], key[RT_HASH_HEX];
    bool skip;
    if (r->have_zca) return RT_OK;
    RT_TRY(rt_run_key(r, NULL, 0, (const char *const[]){"zca"}, 1, key));
    RT_TRY(rt_run_path(r, path, "zca"));
    RT_TRY(rt_run_skip(path, "zca", key, false, &skip));
    if (skip) {
        st = rt_zca_read(path, &r->zca);
        if (st != RT_OK && st != RT_ERR_FORMAT && st != RT_ERR_MISSING) goto out;
        if (st != RT_OK) {
            rt_log_line(RT_LOG_WARN, "%s is damaged and is fitted again: %s", path, rt_error_what());
            rt_error_clear();
            skip = false;
        }
    }
    if (!skip && !r->have_train) {
        const rt_images *train;
        RT_TRY(rt_run_train(r, &train)); /* which comes back here for what it whitens with */
    } else if (!skip)
        RT_TRYF(fit(r, path, key), "whitening");
    r->have_zca = true;
out:
    return st;
}

rt_status rt_run_whiten(rt_run *r, rt_images *im)
{
    rt_status st = RT_OK;
    double begun = rt_now();
    RT_TRY(rt_run_zca(r));
    RT_TRYF(rt_zca_attach(&r->zca, rt_run_threads(r), im), "whitening");
    r->decode_s += rt_now() - begun;
out:
    return st;
}

rt_status rt_run_check_space(rt_run *r, const rt_set *set, const char *path)
{
    rt_status st = RT_OK;
    if (!r->c->data.zca) {
        if (!set->zca[0]) return RT_OK;
        st = RT_RAISE(RT_ERR_CONFIG, "%s: its pixels are whitened (transform %.12s), this run's images are not", path, set->zca);
        return rt_error_fix(st, "set data.zca to true, with the training split the set was made from");
    }
    RT_TRY(rt_run_zca(r));
    if (!set->zca[0]) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s: its pixels are not whitened, this run's images are", path);
        rt_error_fix(st, "set data.zca to false to judge this set");
    } else if (strcmp(set->zca, r->zca.hash)) {
        st = RT_RAISE(RT_ERR_CONFIG, "%s: whitened by transform %.12s, this run's is %.12s", path, set->zca, r->zca.hash);
        rt_error_fix(st, "use the training split (and data.size) the set was made from");
    }
out:
    return st;
}
