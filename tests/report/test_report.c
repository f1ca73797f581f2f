/* The results store, its exports, the summary with exact figures, the table and the image grid. */
#include "support/suite.h"

#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

static char dir[32];
static char db[64];

static void fresh(void)
{
    strcpy(dir, "/tmp/rt-report-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(db, sizeof db, "%s/results.db", dir);
}
static void gone(void)
{
    rt_ok(rt_fs_remove_tree(dir));
}

static void put_set(rt_results *r, const char *method, int64_t ipc, int64_t seed, bool synthetic)
{
    char id[64];
    snprintf(id, sizeof id, "%s-ipc%lld-s%lld", method, (long long)ipc, (long long)seed);
    rt_row_set row = {.id = id,
                      .method = method,
                      .title = "t",
                      .family = "f",
                      .ipc = ipc,
                      .seed = seed,
                      .n = 10 * ipc,
                      .image_bytes = 1000 * (1 + seed),
                      .label_bytes = 10,
                      .path = "sets/x",
                      .synthetic = synthetic,
                      .uses_teacher = !synthetic && strcmp(method, "random") != 0};
    rt_ok(rt_results_put_set(r, &row));
}
static void put_eval(rt_results *r, const char *set, int64_t network, double accuracy)
{
    rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = set,
                                                .protocol = "p1_classic",
                                                .student = "convnet",
                                                .network = network,
                                                .accuracy = accuracy,
                                                .n_test = 100}));
}

static rt_results *small_run(void)
{
    rt_results *r = NULL;
    rt_ok(rt_results_open(db, &r));
    put_set(r, "random", 1, 0, false);
    put_set(r, "random", 1, 1, false);
    put_set(r, "herding", 1, 0, false);
    put_set(r, "dm", 1, 0, true);
    put_eval(r, "random-ipc1-s0", 0, 0.2);
    put_eval(r, "random-ipc1-s0", 1, 0.3);
    put_eval(r, "random-ipc1-s1", 0, 0.4);
    put_eval(r, "herding-ipc1-s0", 0, 0.35);
    put_eval(r, "dm-ipc1-s0", 0, 0.5);
    put_eval(r, "dm-ipc1-s0", 1, 0.6);
    put_eval(r, RT_FULL_SET, 0, 0.9);
    for (int k = 0; k < 2; k++) /* teachers: all images under their own recipe */
        rt_ok(rt_results_put_eval(
            r, &(rt_row_eval){
                   .set = RT_FULL_SET, .protocol = "teach", .student = "convnet", .network = k, .accuracy = 0.8}));
    rt_ok(
        rt_results_put_cost(r, &(rt_row_cost){"build",
                                              "random-ipc1-s0",
                                              "random",
                                              {.wall_s = 1, .peak_host_bytes = 5e6, .energy_j = NAN, .segments = 1}}));
    rt_ok(
        rt_results_put_cost(r, &(rt_row_cost){"build",
                                              "random-ipc1-s1",
                                              "random",
                                              {.wall_s = 3, .peak_host_bytes = 7e6, .energy_j = NAN, .segments = 1}}));
    rt_ok(rt_results_put_cost(r, &(rt_row_cost){"build",
                                                "dm-ipc1-s0",
                                                "dm",
                                                {.wall_s = 75,
                                                 .flops = 4e13,
                                                 .images_seen = 1e6,
                                                 .peak_host_bytes = 9e8,
                                                 .energy_j = NAN,
                                                 .segments = 2}}));
    rt_ok(
        rt_results_put_cost(r, &(rt_row_cost){"teach", "net0", NULL, {.wall_s = 40, .energy_j = NAN, .segments = 1}}));
    rt_ok(
        rt_results_put_cost(r, &(rt_row_cost){"teach", "net1", NULL, {.wall_s = 60, .energy_j = NAN, .segments = 1}}));
    return r;
}

START_TEST(rows_are_replaced_by_key)
{
    fresh();
    rt_results *r = NULL;
    d_data d = {0};
    rt_ok(rt_results_open(db, &r));
    for (int i = 0; i < 2; i++) {
        put_set(r, "dm", 10, 0, true);
        put_eval(r, "dm-ipc10-s0", 0, 0.1 + i);
    }
    rt_ok(rt_results_put_metric(r, &(rt_row_metric){"dm-ipc10-s0", "coverage", 5, -1, 0.25, NAN}));
    rt_ok(rt_results_put_metric(r, &(rt_row_metric){"dm-ipc10-s0", "coverage", 5, -1, 0.5, NAN}));
    rt_ok(rt_results_put_metric(r, &(rt_row_metric){"dm-ipc10-s0", "coverage", 3, -1, 0.75, 0.125}));
    rt_results_close(r);
    rt_ok(rt_results_open(db, &r)); /* what was written is there for another process */
    rt_ok(d_load(r, &d));
    ck_assert_int_eq(d.n_set, 1);
    ck_assert_int_eq(d.n_eval, 1);
    ck_assert(d.eval[0].accuracy == 1.1);
    ck_assert_int_eq(d.n_metric, 2);
    double expected = 0;
    rt_assert_near(d_metric_mean(&d, "dm", 10, "coverage", 5, -1, &expected), 0.5, 0, 0);
    ck_assert(isnan(expected)); /* NaN came back as "not measured" */
    rt_assert_near(d_metric_mean(&d, "dm", 10, "coverage", 3, -1, &expected), 0.75, 0, 0);
    rt_assert_near(expected, 0.125, 0, 0);
    ck_assert(isnan(d_metric_mean(&d, "dm", 10, "recall", 3, -1, NULL)));
    d_fini(&d);
    rt_results_close(r);
    rt_results_close(NULL);
    gone();
}
END_TEST

START_TEST(transactions_and_two_handles)
{
    fresh();
    rt_results *a = NULL, *b = NULL;
    d_data d = {0};
    rt_ok(rt_results_open(db, &a));
    rt_ok(rt_results_open(db, &b));
    rt_ok(rt_results_begin(a));
    put_set(a, "dm", 1, 0, true);
    rt_ok(d_load(b, &d)); /* a reader is not blocked, and sees nothing half written */
    ck_assert_int_eq(d.n_set, 0);
    d_fini(&d);
    rt_ok(rt_results_commit(a));
    rt_ok(d_load(b, &d));
    ck_assert_int_eq(d.n_set, 1);
    d_fini(&d);
    rt_results_close(a);
    rt_results_close(b);
    gone();
}
END_TEST

static void write_text(const char *path, const char *text)
{
    rt_ok(rt_fs_write_atomic(path, text, strlen(text)));
}

START_TEST(foreign_files_are_refused)
{
    fresh();
    rt_results *r = NULL;
    sqlite3 *other = NULL;
    char path[96];
    snprintf(path, sizeof path, "%s/text.db", dir);
    write_text(
        path,
        "this is a text that is long enough to be mistaken for a header of a database file, but is not one at all.");
    rt_fails(rt_results_open(path, &r), RT_ERR_FORMAT);
    snprintf(path, sizeof path, "%s/other.db", dir);
    ck_assert_int_eq(sqlite3_open(path, &other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(other, "CREATE TABLE sets(a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    rt_fails(rt_results_open(path, &r), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "another program"));
    rt_ok(rt_results_open(db, &r));
    rt_results_close(r);
    ck_assert_int_eq(sqlite3_open(db, &other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(other, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    r = NULL;
    rt_fails(rt_results_open(db, &r), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "format 99"));
    ck_assert_ptr_null(r);
    rt_fails(rt_results_open("/nonexistent/results.db", &r), RT_ERR_IO);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "/nonexistent/results.db"));
    gone();
}
END_TEST

START_TEST(a_row_without_its_key_is_refused)
{
    fresh();
    rt_results *r = NULL;
    rt_ok(rt_results_open(db, &r));
    rt_fails(rt_results_put_set(r, &(rt_row_set){.id = NULL, .method = "dm"}), RT_ERR_ARG);
    put_set(r, "dm", 1, 0, true); /* the handle still works */
    rt_results_close(r);
    gone();
}
END_TEST

START_TEST(exports_are_exact)
{
    fresh();
    rt_results *r = NULL;
    char path[128], *text = NULL;
    size_t n;
    rt_ok(rt_results_open(db, &r));
    rt_ok(rt_results_put_metric(r, &(rt_row_metric){"a,\"b\"\nc", "vendi", 0, -1, 0.1, NAN}));
    rt_ok(rt_results_put_metric(r, &(rt_row_metric){"a", "vendi", 0, -1, 2, 0.5}));
    rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = "s",
                                                .protocol = "p",
                                                .student = "c",
                                                .accuracy = 0.5,
                                                .per_class = (double[]){0.25, 1},
                                                .n_classes = 2}));
    rt_ok(rt_results_export(r, dir));
    snprintf(path, sizeof path, "%s/metrics.csv", dir);
    rt_ok(rt_fs_read(path, 4096, (void **)&text, &n));
    ck_assert_str_eq(text, "set_id,name,k,class,value,random_expectation\r\n"
                           "a,vendi,0,-1,2,0.5\r\n"
                           "\"a,\"\"b\"\"\nc\",vendi,0,-1,0.10000000000000001,\r\n");
    rt_free(text);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    rt_ok(rt_fs_read(path, 4096, (void **)&text, &n));
    ck_assert_str_eq(
        text, "{\"set_id\":\"a\",\"name\":\"vendi\",\"k\":0,\"class\":-1,\"value\":2.0,\"random_expectation\":0.5}\n"
              "{\"set_id\":\"a,\\\"b\\\"\\nc\",\"name\":\"vendi\",\"k\":0,\"class\":-1,\"value\":0.10000000000000001,"
              "\"random_expectation\":null}\n");
    rt_free(text);
    snprintf(path, sizeof path, "%s/evals.jsonl", dir);
    rt_ok(rt_fs_read(path, 4096, (void **)&text, &n));
    ck_assert_ptr_nonnull(strstr(text, "\"per_class\":[0.25,1.0]"));
    rt_free(text);
    snprintf(path, sizeof path, "%s/sets.jsonl", dir); /* an empty table is an empty file */
    ck_assert_int_eq(rt_fs_size(path), 0);
    rt_results_close(r);
    gone();
}
END_TEST

START_TEST(summary_is_exact)
{
    fresh();
    rt_results *r = small_run();
    d_data d = {0};
    rt_ok(d_load(r, &d));
    ck_assert_int_eq(d.n_row, 5);
    const d_summary *random = &d.row[0], *herding = &d.row[1], *dm = &d.row[2], *full = &d.row[3];
    ck_assert_str_eq(random->method, "random"); /* random, coresets, synthetic, all images */
    ck_assert_str_eq(herding->method, "herding");
    ck_assert_str_eq(dm->method, "dm");
    ck_assert(full->full);
    ck_assert_int_eq(random->n, 3);
    ck_assert_int_eq(random->n_sets, 2);
    rt_assert_near(random->mean, 0.3, 1e-15, 0);
    rt_assert_near(random->sd, 0.1, 1e-15, 0); /* sample sd of .2 .3 .4 */
    rt_assert_near(random->image_bytes, 1500, 0, 0);
    rt_assert_near(random->build_s, 2, 0, 0);
    rt_assert_near(random->build_peak, 7e6, 0, 0);
    rt_assert_near(random->teacher_s, 0, 0, 0);
    ck_assert(isnan(random->gap));
    ck_assert(isnan(herding->sd)); /* one network has no sd */
    rt_assert_near(herding->gap, 0.05, 1e-15, 0);
    rt_assert_near(herding->teacher_s, 100, 0, 0); /* both teachers */
    ck_assert(isnan(herding->build_s));
    rt_assert_near(dm->mean, 0.55, 1e-15, 0);
    rt_assert_near(dm->sd, 0.070710678118654752, 1e-15, 0);
    rt_assert_near(dm->gap, 0.25, 1e-15, 0);
    rt_assert_near(dm->gap_se, sqrt(0.005 / 2 + 0.01 / 3), 1e-15, 0);
    rt_assert_near(full->mean, 0.9, 0, 0);
    ck_assert(isnan(full->gap) && isnan(full->build_s));
    d_fini(&d);
    rt_results_close(r);
    gone();
}
END_TEST

START_TEST(table_is_exact)
{
    fresh();
    rt_results *r = small_run();
    char *text = NULL;
    rt_ok(rt_report_table(r, RT_TABLE_TERMINAL, &text));
    static const char want[] =
        "p1_classic, student convnet\n\n"
        "method      IPC   images  labels        top-1 %  n  vs random  build  + teacher   GFLOP  peak mem\n"
        "random        1  1.50 KB    10 B  30.00 ± 10.00  3          –  2.0 s          –       0      7 MB\n"
        "herding       1     1 KB    10 B          35.00  1      +5.00      –      100 s       –         –\n"
        "dm            1     1 KB    10 B   55.00 ± 7.07  2     +25.00   75 s          –  40,000    900 MB\n"
        "\n"
        "all images    –        –       –          90.00  1          –      –          –       –         –\n";
    ck_assert_msg(!strncmp(text, want, strlen(want)), "got:\n%s\nwant:\n%s", text, want);
    rt_free(text);
    rt_ok(rt_report_table(r, RT_TABLE_MARKDOWN, &text));
    ck_assert_ptr_nonnull(strstr(text, "\nteach, convnet, on all images: 80.00 ± 0.00 % (n = 2)\n"));
    ck_assert_ptr_nonnull(strstr(text, "**p1_classic, student convnet**\n\n| method     | IPC |"));
    ck_assert_ptr_nonnull(strstr(text, "\n| --- | ---: |"));
    rt_free(text);
    rt_results_close(r);
    unlink(db);
    rt_ok(rt_results_open(db, &r));
    rt_ok(rt_report_table(r, RT_TABLE_TERMINAL, &text));
    ck_assert_str_eq(text, "no results yet\n");
    rt_free(text);
    rt_results_close(r);
    gone();
}
END_TEST

/* A second protocol: one look over both stands before their tables, with a dash where a set was not judged. */
START_TEST(protocols_stand_side_by_side)
{
    fresh();
    rt_results *r = small_run();
    char *text = NULL;
    for (int k = 0; k < 2; k++)
        rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = "random-ipc1-s0", .protocol = "p2", .student = "convnet", .network = k,
                                                    .accuracy = 0.25, .n_test = 100}));
    rt_ok(rt_report_table(r, RT_TABLE_TERMINAL, &text));
    const char *look = strstr(text, "top-1 % by protocol, student convnet, IPC 1");
    ck_assert_ptr_eq(look, text);
    const char *line = strstr(look, "\nrandom");
    ck_assert_msg(line && !strncmp(line + 1, "random        30.00 +- 10.00   25.00 +- 0.00", 44), "%s", line);
    line = strstr(look, "\ndm");
    ck_assert_msg(line && !strncmp(line + 1, "dm             55.00 +- 7.07               -", 44), "%s", line);
    rt_free(text);
    rt_ok(rt_report_table(r, RT_TABLE_MARKDOWN, &text));
    ck_assert_ptr_nonnull(strstr(text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"));
    rt_free(text);
    rt_results_close(r);
    gone();
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    fresh();
    rt_results *r = small_run();
    int failures = 0;
    for (uint64_t n = 1; n < 2000; n++) {
        char *text = NULL;
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_report_table(r, RT_TABLE_TERMINAL, &text);
        if (st == RT_OK) st = rt_results_export(r, dir);
        rt_alloc_fail_at(0, 0);
        rt_free(text);
        if (st == RT_OK) break;
        ck_assert_msg(st == RT_ERR_NOMEM, "allocation %d: %s: %s", (int)n, rt_status_name(st), rt_error_what());
        failures++;
    }
    ck_assert_int_gt(failures, 50);
    ck_assert_int_lt(failures, 1900);
    rt_results_close(r);
    gone();
}
END_TEST

START_TEST(figures_for_people)
{
    char b[T_FIG];
    ck_assert_str_eq(t_seconds(0.034, b), "0.03 s");
    ck_assert_str_eq(t_seconds(9.96, b), "10 s");
    ck_assert_str_eq(t_seconds(185, b), "3 min 05 s");
    ck_assert_str_eq(t_seconds(7260, b), "2 h 01 min");
    ck_assert_str_eq(t_seconds(NAN, b), "–");
    ck_assert_str_eq(t_bytes(0, b), "0 B");
    ck_assert_str_eq(t_bytes(999.6, b), "1.00 KB");
    ck_assert_str_eq(t_bytes(310400, b), "310 KB");
    ck_assert_str_eq(t_bytes(1.505e9, b), "1.50 GB");
    ck_assert_str_eq(t_bytes(-1, b), "–");
    ck_assert_str_eq(t_count(1281167, b), "1,281,167");
    ck_assert_str_eq(t_count(999, b), "999");
    ck_assert_str_eq(t_gflop(4e13, b), "40,000");
    ck_assert_str_eq(t_gflop(3.1e8, b), "0.31");
    text t = {0};
    t_base64(&t, "Man", 3);
    t_base64(&t, "Ma", 2);
    t_base64(&t, "M", 1);
    ck_assert_str_eq(t.s, "TWFuTWE=TQ==");
    t_free(&t);
    t_html(&t, "<a href='x'>\"&\"</a>\x01");
    ck_assert_str_eq(t.s, "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
    t_free(&t);
}
END_TEST

/* --- grids ---------------------------------------------------------------------------------------------------------
 */
/* n_classes x 2 images of 2 x 2 pixels; image i of class c is a flat (10 c + i, 0, 255). */
static rt_set flat_set(int32_t n_classes)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    rt_set s = {.n = 2 * n_classes, .h = 2, .w = 2, .ipc = 2, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    rt_ok(rt_classes_make(names, n_classes, &s.classes));
    s.px = rt_calloc((size_t)s.n * 12 * sizeof *s.px);
    s.label = rt_calloc((size_t)s.n * sizeof *s.label);
    for (int64_t i = 0; i < s.n; i++) {
        s.label[i] = (int32_t)(i / 2);
        for (int p = 0; p < 4; p++) {
            const double rgb[3] = {10.0 * (double)(i / 2) + (double)(i % 2), -50, 999}; /* beyond the range: clipped */
            for (int c = 0; c < 3; c++) s.px[i * 12 + p * 3 + c] = (float)((rgb[c] / 255 - 0.5) / 0.25);
        }
    }
    return s;
}

START_TEST(grid_puts_every_pixel_in_place)
{
    rt_set s = flat_set(5);
    void *png = NULL;
    size_t n = 0;
    rt_image im = {0};
    rt_ok(rt_grid_png(&s, &(rt_grid_opts){.max_classes = 3, .zoom = 3, .gap = 2}, &png, &n));
    rt_ok(rt_decode(png, n, "grid", &im, NULL));
    ck_assert_int_eq(im.w, 2 * (6 + 2) + 2);
    ck_assert_int_eq(im.h, 3 * (6 + 2) + 2);
    static const int shown[] = {0, 2, 4}; /* evenly spread, first and last included */
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 2; c++)
            for (int y = 0; y < 6; y++)
                for (int x = 0; x < 6; x++) {
                    const uint8_t *p = im.px + ((2 + r * 8 + y) * im.w + 2 + c * 8 + x) * 3;
                    ck_assert_int_eq(p[0], 10 * shown[r] + c);
                    ck_assert_int_eq(p[1], 0);
                    ck_assert_int_eq(p[2], 255);
                }
    ck_assert_int_eq(im.px[0], im.px[1]); /* the gap is grey */
    rt_image_fini(&im);
    rt_free(png);
    rt_set_fini(&s);
}
END_TEST

START_TEST(grid_stretches_by_sd)
{
    rt_set s = flat_set(1);
    for (int64_t i = 0; i < s.n * 12; i++) s.px[i] = i % 2 ? 7.0f : 5.0f; /* mean 6, sd 1 */
    s.px[0] = 5.0f;
    void *png = NULL;
    size_t n = 0;
    rt_image im = {0};
    rt_ok(rt_grid_png(&s, &(rt_grid_opts){.scale = RT_GRID_SD}, &png, &n));
    rt_ok(rt_decode(png, n, "grid", &im, NULL));
    for (int i = 0; i < im.w * im.h * 3; i++)
        ck_assert_int_eq(im.px[i], i % 2 ? 179 : 77); /* 127.5 +- 255 / 5, rounded up */
    rt_image_fini(&im);
    rt_free(png);
    rt_set_fini(&s);
}
END_TEST

START_TEST(grid_refuses_what_it_cannot_draw)
{
    rt_set s = flat_set(2);
    void *png = NULL;
    size_t n = 0;
    s.label[3] = 2;
    rt_fails(rt_grid_png(&s, &(rt_grid_opts){0}, &png, &n), RT_ERR_FORMAT);
    s.label[3] = -1;
    rt_fails(rt_grid_png(&s, &(rt_grid_opts){0}, &png, &n), RT_ERR_FORMAT);
    s.label[3] = 1;
    rt_fails(rt_grid_png(&s, &(rt_grid_opts){.zoom = 8192}, &png, &n), RT_ERR_FORMAT);
    for (uint64_t k = 1; k < 3; k++) {
        rt_alloc_fail_at(k, 0);
        rt_fails(rt_grid_png(&s, &(rt_grid_opts){0}, &png, &n), RT_ERR_NOMEM);
        rt_alloc_fail_at(0, 0);
    }
    ck_assert_ptr_null(png);
    rt_set empty = {.classes = s.classes};
    rt_fails(rt_grid_png(&empty, &(rt_grid_opts){0}, &png, &n), RT_ERR_FORMAT);
    rt_set_fini(&s);
}
END_TEST

/* A file of version 1 is brought up to date in place: its rows stay, new columns say "not known". */
START_TEST(an_older_file_is_brought_up_to_date)
{
    static const char v1[] =
        "CREATE TABLE runs(id INTEGER, name TEXT, config TEXT, command TEXT, device TEXT, version TEXT, dataset TEXT, classes TEXT,"
        " n_train INTEGER, n_test INTEGER, size INTEGER, PRIMARY KEY(id));"
        "CREATE TABLE sets(id TEXT NOT NULL, method TEXT NOT NULL, title TEXT, family TEXT, ipc INTEGER NOT NULL, seed INTEGER,"
        " n INTEGER, image_bytes INTEGER, label_bytes INTEGER, path TEXT, synthetic INTEGER, uses_teacher INTEGER, PRIMARY KEY(id));"
        "CREATE TABLE evals(set_id TEXT NOT NULL, protocol TEXT NOT NULL, student TEXT NOT NULL, network INTEGER NOT NULL,"
        " accuracy REAL, n_correct INTEGER, n_test INTEGER, first_loss REAL, last_loss REAL, images_seen REAL, flops REAL,"
        " wall_s REAL, per_class TEXT, PRIMARY KEY(set_id, protocol, student, network));"
        "CREATE TABLE metrics(set_id TEXT NOT NULL, name TEXT NOT NULL, k INTEGER NOT NULL, class INTEGER NOT NULL, value REAL,"
        " random_expectation REAL, PRIMARY KEY(set_id, name, k, class));"
        "CREATE TABLE costs(stage TEXT NOT NULL, item TEXT NOT NULL, method TEXT, wall_s REAL, cpu_s REAL, device_s REAL,"
        " flops REAL, images_decoded REAL, images_seen REAL, peak_host_bytes REAL, peak_device_bytes REAL, energy_j REAL,"
        " image_bytes REAL, label_bytes REAL, segments INTEGER, PRIMARY KEY(stage, item));"
        "INSERT INTO sets VALUES('dm-ipc1-s0','dm','t','f',1,0,10,1,1,'sets/x',1,0);"
        "INSERT INTO evals VALUES('dm-ipc1-s0','p1_classic','convnet',0,0.5,5,10,1,1,1,1,1,NULL);"
        "PRAGMA application_id=1381257042; PRAGMA user_version=1";
    sqlite3 *raw = NULL;
    rt_results *r = NULL;
    d_data d = {0};
    fresh();
    ck_assert_int_eq(sqlite3_open(db, &raw), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(raw, v1, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
    rt_ok(rt_results_open(db, &r));
    put_set(r, "dm", 10, 0, true);
    rt_ok(d_load(r, &d));
    ck_assert_int_eq(d.n_set, 2);
    ck_assert(d.n_eval == 1 && d.eval[0].accuracy == 0.5 && isnan(d.eval[0].best));
    ck_assert(d.set[0].iteration == 0 && !d.set[0].notes[0] && isnan(d.set[0].step_size));
    d_fini(&d);
    rt_results_close(r);
    gone();
}
END_TEST

/* Snapshots are no constructions of their own: no table and no mean may count them. */
START_TEST(snapshots_stand_apart)
{
    fresh();
    rt_results *r = small_run();
    d_data before = {0}, after = {0};
    rt_ok(d_load(r, &before));
    rt_ok(rt_results_put_set(r, &(rt_row_set){.id = "dm-ipc1-s0-it100", .method = "dm", .ipc = 1, .n = 10, .image_bytes = 1,
                                              .path = "sets/x", .synthetic = true, .iteration = 100, .step_size = NAN}));
    put_eval(r, "dm-ipc1-s0-it100", 0, 0.01);
    rt_ok(d_load(r, &after));
    ck_assert_int_eq(after.n_set, before.n_set);
    ck_assert_int_eq(after.n_snapshot, 1);
    ck_assert_int_eq(after.snapshot[0].iteration, 100);
    ck_assert_int_eq(after.n_row, before.n_row);
    for (int i = 0; i < after.n_row; i++) {
        ck_assert(after.row[i].mean == before.row[i].mean && after.row[i].n == before.row[i].n);
        ck_assert(after.row[i].n_sets == before.row[i].n_sets && isnan(after.row[i].best));
    }
    d_fini(&before);
    d_fini(&after);
    rt_results_close(r);
    gone();
}
END_TEST

/* The best over checks: a mean of its own, only where every network was checked, and a column only then. */
START_TEST(best_over_checks_is_a_column_of_its_own)
{
    fresh();
    rt_results *r = small_run();
    d_data d = {0};
    char *text = NULL;
    rt_ok(rt_report_table(r, RT_TABLE_TERMINAL, &text));
    ck_assert_ptr_null(strstr(text, "best"));
    rt_free(text);
    for (int k = 0; k < 2; k++)
        rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = "dm-ipc1-s0", .protocol = "p1_classic", .student = "convnet",
                                                    .network = k, .accuracy = 0.5 + 0.1 * k, .best = 0.7 + 0.1 * k,
                                                    .best_epoch = 100}));
    rt_ok(d_load(r, &d));
    for (int i = 0; i < d.n_row; i++) {
        if (strcmp(d.row[i].method, "dm")) ck_assert(isnan(d.row[i].best));
        else rt_assert_near(d.row[i].best, 0.75, 1e-12, 0);
    }
    rt_ok(rt_report_table(r, RT_TABLE_TERMINAL, &text));
    ck_assert_ptr_nonnull(strstr(text, "best %"));
    ck_assert_ptr_nonnull(strstr(text, "75.00"));
    ck_assert_ptr_nonnull(strstr(text, "55.00")); /* the headline stays the last epoch's */
    rt_free(text);
    d_fini(&d);
    rt_results_close(r);
    gone();
}
END_TEST

static const rt_test tests[] = {
    {"rows are replaced by key", rows_are_replaced_by_key},
    {"transactions and two handles", transactions_and_two_handles},
    {"foreign files are refused", foreign_files_are_refused},
    {"a row without its key is refused", a_row_without_its_key_is_refused},
    {"exports are exact", exports_are_exact},
    {"summary is exact", summary_is_exact},
    {"table is exact", table_is_exact},
    {"protocols stand side by side", protocols_stand_side_by_side},
    {"every allocation may fail", every_allocation_may_fail},
    {"figures for people", figures_for_people},
    {"grid puts every pixel in place", grid_puts_every_pixel_in_place},
    {"grid stretches by sd", grid_stretches_by_sd},
    {"grid refuses what it cannot draw", grid_refuses_what_it_cannot_draw},
    {"an older file is brought up to date", an_older_file_is_brought_up_to_date},
    {"snapshots stand apart", snapshots_stand_apart},
    {"best over checks is a column of its own", best_over_checks_is_a_column_of_its_own},
};
RT_SUITE("report", tests)
