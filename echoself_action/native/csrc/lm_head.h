/* The cross-entropy of a language model's head, and its gradients.
 *
 * Logits are the largest tensor of a small model: those of some positions at a time are computed, in blocks of the vocabulary.
 * The forward pass keeps the largest logit of each position and the sum of the exponentials. The backward pass turns a block of
 * logits into gradients and uses it twice while it is in the cache. The weight is packed by blocks, just before they are used. */

#pragma once

#include "gemm.h"
#include "layer_norm.h"
#include "linear.h"
#include "memory.h"
#include "pool.h"

#ifndef LOGITS_AT_ONCE /* a test sets a small limit, because a model that exceeds this one takes long */
#define LOGITS_AT_ONCE (1 << 25)
#endif

enum { VOCABULARY_BLOCK = 2304 }; /* a multiple of NR and of ROW_BLOCK in all instruction sets */

typedef struct {
  int rows, width, vocab_size, threads;
  const elem *x;          /* (rows, width) */
  const float *weight;    /* (vocab_size, width) */
  const int64_t *targets; /* (rows) */
  float *losses;          /* (rows) */
  float scale;            /* of the gradients */
  float *grad_x;          /* (rows, width); NULL: no gradients are computed */
  float *grad_weight;     /* (vocab_size, width) */
  int accumulate;
  elem *logits;           /* (blocks, rows, logits_stride); without gradients, of one block */
  float *largest, *sums;  /* (rows): of the logits so far, and of their exponentials relative to that */
  unit *packed, *x_packed;
  int first, count;       /* the block of the vocabulary */
  elem *block;            /* its logits */
} Head;

/* Rows are not a multiple of the page size apart: their lines would compete for the same places of the cache. */
INLINE int logits_stride(int vocab_size) { return smaller(round_up(vocab_size, NR), VOCABULARY_BLOCK) + 32; }
INLINE int vocabulary_blocks(int vocab_size) { return (vocab_size + VOCABULARY_BLOCK - 1) / VOCABULARY_BLOCK; }
INLINE int logits_rows(int rows, int vocab_size) {
  const int most = LOGITS_AT_ONCE / vocab_size + 1, parts = (rows + most - 1) / most;
  return smaller(rows, round_up((rows + parts - 1) / parts, ROW_BLOCK));
}
/* How many rows of the weight's gradient are computed together: fewer where all threads would not get some */
INLINE int head_gradient_rows(int count) { return count < 8 * ROW_BLOCK ? LEFT_PANEL : ROW_BLOCK; }

static void take_head(Head *h, int rows, int width, int vocab_size, int gradients, Memory *memory) {
  const int block = smaller(round_up(vocab_size, NR), VOCABULARY_BLOCK), at_once = logits_rows(rows, vocab_size);
  const size_t forward = right_size(width, block), backward = gradients ? right_size(block, width) : 0;
  const size_t blocks = gradients ? (size_t)vocabulary_blocks(vocab_size) : 1;
  h->logits = take(memory, sizeof(elem) * blocks * (size_t)at_once * (size_t)logits_stride(vocab_size));
  h->largest = take(memory, sizeof(float) * (size_t)at_once), h->sums = take(memory, sizeof(float) * (size_t)at_once);
  h->packed = take(memory, sizeof(unit) * (forward > backward ? forward : backward));
  h->x_packed = gradients ? take(memory, sizeof(unit) * right_size(at_once, width)) : NULL;
}

static size_t head_thread_scratch(int rows, int vocab_size) {
  Memory packed = {0};
  take(&packed, sizeof(unit) * left_size(logits_rows(rows, vocab_size), ROW_BLOCK));
  return packed.used;
}

static void pack_rows_transposed(const void *argument, int begin, int end, char *scratch) { /* an iteration is NR rows */
  const Head *h = argument;
  (void)scratch;
  const int row = begin * NR, rows = smaller(end * NR, h->count) - row;
  pack_floats_transposed(h->weight + (ptrdiff_t)(h->first + row) * h->width, h->width, rows, h->width, h->packed, row,
                         units_of(h->width));
}

static void pack_rows(const void *argument, int begin, int end, char *scratch) { /* an iteration is NR rows */
  const Head *h = argument;
  (void)scratch;
  const int row = begin * NR, rows = smaller(end * NR, h->count) - row;
  pack_floats(h->weight + (ptrdiff_t)(h->first + row) * h->width, h->width, rows, h->width, NR, h->packed, row / PAIR,
              units_of(h->count));
}

static void pack_x(const void *argument, int begin, int end, char *scratch) { /* an iteration is NR rows */
  const Head *h = argument;
  (void)scratch;
  const int row = begin * NR, rows = smaller(end * NR, h->rows) - row;
  pack(h->x + (ptrdiff_t)row * h->width, h->width, rows, h->width, NR, h->x_packed, row / PAIR, units_of(h->rows));
}

/* Logits of a block, and what the softmax needs of them. An iteration is MR rows. */
static void logits_forward(const void *argument, int begin, int end, char *scratch) {
  const Head *h = argument;
  (void)scratch;
  const int stride = logits_stride(h->vocab_size), row = begin * MR, rows = smaller(end * MR, h->rows) - row;
  multiply(row_major(h->x + (ptrdiff_t)row * h->width, h->width, h->width), rows, h->packed, units_of(h->width),
           round_up(h->count, NR), STORE_ELEMS, (Output){.to = h->block + (ptrdiff_t)row * stride, .stride = stride});
  for (int i = row; i < row + rows; i++) {
    const elem *logits = h->block + (ptrdiff_t)i * stride;
    vec lane_max = broadcast(-INFINITY), lane_sum = zeros();
    for (int j = 0; j < h->count; j += LANES)
      lane_max = larger_of(lane_max, choose(first_lanes(h->count - j), load_elems(logits + j), broadcast(-INFINITY)));
    const float before = h->first ? h->largest[i] : -INFINITY, here = max_of(lane_max), max = here > before ? here : before;
    for (int j = 0; j < h->count; j += LANES)
      lane_sum += (vec)((ints)exp_of(load_elems(logits + j) - max) & first_lanes(h->count - j));
    h->sums[i] = sum_of(lane_sum) + (h->first ? h->sums[i] * expf(before - max) : 0);
    h->largest[i] = max;
    const int64_t target = h->targets[i] - h->first;
    if (target >= 0 && target < h->count) h->losses[i] = -elem_to_float(logits[target]);
  }
}

static void finish_losses(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const Head *h = argument;
  (void)scratch;
  for (int row = begin; row < end; row++) h->losses[row] += h->largest[row] + logf(h->sums[row]);
}

/* A block's logits become their gradients, softmax minus one-hot, from which those of x are computed. An iteration is MR rows. */
static void x_backward(const void *argument, int begin, int end, char *scratch) {
  const Head *h = argument;
  (void)scratch;
  const int stride = logits_stride(h->vocab_size), row = begin * MR, rows = smaller(end * MR, h->rows) - row;
  for (int i = row; i < row + rows; i++) {
    elem *logits = h->block + (ptrdiff_t)i * stride;
    const float max = h->largest[i], share = h->scale / h->sums[i];
    const int64_t target = h->targets[i] - h->first;
    const float target_logit = target >= 0 && target < h->count ? elem_to_float(logits[target]) : 0;
    for (int j = 0; j < round_up(h->count, NR); j += LANES)
      store_elems(logits + j, (vec)((ints)(exp_of(load_elems(logits + j) - max) * share) & first_lanes(h->count - j)));
    if (target >= 0 && target < h->count) logits[target] = float_to_elem(expf(target_logit - max) * share - h->scale);
  }
  multiply(row_major(h->block + (ptrdiff_t)row * stride, stride, round_up(h->count, PAIR)), rows, h->packed, units_of(h->count),
           h->width, STORE,
           (Output){.to = h->grad_x + (ptrdiff_t)row * h->width, .stride = h->width, .accumulate = h->first > 0});
}

static void weight_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration: head_gradient_rows */
  const Head *h = argument;
  const int depth = units_of(h->rows), stride = logits_stride(h->vocab_size), at_once = head_gradient_rows(h->count);
  unit *packed = take(&(Memory){scratch, 0}, sizeof(unit) * left_size(h->rows, ROW_BLOCK));
  for (int row = begin * at_once; row < smaller(end * at_once, h->count); row += at_once) {
    const int rows = smaller(h->count - row, at_once);
    float *to = h->grad_weight + (ptrdiff_t)(h->first + row) * h->width;
    pack(h->block + row, stride, h->rows, rows, LEFT_PANEL, packed, 0, depth);
    multiply(packed_columns(packed, depth), rows, h->x_packed, depth, h->width, STORE,
             (Output){.to = to, .stride = h->width, .accumulate = h->accumulate});
  }
}

/* The losses of all rows, and the gradients if there is a `grad_x`. */
static void head(const Head *all, char *scratch, size_t scratch_size) {
  const int at_once = logits_rows(all->rows, all->vocab_size), stride = logits_stride(all->vocab_size);
  for (int row = 0; row < all->rows; row += at_once) {
    Head h = *all;
    h.rows = smaller(all->rows - row, at_once);
    h.x += (ptrdiff_t)row * h.width, h.targets += row, h.losses += row;
    const int tiles = (h.rows + MR - 1) / MR;
#define OVER(body, count, most) echoself_parallel_for(body, &h, count, most, h.threads, scratch, scratch_size)
#define EACH_BLOCK                                                                                          \
  for (h.first = 0; h.count = smaller(h.vocab_size - h.first, VOCABULARY_BLOCK),                            \
      h.block = h.logits + (ptrdiff_t)(h.grad_x ? h.first / VOCABULARY_BLOCK : 0) * h.rows * stride,    \
      h.first < h.vocab_size;                                                                               \
       h.first += VOCABULARY_BLOCK)
    EACH_BLOCK {
      OVER(pack_rows_transposed, round_up(h.count, NR) / NR, 4);
      OVER(logits_forward, tiles, ROW_BLOCK / MR);
    }
    OVER(finish_losses, h.rows, 64);
    if (!h.grad_x) continue;
    h.grad_x += (ptrdiff_t)row * h.width, h.accumulate |= row > 0;
    OVER(pack_x, round_up(h.rows, NR) / NR, 4);
    EACH_BLOCK {
      const int together = head_gradient_rows(h.count);
      OVER(pack_rows, round_up(h.count, NR) / NR, 4);
      OVER(x_backward, tiles, ROW_BLOCK / MR);
      OVER(weight_backward, (h.count + together - 1) / together, together > LEFT_PANEL ? 1 : 4);
    }
#undef EACH_BLOCK
#undef OVER
  }
}

typedef struct {
  Head head;
  elem *x; /* where elements are not fp32 */
  char *scratch;
  size_t scratch_size;
} CrossEntropyPlan;

static void plan_cross_entropy(const CrossEntropy *layer, Memory *memory, CrossEntropyPlan *p) {
  memset(p, 0, sizeof *p);
  take_head(&p->head, layer->rows, layer->width, layer->vocab_size, layer->grad_x != NULL, memory);
  p->x = take(memory, elems_size((size_t)layer->rows * (size_t)layer->width));
  p->scratch_size = head_thread_scratch(layer->rows, layer->vocab_size);
  p->scratch = take(memory, p->scratch_size * (size_t)smaller(layer->threads, MAX_THREADS));
}

static size_t cross_entropy_memory(const CrossEntropy *layer) {
  Memory memory = {0};
  CrossEntropyPlan p;
  plan_cross_entropy(layer, &memory, &p);
  return memory.used;
}

static void cross_entropy(const CrossEntropy *layer, char *memory) {
  Memory parts = {memory, 0};
  CrossEntropyPlan p;
  plan_cross_entropy(layer, &parts, &p);
  Head *h = &p.head;
  h->rows = layer->rows, h->width = layer->width, h->vocab_size = layer->vocab_size, h->threads = layer->threads;
  h->x = as_elems(layer->x, (size_t)layer->rows * (size_t)layer->width, p.x);
  h->weight = layer->weight, h->targets = layer->targets, h->losses = layer->losses;
  h->scale = layer->scale, h->grad_x = layer->grad_x, h->grad_weight = layer->grad_weight;
  head(h, p.scratch, p.scratch_size);
}
