/* The loss of a language model's head and its gradients: logits are there once, and become their own gradient. */

#include "gemm.h"

typedef struct {
  int32_t rows, width, columns, vocabulary, threads; /* columns from `vocabulary` on are no words: their gradient is 0 */
  const bf16 *x;                                     /* (rows, width) */
  const pair *head;                                  /* (columns, width), as `pack` makes it */
  const int64_t *targets;                            /* (rows) */
  bf16 *logits;                                      /* (rows, columns) */
  float *losses;                                     /* (rows), in nats */
  bf16 *of_x, *of_head;                              /* as x; (columns, width) */
} Head;

#ifdef SUPPORTED

enum { PAIRS_AT_ONCE = 1024 }; /* of words: as many of the head's stay in the cache */

typedef struct {
  const Head *head;
  pair *x; /* as panels of pairs of rows */
  float *sums;
} Job;

static void to_logits(const void *given, int first, int last, char *own) {
  const Head *h = ((const Job *)given)->head;
  const pair *transposed = transposed_of(h->head, h->columns, h->width);
  (void)own;
  by_rows(h->x, h->width, h->rows, transposed + (ptrdiff_t)first * PANEL * (h->width / 2), h->width / 2, h->width / 2,
          (last - first) * PANEL, TO_BF16, (Result){.to = h->logits + first * PANEL, .stride = h->columns});
}

static void to_gradient(const void *given, int first, int last, char *own) {
  const Head *h = ((const Job *)given)->head;
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  float *values = (float *)own;
  for (int row = first; row < last; row++) {
    bf16 *logits = h->logits + (ptrdiff_t)row * h->columns, *wanted = logits + h->targets[row];
    __m512 most = lowest, sum = _mm512_setzero_ps();
    for (int i = 0; i < h->vocabulary; i += 16)
      most = _mm512_max_ps(most, _mm512_mask_mov_ps(lowest, up_to(h->vocabulary, i), widened(logits + i)));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int i = 0; i < h->columns; i += 16) {
      const __m512 e = exponential(_mm512_sub_ps(widened(logits + i), top));
      const __m512 counted = _mm512_maskz_mov_ps(up_to(h->vocabulary, i), e);
      _mm512_storeu_ps(values + i, counted);
      sum = _mm512_add_ps(sum, counted);
    }
    const float total = _mm512_reduce_add_ps(sum);
    h->losses[row] = logf(total) + _mm512_cvtss_f32(top) - widened_one(*wanted);
    const __m512 share = _mm512_set1_ps(1.0f / total);
    for (int i = 0; i < h->columns; i += 16) narrowed(logits + i, _mm512_mul_ps(_mm512_loadu_ps(values + i), share));
    *wanted = narrowed_one(values[h->targets[row]] / total - 1.0f);
  }
}

static void before_x(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Head *h = job->head;
  const int all = h->columns / 2;
  (void)own;
  const ptrdiff_t start = (ptrdiff_t)first * TILE;
  const int rows = (last - first) * TILE;
  float *sums = job->sums + start * h->width;
  const Result result = {.to = sums, .stride = h->width, .with = sums};
  for (int pair = 0; pair < all; pair += PAIRS_AT_ONCE) {
    const int pairs = all - pair < PAIRS_AT_ONCE ? all - pair : PAIRS_AT_ONCE;
    const bf16 *logits = h->logits + start * h->columns + 2 * pair;
    if (pair)
      by_rows(logits, h->columns, rows, h->head + (ptrdiff_t)pair * PANEL, pairs, all, h->width, TO_SUM, result);
    else
      by_rows(logits, h->columns, rows, h->head, pairs, all, h->width, TO_FLOATS, result);
  }
  narrow(sums, (size_t)rows * (size_t)h->width, h->of_x + start * h->width);
}

static void before_head(const void *given, int first, int last, char *own) {
  const Job *job = given;
  const Head *h = job->head;
  pair *words = (pair *)own;
  for (int word = first * PANEL; word < last * PANEL; word += PANEL) {
    interleave(h->logits + word, h->columns, h->rows, PANEL, words, 0, h->rows / 2);
    by_columns(words, 0, PANEL, job->x, h->rows / 2, h->width, TO_BF16,
               (Result){.to = h->of_head + (ptrdiff_t)word * h->width, .stride = h->width});
  }
}

static size_t own_scratch(const Head *h) {
  const size_t values = 4 * (size_t)h->columns, words = 2 * PANEL * (size_t)h->rows;
  return ((values > words ? values : words) + 63) / 64 * 64;
}

static size_t x_size(const Head *h) { return (size_t)h->rows * (size_t)h->width; }

/* Bytes of scratch that `head` takes. */
size_t head_scratch(const Head *h) { return 6 * x_size(h) + own_scratch(h) * (size_t)h->threads + 64; }

/* Writes all that is not const. */
void head(const Head *h, char *scratch) {
  char *here = aligned(scratch), *own = here + 6 * x_size(h);
  const Job job = {h, (pair *)(here + 4 * x_size(h)), (float *)here};
  interleave(h->x, h->width, h->rows, h->width, job.x, 0, h->rows / 2);
  deal(to_logits, &job, h->columns / PANEL, h->threads, own, own_scratch(h));
  deal(to_gradient, &job, h->rows, h->threads, own, own_scratch(h));
  deal(before_x, &job, h->rows / TILE, h->threads, own, own_scratch(h));
  deal(before_head, &job, h->columns / PANEL, h->threads, own, own_scratch(h));
}

#endif
