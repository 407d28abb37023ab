/* Cross-entropy of logits that are there once, and become its gradient. */

#include "products.h"

typedef struct {
  int32_t rows, columns, vocabulary, threads; /* columns from `vocabulary` on are no words: their gradient is 0 */
  bf16 *logits;                               /* (rows, columns) */
  const int64_t *targets;                     /* (rows) */
  float *losses;                              /* (rows), in nats */
} Logits;

#ifdef SUPPORTED

static void some_rows(const void *given, int first, int last, char *own) {
  const Logits *all = given;
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  float *values = (float *)own;
  for (int row = first; row < last; row++) {
    bf16 *logits = all->logits + (ptrdiff_t)row * all->columns, *wanted = logits + all->targets[row];
    __m512 most = lowest, sum = _mm512_setzero_ps();
    for (int i = 0; i < all->vocabulary; i += 16)
      most = _mm512_max_ps(most, _mm512_mask_mov_ps(lowest, up_to(all->vocabulary, i), widened(logits + i)));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int i = 0; i < all->columns; i += 16) {
      const __m512 e = exponential(_mm512_sub_ps(widened(logits + i), top));
      const __m512 counted = _mm512_maskz_mov_ps(up_to(all->vocabulary, i), e);
      _mm512_storeu_ps(values + i, counted);
      sum = _mm512_add_ps(sum, counted);
    }
    const float total = _mm512_reduce_add_ps(sum), of_wanted = widened_one(*wanted);
    all->losses[row] = logf(total) + _mm512_cvtss_f32(top) - of_wanted;
    const __m512 share = _mm512_set1_ps(1.0f / total);
    for (int i = 0; i < all->columns; i += 16) narrowed(logits + i, _mm512_mul_ps(_mm512_loadu_ps(values + i), share));
    *wanted = narrowed_one(values[all->targets[row]] / total - 1.0f);
  }
}

static size_t own_scratch(const Logits *all) { return sizeof(float) * (size_t)all->columns; }

/* Bytes of scratch that `into_gradient` takes. */
size_t loss_scratch(const Logits *all) { return own_scratch(all) * (size_t)all->threads + 64; }

void into_gradient(const Logits *all, char *scratch) {
  deal(some_rows, all, all->rows, all->threads, aligned(scratch), own_scratch(all));
}

#endif
