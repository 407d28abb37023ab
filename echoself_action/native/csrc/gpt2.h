/* The losses of a GPT-2 on a batch, and their gradients. */

#pragma once

#include "gpt2_block.h"
#include "lm_head.h"

typedef struct {
  const Gpt2 *model;
  const Batch *batch;
  const Gradients *gradients; /* NULL in the forward pass */
  Dropout dropout;
  Activations *layers;
  float *x, *grad_x; /* the embeddings, (rows, width) */
  const float *last; /* the output of the last block */
  elem *normalised;  /* its layer norm */
  float *grad_normalised, *x_hat;
} Pass;

static void embed(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const Pass *pass = argument;
  (void)scratch;
  const int width = pass->model->width, length = pass->batch->length;
  for (int row = begin; row < end; row++) {
    const float *token = pass->model->weights.wte + pass->batch->ids[row] * width;
    const float *position = pass->model->weights.wpe + (ptrdiff_t)(row % length) * width;
    DropoutRow kept = {0};
    if (pass->dropout.seeds) kept = dropout_row(&pass->dropout, EMBEDDING_DROPOUT, row / length, row % length);
    for (int i = 0; i < width; i += LANES) {
      vec sum = load_n(token + i, width - i) + load_n(position + i, width - i);
      if (pass->dropout.seeds) sum *= dropout_factors(kept, i);
      store_n(pass->x + (ptrdiff_t)row * width + i, sum, width - i);
    }
  }
}

/* Adds the gradients of the embeddings to wte's, and sets or adds wpe's. An iteration is LANES columns. */
static void embeddings_backward(const void *argument, int begin, int end, char *scratch) {
  const Pass *pass = argument;
  (void)scratch;
  const int width = pass->model->width, length = pass->batch->length, rows = rows_of(pass->batch);
  float *tokens = pass->gradients->to.wte, *positions = pass->gradients->to.wpe;
  for (int column = begin * LANES; column < smaller(end * LANES, width); column += LANES) {
    const int count = width - column;
    if (!pass->gradients->accumulate)
      for (int i = 0; i < pass->model->positions; i++) store_n(positions + (ptrdiff_t)i * width + column, zeros(), count);
    for (int row = 0; row < rows; row++) {
      vec gradient = load_n(pass->grad_x + (ptrdiff_t)row * width + column, count);
      if (pass->dropout.seeds)
        gradient *= dropout_factors(dropout_row(&pass->dropout, EMBEDDING_DROPOUT, row / length, row % length), column);
      add_or_store(tokens + pass->batch->ids[row] * width + column, gradient, count, 1);
      add_or_store(positions + (ptrdiff_t)(row % length) * width + column, gradient, count, 1);
    }
  }
}

static void final_norm(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const Pass *pass = argument;
  (void)scratch;
  const Gpt2 *model = pass->model;
  const ptrdiff_t start = (ptrdiff_t)begin * model->width;
  layer_norm(pass->last + start, end - begin, model->width, model->weights.ln_f_weight, model->weights.ln_f_bias, model->epsilon,
             pass->normalised + start);
}

static void final_norm_backward(const void *argument, int begin, int end, char *scratch) { /* an iteration is a row */
  const Pass *pass = argument;
  (void)scratch;
  const Gpt2 *model = pass->model;
  const ptrdiff_t start = (ptrdiff_t)begin * model->width;
  layer_norm_backward(pass->last + start, pass->grad_normalised + start, NULL, end - begin, model->width,
                      model->weights.ln_f_weight, model->epsilon, pass->x_hat + start, pass->grad_x + start);
}

static void final_norm_gradients(const void *argument, int begin, int end, char *scratch) { /* an iteration is LANES columns */
  const Pass *pass = argument;
  (void)scratch;
  const Gradients *to = pass->gradients;
  layer_norm_gradients(pass->grad_normalised, pass->x_hat, rows_of(pass->batch), pass->model->width, begin * LANES,
                       smaller(end * LANES, pass->model->width), to->to.ln_f_weight, to->to.ln_f_bias, to->accumulate);
}

typedef struct {
  Pass pass;
  Head head;
  PackedWeights packed;
  Buffers buffers;
  char *scratch;
  size_t scratch_size;
} Plan;

/* Divides the memory of a pass. Without gradients, all layers have the same activations. */
static void plan(const Gpt2 *model, const Batch *batch, int gradients, Memory *memory, Plan *p) {
  const int rows = rows_of(batch), width = model->width;
  const size_t size = (size_t)rows * (size_t)width;
  memset(p, 0, sizeof *p);
  p->pass.model = model, p->pass.batch = batch;
  p->pass.layers = take(memory, sizeof(Activations) * (size_t)model->layers);
  p->pass.x = take(memory, sizeof(float) * size);
  float *x = p->pass.x;
  Activations at = {0};
  for (int layer = 0; layer < model->layers; layer++) {
    if (gradients || !layer) {
      at.mid = take(memory, sizeof(float) * size);
      at.y = gradients ? take(memory, sizeof(float) * size) : x;
      at.qkv = take(memory, sizeof(elem) * 3 * size), at.attn_out = take(memory, sizeof(elem) * size);
      at.logsumexp = take(memory, sizeof(float) * (size_t)model->heads * (size_t)rows);
      at.fc_out = gradients ? take(memory, sizeof(elem) * 4 * size) : NULL;
    }
    at.x = x, x = at.y;
    if (memory->at) p->pass.layers[layer] = at;
  }
  p->pass.last = x;
  p->pass.normalised = take(memory, sizeof(elem) * size);
  p->packed = take_packed_weights(width, memory);
  take_head(&p->head, rows, width, model->vocab_size, gradients, memory);
  if (gradients) {
    p->buffers = take_buffers(rows, width, memory);
    p->pass.grad_x = take(memory, sizeof(float) * size);
    p->pass.grad_normalised = p->buffers.grad_ln_1, p->pass.x_hat = p->buffers.x_hat_1;
  }
  const size_t block = thread_scratch(model, batch, gradients), head = head_thread_scratch(rows, model->vocab_size);
  p->scratch_size = block > head ? block : head;
  p->scratch = take(memory, p->scratch_size * (size_t)(batch->threads < MAX_THREADS ? batch->threads : MAX_THREADS));
}

static size_t memory_of(const Gpt2 *model, const Batch *batch, int gradients) {
  Memory memory = {0};
  Plan p;
  plan(model, batch, gradients, &memory, &p);
  return memory.used + 64;
}
static size_t losses_memory(const Gpt2 *model, const Batch *batch) { return memory_of(model, batch, 0); }
static size_t gradients_memory(const Gpt2 *model, const Batch *batch) { return memory_of(model, batch, 1); }

static int32_t compute(const Gpt2 *model, const Batch *batch, const Gradients *gradients, float *losses, char *memory) {
  const int rows = rows_of(batch), width = model->width, threads = batch->threads;
  for (int32_t i = 0; i < rows; i++)
    if (batch->ids[i] < 0 || batch->ids[i] >= model->vocab_size || batch->targets[i] < 0 ||
        batch->targets[i] >= model->vocab_size)
      return i;
  Memory parts = {memory, 0};
  Plan p;
  plan(model, batch, gradients != NULL, &parts, &p);
  Pass *pass = &p.pass;
  pass->gradients = gradients;
  pass->dropout = (Dropout){gradients && model->dropout > 0 ? batch->seeds : NULL, model->dropout, 0};
#define OVER(body, job, count, most) echoself_parallel_for(body, job, count, most, threads, p.scratch, p.scratch_size)
  OVER(embed, pass, rows, 64);
  BlockJob job = {.model = model, .batch = batch, .packed = p.packed, .buffers = p.buffers, .dropout = pass->dropout};
  for (int layer = 0; layer < model->layers; layer++) {
    job.weights = &model->weights.blocks[layer], job.at = pass->layers[layer], job.dropout.layer = (uint32_t)layer;
    block_forward(&job, p.scratch, p.scratch_size);
  }
  OVER(final_norm, pass, rows, 64);
  p.head.rows = rows, p.head.width = width, p.head.vocab_size = model->vocab_size, p.head.threads = threads;
  p.head.x = pass->normalised, p.head.weight = model->weights.wte, p.head.targets = batch->targets, p.head.losses = losses;
  if (gradients) {
    p.head.scale = gradients->scale, p.head.accumulate = gradients->accumulate;
    p.head.grad_x = pass->grad_normalised, p.head.grad_weight = gradients->to.wte;
  }
  head(&p.head, p.scratch, p.scratch_size);
  if (!gradients) return -1;
  const int vectors = (width + LANES - 1) / LANES;
  OVER(final_norm_backward, pass, rows, 64);
  OVER(final_norm_gradients, pass, vectors, 4);
  job.grad_y = job.grad_x = pass->grad_x, job.accumulate = gradients->accumulate;
  for (int layer = model->layers - 1; layer >= 0; layer--) {
    job.weights = &model->weights.blocks[layer], job.at = pass->layers[layer], job.dropout.layer = (uint32_t)layer;
    job.gradients = &gradients->to.blocks[layer];
    block_backward(&job, p.scratch, p.scratch_size);
  }
  OVER(embeddings_backward, pass, vectors, 1);
#undef OVER
  return -1;
}

static int32_t compute_losses(const Gpt2 *model, const Batch *batch, float *losses, char *memory) {
  return compute(model, batch, NULL, losses, memory);
}
static int32_t compute_gradients(const Gpt2 *model, const Batch *batch, const Gradients *gradients, float *losses, char *memory) {
  return compute(model, batch, gradients, losses, memory);
}
