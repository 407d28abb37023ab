/* AdamW (Loshchilov and Hutter 2019), and the sum of the squares of tensors. */

#pragma once

#include "pool.h"
#include "vector.h"

enum { CHUNK = 1 << 14 }; /* elements of an iteration */

/* Iterations are the chunks of all tensors: calls `body` with the tensor's number and its elements [from, to). */
#define EACH_CHUNK(sizes, count, begin, end)                                                            \
  for (int64_t tensor = 0, before = 0, chunks; tensor < (count) && before < (end); before += chunks, tensor++) \
    for (int64_t chunk = (chunks = ((sizes)[tensor] + CHUNK - 1) / CHUNK, (begin) > before ? (begin) - before : 0); \
         chunk < chunks && before + chunk < (end); chunk++)

static int chunks_of(const int64_t *sizes, int count) {
  int64_t sum = 0;
  for (int i = 0; i < count; i++) sum += (sizes[i] + CHUNK - 1) / CHUNK;
  return (int)sum;
}

static void adamw_chunks(const void *argument, int begin, int end, char *scratch) {
  const AdamWStep *a = argument;
  (void)scratch;
  EACH_CHUNK(a->sizes, a->count, begin, end) {
    const int64_t last = a->sizes[tensor] < (chunk + 1) * CHUNK ? a->sizes[tensor] : (chunk + 1) * CHUNK;
    const float step = a->rate / a->mean_corrections[tensor], decay = a->decays[tensor];
    const float root = 1.0f / sqrtf(a->square_corrections[tensor]);
    for (int64_t i = chunk * CHUNK; i < last; i += LANES) {
      const int count = last - i < LANES ? (int)(last - i) : LANES;
      float *p = a->parameters[tensor] + i, *m = a->means[tensor] + i, *v = a->squares[tensor] + i;
      const vec g = load_n(a->gradients[tensor] + i, count) * a->gradient_scale;
      const vec mean = load_n(m, count) * a->beta_1 + g * (1.0f - a->beta_1);
      const vec square = load_n(v, count) * a->beta_2 + g * g * (1.0f - a->beta_2);
      store_n(m, mean, count), store_n(v, square, count);
      store_n(p, load_n(p, count) * decay - step * mean / (square_root(square) * root + a->epsilon), count);
    }
  }
}

static void adamw(const AdamWStep *a) {
  echoself_parallel_for(adamw_chunks, a, chunks_of(a->sizes, a->count), 8, a->threads, NULL, 0);
}

typedef struct {
  const float *const *tensors;
  const int64_t *sizes;
  int32_t count;
  double *sums;
} Squares;

static void sum_squares(const void *argument, int begin, int end, char *scratch) {
  const Squares *s = argument;
  (void)scratch;
  EACH_CHUNK(s->sizes, s->count, begin, end) {
    const int64_t last = s->sizes[tensor] < (chunk + 1) * CHUNK ? s->sizes[tensor] : (chunk + 1) * CHUNK;
    vec sum = zeros();
    for (int64_t i = chunk * CHUNK; i < last; i += LANES) {
      const vec x = load_n(s->tensors[tensor] + i, last - i < LANES ? (int)(last - i) : LANES);
      sum = multiply_add(x, x, sum);
    }
    s->sums[before + chunk] = (double)sum_of(sum);
  }
}

static double sum_of_squares(const float *const *tensors, const int64_t *sizes, int32_t count, int32_t threads) {
  const int chunks = chunks_of(sizes, count);
  double *sums = malloc(sizeof(double) * (size_t)(chunks + 1)), sum = 0;
  if (!sums) return (double)NAN;
  const Squares job = {tensors, sizes, count, sums};
  echoself_parallel_for(sum_squares, &job, chunks, 8, threads, NULL, 0);
  for (int i = 0; i < chunks; i++) sum += sums[i];
  free(sums);
  return sum;
}
