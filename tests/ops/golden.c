/* The structured ops and their derivatives against PyTorch in float64 (tests/golden/ops/generate.py).
 *
 * A graph's inputs are named after the golden tensors they read; every node is then computed by its row's reference, so
 * the test depends on rows and rt_vjp alone. Agreement is to 1e-12 of the tensor's largest magnitude: the file has 15
 * digits. */
#include "../support/suite.h"

#include "ops/row.h"
#include "retort/graph.h"

enum { MAX_TENSORS = 160 };
static const double tolerance = 1e-12;

/* --- the file ----------------------------------------------------------------------------------------------------- */
typedef struct golden {
    char name[64];
    rt_shape shape;
    double *v;
} golden;
static golden tensors[MAX_TENSORS];
static int n_tensors;

static void load(void)
{
    char path[1024], line[256];
    const char *root = getenv("RT_SOURCE_DIR");
    snprintf(path, sizeof path, "%s/tests/golden/ops/torch.txt", root ? root : ".");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    while (fgets(line, sizeof line, f)) {
        ck_assert_int_lt(n_tensors, MAX_TENSORS);
        golden *t = &tensors[n_tensors++];
        int used = 0, rank = 0, step;
        int64_t d[RT_MAX_RANK];
        ck_assert_int_eq(sscanf(line, "%63s%n", t->name, &used), 1);
        for (long long v; sscanf(line + used, "%lld%n", &v, &step) == 1; used += step) d[rank++] = v;
        t->shape = rt_shape_make(RT_F32, rank, d);
        t->v = malloc((size_t)rt_shape_count(&t->shape) * sizeof *t->v);
        for (int64_t i = 0; i < rt_shape_count(&t->shape); i++) ck_assert_int_eq(fscanf(f, "%lf", &t->v[i]), 1);
        ck_assert_int_eq(fgetc(f), '\n');
    }
    fclose(f);
}

static const golden *tensor(const char *of, const char *field)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", of, field);
    if (!n_tensors) load();
    for (int i = 0; i < n_tensors; i++)
        if (strcmp(tensors[i].name, name) == 0) return &tensors[i];
    ck_abort_msg("no golden tensor %s", name);
    return NULL;
}

static rt_val input(rt_graph *g, const char *of, const char *field)
{
    const golden *t = tensor(of, field);
    return rt_input(g, t->name, t->shape);
}

static int attr_of(const char *of, const char *field, int i) { return (int)tensor(of, field)->v[i]; }

/* --- computing a graph by its rows' references -------------------------------------------------------------------- */
typedef struct values {
    rt_graph *g;
    void **at; /* by value id */
} values;

static values compute(rt_graph *g)
{
    rt_ok(rt_graph_status(g));
    const rt_node *last = rt_graph_node(g, rt_graph_node_count(g) - 1);
    values v = {.g = g, .at = calloc(last->first_out + last->n_out, sizeof *v.at)};
    for (size_t i = 0; i < rt_graph_node_count(g); i++) {
        const rt_node *n = rt_graph_node(g, i);
        const void **in = calloc((size_t)n->n_in + 1, sizeof *in);
        for (int k = 0; k < n->n_in; k++) in[k] = v.at[n->in[k].id];
        for (int o = 0; o < n->n_out; o++)
            v.at[n->first_out + (uint32_t)o] = malloc((size_t)rt_shape_count(&n->out_shape[o]) * sizeof(double) + 1);
        if (n->op == RT_OP_INPUT) {
            for (int k = 0; k < n_tensors; k++)
                if (strcmp(tensors[k].name, n->attr) == 0)
                    memcpy(v.at[n->first_out], tensors[k].v, (size_t)rt_shape_count(&n->out_shape[0]) * sizeof(double));
        } else {
            rt_ok(rt_op_row_of(n->op)->ref(n, &(rt_ref_io){.in = in, .out = &v.at[n->first_out]}));
        }
        free(in);
    }
    return v;
}

/* With the graph. */
static void release(values *v)
{
    const rt_node *last = rt_graph_node(v->g, rt_graph_node_count(v->g) - 1);
    for (uint32_t i = 1; i < last->first_out + last->n_out; i++) free(v->at[i]);
    free(v->at);
    rt_graph_destroy(v->g);
}

static void agree(const values *v, rt_val got, const char *of, const char *field)
{
    const golden *want = tensor(of, field);
    const rt_shape *s = rt_val_shape(v->g, got);
    double largest = 0;
    ck_assert_msg(s != NULL, "%s: no value", want->name);
    ck_assert_int_eq(s->rank, want->shape.rank);
    ck_assert_mem_eq(s->d, want->shape.d, sizeof s->d);
    for (int64_t i = 0; i < rt_shape_count(s); i++) largest = fmax(largest, fabs(want->v[i]));
    for (int64_t i = 0; i < rt_shape_count(s); i++) {
        double a = s->dtype == RT_I32 ? ((const int32_t *)v->at[got.id])[i] : ((const double *)v->at[got.id])[i];
        if (!rt_near(a, want->v[i], tolerance * largest, 0))
            ck_abort_msg("%s[%lld] = %.15g, PyTorch has %.15g", want->name, (long long)i, a, want->v[i]);
    }
}

static rt_graph *open_graph(void)
{
    rt_graph *g = NULL;
    rt_ok(rt_graph_create(&g));
    return g;
}

/* --- cases -------------------------------------------------------------------------------------------------------- */
static void conv_case(const char *of)
{
    rt_graph *g = open_graph();
    rt_conv_attr a = {.stride = {attr_of(of, "stride_pad_groups", 0), attr_of(of, "stride_pad_groups", 1)},
                      .pad = {attr_of(of, "stride_pad_groups", 2), attr_of(of, "stride_pad_groups", 3)},
                      .groups = attr_of(of, "stride_pad_groups", 4)};
    rt_val in[3] = {input(g, of, "x"), input(g, of, "w"), input(g, of, "b")}, grad[3];
    rt_val y = rt_conv2d(g, in[0], in[1], in[2], a), gy = input(g, of, "gy");
    rt_ok(rt_vjp(g, &y, &gy, 1, in, 3, grad));
    values v = compute(g);
    agree(&v, y, of, "y");
    agree(&v, grad[0], of, "gx");
    agree(&v, grad[1], of, "gw");
    agree(&v, grad[2], of, "gb");
    release(&v);
}
START_TEST(convolution)
{
    conv_case("conv_strided");
    conv_case("conv_stem");
}
END_TEST

START_TEST(pooling)
{
    const rt_pool_attr a = {.size = {3, 3}, .stride = {2, 2}, .pad = {1, 1}};
    for (int max = 0; max < 2; max++) {
        const char *of = max ? "max_pool" : "avg_pool";
        rt_graph *g = open_graph();
        rt_val x = input(g, of, "x"), gy = input(g, of, "gy"), gx;
        rt_val y = max ? rt_max_pool(g, x, a) : rt_avg_pool(g, x, a);
        rt_ok(rt_vjp(g, &y, &gy, 1, &x, 1, &gx));
        values v = compute(g);
        agree(&v, y, of, "y");
        agree(&v, gx, of, "gx");
        if (max) agree(&v, rt_node_out(y, 1), of, "index");
        release(&v);
    }
}
END_TEST

static void norm_case(const char *of)
{
    rt_graph *g = open_graph();
    rt_norm_attr a = {.groups = attr_of(of, "groups_relu_pool", 0), .relu = attr_of(of, "groups_relu_pool", 1),
                      .pool = attr_of(of, "groups_relu_pool", 2) ? 2 : 0, .eps = 1e-5};
    a.kind = a.groups ? RT_NORM_GROUP : RT_NORM_BATCH;
    rt_val in[3] = {input(g, of, "x"), input(g, of, "gamma"), input(g, of, "beta")}, grad[3], hess[2];
    rt_val y = rt_norm(g, in[0], in[1], in[2], a, NULL, NULL), gy = input(g, of, "gy"), dir = input(g, of, "v");
    rt_ok(rt_vjp(g, &y, &gy, 1, in, 3, grad));
    rt_ok(rt_vjp(g, &grad[0], &dir, 1, in, 2, hess));
    values v = compute(g);
    agree(&v, y, of, "y");
    agree(&v, grad[0], of, "gx");
    agree(&v, grad[1], of, "ggamma");
    agree(&v, grad[2], of, "gbeta");
    agree(&v, hess[0], of, "hx");
    agree(&v, hess[1], of, "hgamma");
    release(&v);
}
START_TEST(normalisation_to_second_order)
{
    norm_case("group_norm");
    norm_case("instance_norm");
    norm_case("layer_norm");
    norm_case("batch_norm");
}
END_TEST

START_TEST(cross_entropy)
{
    const char *of = "softmax_ce";
    rt_graph *g = open_graph();
    rt_val in[2] = {input(g, of, "z"), input(g, of, "q")}, grad[2];
    rt_val loss = rt_softmax_ce(g, in[0], in[1]), gy = input(g, of, "g");
    rt_ok(rt_vjp(g, &loss, &gy, 1, in, 2, grad));
    values v = compute(g);
    agree(&v, loss, of, "loss");
    agree(&v, grad[0], of, "gz");
    agree(&v, grad[1], of, "gq");
    release(&v);
}
END_TEST

/* The pixel matrix of affine_grid + grid_sample. theta maps (x, y) of the output to those of the input, both normalised
 * to [-1, 1]: (pixel - centre) / unit with centre = (size - 1) / 2, and unit = (size - 1) / 2 where -1 and 1 are the
 * outermost pixel centres (corners), or size / 2 where they are the image's edges. */
static void pixel_matrix(const double *theta, double h, double w, int corners, double a[6])
{
    const double ux = corners ? (w - 1) / 2 : w / 2, uy = corners ? (h - 1) / 2 : h / 2;
    const double cx = (w - 1) / 2, cy = (h - 1) / 2;
    a[0] = theta[4];           /* row by i */
    a[1] = theta[3] * uy / ux; /* row by j */
    a[2] = cy + theta[5] * uy - a[0] * cy - a[1] * cx;
    a[3] = theta[1] * ux / uy; /* col by i */
    a[4] = theta[0];           /* col by j */
    a[5] = cx + theta[2] * ux - a[3] * cy - a[4] * cx;
}

static void affine_case(const char *of, int corners)
{
    rt_graph *g = open_graph();
    const golden *x = tensor(of, "x"), *theta = tensor(of, "theta");
    golden *m = &tensors[n_tensors++];
    snprintf(m->name, sizeof m->name, "%s.a", of);
    m->shape = RT_SHAPE(RT_F32, 2, 6);
    m->v = malloc(12 * sizeof *m->v);
    for (int i = 0; i < 2; i++)
        pixel_matrix(theta->v + 6 * i, (double)x->shape.d[1], (double)x->shape.d[2], corners, m->v + 6 * i);
    rt_val in = input(g, of, "x"), a = input(g, of, "a"), gy = input(g, of, "gy"), gx;
    rt_val y = rt_affine_sample(g, in, a, x->shape.d[1], x->shape.d[2]);
    rt_ok(rt_vjp(g, &y, &gy, 1, &in, 1, &gx));
    values v = compute(g);
    agree(&v, y, of, "y");
    agree(&v, gx, of, "gx");
    release(&v);
}
START_TEST(affine_sampling)
{
    affine_case("affine_corners", 1);
    affine_case("affine_centres", 0);
}
END_TEST

START_TEST(colour)
{
    rt_graph *g = open_graph();
    rt_val x = input(g, "color", "x"), gy = input(g, "color", "gy"), gx;
    rt_val y = rt_color(g, x, input(g, "color", "p"));
    rt_ok(rt_vjp(g, &y, &gy, 1, &x, 1, &gx));
    values v = compute(g);
    agree(&v, y, "color", "y");
    agree(&v, gx, "color", "gx");
    release(&v);
}
END_TEST

/* Three steps from zero state, by the op and by its expansion. */
static void step_expanded(rt_graph *g, rt_val *theta, rt_val *state, int n_state)
{
    const rt_node *n = rt_val_node(g, *theta, NULL);
    rt_val out[RT_MAX_OUT];
    rt_op_row_of(n->op)->expand(g, n, out);
    *theta = out[0];
    for (int i = 0; i < n_state; i++) state[i] = out[1 + i];
}

static void sgd_case(const char *of, bool nesterov, int expanded)
{
    rt_graph *g = open_graph();
    rt_val theta = input(g, of, "theta"), v = rt_const(g, 0, *rt_val_shape(g, theta)), at[3];
    rt_val lr = rt_scalar(g, 0.1), decay = rt_scalar(g, 0.02);
    for (int t = 0; t < 3; t++) {
        char name[16];
        snprintf(name, sizeof name, "grad%d", t);
        theta = rt_sgd_step(g, theta, v, input(g, of, name), lr, decay, 0.9, nesterov, &v);
        if (expanded) step_expanded(g, &theta, &v, 1);
        at[t] = theta;
    }
    values val = compute(g);
    agree(&val, at[0], of, "theta0");
    agree(&val, at[1], of, "theta1");
    agree(&val, at[2], of, "theta2");
    release(&val);
}

static void adam_case(const char *of, int decoupled, int expanded)
{
    rt_graph *g = open_graph();
    rt_val theta = input(g, of, "theta"), state[2], at[3];
    rt_shape flat = *rt_val_shape(g, theta), one = RT_SHAPE(RT_F32, 1);
    state[0] = state[1] = rt_const(g, 0, flat);
    rt_val decay = rt_const(g, 0.02, flat); /* as a vector, the other form */
    for (int t = 0; t < 3; t++) {
        char name[16];
        snprintf(name, sizeof name, "grad%d", t);
        rt_val hyper[3] = {rt_const(g, 0.01, one), rt_const(g, 1 - pow(0.9, t + 1), one),
                           rt_const(g, 1 - pow(0.99, t + 1), one)};
        rt_adam_attr a = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .decoupled = decoupled};
        theta = rt_adam_step(g, theta, state[0], state[1], input(g, of, name), rt_concat(g, hyper, 3, 0), decay, a,
                             &state[0], &state[1]);
        if (expanded) step_expanded(g, &theta, state, 2);
        at[t] = theta;
    }
    values val = compute(g);
    agree(&val, at[0], of, "theta0");
    agree(&val, at[1], of, "theta1");
    agree(&val, at[2], of, "theta2");
    release(&val);
}

START_TEST(optimiser_steps)
{
    for (int expanded = 0; expanded < 2; expanded++) {
        sgd_case("sgd", false, expanded);
        sgd_case("nesterov", true, expanded);
        adam_case("adam", 0, expanded);
        adam_case("adamw", 1, expanded);
    }
}
END_TEST

static const rt_test tests[] = {{"convolution", convolution},
                                {"pooling", pooling},
                                {"normalisation to second order", normalisation_to_second_order},
                                {"cross-entropy", cross_entropy},
                                {"affine sampling", affine_sampling},
                                {"colour", colour},
                                {"optimiser steps", optimiser_steps}};
RT_SUITE("ops.golden", tests)
