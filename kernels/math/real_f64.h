/* Sets the real type of the *.inc formulas to double. */
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
#define RT_REAL double
#define RT_FN(name) rt_##name##_f64
#define RT_LIT(x) x
#define RT_EXP exp
#define RT_LOG log
#define RT_SQRT sqrt
#define RT_TANH tanh
#define RT_COS cos
#define RT_SIN sin
#define RT_ERF erf
#define RT_ABS fabs
