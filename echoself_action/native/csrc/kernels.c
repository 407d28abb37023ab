/* The kernels of one instruction set: compiled once for each header in isa/. */

#include <stdlib.h>

#include "adamw.h"
#include "gpt2.h"
#include "muon.h"
#include "persona.h"
#include "running_mean.h"

/* The inner loop of a product, on operands that stay in the first cache */
static double peak(int64_t count) {
  enum { DEPTH = 128 };
  static _Thread_local float sums[MR * NR] __attribute__((aligned(64)));
  static _Thread_local unit left[DEPTH * MR], right[DEPTH * NR] __attribute__((aligned(64)));
  const Sums own = {sums, NR, sums, NR};
  for (int64_t i = 0; i < count; i++) tile_of_columns((const char *)left, MR * sizeof(unit), right, DEPTH, &own);
  return 2.0 * MR * NR * PAIR * DEPTH * (double)count;
}

#define JOIN(a, b) a##b
#define NAME(prefix, isa) JOIN(prefix, isa)

extern const Kernels NAME(echoself_kernels_, ISA) __attribute__((visibility("hidden")));
const Kernels NAME(echoself_kernels_, ISA) = {losses_memory, gradients_memory, compute_losses, compute_gradients, muon_memory,
                                              muon, adamw, sum_of_squares, peak, linear_memory, linear, causal_attention_memory,
                                              causal_attention, persona_memory, persona, layer_norm_memory,
                                              layer_norm_layer, running_mean_memory, running_mean, cross_entropy_memory, cross_entropy};
