/* The table of protocols and their published settings (matching.md 4 and 5; p1: decoupled.md 5.1, 5.2). */
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"

#define SGD_DC {.kind = RT_SGD, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4}
#define ADAMW {.kind = RT_ADAMW, .lr = 1e-3, .weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}
#define STRATEGY "color_crop_cutout_flip_scale_rotate"
#define VARIANT "color_crop_flip_scale_rotate" /* without cutout, which CutMix replaces */

typedef struct protocol_row {
    const char *name;
    int64_t epochs, batch;
    rt_optim_desc optim;
    rt_augment_kind augment;
    const char *strategy;
    char mode;
    double cutmix;
    bool follows_set;
    int n_steps;           /* milestones, as shares of the epochs; 0: the DC lineage's schedule */
    double factor;
    int at[4], of;         /* milestone i: floor(at[i] * epochs / of) */
} protocol_row;

static const protocol_row rows[RT_PROTOCOL_COUNT] = {
    [RT_P1_PLAIN] = {.name = "p1_plain", .epochs = 300, .batch = 256, .optim = SGD_DC},
    [RT_P1_CLASSIC] = {.name = "p1_classic", .epochs = 1000, .batch = 256, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = STRATEGY},
    [RT_P1] = {.name = "p1", .epochs = 300, .optim = ADAMW, .augment = RT_AUGMENT_RRC_CUTMIX},
    [RT_P1_MTT] = {.name = "p1_mtt", .epochs = 1000, .batch = 256, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = STRATEGY,
                   .follows_set = true},
    [RT_P1_DATM] = {.name = "p1_datm", .epochs = 1000, .batch = 128, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = STRATEGY,
                    .follows_set = true},
    [RT_P1_IDC] = {.name = "p1_idc", .epochs = 1000, .batch = 64, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = VARIANT,
                   .mode = 'I', .cutmix = 0.5, .n_steps = 2, .factor = 0.2, .at = {4, 5}, .of = 6},
    [RT_P1_DATADAM] = {.name = "p1_datadam", .epochs = 1800, .batch = 64, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = STRATEGY},
    [RT_P1_NCFM] = {.name = "p1_ncfm", .epochs = 2000, .batch = 128, .optim = ADAMW, .augment = RT_AUGMENT_DSA, .strategy = VARIANT,
                    .mode = 'I', .cutmix = 0.5, .n_steps = 4, .factor = 0.5, .at = {1, 2, 3, 4}, .of = 5},
};

const char *rt_protocol_name(rt_protocol p) { return (unsigned)p < RT_PROTOCOL_COUNT ? rows[p].name : "?"; }

rt_status rt_protocol_find(const char *name, rt_protocol *out)
{
    char known[160];
    int n = 0;
    for (int i = 0; i < RT_PROTOCOL_COUNT; i++)
        if (!strcmp(name, rows[i].name)) {
            *out = (rt_protocol)i;
            return RT_OK;
        }
    for (int i = 0; i < RT_PROTOCOL_COUNT; i++) n += snprintf(known + n, sizeof known - (size_t)n, "%s%s", i ? ", " : "", rows[i].name);
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "no protocol named '%s'", name);
    return rt_error_fix(st, "known protocols: %s", known);
}

bool rt_protocol_follows_set(rt_protocol p) { return (unsigned)p < RT_PROTOCOL_COUNT && rows[p].follows_set; }

void rt_protocol_recipe(rt_protocol p, int64_t n, int32_t classes, int64_t epochs, rt_recipe *out)
{
    const protocol_row *row = &rows[p];
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", row->name);
    out->epochs = epochs > 0 ? epochs : row->epochs;
    out->batch = row->batch;
    out->optim = row->optim;
    out->augment = row->augment;
    out->dsa_strategy = row->strategy;
    out->dsa_mode = row->mode;
    out->cutmix = row->cutmix;
    if (p == RT_P1) {
        int64_t ipc = classes > 0 ? n / classes : n, small = classes >= 100 ? 100 : 50;
        out->batch = ipc >= 50 ? 2 * small : small;
        out->schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 1};
        out->decay_kernels_only = true;
    } else if (row->n_steps) {
        out->schedule = (rt_schedule){.kind = RT_SCHED_STEP, .factor = row->factor, .n_milestones = row->n_steps};
        for (int i = 0; i < row->n_steps; i++) out->schedule.milestone[i] = (double)(row->at[i] * out->epochs / row->of);
    } else { /* epochs 0..E run; after the one with index E/2 + 1 the rate is divided by 10 and the optimiser rebuilt */
        out->schedule = rt_schedule_dc(out->epochs);
        out->epochs++;
    }
}
