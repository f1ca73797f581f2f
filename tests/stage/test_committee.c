/* Teachers as artefacts: what is trained for whom, what a committee holds, what it is refused for, what comes again. */
#include "world.h"

static const rt_stage_opts none;

START_TEST(members_in_order)
{
    world w;
    rt_config c;
    rt_run r;
    rt_committee all = {0}, first = {0}, runs = {0};
    const char *const more[] = {"committee.archs=mlp,network", "teach.runs=2"};
    world_make(&w);
    world_config(&w, more, 2, &c);
    rt_ok(rt_run_open(&c, &r));
    rt_fails(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all), RT_ERR_MISSING);
    ck_assert_int_eq(all.n, 0);
    rt_ok(rt_run_teach(&r, &none)); /* by name: the nets alone */
    rt_ok(rt_run_committee(&r, RT_TEACHERS_FIRST, &first));
    rt_fails(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all), RT_ERR_MISSING);
    rt_ok(rt_run_teach_committee(&r, &none));
    rt_ok(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all));
    rt_ok(rt_run_committee(&r, RT_TEACHERS_RUNS, &runs));

    ck_assert_int_eq(all.n, 2);
    ck_assert_str_eq(all.teacher[0].name, "mlp");
    ck_assert_str_eq(rt_model_desc_of(all.teacher[0].model)->arch, "mlp");
    ck_assert_str_eq(all.teacher[1].name, "net0");
    ck_assert_str_eq(all.teacher[1].content, first.teacher[0].content);
    for (int i = 0; i < 2; i++) {
        const rt_teacher *t = &all.teacher[i];
        ck_assert_msg(t->accuracy > 0.8 && t->accuracy <= 1, "%s knows %g", t->name, t->accuracy);
        ck_assert(t->wall_s > 0 && t->flops > 0 && t->weight == 1);
        ck_assert_int_eq(strlen(t->content), 64);
    }
    ck_assert_int_eq(runs.n, 2);
    ck_assert_str_eq(runs.teacher[1].name, "net1");
    size_t bytes = (size_t)rt_model_n_params(first.teacher[0].model) * sizeof(float);
    ck_assert_mem_eq(runs.teacher[0].theta, first.teacher[0].theta, bytes);
    ck_assert_mem_ne(runs.teacher[1].theta, first.teacher[0].theta, bytes); /* another seed */

    char one[RT_HASH_HEX], two[RT_HASH_HEX];
    rt_ok(rt_run_committee_hash(&r, RT_TEACHERS_FIRST, one));
    rt_ok(rt_run_committee_hash(&r, RT_TEACHERS_COMMITTEE, two));
    ck_assert_str_ne(one, two);
    rt_committee_fini(&first);
    rt_committee_fini(&all);
    rt_committee_fini(&runs);
    rt_run_close(&r);
    rt_config_fini(&c);
    world_gone(&w);
}
END_TEST

/* A member of net0's architecture is a network of its own; a teacher's weights are nobody's initial weights. */
START_TEST(no_two_alike)
{
    world w;
    rt_config c;
    rt_run r;
    rt_committee all = {0};
    float *student = NULL;
    const char *const more[] = {"committee.archs=network,convnet", "teach.lr=1e-12"};
    world_make(&w);
    world_config(&w, more, 2, &c);
    rt_ok(rt_run_open(&c, &r));
    rt_ok(rt_run_teach_committee(&r, &none));
    rt_ok(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all));
    const rt_model *m = all.teacher[0].model;
    size_t n = (size_t)rt_model_n_params(m);
    ck_assert_mem_ne(all.teacher[0].theta, all.teacher[1].theta, n * sizeof(float));
    student = rt_malloc((n + (size_t)rt_model_n_buffers(m)) * sizeof *student);
    for (uint64_t k = 0; k < 2; k++) {
        rt_model_init(m, (uint64_t)c.seed, k, student, student + n);
        for (int t = 0; t < 2; t++) ck_assert(fabs((double)(student[0] - all.teacher[t].theta[0])) > 1e-6);
    }
    rt_free(student);
    rt_committee_fini(&all);
    rt_run_close(&r);
    rt_config_fini(&c);
    world_gone(&w);
}
END_TEST

/* Another recipe makes other teachers: the old ones are not read. The order and number of members makes none new. */
START_TEST(read_only_when_current)
{
    world w;
    rt_config c;
    rt_run r;
    rt_committee all = {0};
    char before[RT_HASH_HEX], path[PATH_MAX];
    json_t *m = NULL;
    rt_teacher_seat seat;
    world_make(&w);
    world_config(&w, (const char *const[]){"committee.archs=network,mlp"}, 1, &c);
    rt_ok(rt_run_open(&c, &r));
    rt_ok(rt_run_teach_committee(&r, &none));
    ck_assert(rt_run_teacher_seat(&r, RT_TEACHERS_COMMITTEE, 1, &seat) && seat.member);
    ck_assert(!rt_run_teacher_seat(&r, RT_TEACHERS_COMMITTEE, 2, &seat));
    rt_run_teacher_seat(&r, RT_TEACHERS_COMMITTEE, 1, &seat);
    rt_ok(rt_run_teacher_open(&r, &seat, path, &m));
    snprintf(before, sizeof before, "%s", json_string_value(json_object_get(m, "created")));
    json_decref(m);
    rt_run_close(&r);
    rt_config_fini(&c);

    world_config(&w, (const char *const[]){"committee.archs=mlp", "teach.runs=3"}, 2, &c);
    rt_ok(rt_run_open(&c, &r));
    rt_ok(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all));
    rt_ok(rt_run_teach_committee(&r, &none));
    rt_ok(rt_run_teacher_open(&r, &seat, path, &m));
    ck_assert_str_eq(before, json_string_value(json_object_get(m, "created"))); /* skipped */
    json_decref(m);
    rt_committee_fini(&all);
    rt_run_close(&r);
    rt_config_fini(&c);

    world_config(&w, (const char *const[]){"committee.archs=mlp", "teach.weight_decay=0.1"}, 2, &c);
    rt_ok(rt_run_open(&c, &r));
    rt_fails(rt_run_committee(&r, RT_TEACHERS_COMMITTEE, &all), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "other settings"));
    rt_run_close(&r);
    rt_config_fini(&c);
    world_gone(&w);
}
END_TEST

static void wants(const char *const *more, int n, unsigned want)
{
    world w = {.dir = "/tmp"};
    rt_config c;
    world_config(&w, more, n, &c);
    rt_run r = {.c = &c};
    ck_assert_uint_eq(rt_run_teachers_wanted(&r), want);
    rt_config_fini(&c);
}

START_TEST(trained_for_whom)
{
    wants(NULL, 0, 0);
    wants((const char *const[]){"metrics.enabled=true"}, 1, RT_WANT_NETS);
    wants((const char *const[]){"methods.names=random,herding"}, 1, RT_WANT_NETS);
}
END_TEST

static const rt_test tests[] = {{"members in order", members_in_order},
                                {"no two alike", no_two_alike},
                                {"read only when current", read_only_when_current},
                                {"trained for whom", trained_for_whom}};
RT_SUITE("stage.committee", tests)
