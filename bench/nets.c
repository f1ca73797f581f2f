/* Evaluation of M ConvNet-3 students of 32x32 images one by one, and all in one compiled step.
 *
 *     bench_nets [ipc] [networks] [epochs] [test images] [pairs] [threads] [--strict] [--dsa] [--cuda]
 *
 * Both sides train the same students on the same 10 * ipc images for the same epochs (one batch per epoch up to 256) and score
 * them on the same images, by turns A B A B; trainers are compiled before the clock starts. One JSON line: seconds of each
 * side (median), the median ratio and the worst pair, training alone likewise, and whether the students' weights are equal
 * to the byte. --dsa: p1_classic's augmentation, else none as in p1_plain. --strict: the product's default; otherwise the
 * backend times its ways of computing a node, which it may do differently for one network and for several. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "base/rng.h"
#include "teacher/train.h"

enum { CLASSES = 10, SIZE = 32, PX = SIZE * SIZE * 3, MAX_PAIRS = 15 };

static double median(const double *v, int n)
{
    double s[MAX_PAIRS];
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, ascending);
    return s[n / 2];
}

typedef struct side {
    double train, whole;
    float *theta; /* [M,P] */
    int64_t hits;
} side;

static rt_train_data data_of(int64_t n, uint64_t seed)
{
    float *px = malloc((size_t)(n * PX) * sizeof *px);
    int32_t *label = malloc((size_t)n * sizeof *label);
    for (int64_t i = 0; i < n; i++) {
        rt_rng r = rt_rng_at(seed, RT_RNG_TEST, (uint64_t)i, 0);
        label[i] = (int32_t)(i % CLASSES);
        for (int64_t k = 0; k < PX; k++) px[i * PX + k] = (float)rt_rng_normal(&r) + 0.2f * (float)((k + label[i]) % CLASSES);
    }
    return (rt_train_data){.n = n, .px = px, .label = label};
}

/* Trains and scores networks first .. first + those of the trainer - 1. */
static void run_side(rt_trainer *t, const rt_train_data *d, const rt_train_data *test, uint64_t first, int threads, side *s)
{
    const int64_t nets = rt_trainer_networks(t), p = rt_model_n_params(rt_trainer_model(t));
    rt_train_result *r = calloc((size_t)nets, sizeof *r);
    int32_t *predicted = malloc((size_t)test->n * sizeof *predicted);
    double begun = probe_now();
    TRY(rt_trainer_run(t, d, &(rt_train_run){.seed = 1, .network = first, .threads = threads, .phase = "bench"}, r));
    s->train += probe_now() - begun;
    for (int64_t m = 0; m < nets; m++) {
        TRY(rt_trainer_infer_of(t, m, test, threads, NULL, NULL, predicted));
        for (int64_t i = 0; i < test->n; i++) s->hits += predicted[i] == test->label[i];
    }
    s->whole += probe_now() - begun;
    TRY(rt_trainer_weights(t, false, s->theta + (int64_t)first * p, NULL));
    free(predicted);
    free(r);
}

int main(int argc, char **argv)
{
    int number[6] = {1, 5, 30, 1000, 5, 0}, n_number = 0;
    bool strict = false, dsa = false, cuda = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--strict") == 0) strict = true;
        else if (strcmp(argv[i], "--dsa") == 0) dsa = true;
        else if (strcmp(argv[i], "--cuda") == 0) cuda = true;
        else if (n_number < 6) number[n_number++] = atoi(argv[i]);
    }
    const int64_t ipc = number[0], nets = number[1];
    const int pairs = number[4] < 1 ? 1 : number[4] > MAX_PAIRS ? MAX_PAIRS : number[4], threads = number[5];
    rt_backend *be;
    TRY(rt_backend_open(cuda ? "cuda" : "cpu", &(rt_backend_opts){.threads = threads, .strict = strict}, &be));
    rt_model_desc net = {.arch = "convnet", .norm = RT_MODEL_NORM_INSTANCE, .size = SIZE, .channels = 3, .classes = CLASSES};
    rt_recipe r = {.name = "bench", .epochs = number[2], .batch = 256, .schedule = {.kind = RT_SCHED_CONSTANT},
                   .optim = {.kind = RT_SGD, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4},
                   .augment = dsa ? RT_AUGMENT_DSA : RT_AUGMENT_NONE, .dsa_strategy = "color_crop_cutout_flip_scale_rotate"};
    rt_train_data d = data_of(CLASSES * ipc, 1), test = data_of(number[3], 2);
    rt_trainer *one, *all;
    TRY(rt_trainer_create(be, &net, &r, &one));
    TRY(rt_trainer_create_many(be, &net, &r, nets, &all));
    const size_t p = (size_t)(nets * rt_model_n_params(rt_trainer_model(one)));
    double ratio[MAX_PAIRS], train_ratio[MAX_PAIRS], by_one[MAX_PAIRS], at_once[MAX_PAIRS], worst = 0;
    side a = {.theta = malloc(p * sizeof(float))}, b = {.theta = malloc(p * sizeof(float))};
    double fma = probe_fma();
    for (int k = -1; k < pairs; k++) { /* the first pair compiles and warms */
        a.train = a.whole = b.train = b.whole = 0;
        a.hits = b.hits = 0;
        for (int64_t m = 0; m < nets; m++) run_side(one, &d, &test, (uint64_t)m, threads, &a);
        run_side(all, &d, &test, 0, threads, &b);
        if (k < 0) continue;
        by_one[k] = a.whole;
        at_once[k] = b.whole;
        ratio[k] = a.whole / b.whole;
        train_ratio[k] = a.train / b.train;
        if (k == 0 || ratio[k] < worst) worst = ratio[k];
    }
    double fma2 = probe_fma();
    printf("{\"workload\":\"evaluation of networks\",\"ipc\":%d,\"networks\":%d,\"epochs\":%d,\"test\":%d,\"dsa\":%s,"
           "\"strict\":%s,\"engine\":\"%s\",\"one_by_one_s\":%.3f,\"at_once_s\":%.3f,\"ratio\":%.3f,\"worst_pair\":%.3f,"
           "\"training_ratio\":%.3f,\"same_bytes\":%s,\"fma_gf\":[%.0f,%.0f]}\n",
           number[0], number[1], number[2], number[3], dsa ? "true" : "false", strict ? "true" : "false",
           rt_backend_describe(be), median(by_one, pairs), median(at_once, pairs), median(ratio, pairs), worst,
           median(train_ratio, pairs), memcmp(a.theta, b.theta, p * sizeof(float)) ? "false" : "true", fma, fma2);
    rt_trainer_destroy(one);
    rt_trainer_destroy(all);
    free(a.theta);
    free(b.theta);
    free((void *)d.px);
    free((void *)d.label);
    free((void *)test.px);
    free((void *)test.label);
    rt_backend_close(be);
    return 0;
}
