/* What both sets of AVX-512 have in common: 32 registers of 16 floats */

#include <immintrin.h>

enum { LANES = 16, MR = 8, NV = 2, LEFT_PANEL = 32, K_BLOCK = 1024 };

typedef float vec __attribute__((vector_size(64)));

INLINE vec load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store(float *to, vec values) { _mm512_storeu_ps(to, values); }

INLINE float sum_of(vec x) { return _mm512_reduce_add_ps(x); }
INLINE float max_of(vec x) { return _mm512_reduce_max_ps(x); }
INLINE float first_of(vec x) { return _mm512_cvtss_f32(x); }
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec broadcast(float x) { return _mm512_set1_ps(x); }
INLINE vec square_root(vec x) { return _mm512_sqrt_ps(x); }

/* In place, of 16 vectors of 16 units */
INLINE void transpose_16x16(__m512i rows[16]) {
  __m512i mixed[16];
  UNROLL for (int i = 0; i < 16; i += 2) {
    mixed[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    mixed[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(mixed[i], mixed[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(mixed[i], mixed[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(mixed[i + 1], mixed[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(mixed[i + 1], mixed[i + 3]);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88), b = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    __m512i c = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    __m512i d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    mixed[i] = _mm512_shuffle_i32x4(a, c, 0x88), mixed[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
    mixed[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88), mixed[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  memcpy(rows, mixed, sizeof mixed);
}
