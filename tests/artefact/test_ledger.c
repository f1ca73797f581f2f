/* The ledger: clocks, sums over segments, and honesty about what was not measured. */
#include <math.h>
#include <time.h>

#include "artefact/artefact.h"
#include "base/log.h"
#include "support/suite.h"

static double get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    ck_assert_msg(json_is_number(v), "%s is not a number", key);
    return json_number_value(v);
}

START_TEST(wall_and_cpu_run)
{
    rt_ledger *l = NULL;
    rt_ok(rt_ledger_create(&l));
    rt_ledger_update(l); /* not begun: nothing runs */
    rt_assert_near(rt_ledger_entry(l)->wall_s, 0, 0, 0);
    double t0 = rt_now();
    rt_ledger_begin(l);
    volatile double x = 0;
    while (rt_now() - t0 < 0.05) x = x + 1;                /* computes */
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, 0); /* sleeps */
    rt_ledger_update(l);
    double wall = rt_now() - t0;
    rt_cost_entry *e = rt_ledger_entry(l);
    rt_assert_near(e->wall_s, wall, 1e-3, 0.01);
    ck_assert_msg(e->cpu_s > 0.01 && e->cpu_s < e->wall_s - 0.04, "cpu %g of wall %g", e->cpu_s, e->wall_s);
    ck_assert(e->peak_host_bytes > 1e6);
    ck_assert_int_eq(e->segments, 1);
    rt_ledger_destroy(l);
    rt_ledger_destroy(NULL);
}
END_TEST

/* Three segments of one stage, each killed and restored from the last saved JSON text. */
START_TEST(segments_sum)
{
    char *saved = NULL;
    double wall = 0;
    for (int segment = 1; segment <= 3; segment++) {
        rt_ledger *l = NULL;
        rt_ok(rt_ledger_create(&l));
        rt_ledger_begin(l);
        double t0 = rt_now();
        if (saved) {
            json_t *o = json_loads(saved, 0, NULL);
            rt_ok(rt_ledger_restore(l, o));
            json_decref(o);
            free(saved);
        }
        rt_cost_entry *e = rt_ledger_entry(l);
        e->flops += 100 * segment;
        e->images_seen += 7;
        e->energy_j = isnan(e->energy_j) ? 5.0 : e->energy_j + 5.0;
        e->peak_device_bytes = e->peak_device_bytes > 1000.0 * (4 - segment) ? e->peak_device_bytes : 1000.0 * (4 - segment);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, 0);
        rt_ledger_update(l);
        rt_ledger_update(l); /* twice must not count twice */
        wall += rt_now() - t0;
        json_t *o = rt_ledger_json(l);
        rt_assert_near(get(o, "wall_s"), wall, 2e-3, 0.02);
        ck_assert_int_eq(json_integer_value(json_object_get(o, "segments")), segment);
        saved = json_dumps(o, JSON_REAL_PRECISION(17));
        json_decref(o);
        rt_ledger_destroy(l);
    }
    json_t *o = json_loads(saved, 0, NULL);
    rt_assert_near(get(o, "flops"), 600, 0, 0);
    rt_assert_near(get(o, "images_seen"), 21, 0, 0);
    rt_assert_near(get(o, "energy_j"), 15, 0, 0);
    rt_assert_near(get(o, "peak_device_bytes"), 3000, 0, 0);
    json_decref(o);
    free(saved);
}
END_TEST

START_TEST(unmeasured_energy_stays_unknown)
{
    rt_ledger *l = NULL;
    rt_ok(rt_ledger_create(&l));
    json_t *o = rt_ledger_json(l);
    ck_assert(json_is_null(json_object_get(o, "energy_j")));
    rt_ledger_entry(l)->energy_j = 3.0;
    rt_ok(rt_ledger_restore(l, o)); /* an earlier segment had no meter: the sum is unknown */
    ck_assert(isnan(rt_ledger_entry(l)->energy_j));
    json_decref(o);
    rt_ledger_destroy(l);
}
END_TEST

START_TEST(shares_add_up)
{
    rt_ledger *l = NULL, *part = NULL;
    rt_ok(rt_ledger_create(&l));
    rt_ledger_begin(l);
    *rt_ledger_entry(l) = (rt_cost_entry){.flops = 8, .images_seen = 4, .peak_host_bytes = 100, .energy_j = NAN, .segments = 3};
    rt_ledger_update(l);
    rt_ok(rt_ledger_share(l, 4, &part));
    double wall = rt_ledger_entry(part)->wall_s;
    rt_assert_near(wall, rt_ledger_entry(l)->wall_s / 4, 0, 0);
    rt_ledger_update(part); /* its clock stands still */
    ck_assert(rt_ledger_entry(part)->wall_s == wall && rt_ledger_entry(part)->flops == 2 && rt_ledger_entry(part)->images_seen == 1);
    ck_assert(rt_ledger_entry(part)->peak_host_bytes == rt_ledger_entry(l)->peak_host_bytes && isnan(rt_ledger_entry(part)->energy_j));
    ck_assert_int_eq(rt_ledger_entry(part)->segments, 3);
    rt_ledger_destroy(part);
    rt_fails(rt_ledger_share(l, 0, &part), RT_ERR_ARG);
    rt_ledger_destroy(l);
}
END_TEST

START_TEST(bad_saved_costs_are_refused)
{
    static const char *const bad[] = {"{}", "[]", "{\"segments\":0}", "{\"segments\":1}", "{\"segments\":1.5}"};
    rt_ledger *l = NULL;
    rt_ok(rt_ledger_create(&l));
    rt_ledger_entry(l)->flops = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *o = json_loads(bad[i], 0, NULL);
        rt_fails(rt_ledger_restore(l, o), RT_ERR_FORMAT);
        json_decref(o);
    }
    json_t *o = rt_ledger_json(l);
    json_object_set_new(o, "wall_s", json_real(-1.0));
    rt_fails(rt_ledger_restore(l, o), RT_ERR_FORMAT);
    json_object_set_new(o, "wall_s", json_null()); /* only energy may be unknown */
    rt_fails(rt_ledger_restore(l, o), RT_ERR_FORMAT);
    rt_assert_near(rt_ledger_entry(l)->flops, 5, 0, 0); /* untouched on failure */
    ck_assert_int_eq(rt_ledger_entry(l)->segments, 1);
    json_decref(o);
    rt_ledger_destroy(l);
}
END_TEST

static const rt_test tests[] = {
    {"wall and cpu run", wall_and_cpu_run},
    {"segments sum", segments_sum},
    {"unmeasured energy stays unknown", unmeasured_energy_stays_unknown},
    {"shares add up", shares_add_up},
    {"bad saved costs are refused", bad_saved_costs_are_refused},
};
RT_SUITE("artefact.ledger", tests)
