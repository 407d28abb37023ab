/* NEON BF16: BFDOT multiplies pairs of bf16 and adds them in fp32. */

#define ISA neon_bf16
#include "neon_vectors.h"

enum { PAIR = 2, FP32 = 0 };

typedef uint16_t elem;
typedef uint32_t unit;
typedef uint32x4_t units;

INLINE units broadcast_unit(const void *from) {
  uint32_t value;
  memcpy(&value, from, sizeof value);
  return vdupq_n_u32(value);
}
INLINE vec dot(vec sum, units a, units b) {
  return vbfdotq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
}

INLINE uint32x4_t lower_halves(const elem *from) { return vmovl_u16(vld1_u16(from)); }
INLINE uint16x4_t rounded(vec values) { return vreinterpret_u16_bf16(vcvt_bf16_f32(values)); }

INLINE vec load_elems(const elem *from) { return vreinterpretq_f32_u32(vshlq_n_u32(lower_halves(from), 16)); }
INLINE void store_elems(elem *to, vec values) { vst1_u16(to, rounded(values)); }
INLINE vec round_to_elem(vec values) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(rounded(values)), 16)); }

INLINE float elem_to_float(elem value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
INLINE elem float_to_elem(float value) { return vget_lane_u16(rounded(vdupq_n_f32(value)), 0); }

INLINE units load_units(const unit *from) { return vld1q_u32(from); }
INLINE void store_units(unit *to, units values) { vst1q_u32(to, values); }
INLINE units units_of_elem_rows(const elem *upper, const elem *lower) {
  return vorrq_u32(lower_halves(upper), vshlq_n_u32(lower_halves(lower), 16));
}
INLINE units units_of_float_rows(const float *upper, const float *lower) {
  return vorrq_u32(vmovl_u16(rounded(load(upper))), vshlq_n_u32(vmovl_u16(rounded(load(lower))), 16));
}
INLINE units units_of_elem_row(const elem *from) { return vreinterpretq_u32_u16(vld1q_u16(from)); }
INLINE units units_of_float_row(const float *from) {
  return vreinterpretq_u32_u16(vcombine_u16(rounded(load(from)), rounded(load(from + 4))));
}
/* Not by BFDOT with 1.0: GCC 12 takes a vector of bf16 for one of fp16 where it sets it to a constant. */
INLINE vec sum_within_units(units x) {
  return vreinterpretq_f32_u32(vshlq_n_u32(x, 16)) + vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff0000u)));
}

INLINE void transpose(units x[LANES]) { transpose_4x4(x); }
