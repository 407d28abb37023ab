/* NEON, products in fp32 */

#define ISA neon
#define ELEMS_ARE_FLOATS 1
#include "neon_vectors.h"

enum { PAIR = 1, FP32 = 1 };

typedef float elem, unit;
typedef float32x4_t units;

INLINE units broadcast_unit(const void *from) {
  float value;
  memcpy(&value, from, sizeof value);
  return vdupq_n_f32(value);
}
INLINE vec dot(vec sum, units a, units b) { return vfmaq_f32(sum, a, b); }

INLINE vec round_to_elem(vec values) { return values; }

#include "fp32.h"

INLINE void transpose(units x[LANES]) {
  uint32x4_t rows[4];
  for (int i = 0; i < 4; i++) rows[i] = vreinterpretq_u32_f32(x[i]);
  transpose_4x4(rows);
  for (int i = 0; i < 4; i++) x[i] = vreinterpretq_f32_u32(rows[i]);
}
