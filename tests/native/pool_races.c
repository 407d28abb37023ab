/* Loops of all kinds from several threads at once, for ThreadSanitizer. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

enum { LOOPS = 1000, MOST_ITERATIONS = 200, SCRATCH = 64 };

typedef struct {
  int *counts; /* how often each iteration has run */
  const char *scratch; /* of the calling thread */
} Job;

static void count_iterations(const void *argument, int begin, int end, char *scratch) {
  const Job *job = argument;
  for (int i = 0; i < SCRATCH; i++) scratch[i]++; /* a race if two threads had the same */
  if (scratch != job->scratch && begin % 8 == 0) usleep(10); /* a worker is often the last that finishes */
  for (int i = begin; i < end; i++) job->counts[i]++;
}

static void *run_loops(void *argument) {
  const unsigned thread = (unsigned)(size_t)argument;
  char *scratch = malloc(SCRATCH * MAX_THREADS);
  for (unsigned loop = 0; loop < LOOPS; loop++) {
    int counts[MOST_ITERATIONS] = {0};
    const Job job = {counts, scratch};
    const int count = (int)((loop * 7 + thread) % MOST_ITERATIONS), threads = (int)(loop % 6);
    echoself_parallel_for(count_iterations, &job, count, 1 + (int)(loop % 9), threads, scratch, SCRATCH);
    for (int i = 0; i < MOST_ITERATIONS; i++)
      if (counts[i] != (i < count)) {
        printf("loop %u: iteration %d of %d ran %d times\n", loop, i, count, counts[i]);
        exit(1);
      }
    if (loop % 300 == 299) usleep(2000); /* the workers fall asleep */
  }
  free(scratch);
  return NULL;
}

int main(void) {
  run_loops((void *)0); /* first alone: with two cores, the workers then have one */
  pthread_t other;
  if (pthread_create(&other, NULL, run_loops, (void *)1)) return 2;
  run_loops((void *)2);
  pthread_join(other, NULL);
#ifndef __SANITIZE_THREAD__ /* which supports no threads in a forked process */
  const pid_t child = fork(); /* which has none of the threads */
  if (!child) {
    run_loops((void *)3);
    _exit(0);
  }
  int status = 1;
  if (child < 0 || waitpid(child, &status, 0) != child || status) return 3;
#endif
  puts("done");
  return 0;
}
