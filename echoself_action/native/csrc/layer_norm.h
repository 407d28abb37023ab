/* Layer norm, forward and backward, of rows in fp32. */

#pragma once

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
