/* The CUDA backend as built into the program: without a device it says so, with the reason and a way out; and NVIDIA's
 * libraries where they are installed. */
#include "backend/backend.h"
#ifdef RT_HAVE_CUDA
#include "backend/cuda/conv.h"
#endif
#include "support/suite.h"

START_TEST(says_no_device_or_opens_one)
{
    rt_backend *be = NULL;
    rt_backend_opts o = {0};
    rt_status st = rt_backend_open("cuda", &o, &be);
    if (st == RT_OK) {
        ck_assert_ptr_nonnull(strstr(be->describe, "sm_"));
        be->vt->close(be);
        o.device_index = 1000;
        st = rt_backend_open("cuda", &o, &be);
    } else ck_assert_ptr_null(be);
    ck_assert_int_eq(st, RT_ERR_UNSUPPORTED);
    ck_assert_int_eq(rt_exit_code(st), 69);
    const char *says = rt_error_what();
    ck_assert_msg(!strncmp(says, "no CUDA device", 14) || strstr(says, "was built without CUDA"), "%s", says);
    ck_assert_uint_gt(strlen(says), strlen("no CUDA device: "));
    ck_assert_str_ne(rt_error_remedy(), "");
}
END_TEST

#ifdef RT_HAVE_CUDA
/* The libraries themselves, where they are: tables fill, versions are those we know, and the descriptors of every kind of
 * convolution are accepted as far as cuDNN goes without a device, which is up to the operation graph. */
START_TEST(real_libraries)
{
    static const int f = RT_CUDNN_DATA_FLOAT, h = RT_CUDNN_DATA_BFLOAT16;
    const int types[][2] = {{f, f}, {h, h}, {h, f}};
    const rt_op ops[] = {RT_OP_CONV2D, RT_OP_CONV2D_DX, RT_OP_CONV2D_DW};
    rt_cuda_backend be = {0};
    if (rt_cublaslt_open(&be.lt) != RT_OK || rt_cudnn_open(&be.dnn) != RT_OK) {
        ck_assert_ptr_nonnull(strstr(rt_error_what(), " not found: "));
        ck_assert_str_ne(rt_error_remedy(), "");
        rt_cublaslt_close(&be.lt);
        return;
    }
    ck_assert_uint_eq(be.dnn.cudnnGetVersion() / 10000, 9);
    ck_assert_uint_ge(be.lt.cublasLtGetVersion(), 120000);
    for (int groups = 1; groups <= 8; groups += 7)
        for (int o = 0; o < 3; o++)
            for (int t = 0; t < 3; t++) {
                rt_dnn_dims d = {.op = ops[o], .n = 2, .h = 9, .w = 8, .c = 8, .k = 16, .cg = 8 / groups, .r = 3, .s = 3, .p = 5, .q = 4,
                                 .stride = {2, 2}, .pad = {1, 1}, .align = {16, 16, 16}};
                rt_dnn_conv c = {0};
                rt_fails(rt_dnn_open(&be, &d, types + t, 1, &c), RT_ERR_DEVICE); /* no handle */
                ck_assert_msg(c.variant[0].op && c.variant[0].graph, "%s: %s", rt_error_what(), rt_error_where());
                rt_dnn_close(&c);
            }
    const rt_cublaslt *l = &be.lt;
    void *desc = NULL, *layout = NULL, *pref = NULL;
    const int32_t batch = 3, op = RT_CUBLAS_OP_T;
    const int64_t stride = 20;
    const uint64_t bytes = 1 << 20;
    const uint32_t mask = RT_CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    ck_assert_int_eq(l->cublasLtMatmulDescCreate(&desc, RT_CUBLAS_COMPUTE_32F_FAST_TF32, RT_CUDA_R_32F), 0);
    ck_assert_int_eq(l->cublasLtMatmulDescSetAttribute(desc, RT_CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op), 0);
    ck_assert_int_eq(l->cublasLtMatmulDescSetAttribute(desc, RT_CUBLASLT_MATMUL_DESC_TRANSB, &op, sizeof op), 0);
    ck_assert_int_eq(l->cublasLtMatrixLayoutCreate(&layout, RT_CUDA_R_16BF, 4, 5, 4), 0);
    ck_assert_int_eq(l->cublasLtMatrixLayoutSetAttribute(layout, RT_CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch), 0);
    ck_assert_int_eq(l->cublasLtMatrixLayoutSetAttribute(layout, RT_CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride), 0);
    ck_assert_int_eq(l->cublasLtMatmulPreferenceCreate(&pref), 0);
    ck_assert_int_eq(l->cublasLtMatmulPreferenceSetAttribute(pref, RT_CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes), 0);
    ck_assert_int_eq(l->cublasLtMatmulPreferenceSetAttribute(pref, RT_CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &mask, sizeof mask), 0);
    l->cublasLtMatmulPreferenceDestroy(pref);
    l->cublasLtMatrixLayoutDestroy(layout);
    l->cublasLtMatmulDescDestroy(desc);
    rt_cudnn_close(&be.dnn);
    rt_cublaslt_close(&be.lt);
}
END_TEST
#endif

static const rt_test tests[] = {
    {"says no device or opens one", says_no_device_or_opens_one},
#ifdef RT_HAVE_CUDA
    {"real libraries", real_libraries},
#endif
};
RT_SUITE("cuda.open", tests)
