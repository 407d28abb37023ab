/* Threads wait for the next loop by spinning for some microseconds, then on a condition variable: a training step has about a
 * hundred loops, some of which take less time than waking a thread. A thread that is late, because another program has its core,
 * misses a loop, and nobody waits for it. */

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { SPINS = 3000, ACTIVE = 0xff, OPEN = 0x100, NEXT_LOOP = 0x200 };

typedef struct {
  atomic_int next; /* of this part's iterations */
  int end;
  char padding[56]; /* to a cache line: a thread writes to its own part */
} Part;

static struct {
  pthread_mutex_t one_loop; /* held by the thread whose loop is run */
  pthread_mutex_t sleep;
  pthread_cond_t wake;
  atomic_uint state; /* the number of the loop, whether it may be joined, and how many workers have joined it */
  atomic_int sleepers, threads;
  int workers;
  LoopBody *body;
  const void *job;
  int most;
  char *scratch;
  size_t scratch_size;
  Part parts[MAX_THREADS];
} pool = {.one_loop = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void relax(int spins) {
  if (spins % 1024 == 1023)
    sched_yield();
  else
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Takes the iterations of its own part, which are those of the loop before that are still in its cache, then those that others have
 * not yet taken: fewer at a time towards the end, so that threads finish together. */
static void run_iterations(int number) {
  const int threads = atomic_load(&pool.threads), least = (pool.most + 2) / 3;
  for (int i = 0; i < threads; i++) {
    Part *part = &pool.parts[(number + i) % threads];
    for (;;) {
      int begin = atomic_load(&part->next), end;
      do {
        const int share = (part->end - begin) / 2;
        end = begin + (share < least ? least : share > pool.most ? pool.most : share);
        if (end > part->end) end = part->end;
      } while (begin < end && !atomic_compare_exchange_weak(&part->next, &begin, end));
      if (begin >= end) break;
      pool.body(pool.job, begin, end, pool.scratch + (size_t)number * pool.scratch_size);
    }
  }
}

static int can_join(unsigned state, unsigned last, int number) {
  return (state & OPEN) && state / NEXT_LOOP != last && number < atomic_load(&pool.threads);
}

static void *work(void *argument) {
  const int number = (int)(intptr_t)argument;
  unsigned last = ~0u, state;
  for (;;) {
    for (int spins = 0; spins < SPINS && !can_join(atomic_load(&pool.state), last, number); spins++) relax(spins);
    if (!can_join(atomic_load(&pool.state), last, number)) {
      pthread_mutex_lock(&pool.sleep);
      atomic_fetch_add(&pool.sleepers, 1);
      while (!can_join(atomic_load(&pool.state), last, number)) pthread_cond_wait(&pool.wake, &pool.sleep);
      atomic_fetch_sub(&pool.sleepers, 1);
      pthread_mutex_unlock(&pool.sleep);
    }
    state = atomic_load(&pool.state);
    if (!can_join(state, last, number) || !atomic_compare_exchange_strong(&pool.state, &state, state + 1)) continue;
    last = state / NEXT_LOOP;
    run_iterations(number);
    atomic_fetch_sub(&pool.state, 1);
  }
  return NULL;
}

static void forget_workers(void) { /* a forked process has none */
  pthread_mutex_init(&pool.one_loop, NULL), pthread_mutex_init(&pool.sleep, NULL), pthread_cond_init(&pool.wake, NULL);
  pool.workers = 0;
  atomic_store(&pool.state, 0), atomic_store(&pool.sleepers, 0);
}

static void start_workers(int wanted) {
  static int registered;
  if (!registered) registered = !pthread_atfork(NULL, NULL, forget_workers);
  for (; pool.workers < wanted; pool.workers++) {
    pthread_t id;
    if (pthread_create(&id, NULL, work, (void *)(intptr_t)(pool.workers + 1))) return;
    pthread_detach(id);
  }
}

void echoself_parallel_for(LoopBody *body, const void *job, int count, int most, int threads, char *scratch,
                           size_t scratch_size) {
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (threads < 2 || count < 2 || pthread_mutex_trylock(&pool.one_loop)) { /* or another thread's loop is run */
    if (count > 0) body(job, 0, count, scratch);
    return;
  }
  start_workers(threads - 1);
  pool.body = body, pool.job = job, pool.most = most, pool.scratch = scratch, pool.scratch_size = scratch_size;
  atomic_store(&pool.threads, threads);
  for (int i = 0; i < threads; i++) {
    atomic_store(&pool.parts[i].next, (int)((int64_t)count * i / threads));
    pool.parts[i].end = (int)((int64_t)count * (i + 1) / threads);
  }
  atomic_fetch_add(&pool.state, NEXT_LOOP + OPEN);
  if (atomic_load(&pool.sleepers)) {
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
  }
  run_iterations(0);
  atomic_fetch_sub(&pool.state, OPEN);
  for (int spins = 0; atomic_load(&pool.state) & ACTIVE; spins++) relax(spins);
  pthread_mutex_unlock(&pool.one_loop);
}
