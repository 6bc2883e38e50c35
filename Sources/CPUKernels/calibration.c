// Sums over tokens: each task takes a strip of rows, or of columns, so that no two write the same place.
#include "include/calibration.h"

#include "bfloat16.h"
#include "include/threads.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

enum { strip = 64 };

typedef struct {
  int64_t rows, columns, lda, ldb;
  const void *a, *b;
  sl_dtype a_type, b_type;
  const float *weights;
  float *out;
  void *y;
} job;

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

static inline float at(const void *p, int64_t i, sl_dtype type) {
  return type == SL_F32 ? ((const float *)p)[i] : sl_bf16_to_float(((const uint16_t *)p)[i]);
}

CLONES static float dot(const void *a, sl_dtype a_type, const void *b, sl_dtype b_type, int64_t n) {
  float sums[16] = {0}, total = 0;
  int64_t i = 0;
  if (a_type == SL_F32 && b_type == SL_BF16) {
    const float *x = a;
    const uint16_t *y = b;
    for (; i + 16 <= n; i += 16)
      for (int j = 0; j < 16; j++) sums[j] += x[i + j] * sl_bf16_to_float(y[i + j]);
  } else if (a_type == SL_BF16 && b_type == SL_BF16) {
    const uint16_t *x = a, *y = b;
    for (; i + 16 <= n; i += 16)
      for (int j = 0; j < 16; j++) sums[j] += sl_bf16_to_float(x[i + j]) * sl_bf16_to_float(y[i + j]);
  }
  for (; i < n; i++) sums[i % 16] += at(a, i, a_type) * at(b, i, b_type);
  for (int j = 0; j < 16; j++) total += sums[j];
  return total;
}

static void dots_task(void *context, int64_t task, int thread) {
  const job *c = context;
  (void)thread;
  for (int64_t t = task * strip; t < min_of(c->rows, (task + 1) * strip); t++)
    c->out[t] = dot((const char *)c->a + (size_t)(t * c->lda) * sl_dtype_size(c->a_type), c->a_type,
                    (const char *)c->b + (size_t)(t * c->ldb) * sl_dtype_size(c->b_type), c->b_type, c->columns);
}

void sl_row_dots(int64_t rows, int64_t columns, const void *a, int64_t lda, sl_dtype a_type, const void *b, int64_t ldb,
                 sl_dtype b_type, float *dots) {
  job c = {.rows = rows, .columns = columns, .lda = lda, .ldb = ldb, .a = a, .b = b, .a_type = a_type, .b_type = b_type,
           .out = dots};
  sl_parallel((rows + strip - 1) / strip, dots_task, &c);
}

CLONES static void add_squares(const void *x, sl_dtype type, int64_t n, float weight, float *sums) {
  if (type == SL_BF16) {
    const uint16_t *from = x;
    for (int64_t i = 0; i < n; i++) {
      float value = sl_bf16_to_float(from[i]);
      sums[i] += weight * value * value;
    }
  } else {
    const float *from = x;
    for (int64_t i = 0; i < n; i++) sums[i] += weight * from[i] * from[i];
  }
}

static void squares_task(void *context, int64_t task, int thread) {
  const job *c = context;
  (void)thread;
  const int64_t first = task * strip, count = min_of(strip, c->columns - first);
  for (int64_t t = 0; t < c->rows; t++)
    add_squares((const char *)c->a + (size_t)(t * c->lda + first) * sl_dtype_size(c->a_type), c->a_type, count,
                c->weights[t], c->out + first);
}

void sl_add_weighted_squares(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype type,
                             const float *weights, float *sums) {
  job c = {.rows = rows, .columns = columns, .lda = ldx, .a = x, .a_type = type, .weights = weights, .out = sums};
  sl_parallel((columns + strip - 1) / strip, squares_task, &c);
}

static void weigh_task(void *context, int64_t task, int thread) {
  const job *c = context;
  (void)thread;
  for (int64_t t = task * strip; t < min_of(c->rows, (task + 1) * strip); t++)
    for (int64_t i = 0; i < c->columns; i++) {
      float value = c->weights[t] * at(c->a, t * c->lda + i, c->a_type);
      if (c->a_type == SL_F32) ((float *)c->y)[t * c->columns + i] = value;
      else ((uint16_t *)c->y)[t * c->columns + i] = sl_float_to_bf16(value);
    }
}

void sl_weigh_rows(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype type, const float *weights,
                   void *y) {
  job c = {.rows = rows, .columns = columns, .lda = ldx, .a = x, .a_type = type, .weights = weights, .y = y};
  sl_parallel((rows + strip - 1) / strip, weigh_task, &c);
}
