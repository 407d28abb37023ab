/* Newton-Schulz steps for Muon: matrices with their singular values brought near one. What is symmetric is computed by half. */

#include "gemm.h"

typedef struct {
  int32_t count, rows, columns, steps, threads;
  bf16 *x;                   /* (count, rows, columns) */
  const float *coefficients; /* (steps, 3): of x, x^3 and x^5 */
} Matrices;

#ifdef SUPPORTED

/* The upper half of a symmetric matrix, with all of the squares on its diagonal, is copied to the lower. */
static void mirror(bf16 *matrix, int size) {
  for (int row = 0; row < size; row += 16)
    for (int column = row / PANEL * PANEL + PANEL; column < size; column += 16) {
      __m512i block[16];
      for (int i = 0; i < 16; i++)
        block[i] = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(matrix + (ptrdiff_t)(row + i) * size + column)));
      turn(block);
      for (int i = 0; i < 16; i++)
        _mm256_storeu_si256((void *)(matrix + (ptrdiff_t)(column + i) * size + row), _mm512_cvtepi32_epi16(block[i]));
    }
}

static size_t panels_size(const Matrices *m) { return 2 * (size_t)m->rows * (size_t)m->columns; } /* bytes */

static int shorter(const Matrices *m) { return m->rows < m->columns ? m->rows : m->columns; }

static size_t own_scratch(const Matrices *m) {
  const size_t small = 2 * (size_t)shorter(m) * (size_t)shorter(m);
  return (2 * panels_size(m) + 3 * small + 63) / 64 * 64;
}

/* x becomes a x + b x^3 + c x^5, where x^3 is (x x^T) x: by the product with itself of the shorter side */
static void step(const Matrices *m, bf16 *x, const float *coefficients, char *own) {
  const int rows = m->rows, columns = m->columns, size = shorter(m), tall = rows > columns;
  pair *panels = (pair *)own;
  bf16 *before = (bf16 *)(own + panels_size(m)), *gram = before + panels_size(m) / 2, *factor = gram + size * size;
  pair *square = (pair *)(factor + size * size);

  if (tall)
    interleave(x, columns, rows, columns, panels, 0, rows / 2);
  else
    transpose(x, columns, rows, columns, panels);
  for (int row = 0; row < size; row += PANEL) {
    const Result here = {.to = gram + row, .stride = size};
    const Result below = {.to = gram + (ptrdiff_t)row * size + row, .stride = size};
    if (tall)
      by_columns(panels, row, row + PANEL, panels + (ptrdiff_t)row * (rows / 2), rows / 2, size - row, TO_BF16, here);
    else
      by_rows(x + (ptrdiff_t)row * columns, columns, PANEL, panels + (ptrdiff_t)row * (columns / 2), columns / 2, columns / 2,
              size - row, TO_BF16, below);
  }
  mirror(gram, size);

  interleave(gram, size, size, size, square, 0, size / 2);
  for (int row = 0; row < size; row += PANEL) {
    const ptrdiff_t diagonal = (ptrdiff_t)row * size + row;
    by_rows(gram + (ptrdiff_t)row * size, size, PANEL, square + (ptrdiff_t)row * (size / 2), size / 2, size / 2, size - row,
            TO_BLEND, (Result){.to = factor + diagonal, .stride = size, .with = gram + diagonal, .share = coefficients[2],
                               .other_share = coefficients[1]});
  }
  mirror(factor, size);

  const Result result = {.to = x, .stride = columns, .with = x, .share = 1.0f, .other_share = coefficients[0]};
  if (!tall) {
    interleave(x, columns, rows, columns, panels, 0, rows / 2);
    by_rows(factor, size, rows, panels, size / 2, size / 2, columns, TO_BLEND, result);
    return;
  }
  memcpy(before, x, panels_size(m));
  interleave(factor, size, size, size, square, 0, size / 2);
  for (int row = 0; row < rows; row += PANEL) {
    Result chunk = result;
    chunk.to = x + (ptrdiff_t)row * columns, chunk.with = chunk.to;
    by_rows(before + (ptrdiff_t)row * columns, columns, PANEL, square, size / 2, size / 2, columns, TO_BLEND, chunk);
  }
}

static void some(const void *given, int first, int last, char *own) {
  const Matrices *m = given;
  for (int matrix = first; matrix < last; matrix++)
    for (int i = 0; i < m->steps; i++)
      step(m, m->x + (ptrdiff_t)matrix * m->rows * m->columns, m->coefficients + 3 * i, own);
}

/* Bytes of scratch that `orthogonal` takes. */
size_t orthogonal_scratch(const Matrices *m) { return own_scratch(m) * (size_t)m->threads + 64; }

/* Takes the steps for all matrices, in place. */
void orthogonal(const Matrices *m, char *scratch) {
  deal(some, m, m->count, m->threads, aligned(scratch), own_scratch(m));
}

#endif
