/* The interface of the library: what c_api.py mirrors for ctypes.
 *
 * Tensors are fp32, row-major and contiguous. `threads` is at most how many threads a kernel uses; results do not depend on it.
 * A memory function returns the bytes of memory that its kernel needs, of any content. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct {
  float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;         /* (width); biases are NULL in a model without them */
  float *attn_bias, *attn_proj_bias, *fc_bias, *mlp_proj_bias;      /* (3 * width), (width), (4 * width), (width) */
  float *attn_weight, *attn_proj_weight, *fc_weight, *mlp_proj_weight; /* (inputs, outputs) */
} BlockTensors;

typedef struct { /* a tensor for each parameter of a GPT-2 */
  float *wte, *wpe;                 /* (vocab_size, width), (positions, width) */
  float *ln_f_weight, *ln_f_bias;   /* (width) */
  const BlockTensors *blocks;       /* (layers) */
} Tensors;

typedef struct {
  int32_t layers, heads, width, vocab_size, positions;
  int32_t tanh; /* GELU's approximation */
  float epsilon, dropout;
  Tensors weights;
} Gpt2;

typedef struct {
  int32_t sequences, length, threads;
  const int64_t *ids, *targets; /* (sequences, length) */
  const uint64_t *seeds;        /* (sequences), of dropout; NULL: no dropout */
} Batch;

typedef struct {
  Tensors to;
  float scale;        /* of the summed loss whose gradients these are */
  int32_t accumulate; /* whether they are added to what is there */
} Gradients;

typedef struct {
  int32_t count, rows, columns, side_by_side; /* matrices in each of `count` parameters (rows, columns) */
  int32_t steps, threads;
  const float *coefficients;  /* (steps, 3): of x, x^3 and x^5 */
  float *const *parameters, *const *momenta;
  const float *const *gradients;
  float momentum, rate, decay, gradient_scale; /* `rate` is of the orthogonalised update, `decay` the weights' factor */
} MuonStep;

typedef struct {
  int32_t count, threads;
  const int64_t *sizes;
  float *const *parameters, *const *means, *const *squares;
  const float *const *gradients;
  const float *decays, *mean_corrections, *square_corrections; /* (count): the weights' factor, and 1 - beta^step */
  float rate, beta_1, beta_2, epsilon, gradient_scale;
} AdamWStep;

/* Layers that other models than GPT-2 are made of. Where `grad_y` is not NULL, the gradients are computed from it. */

typedef struct { /* y = x weight^T + bias */
  int32_t rows, inputs, outputs, threads;
  const float *x, *weight, *bias; /* (rows, inputs), (outputs, inputs), (outputs) or NULL */
  float *y;                       /* (rows, outputs) */
  const float *grad_y;
  float *grad_x, *grad_weight, *grad_bias; /* grad_x and grad_bias may be NULL */
} LinearLayer;

typedef struct { /* causal attention; with thresholds, of softplus(s - t) - softplus(-s - t) for a scaled score s */
  int32_t sequences, length, heads, width, threads;
  float dropout;
  const uint64_t *seeds;         /* (sequences), of dropout; NULL: no dropout */
  const float *qkv, *thresholds; /* (rows, 3 * width), (rows) or NULL */
  float *y, *logsumexp;          /* (rows, width), (heads, rows) */
  const float *grad_y;
  float *grad_qkv, *grad_thresholds; /* (rows, 3 * width), (heads, rows): of each head */
} CausalAttention;

typedef struct {
  float *in_weight, *in_bias, *ln_weight, *ln_bias, *out_weight, *out_bias;      /* in and out are (width, width) */
  float *gate_in_weight, *gate_in_bias, *gate_out_weight, *gate_out_bias;        /* (width / 2, width), (width, width / 2) */
} PersonaTensors;

typedef struct { /* y = x + share * (x + gate * transform), see persona.h */
  int32_t rows, width, threads;
  float share, epsilon;
  PersonaTensors weights, gradients;
  const float *x;
  float *y, *hidden, *gate_hidden, *transform, *gate; /* (rows, width), gate_hidden (rows, width / 2): kept for the gradients */
  const float *grad_y;
  float *grad_x;
} Persona;

typedef struct {
  int32_t rows, width, threads;
  float epsilon;
  const float *x, *weight, *bias;
  float *y;
  const float *grad_y;
  float *grad_x, *grad_weight, *grad_bias;
} LayerNormLayer;

typedef struct { /* y at a position is the mean of x up to it */
  int32_t sequences, length, width, threads;
  const float *x;
  float *y;
  const float *grad_y;
  float *grad_x;
} RunningMean;

typedef struct { /* the losses of a head, and the gradients of their sum times `scale` */
  int32_t rows, width, vocab_size, threads;
  float scale;
  const float *x, *weight; /* (rows, width), (vocab_size, width) */
  const int64_t *targets;  /* (rows), each in [0, vocab_size) */
  float *losses, *grad_x, *grad_weight;
} CrossEntropy;

typedef struct {
  size_t (*losses_memory)(const Gpt2 *model, const Batch *batch);
  size_t (*gradients_memory)(const Gpt2 *model, const Batch *batch);
  /* The loss in nats of each position, (sequences, length), without dropout. Returns -1; or, where an id or a target is not in
   * [0, vocab_size), the number of the first such position, and then nothing is written. */
  int32_t (*losses)(const Gpt2 *model, const Batch *batch, float *losses, char *memory);
  /* The losses, and the gradients of their sum times `scale`. */
  int32_t (*gradients)(const Gpt2 *model, const Batch *batch, const Gradients *gradients, float *losses, char *memory);
  size_t (*muon_memory)(const MuonStep *matrices);
  void (*muon)(const MuonStep *matrices, char *memory);
  void (*adamw)(const AdamWStep *tensors);
  double (*sum_of_squares)(const float *const *tensors, const int64_t *sizes, int32_t count, int32_t threads);
  /* Runs the inner loop of a matrix product in registers, `count` times. Returns its floating-point operations. */
  double (*peak)(int64_t count);
  size_t (*linear_memory)(const LinearLayer *layer);
  void (*linear)(const LinearLayer *layer, char *memory);
  size_t (*attention_memory)(const CausalAttention *layer);
  void (*attention)(const CausalAttention *layer, char *memory);
  size_t (*persona_memory)(const Persona *layer);
  void (*persona)(const Persona *layer, char *memory);
  size_t (*layer_norm_memory)(const LayerNormLayer *layer);
  void (*layer_norm)(const LayerNormLayer *layer, char *memory);
  size_t (*running_mean_memory)(const RunningMean *layer);
  void (*running_mean)(const RunningMean *layer, char *memory);
  size_t (*cross_entropy_memory)(const CrossEntropy *layer);
  void (*cross_entropy)(const CrossEntropy *layer, char *memory);
} Kernels;

/* The digest of the sources of this library. */
EXPORT const char *echoself_sources_digest(void);
/* The sizes of the structs above, in this order, to compare with the caller's. Returns how many there are. */
EXPORT int32_t echoself_struct_sizes(const size_t **sizes);
/* The instruction sets that the library was compiled for, separated by spaces, the best ones first. */
EXPORT const char *echoself_instruction_sets(void);
/* The kernels for an instruction set; NULL where this CPU does not have it, or the library has no such kernels. */
EXPORT const Kernels *echoself_kernels(const char *instruction_set);
