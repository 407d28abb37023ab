/* The mean of a sequence so far, at each of its positions. */

#pragma once

#include "pool.h"
#include "vector.h"

static void running_mean_columns(const void *argument, int begin, int end, char *scratch) { /* an iteration: LANES columns */
  const RunningMean *m = argument;
  (void)scratch;
  const int vectors = (m->width + LANES - 1) / LANES;
  for (int iteration = begin; iteration < end; iteration++) {
    const int column = iteration % vectors * LANES, count = m->width - column;
    const ptrdiff_t start = (ptrdiff_t)(iteration / vectors) * m->length * m->width + column;
    vec sum = zeros();
    if (m->grad_y)
      for (int i = m->length - 1; i >= 0; i--) {
        const ptrdiff_t at = start + (ptrdiff_t)i * m->width;
        sum += load_n(m->grad_y + at, count) * (1.0f / (float)(i + 1));
        store_n(m->grad_x + at, sum, count);
      }
    else
      for (int i = 0; i < m->length; i++) {
        const ptrdiff_t at = start + (ptrdiff_t)i * m->width;
        sum += load_n(m->x + at, count);
        store_n(m->y + at, sum * (1.0f / (float)(i + 1)), count);
      }
  }
}

static size_t running_mean_memory(const RunningMean *mean) {
  (void)mean;
  return 0;
}

static void running_mean(const RunningMean *mean, char *memory) {
  (void)memory;
  const int vectors = (mean->width + LANES - 1) / LANES;
  echoself_parallel_for(running_mean_columns, mean, mean->sequences * vectors, 4, mean->threads, NULL, 0);
}
