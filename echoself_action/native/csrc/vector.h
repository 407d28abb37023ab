/* Arithmetic on vectors of LANES floats, written once for all instruction sets: operators are those of GCC's and Clang's vector
 * extensions, and isa/ has the rest.
 *
 * An instruction set has an element type `elem`, of which matrix products are, and a `unit` of PAIR elements that are neighbours
 * along the summed dimension and are multiplied by one instruction (`dot`). Sums are in fp32. Elements are fp32 (FP32) or
 * rounded to bf16. */

#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api.h"

#define INLINE static inline __attribute__((always_inline, unused))
#define SHARED static __attribute__((noinline, unused))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_4 _Pragma("unroll 4")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif

#include ISA_HEADER

#ifndef ELEMS_ARE_FLOATS /* whether an element is any float, so that nothing is rounded or converted */
#define ELEMS_ARE_FLOATS 0
#endif

enum { NR = NV * LANES }; /* the columns of a panel of a right operand */

typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t unsigneds __attribute__((vector_size(4 * LANES)));

INLINE int smaller(int a, int b) { return a < b ? a : b; }
INLINE int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

INLINE vec choose(ints mask, vec yes, vec no) { return (vec)(((ints)yes & mask) | ((ints)no & ~mask)); }
INLINE vec larger_of(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec zeros(void) { return broadcast(0.0f); }

INLINE ints lane_numbers(void) {
  ints numbers;
  UNROLL for (int i = 0; i < LANES; i++) numbers[i] = i;
  return numbers;
}
/* The lanes whose number is below `count` */
INLINE ints first_lanes(int count) { return lane_numbers() < count - (ints){0}; }

/* The first `count` lanes; the others are 0 and are not read or written */
INLINE vec load_n(const float *from, int count) {
  if (count >= LANES) return load(from);
  float padded[LANES] = {0};
  for (int i = 0; i < count; i++) padded[i] = from[i];
  return load(padded);
}
INLINE void store_n(float *to, vec values, int count) {
  if (count >= LANES) {
    store(to, values);
    return;
  }
  float padded[LANES];
  store(padded, values);
  for (int i = 0; i < count; i++) to[i] = padded[i];
}
INLINE vec load_elems_n(const elem *from, int count) {
  if (count >= LANES) return load_elems(from);
  elem padded[LANES] = {0};
  for (int i = 0; i < count; i++) padded[i] = from[i];
  return load_elems(padded);
}
INLINE void store_elems_n(elem *to, vec values, int count) {
  if (count >= LANES) {
    store_elems(to, values);
    return;
  }
  elem padded[LANES];
  store_elems(padded, values);
  for (int i = 0; i < count; i++) to[i] = padded[i];
}
INLINE vec load_bias(const float *bias, int at, int count) { return bias ? load_n(bias + at, count) : zeros(); }

SHARED void floats_to_elems(const float *from, size_t count, elem *to) {
  for (size_t i = 0; i < count; i += LANES) {
    const int left = count - i < LANES ? (int)(count - i) : LANES;
    store_elems_n(to + i, load_n(from + i, left), left);
  }
}

/* Cephes' polynomial: the error is at most 2 units in the last place, between the arguments where exp leaves the normal numbers;
 * beyond them it is that of the nearer one. NaN stays NaN. */
INLINE vec exp_of(vec x) {
  const vec low = broadcast(-87.33f), high = broadcast(88.37f), round = broadcast(12582912.0f); /* 1.5 * 2^23 */
  x = choose(x < low, low, choose(x > high, high, x));
  const vec shifted = multiply_add(x, broadcast(1.44269504089f), round);
  const ints exponent = ((ints)shifted + 127) << 23;
  const vec n = shifted - round;
  x = multiply_add(n, broadcast(-0.693359375f), x);
  x = multiply_add(n, broadcast(2.12194440e-4f), x);
  vec p = broadcast(1.9875691500e-4f);
  p = multiply_add(p, x, broadcast(1.3981999507e-3f));
  p = multiply_add(p, x, broadcast(8.3334519073e-3f));
  p = multiply_add(p, x, broadcast(4.1665795894e-2f));
  p = multiply_add(p, x, broadcast(1.6666665459e-1f));
  p = multiply_add(p, x, broadcast(5.0000001201e-1f));
  p = multiply_add(p, x * x, x + 1.0f);
  return p * (vec)exponent;
}

/* GELU and its derivative (Hendrycks and Gimpel 2016). Without `tanh`, erfc is Abramowitz and Stegun's 7.1.26: error < 2e-7. */
INLINE vec gelu(vec x, int tanh, vec *derivative) {
  const vec square = x * x;
  vec cdf, cdf_slope; /* GELU is x * cdf, its derivative cdf + x * cdf_slope */
  if (tanh) {
    const vec inside = 0.79788456080f * x * (0.044715f * square + 1.0f);
    cdf = 1.0f / (exp_of(-2.0f * inside) + 1.0f); /* (1 + tanh u) / 2 */
    const vec d_inside = 0.79788456080f * (3 * 0.044715f * square + 1.0f);
    cdf_slope = 2.0f * d_inside * (cdf * (1.0f - cdf));
  } else {
    const vec gaussian = exp_of(-0.5f * square);
    const vec t = 1.0f / (0.3275911f * 0.70710678f * (vec)((ints)x & 0x7fffffff) + 1.0f);
    vec p = broadcast(1.061405429f);
    p = multiply_add(p, t, broadcast(-1.453152027f));
    p = multiply_add(p, t, broadcast(1.421413741f));
    p = multiply_add(p, t, broadcast(-0.284496736f));
    p = multiply_add(p, t, broadcast(0.254829592f));
    const vec tail = 0.5f * (p * t * gaussian);
    cdf = choose(x > 0.0f, 1.0f - tail, tail);
    cdf_slope = gaussian * 0.39894228040f;
  }
  *derivative = multiply_add(x, cdf_slope, cdf);
  return x * cdf;
}
