/* Plans of random graphs, judged by a checker that is slow and knows nothing of how they were made.
 *
 * Liveness is recomputed from the steps alone: a piece of the arena is live from the step that writes it to the last step
 * that reads any of its bytes. Two live pieces may share bytes only where one step writes over an operand that it is the
 * last to read. And running with poison must give what the oracle gives. */
#include "../support/eval.h"
#include "../support/suite.h"

#include "exec/plan.h"
#include "retort/exec.h"

typedef struct piece {
    int made, last;
    size_t at, bytes;
} piece;

static size_t bytes_of(const rt_shape *s) { return (size_t)rt_shape_count(s) * 4; }

/* Pieces in order of writing; an operand finds the newest piece that covers its bytes. */
static void check_no_overlap(const rt_plan *p)
{
    static piece list[512];
    int n = 0;
    size_t top = 0;
    for (int s = 0; s < p->n_step; s++) {
        const rt_plan_step *step = &p->step[s];
        for (int i = 0; i < step->node.n_in; i++) {
            const rt_store *st = &p->store[step->in[i].store];
            size_t at = st->offset + step->in[i].offset, end = at + bytes_of(&step->node.in_shape[i]);
            if (st->kind != RT_STORE_ARENA) continue;
            int found = -1;
            for (int k = 0; k < n; k++)
                if (list[k].at <= at && end <= list[k].at + list[k].bytes) found = k;
            ck_assert_msg(found >= 0, "step %d reads bytes nobody wrote", s);
            list[found].last = s;
        }
        for (int o = 0; o < step->node.n_out; o++) {
            const rt_store *st = &p->store[step->out[o].store];
            if (st->kind != RT_STORE_ARENA) continue;
            list[n++] = (piece){s, s, st->offset, bytes_of(&step->node.out_shape[o])};
            ck_assert_uint_eq(st->offset % RT_PLAN_ALIGN, 0);
            ck_assert_uint_le(st->offset + bytes_of(&step->node.out_shape[o]), p->arena_bytes);
            if (list[n - 1].at + list[n - 1].bytes > top) top = list[n - 1].at + list[n - 1].bytes;
        }
    }
    for (int i = 0; i < p->n_store; i++) /* constants live throughout */
        if (p->store[i].kind == RT_STORE_CONST) {
            list[n++] = (piece){-1, p->n_step, p->store[i].offset, p->store[i].bytes};
            if (p->store[i].offset + p->store[i].bytes > top) top = p->store[i].offset + p->store[i].bytes;
        }
    for (int s = 0; s < p->n_step; s++)
        if (p->step[s].scratch_bytes) {
            list[n++] = (piece){s, s, p->step[s].scratch_offset, p->step[s].scratch_bytes};
            if (list[n - 1].at + list[n - 1].bytes > top) top = list[n - 1].at + list[n - 1].bytes;
        }
    for (int a = 0; a < n; a++)
        for (int b = 0; b < a; b++) {
            bool apart = list[a].at + list[a].bytes <= list[b].at || list[b].at + list[b].bytes <= list[a].at;
            bool handed = list[a].made == list[b].last && list[a].at == list[b].at && list[a].bytes == list[b].bytes &&
                          list[a].made > list[b].made;
            bool disjoint = list[a].made > list[b].last || list[b].made > list[a].last;
            ck_assert_msg(apart || disjoint || handed, "pieces [%d,%d] and [%d,%d] overlap", list[a].made, list[a].last,
                          list[b].made, list[b].last);
        }
    ck_assert_uint_le(top, p->arena_bytes);
    ck_assert_uint_lt(p->arena_bytes - top, RT_PLAN_ALIGN); /* nothing booked that nobody uses */
}

static uint32_t rnd(uint32_t *state, uint32_t below) /* xorshift */
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}

enum { LEN = 24, MAX_VAL = 60 };

/* A random program over vectors of LEN: elementwise ops, views and their concatenation, reductions, broadcasts. */
static int random_graph(rt_graph *g, uint32_t *state, rt_val *v)
{
    int n = 0;
    v[n++] = rt_input(g, "a", RT_SHAPE(RT_F32, LEN));
    v[n++] = rt_input(g, "b", RT_SHAPE(RT_F32, LEN));
    while (n < 40) {
        rt_val x = v[rnd(state, (uint32_t)n)], y = v[rnd(state, (uint32_t)n)], z;
        switch (rnd(state, 9)) {
        case 0: z = rt_add(g, x, y); break;
        case 1: z = rt_sub(g, y, x); break;
        case 2: z = rt_tanh(g, x); break;
        case 3: z = rt_mul(g, rt_tanh(g, x), y); break;
        case 4: z = rt_mul_scalar(g, x, 0.5); break;
        case 5: { /* halves exchanged: two views and a concat */
            rt_val parts[2] = {rt_view1d(g, x, LEN / 2, RT_SHAPE(RT_F32, LEN / 2)),
                               rt_view1d(g, x, 0, RT_SHAPE(RT_F32, LEN / 2))};
            z = rt_concat(g, parts, 2, 0);
            break;
        }
        case 6: z = rt_sub(g, x, rt_mean_all(g, y)); break;
        case 7: { /* row sums of a matrix view, spread again */
            rt_val m = rt_reshape(g, x, RT_SHAPE(RT_F32, 4, LEN / 4));
            z = rt_reshape(g, rt_sub(g, m, rt_mean(g, m, 1u << 0, true)), RT_SHAPE(RT_F32, LEN));
            break;
        }
        default: z = rt_maximum(g, x, rt_neg(g, y)); break;
        }
        v[n++] = z;
    }
    rt_ok(rt_graph_status(g));
    return n;
}

static void check_seed(uint32_t seed, const char *backend)
{
    rt_backend *be;
    rt_graph *g;
    rt_exec *ex;
    rt_val v[MAX_VAL];
    double a[LEN], b[LEN], got[LEN], want[3][LEN];
    uint32_t start = seed * 2654435761u, *state = &start;
    rt_ok(rt_backend_open(backend, &(rt_backend_opts){.threads = 2}, &be));
    rt_ok(rt_graph_create(&g));
    int n = random_graph(g, state, v);
    for (int i = 0; i < LEN; i++) {
        a[i] = 0.001 * rnd(state, 1000) - 0.5;
        b[i] = 0.001 * rnd(state, 1000) - 0.5;
    }
    rt_tensor *ta, *tb, *tc;
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, LEN), &ta));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, LEN), &tb));
    rt_ok(rt_tensor_create(be, RT_SHAPE(RT_F32, LEN), &tc));
    rt_ok(rt_tensor_write_f64(ta, a, LEN));
    rt_ok(rt_tensor_write_f64(tb, b, LEN));
    /* Two outputs overwrite the inputs' tensors: some from the middle of the program, so that readers follow. */
    rt_val out[3] = {v[n - 1], v[2 + rnd(state, 30)], v[rnd(state, 35)]};
    rt_ok(rt_eval_ref(g, (rt_feed[]){{v[0], a}, {v[1], b}}, 2, out, 3, (void *[]){want[0], want[1], want[2]}));
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{v[0], ta}, {v[1], tb}}, 2, (rt_bind[]){{out[0], tc}, {out[1], ta}, {out[2], tb}},
                          3, &(rt_exec_opts){.plan_only = true}, &ex));
    if (strcmp(backend, "cpu") == 0) check_no_overlap(rt_exec_plan(ex));
    rt_exec_destroy(ex);
    rt_ok(rt_exec_prepare(be, g, (rt_bind[]){{v[0], ta}, {v[1], tb}}, 2, (rt_bind[]){{out[0], tc}, {out[1], ta}, {out[2], tb}},
                          3, &(rt_exec_opts){.poison = true}, &ex));
    rt_ok(rt_exec_run(ex));
    const rt_tensor *where[3] = {tc, ta, tb};
    for (int o = 0; o < 3; o++) {
        rt_ok(rt_tensor_read_f64(where[o], got, LEN));
        for (int i = 0; i < LEN; i++) rt_assert_near(got[i], want[o][i], 1e-4, 1e-4);
    }
    rt_exec_destroy(ex);
    rt_tensor_destroy(ta);
    rt_tensor_destroy(tb);
    rt_tensor_destroy(tc);
    rt_graph_destroy(g);
    rt_backend_close(be);
}

START_TEST(random_plans_do_not_overlap)
{
    for (uint32_t seed = 1; seed <= 300; seed++) check_seed(seed, "cpu");
}
END_TEST

START_TEST(random_plans_run_on_ref)
{
    for (uint32_t seed = 1; seed <= 100; seed++) check_seed(seed, "ref");
}
END_TEST

static const rt_test tests[] = {
    {"random plans do not overlap", random_plans_do_not_overlap},
    {"random plans run on ref", random_plans_run_on_ref},
};
RT_SUITE("exec.plan", tests)
