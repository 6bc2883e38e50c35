// One row times a matrix. Nothing is used twice, so all that counts is to read B once, in order, on every core.
#include "matvec.h"

#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "bfloat16.h"
#include "include/threads.h"

enum { max_block = 64 };

typedef struct {
  sl_block_layout layout;
  sl_dtype dtype, c_type;
  const void *a;  // padded with zeros to whole blocks
  const char *b;
  char *c;
  int64_t columns_per_task;
  int accumulate;
} matvec_job;

int sl_matvec_reads(const sl_block_layout *l, sl_dtype dtype) {
  if (l->n_block == 1 && l->k_block == 1) return l->n_stride == 1 || l->k_stride == 1;
  if (l->n_block % 16 != 0 || l->n_block > max_block) return 0;
  if (dtype == SL_BF16) return l->pair == 2 && l->k_block % 2 == 0 && sl_has_avx512bf16();
  return l->pair == 1;
}

static void store(const matvec_job *job, int64_t column, int64_t count, const float *sums) {
  for (int64_t i = 0; i < count; i++) {
    if (job->c_type == SL_F32) {
      float *c = (float *)job->c + column + i;
      *c = job->accumulate ? *c + sums[i] : sums[i];
    } else {
      uint16_t *c = (uint16_t *)job->c + column + i;
      *c = sl_float_to_bf16(job->accumulate ? sl_bf16_to_float(*c) + sums[i] : sums[i]);
    }
  }
}

// MARK: Blocked layouts

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static void block_bf16(const matvec_job *job,
                                                                                       const char *b, float *sums) {
  const sl_block_layout *l = &job->layout;
  const uint32_t *pairs = job->a;
  int64_t vectors = l->n_block / 16, rows = l->k_block / 2;
  __m512 sum[4][2] = {{_mm512_setzero_ps(), _mm512_setzero_ps()}, {_mm512_setzero_ps(), _mm512_setzero_ps()},
                      {_mm512_setzero_ps(), _mm512_setzero_ps()}, {_mm512_setzero_ps(), _mm512_setzero_ps()}};
  for (int64_t block = 0; block * l->k_block < l->k; block++) {
    const char *at = b + block * l->k_stride * 2;
    for (int64_t i = 0; i < rows; i++, at += l->n_block * 4) {
      __m512bh x = (__m512bh)_mm512_set1_epi32((int)pairs[block * rows + i]);
      for (int64_t v = 0; v < vectors; v++)
        sum[v][i & 1] = _mm512_dpbf16_ps(sum[v][i & 1], (__m512bh)_mm512_loadu_si512(at + v * 64), x);
    }
  }
  for (int64_t v = 0; v < vectors; v++) _mm512_storeu_ps(sums + v * 16, _mm512_add_ps(sum[v][0], sum[v][1]));
}
#else
static void block_bf16(const matvec_job *job, const char *b, float *sums) { (void)job, (void)b, (void)sums; }
#endif

__attribute__((target_clones("avx512f", "avx2", "default"))) static void block_f32(const matvec_job *job, const char *b,
                                                                                  float *sums) {
  const sl_block_layout *l = &job->layout;
  const float *a = job->a;
  float sum[max_block] = {0};
  for (int64_t k = 0; k < l->k; k++) {
    const float *row = (const float *)b + k / l->k_block * l->k_stride + k % l->k_block * l->n_block;
    for (int64_t i = 0; i < l->n_block; i++) sum[i] += a[k] * row[i];
  }
  for (int64_t i = 0; i < l->n_block; i++) sums[i] = sum[i];
}

static void blocked_task(void *context, int64_t task, int thread) {
  const matvec_job *job = context;
  (void)thread;
  const sl_block_layout *l = &job->layout;
  int64_t begin = task * job->columns_per_task, end = begin + job->columns_per_task;
  float sums[max_block];
  for (int64_t column = begin; column < end && column < l->n; column += l->n_block) {
    const char *b = job->b + column / l->n_block * l->n_stride * (int64_t)sl_dtype_size(job->dtype);
    if (job->dtype == SL_BF16) block_bf16(job, b, sums);
    else block_f32(job, b, sums);
    store(job, column, l->n - column < l->n_block ? l->n - column : l->n_block, sums);
  }
}

// MARK: Plain layouts

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

// Sixteen sums side by side: a vector's worth, whose order no instruction set changes.
CLONES static float dot_f32(int64_t n, const float *a, const float *b) {
  float sums[16] = {0};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; i++) sums[0] += a[i] * b[i];
  float total = 0;
  for (int j = 0; j < 16; j++) total += sums[j];
  return total;
}
CLONES static float dot_bf16(int64_t n, const uint16_t *a, const uint16_t *b) {
  float sums[16] = {0};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) sums[j] += sl_bf16_to_float(a[i + j]) * sl_bf16_to_float(b[i + j]);
  }
  for (; i < n; i++) sums[0] += sl_bf16_to_float(a[i]) * sl_bf16_to_float(b[i]);
  float total = 0;
  for (int j = 0; j < 16; j++) total += sums[j];
  return total;
}
CLONES static void add_f32(int64_t n, float a, const float *restrict b, float *restrict sums) {
  for (int64_t i = 0; i < n; i++) sums[i] += a * b[i];
}
CLONES static void add_bf16(int64_t n, float a, const uint16_t *restrict b, float *restrict sums) {
  for (int64_t i = 0; i < n; i++) sums[i] += a * sl_bf16_to_float(b[i]);
}

static void plain_task(void *context, int64_t task, int thread) {
  const matvec_job *job = context;
  (void)thread;
  const sl_block_layout *l = &job->layout;
  int64_t begin = task * job->columns_per_task;
  int64_t count = l->n - begin < job->columns_per_task ? l->n - begin : job->columns_per_task;
  int is_bf16 = job->dtype == SL_BF16;
  const float *af = job->a, *bf = (const float *)job->b;
  const uint16_t *ah = job->a, *bh = (const uint16_t *)job->b;
  float sums[max_block * 4];
  for (int64_t first = 0; first < count; first += max_block * 4) {
    int64_t n = count - first < max_block * 4 ? count - first : max_block * 4, column = begin + first;
    for (int64_t i = 0; i < n; i++) sums[i] = 0;
    if (l->k_stride == 1) {
      for (int64_t i = 0; i < n; i++) {
        int64_t at = (column + i) * l->n_stride;
        sums[i] = is_bf16 ? dot_bf16(l->k, ah, bh + at) : dot_f32(l->k, af, bf + at);
      }
    } else {
      for (int64_t k = 0; k < l->k; k++) {
        int64_t at = k * l->k_stride + column;
        if (is_bf16) add_bf16(n, sl_bf16_to_float(ah[k]), bh + at, sums);
        else add_f32(n, af[k], bf + at, sums);
      }
    }
    store(job, column, n, sums);
  }
}

// MARK: Entry

void sl_matvec(const sl_block_layout *layout, sl_dtype dtype, const void *a, const void *b, void *c, sl_dtype c_type,
               int accumulate) {
  matvec_job job = {.layout = *layout, .dtype = dtype, .c_type = c_type, .a = a, .b = b, .c = c,
                    .accumulate = accumulate};
  size_t size = sl_dtype_size(dtype);
  int64_t padded = (layout->k + layout->k_block - 1) / layout->k_block * layout->k_block;
  void *copy = NULL;
  if (padded != layout->k) {
    copy = calloc((size_t)padded, size);
    if (copy) job.a = memcpy(copy, a, (size_t)layout->k * size);
  }
  // A task reads about 64 KiB of B; less than two of them are not worth waking another core for.
  int64_t grain = layout->n_block > 1 ? layout->n_block : 16;
  int64_t columns = (1 << 16) / (padded * (int64_t)size + 1) / grain * grain;
  job.columns_per_task = columns < grain ? grain : columns;
  int64_t tasks = (layout->n + job.columns_per_task - 1) / job.columns_per_task;
  void (*body)(void *, int64_t, int) = layout->n_block > 1 ? blocked_task : plain_task;
  if (tasks <= 2) {
    for (int64_t task = 0; task < tasks; task++) body(&job, task, 0);
  } else {
    sl_parallel_shares(tasks, body, &job);
  }
  free(copy);
}
