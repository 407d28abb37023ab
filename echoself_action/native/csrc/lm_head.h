/* The cross-entropy of a language model's head, and its gradients.
 *
 * Logits are the largest tensor of a small model: those of some positions at a time are computed, and overwritten by their
 * gradient. The weight (vocab_size, width) is packed in blocks of its rows, just before they are used. */

#pragma once

#include "gemm.h"
#include "layer_norm.h"
#include "memory.h"
#include "pool.h"

enum { VOCABULARY_BLOCK = 2048, LOGITS_AT_ONCE = 1 << 24 }; /* a multiple of NR; elements */

typedef struct {
  int rows, width, vocab_size, padded_vocab, threads;
  const elem *x;          /* (rows, width) */
  const float *weight;    /* (vocab_size, width) */
  const int64_t *targets; /* (rows) */
  float *losses;          /* (rows) */
  float scale;            /* of the gradients */
  float *grad_x;          /* (rows, width); NULL: no gradients are computed */
  float *grad_weight;     /* (vocab_size, width) */
  int accumulate;
  elem *logits;           /* (rows, padded_vocab) */
  unit *packed, *x_packed;
  int first, count;       /* the block of the vocabulary that is packed */
} Head;

INLINE int logits_rows(int rows, int vocab_size) {
  return smaller(rows, round_up(LOGITS_AT_ONCE / round_up(vocab_size, NR) + 1, ROW_BLOCK));
}

static void take_head(Head *h, int rows, int width, int vocab_size, int gradients, Memory *memory) {
  const int block = smaller(round_up(vocab_size, NR), VOCABULARY_BLOCK), at_once = logits_rows(rows, vocab_size);
  const size_t forward = right_size(width, block), backward = gradients ? right_size(block, width) : 0;
  h->padded_vocab = round_up(vocab_size, NR);
  h->logits = take(memory, sizeof(elem) * (size_t)at_once * (size_t)h->padded_vocab);
  h->packed = take(memory, sizeof(unit) * (forward > backward ? forward : backward));
  h->x_packed = gradients ? take(memory, sizeof(unit) * right_size(at_once, width)) : NULL;
}

static size_t head_thread_scratch(int rows, int vocab_size) {
  Memory exps = {0}, packed = {0};
  take(&exps, sizeof(float) * (size_t)round_up(vocab_size, NR));
  take(&packed, sizeof(unit) * left_size(logits_rows(rows, vocab_size), LEFT_PANEL));
  return exps.used > packed.used ? exps.used : packed.used;
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

static void logits_forward(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const Head *h = argument;
  (void)scratch;
  const int row = begin * MR, rows = smaller(end * MR, h->rows) - row;
  multiply(row_major(h->x + (ptrdiff_t)row * h->width, h->width, h->width), rows, h->packed, units_of(h->width),
           round_up(h->count, NR), STORE_ELEMS,
           (Output){.to = h->logits + (ptrdiff_t)row * h->padded_vocab + h->first, .stride = h->padded_vocab});
}

/* Losses from logits, which become their gradient: softmax minus one-hot. An iteration is a row. */
static void softmax_cross_entropy(const void *argument, int begin, int end, char *scratch) {
  const Head *h = argument;
  float *exps = take(&(Memory){scratch, 0}, sizeof(float) * (size_t)h->padded_vocab);
  for (int row = begin; row < end; row++) {
    elem *logits = h->logits + (ptrdiff_t)row * h->padded_vocab, *target_logit = logits + h->targets[row];
    vec lane_max = broadcast(-INFINITY), lane_sum = zeros();
    for (int i = 0; i < h->vocab_size; i += LANES)
      lane_max = larger_of(lane_max, choose(first_lanes(h->vocab_size - i), load_elems(logits + i), broadcast(-INFINITY)));
    const float max = max_of(lane_max);
    for (int i = 0; i < h->padded_vocab; i += LANES) {
      const vec e = (vec)((ints)exp_of(load_elems(logits + i) - max) & first_lanes(h->vocab_size - i));
      store(exps + i, e);
      lane_sum += e;
    }
    const float sum = sum_of(lane_sum);
    h->losses[row] = logf(sum) + max - elem_to_float(*target_logit);
    if (!h->grad_x) continue;
    const float share = h->scale / sum;
    for (int i = 0; i < h->padded_vocab; i += LANES) store_elems(logits + i, load(exps + i) * share);
    *target_logit = float_to_elem(exps[h->targets[row]] * share - h->scale);
  }
}

static void x_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is MR rows */
  const Head *h = argument;
  (void)scratch;
  const int row = begin * MR, rows = smaller(end * MR, h->rows) - row;
  multiply(row_major(h->logits + (ptrdiff_t)row * h->padded_vocab + h->first, h->padded_vocab, round_up(h->count, PAIR)), rows,
           h->packed, units_of(h->count), h->width, STORE,
           (Output){.to = h->grad_x + (ptrdiff_t)row * h->width, .stride = h->width, .accumulate = h->first > 0});
}

static void weight_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is LEFT_PANEL rows */
  const Head *h = argument;
  const int depth = units_of(h->rows);
  unit *packed = take(&(Memory){scratch, 0}, sizeof(unit) * (size_t)depth * LEFT_PANEL);
  for (int row = begin * LEFT_PANEL; row < smaller(end * LEFT_PANEL, h->vocab_size); row += LEFT_PANEL) {
    const int rows = smaller(h->vocab_size - row, LEFT_PANEL);
    pack(h->logits + row, h->padded_vocab, h->rows, rows, LEFT_PANEL, packed, 0, depth);
    multiply(packed_columns(packed, depth), rows, h->x_packed, depth, h->width, STORE,
             (Output){.to = h->grad_weight + (ptrdiff_t)row * h->width, .stride = h->width, .accumulate = h->accumulate});
  }
}

/* The losses of all rows, and the gradients if there is a `grad_x`. */
static void head(const Head *all, char *scratch, size_t scratch_size) {
  const int at_once = logits_rows(all->rows, all->vocab_size);
  for (int row = 0; row < all->rows; row += at_once) {
    Head h = *all;
    h.rows = smaller(all->rows - row, at_once);
    h.x += (ptrdiff_t)row * h.width, h.targets += row, h.losses += row;
    const int tiles = (h.rows + MR - 1) / MR;
#define OVER(body, count, most) echoself_parallel_for(body, &h, count, most, h.threads, scratch, scratch_size)
    for (h.first = 0; h.first < h.vocab_size; h.first += VOCABULARY_BLOCK) {
      h.count = smaller(h.vocab_size - h.first, VOCABULARY_BLOCK);
      OVER(pack_rows_transposed, round_up(h.count, NR) / NR, 4);
      OVER(logits_forward, tiles, ROW_BLOCK / MR);
    }
    OVER(softmax_cross_entropy, h.rows, 16);
    if (!h.grad_x) continue;
    h.grad_x += (ptrdiff_t)row * h.width, h.accumulate |= row > 0;
    for (h.first = 0; h.first < h.vocab_size; h.first += VOCABULARY_BLOCK) {
      h.count = smaller(h.vocab_size - h.first, VOCABULARY_BLOCK);
      OVER(pack_rows, round_up(h.count, NR) / NR, 4);
      OVER(x_backward, tiles, ROW_BLOCK / MR);
    }
    OVER(pack_x, round_up(h.rows, NR) / NR, 4);
    OVER(weight_backward, round_up(h.vocab_size, LEFT_PANEL) / LEFT_PANEL, 4);
#undef OVER
  }
}
