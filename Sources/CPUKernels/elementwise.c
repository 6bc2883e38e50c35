// Loops that the compiler vectorizes, cloned for each instruction set and split over threads by blocks of rows.
#include "include/elementwise.h"

#include <stdlib.h>

#include "bfloat16.h"
#include "include/threads.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

enum { block = 1 << 14 };  // elements that one task handles: 64 KiB of fp32

static int64_t rows_per_task(int64_t columns) { return columns >= block ? 1 : block / (columns > 0 ? columns : 1); }

// MARK: Copy

typedef struct {
  int64_t rows, columns, source_stride, destination_stride;
  const void *source;
  void *destination;
  sl_dtype source_type, destination_type;
} copy_job;

CLONES static void widen(int64_t n, const uint16_t *restrict x, float *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = sl_bf16_to_float(x[i]);
}
CLONES static void narrow(int64_t n, const float *restrict x, uint16_t *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = sl_float_to_bf16(x[i]);
}

static void copy_rows(void *context, int64_t task, int thread) {
  const copy_job *job = context;
  (void)thread;
  int64_t step = rows_per_task(job->columns), begin = task * step;
  int64_t end = begin + step < job->rows ? begin + step : job->rows;
  size_t from_size = sl_dtype_size(job->source_type), to_size = sl_dtype_size(job->destination_type);
  for (int64_t r = begin; r < end; r++) {
    const char *from = (const char *)job->source + (size_t)(r * job->source_stride) * from_size;
    char *to = (char *)job->destination + (size_t)(r * job->destination_stride) * to_size;
    if (job->source_type == job->destination_type) {
      memcpy(to, from, (size_t)job->columns * to_size);
    } else if (job->source_type == SL_BF16) {
      widen(job->columns, (const uint16_t *)from, (float *)to);
    } else {
      narrow(job->columns, (const float *)from, (uint16_t *)to);
    }
  }
}

void sl_copy(int64_t rows, int64_t columns, const void *source, sl_dtype source_type, int64_t source_stride,
             void *destination, sl_dtype destination_type, int64_t destination_stride) {
  if (rows <= 0 || columns <= 0) return;
  copy_job job = {rows, columns, source_stride, destination_stride, source, destination, source_type, destination_type};
  int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, copy_rows, &job);
}

// MARK: Scale

typedef struct {
  int64_t count;
  const float *source;
  void *destination;
  sl_dtype type;
  float factor;
} scale_job;

CLONES static void scale_to_float(int64_t n, const float *x, float factor, float *y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
}
CLONES static void scale_to_bf16(int64_t n, const float *restrict x, float factor, uint16_t *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = sl_float_to_bf16(x[i] * factor);
}

static void scale_block(void *context, int64_t task, int thread) {
  const scale_job *job = context;
  (void)thread;
  int64_t begin = task * block, n = job->count - begin < block ? job->count - begin : block;
  if (job->type == SL_BF16) {
    scale_to_bf16(n, job->source + begin, job->factor, (uint16_t *)job->destination + begin);
  } else {
    scale_to_float(n, job->source + begin, job->factor, (float *)job->destination + begin);
  }
}

void sl_scale(int64_t count, const float *source, float factor, void *destination, sl_dtype destination_type) {
  scale_job job = {count, source, destination, destination_type, factor};
  sl_parallel((count + block - 1) / block, scale_block, &job);
}

// MARK: Bias

typedef struct {
  int64_t rows, columns, stride;
  const float *bias;
  void *x;
  sl_dtype dtype;
} bias_job;

CLONES static void bias_float(int64_t n, const float *restrict bias, float *restrict x) {
  for (int64_t i = 0; i < n; i++) x[i] += bias[i];
}
CLONES static void bias_bf16(int64_t n, const float *restrict bias, uint16_t *restrict x) {
  for (int64_t i = 0; i < n; i++) x[i] = sl_float_to_bf16(sl_bf16_to_float(x[i]) + bias[i]);
}

static void bias_rows(void *context, int64_t task, int thread) {
  const bias_job *job = context;
  (void)thread;
  int64_t step = rows_per_task(job->columns), begin = task * step;
  int64_t end = begin + step < job->rows ? begin + step : job->rows;
  for (int64_t r = begin; r < end; r++) {
    if (job->dtype == SL_BF16) {
      bias_bf16(job->columns, job->bias, (uint16_t *)job->x + r * job->stride);
    } else {
      bias_float(job->columns, job->bias, (float *)job->x + r * job->stride);
    }
  }
}

void sl_add_bias(int64_t rows, int64_t columns, const float *bias, void *x, sl_dtype dtype, int64_t stride) {
  if (rows <= 0 || columns <= 0) return;
  bias_job job = {rows, columns, stride, bias, x, dtype};
  int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, bias_rows, &job);
}

// MARK: Norm

typedef struct {
  int64_t count;
  const float *x;
  double *partial;
} norm_job;

CLONES static double squares(int64_t n, const float *x) {
  double sums[16] = {0};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
  }
  for (; i < n; i++) sums[0] += (double)x[i] * (double)x[i];
  double total = 0;
  for (int j = 0; j < 16; j++) total += sums[j];
  return total;
}

static void norm_block(void *context, int64_t task, int thread) {
  const norm_job *job = context;
  (void)thread;
  int64_t begin = task * block, n = job->count - begin < block ? job->count - begin : block;
  job->partial[task] = squares(n, job->x + begin);
}

double sl_squared_norm(int64_t count, const float *x) {
  int64_t blocks = (count + block - 1) / block;
  if (blocks <= 0) return 0;
  double *partial = malloc((size_t)blocks * sizeof *partial);
  if (!partial) return squares(count, x);
  norm_job job = {count, x, partial};
  sl_parallel(blocks, norm_block, &job);
  double total = 0;
  for (int64_t i = 0; i < blocks; i++) total += partial[i];
  free(partial);
  return total;
}

// MARK: Averages

typedef struct {
  int64_t count;
  const float *x;
  float *average, keep, rest;
} mix_job;

CLONES static void mix(int64_t n, const float *restrict x, float *restrict average, float keep, float rest) {
  for (int64_t i = 0; i < n; i++) average[i] = keep * average[i] + rest * x[i];
}

static void mix_block(void *context, int64_t task, int thread) {
  const mix_job *job = context;
  (void)thread;
  int64_t begin = task * block, n = job->count - begin < block ? job->count - begin : block;
  mix(n, job->x + begin, job->average + begin, job->keep, job->rest);
}

void sl_mix(int64_t count, const float *x, float *average, float keep) {
  mix_job job = {count, x, average, keep, 1 - keep};
  sl_parallel((count + block - 1) / block, mix_block, &job);
}
