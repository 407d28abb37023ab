/* Weights as products read them: laid out once a step, for both directions and all threads. */

#include "gemm.h"

#ifdef SUPPORTED

/* A weight (inputs, outputs) in fp32 as panels of bfloat16, and behind them those of its transpose. Inputs are 0 beyond those
 * that are there. */
void pack(const float *weight, int there, int inputs, int outputs, pair *to) {
  pair *transposed = to + (ptrdiff_t)inputs * outputs / 2;
  for (int in = 0; in < inputs; in += 16)
    for (int out = 0; out < outputs; out += PANEL) {
      bf16 part[16][PANEL] = {{0}};
      for (int i = 0; i < 16 && in + i < there; i++) narrow(weight + (ptrdiff_t)(in + i) * outputs + out, PANEL, part[i]);
      interleave(part[0], PANEL, 16, PANEL, to + (ptrdiff_t)out * (inputs / 2), in, inputs / 2);
      pair *panel = transposed + (ptrdiff_t)(in / PANEL) * PANEL * (outputs / 2);
      transpose(part[0], PANEL, 16, PANEL, panel + out / 2 * PANEL + in % PANEL);
    }
}

#endif

/* The digest of the sources of this library; empty where the compiler or the machine is not supported. */
const char *sources_digest(void) {
#ifdef SUPPORTED
  return SOURCES_DIGEST;
#else
  return "";
#endif
}
