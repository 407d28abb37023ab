/* Which kernels there are, and which of them this CPU can run. */

#include <string.h>

#include "api.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP2_BF16
#define HWCAP2_BF16 (1 << 14)
#endif
#endif

#ifndef INSTRUCTION_SETS /* X(name) for each set that was compiled, the best ones first */
#define INSTRUCTION_SETS
#endif

#define X(name) extern const Kernels echoself_kernels_##name __attribute__((visibility("hidden")));
INSTRUCTION_SETS
#undef X

static int has(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!strcmp(name, "avx2") || !strcmp(name, "avx2_bf16")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!strcmp(name, "avx512")) return avx512;
  if (!strcmp(name, "avx512_bf16")) return avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
  if (!strcmp(name, "neon")) return 1;
#if defined(__linux__)
  if (!strcmp(name, "neon_bf16")) return (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
#endif
#endif
  return 0;
}

const Kernels *echoself_kernels(const char *instruction_set) {
#define X(name) \
  if (!strcmp(instruction_set, #name)) return has(#name) ? &echoself_kernels_##name : NULL;
  INSTRUCTION_SETS
#undef X
  return NULL;
}

#define X(name) #name " "
const char *echoself_instruction_sets(void) { return INSTRUCTION_SETS ""; }
#undef X

const char *echoself_sources_digest(void) { return SOURCES_DIGEST; }

int32_t echoself_struct_sizes(const size_t **sizes) {
  static const size_t all[] = {sizeof(BlockTensors), sizeof(Tensors), sizeof(Gpt2), sizeof(Batch), sizeof(Gradients),
                               sizeof(MuonStep), sizeof(AdamWStep), sizeof(LinearLayer), sizeof(CausalAttention),
                               sizeof(PersonaTensors), sizeof(Persona), sizeof(LayerNormLayer), sizeof(RunningMean), sizeof(CrossEntropy), sizeof(Kernels)};
  *sizes = all;
  return (int32_t)(sizeof all / sizeof *all);
}
