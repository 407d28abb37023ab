/* What both sets of NEON have in common: 32 registers of 4 floats */

#include <arm_neon.h>

enum { LANES = 4, MR = 8, NV = 2, LEFT_PANEL = 8, K_BLOCK = 256 };

typedef float32x4_t vec;

INLINE vec load(const float *from) { return vld1q_f32(from); }
INLINE void store(float *to, vec values) { vst1q_f32(to, values); }

INLINE float sum_of(vec x) { return vaddvq_f32(x); }
INLINE float max_of(vec x) { return vmaxvq_f32(x); }
INLINE float first_of(vec x) { return vgetq_lane_f32(x, 0); }
INLINE vec multiply_add(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
INLINE vec broadcast(float x) { return vdupq_n_f32(x); }
INLINE vec square_root(vec x) { return vsqrtq_f32(x); }

INLINE void transpose_4x4(uint32x4_t x[4]) {
  const uint32x4x2_t a = vtrnq_u32(x[0], x[1]), b = vtrnq_u32(x[2], x[3]);
  for (int i = 0; i < 2; i++) {
    x[i] = vcombine_u32(vget_low_u32(a.val[i]), vget_low_u32(b.val[i]));
    x[i + 2] = vcombine_u32(vget_high_u32(a.val[i]), vget_high_u32(b.val[i]));
  }
}
