/* Sets published as tensors (DD-Ranking's images.pt and labels.pt, and most matching methods), converted to safetensors by
 * the reader's own PyTorch: no pickle is opened here. README has the converter. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "stage/import.h"

static rt_status shape_of(const rt_st_tensor *t, const char *file, rt_foreign *f, bool *planes)
{
    rt_status st = RT_OK;
    if (!t) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s holds no tensor 'images'", file);
        return rt_error_fix(st, "save the set as {\"images\": ..., \"labels\": ...}");
    }
    *planes = t->rank == 4 && t->shape[1] == 3 && t->shape[3] != 3;
    if (t->rank != 4 || (!*planes && t->shape[3] != 3) || t->shape[0] < 1) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: 'images' must be [n,3,h,w] or [n,h,w,3]", file);
        return rt_error_fix(st, "save colour images, one row an image");
    }
    const int64_t h = t->shape[*planes ? 2 : 1], w = t->shape[*planes ? 3 : 2];
    if (h > 4096 || w > 4096) return RT_RAISE(RT_ERR_FORMAT, "%s: images of %lld x %lld pixels", file, (long long)h, (long long)w);
    f->n = t->shape[0];
    f->h = (int32_t)h;
    f->w = (int32_t)w;
    return RT_OK;
}

static rt_status read_images(rt_run *r, const rt_st_tensor *t, const char *file, const char *space, bool planes, rt_foreign *f)
{
    rt_status st = RT_OK;
    float *raw = NULL;
    const size_t area = (size_t)f->h * (size_t)f->w, count = (size_t)f->n * area * 3;
    RT_ALLOC(f->px, count * sizeof *f->px, "images of the set");
    RT_ALLOC(raw, count * sizeof *raw, "images of the set");
    if (t->dtype == RT_ST_U8) {
        for (size_t i = 0; i < count; i++) raw[i] = (float)((const uint8_t *)t->data)[i] / 255.0f;
    } else {
        RT_TRY(rt_st_to_f32(t, raw, (int64_t)count));
        if (!space) {
            st = RT_RAISE(RT_ERR_USAGE, "%s: float images are normalised by mean and std, or lie in [0,1]; the file does not say which", file);
            rt_error_fix(st, "add --space normalised or --space unit");
            goto out;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const size_t in_image = i % (area * 3), c = planes ? in_image / area : in_image % 3;
        const size_t at = planes ? i - in_image + (in_image % area) * 3 + c : i;
        if (!isfinite(raw[i])) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: image %lld holds a value that is not finite", file, (long long)(i / (area * 3)));
            goto out;
        }
        if (t->dtype == RT_ST_U8) raw[i] = (raw[i] - r->norm.mean[c]) / r->norm.std[c];
        f->px[at] = raw[i];
    }
    f->unit = t->dtype != RT_ST_U8 && !strcmp(space, "unit");
    for (size_t i = 0; f->unit && i < count; i++)
        if (f->px[i] < 0 || f->px[i] > 1) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: image %lld holds %g, which is not in [0,1]", file, (long long)(i / (area * 3)), (double)f->px[i]);
            rt_error_fix(st, "these images may be normalised: --space normalised");
            goto out;
        }
    f->stored_bytes = (double)t->bytes;
out:
    rt_free(raw);
    return st;
}

/* Class labels; those of soft labels alone are their largest entry. */
static rt_status read_labels(const rt_st_file *s, const char *file, int32_t classes, bool logits, rt_foreign *f)
{
    rt_status st = RT_OK;
    const rt_st_tensor *hard = rt_st_find(s, "labels"), *soft = rt_st_find(s, "soft_labels");
    if (hard && hard->dtype != RT_ST_I64 && hard->dtype != RT_ST_I32 && hard->rank == 2 && !soft) soft = hard, hard = NULL;
    if (!hard && !soft) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s holds neither 'labels' nor 'soft_labels'", file);
        return rt_error_fix(st, "save the class of each image as int64 'labels'");
    }
    RT_ALLOC(f->label, (size_t)f->n * sizeof *f->label, "labels of the set");
    if (soft) {
        if (soft->rank != 2 || soft->shape[0] != f->n || soft->shape[1] != classes) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: 'soft_labels' must be [%lld,%d]: one row an image, one column a class", file, (long long)f->n, classes);
            rt_error_fix(st, "use the config of the data set that this set was made from");
            goto out;
        }
        RT_ALLOC(f->soft, (size_t)(f->n * classes) * sizeof *f->soft, "soft labels");
        RT_TRY(rt_st_to_f32(soft, f->soft, f->n * classes));
        f->soft_logits = logits;
        for (int64_t i = 0; i < f->n; i++)
            for (int32_t k = 0; k < classes; k++)
                if (f->soft[i * classes + k] > f->soft[i * classes + f->label[i]]) f->label[i] = k;
    }
    if (hard && ((hard->dtype != RT_ST_I64 && hard->dtype != RT_ST_I32) || hard->rank != 1 || hard->shape[0] != f->n)) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s: 'labels' must be int64 [%lld]", file, (long long)f->n);
        rt_error_fix(st, "save the class of each image as int64 'labels'");
        goto out;
    }
    for (int64_t i = 0; hard && i < f->n; i++) {
        const int64_t k = hard->dtype == RT_ST_I64 ? ((const int64_t *)hard->data)[i] : ((const int32_t *)hard->data)[i];
        if (k < 0 || k >= classes) {
            st = RT_RAISE(RT_ERR_FORMAT, "%s: image %lld has label %lld, the run has %d classes", file, (long long)i, (long long)k, classes);
            rt_error_fix(st, "use the config of the data set that this set was made from");
            goto out;
        }
        f->label[i] = (int32_t)k;
    }
out:
    return st;
}

rt_status rt_foreign_tensors(rt_run *r, const char *file, const char *space, bool logits, rt_foreign *out)
{
    rt_status st = RT_OK;
    rt_foreign f = {0};
    rt_st_file *s = NULL;
    bool planes = false;
    RT_TRY(rt_st_open(file, &s));
    const rt_st_tensor *images = rt_st_find(s, "images");
    RT_TRY(shape_of(images, file, &f, &planes));
    RT_TRY(read_images(r, images, file, space, planes, &f));
    RT_TRY(read_labels(s, file, rt_dataset_classes(r->train_set)->n, logits, &f));
    if (f.h != f.w || f.h != r->c->data.size) {
        st = RT_RAISE(RT_ERR_FORMAT, "%s holds %d x %d images, data.size is %lld", file, f.h, f.w, (long long)r->c->data.size);
        rt_error_fix(st, "set data.size to the side of these images");
        goto out;
    }
    snprintf(f.order, sizeof f.order, "class order: label numbers index the class list, which nothing in the file confirms");
    *out = f;
    memset(&f, 0, sizeof f);
out:
    rt_foreign_fini(&f);
    rt_st_close(s);
    return st;
}
