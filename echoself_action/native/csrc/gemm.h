/* Products of bf16 matrices, summed in fp32, with a fused epilogue.
 *
 * The right operand is packed: panels of NR columns, each (rows / 2, NR) VNNI pairs, which are two neighbours along the summed
 * dimension. The left operand is row-major, or packed too where its transpose is multiplied. One thread computes an element, in
 * one order of summation, so that results do not depend on the number of threads.
 */

#pragma once

#include "api.h"

#ifdef SUPPORTED

#include "avx512.h"
#include "parallel_for.h"

enum { MR = 8, NR = 32, ROW_BLOCK = 64 }; /* the microkernel's rows and columns; rows that stay in the cache between products */

/* ---- packing ---- */

/* Packs (rows, columns), row-major, `rows` even. They become rows [first, first + rows) of panels that have 2 * pairs rows. */
SHARED void pack_vnni(const bf16 *from, ptrdiff_t stride, int rows, int columns, vnni_pair *to, int first, int pairs) {
  for (int column = 0; column < columns; column += NR) {
    vnni_pair *panel = to + ((ptrdiff_t)(column / NR) * pairs + first / 2) * NR;
    for (int row = 0; row < rows; row += 2, panel += NR) {
      const bf16 *upper = from + row * stride + column, *lower = upper + stride;
      for (int half = 0; half < NR; half += 16) {
        __m512i one = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(upper + half)));
        __m512i two = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(lower + half)));
        _mm512_storeu_si512(panel + half, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
      }
    }
  }
}

/* In place, of 16 vectors of 16 pairs */
INLINE void transpose_16x16(__m512i rows[16]) {
  __m512i mixed[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    mixed[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    mixed[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(mixed[i], mixed[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(mixed[i], mixed[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(mixed[i + 1], mixed[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(mixed[i + 1], mixed[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88), b = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    __m512i c = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    __m512i d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    mixed[i] = _mm512_shuffle_i32x4(a, c, 0x88), mixed[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
    mixed[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88), mixed[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  memcpy(rows, mixed, sizeof mixed);
}

/* Packs the transpose of (rows, columns), row-major: the pairs are neighbours in a row. */
SHARED void pack_vnni_transposed(const bf16 *from, ptrdiff_t stride, int rows, int columns, vnni_pair *to) {
  for (int row = 0; row < rows; row += 16)
    for (int column = 0; column < columns; column += 32) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) block[i] = _mm512_loadu_si512(from + (row + i) * stride + column);
      transpose_16x16(block);
      vnni_pair *panel = to + ((ptrdiff_t)(row / NR) * (columns / 2) + column / 2) * NR + row % NR;
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + i * NR, block[i]);
    }
}

/* The packed transpose of a weight (inputs, outputs) that `echoself_pack` has packed */
INLINE const vnni_pair *packed_transpose(const vnni_pair *packed, ptrdiff_t inputs, ptrdiff_t outputs) {
  return packed + inputs * outputs / 2;
}

/* ---- products ---- */

/* What the microkernel does to a sum before it stores it: */
typedef enum {
  STORE_F32,  /* nothing */
  ADD_F32,    /* adds the bias and `operand`, fp32 */
  STORE_BF16, /* adds the bias */
  BLEND_BF16, /* `alpha` times the sum plus `beta` times `operand`, bf16 */
  BIAS_GELU,  /* adds the bias; `activation` gets the GELU of that */
  GELU_BACKWARD, /* the sum is the gradient of a GELU, `operand` its input: `to` gets the input's gradient, `activation` the GELU */
} Epilogue;

typedef struct {
  void *to;
  ptrdiff_t stride; /* of `to`, `operand` and `activation`, in elements */
  const float *bias;
  const void *operand;
  void *activation;
  int tanh; /* GELU's approximation */
  float alpha, beta;
} Output;

INLINE void apply_epilogue(__m512 sum, Epilogue epilogue, const Output *out, ptrdiff_t row, ptrdiff_t column) {
  const ptrdiff_t at = row * out->stride + column;
  __m512 derivative;
  switch (epilogue) {
    case STORE_F32: _mm512_storeu_ps((float *)out->to + at, sum); break;
    case ADD_F32:
      sum = _mm512_add_ps(sum, load_bias(out->bias, column));
      _mm512_storeu_ps((float *)out->to + at, _mm512_add_ps(sum, _mm512_loadu_ps((const float *)out->operand + at)));
      break;
    case STORE_BF16: store_bf16((bf16 *)out->to + at, _mm512_add_ps(sum, load_bias(out->bias, column))); break;
    case BLEND_BF16:
      sum = _mm512_mul_ps(sum, _mm512_set1_ps(out->alpha));
      sum = _mm512_fmadd_ps(load_bf16((const bf16 *)out->operand + at), _mm512_set1_ps(out->beta), sum);
      store_bf16((bf16 *)out->to + at, sum);
      break;
    case BIAS_GELU:
      sum = round_to_bf16(_mm512_add_ps(sum, load_bias(out->bias, column)));
      store_bf16((bf16 *)out->to + at, sum);
      store_bf16((bf16 *)out->activation + at, gelu(sum, out->tanh, &derivative));
      break;
    case GELU_BACKWARD:
      store_bf16((bf16 *)out->activation + at, gelu(load_bf16((const bf16 *)out->operand + at), out->tanh, &derivative));
      store_bf16((bf16 *)out->to + at, _mm512_mul_ps(sum, derivative));
      break;
  }
}

/* 8 rows by 32 columns: 16 accumulators. The pair of row i and depth k is a[i * row_stride + k * k_stride]. */
INLINE void microkernel_8x32(const vnni_pair *a, ptrdiff_t row_stride, ptrdiff_t k_stride, const vnni_pair *b_panel,
                             int k_pairs, Epilogue epilogue, const Output *out, int row, int column) {
  __m512 sums[MR][2];
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
  for (int k = 0; k < k_pairs; k++) {
    const __m512bh b_0 = (__m512bh)_mm512_loadu_si512(b_panel + k * NR),
                   b_1 = (__m512bh)_mm512_loadu_si512(b_panel + k * NR + 16);
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
      const __m512bh a_i = (__m512bh)_mm512_set1_epi32((int)a[i * row_stride + k * k_stride]);
      sums[i][0] = _mm512_dpbf16_ps(sums[i][0], a_i, b_0);
      sums[i][1] = _mm512_dpbf16_ps(sums[i][1], a_i, b_1);
    }
  }
  float stored[MR][NR]; /* through memory, so that the epilogue is compiled once and not for each of the 16 accumulators */
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++) _mm512_storeu_ps(stored[i], sums[i][0]), _mm512_storeu_ps(stored[i] + 16, sums[i][1]);
#pragma GCC unroll 1
  for (int i = 0; i < MR; i++)
    for (int half = 0; half < NR; half += 16)
      apply_epilogue(_mm512_loadu_ps(stored[i] + half), epilogue, out, row + i, column + half);
}

/* a (rows, 2 * k_pairs), row-major, times the first k_pairs of the panels of b, which have panel_pairs */
INLINE void gemm(const bf16 *a, ptrdiff_t stride, int rows, const vnni_pair *b, int k_pairs, int panel_pairs, int columns,
                 Epilogue epilogue, Output out) {
  for (int column = 0; column < columns; column += NR)
    for (int row = 0; row < rows; row += MR)
      microkernel_8x32((const vnni_pair *)(a + row * stride), stride / 2, 1, b + (ptrdiff_t)column * panel_pairs, k_pairs,
                       epilogue, &out, row, column);
}

/* Columns [first, last) of a, transposed, times b; both are packed, with k_pairs */
INLINE void gemm_tn(const vnni_pair *a, int first, int last, const vnni_pair *b, int k_pairs, int columns, Epilogue epilogue,
                    Output out) {
  for (int panel = first; panel < last; panel += NR)
    for (int column = 0; column < columns; column += NR)
      for (int row = panel; row < panel + NR; row += MR)
        microkernel_8x32(a + (ptrdiff_t)panel * k_pairs + row % NR, 1, NR, b + (ptrdiff_t)column * k_pairs, k_pairs, epilogue,
                         &out, row, column);
}

#endif
