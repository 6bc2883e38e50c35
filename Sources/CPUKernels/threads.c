// The thread pool, and what the processor can run.
#define _GNU_SOURCE
#include "include/threads.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

// libgomp's entry points. clang's own -fopenmp would call LLVM's runtime, a second pool beside oneDNN's.
extern void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_thread_num(void);
extern int omp_in_parallel(void);
extern void omp_set_num_threads(int count);

static atomic_int thread_count;  // 0: not yet known

static int default_thread_count(void) {
  const char *text = getenv("SWIFTLET_THREADS");
  if (text != NULL) {
    char *end;
    long value = strtol(text, &end, 10);
    if (end != text && *end == 0 && value >= 1 && value <= 4096) return (int)value;
  }
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  return 1;
}

int sl_thread_count(void) {
  int count = atomic_load_explicit(&thread_count, memory_order_relaxed);
  if (count == 0) {
    sl_set_thread_count(0);
    count = atomic_load_explicit(&thread_count, memory_order_relaxed);
  }
  return count;
}

void sl_set_thread_count(int count) {
  if (count < 1) count = default_thread_count();
  atomic_store_explicit(&thread_count, count, memory_order_relaxed);
  omp_set_num_threads(count);
}

struct queue {
  _Alignas(64) atomic_int_fast64_t next;
  int64_t tasks;
  void (*body)(void *, int64_t, int);
  void *context;
};

static _Thread_local bool inside_task;

static void drain(void *data) {
  struct queue *queue = data;
  int thread = omp_get_thread_num();
  inside_task = true;
  for (;;) {
    int64_t task = atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
    if (task >= queue->tasks) break;
    queue->body(queue->context, task, thread);
  }
  inside_task = false;
}

void sl_parallel(int64_t tasks, void (*body)(void *, int64_t, int), void *context) {
  int threads = sl_thread_count();
  if (tasks <= 1 || threads == 1 || inside_task || omp_in_parallel()) {
    for (int64_t task = 0; task < tasks; task++) body(context, task, 0);
    return;
  }
  struct queue queue = {.tasks = tasks, .body = body, .context = context};
  // The whole team even for fewer tasks: libgomp ends the threads that a smaller team leaves out, and starts them anew.
  GOMP_parallel(drain, &queue, (unsigned)threads, 0);
}

#if defined(__x86_64__)
int sl_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
int sl_has_avx512(void) {
  return sl_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
      && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
int sl_has_avx512bf16(void) { return sl_has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
int sl_has_avx2(void) { return 0; }
int sl_has_avx512(void) { return 0; }
int sl_has_avx512bf16(void) { return 0; }
#endif

static atomic_int forced_path = -1;

sl_path sl_current_path(void) {
  static atomic_int best = -1;
  int path = atomic_load_explicit(&best, memory_order_relaxed);
  if (path < 0) {
    path = sl_has_avx512bf16() ? SL_PATH_AVX512BF16
         : sl_has_avx512()     ? SL_PATH_AVX512
         : sl_has_avx2()       ? SL_PATH_AVX2
                               : SL_PATH_GENERIC;
    atomic_store_explicit(&best, path, memory_order_relaxed);
  }
  int forced = atomic_load_explicit(&forced_path, memory_order_relaxed);
  return (sl_path)(forced >= 0 && forced < path ? forced : path);
}

void sl_force_path(int path) { atomic_store_explicit(&forced_path, path, memory_order_relaxed); }
