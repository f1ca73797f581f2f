/* DSA draws and images against PyTorch's affine_grid and grid_sample with an independent Philox (generate.py). Rows of
 * the affine input are float32, so resampled images agree to about 1e-6 even in float64. */
#include "golden.h"
#include "nn/dsa.h"

enum { N = 3 };
static const char everything[] = "color_crop_cutout_flip_scale_rotate";

/* Applies all stages of d to the golden images and compares with `want`. */
static void check(const rt_dsa *d, int64_t h, int64_t w, const uint32_t *sample, const char *label, const double *want,
                  precision pr)
{
    static const char *const names[3][3] = {{"c0", "a0", "b0"}, {"c1", "a1", "b1"}, {"c2", "a2", "b2"}};
    static const int64_t cols[3] = {3, 6, 4};
    float data[3][N * 6];
    double wide[N * 6], *x0 = filled(902, N * h * w * 3, 1, 0);
    session s;
    session_open(&s, pr.backend);
    rt_val v = session_input(&s, "x", RT_SHAPE(RT_F32, N, h, w, 3), x0);
    for (int32_t stage = 0; stage < rt_dsa_stages(d); stage++) {
        rt_val p[3];
        rt_dsa_draw(d, stage, h, w, 77, 5, 4, sample, N, data[0], data[1], data[2]);
        for (int j = 0; j < 3; j++) {
            for (int64_t i = 0; i < N * cols[j]; i++) wide[i] = (double)data[j][i];
            p[j] = session_input(&s, names[stage][j], RT_SHAPE(RT_F32, N, cols[j]), wide);
        }
        v = rt_dsa_apply(s.g, v, p[0], p[1], p[2]);
    }
    int out = session_output(&s, v);
    session_run(&s);
    assert_vector(label, session_read(&s, out), want, N * h * w * 3, pr);
    free(x0);
    session_close(&s);
}

START_TEST(images_are_those_of_grid_sample)
{
    static const char *const ops[] = {"color", "crop", "cutout", "flip", "scale", "rotate"};
    static const int64_t size[2][2] = {{8, 8}, {6, 10}};
    static const uint32_t sample[N] = {11, 12, 13};
    rt_st_file *f = golden_open("dsa");
    for (int b = 0; b < 2; b++)
        for (int z = 0; z < 2; z++) {
            int64_t h = size[z][0], w = size[z][1];
            precision exact = {precisions[b].backend, b ? 1e-5 : 1e-7},
                      sampled = {precisions[b].backend, b ? 1e-5 : 2e-6};
            char label[64];
            rt_dsa d;
            for (int op = 0; op < 6; op++)
                for (int align = 0; align < 2; align++) {
                    rt_ok(rt_dsa_parse(ops[op], 'S', &d));
                    d.align_corners = align;
                    snprintf(label, sizeof label, "%s.%dx%d.%d", ops[op], (int)h, (int)w, align);
                    check(&d, h, w, sample, label, golden(f, label, N * h * w * 3), op < 4 ? exact : sampled);
                }
            rt_ok(rt_dsa_parse(everything, 'M', &d));
            d.siamese = 1;
            snprintf(label, sizeof label, "all.%dx%d.0", (int)h, (int)w);
            check(&d, h, w, NULL, label, golden(f, label, N * h * w * 3), sampled);
        }
    rt_st_close(f);
}
END_TEST

static const rt_test tests[] = {{"images", images_are_those_of_grid_sample}};
RT_SUITE("golden.dsa", tests)
