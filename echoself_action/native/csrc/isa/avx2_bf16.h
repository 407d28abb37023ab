/* AVX2 and FMA, for models that are trained in bf16 on other CPUs: elements are floats that are rounded to bf16, so the products
 * are those of bf16, at the speed of fp32. */

#define ISA avx2_bf16
#include "avx2_vectors.h"

enum { FP32 = 0 };

INLINE vec round_to_elem(vec values) { /* to nearest, ties to even; NaN stays NaN */
  const __m256i bits = _mm256_castps_si256(values), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 kept = _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000)));
  return _mm256_blendv_ps(kept, values, _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
}

#include "fp32.h"
