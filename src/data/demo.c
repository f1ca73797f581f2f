/* Drawing the demo data set. Every quantity of a scene is drawn once from the image's own stream; then each pixel is
 * ground, clutter, figure, occluder, light, noise, in this order. Shapes are signed distances (negative inside, unit
 * scale, y down as in the picture), so one evaluation gives an antialiased edge at any size. */
#include "data/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/data.h"

#define TAU 6.283185307179586

const char *const rt_demo_class[RT_DEMO_CLASSES] = {"arrow", "circle",   "crescent", "cross", "heart",
                                                    "hexagon", "ring", "square",   "star",  "triangle"};

/* --- shapes ------------------------------------------------------------------------------------------------------- */
static double max2(double a, double b) { return a > b ? a : b; }
static double min2(double a, double b) { return a < b ? a : b; }
static double clamp01(double v) { return v < 0 ? 0 : v > 1 ? 1 : v; }
static double box(double x, double y, double w, double h) { return max2(fabs(x) - w, fabs(y) - h); }

/* Regular, standing on a side. */
static double polygon(double x, double y, int sides, double radius)
{
    double sector = TAU / sides, a = atan2(x, y);
    a -= sector * floor(a / sector + 0.5);
    return sqrt(x * x + y * y) * cos(a) - radius * cos(sector / 2);
}

static double arrow(double x, double y)
{
    double shaft = box(x + 0.4, y, 0.55, 0.2), head = max2(0.05 - x, (fabs(y) - 0.8 * (0.95 - x)) / 1.28);
    return min2(shaft, head);
}
static double circle(double x, double y) { return sqrt(x * x + y * y) - 0.82; }
static double crescent(double x, double y)
{
    return max2(sqrt(x * x + y * y) - 0.92, 0.78 - sqrt((x - 0.48) * (x - 0.48) + y * y));
}
static double cross(double x, double y) { return min2(box(x, y, 0.92, 0.28), box(x, y, 0.28, 0.92)); }
static double heart(double x, double y)
{
    double c = 0.46, u = (x - y) * 0.70710678, v = (-y - x) * 0.70710678, w = u + 0.15, z = v + 0.15; /* lobes on top */
    double lobes = min2(sqrt((w - c) * (w - c) + z * z), sqrt(w * w + (z - c) * (z - c))) - c;
    return min2(box(w, z, c, c), lobes);
}
static double hexagon(double x, double y) { return polygon(x, y, 6, 0.92); }
static double ring(double x, double y) { return fabs(sqrt(x * x + y * y) - 0.68) - 0.2; }
static double square(double x, double y) { return box(x, y, 0.72, 0.72); }
static double star(double x, double y)
{
    /* The half-plane through an outer and an inner vertex, folded ten times around. */
    double sector = TAU / 5, a = atan2(x, -y), r = sqrt(x * x + y * y), outer = 0.98, inner = 0.42;
    a = fabs(a - sector * floor(a / sector + 0.5));
    double px = r * cos(a) - outer, py = r * sin(a), ex = inner * cos(sector / 2) - outer, ey = inner * sin(sector / 2);
    return (px * ey - py * ex) / sqrt(ex * ex + ey * ey);
}
static double triangle(double x, double y) { return polygon(x, y, 3, 0.98); }

typedef double shape_fn(double x, double y);
static shape_fn *const shapes[RT_DEMO_CLASSES] = {arrow,   circle, crescent, cross, heart,
                                                  hexagon, ring,   square,   star,  triangle};

/* --- colour and texture --------------------------------------------------------------------------------------------- */
typedef struct rgb {
    double c[3];
} rgb;

static rgb mix(rgb a, rgb b, double t)
{
    for (int k = 0; k < 3; k++) a.c[k] += (b.c[k] - a.c[k]) * t;
    return a;
}

static rgb hsv(double h, double s, double v)
{
    rgb out;
    for (int k = 0; k < 3; k++) {
        double p = h + (double)(3 - k) / 3;
        p = fabs((p - floor(p)) * 6 - 3) - 1;
        out.c[k] = v * (1 + s * (clamp01(p) - 1));
    }
    return out;
}

enum { FLAT, STRIPES, CHECKS, CLOUDS, DOTS, TEXTURES, LATTICE = 16 };

typedef struct texture {
    int kind;
    double freq, ca, sa, phase, depth; /* cycles per image side, direction, offset, contrast */
    double cell[LATTICE][LATTICE];     /* of clouds */
} texture;

static double clouds(const texture *t, double u, double v)
{
    int64_t i = (int64_t)floor(u), j = (int64_t)floor(v);
    double fu = u - (double)i, fv = v - (double)j;
    int i0 = (int)(i & (LATTICE - 1)), j0 = (int)(j & (LATTICE - 1)), i1 = (i0 + 1) % LATTICE, j1 = (j0 + 1) % LATTICE;
    fu = fu * fu * (3 - 2 * fu);
    fv = fv * fv * (3 - 2 * fv);
    double a = t->cell[i0][j0] + (t->cell[i1][j0] - t->cell[i0][j0]) * fu;
    double b = t->cell[i0][j1] + (t->cell[i1][j1] - t->cell[i0][j1]) * fu;
    return a + (b - a) * fv;
}

static double texture_at(const texture *t, double x, double y)
{
    double u = t->freq * (x * t->ca - y * t->sa) + t->phase, v = t->freq * (x * t->sa + y * t->ca) - t->phase;
    switch (t->kind) {
    case STRIPES: return t->depth * sin(TAU * u);
    case CHECKS: return t->depth * tanh(4 * sin(TAU * u / 1.5) * sin(TAU * v / 1.5));
    case CLOUDS: return t->depth * 1.3 * (clouds(t, u, v) + 0.5 * clouds(t, 2 * u + 5, 2 * v + 3));
    case DOTS: return t->depth * tanh(5 * (cos(TAU * u) + cos(TAU * v) - 0.7));
    default: return 0;
    }
}

static texture draw_texture(rt_rng *r, int kind, double depth)
{
    texture t = {.kind = kind, .depth = depth};
    double a = rt_rng_uniform_in(r, 0, TAU);
    t.freq = rt_rng_uniform_in(r, 3, 7);
    t.ca = cos(a);
    t.sa = sin(a);
    t.phase = rt_rng_uniform_in(r, 0, 10);
    for (int i = 0; i < LATTICE * LATTICE; i++) t.cell[i / LATTICE][i % LATTICE] = rt_rng_uniform_in(r, -1, 1);
    return t;
}

/* --- scene -------------------------------------------------------------------------------------------------------- */
typedef struct item { /* a shape placed in the unit square */
    int shape;
    double m[4], x, y, scale; /* inverse linear part; centre; size, for the width of the edge */
    rgb colour;
} item;

enum { MAX_ITEMS = 8 };

typedef struct scene {
    rgb ground[2], figure[2];
    texture ground_tex, figure_tex;
    double tilt[2];     /* direction of the ground's colour gradient */
    item main, behind[MAX_ITEMS], front[MAX_ITEMS];
    int n_behind, n_front;
    double light[3], noise, edge; /* light: offset and slope; edge: darkness of the figure's outline */
} scene;

/* A habit holds for two fifths of a class's images; the rest draw freely, so habits help and mislead. */
static bool habit(rt_rng *r) { return rt_rng_uniform(r) < 0.4f; }

static item place(rt_rng *r, int shape, double lo, double hi, double margin)
{
    item it = {.shape = shape};
    double a = 0.4 * rt_rng_normal(r), stretch = exp(rt_rng_uniform_in(r, -0.22, 0.22));
    double shear = rt_rng_uniform_in(r, -0.15, 0.15), mirror = rt_rng_below(r, 2) ? 1 : -1;
    it.scale = rt_rng_uniform_in(r, lo, hi);
    it.x = rt_rng_uniform_in(r, margin, 1 - margin);
    it.y = rt_rng_uniform_in(r, margin, 1 - margin);
    /* inverse of scale * rotation * shear * stretch: what a pixel's offset is multiplied with */
    double c = cos(a), s = sin(a), ix = mirror / (it.scale * stretch), iy = stretch / it.scale;
    it.m[0] = ix * (c - shear * s);
    it.m[1] = ix * (s + shear * c);
    it.m[2] = -iy * s;
    it.m[3] = iy * c;
    return it;
}

/* Coverage of the pixel at (x, y) by a shape, and the distance in units of the image side. */
static double cover(const item *it, double x, double y, double pixel, double *dist)
{
    double dx = x - it->x, dy = y - it->y;
    *dist = shapes[it->shape](it->m[0] * dx + it->m[1] * dy, it->m[2] * dx + it->m[3] * dy) * it->scale;
    return clamp01(0.5 - *dist / pixel);
}

static rgb any_colour(rt_rng *r)
{
    double h = rt_rng_uniform(r), s = rt_rng_uniform_in(r, 0.15, 0.95), v = rt_rng_uniform_in(r, 0.2, 1);
    return hsv(h, s, v);
}

static double contrast(rgb a, rgb b)
{
    double d = 0;
    for (int k = 0; k < 3; k++) d += (a.c[k] - b.c[k]) * (a.c[k] - b.c[k]);
    return sqrt(d);
}

static void draw_scene(rt_rng *r, int cls, scene *s)
{
    double home = (double)cls / RT_DEMO_CLASSES;
    bool hue_habit = habit(r), ground_habit = habit(r);
    s->ground[0] = ground_habit ? hsv(home + 0.37 + 0.08 * rt_rng_normal(r), 0.5, rt_rng_uniform_in(r, 0.3, 0.8))
                                : any_colour(r);
    s->ground[1] = mix(s->ground[0], any_colour(r), rt_rng_uniform_in(r, 0.2, 0.6));
    rgb between = mix(s->ground[0], s->ground[1], 0.5);
    for (int tries = 0; tries < 20; tries++) { /* a figure that its ground swallows has no class */
        double h = hue_habit ? home + 0.06 * rt_rng_normal(r) : rt_rng_uniform(r);
        s->figure[0] = hsv(h, rt_rng_uniform_in(r, 0.2, 1), rt_rng_uniform_in(r, 0.25, 1));
        if (contrast(s->figure[0], between) > 0.45) break;
    }
    s->figure[1] = mix(s->figure[0], any_colour(r), 0.45);
    s->ground_tex = draw_texture(r, (int)rt_rng_below(r, TEXTURES), rt_rng_uniform_in(r, 0.1, 0.75));
    int kind = habit(r) ? cls % TEXTURES : (int)rt_rng_below(r, TEXTURES);
    s->figure_tex = draw_texture(r, kind, rt_rng_uniform_in(r, 0.2, 0.8));
    double a = rt_rng_uniform_in(r, 0, TAU);
    s->tilt[0] = cos(a);
    s->tilt[1] = sin(a);
    s->main = place(r, cls, 0.26, 0.42, 0.36);
    s->n_behind = 1 + (int)rt_rng_below(r, 4);
    for (int i = 0; i < s->n_behind; i++) { /* small shapes of any class: their presence says nothing */
        s->behind[i] = place(r, (int)rt_rng_below(r, RT_DEMO_CLASSES), 0.05, 0.14, 0);
        s->behind[i].colour = any_colour(r);
    }
    s->n_front = (int)rt_rng_below(r, 4);
    for (int i = 0; i < s->n_front; i++) {
        s->front[i] = place(r, (int)rt_rng_below(r, RT_DEMO_CLASSES), 0.04, 0.11, 0.05);
        s->front[i].colour = any_colour(r);
    }
    s->light[0] = rt_rng_uniform_in(r, 0.75, 1.1);
    s->light[1] = rt_rng_uniform_in(r, -0.4, 0.4);
    s->light[2] = rt_rng_uniform_in(r, -0.4, 0.4);
    s->noise = rt_rng_uniform_in(r, 0.01, 0.06);
    s->edge = rt_rng_below(r, 3) ? 0 : rt_rng_uniform_in(r, 0.3, 0.7);
}

void rt_demo_render(uint64_t seed, rt_demo_split split, int cls, uint32_t index, int size, uint8_t *out)
{
    rt_rng r = rt_rng_at(seed, RT_RNG_DEMO, (uint64_t)split * RT_DEMO_CLASSES + (uint64_t)cls, index);
    scene s = {0};
    draw_scene(&r, cls, &s);
    double pixel = 1.0 / size, dist;
    for (int j = 0; j < size; j++) {
        for (int i = 0; i < size; i++) {
            double x = (i + 0.5) * pixel, y = (j + 0.5) * pixel, cx = x - 0.5, cy = y - 0.5;
            double ramp = 0.5 + 0.5 * (cx * s.tilt[0] + cy * s.tilt[1]);
            rgb c = mix(s.ground[0], s.ground[1], clamp01(ramp + 0.5 * texture_at(&s.ground_tex, x, y)));
            for (int k = 0; k < s.n_behind; k++) c = mix(c, s.behind[k].colour, cover(&s.behind[k], x, y, pixel, &dist));
            double a = cover(&s.main, x, y, pixel, &dist);
            if (a > 0) {
                rgb f = mix(s.figure[0], s.figure[1], clamp01(0.4 + 0.5 * texture_at(&s.figure_tex, x, y)));
                if (dist > -0.03) f = mix(f, (rgb){{0, 0, 0}}, s.edge);
                c = mix(c, f, a);
            }
            for (int k = 0; k < s.n_front; k++) c = mix(c, s.front[k].colour, cover(&s.front[k], x, y, pixel, &dist));
            double light = s.light[0] + cx * s.light[1] + cy * s.light[2];
            for (int k = 0; k < 3; k++) {
                double v = c.c[k] * light + s.noise * rt_rng_normal(&r);
                *out++ = (uint8_t)(clamp01(v) * 255 + 0.5);
            }
        }
    }
}

/* --- files -------------------------------------------------------------------------------------------------------- */
typedef struct job {
    const char *dir;
    uint64_t seed;
    int per_class[2], size;
} job;

static const char *const split_name[2] = {"train", "test"};

static rt_status write_picture(const job *j, int64_t i)
{
    enum { QUALITY = 90 };
    rt_status st = RT_OK;
    int64_t n_train = (int64_t)j->per_class[0] * RT_DEMO_CLASSES;
    rt_demo_split split = i < n_train ? RT_DEMO_TRAIN : RT_DEMO_TEST;
    int64_t k = split == RT_DEMO_TRAIN ? i : i - n_train;
    int cls = (int)(k / j->per_class[split]), index = (int)(k % j->per_class[split]), fd = -1;
    uint8_t *px = NULL;
    void *jpeg = NULL;
    size_t n = 0;
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s/%05d.jpg", j->dir, split_name[split], rt_demo_class[cls], index) >=
        sizeof path)
        return RT_RAISE(RT_ERR_ARG, "%s: path too long", j->dir);
    RT_ALLOC(px, (size_t)j->size * (size_t)j->size * 3, "a demo picture");
    rt_demo_render(j->seed, split, cls, (uint32_t)index, j->size, px);
    RT_TRYF(rt_jpeg_encode(px, j->size, j->size, QUALITY, &jpeg, &n), "%s", path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = RT_RAISE_ERRNO("%s", path);
        goto out;
    }
    RT_TRY(rt_fs_write_all(fd, path, jpeg, n));
out:
    if (fd >= 0 && close(fd) && st == RT_OK) st = RT_RAISE_ERRNO("%s: close", path);
    rt_free(px);
    rt_free(jpeg);
    return st;
}

static rt_status write_all(const job *j)
{
    enum { CHUNK = 256 };
    int64_t total = (int64_t)(j->per_class[0] + j->per_class[1]) * RT_DEMO_CLASSES, failed = INT64_MAX;
    rt_error_chain chain = {0};
    for (int64_t i0 = 0; i0 < total; i0 += CHUNK) {
        int64_t i1 = i0 + CHUNK < total ? i0 + CHUNK : total;
#pragma omp parallel for schedule(dynamic, 8)
        for (int64_t i = i0; i < i1; i++) {
            if (write_picture(j, i) == RT_OK) continue;
#pragma omp critical(rt_demo)
            if (i < failed) { /* the first picture's complaint, whoever drew it */
                failed = i;
                rt_error_save(&chain);
            }
        }
        if (failed < total) return rt_error_restore(&chain);
        if (rt_stop_requested()) return RT_RAISE(RT_ERR_CANCELLED, "%s: stopped after %lld pictures", j->dir, (long long)i1);
        rt_progress_report(&(rt_progress){.phase = "draw", .unit = "images", .done = (double)i1, .total = (double)total});
    }
    return RT_OK;
}

rt_status rt_demo_generate(const char *dir, uint64_t seed, int per_class_train, int per_class_test, int size)
{
    enum { MOST = 100000 }; /* five digits in a file name */
    rt_status st = RT_OK;
    char *tmp = NULL, **names = NULL, sub[PATH_MAX];
    size_t n = 0;
    if (per_class_train < 1 || per_class_test < 1 || per_class_train > MOST || per_class_test > MOST)
        return RT_RAISE(RT_ERR_CONFIG, "demo: %d training and %d test images per class; 1 to %d of each", per_class_train,
                        per_class_test, MOST);
    if (size < RT_DEMO_MIN_SIZE || size > RT_DEMO_MAX_SIZE)
        return RT_RAISE(RT_ERR_CONFIG, "demo: image size %d; %d to %d", size, RT_DEMO_MIN_SIZE, RT_DEMO_MAX_SIZE);
    if (rt_fs_exists(dir)) {
        RT_TRY(rt_fs_list(dir, &names, &n));
        if (n) {
            st = RT_RAISE(RT_ERR_LOCKED, "%s: exists and is not empty", dir);
            rt_error_fix(st, "name a new folder, or remove this one");
            goto out;
        }
    }
    tmp = rt_asprintf("%s.partial", dir);
    if (!tmp) {
        st = RT_RAISE(RT_ERR_NOMEM, "no memory for a path");
        goto out;
    }
    RT_TRY(rt_fs_remove_tree(tmp));
    for (int s = 0; s < 2; s++)
        for (int c = 0; c < RT_DEMO_CLASSES; c++) {
            if ((size_t)snprintf(sub, sizeof sub, "%s/%s/%s", tmp, split_name[s], rt_demo_class[c]) >= sizeof sub) {
                st = RT_RAISE(RT_ERR_ARG, "%s: path too long", dir);
                goto out;
            }
            RT_TRY(rt_fs_mkdirs(sub));
        }
    RT_TRYF(write_all(&(job){tmp, seed, {per_class_train, per_class_test}, size}), "draw the demo set");
    if (rename(tmp, dir)) st = RT_RAISE_ERRNO("%s: rename to %s", tmp, dir);
out:
    if (st != RT_OK && tmp) {
        rt_error_chain chain;
        rt_error_save(&chain); /* cleaning up must not replace the complaint */
        rt_fs_remove_tree(tmp);
        rt_error_restore(&chain);
    }
    rt_fs_list_free(names, n);
    rt_free(tmp);
    return st;
}
