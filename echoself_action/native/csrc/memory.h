/* Memory that is divided into parts. AddressSanitizer finds writes beyond a part. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { RED_ZONE = 64 };
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) (void)0
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) (void)0
enum { RED_ZONE = 0 };
#endif

typedef struct {
  char *at; /* NULL where only the sum of the sizes is wanted */
  size_t used;
} Memory;

/* `bytes` of it, at a multiple of 64 */
static inline void *take(Memory *memory, size_t bytes) {
  const size_t begin = memory->used + (memory->at ? -(uintptr_t)(memory->at + memory->used) % 64 : 63);
  memory->used = begin + bytes + RED_ZONE;
  if (!memory->at) return NULL;
  ASAN_UNPOISON_MEMORY_REGION(memory->at + begin, bytes);
  ASAN_POISON_MEMORY_REGION(memory->at + begin + bytes, RED_ZONE);
  return memory->at + begin;
}
