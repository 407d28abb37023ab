/* The cross-entropy of a language model's head, and its gradients.
 *
 * The logits are the largest tensor of a small model: they are stored once, in bf16, and overwritten by their gradient.
 */

#include "gemm.h"

#ifdef SUPPORTED

enum { K_BLOCK = 1024 }; /* pairs of rows of the weight that stay in the cache */

typedef struct {
  const LmHead *head;
  vnni_pair *x_packed;
  float *grad_x; /* before it is rounded to bf16 */
} Job;

static void logits_forward(const void *argument, int begin, int end, char *scratch) {
  const LmHead *h = ((const Job *)argument)->head;
  const vnni_pair *transposed = packed_transpose(h->weight, h->padded_vocab, h->width);
  (void)scratch;
  gemm(h->x, h->width, h->rows, transposed + (ptrdiff_t)begin * NR * (h->width / 2), h->width / 2, h->width / 2,
       (end - begin) * NR, STORE_BF16, (Output){.to = h->logits + begin * NR, .stride = h->padded_vocab});
}

/* Losses from logits, which become their gradient: softmax minus one-hot */
static void softmax_cross_entropy(const void *argument, int begin, int end, char *scratch) {
  const LmHead *h = ((const Job *)argument)->head;
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  float *exps = (float *)scratch;
  for (int row = begin; row < end; row++) {
    bf16 *logits = h->logits + (ptrdiff_t)row * h->padded_vocab, *target_logit = logits + h->targets[row];
    __m512 lane_max = lowest, lane_sum = _mm512_setzero_ps();
    for (int i = 0; i < h->vocab_size; i += 16)
      lane_max = _mm512_max_ps(lane_max, _mm512_mask_mov_ps(lowest, tail_mask(h->vocab_size, i), load_bf16(logits + i)));
    const __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(lane_max));
    for (int i = 0; i < h->padded_vocab; i += 16) {
      const __m512 all = exp_ps(_mm512_sub_ps(load_bf16(logits + i), max));
      const __m512 e = _mm512_maskz_mov_ps(tail_mask(h->vocab_size, i), all);
      _mm512_storeu_ps(exps + i, e);
      lane_sum = _mm512_add_ps(lane_sum, e);
    }
    const float sum = _mm512_reduce_add_ps(lane_sum);
    h->losses[row] = logf(sum) + _mm512_cvtss_f32(max) - bf16_to_float(*target_logit);
    const __m512 scale = _mm512_set1_ps(1.0f / sum);
    for (int i = 0; i < h->padded_vocab; i += 16) store_bf16(logits + i, _mm512_mul_ps(_mm512_loadu_ps(exps + i), scale));
    *target_logit = float_to_bf16(exps[h->targets[row]] / sum - 1.0f);
  }
}

static void x_backward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const LmHead *h = job->head;
  (void)scratch;
  const int rows = (end - begin) * MR, all_pairs = h->padded_vocab / 2;
  const ptrdiff_t start = (ptrdiff_t)begin * MR;
  float *grad_x = job->grad_x + start * h->width;
  const Output out = {.to = grad_x, .stride = h->width, .operand = grad_x};
  for (int k = 0; k < all_pairs; k += K_BLOCK) {
    const int k_pairs = all_pairs - k < K_BLOCK ? all_pairs - k : K_BLOCK;
    const bf16 *grad_logits = h->logits + start * h->padded_vocab + 2 * k;
    if (k)
      gemm(grad_logits, h->padded_vocab, rows, h->weight + (ptrdiff_t)k * NR, k_pairs, all_pairs, h->width, ADD_F32, out);
    else
      gemm(grad_logits, h->padded_vocab, rows, h->weight, k_pairs, all_pairs, h->width, STORE_F32, out);
  }
  convert_to_bf16(grad_x, (size_t)rows * (size_t)h->width, h->grad_x + start * h->width);
}

static void weight_backward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const LmHead *h = job->head;
  vnni_pair *packed = (vnni_pair *)scratch;
  for (int column = begin * NR; column < end * NR; column += NR) {
    pack_vnni(h->logits + column, h->padded_vocab, h->rows, NR, packed, 0, h->rows / 2);
    gemm_tn(packed, 0, NR, job->x_packed, h->rows / 2, h->width, STORE_BF16,
            (Output){.to = h->grad_weight + (ptrdiff_t)column * h->width, .stride = h->width});
  }
}

static size_t thread_scratch(const LmHead *h) { /* bytes: exps, or packed */
  const size_t exps = 4 * (size_t)h->padded_vocab, packed = 2 * NR * (size_t)h->rows;
  return ((exps > packed ? exps : packed) + 63) / 64 * 64;
}

static size_t x_size(const LmHead *h) { return (size_t)h->rows * (size_t)h->width; }

size_t echoself_lm_head_scratch(const LmHead *h) { return 6 * x_size(h) + thread_scratch(h) * (size_t)h->threads + 64; }

int32_t echoself_lm_head(const LmHead *h, char *scratch) {
  for (int32_t row = 0; row < h->rows; row++)
    if (h->targets[row] < 0 || h->targets[row] >= h->vocab_size) return row;
  char *shared = align_64(scratch), *own = shared + 6 * x_size(h);
  const Job job = {h, (vnni_pair *)(shared + 4 * x_size(h)), (float *)shared};
  pack_vnni(h->x, h->width, h->rows, h->width, job.x_packed, 0, h->rows / 2);
  parallel_for(logits_forward, &job, h->padded_vocab / NR, h->threads, own, thread_scratch(h));
  parallel_for(softmax_cross_entropy, &job, h->rows, h->threads, own, thread_scratch(h));
  parallel_for(x_backward, &job, h->rows / MR, h->threads, own, thread_scratch(h));
  parallel_for(weight_backward, &job, h->padded_vocab / NR, h->threads, own, thread_scratch(h));
  return -1;
}

#endif
