/* What both sets of AVX2 and FMA have in common: 16 registers of 8 floats, products in fp32 */

#include <immintrin.h>

enum { LANES = 8, PAIR = 1, MR = 6, NV = 2, LEFT_PANEL = 24, K_BLOCK = 384 };

typedef float vec __attribute__((vector_size(32)));
typedef float elem, unit;
typedef vec units;

INLINE vec load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store(float *to, vec values) { _mm256_storeu_ps(to, values); }

INLINE float sum_of(vec x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

INLINE float max_of(vec x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

INLINE float first_of(vec x) { return _mm256_cvtss_f32(x); }
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec broadcast(float x) { return _mm256_set1_ps(x); }
INLINE vec square_root(vec x) { return _mm256_sqrt_ps(x); }
INLINE units broadcast_unit(const void *from) { return _mm256_broadcast_ss(from); }
INLINE vec dot(vec sum, units a, units b) { return _mm256_fmadd_ps(a, b, sum); }

INLINE void transpose(units x[LANES]) {
  units a[8], b[8];
  for (int i = 0; i < 8; i += 2) a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]), a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
    }
  for (int i = 0; i < 4; i++) {
    x[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}
