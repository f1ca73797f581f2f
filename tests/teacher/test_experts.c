/* Expert trajectories as files: what is committed is read back bit for bit, and everything that is damaged, missing or of
 * another run is refused with a line that says what to do. */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "support/suite.h"
#include "teacher/experts.h"

enum { EXPERTS = 2, LAST = 3, FINAL = 7 };
static const char *const names[] = {"red", "green", "blue"}, *const other_names[] = {"red", "green", "violet"};
static rt_model_desc net = {.arch = "convnet", .depth = 1, .width = 4, .norm = RT_MODEL_NORM_INSTANCE, .size = 8, .channels = 3,
                            .classes = 3};

typedef struct place {
    char dir[64];
    rt_model *m;
    rt_classes classes;
    int64_t n;
    float *theta;
} place;

static float value(int k, int64_t epoch, int64_t i) { return (float)(k * 1000 + epoch * 100) + 1.0f / (float)(i + 3); }

static void commit_expert(const place *p, int k, const char *zca, int64_t final)
{
    char path[PATH_MAX], file[PATH_MAX], name[RT_EXPERT_NAME], arch[RT_EXPERT_ARCH];
    rt_commit *c;
    snprintf(path, sizeof path, "%s/expert%d", p->dir, k);
    rt_ok(rt_commit_begin(path, &c));
    for (int64_t e = 0; e <= FINAL; e++) {
        if (e > LAST && e != final) continue;
        for (int64_t i = 0; i < p->n; i++) p->theta[i] = value(k, e, i);
        rt_expert_file(e, name);
        rt_ok(rt_fs_join(file, sizeof file, rt_commit_dir(c), name));
        rt_ok(rt_st_write(file, &(rt_st_tensor){"theta", RT_ST_F32, 1, {p->n}, p->theta, (uint64_t)p->n * 4}, 1, NULL, 0));
    }
    rt_expert_arch(p->m, arch);
    json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "kind", "expert", "arch", arch, "classes_hash", p->classes.hash, "zca", zca,
                          "last", (json_int_t)LAST, "final", (json_int_t)final);
    rt_ok(rt_commit_finish(c, m));
    json_decref(m);
}

static place make(const char *zca, int64_t final)
{
    place p = {.dir = "/tmp/retort_experts_XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(p.dir));
    rt_ok(rt_model_create(&net, &p.m));
    rt_ok(rt_classes_make(names, 3, &p.classes));
    p.n = rt_model_n_params(p.m);
    p.theta = rt_malloc((size_t)p.n * sizeof *p.theta);
    for (int k = 0; k < EXPERTS; k++) commit_expert(&p, k, zca, final);
    return p;
}

static void drop(place *p)
{
    rt_ok(rt_fs_remove_tree(p->dir));
    rt_model_destroy(p->m);
    rt_classes_fini(&p->classes);
    rt_free(p->theta);
}

static rt_status open_all(const place *p, rt_experts **e)
{
    *e = NULL;
    return rt_experts_open(p->dir, EXPERTS, p->m, p->classes.hash, "", LAST, true, e);
}

/* The refusal names the folder (or what stands in it) and has a remedy. */
static void refused(rt_status got, rt_status want, const char *says)
{
    ck_assert_msg(got == want, "got %s (%s), want %s", rt_status_name(got), rt_error_what(), rt_status_name(want));
    ck_assert_msg(strstr(rt_error_what(), says) != NULL, "'%s' does not say '%s'", rt_error_what(), says);
    ck_assert_msg(strstr(rt_error_remedy(), "retort teach") != NULL, "remedy: '%s'", rt_error_remedy());
}

static void file_of(const place *p, int k, int64_t epoch, char out[PATH_MAX])
{
    char name[RT_EXPERT_NAME];
    rt_expert_file(epoch, name);
    snprintf(out, PATH_MAX, "%.60s/expert%d/%s", p->dir, k, name);
}

START_TEST(reads_what_was_committed)
{
    place p = make("", FINAL);
    rt_experts *e;
    rt_ok(open_all(&p, &e));
    ck_assert_int_eq(rt_experts_count(e), EXPERTS);
    ck_assert_int_eq(rt_experts_last(e), LAST);
    ck_assert_int_eq(rt_experts_final(e, 1), FINAL);
    for (int k = 0; k < EXPERTS; k++)
        for (int64_t epoch = 0; epoch <= FINAL; epoch++) {
            if (epoch > LAST && epoch < FINAL) {
                rt_fails(rt_experts_read(e, k, epoch, p.theta), RT_ERR_ARG);
                continue;
            }
            rt_ok(rt_experts_read(e, k, epoch, p.theta));
            for (int64_t i = 0; i < p.n; i++) {
                float want = value(k, epoch, i);
                ck_assert_int_eq(memcmp(&p.theta[i], &want, sizeof want), 0);
            }
        }
    rt_fails(rt_experts_read(e, EXPERTS, 0, p.theta), RT_ERR_ARG);
    rt_fails(rt_experts_read(e, 0, -1, p.theta), RT_ERR_ARG);
    rt_experts_close(e);
    drop(&p);
}
END_TEST

START_TEST(refuses_what_is_foreign)
{
    place p = make("", FINAL);
    rt_experts *e = NULL;
    rt_classes other;
    rt_model *wide;
    rt_model_desc d = net;
    rt_ok(rt_classes_make(other_names, 3, &other));
    refused(rt_experts_open(p.dir, EXPERTS, p.m, other.hash, "", LAST, false, &e), RT_ERR_FORMAT, "another class list");
    d.width = 8;
    rt_ok(rt_model_create(&d, &wide));
    refused(rt_experts_open(p.dir, EXPERTS, wide, p.classes.hash, "", LAST, false, &e), RT_ERR_FORMAT, "another network");
    refused(rt_experts_open(p.dir, EXPERTS, p.m, p.classes.hash, "abc", LAST, false, &e), RT_ERR_FORMAT, "another ZCA transform");
    refused(rt_experts_open(p.dir, EXPERTS, p.m, p.classes.hash, "", LAST + 1, false, &e), RT_ERR_FORMAT, "keeps snapshots 0 to 3");
    refused(rt_experts_open(p.dir, EXPERTS + 1, p.m, p.classes.hash, "", LAST, false, &e), RT_ERR_MISSING, "expert2");
    ck_assert_ptr_null(e);
    rt_model_destroy(wide);
    rt_classes_fini(&other);
    drop(&p);
    p = make("abc", -1);
    refused(open_all(&p, &e), RT_ERR_FORMAT, "another ZCA transform");
    refused(rt_experts_open(p.dir, EXPERTS, p.m, p.classes.hash, "abc", LAST, true, &e), RT_ERR_FORMAT, "the final one");
    ck_assert_ptr_null(e);
    rt_ok(rt_experts_open(p.dir, EXPERTS, p.m, p.classes.hash, "abc", LAST, false, &e));
    ck_assert_int_eq(rt_experts_final(e, 0), -1);
    rt_experts_close(e);
    drop(&p);
}
END_TEST

START_TEST(refuses_what_is_damaged)
{
    place p = make("", FINAL);
    rt_experts *e;
    char path[PATH_MAX];
    file_of(&p, 1, 2, path);
    int64_t size = rt_fs_size(path);
    rt_ok(open_all(&p, &e));
    /* one bit, size unchanged: opening cannot see it, reading does */
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, -5, SEEK_END), 0);
    int byte = fgetc(f);
    ck_assert_int_eq(fseek(f, -5, SEEK_END), 0);
    ck_assert_int_eq(fputc(byte ^ 1, f), byte ^ 1);
    ck_assert_int_eq(fclose(f), 0);
    refused(rt_experts_read(e, 1, 2, p.theta), RT_ERR_FORMAT, "checksum");
    rt_ok(rt_experts_read(e, 1, 1, p.theta)); /* its neighbours are as good as before */
    rt_ok(rt_experts_read(e, 0, 2, p.theta));
    ck_assert_int_eq(truncate(path, size / 2), 0);
    refused(rt_experts_read(e, 1, 2, p.theta), RT_ERR_FORMAT, "theta-0002");
    rt_experts_close(e);
    refused(open_all(&p, &e), RT_ERR_FORMAT, "theta-0002"); /* the size shows at once */
    ck_assert_int_eq(unlink(path), 0);
    refused(open_all(&p, &e), RT_ERR_FORMAT, "theta-0002");
    drop(&p);
    p = make("", FINAL);
    rt_ok(open_all(&p, &e));
    file_of(&p, 0, 0, path);
    ck_assert_int_eq(unlink(path), 0);
    refused(rt_experts_read(e, 0, 0, p.theta), RT_ERR_MISSING, "theta-0000");
    rt_experts_close(e);
    snprintf(path, sizeof path, "%s/expert0/manifest.json", p.dir);
    ck_assert_int_eq(truncate(path, 100), 0);
    refused(open_all(&p, &e), RT_ERR_FORMAT, "manifest.json");
    drop(&p);
}
END_TEST

START_TEST(refuses_weights_that_are_not_finite)
{
    place p = make("", FINAL);
    rt_experts *e;
    char path[PATH_MAX], file[PATH_MAX], name[RT_EXPERT_NAME], arch[RT_EXPERT_ARCH];
    rt_commit *c;
    snprintf(path, sizeof path, "%s/expert0", p.dir);
    rt_ok(rt_commit_begin(path, &c));
    for (int64_t epoch = 0; epoch <= LAST; epoch++) {
        for (int64_t i = 0; i < p.n; i++) p.theta[i] = epoch == 1 && i == p.n - 1 ? NAN : 0.5f;
        rt_expert_file(epoch, name);
        rt_ok(rt_fs_join(file, sizeof file, rt_commit_dir(c), name));
        int64_t n = epoch == 2 ? p.n - 1 : p.n;
        rt_ok(rt_st_write(file, &(rt_st_tensor){"theta", RT_ST_F32, 1, {n}, p.theta, (uint64_t)n * 4}, 1, NULL, 0));
    }
    rt_expert_arch(p.m, arch);
    json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i}", "kind", "expert", "arch", arch, "classes_hash", p.classes.hash, "zca", "",
                          "last", LAST, "final", -1);
    rt_ok(rt_commit_finish(c, m));
    json_decref(m);
    rt_ok(rt_experts_open(p.dir, 1, p.m, p.classes.hash, "", LAST, false, &e));
    refused(rt_experts_read(e, 0, 1, p.theta), RT_ERR_FORMAT, "not finite");
    refused(rt_experts_read(e, 0, 2, p.theta), RT_ERR_FORMAT, "weights expected");
    rt_experts_close(e);
    drop(&p);
}
END_TEST

static const rt_test tests[] = {
    {"reads what was committed", reads_what_was_committed},
    {"refuses what is foreign", refuses_what_is_foreign},
    {"refuses what is damaged", refuses_what_is_damaged},
    {"refuses weights that are not finite", refuses_weights_that_are_not_finite},
};
RT_SUITE("teacher.experts", tests)
