/* AVX-512 BF16: VDPBF16PS multiplies pairs of bf16 and adds them in fp32. */

#define ISA avx512_bf16
#include "avx512_vectors.h"

enum { PAIR = 2, FP32 = 0 };

typedef uint16_t elem;
typedef uint32_t unit;
typedef __m512i units;

INLINE units broadcast_unit(const void *from) {
  int32_t value;
  memcpy(&value, from, sizeof value);
  return _mm512_set1_epi32(value);
}
INLINE vec dot(vec sum, units a, units b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

INLINE __m512i lower_halves(const elem *from) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)); }
INLINE __m512i rounded(vec values) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values)); }

INLINE vec load_elems(const elem *from) { return _mm512_castsi512_ps(_mm512_slli_epi32(lower_halves(from), 16)); }
INLINE void store_elems(elem *to, vec values) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(values)); }
INLINE vec round_to_elem(vec values) { return _mm512_castsi512_ps(_mm512_slli_epi32(rounded(values), 16)); }

INLINE float elem_to_float(elem value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
INLINE elem float_to_elem(float value) { return (elem)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0); }

INLINE units load_units(const unit *from) { return _mm512_loadu_si512(from); }
INLINE void store_units(unit *to, units values) { _mm512_storeu_si512(to, values); }
INLINE units units_of_elem_rows(const elem *upper, const elem *lower) {
  return _mm512_or_si512(lower_halves(upper), _mm512_slli_epi32(lower_halves(lower), 16));
}
INLINE units units_of_float_rows(const float *upper, const float *lower) {
  return _mm512_or_si512(rounded(load(upper)), _mm512_slli_epi32(rounded(load(lower)), 16));
}
INLINE units units_of_elem_row(const elem *from) { return _mm512_loadu_si512(from); }
INLINE units units_of_float_row(const float *from) { return (__m512i)_mm512_cvtne2ps_pbh(load(from + 16), load(from)); }
INLINE vec sum_within_units(units x) {
  return _mm512_dpbf16_ps(_mm512_setzero_ps(), (__m512bh)x, (__m512bh)_mm512_set1_epi32(0x3f803f80)); /* times 1.0 */
}

INLINE void transpose(units x[LANES]) { transpose_16x16(x); }
