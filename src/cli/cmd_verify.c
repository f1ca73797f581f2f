/* Every artefact at or below a path, byte by byte: a folder with a manifest, or a single safetensors file. */
#include <jansson.h>
#include <limits.h>
#include <string.h>

#include "artefact/artefact.h"
#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"

typedef struct tally {
    json_t *rows; /* NULL: print */
    int good, bad;
    rt_error_chain first; /* of the first bad artefact */
} tally;

static void note(tally *t, const char *path, const char *kind, rt_status st)
{
    if (st == RT_OK)
        t->good++;
    else if (!t->bad++)
        rt_error_save(&t->first);
    if (t->rows)
        json_array_append_new(t->rows, json_pack("{s:s, s:s, s:b, s:s}", "path", path, "kind", kind, "ok", st == RT_OK,
                                                 "message", st == RT_OK ? "" : rt_error_what()));
    else
        printf("%-7s %-12s %s%s%s\n", st == RT_OK ? "ok" : "DAMAGED", kind, path, st == RT_OK ? "" : "\n        ",
               st == RT_OK ? "" : rt_error_what());
}

static rt_status walk(tally *t, const char *path, int depth)
{
    rt_status st = RT_OK;
    char child[PATH_MAX], **names = NULL;
    size_t n = 0;
    if (rt_stop_requested()) return RT_RAISE(RT_ERR_CANCELLED, "stopped at %s", path);
    if (depth > 16) return RT_OK;
    RT_TRY(rt_fs_join(child, sizeof child, path, "manifest.json"));
    if (rt_fs_exists(child)) {
        json_t *m = NULL;
        rt_status one = rt_artefact_open(path, NULL, true, &m);
        const char *kind = one == RT_OK ? json_string_value(json_object_get(m, "kind")) : NULL;
        note(t, path, kind ? kind : "artefact", one);
        json_decref(m);
        return RT_OK;
    }
    RT_TRY(rt_fs_list(path, &names, &n));
    for (size_t i = 0; i < n; i++) {
        RT_TRY(rt_fs_join(child, sizeof child, path, names[i]));
        if (rt_fs_is_dir(child)) RT_TRY(walk(t, child, depth + 1));
    }
out:
    if (names) rt_fs_list_free(names, n);
    return st;
}

rt_status cmd_verify(const cli_args *a)
{
    rt_status st = RT_OK;
    tally t = {0};
    const char *path = a->pos[0];
    size_t len = strlen(path);
    if (a->json && !(t.rows = json_array())) return RT_RAISE(RT_ERR_NOMEM, "no memory for the list");
    if (!rt_fs_exists(path)) {
        st = RT_RAISE(RT_ERR_MISSING, "%s does not exist", path);
        goto out;
    }
    if (rt_fs_is_dir(path)) {
        RT_TRY(walk(&t, path, 0));
    } else if (len > 12 && !strcmp(path + len - 12, ".safetensors")) {
        rt_st_file *f = NULL;
        note(&t, path, "safetensors", rt_st_open(path, &f));
        rt_st_close(f);
    } else {
        st = RT_RAISE(RT_ERR_USAGE, "%s is neither a folder nor a .safetensors file", path);
        goto out;
    }
    if (t.rows) {
        json_dumpf(t.rows, stdout, JSON_INDENT(1));
        printf("\n");
    } else
        printf("%d artefact%s checked, %d damaged\n", t.good + t.bad, t.good + t.bad == 1 ? "" : "s", t.bad);
    if (t.bad) {
        st = rt_error_restore(&t.first);
        st = rt_error_fix(st, "remove the damaged folder and rerun its stage: it is built again");
    } else if (!t.good) {
        st = RT_RAISE(RT_ERR_MISSING, "no artefact at or below %s", path);
    }
out:
    json_decref(t.rows);
    return st;
}
