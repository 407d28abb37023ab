/* Causal attention. Keys after the last one that a row of NR queries sees are skipped. */

#include "block_job.h"

#ifdef SUPPORTED

/* Probabilities of a row from its scores: of the first `valid`, and 0 up to `count`. Returns the logsumexp of the scaled scores. */
INLINE float softmax(float *scores, int valid, int count, float scale, bf16 *to) {
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  __m512 lane_max = lowest, lane_sum = _mm512_setzero_ps();
  for (int i = 0; i < valid; i += 16)
    lane_max = _mm512_max_ps(lane_max, _mm512_mask_loadu_ps(lowest, tail_mask(valid, i), scores + i));
  float max = _mm512_reduce_max_ps(lane_max) * scale;
  for (int i = 0; i < count; i += 16) {
    __m512 shifted = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(scale), _mm512_set1_ps(max));
    __m512 e = _mm512_maskz_mov_ps(tail_mask(valid, i), exp_ps(shifted));
    _mm512_storeu_ps(scores + i, e);
    lane_sum = _mm512_add_ps(lane_sum, e);
  }
  float sum = _mm512_reduce_add_ps(lane_sum);
  for (int i = 0; i < count; i += 16) store_bf16(to + i, _mm512_mul_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(1 / sum)));
  return max + logf(sum);
}

size_t attention_scratch(const Block *b) { /* bytes for either direction */
  size_t length = (size_t)b->length, head_size = (size_t)(b->width / b->heads);
  return length * head_size * (4 * 2 + 2 * 4) + length * ROW_BLOCK * 2 * 4 + length * MR * 4 * 2 +
         ROW_BLOCK * head_size * 2 * 2;
}

void attention_forward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int length = b->length, head_size = b->width / b->heads, stride = 3 * b->width;
  const float scale = 1.0f / sqrtf((float)head_size);
  vnni_pair *k_packed_t = (vnni_pair *)scratch, *v_packed = k_packed_t + length * head_size / 2;
  float *scores = (float *)(v_packed + length * head_size / 2);
  bf16 *p = (bf16 *)(scores + MR * length);
  for (int i_head = begin; i_head < end; i_head++) {
    const int sample = i_head / b->heads, head = i_head % b->heads;
    const ptrdiff_t start = (ptrdiff_t)sample * length;
    const bf16 *q = at->qkv + start * stride + head * head_size;
    float *logsumexp = at->logsumexp + (ptrdiff_t)head * b->batch * length + start;
    pack_vnni_transposed(q + b->width, stride, length, head_size, k_packed_t);
    pack_vnni(q + 2 * b->width, stride, length, head_size, v_packed, 0, length / 2);
    for (int row = 0; row < length; row += MR) {
      const int visible = (row / NR + 1) * NR;
      gemm(q + (ptrdiff_t)row * stride, stride, MR, k_packed_t, head_size / 2, head_size / 2, visible, STORE_F32,
           (Output){.to = scores, .stride = length});
      for (int i = 0; i < MR; i++)
        logsumexp[row + i] = softmax(scores + i * length, row + i + 1, visible, scale, p + i * length);
      gemm(p, length, MR, v_packed, visible / 2, length / 2, head_size, STORE_BF16,
           (Output){.to = at->attn_out + (start + row) * b->width + head * head_size, .stride = b->width});
    }
  }
}

/* Gradients of q, k and v from that of the attention's output. Probabilities are computed again, from the logsumexp. */
void attention_backward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const Activations *at = job->at;
  Buffers s;
  layout_buffers(b, job->shared, &s);
  const int length = b->length, head_size = b->width / b->heads, stride = 3 * b->width, width = b->width;
  const float scale = 1.0f / sqrtf((float)head_size);
  const int pairs = length * head_size / 2;
  vnni_pair *k_packed_t = (vnni_pair *)scratch, *v_packed_t = k_packed_t + pairs, *k_packed = v_packed_t + pairs;
  float *grad_k = (float *)(k_packed + pairs), *grad_v = grad_k + 2 * pairs;
  float *scores = grad_v + 2 * pairs, *grad_p = scores + MR * length;
  bf16 *p = (bf16 *)(grad_p + MR * length), *grad_scores = p + ROW_BLOCK * length;
  vnni_pair *p_packed = (vnni_pair *)(grad_scores + ROW_BLOCK * length),
            *grad_scores_packed = p_packed + ROW_BLOCK / 2 * length;
  vnni_pair *q_packed = grad_scores_packed + ROW_BLOCK / 2 * length, *grad_out_packed = q_packed + ROW_BLOCK / 2 * head_size;
  for (int i_head = begin; i_head < end; i_head++) {
    const int sample = i_head / b->heads, head = i_head % b->heads;
    const ptrdiff_t start = (ptrdiff_t)sample * length;
    const bf16 *q = at->qkv + start * stride + head * head_size;
    const bf16 *attn_out = at->attn_out + start * width + head * head_size,
               *grad_out = s.grad_attn_out + start * width + head * head_size;
    const float *logsumexp = at->logsumexp + (ptrdiff_t)head * b->batch * length + start;
    bf16 *grad_q = s.grad_qkv + start * stride + head * head_size;
    pack_vnni_transposed(q + width, stride, length, head_size, k_packed_t);
    pack_vnni_transposed(q + 2 * width, stride, length, head_size, v_packed_t);
    pack_vnni(q + width, stride, length, head_size, k_packed, 0, length / 2);
    memset(grad_k, 0, sizeof(float) * 4 * (size_t)pairs);
    for (int block = 0; block < length; block += ROW_BLOCK) {
      const int rows = length - block < ROW_BLOCK ? length - block : ROW_BLOCK, block_end = block + rows;
      for (int row = block; row < block_end; row += MR) {
        const int visible = (row / NR + 1) * NR;
        gemm(q + (ptrdiff_t)row * stride, stride, MR, k_packed_t, head_size / 2, head_size / 2, visible, STORE_F32,
             (Output){.to = scores, .stride = length});
        gemm(grad_out + (ptrdiff_t)row * width, width, MR, v_packed_t, head_size / 2, head_size / 2, visible, STORE_F32,
             (Output){.to = grad_p, .stride = length});
        for (int i = 0; i < MR; i++) {
          const bf16 *out_row = attn_out + (ptrdiff_t)(row + i) * width,
                     *grad_out_row = grad_out + (ptrdiff_t)(row + i) * width;
          __m512 dot = _mm512_setzero_ps();
          for (int j = 0; j < head_size; j += 16)
            dot = _mm512_fmadd_ps(load_bf16(out_row + j), load_bf16(grad_out_row + j), dot);
          const __m512 row_dot = _mm512_set1_ps(_mm512_reduce_add_ps(dot)), lse = _mm512_set1_ps(logsumexp[row + i]);
          const ptrdiff_t at_row = (ptrdiff_t)(row - block + i) * length;
          for (int j = 0; j < block_end; j += 16) {
            const __mmask16 mask = tail_mask(row + i + 1, j);
            __m512 prob = _mm512_setzero_ps(), grad_score = prob;
            if (mask) {
              __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i * length + j), _mm512_set1_ps(scale), lse);
              prob = _mm512_maskz_mov_ps(mask, exp_ps(score));
              grad_score = _mm512_maskz_sub_ps(mask, _mm512_loadu_ps(grad_p + i * length + j), row_dot);
              grad_score = _mm512_mul_ps(_mm512_mul_ps(grad_score, prob), _mm512_set1_ps(scale));
            }
            store_bf16(p + at_row + j, prob);
            store_bf16(grad_scores + at_row + j, grad_score);
          }
        }
        gemm(grad_scores + (ptrdiff_t)(row - block) * length, length, MR, k_packed, visible / 2, length / 2, head_size,
             STORE_BF16, (Output){.to = grad_q + (ptrdiff_t)row * stride, .stride = stride});
      }
      pack_vnni(p, length, rows, block_end, p_packed, 0, rows / 2);
      pack_vnni(grad_scores, length, rows, block_end, grad_scores_packed, 0, rows / 2);
      pack_vnni(q + (ptrdiff_t)block * stride, stride, rows, head_size, q_packed, 0, rows / 2);
      pack_vnni(grad_out + (ptrdiff_t)block * width, width, rows, head_size, grad_out_packed, 0, rows / 2);
      gemm_tn(grad_scores_packed, 0, block_end, q_packed, rows / 2, head_size, ADD_F32,
              (Output){.to = grad_k, .stride = head_size, .operand = grad_k});
      gemm_tn(p_packed, 0, block_end, grad_out_packed, rows / 2, head_size, ADD_F32,
              (Output){.to = grad_v, .stride = head_size, .operand = grad_v});
    }
    for (int row = 0; row < length; row++) {
      convert_to_bf16(grad_k + (ptrdiff_t)row * head_size, (size_t)head_size, grad_q + (ptrdiff_t)row * stride + width);
      convert_to_bf16(grad_v + (ptrdiff_t)row * head_size, (size_t)head_size, grad_q + (ptrdiff_t)row * stride + 2 * width);
    }
  }
}

#endif
