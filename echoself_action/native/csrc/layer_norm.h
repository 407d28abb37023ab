/* Layer norm, forward and backward, of rows in fp32. */

#pragma once

#include "memory.h"
#include "pool.h"
#include "vector.h"

INLINE void mean_and_rstd(const float *x, int width, float epsilon, float *mean, float *rstd) {
  vec sum = zeros(), squares = zeros();
  for (int i = 0; i < width; i += LANES) sum += load_n(x + i, width - i);
  *mean = sum_of(sum) / (float)width;
  for (int i = 0; i < width; i += LANES) {
    vec off = load_n(x + i, width - i) - *mean;
    if (width - i < LANES) off = (vec)((ints)off & first_lanes(width - i));
    squares = multiply_add(off, off, squares);
  }
  *rstd = 1.0f / sqrtf(sum_of(squares) / (float)width + epsilon);
}

SHARED void layer_norm(const float *x, int rows, int width, const float *weight, const float *bias, float epsilon, elem *to) {
  for (int row = 0; row < rows; row++, x += width, to += width) {
    float mean, rstd;
    mean_and_rstd(x, width, epsilon, &mean, &rstd);
    for (int i = 0; i < width; i += LANES) {
      const int count = width - i;
      const vec x_hat = (load_n(x + i, count) - mean) * rstd;
      store_elems_n(to + i, multiply_add(x_hat, load_n(weight + i, count), load_bias(bias, i, count)), count);
    }
  }
}

/* `grad_x` = the gradient of x, plus `residual` if it is not NULL; `x_hat` = (x - mean) / standard deviation */
SHARED void layer_norm_backward(const float *x, const float *grad_y, const float *residual, int rows, int width,
                                const float *weight, float epsilon, float *x_hat, float *grad_x) {
  for (int row = 0; row < rows; row++, x += width, grad_y += width, x_hat += width, grad_x += width) {
    float mean, rstd;
    mean_and_rstd(x, width, epsilon, &mean, &rstd);
    vec sum = zeros(), dot = sum;
    for (int i = 0; i < width; i += LANES) {
      const int count = width - i;
      const vec x_hat_i = (load_n(x + i, count) - mean) * rstd;
      const vec gradient = load_n(grad_y + i, count) * load_n(weight + i, count);
      store_n(x_hat + i, x_hat_i, count);
      sum += gradient;
      dot = multiply_add(gradient, x_hat_i, dot);
    }
    const float mean_gradient = sum_of(sum) / (float)width, mean_dot = sum_of(dot) / (float)width;
    for (int i = 0; i < width; i += LANES) {
      const int count = width - i;
      vec gradient = load_n(grad_y + i, count) * load_n(weight + i, count) - mean_gradient;
      gradient = (gradient - load_n(x_hat + i, count) * mean_dot) * rstd;
      if (residual) gradient += load_n(residual + i, count);
      store_n(grad_x + i, gradient, count);
    }
    if (residual) residual += width;
  }
}

INLINE void add_or_store(float *to, vec value, int count, int accumulate) {
  store_n(to, accumulate ? load_n(to, count) + value : value, count);
}

/* The gradients of the weight and the bias (which may be NULL) in columns [begin, end) */
SHARED void layer_norm_gradients(const float *grad_y, const float *x_hat, int rows, int width, int begin, int end, float *weight,
                                 float *bias, int accumulate) {
  for (int column = begin; column < end; column += LANES) {
    const int count = end - column;
    vec sum = zeros(), dot = sum;
    for (ptrdiff_t at = column; at < (ptrdiff_t)rows * width; at += width) {
      const vec gradient = load_n(grad_y + at, count);
      sum += gradient;
      dot = multiply_add(gradient, load_n(x_hat + at, count), dot);
    }
    add_or_store(weight + column, dot, count, accumulate);
    if (bias) add_or_store(bias + column, sum, count, accumulate);
  }
}

/* ---- as a layer ---- */

typedef struct {
  const LayerNormLayer *layer;
  float *x_hat; /* (rows, width) */
} LayerNormJob;

static void layer_norm_rows(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const LayerNormJob *job = argument;
  const LayerNormLayer *l = job->layer;
  (void)scratch;
  for (int row = begin; row < end; row++) {
    const ptrdiff_t start = (ptrdiff_t)row * l->width;
    float mean, rstd;
    mean_and_rstd(l->x + start, l->width, l->epsilon, &mean, &rstd);
    for (int i = 0; i < l->width; i += LANES) {
      const int count = l->width - i;
      const vec x_hat = (load_n(l->x + start + i, count) - mean) * rstd;
      store_n(l->y + start + i, multiply_add(x_hat, load_n(l->weight + i, count), load_bias(l->bias, i, count)), count);
    }
  }
}

static void layer_norm_rows_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const LayerNormJob *job = argument;
  const LayerNormLayer *l = job->layer;
  (void)scratch;
  const ptrdiff_t start = (ptrdiff_t)begin * l->width;
  layer_norm_backward(l->x + start, l->grad_y + start, NULL, end - begin, l->width, l->weight, l->epsilon, job->x_hat + start,
                      l->grad_x + start);
}

static void layer_norm_columns_backward(const void *argument, int begin, int end, char *scratch) { /* LANES columns */
  const LayerNormJob *job = argument;
  const LayerNormLayer *l = job->layer;
  (void)scratch;
  layer_norm_gradients(l->grad_y, job->x_hat, l->rows, l->width, begin * LANES, smaller(end * LANES, l->width), l->grad_weight,
                       l->grad_bias, 0);
}

static size_t layer_norm_memory(const LayerNormLayer *layer) {
  Memory memory = {0};
  if (layer->grad_y) take(&memory, sizeof(float) * (size_t)layer->rows * (size_t)layer->width);
  return memory.used;
}

static void layer_norm_layer(const LayerNormLayer *layer, char *memory) {
  LayerNormJob job = {.layer = layer};
  if (layer->grad_y) job.x_hat = take(&(Memory){memory, 0}, sizeof(float) * (size_t)layer->rows * (size_t)layer->width);
  if (layer->grad_y) {
    echoself_parallel_for(layer_norm_rows_backward, &job, layer->rows, 64, layer->threads, NULL, 0);
    echoself_parallel_for(layer_norm_columns_backward, &job, (layer->width + LANES - 1) / LANES, 4, layer->threads, NULL, 0);
  } else
    echoself_parallel_for(layer_norm_rows, &job, layer->rows, 64, layer->threads, NULL, 0);
}
