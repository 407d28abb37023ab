/* The job of a block and its buffers, which gpt2_block.c and attention.c share. */

#pragma once

#include "gemm.h"

#ifdef SUPPORTED

typedef struct {
  const Block *block;
  const Activations *at;
  const Gradients *to; /* NULL in the forward pass */
  char *shared;        /* the memory of Buffers */
} Job;

INLINE size_t rows_of(const Block *b) { return (size_t)b->batch * (size_t)b->length; }

/* What one stage of the backward pass leaves for the next */
typedef struct {
  float *grad_mid, *grad_ln_2, *x_hat_2, *grad_ln_1, *x_hat_1; /* (rows, width) */
  bf16 *grad_attn_out, *grad_qkv;                              /* (rows, width), (rows, 3 * width) */
  /* inputs and output gradients of the linear layers, packed with pairs of rows, for the gradients of weights and biases */
  vnni_pair *ln_1_packed, *grad_qkv_packed, *attn_out_packed, *grad_mid_packed;
  vnni_pair *ln_2_packed, *grad_fc_packed, *gelu_packed, *grad_y_packed;
} Buffers;

INLINE size_t layout_buffers(const Block *b, char *shared, Buffers *s) { /* returns the bytes of all */
  const size_t size = rows_of(b) * (size_t)b->width;
  char *here = shared;
#define TAKE(member, bytes) (s->member = (void *)here, here += (bytes))
  TAKE(grad_mid, 4 * size), TAKE(grad_ln_2, 4 * size), TAKE(x_hat_2, 4 * size), TAKE(grad_ln_1, 4 * size);
  TAKE(x_hat_1, 4 * size), TAKE(grad_attn_out, 2 * size), TAKE(grad_qkv, 6 * size), TAKE(ln_1_packed, 2 * size);
  TAKE(grad_qkv_packed, 6 * size), TAKE(attn_out_packed, 2 * size), TAKE(grad_mid_packed, 2 * size),
      TAKE(ln_2_packed, 2 * size);
  TAKE(grad_fc_packed, 8 * size), TAKE(gelu_packed, 8 * size), TAKE(grad_y_packed, 2 * size);
#undef TAKE
  return (size_t)(here - shared);
}

size_t attention_scratch(const Block *b);
LoopBody attention_forward, attention_backward; /* an iteration is a head of a sequence */

#endif
