// What is drawn at random for each element: dropout, and noise.
#include "include/dropout.h"

#include "bfloat16.h"
#include "include/threads.h"

enum { block = 1 << 14 };  // elements that one task handles: 64 KiB of fp32

static int64_t rows_per_task(int64_t columns) { return columns >= block ? 1 : block / (columns > 0 ? columns : 1); }

static inline void philox(uint64_t counter, uint64_t stream, uint64_t seed, uint32_t out[4]) {
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)b, c3 = (uint32_t)a, c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/// A matrix that a job reads or writes.
typedef struct {
  void *values;
  int64_t stride;
  sl_dtype dtype;
} matrix;

static inline float get(const matrix *m, int64_t row, int64_t column) {
  int64_t index = row * m->stride + column;
  return m->dtype == SL_BF16 ? sl_bf16_to_float(((const uint16_t *)m->values)[index]) : ((const float *)m->values)[index];
}

static inline void set(const matrix *m, int64_t row, int64_t column, float value) {
  int64_t index = row * m->stride + column;
  if (m->dtype == SL_BF16) {
    ((uint16_t *)m->values)[index] = sl_float_to_bf16(value);
  } else {
    ((float *)m->values)[index] = value;
  }
}

typedef struct {
  int64_t rows, columns;
  uint64_t seed, stream;
  int64_t first_row;
  /// Dropout's; noise lies within ±bound.
  float probability, bound;
  int accumulate;
  matrix a, b, c;
} job;

/// What is done with an element, given 32 random bits and what dropout multiplies it by: 0 or 1 / (1 - p).
typedef void (*element)(const job *, int64_t row, int64_t column, uint32_t random, float keep);

static inline void each_element(const job *job, int64_t task, element each) {
  int64_t step = rows_per_task(job->columns), begin = task * step;
  int64_t end = begin + step < job->rows ? begin + step : job->rows;
  uint32_t threshold = (uint32_t)((double)job->probability * 4294967296.0);
  float factor = 1.0f / (1.0f - job->probability);
  for (int64_t r = begin; r < end; r++) {
    uint64_t base = (uint64_t)(job->first_row + r) * (uint64_t)job->columns;
    uint32_t random[4];
    uint64_t drawn = ~(uint64_t)0;
    for (int64_t c = 0; c < job->columns; c++) {
      uint64_t index = base + (uint64_t)c;
      if (index / 4 != drawn) drawn = index / 4, philox(drawn, job->stream, job->seed, random);
      each(job, r, c, random[index % 4], random[index % 4] >= threshold ? factor : 0.0f);
    }
  }
}

static void run(job *job, void (*rows_of_task)(void *, int64_t, int)) {
  if (job->rows <= 0 || job->columns <= 0) return;
  int64_t step = rows_per_task(job->columns);
  sl_parallel((job->rows + step - 1) / step, rows_of_task, job);
}

#define EACH(name)                                               \
  static void name##_rows(void *context, int64_t task, int thread) { \
    (void)thread;                                                \
    each_element(context, task, name);                           \
  }

static inline void drop(const job *job, int64_t r, int64_t c, uint32_t random, float keep) {
  (void)random;
  set(&job->b, r, c, get(&job->a, r, c) * keep);
}
static inline void drop_back(const job *job, int64_t r, int64_t c, uint32_t random, float keep) {
  (void)random;
  set(&job->b, r, c, get(&job->b, r, c) + get(&job->a, r, c) * keep);
}
static inline void split(const job *job, int64_t r, int64_t c, uint32_t random, float keep) {
  (void)random;
  float x = get(&job->a, r, c), kept = x * keep;
  set(&job->b, r, c, kept);
  set(&job->c, r, c, x - kept);
}
static inline void join(const job *job, int64_t r, int64_t c, uint32_t random, float keep) {
  (void)random;
  float sum = keep * get(&job->a, r, c) + (1.0f - keep) * get(&job->b, r, c);
  set(&job->c, r, c, job->accumulate ? get(&job->c, r, c) + sum : sum);
}
static inline void noise(const job *job, int64_t r, int64_t c, uint32_t random, float keep) {
  (void)keep;
  set(&job->a, r, c, get(&job->a, r, c) + ((float)(random >> 8) * (1.0f / 8388608.0f) - 1.0f) * job->bound);
}
EACH(drop)
EACH(drop_back)
EACH(split)
EACH(join)
EACH(noise)

void sl_dropout(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *y, int64_t ldy, sl_dtype dtype,
                float probability, uint64_t seed, uint64_t stream, int64_t first_row) {
  job job = {.rows = rows, .columns = columns, .seed = seed, .stream = stream, .first_row = first_row,
             .probability = probability,
             .a = {(void *)x, ldx, dtype}, .b = {y, ldy, dtype}};
  run(&job, drop_rows);
}

void sl_dropout_backward(int64_t rows, int64_t columns, const float *g, int64_t ldg, void *dx, int64_t lddx,
                         sl_dtype dtype, float probability, uint64_t seed, uint64_t stream, int64_t first_row) {
  job job = {.rows = rows, .columns = columns, .seed = seed, .stream = stream, .first_row = first_row,
             .probability = probability,
             .a = {(void *)g, ldg, SL_F32}, .b = {dx, lddx, dtype}};
  run(&job, drop_back_rows);
}

void sl_dropout_split(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *kept, int64_t ld_kept, void *rest,
                      int64_t ld_rest, sl_dtype dtype, float probability, uint64_t seed, uint64_t stream, int64_t first_row) {
  job job = {.rows = rows, .columns = columns, .seed = seed, .stream = stream, .first_row = first_row,
             .probability = probability,
             .a = {(void *)x, ldx, dtype}, .b = {kept, ld_kept, dtype}, .c = {rest, ld_rest, dtype}};
  run(&job, split_rows);
}

void sl_dropout_join(int64_t rows, int64_t columns, const float *kept, int64_t ld_kept, const float *rest,
                     int64_t ld_rest, void *dx, int64_t lddx, sl_dtype dtype, int accumulate, float probability,
                     uint64_t seed, uint64_t stream, int64_t first_row) {
  job job = {.rows = rows, .columns = columns, .seed = seed, .stream = stream, .first_row = first_row,
             .probability = probability,
             .accumulate = accumulate, .a = {(void *)kept, ld_kept, SL_F32}, .b = {(void *)rest, ld_rest, SL_F32},
             .c = {dx, lddx, dtype}};
  run(&job, join_rows);
}

void sl_add_noise(int64_t rows, int64_t columns, float *x, int64_t ldx, float bound, uint64_t seed, uint64_t stream) {
  job job = {.rows = rows, .columns = columns, .seed = seed, .stream = stream, .bound = bound, .a = {x, ldx, SL_F32}};
  run(&job, noise_rows);
}
