// The thread pool of every kernel. oneDNN runs inside its tasks, single-threaded, so that nothing competes for cores.
#pragma once
#include "types.h"

/// Runs `body(context, task, thread)` for each task in 0..<tasks, on all threads, and returns when all are done.
/// Tasks are handed out one at a time in rising order, so put the long ones first. `thread` is in 0..<sl_thread_count().
/// Called from inside a task, it runs serially on that thread (with `thread` = 0 to index scratch of its own).
/// Calls from several threads of the program take turns.
void sl_parallel(int64_t tasks, void (*body)(void *context, int64_t task, int thread), void *context);

/// As `sl_parallel`, where tasks read what the same tasks of an earlier call read: each thread takes its own share of them
/// again, part of which its cache may hold, before it helps others. Cores that share no cache then keep more of a model
/// between them than if each met all of it.
void sl_parallel_shares(int64_t tasks, void (*body)(void *context, int64_t task, int thread), void *context);

/// Threads in use: SWIFTLET_THREADS where set, else the CPUs that this process may run on.
int sl_thread_count(void);
/// Sets the number of threads; values below 1 restore the default.
void sl_set_thread_count(int count);

/// What the processor and the system can run.
int sl_has_avx2(void);
int sl_has_avx512(void);
int sl_has_avx512bf16(void);

/// Instruction sets that a kernel may be built for, in rising order.
typedef enum { SL_PATH_GENERIC = 0, SL_PATH_AVX2 = 1, SL_PATH_AVX512 = 2, SL_PATH_AVX512BF16 = 3 } sl_path;

/// The path in use: the best that the processor has, unless a lower one is forced.
sl_path sl_current_path(void);
/// Makes every kernel that this thread asks for use `path` at most (a test's means to try each one); -1 restores the best.
void sl_force_path(int path);
