/* The table of protocols and their published settings. */
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"

static const char *const names[RT_PROTOCOL_COUNT] = {"p1_plain", "p1_classic", "p1_kd"};

const char *rt_protocol_name(rt_protocol p) { return (unsigned)p < RT_PROTOCOL_COUNT ? names[p] : "?"; }

rt_status rt_protocol_find(const char *name, rt_protocol *out)
{
    for (int i = 0; i < RT_PROTOCOL_COUNT; i++)
        if (!strcmp(name, names[i])) {
            *out = (rt_protocol)i;
            return RT_OK;
        }
    rt_status st = RT_RAISE(RT_ERR_CONFIG, "no protocol named '%s'", name);
    return rt_error_fix(st, "known protocols: p1_plain, p1_classic, p1_kd");
}

/* DC lineage (matching.md 4.1, 5): epochs 0..E run (E + 1 of them); after the epoch with index E/2 + 1 the rate is divided
 * by 10 and the optimiser rebuilt, so its momentum is lost. */
static void matching_recipe(int64_t half_of, rt_recipe *r)
{
    r->epochs = half_of + 1;
    r->batch = 256;
    r->optim = (rt_optim_desc){.kind = RT_SGD, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4};
    r->schedule = rt_schedule_dc(half_of);
}

void rt_protocol_recipe(rt_protocol p, int64_t n, int32_t classes, int64_t epochs, rt_recipe *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", rt_protocol_name(p));
    if (p == RT_P1_KD) { /* decoupled.md 5.1, 5.2 */
        int64_t ipc = classes > 0 ? n / classes : n, small = classes >= 100 ? 100 : 50;
        out->epochs = epochs > 0 ? epochs : 300;
        out->batch = ipc >= 50 ? 2 * small : small;
        out->optim = (rt_optim_desc){.kind = RT_ADAMW, .lr = 1e-3, .weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
        out->schedule = (rt_schedule){.kind = RT_SCHED_COSINE, .zeta = 1};
        out->decay_kernels_only = true;
        out->augment = RT_AUGMENT_RRC_CUTMIX;
        return;
    }
    matching_recipe(epochs > 0 ? epochs : p == RT_P1_PLAIN ? 300 : 1000, out);
    if (p == RT_P1_CLASSIC) {
        out->augment = RT_AUGMENT_DSA;
        out->dsa_strategy = "color_crop_cutout_flip_scale_rotate";
    }
}
