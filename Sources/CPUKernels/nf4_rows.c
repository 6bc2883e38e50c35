// A few rows times a matrix in NF4, straight from the codes: four bits are read of each weight, once for all rows. A row's
// results are the same whatever rows it is multiplied with.
#include "bfloat16.h"
#include "include/nf4.h"
#include "include/threads.h"
#include "nf4_values.h"
#include "scratch.h"

#if defined(__x86_64__)
#define UNROLL _Pragma("clang loop unroll(full)")
#pragma clang attribute push(__attribute__((target(NF4_TARGET))), apply_to = function)

#define EACH(o, r) UNROLL for (int o = 0; o < outputs; o++) UNROLL for (int r = 0; r < rows; r++)

// Rows that share what is looked up of a weight, and outputs that share a row: as many as have room for their sums.
enum { most_rows = 4, most_outputs = 2 };

typedef struct {
  const sl_nf4_matrix *matrix;
  const uint16_t *x;  // [rows, inputs], of each block the 32 even elements, then the 32 odd ones
  char *y;
  int64_t ldy;
  sl_dtype y_type;
  int accumulate;
  int64_t rows, outputs;  // outputs: of a task
} rows_job;

static void part_row(int64_t inputs, const uint16_t *from, uint16_t *to) {
  for (int64_t b = 0; b < inputs; b += block)
    for (int i = 0; i < block / 2; i++) {
      to[b + i] = from[b + 2 * i];
      to[b + block / 2 + i] = from[b + 2 * i + 1];
    }
}

/// `outputs` outputs from `output` on, of `rows` rows from `row` on.
INLINE void some_rows(const rows_job *job, const int outputs, const int rows, int64_t output, int64_t row) {
  const sl_nf4_matrix *m = job->matrix;
  const int64_t inputs = m->inputs, blocks = inputs / block;
  const uint8_t *codes = m->codes + output * blocks * block_bytes;
  const float *absmax = m->absmax + output * blocks;
  const uint16_t *x = job->x + row * inputs;
  __m512 even[most_outputs][most_rows], odd[most_outputs][most_rows];
  EACH(o, r) even[o][r] = odd[o][r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; b++, codes += block_bytes, x += block) {
    __m512bh first[most_outputs], second[most_outputs];
    UNROLL for (int o = 0; o < outputs; o++) {
      const __m512i values = values_of(absmax[o * blocks + b]);
      const __m256i bytes = _mm256_loadu_si256((const __m256i *)(codes + o * blocks * block_bytes));
      const __m512i words = _mm512_cvtepu8_epi16(bytes);
      first[o] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), values);
      second[o] = (__m512bh)_mm512_permutexvar_epi16(words, values);
    }
    UNROLL for (int r = 0; r < rows; r++) {
      const __m512bh low = (__m512bh)_mm512_loadu_si512(x + r * inputs);
      const __m512bh high = (__m512bh)_mm512_loadu_si512(x + r * inputs + 32);
      UNROLL for (int o = 0; o < outputs; o++) {
        even[o][r] = _mm512_dpbf16_ps(even[o][r], first[o], low);
        odd[o][r] = _mm512_dpbf16_ps(odd[o][r], second[o], high);
      }
    }
  }
  EACH(o, r) {
    const float sum = _mm512_reduce_add_ps(_mm512_add_ps(even[o][r], odd[o][r]));
    const int64_t at = (row + r) * job->ldy + output + o;
    if (job->y_type == SL_F32) {
      float *y = (float *)job->y + at;
      *y = job->accumulate ? *y + sum : sum;
    } else {
      uint16_t *y = (uint16_t *)job->y + at;
      *y = sl_float_to_bf16(job->accumulate ? sl_bf16_to_float(*y) + sum : sum);
    }
  }
}

/// All rows of some outputs.
INLINE void all_rows(const rows_job *job, const int outputs, int64_t output) {
  int64_t row = 0;
  for (; job->rows - row >= 4; row += 4) some_rows(job, outputs, 4, output, row);
  if (job->rows - row >= 2) some_rows(job, outputs, 2, output, row), row += 2;
  if (job->rows > row) some_rows(job, outputs, 1, output, row);
}

static void rows_task(void *context, int64_t task, int thread) {
  const rows_job *job = context;
  (void)thread;
  const int64_t first = task * job->outputs, left = job->matrix->outputs - first;
  const int64_t end = first + (left < job->outputs ? left : job->outputs);
  int64_t output = first;
  // One row has nothing to share.
  for (; job->rows > 1 && end - output >= most_outputs; output += most_outputs) all_rows(job, most_outputs, output);
  for (; output < end; output++) all_rows(job, 1, output);
}

int sl_nf4_rows(const sl_nf4_matrix *matrix, int64_t rows, const void *x, int64_t ldx, void *y, sl_dtype y_type,
                int64_t ldy, int accumulate) {
  uint16_t *parted = sl_take_scratch((size_t)(rows * matrix->inputs) * sizeof *parted);
  if (parted == NULL) return -1;
  rows_job job = {matrix, parted, y, ldy, y_type, accumulate, rows, 1};
  for (int64_t r = 0; r < rows; r++)
    part_row(matrix->inputs, (const uint16_t *)x + r * ldx, parted + r * matrix->inputs);
  // A task reads about 32 KiB for one row; less than two of them are not worth waking another core for.
  const int64_t outputs = (1 << 16) / ((matrix->inputs + 1) * ((rows + most_rows - 1) / most_rows));
  job.outputs = outputs < 1 ? 1 : outputs;
  const int64_t tasks = (matrix->outputs + job.outputs - 1) / job.outputs;
  if (tasks <= 2) {
    for (int64_t task = 0; task < tasks; task++) rows_task(&job, task, 0);
  } else {
    sl_parallel_shares(tasks, rows_task, &job);
  }
  sl_return_scratch(parted);
  return 0;
}

#pragma clang attribute pop
#else
int sl_nf4_rows(const sl_nf4_matrix *matrix, int64_t rows, const void *x, int64_t ldx, void *y, sl_dtype y_type,
                int64_t ldy, int accumulate) {
  (void)matrix, (void)rows, (void)x, (void)ldx, (void)y, (void)y_type, (void)ldy, (void)accumulate;
  return -1;
}
#endif
