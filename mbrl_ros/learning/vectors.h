/* What both compiled files need: the processor features that their functions are compiled for, and the logistic function. */

#ifndef MBRL_VECTORS_H
#define MBRL_VECTORS_H

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 16")

/* 1 / (1 + exp(-x)) to about 1e-4: 2^n by the exponent, 2^f by a cubic, the reciprocal from the table instruction. */
INLINE __m512 sigmoid(__m512 x) {
    __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));
    __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(power, whole);
    __m512 value = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.05500857f), _mm512_set1_ps(0.24221096f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.69328297f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(1.0f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(value, whole), _mm512_set1_ps(1.0f)));
}

#endif
