/* The demo set: layout, same bytes whatever the threads, and what it refuses. */
#include <limits.h>
#include <omp.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "data/data.h"
#include "data/demo.h"
#include "support/suite.h"

enum { SIZE = 24, PX = SIZE * SIZE * 3 };

static char root[] = "/tmp/retort-demo-XXXXXX";

static void scratch(void) { ck_assert_ptr_nonnull(mkdtemp(root)); }
static void path(char out[PATH_MAX], const char *name) { rt_ok(rt_fs_join(out, PATH_MAX, root, name)); }
static void clean(void) { rt_ok(rt_fs_remove_tree(root)); }

START_TEST(reads_back_as_an_image_folder)
{
    char dir[PATH_MAX], sub[PATH_MAX];
    scratch();
    path(dir, "set");
    rt_ok(rt_demo_generate(dir, 7, 3, 2, SIZE));
    for (int split = 0; split < 2; split++) {
        rt_dataset *d = NULL;
        rt_ok(rt_fs_join(sub, sizeof sub, dir, split ? "test" : "train"));
        rt_ok(rt_dataset_open(&(rt_data_source){.kind = "imagefolder", .path = sub}, &d));
        ck_assert_int_eq(rt_dataset_count(d), RT_DEMO_CLASSES * (split ? 2 : 3));
        const rt_classes *c = rt_dataset_classes(d);
        ck_assert_int_eq(c->n, RT_DEMO_CLASSES);
        for (int k = 0; k < c->n; k++) ck_assert_str_eq(c->name[k], rt_demo_class[k]);
        for (int64_t i = 0; i < rt_dataset_count(d); i++) { /* the stored picture is the drawn one, but for JPEG */
            void *bytes;
            size_t n;
            rt_image im;
            static uint8_t px[PX];
            rt_ok(rt_dataset_read(d, i, &bytes, &n));
            rt_ok(rt_decode(bytes, n, "demo", &im, NULL));
            ck_assert(im.h == SIZE && im.w == SIZE);
            int per = split ? 2 : 3;
            rt_demo_render(7, split ? RT_DEMO_TEST : RT_DEMO_TRAIN, (int)(i / per), (uint32_t)(i % per), SIZE, px);
            double gap = 0;
            for (int k = 0; k < PX; k++) gap += abs((int)im.px[k] - (int)px[k]);
            ck_assert_msg(gap / PX < 16, "picture %d: mean difference %.1f", (int)i, gap / PX);
            rt_image_fini(&im);
            rt_free(bytes);
        }
        rt_dataset_close(d);
    }
    path(sub, "set.partial");
    ck_assert(!rt_fs_exists(sub));
    clean();
}
END_TEST

START_TEST(same_bytes_on_any_thread_count)
{
    char a[PATH_MAX], b[PATH_MAX], fa[PATH_MAX + 64], fb[PATH_MAX + 64];
    scratch();
    path(a, "one");
    omp_set_num_threads(1);
    rt_ok(rt_demo_generate(a, 3, 4, 1, SIZE));
    for (int t = 2; t <= 4; t += 2) {
        path(b, t == 2 ? "two" : "four");
        omp_set_num_threads(t);
        rt_ok(rt_demo_generate(b, 3, 4, 1, SIZE));
        for (int i = 0; i < RT_DEMO_CLASSES * 5; i++) {
            const char *split = i % 5 == 4 ? "test" : "train";
            snprintf(fa, sizeof fa, "%s/%s/%s/%05d.jpg", a, split, rt_demo_class[i / 5], i % 5 == 4 ? 0 : i % 5);
            snprintf(fb, sizeof fb, "%s%s", b, fa + strlen(a));
            void *x, *y;
            size_t nx, ny;
            rt_ok(rt_fs_read(fa, 1 << 20, &x, &nx));
            rt_ok(rt_fs_read(fb, 1 << 20, &y, &ny));
            ck_assert_uint_eq(nx, ny);
            ck_assert_mem_eq(x, y, nx);
            rt_free(x);
            rt_free(y);
        }
    }
    clean();
}
END_TEST

START_TEST(every_argument_matters)
{
    static uint8_t base[PX], other[PX];
    rt_demo_render(1, RT_DEMO_TRAIN, 4, 9, SIZE, base);
    rt_demo_render(2, RT_DEMO_TRAIN, 4, 9, SIZE, other);
    ck_assert_mem_ne(base, other, PX);
    rt_demo_render(1, RT_DEMO_TEST, 4, 9, SIZE, other);
    ck_assert_mem_ne(base, other, PX);
    rt_demo_render(1, RT_DEMO_TRAIN, 5, 9, SIZE, other);
    ck_assert_mem_ne(base, other, PX);
    rt_demo_render(1, RT_DEMO_TRAIN, 4, 10, SIZE, other);
    ck_assert_mem_ne(base, other, PX);
    for (int k = 1; k < RT_DEMO_CLASSES; k++) ck_assert_int_lt(strcmp(rt_demo_class[k - 1], rt_demo_class[k]), 0);
}
END_TEST

START_TEST(refuses_and_leaves_nothing)
{
    char dir[PATH_MAX], file[PATH_MAX], partial[PATH_MAX];
    scratch();
    path(dir, "set");
    path(file, "set/mine");
    path(partial, "set.partial");
    rt_fails(rt_demo_generate(dir, 1, 0, 1, SIZE), RT_ERR_CONFIG);
    rt_fails(rt_demo_generate(dir, 1, 1, -1, SIZE), RT_ERR_CONFIG);
    rt_fails(rt_demo_generate(dir, 1, 100001, 1, SIZE), RT_ERR_CONFIG);
    rt_fails(rt_demo_generate(dir, 1, 1, 1, RT_DEMO_MIN_SIZE - 1), RT_ERR_CONFIG);
    rt_fails(rt_demo_generate(dir, 1, 1, 1, RT_DEMO_MAX_SIZE + 1), RT_ERR_CONFIG);
    rt_stop_request();
    rt_fails(rt_demo_generate(dir, 1, 1, 1, SIZE), RT_ERR_CANCELLED);
    rt_stop_clear();
    ck_assert(!rt_fs_exists(dir) && !rt_fs_exists(partial));
    rt_ok(rt_fs_mkdirs(dir)); /* an empty folder is fine, a used one is not */
    rt_ok(rt_demo_generate(dir, 1, 1, 1, SIZE));
    rt_fails(rt_demo_generate(dir, 1, 1, 1, SIZE), RT_ERR_LOCKED);
    rt_ok(rt_fs_remove_tree(dir));
    rt_ok(rt_fs_mkdirs(dir));
    rt_ok(rt_fs_write_atomic(file, "x", 1));
    rt_fails(rt_demo_generate(dir, 1, 1, 1, SIZE), RT_ERR_LOCKED);
    ck_assert(rt_fs_exists(file) && !rt_fs_exists(partial));
    clean();
}
END_TEST

static const rt_test tests[] = {
    {"image folder", reads_back_as_an_image_folder},
    {"threads", same_bytes_on_any_thread_count},
    {"arguments", every_argument_matters},
    {"refusals", refuses_and_leaves_nothing},
};
RT_SUITE("data.demo", tests)
