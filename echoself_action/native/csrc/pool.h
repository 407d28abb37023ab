/* A loop over threads, which are started once. Compiled once for all instruction sets. */

#pragma once

#include <stddef.h>

enum { MAX_THREADS = 64 };

/* Iterations [begin, end) of a loop, with scratch memory of the thread's own */
typedef void LoopBody(const void *job, int begin, int end, char *scratch);

/* Runs `count` iterations, at most `most` at a time, on up to `threads` threads, of which the calling thread is one. Which thread
 * runs an iteration depends on chance: no result may. */
void echoself_parallel_for(LoopBody *body, const void *job, int count, int most, int threads, char *scratch,
                           size_t scratch_size) __attribute__((visibility("hidden")));
