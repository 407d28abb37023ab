/* AVX-512 (F, BW, VL, DQ), products in fp32 */

#define ISA avx512
#define ELEMS_ARE_FLOATS 1
#include "avx512_vectors.h"

enum { PAIR = 1, FP32 = 1 };

typedef float elem, unit;
typedef vec units;

INLINE units broadcast_unit(const void *from) {
  float value;
  memcpy(&value, from, sizeof value);
  return _mm512_set1_ps(value);
}
INLINE vec dot(vec sum, units a, units b) { return _mm512_fmadd_ps(a, b, sum); }

INLINE vec round_to_elem(vec values) { return values; }

#include "fp32.h"

INLINE void transpose(units x[LANES]) {
  __m512i rows[16];
  UNROLL for (int i = 0; i < 16; i++) rows[i] = _mm512_castps_si512(x[i]);
  transpose_16x16(rows);
  UNROLL for (int i = 0; i < 16; i++) x[i] = _mm512_castsi512_ps(rows[i]);
}
