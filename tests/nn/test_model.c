/* Tables of the networks: published parameter counts, PyTorch's names and shapes, initialisation, decay mask. */
#include "base/alloc.h"
#include "nn/nn.h"
#include "suite.h"

static rt_model *make(const char *arch, int32_t depth, rt_model_norm norm, int32_t size, int32_t classes, int32_t small)
{
    rt_model_desc d = {
        .depth = depth, .norm = norm, .size = size, .channels = 3, .classes = classes, .small_stem = small};
    rt_model *m = NULL;
    snprintf(d.arch, sizeof d.arch, "%s", arch);
    rt_ok(rt_model_create(&d, &m));
    return m;
}

START_TEST(parameter_counts_are_the_published_ones)
{
    const struct {
        const char *arch;
        int32_t depth, norm, size, classes, small;
        int64_t params, buffers;
        int32_t tensors, features;
    } row[] = {
        {"convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 10, 0, 320010, 0, 14, 2048},
        {"convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 100, 0, 504420, 0, 14, 2048},
        {"convnet", 4, RT_MODEL_NORM_INSTANCE, 64, 200, 0, 857160, 0, 18, 2048},
        {"convnet", 4, RT_MODEL_NORM_INSTANCE, 64, 1000, 0, 2496360, 0, 18, 2048},
        {"convnet", 5, RT_MODEL_NORM_INSTANCE, 128, 10, 0, 615690, 0, 22, 2048},
        {"convnet", 0, RT_MODEL_NORM_INSTANCE, 128, 10, 0, 615690, 0, 22, 2048},
        {"convnet", 3, RT_MODEL_NORM_BATCH, 32, 10, 0, 320010, 768, 14, 2048},
        {"convnet", 3, RT_MODEL_NORM_GROUP, 32, 10, 0, 320010, 0, 14, 2048},
        {"convnet", 3, RT_MODEL_NORM_LAYER, 32, 10, 0, 320010 - 768 + 2 * 128 * (1024 + 256 + 64), 0, 14, 2048},
        {"convnet", 3, RT_MODEL_NORM_NONE, 32, 10, 0, 320010 - 768, 0, 8, 2048},
        {"mlp", 0, 0, 32, 10, 0, 411146, 0, 6, 128},
        {"resnet18", 0, 0, 224, 1000, 0, 11689512, 9600, 62, 512},
        {"resnet18", 0, 0, 32, 10, 1, 11173962, 9600, 62, 512},
        {"resnet50", 0, 0, 224, 1000, 0, 25557032, 53120, 161, 2048},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        rt_model *m =
            make(row[i].arch, row[i].depth, (rt_model_norm)row[i].norm, row[i].size, row[i].classes, row[i].small);
        ck_assert_int_eq(rt_model_n_params(m), row[i].params);
        ck_assert_int_eq(rt_model_n_buffers(m), row[i].buffers);
        ck_assert_int_eq(rt_model_param_count(m), row[i].tensors);
        ck_assert_int_eq(rt_model_feature_dim(m), row[i].features);
        int64_t at = 0;
        for (int32_t k = 0; k < rt_model_param_count(m); k++) {
            const rt_param *p = rt_model_param(m, k);
            ck_assert_int_eq(p->offset, at);
            ck_assert_int_eq(p->count, rt_shape_count(&p->shape));
            at += p->count;
        }
        ck_assert_int_eq(at, row[i].params);
        rt_model_destroy(m);
    }
}
END_TEST

START_TEST(depth_follows_resolution)
{
    const int32_t size[] = {28, 32, 64, 128, 256}, depth[] = {3, 3, 4, 5, 6};
    for (int i = 0; i < 5; i++) {
        rt_model *m = make("convnet", 0, RT_MODEL_NORM_INSTANCE, size[i], 10, 0);
        ck_assert_int_eq(rt_model_desc_of(m)->depth, depth[i]);
        ck_assert_int_eq(rt_model_desc_of(m)->width, 128);
        rt_model_destroy(m);
    }
    rt_model_desc digits = {
        .arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = 28, .channels = 1, .classes = 10};
    rt_model *m = NULL;
    rt_ok(rt_model_create(&digits, &m));
    ck_assert_int_eq(rt_model_feature_dim(m), 2048); /* padded to 32 by the first convolution */
    rt_model_destroy(m);
}
END_TEST

static void assert_param(const rt_model *m, int32_t i, const char *name, rt_shape shape)
{
    const rt_param *p = rt_model_param(m, i);
    ck_assert_str_eq(p->name, name);
    ck_assert(rt_shape_eq(&p->shape, &shape));
}

START_TEST(names_and_shapes_are_those_of_a_state_dict)
{
    rt_model *m = make("convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 10, 0);
    assert_param(m, 0, "features.0.weight", RT_SHAPE(RT_F32, 128, 3, 3, 3));
    assert_param(m, 1, "features.0.bias", RT_SHAPE(RT_F32, 128));
    assert_param(m, 2, "features.1.weight", RT_SHAPE(RT_F32, 128));
    assert_param(m, 3, "features.1.bias", RT_SHAPE(RT_F32, 128));
    assert_param(m, 4, "features.4.weight", RT_SHAPE(RT_F32, 128, 128, 3, 3));
    assert_param(m, 11, "features.9.bias", RT_SHAPE(RT_F32, 128));
    assert_param(m, 12, "classifier.weight", RT_SHAPE(RT_F32, 10, 2048));
    assert_param(m, 13, "classifier.bias", RT_SHAPE(RT_F32, 10));
    rt_model_destroy(m);

    m = make("convnet", 3, RT_MODEL_NORM_NONE, 32, 10, 0);
    assert_param(m, 2, "features.3.weight", RT_SHAPE(RT_F32, 128, 128, 3, 3));
    rt_model_destroy(m);

    m = make("mlp", 0, 0, 32, 10, 0);
    assert_param(m, 0, "fc_1.weight", RT_SHAPE(RT_F32, 128, 3072));
    assert_param(m, 5, "fc_3.bias", RT_SHAPE(RT_F32, 10));
    rt_model_destroy(m);

    m = make("resnet18", 0, 0, 224, 1000, 0);
    assert_param(m, 0, "conv1.weight", RT_SHAPE(RT_F32, 64, 3, 7, 7));
    assert_param(m, 1, "bn1.weight", RT_SHAPE(RT_F32, 64));
    assert_param(m, 3, "layer1.0.conv1.weight", RT_SHAPE(RT_F32, 64, 64, 3, 3));
    assert_param(m, 15, "layer2.0.conv1.weight", RT_SHAPE(RT_F32, 128, 64, 3, 3));
    assert_param(m, 21, "layer2.0.downsample.0.weight", RT_SHAPE(RT_F32, 128, 64, 1, 1));
    assert_param(m, 23, "layer2.0.downsample.1.bias", RT_SHAPE(RT_F32, 128));
    assert_param(m, 60, "fc.weight", RT_SHAPE(RT_F32, 1000, 512));
    ck_assert_int_eq(rt_model_stat_count(m), 40);
    ck_assert_str_eq(rt_model_stat_at(m, 0)->name, "bn1.running_mean");
    ck_assert_str_eq(rt_model_stat_at(m, 1)->name, "bn1.running_var");
    ck_assert_str_eq(rt_model_stat_at(m, 39)->name, "layer4.1.bn2.running_var");
    rt_model_destroy(m);

    m = make("resnet50", 0, 0, 224, 1000, 0);
    assert_param(m, 3, "layer1.0.conv1.weight", RT_SHAPE(RT_F32, 64, 64, 1, 1));
    assert_param(m, 6, "layer1.0.conv2.weight", RT_SHAPE(RT_F32, 64, 64, 3, 3));
    assert_param(m, 9, "layer1.0.conv3.weight", RT_SHAPE(RT_F32, 256, 64, 1, 1));
    assert_param(m, 12, "layer1.0.downsample.0.weight", RT_SHAPE(RT_F32, 256, 64, 1, 1));
    assert_param(m, 159, "fc.weight", RT_SHAPE(RT_F32, 1000, 2048));
    rt_model_destroy(m);

    m = make("resnet18", 0, 0, 32, 10, 1);
    assert_param(m, 0, "conv1.weight", RT_SHAPE(RT_F32, 64, 3, 3, 3));
    rt_model_destroy(m);
}
END_TEST

/* A uniform or normal sample of n values against mean 0 and variance v, within five standard errors; kurtosis k. */
static void assert_moments(const float *w, int64_t n, double v, double kurtosis)
{
    double s = 0, s2 = 0;
    for (int64_t i = 0; i < n; i++) {
        s += (double)w[i];
        s2 += (double)w[i] * (double)w[i];
    }
    rt_assert_near(s / (double)n, 0, 5 * sqrt(v / (double)n), 0);
    rt_assert_near(s2 / (double)n, v, 5 * v * sqrt((kurtosis - 1) / (double)n), 0);
}

/* How many of n values are not v: one assertion then covers them all (each one costs Check a write). */
static int64_t unlike(const float *w, int64_t n, float v)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad += !(w[i] == v);
    return bad;
}

static float *init(const rt_model *m, uint64_t seed, uint64_t index, float **buffers)
{
    float *theta = malloc((size_t)rt_model_n_params(m) * sizeof *theta);
    *buffers = malloc(((size_t)rt_model_n_buffers(m) + 1) * sizeof **buffers);
    rt_model_init(m, seed, index, theta, *buffers);
    return theta;
}

START_TEST(convnet_starts_uniform_in_fan_in)
{
    rt_model *m = make("convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 10, 0);
    float *buffers, *theta = init(m, 7, 3, &buffers);
    const int64_t fan[] = {27, 27, 0, 0, 1152, 1152, 0, 0, 1152, 1152, 0, 0, 2048, 2048};
    for (int32_t i = 0; i < 14; i++) {
        const rt_param *p = rt_model_param(m, i);
        const float *w = theta + p->offset;
        double bound = fan[i] ? 1 / sqrt((double)fan[i]) : 0, top = 0;
        for (int64_t k = 0; k < p->count; k++) top = fmax(top, fabs((double)w[k]));
        if (!fan[i]) {
            ck_assert_int_eq(unlike(w, p->count, i % 4 == 2 ? 1.0f : 0.0f), 0);
            continue;
        }
        ck_assert(top <= bound * (1 + 1e-7));
        assert_moments(w, p->count, bound * bound / 3, 1.8);
        if (p->count > 1000) ck_assert(top > 0.99 * bound);
    }
    free(theta);
    free(buffers);
    rt_model_destroy(m);
}
END_TEST

START_TEST(resnet_starts_normal_in_fan_out)
{
    rt_model *m = make("resnet18", 0, 0, 32, 10, 1);
    float *buffers, *theta = init(m, 7, 0, &buffers);
    for (int32_t i = 0; i < rt_model_param_count(m) - 2; i++) {
        const rt_param *p = rt_model_param(m, i);
        if (p->shape.rank == 4) {
            double fan_out = (double)(p->shape.d[0] * p->shape.d[2] * p->shape.d[3]);
            assert_moments(theta + p->offset, p->count, 2 / fan_out, 3);
        } else {
            ck_assert_int_eq(unlike(theta + p->offset, p->count, strstr(p->name, "weight") ? 1.0f : 0.0f), 0);
        }
    }
    assert_moments(theta + rt_model_param(m, 60)->offset, 5120, 1.0 / 512 / 3, 1.8);
    for (int32_t i = 0; i < rt_model_stat_count(m); i++) {
        const rt_model_stat *s = rt_model_stat_at(m, i);
        ck_assert_int_eq(unlike(buffers + s->offset, s->count, i % 2 ? 1.0f : 0.0f), 0);
    }
    free(theta);
    free(buffers);
    rt_model_destroy(m);
}
END_TEST

START_TEST(initial_weights_are_a_function_of_seed_and_index)
{
    rt_model *m = make("convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 10, 0),
             *wide = make("convnet", 3, RT_MODEL_NORM_INSTANCE, 32, 100, 0);
    float *b[5], *t[5];
    t[0] = init(m, 1, 2, &b[0]);
    t[1] = init(m, 1, 2, &b[1]);
    t[2] = init(m, 1, 3, &b[2]);
    t[3] = init(m, 2, 2, &b[3]);
    t[4] = init(wide, 1, 2, &b[4]);
    size_t n = (size_t)rt_model_n_params(m) * sizeof(float),
           trunk = (size_t)rt_model_param(m, 12)->offset * sizeof(float);
    ck_assert(memcmp(t[0], t[1], n) == 0);
    ck_assert(memcmp(t[0], t[4], trunk) == 0); /* the head does not change the trunk */
    for (int k = 2; k < 4; k++) {
        int64_t same = 0;
        for (int64_t i = 0; i < rt_model_param(m, 1)->offset; i++) same += t[0][i] == t[k][i];
        ck_assert_int_lt(same, 10);
    }
    for (int k = 0; k < 5; k++) {
        free(t[k]);
        free(b[k]);
    }
    rt_model_destroy(m);
    rt_model_destroy(wide);
}
END_TEST

START_TEST(decay_mask_takes_matrices_called_weight)
{
    rt_model *m = make("resnet18", 0, 0, 32, 10, 1);
    float *mask = malloc((size_t)rt_model_n_params(m) * sizeof *mask);
    rt_model_decay_mask(m, mask);
    for (int32_t i = 0; i < rt_model_param_count(m); i++) {
        const rt_param *p = rt_model_param(m, i);
        float want = p->shape.rank >= 2 ? 1.0f : 0.0f; /* every matrix of a resnet is a weight */
        ck_assert_int_eq(unlike(mask + p->offset, p->count, want), 0);
    }
    free(mask);
    rt_model_destroy(m);
}
END_TEST

START_TEST(bad_descriptions_are_refused_by_name)
{
    const rt_model_desc base = {
        .arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = 32, .channels = 3, .classes = 10};
    struct {
        rt_model_desc d;
        const char *word;
    } bad[10];
    int n = 0;
#define BAD(field, value, text) (bad[n].d = base, bad[n].d.field = (value), bad[n++].word = (text))
    BAD(classes, 0, "classes");
    BAD(classes, 1 << 30, "classes");
    BAD(size, 0, "size");
    BAD(size, -5, "size");
    BAD(channels, 0, "channels");
    BAD(depth, 6, "depth 6");
    BAD(depth, -1, "depth");
    BAD(norm, (rt_model_norm)9, "norm");
    bad[n].d = base, memcpy(bad[n].d.arch, "vgg", 4), bad[n++].word = "vgg";
    bad[n].d = base, memcpy(bad[n].d.arch, "resnet18", 9), bad[n].d.size = 16, bad[n++].word = "size 16";
    for (int i = 0; i < n; i++) {
        rt_model *m = (rt_model *)&base;
        rt_fails(rt_model_create(&bad[i].d, &m), RT_ERR_CONFIG);
        ck_assert_ptr_eq(m, (const rt_model *)&base);
        ck_assert_msg(strstr(rt_error_what(), bad[i].word), "'%s' lacks '%s'", rt_error_what(), bad[i].word);
    }
    rt_model_desc groups = base;
    groups.norm = RT_MODEL_NORM_GROUP, groups.width = 6;
    rt_model *m = NULL;
    rt_fails(rt_model_create(&groups, &m), RT_ERR_CONFIG);
    rt_model_desc endless = base;
    memset(endless.arch, 'x', sizeof endless.arch);
    rt_fails(rt_model_create(&endless, &m), RT_ERR_CONFIG);
}
END_TEST

START_TEST(no_memory_is_an_error_at_every_allocation)
{
    rt_model_desc d = {.arch = "resnet50", .size = 224, .channels = 3, .classes = 1000};
    uint64_t before = rt_alloc_count();
    rt_model *m = NULL;
    rt_ok(rt_model_create(&d, &m));
    uint64_t n = rt_alloc_count() - before;
    rt_model_destroy(m);
    for (uint64_t i = 1; i <= n; i++) {
        m = NULL;
        rt_alloc_fail_at(i, 1);
        rt_status st = rt_model_create(&d, &m);
        rt_alloc_fail_at(0, 0);
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        ck_assert_ptr_null(m);
    }
    ck_assert_uint_ge(n, 3);
}
END_TEST

static const rt_test tests[] = {
    {"counts", parameter_counts_are_the_published_ones},
    {"depth", depth_follows_resolution},
    {"names", names_and_shapes_are_those_of_a_state_dict},
    {"convnet init", convnet_starts_uniform_in_fan_in},
    {"resnet init", resnet_starts_normal_in_fan_out},
    {"init determinism", initial_weights_are_a_function_of_seed_and_index},
    {"decay mask", decay_mask_takes_matrices_called_weight},
    {"bad descriptions", bad_descriptions_are_refused_by_name},
    {"no memory", no_memory_is_an_error_at_every_allocation},
};
RT_SUITE("nn.model", tests)
