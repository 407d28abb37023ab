/* Vectors of 16 floats on a CPU with AVX-512 BF16: bf16 conversions, tails, exp and GELU. Included only where SUPPORTED. */

#pragma once

#include "api.h"

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))
#define SHARED static __attribute__((unused))

INLINE __m512 load_bf16(const bf16 *from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}

INLINE void store_bf16(bf16 *to, __m512 values) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(values)); }

SHARED void convert_to_bf16(const float *from, size_t count, bf16 *to) {
  for (size_t i = 0; i < count; i += 16) store_bf16(to + i, _mm512_loadu_ps(from + i));
}

INLINE __m512 round_to_bf16(__m512 values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values)), 16));
}

INLINE float bf16_to_float(bf16 value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

INLINE bf16 float_to_bf16(float value) { return (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0); }

/* The lanes of [from, from + 16) that are below `valid` */
INLINE __mmask16 tail_mask(int valid, int from) {
  int left = valid - from;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

INLINE __m512 load_bias(const float *bias, ptrdiff_t at) { return bias ? _mm512_loadu_ps(bias + at) : _mm512_setzero_ps(); }

/* Cephes' polynomial; the error is at most 2 units in the last place */
INLINE __m512 exp_ps(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  /* exp is 0 or infinite outside; min and max return their second operand if one is NaN, so that NaN is kept */
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(89.0f), x));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504089f)), 8);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(x, x), _mm512_add_ps(x, one));
  return _mm512_scalef_ps(p, n);
}

INLINE __m512 reciprocal(__m512 x) { return _mm512_div_ps(_mm512_set1_ps(1.0f), x); }

/* GELU and its derivative (Hendrycks and Gimpel 2016). Without `tanh`, erfc is Abramowitz and Stegun's 7.1.26: error < 2e-7. */
INLINE __m512 gelu(__m512 x, int tanh, __m512 *derivative) {
  const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f), square = _mm512_mul_ps(x, x);
  __m512 cdf, cdf_slope; /* GELU is x * cdf, its derivative cdf + x * cdf_slope */
  if (tanh) {
    const __m512 cubic = _mm512_set1_ps(0.044715f), scale = _mm512_set1_ps(0.79788456080f);
    __m512 inside = _mm512_mul_ps(_mm512_mul_ps(scale, x), _mm512_fmadd_ps(cubic, square, one));
    /* (1 + tanh u) / 2 = 1 / (1 + exp(-2u)) */
    cdf = reciprocal(_mm512_add_ps(one, exp_ps(_mm512_mul_ps(inside, _mm512_set1_ps(-2.0f)))));
    __m512 d_inside = _mm512_mul_ps(scale, _mm512_fmadd_ps(_mm512_set1_ps(3 * 0.044715f), square, one));
    cdf_slope = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(2.0f), d_inside), _mm512_mul_ps(cdf, _mm512_sub_ps(one, cdf)));
  } else {
    __m512 gaussian = exp_ps(_mm512_mul_ps(square, _mm512_set1_ps(-0.5f)));
    __m512 t = reciprocal(_mm512_fmadd_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.3275911f * 0.70710678f), one));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 tail = _mm512_mul_ps(half, _mm512_mul_ps(_mm512_mul_ps(p, t), gaussian));
    cdf = _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), one, tail);
    cdf_slope = _mm512_mul_ps(gaussian, _mm512_set1_ps(0.39894228040f));
  }
  *derivative = _mm512_fmadd_ps(x, cdf_slope, cdf);
  return _mm512_mul_ps(x, cdf);
}
