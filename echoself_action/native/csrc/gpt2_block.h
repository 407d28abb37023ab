/* The blocks of a GPT-2, forward and backward.
 *
 * In PyTorch each operation is a pass over memory; in a small model half of the time is spent between the matrix products. Here
 * a block of rows goes through all operations while it is in the cache, products have fused epilogues, and only what the backward
 * pass needs is stored. Products are of elements; layer norm, softmax and the residual stream are in fp32. Weights are packed just
 * before they are used. */

#pragma once

#include "attention.h"
#include "gemm.h"
#include "layer_norm.h"
#include "memory.h"
#include "pool.h"

typedef struct {       /* rows = sequences * length */
  float *x;            /* (rows, width), the shape of all that have no other */
  float *mid;          /* x plus the attention's output */
  float *y;
  elem *qkv;           /* (rows, 3 * width) */
  float *logsumexp;    /* (heads, rows), of the attention scores */
  elem *attn_out;      /* before the projection */
  elem *fc_out;        /* (rows, 4 * width), before the activation; NULL where there is no backward pass */
} Activations;

/* What one stage of the backward pass leaves for the next */
typedef struct {
  float *grad_mid, *grad_ln_2, *x_hat_2, *grad_ln_1, *x_hat_1; /* (rows, width) */
  elem *grad_attn_out, *grad_qkv;                              /* (rows, width), (rows, 3 * width) */
  /* inputs and output gradients of the linear layers, packed along the rows, for the gradients of weights and biases */
  unit *ln_1_packed, *attn_out_packed, *ln_2_packed, *gelu_packed;           /* as left operands */
  unit *grad_qkv_packed, *grad_mid_packed, *grad_fc_packed, *grad_y_packed; /* as right operands */
} Buffers;

typedef struct {
  unit *attn, *attn_proj, *fc, *mlp_proj;
} PackedWeights;

typedef struct {
  const Gpt2 *model;
  const Batch *batch;
  const BlockTensors *weights;
  Activations at;
  PackedWeights packed; /* transposed in the backward pass */
  Dropout dropout;
  Buffers buffers;
  const BlockTensors *gradients;
  float *grad_y, *grad_x; /* may be the same */
  int accumulate;
} BlockJob;

static int rows_of(const Batch *batch) { return batch->sequences * batch->length; }

/* Enough for the weights, and for their transposes */
static PackedWeights take_packed_weights(int width, Memory *memory) {
  const size_t size = sizeof(unit) * right_size(width, width);
  PackedWeights p;
  p.attn = take(memory, 3 * size), p.attn_proj = take(memory, size);
  p.fc = take(memory, 4 * size), p.mlp_proj = take(memory, 4 * size);
  return p;
}

static Buffers take_buffers(int rows, int width, Memory *memory) {
  const size_t size = (size_t)rows * (size_t)width;
  Buffers s;
  s.grad_mid = take(memory, sizeof(float) * size), s.grad_ln_2 = take(memory, sizeof(float) * size);
  s.x_hat_2 = take(memory, sizeof(float) * size), s.grad_ln_1 = take(memory, sizeof(float) * size);
  s.x_hat_1 = take(memory, sizeof(float) * size);
  s.grad_attn_out = take(memory, sizeof(elem) * size), s.grad_qkv = take(memory, sizeof(elem) * 3 * size);
  s.ln_1_packed = take(memory, sizeof(unit) * left_size(rows, width));
  s.attn_out_packed = take(memory, sizeof(unit) * left_size(rows, width));
  s.ln_2_packed = take(memory, sizeof(unit) * left_size(rows, width));
  s.gelu_packed = take(memory, sizeof(unit) * left_size(rows, 4 * width));
  s.grad_qkv_packed = take(memory, sizeof(unit) * right_size(rows, 3 * width));
  s.grad_mid_packed = take(memory, sizeof(unit) * right_size(rows, width));
  s.grad_fc_packed = take(memory, sizeof(unit) * right_size(rows, 4 * width));
  s.grad_y_packed = take(memory, sizeof(unit) * right_size(rows, width));
  return s;
}

static Attention attention_of(const BlockJob *job) {
  const Buffers *s = &job->buffers;
  const Activations *at = &job->at;
  return (Attention){.sequences = job->batch->sequences, .length = job->batch->length, .heads = job->model->heads,
                     .width = job->model->width, .qkv = at->qkv, .out = at->attn_out, .logsumexp = at->logsumexp,
                     .grad_out = s->grad_attn_out, .grad_qkv = s->grad_qkv, .dropout = job->dropout};
}

typedef struct {
  float *grad;
  elem *grad_rows, *ln, *grad_fc, *gelu;
} RowScratch;

static RowScratch row_scratch(int width, Memory *memory) {
  const size_t size = ROW_BLOCK * (size_t)width;
  RowScratch s;
  s.grad = take(memory, sizeof(float) * size), s.grad_rows = take(memory, sizeof(elem) * size);
  s.ln = take(memory, sizeof(elem) * size);
  s.grad_fc = take(memory, sizeof(elem) * 4 * size), s.gelu = take(memory, sizeof(elem) * 4 * size);
  return s;
}

/* The bytes of scratch memory of a thread */
static size_t thread_scratch(const Gpt2 *model, const Batch *batch, int backward) {
  const Attention attention = {.length = batch->length, .heads = model->heads, .width = model->width};
  Memory rows = {0}, own = {0};
  row_scratch(model->width, &rows), attention_scratch(&attention, backward, &own);
  return (rows.used > own.used ? rows.used : own.used) + 64;
}

/* ---- forward ---- */

/* An iteration packs NR rows of a weight: the four weights have 7 * width rows. */
static void pack_weights(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  (void)scratch;
  const int width = job->model->width, panels = round_up(width, NR) / NR;
  const int transposed = job->gradients != NULL;
  const struct {
    const float *from;
    unit *to;
    int rows, columns;
  } all[4] = {
      {job->weights->attn_weight, job->packed.attn, width, 3 * width},
      {job->weights->attn_proj_weight, job->packed.attn_proj, width, width},
      {job->weights->fc_weight, job->packed.fc, width, 4 * width},
      {job->weights->mlp_proj_weight, job->packed.mlp_proj, 4 * width, width},
  };
  for (int iteration = begin; iteration < end; iteration++) {
    const int i = smaller(iteration / panels, 3), row = (iteration - i * panels) * NR, rows = smaller(all[i].rows - row, NR);
    const float *from = all[i].from + (ptrdiff_t)row * all[i].columns;
    if (transposed)
      pack_floats_transposed(from, all[i].columns, rows, all[i].columns, all[i].to, row, units_of(all[i].columns));
    else
      pack_floats(from, all[i].columns, rows, all[i].columns, NR, all[i].to, row / PAIR, units_of(all[i].rows));
  }
}

static int weight_panels(int width) { return 3 * (round_up(width, NR) / NR) + round_up(4 * width, NR) / NR; }

static void qkv_forward(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const BlockTensors *w = job->weights;
  const int width = job->model->width;
  Memory memory = {scratch, 0};
  const RowScratch own = row_scratch(width, &memory);
  EACH_ROW_BLOCK(rows_of(job->batch), begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width;
    layer_norm(job->at.x + start, rows, width, w->ln_1_weight, w->ln_1_bias, job->model->epsilon, own.ln);
    multiply(row_major(own.ln, width, width), rows, job->packed.attn, units_of(width), 3 * width, STORE_ELEMS,
             (Output){.to = job->at.qkv + 3 * start, .stride = 3 * width, .bias = w->attn_bias});
  }
}

static void proj_mlp_forward(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const BlockTensors *w = job->weights;
  const Activations *at = &job->at;
  const int width = job->model->width, length = job->batch->length;
  Memory memory = {scratch, 0};
  const RowScratch own = row_scratch(width, &memory);
  EACH_ROW_BLOCK(rows_of(job->batch), begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width;
    const Output residual = {.stride = width, .dropout = &job->dropout, .first_row = row, .length = length};
    Output mid = residual, y = residual;
    mid.to = at->mid + start, mid.operand = at->x + start, mid.bias = w->attn_proj_bias, mid.place = PROJECTION_DROPOUT;
    y.to = at->y + start, y.operand = at->mid + start, y.bias = w->mlp_proj_bias, y.place = MLP_DROPOUT;
    multiply(row_major(at->attn_out + start, width, width), rows, job->packed.attn_proj, units_of(width), width, RESIDUAL, mid);
    layer_norm(at->mid + start, rows, width, w->ln_2_weight, w->ln_2_bias, job->model->epsilon, own.ln);
    multiply(row_major(own.ln, width, width), rows, job->packed.fc, units_of(width), 4 * width, BIAS_GELU,
             (Output){.to = at->fc_out ? at->fc_out + 4 * start : NULL, .stride = 4 * width, .bias = w->fc_bias,
                      .activation = own.gelu, .tanh = job->model->tanh});
    multiply(row_major(own.gelu, 4 * width, 4 * width), rows, job->packed.mlp_proj, units_of(4 * width), width, RESIDUAL, y);
  }
}

static void block_forward(BlockJob *job, char *scratch, size_t scratch_size) {
  const int threads = job->batch->threads, tiles = (rows_of(job->batch) + MR - 1) / MR;
  const Attention attention = attention_of(job);
  job->gradients = NULL;
  echoself_parallel_for(pack_weights, job, weight_panels(job->model->width), 4, threads, scratch, scratch_size);
  echoself_parallel_for(qkv_forward, job, tiles, ROW_BLOCK / MR, threads, scratch, scratch_size);
  echoself_parallel_for(attention_forward, &attention, attention.sequences * attention.heads, 4, threads, scratch, scratch_size);
  echoself_parallel_for(proj_mlp_forward, job, tiles, ROW_BLOCK / MR, threads, scratch, scratch_size);
}

/* ---- backward ---- */

/* The gradient of what was dropped from rows, and the rows as elements. Without dropout, `to` is not written. */
static void drop_gradient(const BlockJob *job, DropoutPlace place, const float *gradient, int row, int rows, float *to,
                          elem *elems) {
  const int width = job->model->width, length = job->batch->length;
  if (!job->dropout.seeds) {
    floats_to_elems(gradient, (size_t)rows * (size_t)width, elems);
    return;
  }
  for (int i = 0; i < rows; i++) {
    const DropoutRow kept = dropout_row(&job->dropout, place, (row + i) / length, (row + i) % length);
    for (int j = 0; j < width; j += LANES) {
      const ptrdiff_t at = (ptrdiff_t)i * width + j;
      store_n(to + at, load_n(gradient + at, width - j) * dropout_factors(kept, j), width - j);
    }
  }
  floats_to_elems(to, (size_t)rows * (size_t)width, elems);
}

static void proj_mlp_backward(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const BlockTensors *w = job->weights;
  const Activations *at = &job->at;
  const Buffers *s = &job->buffers;
  const int width = job->model->width, depth = units_of(rows_of(job->batch));
  Memory memory = {scratch, 0};
  const RowScratch own = row_scratch(width, &memory);
  EACH_ROW_BLOCK(rows_of(job->batch), begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width;
    const int first = row / PAIR;
    drop_gradient(job, MLP_DROPOUT, job->grad_y + start, row, rows, own.grad, own.grad_rows);
    pack(own.grad_rows, width, rows, width, NR, s->grad_y_packed, first, depth);
    multiply(row_major(own.grad_rows, width, width), rows, job->packed.mlp_proj, units_of(width), 4 * width, GELU_BACKWARD,
             (Output){.to = own.grad_fc, .stride = 4 * width, .operand = at->fc_out + 4 * start, .activation = own.gelu,
                      .tanh = job->model->tanh});
    pack(own.gelu, 4 * width, rows, 4 * width, LEFT_PANEL, s->gelu_packed, first, depth);
    pack(own.grad_fc, 4 * width, rows, 4 * width, NR, s->grad_fc_packed, first, depth);
    multiply(row_major(own.grad_fc, 4 * width, 4 * width), rows, job->packed.fc, units_of(4 * width), width, STORE,
             (Output){.to = s->grad_ln_2 + start, .stride = width});
    layer_norm(at->mid + start, rows, width, w->ln_2_weight, w->ln_2_bias, job->model->epsilon, own.ln);
    pack(own.ln, width, rows, width, LEFT_PANEL, s->ln_2_packed, first, depth);
    layer_norm_backward(at->mid + start, s->grad_ln_2 + start, job->grad_y + start, rows, width, w->ln_2_weight,
                        job->model->epsilon, s->x_hat_2 + start, s->grad_mid + start);
    drop_gradient(job, PROJECTION_DROPOUT, s->grad_mid + start, row, rows, own.grad, own.grad_rows);
    pack(own.grad_rows, width, rows, width, NR, s->grad_mid_packed, first, depth);
    pack(at->attn_out + start, width, rows, width, LEFT_PANEL, s->attn_out_packed, first, depth);
    multiply(row_major(own.grad_rows, width, width), rows, job->packed.attn_proj, units_of(width), width, STORE_ELEMS,
             (Output){.to = s->grad_attn_out + start, .stride = width});
  }
}

static void qkv_backward(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const BlockTensors *w = job->weights;
  const Buffers *s = &job->buffers;
  const int width = job->model->width, depth = units_of(rows_of(job->batch));
  Memory memory = {scratch, 0};
  const RowScratch own = row_scratch(width, &memory);
  EACH_ROW_BLOCK(rows_of(job->batch), begin, end) {
    const ptrdiff_t start = (ptrdiff_t)row * width;
    const elem *grad_qkv = s->grad_qkv + 3 * start;
    pack(grad_qkv, 3 * width, rows, 3 * width, NR, s->grad_qkv_packed, row / PAIR, depth);
    multiply(row_major(grad_qkv, 3 * width, 3 * width), rows, job->packed.attn, units_of(3 * width), width, STORE,
             (Output){.to = s->grad_ln_1 + start, .stride = width});
    layer_norm(job->at.x + start, rows, width, w->ln_1_weight, w->ln_1_bias, job->model->epsilon, own.ln);
    pack(own.ln, width, rows, width, LEFT_PANEL, s->ln_1_packed, row / PAIR, depth);
    layer_norm_backward(job->at.x + start, s->grad_ln_1 + start, s->grad_mid + start, rows, width, w->ln_1_weight,
                        job->model->epsilon, s->x_hat_1 + start, job->grad_x + start);
  }
}

/* An iteration is a few rows by `width` columns of a weight's gradient: few for a small model, so that there is work for all threads. */
INLINE int gradient_rows(int width) { return width < 4 * ROW_BLOCK ? LEFT_PANEL : ROW_BLOCK; }

static void weight_gradients(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const Buffers *s = &job->buffers;
  const BlockTensors *to = job->gradients;
  (void)scratch;
  const int width = job->model->width, depth = units_of(rows_of(job->batch)), at_once = gradient_rows(width);
  const struct {
    const unit *left, *right;
    float *to;
    int rows, parts;
  } all[4] = {
      {s->gelu_packed, s->grad_y_packed, to->mlp_proj_weight, 4 * width, 1},
      {s->ln_2_packed, s->grad_fc_packed, to->fc_weight, width, 4},
      {s->ln_1_packed, s->grad_qkv_packed, to->attn_weight, width, 3},
      {s->attn_out_packed, s->grad_mid_packed, to->attn_proj_weight, width, 1},
  };
  for (int iteration = begin; iteration < end; iteration++)
    for (int i = 0, before = 0, here; i < 4; before += here, i++) {
      const int columns = all[i].parts * width;
      here = round_up(all[i].rows, at_once) / at_once * all[i].parts;
      if (iteration < before || iteration >= before + here) continue;
      const int row = (iteration - before) / all[i].parts * at_once;
      const int part = round_up(round_up(columns, NR) / NR, all[i].parts) / all[i].parts * NR; /* columns of a part */
      const int column = (iteration - before) % all[i].parts * part;
      if (column < columns)
        multiply(packed_columns(all[i].left + (ptrdiff_t)row * depth, depth), smaller(all[i].rows - row, at_once),
                 all[i].right + (ptrdiff_t)column * depth, depth, smaller(columns - column, part), STORE,
                 (Output){.to = all[i].to + (ptrdiff_t)row * columns + column, .stride = columns, .accumulate = job->accumulate});
    }
}

static int weight_gradient_parts(int width) {
  const int at_once = gradient_rows(width);
  return 8 * (round_up(width, at_once) / at_once) + round_up(4 * width, at_once) / at_once;
}

/* Sums of the columns of packed panels: the gradient of a bias, of which an iteration is NR columns. */
static void bias_gradient(const unit *packed, int depth, int column, int columns, float *to, int accumulate) {
  const unit *panel = packed + (ptrdiff_t)column * depth;
  vec sums[NV] = {zeros()};
  for (int j = 0; j < NV; j++) sums[j] = zeros();
  for (int k = 0; k < depth; k++)
    UNROLL for (int j = 0; j < NV; j++) sums[j] += sum_within_units(load_units(panel + (ptrdiff_t)k * NR + j * LANES));
  for (int j = 0; j < NV && column + j * LANES < columns; j++)
    add_or_store(to + column + j * LANES, sums[j], columns - column - j * LANES, accumulate);
}

/* Gradients of the layer norms' weights and of all biases. An iteration is NR columns of each `width`. */
static void vector_gradients(const void *argument, int begin, int end, char *scratch) {
  const BlockJob *job = argument;
  const Buffers *s = &job->buffers;
  const BlockTensors *to = job->gradients;
  (void)scratch;
  const int width = job->model->width, rows = rows_of(job->batch), depth = units_of(rows), add = job->accumulate;
  const struct {
    const unit *from;
    float *to;
    int columns;
  } biases[4] = {
      {s->grad_qkv_packed, to->attn_bias, 3 * width},
      {s->grad_mid_packed, to->attn_proj_bias, width},
      {s->grad_fc_packed, to->fc_bias, 4 * width},
      {s->grad_y_packed, to->mlp_proj_bias, width},
  };
  for (int iteration = begin; iteration < end; iteration++) {
    const int column = iteration * NR, last = smaller(column + NR, width);
    if (column < width) {
      layer_norm_gradients(s->grad_ln_1, s->x_hat_1, rows, width, column, last, to->ln_1_weight, to->ln_1_bias, add);
      layer_norm_gradients(s->grad_ln_2, s->x_hat_2, rows, width, column, last, to->ln_2_weight, to->ln_2_bias, add);
    }
    for (int i = 0; i < 4; i++)
      if (biases[i].to && column < biases[i].columns)
        bias_gradient(biases[i].from, depth, column, biases[i].columns, biases[i].to, add);
  }
}

static void block_backward(BlockJob *job, char *scratch, size_t scratch_size) {
  const int threads = job->batch->threads, width = job->model->width, tiles = (rows_of(job->batch) + MR - 1) / MR;
  const Attention attention = attention_of(job);
  echoself_parallel_for(pack_weights, job, weight_panels(width), 4, threads, scratch, scratch_size);
  echoself_parallel_for(proj_mlp_backward, job, tiles, ROW_BLOCK / MR, threads, scratch, scratch_size);
  echoself_parallel_for(attention_backward, &attention, attention.sequences * attention.heads, 4, threads, scratch, scratch_size);
  echoself_parallel_for(qkv_backward, job, tiles, ROW_BLOCK / MR, threads, scratch, scratch_size);
  echoself_parallel_for(weight_gradients, job, weight_gradient_parts(width), 4, threads, scratch, scratch_size);
  echoself_parallel_for(vector_gradients, job, round_up(4 * width, NR) / NR, 4, threads, scratch, scratch_size);
}
