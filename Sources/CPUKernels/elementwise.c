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

// MARK: Dropout

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

typedef struct {
  int64_t rows, columns, ldx, ldy;
  const void *x;
  void *y;
  sl_dtype dtype;
  float probability;
  uint64_t seed, stream;
  int backward;
} dropout_job;

static void dropout_rows(void *context, int64_t task, int thread) {
  const dropout_job *job = context;
  (void)thread;
  int64_t step = rows_per_task(job->columns), begin = task * step;
  int64_t end = begin + step < job->rows ? begin + step : job->rows;
  uint32_t threshold = (uint32_t)((double)job->probability * 4294967296.0);
  float factor = 1.0f / (1.0f - job->probability);
  for (int64_t r = begin; r < end; r++) {
    uint64_t base = (uint64_t)r * (uint64_t)job->columns;
    uint32_t random[4];
    uint64_t drawn = ~(uint64_t)0;
    for (int64_t c = 0; c < job->columns; c++) {
      uint64_t index = base + (uint64_t)c;
      if (index / 4 != drawn) drawn = index / 4, philox(drawn, job->stream, job->seed, random);
      float keep = random[index % 4] >= threshold ? factor : 0.0f;
      if (job->backward) {
        float g = ((const float *)job->x)[r * job->ldx + c] * keep;
        if (job->dtype == SL_BF16) {
          uint16_t *y = (uint16_t *)job->y + r * job->ldy + c;
          *y = sl_float_to_bf16(sl_bf16_to_float(*y) + g);
        } else {
          ((float *)job->y)[r * job->ldy + c] += g;
        }
      } else if (job->dtype == SL_BF16) {
        uint16_t x = ((const uint16_t *)job->x)[r * job->ldx + c];
        ((uint16_t *)job->y)[r * job->ldy + c] = sl_float_to_bf16(sl_bf16_to_float(x) * keep);
      } else {
        ((float *)job->y)[r * job->ldy + c] = ((const float *)job->x)[r * job->ldx + c] * keep;
      }
    }
  }
}

void sl_dropout(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *y, int64_t ldy, sl_dtype dtype,
                float probability, uint64_t seed, uint64_t stream) {
  if (rows <= 0 || columns <= 0) return;
  dropout_job job = {rows, columns, ldx, ldy, x, y, dtype, probability, seed, stream, 0};
  int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, dropout_rows, &job);
}

void sl_dropout_backward(int64_t rows, int64_t columns, const float *g, int64_t ldg, void *dx, int64_t lddx,
                         sl_dtype dtype, float probability, uint64_t seed, uint64_t stream) {
  if (rows <= 0 || columns <= 0) return;
  dropout_job job = {rows, columns, ldg, lddx, g, dx, dtype, probability, seed, stream, 1};
  int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, dropout_rows, &job);
}

// MARK: Noise and averages

typedef struct {
  int64_t rows, columns, ldx;
  float *x, bound;
  uint64_t seed, stream;
} noise_job;

static void noise_rows(void *context, int64_t task, int thread) {
  const noise_job *job = context;
  (void)thread;
  int64_t step = rows_per_task(job->columns), begin = task * step;
  int64_t end = begin + step < job->rows ? begin + step : job->rows;
  for (int64_t r = begin; r < end; r++) {
    uint64_t base = (uint64_t)r * (uint64_t)job->columns;
    uint32_t random[4];
    uint64_t drawn = ~(uint64_t)0;
    for (int64_t c = 0; c < job->columns; c++) {
      uint64_t index = base + (uint64_t)c;
      if (index / 4 != drawn) drawn = index / 4, philox(drawn, job->stream, job->seed, random);
      job->x[r * job->ldx + c] += ((float)(random[index % 4] >> 8) * (1.0f / 8388608.0f) - 1.0f) * job->bound;
    }
  }
}

void sl_add_noise(int64_t rows, int64_t columns, float *x, int64_t ldx, float bound, uint64_t seed, uint64_t stream) {
  if (rows <= 0 || columns <= 0) return;
  noise_job job = {rows, columns, ldx, x, bound, seed, stream};
  int64_t step = rows_per_task(columns);
  sl_parallel((rows + step - 1) / step, noise_rows, &job);
}

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
