/* Elementwise ops. Formulas are in kernels/math/elementwise.inc (shared with the CPU loops and CUDA); here are shapes,
 * derivatives and constructors.
 *
 * Binary ops broadcast as NumPy does, and no rule here knows: gradients come back in the output's shape and rt_vjp sums
 * them to the source's. At ties maximum and minimum send the whole gradient to the second operand (a subgradient);
 * relu and abs have derivative 0 at 0. */
#include <math.h>

#include "math/hd.h"
#include "ops/util.h"

#include "math/real_f64.h"
#include "math/elementwise.inc"

/* --- shapes and reference ----------------------------------------------------------------------------------------- */
static rt_status binary_infer(rt_node *n)
{
    rt_status st = RT_OK;
    RT_TRY(rt_need_dtype(n, 0, RT_F32));
    RT_TRY(rt_need_dtype(n, 1, RT_F32));
    RT_TRY(rt_shape_broadcast(rt_op_name(n->op), &n->in_shape[0], &n->in_shape[1], &n->out_shape[0]));
out:
    return st;
}

static void unary_loop(const rt_node *n, const rt_ref_io *io, double (*f)(double))
{
    const double *x = io->in[0];
    double *y = io->out[0];
    int64_t count = rt_shape_count(&n->out_shape[0]);
    for (int64_t i = 0; i < count; i++) y[i] = f(x[i]);
}

static void binary_loop(const rt_node *n, const rt_ref_io *io, double (*f)(double, double))
{
    const double *a = io->in[0], *b = io->in[1];
    double *y = io->out[0];
    const rt_shape *s = &n->out_shape[0];
    int64_t count = rt_shape_count(s), sa[RT_MAX_RANK], sb[RT_MAX_RANK], at[RT_MAX_RANK] = {0}, ia = 0, ib = 0;
    rt_broadcast_strides(&n->in_shape[0], s, sa);
    rt_broadcast_strides(&n->in_shape[1], s, sb);
    for (int64_t i = 0; i < count; i++) {
        y[i] = f(a[ia], b[ib]);
        for (int k = s->rank - 1; k >= 0; k--) { /* odometer */
            ia += sa[k];
            ib += sb[k];
            if (++at[k] < s->d[k]) break;
            ia -= sa[k] * s->d[k];
            ib -= sb[k] * s->d[k];
            at[k] = 0;
        }
    }
}

#define RT_UNARY(ENUM, name)                                                                                           \
    static rt_status name##_ref(const rt_node *n, const rt_ref_io *io)                                                 \
    {                                                                                                                  \
        unary_loop(n, io, rt_##name##_f64);                                                                            \
        return RT_OK;                                                                                                  \
    }
#define RT_BINARY(ENUM, name)                                                                                          \
    static rt_status name##_ref(const rt_node *n, const rt_ref_io *io)                                                 \
    {                                                                                                                  \
        binary_loop(n, io, rt_##name##_f64);                                                                           \
        return RT_OK;                                                                                                  \
    }
#include "math/elementwise.def"
#undef RT_UNARY
#undef RT_BINARY

/* --- derivatives: g is the gradient of the output, x (a, b) the inputs, y the output ------------------------------- */
#define VJP1(name, expr)                                                                                               \
    static void name##_vjp(rt_graph *gr, const rt_node *n, const rt_val *gy, rt_val *gx)                               \
    {                                                                                                                  \
        const rt_val g = gy[0], x = n->in[0], y = {n->first_out};                                                      \
        (void)x;                                                                                                       \
        (void)y;                                                                                                       \
        gx[0] = (expr);                                                                                                \
    }
#define VJP2(name, expr_a, expr_b)                                                                                     \
    static void name##_vjp(rt_graph *gr, const rt_node *n, const rt_val *gy, rt_val *gx)                               \
    {                                                                                                                  \
        const rt_val g = gy[0], a = n->in[0], b = n->in[1], y = {n->first_out};                                        \
        (void)gr;                                                                                                      \
        (void)a;                                                                                                       \
        (void)b;                                                                                                       \
        (void)y;                                                                                                       \
        gx[0] = (expr_a);                                                                                              \
        gx[1] = (expr_b);                                                                                              \
    }

static rt_val one_minus(rt_graph *gr, rt_val v) { return rt_sub(gr, rt_scalar(gr, 1.0), v); }

VJP1(neg, rt_neg(gr, g))
VJP1(exp, rt_mul(gr, g, y))
VJP1(log, rt_div(gr, g, x))
VJP1(sqrt, rt_div(gr, rt_mul_scalar(gr, g, 0.5), y))
VJP1(recip, rt_neg(gr, rt_mul(gr, g, rt_square(gr, y))))
VJP1(square, rt_mul(gr, g, rt_mul_scalar(gr, x, 2.0)))
VJP1(tanh, rt_mul(gr, g, one_minus(gr, rt_square(gr, y))))
VJP1(cos, rt_neg(gr, rt_mul(gr, g, rt_sin(gr, x))))
VJP1(sin, rt_mul(gr, g, rt_cos(gr, x)))
VJP1(sigmoid, rt_mul(gr, g, rt_mul(gr, y, one_minus(gr, y))))
/* silu' = s + y (1 - s), erf' = 2 / sqrt(pi) exp(-x^2) */
static rt_val silu_slope(rt_graph *gr, rt_val x, rt_val y)
{
    rt_val s = rt_sigmoid(gr, x);
    return rt_add(gr, s, rt_mul(gr, y, one_minus(gr, s)));
}
VJP1(silu, rt_mul(gr, g, silu_slope(gr, x, y)))
VJP1(erf, rt_mul(gr, g, rt_mul_scalar(gr, rt_exp(gr, rt_neg(gr, rt_square(gr, x))), M_2_SQRTPI)))
VJP1(relu, rt_mul(gr, g, rt_step(gr, x)))
VJP1(abs, rt_mul(gr, g, rt_sign(gr, x)))
VJP2(add, g, g)
VJP2(sub, g, rt_neg(gr, g))
VJP2(mul, rt_mul(gr, g, b), rt_mul(gr, g, a))
VJP2(div, rt_div(gr, g, b), rt_neg(gr, rt_div(gr, rt_mul(gr, g, y), b)))
VJP2(maximum, rt_mul(gr, g, rt_step(gr, rt_sub(gr, a, b))),
     rt_mul(gr, g, one_minus(gr, rt_step(gr, rt_sub(gr, a, b)))))
VJP2(minimum, rt_mul(gr, g, rt_step(gr, rt_sub(gr, b, a))),
     rt_mul(gr, g, one_minus(gr, rt_step(gr, rt_sub(gr, b, a)))))

/* --- rows -------------------------------------------------------------------------------------------------------- */
#define ROW1(op, rule, extra_flags, no_grad)                                                                           \
    const rt_op_row rt_row_##op = {.name = #op,                                                                        \
                                   .n_in = 1,                                                                          \
                                   .n_out = 1,                                                                         \
                                   .flags = RT_ROW_ELEMENTWISE | (extra_flags),                                        \
                                   .no_grad_in = (no_grad),                                                            \
                                   .inplace_in = 1,                                                                    \
                                   .infer = rt_infer_same_real,                                                        \
                                   .vjp = (rule),                                                                      \
                                   .ref = op##_ref}
#define ROW2(op, extra_flags)                                                                                          \
    const rt_op_row rt_row_##op = {.name = #op,                                                                        \
                                   .n_in = 2,                                                                          \
                                   .n_out = 1,                                                                         \
                                   .flags = RT_ROW_ELEMENTWISE | (extra_flags),                                        \
                                   .inplace_in = 3,                                                                    \
                                   .infer = binary_infer,                                                              \
                                   .vjp = op##_vjp,                                                                    \
                                   .ref = op##_ref}

ROW1(neg, neg_vjp, RT_ROW_LINEAR, 0);
ROW1(exp, exp_vjp, 0, 0);
ROW1(log, log_vjp, 0, 0);
ROW1(sqrt, sqrt_vjp, 0, 0);
ROW1(recip, recip_vjp, 0, 0);
ROW1(square, square_vjp, 0, 0);
ROW1(tanh, tanh_vjp, 0, 0);
ROW1(cos, cos_vjp, 0, 0);
ROW1(sin, sin_vjp, 0, 0);
ROW1(sigmoid, sigmoid_vjp, 0, 0);
ROW1(silu, silu_vjp, 0, 0);
ROW1(erf, erf_vjp, 0, 0);
ROW1(relu, relu_vjp, 0, 0);
ROW1(step, rt_vjp_none, 0, 1);
ROW1(abs, abs_vjp, 0, 0);
ROW1(sign, rt_vjp_none, 0, 1);
ROW2(add, 0);
ROW2(sub, 0);
ROW2(mul, RT_ROW_LINEAR);
ROW2(div, RT_ROW_LINEAR);
ROW2(maximum, 0);
ROW2(minimum, 0);

/* --- constructors ------------------------------------------------------------------------------------------------ */
#define RT_UNARY(ENUM, name)                                                                                           \
    rt_val rt_##name(rt_graph *g, rt_val x) { return rt_graph_append(g, RT_OP_##ENUM, &x, 1, NULL, 0); }
#include "math/elementwise.def"
#undef RT_UNARY

/* The source of v when v is a materialised broadcast and `other` alone already spans the result: the binary op then
 * broadcasts while it reads, and the large intermediate is never written. */
static rt_val unbroadcast(const rt_graph *g, rt_val v, rt_val other)
{
    const rt_node *n = rt_val_node(g, v, NULL);
    const rt_shape *so = rt_val_shape(g, other);
    if (!n || !so || rt_graph_expanding(g) || n->op != RT_OP_BROADCAST || !rt_shape_eq(&n->out_shape[0], so)) return v;
    return n->in[0];
}

static bool same_shape_result(const rt_graph *g, rt_val keep, rt_val drop)
{
    const rt_shape *k = rt_val_shape(g, keep), *d = rt_val_shape(g, drop);
    rt_shape r;
    if (!k || !d || d->rank > k->rank) return false;
    rt_status st = rt_shape_broadcast("", k, d, &r);
    return st == RT_OK && rt_shape_eq(&r, k) && k->dtype == d->dtype;
}

static rt_val binary(rt_graph *g, rt_op op, rt_val a, rt_val b)
{
    /* Only one side may lose its broadcast: the other then still has the full shape. */
    rt_val ua = unbroadcast(g, a, b), ub = ua.id == a.id ? unbroadcast(g, b, a) : b;
    rt_val in[2] = {ua, ub};
    bool commutes = op == RT_OP_ADD || op == RT_OP_MUL || op == RT_OP_MAXIMUM || op == RT_OP_MINIMUM;
    if ((op == RT_OP_ADD || op == RT_OP_MUL) && rt_val_is_const(g, ua, op == RT_OP_MUL ? 1.0 : 0.0) &&
        same_shape_result(g, ub, ua))
        return ub;
    if (rt_val_is_const(g, ub, op == RT_OP_MUL || op == RT_OP_DIV ? 1.0 : 0.0) && op != RT_OP_MAXIMUM &&
        op != RT_OP_MINIMUM && same_shape_result(g, ua, ub))
        return ua;
    /* One order for a + b and b + a, so that they are one value. Not for maximum and minimum: ties know sides. */
    if (commutes && op != RT_OP_MAXIMUM && op != RT_OP_MINIMUM && ua.id > ub.id && ub.id) {
        in[0] = ub;
        in[1] = ua;
    }
    return rt_graph_append(g, op, in, 2, NULL, 0);
}

#define RT_BINARY(ENUM, name)                                                                                          \
    rt_val rt_##name(rt_graph *g, rt_val a, rt_val b) { return binary(g, RT_OP_##ENUM, a, b); }
#include "math/elementwise.def"
#undef RT_BINARY

rt_val rt_mul_scalar(rt_graph *g, rt_val a, double k) { return rt_mul(g, a, rt_scalar(g, k)); }
rt_val rt_add_scalar(rt_graph *g, rt_val a, double k) { return rt_add(g, a, rt_scalar(g, k)); }
