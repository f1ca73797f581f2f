/* state_dicts: bit-exact round trip, wrapper prefixes, and errors that name every tensor. */
#include <unistd.h>

#include "base/log.h"
#include "nn/nn.h"
#include "suite.h"

static char path[64];

static rt_model *small_convnet(int32_t classes)
{
    rt_model_desc d = {.arch = "convnet",
                       .depth = 2,
                       .width = 4,
                       .norm = RT_MODEL_NORM_BATCH,
                       .size = 8,
                       .channels = 3,
                       .classes = classes};
    rt_model *m = NULL;
    rt_ok(rt_model_create(&d, &m));
    snprintf(path, sizeof path, "ckpt_test.%d.safetensors", (int)getpid());
    return m;
}

static float *numbers(int64_t n, float from)
{
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = from + 0.37f * (float)i;
    return v;
}

/* The tensors a save of m holds, as a table that tests then damage. */
static rt_st_tensor *read_table(rt_st_file *f, int64_t *n)
{
    *n = rt_st_count(f);
    rt_st_tensor *t = malloc((size_t)(*n + 4) * sizeof *t);
    for (int64_t i = 0; i < *n; i++) t[i] = *rt_st_at(f, i);
    return t;
}

START_TEST(what_is_saved_is_loaded_bit_for_bit)
{
    rt_model *m = small_convnet(5);
    int64_t p = rt_model_n_params(m), b = rt_model_n_buffers(m);
    float *theta = numbers(p, -3), *buffers = numbers(b, 1), *theta2 = numbers(p, 0), *buffers2 = numbers(b, 0);
    theta[0] = -0.0f;
    theta[1] = 1e-42f; /* subnormal */
    rt_ok(rt_model_save(m, path, theta, buffers, (const char *const[]){"seed", "7"}, 1));
    rt_st_file *f = NULL;
    rt_ok(rt_st_open(path, &f));
    ck_assert_str_eq(rt_st_metadata(f, "seed"), "7");
    ck_assert_int_eq(rt_st_count(f), rt_model_param_count(m) + rt_model_stat_count(m) * 3 / 2);
    const rt_st_tensor *w = rt_st_find(f, "features.4.weight"), *c = rt_st_find(f, "features.1.num_batches_tracked");
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(w->rank, 4);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->rank, 0);
    ck_assert_int_eq(c->dtype, RT_ST_I64);
    rt_ok(rt_model_load(m, f, path, theta2, buffers2));
    ck_assert(memcmp(theta, theta2, (size_t)p * sizeof(float)) == 0);
    ck_assert(memcmp(buffers, buffers2, (size_t)b * sizeof(float)) == 0);
    rt_st_close(f);
    unlink(path);
    free(theta), free(buffers), free(theta2), free(buffers2);
    rt_model_destroy(m);
}
END_TEST

START_TEST(wrapper_prefixes_are_stripped_and_counters_optional)
{
    rt_model *m = small_convnet(5);
    int64_t p = rt_model_n_params(m), b = rt_model_n_buffers(m), n;
    float *theta = numbers(p, -3), *buffers = numbers(b, 1), *theta2 = numbers(p, 0), *buffers2 = numbers(b, 0);
    rt_ok(rt_model_save(m, path, theta, buffers, NULL, 0));
    rt_st_file *f = NULL;
    rt_ok(rt_st_open(path, &f));
    rt_st_tensor *t = read_table(f, &n);
    char(*name)[128] = malloc((size_t)n * sizeof *name);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (strstr(t[i].name, "features.1.num_batches_tracked")) continue;
        snprintf(name[i], sizeof *name, "%s%s", i % 2 ? "module._orig_mod." : "_orig_mod.", t[i].name);
        t[kept] = t[i];
        t[kept++].name = name[i];
    }
    rt_ok(rt_st_write(path, t, kept, NULL, 0));
    rt_st_close(f);
    f = NULL;
    rt_ok(rt_st_open(path, &f));
    rt_ok(rt_model_load(m, f, path, theta2, buffers2));
    ck_assert(memcmp(theta, theta2, (size_t)p * sizeof(float)) == 0);
    ck_assert(memcmp(buffers, buffers2, (size_t)b * sizeof(float)) == 0);
    rt_st_close(f);
    unlink(path);
    free(name), free(t), free(theta), free(buffers), free(theta2), free(buffers2);
    rt_model_destroy(m);
}
END_TEST

static char logged[8192];
static void keep(void *ctx, rt_log_level level, const char *line)
{
    (void)ctx, (void)level;
    strncat(logged, line, sizeof logged - strlen(logged) - 2);
    strcat(logged, "\n");
}

static void assert_has(const char *text, const char *word)
{
    ck_assert_msg(strstr(text, word), "'%s' lacks '%s'", text, word);
}

START_TEST(everything_that_does_not_fit_is_named)
{
    rt_model *m = small_convnet(5);
    int64_t p = rt_model_n_params(m), b = rt_model_n_buffers(m), n;
    float *theta = numbers(p, -3), *buffers = numbers(b, 1), *theta2 = numbers(p, 9), *before = numbers(p, 9);
    rt_ok(rt_model_save(m, path, theta, buffers, NULL, 0));
    rt_st_file *f = NULL;
    rt_ok(rt_st_open(path, &f));
    rt_st_tensor *t = read_table(f, &n);
    int32_t integers[4] = {0};
    for (int64_t i = 0; i < n; i++) {
        if (!strcmp(t[i].name, "features.0.bias"))
            t[i].name = "features.0.offset";
        else if (!strcmp(t[i].name, "classifier.weight"))
            t[i].shape[0] = 1, t[i].bytes /= 5;
        else if (!strcmp(t[i].name, "features.5.bias"))
            t[i].dtype = RT_ST_I32, t[i].data = integers;
        else if (!strcmp(t[i].name, "features.1.num_batches_tracked"))
            t[i].name = "features.9.num_batches_tracked";
    }
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(t[i].name, "classifier.bias")) t[n] = t[i];
    t[n++].name = "module.classifier.bias";
    rt_ok(rt_st_write(path, t, n, NULL, 0));
    rt_st_close(f);
    f = NULL;
    rt_ok(rt_st_open(path, &f));
    logged[0] = 0;
    rt_log_set(keep, NULL);
    rt_fails(rt_model_load(m, f, "teacher.safetensors", theta2, buffers), RT_ERR_FORMAT);
    rt_log_set(NULL, NULL);
    assert_has(rt_error_what(), "teacher.safetensors does not fit convnet with 5 classes");
    assert_has(logged, "missing features.0.bias");
    assert_has(logged, "unexpected features.0.offset");
    assert_has(logged, "unexpected features.9.num_batches_tracked");
    assert_has(logged, "misshapen classifier.weight [1,16], the network has f32[5,16]");
    assert_has(logged, "features.5.bias holds integers");
    assert_has(logged, "classifier.bias twice (as ");
    ck_assert(memcmp(theta2, before, (size_t)p * sizeof(float)) == 0);
    rt_st_close(f);
    unlink(path);
    free(t), free(theta), free(buffers), free(theta2), free(before);
    rt_model_destroy(m);
}
END_TEST

START_TEST(another_class_count_and_bad_numbers_are_refused)
{
    rt_model *m = small_convnet(5), *other = small_convnet(6);
    int64_t p = rt_model_n_params(m), b = rt_model_n_buffers(m);
    float *theta = numbers(p, -3), *buffers = numbers(b, 1), *theta6 = numbers(rt_model_n_params(other), 9);
    rt_ok(rt_model_save(m, path, theta, buffers, NULL, 0));
    rt_st_file *f = NULL;
    rt_ok(rt_st_open(path, &f));
    rt_fails(rt_model_load(other, f, path, theta6, buffers), RT_ERR_FORMAT);
    assert_has(rt_error_what(), "classifier.weight [5,16]");
    assert_has(rt_error_what(), "classifier.bias [5]");
    rt_st_close(f);
    theta[3] = NAN;
    rt_ok(rt_model_save(m, path, theta, buffers, NULL, 0));
    f = NULL;
    rt_ok(rt_st_open(path, &f));
    float *untouched = numbers(p, 4), *copy = numbers(p, 4);
    rt_fails(rt_model_load(m, f, path, untouched, buffers), RT_ERR_NUMERIC);
    assert_has(rt_error_what(), "features.0.weight[3] is");
    ck_assert(memcmp(untouched, copy, (size_t)p * sizeof(float)) == 0);
    rt_st_close(f);
    unlink(path);
    free(theta), free(buffers), free(theta6), free(untouched), free(copy);
    rt_model_destroy(m);
    rt_model_destroy(other);
}
END_TEST

static const rt_test tests[] = {
    {"round trip", what_is_saved_is_loaded_bit_for_bit},
    {"prefixes", wrapper_prefixes_are_stripped_and_counters_optional},
    {"named errors", everything_that_does_not_fit_is_named},
    {"refusals", another_class_count_and_bad_numbers_are_refused},
};
RT_SUITE("nn.checkpoint", tests)
