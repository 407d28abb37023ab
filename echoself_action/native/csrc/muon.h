/* Muon's update: the Nesterov momentum of a gradient, orthogonalised by Newton-Schulz iterations, which bring singular values near
 * 1. A thread updates a matrix. Of a symmetric product only the upper triangle is computed. */

#pragma once

#include "gemm.h"
#include "memory.h"
#include "pool.h"

/* A matrix x (rows, columns). `size` is its shorter side, and that of its Gram matrix: x^T x for a tall x, else x x^T. */
typedef struct {
  int rows, columns, size, tall;
  elem *x, *copy, *gram, *factor, *product, *transform;
  unit *packed, *packed_x, *packed_left;
} Matrix;

static Matrix take_matrix(const MuonStep *m, Memory *memory) {
  Matrix a = {.rows = m->rows, .columns = m->columns / m->side_by_side};
  a.tall = a.rows > a.columns, a.size = smaller(a.rows, a.columns);
  const size_t all = sizeof(elem) * (size_t)a.rows * (size_t)a.columns, square = sizeof(elem) * (size_t)a.size * (size_t)a.size;
  a.x = take(memory, all), a.copy = take(memory, all);
  a.gram = take(memory, square), a.factor = take(memory, square);
  a.product = take(memory, square), a.transform = take(memory, square);
  a.packed = take(memory, sizeof(unit) * right_size(a.size, a.size));
  const size_t plain = right_size(a.rows, a.columns), transposed = right_size(a.columns, a.rows);
  a.packed_x = take(memory, sizeof(unit) * (plain > transposed ? plain : transposed));
  a.packed_left = take(memory, sizeof(unit) * (a.tall ? left_size(a.rows, a.columns) : 0));
  return a;
}

/* Copies the upper triangle of a symmetric matrix to the lower one, by blocks of LANES rows and columns. Those on the diagonal are
 * whole, because products are computed by panels of NR columns. */
static void copy_upper_to_lower(elem *matrix, int size) {
  for (int row = 0; row < size; row += LANES)
    for (int column = round_up(row + 1, NR); column < size; column += LANES) {
      const int rows = smaller(size - row, LANES), columns = smaller(size - column, LANES);
      units block[LANES];
      for (int i = 0; i < LANES; i++)
        block[i] = (units)(i < rows ? load_elems_n(matrix + (ptrdiff_t)(row + i) * size + column, columns) : zeros());
      transpose(block);
      for (int i = 0; i < columns; i++) store_elems_n(matrix + (ptrdiff_t)(column + i) * size + row, (vec)block[i], rows);
    }
}

/* Row blocks of a symmetric matrix (size, size), each from the panel with the diagonal on. Small ones compute less below it. */
#define EACH_UPPER_BLOCK(size)                                                           \
  for (int row = 0, column = 0, rows; row < (size); row += rows, column = row / NR * NR) \
    if ((rows = smaller((size) - row, LEFT_PANEL)))

static void gram_matrix(const Matrix *a) {
  const int summed = a->tall ? a->rows : a->columns, depth = units_of(summed);
  if (a->tall) {
    pack(a->x, a->columns, a->rows, a->columns, LEFT_PANEL, a->packed_left, 0, depth);
    pack(a->x, a->columns, a->rows, a->columns, NR, a->packed_x, 0, depth);
  } else
    pack_transposed(a->x, a->columns, a->rows, a->columns, a->packed_x, 0, depth);
  EACH_UPPER_BLOCK(a->size) {
    const Left left = a->tall ? packed_columns(a->packed_left + (ptrdiff_t)row * depth, depth)
                              : row_major(a->x + (ptrdiff_t)row * summed, summed, summed);
    multiply(left, rows, a->packed_x + (ptrdiff_t)column * depth, depth, a->size - column, STORE_ELEMS,
             (Output){.to = a->gram + (ptrdiff_t)row * a->size + column, .stride = a->size});
  }
  copy_upper_to_lower(a->gram, a->size);
}

static void add_to_diagonal(elem *matrix, int size, float value) {
  for (int i = 0; i < size && value != 0; i++) {
    elem *at = matrix + (ptrdiff_t)i * size + i;
    *at = float_to_elem(elem_to_float(*at) + value);
  }
}

/* `to` = alpha a b + beta c, for symmetric a and b that commute. `c` may be `to`, and no other. */
static void multiply_symmetric(const Matrix *m, const elem *a, const elem *b, float alpha, float beta, const elem *c, elem *to) {
  const int size = m->size, depth = units_of(size);
  pack(b, size, size, size, NR, m->packed, 0, depth);
  EACH_UPPER_BLOCK(size) {
    const ptrdiff_t at = (ptrdiff_t)row * size + column;
    multiply(row_major(a + (ptrdiff_t)row * size, size, size), rows, m->packed + (ptrdiff_t)column * depth, depth, size - column,
             BLEND_ELEMS, (Output){.to = to + at, .stride = size, .operand = c + at, .alpha = alpha, .beta = beta});
  }
  copy_upper_to_lower(to, size);
}

/* x = beta x + t x, for a symmetric t on the side of the Gram matrix */
static void transform_x(const Matrix *a, const elem *t, float beta) {
  const Output out = {.to = a->x, .stride = a->columns, .operand = a->x, .alpha = 1.0f, .beta = beta};
  if (a->tall) {
    memcpy(a->copy, a->x, sizeof(elem) * (size_t)a->rows * (size_t)a->columns);
    pack(t, a->size, a->size, a->size, NR, a->packed, 0, units_of(a->size));
    multiply(row_major(a->copy, a->columns, a->columns), a->rows, a->packed, units_of(a->size), a->columns, BLEND_ELEMS, out);
  } else {
    pack(a->x, a->columns, a->rows, a->columns, NR, a->packed_x, 0, units_of(a->rows));
    multiply(row_major(t, a->size, a->size), a->rows, a->packed_x, units_of(a->size), a->columns, BLEND_ELEMS, out);
  }
}

/* Each step: x = a x + b (x x^T) x + c (x x^T)^2 x */
static void iterate_x(const Matrix *a, const float *coefficients, int steps) {
  for (const float *c = coefficients; c < coefficients + 3 * steps; c += 3) {
    gram_matrix(a);
    multiply_symmetric(a, a->gram, a->gram, c[2], c[1], a->gram, a->factor);
    transform_x(a, a->factor, c[0]);
  }
}

/* The steps on the Gram matrix alone: x is multiplied once by the product of their polynomials, which all commute. It is less work,
 * and needs the precision of fp32. */
static void iterate_gram(Matrix *a, const float *coefficients, int steps) {
  gram_matrix(a);
  for (int step = 0; step < steps; step++) {
    elem *factor = step ? a->factor : a->transform;
    const float *c = coefficients + 3 * step;
    multiply_symmetric(a, a->gram, a->gram, c[2], c[1], a->gram, factor);
    add_to_diagonal(factor, a->size, c[0]);
    if (step + 1 < steps) {
      multiply_symmetric(a, factor, a->gram, 1.0f, 0.0f, a->gram, a->product);
      multiply_symmetric(a, factor, a->product, 1.0f, 0.0f, a->product, a->gram);
    }
    if (step) {
      multiply_symmetric(a, factor, a->transform, 1.0f, 0.0f, a->transform, a->product);
      elem *updated = a->product;
      a->product = a->transform, a->transform = updated;
    }
  }
  transform_x(a, a->transform, 0.0f);
}

/* The Nesterov momentum of `count` elements, and the momentum that it is made of */
INLINE vec nesterov(const MuonStep *m, const float *gradient, const float *momentum, int count, int updated, vec *next) {
  const vec g = load_n(gradient, count) * m->gradient_scale, before = load_n(momentum, count);
  *next = updated ? before : before + (g - before) * (1.0f - m->momentum);
  return g + (*next - g) * m->momentum;
}

static void update_matrices(const void *argument, int begin, int end, char *scratch) { /* an iteration is a matrix */
  const MuonStep *m = argument;
  Memory memory = {scratch, 0};
  Matrix a = take_matrix(m, &memory);
  for (int iteration = begin; iteration < end; iteration++) {
    const int number = iteration / m->side_by_side, first = iteration % m->side_by_side * a.columns;
    const float *gradient = m->gradients[number] + first;
    float *momentum = m->momenta[number] + first, *parameter = m->parameters[number] + first;
    vec squares = zeros(), next;
    for (int row = 0; row < a.rows; row++)
      for (int i = 0; i < a.columns; i += LANES) {
        const ptrdiff_t at = (ptrdiff_t)row * m->columns + i;
        const vec update = nesterov(m, gradient + at, momentum + at, a.columns - i, 0, &next);
        store_n(momentum + at, next, a.columns - i);
        squares = multiply_add(update, update, squares);
      }
    const float scale = 1.0f / (sqrtf(sum_of(squares)) * 1.01f + 1e-7f);
    for (int row = 0; row < a.rows; row++)
      for (int i = 0; i < a.columns; i += LANES) {
        const ptrdiff_t at = (ptrdiff_t)row * m->columns + i;
        const vec update = nesterov(m, gradient + at, momentum + at, a.columns - i, 1, &next);
        store_elems_n(a.x + (ptrdiff_t)row * a.columns + i, update * scale, a.columns - i);
      }
    if (FP32)
      iterate_gram(&a, m->coefficients, m->steps);
    else
      iterate_x(&a, m->coefficients, m->steps);
    for (int row = 0; row < a.rows; row++)
      for (int i = 0; i < a.columns; i += LANES) {
        float *at = parameter + (ptrdiff_t)row * m->columns + i;
        const vec update = load_elems_n(a.x + (ptrdiff_t)row * a.columns + i, a.columns - i);
        store_n(at, load_n(at, a.columns - i) * m->decay - update * m->rate, a.columns - i);
      }
  }
}

static size_t muon_thread_memory(const MuonStep *m) {
  Memory memory = {0};
  take_matrix(m, &memory);
  return memory.used + 64;
}

static size_t muon_memory(const MuonStep *m) { return muon_thread_memory(m) * (size_t)(m->threads < MAX_THREADS ? m->threads : MAX_THREADS); }

static void muon(const MuonStep *m, char *memory) {
  echoself_parallel_for(update_matrices, m, m->count * m->side_by_side, 1, m->threads, memory, muon_thread_memory(m));
}
