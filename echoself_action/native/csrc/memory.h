/* Memory that is divided into parts. */

#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct {
  char *at; /* NULL where only the sum of the sizes is wanted */
  size_t used;
} Memory;

/* `bytes` of it, at a multiple of 64 */
static inline void *take(Memory *memory, size_t bytes) {
  const size_t begin = memory->used + (memory->at ? -(uintptr_t)(memory->at + memory->used) % 64 : 63);
  memory->used = begin + bytes;
  return memory->at ? memory->at + begin : NULL;
}
