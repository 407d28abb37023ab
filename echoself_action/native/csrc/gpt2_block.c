/* The blocks of a GPT-2, forward and backward.
 *
 * In PyTorch each operation is a pass over memory; in a small model half of the time is spent between the matrix products. Here
 * a block of rows goes through all operations while it is in the cache, products have fused epilogues, and only what the backward
 * pass needs is stored. Products are of bf16; layer norm, softmax and the residual stream are in fp32.
 */

#include "block_job.h"

#ifdef SUPPORTED

/* ---- layer norm ---- */

INLINE void mean_and_rstd(const float *x, int width, float epsilon, float *mean, float *rstd) {
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int i = 0; i < width; i += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + i));
  *mean = _mm512_reduce_add_ps(sum) / (float)width;
  for (int i = 0; i < width; i += 16) {
    __m512 off = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(*mean));
    squares = _mm512_fmadd_ps(off, off, squares);
  }
  *rstd = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + epsilon);
}

static void layer_norm(const float *x, int rows, int width, const float *weight, const float *bias, float epsilon, bf16 *to) {
  for (int row = 0; row < rows; row++, x += width, to += width) {
    float mean, rstd;
    mean_and_rstd(x, width, epsilon, &mean, &rstd);
    for (int i = 0; i < width; i += 16) {
      __m512 x_hat = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(mean)), _mm512_set1_ps(rstd));
      store_bf16(to + i, _mm512_fmadd_ps(x_hat, _mm512_loadu_ps(weight + i), load_bias(bias, i)));
    }
  }
}

/* `grad_x` = `residual` + the gradient of x; `x_hat` = (x - mean) / standard deviation */
static void layer_norm_backward(const float *x, const float *grad_y, const float *residual, int rows, int width,
                                const float *weight, float epsilon, float *x_hat, float *grad_x) {
  for (int row = 0; row < rows; row++, x += width, grad_y += width, residual += width, x_hat += width, grad_x += width) {
    float mean, rstd;
    mean_and_rstd(x, width, epsilon, &mean, &rstd);
    __m512 sum = _mm512_setzero_ps(), dot = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16) {
      __m512 x_hat_i = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(mean)), _mm512_set1_ps(rstd));
      __m512 gradient = _mm512_mul_ps(_mm512_loadu_ps(grad_y + i), _mm512_loadu_ps(weight + i));
      _mm512_storeu_ps(x_hat + i, x_hat_i);
      sum = _mm512_add_ps(sum, gradient);
      dot = _mm512_fmadd_ps(gradient, x_hat_i, dot);
    }
    __m512 mean_gradient = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    __m512 mean_dot = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / (float)width);
    for (int i = 0; i < width; i += 16) {
      __m512 gradient = _mm512_mul_ps(_mm512_loadu_ps(grad_y + i), _mm512_loadu_ps(weight + i));
      gradient = _mm512_fnmadd_ps(_mm512_loadu_ps(x_hat + i), mean_dot, _mm512_sub_ps(gradient, mean_gradient));
      _mm512_storeu_ps(grad_x + i, _mm512_fmadd_ps(gradient, _mm512_set1_ps(rstd), _mm512_loadu_ps(residual + i)));
    }
  }
}

/* ---- the block ---- */

/* bytes of one thread: ROW_BLOCK rows, twice of `width` and twice of 4 * `width`; or what attention needs */
static size_t thread_scratch(const Block *b) {
  size_t rows = ROW_BLOCK * (size_t)b->width * (2 * 2 + 2 * 8), attention = attention_scratch(b);
  return ((rows > attention ? rows : attention) + 127) / 64 * 64;
}

INLINE int block_rows(int row, int end) { return end - row < ROW_BLOCK ? end - row : ROW_BLOCK; }

static void qkv_forward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const int width = b->width;
  bf16 *ln = (bf16 *)scratch;
  begin *= MR, end *= MR;
  for (int row = begin, rows; row < end; row += rows) {
    rows = block_rows(row, end);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    layer_norm(job->at->x + start, rows, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, ln);
    gemm(ln, width, rows, b->attn, width / 2, width / 2, 3 * width, STORE_BF16,
         (Output){.to = job->at->qkv + 3 * start, .stride = 3 * width, .bias = b->attn_bias});
  }
}

static void proj_mlp_forward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width;
  bf16 *ln = (bf16 *)scratch, *gelu = ln + ROW_BLOCK * width;
  begin *= MR, end *= MR;
  for (int row = begin, rows; row < end; row += rows) {
    rows = block_rows(row, end);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    gemm(at->attn_out + start, width, rows, b->attn_proj, width / 2, width / 2, width, ADD_F32,
         (Output){.to = at->mid + start, .stride = width, .bias = b->attn_proj_bias, .operand = at->x + start});
    layer_norm(at->mid + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, ln);
    bf16 *fc_out = at->fc_out + 4 * start;
    gemm(ln, width, rows, b->fc, width / 2, width / 2, 4 * width, BIAS_GELU,
         (Output){.to = fc_out, .stride = 4 * width, .bias = b->fc_bias, .activation = gelu, .tanh = b->tanh});
    gemm(gelu, 4 * width, rows, b->mlp_proj, 2 * width, 2 * width, width, ADD_F32,
         (Output){.to = at->y + start, .stride = width, .bias = b->mlp_proj_bias, .operand = at->mid + start});
  }
}

static void proj_mlp_backward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const Activations *at = job->at;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Buffers s;
  layout_buffers(b, job->shared, &s);
  bf16 *grad_rows = (bf16 *)scratch, *ln = grad_rows + ROW_BLOCK * width;
  bf16 *grad_fc = ln + ROW_BLOCK * width, *gelu = grad_fc + 4 * ROW_BLOCK * width;
  begin *= MR, end *= MR;
  for (int row = begin, rows; row < end; row += rows) {
    rows = block_rows(row, end);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    convert_to_bf16(job->to->y + start, (size_t)(rows * width), grad_rows);
    pack_vnni(grad_rows, width, rows, width, s.grad_y_packed, row, pairs);
    const bf16 *fc_out = at->fc_out + 4 * start;
    gemm(grad_rows, width, rows, packed_transpose(b->mlp_proj, width, 4 * width), width / 2, width / 2, 4 * width,
         GELU_BACKWARD, (Output){.to = grad_fc, .stride = 4 * width, .operand = fc_out, .activation = gelu, .tanh = b->tanh});
    pack_vnni(gelu, 4 * width, rows, 4 * width, s.gelu_packed, row, pairs);
    pack_vnni(grad_fc, 4 * width, rows, 4 * width, s.grad_fc_packed, row, pairs);
    gemm(grad_fc, 4 * width, rows, packed_transpose(b->fc, width, 4 * width), 2 * width, 2 * width, width, STORE_F32,
         (Output){.to = s.grad_ln_2 + start, .stride = width});
    layer_norm(at->mid + start, rows, width, b->ln_2_weight, b->ln_2_bias, b->epsilon, ln);
    pack_vnni(ln, width, rows, width, s.ln_2_packed, row, pairs);
    layer_norm_backward(at->mid + start, s.grad_ln_2 + start, job->to->y + start, rows, width, b->ln_2_weight, b->epsilon,
                        s.x_hat_2 + start, s.grad_mid + start);
    convert_to_bf16(s.grad_mid + start, (size_t)(rows * width), grad_rows);
    pack_vnni(grad_rows, width, rows, width, s.grad_mid_packed, row, pairs);
    pack_vnni(at->attn_out + start, width, rows, width, s.attn_out_packed, row, pairs);
    gemm(grad_rows, width, rows, packed_transpose(b->attn_proj, width, width), width / 2, width / 2, width, STORE_BF16,
         (Output){.to = s.grad_attn_out + start, .stride = width});
  }
}

static void qkv_backward(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  const int width = b->width, pairs = (int)(rows_of(b) / 2);
  Buffers s;
  layout_buffers(b, job->shared, &s);
  bf16 *ln = (bf16 *)scratch;
  begin *= MR, end *= MR;
  for (int row = begin, rows; row < end; row += rows) {
    rows = block_rows(row, end);
    const ptrdiff_t start = (ptrdiff_t)row * width;
    pack_vnni(s.grad_qkv + 3 * start, 3 * width, rows, 3 * width, s.grad_qkv_packed, row, pairs);
    gemm(s.grad_qkv + 3 * start, 3 * width, rows, packed_transpose(b->attn, width, 3 * width), 3 * width / 2, 3 * width / 2,
         width, STORE_F32, (Output){.to = s.grad_ln_1 + start, .stride = width});
    layer_norm(job->at->x + start, rows, width, b->ln_1_weight, b->ln_1_bias, b->epsilon, ln);
    pack_vnni(ln, width, rows, width, s.ln_1_packed, row, pairs);
    layer_norm_backward(job->at->x + start, s.grad_ln_1 + start, s.grad_mid + start, rows, width, b->ln_1_weight, b->epsilon,
                        s.x_hat_1 + start, job->to->x + start);
  }
}

/* An iteration is NR rows by `width` columns of a weight's gradient: the four weights have 12 * width / NR */
static void weight_gradients(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  (void)scratch;
  const int width = b->width, pairs = (int)(rows_of(b) / 2), panels = width / NR;
  Buffers s;
  layout_buffers(b, job->shared, &s);
  const struct {
    const vnni_pair *left, *right;
    bf16 *to;
    int parts, rows;
  } all[4] = {
      {s.ln_1_packed, s.grad_qkv_packed, job->to->attn, 3, 1},
      {s.attn_out_packed, s.grad_mid_packed, job->to->attn_proj, 1, 1},
      {s.ln_2_packed, s.grad_fc_packed, job->to->fc, 4, 1},
      {s.gelu_packed, s.grad_y_packed, job->to->mlp_proj, 1, 4},
  };
  for (int iteration = begin; iteration < end; iteration++)
    for (int i = 0, before = 0; i < 4; before += all[i].parts * all[i].rows * panels, i++) {
      const int here = iteration - before;
      if (here < 0 || here >= all[i].parts * all[i].rows * panels) continue;
      const int part = here % all[i].parts, row = here / all[i].parts * NR;
      gemm_tn(all[i].left, row, row + NR, all[i].right + (ptrdiff_t)part * width * pairs, pairs, width, STORE_BF16,
              (Output){.to = all[i].to + part * width, .stride = all[i].parts * width});
    }
}

static void bias_gradient(const vnni_pair *panel, int pairs, float *to) {
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int k = 0; k < pairs; k++)
    for (int half = 0; half < 2; half++)
      sums[half] = _mm512_dpbf16_ps(sums[half], ones, (__m512bh)_mm512_loadu_si512(panel + k * NR + half * 16));
  _mm512_storeu_ps(to, sums[0]), _mm512_storeu_ps(to + 16, sums[1]);
}

static void layer_norm_gradients(const float *grad_y, const float *x_hat, int rows, int width, int column, float *weight,
                                 float *bias) {
  for (int lanes = column; lanes < column + NR; lanes += 16) {
    __m512 sum = _mm512_setzero_ps(), dot = sum;
    for (ptrdiff_t at = lanes; at < (ptrdiff_t)rows * width; at += width) {
      __m512 gradient = _mm512_loadu_ps(grad_y + at);
      sum = _mm512_add_ps(sum, gradient);
      dot = _mm512_fmadd_ps(gradient, _mm512_loadu_ps(x_hat + at), dot);
    }
    _mm512_storeu_ps(weight + lanes, dot);
    if (bias) _mm512_storeu_ps(bias + lanes, sum);
  }
}

/* Gradients of the layer norms' weights and of all biases. An iteration is NR columns of each `width`. */
static void vector_gradients(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  const Block *b = job->block;
  (void)scratch;
  const Gradients *to = job->to;
  const int width = b->width, rows = (int)rows_of(b), pairs = rows / 2;
  Buffers s;
  layout_buffers(b, job->shared, &s);
  const struct {
    const vnni_pair *from;
    float *to;
    int parts;
  } biases[4] = {
      {s.grad_qkv_packed, to->attn_bias, 3},
      {s.grad_mid_packed, to->attn_proj_bias, 1},
      {s.grad_fc_packed, to->fc_bias, 4},
      {s.grad_y_packed, to->mlp_proj_bias, 1},
  };
  for (int iteration = begin; iteration < end; iteration++) {
    const int column = iteration * NR;
    layer_norm_gradients(s.grad_ln_1, s.x_hat_1, rows, width, column, to->ln_1_weight, to->ln_1_bias);
    layer_norm_gradients(s.grad_ln_2, s.x_hat_2, rows, width, column, to->ln_2_weight, to->ln_2_bias);
    for (int i = 0; i < 4; i++)
      for (int part = 0; biases[i].to && part < biases[i].parts; part++) {
        const int at = column + part * width;
        bias_gradient(biases[i].from + (ptrdiff_t)at * pairs, pairs, biases[i].to + at);
      }
  }
}

size_t echoself_block_forward_scratch(const Block *b) { return thread_scratch(b) * (size_t)b->threads + 64; }

size_t echoself_block_backward_scratch(const Block *b) {
  Buffers s;
  return echoself_block_forward_scratch(b) + layout_buffers(b, NULL, &s);
}

void echoself_block_forward(const Block *b, const Activations *at, char *scratch) {
  const Job job = {b, at, NULL, NULL};
  const int microtiles = (int)(rows_of(b) / MR);
  char *own = align_64(scratch);
  parallel_for(qkv_forward, &job, microtiles, b->threads, own, thread_scratch(b));
  parallel_for(attention_forward, &job, b->batch * b->heads, b->threads, own, thread_scratch(b));
  parallel_for(proj_mlp_forward, &job, microtiles, b->threads, own, thread_scratch(b));
}

void echoself_block_backward(const Block *b, const Activations *at, const Gradients *to, char *scratch) {
  Buffers s;
  const Job job = {b, at, to, align_64(scratch)};
  const int microtiles = (int)(rows_of(b) / MR), panels = b->width / NR;
  char *own = job.shared + layout_buffers(b, job.shared, &s);
  parallel_for(proj_mlp_backward, &job, microtiles, b->threads, own, thread_scratch(b));
  parallel_for(attention_backward, &job, b->batch * b->heads, b->threads, own, thread_scratch(b));
  parallel_for(qkv_backward, &job, microtiles, b->threads, own, thread_scratch(b));
  parallel_for(weight_gradients, &job, 12 * panels, b->threads, own, 0);
  parallel_for(vector_gradients, &job, panels, b->threads, own, 0);
}

#endif
