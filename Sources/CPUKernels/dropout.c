// Dropout and noise, element by element.
#ifndef SL_SOURCE
#include "include/dropout.h"

#include "include/threads.h"
#include "kept_bits.h"
#include "philox.h"

enum {
  dropout_block = 1 << 14,   // elements that one task handles: 64 KiB of fp32
  dropout_columns = 1 << 10  // elements whose bits are drawn at once
};

typedef enum { drop_forward, drop_backward, drop_split, drop_join } drop_kind;

typedef struct drop_job drop_job;
typedef void rows_function(const drop_job *job, int64_t begin, int64_t end);

/// A matrix that a job reads or writes.
typedef struct {
  void *values;
  int64_t stride;
  sl_dtype dtype;
} drop_matrix;

struct drop_job {
  drop_kind kind;
  int64_t rows, columns;
  /// Of whole rows, and where those of this job begin in them.
  int64_t width, first;
  int accumulate;
  const sl_drop *drop;
  drop_matrix a, b, c;
  rows_function *each;
  sl_kept_bits *kept;
};

static int64_t rows_per_task(int64_t columns) {
  return columns >= dropout_block ? 1 : dropout_block / (columns > 0 ? columns : 1);
}

static inline void *drop_at(const drop_matrix *m, int64_t row) {
  return (char *)m->values + (size_t)(row * m->stride) * sl_dtype_size(m->dtype);
}

#define SL_SOURCE "dropout.c"
#define SL_PAIRED_TOO
#include "each_path.h"

/// Names the functions of the path in use, which is the calling thread's.
static void choose(drop_job *job) {
  job->each = SL_CHOOSE_PAIRED(dropped_rows, job->b.dtype == SL_BF16 || job->c.dtype == SL_BF16 ? SL_BF16 : SL_F32);
  job->kept = sl_kept_bits_function();
}

static void drop_task(void *context, int64_t task, int thread) {
  const drop_job *job = context;
  (void)thread;
  const int64_t step = rows_per_task(job->columns), begin = task * step;
  job->each(job, begin, begin + step < job->rows ? begin + step : job->rows);
}

static void drop_all(drop_job *job) {
  if (job->rows <= 0 || job->columns <= 0) return;
  choose(job);
  const int64_t step = rows_per_task(job->columns);
  sl_parallel((job->rows + step - 1) / step, drop_task, job);
}

void sl_dropout(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *y, int64_t ldy, sl_dtype dtype,
                sl_drop drop) {
  drop_job job = {.kind = drop_forward, .rows = rows, .columns = columns, .width = columns, .drop = &drop,
                  .a = {(void *)x, ldx, dtype}, .b = {y, ldy, dtype}};
  drop_all(&job);
}

void sl_dropout_backward(int64_t rows, int64_t columns, const float *g, int64_t ldg, void *dx, int64_t lddx,
                         sl_dtype dtype, sl_drop drop) {
  drop_job job = {.kind = drop_backward, .rows = rows, .columns = columns, .width = columns, .drop = &drop,
                  .a = {(void *)g, ldg, SL_F32}, .b = {dx, lddx, dtype}};
  drop_all(&job);
}

void sl_dropout_split(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *kept, int64_t ld_kept, void *rest,
                      int64_t ld_rest, sl_dtype dtype, sl_drop drop) {
  drop_job job = {.kind = drop_split, .rows = rows, .columns = columns, .width = columns, .drop = &drop,
                  .a = {(void *)x, ldx, dtype}, .b = {kept, ld_kept, dtype}, .c = {rest, ld_rest, dtype}};
  drop_all(&job);
}

void sl_dropout_join(int64_t rows, int64_t columns, const float *kept, int64_t ld_kept, const float *rest,
                     int64_t ld_rest, void *dx, int64_t lddx, sl_dtype dtype, int accumulate, sl_drop drop) {
  drop_job job = {.kind = drop_join, .rows = rows, .columns = columns, .width = columns, .accumulate = accumulate,
                  .drop = &drop, .a = {(void *)kept, ld_kept, SL_F32}, .b = {(void *)rest, ld_rest, SL_F32},
                  .c = {dx, lddx, dtype}};
  drop_all(&job);
}

void sl_drop_tile(int64_t rows, int64_t columns, int64_t width, int64_t first, const void *x, int64_t ldx, void *y,
                  int64_t ldy, sl_dtype dtype, const sl_drop *drop) {
  drop_job job = {.kind = drop_forward, .rows = rows, .columns = columns, .width = width, .first = first, .drop = drop,
                  .a = {(void *)x, ldx, dtype}, .b = {y, ldy, dtype}};
  choose(&job);
  job.each(&job, 0, rows);
}

void sl_drop_tile_backward(int64_t rows, int64_t columns, int64_t width, int64_t first, const float *g, int64_t ldg,
                           float *sums, int64_t ld_sums, const sl_drop *drop) {
  drop_job job = {.kind = drop_backward, .rows = rows, .columns = columns, .width = width, .first = first, .drop = drop,
                  .a = {(void *)g, ldg, SL_F32}, .b = {sums, ld_sums, SL_F32}};
  choose(&job);
  job.each(&job, 0, rows);
}

typedef struct {
  int64_t rows, columns, ldx;
  uint64_t seed, stream;
  float bound, *x;
} noise_job;

static void noise_task(void *context, int64_t task, int thread) {
  const noise_job *job = context;
  (void)thread;
  const int64_t step = rows_per_task(job->columns), begin = task * step;
  for (int64_t r = begin; r < begin + step && r < job->rows; r++) {
    const uint64_t base = (uint64_t)r * (uint64_t)job->columns;
    uint32_t random[4];
    uint64_t drawn = ~(uint64_t)0;
    for (int64_t c = 0; c < job->columns; c++) {
      const uint64_t index = base + (uint64_t)c;
      if (index / 4 != drawn) drawn = index / 4, sl_philox(drawn, job->stream, job->seed, random);
      job->x[r * job->ldx + c] += ((float)(random[index % 4] >> 8) * (1.0f / 8388608.0f) - 1.0f) * job->bound;
    }
  }
}

void sl_add_noise(int64_t rows, int64_t columns, float *x, int64_t ldx, float bound, uint64_t seed, uint64_t stream) {
  if (rows <= 0 || columns <= 0) return;
  noise_job job = {rows, columns, ldx, seed, stream, bound, x};
  const int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, noise_task, &job);
}

#else

#undef factors_of
#undef dropped_vector
#undef dropped_columns
#define factors_of SL_NAME(factors_of)
#define dropped_vector SL_NAME(dropped_vector)
#define dropped_columns SL_NAME(dropped_columns)

/// `factor` in the lanes whose bit is 1, 0 in the others.
FN VF factors_of(uint32_t bits, float factor) {
  VU lane;
  for (int i = 0; i < SL_WIDTH; i++) lane[i] = (uint32_t)i;
  const VU kept = 0u - ((((VU){} + bits) >> lane) & 1u);
  return (VF)((VU)v_splat(factor) & kept);
}

FN VF SL_NAME(drop_load)(const void *p, int64_t i, int64_t count, sl_dtype dtype) {
  return count < SL_WIDTH ? v_load_part(p, i, count, dtype) : v_load(p, i, dtype);
}
FN void SL_NAME(drop_store)(void *p, int64_t i, int64_t count, sl_dtype dtype, VF x) {
  if (count < SL_WIDTH)
    v_store_part(p, i, count, dtype, x);
  else
    v_store(p, i, dtype, x);
}

/// Elements i..<i + count, at most a vector. `type`: of what is not always fp32.
FN void dropped_vector(drop_kind kind, sl_dtype type, int accumulate, const void *a, void *b, void *c, int64_t i,
                       int64_t count, VF k) {
  switch (kind) {
    case drop_forward:
      SL_NAME(drop_store)(b, i, count, type, SL_NAME(drop_load)(a, i, count, type) * k);
      break;
    case drop_backward:
      SL_NAME(drop_store)(b, i, count, type,
                          SL_NAME(drop_load)(b, i, count, type) + SL_NAME(drop_load)(a, i, count, SL_F32) * k);
      break;
    case drop_split: {
      const VF x = SL_NAME(drop_load)(a, i, count, type), kept = x * k;
      SL_NAME(drop_store)(b, i, count, type, kept);
      SL_NAME(drop_store)(c, i, count, type, x - kept);
      break;
    }
    case drop_join: {
      VF sum = k * SL_NAME(drop_load)(a, i, count, SL_F32) + (1.0f - k) * SL_NAME(drop_load)(b, i, count, SL_F32);
      if (accumulate) sum += SL_NAME(drop_load)(c, i, count, type);
      SL_NAME(drop_store)(c, i, count, type, sum);
      break;
    }
  }
}

FN void dropped_columns(drop_kind kind, sl_dtype type, int accumulate, const void *a, void *b, void *c, int64_t first,
                        int64_t count, const uint64_t *bits, float factor) {
  int64_t i = 0;
  for (; i + SL_WIDTH <= count; i += SL_WIDTH)
    dropped_vector(kind, type, accumulate, a, b, c, first + i, SL_WIDTH,
                   factors_of((uint32_t)(bits[i / 64] >> i % 64), factor));
  if (i < count)
    dropped_vector(kind, type, accumulate, a, b, c, first + i, count - i,
                   factors_of((uint32_t)(bits[i / 64] >> i % 64), factor));
}

static void SL_NAME(dropped_rows)(const drop_job *job, int64_t begin, int64_t end) {
  const float factor = 1.0f / (1.0f - job->drop->probability);
  uint64_t bits[dropout_columns / 64];
  for (int64_t r = begin; r < end; r++) {
    const uint64_t base = (uint64_t)(job->drop->first_row + r) * (uint64_t)job->width + (uint64_t)job->first;
    const void *a = drop_at(&job->a, r);
    void *b = drop_at(&job->b, r), *c = job->c.values == NULL ? NULL : drop_at(&job->c, r);
    for (int64_t first = 0; first < job->columns; first += dropout_columns) {
      const int64_t count = job->columns - first < dropout_columns ? job->columns - first : dropout_columns;
      job->kept(job->drop, base + (uint64_t)first, count, bits);
#define EACH_TYPE(kind, type, accumulate)                                                            \
  do {                                                                                               \
    if ((type) == SL_F32)                                                                            \
      dropped_columns(kind, SL_F32, accumulate, a, b, c, first, count, bits, factor);                \
    else                                                                                             \
      dropped_columns(kind, SL_BF16, accumulate, a, b, c, first, count, bits, factor);               \
  } while (0)
      switch (job->kind) {
        case drop_forward: EACH_TYPE(drop_forward, job->b.dtype, 0); break;
        case drop_backward: EACH_TYPE(drop_backward, job->b.dtype, 0); break;
        case drop_split: EACH_TYPE(drop_split, job->b.dtype, 0); break;
        case drop_join:
          if (job->accumulate)
            EACH_TYPE(drop_join, job->c.dtype, 1);
          else
            EACH_TYPE(drop_join, job->c.dtype, 0);
          break;
      }
#undef EACH_TYPE
    }
  }
}

#endif
