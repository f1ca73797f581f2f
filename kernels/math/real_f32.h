/* Sets the real type of the *.inc formulas to float. Include again after real_f64.h to switch back. */
#undef RT_REAL
#undef RT_FN
#undef RT_LIT
#undef RT_EXP
#undef RT_LOG
#undef RT_SQRT
#undef RT_TANH
#undef RT_COS
#undef RT_SIN
#undef RT_ERF
#undef RT_ABS
#define RT_REAL float
#define RT_FN(name) rt_##name##_f32
#define RT_LIT(x) x##f
#define RT_EXP expf
#define RT_LOG logf
#define RT_SQRT sqrtf
#define RT_TANH tanhf
#define RT_COS cosf
#define RT_SIN sinf
#define RT_ERF erff
#define RT_ABS fabsf
