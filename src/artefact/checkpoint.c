/* Checkpoints: artefacts of kind "checkpoint" named by their step in `<dir>/%012llu`, each with tensors.safetensors and
 * state.json.
 *
 * The newest valid one wins: a damaged or foreign one (another inputs_hash) is passed over with a log line. Saving step s
 * first commits s, then removes what it supersedes: all but the newest `keep` up to s, and everything above s, which can
 * only come from a timeline that was given up (a resume always starts from the newest checkpoint it accepts). Removal takes
 * the manifest first, so an interrupted removal leaves no checkpoint rather than half of one. */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "artefact/artefact.h"
#include "artefact/internal.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

enum { STEP_DIGITS = 12 };
#define STEP_LIMIT 1000000000000ULL

/* Steps present under dir, ascending. Names left by an interrupted commit (.tmp, .old) count for their step when old is
 * all there is, so that opening repairs them. A missing dir has none. */
static rt_status list_steps(const char *dir, uint64_t **steps, size_t *n)
{
    rt_status st = RT_OK;
    char **names = NULL;
    size_t n_names = 0, k = 0;
    uint64_t *list = NULL;
    if (!rt_fs_is_dir(dir)) {
        *steps = NULL;
        *n = 0;
        return RT_OK;
    }
    RT_TRY(rt_fs_list(dir, &names, &n_names));
    RT_ALLOC(list, (n_names + 1) * sizeof *list, "checkpoint list");
    for (size_t i = 0; i < n_names; i++) {
        size_t digits = strspn(names[i], "0123456789");
        if (digits != STEP_DIGITS || (names[i][digits] && strcmp(names[i] + digits, ".old"))) continue;
        uint64_t step = strtoull(names[i], NULL, 10);
        if (k == 0 || list[k - 1] != step) list[k++] = step; /* names are sorted: "s" comes before "s.old" */
    }
    *steps = list;
    *n = k;
    list = NULL;
out:
    rt_free(list);
    rt_fs_list_free(names, n_names);
    return st;
}

static rt_status step_path(const char *dir, uint64_t step, char out[PATH_MAX])
{
    char name[32];
    snprintf(name, sizeof name, "%0*" PRIu64, STEP_DIGITS, step);
    return rt_fs_join(out, PATH_MAX, dir, name);
}

static rt_status remove_step(const char *dir, uint64_t step)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], aside[PATH_MAX + 8];
    RT_TRY(step_path(dir, step, path));
    snprintf(aside, sizeof aside, "%s.old", path);
    RT_TRY(rt_artefact_remove(aside));
    snprintf(aside, sizeof aside, "%s.tmp", path);
    RT_TRY(rt_artefact_remove(aside));
    RT_TRY(rt_artefact_remove(path));
out:
    return st;
}

static rt_status drop_superseded(const char *dir, uint64_t step, int keep)
{
    rt_status st = RT_OK;
    uint64_t *steps = NULL;
    size_t n = 0, up_to = 0;
    RT_TRY(list_steps(dir, &steps, &n));
    while (up_to < n && steps[up_to] <= step) up_to++;
    size_t kept = keep < 1 ? 1 : (size_t)keep;
    for (size_t i = 0; i < n; i++)
        if (i >= up_to || i + kept < up_to) RT_TRY(remove_step(dir, steps[i]));
out:
    rt_free(steps);
    return st;
}

rt_status rt_ckpt_save(const char *dir, uint64_t step, const rt_st_tensor *t, int64_t n, const json_t *state, int keep)
{
    rt_status st = RT_OK;
    char path[PATH_MAX], file[PATH_MAX];
    rt_commit *c = NULL;
    json_t *manifest = NULL;
    char *text = NULL;

    if (step >= STEP_LIMIT || !json_is_object(state)) return RT_RAISE(RT_ERR_ARG, "checkpoint: bad step or state");
    RT_TRY(step_path(dir, step, path));
    RT_TRY(rt_commit_begin(path, &c));
    RT_TRY(rt_fs_join(file, sizeof file, rt_commit_dir(c), "tensors.safetensors"));
    RT_TRY(rt_st_write(file, t, n, NULL, 0));
    RT_TRY(rt_json_text(state, &text));
    RT_TRY(rt_commit_file(c, "state.json", text, strlen(text)));
    manifest = json_pack("{s:s, s:I}", "kind", "checkpoint", "step", (json_int_t)step);
    if (!manifest) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a manifest");
        goto out;
    }
    rt_commit *whole = c;
    c = NULL; /* finish takes it, also on failure */
    RT_TRY(rt_commit_finish(whole, manifest));
    if (drop_superseded(dir, step, keep) != RT_OK) { /* saved all the same */
        rt_log_line(RT_LOG_WARN, "%s: old checkpoints could not be removed: %s", dir, rt_error_what());
        rt_error_clear();
    }
out:
    if (st != RT_OK) rt_error_frame(st, __FILE__, __LINE__, "checkpoint of step %" PRIu64, step);
    rt_commit_abort(c);
    json_decref(manifest);
    rt_free(text);
    return st;
}

/* RT_OK with *tensors NULL when the checkpoint belongs to other inputs. */
static rt_status load_one(const char *path, const char *inputs_hash, rt_st_file **tensors, json_t **state)
{
    rt_status st = RT_OK;
    char file[PATH_MAX];
    json_t *s = NULL;
    RT_TRY(rt_artefact_open(path, "checkpoint", true, NULL));
    RT_TRY(rt_fs_join(file, sizeof file, path, "state.json"));
    RT_TRY(rt_json_read(file, RT_MANIFEST_MAX_BYTES, &s, NULL));
    const char *got = json_string_value(json_object_get(s, "inputs_hash"));
    if (inputs_hash && (!got || strcmp(got, inputs_hash))) goto out;
    RT_TRY(rt_fs_join(file, sizeof file, path, "tensors.safetensors"));
    RT_TRY(rt_st_open(file, tensors));
    *state = s;
    s = NULL;
out:
    json_decref(s);
    return st;
}

rt_status rt_ckpt_load(const char *dir, const char *inputs_hash, uint64_t *step, rt_st_file **tensors, json_t **state)
{
    rt_status st = RT_OK;
    uint64_t *steps = NULL;
    size_t n = 0;
    char path[PATH_MAX];
    rt_st_file *f = NULL;

    RT_TRY(list_steps(dir, &steps, &n));
    while (n-- > 0) {
        RT_TRY(step_path(dir, steps[n], path));
        st = load_one(path, inputs_hash, &f, state);
        if (st == RT_OK && f) {
            *tensors = f;
            *step = steps[n];
            goto out;
        }
        if (st != RT_OK && st != RT_ERR_FORMAT && st != RT_ERR_MISSING) goto out; /* memory, permission, I/O: not damage */
        rt_log_line(RT_LOG_WARN, "%s: checkpoint passed over: %s", path, st == RT_OK ? "it belongs to other inputs" : rt_error_what());
    }
    st = RT_RAISE(RT_ERR_MISSING, "%s: no valid checkpoint", dir);
out:
    rt_free(steps);
    return st;
}

rt_status rt_ckpt_clear(const char *dir)
{
    rt_status st = RT_OK;
    uint64_t *steps = NULL;
    size_t n = 0;
    RT_TRY(list_steps(dir, &steps, &n));
    for (size_t i = 0; i < n; i++) RT_TRY(remove_step(dir, steps[i])); /* oldest first: what remains is the newest */
    RT_TRY(rt_fs_remove_tree(dir));
out:
    rt_free(steps);
    return st;
}
