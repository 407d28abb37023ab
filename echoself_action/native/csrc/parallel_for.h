/* A loop over threads. */

#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_THREADS = 64 };

/* Iterations [begin, end) of a loop, with scratch memory of the thread's own */
typedef void LoopBody(const void *job, int begin, int end, char *scratch);

typedef struct {
  LoopBody *body;
  const void *job;
  int begin, end;
  char *scratch;
} Range;

static void *run_range(void *argument) {
  const Range *range = argument;
  range->body(range->job, range->begin, range->end, range->scratch);
  return NULL;
}

/* Runs `count` iterations in contiguous ranges, one for each of `threads`, of which the calling thread is the first. The range of
 * a thread that can't be created runs on the calling thread. */
static __attribute__((unused)) void parallel_for(LoopBody *body, const void *job, int count, int threads, char *scratch,
                                                 size_t scratch_size) {
  pthread_t ids[MAX_THREADS];
  Range ranges[MAX_THREADS];
  int created[MAX_THREADS] = {0};
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  for (int i = threads - 1; i >= 0; i--) {
    const int begin = (int)((int64_t)count * i / threads), end = (int)((int64_t)count * (i + 1) / threads);
    ranges[i] = (Range){body, job, begin, end, scratch + (size_t)i * scratch_size};
    created[i] = i && begin < end && !pthread_create(&ids[i], NULL, run_range, &ranges[i]);
    if (!created[i]) run_range(&ranges[i]);
  }
  for (int i = 1; i < threads; i++)
    if (created[i]) pthread_join(ids[i], NULL);
}

static __attribute__((unused)) char *align_64(char *memory) { return (char *)(((uintptr_t)memory + 63) / 64 * 64); }
