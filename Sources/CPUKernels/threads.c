// The thread pool, and what the processor can run.
//
// A pool of our own, in which oneDNN runs single-threaded, tile by tile: tasks are handed out one by one, so a core that
// somebody else is using slows the step by what it takes and no more. (A team that splits each product in equal parts and
// spins at a barrier, as libgomp's does, ran ten times slower beside one busy neighbour.)
#define _GNU_SOURCE
#include "include/threads.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

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
}

// One job at a time. `gate` holds its number, whether it is open to join, and how many workers are in it: a worker that
// wakes late finds the gate closed and is not waited for.
static struct {
  _Alignas(64) _Atomic uint64_t gate;  // number << 32 | open << 31 | joined
  _Alignas(64) _Atomic uint32_t signal;
  _Atomic int sleepers;
  _Alignas(64) _Atomic int64_t next;
  int64_t tasks;
  void (*body)(void *, int64_t, int);
  void *context;
  int threads;  // that take part in the current job
  int forced_path;
} pool;

enum { gate_open = 1u << 31 };
static const uint64_t gate_joined = gate_open - 1;

static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER;  // one job at a time, whichever thread asks
static int workers;                                         // started so far; guarded by `caller`
static _Thread_local bool inside_task;
static _Thread_local int forced_path = -1;  // of the thread that asks, and of the workers while they work for it

/// Between two looks at what another thread writes; `spin` counts them. The first looks follow one another closely: a pause
/// takes a tenth of a microsecond on some processors, as long as a hand-over.
static void pause_briefly(int spin) {
  if (spin < 64) return;
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void drain(int thread) {
  int own_path = forced_path;
  inside_task = true;
  forced_path = pool.forced_path;
  for (;;) {
    int64_t task = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
    if (task >= pool.tasks) break;
    pool.body(pool.context, task, thread);
  }
  inside_task = false;
  forced_path = own_path;
}

/// Joins the open job that comes after number `seen`; returns the number of the newest job looked at.
static uint32_t join(uint32_t seen, int thread) {
  uint64_t gate = atomic_load_explicit(&pool.gate, memory_order_acquire);
  for (;;) {
    uint32_t number = (uint32_t)(gate >> 32);
    if (number == seen || !(gate & gate_open)) return seen;
    if (!atomic_compare_exchange_weak_explicit(&pool.gate, &gate, gate + 1, memory_order_acq_rel, memory_order_acquire))
      continue;
    if (thread < pool.threads) drain(thread);
    atomic_fetch_sub_explicit(&pool.gate, 1, memory_order_release);
    return number;
  }
}

static void *work(void *argument) {
  int thread = (int)(intptr_t)argument;
  uint32_t seen = 0;
  for (;;) {
    uint32_t signal = atomic_load_explicit(&pool.signal, memory_order_acquire);
    uint32_t number = join(seen, thread);
    if (number != seen) {
      seen = number;
      continue;
    }
    // The next operation of a forward pass comes within microseconds; longer waits belong to the system.
    for (int spin = 0; spin < 2000; spin++) {
      if (atomic_load_explicit(&pool.signal, memory_order_relaxed) != signal) break;
      pause_briefly(spin);
    }
    if (atomic_load_explicit(&pool.signal, memory_order_acquire) != signal) continue;
    atomic_fetch_add(&pool.sleepers, 1);
    syscall(SYS_futex, &pool.signal, FUTEX_WAIT_PRIVATE, signal, NULL, NULL, 0);
    atomic_fetch_sub(&pool.sleepers, 1);
  }
  return NULL;
}

static void start_workers(int wanted) {
  // Signals belong to the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (workers < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, (void *)(intptr_t)(workers + 1)) != 0) break;  // fewer threads do it too
    pthread_detach(thread);
    workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sl_parallel(int64_t tasks, void (*body)(void *, int64_t, int), void *context) {
  int threads = sl_thread_count();
  if (tasks <= 1 || threads == 1 || inside_task) {
    for (int64_t task = 0; task < tasks; task++) body(context, task, 0);
    return;
  }
  pthread_mutex_lock(&caller);
  if (workers < threads - 1) start_workers(threads - 1);
  pool.tasks = tasks, pool.body = body, pool.context = context, pool.threads = threads;
  pool.forced_path = forced_path;
  atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
  uint64_t number = (atomic_load_explicit(&pool.gate, memory_order_relaxed) >> 32) + 1;
  if ((uint32_t)number == 0) number = 1;  // 0 is what a new worker has seen
  atomic_store_explicit(&pool.gate, number << 32 | gate_open, memory_order_release);
  atomic_fetch_add(&pool.signal, 1);
  if (atomic_load(&pool.sleepers) > 0) syscall(SYS_futex, &pool.signal, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
  drain(0);
  uint64_t gate = atomic_fetch_and_explicit(&pool.gate, ~(uint64_t)gate_open, memory_order_acq_rel);
  for (int spin = 0; (gate & gate_joined) != 0; spin++) {
    if (spin < 4000) pause_briefly(spin);
    else sched_yield();
    gate = atomic_load_explicit(&pool.gate, memory_order_acquire);
  }
  pthread_mutex_unlock(&caller);
}

// MARK: Shares

/// A thread's own tasks; others take what is left of them when theirs are done.
typedef struct {
  _Alignas(64) _Atomic int64_t next;
  int64_t end;
} share;

typedef struct {
  share *shares;
  int threads;
  void (*body)(void *, int64_t, int);
  void *context;
} shares_job;

static void work_shares(void *context, int64_t task, int thread) {
  const shares_job *job = context;
  (void)task;
  for (int i = 0; i < job->threads; i++) {
    share *s = &job->shares[(thread + i) % job->threads];
    for (;;) {
      int64_t next = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
      if (next >= s->end) break;
      job->body(job->context, next, thread);
    }
  }
}

void sl_parallel_shares(int64_t tasks, void (*body)(void *, int64_t, int), void *context) {
  int threads = sl_thread_count();
  if (threads > tasks) threads = (int)(tasks > 0 ? tasks : 1);
  if (threads == 1 || inside_task) {
    for (int64_t task = 0; task < tasks; task++) body(context, task, 0);
    return;
  }
  share shares[threads];
  for (int t = 0; t < threads; t++) {
    atomic_init(&shares[t].next, tasks * t / threads);
    shares[t].end = tasks * (t + 1) / threads;
  }
  shares_job job = {shares, threads, body, context};
  sl_parallel(threads, work_shares, &job);
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
  return (sl_path)(forced_path >= 0 && forced_path < path ? forced_path : path);
}

void sl_force_path(int path) { forced_path = path; }
