/* DSA: parsing, ranges and frequencies of the draws, siamese sharing, stages of mode M, adjoints of the graph half. */
#include "nn/dsa.h"
#include "session.h"

static const char everything[] = "color_crop_cutout_flip_scale_rotate";

static rt_dsa parsed(const char *strategy, char mode)
{
    rt_dsa d;
    rt_ok(rt_dsa_parse(strategy, mode, &d));
    return d;
}

START_TEST(strategies_parse_in_order)
{
    rt_dsa d = parsed(everything, 'S');
    ck_assert_int_eq(d.n_ops, 6);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(d.op[i], i);
    ck_assert_int_eq(rt_dsa_stages(&d), 1);
    d = parsed("flip_color", 'M');
    ck_assert_int_eq(d.op[0], RT_DSA_FLIP);
    ck_assert_int_eq(d.op[1], RT_DSA_COLOR);
    ck_assert_int_eq(parsed("none", 'S').n_ops, 0);
    ck_assert_int_eq(parsed("", 'M').n_ops, 0);
}
END_TEST

START_TEST(bad_strategies_are_refused_by_op)
{
    const struct {
        const char *text, *word;
    } bad[] = {{"color_crp", "'crp'"},
               {"color_", "''"},
               {"_color", "''"},
               {"color__crop", "''"},
               {"Color", "'Color'"},
               {"colors", "'colors'"},
               {"crop_color_crop", "crop twice"},
               {"color-crop", "'color-crop'"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rt_dsa d = {.n_ops = 77};
        rt_fails(rt_dsa_parse(bad[i].text, 'S', &d), RT_ERR_CONFIG);
        ck_assert_msg(strstr(rt_error_what(), bad[i].word), "'%s' lacks '%s'", rt_error_what(), bad[i].word);
        ck_assert_int_eq(d.n_ops, 77);
    }
    rt_dsa d;
    rt_fails(rt_dsa_parse("color", 'X', &d), RT_ERR_CONFIG);
}
END_TEST

/* Stages exist where composition is not exact. */
START_TEST(mode_m_splits_into_exact_stages)
{
    const struct {
        const char *text;
        int32_t n, stage[6];
    } row[] = {{"color_crop_cutout_flip_scale_rotate", 3, {0, 0, 0, 1, 1, 2}},
               {"crop_scale", 2, {0, 1}},
               {"crop_flip", 1, {0, 0}},
               {"flip_crop_scale", 2, {0, 0, 1}},
               {"cutout_color", 2, {0, 1}},
               {"scale_rotate_crop", 3, {0, 1, 2}},
               {"none", 1, {0}}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        rt_dsa d = parsed(row[i].text, 'M');
        ck_assert_int_eq(rt_dsa_stages(&d), row[i].n);
        for (int k = 0; k < d.n_ops; k++) ck_assert_int_eq(d.stage[k], row[i].stage[k]);
    }
}
END_TEST

enum { N = 4000, H = 32, W = 32 };
static float color[N * 3], affine[N * 6], box[N * 4];

static void draw_one_op(const char *op, int64_t h, int64_t w)
{
    rt_dsa d = parsed(op, 'S');
    rt_dsa_draw(&d, 0, h, w, 42, 9, 0, NULL, N, color, affine, box);
}

static int is_identity(int64_t i, int skip)
{
    static const float id[6] = {1, 0, 0, 0, 1, 0};
    int ok = 1;
    if (skip != RT_DSA_COLOR) ok &= color[3 * i] == 0 && color[3 * i + 1] == 1 && color[3 * i + 2] == 1;
    if (skip != RT_DSA_CROP) ok &= memcmp(affine + 6 * i, id, sizeof id) == 0;
    if (skip != RT_DSA_CUTOUT) ok &= box[4 * i] >= box[4 * i + 1] || box[4 * i + 2] >= box[4 * i + 3];
    return ok;
}

/* Ten equal bins over [lo, hi): every bin within five standard deviations of its share, no value outside. */
static void assert_uniform(const float *v, int stride, double lo, double hi)
{
    int bin[10] = {0};
    for (int64_t i = 0; i < N; i++) {
        double u = ((double)v[i * stride] - lo) / (hi - lo);
        ck_assert_msg(u >= -1e-6 && u <= 1 + 1e-6, "draw %g outside [%g, %g)", (double)v[i * stride], lo, hi);
        bin[u < 0 ? 0 : u >= 1 ? 9 : (int)(10 * u)]++;
    }
    for (int k = 0; k < 10; k++) rt_assert_near(bin[k], N / 10.0, 5 * sqrt(N * 0.1 * 0.9), 0);
}

/* Integers lo..hi, each within five standard deviations of its share. */
static void assert_integers(const double *v, int lo, int hi)
{
    int count[64] = {0}, n = hi - lo + 1;
    for (int64_t i = 0; i < N; i++) {
        ck_assert(v[i] == floor(v[i]) && v[i] >= lo && v[i] <= hi);
        count[(int)v[i] - lo]++;
    }
    double share = (double)N / n;
    for (int k = 0; k < n; k++) rt_assert_near(count[k], share, 5 * sqrt(share), 0);
}

START_TEST(color_ranges)
{
    draw_one_op("color", H, W);
    assert_uniform(color, 3, -0.5, 0.5);
    assert_uniform(color + 1, 3, 0, 2);
    assert_uniform(color + 2, 3, 0.5, 1.5);
    for (int i = 0; i < N; i++) ck_assert(is_identity(i, RT_DSA_COLOR));
}
END_TEST

START_TEST(crop_ranges)
{
    static double v[N];
    const int64_t size[] = {32, 64, 128};
    for (int s = 0; s < 3; s++)
        for (int axis = 0; axis < 2; axis++) {
            draw_one_op("crop", size[s], size[s]);
            for (int i = 0; i < N; i++) v[i] = (double)affine[6 * i + (axis ? 5 : 2)];
            assert_integers(v, -(4 << s), 4 << s);
        }
    for (int i = 0; i < N; i++) {
        float *a = affine + 6 * i;
        ck_assert(a[0] == 1 && a[1] == 0 && a[3] == 0 && a[4] == 1);
        ck_assert(is_identity(i, RT_DSA_CROP));
    }
}
END_TEST

START_TEST(cutout_ranges)
{
    static double begin[N];
    draw_one_op("cutout", H, W);
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < N; i++) {
            double b0 = (double)box[4 * i + 2 * axis], b1 = (double)box[4 * i + 2 * axis + 1];
            ck_assert(b0 >= 0 && b1 <= 32 && b1 > b0 && b1 - b0 <= 16);
            if (b1 - b0 < 16) ck_assert(b0 == 0 || b1 == 32); /* truncated only at a border */
            begin[i] = b1 < 32 ? b1 - 16 : b0;
        }
        assert_integers(begin, -8, 24);
    }
    draw_one_op("cutout", 5, 5); /* odd side 3: offsets 0..4 */
    for (int i = 0; i < N; i++) begin[i] = box[4 * i + 1] < 5 ? (double)box[4 * i + 1] - 3 : (double)box[4 * i];
    assert_integers(begin, -1, 3);
}
END_TEST

START_TEST(flip_scale_rotate_ranges)
{
    static float v[N];
    int flips = 0;
    draw_one_op("flip", H, W);
    for (int i = 0; i < N; i++) {
        float *a = affine + 6 * i;
        int f = a[4] == -1;
        ck_assert(f ? a[5] == 31 : a[4] == 1 && a[5] == 0);
        flips += f;
    }
    rt_assert_near(flips, N / 2.0, 5 * sqrt(N * 0.25), 0);

    draw_one_op("scale", H, W);
    assert_uniform(affine, 6, 1 / 1.2, 1.2);
    assert_uniform(affine + 4, 6, 1 / 1.2, 1.2);
    for (int i = 0; i < N; i++) { /* the centre stays */
        float *a = affine + 6 * i;
        rt_assert_near((double)a[0] * 15.5 + (double)a[2], 15.5, 1e-5, 0);
        rt_assert_near((double)a[4] * 15.5 + (double)a[5], 15.5, 1e-5, 0);
    }

    draw_one_op("rotate", H, W);
    for (int i = 0; i < N; i++) {
        float *a = affine + 6 * i;
        v[i] = (float)(atan2((double)a[1], (double)a[0]) * 180 / 3.14159265358979);
        rt_assert_near((double)(a[0] * a[0] + a[1] * a[1]), 1, 1e-6, 0);
        ck_assert(a[1] == -a[3] && a[0] == a[4]);
    }
    assert_uniform(v, 1, -15, 15);
}
END_TEST

START_TEST(mode_s_picks_one_group_per_call_evenly)
{
    rt_dsa d = parsed(everything, 'S');
    int count[6] = {0};
    for (int step = 0; step < 3000; step++) {
        rt_dsa_draw(&d, 0, H, W, 1, (uint64_t)step, 5, NULL, 40, color, affine, box);
        int kind = -1;
        for (int i = 0; i < 40; i++) {
            float *a = affine + 6 * i;
            int c = !is_identity(i, -1) ? 1 : 0;
            if (!c) continue;
            int k = color[3 * i + 1] != 1         ? 0
                    : box[4 * i + 1] > box[4 * i] ? 2
                    : a[4] == -1                  ? 3
                    : a[1] != 0                   ? 5
                    : a[0] != 1                   ? 4
                                                  : 1;
            ck_assert(kind < 0 || kind == k); /* one group for the whole batch */
            kind = k;
        }
        ck_assert_int_ge(kind, 0);
        count[kind]++;
    }
    for (int k = 0; k < 6; k++) rt_assert_near(count[k], 500, 5 * sqrt(3000 * 5.0 / 36), 0);
}
END_TEST

START_TEST(siamese_shares_and_samples_own_their_draws)
{
    rt_dsa d = parsed(everything, 'M');
    static float c2[N * 3], a2[N * 6], b2[N * 4];
    d.siamese = 1;
    for (int32_t stage = 0; stage < rt_dsa_stages(&d); stage++) {
        rt_dsa_draw(&d, stage, H, W, 3, 8, 6, NULL, 20, color, affine, box);
        rt_dsa_draw(&d, stage, H, W, 3, 8, 6, NULL, 7, c2, a2, b2); /* the other batch of the class */
        for (int i = 0; i < 20; i++) {
            ck_assert(memcmp(color + 3 * i, c2, 12) == 0);
            ck_assert(memcmp(affine + 6 * i, a2, 24) == 0);
            ck_assert(memcmp(box + 4 * i, b2, 16) == 0);
        }
        rt_dsa_draw(&d, stage, H, W, 3, 8, 7, NULL, 7, c2, a2, b2); /* another class */
        ck_assert(memcmp(affine, a2, 24) != 0);
    }
    d.siamese = 0;
    const uint32_t ids[] = {9, 2, 9};
    rt_dsa_draw(&d, 0, H, W, 3, 8, 6, NULL, 10, color, affine, box);
    rt_dsa_draw(&d, 0, H, W, 3, 8, 6, ids, 3, c2, a2, b2);
    ck_assert(memcmp(c2, color + 27, 12) == 0 && memcmp(c2 + 3, color + 6, 12) == 0 && memcmp(c2 + 6, c2, 12) == 0);
    ck_assert(memcmp(c2, c2 + 3, 12) != 0);
}
END_TEST

/* Each op of mode I has the parameters it has alone; flip precedes the drawn geometry; the draw is even. */
START_TEST(mode_i_applies_flip_color_cutout_and_one_of_the_rest)
{
    rt_dsa all = parsed(everything, 'I'), none = parsed("color_flip", 'I');
    const int32_t order[] = {RT_DSA_FLIP, RT_DSA_COLOR, RT_DSA_CROP, RT_DSA_SCALE, RT_DSA_ROTATE, RT_DSA_CUTOUT};
    int count[3] = {0};
    for (int i = 0; i < 6; i++) ck_assert_int_eq(all.op[i], order[i]);
    ck_assert_int_eq(rt_dsa_stages(&all), 1);
    all.siamese = none.siamese = 1;
    for (uint64_t step = 0; step < 3000; step++) {
        float c[3], a[6], b[4], c1[3], b1[4], flip[6], rest[3][6], skip[4];
        rt_dsa_draw(&all, 0, H, W, 2, step, 5, NULL, 1, c, a, b);
        const char *const names[] = {"crop", "scale", "rotate"};
        for (int k = 0; k < 3; k++) {
            rt_dsa one = parsed(names[k], 'S');
            one.siamese = 1;
            rt_dsa_draw(&one, 0, H, W, 2, step, 5, NULL, 1, c1, rest[k], skip);
        }
        rt_dsa cut = parsed("cutout", 'S');
        cut.siamese = 1;
        rt_dsa_draw(&cut, 0, H, W, 2, step, 5, NULL, 1, c1, flip, b1);
        ck_assert_mem_eq(b, b1, sizeof b);
        rt_dsa_draw(&none, 0, H, W, 2, step, 5, NULL, 1, c1, flip, skip);
        ck_assert_mem_eq(c, c1, sizeof c);
        int hit = -1;
        for (int k = 0; k < 3; k++) { /* reading column: flip(rest(i, j)) */
            const float *r = rest[k];
            double col = (double)(flip[4] * r[5] + flip[5]), row = (double)r[2];
            if (fabs((double)a[5] - col) < 1e-5 && fabs((double)a[2] - row) < 1e-5 && a[0] == r[0] &&
                a[4] == flip[4] * r[4])
                hit = k;
        }
        ck_assert_int_ge(hit, 0);
        count[hit]++;
    }
    for (int k = 0; k < 3; k++) rt_assert_near(count[k], 1000, 5 * sqrt(3000 * 2.0 / 9), 0);
}
END_TEST

/* <A x - A 0, y> = <x, A' y> with A' y from rt_grad: the augmentation is affine in the image, per op and for whole
 * chains. */
START_TEST(the_graph_is_affine_and_its_gradient_the_adjoint)
{
    const char *chain[] = {"color", "crop", "cutout", "flip", "scale", "rotate", everything};
    enum { n = 3, h = 8, w = 6, c = 3, count = n * h * w * c };
    static const char *const names[3][3] = {{"c0", "a0", "b0"}, {"c1", "a1", "b1"}, {"c2", "a2", "b2"}};
    for (size_t k = 0; k < sizeof chain / sizeof *chain; k++) {
        rt_dsa d = parsed(chain[k], 'M');
        session s;
        session_open(&s, "ref");
        double *x0 = filled(1, count, 1, 0), *y0 = filled(2, count, 1, 0), *zero = calloc(count, sizeof *zero);
        rt_val x = session_input(&s, "x", RT_SHAPE(RT_F32, n, h, w, c), x0), v = x;
        rt_val y = session_input(&s, "y", RT_SHAPE(RT_F32, n, h, w, c), y0);
        for (int32_t stage = 0; stage < rt_dsa_stages(&d); stage++) {
            const float *data[3] = {color, affine, box};
            const int64_t cols[3] = {3, 6, 4};
            rt_val p[3];
            rt_dsa_draw(&d, stage, h, w, 11, 2, 0, NULL, n, color, affine, box);
            for (int j = 0; j < 3; j++) {
                double *wide = malloc((size_t)(n * cols[j]) * sizeof *wide);
                for (int64_t i = 0; i < n * cols[j]; i++) wide[i] = (double)data[j][i];
                p[j] = session_input(&s, names[stage][j], RT_SHAPE(RT_F32, n, cols[j]), wide);
                free(wide);
            }
            v = rt_dsa_apply(s.g, v, p[0], p[1], p[2]);
        }
        rt_val inner = rt_dot(s.g, v, y), adjoint;
        rt_ok(rt_grad(s.g, inner, &x, 1, &adjoint));
        int out = session_output(&s, v), back = session_output(&s, adjoint);
        session_run(&s);
        double *ax = session_read(&s, out), left = dot(ax, y0, count);
        double right = dot(session_read(&s, back), x0, count);
        double moved = rel_distance(ax, x0, count);
        session_write(&s, 0, zero);
        session_run(&s);
        left -= dot(session_read(&s, out), y0, count);
        rt_assert_near(left, right, 1e-11, 1e-11);
        ck_assert_msg(moved > 0.05, "%s left the images alone", chain[k]);
        free(x0), free(y0), free(zero);
        session_close(&s);
    }
}
END_TEST

static const rt_test tests[] = {
    {"parse", strategies_parse_in_order},
    {"parse errors", bad_strategies_are_refused_by_op},
    {"stages", mode_m_splits_into_exact_stages},
    {"color", color_ranges},
    {"crop", crop_ranges},
    {"cutout", cutout_ranges},
    {"flip scale rotate", flip_scale_rotate_ranges},
    {"mode S", mode_s_picks_one_group_per_call_evenly},
    {"mode I", mode_i_applies_flip_color_cutout_and_one_of_the_rest},
    {"sharing", siamese_shares_and_samples_own_their_draws},
    {"adjoint", the_graph_is_affine_and_its_gradient_the_adjoint},
};
RT_SUITE("nn.dsa", tests)
