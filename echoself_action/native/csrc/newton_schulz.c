/* Newton-Schulz steps for Muon, which bring the singular values of matrices near 1. Of a symmetric product only the upper triangle
 * is computed. */

#include "gemm.h"

#ifdef SUPPORTED

/* Copies the upper triangle of a symmetric matrix to the lower one, except for the NR x NR blocks on the diagonal, which are whole. */
static void copy_upper_to_lower(bf16 *matrix, int size) {
  for (int row = 0; row < size; row += 16)
    for (int column = row / NR * NR + NR; column < size; column += 16) {
      __m512i block[16];
      for (int i = 0; i < 16; i++)
        block[i] = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(matrix + (ptrdiff_t)(row + i) * size + column)));
      transpose_16x16(block);
      for (int i = 0; i < 16; i++)
        _mm256_storeu_si256((void *)(matrix + (ptrdiff_t)(column + i) * size + row), _mm512_cvtepi32_epi16(block[i]));
    }
}

static size_t panels_size(const NewtonSchulz *m) { return 2 * (size_t)m->rows * (size_t)m->columns; } /* bytes */

static int shorter(const NewtonSchulz *m) { return m->rows < m->columns ? m->rows : m->columns; }

static size_t thread_scratch(const NewtonSchulz *m) {
  const size_t small = 2 * (size_t)shorter(m) * (size_t)shorter(m);
  return (2 * panels_size(m) + 3 * small + 63) / 64 * 64;
}

/* x becomes a x + b (x x^T) x + c (x x^T)^2 x. The Gram matrix is that of the shorter side: x^T x for a tall x. */
static void newton_schulz_step(const NewtonSchulz *m, bf16 *x, const float *coefficients, char *scratch) {
  const int rows = m->rows, columns = m->columns, size = shorter(m), tall = rows > columns;
  vnni_pair *panels = (vnni_pair *)scratch;
  bf16 *copy = (bf16 *)(scratch + panels_size(m)), *gram = copy + panels_size(m) / 2, *factor = gram + size * size;
  vnni_pair *packed = (vnni_pair *)(factor + size * size);

  if (tall)
    pack_vnni(x, columns, rows, columns, panels, 0, rows / 2);
  else
    pack_vnni_transposed(x, columns, rows, columns, panels);
  for (int row = 0; row < size; row += NR) {
    const Output here = {.to = gram + row, .stride = size};
    const Output below = {.to = gram + (ptrdiff_t)row * size + row, .stride = size};
    if (tall)
      gemm_tn(panels, row, row + NR, panels + (ptrdiff_t)row * (rows / 2), rows / 2, size - row, STORE_BF16, here);
    else
      gemm(x + (ptrdiff_t)row * columns, columns, NR, panels + (ptrdiff_t)row * (columns / 2), columns / 2, columns / 2,
           size - row, STORE_BF16, below);
  }
  copy_upper_to_lower(gram, size);

  pack_vnni(gram, size, size, size, packed, 0, size / 2);
  for (int row = 0; row < size; row += NR) {
    const ptrdiff_t diagonal = (ptrdiff_t)row * size + row;
    gemm(gram + (ptrdiff_t)row * size, size, NR, packed + (ptrdiff_t)row * (size / 2), size / 2, size / 2, size - row,
         BLEND_BF16,
         (Output){.to = factor + diagonal,
                  .stride = size,
                  .operand = gram + diagonal,
                  .alpha = coefficients[2],
                  .beta = coefficients[1]});
  }
  copy_upper_to_lower(factor, size);

  const Output out = {.to = x, .stride = columns, .operand = x, .alpha = 1.0f, .beta = coefficients[0]};
  if (!tall) {
    pack_vnni(x, columns, rows, columns, panels, 0, rows / 2);
    gemm(factor, size, rows, panels, size / 2, size / 2, columns, BLEND_BF16, out);
    return;
  }
  memcpy(copy, x, panels_size(m));
  pack_vnni(factor, size, size, size, packed, 0, size / 2);
  for (int row = 0; row < rows; row += NR) {
    Output rows_out = out;
    rows_out.to = x + (ptrdiff_t)row * columns, rows_out.operand = rows_out.to;
    gemm(copy + (ptrdiff_t)row * columns, columns, NR, packed, size / 2, size / 2, columns, BLEND_BF16, rows_out);
  }
}

static void newton_schulz_range(const void *argument, int begin, int end, char *scratch) {
  const NewtonSchulz *m = argument;
  for (int matrix = begin; matrix < end; matrix++)
    for (int i = 0; i < m->steps; i++)
      newton_schulz_step(m, m->x + (ptrdiff_t)matrix * m->rows * m->columns, m->coefficients + 3 * i, scratch);
}

size_t echoself_newton_schulz_scratch(const NewtonSchulz *m) { return thread_scratch(m) * (size_t)m->threads + 64; }

void echoself_newton_schulz(const NewtonSchulz *m, char *scratch) {
  parallel_for(newton_schulz_range, m, m->count, m->threads, align_64(scratch), thread_scratch(m));
}

#endif
