// Rotary position embedding, in place, both directions, with the projection's bias.
#ifndef SL_SOURCE
#include "include/rope.h"

struct rope {
  int64_t rows, rows_per_task, ld, rotated_heads, all_heads, head_dim, half;
  void *qkv;
  const float *cosines, *sines, *bias;
  const int32_t *positions;
  float sign;
  sl_dtype dtype;
};

#define SL_SOURCE "rope.c"
#define SL_PAIRED_TOO
#include "each_path.h"

void sl_rope(int64_t rows, void *qkv, int64_t ld, int64_t heads, int64_t kv_heads, int64_t head_dim,
             int64_t rotary_dim, const float *cosines, const float *sines, const int32_t *positions, const float *bias,
             int inverse, sl_dtype dtype) {
  int64_t width = (heads + kv_heads) * head_dim;
  struct rope c = {.rows = rows, .rows_per_task = width >= 8192 ? 1 : 8192 / (width > 0 ? width : 1), .ld = ld,
                   .rotated_heads = heads + kv_heads, .all_heads = heads + 2 * kv_heads, .head_dim = head_dim,
                   .half = rotary_dim / 2, .qkv = qkv, .cosines = cosines, .sines = sines,
                   .bias = inverse ? NULL : bias, .positions = positions, .sign = inverse ? -1.0f : 1.0f,
                   .dtype = dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(rope_task, dtype), &c);
}

#else

FN void SL_NAME(rope_row)(const struct rope *c, int64_t row, sl_dtype dtype) {
  int64_t half = c->half;
  char *base = (char *)c->qkv + (size_t)(row * c->ld) * sl_dtype_size(dtype);
  if (c->bias != NULL) {
    int64_t n = c->all_heads * c->head_dim, i = 0;
    for (; i + SL_WIDTH <= n; i += SL_WIDTH)
      v_store(base, i, dtype, v_load(base, i, dtype) + v_load(c->bias, i, SL_F32));
    if (i < n)
      v_store_part(base, i, n - i, dtype, v_load_part(base, i, n - i, dtype) + v_load_part(c->bias, i, n - i, SL_F32));
  }
  const float *cosines = c->cosines + c->positions[row] * half, *sines = c->sines + c->positions[row] * half;
  for (int64_t i = 0; i < half; i += SL_WIDTH) {
    int64_t n = half - i;
    bool part = n < SL_WIDTH;
    VF cosine = part ? v_load_part(cosines, i, n, SL_F32) : v_load(cosines, i, SL_F32);
    VF sine = (part ? v_load_part(sines, i, n, SL_F32) : v_load(sines, i, SL_F32)) * c->sign;
    for (int64_t head = 0; head < c->rotated_heads; head++) {
      int64_t first = head * c->head_dim + i, second = first + half;
      if (part) {
        VF a = v_load_part(base, first, n, dtype), b = v_load_part(base, second, n, dtype);
        v_store_part(base, first, n, dtype, a * cosine - b * sine);
        v_store_part(base, second, n, dtype, b * cosine + a * sine);
      } else {
        VF a = v_load(base, first, dtype), b = v_load(base, second, dtype);
        v_store(base, first, dtype, a * cosine - b * sine);
        v_store(base, second, dtype, b * cosine + a * sine);
      }
    }
  }
}

static void SL_NAME(rope_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct rope *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++)
    c->dtype == SL_F32 ? SL_NAME(rope_row)(c, row, SL_F32) : SL_NAME(rope_row)(c, row, SL_BF16);
}

#endif
