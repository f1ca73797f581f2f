/* data.preset: the validation view of published weights under one name (ecosystem.md 2.2). A preset stands for data.resize,
 * data.filter, data.mean and data.std; data.size is 224 unless it is given. Keys that are given beside it must agree with it, so that
 * the name in a result can be believed.
 *
 * The shorter side is floor(size / crop_pct): 256, 232 and 235 at 224 pixels as published, and what timm computes for other
 * sides. rded is size / 7 * 8 in integers, as SRe2L and RDED validate: 256 at 224, 72 at 64, and 32 at 32, no resize at all (the
 * teachers that RDED released for CIFAR reach their stated accuracy under tv1 instead, 36 at 32; decoupled.md 9.17). */
#include <string.h>

#include "config/schema.h"

typedef struct preset {
    const char *name, *filter;
    double crop_pct; /* 0: size / 7 * 8 */
} preset;

static const preset presets[] = {
    {"tv1", "bilinear", 0.875},   /* torchvision's V1 weights; timm's crop_pct 0.875 */
    {"tv2", "bilinear", 0.965},   /* torchvision's V2 weights */
    {"timm-a", "bicubic", 0.95}, /* timm's a1 and a2 weights */
    {"rded", "bilinear", 0},
};
static const double imagenet_mean[3] = {0.485, 0.456, 0.406}, imagenet_std[3] = {0.229, 0.224, 0.225};

static bool is_given(const cfg_src *seen, const char *path)
{
    const cfg_src *s = &seen[cfg_find(path) - cfg_row_at(0)];
    return s->file || s->set;
}

static rt_status disagrees(const cfg_src *seen, const preset *p, const rt_config *c, const char *key, const char *want)
{
    const cfg_src *at = &seen[cfg_find(key) - cfg_row_at(0)];
    rt_status st = cfg_blame(at, "`%s` is not what preset %s has for %lld pixels: %s", key, p->name, (long long)c->data.size, want);
    return rt_error_fix(st, "leave `%s` out, or set it to %s, or data.preset to none", key, want);
}

static bool same3(const double a[3], const double b[3])
{
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

rt_status cfg_expand_preset(rt_config *c, const cfg_src *seen)
{
    const preset *p = NULL;
    char want[48];
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (!strcmp(c->data.preset, presets[i].name)) p = &presets[i];
    if (!p) return RT_OK; /* none */
    if (!is_given(seen, "data.size")) c->data.size = 224;
    const int64_t resize = p->crop_pct > 0 ? (int64_t)((double)c->data.size / p->crop_pct) : c->data.size / 7 * 8;
    if (resize < c->data.size) {
        const cfg_src *at = &seen[cfg_find("data.size") - cfg_row_at(0)];
        rt_status st = cfg_blame(at, "preset %s has no view of %lld pixels", p->name, (long long)c->data.size);
        return rt_error_fix(st, "use a side of at least 32, or data.preset: none with data.resize");
    }
    snprintf(want, sizeof want, "%lld", (long long)resize);
    if (is_given(seen, "data.resize") && c->data.resize != resize) return disagrees(seen, p, c, "data.resize", want);
    if (is_given(seen, "data.filter") && strcmp(c->data.filter, p->filter)) return disagrees(seen, p, c, "data.filter", p->filter);
    if (!same3(c->data.mean, imagenet_mean)) return disagrees(seen, p, c, "data.mean", "[0.485, 0.456, 0.406]");
    if (!same3(c->data.std, imagenet_std)) return disagrees(seen, p, c, "data.std", "[0.229, 0.224, 0.225]");
    c->data.resize = resize;
    for (const char *const *f = cfg_find("data.filter")->choices; *f; f++) /* enum values are the table's own strings */
        if (!strcmp(*f, p->filter)) c->data.filter = *f;
    return RT_OK;
}
