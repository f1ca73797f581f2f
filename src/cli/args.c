/* Command line to cli_args. Every flag is checked against what the verb accepts; values are consumed whole. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "cli/cli.h"

typedef struct flag {
    const char *name;
    unsigned mask; /* 0: every verb */
    bool has_value;
} flag;

static const flag flags[] = {
    {"config", CLI_CONFIG, true}, {"set", CLI_SET, true},     {"quick", CLI_SET, false}, {"force", CLI_FORCE, false},
    {"json", CLI_JSON, false},    {"out", CLI_OUT, true},     {"zoom", CLI_GRID, true},  {"scale", CLI_GRID, true},
    {"classes", CLI_GRID, true},  {"images", CLI_GRID, true}, {"method", CLI_IMPORT, true},
    {"map", CLI_IMPORT, true},    {"space", CLI_IMPORT, true}, {"logits", CLI_IMPORT, false}, {"ipc", CLI_IMPORT, true},
    {"help", 0, false},
};

static rt_status usage(const cli_verb *v, rt_status st)
{
    return rt_error_fix(st, "see `retort help %s`", v->name);
}

static rt_status unknown_flag(const cli_verb *v, const char *name)
{
    rt_status st = RT_RAISE(RT_ERR_USAGE, "`retort %s` has no flag --%.60s", v->name, name);
    const char *near = NULL;
    int best = 3;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        int d = rt_edit_distance(name, flags[i].name);
        if ((!flags[i].mask || (v->flags & flags[i].mask)) && d < best) {
            best = d;
            near = flags[i].name;
        }
    }
    if (near) return rt_error_fix(st, "did you mean --%s?", near);
    return usage(v, st);
}

static rt_status count_value(const cli_verb *v, const char *name, const char *text, int64_t lo, int64_t hi,
                             int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (errno || end == text || *end || x < lo || x > hi || !strchr("0123456789", text[0]))
        return usage(v, RT_RAISE(RT_ERR_USAGE, "--%s must be a whole number from %lld to %lld, got `%.60s`", name,
                                 (long long)lo, (long long)hi, text));
    *out = x;
    return RT_OK;
}

static rt_status take_flag(const cli_verb *v, const flag *f, const char *value, cli_args *a)
{
    const char *n = f->name;
    if (!strcmp(n, "help"))
        a->help = true;
    else if (!strcmp(n, "quick"))
        a->quick = true;
    else if (!strcmp(n, "force"))
        a->force = true;
    else if (!strcmp(n, "json"))
        a->json = true;
    else if (!strcmp(n, "out"))
        a->out = value;
    else if (!strcmp(n, "method"))
        a->method = value;
    else if (!strcmp(n, "map"))
        a->map = value;
    else if (!strcmp(n, "logits"))
        a->logits = true;
    else if (!strcmp(n, "ipc"))
        return count_value(v, n, value, 1, 1000000, &a->ipc);
    else if (!strcmp(n, "space")) {
        if (strcmp(value, "normalised") && strcmp(value, "unit"))
            return usage(v, RT_RAISE(RT_ERR_USAGE, "--space is normalised or unit, got `%.60s`", value));
        a->space = value;
    } else if (!strcmp(n, "zoom"))
        return count_value(v, n, value, 1, 32, &a->zoom);
    else if (!strcmp(n, "classes"))
        return count_value(v, n, value, 1, 100000, &a->classes);
    else if (!strcmp(n, "images"))
        return count_value(v, n, value, 1, 100000, &a->images);
    else if (!strcmp(n, "scale")) {
        a->scale_sd = !strcmp(value, "sd");
        if (!a->scale_sd && strcmp(value, "stored"))
            return usage(v, RT_RAISE(RT_ERR_USAGE, "--scale is stored or sd, got `%.60s`", value));
    } else if (!strcmp(n, "config")) {
        if (a->config) return usage(v, RT_RAISE(RT_ERR_USAGE, "--config is given twice"));
        a->config = value;
    } else { /* set */
        if (a->n_set == CLI_MAX_SET) return usage(v, RT_RAISE(RT_ERR_USAGE, "more than %d --set", CLI_MAX_SET));
        a->set[a->n_set++] = value;
    }
    return RT_OK;
}

rt_status cli_parse(const cli_verb *v, int argc, char **argv, cli_args *out)
{
    rt_status st = RT_OK;
    cli_args a = *out;
    bool literal = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (literal || arg[0] != '-' || !arg[1]) {
            if (a.n_pos == CLI_MAX_POS) return usage(v, RT_RAISE(RT_ERR_USAGE, "more than %d arguments", CLI_MAX_POS));
            a.pos[a.n_pos++] = arg;
            continue;
        }
        if (!strcmp(arg, "--")) {
            literal = true;
            continue;
        }
        const char *name = !strcmp(arg, "-h") ? "help" : arg[1] == '-' ? arg + 2 : NULL;
        if (!name) return usage(v, RT_RAISE(RT_ERR_USAGE, "unknown flag %.60s: flags have two dashes", arg));
        size_t len = strcspn(name, "=");
        const flag *f = NULL;
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            if (strlen(flags[k].name) == len && !strncmp(flags[k].name, name, len)) f = &flags[k];
        if (!f || (f->mask && !(v->flags & f->mask))) {
            char cut[64];
            snprintf(cut, sizeof cut, "%.*s", (int)(len > 60 ? 60 : len), name);
            return unknown_flag(v, cut);
        }
        const char *value = name[len] == '=' ? name + len + 1 : NULL;
        if (!f->has_value && value) return usage(v, RT_RAISE(RT_ERR_USAGE, "--%s takes no value", f->name));
        if (f->has_value && !value) {
            if (i + 1 == argc) return usage(v, RT_RAISE(RT_ERR_USAGE, "--%s needs a value", f->name));
            value = argv[++i];
        }
        RT_TRY(take_flag(v, f, value, &a));
    }
    if (!a.help && (v->flags & CLI_CONFIG) && !a.config && a.n_pos) {
        a.config = a.pos[0];
        memmove(a.pos, a.pos + 1, (size_t)--a.n_pos * sizeof *a.pos);
    }
    if (!a.help && a.n_pos < v->min_pos)
        return usage(v, RT_RAISE(RT_ERR_USAGE, "`retort %s` needs %s", v->name, v->args));
    if (!a.help && a.n_pos > v->max_pos)
        return usage(v, RT_RAISE(RT_ERR_USAGE, "`retort %s` does not take `%.60s`", v->name, a.pos[v->max_pos]));
    *out = a;
out:
    return st;
}

/* --quick: the same stages at the smallest sizes that exercise them, in a folder of their own. */
static const char *const quick_set[] = {
    "teach.el2n_epoch=0",
    "teach.epochs=2",
    "teach.runs=1",
    "methods.set_seeds=1",
    "dm.iterations=20",
    "eval.seeds=1",
    "eval.epochs_plain=5",
    "eval.epochs_classic=5",
    "eval.epochs_p1=5",
    "eval.epochs_mtt=5",
    "eval.epochs_datm=5",
    "eval.epochs_idc=5",
    "eval.epochs_datadam=5",
    "eval.epochs_ncfm=5",
    "eval.full_epochs=2",
    NULL,
};
enum { N_QUICK = sizeof quick_set / sizeof *quick_set - 1 };

rt_status cli_override(const cli_args *a, const char *path, const char *text, size_t size, rt_config *out)
{
    rt_status st = RT_OK;
    rt_config c = {0};
    const char *set[N_QUICK + CLI_MAX_SET];
    int n = 0;
    for (int i = 0; a->quick && quick_set[i]; i++) set[n++] = quick_set[i];
    for (int i = 0; i < a->n_set; i++) set[n++] = a->set[i];
    RT_TRY(text ? rt_config_parse(path, text, size, set, n, &c) : rt_config_load(path, set, n, &c));
    if (a->quick) {
        char *dir = rt_asprintf("%s-quick", c.run.dir);
        if (!dir) {
            st = RT_RAISE(RT_ERR_NOMEM, "no memory for run.dir");
            goto out;
        }
        rt_free(c.run.dir);
        c.run.dir = dir;
    }
    cli_progress_file(c.run.dir);
    *out = c;
    memset(&c, 0, sizeof c);
out:
    rt_config_fini(&c);
    return st;
}

rt_status cli_load_config(const cli_args *a, rt_config *out)
{
    rt_status st = RT_OK;
    char path[PATH_MAX];
    if (!a->config) {
        st = RT_RAISE(RT_ERR_USAGE, "no config given");
        return rt_error_fix(st, "add --config FILE, such as configs/demo.yaml; `retort help config` lists the keys");
    }
    if (!rt_fs_is_dir(a->config)) return cli_override(a, a->config, NULL, 0, out);
    RT_TRY(rt_fs_join(path, sizeof path, a->config, "resolved.yaml"));
    if (!rt_fs_exists(path)) {
        st = RT_RAISE(RT_ERR_MISSING, "%s is not a run folder: it has no resolved.yaml", a->config);
        return rt_error_fix(st, "give a config file, or the folder of a run that was started");
    }
    RT_TRY(cli_override(a, path, NULL, 0, out));
out:
    return st;
}
