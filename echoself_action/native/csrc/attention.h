/* Causal attention. Keys after the last one that a few rows of queries see are skipped. */

#pragma once

#include "linear.h"
#include "memory.h"
#include "pool.h"

enum { QUERY_ROWS = 2 * MR };

typedef struct {
  int sequences, length, heads, width;
  const elem *qkv;   /* (rows, 3 * width) */
  elem *out;         /* (rows, width) */
  float *logsumexp;  /* (heads, rows), of the scaled scores */
  const elem *grad_out;
  elem *grad_qkv;
  Dropout dropout;
  const float *thresholds; /* (rows), or NULL */
  float *grad_thresholds;  /* (heads, rows) */
} Attention;

typedef struct {
  unit *keys_transposed, *values, *values_transposed, *keys, *p_packed, *grad_scores_packed, *q_packed, *grad_out_packed;
  float *scores, *grad_p, *grad_k, *grad_v;
  elem *p, *grad_scores;
} AttentionScratch;

static AttentionScratch attention_scratch(const Attention *a, int backward, Memory *memory) {
  const int length = a->length, size = a->width / a->heads, stride = round_up(length, NR), rows = ROW_BLOCK;
  AttentionScratch s = {0};
  s.keys_transposed = take(memory, sizeof(unit) * right_size(size, length));
  s.scores = take(memory, sizeof(float) * QUERY_ROWS * (size_t)stride);
  s.p = take(memory, sizeof(elem) * (size_t)(backward ? rows : QUERY_ROWS) * (size_t)stride);
  if (!backward) {
    s.values = take(memory, sizeof(unit) * right_size(length, size));
    return s;
  }
  s.values_transposed = take(memory, sizeof(unit) * right_size(size, length));
  s.keys = take(memory, sizeof(unit) * right_size(length, size));
  s.grad_p = take(memory, sizeof(float) * QUERY_ROWS * (size_t)stride);
  s.grad_scores = take(memory, sizeof(elem) * (size_t)rows * (size_t)stride);
  s.p_packed = take(memory, sizeof(unit) * left_size(rows, length));
  s.grad_scores_packed = take(memory, sizeof(unit) * left_size(rows, length));
  s.q_packed = take(memory, sizeof(unit) * right_size(rows, size));
  s.grad_out_packed = take(memory, sizeof(unit) * right_size(rows, size));
  s.grad_k = take(memory, sizeof(float) * (size_t)length * (size_t)size);
  s.grad_v = take(memory, sizeof(float) * (size_t)length * (size_t)size);
  return s;
}

/* With a threshold t, attention is softmax of f(s) = softplus(s - t) - softplus(-s - t) of the scaled scores s. f is odd and
 * increasing. With e = exp(-|s|) and c = exp(-t), exp(f(|s|)) is exp(|s|) * (e + c) / (1 + c e), whose second factor is in [c, 1]. */
INLINE vec magnitude(vec x) { return (vec)((ints)x & 0x7fffffff); }

/* exp(f(s)) / exp(s) */
INLINE vec threshold_factor(vec s, float c) {
  const vec e = exp_of(-magnitude(s)), a = e + c, b = multiply_add(e, broadcast(c), broadcast(1.0f));
  const ints positive = s > 0.0f;
  return choose(positive, a, b) / choose(positive, b, a);
}

/* The derivatives of f with respect to s and to t */
INLINE vec threshold_slopes(vec s, float c, vec *slope_t) {
  const vec e = exp_of(-magnitude(s)), a = c / (e + c), b = c * e / (1.0f + c * e);
  *slope_t = choose(s > 0.0f, b - a, a - b);
  return a + b;
}

/* Probabilities of a row from its scores: of the first `valid`, and 0 up to `count`, times the factors of dropout. Returns the
 * logsumexp of the scaled scores. */
INLINE float softmax(float *scores, int valid, int count, float scale, const float *threshold, const DropoutRow *kept, elem *to) {
  const float c = threshold ? expf(-*threshold) : 0;
  vec lane_max = broadcast(-INFINITY), lane_sum = zeros();
  for (int i = 0; i < valid; i += LANES)
    lane_max = larger_of(lane_max, choose(first_lanes(valid - i), load(scores + i), broadcast(-INFINITY)));
  const float max = max_of(lane_max) * scale;
  for (int i = 0; i < valid; i += LANES) {
    const vec scaled = load(scores + i) * scale;
    vec e = exp_of(scaled - max);
    if (threshold) e *= threshold_factor(scaled, c);
    const vec counted = (vec)((ints)e & first_lanes(valid - i));
    store(scores + i, counted);
    lane_sum += counted;
  }
  const float sum = sum_of(lane_sum), share = 1.0f / sum;
  for (int i = 0; i < count; i += LANES) {
    vec p = i < valid ? load(scores + i) * share : zeros();
    if (kept) p *= dropout_factors(*kept, i);
    store_elems(to + i, p);
  }
  return max + logf(sum);
}

/* An iteration is a head of a sequence. */
static void attention_forward(const void *argument, int begin, int end, char *scratch) {
  const Attention *a = argument;
  Memory memory = {scratch, 0};
  const AttentionScratch s = attention_scratch(a, 0, &memory);
  const int length = a->length, size = a->width / a->heads, stride = 3 * a->width, padded = round_up(length, NR);
  const float scale = 1.0f / sqrtf((float)size);
  for (int iteration = begin; iteration < end; iteration++) {
    const int sequence = iteration / a->heads, head = iteration % a->heads;
    const ptrdiff_t start = (ptrdiff_t)sequence * length;
    const elem *q = a->qkv + start * stride + head * size;
    float *logsumexp = a->logsumexp + ((ptrdiff_t)head * a->sequences + sequence) * length;
    pack_transposed(q + a->width, stride, length, size, s.keys_transposed, 0, units_of(size));
    pack(q + 2 * a->width, stride, length, size, NR, s.values, 0, units_of(length));
    for (int row = 0; row < length; row += QUERY_ROWS) {
      const int rows = smaller(length - row, QUERY_ROWS), seen = round_up(row + rows, PAIR);
      multiply(row_major(q + (ptrdiff_t)row * stride, stride, size), rows, s.keys_transposed, units_of(size),
               round_up(row + rows, NR), STORE, (Output){.to = s.scores, .stride = padded});
      for (int i = 0; i < rows; i++) {
        DropoutRow kept;
        if (a->dropout.seeds) kept = dropout_row(&a->dropout, ATTENTION_DROPOUT, sequence, head * length + row + i);
        logsumexp[row + i] = softmax(s.scores + (ptrdiff_t)i * padded, row + i + 1, seen, scale,
                                     a->thresholds ? a->thresholds + start + row + i : NULL, a->dropout.seeds ? &kept : NULL,
                                     s.p + (ptrdiff_t)i * padded);
      }
      multiply(row_major(s.p, padded, seen), rows, s.values, units_of(length), size, STORE_ELEMS,
               (Output){.to = a->out + (start + row) * a->width + head * size, .stride = a->width});
    }
  }
}

/* From a row's scores and the gradients of its probabilities: the probabilities that were used, and the scores' gradients.
 * `out_dot` is the row's output times its gradient, which is the sum of the probabilities times their gradients. */
INLINE void softmax_backward(const float *scores, const float *grad_p, int valid, int count, float scale, float logsumexp,
                             float out_dot, const float *threshold, float *grad_threshold, const DropoutRow *kept, elem *p,
                             elem *grad_scores) {
  const float c = threshold ? expf(-*threshold) : 0;
  vec threshold_sum = zeros();
  for (int i = 0; i < count; i += LANES) {
    vec prob = zeros(), used = prob, gradient = prob;
    if (i < valid) {
      const vec scaled = load(scores + i) * scale;
      prob = exp_of(scaled - logsumexp);
      if (threshold) prob *= threshold_factor(scaled, c);
      prob = (vec)((ints)prob & first_lanes(valid - i));
      used = prob, gradient = load(grad_p + i);
      if (kept) {
        const vec factors = dropout_factors(*kept, i);
        used *= factors, gradient *= factors;
      }
      gradient = (vec)((ints)((gradient - out_dot) * prob) & first_lanes(valid - i));
      if (threshold) {
        vec slope_t;
        const vec slope = threshold_slopes(scaled, c, &slope_t);
        threshold_sum += (vec)((ints)(gradient * slope_t) & first_lanes(valid - i));
        gradient *= slope;
      }
      gradient *= scale;
    }
    store_elems(p + i, used), store_elems(grad_scores + i, gradient);
  }
  if (threshold) *grad_threshold = sum_of(threshold_sum);
}

INLINE float dot_of_elems(const elem *a, const elem *b, int count) {
  vec dot = zeros();
  for (int i = 0; i < count; i += LANES) dot = multiply_add(load_elems_n(a + i, count - i), load_elems_n(b + i, count - i), dot);
  return sum_of(dot);
}

/* Gradients of q, k and v from that of the output. Probabilities are computed again, from the logsumexp. */
static void attention_backward(const void *argument, int begin, int end, char *scratch) {
  const Attention *a = argument;
  Memory memory = {scratch, 0};
  const AttentionScratch s = attention_scratch(a, 1, &memory);
  const int length = a->length, width = a->width, size = width / a->heads, stride = 3 * width, padded = round_up(length, NR);
  const float scale = 1.0f / sqrtf((float)size);
  for (int iteration = begin; iteration < end; iteration++) {
    const int sequence = iteration / a->heads, head = iteration % a->heads;
    const ptrdiff_t start = (ptrdiff_t)sequence * length;
    const elem *q = a->qkv + start * stride + head * size;
    const elem *out = a->out + start * width + head * size, *grad_out = a->grad_out + start * width + head * size;
    const float *logsumexp = a->logsumexp + ((ptrdiff_t)head * a->sequences + sequence) * length;
    elem *grad_q = a->grad_qkv + start * stride + head * size;
    pack_transposed(q + width, stride, length, size, s.keys_transposed, 0, units_of(size));
    pack_transposed(q + 2 * width, stride, length, size, s.values_transposed, 0, units_of(size));
    pack(q + width, stride, length, size, NR, s.keys, 0, units_of(length));
    for (int block = 0; block < length; block += ROW_BLOCK) {
      const int rows = smaller(length - block, ROW_BLOCK), block_end = block + rows;
      for (int row = block; row < block_end; row += QUERY_ROWS) {
        const int count = smaller(block_end - row, QUERY_ROWS), seen = round_up(row + count, PAIR);
        const ptrdiff_t first = (ptrdiff_t)(row - block) * padded;
        multiply(row_major(q + (ptrdiff_t)row * stride, stride, size), count, s.keys_transposed, units_of(size),
                 round_up(row + count, NR), STORE, (Output){.to = s.scores, .stride = padded});
        multiply(row_major(grad_out + (ptrdiff_t)row * width, width, size), count, s.values_transposed, units_of(size),
                 round_up(row + count, NR), STORE, (Output){.to = s.grad_p, .stride = padded});
        for (int i = 0; i < count; i++) {
          const ptrdiff_t at = (ptrdiff_t)(row + i) * width, here = (ptrdiff_t)i * padded;
          DropoutRow kept;
          if (a->dropout.seeds) kept = dropout_row(&a->dropout, ATTENTION_DROPOUT, sequence, head * length + row + i);
          softmax_backward(s.scores + here, s.grad_p + here, row + i + 1, smaller(padded, round_up(block_end, LANES)), scale,
                           logsumexp[row + i], dot_of_elems(out + at, grad_out + at, size),
                           a->thresholds ? a->thresholds + start + row + i : NULL,
                           a->thresholds ? a->grad_thresholds + (logsumexp - a->logsumexp) + row + i : NULL,
                           a->dropout.seeds ? &kept : NULL, s.p + first + here, s.grad_scores + first + here);
        }
        multiply(row_major(s.grad_scores + first, padded, seen), count, s.keys, units_of(length), size, STORE_ELEMS,
                 (Output){.to = grad_q + (ptrdiff_t)row * stride, .stride = stride});
      }
      const int depth = units_of(rows);
      pack(s.p, padded, rows, block_end, LEFT_PANEL, s.p_packed, 0, depth);
      pack(s.grad_scores, padded, rows, block_end, LEFT_PANEL, s.grad_scores_packed, 0, depth);
      pack(q + (ptrdiff_t)block * stride, stride, rows, size, NR, s.q_packed, 0, depth);
      pack(grad_out + (ptrdiff_t)block * width, width, rows, size, NR, s.grad_out_packed, 0, depth);
      for (int part = 0, done; part < block_end; part = done) { /* the rows from `block` on have no sums yet */
        done = part < block ? block : block_end;
        const Output keys = {.to = s.grad_k + (ptrdiff_t)part * size, .stride = size, .accumulate = part < block};
        Output values = keys;
        values.to = s.grad_v + (ptrdiff_t)part * size;
        multiply(packed_columns(s.grad_scores_packed + (ptrdiff_t)part * depth, depth), done - part, s.q_packed, depth, size,
                 STORE, keys);
        multiply(packed_columns(s.p_packed + (ptrdiff_t)part * depth, depth), done - part, s.grad_out_packed, depth, size, STORE,
                 values);
      }
    }
    for (int row = 0; row < length; row++) {
      floats_to_elems(s.grad_k + (ptrdiff_t)row * size, (size_t)size, grad_q + (ptrdiff_t)row * stride + width);
      floats_to_elems(s.grad_v + (ptrdiff_t)row * size, (size_t)size, grad_q + (ptrdiff_t)row * stride + 2 * width);
    }
  }
}

typedef struct {
  Attention attention;
  elem *qkv, *out, *grad_out, *grad_qkv; /* where elements are not fp32 */
  char *scratch;
  size_t scratch_size;
} CausalAttentionPlan;

static void plan_causal_attention(const CausalAttention *layer, Memory *memory, CausalAttentionPlan *p) {
  const size_t size = (size_t)layer->sequences * (size_t)layer->length * (size_t)layer->width;
  p->attention = (Attention){.sequences = layer->sequences, .length = layer->length, .heads = layer->heads, .width = layer->width,
                             .logsumexp = layer->logsumexp, .dropout = {layer->seeds, layer->dropout, 0},
                             .thresholds = layer->thresholds, .grad_thresholds = layer->grad_thresholds};
  p->qkv = take(memory, elems_size(3 * size)), p->out = take(memory, elems_size(size));
  p->grad_out = take(memory, elems_size(size)), p->grad_qkv = take(memory, elems_size(3 * size));
  Memory own = {0};
  attention_scratch(&p->attention, layer->grad_y != NULL, &own);
  p->scratch_size = own.used;
  p->scratch = take(memory, p->scratch_size * (size_t)smaller(layer->threads, MAX_THREADS));
}

static size_t causal_attention_memory(const CausalAttention *layer) {
  Memory memory = {0};
  CausalAttentionPlan p;
  plan_causal_attention(layer, &memory, &p);
  return memory.used;
}

static void elems_to_floats(const elem *from, size_t count, float *to) {
  for (size_t i = 0; i < count; i += LANES) {
    const int left = count - i < LANES ? (int)(count - i) : LANES;
    store_n(to + i, load_elems_n(from + i, left), left);
  }
}

static void causal_attention(const CausalAttention *layer, char *memory) {
  Memory parts = {memory, 0};
  CausalAttentionPlan p;
  plan_causal_attention(layer, &parts, &p);
  Attention *a = &p.attention;
  const int converts = !ELEMS_ARE_FLOATS;
  const size_t size = (size_t)layer->sequences * (size_t)layer->length * (size_t)layer->width;
  a->qkv = as_elems(layer->qkv, 3 * size, p.qkv);
  const int count = a->sequences * a->heads;
  if (!layer->grad_y) {
    a->out = converts ? p.out : (elem *)layer->y;
    echoself_parallel_for(attention_forward, a, count, 4, layer->threads, p.scratch, p.scratch_size);
    if (converts) elems_to_floats(a->out, size, layer->y);
    return;
  }
  a->out = (elem *)as_elems(layer->y, size, p.out), a->grad_out = as_elems(layer->grad_y, size, p.grad_out);
  a->grad_qkv = converts ? p.grad_qkv : (elem *)layer->grad_qkv;
  echoself_parallel_for(attention_backward, a, count, 4, layer->threads, p.scratch, p.scratch_size);
  if (converts) elems_to_floats(a->grad_qkv, 3 * size, layer->grad_qkv);
}
