/* safetensors: malformed files refused each with its status; round trips; one golden file by an independent writer. */
#include <math.h>

#include "artefact/safetensors.h"
#include "base/alloc.h"
#include "scratch.h"

/* A file as header text and buffer length; n_delta is added to the true header length. */
typedef struct bad_case {
    const char *why, *header;
    int buffer;
    int64_t n_delta;
    rt_status want;
    const char *says; /* part of the message */
} bad_case;

#define ONE(dtype, shape, offs) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offs "}}"
#define ENTRY(name, shape, offs) "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offs "}"
static const bad_case cases[] = {
    {"header length beyond the file", ONE("F32", "[1]", "[0,4]"), 4, 1000, RT_ERR_FORMAT, "header of"},
    {"header length beyond the cap", ONE("F32", "[1]", "[0,4]"), 4, 100000001, RT_ERR_FORMAT, "at most 100000000"},
    {"header length negative as signed", ONE("F32", "[1]", "[0,4]"), 4, INT64_MIN, RT_ERR_FORMAT, "header of"},
    {"header length cuts the object", ONE("F32", "[1]", "[0,4]"), 4, -1, RT_ERR_FORMAT, "'}' expected"},
    {"header length takes a buffer byte", ONE("F32", "[1]", "[0,4]"), 4, 1, RT_ERR_FORMAT, "after the header's object"},
    {"empty header", "", 0, 0, RT_ERR_FORMAT, "does not begin"},
    {"leading space", " {}", 0, 0, RT_ERR_FORMAT, "does not begin"},
    {"array at the top", "[]", 0, 0, RT_ERR_FORMAT, "does not begin"},
    {"newline after the object", "{}\n", 0, 0, RT_ERR_FORMAT, "after the header's object"},
    {"text after the object", "{}x", 0, 0, RT_ERR_FORMAT, "after the header's object"},
    {"two objects", "{}{}", 0, 0, RT_ERR_FORMAT, "end of file expected"},
    {"not JSON", "{\"a\"}", 0, 0, RT_ERR_FORMAT, "':' expected"},
    {"trailing comma", "{\"__metadata__\":{},}", 0, 0, RT_ERR_FORMAT, "'}' expected"},
    {"name is not UTF-8", "{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "unable to decode byte"},
    {"overlong UTF-8", "{\"\xc0\xaf\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "unable to decode byte"},
    {"lone surrogate", "{\"\\ud800\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "Unicode"},
    {"NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "NUL"},
    {"duplicate tensor", "{" ENTRY("a", "[1]", "[0,4]") "," ENTRY("a", "[1]", "[0,4]") "}", 4, 0, RT_ERR_FORMAT, "duplicate"},
    {"duplicate field", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "duplicate"},
    {"duplicate metadata key", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, 0, RT_ERR_FORMAT, "duplicate"},
    {"metadata is a list", "{\"__metadata__\":[]}", 0, 0, RT_ERR_FORMAT, "__metadata__"},
    {"metadata value is a number", "{\"__metadata__\":{\"k\":1}}", 0, 0, RT_ERR_FORMAT, "not a string"},
    {"unknown dtype", ONE("F33", "[1]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "unknown dtype"},
    {"dtype in lower case", ONE("f32", "[1]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "unknown dtype"},
    {"dtype of the format, not read here", ONE("F8_E4M3", "[4]", "[0,4]"), 4, 0, RT_ERR_UNSUPPORTED, "F8_E4M3"},
    {"rank 9", ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, 0, RT_ERR_UNSUPPORTED, "rank 9"},
    {"float offset", ONE("F32", "[1]", "[0,4.0]"), 4, 0, RT_ERR_FORMAT, "not an integer"},
    {"exponent in an offset", ONE("F32", "[1]", "[0,4e0]"), 4, 0, RT_ERR_FORMAT, "not an integer"},
    {"offset as text", ONE("F32", "[1]", "[0,\"4\"]"), 4, 0, RT_ERR_FORMAT, "not an integer"},
    {"negative offset", ONE("F32", "[1]", "[-4,0]"), 4, 0, RT_ERR_FORMAT, "signed"},
    {"minus zero", ONE("F32", "[1]", "[-0,4]"), 4, 0, RT_ERR_FORMAT, "signed"},
    {"negative dimension", ONE("F32", "[-1]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "signed"},
    {"leading zero", ONE("F32", "[01]", "[0,4]"), 4, 0, RT_ERR_FORMAT, ""},
    {"number beyond 64 bits", ONE("F32", "[99999999999999999999]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "too big"},
    {"dimension of 2^48", ONE("F32", "[281474976710656]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "2^48-1"},
    {"offset of 2^48", ONE("F32", "[1]", "[0,281474976710656]"), 4, 0, RT_ERR_FORMAT, "2^48-1"},
    {"shape product overflows", ONE("F32", "[281474976710655,281474976710655]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "overflows"},
    {"overflow hidden by a zero", ONE("F32", "[281474976710655,281474976710655,0]", "[0,0]"), 0, 0, RT_ERR_FORMAT, "overflows"},
    {"shape product times size overflows", ONE("F64", "[4294967296,2147483648]", "[0,0]"), 0, 0, RT_ERR_FORMAT, "overflows"},
    {"bytes wrap to the right size", ONE("F32", "[4294967296,1073741825]", "[0,0]"), 0, 0, RT_ERR_FORMAT, ""},
    {"end before begin", ONE("F32", "[1]", "[4,0]"), 4, 0, RT_ERR_FORMAT, "offsets [4, 0)"},
    {"size differs from shape", ONE("F32", "[2]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "for 8 bytes"},
    {"end beyond the buffer", ONE("F32", "[2]", "[0,8]"), 4, 0, RT_ERR_FORMAT, "the buffer at 4"},
    {"trailing bytes", ONE("F32", "[1]", "[0,4]"), 5, 0, RT_ERR_FORMAT, "the buffer at 5"},
    {"bytes but no tensor", "{}", 4, 0, RT_ERR_FORMAT, "the buffer at 4"},
    {"first tensor not at zero", ONE("F32", "[1]", "[4,8]"), 8, 0, RT_ERR_FORMAT, "a hole"},
    {"hole between tensors", "{" ENTRY("a", "[1]", "[0,4]") "," ENTRY("b", "[1]", "[8,12]") "}", 12, 0, RT_ERR_FORMAT, "a hole"},
    {"overlap", "{" ENTRY("a", "[2]", "[0,8]") "," ENTRY("b", "[1]", "[4,8]") "}", 8, 0, RT_ERR_FORMAT, "an overlap"},
    {"two tensors on the same bytes", "{" ENTRY("a", "[1]", "[0,4]") "," ENTRY("b", "[1]", "[0,4]") "}", 4, 0, RT_ERR_FORMAT, "an overlap"},
    {"three offsets", ONE("F32", "[1]", "[0,4,8]"), 4, 0, RT_ERR_FORMAT, "not exactly"},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, 0, RT_ERR_FORMAT, "not exactly"},
    {"unknown field", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, 0, RT_ERR_FORMAT, "not exactly"},
    {"entry is a list", "{\"a\":[1,2]}", 0, 0, RT_ERR_FORMAT, "not exactly"},
    {"shape is a number", ONE("F32", "1", "[0,4]"), 4, 0, RT_ERR_FORMAT, "not exactly"},
    {"nested dimension", ONE("F32", "[[1]]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "nested deeper"},
    {"null dimension", ONE("F32", "[null]", "[0,4]"), 4, 0, RT_ERR_FORMAT, "not an integer"},
};

static void write_file(const char *path, const char *header, size_t n_header, int buffer, int64_t n_delta)
{
    uint64_t n = (uint64_t)n_header + (uint64_t)n_delta;
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < 8; i++) fputc((int)(n >> (8 * i) & 255), f);
    ck_assert_uint_eq(fwrite(header, 1, n_header, f), n_header);
    for (int i = 0; i < buffer; i++) fputc(0, f);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(malformed_files_are_refused)
{
    const char *path = strdup(below(scratch("st-bad"), "x.safetensors"));
    int wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bad_case *c = &cases[i];
        rt_st_file *f = NULL;
        write_file(path, c->header, strlen(c->header), c->buffer, c->n_delta);
        rt_status st = rt_st_open(path, &f);
        ck_assert_msg(st == c->want, "%s: got %s (%s), want %s", c->why, rt_status_name(st), rt_error_what(), rt_status_name(c->want));
        ck_assert_ptr_null(f);
        if (!strstr(rt_error_what(), path) || !strstr(rt_error_what(), c->says)) {
            printf("%s: message \"%s\" lacks \"%s\"\n", c->why, rt_error_what(), c->says);
            wrong++;
        }
    }
    ck_assert_int_eq(wrong, 0);
    free((void *)path);
}
END_TEST

/* Cases that are too large or too odd for the table. */
START_TEST(hostile_files_are_refused_quickly)
{
    const char *dir = strdup(scratch("st-hostile"));
    const char *path = strdup(below(dir, "x.safetensors"));
    rt_st_file *f = NULL;
    size_t n = 4 << 20;
    char *h = malloc(n + 1);
    ck_assert_ptr_nonnull(h);
    memset(h, '[', n); /* deep nesting */
    h[0] = '{';
    h[n - 1] = '}';
    write_file(path, h, n, 0, 0);
    rt_fails(rt_st_open(path, &f), RT_ERR_FORMAT);
    memset(h, ',', n); /* millions of values */
    h[0] = '{';
    h[n - 1] = '}';
    write_file(path, h, n, 0, 0);
    rt_fails(rt_st_open(path, &f), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "more than"));
    size_t at = (size_t)sprintf(h, "{"); /* 70,000 tensors on the same bytes: more than are read */
    for (int i = 0; i < 70000 && at < n - 100; i++) at += (size_t)sprintf(h + at, "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i);
    at += (size_t)sprintf(h + at, "}");
    write_file(path, h, at, 0, 0);
    rt_fails(rt_st_open(path, &f), RT_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "70000 tensors"));
    for (int k = 0; k < 8; k++) { /* shorter than the length field */
        FILE *s = fopen(path, "wb");
        fwrite("\2\0\0\0\0\0\0", 1, (size_t)k, s);
        fclose(s);
        rt_fails(rt_st_open(path, &f), RT_ERR_FORMAT);
    }
    rt_fails(rt_st_open(dir, &f), RT_ERR_FORMAT);
    rt_fails(rt_st_open(below(dir, "absent"), &f), RT_ERR_MISSING);
    ck_assert_ptr_null(f);
    free(h);
    free((void *)path);
    free((void *)dir);
}
END_TEST

/* Legal and unusual: accepted. */
START_TEST(legal_corner_cases)
{
    const char *path = strdup(below(scratch("st-legal"), "x.safetensors"));
    rt_st_file *f = NULL;
    static const char plain[] = "{}   ";
    write_file(path, plain, strlen(plain), 0, 0);
    rt_ok(rt_st_open(path, &f));
    ck_assert_int_eq(rt_st_count(f), 0);
    ck_assert_ptr_null(rt_st_at(f, 0));
    ck_assert_ptr_null(rt_st_metadata(f, "k"));
    rt_st_close(f);
    static const char h[] = "{\"late\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]},\"z\":{\"dtype\":\"F64\",\"shape\":[0,7],"
                            "\"data_offsets\":[1,1]},\"first\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                            "\"__metadata__\":{\"format\":\"pt\"}}";
    write_file(path, h, strlen(h), 5, 0);
    rt_ok(rt_st_open(path, &f));
    ck_assert_int_eq(rt_st_count(f), 3);
    ck_assert_str_eq(rt_st_at(f, 0)->name, "first"); /* file order, whatever the JSON's */
    ck_assert_str_eq(rt_st_at(f, 1)->name, "z");
    ck_assert_str_eq(rt_st_at(f, 2)->name, "late");
    ck_assert_str_eq(rt_st_metadata(f, "format"), "pt");
    float v = 1;
    rt_ok(rt_st_to_f32(rt_st_find(f, "late"), &v, 1)); /* scalar, at an odd offset */
    rt_assert_near(v, 0, 0, 0);
    rt_ok(rt_st_to_f32(rt_st_find(f, "z"), NULL, 0));
    rt_fails(rt_st_to_f32(rt_st_find(f, "late"), &v, 2), RT_ERR_FORMAT);
    rt_fails(rt_st_to_f32(rt_st_find(f, "first"), &v, 1), RT_ERR_FORMAT); /* integers */
    rt_st_close(f);
    rt_st_close(NULL);
    free((void *)path);
}
END_TEST

START_TEST(half_precision_is_converted_exactly)
{
    const char *path = strdup(below(scratch("st-half"), "x.safetensors"));
    static const struct {
        uint16_t bits;
        double value;
    } half[] = {{0x0000, 0.0},        {0x8000, -0.0},       {0x3c00, 1.0},     {0xc000, -2.0},       {0x7bff, 65504.0},
                {0x0400, 0x1p-14},    {0x0001, 0x1p-24},    {0x03ff, 0x3ffp-24}, {0x8200, -0x1p-15}, {0x3555, 0x1.554p-2},
                {0x7c00, INFINITY},   {0xfc00, -INFINITY}},
      brain[] = {{0x3f80, 1.0}, {0xc049, -3.140625}, {0x0080, 0x1p-126}, {0x0001, 0x1p-133}, {0x7f80, INFINITY}};
    enum { NH = sizeof half / sizeof *half, NB = sizeof brain / sizeof *brain };
    uint16_t h[NH + 1], b[NB];
    float out[NH + 1];
    for (int i = 0; i < NH; i++) h[i] = half[i].bits;
    h[NH] = 0x7e01; /* a NaN */
    for (int i = 0; i < NB; i++) b[i] = brain[i].bits;
    double d[2] = {1e-3, -1e300};
    rt_st_tensor t[] = {{"h", RT_ST_F16, 1, {NH + 1}, h, sizeof h}, {"b", RT_ST_BF16, 1, {NB}, b, sizeof b}, {"d", RT_ST_F64, 1, {2}, d, sizeof d}};
    rt_st_file *f = NULL;
    rt_ok(rt_st_write(path, t, 3, NULL, 0));
    rt_ok(rt_st_open(path, &f));
    rt_ok(rt_st_to_f32(rt_st_find(f, "h"), out, NH + 1));
    for (int i = 0; i < NH; i++) ck_assert_msg((double)out[i] == half[i].value && !signbit(out[i]) == !signbit(half[i].value), "f16 %04x: %a", half[i].bits, (double)out[i]);
    ck_assert(isnan(out[NH]));
    rt_ok(rt_st_to_f32(rt_st_find(f, "b"), out, NB));
    for (int i = 0; i < NB; i++) ck_assert_msg((double)out[i] == brain[i].value, "bf16 %04x: %a", brain[i].bits, (double)out[i]);
    rt_ok(rt_st_to_f32(rt_st_find(f, "d"), out, 2));
    ck_assert(out[0] == 1e-3f && isinf(out[1]) && out[1] < 0);
    rt_st_close(f);
    free((void *)path);
}
END_TEST

/* The tensors of tests/golden/tiny.safetensors, as its generator lists them. */
static const float g_w[6] = {0.0f, -0.0f, 1.5f, -2.25f, 3.4028235e38f, 1e-45f};
static const int64_t g_steps[1] = {-7};
static const unsigned char g_u8[3] = {0, 128, 255};
static const double g_d[2] = {3.141592653589793, -1e-300};
static const uint16_t g_h[2] = {0x3c00, 0xfbff}, g_b[1] = {0x4049};
static const int32_t g_i[2] = {-1, 2147483647};
static const rt_st_tensor golden[] = {
    {"u8", RT_ST_U8, 1, {3}, g_u8, sizeof g_u8},
    {"conv.weight", RT_ST_F32, 2, {2, 3}, g_w, sizeof g_w},
    {"bn.num_batches_tracked", RT_ST_I64, 0, {0}, g_steps, sizeof g_steps},
    {"double", RT_ST_F64, 1, {2}, g_d, sizeof g_d},
    {"half", RT_ST_F16, 1, {2}, g_h, sizeof g_h},
    {"brain", RT_ST_BF16, 1, {1}, g_b, sizeof g_b},
    {"int", RT_ST_I32, 1, {2}, g_i, sizeof g_i},
    {"a empty", RT_ST_F32, 2, {0, 5}, NULL, 0},
    {"quote \" and \xc3\xa9", RT_ST_U8, 0, {0}, g_u8 + 1, 1},
};
enum { N_GOLDEN = sizeof golden / sizeof *golden };
static const char *const golden_meta[] = {"z", "last", "format", "pt"};

START_TEST(writes_the_bytes_of_the_independent_writer)
{
    const char *path = strdup(below(scratch("st-golden"), "x.safetensors"));
    const char *src = getenv("RT_SOURCE_DIR");
    char want_path[PATH_MAX];
    void *got = NULL, *want = NULL;
    size_t n_got = 0, n_want = 0;
    snprintf(want_path, sizeof want_path, "%s/tests/artefact/golden/tiny.safetensors", src ? src : ".");
    rt_ok(rt_st_write(path, golden, N_GOLDEN, golden_meta, 2));
    rt_ok(rt_fs_read(path, 1 << 20, &got, &n_got));
    rt_ok(rt_fs_read(want_path, 1 << 20, &want, &n_want));
    ck_assert_uint_eq(n_got, n_want);
    ck_assert_mem_eq(got, want, n_want);
    rt_free(got);
    rt_free(want);
    /* And back, bit for bit. */
    rt_st_file *f = NULL;
    rt_ok(rt_st_open(want_path, &f));
    ck_assert_int_eq(rt_st_count(f), N_GOLDEN);
    for (int i = 0; i < N_GOLDEN; i++) {
        const rt_st_tensor *t = rt_st_find(f, golden[i].name);
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->dtype, golden[i].dtype);
        ck_assert_int_eq(t->rank, golden[i].rank);
        ck_assert_uint_eq(t->bytes, golden[i].bytes);
        if (t->bytes) ck_assert_mem_eq(t->data, golden[i].data, t->bytes);
    }
    ck_assert_str_eq(rt_st_metadata(f, "z"), "last");
    rt_st_close(f);
    free((void *)path);
}
END_TEST

START_TEST(writer_refuses_contract_breaks)
{
    const char *path = strdup(below(scratch("st-arg"), "x.safetensors"));
    rt_st_tensor twice[] = {golden[0], golden[1], golden[0]};
    rt_st_tensor t = golden[1];
    static const char *const meta[] = {"k", "1", "k", "2"};
    rt_fails(rt_st_write(path, twice, 3, NULL, 0), RT_ERR_ARG);
    rt_fails(rt_st_write(path, golden, 1, meta, 2), RT_ERR_ARG);
    t.bytes = 20;
    rt_fails(rt_st_write(path, &t, 1, NULL, 0), RT_ERR_ARG);
    t = golden[1];
    t.shape[0] = -2;
    rt_fails(rt_st_write(path, &t, 1, NULL, 0), RT_ERR_ARG);
    t = golden[1];
    t.name = "\xff";
    rt_fails(rt_st_write(path, &t, 1, NULL, 0), RT_ERR_ARG);
    t.name = "__metadata__";
    rt_fails(rt_st_write(path, &t, 1, NULL, 0), RT_ERR_ARG);
    ck_assert(!rt_fs_exists(path));
    rt_fails(rt_st_write("/nonexistent/dir/x", golden, 1, NULL, 0), RT_ERR_MISSING);
    free((void *)path);
}
END_TEST

/* The n-th allocation fails, for every n: refused as such, nothing leaks (under ASan), nothing is left on disk. */
START_TEST(allocation_failures)
{
    const char *dir = strdup(scratch("st-oom"));
    const char *path = strdup(below(dir, "x.safetensors"));
    rt_status st = RT_ERR_NOMEM;
    uint64_t n = 0;
    while (st != RT_OK) {
        rt_alloc_fail_at(++n, 0);
        st = rt_st_write(path, golden, N_GOLDEN, golden_meta, 2);
        rt_alloc_fail_at(0, 0);
        if (st != RT_OK) ck_assert(!rt_fs_exists(path));
        if (st != RT_OK && st != RT_ERR_NOMEM) rt_fails(st, RT_ERR_ARG); /* jansson cannot tell UTF-8 from memory when quoting */
    }
    ck_assert_uint_ge(n, 10);
    n = 0;
    do {
        rt_st_file *f = NULL;
        rt_alloc_fail_at(++n, 0);
        st = rt_st_open(path, &f);
        rt_alloc_fail_at(0, 0);
        ck_assert_msg(st == RT_OK || st == RT_ERR_NOMEM, "allocation %llu: %s %s", (unsigned long long)n, rt_status_name(st), rt_error_what());
        rt_st_close(f);
    } while (st != RT_OK);
    ck_assert_uint_ge(n, 20);
    free((void *)path);
    free((void *)dir);
}
END_TEST

static const rt_test tests[] = {
    {"malformed files are refused", malformed_files_are_refused},
    {"hostile files are refused quickly", hostile_files_are_refused_quickly},
    {"legal corner cases", legal_corner_cases},
    {"half precision is converted exactly", half_precision_is_converted_exactly},
    {"writes the bytes of the independent writer", writes_the_bytes_of_the_independent_writer},
    {"writer refuses contract breaks", writer_refuses_contract_breaks},
    {"allocation failures", allocation_failures},
};
RT_SUITE("artefact.safetensors", tests)
