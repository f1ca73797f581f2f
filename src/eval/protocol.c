/* The table of protocols and their published settings (matching.md 4 and 5; p1, p2, p3: decoupled.md 4 and 5). */
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"

#define SGD_DC {.kind = RT_SGD, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4}
#define ADAMW {.kind = RT_ADAMW, .lr = 1e-3, .weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}
#define STRATEGY "color_crop_cutout_flip_scale_rotate"
#define VARIANT "color_crop_flip_scale_rotate" /* without cutout, which CutMix replaces */

#define BUDGET .budget = true, .epochs = 300, .optim = ADAMW, .augment = RT_AUGMENT_RRC_CUTMIX, .schedule = RT_SCHED_COSINE
#define KL(who) .teachers = RT_LESSON_##who, .loss = RT_LOSS_KL
#define MSE_GT .teachers = RT_LESSON_COMMITTEE, .loss = RT_LOSS_MSE_GT

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
    bool budget;           /* of decoupled.md 5: what follows */
    rt_lesson teachers;
    rt_loss_kind loss;
    rt_target_kind target;
    rt_schedule_kind schedule;
    double zeta;
} protocol_row;

static const protocol_row rows[RT_PROTOCOL_COUNT] = {
    [RT_P1_PLAIN] = {.name = "p1_plain", .epochs = 300, .batch = 256, .optim = SGD_DC},
    [RT_P1_CLASSIC] = {.name = "p1_classic", .epochs = 1000, .batch = 256, .optim = SGD_DC, .augment = RT_AUGMENT_DSA, .strategy = STRATEGY},
    [RT_P1] = {.name = "p1", BUDGET, .zeta = 1},
    [RT_P2] = {.name = "p2", BUDGET, KL(FIRST), .zeta = 2},
    [RT_P2_RD3] = {.name = "p2_rd3", BUDGET, KL(FIRST), .zeta = 2},
    [RT_P2_SRE2L] = {.name = "p2_sre2l", BUDGET, KL(FIRST), .zeta = 1},
    [RT_P2_FIXED] = {.name = "p2_fixed", BUDGET, KL(FIRST), .zeta = 2},
    [RT_P3] = {.name = "p3", BUDGET, MSE_GT, .zeta = 2},
    [RT_P3_KL] = {.name = "p3_kl", BUDGET, KL(COMMITTEE), .zeta = 2},
    [RT_P3_EDC] = {.name = "p3_edc", BUDGET, MSE_GT, .zeta = 2},
    [RT_P3_GVBSM] = {.name = "p3_gvbsm", BUDGET, MSE_GT, .target = RT_TARGET_EQUALISED, .zeta = 2},
    [RT_P3_5XR18] = {.name = "p3_5xr18", BUDGET, KL(RUNS), .zeta = 2},
    [RT_P3_BSSL] = {.name = "p3_bssl", BUDGET, KL(COMMITTEE), .zeta = 2},
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
    char known[320];
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

bool rt_protocol_budget(rt_protocol p) { return (unsigned)p < RT_PROTOCOL_COUNT && rows[p].budget; }
rt_lesson rt_protocol_teachers(rt_protocol p) { return (unsigned)p < RT_PROTOCOL_COUNT ? rows[p].teachers : RT_LESSON_NONE; }

void rt_protocol_student(rt_protocol p, const char *arch, rt_recipe *r)
{
    static const struct {
        const char *arch;
        double lr;
    } rate[] = {{"vgg11", 5e-4},  {"efficientnet_b0", 2e-3}, {"mobilenet_v2", 2.5e-3}, {"alexnet", 1e-4},
                {"vit_b_16", 1e-4}, {"deit_tiny", 1e-4},       {"swin_t", 1e-4}};
    if (!rt_protocol_budget(p)) return;
    for (size_t i = 0; i < sizeof rate / sizeof *rate; i++)
        if (!strcmp(arch, rate[i].arch)) r->optim.lr = rate[i].lr;
    if (p == RT_P2_RD3 && !strcmp(arch, "resnet18")) r->schedule.zeta = 1;
}

/* The budget that p1, p2 and p3 share, and what a variant changes of it. */
static void budget_recipe(rt_protocol p, int64_t n, int32_t classes, int64_t epochs, rt_recipe *out)
{
    const protocol_row *row = &rows[p];
    const int64_t ipc = classes > 0 ? n / classes : n, small = classes >= 100 ? 100 : 50;
    out->batch = ipc >= 50 ? 2 * small : small;
    out->schedule = (rt_schedule){.kind = row->schedule, .zeta = row->zeta};
    out->decay_kernels_only = true;
    out->loss = row->loss;
    out->target = row->target;
    if (row->loss == RT_LOSS_KL) out->temperature = 20;
    if (row->loss == RT_LOSS_MSE_GT) {
        out->gamma = 0.025;
        out->ema = 0.99;
    }
    if (p == RT_P2_RD3) {
        out->batch = 50;
        if (epochs <= 0) out->epochs = 400;
    } else if (p == RT_P2_SRE2L) {
        out->batch = 1024;
        out->rrc_scale = 0.08f;
    } else if (p == RT_P2_FIXED) {
        out->augment = RT_AUGMENT_RRC;
        out->stored_targets = true;
    } else if (p == RT_P3_EDC) {
        out->batch = 100;
        out->schedule.kind = RT_SCHED_LINEAR;
    } else if (p == RT_P3_BSSL) {
        out->batch = 16;
        out->parts = 2;
        out->teacher_batch_stats = true;
    }
}

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
    if (row->budget) {
        budget_recipe(p, n, classes, epochs, out);
    } else if (row->n_steps) {
        out->schedule = (rt_schedule){.kind = RT_SCHED_STEP, .factor = row->factor, .n_milestones = row->n_steps};
        for (int i = 0; i < row->n_steps; i++) out->schedule.milestone[i] = (double)(row->at[i] * out->epochs / row->of);
    } else { /* epochs 0..E run; after the one with index E/2 + 1 the rate is divided by 10 and the optimiser rebuilt */
        out->schedule = rt_schedule_dc(out->epochs);
        out->epochs++;
    }
}
