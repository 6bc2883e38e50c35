// Adds the product of a low-rank pair to a matrix, measures rows and scales them, split over threads by blocks of rows.
#include "include/lowrank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "include/threads.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

// Columns whose sums stay in registers, and rows of a task: enough for a packed panel of A to pay.
enum { width = 64, rows_per_task = 128 };

typedef struct {
  int64_t rows, columns, rank;
  float scale;
  const float *b, *a;
  float *out;
} low_rank_job;

/// `panel` is [rank, width] with the row stride `stride`.
CLONES static void add_full(int64_t rank, float scale, const float *restrict b, const float *restrict panel,
                            int64_t stride, float *restrict out) {
  float sum[width] = {0};
  for (int64_t k = 0; k < rank; k++) {
    const float factor = b[k];
    const float *restrict row = panel + k * stride;
    for (int j = 0; j < width; j++) sum[j] += factor * row[j];
  }
  for (int j = 0; j < width; j++) out[j] += scale * sum[j];
}

CLONES static void add_part(int64_t count, int64_t rank, float scale, const float *restrict b,
                            const float *restrict panel, int64_t stride, float *restrict out) {
  float sum[width] = {0};
  for (int64_t k = 0; k < rank; k++) {
    for (int64_t j = 0; j < count; j++) sum[j] += b[k] * panel[k * stride + j];
  }
  for (int64_t j = 0; j < count; j++) out[j] += scale * sum[j];
}

static void add_rows(void *context, int64_t task, int thread) {
  const low_rank_job *job = context;
  (void)thread;
  int64_t begin = task * rows_per_task;
  int64_t end = begin + rows_per_task < job->rows ? begin + rows_per_task : job->rows;
  // Rows of A lie a power of two apart in many models, where a cache holds few of them at once; side by side they fit.
  float *packed = end - begin >= 8 ? malloc((size_t)job->rank * width * sizeof(float)) : NULL;
  for (int64_t start = 0; start < job->columns; start += width) {
    int64_t count = job->columns - start < width ? job->columns - start : width;
    const float *panel = job->a + start;
    int64_t stride = job->columns;
    if (packed) {
      for (int64_t k = 0; k < job->rank; k++) {
        memcpy(packed + k * width, panel + k * stride, (size_t)count * sizeof(float));
      }
      panel = packed;
      stride = width;
    }
    for (int64_t r = begin; r < end; r++) {
      const float *b = job->b + r * job->rank;
      float *out = job->out + r * job->columns + start;
      if (count == width) {
        add_full(job->rank, job->scale, b, panel, stride, out);
      } else {
        add_part(count, job->rank, job->scale, b, panel, stride, out);
      }
    }
  }
  free(packed);
}

void sl_add_low_rank(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a,
                     float *out) {
  if (rows <= 0 || columns <= 0 || rank <= 0) return;
  low_rank_job job = {rows, columns, rank, scale, b, a, out};
  sl_parallel((rows + rows_per_task - 1) / rows_per_task, add_rows, &job);
}

typedef struct {
  int64_t rows, columns;
  const float *factors;
  float *norms, *values;
} rows_job;

/// In double, where no square of fp32 overflows or vanishes.
CLONES static double squared_norm(int64_t count, const float *restrict x) {
  double lanes[16] = {0}, total = 0;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int j = 0; j < 16; j++) lanes[j] += (double)x[i + j] * (double)x[i + j];
  }
  for (; i < count; i++) total += (double)x[i] * (double)x[i];
  for (int j = 0; j < 16; j++) total += lanes[j];
  return total;
}

static void measure_rows(void *context, int64_t task, int thread) {
  const rows_job *job = context;
  (void)thread;
  int64_t begin = task * rows_per_task;
  int64_t end = begin + rows_per_task < job->rows ? begin + rows_per_task : job->rows;
  for (int64_t r = begin; r < end; r++) {
    job->norms[r] = (float)sqrt(squared_norm(job->columns, job->values + r * job->columns));
  }
}

void sl_row_norms(int64_t rows, int64_t columns, const float *values, float *norms) {
  if (rows <= 0) return;
  rows_job job = {rows, columns, NULL, norms, (float *)values};
  sl_parallel((rows + rows_per_task - 1) / rows_per_task, measure_rows, &job);
}

CLONES static void scale(int64_t count, float factor, float *restrict x) {
  for (int64_t i = 0; i < count; i++) x[i] *= factor;
}

static void scale_rows(void *context, int64_t task, int thread) {
  const rows_job *job = context;
  (void)thread;
  int64_t begin = task * rows_per_task;
  int64_t end = begin + rows_per_task < job->rows ? begin + rows_per_task : job->rows;
  for (int64_t r = begin; r < end; r++) scale(job->columns, job->factors[r], job->values + r * job->columns);
}

void sl_scale_rows(int64_t rows, int64_t columns, const float *factors, float *values) {
  if (rows <= 0 || columns <= 0) return;
  rows_job job = {rows, columns, factors, NULL, values};
  sl_parallel((rows + rows_per_task - 1) / rows_per_task, scale_rows, &job);
}
