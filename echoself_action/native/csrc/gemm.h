/* Matrix products with fused epilogues, of any size.
 *
 * The right operand is packed: panels of NR columns, each (units, NR). The left operand is row-major, or packed in panels of
 * LEFT_PANEL columns where its transpose is multiplied. Packed operands are padded with zeros. One thread computes an element,
 * in one order of summation, so that results do not depend on the number of threads. */

#pragma once

#include "dropout.h"
#include "vector.h"

enum {
  ROW_BLOCK = 72 / LEFT_PANEL * LEFT_PANEL,   /* rows that stay in the second cache between products */
};

INLINE int units_of(int count) { return (count + PAIR - 1) / PAIR; }
/* The sizes of packed operands, in units */
INLINE size_t right_size(int k, int columns) { return (size_t)units_of(k) * (size_t)round_up(columns, NR); }
INLINE size_t left_size(int k, int columns) { return (size_t)units_of(k) * (size_t)round_up(columns, LEFT_PANEL); }

/* A loop over the blocks of some rows of `all`, `row` to `row + rows`, for a LoopBody whose iteration is MR rows */
#define EACH_ROW_BLOCK(all, begin, end)                                                                \
  for (int row = (begin) * MR, last = smaller((end) * MR, (all)), rows; row < last; row += rows)       \
    if ((rows = smaller(last - row, ROW_BLOCK)))

/* ---- packing ---- */

/* Packs (rows, columns), row-major, whose rows are summed over, into panels of `width` columns. They become units from `first`
 * of panels that have `total` of them; `first` is that of a whole number of units. */
#define PACK(name, type, units_of_rows)                                                                                    \
  SHARED void name(const type *from, ptrdiff_t stride, int rows, int columns, int width, unit *to, int first, int total) { \
    for (int column = 0; column < columns; column += width) {                                                              \
      unit *panel = to + ((ptrdiff_t)(column / width) * total + first) * width;                                            \
      for (int row = 0; row < rows; row += PAIR, panel += width) {                                                         \
        const type *upper = from + row * stride + column, *lower = upper + stride;                                         \
        if (columns - column >= width && row + PAIR <= rows) {                                                             \
          for (int i = 0; i < width; i += LANES) store_units(panel + i, units_of_rows(upper + i, lower + i));              \
          continue;                                                                                                        \
        }                                                                                                                  \
        type padded[2][(int)LEFT_PANEL > (int)NR ? LEFT_PANEL : NR] = {{0}};                                                         \
        const size_t bytes = sizeof(type) * (size_t)smaller(columns - column, width);                                      \
        memcpy(padded[0], upper, bytes);                                                                                   \
        if (row + 1 < rows) memcpy(padded[1], lower, bytes);                                                               \
        for (int i = 0; i < width; i += LANES) store_units(panel + i, units_of_rows(padded[0] + i, padded[1] + i));        \
      }                                                                                                                    \
    }                                                                                                                      \
  }
PACK(pack, elem, units_of_elem_rows)
PACK(pack_floats, float, units_of_float_rows)

/* Packs the transpose of (rows, columns), row-major, as a right operand: its columns are summed over. The rows become columns
 * from `first`, a multiple of NR, and panels have `total` units. */
#define PACK_TRANSPOSED(name, type, units_of_row)                                                                 \
  SHARED void name(const type *from, ptrdiff_t stride, int rows, int columns, unit *to, int first, int total) {  \
    for (int row = 0; row < rows; row += LANES) {                                                                \
      const int at = first + row;                                                                                \
      unit *panel = to + (ptrdiff_t)(at / NR) * total * NR + at % NR;                                            \
      for (int column = 0; column < columns; column += PAIR * LANES) {                                           \
        const int width = smaller(columns - column, PAIR * LANES), depth = units_of(width);                      \
        units block[LANES];                                                                                      \
        for (int i = 0; i < LANES; i++) {                                                                        \
          const type *here = from + (row + i) * stride + column;                                                 \
          type padded[PAIR * LANES];                                                                             \
          if (row + i >= rows || width < PAIR * LANES) {                                                         \
            memset(padded, 0, sizeof padded);                                                                    \
            if (row + i < rows) memcpy(padded, here, sizeof(type) * (size_t)width);                              \
            here = padded;                                                                                       \
          }                                                                                                      \
          block[i] = units_of_row(here);                                                                         \
        }                                                                                                        \
        transpose(block);                                                                                        \
        for (int i = 0; i < depth; i++) store_units(panel + (ptrdiff_t)(column / PAIR + i) * NR, block[i]);      \
      }                                                                                                          \
    }                                                                                                            \
    if (round_up(rows, LANES) < round_up(rows, NR)) /* the last panel is not full */                             \
      for (int row = round_up(rows, LANES); row < round_up(rows, NR); row += LANES)                              \
        for (int i = 0; i < units_of(columns); i++)                                                              \
          memset(to + (ptrdiff_t)((first + row) / NR) * total * NR + (first + row) % NR + (ptrdiff_t)i * NR, 0,  \
                 LANES * sizeof(unit));                                                                          \
  }
PACK_TRANSPOSED(pack_transposed, elem, units_of_elem_row)
PACK_TRANSPOSED(pack_floats_transposed, float, units_of_float_row)

/* ---- products ---- */

/* What is done to a sum before it is stored. `to` is fp32 up to RESIDUAL, and is then where partial sums are kept. */
typedef enum {
  STORE,         /* nothing; where `accumulate`, the sum is added to what is there */
  BIAS,          /* adds the bias */
  RESIDUAL,      /* adds the bias, multiplies by dropout's factors, and adds `operand`, fp32 */
  STORE_ELEMS,   /* adds the bias */
  BLEND_ELEMS,   /* `alpha` times the sum plus `beta` times `operand` */
  BIAS_GELU,     /* adds the bias; `activation` gets the GELU of that */
  GELU_BACKWARD, /* the sum is the gradient of a GELU, `operand` its input: `to` gets the input's gradient, `activation` the GELU */
} Epilogue;

typedef struct {
  void *to;
  ptrdiff_t stride; /* of `to`, `operand` and `activation`, in elements */
  const float *bias;
  const void *operand;
  void *activation;
  int tanh; /* GELU's approximation */
  int accumulate;
  float alpha, beta;
  const Dropout *dropout; /* with the first row's number, and the length of sequences */
  DropoutPlace place;
  int first_row, length;
} Output;

/* The left operand of a product: row-major elements, or packed units. `panel_bytes` is 0 for row-major ones. */
typedef struct {
  const char *at;
  ptrdiff_t row_bytes, panel_bytes;
  int k; /* elements that are summed over */
} Left;

INLINE Left row_major(const elem *at, ptrdiff_t stride, int k) {
  return (Left){(const char *)at, stride * (ptrdiff_t)sizeof(elem), 0, k};
}
INLINE Left packed_columns(const unit *panels, int total) { /* the transpose of what was packed, from the start of a panel */
  return (Left){(const char *)panels, sizeof(unit), (ptrdiff_t)sizeof(unit) * LEFT_PANEL * total, total * PAIR};
}

/* Where sums go, and what they are added to: rows that are `stride` and `start_stride` apart. No start is 0; a bias has stride 0.
 * It is passed by its address: a copy on the stack is read by wider loads than it was written by, which waits for the stores. */
typedef struct {
  float *to;
  ptrdiff_t stride;
  const float *start;
  ptrdiff_t start_stride;
} Sums;

/* The products of `count` units of a tile, (MR, NR) */
INLINE void tile(const char *a, ptrdiff_t row_bytes, ptrdiff_t unit_bytes, const unit *b, int count, const Sums *sums) {
  vec held[MR][NV];
  if (sums->start) {
    UNROLL for (int i = 0; i < MR; i++)
      UNROLL for (int j = 0; j < NV; j++) held[i][j] = load(sums->start + i * sums->start_stride + j * LANES);
  } else {
    UNROLL for (int i = 0; i < MR; i++)
      UNROLL for (int j = 0; j < NV; j++) held[i][j] = zeros();
  }
  /* on a core that issues four instructions per cycle, the loop's own ones would delay the products */
  UNROLL_BY_4 for (int k = 0; k < count; k++) {
    units right[NV];
    UNROLL for (int j = 0; j < NV; j++) right[j] = load_units(b + j * LANES);
    UNROLL for (int i = 0; i < MR; i++) {
      const units left = broadcast_unit(a + i * row_bytes);
      UNROLL for (int j = 0; j < NV; j++) held[i][j] = dot(held[i][j], left, right[j]);
    }
    a += unit_bytes, b += NR;
  }
  UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int j = 0; j < NV; j++) store(sums->to + i * sums->stride + j * LANES, held[i][j]);
}

SHARED void tile_of_rows(const char *a, ptrdiff_t row_bytes, const unit *b, int count, const Sums *sums) {
  tile(a, row_bytes, sizeof(unit), b, count, sums);
}
SHARED void tile_of_columns(const char *a, ptrdiff_t unit_bytes, const unit *b, int count, const Sums *sums) {
  tile(a, sizeof(unit), unit_bytes, b, count, sums);
}

/* A tile of fewer than MR rows, or with an odd element at the end of its rows: copied and padded with zeros. */
SHARED void tile_of_few_rows(const Left *left, int row, int rows, int first, const unit *b, int count, const Sums *sums) {
  unit copied[K_BLOCK][MR];
  memset(copied, 0, sizeof(unit) * MR * (size_t)count);
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < count; k++) {
      const ptrdiff_t at = (first + k) * (ptrdiff_t)sizeof(unit);
      const int elements = smaller(PAIR, left->k - (first + k) * PAIR);
      memcpy(&copied[k][i], left->at + (row + i) * left->row_bytes + at, sizeof(elem) * (size_t)elements);
    }
  tile_of_columns((const char *)copied, sizeof copied[0], b, count, sums);
}

/* Sums of (rows rounded up to MR, NR): the products of units [first, first + count) */
INLINE void tiles(const Left *left, int row, int rows, const unit *panel, int first, int count, Sums sums) {
  const int odd = left->k % PAIR && first + count == units_of(left->k);
  const unit *b = panel + (ptrdiff_t)first * NR;
  for (int end = row + rows; row < end; row += MR) {
    if (left->panel_bytes) {
      const char *a = left->at + row / LEFT_PANEL * left->panel_bytes;
      a += (row % LEFT_PANEL + (ptrdiff_t)first * LEFT_PANEL) * (ptrdiff_t)sizeof(unit);
      tile_of_columns(a, LEFT_PANEL * sizeof(unit), b, count, &sums);
    } else if (end - row < MR || odd)
      tile_of_few_rows(left, row, smaller(end - row, MR), first, b, count, &sums);
    else
      tile_of_rows(left->at + row * left->row_bytes + first * (ptrdiff_t)sizeof(unit), left->row_bytes, b, count, &sums);
    sums.to += MR * sums.stride;
    if (sums.start) sums.start += MR * sums.start_stride;
  }
}

/* `finish` for one epilogue, and for whole panels if `columns` is NR: both are constants where it is called. */
INLINE void finish_by(const float *sums, int row, int rows, int column, int columns, Epilogue epilogue, const Output *out) {
  const int drops = epilogue == RESIDUAL && out->dropout && out->dropout->seeds;
  for (int i = 0; i < rows; i++) {
    const int number = out->first_row + row + i;
    DropoutRow kept = {0};
    if (drops) kept = dropout_row(out->dropout, out->place, number / out->length, number % out->length);
    for (int j = 0; j < columns; j += LANES) {
      const int count = smaller(columns - j, LANES);
      const ptrdiff_t at = (row + i) * out->stride + column + j;
      vec sum = load(sums + i * NR + j), derivative;
      switch (epilogue) {
        case STORE: store_n((float *)out->to + at, sum, count); break;
        case BIAS: store_n((float *)out->to + at, sum + load_bias(out->bias, column + j, count), count); break;
        case RESIDUAL:
          sum += load_bias(out->bias, column + j, count);
          if (drops) sum *= dropout_factors(kept, column + j);
          store_n((float *)out->to + at, sum + load_n((const float *)out->operand + at, count), count);
          break;
        case STORE_ELEMS: store_elems_n((elem *)out->to + at, sum + load_bias(out->bias, column + j, count), count); break;
        case BLEND_ELEMS:
          sum = out->beta * load_elems_n((const elem *)out->operand + at, count) + out->alpha * sum;
          store_elems_n((elem *)out->to + at, sum, count);
          break;
        case BIAS_GELU:
          sum = round_to_elem(sum + load_bias(out->bias, column + j, count));
          if (out->to) store_elems_n((elem *)out->to + at, sum, count);
          store_elems_n((elem *)out->activation + at, gelu(sum, out->tanh, &derivative), count);
          break;
        case GELU_BACKWARD:
          store_elems_n((elem *)out->activation + at,
                        gelu(load_elems_n((const elem *)out->operand + at, count), out->tanh, &derivative), count);
          store_elems_n((elem *)out->to + at, sum * derivative, count);
          break;
      }
    }
  }
}

/* Stores `sums` (rows, NR) at (row, column) of the output. */
SHARED void finish(const float *sums, int row, int rows, int column, int columns, Epilogue epilogue, const Output *out) {
#define CASE(name)                                                 \
  case name:                                                       \
    if (columns == NR)                                             \
      finish_by(sums, row, rows, column, NR, name, out);           \
    else                                                           \
      finish_by(sums, row, rows, column, columns, name, out);      \
    break;
  switch (epilogue) {
    CASE(STORE)
    CASE(BIAS)
    CASE(RESIDUAL)
    CASE(STORE_ELEMS)
    CASE(BLEND_ELEMS)
    CASE(BIAS_GELU)
    CASE(GELU_BACKWARD)
  }
#undef CASE
}

/* Asks for what an epilogue will read: a processor does not foresee short parts of rows that are far apart. */
INLINE void prefetch_operand(const Output *out, Epilogue epilogue, int row, int rows, int column, int columns) {
  const ptrdiff_t size = epilogue == RESIDUAL ? sizeof(float) : sizeof(elem);
  const char *at = (const char *)out->operand + (row * out->stride + column) * size;
  for (int i = 0; i < rows; i++, at += out->stride * size)
    for (ptrdiff_t line = 0; line < columns * size; line += 64) __builtin_prefetch(at + line);
}

/* `rows` rows of a product with the panels of `right`, which have `total` units. */
SHARED void multiply(Left left, int rows, const unit *right, int total, int columns, Epilogue epilogue, Output out) {
  const int depth = units_of(left.k), blocks = (depth + K_BLOCK - 1) / K_BLOCK, block = (depth + blocks - 1) / blocks;
  const int keeps_sums = epilogue <= RESIDUAL; /* a block of the left operand then meets all panels */
  const int adds_bias = out.bias && (epilogue == BIAS || (ELEMS_ARE_FLOATS && epilogue == STORE_ELEMS));
  const int plain = epilogue == STORE || epilogue == BIAS || (ELEMS_ARE_FLOATS && epilogue == STORE_ELEMS);
  const int accumulate = epilogue == STORE && out.accumulate;
  float sums[ROW_BLOCK * NR] __attribute__((aligned(64)));
  Output rest_out = out;
  if (adds_bias) rest_out.bias = NULL; /* sums start at it */
  for (int row = 0; row < rows; row += ROW_BLOCK) {
    const int count = smaller(rows - row, ROW_BLOCK);
    for (int first = 0, last; first < depth; first = last) {
      last = keeps_sums ? smaller(first + block, depth) : depth;
      for (int column = 0; column < columns; column += NR) {
        const int width = smaller(columns - column, NR), resumes = first || accumulate;
        const unit *panel = right + (ptrdiff_t)column * total;
        const int direct = plain && width == NR ? count / MR * MR : 0, rest = count - direct; /* rows without an epilogue */
        float *to = (float *)out.to + row * out.stride + column;
        float padded[NR] = {0};
        const float *start = NULL; /* of the first sums */
        if (adds_bias) start = width == NR ? out.bias + column : memcpy(padded, out.bias + column, sizeof(float) * (size_t)width);
        Sums here = {to, out.stride, resumes ? to : start, resumes ? out.stride : 0};
        for (int k = first; direct && k < last; k += block, here.start = to, here.start_stride = out.stride)
          tiles(&left, row, direct, panel, k, smaller(block, last - k), here);
        if (!rest) continue;
        if (out.operand && last == depth) prefetch_operand(&out, epilogue, row + direct, rest, column, width);
        for (int i = 0; resumes && i < rest; i++)
          for (int j = 0; j < width; j += LANES)
            store(sums + i * NR + j, load_n(to + (direct + i) * out.stride + j, smaller(width - j, LANES)));
        here = (Sums){sums, NR, resumes ? sums : start, resumes ? NR : 0};
        for (int k = first; k < last; k += block, here.start = sums, here.start_stride = NR)
          tiles(&left, row + direct, rest, panel, k, smaller(block, last - k), here);
        finish(sums, row + direct, rest, column, width, last < depth ? STORE : epilogue, &rest_out);
      }
    }
  }
}
