/* The interface of the library: what c_api.py mirrors for ctypes. Nothing else is exported.
 *
 * A scratch function returns the bytes of scratch memory that its kernel needs. `threads` is at most how many threads the kernel
 * uses; results do not depend on it.
 */

#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) /* clang ignores `#pragma GCC target` */
#define SUPPORTED
#endif

#define EXPORT __attribute__((visibility("default")))

typedef uint16_t bf16;
/* Two bf16 that are neighbours along the summed dimension, the first in the lower half: an operand of VDPBF16PS. Arrays of bf16
 * are read through it, which C allows only for a type that may alias. */
typedef uint32_t __attribute__((may_alias)) vnni_pair;

typedef struct {
  int32_t batch, length, width, heads, tanh, threads;
  float epsilon;
  const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias; /* a bias may be NULL */
  const float *attn_bias, *attn_proj_bias, *fc_bias, *mlp_proj_bias;
  const vnni_pair *attn, *attn_proj, *fc, *mlp_proj; /* as `echoself_pack` lays them out */
} Block;

typedef struct {  /* rows = batch * length */
  const float *x; /* (rows, width), the shape of all that have no other */
  float *mid;     /* x plus the attention's output */
  float *y;
  bf16 *qkv;        /* (rows, 3 * width) */
  float *logsumexp; /* (heads, rows), of the attention scores */
  bf16 *attn_out;   /* before the projection */
  bf16 *fc_out;     /* (rows, 4 * width), before the activation */
} Activations;

typedef struct { /* of the loss, with respect to each of these */
  const float *y;
  float *x;
  float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;
  float *attn_bias, *attn_proj_bias, *fc_bias, *mlp_proj_bias;
  bf16 *attn, *attn_proj, *fc, *mlp_proj; /* (in, out) */
} Gradients;

typedef struct {
  int32_t rows, width, padded_vocab, vocab_size, threads; /* gradients are 0 in the columns from vocab_size on */
  const bf16 *x;                                          /* (rows, width) */
  const vnni_pair *weight;                                /* (padded_vocab, width), as `echoself_pack` lays it out */
  const int64_t *targets;                                 /* (rows) */
  bf16 *logits;                                           /* (rows, padded_vocab) */
  float *losses;                                          /* (rows), in nats */
  bf16 *grad_x, *grad_weight;                             /* (rows, width), (padded_vocab, width) */
} LmHead;

typedef struct {
  int32_t count, rows, columns, steps, threads;
  bf16 *x;                   /* (count, rows, columns) */
  const float *coefficients; /* (steps, 3): of x, x^3 and x^5 */
} NewtonSchulz;

/* The digest of the sources of this library; empty where the compiler or the machine is not supported. */
EXPORT const char *echoself_sources_digest(void);
/* The sizes of the structs above, in this order, to compare with the caller's. Returns how many there are. */
EXPORT int32_t echoself_struct_sizes(const size_t **sizes);

#ifdef SUPPORTED

/* Writes a weight (rows, columns), fp32, to `out` as packed panels in bf16, and behind them the packed panels of its transpose.
 * Both are zero-padded to `padded_rows`. */
EXPORT void echoself_pack(const float *weight, int rows, int padded_rows, int columns, vnni_pair *out);

EXPORT size_t echoself_block_forward_scratch(const Block *block);
EXPORT size_t echoself_block_backward_scratch(const Block *block);
/* Writes all activations but x. */
EXPORT void echoself_block_forward(const Block *block, const Activations *activations, char *scratch);
/* Writes all gradients but y. */
EXPORT void echoself_block_backward(const Block *block, const Activations *activations, const Gradients *gradients,
                                    char *scratch);

EXPORT size_t echoself_lm_head_scratch(const LmHead *head);
/* Writes all members that are not const. Where a target is not in [0, vocab_size), returns the first such row and writes nothing;
 * otherwise returns -1. */
EXPORT int32_t echoself_lm_head(const LmHead *head, char *scratch);

EXPORT size_t echoself_newton_schulz_scratch(const NewtonSchulz *matrices);
/* Takes the steps for all matrices, in place. */
EXPORT void echoself_newton_schulz(const NewtonSchulz *matrices, char *scratch);

#endif
