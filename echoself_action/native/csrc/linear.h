/* A linear layer with PyTorch's weight (outputs, inputs): y = x weight^T + bias, and its gradients. */

#pragma once

#include "gemm.h"
#include "memory.h"
#include "pool.h"

/* fp32 values as elements, which are the same memory where products are in fp32. */
INLINE const elem *as_elems(const float *from, size_t count, elem *scratch) {
  if (ELEMS_ARE_FLOATS) return (const elem *)(const void *)from;
  floats_to_elems(from, count, scratch);
  return scratch;
}
INLINE size_t elems_size(size_t count) { return ELEMS_ARE_FLOATS ? 0 : sizeof(elem) * count; }

/* `grad_weight` (outputs, inputs) is the product of the transposed gradient of y with x, both packed; `grad_bias` may be NULL. */
typedef struct {
  const unit *grad_y, *x;
  float *grad_weight, *grad_bias;
  int outputs, inputs, depth;
} WeightGradient;

enum { GRADIENT_COLUMNS = 256 / NR * NR };

/* The rows of a weight's gradient that are computed together. More of them read less memory, if all threads get some. */
INLINE int rows_at_once(int outputs, int inputs) { return outputs * inputs < 8 * ROW_BLOCK * GRADIENT_COLUMNS ? LEFT_PANEL : ROW_BLOCK; }
/* How many parts it has */
INLINE int linear_gradient_parts(int outputs, int inputs) {
  const int rows = rows_at_once(outputs, inputs);
  return (outputs + rows - 1) / rows * ((inputs + GRADIENT_COLUMNS - 1) / GRADIENT_COLUMNS);
}

SHARED void weight_gradient(const WeightGradient *g, int part) {
  const int columns = (g->inputs + GRADIENT_COLUMNS - 1) / GRADIENT_COLUMNS, most = rows_at_once(g->outputs, g->inputs);
  const int output = part / columns * most, outputs = smaller(g->outputs - output, most);
  const int input = part % columns * GRADIENT_COLUMNS, inputs = smaller(g->inputs - input, GRADIENT_COLUMNS);
  const unit *left = g->grad_y + (ptrdiff_t)output * g->depth;
  multiply(packed_columns(left, g->depth), outputs, g->x + (ptrdiff_t)input * g->depth, g->depth, inputs, STORE,
           (Output){.to = g->grad_weight + (ptrdiff_t)output * g->inputs + input, .stride = g->inputs});
  if (!g->grad_bias || input) return;
  for (int i = 0; i < outputs; i += LANES) {
    const unit *units = left + (ptrdiff_t)(i / LEFT_PANEL) * LEFT_PANEL * g->depth + i % LEFT_PANEL;
    vec sum = zeros();
    for (int k = 0; k < g->depth; k++) sum += sum_within_units(load_units(units + (ptrdiff_t)k * LEFT_PANEL));
    store_n(g->grad_bias + output + i, sum, outputs - i);
  }
}

typedef struct {
  const LinearLayer *layer;
  unit *weight, *x, *grad_y; /* packed */
  size_t scratch_size;
  char *scratch;
  int backward;
} LinearJob;

typedef struct { /* ROW_BLOCK rows, where elements are not fp32 */
  elem *x, *grad_y;
} LinearRows;

static LinearRows take_rows(const LinearJob *job, Memory *memory) {
  LinearRows rows;
  rows.x = take(memory, elems_size(ROW_BLOCK * (size_t)job->layer->inputs));
  rows.grad_y = take(memory, elems_size(ROW_BLOCK * (size_t)job->layer->outputs));
  return rows;
}

static void plan_linear(LinearJob *job, Memory *memory) {
  const LinearLayer *l = job->layer;
  const size_t forward = right_size(l->inputs, l->outputs), backward = right_size(l->outputs, l->inputs);
  job->weight = take(memory, sizeof(unit) * (forward > backward ? forward : backward));
  if (job->backward) {
    job->x = take(memory, sizeof(unit) * right_size(l->rows, l->inputs));
    job->grad_y = take(memory, sizeof(unit) * left_size(l->rows, l->outputs));
  }
  Memory own = {0};
  take_rows(job, &own);
  job->scratch_size = own.used;
  job->scratch = take(memory, job->scratch_size * (size_t)smaller(l->threads, MAX_THREADS));
}

static size_t linear_memory(const LinearLayer *layer) {
  LinearJob job = {.layer = layer, .backward = layer->grad_y != NULL};
  Memory memory = {0};
  plan_linear(&job, &memory);
  return memory.used;
}

static void pack_linear(const void *argument, int begin, int end, char *scratch) { /* an iteration is NR outputs */
  const LinearJob *job = argument;
  const LinearLayer *l = job->layer;
  (void)scratch;
  const int row = begin * NR, rows = smaller(end * NR, l->outputs) - row;
  const float *from = l->weight + (ptrdiff_t)row * l->inputs;
  if (job->backward)
    pack_floats(from, l->inputs, rows, l->inputs, NR, job->weight, row / PAIR, units_of(l->outputs));
  else
    pack_floats_transposed(from, l->inputs, rows, l->inputs, job->weight, row, units_of(l->inputs));
}

static void linear_rows(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const LinearJob *job = argument;
  const LinearLayer *l = job->layer;
  const LinearRows own = take_rows(job, &(Memory){scratch, 0});
  EACH_ROW_BLOCK(l->rows, begin, end) {
    const elem *x = as_elems(l->x + (ptrdiff_t)row * l->inputs, (size_t)rows * (size_t)l->inputs, own.x);
    multiply(row_major(x, l->inputs, l->inputs), rows, job->weight, units_of(l->inputs), l->outputs, BIAS,
             (Output){.to = l->y + (ptrdiff_t)row * l->outputs, .stride = l->outputs, .bias = l->bias});
  }
}

static void linear_rows_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const LinearJob *job = argument;
  const LinearLayer *l = job->layer;
  const LinearRows own = take_rows(job, &(Memory){scratch, 0});
  EACH_ROW_BLOCK(l->rows, begin, end) {
    const elem *x = as_elems(l->x + (ptrdiff_t)row * l->inputs, (size_t)rows * (size_t)l->inputs, own.x);
    const elem *grad_y = as_elems(l->grad_y + (ptrdiff_t)row * l->outputs, (size_t)rows * (size_t)l->outputs, own.grad_y);
    pack(x, l->inputs, rows, l->inputs, NR, job->x, row / PAIR, units_of(l->rows));
    pack(grad_y, l->outputs, rows, l->outputs, LEFT_PANEL, job->grad_y, row / PAIR, units_of(l->rows));
    if (l->grad_x)
      multiply(row_major(grad_y, l->outputs, l->outputs), rows, job->weight, units_of(l->outputs), l->inputs, STORE,
               (Output){.to = l->grad_x + (ptrdiff_t)row * l->inputs, .stride = l->inputs});
  }
}

static void linear_weight_gradient(const void *argument, int begin, int end, char *scratch) {
  const LinearJob *job = argument;
  const LinearLayer *l = job->layer;
  (void)scratch;
  const WeightGradient gradient = {job->grad_y, job->x, l->grad_weight, l->grad_bias, l->outputs, l->inputs, units_of(l->rows)};
  for (int i = begin; i < end; i++) weight_gradient(&gradient, i);
}

static void linear(const LinearLayer *layer, char *memory) {
  LinearJob job = {.layer = layer, .backward = layer->grad_y != NULL};
  Memory parts = {memory, 0};
  plan_linear(&job, &parts);
  const int tiles = (layer->rows + MR - 1) / MR;
#define OVER(body, count, most) echoself_parallel_for(body, &job, count, most, layer->threads, job.scratch, job.scratch_size)
  OVER(pack_linear, round_up(layer->outputs, NR) / NR, 4);
  if (job.backward) {
    OVER(linear_rows_backward, tiles, ROW_BLOCK / MR);
    OVER(linear_weight_gradient, linear_gradient_parts(layer->outputs, layer->inputs), 2);
  } else
    OVER(linear_rows, tiles, ROW_BLOCK / MR);
#undef OVER
}
