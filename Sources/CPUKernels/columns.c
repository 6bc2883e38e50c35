// Sums over rows and factors of columns. Where rows are summed, a task has a run of columns and all rows, so that the
// order of a sum depends on nothing.
#include "include/columns.h"

#include <math.h>

#include "bfloat16.h"
#include "include/threads.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
enum { column_block = 128, row_block = 16 };

static inline float value(const void *x, sl_dtype type, int64_t i) {
  return type == SL_BF16 ? sl_bf16_to_float(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

CLONES static void widen_row(int64_t n, const void *restrict x, sl_dtype type, int64_t at, float *restrict y) {
  if (type == SL_BF16) {
    const uint16_t *from = (const uint16_t *)x + at;
    for (int64_t i = 0; i < n; i++) y[i] = sl_bf16_to_float(from[i]);
  } else {
    const float *from = (const float *)x + at;
    for (int64_t i = 0; i < n; i++) y[i] = from[i];
  }
}
CLONES static void add_products(int64_t n, const float *restrict x, const float *restrict z, float factor,
                                float *restrict sums) {
  for (int64_t i = 0; i < n; i++) sums[i] += x[i] * z[i] * factor;
}
CLONES static void add_scaled(int64_t n, const float *restrict x, float factor, float *restrict sums) {
  for (int64_t i = 0; i < n; i++) sums[i] += x[i] * factor;
}

typedef struct {
  int64_t rows, columns, lddy, ldz;
  const void *dy, *z;
  sl_dtype dy_type, z_type;
  const float *row_scales;
  float *sums;
} sums_job;

static void sums_task(void *context, int64_t task, int thread) {
  const sums_job *j = context;
  (void)thread;
  int64_t first = task * column_block, n = j->columns - first < column_block ? j->columns - first : column_block;
  float x[column_block], z[column_block], sums[column_block] = {0};
  for (int64_t r = 0; r < j->rows; r++) {
    float factor = j->row_scales ? j->row_scales[r] : 1.0f;
    widen_row(n, j->dy, j->dy_type, r * j->lddy + first, x);
    if (j->z) {
      widen_row(n, j->z, j->z_type, r * j->ldz + first, z);
      add_products(n, x, z, factor, sums);
    } else {
      add_scaled(n, x, factor, sums);
    }
  }
  for (int64_t i = 0; i < n; i++) j->sums[first + i] += sums[i];
}

void sl_add_column_sums(int64_t rows, int64_t columns, const void *dy, int64_t lddy, sl_dtype dy_type, const void *z,
                        int64_t ldz, sl_dtype z_type, const float *row_scales, float *sums) {
  sums_job j = {rows, columns, lddy, ldz, dy, z, dy_type, z_type, row_scales, sums};
  sl_parallel((columns + column_block - 1) / column_block, sums_task, &j);
}

typedef struct {
  int64_t rows, columns, ldx, ldy;
  const void *x;
  const float *factors;
  void *y;
  sl_dtype x_type, y_type;
  int accumulate;
} scale_job;

CLONES static void scale_row(int64_t n, const float *restrict x, const float *restrict factors, void *y, sl_dtype type,
                             int64_t at, int accumulate) {
  if (type == SL_BF16) {
    uint16_t *to = (uint16_t *)y + at;
    for (int64_t i = 0; i < n; i++)
      to[i] = sl_float_to_bf16(x[i] * factors[i] + (accumulate ? sl_bf16_to_float(to[i]) : 0.0f));
  } else {
    float *to = (float *)y + at;
    for (int64_t i = 0; i < n; i++) to[i] = x[i] * factors[i] + (accumulate ? to[i] : 0.0f);
  }
}

static void scale_task(void *context, int64_t task, int thread) {
  const scale_job *j = context;
  (void)thread;
  int64_t end = (task + 1) * row_block < j->rows ? (task + 1) * row_block : j->rows;
  float x[column_block];
  for (int64_t r = task * row_block; r < end; r++) {
    for (int64_t first = 0; first < j->columns; first += column_block) {
      int64_t n = j->columns - first < column_block ? j->columns - first : column_block;
      widen_row(n, j->x, j->x_type, r * j->ldx + first, x);
      scale_row(n, x, j->factors + first, j->y, j->y_type, r * j->ldy + first, j->accumulate);
    }
  }
}

void sl_scale_columns(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype x_type, const float *factors,
                      void *y, int64_t ldy, sl_dtype y_type, int accumulate) {
  scale_job j = {rows, columns, ldx, ldy, x, factors, y, x_type, y_type, accumulate};
  sl_parallel((rows + row_block - 1) / row_block, scale_task, &j);
}

typedef struct {
  int64_t outputs, rank;
  const float *squared, *products, *magnitudes;
  const void *b;
  sl_dtype b_type;
  float *inverses, *factors;
} norms_job;

static void norms_task(void *context, int64_t task, int thread) {
  const norms_job *j = context;
  (void)thread;
  int64_t end = (task + 1) * column_block < j->outputs ? (task + 1) * column_block : j->outputs;
  for (int64_t o = task * column_block; o < end; o++) {
    double sum = j->squared[o];
    for (int64_t r = 0; r < j->rank; r++)
      sum += (double)value(j->b, j->b_type, o * j->rank + r) * (double)j->products[r * j->outputs + o];
    float inverse = sum > 0 ? (float)(1 / sqrt(sum)) : 0.0f;
    j->inverses[o] = inverse;
    j->factors[o] = j->magnitudes[o] * inverse;
  }
}

void sl_adapted_row_norms(int64_t outputs, int64_t rank, const float *squared, const void *b, sl_dtype b_type,
                          const float *products, const float *magnitudes, float *inverses, float *factors) {
  norms_job j = {outputs, rank, squared, products, magnitudes, b, b_type, inverses, factors};
  sl_parallel((outputs + column_block - 1) / column_block, norms_task, &j);
}

typedef struct {
  int64_t count, columns, lds, ldd;
  const float *source;
  const int32_t *rows;
  float *destination;
} scatter_job;

static void scatter_task(void *context, int64_t task, int thread) {
  const scatter_job *j = context;
  (void)thread;
  int64_t first = task * column_block, n = j->columns - first < column_block ? j->columns - first : column_block;
  for (int64_t i = 0; i < j->count; i++)
    add_scaled(n, j->source + i * j->lds + first, 1.0f, j->destination + j->rows[i] * j->ldd + first);
}

void sl_scatter_add(int64_t count, int64_t columns, const float *source, int64_t lds, const int32_t *rows,
                    float *destination, int64_t ldd) {
  scatter_job j = {count, columns, lds, ldd, source, rows, destination};
  sl_parallel((columns + column_block - 1) / column_block, scatter_task, &j);
}
