/* What all compiled files need: vectors, the logistic function, and the kinds of products.
 *
 * `fused_kernel.h` and `gradient_kernel.h` are compiled once for each kind, with KIND defined as its name. These names differ
 * between the kinds:
 *
 * TARGET        processor features to compile for
 * ENTRY         what vectors are loaded from
 * REPEATED      what a vector of equal groups is made of
 * GROUP         entries side by side that one product sums over
 * SPAN          groups in a vector
 * VECTOR        of groups
 * SUM           of products, as many as groups in a vector
 *
 * and the functions `load`, `broadcast`, `multiply_add` and so on, which NAME finds. Float32 arithmetic of every kind uses vectors
 * of FLOATS, as wide as the kind's, with the operators + and * and the functions that OF_FLOATS finds. A MASK selects lanes.
 */

#ifndef MBRL_VECTORS_H
#define MBRL_VECTORS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define PASTE(name, kind) name##_##kind
#define PASTED(name, kind) PASTE(name, kind)
#define NAME(name) PASTED(name, KIND)
#define TARGET NAME(target)
#define ENTRY NAME(entry)
#define REPEATED NAME(repeated)
#define GROUP NAME(group)
#define SPAN NAME(span)
#define VECTOR NAME(vector)
#define SUM NAME(sum)
#define OF_FLOATS(name) PASTED(name, NAME(floats))
#define FLOATS OF_FLOATS(vector)
#define FLOAT_LANES OF_FLOATS(lanes)
#define MASK OF_FLOATS(mask)

#define floats_float32 wide
#define floats_bfloat16 wide
#define floats_float16 wide
#define floats_avx2 narrow

#define target_avx2 __attribute__((target("avx2,fma")))
#define target_float32 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define target_bfloat16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define INLINE ALWAYS_INLINE TARGET
#define UNROLL _Pragma("GCC unroll 16")

enum { LANES = 16 };

/* Treat denormal numbers as zero in this thread: they are far slower, and negligible beside a state. Returns the setting to
 * restore afterwards. */
static unsigned flush_denormals(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x0040 /* denormals are zeros */);
    return before;
}

#define KIND float32

typedef __m512 vector_wide;
typedef __mmask16 mask_wide;
enum { lanes_wide = LANES };

/* The first `left` lanes, all of them if there are no more. */
INLINE __mmask16 first_wide(int left) { return left >= LANES ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

INLINE __m512 all_wide(float value) { return _mm512_set1_ps(value); }

INLINE __m512 load_wide(const float *from) { return _mm512_loadu_ps(from); }

INLINE void store_wide(float *to, __m512 value) { _mm512_storeu_ps(to, value); }

/* Zeros in the place of other numbers. */
INLINE __m512 load_some_wide(const float *from, __mmask16 some) { return _mm512_maskz_loadu_ps(some, from); }

INLINE void store_some_wide(float *to, __m512 value, __mmask16 some) { _mm512_mask_storeu_ps(to, some, value); }

INLINE __m512 only_wide(__m512 value, __mmask16 some) { return _mm512_maskz_mov_ps(some, value); }

INLINE float total_wide(__m512 value) { return _mm512_reduce_add_ps(value); }

INLINE __m512 root_wide(__m512 value) { return _mm512_sqrt_ps(value); }

/* Rows of a square become its columns. */
INLINE void transpose_wide(__m512 *rows) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    UNROLL for (int distance = 1; distance < LANES; distance *= 2) {
        const __m512i across = _mm512_xor_si512(lane, _mm512_set1_epi32(distance));
        const __mmask16 upper = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(distance)), lower = ~upper;
        UNROLL for (int r = 0; r < LANES; r++) {
            if (r & distance) continue;
            const __m512 above = rows[r], below = rows[r + distance];
            rows[r] = _mm512_mask_permutexvar_ps(above, upper, across, below);
            rows[r + distance] = _mm512_mask_permutexvar_ps(below, lower, across, above);
        }
    }
}

typedef float entry_float32, repeated_float32;
typedef __m512 vector_float32, sum_float32;
enum { group_float32 = 1, span_float32 = LANES };

INLINE __m512 load_float32(const float *from) { return _mm512_loadu_ps(from); }

INLINE __m512 broadcast_float32(const float *from) { return _mm512_set1_ps(*from); }

INLINE __m512 multiply_add_float32(__m512 sum, __m512 left, __m512 right) { return _mm512_fmadd_ps(left, right, sum); }

INLINE __m512 widen_float32(const float *from, __mmask16 some) { return load_some_wide(from, some); }

INLINE void narrow_float32(float *to, __m512 value) { _mm512_storeu_ps(to, value); }

/* The table instruction and one step of Newton's method, accurate to a few last digits, for x below 2^126. */
INLINE __m512 reciprocal(__m512 x) {
    const __m512 guess = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(x, guess, _mm512_set1_ps(2.0f)));
}

INLINE __m512 quotient_wide(__m512 above, __m512 below) { return above * reciprocal(below); }

/* Likewise, for values other than zero. */
INLINE __m512 twice_root_wide(__m512 value) {
    const __m512 guess = _mm512_rsqrt14_ps(value), root = value * guess;
    return root * (_mm512_set1_ps(3.0f) - root * guess);
}

INLINE __m512 nearest_wide(__m512 value) {
    return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* Clip to [-bound, bound]; the instructions return the second argument where it is NaN. */
INLINE __m512 within_wide(__m512 value, float bound) {
    return _mm512_max_ps(_mm512_set1_ps(-bound), _mm512_min_ps(_mm512_set1_ps(bound), value));
}

/* 2^n by the exponent, 2^f by a polynomial. */
INLINE __m512 power_of_two_wide(__m512 power) {
    const __m512 whole = nearest_wide(power), rest = _mm512_sub_ps(power, whole);
    __m512 value = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.00132647272f), _mm512_set1_ps(0.00967151264f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.0555073374f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.240222421f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.693146978f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(value, whole);
}

/* 1 / (1 + exp(-x)) to a few last digits; the reciprocal from the table instruction and a step of Newton's method. */
INLINE __m512 logistic_float32(__m512 x) {
    /* Below 2^126 the step stays finite; the instruction returns the second argument where it is NaN. */
    const __m512 power = _mm512_min_ps(_mm512_set1_ps(126.0f), _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)));
    return reciprocal(_mm512_add_ps(power_of_two_wide(power), _mm512_set1_ps(1.0f)));
}

INLINE __m512 constant_float32(const float *value) { return _mm512_set1_ps(*value); }

/* As many numbers as there are sums in a vector. */
INLINE __m512 read_float32(const float *from) { return _mm512_loadu_ps(from); }

INLINE void write_float32(float *to, __m512 sum) { _mm512_storeu_ps(to, sum); }

INLINE __m512 silu_float32(__m512 sum) { return _mm512_mul_ps(sum, logistic_float32(sum)); }

/* A vector of groups, whose entries are the sums. */
INLINE void gather_float32(float *to, const __m512 *sums) { _mm512_storeu_ps(to, sums[0]); }

#undef KIND
#define KIND bfloat16

typedef uint16_t entry_bfloat16, repeated_bfloat16;
typedef __m512bh vector_bfloat16;
typedef __m512 sum_bfloat16;
enum { group_bfloat16 = 2, span_bfloat16 = LANES };

INLINE __m512bh load_bfloat16(const uint16_t *from) { return (__m512bh)_mm512_loadu_si512(from); }

INLINE __m512bh broadcast_bfloat16(const uint16_t *from) {
    int32_t two;
    memcpy(&two, from, sizeof two);
    return (__m512bh)_mm512_set1_epi32(two);
}

INLINE __m512 multiply_add_bfloat16(__m512 sum, __m512bh left, __m512bh right) { return _mm512_dpbf16_ps(sum, left, right); }

INLINE __m512 widen_bfloat16(const uint16_t *from, __mmask16 some) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, from)), 16);
}

INLINE void narrow_bfloat16(uint16_t *to, __m512 value) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(value));
}

/* As for float32, but accurate to about 1e-4, which is less than the rounding of bfloat16 products. */
INLINE __m512 logistic_bfloat16(__m512 x) {
    const __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));
    const __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(power, whole);
    __m512 value = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.05500857f), _mm512_set1_ps(0.24221096f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.69328297f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(1.0f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(value, whole), _mm512_set1_ps(1.0f)));
}

INLINE __m512 constant_bfloat16(const float *value) { return _mm512_set1_ps(*value); }

INLINE __m512 read_bfloat16(const float *from) { return _mm512_loadu_ps(from); }

INLINE void write_bfloat16(float *to, __m512 sum) { _mm512_storeu_ps(to, sum); }

INLINE __m512 silu_bfloat16(__m512 sum) { return _mm512_mul_ps(sum, logistic_bfloat16(sum)); }

INLINE void gather_bfloat16(uint16_t *to, const __m512 *sums) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(sums[0]));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(sums[1]));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#undef KIND

#if (defined(__clang__) ? __clang_major__ >= 14 : __GNUC__ >= 12)
#define HAS_FLOAT16

#define KIND float16
#define target_float16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512fp16,fma")))

/* Repeated values are stored twice: broadcasting 4 bytes is free beside a product, broadcasting 2 bytes is not. */
typedef uint16_t entry_float16;
typedef uint32_t repeated_float16;
typedef __m512h vector_float16, sum_float16;
enum { group_float16 = 1, span_float16 = 2 * LANES };

INLINE __m512h load_float16(const uint16_t *from) { return (__m512h)_mm512_loadu_si512(from); }

INLINE __m512h broadcast_float16(const uint32_t *from) { return (__m512h)_mm512_set1_epi32((int32_t)*from); }

INLINE __m512h multiply_add_float16(__m512h sum, __m512h left, __m512h right) { return _mm512_fmadd_ph(left, right, sum); }

INLINE __m512 logistic_float16(__m512 x) { return logistic_float32(x); }

INLINE __m512h constant_float16(const float *value) { return _mm512_set1_ph((_Float16)*value); }

INLINE __m512h read_float16(const float *from) {
    const __m256i low = (__m256i)_mm512_cvtxps_ph(_mm512_loadu_ps(from));
    const __m256i high = (__m256i)_mm512_cvtxps_ph(_mm512_loadu_ps(from + LANES));
    return (__m512h)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

INLINE void write_float16(float *to, __m512h sum) {
    _mm512_storeu_ps(to, _mm512_cvtxph_ps((__m256h)_mm512_castsi512_si256((__m512i)sum)));
    _mm512_storeu_ps(to + LANES, _mm512_cvtxph_ps((__m256h)_mm512_extracti64x4_epi64((__m512i)sum, 1)));
}

/* As for float32, in float16; `scalef` ignores the fraction of its exponent. */
INLINE __m512h silu_float16(__m512h sum) {
    const __m512h power = _mm512_mul_ph(sum, _mm512_set1_ph((_Float16)-1.44269504f)), one = _mm512_set1_ph((_Float16)1.0f);
    const __m512h rest = _mm512_reduce_ph(power, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512h value = _mm512_fmadd_ph(rest, _mm512_set1_ph((_Float16)0.07706717f), _mm512_set1_ph((_Float16)0.22764485f));
    value = _mm512_fmadd_ph(value, rest, _mm512_set1_ph((_Float16)0.69511682f));
    value = _mm512_fmadd_ph(value, rest, one);
    return _mm512_mul_ph(sum, _mm512_rcp_ph(_mm512_add_ph(_mm512_scalef_ph(value, power), one)));
}

INLINE void gather_float16(uint16_t *to, const __m512h *sums) { _mm512_storeu_si512(to, (__m512i)sums[0]); }

#undef KIND
#endif

#define KIND avx2

typedef __m256 vector_narrow;
typedef __m256i mask_narrow;
enum { lanes_narrow = 8 };

INLINE __m256i first_narrow(int left) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}

INLINE __m256 all_narrow(float value) { return _mm256_set1_ps(value); }

INLINE __m256 load_narrow(const float *from) { return _mm256_loadu_ps(from); }

INLINE void store_narrow(float *to, __m256 value) { _mm256_storeu_ps(to, value); }

INLINE __m256 load_some_narrow(const float *from, __m256i some) { return _mm256_maskload_ps(from, some); }

/* A masked store takes many times as long on some processors. */
INLINE void store_some_narrow(float *to, __m256 value, __m256i some) {
    if (_mm256_movemask_ps((__m256)some) == 0xff) _mm256_storeu_ps(to, value);
    else _mm256_maskstore_ps(to, some, value);
}

INLINE __m256 only_narrow(__m256 value, __m256i some) { return _mm256_and_ps(value, (__m256)some); }

INLINE float total_narrow(__m256 value) {
    __m128 sum = _mm256_castps256_ps128(value) + _mm256_extractf128_ps(value, 1);
    sum += _mm_movehl_ps(sum, sum);
    return sum[0] + sum[1];
}

INLINE __m256 root_narrow(__m256 value) { return _mm256_sqrt_ps(value); }

INLINE __m256 quotient_narrow(__m256 above, __m256 below) { return above / below; }

INLINE __m256 twice_root_narrow(__m256 value) { return _mm256_set1_ps(2.0f) * _mm256_sqrt_ps(value); }

INLINE void transpose_narrow(__m256 *rows) {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    UNROLL for (int distance = 1; distance < lanes_narrow; distance *= 2) {
        const __m256i across = _mm256_xor_si256(lane, _mm256_set1_epi32(distance)), bit = _mm256_and_si256(lane, across ^ lane);
        const __m256 upper = (__m256)_mm256_cmpgt_epi32(bit, _mm256_setzero_si256());
        UNROLL for (int r = 0; r < lanes_narrow; r++) {
            if (r & distance) continue;
            const __m256 above = rows[r], below = rows[r + distance];
            rows[r] = _mm256_blendv_ps(above, _mm256_permutevar8x32_ps(below, across), upper);
            rows[r + distance] = _mm256_blendv_ps(_mm256_permutevar8x32_ps(above, across), below, upper);
        }
    }
}

typedef float entry_avx2, repeated_avx2;
typedef __m256 vector_avx2, sum_avx2;
enum { group_avx2 = 1, span_avx2 = lanes_narrow };

INLINE __m256 load_avx2(const float *from) { return _mm256_loadu_ps(from); }

INLINE __m256 broadcast_avx2(const float *from) { return _mm256_broadcast_ss(from); }

INLINE __m256 multiply_add_avx2(__m256 sum, __m256 left, __m256 right) { return _mm256_fmadd_ps(left, right, sum); }

INLINE __m256 widen_avx2(const float *from, __m256i some) { return load_some_narrow(from, some); }

INLINE void narrow_avx2(float *to, __m256 value) { _mm256_storeu_ps(to, value); }

INLINE __m256 nearest_narrow(__m256 value) {
    return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m256 within_narrow(__m256 value, float bound) {
    return _mm256_max_ps(_mm256_set1_ps(-bound), _mm256_min_ps(_mm256_set1_ps(bound), value));
}

/* As for wide vectors, with 2^n built from its exponent bits, which is right for powers within 126. */
INLINE __m256 power_of_two_narrow(__m256 power) {
    const __m256i whole = _mm256_cvtps_epi32(power);
    const __m256 rest = power - _mm256_cvtepi32_ps(whole);
    __m256 value = rest * _mm256_set1_ps(0.00132647272f) + _mm256_set1_ps(0.00967151264f);
    value = value * rest + _mm256_set1_ps(0.0555073374f);
    value = value * rest + _mm256_set1_ps(0.240222421f);
    value = value * rest + _mm256_set1_ps(0.693146978f);
    value = value * rest + _mm256_set1_ps(1.0f);
    return value * (__m256)_mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23);
}

INLINE __m256 logistic_avx2(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f);
    return one / (power_of_two_narrow(within_narrow(x * _mm256_set1_ps(-1.44269504f), 126.0f)) + one);
}

INLINE __m256 constant_avx2(const float *value) { return _mm256_set1_ps(*value); }

INLINE __m256 read_avx2(const float *from) { return _mm256_loadu_ps(from); }

INLINE void write_avx2(float *to, __m256 sum) { _mm256_storeu_ps(to, sum); }

INLINE __m256 silu_avx2(__m256 sum) { return sum * logistic_avx2(sum); }

INLINE void gather_avx2(float *to, const __m256 *sums) { _mm256_storeu_ps(to, sums[0]); }

#undef KIND

#endif
