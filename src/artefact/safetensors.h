/* safetensors (ecosystem.md 2.1): full validation on read, canonical order on write, fsync'd. */
#ifndef RT_ARTEFACT_SAFETENSORS_H
#define RT_ARTEFACT_SAFETENSORS_H

#include <stdint.h>

#include "retort/status.h"

typedef enum rt_st_dtype { RT_ST_F32, RT_ST_F16, RT_ST_BF16, RT_ST_F64, RT_ST_I64, RT_ST_I32, RT_ST_U8 } rt_st_dtype;
enum { RT_ST_MAX_RANK = 8 };
typedef struct rt_st_tensor {
    const char *name;
    rt_st_dtype dtype;
    int32_t rank;
    int64_t shape[RT_ST_MAX_RANK];
    const void *data;        /* little-endian, contiguous */
    uint64_t bytes;
} rt_st_tensor;

typedef struct rt_st_file rt_st_file;
/* Reads and validates the whole file into memory (pread, no mapping). */
rt_status rt_st_open(const char *path, rt_st_file **out);
void rt_st_close(rt_st_file *f);
int64_t rt_st_count(const rt_st_file *f);
const rt_st_tensor *rt_st_at(const rt_st_file *f, int64_t i);              /* in file order; borrowed */
const rt_st_tensor *rt_st_find(const rt_st_file *f, const char *name);     /* NULL when absent */
const char *rt_st_metadata(const rt_st_file *f, const char *key);          /* NULL when absent */
/* Converts to float (F32, F16, BF16, F64); count must match. */
rt_status rt_st_to_f32(const rt_st_tensor *t, float *out, int64_t count);

/* Writes atomically (temp, fsync, rename). meta: n_meta pairs key, value. */
rt_status rt_st_write(const char *path, const rt_st_tensor *t, int64_t n, const char *const *meta, int n_meta);

#endif
