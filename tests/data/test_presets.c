/* data.preset on real images, from the config key to resident pixels: equal to Pillow's, hash by hash (tests/golden/presets.py).
 * Colour, grayscale, CMYK and EXIF files, enlarged and reduced. Decoding has a hash of its own, so that a libjpeg that rounds
 * otherwise is told from a resize that does. */
#include "config/config.h"
#include "fixture.h"

RT_NEEDS_REAL_DATA

enum { COLUMNS = 6, ROWS = 80, FIELDS = 4 + COLUMNS };
static const struct {
    const char *preset;
    int size;
} column[COLUMNS] = {{"tv1", 224}, {"tv2", 224}, {"timm-a", 224}, {"rded", 224}, {"tv1", 32}, {"rded", 64}};

typedef struct table {
    char *text, *field[ROWS][FIELDS]; /* tar, key, mode, decode, then the columns */
    int n;
} table;

static void table_read(table *t)
{
    char path[PATH_MAX];
    void *bytes = NULL;
    size_t size = 0;
    const char *src = getenv("RT_SOURCE_DIR");
    rt_ok(rt_fs_join(path, sizeof path, src ? src : ".", "tests/golden/presets.tsv"));
    rt_ok(rt_fs_read(path, 1 << 20, &bytes, &size));
    t->text = bytes;
    t->n = 0;
    char *p = strchr(t->text, '\n') + 1, *head = t->text;
    for (int c = -4; c < COLUMNS; c++) { /* the file's columns are those of this test */
        char want[32], *name = strsep(&head, "\t\n");
        if (c < 0) continue;
        snprintf(want, sizeof want, "%s@%d", column[c].preset, column[c].size);
        ck_assert_str_eq(name, want);
    }
    for (; *p; t->n++) {
        ck_assert_int_lt(t->n, ROWS);
        for (int f = 0; f < FIELDS; f++) ck_assert_ptr_nonnull(t->field[t->n][f] = strsep(&p, f + 1 < FIELDS ? "\t" : "\n"));
    }
}

static rt_preset preset_of(const char *name, int size)
{
    rt_config c = {0};
    char text[128];
    int n = snprintf(text, sizeof text, "version: 1\ndata: {train: x, preset: %s, size: %d}\n", name, size);
    rt_ok(rt_config_parse("x.yaml", text, (size_t)n, NULL, 0, &c));
    rt_preset p = {(int32_t)c.data.size, (int32_t)c.data.resize, strcmp(c.data.filter, "bicubic") ? RT_BILINEAR : RT_BICUBIC};
    rt_config_fini(&c);
    return p;
}

/* The rows of one shard, first by first. */
static int check_shard(const table *t, int from, int to)
{
    const char *tar = t->field[from][0];
    rt_dataset *d = NULL;
    rt_data_source src = {.kind = "wds", .path = real(tar), .classes = "numbered:1000"};
    static uint8_t px[224 * 224 * 3];
    int checked = 0;
    rt_ok(rt_dataset_open(&src, &d));
    for (int i = from; i < to; i++)
        for (int64_t k = 0; k < rt_dataset_count(d); k++) {
            const char *key = rt_dataset_key(d, k);
            if (strcmp(key, t->field[i][1])) continue;
            void *bytes = NULL;
            size_t n = 0;
            rt_image im = {0};
            rt_ok(rt_dataset_read(d, k, &bytes, &n));
            rt_ok(rt_decode(bytes, n, key, &im, NULL));
            if (strcmp(sha(im.px, (size_t)im.h * (size_t)im.w * 3), t->field[i][3]))
                ck_abort_msg("%s %s (%s): decoded pixels are not Pillow's", tar, key, t->field[i][2]);
            for (int c = 0; c < COLUMNS; c++) {
                rt_preset p = preset_of(column[c].preset, column[c].size);
                rt_ok(rt_preset_apply(&p, &im, px));
                if (strcmp(sha(px, (size_t)p.size * (size_t)p.size * 3), t->field[i][4 + c]))
                    ck_abort_msg("%s %s (%s): preset %s at %d is not Pillow's", tar, key, t->field[i][2], column[c].preset, p.size);
            }
            rt_image_fini(&im);
            rt_free(bytes);
            checked++;
        }
    rt_dataset_close(d);
    return checked;
}

START_TEST(presets_equal_pillow)
{
    table t;
    int checked = 0, gray = 0, cmyk = 0, exif = 0;
    table_read(&t);
    for (int i = 0, to; i < t.n; i = to) {
        for (to = i; to < t.n && !strcmp(t.field[to][0], t.field[i][0]); to++) {
            gray += t.field[to][2][0] == 'L';
            cmyk += !strcmp(t.field[to][2], "CMYK");
            exif += strstr(t.field[to][2], "exif") != NULL;
        }
        checked += check_shard(&t, i, to);
    }
    ck_assert_int_eq(checked, t.n);
    ck_assert_int_ge(checked, 50);
    ck_assert(gray >= 3 && cmyk >= 2 && exif >= 2);
    rt_free(t.text);
}
END_TEST

/* What stages read: a resident data set under a preset, whatever the threads. */
START_TEST(resident_images_equal_pillow)
{
    static const char tar[] = "imagenette-val-000000.tar";
    table t;
    rt_dataset *d = NULL;
    rt_images im = {0};
    rt_preset p = preset_of(column[5].preset, column[5].size);
    rt_data_source src = {.kind = "wds", .path = real(tar), .classes = real("imagenette-classes.txt")};
    int checked = 0;
    table_read(&t);
    rt_ok(rt_dataset_open(&src, &d));
    rt_ok(rt_images_load(d, &p, 3, NULL, &im));
    for (int i = 0; i < t.n; i++)
        for (int64_t k = 0; k < im.n && !strcmp(t.field[i][0], tar); k++)
            if (!strcmp(im.key[k], t.field[i][1])) {
                ck_assert_str_eq(sha(im.px + k * 64 * 64 * 3, 64 * 64 * 3), t.field[i][4 + 5]);
                checked++;
            }
    ck_assert_int_ge(checked, 10);
    rt_images_fini(&im);
    rt_dataset_close(d);
    rt_free(t.text);
}
END_TEST

static const rt_test tests[] = {
    {"presets equal Pillow", presets_equal_pillow},
    {"resident images equal Pillow", resident_images_equal_pillow},
};
RT_SUITE("data.presets", tests)
