/* The page: complete, self-contained, escaped, honest about what is missing. Plots need gnuplot; without it the suite
 * checks the page that says so. */
#include "support/suite.h"

#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "report/internal.h"

static char dir[32];

static void fresh(void)
{
    strcpy(dir, "/tmp/rt-page-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

/* A run whose every string is hostile to HTML and to gnuplot. */
#define NASTY "<script>x</script>'\"`$(touch %s/owned)&"

static void make_run(const char *method, const char *label)
{
    rt_results *r = NULL;
    char path[PATH_MAX];
    rt_classes classes;
    const char *const names[] = {label, "plain"};
    rt_ok(rt_classes_make(names, 2, &classes));
    snprintf(path, sizeof path, "%s/results.db", dir);
    rt_ok(rt_results_open(path, &r));
    rt_ok(rt_results_put_run(r, &(rt_row_run){.name = method,
                                              .config = "version: 1\nname: \"<b>\"\n\nteach:\n  lr: 0.5\n  x: \"\"\n",
                                              .command = "retort bench <x>",
                                              .device = label,
                                              .version = "1<2",
                                              .dataset = "2 < 3",
                                              .classes = &classes,
                                              .n_train = 1000,
                                              .n_test = 100,
                                              .size = 2}));
    rt_set s = {.n = 2, .h = 2, .w = 2, .ipc = 1, .norm = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}, .method = "dm"};
    rt_ok(rt_classes_make(names + 1, 1, &s.classes));
    rt_classes_fini(&s.classes);
    const char *const folder_names[] = {"one", "plain"};
    rt_ok(rt_classes_make(folder_names, 2, &s.classes));
    s.px = rt_calloc(24 * sizeof *s.px);
    s.label = rt_calloc(2 * sizeof *s.label);
    s.label[1] = 1;
    s.trace = rt_strdup("iteration,loss,step_size,skipped\n0,3,0,0\n1,nan,0,1\n2,1.5,0,0\n3,junk\n");
    rt_commit *c = NULL;
    int64_t image_bytes, label_bytes;
    snprintf(path, sizeof path, "%s/sets", dir);
    rt_ok(rt_fs_mkdirs(path));
    snprintf(path, sizeof path, "%s/sets/good", dir);
    rt_ok(rt_commit_begin(path, &c));
    rt_ok(rt_set_write(&s, c, &image_bytes, &label_bytes));
    json_t *manifest = json_pack("{s:s}", "kind", "set");
    rt_ok(rt_commit_finish(c, manifest));
    json_decref(manifest);
    rt_set_fini(&s);
    for (int it = 10; it <= 20; it += 10) { /* snapshots: points of a curve, no rows of a table */
        rt_ok(rt_results_put_set(r, &(rt_row_set){.id = it == 10 ? "a" : "b", .method = method, .title = method, .family = "f",
                                                  .ipc = 1, .n = 2, .path = "sets/absent", .synthetic = true, .iteration = it}));
        rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = it == 10 ? "a" : "b", .protocol = "p1_plain", .student = "mlp",
                                                    .accuracy = 0.01 * it, .n_test = 100}));
    }
    static const char *const id[] = {"good", "lost", "base"};
    for (int i = 0; i < 3; i++) {
        rt_ok(rt_results_put_set(r, &(rt_row_set){.id = id[i],
                                                  .method = i < 2 ? method : "random",
                                                  .title = method,
                                                  .family = "f",
                                                  .ipc = 1,
                                                  .seed = i,
                                                  .n = 2,
                                                  .image_bytes = 100,
                                                  .label_bytes = 2,
                                                  .synthetic = i < 2,
                                                  .space = i ? NULL : "unit",
                                                  .soft_labels = "logits",
                                                  .factor = 2,
                                                  .step_size = i ? NAN : 0.0625,
                                                  .notes = i ? "broken {" : "{\"iterations\": 30, \"skipped\": 4, \"deviations\": [\"<b>bold</b> step\"]}",
                                                  .path = i ? "sets/absent" : "sets/good"}));
        double per_class[2] = {0.25 + 0.01 * i, 0.75};
        rt_ok(rt_results_put_eval(r, &(rt_row_eval){.set = id[i],
                                                    .protocol = "p1_plain",
                                                    .student = "mlp",
                                                    .accuracy = 0.5 + 0.01 * i,
                                                    .n_test = 100,
                                                    .per_class = per_class,
                                                    .n_classes = 2}));
        rt_ok(rt_results_put_cost(
            r, &(rt_row_cost){
                   "build", id[i], i < 2 ? method : "random", {.wall_s = 2 + i, .energy_j = NAN, .segments = 1}}));
        for (int k = -1; k < 2; k++)
            rt_ok(rt_results_put_metric(r, &(rt_row_metric){id[i], "coverage", 5, k, 0.5, 0.25}));
        for (int k = 0; k < 40; k++) { /* more figures than fit beside each other */
            char name[16];
            snprintf(name, sizeof name, "figure%d", k);
            rt_ok(rt_results_put_metric(r, &(rt_row_metric){id[i], name, 0, -1, k, NAN}));
        }
    }
    rt_results_close(r);
    rt_classes_fini(&classes);
}

static char *read_page(void)
{
    char path[PATH_MAX], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/report/index.html", dir);
    rt_ok(rt_fs_read(path, 8 << 20, (void **)&text, &n));
    return text;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}

static bool have_gnuplot(void)
{
    return system("gnuplot --version >/dev/null 2>&1") == 0;
}

START_TEST(page_is_whole_and_escaped)
{
    char nasty[128], owned[PATH_MAX], *page = NULL;
    fresh();
    snprintf(nasty, sizeof nasty, NASTY, dir);
    make_run(nasty, nasty);
    rt_status st = rt_report_html(dir, &page);
    if (have_gnuplot())
        rt_ok(st);
    else
        ck_assert_int_eq(st, RT_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(page);
    rt_free(page);
    char *text = read_page();
    ck_assert_int_eq(count(text, "<script"), 0);
    ck_assert_int_gt(count(text, "&lt;script&gt;"), 5);
    ck_assert_int_eq(count(text, "http://") + count(text, "https://"),
                     2 * (have_gnuplot() ? count(text, "<svg") : 0)); /* only SVG's name spaces */
    ck_assert_int_eq(count(text, "data:image/png;base64,"), 1);       /* one set is there ... */
    ck_assert_int_eq(count(text, "No images: "), 2);                  /* ... the lost ones are said */
    static const char *const parts[] = {"<h2>Results</h2>",
                                        "<h2>The images</h2>",
                                        "<h2>How they were made</h2>",
                                        "&lt;b&gt;bold&lt;/b&gt; step",
                                        "<td>30</td><td>4</td>",
                                        "<td>0.0625</td>",
                                        "<h2>What the sets cover</h2>",
                                        "figure0<",
                                        "figure39<",
                                        "<h2>Accuracy of each class</h2>",
                                        "<h2>What it cost</h2>",
                                        "<h2>Repeat it</h2>",
                                        "<h2>Every knob</h2>",
                                        "retort bench &lt;x&gt;",
                                        "<dt>lr</dt><dd>0.5</dd>",
                                        "<dt>x</dt><dd>–</dd>",
                                        "</main></body></html>"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(text, parts[i]), "the page lacks %s", parts[i]);
    if (have_gnuplot()) ck_assert_int_eq(count(text, "<svg"), 6); /* cost, IPC, coverage, waterfall, curve, trace */
    rt_free(text);
    snprintf(owned, sizeof owned, "%s/owned", dir);
    ck_assert_msg(!rt_fs_exists(owned), "a name from the database ran a command");
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(without_gnuplot_the_page_says_so)
{
    char *page = NULL;
    fresh();
    make_run("dm", "label");
    char *path = rt_strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    rt_fails(rt_report_html(dir, &page), RT_ERR_UNSUPPORTED);
    setenv("PATH", path, 1);
    rt_free(path);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "gnuplot is not installed"));
    ck_assert_ptr_nonnull(strstr(rt_error_remedy(), "gnuplot-nox"));
    ck_assert_ptr_nonnull(page);
    rt_free(page);
    char *text = read_page();
    ck_assert_ptr_nonnull(strstr(text, "The plots are missing: gnuplot is not installed"));
    ck_assert_ptr_nonnull(strstr(text, "<h2>Results</h2>"));
    ck_assert_int_eq(count(text, "<svg"), 0);
    rt_free(text);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(an_empty_run_has_a_page)
{
    char path[PATH_MAX];
    rt_results *r = NULL;
    fresh();
    rt_fails(rt_report_html(dir, NULL), RT_ERR_MISSING);
    snprintf(path, sizeof path, "%s/results.db", dir);
    rt_ok(rt_results_open(path, &r));
    rt_results_close(r);
    rt_ok(rt_report_html(dir, NULL));
    char *text = read_page();
    ck_assert_ptr_nonnull(strstr(text, "No results yet."));
    rt_free(text);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

START_TEST(the_same_results_give_the_same_bytes)
{
    fresh();
    make_run("dm", "label");
    (void)rt_report_html(dir, NULL);
    char *a = read_page();
    (void)rt_report_html(dir, NULL);
    char *b = read_page();
    ck_assert_str_eq(a, b);
    rt_free(a), rt_free(b);
    rt_ok(rt_fs_remove_tree(dir));
}
END_TEST

static const rt_test tests[] = {
    {"page is whole and escaped", page_is_whole_and_escaped},
    {"without gnuplot the page says so", without_gnuplot_the_page_says_so},
    {"an empty run has a page", an_empty_run_has_a_page},
    {"the same results give the same bytes", the_same_results_give_the_same_bytes},
};
RT_SUITE("report.page", tests)
